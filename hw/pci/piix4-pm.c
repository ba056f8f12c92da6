/*
 * Power management and SMBus: function 3 of the Intel 82371AB PIIX4 (order number 290562), as PCs of the 440FX's time
 * that speak ACPI carry it, with a general-purpose event block beside it at a fixed address.
 *
 * The PM timer is a function of virtual time; a timer callback exists only while its overflow would raise the SCI.
 *
 * Deviations: an SMI needs only APMC_EN, not GLBCTL's SMI_EN, since SeaBIOS sets just that one. Sleep types besides soft
 * off are logged and ignored; the tables do not offer them. The SMBus has no devices: every transaction ends with
 * DEV_ERR, as on a bus where nobody acknowledges.
 */
#include "hw/pci/piix4-pm.h"

#include "hw/pci/i440fx.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"

enum {
  REG_PM_BASE = 0x40,
  REG_DEVACTB_3 = 0x5b, /* bits 31:24 of DEVACTB */
  DEVACTB_APMC = 1 << 1,
  REG_PM_MISC = 0x80,
  REG_SMBUS_BASE = 0x90,
  REG_SMBUS_CONFIG = 0xd2,
  BASE_IS_PORTS = 1,

  PM_BYTES = 64,
  PM1_STATUS = 0x00,
  PM1_ENABLE = 0x02,
  PM1_CONTROL = 0x04,
  PM_TIMER = 0x08,
  PM_HELD = 0x0c, /* GPSTS up to GPOREG: hold what is written */

  PM1_TIMER = 1 << 0,
  PM1_GLOBAL = 1 << 5,
  PM1_POWER_BUTTON = 1 << 8,
  PM1_RTC = 1 << 10,
  PM1_WAKE = 1 << 15,
  PM1_STATUS_BITS = PM1_TIMER | 1 << 4 | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_RTC | PM1_WAKE,
  PM1_ENABLE_BITS = PM1_TIMER | PM1_GLOBAL | PM1_POWER_BUTTON | PM1_RTC,
  CONTROL_SCI = 1 << 0,
  CONTROL_SLEEP_TYPE_SHIFT = 10,
  CONTROL_SLEEP = 1 << 13,
  CONTROL_HELD = CONTROL_SCI | 1 << 1 | 7 << CONTROL_SLEEP_TYPE_SHIFT,

  SMBUS_BYTES = 16,
  SMB_STATUS = 0,
  SMB_SLAVE_STATUS = 1,
  SMB_CONTROL = 2,
  SMB_BLOCK = 7,
  SMB_STATUS_BITS = 0x1e,
  SMB_DEVICE_ERROR = 1 << 2,
  SMB_START = 1 << 6,
  SMB_BLOCK_BYTES = 32,
};

#define TIMER_MASK 0xffffffu
#define TIMER_HALF 0x800000u /* the status bit is set whenever bit 23 changes */

struct Piix4Pm {
  PciDevice pci;
  VmIrq sci;
  VmRegion *pm_region;
  VmRegion *smbus_region;
  bool smm_available;
  uint16_t status; /* PM1 */
  uint16_t enable;
  uint16_t control;
  uint16_t gpe_status;
  uint16_t gpe_enable;
  uint64_t overflow_tick; /* TMR_STS is set from this tick of the PM timer on */
  uint8_t held[PM_BYTES - PM_HELD];
  uint8_t apm_control;
  uint8_t apm_status;
  uint8_t smbus[SMBUS_BYTES];
  uint8_t smbus_block[SMB_BLOCK_BYTES];
  uint8_t smbus_block_index;
  VmTimer timer;
};

static const VmField piix4_pm_fields[] = {
  VM_STRUCT(Piix4Pm, pci, pci_device_fields),
  VM_TRANSIENT(Piix4Pm, sci, "wiring"),
  VM_TRANSIENT(Piix4Pm, pm_region, "mapping follows the configuration bytes"),
  VM_TRANSIENT(Piix4Pm, smbus_region, "mapping follows the configuration bytes"),
  VM_TRANSIENT(Piix4Pm, smm_available, "what the accelerator can do"),
  VM_UINT(Piix4Pm, status),
  VM_UINT(Piix4Pm, enable),
  VM_UINT(Piix4Pm, control),
  VM_UINT(Piix4Pm, gpe_status),
  VM_UINT(Piix4Pm, gpe_enable),
  VM_UINT(Piix4Pm, overflow_tick),
  VM_BYTES(Piix4Pm, held),
  VM_UINT(Piix4Pm, apm_control),
  VM_UINT(Piix4Pm, apm_status),
  VM_BYTES(Piix4Pm, smbus),
  VM_BYTES(Piix4Pm, smbus_block),
  VM_UINT_MAX(Piix4Pm, smbus_block_index, SMB_BLOCK_BYTES - 1),
  VM_TIMER(Piix4Pm, timer),
  VM_FIELDS_END,
};

/* ---- the PM timer and the SCI -------------------------------------------------------------------------------------- */

static uint64_t get_tick(const Piix4Pm *s)
{
  return vm_muldiv64((uint64_t)vm_clock_get_ns(vm_get_clock(s->pci.dev.vm)), PIIX4_PM_TIMER_HZ, VM_NS_PER_SEC);
}

/* The first nanosecond of a tick. */
static int64_t tick_to_ns(uint64_t tick)
{
  unsigned __int128 scaled = (unsigned __int128)tick * VM_NS_PER_SEC + (PIIX4_PM_TIMER_HZ - 1);
  uint64_t ns = (uint64_t)(scaled / PIIX4_PM_TIMER_HZ);
  return (int64_t)MIN(ns, (uint64_t)INT64_MAX);
}

static void note_overflow(Piix4Pm *s)
{
  if (get_tick(s) >= s->overflow_tick)
    s->status |= PM1_TIMER;
}

static void update_sci(Piix4Pm *s)
{
  note_overflow(s);
  bool wanted = (s->status & s->enable & PM1_ENABLE_BITS) || (s->gpe_status & s->gpe_enable);
  bool on = s->control & CONTROL_SCI;
  vm_irq_set(&s->sci, on && wanted);
  if (on && (s->enable & PM1_TIMER) && !(s->status & PM1_TIMER))
    vm_timer_set(&s->timer, tick_to_ns(s->overflow_tick));
  else
    vm_timer_cancel(&s->timer);
}

static void on_timer(void *opaque)
{
  update_sci(opaque);
}

static void clear_status(Piix4Pm *s, uint16_t bits)
{
  note_overflow(s);
  s->status &= (uint16_t)~bits;
  if (bits & PM1_TIMER)
    s->overflow_tick = (get_tick(s) | (TIMER_HALF - 1)) + 1;
  update_sci(s);
}

void piix4_pm_press_power_button(Piix4Pm *pm)
{
  pm->status |= PM1_POWER_BUTTON;
  update_sci(pm);
}

void piix4_pm_raise_gpe(Piix4Pm *pm, uint16_t bits)
{
  pm->gpe_status |= bits;
  update_sci(pm);
}

static void on_powerdown(void *opaque)
{
  piix4_pm_press_power_button(opaque);
}

static void write_control(Piix4Pm *s, uint16_t value)
{
  s->control = value & CONTROL_HELD;
  update_sci(s);
  if (!(value & CONTROL_SLEEP))
    return;
  unsigned type = value >> CONTROL_SLEEP_TYPE_SHIFT & 7;
  if (type == PIIX4_SLP_TYP_S5)
    vm_request_shutdown(s->pci.dev.vm);
  else
    vm_device_log(&s->pci.dev, "sleep type %u is not offered by the tables and is ignored", type);
}

/* ---- the PM block: 16-bit cells, so that any width works ------------------------------------------------------------ */

static uint16_t read_cell(const Piix4Pm *s, unsigned offset, uint32_t timer)
{
  switch (offset) {
  case PM1_STATUS:
    return s->status;
  case PM1_ENABLE:
    return s->enable;
  case PM1_CONTROL:
    return s->control;
  case PM_TIMER:
    return (uint16_t)timer;
  case PM_TIMER + 2:
    return (uint16_t)(timer >> 16);
  default:
    return offset < PM_HELD ? 0 : (uint16_t)(s->held[offset - PM_HELD] | s->held[offset + 1 - PM_HELD] << 8);
  }
}

/* `mask` has the bits of the bytes written. */
static void write_cell(Piix4Pm *s, unsigned offset, uint16_t value, uint16_t mask)
{
  switch (offset) {
  case PM1_STATUS:
    clear_status(s, value & mask & PM1_STATUS_BITS);
    break;
  case PM1_ENABLE:
    s->enable = (uint16_t)((s->enable & ~mask) | (value & mask)) & PM1_ENABLE_BITS;
    update_sci(s);
    break;
  case PM1_CONTROL:
    write_control(s, (uint16_t)((s->control & ~mask) | (value & mask)));
    break;
  default:
    if (offset < PM_HELD)
      break;
    for (unsigned i = 0; i < 2; i++) {
      if (mask >> (8 * i) & 0xff)
        s->held[offset + i - PM_HELD] = (uint8_t)(value >> (8 * i));
    }
  }
}

static uint64_t pm_read(void *opaque, uint64_t offset, unsigned size)
{
  Piix4Pm *s = opaque;
  uint32_t timer = (uint32_t)get_tick(s) & TIMER_MASK;
  uint64_t value = 0;
  note_overflow(s);
  for (unsigned i = 0; i < size && offset + i < PM_BYTES; i++) {
    unsigned byte = (unsigned)offset + i;
    value |= (uint64_t)(read_cell(s, byte & ~1u, timer) >> (byte % 2 * 8) & 0xff) << (8 * i);
  }
  return value;
}

static void pm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  for (unsigned i = 0; i < size && offset + i < PM_BYTES;) {
    unsigned byte = (unsigned)offset + i;
    unsigned n = byte % 2 == 0 && size - i >= 2 ? 2 : 1;
    unsigned shift = byte % 2 * 8;
    write_cell(opaque, byte & ~1u, (uint16_t)(value >> (8 * i) << shift),
               (uint16_t)((n == 2 ? 0xffff : 0xff) << shift));
    i += n;
  }
}

static const VmMmioOps pm_ops = { .read = pm_read, .write = pm_write, .impl_max = 4 };

/* ---- general-purpose events ------------------------------------------------------------------------------------------ */

static uint64_t gpe_read(void *opaque, uint64_t offset, unsigned size)
{
  const Piix4Pm *s = opaque;
  return (uint8_t)((offset < 2 ? s->gpe_status : s->gpe_enable) >> (offset % 2 * 8));
}

static void gpe_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Piix4Pm *s = opaque;
  unsigned shift = offset % 2 * 8;
  uint16_t byte = (uint16_t)((value & 0xff) << shift);
  if (offset < 2)
    s->gpe_status &= (uint16_t)~byte;
  else
    s->gpe_enable = (uint16_t)((s->gpe_enable & ~(0xffu << shift)) | byte);
  update_sci(s);
}

static const VmMmioOps gpe_ops = { .read = gpe_read, .write = gpe_write, .impl_max = 1 };

/* ---- SMI command and status (ports 0xB2, 0xB3) ----------------------------------------------------------------------- */

static uint64_t apm_read(void *opaque, uint64_t offset, unsigned size)
{
  const Piix4Pm *s = opaque;
  return offset == 0 ? s->apm_control : s->apm_status;
}

static void raise_smi(Piix4Pm *s)
{
  Vm *vm = s->pci.dev.vm;
  if (s->smm_available && (s->pci.config[REG_DEVACTB_3] & DEVACTB_APMC) && vm_get_n_cpus(vm) > 0)
    vm_cpu_request(vm_get_cpu(vm, 0), VM_CPU_REQ_SMI);
}

static void apm_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Piix4Pm *s = opaque;
  if (offset != 0) {
    s->apm_status = (uint8_t)value;
    return;
  }
  s->apm_control = (uint8_t)value;
  if (s->apm_control == PIIX4_ACPI_ENABLE)
    s->control |= CONTROL_SCI;
  else if (s->apm_control == PIIX4_ACPI_DISABLE)
    s->control &= (uint16_t)~CONTROL_SCI;
  update_sci(s);
  raise_smi(s);
}

static const VmMmioOps apm_ops = { .read = apm_read, .write = apm_write, .impl_max = 1 };

/* ---- SMBus ------------------------------------------------------------------------------------------------------------ */

static uint64_t smbus_read(void *opaque, uint64_t offset, unsigned size)
{
  Piix4Pm *s = opaque;
  if (offset == SMB_CONTROL)
    s->smbus_block_index = 0;
  if (offset != SMB_BLOCK)
    return s->smbus[offset];
  uint8_t value = s->smbus_block[s->smbus_block_index];
  s->smbus_block_index = (s->smbus_block_index + 1) % SMB_BLOCK_BYTES;
  return value;
}

static void smbus_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Piix4Pm *s = opaque;
  switch (offset) {
  case SMB_STATUS:
    s->smbus[SMB_STATUS] &= (uint8_t) ~(value & SMB_STATUS_BITS);
    break;
  case SMB_SLAVE_STATUS:
    break;
  case SMB_CONTROL:
    s->smbus[SMB_CONTROL] = (uint8_t)(value & ~(unsigned)SMB_START);
    if (value & SMB_START)
      s->smbus[SMB_STATUS] |= SMB_DEVICE_ERROR;
    break;
  case SMB_BLOCK:
    s->smbus_block[s->smbus_block_index] = (uint8_t)value;
    s->smbus_block_index = (s->smbus_block_index + 1) % SMB_BLOCK_BYTES;
    break;
  default:
    s->smbus[offset] = (uint8_t)value;
  }
}

static const VmMmioOps smbus_ops = { .read = smbus_read, .write = smbus_write, .impl_max = 1 };

/* ---- configuration ---------------------------------------------------------------------------------------------------- */

static void place(VmRegion *region, const uint8_t *base_register, unsigned mask, bool enabled)
{
  unsigned base = (base_register[0] | (unsigned)base_register[1] << 8) & mask;
  if (base != 0)
    vm_region_set_base(region, base);
  vm_region_set_enabled(region, enabled && base != 0);
}

static void update_mappings(Piix4Pm *s)
{
  VmMemory *memory = vm_get_memory(s->pci.dev.vm);
  const uint8_t *config = s->pci.config;
  vm_memory_begin(memory);
  place(s->pm_region, config + REG_PM_BASE, 0xffc0, config[REG_PM_MISC] & 1);
  place(s->smbus_region, config + REG_SMBUS_BASE, 0xfff0, config[REG_SMBUS_CONFIG] & 1);
  vm_memory_commit(memory);
}

static bool touches(unsigned offset, unsigned size, unsigned reg, unsigned bytes)
{
  return offset < reg + bytes && offset + size > reg;
}

static void piix4_pm_config_written(PciDevice *dev, unsigned offset, unsigned size)
{
  if (touches(offset, size, REG_PM_BASE, 4) || touches(offset, size, REG_PM_MISC, 1) ||
      touches(offset, size, REG_SMBUS_BASE, 4) || touches(offset, size, REG_SMBUS_CONFIG, 1))
    update_mappings((Piix4Pm *)dev);
}

/* ---- life ------------------------------------------------------------------------------------------------------------- */

/* Without SMM the enable bit reads as set, which tells SeaBIOS that there is nothing left to set up. */
static void apply_smm(Piix4Pm *s)
{
  s->pci.write_mask[REG_DEVACTB_3] = s->smm_available ? 0xff : 0xff & ~DEVACTB_APMC;
  if (!s->smm_available)
    s->pci.config[REG_DEVACTB_3] |= DEVACTB_APMC;
}

static void piix4_pm_reset(VmDevice *dev)
{
  Piix4Pm *s = (Piix4Pm *)dev;
  pci_device_reset(&s->pci);
  memset(s->pci.config + 0x40, 0, PCI_CONFIG_BYTES - 0x40);
  s->pci.config[0x07] = 0x02;
  s->pci.config[REG_PM_BASE] = BASE_IS_PORTS;
  s->pci.config[REG_SMBUS_BASE] = BASE_IS_PORTS;
  apply_smm(s);
  s->status = s->enable = s->control = 0;
  s->gpe_status = s->gpe_enable = 0;
  s->apm_control = s->apm_status = 0;
  memset(s->held, 0, sizeof s->held);
  memset(s->smbus, 0, sizeof s->smbus);
  memset(s->smbus_block, 0, sizeof s->smbus_block);
  s->smbus_block_index = 0;
  s->overflow_tick = (get_tick(s) | (TIMER_HALF - 1)) + 1;
  update_mappings(s);
  update_sci(s);
}

static void piix4_pm_loaded(VmDevice *dev)
{
  Piix4Pm *s = (Piix4Pm *)dev;
  pci_device_loaded(&s->pci);
  apply_smm(s);
  update_mappings(s);
  update_sci(s);
}

static void piix4_pm_saving(VmDevice *dev)
{
  note_overflow((Piix4Pm *)dev);
}

static void piix4_pm_finish(VmDevice *dev)
{
  vm_timer_finish(&((Piix4Pm *)dev)->timer);
}

static const VmDeviceType piix4_pm_type = {
  .name = "piix4-pm",
  .version = 1,
  .size = sizeof(Piix4Pm),
  .fields = piix4_pm_fields,
  .reset = piix4_pm_reset,
  .loaded = piix4_pm_loaded,
  .saving = piix4_pm_saving,
  .finish = piix4_pm_finish,
};

static void set_masks(Piix4Pm *s)
{
  uint8_t *mask = s->pci.write_mask;
  mask[0x04] = 0x01;
  mask[0x05] = 0x00;
  mask[REG_PM_BASE] = 0xc0;
  mask[REG_PM_BASE + 1] = 0xff;
  memset(mask + 0x44, 0xff, 0x68 - 0x44); /* counters, activity and resource registers: held */
  mask[REG_PM_MISC] = 0x01;
  mask[REG_SMBUS_BASE] = 0xf0;
  mask[REG_SMBUS_BASE + 1] = 0xff;
  memset(mask + REG_SMBUS_CONFIG, 0xff, 4);
  mask[REG_SMBUS_CONFIG] = 0x0f;
}

static void map_regions(Piix4Pm *s, Vm *vm)
{
  VmMemory *memory = vm_get_memory(vm);
  VmIoContext *ctx = s->pci.dev.ctx;
  vm_memory_begin(memory);
  s->pm_region = vm_region_new_io(memory, "acpi-pm", VM_SPACE_PORTS, 0, PM_BYTES, PC_PRIORITY_PCI, &pm_ops, s, ctx);
  s->smbus_region =
      vm_region_new_io(memory, "smbus", VM_SPACE_PORTS, 0, SMBUS_BYTES, PC_PRIORITY_PCI, &smbus_ops, s, ctx);
  vm_region_set_enabled(s->pm_region, false);
  vm_region_set_enabled(s->smbus_region, false);
  vm_region_new_io(memory, "acpi-gpe0", VM_SPACE_PORTS, PIIX4_GPE0_BASE, PIIX4_GPE0_BYTES, PC_PRIORITY_FIXED, &gpe_ops,
                   s, ctx);
  vm_region_new_io(memory, "apm", VM_SPACE_PORTS, PIIX4_SMI_CMD_PORT, 2, PC_PRIORITY_FIXED, &apm_ops, s, ctx);
  vm_memory_commit(memory);
}

Piix4Pm *piix4_pm_create(Vm *vm, PciBus *bus, unsigned slot, VmIrq sci)
{
  static const PciIds ids = { .vendor = 0x8086, .device = 0x7113, .class_code = 0x068000, .revision = 3 };
  Piix4Pm *s = pci_device_new(bus, &piix4_pm_type, "piix4-pm", PCI_DEVFN(slot, 3), &ids);
  s->sci = sci;
  s->smm_available = true;
  s->pci.config_written = piix4_pm_config_written;
  vm_timer_init(&s->timer, s->pci.dev.ctx, on_timer, s);
  pci_set_interrupt_pin(&s->pci, 1);
  set_masks(s);
  map_regions(s, vm);
  vm_set_powerdown_handler(vm, on_powerdown, s);
  piix4_pm_reset(&s->pci.dev);
  return s;
}

void piix4_pm_set_smm(Piix4Pm *pm, bool available)
{
  pm->smm_available = available;
  apply_smm(pm);
}
