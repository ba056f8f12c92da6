/*
 * The ATAPI CD-ROM drive: the packet interface (ATA/ATAPI-6, 9.8; SFF-8020i) and the commands that move data or the
 * medium (MMC-4, SPC-3). What only tells of the drive stands in atapi-info.c.
 *
 * The guest sends 12 bytes through the data port; the answer comes back by PIO in blocks no larger than the guest's
 * byte count limit, or by DMA. A command ends with sense data: what went wrong is kept for REQUEST SENSE.
 *
 * The medium: `image` is what lies in the tray, `tray_open` whether the guest can reach it. A person's ejecting closes
 * the image; the guest's leaves it in the open tray, so that it can be drawn in again. After a change, the guest is told
 * first that there is no medium and then that it may have changed, as by a real tray: some systems look for the first,
 * others for the second.
 */
#include "hw/storage/atapi.h"

#include <string.h>

#include "hw/storage/ide-impl.h"
#include "vm-engine/vm.h"

enum {
  CMD_DEVICE_RESET = 0x08,
  CMD_READ_SECTORS = 0x20,
  CMD_IDENTIFY_PACKET = 0xA1,
  CMD_STANDBY_IMMEDIATE = 0xE0,
  CMD_IDLE_IMMEDIATE = 0xE1,
  CMD_CHECK_POWER = 0xE5,
  CMD_SLEEP = 0xE6,
  CMD_IDENTIFY = 0xEC,
  CMD_SET_FEATURES = 0xEF,
  FEATURE_TRANSFER_MODE = 0x03,
  PACKET_DMA = 1 << 0,
};

enum {
  SENSE_NOT_READY = 0x02,
  SENSE_MEDIUM_ERROR = 0x03,
  SENSE_ILLEGAL_REQUEST = 0x05,
  SENSE_UNIT_ATTENTION = 0x06,
};

/* Sense code and qualifier in one. */
enum {
  CODE_READ_ERROR = 0x1100,
  CODE_INVALID_COMMAND = 0x2000,
  CODE_LBA_RANGE = 0x2100,
  CODE_INVALID_FIELD = 0x2400,
  CODE_MEDIUM_CHANGED = 0x2800,
  CODE_INCOMPATIBLE_FORMAT = 0x3002,
  CODE_NOT_SAVED = 0x3900,
  CODE_NO_MEDIUM = 0x3A01,
  CODE_NO_MEDIUM_TRAY_OPEN = 0x3A02,
  CODE_REMOVAL_PREVENTED = 0x5302,
  CODE_ILLEGAL_MODE = 0x6400,
};

enum { EVENT_NONE, EVENT_EJECT_REQUEST, EVENT_NEW_MEDIUM, EVENT_MEDIUM_REMOVAL };

/* Fields of READ CD. */
enum { FIELD_SYNC = 0x80, FIELD_HEADERS = 0x60, FIELD_HEADER = 0x20, FIELD_ECC = 0x08, FIELD_C2 = 0x06 };
enum { SYNC_BYTES = 12, HEADER_BYTES = 4, ECC_BYTES = 288, CD_MODE_1 = 2 };

bool ide_cd_has_medium(const IdeDrive *drive)
{
  return drive->image != NULL && !drive->cd.tray_open;
}

uint32_t ide_cd_sector_bytes(uint8_t fields)
{
  uint32_t n = fields & IDE_CD_USER_DATA ? IDE_CD_SECTOR_BYTES : 0;
  if (fields & FIELD_SYNC)
    n += SYNC_BYTES;
  if (fields & FIELD_HEADER)
    n += HEADER_BYTES;
  if (fields & FIELD_ECC)
    n += ECC_BYTES;
  return n;
}

/* ---- ends -------------------------------------------------------------------------------------------------------- */

static void succeed(IdeDrive *drive)
{
  drive->left = drive->chunk = 0;
  drive->count[0] = IDE_REASON_COMMAND | IDE_REASON_TO_HOST;
  ide_drive_complete(drive);
}

static void check_condition(IdeDrive *drive, uint8_t key, uint16_t code)
{
  drive->cd.sense_key = key;
  drive->cd.sense_code = (uint8_t)(code >> 8);
  drive->cd.sense_qualifier = (uint8_t)code;
  drive->left = drive->chunk = 0;
  drive->count[0] = IDE_REASON_COMMAND | IDE_REASON_TO_HOST;
  ide_drive_fail(drive, (uint8_t)(key << 4 | (key == SENSE_ILLEGAL_REQUEST ? IDE_ERR_ABRT : 0)));
}

static void no_medium(IdeDrive *drive)
{
  check_condition(drive, SENSE_NOT_READY, drive->cd.tray_open ? CODE_NO_MEDIUM_TRAY_OPEN : CODE_NO_MEDIUM);
}

static void invalid_field(IdeDrive *drive)
{
  check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_INVALID_FIELD);
}

/* The largest DRQ block that the guest bears: even, so that only the last one can end within a word. */
static uint32_t burst_limit(const IdeDrive *drive)
{
  uint32_t limit = drive->burst_bytes & ~1u;
  return limit != 0 ? limit : 0xFFFE;
}

/* The buffer's first `size` bytes, as many as the guest has room for. */
static void reply(IdeDrive *drive, uint32_t size, uint32_t allocated)
{
  uint32_t n = MIN(size, allocated);
  drive->left = drive->chunk = 0;
  if (n == 0)
    succeed(drive);
  else
    ide_drive_offer_data(drive, true, n, burst_limit(drive), true);
}

/* ---- reading ------------------------------------------------------------------------------------------------------- */

static void next_chunk(IdeDrive *drive)
{
  uint32_t sector_bytes = MAX(ide_cd_sector_bytes(drive->cd.fields), IDE_CD_SECTOR_BYTES);
  if (!ide_cd_has_medium(drive)) {
    no_medium(drive);
    return;
  }
  drive->chunk = MIN(drive->left, IDE_BUFFER_BYTES / sector_bytes);
  ide_drive_start_io(drive, IDE_IO_READ, drive->lba * IDE_CD_SECTOR_BYTES, drive->chunk * IDE_CD_SECTOR_BYTES);
}

static void start_reading(IdeDrive *drive, uint32_t lba, uint32_t n, uint8_t fields)
{
  if (lba > drive->n_sectors || n > drive->n_sectors - lba) {
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_LBA_RANGE);
    return;
  }
  drive->cd.fields = fields;
  drive->lba = lba;
  drive->left = n;
  if (n == 0 || ide_cd_sector_bytes(fields) == 0)
    succeed(drive);
  else
    next_chunk(drive);
}

/* One sector as READ CD's fields want it. The error correction bytes are left zero: nothing checks what was read well. */
static uint8_t *put_sector(uint8_t *out, uint8_t fields, uint32_t lba, const uint8_t *data)
{
  if (fields & FIELD_SYNC) {
    memset(out, 0xFF, SYNC_BYTES);
    out[0] = out[SYNC_BYTES - 1] = 0;
    out += SYNC_BYTES;
  }
  if (fields & FIELD_HEADER) {
    uint8_t msf[4];
    ide_cd_put_msf(msf, lba);
    for (unsigned i = 0; i < 3; i++) /* in BCD here */
      out[i] = (uint8_t)(msf[i + 1] / 10 << 4 | msf[i + 1] % 10);
    out[3] = 1;
    out += HEADER_BYTES;
  }
  if (fields & IDE_CD_USER_DATA) {
    memcpy(out, data, IDE_CD_SECTOR_BYTES);
    out += IDE_CD_SECTOR_BYTES;
  }
  if (fields & FIELD_ECC) {
    memset(out, 0, ECC_BYTES);
    out += ECC_BYTES;
  }
  return out;
}

static void assemble_sectors(IdeDrive *drive)
{
  g_autofree uint8_t *data = g_memdup2(drive->buffer, (size_t)drive->chunk * IDE_CD_SECTOR_BYTES);
  uint8_t *out = drive->buffer;
  for (uint32_t i = 0; i < drive->chunk; i++)
    out = put_sector(out, drive->cd.fields, (uint32_t)drive->lba + i, data + (size_t)i * IDE_CD_SECTOR_BYTES);
}

void ide_cd_io_done(IdeDrive *drive, int error)
{
  if (error != 0) {
    check_condition(drive, SENSE_MEDIUM_ERROR, CODE_READ_ERROR);
    return;
  }
  if (drive->cd.fields != IDE_CD_USER_DATA)
    assemble_sectors(drive);
  ide_drive_offer_data(drive, true, drive->chunk * ide_cd_sector_bytes(drive->cd.fields), burst_limit(drive), true);
}

void ide_cd_data_done(IdeDrive *drive)
{
  if (drive->command != IDE_CMD_PACKET) { /* IDENTIFY PACKET DEVICE */
    drive->phase = IDE_PHASE_IDLE;
    drive->status = IDE_ST_DRDY | IDE_ST_DSC;
    return;
  }
  drive->lba += drive->chunk;
  drive->left -= drive->chunk;
  drive->chunk = 0;
  if (drive->left > 0)
    next_chunk(drive);
  else
    succeed(drive);
}

/* ---- packet commands ----------------------------------------------------------------------------------------------- */

static void cmd_test_unit_ready(IdeDrive *drive, const uint8_t *packet)
{
  succeed(drive);
}

static void cmd_request_sense(IdeDrive *drive, const uint8_t *packet)
{
  uint8_t *out = drive->buffer;
  memset(out, 0, 18);
  out[0] = 0x70; /* current, fixed format */
  out[2] = drive->cd.sense_key;
  out[7] = 10;
  out[12] = drive->cd.sense_code;
  out[13] = drive->cd.sense_qualifier;
  drive->cd.sense_key = drive->cd.sense_code = drive->cd.sense_qualifier = 0;
  reply(drive, 18, packet[4]);
}

static void cmd_inquiry(IdeDrive *drive, const uint8_t *packet)
{
  uint32_t n = ide_cd_inquiry(drive, drive->buffer);
  if (n == 0)
    invalid_field(drive);
  else
    reply(drive, n, ide_get16(packet + 3));
}

static void cmd_mode_sense(IdeDrive *drive, const uint8_t *packet)
{
  bool ten = packet[0] == 0x5A;
  if (packet[2] >> 6 == 3) {
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_NOT_SAVED);
    return;
  }
  uint32_t n = ide_cd_mode_sense(drive, ten, drive->buffer);
  if (n == 0)
    invalid_field(drive);
  else
    reply(drive, n, ten ? ide_get16(packet + 7) : packet[4]);
}

static void cmd_read_capacity(IdeDrive *drive, const uint8_t *packet)
{
  ide_put32(drive->buffer, (uint32_t)(drive->n_sectors - 1));
  ide_put32(drive->buffer + 4, IDE_CD_SECTOR_BYTES);
  reply(drive, 8, 8);
}

static void cmd_read_10(IdeDrive *drive, const uint8_t *packet)
{
  start_reading(drive, ide_get32(packet + 2), ide_get16(packet + 7), IDE_CD_USER_DATA);
}

static void cmd_read_12(IdeDrive *drive, const uint8_t *packet)
{
  start_reading(drive, ide_get32(packet + 2), ide_get32(packet + 6), IDE_CD_USER_DATA);
}

/* All sectors are mode 1; asking for another kind, for error pointers or subchannels, cannot be served. */
static void read_cd(IdeDrive *drive, const uint8_t *packet, uint32_t lba, uint32_t n)
{
  unsigned kind = packet[1] >> 2 & 7;
  if (kind != 0 && kind != CD_MODE_1)
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_ILLEGAL_MODE);
  else if ((packet[9] & FIELD_C2) || (packet[10] & 7))
    invalid_field(drive);
  else
    start_reading(drive, lba, n, packet[9] & 0xF8);
}

static void cmd_read_cd(IdeDrive *drive, const uint8_t *packet)
{
  read_cd(drive, packet, ide_get32(packet + 2), (uint32_t)packet[6] << 16 | ide_get16(packet + 7));
}

static uint32_t msf_to_lba(const uint8_t *msf)
{
  uint32_t frames = (msf[0] * 60u + msf[1]) * 75u + msf[2];
  return frames >= 150 ? frames - 150 : UINT32_MAX; /* in front of the disc */
}

static void cmd_read_cd_msf(IdeDrive *drive, const uint8_t *packet)
{
  uint32_t first = msf_to_lba(packet + 3), end = msf_to_lba(packet + 6);
  if (first == UINT32_MAX)
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_LBA_RANGE);
  else if (end < first)
    invalid_field(drive);
  else
    read_cd(drive, packet, first, end - first);
}

static void cmd_seek(IdeDrive *drive, const uint8_t *packet)
{
  if (ide_get32(packet + 2) >= drive->n_sectors)
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_LBA_RANGE);
  else
    succeed(drive);
}

static void reply_or_invalid(IdeDrive *drive, uint32_t size, uint32_t allocated)
{
  if (size == 0)
    invalid_field(drive);
  else
    reply(drive, size, allocated);
}

static void cmd_read_toc(IdeDrive *drive, const uint8_t *packet)
{
  reply_or_invalid(drive, ide_cd_toc(drive, drive->buffer), ide_get16(packet + 7));
}

static void cmd_get_configuration(IdeDrive *drive, const uint8_t *packet)
{
  reply_or_invalid(drive, ide_cd_configuration(drive, drive->buffer), ide_get16(packet + 7));
}

static void cmd_get_event_status(IdeDrive *drive, const uint8_t *packet)
{
  if (!(packet[1] & 1)) /* we do not call the host by ourselves */
    invalid_field(drive);
  else
    reply(drive, ide_cd_event_status(drive, drive->buffer), ide_get16(packet + 7));
}

static void cmd_mechanism_status(IdeDrive *drive, const uint8_t *packet)
{
  reply(drive, ide_cd_mechanism_status(drive, drive->buffer), ide_get16(packet + 8));
}

static void cmd_read_disc_information(IdeDrive *drive, const uint8_t *packet)
{
  reply_or_invalid(drive, ide_cd_disc_information(drive, drive->buffer), ide_get16(packet + 7));
}

static void cmd_read_subchannel(IdeDrive *drive, const uint8_t *packet)
{
  reply_or_invalid(drive, ide_cd_subchannel(drive, drive->buffer), ide_get16(packet + 7));
}

static void cmd_read_dvd_structure(IdeDrive *drive, const uint8_t *packet)
{
  if (!ide_cd_is_dvd(drive))
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_INCOMPATIBLE_FORMAT);
  else
    reply_or_invalid(drive, ide_cd_dvd_structure(drive, drive->buffer), ide_get16(packet + 8));
}

static void close_tray(IdeDrive *drive)
{
  if (!drive->cd.tray_open)
    return;
  drive->cd.tray_open = false;
  if (drive->image != NULL) {
    drive->cd.change = 1;
    drive->cd.event = EVENT_NEW_MEDIUM;
  }
}

static void cmd_start_stop(IdeDrive *drive, const uint8_t *packet)
{
  bool load_or_eject = packet[4] & 2, start = packet[4] & 1;
  if (load_or_eject && !start && drive->cd.locked) {
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_REMOVAL_PREVENTED);
    return;
  }
  if (load_or_eject && start) {
    close_tray(drive);
  } else if (load_or_eject && !drive->cd.tray_open) {
    drive->cd.tray_open = true;
    drive->cd.event = EVENT_MEDIUM_REMOVAL;
  }
  succeed(drive);
}

static void cmd_prevent_allow(IdeDrive *drive, const uint8_t *packet)
{
  drive->cd.locked = packet[4] & 1;
  succeed(drive);
}

static void cmd_set_speed(IdeDrive *drive, const uint8_t *packet)
{
  succeed(drive);
}

enum {
  NEEDS_MEDIUM = 1 << 0,
  IGNORES_CHANGE = 1 << 1, /* carried out while a change of the medium waits to be told */
};

typedef struct PacketCommand {
  uint8_t code;
  uint8_t flags;
  void (*run)(IdeDrive *drive, const uint8_t *packet);
} PacketCommand;

static const PacketCommand packet_commands[] = {
  { 0x00, NEEDS_MEDIUM, cmd_test_unit_ready },
  { 0x03, IGNORES_CHANGE, cmd_request_sense },
  { 0x12, IGNORES_CHANGE, cmd_inquiry },
  { 0x1A, 0, cmd_mode_sense },
  { 0x1B, IGNORES_CHANGE, cmd_start_stop },
  { 0x1E, IGNORES_CHANGE, cmd_prevent_allow },
  { 0x25, NEEDS_MEDIUM, cmd_read_capacity },
  { 0x28, NEEDS_MEDIUM, cmd_read_10 },
  { 0x2B, NEEDS_MEDIUM, cmd_seek },
  { 0x42, NEEDS_MEDIUM, cmd_read_subchannel },
  { 0x43, NEEDS_MEDIUM, cmd_read_toc },
  { 0x46, IGNORES_CHANGE, cmd_get_configuration },
  { 0x4A, IGNORES_CHANGE, cmd_get_event_status },
  { 0x51, NEEDS_MEDIUM, cmd_read_disc_information },
  { 0x5A, 0, cmd_mode_sense },
  { 0xA8, NEEDS_MEDIUM, cmd_read_12 },
  { 0xAD, NEEDS_MEDIUM, cmd_read_dvd_structure },
  { 0xB9, NEEDS_MEDIUM, cmd_read_cd_msf },
  { 0xBB, 0, cmd_set_speed },
  { 0xBD, 0, cmd_mechanism_status },
  { 0xBE, NEEDS_MEDIUM, cmd_read_cd },
};

static const PacketCommand *find_packet_command(uint8_t code)
{
  for (size_t i = 0; i < G_N_ELEMENTS(packet_commands); i++)
    if (packet_commands[i].code == code)
      return &packet_commands[i];
  return NULL;
}

static void tell_change(IdeDrive *drive)
{
  if (--drive->cd.change == 1)
    check_condition(drive, SENSE_NOT_READY, CODE_NO_MEDIUM);
  else
    check_condition(drive, SENSE_UNIT_ATTENTION, CODE_MEDIUM_CHANGED);
}

void ide_cd_packet_done(IdeDrive *drive)
{
  uint8_t *packet = drive->cd.packet;
  memcpy(packet, drive->buffer, IDE_PACKET_BYTES); /* replies are made in the buffer */
  drive->phase = IDE_PHASE_BUSY;
  drive->status = IDE_ST_BSY;
  drive->left = drive->chunk = 0;
  const PacketCommand *command = find_packet_command(packet[0]);
  if (command == NULL) {
    check_condition(drive, SENSE_ILLEGAL_REQUEST, CODE_INVALID_COMMAND);
    return;
  }
  if (command->run != cmd_request_sense)
    drive->cd.sense_key = drive->cd.sense_code = drive->cd.sense_qualifier = 0;
  if (drive->cd.change > 0 && !drive->cd.tray_open && !(command->flags & IGNORES_CHANGE))
    tell_change(drive);
  else if (command->flags & NEEDS_MEDIUM && !ide_cd_has_medium(drive))
    no_medium(drive);
  else
    command->run(drive, packet);
}

/* ---- ATA commands of a packet drive -------------------------------------------------------------------------------- */

static void start_packet(IdeDrive *drive)
{
  uint32_t limit = drive->lba_high[0] << 8 | drive->lba_mid[0];
  drive->dma = drive->feature[0] & PACKET_DMA;
  drive->burst_bytes = CLAMP(limit, 2, 0xFFFE);
  if (limit == 0) /* no limit was thought of */
    drive->burst_bytes = 0xFFFE;
  drive->pos = 0;
  drive->end = drive->burst_end = IDE_PACKET_BYTES;
  drive->phase = IDE_PHASE_PACKET;
  drive->count[0] = IDE_REASON_COMMAND;
  drive->status = IDE_ST_DRDY | IDE_ST_DSC | IDE_ST_DRQ; /* without an interrupt: see IDENTIFY's word 0 */
}

static void device_reset(IdeDrive *drive)
{
  ide_drive_abandon_io(drive);
  drive->phase = IDE_PHASE_IDLE;
  drive->left = drive->chunk = 0;
  drive->error = 1;
  drive->status = 0;
  ide_drive_set_signature(drive);
}

void ide_cd_command(IdeDrive *drive, uint8_t command)
{
  switch (command) {
  case IDE_CMD_PACKET:
    start_packet(drive);
    break;
  case CMD_DEVICE_RESET:
    device_reset(drive);
    break;
  case CMD_IDENTIFY_PACKET:
    ide_cd_identify(drive, drive->buffer);
    drive->left = drive->chunk = 0;
    ide_drive_offer_data(drive, true, IDE_SECTOR_BYTES, IDE_SECTOR_BYTES, true);
    break;
  case CMD_IDENTIFY:
  case CMD_READ_SECTORS: /* whoever looks for a disk here finds out what this is */
    ide_drive_set_signature(drive);
    ide_drive_fail(drive, IDE_ERR_ABRT);
    break;
  case CMD_SET_FEATURES:
    if (drive->feature[0] == FEATURE_TRANSFER_MODE)
      ide_drive_set_transfer_mode(drive);
    else
      ide_drive_fail(drive, IDE_ERR_ABRT);
    break;
  case CMD_CHECK_POWER:
    drive->count[0] = drive->power_mode;
    ide_drive_complete(drive);
    break;
  case CMD_STANDBY_IMMEDIATE:
  case CMD_IDLE_IMMEDIATE:
  case CMD_SLEEP:
    ide_drive_complete(drive);
    break;
  default:
    ide_drive_fail(drive, IDE_ERR_ABRT);
    break;
  }
}

/* After power-on. The medium stays where it is; what was to be told of it is not told to the new system. */
void ide_cd_reset(IdeDrive *drive)
{
  bool tray_open = drive->cd.tray_open;
  drive->cd = (IdeCd){ .tray_open = tray_open };
}

/* ---- changing the medium --------------------------------------------------------------------------------------- */

/* A command that reads what is being taken away ends with an error; its request is waited for, at most one chunk. */
static void take_out(IdeDrive *drive)
{
  bool reading = drive->io != IDE_IO_NONE;
  ide_drive_abandon_io(drive);
  blk_close(g_steal_pointer(&drive->image));
  drive->n_sectors = 0;
  if (reading)
    no_medium(drive);
}

bool atapi_insert(IdeDrive *drive, BlkImage *image, bool force, GError **error)
{
  uint64_t n_sectors = blk_get_size(image) / IDE_CD_SECTOR_BYTES;
  g_assert(drive->kind == IDE_DRIVE_CDROM);
  if (n_sectors == 0 || n_sectors > UINT32_MAX) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID, "%s: an image of this size is no CD or DVD; give an ISO image",
                blk_get_path(image));
    return false;
  }
  if (drive->image != NULL && !drive->cd.tray_open && !atapi_eject(drive, force, error))
    return false;
  take_out(drive);
  drive->image = image;
  drive->n_sectors = n_sectors;
  drive->cd.tray_open = false;
  drive->cd.change = 2;
  drive->cd.event = EVENT_NEW_MEDIUM;
  return true;
}

bool atapi_eject(IdeDrive *drive, bool force, GError **error)
{
  g_assert(drive->kind == IDE_DRIVE_CDROM);
  if (drive->cd.locked && !force) {
    drive->cd.event = EVENT_EJECT_REQUEST;
    g_set_error(error, VM_ERROR, VM_ERROR_BAD_STATE,
                "the guest uses the CD and has locked the tray of drive %u; eject it in the guest, or force it",
                drive->number);
    return false;
  }
  take_out(drive);
  drive->cd.locked = false;
  drive->cd.tray_open = true;
  drive->cd.change = 0;
  drive->cd.event = EVENT_MEDIUM_REMOVAL;
  return true;
}

bool atapi_is_locked(const IdeDrive *drive)
{
  return drive->cd.locked;
}

bool atapi_is_tray_open(const IdeDrive *drive)
{
  return drive->cd.tray_open;
}
