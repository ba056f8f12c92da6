/*
 * The PCI-to-ISA bridge (Intel 82371SB PIIX3, order number 290550), function 0.
 *
 * Modelled: interrupt steering, the reset control register, the ISA lines. The rest of the configuration registers holds
 * what is written; what they control (decode windows for the BIOS ROM, DMA aliases) is fixed on this board.
 *
 * Lines are logical levels: true is asserted, whether the wire is active high (ISA) or low (PCI). So the I/O APIC's
 * polarity bits have nothing to invert.
 */
#include "hw/pci/piix3.h"

#include "hw/intc/i8259.h"
#include "hw/intc/ioapic.h"
#include "vm-engine/vm.h"

enum {
  REG_COMMAND = 0x04,
  REG_STATUS = 0x06,
  REG_PIRQ = 0x60,
  PIRQ_DISABLE = 1 << 7,
  PIRQ_LINE = 0xf,

  RCR_HARD = 1 << 1,
  RCR_RESET = 1 << 2,
};

#define N_ISA_IRQS    16
#define N_PIRQS       4
#define ROUTABLE_IRQS 0xdef8u /* 3–7, 9–12, 14, 15; other values are reserved */

struct Piix3 {
  PciDevice pci;
  I8259 *pic;
  Ioapic *ioapic;
  uint16_t isa_levels; /* as the ISA devices drive them */
  uint16_t driven;     /* as the interrupt controllers see them */
  uint8_t pirq_levels;
  uint8_t reset_control;
};

static const VmField piix3_fields[] = {
  VM_STRUCT(Piix3, pci, pci_device_fields),
  VM_TRANSIENT(Piix3, pic, "wiring"),
  VM_TRANSIENT(Piix3, ioapic, "wiring"),
  VM_UINT(Piix3, isa_levels),
  VM_UINT(Piix3, driven),
  VM_UINT(Piix3, pirq_levels),
  VM_UINT(Piix3, reset_control),
  VM_FIELDS_END,
};

/* ---- interrupt lines ---------------------------------------------------------------------------------------------- */

static uint16_t steered_lines(const Piix3 *s)
{
  uint16_t lines = 0;
  for (unsigned i = 0; i < N_PIRQS; i++) {
    uint8_t route = s->pci.config[REG_PIRQ + i];
    if ((s->pirq_levels >> i & 1) && !(route & PIRQ_DISABLE))
      lines |= (uint16_t)(1u << (route & PIRQ_LINE) & ROUTABLE_IRQS);
  }
  return lines;
}

/* IRQ 0 is wired to pin 2 of the I/O APIC, in the place of the cascade, which is not wired to it. */
static void drive_line(Piix3 *s, unsigned irq, bool level)
{
  VmIrq pic = i8259_irq(s->pic, irq);
  vm_irq_set(&pic, level);
  if (s->ioapic == NULL || irq == 2)
    return;
  VmIrq pin = ioapic_irq(s->ioapic, irq == 0 ? 2 : irq);
  vm_irq_set(&pin, level);
}

static void update_lines(Piix3 *s)
{
  uint16_t wanted = s->isa_levels | steered_lines(s);
  uint16_t changed = wanted ^ s->driven;
  s->driven = wanted;
  for (unsigned i = 0; changed != 0; i++, changed >>= 1) {
    if (changed & 1)
      drive_line(s, i, wanted >> i & 1);
  }
}

static void set_isa_line(void *opaque, unsigned line, bool level)
{
  Piix3 *s = opaque;
  if (level)
    s->isa_levels |= (uint16_t)(1u << line);
  else
    s->isa_levels &= (uint16_t) ~(1u << line);
  update_lines(s);
}

static void set_pci_line(void *opaque, unsigned line, bool level)
{
  Piix3 *s = opaque;
  s->pirq_levels = (uint8_t)((s->pirq_levels & ~(1u << line)) | (unsigned)level << line);
  update_lines(s);
}

VmIrq piix3_isa_irq(Piix3 *piix3, unsigned irq)
{
  g_assert(irq < N_ISA_IRQS);
  return (VmIrq){ .func = set_isa_line, .opaque = piix3, .line = irq };
}

static void piix3_config_written(PciDevice *dev, unsigned offset, unsigned size)
{
  if (offset < REG_PIRQ + N_PIRQS && offset + size > REG_PIRQ)
    update_lines((Piix3 *)dev);
}

/* ---- reset control (port 0xCF9) ------------------------------------------------------------------------------------ */

static uint64_t reset_control_read(void *opaque, uint64_t offset, unsigned size)
{
  return ((Piix3 *)opaque)->reset_control;
}

/* The rise of RCPU resets; hard or soft is the same to a machine whose reset is always whole. */
static void reset_control_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Piix3 *s = opaque;
  bool rises = (value & RCR_RESET) && !(s->reset_control & RCR_RESET);
  s->reset_control = (uint8_t)(value & (RCR_HARD | RCR_RESET));
  if (rises)
    vm_request_reset(s->pci.dev.vm);
}

static const VmMmioOps reset_control_ops = { .read = reset_control_read, .write = reset_control_write };

/* ---- life --------------------------------------------------------------------------------------------------------- */

static void piix3_reset(VmDevice *dev)
{
  Piix3 *s = (Piix3 *)dev;
  uint8_t *config = s->pci.config;
  pci_device_reset(&s->pci);
  memset(config + 0x40, 0, PCI_CONFIG_BYTES - 0x40);
  config[REG_COMMAND] = 0x07;
  config[REG_STATUS + 1] = 0x02;
  config[0x4c] = 0x4d;
  config[0x4e] = 0x03;
  memset(config + REG_PIRQ, PIRQ_DISABLE, N_PIRQS);
  config[0x69] = 0x02;
  config[0x70] = 0x80;
  config[0x76] = 0x0c;
  config[0x77] = 0x0c;
  config[0x78] = 0x02;
  config[0xa0] = 0x08;
  config[0xa8] = 0x0f;
  s->reset_control = 0;
  update_lines(s);
}

static void piix3_loaded(VmDevice *dev)
{
  pci_device_loaded(&((Piix3 *)dev)->pci);
}

static const VmDeviceType piix3_type = {
  .name = "piix3",
  .version = 1,
  .size = sizeof(Piix3),
  .fields = piix3_fields,
  .reset = piix3_reset,
  .loaded = piix3_loaded,
};

static void set_masks(Piix3 *s)
{
  uint8_t *mask = s->pci.write_mask;
  mask[REG_COMMAND] = 0x08; /* ports, memory and bus master are hardwired to 1 */
  mask[REG_COMMAND + 1] = 0x01;
  mask[0x4c] = 0xff;
  mask[0x4e] = 0xff;
  mask[0x4f] = 0x07;
  memset(mask + REG_PIRQ, PIRQ_DISABLE | PIRQ_LINE, N_PIRQS);
  mask[0x69] = 0xfe;
  mask[0x70] = 0xff;
  mask[0x71] = 0xff;
  mask[0x76] = 0x8f;
  mask[0x77] = 0x8f;
  mask[0x78] = 0xff;
  mask[0x79] = 0xff;
  mask[0x80] = 0x7f;
  mask[0x82] = 0x0f;
  memset(mask + 0xa0, 0xff, 0x10);
  s->pci.clear_mask[REG_STATUS + 1] = 0x78;
}

Piix3 *piix3_create(Vm *vm, PciBus *bus, unsigned slot, I440fx *host, I8259 *pic, Ioapic *ioapic)
{
  static const PciIds ids = { .vendor = 0x8086, .device = 0x7000, .class_code = 0x060100 };
  Piix3 *s = pci_device_new(bus, &piix3_type, "piix3", PCI_DEVFN(slot, 0), &ids);
  s->pic = pic;
  s->ioapic = ioapic;
  s->pci.config_written = piix3_config_written;
  set_masks(s);
  pci_bus_set_intx(bus, set_pci_line, s);
  i440fx_set_reset_control(host, &reset_control_ops, s);
  piix3_reset(&s->pci.dev);
  return s;
}
