/*
 * The commands of an ATA disk (ATA/ATAPI-6, chapter 8: the general and PACKET-less feature set, 48-bit addresses, power
 * management, a little SMART).
 *
 * Addresses come as cylinder/head/sector in the current translation, as 28 or as 48 bits; inside there is only the LBA.
 * While a command goes on, lba and left are those of the part that is not done yet, and they are put back into the
 * registers at its end, so that after an error the registers name the sector where it happened.
 */
#include <errno.h>
#include <string.h>

#include "hw/storage/ide-impl.h"

enum {
  CMD_NOP = 0x00,
  CMD_RECALIBRATE = 0x10, /* and up to 1F */
  CMD_READ = 0x20,
  CMD_READ_ONCE = 0x21,
  CMD_READ_EXT = 0x24,
  CMD_READ_DMA_EXT = 0x25,
  CMD_READ_NATIVE_MAX_EXT = 0x27,
  CMD_READ_MULTIPLE_EXT = 0x29,
  CMD_WRITE = 0x30,
  CMD_WRITE_ONCE = 0x31,
  CMD_WRITE_EXT = 0x34,
  CMD_WRITE_DMA_EXT = 0x35,
  CMD_WRITE_MULTIPLE_EXT = 0x39,
  CMD_WRITE_VERIFY = 0x3C,
  CMD_VERIFY = 0x40,
  CMD_VERIFY_ONCE = 0x41,
  CMD_VERIFY_EXT = 0x42,
  CMD_SEEK = 0x70, /* and up to 7F */
  CMD_INITIALIZE_PARAMETERS = 0x91,
  CMD_SMART = 0xB0,
  CMD_READ_MULTIPLE = 0xC4,
  CMD_WRITE_MULTIPLE = 0xC5,
  CMD_SET_MULTIPLE = 0xC6,
  CMD_READ_DMA = 0xC8,
  CMD_READ_DMA_ONCE = 0xC9,
  CMD_WRITE_DMA = 0xCA,
  CMD_WRITE_DMA_ONCE = 0xCB,
  CMD_STANDBY_IMMEDIATE = 0xE0,
  CMD_IDLE_IMMEDIATE = 0xE1,
  CMD_STANDBY = 0xE2,
  CMD_IDLE = 0xE3,
  CMD_CHECK_POWER = 0xE5,
  CMD_SLEEP = 0xE6,
  CMD_FLUSH = 0xE7,
  CMD_FLUSH_EXT = 0xEA,
  CMD_IDENTIFY = 0xEC,
  CMD_SET_FEATURES = 0xEF,
  CMD_READ_NATIVE_MAX = 0xF8,

  POWER_STANDBY = 0x00,
  POWER_IDLE = 0x80,
  POWER_ACTIVE = 0xFF,

  FEATURE_WRITE_CACHE_ON = 0x02,
  FEATURE_TRANSFER_MODE = 0x03,
  FEATURE_LOOK_AHEAD_OFF = 0x55,
  FEATURE_KEEP_SETTINGS = 0x66, /* over a software reset, which changes none anyway */
  FEATURE_WRITE_CACHE_OFF = 0x82,
  FEATURE_LOOK_AHEAD_ON = 0xAA,
  FEATURE_REVERT_SETTINGS = 0xCC,

  SMART_READ_DATA = 0xD0,
  SMART_READ_THRESHOLDS = 0xD1,
  SMART_AUTOSAVE = 0xD2,
  SMART_OFFLINE = 0xD4,
  SMART_ENABLE = 0xD8,
  SMART_DISABLE = 0xD9,
  SMART_STATUS = 0xDA,
  SMART_MID = 0x4F,
  SMART_HIGH = 0xC2,
};

#define MAX_LBA28     ((UINT64_C(1) << 28) - 1)
#define CHUNK_SECTORS (IDE_BUFFER_BYTES / IDE_SECTOR_BYTES)

/* ---- addresses --------------------------------------------------------------------------------------------------- */

static bool get_chs_lba(const IdeDrive *drive, uint64_t *lba)
{
  uint32_t cylinder = drive->lba_high[0] << 8 | drive->lba_mid[0];
  uint32_t head = drive->device & 0xF, sector = drive->lba_low[0];
  if (sector == 0 || sector > drive->current_sectors || head >= drive->current_heads ||
      cylinder >= drive->current_cylinders)
    return false;
  *lba = ((uint64_t)cylinder * drive->current_heads + head) * drive->current_sectors + sector - 1;
  return true;
}

/* The address in the registers; false for one that is not on the disk. */
static bool get_lba(const IdeDrive *drive, bool ext, uint64_t *lba)
{
  uint64_t low = drive->lba_low[0] | (uint32_t)drive->lba_mid[0] << 8 | (uint32_t)drive->lba_high[0] << 16;
  uint64_t high = drive->lba_low[1] | (uint32_t)drive->lba_mid[1] << 8 | (uint32_t)drive->lba_high[1] << 16;
  if (ext)
    *lba = high << 24 | low;
  else if (drive->device & IDE_DEV_LBA)
    *lba = (uint64_t)(drive->device & 0xF) << 24 | low;
  else if (!get_chs_lba(drive, lba))
    return false;
  return *lba < drive->n_sectors;
}

static void set_lba(IdeDrive *drive, bool ext, uint64_t lba)
{
  if (!ext && !(drive->device & IDE_DEV_LBA)) {
    uint64_t track = lba / drive->current_sectors;
    drive->lba_low[0] = (uint8_t)(lba % drive->current_sectors + 1);
    drive->device = (uint8_t)((drive->device & 0xF0) | track % drive->current_heads);
    drive->lba_mid[0] = (uint8_t)(track / drive->current_heads);
    drive->lba_high[0] = (uint8_t)(track / drive->current_heads >> 8);
    return;
  }
  drive->lba_low[0] = (uint8_t)lba;
  drive->lba_mid[0] = (uint8_t)(lba >> 8);
  drive->lba_high[0] = (uint8_t)(lba >> 16);
  if (ext) {
    drive->lba_low[1] = (uint8_t)(lba >> 24);
    drive->lba_mid[1] = (uint8_t)(lba >> 32);
    drive->lba_high[1] = (uint8_t)(lba >> 40);
  } else {
    drive->device = (uint8_t)((drive->device & 0xF0) | (lba >> 24 & 0xF));
  }
}

/* What is left goes into the count; the address is that of the last sector done, or of the bad one. */
static void put_back(IdeDrive *drive, uint64_t lba)
{
  set_lba(drive, drive->ext, lba);
  drive->count[0] = (uint8_t)drive->left;
  if (drive->ext)
    drive->count[1] = (uint8_t)(drive->left >> 8);
}

/* ---- reading, writing, verifying --------------------------------------------------------------------------------- */

static void complete_transfer(IdeDrive *drive)
{
  put_back(drive, drive->lba > 0 ? drive->lba - 1 : 0);
  ide_drive_complete(drive);
}

/* Sectors of the next chunk are on the disk, or go there. */
static void start_chunk_io(IdeDrive *drive, IdeIo io)
{
  ide_drive_start_io(drive, io, drive->lba * IDE_SECTOR_BYTES, drive->chunk * IDE_SECTOR_BYTES);
}

/* The first block of a PIO write is asked for without an interrupt, the following ones with. */
static void next_chunk(IdeDrive *drive, bool first)
{
  bool verify = drive->command == CMD_VERIFY || drive->command == CMD_VERIFY_ONCE || drive->command == CMD_VERIFY_EXT;
  drive->chunk = MIN(drive->left, CHUNK_SECTORS);
  if (drive->writing)
    ide_drive_offer_data(drive, false, drive->chunk * IDE_SECTOR_BYTES, drive->burst_bytes, !first);
  else
    start_chunk_io(drive, verify ? IDE_IO_VERIFY : IDE_IO_READ);
}

static void start_transfer(IdeDrive *drive, bool writing, bool dma, bool ext, uint32_t sectors_at_once)
{
  uint32_t n = ext ? (uint32_t)drive->count[1] << 8 | drive->count[0] : drive->count[0];
  if (n == 0)
    n = ext ? 65536 : 256;
  if (sectors_at_once == 0) { /* MULTIPLE without SET MULTIPLE */
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  if (!get_lba(drive, ext, &drive->lba) || n > drive->n_sectors - drive->lba) {
    drive->left = 0;
    ide_drive_fail(drive, IDE_ERR_IDNF);
    return;
  }
  if (writing && blk_is_read_only(drive->image)) {
    drive->left = 0;
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  drive->power_mode = POWER_ACTIVE;
  drive->writing = writing;
  drive->dma = dma;
  drive->ext = ext;
  drive->left = n;
  drive->pos = drive->end = drive->burst_end = 0;
  drive->burst_bytes = sectors_at_once * IDE_SECTOR_BYTES;
  next_chunk(drive, true);
}

static void chunk_moved(IdeDrive *drive)
{
  drive->lba += drive->chunk;
  drive->left -= drive->chunk;
  drive->chunk = 0;
}

/* A read that met a bad sector has no sense in being repeated; a write that did is a fault of the device. */
static void fail_io(IdeDrive *drive, IdeIo io, int error)
{
  bool reading = io == IDE_IO_READ || io == IDE_IO_VERIFY;
  if (io != IDE_IO_FLUSH)
    put_back(drive, drive->lba);
  drive->left = drive->chunk = 0;
  ide_drive_fail(drive, reading ? IDE_ERR_UNC : IDE_ERR_ABRT);
  if (!reading && error != EROFS)
    drive->status |= IDE_ST_DF;
}

void ide_disk_io_done(IdeDrive *drive, IdeIo io, int error)
{
  if (error != 0) {
    fail_io(drive, io, error);
    return;
  }
  if (io == IDE_IO_READ) {
    ide_drive_offer_data(drive, true, drive->chunk * IDE_SECTOR_BYTES, drive->burst_bytes, true);
    return;
  }
  if (io == IDE_IO_FLUSH) {
    ide_drive_complete(drive);
    return;
  }
  chunk_moved(drive);
  if (drive->left > 0)
    next_chunk(drive, false);
  else
    complete_transfer(drive);
}

/* The end of a PIO read is not announced: the guest knows that it has read all. */
static void end_silently(IdeDrive *drive)
{
  drive->phase = IDE_PHASE_IDLE;
  drive->status = IDE_ST_DRDY | IDE_ST_DSC;
}

void ide_disk_data_done(IdeDrive *drive)
{
  if (drive->writing) {
    start_chunk_io(drive, IDE_IO_WRITE);
    return;
  }
  if (drive->chunk == 0) { /* IDENTIFY and such */
    end_silently(drive);
    return;
  }
  chunk_moved(drive);
  if (drive->left > 0) {
    next_chunk(drive, false);
  } else if (drive->dma) {
    complete_transfer(drive);
  } else {
    put_back(drive, drive->lba - 1);
    end_silently(drive);
  }
}

/* ---- other commands ------------------------------------------------------------------------------------------------ */

static void reply_page(IdeDrive *drive)
{
  drive->writing = false;
  drive->left = drive->chunk = 0;
  ide_drive_offer_data(drive, true, IDE_SECTOR_BYTES, IDE_SECTOR_BYTES, true);
}

static void set_multiple(IdeDrive *drive)
{
  uint8_t n = drive->count[0];
  if (n > IDE_MAX_MULTIPLE || (n & (n - 1)) != 0) {
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  drive->multiple = n;
  ide_drive_complete(drive);
}

static void initialize_parameters(IdeDrive *drive)
{
  uint32_t sectors = drive->count[0], heads = (drive->device & 0xF) + 1u;
  if (sectors == 0) {
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  drive->current_sectors = sectors;
  drive->current_heads = heads;
  drive->current_cylinders = (uint32_t)CLAMP(drive->n_sectors / (heads * sectors), 1, 65535);
  ide_drive_complete(drive);
}

static void set_features(IdeDrive *drive)
{
  switch (drive->feature[0]) {
  case FEATURE_WRITE_CACHE_ON:
    drive->write_cache = true;
    break;
  case FEATURE_WRITE_CACHE_OFF: /* what is in the cache goes to the disk */
    drive->write_cache = false;
    ide_drive_start_io(drive, IDE_IO_FLUSH, 0, 0);
    return;
  case FEATURE_LOOK_AHEAD_ON:
  case FEATURE_LOOK_AHEAD_OFF:
    drive->look_ahead = drive->feature[0] == FEATURE_LOOK_AHEAD_ON;
    break;
  case FEATURE_TRANSFER_MODE:
    ide_drive_set_transfer_mode(drive);
    return;
  case FEATURE_KEEP_SETTINGS:
  case FEATURE_REVERT_SETTINGS:
    break;
  default:
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  ide_drive_complete(drive);
}

static void read_native_max(IdeDrive *drive, bool ext)
{
  uint64_t last = drive->n_sectors - 1;
  if (!ext)
    drive->device |= IDE_DEV_LBA;
  set_lba(drive, ext, ext ? last : MIN(last, MAX_LBA28 - 1));
  ide_drive_complete(drive);
}

static void set_power(IdeDrive *drive, uint8_t mode)
{
  drive->power_mode = mode;
  /* A disk that goes to rest writes its cache back first. */
  if (mode == POWER_STANDBY)
    ide_drive_start_io(drive, IDE_IO_FLUSH, 0, 0);
  else
    ide_drive_complete(drive);
}

static void smart(IdeDrive *drive)
{
  uint8_t feature = drive->feature[0];
  if (drive->lba_mid[0] != SMART_MID || drive->lba_high[0] != SMART_HIGH ||
      (!drive->smart && feature != SMART_ENABLE)) {
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  switch (feature) {
  case SMART_READ_DATA:
  case SMART_READ_THRESHOLDS:
    ide_disk_smart_page(feature, drive->buffer);
    reply_page(drive);
    return;
  case SMART_ENABLE:
  case SMART_DISABLE:
    drive->smart = feature == SMART_ENABLE;
    break;
  case SMART_STATUS: /* the signature as it is: no threshold exceeded */
  case SMART_AUTOSAVE:
  case SMART_OFFLINE:
    break;
  default:
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  ide_drive_complete(drive);
}

static void seek(IdeDrive *drive)
{
  uint64_t lba;
  if (get_lba(drive, false, &lba))
    ide_drive_complete(drive);
  else
    ide_drive_fail(drive, IDE_ERR_IDNF);
}

/* Commands that move sectors. False: it is none. */
static bool transfer_command(IdeDrive *drive, uint8_t command)
{
  switch (command) {
  case CMD_READ:
  case CMD_READ_ONCE:
  case CMD_READ_EXT:
  case CMD_VERIFY:
  case CMD_VERIFY_ONCE:
  case CMD_VERIFY_EXT:
    start_transfer(drive, false, false, command == CMD_READ_EXT || command == CMD_VERIFY_EXT, 1);
    return true;
  case CMD_READ_MULTIPLE:
  case CMD_READ_MULTIPLE_EXT:
    start_transfer(drive, false, false, command == CMD_READ_MULTIPLE_EXT, drive->multiple);
    return true;
  case CMD_READ_DMA:
  case CMD_READ_DMA_ONCE:
  case CMD_READ_DMA_EXT:
    start_transfer(drive, false, true, command == CMD_READ_DMA_EXT, 1);
    return true;
  case CMD_WRITE:
  case CMD_WRITE_ONCE:
  case CMD_WRITE_VERIFY:
  case CMD_WRITE_EXT:
    start_transfer(drive, true, false, command == CMD_WRITE_EXT, 1);
    return true;
  case CMD_WRITE_MULTIPLE:
  case CMD_WRITE_MULTIPLE_EXT:
    start_transfer(drive, true, false, command == CMD_WRITE_MULTIPLE_EXT, drive->multiple);
    return true;
  case CMD_WRITE_DMA:
  case CMD_WRITE_DMA_ONCE:
  case CMD_WRITE_DMA_EXT:
    start_transfer(drive, true, true, command == CMD_WRITE_DMA_EXT, 1);
    return true;
  default:
    return false;
  }
}

static bool power_command(IdeDrive *drive, uint8_t command)
{
  if (command >= 0x94 && command <= 0x99) /* the same commands at their older numbers */
    command = command == 0x98   ? CMD_CHECK_POWER
              : command == 0x99 ? CMD_SLEEP
                                : (uint8_t)(command - 0x94 + CMD_STANDBY_IMMEDIATE);
  switch (command) {
  case CMD_STANDBY_IMMEDIATE:
  case CMD_STANDBY:
  case CMD_SLEEP:
    set_power(drive, POWER_STANDBY);
    return true;
  case CMD_IDLE_IMMEDIATE:
  case CMD_IDLE:
    set_power(drive, POWER_IDLE);
    return true;
  case CMD_CHECK_POWER:
    drive->count[0] = drive->power_mode;
    ide_drive_complete(drive);
    return true;
  default:
    return false;
  }
}

void ide_disk_command(IdeDrive *drive, uint8_t command)
{
  drive->writing = false;
  drive->ext = false;
  if (transfer_command(drive, command) || power_command(drive, command))
    return;
  switch (command) {
  case CMD_FLUSH:
  case CMD_FLUSH_EXT:
    ide_drive_start_io(drive, IDE_IO_FLUSH, 0, 0);
    break;
  case CMD_IDENTIFY:
    ide_disk_identify(drive, drive->buffer);
    reply_page(drive);
    break;
  case CMD_SET_FEATURES:
    set_features(drive);
    break;
  case CMD_SET_MULTIPLE:
    set_multiple(drive);
    break;
  case CMD_INITIALIZE_PARAMETERS:
    initialize_parameters(drive);
    break;
  case CMD_READ_NATIVE_MAX:
  case CMD_READ_NATIVE_MAX_EXT:
    read_native_max(drive, command == CMD_READ_NATIVE_MAX_EXT);
    break;
  case CMD_SMART:
    smart(drive);
    break;
  default:
    if ((command & 0xF0) == CMD_RECALIBRATE)
      ide_drive_complete(drive);
    else if ((command & 0xF0) == CMD_SEEK)
      seek(drive);
    else /* NOP too answers so; the rest is not there */
      ide_drive_fail(drive, IDE_ERR_ABRT);
    break;
  }
}
