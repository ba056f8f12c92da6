/*
 * The host bridge (Intel 82441FX PMC, "82441FX PCI and Memory Controller", order number 290549).
 *
 * Modelled: configuration mechanism #1, PAM, SMRAM, the turbo reset. The DRAM timing registers hold what is written, and
 * the row boundaries tell the size of the memory. D_CLS (in SMM, data accesses go to PCI while fetches stay) is held but
 * has no effect, since the memory's views do not tell fetches from data; firmware leaves it clear.
 */
#include "hw/pci/i440fx.h"

#include "vm-engine/vm.h"

enum {
  REG_COMMAND = 0x04,
  REG_STATUS = 0x06,
  REG_DRAM_CONTROL = 0x50, /* PMCCFG to DRAMT */
  REG_PAM0 = 0x59,
  REG_DRB0 = 0x60,
  REG_FDHC = 0x68,
  REG_MTT = 0x70,
  REG_CLT = 0x71,
  REG_SMRAM = 0x72,
  REG_ERRCMD = 0x90,
  REG_ERRSTS = 0x91,
  REG_TRC = 0x93,

  PAM_READ = 1 << 0,
  PAM_WRITE = 1 << 1,
  SMRAM_BASE_SEGMENT = 2, /* C_BASE_SEG: A0000, fixed */
  SMRAM_ENABLE = 1 << 3,  /* G_SMRAME */
  SMRAM_LOCK = 1 << 4,    /* D_LCK */
  SMRAM_CLOSED = 1 << 5,  /* D_CLS */
  SMRAM_OPEN = 1 << 6,    /* D_OPEN */
  TRC_HARD = 1 << 1,
  TRC_RESET = 1 << 2,

  PORT_ADDRESS = 0xcf8,
  PORTS_BYTES = 8,
  PORT_DATA_OFFSET = 4,
  RESET_CONTROL_OFFSET = 1,
};

#define ADDRESS_ENABLE 0x80000000u
#define ADDRESS_BITS   0x80fffffcu
#define N_PAM          13
#define N_ROWS         8
#define ROW_UNIT_BYTES (UINT64_C(8) << 20)

struct I440fx {
  PciDevice pci;
  VmRam *ram;
  uint32_t address; /* CONFADD */
  bool trc_armed;   /* the reset bit stood at 1 at the last write */
  VmRegion *pam[N_PAM];
  VmRegion *smram;
  const VmMmioOps *reset_ops;
  void *reset_opaque;
};

static const VmField i440fx_fields[] = {
  VM_STRUCT(I440fx, pci, pci_device_fields),
  VM_TRANSIENT(I440fx, ram, "wiring"),
  VM_UINT(I440fx, address),
  VM_UINT_MAX(I440fx, trc_armed, 1),
  VM_TRANSIENT(I440fx, pam, "mappings follow the configuration bytes"),
  VM_TRANSIENT(I440fx, smram, "mappings follow the configuration bytes"),
  VM_TRANSIENT(I440fx, reset_ops, "wiring"),
  VM_TRANSIENT(I440fx, reset_opaque, "wiring"),
  VM_FIELDS_END,
};

/* ---- shadowing ---------------------------------------------------------------------------------------------------- */

/* Segment 0 is F0000–FFFFF, in the high half of PAM0; 1–12 are 16 KiB each from C0000, low half first. */
static uint64_t pam_base(unsigned segment)
{
  return segment == 0 ? 0xf0000 : 0xc0000 + (segment - 1) * UINT64_C(0x4000);
}

static unsigned pam_attributes(const I440fx *s, unsigned segment)
{
  unsigned nibble = segment + 1;
  return (unsigned)s->pci.config[REG_PAM0 + nibble / 2] >> (nibble % 2 * 4) & 3;
}

static void update_pam(I440fx *s)
{
  for (unsigned i = 0; i < N_PAM; i++) {
    unsigned attributes = pam_attributes(s, i);
    unsigned access = (attributes & PAM_READ ? VM_ACCESS_READ : 0) | (attributes & PAM_WRITE ? VM_ACCESS_WRITE : 0);
    vm_region_set_access(s->pam[i], (VmAccess)access);
  }
}

/* Visible to SMM while enabled, and to everybody while open. */
static void update_smram(I440fx *s)
{
  uint8_t value = s->pci.config[REG_SMRAM];
  vm_region_set_smm_only(s->smram, !(value & SMRAM_OPEN));
  vm_region_set_enabled(s->smram, (value & SMRAM_ENABLE) != 0);
}

static void update_mappings(I440fx *s)
{
  VmMemory *memory = vm_get_memory(s->pci.dev.vm);
  vm_memory_begin(memory);
  update_pam(s);
  update_smram(s);
  vm_memory_commit(memory);
}

/* Once locked, SMRAM is closed and the register is read-only until reset. */
static void lock_smram(I440fx *s)
{
  bool locked = s->pci.config[REG_SMRAM] & SMRAM_LOCK;
  if (locked)
    s->pci.config[REG_SMRAM] &= (uint8_t)~SMRAM_OPEN;
  s->pci.write_mask[REG_SMRAM] = locked ? SMRAM_CLOSED : SMRAM_OPEN | SMRAM_CLOSED | SMRAM_LOCK | SMRAM_ENABLE;
}

static void i440fx_config_written(PciDevice *dev, unsigned offset, unsigned size)
{
  I440fx *s = (I440fx *)dev;
  if (offset <= REG_SMRAM && offset + size > REG_PAM0) {
    lock_smram(s);
    update_mappings(s);
  }
  if (offset <= REG_TRC && offset + size > REG_TRC) {
    bool reset = dev->config[REG_TRC] & TRC_RESET;
    if (reset && !s->trc_armed)
      vm_request_reset(dev->dev.vm);
    s->trc_armed = reset;
  }
}

/* ---- configuration mechanism #1 ------------------------------------------------------------------------------------ */

static uint64_t i440fx_ports_read(void *opaque, uint64_t offset, unsigned size)
{
  I440fx *s = opaque;
  if (offset == 0 && size == 4)
    return s->address;
  if (offset == RESET_CONTROL_OFFSET && size == 1 && s->reset_ops != NULL)
    return s->reset_ops->read(s->reset_opaque, 0, 1);
  if (offset < PORT_DATA_OFFSET || !(s->address & ADDRESS_ENABLE))
    return UINT64_MAX;
  return pci_config_read(s->pci.bus, (uint8_t)(s->address >> 16), (uint8_t)(s->address >> 8),
                         (s->address & 0xfc) + (unsigned)(offset & 3), size);
}

static void i440fx_ports_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I440fx *s = opaque;
  if (offset == 0 && size == 4)
    s->address = (uint32_t)value & ADDRESS_BITS;
  else if (offset == RESET_CONTROL_OFFSET && size == 1 && s->reset_ops != NULL)
    s->reset_ops->write(s->reset_opaque, 0, value, 1);
  else if (offset >= PORT_DATA_OFFSET && (s->address & ADDRESS_ENABLE))
    pci_config_write(s->pci.bus, (uint8_t)(s->address >> 16), (uint8_t)(s->address >> 8),
                     (s->address & 0xfc) + (unsigned)(offset & 3), (uint32_t)value, size);
}

static const VmMmioOps i440fx_ports_ops = { .read = i440fx_ports_read, .write = i440fx_ports_write, .impl_max = 4 };

/* ---- life --------------------------------------------------------------------------------------------------------- */

/* Each row register holds where its row ends, in units of 8 MiB. */
static void set_row_boundaries(I440fx *s)
{
  uint64_t units = MIN(vm_ram_get_size(s->ram) / ROW_UNIT_BYTES, UINT64_C(0xff));
  for (unsigned i = 0; i < N_ROWS; i++)
    s->pci.config[REG_DRB0 + i] = (uint8_t)MIN(units, (i + 1) * UINT64_C(0x20));
}

static void i440fx_reset(VmDevice *dev)
{
  I440fx *s = (I440fx *)dev;
  uint8_t *config = s->pci.config;
  pci_device_reset(&s->pci);
  memset(config + 0x40, 0, PCI_CONFIG_BYTES - 0x40);
  config[REG_COMMAND] = 0x06;
  config[REG_STATUS] = 0x80;
  config[REG_STATUS + 1] = 0x02;
  config[0x57] = 0x01;
  config[0x58] = 0x10;
  set_row_boundaries(s);
  config[REG_SMRAM] = SMRAM_BASE_SEGMENT;
  s->address = 0;
  s->trc_armed = false;
  lock_smram(s);
  update_mappings(s);
}

static void i440fx_loaded(VmDevice *dev)
{
  I440fx *s = (I440fx *)dev;
  pci_device_loaded(&s->pci);
  lock_smram(s);
  update_mappings(s);
}

/* The bridge stands first on its bus and so is finished last. */
static void i440fx_finish(VmDevice *dev)
{
  pci_bus_free(((I440fx *)dev)->pci.bus);
}

static const VmDeviceType i440fx_type = {
  .name = "i440fx",
  .version = 1,
  .size = sizeof(I440fx),
  .fields = i440fx_fields,
  .reset = i440fx_reset,
  .loaded = i440fx_loaded,
  .finish = i440fx_finish,
};

static void set_masks(I440fx *s)
{
  uint8_t *mask = s->pci.write_mask;
  mask[REG_COMMAND] = 0x40; /* memory and bus master are hardwired to 1 */
  mask[REG_COMMAND + 1] = 0x01;
  memset(mask + REG_DRAM_CONTROL, 0xff, REG_PAM0 - REG_DRAM_CONTROL);
  mask[REG_PAM0] = 0x70;
  memset(mask + REG_PAM0 + 1, 0x77, 6);
  memset(mask + REG_DRB0, 0xff, N_ROWS);
  mask[REG_FDHC] = 0xc0;
  mask[REG_MTT] = 0xf8;
  mask[REG_CLT] = 0xff;
  mask[REG_ERRCMD] = 0x1b;
  s->pci.clear_mask[REG_ERRSTS] = 0x11;
  mask[REG_TRC] = TRC_HARD | TRC_RESET;
}

static void map_regions(I440fx *s, Vm *vm)
{
  VmMemory *memory = vm_get_memory(vm);
  vm_memory_begin(memory);
  vm_region_new_io(memory, "pci-config", VM_SPACE_PORTS, PORT_ADDRESS, PORTS_BYTES, PC_PRIORITY_FIXED,
                   &i440fx_ports_ops, s, s->pci.dev.ctx);
  for (unsigned i = 0; i < N_PAM; i++)
    s->pam[i] = vm_region_new_ram(memory, "pam", pam_base(i), i == 0 ? 0x10000 : 0x4000, PC_PRIORITY_SHADOW, s->ram,
                                  pam_base(i), VM_ACCESS_NONE);
  s->smram = vm_region_new_ram(memory, "smram", 0xa0000, 0x20000, PC_PRIORITY_SHADOW, s->ram, 0xa0000, VM_ACCESS_RW);
  vm_region_set_smm_only(s->smram, true);
  vm_region_set_enabled(s->smram, false);
  vm_memory_commit(memory);
}

I440fx *i440fx_create(Vm *vm, PciBus *bus, VmRam *ram)
{
  static const PciIds ids = { .vendor = 0x8086, .device = 0x1237, .class_code = 0x060000, .revision = 2 };
  g_assert(vm_ram_get_size(ram) >= UINT64_C(1) << 20);
  I440fx *s = pci_device_new(bus, &i440fx_type, "i440fx", PCI_DEVFN(0, 0), &ids);
  s->ram = ram;
  s->pci.config_written = i440fx_config_written;
  set_masks(s);
  map_regions(s, vm);
  i440fx_reset(&s->pci.dev);
  return s;
}

void i440fx_set_reset_control(I440fx *host, const VmMmioOps *ops, void *opaque)
{
  host->reset_ops = ops;
  host->reset_opaque = opaque;
}
