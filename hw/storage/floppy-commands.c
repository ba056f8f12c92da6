/*
 * The floppy controller's commands (82078 data sheet, chapter 6).
 */
#include "hw/storage/floppy-impl.h"

/* ---- sectors ------------------------------------------------------------------------------------------------------- */

static void cmd_read(Floppy *fdc)
{
  fdc_start_job(fdc, JOB_READ, false);
}
static void cmd_read_deleted(Floppy *fdc)
{
  fdc_start_job(fdc, JOB_READ, true);
}
static void cmd_write(Floppy *fdc)
{
  fdc_start_job(fdc, JOB_WRITE, false);
}
static void cmd_verify(Floppy *fdc)
{
  fdc_start_job(fdc, JOB_VERIFY, false);
}

/* From the index hole on, whatever sector is named. */
static void cmd_read_track(Floppy *fdc)
{
  fdc->fifo.bytes[4] = 1;
  fdc->fifo.bytes[0] &= (uint8_t)~CMD_MT;
  fdc_start_job(fdc, JOB_READ, false);
}

static void cmd_read_id(Floppy *fdc)
{
  uint8_t command = fdc_parameter(fdc, 0);
  fdc->unit = fdc_parameter(fdc, 1) & 3;
  fdc->head = fdc_parameter(fdc, 1) >> 2 & 1;
  fdc->id_head = fdc->head;
  Drive *drive = fdc_get_drive(fdc, fdc->unit);
  if (!fdc_finds_addresses(fdc, drive, command, fdc->unit, fdc->head)) {
    fdc->cylinder = fdc->sector = 0;
    fdc_fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  drive->next_id = (uint8_t)(drive->next_id % drive->format->sectors + 1);
  fdc->cylinder = (uint8_t)(drive->track / (fdc_is_double_stepping(drive) ? 2 : 1));
  fdc->sector = drive->next_id;
  fdc_finish_job(fdc, 0, 0, 0, ID_NS);
}

static void cmd_format(Floppy *fdc)
{
  uint8_t command = fdc_parameter(fdc, 0);
  fdc->job = JOB_FORMAT;
  fdc->unit = fdc_parameter(fdc, 1) & 3;
  fdc->head = fdc_parameter(fdc, 1) >> 2 & 1;
  fdc->id_head = fdc->head;
  fdc->fill = fdc_parameter(fdc, 5);
  fdc->terminal_count = false;
  fdc->sector = 1;
  uint8_t n_sectors = fdc_parameter(fdc, 3);
  Drive *drive = fdc_get_drive(fdc, fdc->unit);
  fdc->cylinder = drive != NULL ? drive->track : 0;
  if (!fdc_finds_addresses(fdc, drive, command, fdc->unit, fdc->head)) {
    fdc_fail_job(fdc, ST1_NO_ADDRESS, 0);
    return;
  }
  fdc->cylinder = (uint8_t)(drive->track / (fdc_is_double_stepping(drive) ? 2 : 1));
  if (blk_is_read_only(drive->image))
    fdc_finish_job(fdc, ST0_ABNORMAL, ST1_PROTECTED, 0, 0);
  else if (n_sectors == 0)
    fdc_finish_job(fdc, 0, 0, 0, 0);
  else
    fdc_start_moving(fdc, n_sectors * 4u);
}

/* ---- heads --------------------------------------------------------------------------------------------------------- */

static void start_seek(Floppy *fdc, unsigned unit, unsigned target)
{
  Drive *drive = fdc_get_drive(fdc, unit);
  fdc->phase = PHASE_COMMAND;
  if (drive == NULL) { /* it steps and steps; who looks for track 0 does not find it */
    fdc->seek_ended |= (uint8_t)(1u << unit);
    fdc->seek_st0[unit] = (uint8_t)(ST0_SEEK_END | unit);
    if (target == 0)
      fdc->seek_st0[unit] |= ST0_ABNORMAL | ST0_CHECK;
    fdc_set_irq(fdc, true);
    return;
  }
  target = MIN(target, MAX_TRACK);
  unsigned steps = target > drive->track ? target - drive->track : drive->track - target;
  fdc->seeking |= (uint8_t)(1u << unit);
  fdc->seek_target[unit] = (uint8_t)target;
  vm_timer_set(&fdc->seek_timers[unit], fdc_now_ns(fdc) + SEEK_NS + (int64_t)steps * STEP_NS);
}

void fdc_end_seek(Floppy *fdc, unsigned unit)
{
  Drive *drive = &fdc->drives[unit];
  drive->track = MIN(fdc->seek_target[unit], MAX_TRACK);
  if (drive->format != NULL) /* a step with a disk inside lowers the change line */
    drive->changed = false;
  fdc->seeking &= (uint8_t) ~(1u << unit);
  fdc->seek_ended |= (uint8_t)(1u << unit);
  fdc->seek_st0[unit] = (uint8_t)(ST0_SEEK_END | unit);
  fdc_set_irq(fdc, true);
}

static void cmd_recalibrate(Floppy *fdc)
{
  start_seek(fdc, fdc_parameter(fdc, 1) & 3, 0);
}

static void cmd_seek(Floppy *fdc)
{
  start_seek(fdc, fdc_parameter(fdc, 1) & 3, fdc_parameter(fdc, 2));
}

static void cmd_relative_seek(Floppy *fdc)
{
  unsigned unit = fdc_parameter(fdc, 1) & 3, n = fdc_parameter(fdc, 2);
  unsigned track = unit < FLOPPY_N_DRIVES ? fdc->drives[unit].track : 0;
  start_seek(fdc, unit, fdc_parameter(fdc, 0) & CMD_BACKWARDS ? track + n : track - MIN(track, n));
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
    fdc_answer_invalid(fdc);
    return;
  }
  fdc_set_irq(fdc, fdc->seek_ended != 0);
  fdc_answer(fdc, (const uint8_t[]){ st0, unit < FLOPPY_N_DRIVES ? fdc->drives[unit].track : 0 }, 2);
}

static void cmd_sense_drive(Floppy *fdc)
{
  unsigned select = fdc_parameter(fdc, 1) & 7;
  const Drive *drive = fdc_get_drive(fdc, select & 3);
  uint8_t st3 = (uint8_t)(select | ST3_READY | ST3_TWO_SIDES);
  if (drive != NULL && drive->track == 0)
    st3 |= ST3_TRACK_0;
  if (drive != NULL && drive->image != NULL && blk_is_read_only(drive->image))
    st3 |= ST3_PROTECTED;
  fdc_answer(fdc, &st3, 1);
}

/* ---- settings ------------------------------------------------------------------------------------------------------ */

static void cmd_specify(Floppy *fdc)
{
  fdc->specify[0] = fdc_parameter(fdc, 1);
  fdc->specify[1] = fdc_parameter(fdc, 2);
  fdc_answer(fdc, NULL, 0);
}

static void cmd_configure(Floppy *fdc)
{
  fdc->configure = fdc_parameter(fdc, 2);
  fdc->pretrack = fdc_parameter(fdc, 3);
  fdc_answer(fdc, NULL, 0);
}

static void cmd_perpendicular(Floppy *fdc)
{
  uint8_t value = fdc_parameter(fdc, 1);
  /* Without the overwrite bit the drives' own bits stay. */
  fdc->perpendicular = (uint8_t)(value & 0x80 ? value & 0x7F : (fdc->perpendicular & 0x7C) | (value & 3));
  fdc_answer(fdc, NULL, 0);
}

static void cmd_lock(Floppy *fdc)
{
  fdc->locked = fdc_parameter(fdc, 0) & 0x80;
  fdc_answer(fdc, (const uint8_t[]){ fdc->locked ? 0x10 : 0 }, 1);
}

static void cmd_version(Floppy *fdc)
{
  fdc_answer(fdc, (const uint8_t[]){ 0x90 }, 1);
}

static void cmd_part_id(Floppy *fdc)
{
  fdc_answer(fdc, (const uint8_t[]){ 0x41 }, 1);
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
  fdc_answer(fdc, results, sizeof(results));
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

void fdc_write_command_byte(Floppy *fdc, uint8_t value)
{
  if (fdc->wanted == 0) {
    const Command *command = find_command(value);
    fdc_fifo_clear(&fdc->fifo);
    if (command == NULL) {
      vm_device_log(&fdc->dev, "unknown command %02x", value);
      fdc_answer_invalid(fdc);
      return;
    }
    fdc->wanted = command->bytes;
    if (command->run != cmd_sense_interrupt)
      fdc->sense_after_reset = 0;
  }
  if (!fdc_fifo_push(&fdc->fifo, value)) {
    vm_device_log(&fdc->dev, "a command longer than the FIFO");
    fdc->wanted = 0;
    fdc_fifo_clear(&fdc->fifo);
    return;
  }
  if (fdc->fifo.length < fdc->wanted)
    return;
  fdc->wanted = 0;
  const Command *command = find_command(fdc->fifo.bytes[0]);
  if (command != NULL)
    command->run(fdc);
}
