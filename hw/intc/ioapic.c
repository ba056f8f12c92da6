/*
 * The I/O APIC (Intel 82093AA, order number 290566), with version 0x20 and the EOI register of the controllers in later
 * south bridges.
 *
 * A level-triggered pin sends once, sets its remote IRR, and sends again after the EOI if its line still asks. An edge
 * on a masked pin is lost, as the data sheet says. Lines carry logical levels, so the polarity bits are only held.
 */
#include "hw/intc/ioapic.h"

#include "hw/pci/i440fx.h"
#include "vm-engine/vm.h"

enum {
  REG_SELECT = 0x00,
  REG_WINDOW = 0x10,
  REG_EOI = 0x40,
  REGION_BYTES = 0x1000,

  INDEX_ID = 0x00,
  INDEX_VERSION = 0x01,
  INDEX_ARBITRATION = 0x02,
  INDEX_ENTRIES = 0x10,
  VERSION = 0x20,
};

#define ENTRY_VECTOR            0xffu
#define ENTRY_DELIVERY_SHIFT    8
#define ENTRY_LOGICAL           (UINT64_C(1) << 11)
#define ENTRY_REMOTE_IRR        (UINT64_C(1) << 14)
#define ENTRY_LEVEL             (UINT64_C(1) << 15)
#define ENTRY_MASKED            (UINT64_C(1) << 16)
#define ENTRY_DESTINATION_SHIFT 56
#define ENTRY_WRITABLE          UINT64_C(0xff0000000001afff)

struct Ioapic {
  VmDevice dev;
  LapicBus *bus;
  uint8_t initial_id;
  uint8_t id;
  uint8_t select;
  uint32_t lines; /* input levels */
  uint64_t entries[IOAPIC_N_PINS];
};

static const VmField ioapic_fields[] = {
  VM_TRANSIENT(Ioapic, bus, "wiring"),
  VM_TRANSIENT(Ioapic, initial_id, "wiring"),
  VM_UINT(Ioapic, id),
  VM_UINT(Ioapic, select),
  VM_UINT(Ioapic, lines),
  VM_UINT_ARRAY(Ioapic, entries),
  VM_FIELDS_END,
};

/* ---- delivery ------------------------------------------------------------------------------------------------------ */

static LapicDelivery entry_delivery(uint64_t entry)
{
  return (LapicDelivery)(entry >> ENTRY_DELIVERY_SHIFT & 7);
}

/* Only fixed and lowest-priority interrupts have an EOI; the others go by edges whatever the trigger bit says. */
static bool is_level(uint64_t entry)
{
  return (entry & ENTRY_LEVEL) && (entry_delivery(entry) == LAPIC_FIXED || entry_delivery(entry) == LAPIC_LOWEST);
}

static bool send(Ioapic *s, uint64_t entry)
{
  LapicMessage message = {
    .destination = (uint32_t)(entry >> ENTRY_DESTINATION_SHIFT),
    .logical = (entry & ENTRY_LOGICAL) != 0,
    .level = is_level(entry),
    .vector = entry & ENTRY_VECTOR,
    .delivery = entry_delivery(entry),
  };
  return lapic_bus_deliver(s->bus, &message);
}

static void service_level(Ioapic *s, unsigned pin)
{
  uint64_t *entry = &s->entries[pin];
  if (!is_level(*entry) || !(s->lines >> pin & 1) || (*entry & (ENTRY_MASKED | ENTRY_REMOTE_IRR)))
    return;
  if (send(s, *entry))
    *entry |= ENTRY_REMOTE_IRR;
}

static void set_pin(void *opaque, unsigned pin, bool level)
{
  Ioapic *s = opaque;
  bool rises = level && !(s->lines >> pin & 1);
  uint64_t entry = s->entries[pin];
  s->lines = (s->lines & ~(1u << pin)) | (uint32_t)level << pin;
  if (is_level(entry))
    service_level(s, pin);
  else if (rises && !(entry & ENTRY_MASKED))
    (void)send(s, entry);
}

VmIrq ioapic_irq(Ioapic *ioapic, unsigned pin)
{
  g_assert(pin < IOAPIC_N_PINS);
  return (VmIrq){ .func = set_pin, .opaque = ioapic, .line = pin };
}

static void end_of_interrupt(void *opaque, uint8_t vector)
{
  Ioapic *s = opaque;
  for (unsigned i = 0; i < IOAPIC_N_PINS; i++) {
    if ((s->entries[i] & ENTRY_VECTOR) != vector || !(s->entries[i] & ENTRY_REMOTE_IRR))
      continue;
    s->entries[i] &= ~ENTRY_REMOTE_IRR;
    service_level(s, i);
  }
}

/* ---- registers ----------------------------------------------------------------------------------------------------- */

static uint32_t read_index(const Ioapic *s)
{
  unsigned entry = (s->select - (unsigned)INDEX_ENTRIES) / 2;
  if (s->select == INDEX_ID || s->select == INDEX_ARBITRATION)
    return (uint32_t)s->id << 24;
  if (s->select == INDEX_VERSION)
    return (IOAPIC_N_PINS - 1) << 16 | VERSION;
  if (s->select < INDEX_ENTRIES || entry >= IOAPIC_N_PINS)
    return 0;
  return (uint32_t)(s->entries[entry] >> (s->select % 2 * 32));
}

static void write_entry(Ioapic *s, unsigned pin, unsigned shift, uint32_t value)
{
  uint64_t mask = UINT64_C(0xffffffff) << shift & ENTRY_WRITABLE;
  s->entries[pin] = (s->entries[pin] & ~mask) | ((uint64_t)value << shift & mask);
  if (!is_level(s->entries[pin]))
    s->entries[pin] &= ~ENTRY_REMOTE_IRR;
  service_level(s, pin);
}

static void write_index(Ioapic *s, uint32_t value)
{
  unsigned entry = (s->select - (unsigned)INDEX_ENTRIES) / 2;
  if (s->select == INDEX_ID)
    s->id = value >> 24 & 0xf;
  else if (s->select >= INDEX_ENTRIES && entry < IOAPIC_N_PINS)
    write_entry(s, entry, s->select % 2 * 32, value);
}

static uint64_t ioapic_read(void *opaque, uint64_t offset, unsigned size)
{
  Ioapic *s = opaque;
  switch (offset & ~UINT64_C(3)) {
  case REG_SELECT:
    return s->select;
  case REG_WINDOW:
    return read_index(s);
  default:
    return 0;
  }
}

static void ioapic_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Ioapic *s = opaque;
  switch (offset) {
  case REG_SELECT:
    s->select = (uint8_t)value;
    break;
  case REG_WINDOW:
    write_index(s, (uint32_t)value);
    break;
  case REG_EOI:
    end_of_interrupt(s, (uint8_t)value);
    break;
  }
}

static const VmMmioOps ioapic_ops = { .read = ioapic_read, .write = ioapic_write, .impl_min = 4, .impl_max = 4 };

/* ---- life ---------------------------------------------------------------------------------------------------------- */

/* Input levels are the devices' and stay. */
static void ioapic_reset(VmDevice *dev)
{
  Ioapic *s = (Ioapic *)dev;
  s->id = s->initial_id;
  s->select = 0;
  for (unsigned i = 0; i < IOAPIC_N_PINS; i++)
    s->entries[i] = ENTRY_MASKED;
}

static const VmDeviceType ioapic_type = {
  .name = "ioapic",
  .version = 1,
  .size = sizeof(Ioapic),
  .fields = ioapic_fields,
  .reset = ioapic_reset,
};

Ioapic *ioapic_create(Vm *vm, LapicBus *bus, uint8_t id)
{
  Ioapic *s = vm_device_new(vm, &ioapic_type, "ioapic");
  s->bus = bus;
  s->initial_id = id & 0xf;
  vm_region_new_io(vm_get_memory(vm), "ioapic", VM_SPACE_MEMORY, IOAPIC_BASE, REGION_BYTES, PC_PRIORITY_CHIPSET,
                   &ioapic_ops, s, s->dev.ctx);
  lapic_bus_set_eoi(bus, end_of_interrupt, s);
  ioapic_reset(&s->dev);
  return s;
}
