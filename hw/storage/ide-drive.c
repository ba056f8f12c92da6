/*
 * The steps that are the same for disks and CD-ROM drives: the buffer, the data port, block requests, ends of commands.
 * See ide-impl.h for how they follow each other.
 */
#include <string.h>

#include "hw/storage/ide-impl.h"
#include "vm-engine/vm.h"

#define MAX_LBA48 (UINT64_C(1) << 48)

enum { COMMAND_DEVICE_RESET = 0x08, POWER_ACTIVE = 0xFF };

static const VmField cd_fields[] = {
  VM_BYTES(IdeCd, packet),       VM_UINT(IdeCd, sense_key),
  VM_UINT(IdeCd, sense_code),    VM_UINT(IdeCd, sense_qualifier),
  VM_UINT_MAX(IdeCd, change, 2), VM_UINT(IdeCd, event),
  VM_UINT_MAX(IdeCd, locked, 1), VM_UINT_MAX(IdeCd, tray_open, 1),
  VM_UINT(IdeCd, fields),        VM_FIELDS_END,
};

const VmField ide_drive_fields[] = {
  VM_TRANSIENT(IdeDrive, channel, "wiring"),
  VM_TRANSIENT(IdeDrive, kind, "wiring"),
  VM_TRANSIENT(IdeDrive, image, "the machine's settings name it"),
  VM_TRANSIENT(IdeDrive, request, "made anew: see `io`"),
  VM_TRANSIENT(IdeDrive, n_sectors, "the image's"),
  VM_TRANSIENT(IdeDrive, cylinders, "follows from the size"),
  VM_TRANSIENT(IdeDrive, heads, "follows from the size"),
  VM_TRANSIENT(IdeDrive, sectors, "follows from the size"),
  VM_TRANSIENT(IdeDrive, number, "wiring"),
  VM_UINT(IdeDrive, error),
  VM_UINT(IdeDrive, status),
  VM_BYTES(IdeDrive, feature),
  VM_BYTES(IdeDrive, count),
  VM_BYTES(IdeDrive, lba_low),
  VM_BYTES(IdeDrive, lba_mid),
  VM_BYTES(IdeDrive, lba_high),
  VM_UINT(IdeDrive, device),
  VM_UINT_MAX(IdeDrive, intrq, 1),
  VM_UINT_MAX(IdeDrive, multiple, IDE_MAX_MULTIPLE),
  VM_UINT(IdeDrive, transfer_mode),
  VM_UINT(IdeDrive, power_mode),
  VM_UINT_MAX(IdeDrive, write_cache, 1),
  VM_UINT_MAX(IdeDrive, look_ahead, 1),
  VM_UINT_MAX(IdeDrive, smart, 1),
  VM_UINT_MAX(IdeDrive, current_cylinders, 65535),
  VM_UINT_MAX(IdeDrive, current_heads, 16),
  VM_UINT_MAX(IdeDrive, current_sectors, 255),
  VM_UINT_MAX(IdeDrive, phase, IDE_PHASE_LAST),
  VM_UINT_MAX(IdeDrive, io, IDE_IO_LAST),
  VM_UINT(IdeDrive, command),
  VM_UINT_MAX(IdeDrive, dma, 1),
  VM_UINT_MAX(IdeDrive, ext, 1),
  VM_UINT_MAX(IdeDrive, writing, 1),
  VM_UINT_MAX(IdeDrive, lba, MAX_LBA48),
  VM_UINT(IdeDrive, left),
  VM_UINT_MAX(IdeDrive, chunk, IDE_BUFFER_BYTES / IDE_SECTOR_BYTES),
  VM_UINT(IdeDrive, io_offset),
  VM_UINT_MAX(IdeDrive, io_bytes, IDE_BUFFER_BYTES),
  VM_UINT_MAX(IdeDrive, pos, IDE_BUFFER_BYTES),
  VM_UINT_MAX(IdeDrive, end, IDE_BUFFER_BYTES),
  VM_UINT_MAX(IdeDrive, burst_end, IDE_BUFFER_BYTES),
  VM_UINT_MAX(IdeDrive, burst_bytes, IDE_BUFFER_BYTES),
  VM_STRUCT(IdeDrive, cd, cd_fields),
  VM_BUFFER(IdeDrive, buffer, buffer_bytes),
  VM_TRANSIENT(IdeDrive, buffer_bytes, "always the same"),
  VM_FIELDS_END,
};

static bool is_disk(const IdeDrive *drive)
{
  return drive->kind == IDE_DRIVE_DISK;
}

static void raise_irq(IdeDrive *drive)
{
  drive->intrq = true;
  ide_channel_update_irq(drive->channel);
}

/* ---- block requests ---------------------------------------------------------------------------------------------- */

static void issue(IdeDrive *drive);

static void on_io_done(void *opaque, int error)
{
  IdeRequest *request = opaque;
  IdeDrive *drive = request->drive;
  request->busy = false;
  if (request->stale) {
    request->stale = false;
    if (drive->io != IDE_IO_NONE)
      issue(drive);
    return;
  }
  IdeIo io = (IdeIo)drive->io;
  drive->io = IDE_IO_NONE;
  if (io == IDE_IO_READ && error == 0)
    memcpy(drive->buffer, request->bytes, drive->io_bytes);
  if (error != 0)
    vm_device_log(drive->channel->dev, "drive %u: %s: %s", drive->number, blk_get_path(drive->image),
                  g_strerror(error));
  if (is_disk(drive))
    ide_disk_io_done(drive, io, error);
  else
    ide_cd_io_done(drive, error);
}

static void issue(IdeDrive *drive)
{
  if (drive->request == NULL) {
    drive->request = g_new0(IdeRequest, 1);
    drive->request->drive = drive;
  }
  IdeRequest *request = drive->request;
  struct iovec iov = { request->bytes, drive->io_bytes };
  if (request->busy)
    return; /* a stale one is still under way: its end issues this one */
  request->busy = true;
  switch ((IdeIo)drive->io) {
  case IDE_IO_READ:
  case IDE_IO_VERIFY:
    blk_read(drive->image, drive->io_offset, &iov, 1, on_io_done, request);
    break;
  case IDE_IO_WRITE:
    memcpy(request->bytes, drive->buffer, drive->io_bytes);
    blk_write(drive->image, drive->io_offset, &iov, 1, on_io_done, request);
    break;
  default:
    blk_flush(drive->image, on_io_done, request);
    break;
  }
}

void ide_drive_start_io(IdeDrive *drive, IdeIo io, uint64_t offset_bytes, uint32_t size_bytes)
{
  g_assert(drive->io == IDE_IO_NONE && size_bytes <= IDE_BUFFER_BYTES && drive->image != NULL);
  drive->phase = IDE_PHASE_BUSY;
  drive->status = IDE_ST_BSY | IDE_ST_DRDY | IDE_ST_DSC;
  drive->io = (uint8_t)io;
  drive->io_offset = offset_bytes;
  drive->io_bytes = size_bytes;
  issue(drive);
}

void ide_drive_abandon_io(IdeDrive *drive)
{
  drive->io = IDE_IO_NONE;
  if (drive->request != NULL && drive->request->busy)
    drive->request->stale = true;
}

/* ---- data to and from the guest ------------------------------------------------------------------------------------ */

static void offer_burst(IdeDrive *drive, bool interrupt)
{
  uint32_t n = MIN(drive->burst_bytes, drive->end - drive->pos);
  drive->burst_end = drive->pos + n;
  drive->status = IDE_ST_DRDY | IDE_ST_DSC | IDE_ST_DRQ;
  if (drive->command == IDE_CMD_PACKET &&
      drive->kind == IDE_DRIVE_CDROM) { /* a packet command's transfers say their length and direction */
    drive->lba_mid[0] = (uint8_t)n;
    drive->lba_high[0] = (uint8_t)(n >> 8);
    drive->count[0] = drive->phase == IDE_PHASE_DATA_IN ? IDE_REASON_TO_HOST : 0;
  }
  if (interrupt)
    raise_irq(drive);
}

void ide_drive_offer_data(IdeDrive *drive, bool to_guest, uint32_t size, uint32_t burst_bytes, bool interrupt)
{
  g_assert(size > 0 && size <= IDE_BUFFER_BYTES && burst_bytes > 0);
  drive->pos = 0;
  drive->end = size;
  drive->burst_bytes = MIN(burst_bytes, IDE_BUFFER_BYTES);
  if (!drive->dma) {
    drive->phase = to_guest ? IDE_PHASE_DATA_IN : IDE_PHASE_DATA_OUT;
    offer_burst(drive, interrupt);
    return;
  }
  drive->phase = to_guest ? IDE_PHASE_DMA_IN : IDE_PHASE_DMA_OUT;
  drive->burst_end = size;
  drive->status = IDE_ST_DRDY | IDE_ST_DSC | IDE_ST_DRQ;
  ide_channel_run_dma(drive->channel);
}

void ide_drive_data_done(IdeDrive *drive)
{
  drive->phase = IDE_PHASE_BUSY;
  drive->status = IDE_ST_BSY | IDE_ST_DRDY | IDE_ST_DSC;
  if (is_disk(drive))
    ide_disk_data_done(drive);
  else
    ide_cd_data_done(drive);
}

static void burst_done(IdeDrive *drive)
{
  if (drive->phase == IDE_PHASE_PACKET)
    ide_cd_packet_done(drive);
  else if (drive->pos < drive->end)
    offer_burst(drive, true);
  else
    ide_drive_data_done(drive);
}

uint32_t ide_drive_read_data(IdeDrive *drive, unsigned size)
{
  uint32_t value = 0;
  if (drive->phase != IDE_PHASE_DATA_IN)
    return 0;
  /* The last word of an odd block has one byte. */
  uint32_t n = MIN(MIN(size, 4), drive->burst_end - drive->pos);
  memcpy(&value, drive->buffer + drive->pos, n);
  drive->pos += n;
  if (drive->pos >= drive->burst_end)
    burst_done(drive);
  return value;
}

void ide_drive_write_data(IdeDrive *drive, uint32_t value, unsigned size)
{
  if (drive->phase != IDE_PHASE_DATA_OUT && drive->phase != IDE_PHASE_PACKET)
    return;
  uint32_t n = MIN(MIN(size, 4), drive->burst_end - drive->pos);
  memcpy(drive->buffer + drive->pos, &value, n);
  drive->pos += n;
  if (drive->pos >= drive->burst_end)
    burst_done(drive);
}

/* ---- ends of commands -------------------------------------------------------------------------------------------- */

static void end_command(IdeDrive *drive, uint8_t status)
{
  drive->phase = IDE_PHASE_IDLE;
  drive->status = status;
  raise_irq(drive);
}

void ide_drive_complete(IdeDrive *drive)
{
  end_command(drive, IDE_ST_DRDY | IDE_ST_DSC);
}

void ide_drive_fail(IdeDrive *drive, uint8_t error_bits)
{
  drive->error = error_bits;
  end_command(drive, IDE_ST_DRDY | IDE_ST_DSC | IDE_ST_ERR);
}

static bool is_transfer_mode(uint8_t mode)
{
  return mode <= 1 || (mode >= 0x08 && mode <= 0x0C) || (mode >= 0x20 && mode <= 0x22) ||
         (mode >= 0x40 && mode <= 0x45);
}

void ide_drive_set_transfer_mode(IdeDrive *drive)
{
  uint8_t mode = drive->count[0];
  if (!is_transfer_mode(mode)) {
    ide_drive_fail(drive, IDE_ERR_ABRT);
    return;
  }
  if (mode >= 0x20)
    drive->transfer_mode = mode;
  ide_drive_complete(drive);
}

void ide_drive_command(IdeDrive *drive, uint8_t command)
{
  /* A packet device listens to DEVICE RESET at any time; anything else during a command is the guest's mistake. */
  bool is_reset = drive->kind == IDE_DRIVE_CDROM && command == COMMAND_DEVICE_RESET;
  if (drive->phase != IDE_PHASE_IDLE && !is_reset) {
    vm_device_log(drive->channel->dev, "drive %u: command %02x while another is under way", drive->number, command);
    return;
  }
  drive->command = command;
  drive->error = 0;
  drive->dma = false;
  if (is_disk(drive))
    ide_disk_command(drive, command);
  else
    ide_cd_command(drive, command);
}

/* ---- reset, attachment, state ------------------------------------------------------------------------------------ */

void ide_drive_set_signature(IdeDrive *drive)
{
  bool packet = drive->kind == IDE_DRIVE_CDROM;
  drive->count[0] = 1;
  drive->lba_low[0] = 1;
  drive->lba_mid[0] = packet ? 0x14 : 0;
  drive->lba_high[0] = packet ? 0xEB : 0;
  drive->device &= IDE_DEV_SLAVE;
}

void ide_drive_reset(IdeDrive *drive, bool hard)
{
  ide_drive_abandon_io(drive);
  drive->phase = IDE_PHASE_IDLE;
  drive->intrq = false;
  drive->dma = false;
  drive->pos = drive->end = drive->burst_end = 0;
  drive->left = drive->chunk = 0;
  drive->error = 1; /* diagnostics passed */
  drive->status = is_disk(drive) ? IDE_ST_DRDY | IDE_ST_DSC : 0;
  drive->device = 0;
  drive->feature[0] = drive->feature[1] = 0;
  drive->count[1] = drive->lba_low[1] = drive->lba_mid[1] = drive->lba_high[1] = 0;
  ide_drive_set_signature(drive);
  if (!hard)
    return;
  drive->multiple = is_disk(drive) ? IDE_MAX_MULTIPLE : 0;
  drive->transfer_mode = 0;
  drive->power_mode = POWER_ACTIVE;
  drive->write_cache = drive->look_ahead = drive->smart = is_disk(drive);
  drive->current_cylinders = drive->cylinders;
  drive->current_heads = drive->heads;
  drive->current_sectors = drive->sectors;
  ide_cd_reset(drive);
}

/* The geometry that BIOSes of the time gave to disks of any size; sizes that fit no cylinder get one. */
static void set_geometry(IdeDrive *drive)
{
  drive->heads = 16;
  drive->sectors = 63;
  drive->cylinders = (uint32_t)CLAMP(drive->n_sectors / (16 * 63), 1, 16383);
}

bool ide_drive_attach(IdeDrive *drive, IdeDriveKind kind, BlkImage *image, GError **error)
{
  uint32_t sector_bytes = kind == IDE_DRIVE_DISK ? IDE_SECTOR_BYTES : IDE_CD_SECTOR_BYTES;
  if (drive->kind != IDE_DRIVE_NONE) {
    g_set_error(error, VM_ERROR, VM_ERROR_BAD_STATE,
                "IDE drive %u is taken already; put the disk or CD-ROM at another place", drive->number);
    return false;
  }
  uint64_t n_sectors = image != NULL ? blk_get_size(image) / sector_bytes : 0;
  if (image != NULL && (n_sectors == 0 || n_sectors > (kind == IDE_DRIVE_DISK ? MAX_LBA48 - 1 : UINT32_MAX))) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID, "%s: an image of this size fits no IDE drive",
                blk_get_path(image));
    return false;
  }
  drive->kind = kind;
  drive->image = image;
  drive->n_sectors = n_sectors;
  drive->buffer_bytes = IDE_BUFFER_BYTES;
  drive->buffer = g_malloc0(IDE_BUFFER_BYTES);
  if (kind == IDE_DRIVE_DISK)
    set_geometry(drive);
  ide_drive_reset(drive, true);
  return true;
}

void ide_drive_finish(IdeDrive *drive)
{
  ide_drive_abandon_io(drive);
  blk_close(drive->image); /* answers what is under way */
  drive->image = NULL;
  g_clear_pointer(&drive->request, g_free);
  g_clear_pointer(&drive->buffer, g_free);
}

static bool is_plausible_cd(const IdeDrive *d)
{
  uint32_t sector_bytes = MAX(ide_cd_sector_bytes(d->cd.fields), IDE_CD_SECTOR_BYTES);
  if (d->phase == IDE_PHASE_DATA_OUT || d->phase == IDE_PHASE_DMA_OUT || d->chunk > d->left)
    return false;
  if (d->left > 0 && ide_cd_sector_bytes(d->cd.fields) == 0)
    return false;
  if (d->chunk > IDE_BUFFER_BYTES / sector_bytes || d->lba > UINT32_MAX)
    return false;
  return d->io == IDE_IO_NONE ||
         (d->io == IDE_IO_READ && d->chunk > 0 && d->io_bytes == d->chunk * IDE_CD_SECTOR_BYTES);
}

static bool is_plausible_disk(const IdeDrive *d)
{
  if (d->current_heads == 0 || d->current_sectors == 0 || (d->multiple & (d->multiple - 1)) != 0 || d->chunk > d->left)
    return false;
  if (d->io == IDE_IO_FLUSH ? d->io_bytes != 0 : d->io != IDE_IO_NONE && d->io_bytes != d->chunk * IDE_SECTOR_BYTES)
    return false;
  if (d->io != IDE_IO_NONE && d->io != IDE_IO_FLUSH && d->chunk == 0)
    return false;
  return d->lba <= d->n_sectors && d->left <= d->n_sectors - d->lba;
}

/* Could the command have come to this point? What a stream says must not lead out of the buffer or the disk. */
static bool is_plausible(const IdeDrive *d)
{
  if (d->pos > d->burst_end || d->burst_end > d->end)
    return false;
  if (d->phase >= IDE_PHASE_PACKET && (d->pos >= d->burst_end || d->burst_bytes == 0))
    return false;
  if (d->phase == IDE_PHASE_PACKET && (d->kind != IDE_DRIVE_CDROM || d->end != IDE_PACKET_BYTES))
    return false;
  if ((d->io != IDE_IO_NONE) != (d->phase == IDE_PHASE_BUSY))
    return false;
  return d->kind == IDE_DRIVE_CDROM ? is_plausible_cd(d) : is_plausible_disk(d);
}

bool ide_drive_validate(const IdeDrive *scratch, GError **error)
{
  if (scratch->kind == IDE_DRIVE_NONE ? scratch->phase == IDE_PHASE_IDLE && scratch->io == IDE_IO_NONE
                                      : is_plausible(scratch))
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
              "the saved state of IDE drive %u is damaged: its command makes no sense", scratch->number);
  return false;
}

void ide_drive_loaded(IdeDrive *drive)
{
  if (drive->request != NULL && drive->request->busy)
    drive->request->stale = true;
  if (drive->io == IDE_IO_NONE)
    return;
  if (drive->image != NULL)
    issue(drive);
  else /* the drive was loaded without the medium that it was reading */
    ide_drive_reset(drive, false);
}

/* ---- what the owner asks ------------------------------------------------------------------------------------------- */

IdeDriveKind ide_drive_get_kind(const IdeDrive *drive)
{
  return drive->kind;
}

BlkImage *ide_drive_get_image(const IdeDrive *drive)
{
  return drive->image;
}

void ide_drive_get_chs(const IdeDrive *drive, uint32_t *cylinders, uint32_t *heads, uint32_t *sectors)
{
  *cylinders = drive->cylinders;
  *heads = drive->heads;
  *sectors = drive->sectors;
}

uint8_t ide_drive_get_bios_translation(const IdeDrive *drive)
{
  return is_disk(drive) && drive->cylinders > 1024 ? 1 : 0;
}
