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
#include "hw/storage/floppy.h"

#include <errno.h>
#include <string.h>

#include "block/block.h"
#include "hw/storage/floppy-format.h"
#include "vm-engine/device.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define DMA_CHANNEL  2
#define FIFO_BYTES   16
#define BUFFER_BYTES (FLOPPY_MAX_SECTORS * FLOPPY_SECTOR_BYTES)
#define MAX_TRACK    84
#define RESET_NS     (50 * VM_NS_PER_US)
#define SEEK_NS      (100 * VM_NS_PER_US)
#define STEP_NS      (10 * VM_NS_PER_US)
#define ID_NS        (100 * VM_NS_PER_US)
#define NOT_FOUND_NS (10 * VM_NS_PER_MS) /* a disk's two turns would be 400 ms */

/* Registers, by offset from 3F0. */
enum { REG_DOR = 2, REG_TDR = 3, REG_MSR_DSR = 4, REG_DATA = 5, REG_DIR_CCR = 7 };

enum {
  DOR_SELECT = 3,
  DOR_NOT_RESET = 1 << 2,
  DOR_DMA_GATE = 1 << 3,
  DOR_MOTOR_A = 1 << 4,

  DSR_RATE = 3,
  DSR_RESET = 1 << 7,

  MSR_BUSY = 1 << 4,
  MSR_NON_DMA = 1 << 5,
  MSR_TO_HOST = 1 << 6,
  MSR_READY = 1 << 7,

  DIR_CHANGED = 1 << 7,

  ST0_HEAD = 1 << 2,
  ST0_CHECK = 1 << 4,
  ST0_SEEK_END = 1 << 5,
  ST0_ABNORMAL = 1 << 6,
  ST0_INVALID = 1 << 7,
  ST0_POLLING = 3 << 6,

  ST1_NO_ADDRESS = 1 << 0,
  ST1_PROTECTED = 1 << 1,
  ST1_NO_DATA = 1 << 2,
  ST1_DATA_ERROR = 1 << 5,
  ST1_END = 1 << 7,

  ST2_WRONG_TRACK = 1 << 4,
  ST2_DATA_ERROR = 1 << 5,
  ST2_DELETED = 1 << 6,

  ST3_TWO_SIDES = 1 << 3,
  ST3_TRACK_0 = 1 << 4,
  ST3_READY = 1 << 5,
  ST3_PROTECTED = 1 << 6,

  CMD_MT = 1 << 7, /* over both sides */
  CMD_MFM = 1 << 6,
  CMD_BACKWARDS = 1 << 6, /* of RELATIVE SEEK: set, inwards */

  CONFIG_IMPLIED_SEEK = 1 << 6,
  CONFIG_NO_FIFO = 1 << 5,
  SPECIFY_NON_DMA = 1 << 0,
  SECTOR_SIZE_CODE = 2, /* 128 << 2 */
};

typedef struct Fifo {
  uint8_t bytes[FIFO_BYTES];
  uint8_t length, pos;
} Fifo;

typedef enum Phase {
  PHASE_COMMAND,   /* nothing, or command bytes come in */
  PHASE_RESETTING, /* the timer ends it */
  PHASE_IO,        /* a block request is under way */
  PHASE_DMA,       /* the buffer moves by DMA */
  PHASE_PIO,       /* … by the data register */
  PHASE_WAIT,      /* the timer shows the results that stand in the FIFO */
  PHASE_RESULT,
  PHASE_LAST = PHASE_RESULT
} Phase;

typedef enum Job { JOB_NONE, JOB_READ, JOB_WRITE, JOB_VERIFY, JOB_FORMAT, JOB_LAST = JOB_FORMAT } Job;

typedef struct Request {
  Floppy *fdc;
  bool busy, stale;
  uint8_t bytes[BUFFER_BYTES];
} Request;

typedef struct Drive {
  FloppyDriveType type;
  BlkImage *image;
  const FloppyFormat *format; /* NULL: empty */
  uint8_t track;              /* where the head stands */
  uint8_t next_id;            /* the sector that READ ID sees next, less one */
  bool changed;               /* the disk change line */
} Drive;

struct Floppy {
  VmDevice dev;
  I8237 *dma;
  VmIrq irq;
  Request *request;
  Drive drives[FLOPPY_N_DRIVES];

  uint8_t dor, tdr, rate;
  uint8_t specify[2], configure, pretrack, perpendicular;
  bool locked;
  bool irq_pending;

  uint8_t phase;
  Fifo fifo;
  uint8_t wanted; /* bytes that the command has */

  uint8_t sense_after_reset; /* interrupts of the reset that wait to be sensed */
  uint8_t seek_ended;        /* drives whose seek waits to be sensed: a bit each */
  uint8_t seek_st0[FLOPPY_N_DRIVES + 2];
  uint8_t seeking;
  uint8_t seek_target[FLOPPY_N_DRIVES];

  /* The transfer under way. */
  uint8_t job, unit, head, cylinder, id_head, sector, last_sector;
  bool both_sides, deleted, terminal_count;
  uint8_t format_count, format_done, fill;
  uint8_t run; /* sectors in the buffer */
  uint32_t pos, end;
  uint64_t io_offset;
  uint32_t io_bytes;
  uint8_t buffer[BUFFER_BYTES];

  VmTimer timer;
  VmTimer seek_timers[FLOPPY_N_DRIVES];
};

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

/* ---- FIFO -------------------------------------------------------------------------------------------------------- */

static void fifo_clear(Fifo *fifo)
{
  fifo->length = fifo->pos = 0;
}

static bool fifo_push(Fifo *fifo, uint8_t byte)
{
  if (fifo->length >= FIFO_BYTES)
    return false;
  fifo->bytes[fifo->length++] = byte;
  return true;
}

static bool fifo_pop(Fifo *fifo, uint8_t *byte)
{
  if (fifo->pos >= fifo->length || fifo->pos >= FIFO_BYTES)
    return false;
  *byte = fifo->bytes[fifo->pos++];
  return true;
}

/* Byte `i` of the command; 0 for one that did not come. */
static uint8_t parameter(const Floppy *fdc, unsigned i)
{
  return i < fdc->fifo.length ? fdc->fifo.bytes[i] : 0;
}

/* ---- interrupts and results -------------------------------------------------------------------------------------- */

static int64_t now_ns(const Floppy *fdc)
{
  return vm_clock_get_ns(vm_get_clock(fdc->dev.vm));
}

static void drive_irq(Floppy *fdc)
{
  vm_irq_set(&fdc->irq, fdc->irq_pending && fdc->dor & DOR_DMA_GATE);
}

static void set_irq(Floppy *fdc, bool pending)
{
  fdc->irq_pending = pending;
  drive_irq(fdc);
}

static void put_results(Floppy *fdc, const uint8_t *bytes, unsigned n)
{
  fifo_clear(&fdc->fifo);
  for (unsigned i = 0; i < n; i++)
    if (!fifo_push(&fdc->fifo, bytes[i]))
      vm_device_log(&fdc->dev, "more results than the FIFO holds");
}

/* An answer without an execution phase: no interrupt. */
static void answer(Floppy *fdc, const uint8_t *bytes, unsigned n)
{
  put_results(fdc, bytes, n);
  fdc->phase = n > 0 ? PHASE_RESULT : PHASE_COMMAND;
}

static void answer_invalid(Floppy *fdc)
{
  answer(fdc, (const uint8_t[]){ ST0_INVALID }, 1);
}

static Drive *get_drive(Floppy *fdc, unsigned unit)
{
  return unit < FLOPPY_N_DRIVES && fdc->drives[unit].type != FLOPPY_DRIVE_NONE ? &fdc->drives[unit] : NULL;
}

/* The seven result bytes of the data commands; shown at once, or after `delay_ns`. */
static void finish_job(Floppy *fdc, uint8_t st0, uint8_t st1, uint8_t st2, int64_t delay_ns)
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
    vm_timer_set(&fdc->timer, now_ns(fdc) + delay_ns);
  else
    set_irq(fdc, true);
}

static void fail_job(Floppy *fdc, uint8_t st1, uint8_t st2)
{
  finish_job(fdc, ST0_ABNORMAL, st1, st2, NOT_FOUND_NS);
}

/* ---- block requests ------------------------------------------------------------------------------------------------ */

static void issue(Floppy *fdc);
static void on_run_read(Floppy *fdc);
static void on_run_written(Floppy *fdc);

static void on_io_done(void *opaque, int error)
{
  Request *request = opaque;
  Floppy *fdc = request->fdc;
  request->busy = false;
  if (request->stale) {
    request->stale = false;
    if (fdc->phase == PHASE_IO)
      issue(fdc);
    return;
  }
  bool reading = fdc->job == JOB_READ || fdc->job == JOB_VERIFY;
  if (error != 0)
    vm_device_log(&fdc->dev, "drive %u: %s", fdc->unit, g_strerror(error));
  if (error != 0 && reading)
    fail_job(fdc, ST1_DATA_ERROR, ST2_DATA_ERROR);
  else if (error != 0)
    finish_job(fdc, ST0_ABNORMAL | ST0_CHECK, 0, 0, 0);
  else if (reading) {
    memcpy(fdc->buffer, request->bytes, fdc->io_bytes);
    on_run_read(fdc);
  } else {
    on_run_written(fdc);
  }
}

/* The part of a run that lies past the end of a cut-off image reads as zeroes, and cannot be written. */
static void issue(Floppy *fdc)
{
  BlkImage *image = fdc->drives[fdc->unit & 1].image;
  bool reading = fdc->job == JOB_READ || fdc->job == JOB_VERIFY;
  if (fdc->request == NULL) {
    fdc->request = g_new0(Request, 1);
    fdc->request->fdc = fdc;
  }
  Request *request = fdc->request;
  if (request->busy)
    return; /* the stale one's end issues this one */
  uint64_t size = blk_get_size(image);
  uint64_t there = fdc->io_offset < size ? MIN(size - fdc->io_offset, fdc->io_bytes) : 0;
  struct iovec iov = { request->bytes, reading ? there : fdc->io_bytes };
  request->busy = true;
  if (reading) {
    memset(request->bytes + there, 0, fdc->io_bytes - there);
    blk_read(image, there > 0 ? fdc->io_offset : 0, &iov, 1, on_io_done, request);
  } else {
    if (fdc->job == JOB_FORMAT)
      memset(request->bytes, fdc->fill, fdc->io_bytes);
    else
      memcpy(request->bytes, fdc->buffer, fdc->io_bytes);
    blk_write(image, fdc->io_offset, &iov, 1, on_io_done, request);
  }
}

static void start_io(Floppy *fdc, uint8_t sector, uint32_t n_sectors)
{
  const Drive *drive = &fdc->drives[fdc->unit & 1];
  uint64_t lba = ((uint64_t)fdc->cylinder * drive->format->heads + fdc->head) * drive->format->sectors + sector - 1;
  fdc->io_offset = lba * FLOPPY_SECTOR_BYTES;
  fdc->io_bytes = n_sectors * FLOPPY_SECTOR_BYTES;
  fdc->phase = PHASE_IO;
  issue(fdc);
}

static void abandon_io(Floppy *fdc)
{
  if (fdc->request != NULL && fdc->request->busy)
    fdc->request->stale = true;
}

/* ---- reading and writing ------------------------------------------------------------------------------------------- */

static bool rate_fits(const Floppy *fdc, const FloppyFormat *format)
{
  static const uint8_t rate_500k = 0, rate_300k = 1, rate_250k = 2, rate_1m = 3;
  switch (format->density) {
  case FLOPPY_ED:
    return fdc->rate == rate_1m;
  case FLOPPY_HD:
    return fdc->rate == rate_500k;
  default:
    return fdc->rate == rate_250k || fdc->rate == rate_300k;
  }
}

/* A drive of 80 tracks puts its head at 2n for track n of a disk with 40. */
static bool is_double_stepping(const Drive *drive)
{
  return drive->type == FLOPPY_DRIVE_1200K && drive->format != NULL && drive->format->tracks == 40;
}

/* Does something turn there that can be read at this rate and side? */
static bool finds_addresses(const Floppy *fdc, const Drive *drive, uint8_t command, unsigned unit, unsigned head)
{
  return drive != NULL && drive->format != NULL && fdc->dor & DOR_MOTOR_A << unit && command & CMD_MFM &&
         rate_fits(fdc, drive->format) && head < drive->format->heads &&
         drive->track / (is_double_stepping(drive) ? 2 : 1) < drive->format->tracks;
}

static void start_moving(Floppy *fdc, uint32_t size)
{
  fdc->pos = 0;
  fdc->end = size;
  if (fdc->specify[1] & SPECIFY_NON_DMA) {
    fdc->phase = PHASE_PIO;
    set_irq(fdc, true);
    return;
  }
  fdc->phase = PHASE_DMA;
  i8237_set_request(fdc->dma, DMA_CHANNEL, true);
  vm_timer_set(&fdc->timer, now_ns(fdc));
}

/* The next run: reading asks the image first, writing the guest. */
static void next_run(Floppy *fdc)
{
  const FloppyFormat *format = fdc->drives[fdc->unit & 1].format;
  if (format == NULL) { /* taken out meanwhile */
    fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  if (fdc->sector == 0 || fdc->sector > format->sectors) {
    fail_job(fdc, ST1_NO_DATA, 0);
    return;
  }
  uint8_t last = CLAMP(fdc->last_sector, fdc->sector, format->sectors);
  fdc->run = (uint8_t)(fdc->deleted && fdc->job == JOB_READ ? 1 : last - fdc->sector + 1);
  if (fdc->job == JOB_WRITE)
    start_moving(fdc, fdc->run * FLOPPY_SECTOR_BYTES);
  else
    start_io(fdc, fdc->sector, fdc->run);
}

/* Where the command would go on, which is what it reports at its end (82078 data sheet, table 6-4). */
static void advance(Floppy *fdc, unsigned n_sectors, bool *end_of_cylinder)
{
  unsigned next = fdc->sector + n_sectors;
  *end_of_cylinder = false;
  if (next <= fdc->last_sector) {
    fdc->sector = (uint8_t)next;
    return;
  }
  fdc->sector = 1;
  if (fdc->both_sides && fdc->head == 0) {
    fdc->id_head ^= 1;
    fdc->head = 1;
    return;
  }
  *end_of_cylinder = true;
  fdc->cylinder++;
  if (fdc->both_sides)
    fdc->id_head ^= 1;
}

/* `n_sectors` have been moved and, if written, stored. */
static void run_done(Floppy *fdc, unsigned n_sectors)
{
  bool end_of_cylinder, was_deleted = fdc->deleted && fdc->job == JOB_READ;
  advance(fdc, n_sectors, &end_of_cylinder);
  if (was_deleted) /* no mark on these disks says "deleted", so it stops at the first */
    finish_job(fdc, 0, 0, ST2_DELETED, 0);
  else if (fdc->terminal_count || (end_of_cylinder && fdc->job == JOB_VERIFY))
    finish_job(fdc, 0, 0, 0, 0);
  else if (end_of_cylinder)
    finish_job(fdc, ST0_ABNORMAL, ST1_END, 0, 0);
  else
    next_run(fdc);
}

static void on_run_read(Floppy *fdc)
{
  if (fdc->job == JOB_VERIFY)
    run_done(fdc, fdc->run);
  else
    start_moving(fdc, fdc->run * FLOPPY_SECTOR_BYTES);
}

static void format_next(Floppy *fdc);

static void on_run_written(Floppy *fdc)
{
  if (fdc->job == JOB_FORMAT)
    format_next(fdc);
  else
    run_done(fdc, fdc->io_bytes / FLOPPY_SECTOR_BYTES);
}

/* The guest has given or taken what it wants. A last sector that came in part is filled up with zeroes. */
static void moved(Floppy *fdc)
{
  uint32_t sectors = (fdc->pos + FLOPPY_SECTOR_BYTES - 1) / FLOPPY_SECTOR_BYTES;
  i8237_set_request(fdc->dma, DMA_CHANNEL, false);
  if (fdc->job == JOB_FORMAT) {
    fdc->format_done = 0;
    fdc->format_count = (uint8_t)(fdc->pos / 4);
    format_next(fdc);
  } else if (fdc->job == JOB_READ) {
    run_done(fdc, MAX(sectors, 1));
  } else if (sectors == 0) {
    finish_job(fdc, 0, 0, 0, 0);
  } else {
    memset(fdc->buffer + fdc->pos, 0, sectors * FLOPPY_SECTOR_BYTES - fdc->pos);
    start_io(fdc, fdc->sector, sectors);
  }
}

static void run_dma(Floppy *fdc)
{
  bool tc = false, reading = fdc->job == JOB_READ;
  I8237Kind kind = i8237_get_kind(fdc->dma, DMA_CHANNEL);
  if (kind == I8237_NONE || (kind != I8237_VERIFY && reading != (kind == I8237_TO_MEMORY)))
    return; /* until the guest programs the channel, or resets us */
  uint8_t *at = fdc->buffer + fdc->pos;
  if (!reading && kind == I8237_VERIFY)
    memset(at, 0, fdc->end - fdc->pos);
  fdc->pos += (uint32_t)i8237_transfer(fdc->dma, DMA_CHANNEL, at, at, fdc->end - fdc->pos, &tc);
  fdc->terminal_count = tc;
  if (tc || fdc->pos >= fdc->end)
    moved(fdc);
}

static void on_dma_ready(void *opaque)
{
  Floppy *fdc = opaque;
  if (fdc->phase == PHASE_DMA)
    vm_timer_set(&fdc->timer, now_ns(fdc));
}

static void on_timer(void *opaque)
{
  Floppy *fdc = opaque;
  switch ((Phase)fdc->phase) {
  case PHASE_RESETTING:
    fdc->phase = PHASE_COMMAND;
    fdc->sense_after_reset = 4;
    set_irq(fdc, true);
    break;
  case PHASE_DMA:
    run_dma(fdc);
    break;
  case PHASE_WAIT:
    fdc->phase = PHASE_RESULT;
    set_irq(fdc, true);
    break;
  default:
    break;
  }
}

/* What READ, WRITE, VERIFY and READ TRACK have in common: byte 1 unit and head, 2 cylinder, 3 head as the sector's
 * address has it, 4 sector, 5 size code, 6 last sector. */
static void start_job(Floppy *fdc, Job job, bool deleted)
{
  uint8_t command = parameter(fdc, 0);
  fdc->job = (uint8_t)job;
  fdc->deleted = deleted;
  fdc->unit = parameter(fdc, 1) & 3;
  fdc->head = parameter(fdc, 1) >> 2 & 1;
  fdc->cylinder = parameter(fdc, 2);
  fdc->id_head = parameter(fdc, 3);
  fdc->sector = parameter(fdc, 4);
  fdc->last_sector = parameter(fdc, 6);
  fdc->both_sides = command & CMD_MT;
  fdc->terminal_count = false;
  Drive *drive = get_drive(fdc, fdc->unit);
  bool steps_twice = drive != NULL && is_double_stepping(drive);
  if (drive != NULL && fdc->configure & CONFIG_IMPLIED_SEEK)
    drive->track = (uint8_t)MIN(fdc->cylinder * (steps_twice ? 2u : 1u), MAX_TRACK);
  if (!finds_addresses(fdc, drive, command, fdc->unit, fdc->head)) {
    fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  /* Not all software steps twice where it ought to. */
  if (fdc->cylinder >= drive->format->tracks ||
      (fdc->cylinder != drive->track && !(steps_twice && fdc->cylinder * 2 == drive->track))) {
    fail_job(fdc, ST1_NO_DATA, ST2_WRONG_TRACK);
    return;
  }
  if (fdc->id_head != fdc->head || parameter(fdc, 5) != SECTOR_SIZE_CODE) {
    fail_job(fdc, ST1_NO_DATA, 0);
    return;
  }
  if (job == JOB_WRITE && blk_is_read_only(drive->image)) {
    finish_job(fdc, ST0_ABNORMAL, ST1_PROTECTED, 0, 0);
    return;
  }
  if (drive->format->heads < 2)
    fdc->both_sides = false;
  next_run(fdc);
}

static void cmd_read(Floppy *fdc)
{
  start_job(fdc, JOB_READ, false);
}
static void cmd_read_deleted(Floppy *fdc)
{
  start_job(fdc, JOB_READ, true);
}
static void cmd_write(Floppy *fdc)
{
  start_job(fdc, JOB_WRITE, false);
}
static void cmd_verify(Floppy *fdc)
{
  start_job(fdc, JOB_VERIFY, false);
}

/* From the index hole on, whatever sector is named. */
static void cmd_read_track(Floppy *fdc)
{
  fdc->fifo.bytes[4] = 1;
  fdc->fifo.bytes[0] &= (uint8_t)~CMD_MT;
  start_job(fdc, JOB_READ, false);
}

static void cmd_read_id(Floppy *fdc)
{
  uint8_t command = parameter(fdc, 0);
  fdc->unit = parameter(fdc, 1) & 3;
  fdc->head = parameter(fdc, 1) >> 2 & 1;
  fdc->id_head = fdc->head;
  Drive *drive = get_drive(fdc, fdc->unit);
  if (!finds_addresses(fdc, drive, command, fdc->unit, fdc->head)) {
    fdc->cylinder = fdc->sector = 0;
    fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  drive->next_id = (uint8_t)(drive->next_id % drive->format->sectors + 1);
  fdc->cylinder = (uint8_t)(drive->track / (is_double_stepping(drive) ? 2 : 1));
  fdc->sector = drive->next_id;
  finish_job(fdc, 0, 0, 0, ID_NS);
}

/* ---- formatting ---------------------------------------------------------------------------------------------------- */

/* Four bytes a sector: cylinder, head, sector, size code. Those that do not fit the disk's format are an error, since an
 * image cannot be given another. */
static void format_next(Floppy *fdc)
{
  const FloppyFormat *format = fdc->drives[fdc->unit & 1].format;
  if (format == NULL) {
    fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  if (fdc->format_done >= fdc->format_count || fdc->format_done * 4u + 4 > BUFFER_BYTES) {
    finish_job(fdc, 0, 0, 0, 0);
    return;
  }
  const uint8_t *id = fdc->buffer + fdc->format_done++ * 4u;
  fdc->sector = id[2];
  if (id[0] != fdc->cylinder || id[1] != fdc->head || id[2] == 0 || id[2] > format->sectors ||
      id[3] != SECTOR_SIZE_CODE) {
    vm_device_log(&fdc->dev, "drive %u: formatting a sector (%u, %u, %u, %u) that this disk cannot have", fdc->unit,
                  id[0], id[1], id[2], id[3]);
    finish_job(fdc, ST0_ABNORMAL | ST0_CHECK, ST1_NO_DATA, 0, 0);
    return;
  }
  start_io(fdc, id[2], 1);
}

static void cmd_format(Floppy *fdc)
{
  uint8_t command = parameter(fdc, 0);
  fdc->job = JOB_FORMAT;
  fdc->unit = parameter(fdc, 1) & 3;
  fdc->head = parameter(fdc, 1) >> 2 & 1;
  fdc->id_head = fdc->head;
  fdc->fill = parameter(fdc, 5);
  fdc->terminal_count = false;
  fdc->sector = 1;
  uint8_t n_sectors = parameter(fdc, 3);
  Drive *drive = get_drive(fdc, fdc->unit);
  fdc->cylinder = drive != NULL ? drive->track : 0;
  if (!finds_addresses(fdc, drive, command, fdc->unit, fdc->head)) {
    fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  fdc->cylinder = (uint8_t)(drive->track / (is_double_stepping(drive) ? 2 : 1));
  if (blk_is_read_only(drive->image))
    finish_job(fdc, ST0_ABNORMAL, ST1_PROTECTED, 0, 0);
  else if (n_sectors == 0)
    finish_job(fdc, 0, 0, 0, 0);
  else
    start_moving(fdc, n_sectors * 4u);
}

/* ---- heads --------------------------------------------------------------------------------------------------------- */

static void start_seek(Floppy *fdc, unsigned unit, unsigned target)
{
  Drive *drive = get_drive(fdc, unit);
  fdc->phase = PHASE_COMMAND;
  if (drive == NULL) { /* it steps and steps; who looks for track 0 does not find it */
    fdc->seek_ended |= (uint8_t)(1u << unit);
    fdc->seek_st0[unit] = (uint8_t)(ST0_SEEK_END | unit);
    if (target == 0)
      fdc->seek_st0[unit] |= ST0_ABNORMAL | ST0_CHECK;
    set_irq(fdc, true);
    return;
  }
  target = MIN(target, MAX_TRACK);
  unsigned steps = target > drive->track ? target - drive->track : drive->track - target;
  fdc->seeking |= (uint8_t)(1u << unit);
  fdc->seek_target[unit] = (uint8_t)target;
  vm_timer_set(&fdc->seek_timers[unit], now_ns(fdc) + SEEK_NS + (int64_t)steps * STEP_NS);
}

static void end_seek(Floppy *fdc, unsigned unit)
{
  Drive *drive = &fdc->drives[unit];
  drive->track = MIN(fdc->seek_target[unit], MAX_TRACK);
  if (drive->format != NULL) /* a step with a disk inside lowers the change line */
    drive->changed = false;
  fdc->seeking &= (uint8_t) ~(1u << unit);
  fdc->seek_ended |= (uint8_t)(1u << unit);
  fdc->seek_st0[unit] = (uint8_t)(ST0_SEEK_END | unit);
  set_irq(fdc, true);
}

static void on_seek_timer_a(void *opaque)
{
  end_seek(opaque, 0);
}
static void on_seek_timer_b(void *opaque)
{
  end_seek(opaque, 1);
}

static void cmd_recalibrate(Floppy *fdc)
{
  start_seek(fdc, parameter(fdc, 1) & 3, 0);
}

static void cmd_seek(Floppy *fdc)
{
  start_seek(fdc, parameter(fdc, 1) & 3, parameter(fdc, 2));
}

static void cmd_relative_seek(Floppy *fdc)
{
  unsigned unit = parameter(fdc, 1) & 3, n = parameter(fdc, 2);
  unsigned track = unit < FLOPPY_N_DRIVES ? fdc->drives[unit].track : 0;
  start_seek(fdc, unit, parameter(fdc, 0) & CMD_BACKWARDS ? track + n : track - MIN(track, n));
}

static void cmd_sense_interrupt(Floppy *fdc)
{
  unsigned unit = fdc->seek_ended != 0 ? (unsigned)__builtin_ctz(fdc->seek_ended) : 4u - fdc->sense_after_reset;
  uint8_t st0;
  if (fdc->seek_ended != 0) {
    st0 = fdc->seek_st0[unit];
    fdc->seek_ended &= (uint8_t) ~(1u << unit);
  } else if (fdc->sense_after_reset > 0) {
    fdc->sense_after_reset--;
    st0 = (uint8_t)(ST0_POLLING | unit);
  } else {
    answer_invalid(fdc);
    return;
  }
  set_irq(fdc, fdc->seek_ended != 0);
  answer(fdc, (const uint8_t[]){ st0, unit < FLOPPY_N_DRIVES ? fdc->drives[unit].track : 0 }, 2);
}

static void cmd_sense_drive(Floppy *fdc)
{
  unsigned select = parameter(fdc, 1) & 7;
  const Drive *drive = get_drive(fdc, select & 3);
  uint8_t st3 = (uint8_t)(select | ST3_READY | ST3_TWO_SIDES);
  if (drive != NULL && drive->track == 0)
    st3 |= ST3_TRACK_0;
  if (drive != NULL && drive->image != NULL && blk_is_read_only(drive->image))
    st3 |= ST3_PROTECTED;
  answer(fdc, &st3, 1);
}

/* ---- settings ------------------------------------------------------------------------------------------------------ */

static void cmd_specify(Floppy *fdc)
{
  fdc->specify[0] = parameter(fdc, 1);
  fdc->specify[1] = parameter(fdc, 2);
  answer(fdc, NULL, 0);
}

static void cmd_configure(Floppy *fdc)
{
  fdc->configure = parameter(fdc, 2);
  fdc->pretrack = parameter(fdc, 3);
  answer(fdc, NULL, 0);
}

static void cmd_perpendicular(Floppy *fdc)
{
  uint8_t value = parameter(fdc, 1);
  /* Without the overwrite bit the drives' own bits stay. */
  fdc->perpendicular = (uint8_t)(value & 0x80 ? value & 0x7F : (fdc->perpendicular & 0x7C) | (value & 3));
  answer(fdc, NULL, 0);
}

static void cmd_lock(Floppy *fdc)
{
  fdc->locked = parameter(fdc, 0) & 0x80;
  answer(fdc, (const uint8_t[]){ fdc->locked ? 0x10 : 0 }, 1);
}

static void cmd_version(Floppy *fdc)
{
  answer(fdc, (const uint8_t[]){ 0x90 }, 1);
}

static void cmd_part_id(Floppy *fdc)
{
  answer(fdc, (const uint8_t[]){ 0x41 }, 1);
}

static void cmd_dump_registers(Floppy *fdc)
{
  const uint8_t results[] = { fdc->drives[0].track,
                              fdc->drives[1].track,
                              0,
                              0,
                              fdc->specify[0],
                              fdc->specify[1],
                              fdc->last_sector,
                              (uint8_t)((fdc->locked ? 0x80 : 0) | (fdc->perpendicular & 0x7F)),
                              fdc->configure,
                              fdc->pretrack };
  answer(fdc, results, sizeof(results));
}

typedef struct Command {
  uint8_t mask, code;
  uint8_t bytes; /* with its first one */
  void (*run)(Floppy *fdc);
} Command;

static const Command commands[] = {
  { 0x1F, 0x06, 9, cmd_read },           { 0x1F, 0x0C, 9, cmd_read_deleted }, { 0x3F, 0x05, 9, cmd_write },
  { 0x3F, 0x09, 9, cmd_write }, /* a deleted mark has no place in an image */
  { 0x9F, 0x02, 9, cmd_read_track },     { 0x1F, 0x16, 9, cmd_verify },       { 0xBF, 0x0D, 6, cmd_format },
  { 0xBF, 0x0A, 2, cmd_read_id },        { 0xFF, 0x07, 2, cmd_recalibrate },  { 0xFF, 0x08, 1, cmd_sense_interrupt },
  { 0xFF, 0x03, 3, cmd_specify },        { 0xFF, 0x04, 2, cmd_sense_drive },  { 0xFF, 0x0F, 3, cmd_seek },
  { 0xBF, 0x8F, 3, cmd_relative_seek },  { 0xFF, 0x13, 4, cmd_configure },    { 0xFF, 0x12, 2, cmd_perpendicular },
  { 0x7F, 0x14, 1, cmd_lock },           { 0xFF, 0x10, 1, cmd_version },      { 0xFF, 0x18, 1, cmd_part_id },
  { 0xFF, 0x0E, 1, cmd_dump_registers },
};

static const Command *find_command(uint8_t code)
{
  for (size_t i = 0; i < G_N_ELEMENTS(commands); i++)
    if ((code & commands[i].mask) == commands[i].code)
      return &commands[i];
  return NULL;
}

/* ---- the data register --------------------------------------------------------------------------------------------- */

static void write_command_byte(Floppy *fdc, uint8_t value)
{
  if (fdc->wanted == 0) {
    const Command *command = find_command(value);
    fifo_clear(&fdc->fifo);
    if (command == NULL) {
      vm_device_log(&fdc->dev, "unknown command %02x", value);
      answer_invalid(fdc);
      return;
    }
    fdc->wanted = command->bytes;
    if (command->run != cmd_sense_interrupt)
      fdc->sense_after_reset = 0;
  }
  if (!fifo_push(&fdc->fifo, value)) {
    vm_device_log(&fdc->dev, "a command longer than the FIFO");
    fdc->wanted = 0;
    fifo_clear(&fdc->fifo);
    return;
  }
  if (fdc->fifo.length < fdc->wanted)
    return;
  fdc->wanted = 0;
  const Command *command = find_command(fdc->fifo.bytes[0]);
  if (command != NULL)
    command->run(fdc);
}

/* One byte of a transfer without DMA, either way. */
static uint8_t move_byte(Floppy *fdc, uint8_t value)
{
  if (fdc->pos >= fdc->end)
    return 0;
  if (fdc->job == JOB_READ)
    value = fdc->buffer[fdc->pos++];
  else
    fdc->buffer[fdc->pos++] = value;
  set_irq(fdc, false);
  if (fdc->pos < fdc->end)
    set_irq(fdc, true);
  else
    moved(fdc);
  return value;
}

static void write_data(Floppy *fdc, uint8_t value)
{
  if (fdc->phase == PHASE_COMMAND)
    write_command_byte(fdc, value);
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
    set_irq(fdc, false);
  if (!fifo_pop(&fdc->fifo, &value) || fdc->fifo.pos >= fdc->fifo.length) {
    fifo_clear(&fdc->fifo);
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
  abandon_io(fdc);
  vm_timer_cancel(&fdc->timer);
  for (unsigned i = 0; i < FLOPPY_N_DRIVES; i++)
    vm_timer_cancel(&fdc->seek_timers[i]);
  i8237_set_request(fdc->dma, DMA_CHANNEL, false);
  fifo_clear(&fdc->fifo);
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
  set_irq(fdc, false);
}

static void leave_reset(Floppy *fdc)
{
  fdc->phase = PHASE_RESETTING;
  vm_timer_set(&fdc->timer, now_ns(fdc) + RESET_NS);
}

static void write_dor(Floppy *fdc, uint8_t value)
{
  bool was_running = fdc->dor & DOR_NOT_RESET;
  fdc->dor = value;
  if (!(value & DOR_NOT_RESET))
    soft_reset(fdc);
  else if (!was_running)
    leave_reset(fdc);
  drive_irq(fdc);
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
  const Drive *drive = get_drive(fdc, fdc->dor & DOR_SELECT);
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
  abandon_io(fdc);
  drive_irq(fdc);
  bool is_moving = fdc->phase == PHASE_IO || fdc->phase == PHASE_DMA || fdc->phase == PHASE_PIO;
  if (is_moving && fdc->drives[fdc->unit & 1].image == NULL)
    fail_job(fdc, ST1_NO_ADDRESS, 0); /* loaded without the disk that it was at */
  else if (fdc->phase == PHASE_IO)
    issue(fdc);
}

static void floppy_finish(VmDevice *dev)
{
  Floppy *fdc = (Floppy *)dev;
  abandon_io(fdc);
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
  Drive *drive = get_drive(fdc, unit);
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
  Drive *drive = get_drive(fdc, unit);
  if (drive == NULL || drive->image == NULL)
    return;
  bool at_work = fdc->job != JOB_NONE && fdc->unit == unit;
  if (at_work)
    abandon_io(fdc);
  BlkImage *image = g_steal_pointer(&drive->image);
  drive->format = NULL;
  drive->changed = true;
  if (at_work)
    fail_job(fdc, ST1_NO_ADDRESS, 0);
  blk_close(image);
}

BlkImage *floppy_get_image(const Floppy *fdc, unsigned unit)
{
  g_assert(unit < FLOPPY_N_DRIVES);
  return fdc->drives[unit].image;
}
