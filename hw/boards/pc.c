/*
 * The PC: i440FX host bridge, PIIX3 with IDE, PIIX4 power management, and the ISA devices of a desktop.
 *
 * pc_board_create() is the list of what the machine is made of; each line of it is a device and its wires. The order
 * is the order of saving and of reset: whoever drives a wire comes after whoever listens to it.
 */
#include "hw/boards/pc.h"

#include "block/block.h"
#include "hw/char/debug-exit.h"
#include "hw/char/debugcon.h"
#include "hw/char/parport.h"
#include "hw/char/uart16550.h"
#include "hw/display/vga.h"
#include "hw/firmware/acpi.h"
#include "hw/firmware/direct-boot.h"
#include "hw/firmware/fw-cfg.h"
#include "hw/firmware/smbios.h"
#include "hw/input/i8042.h"
#include "hw/intc/ferr.h"
#include "hw/intc/i8259.h"
#include "hw/intc/ioapic.h"
#include "hw/intc/lapic.h"
#include "hw/intc/port61.h"
#include "hw/intc/port92.h"
#include "hw/pci/i440fx.h"
#include "hw/pci/pci.h"
#include "hw/pci/piix3.h"
#include "hw/pci/piix4-pm.h"
#include "hw/storage/atapi.h"
#include "hw/storage/floppy.h"
#include "hw/storage/i8237.h"
#include "hw/storage/ide.h"
#include "hw/storage/piix3-ide.h"
#include "hw/timer/hpet.h"
#include "hw/timer/i8254.h"
#include "hw/timer/mc146818.h"
#include "vm-engine/chardev.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"

#define DEFAULT_FIRMWARE   "/usr/share/seabios/bios-256k.bin"
#define DEFAULT_VGA_ROM    "/usr/share/seabios/vgabios-stdvga.bin"
#define FIRMWARE_MAX_BYTES (16u << 20)
#define FIRMWARE_ISA_BYTES (128u << 10) /* how much of its end shows below 1 MiB */
#define FOUR_GIB           (UINT64_C(1) << 32)
/* RAM reaches up to here below 4 GiB; with more than the first, it ends at the second, to leave PCI more room. */
#define LOW_RAM_MAX           UINT64_C(0xe0000000)
#define LOW_RAM_SPLIT         UINT64_C(0xc0000000)
#define PCI_HOLE_LAST         0xfebfffffu
#define PIIX_SLOT             1
#define VGA_SLOT              2
#define PARPORT_BASE          0x378
#define CMOS_DISK_TRANSLATION 0x39
/* SeaBIOS knows its platform by the host bridge's subsystem ID. */
#define SEABIOS_SUBSYSTEM_VENDOR 0x1af4
#define SEABIOS_SUBSYSTEM        0x1100
#define PCI_SUBSYSTEM_VENDOR     0x2c

typedef struct Pc {
  Vm *vm;
  PcConfig config; /* pointers to images and back ends are cleared as devices take them */
  uint64_t low_ram_bytes, high_ram_bytes;
  VmRam *ram;
  I8259 *pic;
  LapicBus *lapics;
  Ioapic *ioapic;
  PciBus *pci;
  I440fx *host;
  Piix3 *piix3;
  Piix3Ide *ide;
  Floppy *floppy;
  Port92 *port92;
  Mc146818 *rtc;
  FwCfg *fw_cfg;
} Pc;

static bool set_range_error(GError **error, const char *what, uint64_t least, uint64_t most)
{
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s must be between %" G_GUINT64_FORMAT " and %" G_GUINT64_FORMAT, what,
              least, most);
  return false;
}

static bool check_config(const PcConfig *c, GError **error)
{
  if (c->memory_bytes < PC_MIN_MEMORY_BYTES || c->memory_bytes > PC_MAX_MEMORY_BYTES || c->memory_bytes % VM_PAGE_SIZE)
    return set_range_error(error, "memory (MiB)", PC_MIN_MEMORY_BYTES >> 20, PC_MAX_MEMORY_BYTES >> 20);
  if (c->n_cpus < 1 || c->n_cpus > PC_MAX_CPUS)
    return set_range_error(error, "the number of CPUs", 1, PC_MAX_CPUS);
  return true;
}

static bool create_ram(Pc *pc, GError **error)
{
  VmMemory *memory = vm_get_memory(pc->vm);
  uint64_t bytes = pc->config.memory_bytes;
  pc->low_ram_bytes = bytes <= LOW_RAM_MAX ? bytes : LOW_RAM_SPLIT;
  pc->high_ram_bytes = bytes - pc->low_ram_bytes;
  pc->ram = vm_ram_new(memory, "ram", bytes, error);
  if (pc->ram == NULL)
    return false;
  vm_region_new_ram(memory, "ram-low", 0, 0xa0000, PC_PRIORITY_FIXED, pc->ram, 0, VM_ACCESS_RW);
  if (pc->low_ram_bytes > 0x100000)
    vm_region_new_ram(memory, "ram", 0x100000, pc->low_ram_bytes - 0x100000, PC_PRIORITY_FIXED, pc->ram, 0x100000,
                      VM_ACCESS_RW);
  if (pc->high_ram_bytes)
    vm_region_new_ram(memory, "ram-high", FOUR_GIB, pc->high_ram_bytes, PC_PRIORITY_FIXED, pc->ram, pc->low_ram_bytes,
                      VM_ACCESS_RW);
  return true;
}

static bool read_rom_file(const char *path, const char *package, char **bytes, gsize *size, GError **error)
{
  g_autoptr(GError) cause = NULL;
  if (g_file_get_contents(path, bytes, size, &cause))
    return true;
  bool missing = g_error_matches(cause, G_FILE_ERROR, G_FILE_ERROR_NOENT);
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "cannot read firmware %s: %s%s%s", path,
              missing ? "no such file" : cause->message, missing && package ? "; install the package " : "",
              missing && package ? package : "");
  return false;
}

/* The firmware ends at 4 GiB; its end also shows below 1 MiB, where the PAM registers may shadow it. */
static bool create_firmware(Pc *pc, GError **error)
{
  VmMemory *memory = vm_get_memory(pc->vm);
  const char *path = pc->config.firmware_path ? pc->config.firmware_path : DEFAULT_FIRMWARE;
  g_autofree char *bytes = NULL;
  gsize size = 0;
  if (!read_rom_file(path, pc->config.firmware_path ? NULL : "seabios", &bytes, &size, error))
    return false;
  if (size == 0 || size > FIRMWARE_MAX_BYTES || size % VM_PAGE_SIZE) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
                "%s is not a PC firmware image: its size (%" G_GSIZE_FORMAT
                " bytes) is not a multiple of 4 KiB up to 16 MiB",
                path, size);
    return false;
  }
  VmRam *rom = vm_ram_new(memory, "firmware", size, error);
  if (rom == NULL)
    return false;
  memcpy(vm_ram_get_hva(rom), bytes, size);
  uint64_t low = MIN(size, FIRMWARE_ISA_BYTES);
  vm_region_new_rom(memory, "firmware", FOUR_GIB - size, size, PC_PRIORITY_FIXED, rom, 0);
  vm_region_new_rom(memory, "firmware-low", 0x100000 - low, low, PC_PRIORITY_FIXED, rom, size - low);
  return true;
}

static bool create_cpus(Pc *pc, GError **error)
{
  pc->pic = i8259_create(pc->vm);
  pc->lapics = lapic_bus_create(pc->vm, pc->pic);
  for (unsigned i = 0; i < pc->config.n_cpus; i++) {
    VmCpu *cpu = vm_cpu_new(pc->vm, error);
    if (cpu == NULL)
      return false;
    lapic_create(pc->lapics, cpu, (uint8_t)i);
  }
  pc->ioapic = ioapic_create(pc->vm, pc->lapics, (uint8_t)pc->config.n_cpus);
  i8259_connect_output(pc->pic, ioapic_irq(pc->ioapic, 0));
  return true;
}

static void create_bridges(Pc *pc)
{
  pc->pci = pci_bus_new(pc->vm, NULL, NULL);
  pc->host = i440fx_create(pc->vm, pc->pci, pc->ram);
  PciDevice *bridge = pci_bus_find(pc->pci, PCI_DEVFN(0, 0));
  bridge->config[PCI_SUBSYSTEM_VENDOR] = SEABIOS_SUBSYSTEM_VENDOR & 0xff;
  bridge->config[PCI_SUBSYSTEM_VENDOR + 1] = SEABIOS_SUBSYSTEM_VENDOR >> 8;
  bridge->config[PCI_SUBSYSTEM_VENDOR + 2] = SEABIOS_SUBSYSTEM & 0xff;
  bridge->config[PCI_SUBSYSTEM_VENDOR + 3] = SEABIOS_SUBSYSTEM >> 8;
  pc->piix3 = piix3_create(pc->vm, pc->pci, PIIX_SLOT, pc->host, pc->pic, pc->ioapic);
  Piix4Pm *pm = piix4_pm_create(pc->vm, pc->pci, PIIX_SLOT, piix3_isa_irq(pc->piix3, PIIX4_SCI_IRQ));
  const VmAccelOps *accel = vm_get_accel_ops(pc->vm);
  piix4_pm_set_smm(pm, accel != NULL && accel->has_smm);
}

/* FERR# of the first CPU, as an AT wires it: IRQ 13, and IGNNE# back. */
static bool report_fpu_error(VmCpu *cpu, bool active, void *opaque)
{
  Ferr *ferr = opaque;
  VmIoContext *ctx = vm_get_io_context(cpu->vm);
  VmIrq line = ferr_line(ferr);
  vm_io_context_lock(ctx);
  vm_irq_set(&line, active);
  bool ignne = ferr_get_ignne(ferr);
  vm_io_context_unlock(ctx);
  return ignne;
}

static void connect_fpu_error(Vm *vm, Ferr *ferr)
{
  VmCpu *cpu = vm_get_cpu(vm, 0);
  cpu->fpu_error = report_fpu_error;
  cpu->fpu_error_opaque = ferr;
}

static void create_timers(Pc *pc)
{
  I8254 *pit = i8254_create(pc->vm, piix3_isa_irq(pc->piix3, 0));
  pc->rtc = mc146818_create(pc->vm, piix3_isa_irq(pc->piix3, 8), -1);
  Port61 *port61 = port61_create(pc->vm, pit, lapic_bus_nmi(pc->lapics));
  mc146818_set_nmi_mask_line(pc->rtc, port61_nmi_mask(port61));
  connect_fpu_error(pc->vm, ferr_create(pc->vm, piix3_isa_irq(pc->piix3, 13)));

  HpetWiring wiring = { .legacy_irq0 = piix3_isa_irq(pc->piix3, 0),
                        .legacy_irq8 = piix3_isa_irq(pc->piix3, 8),
                        .pit_inhibit = i8254_irq_inhibit(pit),
                        .rtc_inhibit = mc146818_irq_inhibit(pc->rtc) };
  for (unsigned pin = 16; pin < IOAPIC_N_PINS; pin++)
    wiring.routes[pin] = ioapic_irq(pc->ioapic, pin);
  hpet_create(pc->vm, &wiring);
}

static void create_input_and_ports(Pc *pc)
{
  pc->port92 = port92_create(pc->vm);
  I8042Wiring wiring = { piix3_isa_irq(pc->piix3, 1), piix3_isa_irq(pc->piix3, 12), port92_keyboard_a20(pc->port92) };
  i8042_new(pc->vm, "i8042", &wiring);
  for (unsigned i = 0; i < PC_MAX_SERIALS; i++) {
    if (pc->config.serials[i] == NULL)
      continue;
    g_autofree char *id = g_strdup_printf("com%u", i + 1);
    VmIrq irq = piix3_isa_irq(pc->piix3, uart16550_default_irq(i));
    uart16550_new(pc->vm, id, uart16550_default_port(i), &irq, g_steal_pointer(&pc->config.serials[i]));
  }
  VmIrq irq7 = piix3_isa_irq(pc->piix3, 7);
  parport_new(pc->vm, "lpt1", PARPORT_BASE, &irq7, NULL);
  if (pc->config.debugcon != NULL)
    debugcon_new(pc->vm, "debugcon", 0x402, g_steal_pointer(&pc->config.debugcon));
  if (pc->config.debug_exit_port)
    debug_exit_new(pc->vm, pc->config.debug_exit_port);
}

static bool create_floppies(Pc *pc, GError **error)
{
  I8237 *dma = i8237_new(pc->vm);
  VmIrq irq = piix3_isa_irq(pc->piix3, 6);
  pc->floppy = floppy_new(pc->vm, dma, &irq);
  for (unsigned unit = 0; unit < PC_N_FLOPPIES; unit++) {
    BlkImage *image = pc->config.floppies[unit];
    if (image == NULL && unit > 0)
      continue;
    floppy_add_drive(pc->floppy, unit, image ? floppy_drive_type_for_size(blk_get_size(image)) : FLOPPY_DRIVE_1440K);
    if (image && !floppy_insert(pc->floppy, unit, image, error))
      return false;
    pc->config.floppies[unit] = NULL;
  }
  return true;
}

static bool create_ide(Pc *pc, GError **error)
{
  VmIrq primary = piix3_isa_irq(pc->piix3, 14), secondary = piix3_isa_irq(pc->piix3, 15);
  pc->ide = piix3_ide_new(pc->pci, PCI_DEVFN(PIIX_SLOT, 1), &primary, &secondary);
  for (unsigned i = 0; i < PC_N_IDE; i++) {
    PcDrive *drive = &pc->config.ide[i];
    if (drive->kind == PC_DRIVE_NONE)
      continue;
    IdeDrive *made = drive->kind == PC_DRIVE_DISK ? piix3_ide_attach_disk(pc->ide, i / 2, i % 2, drive->image, error)
                                                  : piix3_ide_attach_cdrom(pc->ide, i / 2, i % 2, drive->image, error);
    if (made == NULL)
      return false;
    drive->image = NULL;
  }
  return true;
}

static bool create_vga(Pc *pc, GError **error)
{
  const char *path = pc->config.vga_rom_path ? pc->config.vga_rom_path : DEFAULT_VGA_ROM;
  g_autofree char *bytes = NULL;
  gsize size = 0;
  if (pc->config.no_vga)
    return true;
  if (!read_rom_file(path, pc->config.vga_rom_path ? NULL : "seabios", &bytes, &size, error))
    return false;
  VgaConfig config = { .vram_bytes = pc->config.vga_memory_bytes, .rom = bytes, .rom_bytes = size };
  return vga_new(pc->pci, "vga", PCI_DEVFN(VGA_SLOT, 0), &config, error) != NULL;
}

/* ---- what the firmware is told ------------------------------------------------------------------------------------------ */

static void fill_cmos(Pc *pc)
{
  uint8_t translation = 0;
  mc146818_set_memory(pc->rtc, pc->low_ram_bytes, pc->high_ram_bytes);
  mc146818_set_floppies(pc->rtc, floppy_get_drive_type(pc->floppy, 0), floppy_get_drive_type(pc->floppy, 1));
  for (unsigned i = 0, disk = 0; i < PC_N_IDE; i++) {
    IdeDrive *drive = piix3_ide_get_drive(pc->ide, i / 2, i % 2);
    if (drive == NULL || ide_drive_get_kind(drive) != IDE_DRIVE_DISK)
      continue;
    translation |= (uint8_t)(ide_drive_get_bios_translation(drive) << (2 * i));
    uint32_t cylinders, heads, sectors;
    ide_drive_get_chs(drive, &cylinders, &heads, &sectors);
    if (disk < 2)
      mc146818_set_disk(pc->rtc, disk++, (uint16_t)MIN(cylinders, 65535), (uint8_t)heads, (uint8_t)sectors);
  }
  mc146818_set_cmos(pc->rtc, CMOS_DISK_TRANSLATION, translation);
  mc146818_set_n_cpus(pc->rtc, pc->config.n_cpus);
  static const uint8_t orders[][3] = { { 2, 3, 1 }, { 3, 2, 1 }, { 1, 2, 3 }, { 4, 2, 3 } };
  const uint8_t *order = orders[pc->config.boot];
  mc146818_set_boot_order(pc->rtc, order[0], order[1], order[2], true);
}

static void append_ide_paths(GString *order, Pc *pc, IdeDriveKind kind)
{
  for (unsigned i = 0; i < PC_N_IDE; i++) {
    IdeDrive *drive = piix3_ide_get_drive(pc->ide, i / 2, i % 2);
    if (drive != NULL && ide_drive_get_kind(drive) == kind)
      g_string_append_printf(order, "/pci@i0cf8/ide@%d,1/drive@%u/disk@%u\n", PIIX_SLOT, i / 2, i % 2);
  }
}

static void append_floppy_paths(GString *order, Pc *pc)
{
  for (unsigned unit = 0; unit < PC_N_FLOPPIES; unit++)
    if (floppy_get_image(pc->floppy, unit) != NULL)
      g_string_append_printf(order, "/pci@i0cf8/isa@%d/fdc@03f0/floppy@%u\n", PIIX_SLOT, unit);
}

/* The whole order as Open Firmware paths, which is how SeaBIOS names devices. */
static void add_boot_order(Pc *pc)
{
  GString *order = g_string_new(NULL);
  if (pc->config.kernel_path)
    g_string_append(order, "/rom@" DIRECT_BOOT_ROM_NAME "\n");
  if (pc->config.boot == PC_BOOT_FLOPPY)
    append_floppy_paths(order, pc);
  if (pc->config.boot == PC_BOOT_CDROM)
    append_ide_paths(order, pc, IDE_DRIVE_CDROM);
  append_ide_paths(order, pc, IDE_DRIVE_DISK);
  if (pc->config.boot != PC_BOOT_CDROM)
    append_ide_paths(order, pc, IDE_DRIVE_CDROM);
  if (pc->config.boot != PC_BOOT_FLOPPY)
    append_floppy_paths(order, pc);
  gsize size = order->len + 1;
  g_autoptr(GBytes) bytes = g_bytes_new_take(g_string_free(order, FALSE), size);
  fw_cfg_add_file(pc->fw_cfg, "bootorder", bytes);
}

static void add_memory_map(Pc *pc)
{
  struct __attribute__((packed)) {
    uint64_t base, length;
    uint32_t type;
  } map[2] = {
    { 0, GUINT64_TO_LE(pc->low_ram_bytes), GUINT32_TO_LE(1) },
    { GUINT64_TO_LE(FOUR_GIB), GUINT64_TO_LE(pc->high_ram_bytes), GUINT32_TO_LE(1) },
  };
  g_autoptr(GBytes) bytes = g_bytes_new(map, pc->high_ram_bytes ? sizeof map : sizeof map[0]);
  fw_cfg_add_file(pc->fw_cfg, "etc/e820", bytes);
}

static void add_fixed_items(Pc *pc)
{
  static const uint8_t one = 1;
  g_autoptr(GBytes) override = g_bytes_new_static(&one, 1);
  fw_cfg_add_u64(pc->fw_cfg, FW_CFG_RAM_SIZE, pc->config.memory_bytes);
  fw_cfg_add_u16(pc->fw_cfg, FW_CFG_NB_CPUS, (uint16_t)pc->config.n_cpus);
  fw_cfg_add_u16(pc->fw_cfg, FW_CFG_MAX_CPUS, (uint16_t)pc->config.n_cpus);
  fw_cfg_add_u16(pc->fw_cfg, FW_CFG_BOOT_MENU, pc->config.boot_menu);
  fw_cfg_add_u16(pc->fw_cfg, FW_CFG_NOGRAPHIC, 0);
  fw_cfg_add(pc->fw_cfg, FW_CFG_IRQ0_OVERRIDE, override);
  if (pc->config.uuid) {
    g_autoptr(GBytes) uuid = g_bytes_new(pc->config.uuid, 16);
    fw_cfg_add(pc->fw_cfg, FW_CFG_UUID, uuid);
  }
}

static void add_tables(Pc *pc)
{
  AcpiConfig acpi = { .n_cpus = pc->config.n_cpus,
                      .pci_hole_first = pc->low_ram_bytes <= 0x80000000u   ? 0x80000000u
                                        : pc->low_ram_bytes <= 0xc0000000u ? 0xc0000000u
                                                                           : 0xe0000000u,
                      .pci_hole_last = PCI_HOLE_LAST,
                      .floppy = true,
                      .parallel = true,
                      .vga = !pc->config.no_vga };
  for (unsigned i = 0; i < PC_MAX_SERIALS; i++) {
    g_autofree char *id = g_strdup_printf("com%u", i + 1);
    if (vm_find_device(pc->vm, id) != NULL)
      acpi.serial_mask |= 1u << i;
  }
  acpi_add_tables(pc->fw_cfg, &acpi);
  SmbiosConfig smbios = { pc->config.n_cpus, pc->low_ram_bytes, pc->high_ram_bytes, pc->config.uuid };
  smbios_add_tables(pc->fw_cfg, &smbios);
}

static bool describe_to_firmware(Pc *pc, GError **error)
{
  pc->fw_cfg = fw_cfg_new(pc->vm);
  fill_cmos(pc);
  add_fixed_items(pc);
  add_memory_map(pc);
  add_tables(pc);
  add_boot_order(pc);
  return pc->config.kernel_path == NULL || direct_boot_add(pc->fw_cfg, pc->low_ram_bytes, pc->config.kernel_path,
                                                           pc->config.initrd_path, pc->config.append, error);
}

/* ---- the whole ---------------------------------------------------------------------------------------------------------------- */

static bool create_all(Pc *pc, GError **error)
{
  if (!check_config(&pc->config, error) || !create_ram(pc, error) || !create_firmware(pc, error) ||
      !create_cpus(pc, error))
    return false;
  create_bridges(pc);
  create_timers(pc);
  create_input_and_ports(pc);
  return create_floppies(pc, error) && create_ide(pc, error) && create_vga(pc, error) &&
         describe_to_firmware(pc, error);
}

/* Closes what no device has taken: after a failure. */
static void drop_leftovers(PcConfig *config)
{
  for (unsigned i = 0; i < PC_N_IDE; i++)
    blk_close(config->ide[i].image);
  for (unsigned i = 0; i < PC_N_FLOPPIES; i++)
    blk_close(config->floppies[i]);
  for (unsigned i = 0; i < PC_MAX_SERIALS; i++)
    vm_chardev_free(config->serials[i]);
  vm_chardev_free(config->debugcon);
}

bool pc_board_create(Vm *vm, const PcConfig *config, GError **error)
{
  Pc pc = { .vm = vm, .config = *config };
  VmMemory *memory = vm_get_memory(vm);
  vm_memory_begin(memory);
  bool ok = create_all(&pc, error);
  vm_memory_commit(memory);
  drop_leftovers(&pc.config);
  return ok;
}

bool pc_change_cdrom(Vm *vm, unsigned ide, BlkImage *image, bool force, GError **error)
{
  IdeDrive *drive =
      ide < PC_N_IDE ? piix3_ide_get_drive((Piix3Ide *)vm_find_device(vm, "ide"), ide / 2, ide % 2) : NULL;
  if (drive == NULL || ide_drive_get_kind(drive) != IDE_DRIVE_CDROM) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "IDE place %u has no CD-ROM drive", ide);
    return false;
  }
  return image ? atapi_insert(drive, image, force, error) : atapi_eject(drive, force, error);
}

bool pc_change_floppy(Vm *vm, unsigned unit, BlkImage *image, GError **error)
{
  Floppy *floppy = (Floppy *)vm_find_device(vm, "fdc");
  if (unit >= PC_N_FLOPPIES || floppy_get_drive_type(floppy, unit) == FLOPPY_DRIVE_NONE) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "there is no floppy drive %u", unit);
    return false;
  }
  if (image != NULL)
    return floppy_insert(floppy, unit, image, error);
  floppy_eject(floppy, unit);
  return true;
}
