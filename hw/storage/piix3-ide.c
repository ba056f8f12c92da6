/*
 * The IDE function of the Intel 82371SB (PIIX3), data sheet chapter 2.3 "IDE configuration registers" and 2.7 "PCI bus
 * master IDE registers"; Programming Interface for Bus Master IDE Controller 1.0.
 *
 * Two channels at their legacy ports and interrupts. The bus master walks a table of physical region descriptors that
 * the guest writes to memory. It is bounded by the drive: only as much moves as the drive's buffer holds, each
 * descriptor moves at least two bytes, and each is copied once. A table that ends early stops the bus master, and the
 * drive waits: the guest starts it again, or resets the drive.
 *
 * The timing registers are kept, and what they say about timing is ignored. So is their decode enable: firmware that
 * knows only "the PC's IDE ports" would find none otherwise, and nobody turns them off.
 */
#include "hw/storage/piix3-ide.h"

#include "hw/storage/ide-impl.h"
#include "vm-engine/vm.h"

enum {
  CONFIG_TIMINGS = 0x40, /* IDETIM of both channels, SIDETIM */
  CONFIG_TIMING_BYTES = 5,

  BM_BYTES_EACH = 8,
  BM_COMMAND = 0,
  BM_STATUS = 2,
  BM_TABLE = 4,

  COMMAND_START = 1 << 0,
  COMMAND_TO_MEMORY = 1 << 3,

  STATUS_ACTIVE = 1 << 0,
  STATUS_ERROR = 1 << 1,
  STATUS_INTERRUPT = 1 << 2,
  STATUS_CAPABLE = 3 << 5, /* for drivers to remember which drive can do DMA */

  BAR_BUS_MASTER = 4,
  DESCRIPTOR_BYTES = 8,
  DESCRIPTOR_LAST = 0x80, /* in its last byte */
};

static const struct ChannelPlace {
  const char *name;
  const char *control_name;
  uint16_t command_port, control_port;
} places[PIIX3_IDE_N_CHANNELS] = {
  { "ide0", "ide0-control", 0x1F0, 0x3F6 },
  { "ide1", "ide1-control", 0x170, 0x376 },
};

typedef struct BusMaster {
  uint8_t command, status;
  uint32_t table;      /* as the guest wrote it */
  uint32_t next;       /* the next descriptor */
  uint32_t piece_gpa;  /* of the present one: */
  uint32_t piece_left; /* bytes */
  bool piece_is_last;
} BusMaster;

struct Piix3Ide {
  PciDevice pci;
  BusMaster masters[PIIX3_IDE_N_CHANNELS];
  IdeChannel channels[PIIX3_IDE_N_CHANNELS];
  VmIrq irqs[PIIX3_IDE_N_CHANNELS];
};

static const VmField bus_master_fields[] = {
  VM_UINT(BusMaster, command),
  VM_UINT(BusMaster, status),
  VM_UINT(BusMaster, table),
  VM_UINT(BusMaster, next),
  VM_UINT(BusMaster, piece_gpa),
  VM_UINT_MAX(BusMaster, piece_left, 65536),
  VM_UINT_MAX(BusMaster, piece_is_last, 1),
  VM_FIELDS_END,
};

static const VmField piix3_ide_fields[] = {
  VM_STRUCT(Piix3Ide, pci, pci_device_fields),
  VM_STRUCT_ARRAY(Piix3Ide, masters, bus_master_fields),
  VM_STRUCT_ARRAY(Piix3Ide, channels, ide_channel_fields),
  VM_TRANSIENT(Piix3Ide, irqs, "wiring"),
  VM_FIELDS_END,
};

static unsigned channel_index(const Piix3Ide *ide, const IdeChannel *channel)
{
  return channel == &ide->channels[1] ? 1 : 0;
}

/* ---- bus master --------------------------------------------------------------------------------------------------- */

static void stop_with_error(BusMaster *bm)
{
  bm->status &= (uint8_t)~STATUS_ACTIVE;
  bm->status |= STATUS_ERROR;
}

static bool fetch_descriptor(Piix3Ide *ide, BusMaster *bm)
{
  uint8_t raw[DESCRIPTOR_BYTES];
  if (!pci_dma_read(&ide->pci, bm->next, raw, sizeof(raw)))
    return false;
  uint32_t count = (raw[4] | (uint32_t)raw[5] << 8) & ~1u;
  bm->piece_gpa = (raw[0] | (uint32_t)raw[1] << 8 | (uint32_t)raw[2] << 16 | (uint32_t)raw[3] << 24) & ~1u;
  bm->piece_left = count != 0 ? count : 65536;
  bm->piece_is_last = raw[7] & DESCRIPTOR_LAST;
  /* The table does not cross 64 KiB. */
  bm->next = (bm->next & 0xFFFF0000) | ((bm->next + DESCRIPTOR_BYTES) & 0xFFFF);
  return true;
}

static bool move_piece(Piix3Ide *ide, BusMaster *bm, uint8_t *buffer, uint32_t size, bool to_guest)
{
  if (to_guest ? !pci_dma_write(&ide->pci, bm->piece_gpa, buffer, size)
               : !pci_dma_read(&ide->pci, bm->piece_gpa, buffer, size))
    return false;
  bm->piece_gpa += size;
  bm->piece_left -= size;
  return true;
}

static size_t bus_dma(IdeChannel *channel, uint8_t *buffer, size_t size, bool to_guest)
{
  Piix3Ide *ide = (Piix3Ide *)channel->dev;
  BusMaster *bm = &ide->masters[channel_index(ide, channel)];
  size_t done = 0;
  if (!(bm->status & STATUS_ACTIVE))
    return 0;
  bool good = to_guest == ((bm->command & COMMAND_TO_MEMORY) != 0);
  while (good && done < size) {
    if (bm->piece_left == 0 && bm->piece_is_last)
      break;
    if (bm->piece_left == 0)
      good = fetch_descriptor(ide, bm);
    uint32_t n = (uint32_t)MIN(size - done, bm->piece_left);
    good = good && move_piece(ide, bm, buffer + done, n, to_guest);
    done += good ? n : 0;
  }
  if (!good) {
    vm_device_log(channel->dev, "channel %u: a bad descriptor, address or direction stops the bus master",
                  channel_index(ide, channel));
    stop_with_error(bm);
  } else if (bm->piece_left == 0 && bm->piece_is_last) {
    bm->status &= (uint8_t)~STATUS_ACTIVE;
  }
  return done;
}

static void bus_interrupt(IdeChannel *channel, bool level)
{
  Piix3Ide *ide = (Piix3Ide *)channel->dev;
  unsigned i = channel_index(ide, channel);
  if (level)
    ide->masters[i].status |= STATUS_INTERRUPT;
  vm_irq_set(&ide->irqs[i], level);
}

static const IdeBusOps bus_ops = { bus_dma, bus_interrupt };

static uint64_t bm_read(void *opaque, uint64_t offset, unsigned size)
{
  Piix3Ide *ide = opaque;
  const BusMaster *bm = &ide->masters[offset / BM_BYTES_EACH & 1];
  unsigned reg = offset % BM_BYTES_EACH;
  if (reg == BM_COMMAND)
    return bm->command;
  if (reg == BM_STATUS)
    return bm->status;
  return reg >= BM_TABLE ? (uint8_t)(bm->table >> (8 * (reg - BM_TABLE))) : 0;
}

static void write_command(Piix3Ide *ide, unsigned i, uint8_t value)
{
  BusMaster *bm = &ide->masters[i];
  bool started = bm->command & COMMAND_START;
  bm->command = value & (COMMAND_START | COMMAND_TO_MEMORY);
  if (!(value & COMMAND_START)) {
    bm->status &= (uint8_t)~STATUS_ACTIVE;
  } else if (!started) {
    bm->status |= STATUS_ACTIVE;
    bm->next = bm->table;
    bm->piece_left = 0;
    bm->piece_is_last = false;
    ide_channel_run_dma(&ide->channels[i]);
  }
}

static void bm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Piix3Ide *ide = opaque;
  unsigned i = offset / BM_BYTES_EACH & 1, reg = offset % BM_BYTES_EACH;
  BusMaster *bm = &ide->masters[i];
  if (reg == BM_COMMAND) {
    write_command(ide, i, (uint8_t)value);
  } else if (reg == BM_STATUS) {
    uint8_t cleared = (uint8_t)value & (STATUS_ERROR | STATUS_INTERRUPT);
    bm->status = (uint8_t)((bm->status & ~STATUS_CAPABLE & ~cleared) | (value & STATUS_CAPABLE));
  } else if (reg >= BM_TABLE) {
    unsigned shift = 8 * (reg - BM_TABLE);
    bm->table = ((bm->table & ~(0xFFu << shift)) | (uint32_t)(value & 0xFF) << shift) & ~3u;
  }
}

/* ---- the channels' ports ------------------------------------------------------------------------------------------ */

static uint64_t command_read(void *opaque, uint64_t offset, unsigned size)
{
  return ide_channel_read(opaque, (unsigned)offset, size);
}

static void command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  ide_channel_write(opaque, (unsigned)offset, (uint32_t)value, size);
}

static uint64_t control_read(void *opaque, uint64_t offset, unsigned size)
{
  return ide_channel_read_alternate_status(opaque);
}

static void control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  ide_channel_write_control(opaque, (uint8_t)value);
}

/* ---- reset, state, creation ---------------------------------------------------------------------------------------- */

static void piix3_ide_reset(VmDevice *dev)
{
  Piix3Ide *ide = (Piix3Ide *)dev;
  pci_device_reset(&ide->pci);
  memset(ide->pci.config + CONFIG_TIMINGS, 0, CONFIG_TIMING_BYTES);
  for (unsigned i = 0; i < PIIX3_IDE_N_CHANNELS; i++) {
    ide_channel_reset(&ide->channels[i]);
    ide->masters[i] = (BusMaster){ 0 };
  }
}

static bool piix3_ide_validate(const VmDevice *scratch, GError **error)
{
  const Piix3Ide *ide = (const Piix3Ide *)scratch;
  return ide_channel_validate(&ide->channels[0], error) && ide_channel_validate(&ide->channels[1], error);
}

static void piix3_ide_loaded(VmDevice *dev)
{
  Piix3Ide *ide = (Piix3Ide *)dev;
  pci_device_loaded(&ide->pci);
  for (unsigned i = 0; i < PIIX3_IDE_N_CHANNELS; i++) {
    uint8_t status = ide->masters[i].status; /* driving the line anew is no new interrupt */
    ide_channel_loaded(&ide->channels[i]);
    ide->masters[i].status = status;
  }
}

static void piix3_ide_finish(VmDevice *dev)
{
  Piix3Ide *ide = (Piix3Ide *)dev;
  for (unsigned i = 0; i < PIIX3_IDE_N_CHANNELS; i++)
    ide_channel_finish(&ide->channels[i]);
}

static const VmMmioOps command_ops = { command_read, command_write, 1, 4, false };
static const VmMmioOps control_ops = { control_read, control_write, 1, 1, false };
static const VmMmioOps bm_ops = { bm_read, bm_write, 1, 1, false };

static const VmDeviceType piix3_ide_type = {
  .name = "piix3-ide",
  .version = 1,
  .size = sizeof(Piix3Ide),
  .fields = piix3_ide_fields,
  .reset = piix3_ide_reset,
  .validate = piix3_ide_validate,
  .loaded = piix3_ide_loaded,
  .finish = piix3_ide_finish,
};

Piix3Ide *piix3_ide_new(PciBus *bus, uint8_t devfn, const VmIrq *primary, const VmIrq *secondary)
{
  /* Class: IDE, bus master, legacy ports. */
  static const PciIds ids = { .vendor = 0x8086, .device = 0x7010, .class_code = 0x010180 };
  Piix3Ide *ide = pci_device_new(bus, &piix3_ide_type, "ide", devfn, &ids);
  VmDevice *dev = &ide->pci.dev;
  VmMemory *memory = vm_get_memory(dev->vm);
  ide->irqs[0] = *primary;
  ide->irqs[1] = *secondary;
  memset(ide->pci.write_mask + CONFIG_TIMINGS, 0xFF, CONFIG_TIMING_BYTES);
  pci_bar_io(&ide->pci, BAR_BUS_MASTER, PCI_BAR_PORTS, PIIX3_IDE_N_CHANNELS * BM_BYTES_EACH, &bm_ops, ide);
  for (unsigned i = 0; i < PIIX3_IDE_N_CHANNELS; i++) {
    const struct ChannelPlace *place = &places[i];
    ide_channel_init(&ide->channels[i], dev, &bus_ops, i);
    vm_region_new_io(memory, place->name, VM_SPACE_PORTS, place->command_port, 8, 0, &command_ops, &ide->channels[i],
                     dev->ctx);
    vm_region_new_io(memory, place->control_name, VM_SPACE_PORTS, place->control_port, 1, 0, &control_ops,
                     &ide->channels[i], dev->ctx);
  }
  piix3_ide_reset(dev);
  return ide;
}

static IdeDrive *attach(Piix3Ide *ide, unsigned channel, unsigned unit, IdeDriveKind kind, BlkImage *image,
                        GError **error)
{
  g_assert(channel < PIIX3_IDE_N_CHANNELS && unit < PIIX3_IDE_N_UNITS);
  IdeDrive *drive = &ide->channels[channel].drives[unit];
  return ide_drive_attach(drive, kind, image, error) ? drive : NULL;
}

IdeDrive *piix3_ide_attach_disk(Piix3Ide *ide, unsigned channel, unsigned unit, BlkImage *image, GError **error)
{
  g_assert(image != NULL);
  return attach(ide, channel, unit, IDE_DRIVE_DISK, image, error);
}

IdeDrive *piix3_ide_attach_cdrom(Piix3Ide *ide, unsigned channel, unsigned unit, BlkImage *image, GError **error)
{
  return attach(ide, channel, unit, IDE_DRIVE_CDROM, image, error);
}

IdeDrive *piix3_ide_get_drive(Piix3Ide *ide, unsigned channel, unsigned unit)
{
  g_assert(channel < PIIX3_IDE_N_CHANNELS && unit < PIIX3_IDE_N_UNITS);
  IdeDrive *drive = &ide->channels[channel].drives[unit];
  return drive->kind != IDE_DRIVE_NONE ? drive : NULL;
}
