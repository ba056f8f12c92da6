/*
 * The interrupt bus between local APICs, I/O APIC and devices (Intel SDM volume 3, 11.6 and 11.11): which local APICs a
 * message is for. It holds no state but who won the last lowest-priority arbitration.
 */
#include "hw/intc/i8259.h"
#include "hw/intc/lapic-private.h"
#include "vm-engine/vm.h"

#define BROADCAST      0xffu
#define BROADCAST_WIDE 0xffffffffu
#define DFR_FLAT       0xfu

struct LapicBus {
  VmDevice dev;
  I8259 *pic;
  LapicEoiFunc eoi;
  void *eoi_opaque;
  Lapic *lapics[LAPIC_MAX_CPUS];
  unsigned n_lapics;
  uint32_t last_lowest;
};

static const VmField lapic_bus_fields[] = {
  VM_TRANSIENT(LapicBus, pic, "wiring"),
  VM_TRANSIENT(LapicBus, eoi, "wiring"),
  VM_TRANSIENT(LapicBus, eoi_opaque, "wiring"),
  VM_TRANSIENT(LapicBus, lapics, "wiring"),
  VM_TRANSIENT(LapicBus, n_lapics, "wiring"),
  VM_UINT_MAX(LapicBus, last_lowest, LAPIC_MAX_CPUS - 1),
  VM_FIELDS_END,
};

/* ---- destinations -------------------------------------------------------------------------------------------------- */

static bool matches_physical(const Lapic *l, const LapicMessage *m)
{
  return m->destination == (m->wide ? BROADCAST_WIDE : BROADCAST) || m->destination == l->id;
}

/* x2APIC: cluster in the upper half, one bit a member in the lower. An eight-bit destination reaches cluster 0. */
static bool matches_x2apic_logical(const Lapic *l, uint32_t destination)
{
  uint32_t id = lapic_get_logical_id(l);
  return destination >> 16 == id >> 16 && (destination & id & 0xffff) != 0;
}

static bool matches_xapic_logical(const Lapic *l, uint32_t destination)
{
  uint32_t id = lapic_get_logical_id(l);
  if (destination > BROADCAST)
    return false;
  if (l->dfr >> 28 == DFR_FLAT)
    return (destination & id) != 0;
  return destination >> 4 == id >> 4 && (destination & id & 0xf) != 0;
}

static bool is_for(const Lapic *l, const LapicMessage *m)
{
  if (!lapic_is_enabled(l))
    return false;
  if (!m->logical)
    return matches_physical(l, m);
  if (m->destination == (m->wide ? BROADCAST_WIDE : BROADCAST))
    return true;
  return lapic_is_x2apic(l) ? matches_x2apic_logical(l, m->destination) : matches_xapic_logical(l, m->destination);
}

/* ---- delivery ------------------------------------------------------------------------------------------------------ */

/* Among those addressed, the one that runs at the lowest priority; equals take turns. */
static Lapic *arbitrate(LapicBus *bus, const LapicMessage *m)
{
  Lapic *best = NULL;
  uint32_t best_index = 0;
  for (unsigned i = 1; i <= bus->n_lapics; i++) {
    uint32_t index = (bus->last_lowest + i) % bus->n_lapics;
    Lapic *l = bus->lapics[index];
    if (!is_for(l, m) || !lapic_accepts_fixed(l))
      continue;
    if (best == NULL || lapic_get_ppr(l) < lapic_get_ppr(best)) {
      best = l;
      best_index = index;
    }
  }
  if (best != NULL)
    bus->last_lowest = best_index;
  return best;
}

bool lapic_bus_deliver(LapicBus *bus, const LapicMessage *message)
{
  if (message->delivery == LAPIC_LOWEST) {
    Lapic *l = arbitrate(bus, message);
    return l != NULL && lapic_receive(l, message);
  }
  bool taken = false;
  for (unsigned i = 0; i < bus->n_lapics; i++) {
    if (is_for(bus->lapics[i], message))
      taken |= lapic_receive(bus->lapics[i], message);
  }
  return taken;
}

void lapic_bus_send_ipi(LapicBus *bus, Lapic *from, const LapicMessage *message, unsigned shorthand)
{
  enum { NONE, SELF, ALL, OTHERS };
  if (shorthand == NONE) {
    lapic_bus_deliver(bus, message);
    return;
  }
  LapicMessage fixed = *message;
  if (fixed.delivery == LAPIC_LOWEST)
    fixed.delivery = LAPIC_FIXED;
  for (unsigned i = 0; i < bus->n_lapics; i++) {
    Lapic *l = bus->lapics[i];
    bool wanted = shorthand == ALL || (shorthand == SELF) == (l == from);
    if (wanted && lapic_is_enabled(l))
      lapic_receive(l, &fixed);
  }
}

/* Address: destination in bits 19:12, destination mode in bit 2. Data: vector, delivery mode in 10:8, assertion of a
 * level in 14, trigger mode in 15. SDM volume 3, 11.11. */
void lapic_deliver_msi(LapicBus *bus, uint64_t address, uint32_t data)
{
  LapicMessage message = {
    .destination = (uint32_t)(address >> 12) & 0xff,
    .logical = (address & 1 << 2) != 0,
    .level = (data & 1 << 15) != 0,
    .vector = (uint8_t)data,
    .delivery = (LapicDelivery)(data >> 8 & 7),
  };
  if (address >> 20 != LAPIC_BASE >> 20 || (message.level && !(data & 1 << 14)))
    return;
  lapic_bus_deliver(bus, &message);
}

void lapic_bus_end_of_interrupt(LapicBus *bus, uint8_t vector)
{
  if (bus->eoi != NULL)
    bus->eoi(bus->eoi_opaque, vector);
}

/* ---- wires --------------------------------------------------------------------------------------------------------- */

/* `line` is the LINT pin. */
static void set_lints(void *opaque, unsigned line, bool level)
{
  LapicBus *bus = opaque;
  for (unsigned i = 0; i < bus->n_lapics; i++)
    lapic_set_lint(bus->lapics[i], line, level);
}

VmIrq lapic_bus_nmi(LapicBus *bus)
{
  return (VmIrq){ .func = set_lints, .opaque = bus, .line = 1 };
}

void lapic_bus_set_eoi(LapicBus *bus, LapicEoiFunc func, void *opaque)
{
  bus->eoi = func;
  bus->eoi_opaque = opaque;
}

void lapic_bus_add(LapicBus *bus, Lapic *l)
{
  g_assert(bus->n_lapics < LAPIC_MAX_CPUS);
  bus->lapics[bus->n_lapics++] = l;
}

Lapic *lapic_bus_get_first(LapicBus *bus)
{
  return bus->lapics[0];
}

I8259 *lapic_bus_get_pic(LapicBus *bus)
{
  return bus->pic;
}

/* ---- life ---------------------------------------------------------------------------------------------------------- */

static void lapic_bus_reset(VmDevice *dev)
{
  ((LapicBus *)dev)->last_lowest = 0;
}

static const VmDeviceType lapic_bus_type = {
  .name = "lapic-bus",
  .version = 1,
  .size = sizeof(LapicBus),
  .fields = lapic_bus_fields,
  .reset = lapic_bus_reset,
};

LapicBus *lapic_bus_create(Vm *vm, I8259 *pic)
{
  LapicBus *bus = vm_device_new(vm, &lapic_bus_type, "lapic-bus");
  bus->pic = pic;
  i8259_connect_output(pic, (VmIrq){ .func = set_lints, .opaque = bus, .line = 0 });
  return bus;
}
