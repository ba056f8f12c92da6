/*
 * An ATA channel: the registers that two drives share (ATA/ATAPI-6, chapters 7 and 9).
 *
 * A write to a command block register reaches both drives; a read, and a command, the selected one. A channel without
 * drives floats, but for data line 7, which is pulled down so that nobody waits for BSY. Where only drive 0 is there, it
 * answers for drive 1 with a status of 0.
 */
#include "hw/storage/ide-impl.h"

enum {
  REG_DATA,
  REG_ERROR_FEATURE,
  REG_COUNT,
  REG_LBA_LOW,
  REG_LBA_MID,
  REG_LBA_HIGH,
  REG_DEVICE,
  REG_STATUS_COMMAND,

  CONTROL_NIEN = 1 << 1,
  CONTROL_SRST = 1 << 2,
  CONTROL_HOB = 1 << 7,

  FLOATING = 0x7F,
  COMMAND_DIAGNOSTIC = 0x90,
};

const VmField ide_channel_fields[] = {
  VM_TRANSIENT(IdeChannel, dev, "wiring"),
  VM_TRANSIENT(IdeChannel, ops, "wiring"),
  VM_STRUCT_ARRAY(IdeChannel, drives, ide_drive_fields),
  VM_UINT_MAX(IdeChannel, selected, 1),
  VM_UINT(IdeChannel, control),
  VM_TRANSIENT(IdeChannel, irq_level, "follows from the drives' and the control register"),
  VM_FIELDS_END,
};

static bool is_there(const IdeDrive *drive)
{
  return drive->kind != IDE_DRIVE_NONE;
}

static IdeDrive *selected_drive(IdeChannel *channel)
{
  return &channel->drives[channel->selected & 1];
}

void ide_channel_update_irq(IdeChannel *channel)
{
  const IdeDrive *drive = selected_drive(channel);
  bool level = is_there(drive) && drive->intrq && !(channel->control & CONTROL_NIEN);
  if (level == channel->irq_level)
    return;
  channel->irq_level = level;
  channel->ops->interrupt(channel, level);
}

/* ---- DMA --------------------------------------------------------------------------------------------------------- */

/* A step for whichever drive waits for the bus master. What follows a full buffer is another block request or the
 * command's end, never another step, so this is bounded by one buffer. */
void ide_channel_run_dma(IdeChannel *channel)
{
  for (unsigned i = 0; i < 2; i++) {
    IdeDrive *drive = &channel->drives[i];
    if (drive->phase != IDE_PHASE_DMA_IN && drive->phase != IDE_PHASE_DMA_OUT)
      continue;
    bool to_guest = drive->phase == IDE_PHASE_DMA_IN;
    drive->pos += (uint32_t)channel->ops->dma(channel, drive->buffer + drive->pos, drive->end - drive->pos, to_guest);
    if (drive->pos == drive->end)
      ide_drive_data_done(drive);
    return;
  }
}

/* ---- resets ------------------------------------------------------------------------------------------------------ */

static void diagnose(IdeChannel *channel)
{
  channel->selected = 0;
  for (unsigned i = 0; i < 2; i++)
    ide_drive_reset(&channel->drives[i], false);
}

void ide_channel_reset(IdeChannel *channel)
{
  channel->selected = 0;
  channel->control = 0;
  for (unsigned i = 0; i < 2; i++)
    ide_drive_reset(&channel->drives[i], true);
  ide_channel_update_irq(channel);
}

void ide_channel_write_control(IdeChannel *channel, uint8_t value)
{
  uint8_t former = channel->control;
  channel->control = value;
  if (value & CONTROL_SRST) {
    diagnose(channel);
    for (unsigned i = 0; i < 2; i++)
      channel->drives[i].status = IDE_ST_BSY;
  } else if (former & CONTROL_SRST) {
    diagnose(channel);
  }
  ide_channel_update_irq(channel);
}

/* ---- registers --------------------------------------------------------------------------------------------------- */

static uint8_t read_register(const IdeDrive *drive, unsigned offset, bool hob)
{
  switch (offset) {
  case REG_ERROR_FEATURE:
    return drive->error;
  case REG_COUNT:
    return drive->count[hob];
  case REG_LBA_LOW:
    return drive->lba_low[hob];
  case REG_LBA_MID:
    return drive->lba_mid[hob];
  case REG_LBA_HIGH:
    return drive->lba_high[hob];
  default:
    return drive->device | 0xA0;
  }
}

static uint8_t read_status(const IdeChannel *channel)
{
  const IdeDrive *drive = &channel->drives[channel->selected & 1];
  if (is_there(drive))
    return drive->status;
  return channel->selected == 1 && is_there(&channel->drives[0]) ? 0 : FLOATING;
}

static uint8_t read_byte(IdeChannel *channel, unsigned offset)
{
  IdeDrive *drive = selected_drive(channel);
  if (offset == REG_STATUS_COMMAND) {
    uint8_t status = read_status(channel);
    drive->intrq = false;
    ide_channel_update_irq(channel);
    return status;
  }
  if (!is_there(drive)) /* drive 0 answers for 1 */
    drive = &channel->drives[0];
  if (!is_there(drive))
    return FLOATING;
  uint8_t value = read_register(drive, offset, channel->control & CONTROL_HOB);
  return offset == REG_DEVICE ? (uint8_t)((value & ~IDE_DEV_SLAVE) | (channel->selected ? IDE_DEV_SLAVE : 0)) : value;
}

uint32_t ide_channel_read(IdeChannel *channel, unsigned offset, unsigned size)
{
  if (offset == REG_DATA)
    return is_there(selected_drive(channel)) ? ide_drive_read_data(selected_drive(channel), size) : UINT32_MAX;
  uint32_t value = 0;
  for (unsigned i = 0; i < size && i < 4; i++)
    value |= (uint32_t)(offset + i <= REG_STATUS_COMMAND ? read_byte(channel, offset + i) : 0xFF) << (8 * i);
  return value;
}

uint8_t ide_channel_read_alternate_status(IdeChannel *channel)
{
  return read_status(channel);
}

static void push(uint8_t reg[2], uint8_t value)
{
  reg[1] = reg[0];
  reg[0] = value;
}

static void write_register(IdeDrive *drive, unsigned offset, uint8_t value)
{
  switch (offset) {
  case REG_ERROR_FEATURE:
    push(drive->feature, value);
    break;
  case REG_COUNT:
    push(drive->count, value);
    break;
  case REG_LBA_LOW:
    push(drive->lba_low, value);
    break;
  case REG_LBA_MID:
    push(drive->lba_mid, value);
    break;
  case REG_LBA_HIGH:
    push(drive->lba_high, value);
    break;
  default:
    drive->device = value;
    break;
  }
}

static void write_command(IdeChannel *channel, uint8_t command)
{
  IdeDrive *drive = selected_drive(channel);
  if (channel->control & CONTROL_SRST)
    return;
  if (command == COMMAND_DIAGNOSTIC && (is_there(&channel->drives[0]) || is_there(&channel->drives[1]))) {
    diagnose(channel);
    channel->drives[0].intrq = true;
  } else if (is_there(drive)) {
    drive->intrq = false;
    ide_drive_command(drive, command);
  }
  ide_channel_update_irq(channel);
}

static void write_byte(IdeChannel *channel, unsigned offset, uint8_t value)
{
  channel->control &= (uint8_t)~CONTROL_HOB;
  if (offset == REG_STATUS_COMMAND) {
    write_command(channel, value);
    return;
  }
  /* A drive that is busy does not listen, except to who is selected. */
  for (unsigned i = 0; i < 2; i++)
    if (!(channel->drives[i].status & IDE_ST_BSY))
      write_register(&channel->drives[i], offset, value);
  if (offset == REG_DEVICE) {
    channel->selected = value & IDE_DEV_SLAVE ? 1 : 0;
    ide_channel_update_irq(channel);
  }
}

void ide_channel_write(IdeChannel *channel, unsigned offset, uint32_t value, unsigned size)
{
  if (offset == REG_DATA) {
    if (is_there(selected_drive(channel)))
      ide_drive_write_data(selected_drive(channel), value, size);
    return;
  }
  for (unsigned i = 0; i < size && i < 4 && offset + i <= REG_STATUS_COMMAND; i++)
    write_byte(channel, offset + i, (uint8_t)(value >> (8 * i)));
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

void ide_channel_init(IdeChannel *channel, VmDevice *dev, const IdeBusOps *ops, unsigned number)
{
  channel->dev = dev;
  channel->ops = ops;
  for (unsigned i = 0; i < 2; i++) {
    channel->drives[i].channel = channel;
    channel->drives[i].number = number * 2 + i;
  }
}

void ide_channel_finish(IdeChannel *channel)
{
  for (unsigned i = 0; i < 2; i++)
    ide_drive_finish(&channel->drives[i]);
}

bool ide_channel_validate(const IdeChannel *scratch, GError **error)
{
  return ide_drive_validate(&scratch->drives[0], error) && ide_drive_validate(&scratch->drives[1], error);
}

void ide_channel_loaded(IdeChannel *channel)
{
  for (unsigned i = 0; i < 2; i++)
    ide_drive_loaded(&channel->drives[i]);
  const IdeDrive *drive = selected_drive(channel);
  channel->irq_level = is_there(drive) && drive->intrq && !(channel->control & CONTROL_NIEN);
  channel->ops->interrupt(channel, channel->irq_level);
}
