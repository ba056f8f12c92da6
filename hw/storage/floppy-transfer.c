/*
 * The floppy controller's transfers: block requests, runs of sectors, formatting.
 */
#include <errno.h>
#include <string.h>

#include "hw/storage/floppy-impl.h"

/* ---- block requests ------------------------------------------------------------------------------------------------ */

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
      fdc_issue_io(fdc);
    return;
  }
  bool reading = fdc->job == JOB_READ || fdc->job == JOB_VERIFY;
  if (error != 0)
    vm_device_log(&fdc->dev, "drive %u: %s", fdc->unit, g_strerror(error));
  if (error != 0 && reading)
    fdc_fail_job(fdc, ST1_DATA_ERROR, ST2_DATA_ERROR);
  else if (error != 0)
    fdc_finish_job(fdc, ST0_ABNORMAL | ST0_CHECK, 0, 0, 0);
  else if (reading) {
    memcpy(fdc->buffer, request->bytes, fdc->io_bytes);
    on_run_read(fdc);
  } else {
    on_run_written(fdc);
  }
}

/* The part of a run that lies past the end of a cut-off image reads as zeroes, and cannot be written. */
void fdc_issue_io(Floppy *fdc)
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
  fdc_issue_io(fdc);
}

void fdc_abandon_io(Floppy *fdc)
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
bool fdc_is_double_stepping(const Drive *drive)
{
  return drive->type == FLOPPY_DRIVE_1200K && drive->format != NULL && drive->format->tracks == 40;
}

/* Does something turn there that can be read at this rate and side? */
bool fdc_finds_addresses(const Floppy *fdc, const Drive *drive, uint8_t command, unsigned unit, unsigned head)
{
  return drive != NULL && drive->format != NULL && fdc->dor & DOR_MOTOR_A << unit && command & CMD_MFM &&
         rate_fits(fdc, drive->format) && head < drive->format->heads &&
         drive->track / (fdc_is_double_stepping(drive) ? 2 : 1) < drive->format->tracks;
}

void fdc_start_moving(Floppy *fdc, uint32_t size)
{
  fdc->pos = 0;
  fdc->end = size;
  if (fdc->specify[1] & SPECIFY_NON_DMA) {
    fdc->phase = PHASE_PIO;
    fdc_set_irq(fdc, true);
    return;
  }
  fdc->phase = PHASE_DMA;
  i8237_set_request(fdc->dma, DMA_CHANNEL, true);
  vm_timer_set(&fdc->timer, fdc_now_ns(fdc));
}

/* The next run: reading asks the image first, writing the guest. */
static void next_run(Floppy *fdc)
{
  const FloppyFormat *format = fdc->drives[fdc->unit & 1].format;
  if (format == NULL) { /* taken out meanwhile */
    fdc_fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  if (fdc->sector == 0 || fdc->sector > format->sectors) {
    fdc_fail_job(fdc, ST1_NO_DATA, 0);
    return;
  }
  uint8_t last = CLAMP(fdc->last_sector, fdc->sector, format->sectors);
  fdc->run = (uint8_t)(fdc->deleted && fdc->job == JOB_READ ? 1 : last - fdc->sector + 1);
  if (fdc->job == JOB_WRITE)
    fdc_start_moving(fdc, fdc->run * FLOPPY_SECTOR_BYTES);
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
    fdc_finish_job(fdc, 0, 0, ST2_DELETED, 0);
  else if (fdc->terminal_count || (end_of_cylinder && fdc->job == JOB_VERIFY))
    fdc_finish_job(fdc, 0, 0, 0, 0);
  else if (end_of_cylinder)
    fdc_finish_job(fdc, ST0_ABNORMAL, ST1_END, 0, 0);
  else
    next_run(fdc);
}

static void on_run_read(Floppy *fdc)
{
  if (fdc->job == JOB_VERIFY)
    run_done(fdc, fdc->run);
  else
    fdc_start_moving(fdc, fdc->run * FLOPPY_SECTOR_BYTES);
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
void fdc_moved(Floppy *fdc)
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
    fdc_finish_job(fdc, 0, 0, 0, 0);
  } else {
    memset(fdc->buffer + fdc->pos, 0, sectors * FLOPPY_SECTOR_BYTES - fdc->pos);
    start_io(fdc, fdc->sector, sectors);
  }
}

void fdc_run_dma(Floppy *fdc)
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
    fdc_moved(fdc);
}

/* What READ, WRITE, VERIFY and READ TRACK have in common: byte 1 unit and head, 2 cylinder, 3 head as the sector's
 * address has it, 4 sector, 5 size code, 6 last sector. */
void fdc_start_job(Floppy *fdc, Job job, bool deleted)
{
  uint8_t command = fdc_parameter(fdc, 0);
  fdc->job = (uint8_t)job;
  fdc->deleted = deleted;
  fdc->unit = fdc_parameter(fdc, 1) & 3;
  fdc->head = fdc_parameter(fdc, 1) >> 2 & 1;
  fdc->cylinder = fdc_parameter(fdc, 2);
  fdc->id_head = fdc_parameter(fdc, 3);
  fdc->sector = fdc_parameter(fdc, 4);
  fdc->last_sector = fdc_parameter(fdc, 6);
  fdc->both_sides = command & CMD_MT;
  fdc->terminal_count = false;
  Drive *drive = fdc_get_drive(fdc, fdc->unit);
  bool steps_twice = drive != NULL && fdc_is_double_stepping(drive);
  if (drive != NULL && fdc->configure & CONFIG_IMPLIED_SEEK)
    drive->track = (uint8_t)MIN(fdc->cylinder * (steps_twice ? 2u : 1u), MAX_TRACK);
  if (!fdc_finds_addresses(fdc, drive, command, fdc->unit, fdc->head)) {
    fdc_fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  /* Not all software steps twice where it ought to. */
  if (fdc->cylinder >= drive->format->tracks ||
      (fdc->cylinder != drive->track && !(steps_twice && fdc->cylinder * 2 == drive->track))) {
    fdc_fail_job(fdc, ST1_NO_DATA, ST2_WRONG_TRACK);
    return;
  }
  if (fdc->id_head != fdc->head || fdc_parameter(fdc, 5) != SECTOR_SIZE_CODE) {
    fdc_fail_job(fdc, ST1_NO_DATA, 0);
    return;
  }
  if (job == JOB_WRITE && blk_is_read_only(drive->image)) {
    fdc_finish_job(fdc, ST0_ABNORMAL, ST1_PROTECTED, 0, 0);
    return;
  }
  if (drive->format->heads < 2)
    fdc->both_sides = false;
  next_run(fdc);
}

/* ---- formatting ---------------------------------------------------------------------------------------------------- */

/* Four bytes a sector: cylinder, head, sector, size code. Those that do not fit the disk's format are an error, since an
 * image cannot be given another. */
static void format_next(Floppy *fdc)
{
  const FloppyFormat *format = fdc->drives[fdc->unit & 1].format;
  if (format == NULL) {
    fdc_fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  if (fdc->format_done >= fdc->format_count || fdc->format_done * 4u + 4 > BUFFER_BYTES) {
    fdc_finish_job(fdc, 0, 0, 0, 0);
    return;
  }
  const uint8_t *id = fdc->buffer + fdc->format_done++ * 4u;
  fdc->sector = id[2];
  if (id[0] != fdc->cylinder || id[1] != fdc->head || id[2] == 0 || id[2] > format->sectors ||
      id[3] != SECTOR_SIZE_CODE) {
    vm_device_log(&fdc->dev, "drive %u: formatting a sector (%u, %u, %u, %u) that this disk cannot have", fdc->unit,
                  id[0], id[1], id[2], id[3]);
    fdc_finish_job(fdc, ST0_ABNORMAL | ST0_CHECK, ST1_NO_DATA, 0, 0);
    return;
  }
  start_io(fdc, id[2], 1);
}
