/*
 * The floppy disk controller, an Intel 82078 in AT mode (82078 data sheet, chapters 2, 5 and 6).
 *
 * A command is written byte by byte into the data register, executed, and answered by result bytes there. Command and
 * result bytes pass through one Fifo of fixed size, whose push and pop can fail; there is no other way into it.
 *
 * Sectors move a run at a time: from the present sector to the last on this track's side that the command names. A run
 * goes through `buffer` between the image and the guest, by DMA channel 2 or, without DMA, by the data register. The
 * block request under way has a buffer of its own, so that a reset needs not wait for it (the result is then stale, and
 * the next request waits until it is in). A saved state records the request, and a load issues it anew: reading again
 * gives the same, and so does writing the same bytes again.
 *
 * Time: seeks take a little, failures to find a sector more, as drivers expect to have to wait for their interrupt;
 * transfers take what the image takes.
 */
#include <string.h>

#include "hw/storage/floppy-impl.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"

static const VmField fifo_fields[] = {
  VM_BYTES(Fifo, bytes),
  VM_UINT_MAX(Fifo, length, FIFO_BYTES),
  VM_UINT_MAX(Fifo, pos, FIFO_BYTES),
  VM_FIELDS_END,
};

static const VmField drive_fields[] = {
  VM_TRANSIENT(Drive, type, "wiring"),
  VM_TRANSIENT(Drive, image, "the machine's settings name it"),
  VM_TRANSIENT(Drive, format, "follows from the image"),
  VM_UINT_MAX(Drive, track, MAX_TRACK),
  VM_UINT_MAX(Drive, next_id, FLOPPY_MAX_SECTORS),
  VM_UINT_MAX(Drive, changed, 1),
  VM_FIELDS_END,
};

static const VmField floppy_fields[] = {
  VM_TRANSIENT(Floppy, dma, "wiring"),
  VM_TRANSIENT(Floppy, irq, "wiring"),
  VM_TRANSIENT(Floppy, request, "issued anew after a load"),
  VM_STRUCT_ARRAY(Floppy, drives, drive_fields),
  VM_UINT(Floppy, dor),
  VM_UINT(Floppy, tdr),
  VM_UINT_MAX(Floppy, rate, 3),
  VM_UINT_ARRAY(Floppy, specify),
  VM_UINT(Floppy, configure),
  VM_UINT(Floppy, pretrack),
  VM_UINT(Floppy, perpendicular),
  VM_UINT_MAX(Floppy, locked, 1),
  VM_UINT_MAX(Floppy, irq_pending, 1),
  VM_UINT_MAX(Floppy, phase, PHASE_LAST),
  VM_STRUCT(Floppy, fifo, fifo_fields),
  VM_UINT_MAX(Floppy, wanted, FIFO_BYTES),
  VM_UINT_MAX(Floppy, sense_after_reset, 4),
  VM_UINT_MAX(Floppy, seek_ended, 15),
  VM_UINT_ARRAY(Floppy, seek_st0),
  VM_UINT_MAX(Floppy, seeking, 3),
  VM_BYTES(Floppy, seek_target),
  VM_UINT_MAX(Floppy, job, JOB_LAST),
  VM_UINT_MAX(Floppy, unit, 3),
  VM_UINT_MAX(Floppy, head, 1),
  VM_UINT(Floppy, cylinder),
  VM_UINT(Floppy, id_head),
  VM_UINT(Floppy, sector),
  VM_UINT(Floppy, last_sector),
  VM_UINT_MAX(Floppy, both_sides, 1),
  VM_UINT_MAX(Floppy, deleted, 1),
  VM_UINT_MAX(Floppy, terminal_count, 1),
  VM_UINT(Floppy, format_count),
  VM_UINT(Floppy, format_done),
  VM_UINT(Floppy, fill),
  VM_UINT_MAX(Floppy, run, FLOPPY_MAX_SECTORS),
  VM_UINT_MAX(Floppy, pos, BUFFER_BYTES),
  VM_UINT_MAX(Floppy, end, BUFFER_BYTES),
  VM_UINT(Floppy, io_offset),
  VM_UINT_MAX(Floppy, io_bytes, BUFFER_BYTES),
  VM_BYTES(Floppy, buffer),
  VM_TIMER(Floppy, timer),
  VM_TIMER_ARRAY(Floppy, seek_timers),
  VM_FIELDS_END,
};
/* ---- interrupts and results -------------------------------------------------------------------------------------- */

void fdc_drive_irq(Floppy *fdc)
{
  vm_irq_set(&fdc->irq, fdc->irq_pending && fdc->dor & DOR_DMA_GATE);
}

void fdc_set_irq(Floppy *fdc, bool pending)
{
  fdc->irq_pending = pending;
  fdc_drive_irq(fdc);
}

static void put_results(Floppy *fdc, const uint8_t *bytes, unsigned n)
{
  fdc_fifo_clear(&fdc->fifo);
  for (unsigned i = 0; i < n; i++)
    if (!fdc_fifo_push(&fdc->fifo, bytes[i]))
      vm_device_log(&fdc->dev, "more results than the FIFO holds");
}

/* An answer without an execution phase: no interrupt. */
void fdc_answer(Floppy *fdc, const uint8_t *bytes, unsigned n)
{
  put_results(fdc, bytes, n);
  fdc->phase = n > 0 ? PHASE_RESULT : PHASE_COMMAND;
}

void fdc_answer_invalid(Floppy *fdc)
{
  fdc_answer(fdc, (const uint8_t[]){ ST0_INVALID }, 1);
}

/* The seven result bytes of the data commands; shown at once, or after `delay_ns`. */
void fdc_finish_job(Floppy *fdc, uint8_t st0, uint8_t st1, uint8_t st2, int64_t delay_ns)
{
  const uint8_t results[] = { (uint8_t)(st0 | (fdc->head ? ST0_HEAD : 0) | fdc->unit),
                              st1,
                              st2,
                              fdc->cylinder,
                              fdc->id_head,
                              fdc->sector,
                              SECTOR_SIZE_CODE };
  i8237_set_request(fdc->dma, DMA_CHANNEL, false);
  put_results(fdc, results, sizeof(results));
  fdc->job = JOB_NONE;
  fdc->run = 0;
  fdc->pos = fdc->end = 0;
  fdc->phase = delay_ns > 0 ? PHASE_WAIT : PHASE_RESULT;
  if (delay_ns > 0)
    vm_timer_set(&fdc->timer, fdc_now_ns(fdc) + delay_ns);
  else
    fdc_set_irq(fdc, true);
}

void fdc_fail_job(Floppy *fdc, uint8_t st1, uint8_t st2)
{
  fdc_finish_job(fdc, ST0_ABNORMAL, st1, st2, NOT_FOUND_NS);
}

/* ---- timers ---------------------------------------------------------------------------------------------------------- */

static void on_dma_ready(void *opaque)
{
  Floppy *fdc = opaque;
  if (fdc->phase == PHASE_DMA)
    vm_timer_set(&fdc->timer, fdc_now_ns(fdc));
}

static void on_timer(void *opaque)
{
  Floppy *fdc = opaque;
  switch ((Phase)fdc->phase) {
  case PHASE_RESETTING:
    fdc->phase = PHASE_COMMAND;
    fdc->sense_after_reset = 4;
    fdc_set_irq(fdc, true);
    break;
  case PHASE_DMA:
    fdc_run_dma(fdc);
    break;
  case PHASE_WAIT:
    fdc->phase = PHASE_RESULT;
    fdc_set_irq(fdc, true);
    break;
  default:
    break;
  }
}

static void on_seek_timer_a(void *opaque)
{
  fdc_end_seek(opaque, 0);
}
static void on_seek_timer_b(void *opaque)
{
  fdc_end_seek(opaque, 1);
}

/* ---- the data register --------------------------------------------------------------------------------------------- */

/* One byte of a transfer without DMA, either way. */
static uint8_t move_byte(Floppy *fdc, uint8_t value)
{
  if (fdc->pos >= fdc->end)
    return 0;
  if (fdc->job == JOB_READ)
    value = fdc->buffer[fdc->pos++];
  else
    fdc->buffer[fdc->pos++] = value;
  fdc_set_irq(fdc, false);
  if (fdc->pos < fdc->end)
    fdc_set_irq(fdc, true);
  else
    fdc_moved(fdc);
  return value;
}

static void write_data(Floppy *fdc, uint8_t value)
{
  if (fdc->phase == PHASE_COMMAND)
    fdc_write_command_byte(fdc, value);
  else if (fdc->phase == PHASE_PIO && fdc->job != JOB_READ)
    move_byte(fdc, value);
  else
    vm_device_log(&fdc->dev, "a byte written while none is wanted");
}

static uint8_t read_data(Floppy *fdc)
{
  uint8_t value = 0;
  if (fdc->phase == PHASE_PIO && fdc->job == JOB_READ)
    return move_byte(fdc, 0);
  if (fdc->phase != PHASE_RESULT)
    return 0;
  if (fdc->seek_ended == 0)
    fdc_set_irq(fdc, false);
  if (!fdc_fifo_pop(&fdc->fifo, &value) || fdc->fifo.pos >= fdc->fifo.length) {
    fdc_fifo_clear(&fdc->fifo);
    fdc->phase = PHASE_COMMAND;
  }
  return value;
}

/* ---- other registers ----------------------------------------------------------------------------------------------- */

static uint8_t read_main_status(const Floppy *fdc)
{
  if (!(fdc->dor & DOR_NOT_RESET))
    return 0;
  uint8_t seeking = fdc->seeking | (fdc->seek_ended & 3);
  switch ((Phase)fdc->phase) {
  case PHASE_COMMAND:
    return (uint8_t)(MSR_READY | (fdc->wanted != 0 ? MSR_BUSY : 0) | seeking);
  case PHASE_RESETTING:
    return 0;
  case PHASE_PIO:
    return (uint8_t)(MSR_READY | MSR_BUSY | MSR_NON_DMA | (fdc->job == JOB_READ ? MSR_TO_HOST : 0) | seeking);
  case PHASE_RESULT:
    return (uint8_t)(MSR_READY | MSR_BUSY | MSR_TO_HOST | seeking);
  default:
    return (uint8_t)(MSR_BUSY | seeking);
  }
}

static void soft_reset(Floppy *fdc)
{
  fdc_abandon_io(fdc);
  vm_timer_cancel(&fdc->timer);
  for (unsigned i = 0; i < FLOPPY_N_DRIVES; i++)
    vm_timer_cancel(&fdc->seek_timers[i]);
  i8237_set_request(fdc->dma, DMA_CHANNEL, false);
  fdc_fifo_clear(&fdc->fifo);
  fdc->wanted = 0;
  fdc->job = JOB_NONE;
  fdc->run = 0;
  fdc->pos = fdc->end = 0;
  fdc->seeking = fdc->seek_ended = fdc->sense_after_reset = 0;
  fdc->phase = PHASE_COMMAND;
  if (!fdc->locked) {
    fdc->configure = CONFIG_NO_FIFO;
    fdc->pretrack = 0;
  }
  fdc_set_irq(fdc, false);
}

static void leave_reset(Floppy *fdc)
{
  fdc->phase = PHASE_RESETTING;
  vm_timer_set(&fdc->timer, fdc_now_ns(fdc) + RESET_NS);
}

static void write_dor(Floppy *fdc, uint8_t value)
{
  bool was_running = fdc->dor & DOR_NOT_RESET;
  fdc->dor = value;
  if (!(value & DOR_NOT_RESET))
    soft_reset(fdc);
  else if (!was_running)
    leave_reset(fdc);
  fdc_drive_irq(fdc);
}

static void write_dsr(Floppy *fdc, uint8_t value)
{
  fdc->rate = value & DSR_RATE;
  if (value & DSR_RESET && fdc->dor & DOR_NOT_RESET) {
    soft_reset(fdc);
    leave_reset(fdc);
  }
}

static uint8_t read_dir(Floppy *fdc)
{
  const Drive *drive = fdc_get_drive(fdc, fdc->dor & DOR_SELECT);
  return drive != NULL && drive->changed ? DIR_CHANGED : 0;
}

static uint64_t floppy_read(void *opaque, uint64_t offset, unsigned size)
{
  Floppy *fdc = opaque;
  switch (offset) {
  case REG_DOR:
    return fdc->dor;
  case REG_TDR:
    return fdc->tdr;
  case REG_MSR_DSR:
    return read_main_status(fdc);
  case REG_DATA:
    return read_data(fdc);
  default: /* the status registers of other modes than the AT's */
    return 0xFF;
  }
}

static void floppy_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Floppy *fdc = opaque;
  switch (offset) {
  case REG_DOR:
    write_dor(fdc, (uint8_t)value);
    break;
  case REG_TDR:
    fdc->tdr = value & 3;
    break;
  case REG_MSR_DSR:
    write_dsr(fdc, (uint8_t)value);
    break;
  case REG_DATA:
    if (fdc->dor & DOR_NOT_RESET)
      write_data(fdc, (uint8_t)value);
    break;
  default:
    break;
  }
}

static uint64_t dir_read(void *opaque, uint64_t offset, unsigned size)
{
  return read_dir(opaque);
}

static void ccr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Floppy *fdc = opaque;
  fdc->rate = value & DSR_RATE;
}

/* ---- reset, state, creation ---------------------------------------------------------------------------------------- */

static void floppy_reset(VmDevice *dev)
{
  Floppy *fdc = (Floppy *)dev;
  fdc->locked = false;
  fdc->dor = 0;
  fdc->tdr = 0;
  fdc->rate = 2;
  fdc->perpendicular = 0;
  fdc->specify[0] = fdc->specify[1] = 0;
  soft_reset(fdc);
  for (unsigned i = 0; i < FLOPPY_N_DRIVES; i++) {
    fdc->drives[i].track = 0;
    fdc->drives[i].changed = true;
  }
}

/* A transfer stands on a disk that has the sector. */
static bool is_plausible(const Floppy *fdc)
{
  if (fdc->fifo.pos > fdc->fifo.length || fdc->pos > fdc->end)
    return false;
  if (fdc->phase == PHASE_RESETTING || fdc->phase == PHASE_WAIT || fdc->phase == PHASE_RESULT ||
      fdc->phase == PHASE_COMMAND)
    return true;
  if (fdc->job == JOB_NONE || fdc->unit >= FLOPPY_N_DRIVES || fdc->drives[fdc->unit].type == FLOPPY_DRIVE_NONE)
    return false;
  if (fdc->job == JOB_READ || fdc->job == JOB_WRITE || fdc->job == JOB_VERIFY)
    return fdc->run > 0 && fdc->sector > 0 && (fdc->phase == PHASE_IO || fdc->end == fdc->run * FLOPPY_SECTOR_BYTES);
  return true;
}

static bool floppy_validate(const VmDevice *scratch, GError **error)
{
  if (is_plausible((const Floppy *)scratch))
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
              "the saved state of the floppy controller is damaged: its command makes no sense");
  return false;
}

static void floppy_loaded(VmDevice *dev)
{
  Floppy *fdc = (Floppy *)dev;
  fdc_abandon_io(fdc);
  fdc_drive_irq(fdc);
  bool is_moving = fdc->phase == PHASE_IO || fdc->phase == PHASE_DMA || fdc->phase == PHASE_PIO;
  if (is_moving && fdc->drives[fdc->unit & 1].image == NULL)
    fdc_fail_job(fdc, ST1_NO_ADDRESS, 0); /* loaded without the disk that it was at */
  else if (fdc->phase == PHASE_IO)
    fdc_issue_io(fdc);
}

static void floppy_finish(VmDevice *dev)
{
  Floppy *fdc = (Floppy *)dev;
  fdc_abandon_io(fdc);
  fdc->phase = PHASE_COMMAND;
  for (unsigned i = 0; i < FLOPPY_N_DRIVES; i++) {
    blk_close(g_steal_pointer(&fdc->drives[i].image));
    vm_timer_finish(&fdc->seek_timers[i]);
  }
  vm_timer_finish(&fdc->timer);
  g_clear_pointer(&fdc->request, g_free);
}

static const VmMmioOps floppy_ops = { floppy_read, floppy_write, 1, 1, false };
static const VmMmioOps dir_ops = { dir_read, ccr_write, 1, 1, false };

static const VmDeviceType floppy_type = {
  .name = "i82078",
  .version = 1,
  .size = sizeof(Floppy),
  .fields = floppy_fields,
  .reset = floppy_reset,
  .validate = floppy_validate,
  .loaded = floppy_loaded,
  .finish = floppy_finish,
};

Floppy *floppy_new(Vm *vm, I8237 *dma, const VmIrq *irq)
{
  Floppy *fdc = vm_device_new(vm, &floppy_type, "fdc");
  VmMemory *memory = vm_get_memory(vm);
  fdc->dma = dma;
  fdc->irq = *irq;
  vm_timer_init(&fdc->timer, fdc->dev.ctx, on_timer, fdc);
  vm_timer_init(&fdc->seek_timers[0], fdc->dev.ctx, on_seek_timer_a, fdc);
  vm_timer_init(&fdc->seek_timers[1], fdc->dev.ctx, on_seek_timer_b, fdc);
  i8237_connect(dma, DMA_CHANNEL, on_dma_ready, fdc);
  vm_region_new_io(memory, "fdc", VM_SPACE_PORTS, 0x3F0, 6, 0, &floppy_ops, fdc, fdc->dev.ctx);
  vm_region_new_io(memory, "fdc-dir", VM_SPACE_PORTS, 0x3F7, 1, 0, &dir_ops, fdc, fdc->dev.ctx);
  floppy_reset(&fdc->dev);
  return fdc;
}

/* ---- drives and media ---------------------------------------------------------------------------------------------- */

void floppy_add_drive(Floppy *fdc, unsigned unit, FloppyDriveType type)
{
  g_assert(unit < FLOPPY_N_DRIVES);
  fdc->drives[unit].type = type;
  fdc->drives[unit].changed = true;
}

FloppyDriveType floppy_get_drive_type(const Floppy *fdc, unsigned unit)
{
  g_assert(unit < FLOPPY_N_DRIVES);
  return fdc->drives[unit].type;
}

bool floppy_insert(Floppy *fdc, unsigned unit, BlkImage *image, GError **error)
{
  const FloppyFormat *format = floppy_format_for_size(blk_get_size(image));
  Drive *drive = fdc_get_drive(fdc, unit);
  if (drive == NULL) {
    g_set_error(error, VM_ERROR, VM_ERROR_BAD_STATE, "%s: this machine has no floppy drive %c", blk_get_path(image),
                'A' + (int)unit);
    return false;
  }
  if (format == NULL || format->density > floppy_drive_density(drive->type)) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID,
                "%s: this image is too large for the floppy drive %c; use it as a disk, or choose a larger drive",
                blk_get_path(image), 'A' + (int)unit);
    return false;
  }
  floppy_eject(fdc, unit);
  drive->image = image;
  drive->format = format;
  drive->next_id = 0;
  return true;
}

/* A command that is at work on this disk fails; its request is waited for, at most one track's. */
void floppy_eject(Floppy *fdc, unsigned unit)
{
  Drive *drive = fdc_get_drive(fdc, unit);
  if (drive == NULL || drive->image == NULL)
    return;
  bool at_work = fdc->job != JOB_NONE && fdc->unit == unit;
  if (at_work)
    fdc_abandon_io(fdc);
  BlkImage *image = g_steal_pointer(&drive->image);
  drive->format = NULL;
  drive->changed = true;
  if (at_work)
    fdc_fail_job(fdc, ST1_NO_ADDRESS, 0);
  blk_close(image);
}

BlkImage *floppy_get_image(const Floppy *fdc, unsigned unit)
{
  g_assert(unit < FLOPPY_N_DRIVES);
  return fdc->drives[unit].image;
}
