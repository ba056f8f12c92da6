/*
 * High precision event timers (IA-PC HPET Specification 1.0a).
 *
 * The main counter is a function of virtual time; a timer's callback exists only while it is enabled and the counter
 * runs. Deviations: no FSB (message) delivery, which the specification makes optional; matches closer together than
 * MIN_INTERVAL_NS become one.
 */
#include "hw/timer/hpet.h"

#include "hw/pci/i440fx.h"
#include "vm-engine/vm.h"

enum {
  REG_CAPABILITIES = 0x000,
  REG_CONFIG = 0x010,
  REG_STATUS = 0x020,
  REG_COUNTER = 0x0f0,
  REG_TIMERS = 0x100,
  TIMER_STRIDE = 0x20,
  TIMER_CONFIG = 0x00,
  TIMER_COMPARATOR = 0x08,
  REGION_BYTES = 0x400,

  CONFIG_ENABLE = 1 << 0,
  CONFIG_LEGACY = 1 << 1,

  T_LEVEL = 1 << 1,
  T_ENABLE = 1 << 2,
  T_PERIODIC = 1 << 3,
  T_CAN_PERIODIC = 1 << 4,
  T_IS_64_BIT = 1 << 5,
  T_SET_VALUE = 1 << 6,
  T_32_BIT = 1 << 8,
  T_ROUTE_SHIFT = 9,
  T_ROUTE = 31 << T_ROUTE_SHIFT,
  T_WRITABLE = T_LEVEL | T_ENABLE | T_PERIODIC | T_SET_VALUE | T_32_BIT | T_ROUTE,
};

#define TICK_NS         10 /* HPET_PERIOD_FS */
#define MIN_INTERVAL_NS (20 * VM_NS_PER_US)
/* Matches further off than this, some twenty years, are never met. */
#define MAX_WAIT_TICKS (UINT64_C(1) << 56)

typedef struct HpetTimer {
  uint64_t config; /* T_WRITABLE bits */
  uint64_t comparator;
  uint64_t period;
  VmTimer timer;
  Hpet *hpet;
} HpetTimer;

struct Hpet {
  VmDevice dev;
  HpetWiring wiring;
  uint32_t route_mask; /* connected routes */
  uint32_t config;
  uint32_t status;
  uint64_t base; /* the counter's value at start_ns, or while it is halted */
  int64_t start_ns;
  HpetTimer timers[HPET_N_TIMERS];
};

static const VmField hpet_timer_fields[] = {
  VM_UINT(HpetTimer, config), VM_UINT(HpetTimer, comparator),          VM_UINT(HpetTimer, period),
  VM_TIMER(HpetTimer, timer), VM_TRANSIENT(HpetTimer, hpet, "wiring"), VM_FIELDS_END,
};

static const VmField hpet_fields[] = {
  VM_TRANSIENT(Hpet, wiring, "wiring"),
  VM_TRANSIENT(Hpet, route_mask, "follows from the wiring"),
  VM_UINT_MAX(Hpet, config, CONFIG_ENABLE | CONFIG_LEGACY),
  VM_UINT_MAX(Hpet, status, (1 << HPET_N_TIMERS) - 1),
  VM_UINT(Hpet, base),
  VM_UINT_MAX(Hpet, start_ns, INT64_MAX),
  VM_STRUCT_ARRAY(Hpet, timers, hpet_timer_fields),
  VM_FIELDS_END,
};

/* ---- the counter ------------------------------------------------------------------------------------------------------ */

static int64_t get_now(const Hpet *s)
{
  return vm_clock_get_ns(vm_get_clock(s->dev.vm));
}

static uint64_t get_counter_at(const Hpet *s, int64_t now)
{
  if (!(s->config & CONFIG_ENABLE) || now < s->start_ns)
    return s->base;
  return s->base + (uint64_t)(now - s->start_ns) / TICK_NS;
}

/* When the counter will be `ahead` (at most MAX_WAIT_TICKS) ticks on from its value at `now`. */
static int64_t get_time_of(const Hpet *s, int64_t now, uint64_t ahead)
{
  int64_t phase = now >= s->start_ns ? (now - s->start_ns) % TICK_NS : 0;
  return now - phase + (int64_t)(ahead * TICK_NS);
}

/* ---- interrupts --------------------------------------------------------------------------------------------------------- */

static unsigned get_index(const HpetTimer *t)
{
  return (unsigned)(t - t->hpet->timers);
}

static const VmIrq *get_line(const HpetTimer *t)
{
  const Hpet *s = t->hpet;
  if (s->config & CONFIG_LEGACY) {
    if (get_index(t) == 0)
      return &s->wiring.legacy_irq0;
    if (get_index(t) == 1)
      return &s->wiring.legacy_irq8;
  }
  return &s->wiring.routes[(t->config & T_ROUTE) >> T_ROUTE_SHIFT];
}

/* A level-triggered line follows the status bit. */
static void update_level(HpetTimer *t)
{
  if (t->config & T_LEVEL)
    vm_irq_set(get_line(t), (t->config & T_ENABLE) && (t->hpet->status >> get_index(t) & 1));
}

static void interrupt(HpetTimer *t)
{
  if (!(t->config & T_ENABLE))
    return;
  if (t->config & T_LEVEL) {
    t->hpet->status |= 1u << get_index(t);
    update_level(t);
  } else {
    vm_irq_pulse(get_line(t));
  }
}

/* ---- comparators ---------------------------------------------------------------------------------------------------------- */

static bool is_32_bit(const HpetTimer *t)
{
  return t->config & T_32_BIT;
}

static uint64_t narrow(const HpetTimer *t, uint64_t value)
{
  return is_32_bit(t) ? (uint32_t)value : value;
}

/* Ticks until the counter is at the comparator, never 0: a match now is the next one, a wrap away. In 64-bit mode a
 * comparator that lies behind is never met. */
static uint64_t ticks_to_match(const HpetTimer *t, uint64_t counter)
{
  uint64_t ahead = narrow(t, t->comparator - counter);
  if (ahead == 0)
    return is_32_bit(t) ? UINT64_C(1) << 32 : UINT64_MAX;
  return ahead;
}

/* A periodic comparator moves on with each match, here by all those that lie behind `counter`. A distance of more than
 * half the range ahead means that it is behind. */
static void advance(HpetTimer *t, uint64_t counter)
{
  uint64_t behind = narrow(t, counter - t->comparator);
  uint64_t half = is_32_bit(t) ? UINT64_C(1) << 31 : UINT64_C(1) << 63;
  if (!(t->config & T_PERIODIC) || t->period == 0 || behind >= half)
    return;
  t->comparator = narrow(t, t->comparator + (behind / t->period + 1) * t->period);
}

static void arm(HpetTimer *t, int64_t earliest_ns)
{
  const Hpet *s = t->hpet;
  int64_t now = get_now(s);
  uint64_t ahead = ticks_to_match(t, get_counter_at(s, now));
  if ((s->config & CONFIG_ENABLE) && (t->config & T_ENABLE) && ahead <= MAX_WAIT_TICKS)
    vm_timer_set(&t->timer, MAX(get_time_of(s, now, ahead), earliest_ns));
  else
    vm_timer_cancel(&t->timer);
}

static void on_match(void *opaque)
{
  HpetTimer *t = opaque;
  const Hpet *s = t->hpet;
  int64_t now = get_now(s);
  interrupt(t);
  advance(t, get_counter_at(s, now));
  arm(t, now + MIN_INTERVAL_NS);
}

/* Before anything is changed: what is due by now happens under the old settings. */
static void catch_up(HpetTimer *t)
{
  const Hpet *s = t->hpet;
  int64_t now = get_now(s);
  if (!(s->config & CONFIG_ENABLE))
    return;
  if (vm_timer_is_pending(&t->timer) && vm_timer_get_deadline(&t->timer) <= now)
    on_match(t);
  else
    advance(t, get_counter_at(s, now));
}

static void catch_up_all(Hpet *s)
{
  for (unsigned i = 0; i < HPET_N_TIMERS; i++)
    catch_up(&s->timers[i]);
}

static void arm_all(Hpet *s)
{
  for (unsigned i = 0; i < HPET_N_TIMERS; i++)
    arm(&s->timers[i], 0);
}

/* ---- reads ----------------------------------------------------------------------------------------------------------------- */

static uint64_t read_timer(Hpet *s, unsigned index, unsigned offset)
{
  HpetTimer *t = &s->timers[index];
  switch (offset) {
  case TIMER_CONFIG:
    return t->config | T_CAN_PERIODIC | T_IS_64_BIT | (uint64_t)s->route_mask << 32;
  case TIMER_COMPARATOR:
    catch_up(t);
    return t->comparator;
  default:
    return 0;
  }
}

/* A whole register, at a multiple of 8. */
static uint64_t read_register(Hpet *s, unsigned offset)
{
  switch (offset) {
  case REG_CAPABILITIES:
    return (uint64_t)HPET_PERIOD_FS << 32 | HPET_EVENT_TIMER_BLOCK_ID;
  case REG_CONFIG:
    return s->config;
  case REG_STATUS:
    return s->status;
  case REG_COUNTER:
    return get_counter_at(s, get_now(s));
  default:
    if (offset < REG_TIMERS || (offset - REG_TIMERS) / TIMER_STRIDE >= HPET_N_TIMERS)
      return 0;
    return read_timer(s, (offset - REG_TIMERS) / TIMER_STRIDE, offset % TIMER_STRIDE);
  }
}

static uint64_t hpet_read(void *opaque, uint64_t offset, unsigned size)
{
  return read_register(opaque, (unsigned)offset & ~7u) >> (offset % 8 * 8);
}

/* ---- writes: `mask` has the bits written ------------------------------------------------------------------------------------- */

static uint64_t merge(uint64_t old, uint64_t value, uint64_t mask)
{
  return (old & ~mask) | (value & mask);
}

static void write_timer_config(HpetTimer *t, uint64_t value, uint64_t mask)
{
  if (t->config & T_LEVEL)
    vm_irq_lower(get_line(t));
  uint64_t config = merge(t->config, value, mask & T_WRITABLE);
  if (!(t->hpet->route_mask >> ((config & T_ROUTE) >> T_ROUTE_SHIFT) & 1))
    config = (config & ~(uint64_t)T_ROUTE) | (t->config & T_ROUTE);
  t->config = config;
  if (is_32_bit(t)) {
    t->comparator = (uint32_t)t->comparator;
    t->period = (uint32_t)t->period;
  }
  update_level(t);
  arm(t, 0);
}

/* A periodic timer takes a write as its period, and as its comparator too after T_SET_VALUE was set. */
static void write_comparator(HpetTimer *t, uint64_t value, uint64_t mask)
{
  bool is_periodic = t->config & T_PERIODIC;
  if (is_32_bit(t))
    mask &= UINT32_MAX;
  if (!is_periodic || (t->config & T_SET_VALUE))
    t->comparator = narrow(t, merge(t->comparator, value, mask));
  t->period = narrow(t, merge(t->period, value, mask));
  t->config &= ~(uint64_t)T_SET_VALUE;
  arm(t, 0);
}

static void write_status(Hpet *s, uint32_t bits)
{
  s->status &= ~bits;
  for (unsigned i = 0; i < HPET_N_TIMERS; i++)
    update_level(&s->timers[i]);
}

/* Who drives a line gives it up before the other takes it. */
static void set_legacy(Hpet *s, bool on)
{
  for (unsigned i = 0; i < 2; i++) {
    if (s->timers[i].config & T_LEVEL)
      vm_irq_lower(get_line(&s->timers[i]));
  }
  if (on) {
    vm_irq_raise(&s->wiring.pit_inhibit);
    vm_irq_raise(&s->wiring.rtc_inhibit);
  }
  s->config = on ? s->config | CONFIG_LEGACY : s->config & ~(uint32_t)CONFIG_LEGACY;
  if (!on) {
    vm_irq_lower(&s->wiring.pit_inhibit);
    vm_irq_lower(&s->wiring.rtc_inhibit);
  }
  for (unsigned i = 0; i < 2; i++)
    update_level(&s->timers[i]);
}

static void set_running(Hpet *s, bool on)
{
  int64_t now = get_now(s);
  s->base = get_counter_at(s, now);
  s->start_ns = now;
  s->config = on ? s->config | CONFIG_ENABLE : s->config & ~(uint32_t)CONFIG_ENABLE;
  arm_all(s);
}

static void write_config(Hpet *s, uint32_t value)
{
  uint32_t changed = value ^ s->config;
  catch_up_all(s);
  if (changed & CONFIG_LEGACY)
    set_legacy(s, value & CONFIG_LEGACY);
  if (changed & CONFIG_ENABLE)
    set_running(s, value & CONFIG_ENABLE);
}

static void write_register(Hpet *s, unsigned offset, uint64_t value, uint64_t mask)
{
  unsigned index = (offset - (unsigned)REG_TIMERS) / TIMER_STRIDE;
  if (offset == REG_CONFIG && (uint32_t)mask != 0) {
    write_config(s, (uint32_t)value);
  } else if (offset == REG_STATUS) {
    write_status(s, (uint32_t)(value & mask));
  } else if (offset == REG_COUNTER && !(s->config & CONFIG_ENABLE)) {
    s->base = merge(s->base, value, mask);
  } else if (offset >= REG_TIMERS && index < HPET_N_TIMERS) {
    HpetTimer *t = &s->timers[index];
    catch_up(t);
    if (offset % TIMER_STRIDE == TIMER_CONFIG)
      write_timer_config(t, value, mask);
    else if (offset % TIMER_STRIDE == TIMER_COMPARATOR)
      write_comparator(t, value, mask);
  }
}

static void hpet_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  unsigned shift = offset % 8 * 8;
  uint64_t mask = size >= 8 ? UINT64_MAX : UINT64_C(0xffffffff) << shift;
  write_register(opaque, (unsigned)offset & ~7u, value << shift, mask);
}

static const VmMmioOps hpet_ops = { .read = hpet_read, .write = hpet_write, .impl_min = 4, .impl_max = 8 };

/* ---- life -------------------------------------------------------------------------------------------------------------------- */

static void hpet_reset(VmDevice *dev)
{
  Hpet *s = (Hpet *)dev;
  write_status(s, UINT32_MAX);
  set_legacy(s, false);
  s->config = 0;
  s->base = 0;
  s->start_ns = 0;
  for (unsigned i = 0; i < HPET_N_TIMERS; i++) {
    HpetTimer *t = &s->timers[i];
    t->config = (uint64_t)(s->route_mask != 0 ? __builtin_ctz(s->route_mask) : 0) << T_ROUTE_SHIFT;
    t->comparator = UINT64_MAX;
    t->period = 0;
    vm_timer_cancel(&t->timer);
  }
}

static bool hpet_validate(const VmDevice *scratch, GError **error)
{
  for (unsigned i = 0; i < HPET_N_TIMERS; i++) {
    if (!(((const Hpet *)scratch)->timers[i].config & ~(uint64_t)T_WRITABLE))
      continue;
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of %s sets reserved bits of timer %u", scratch->id,
                i);
    return false;
  }
  return true;
}

static void hpet_loaded(VmDevice *dev)
{
  arm_all((Hpet *)dev);
}

static void hpet_finish(VmDevice *dev)
{
  for (unsigned i = 0; i < HPET_N_TIMERS; i++)
    vm_timer_finish(&((Hpet *)dev)->timers[i].timer);
}

static const VmDeviceType hpet_type = {
  .name = "hpet",
  .version = 1,
  .size = sizeof(Hpet),
  .fields = hpet_fields,
  .reset = hpet_reset,
  .validate = hpet_validate,
  .loaded = hpet_loaded,
  .finish = hpet_finish,
};

Hpet *hpet_create(Vm *vm, const HpetWiring *wiring)
{
  Hpet *s = vm_device_new(vm, &hpet_type, "hpet");
  s->wiring = *wiring;
  for (unsigned i = 0; i < HPET_N_ROUTES; i++) {
    if (wiring->routes[i].func != NULL)
      s->route_mask |= 1u << i;
  }
  for (unsigned i = 0; i < HPET_N_TIMERS; i++) {
    s->timers[i].hpet = s;
    vm_timer_init(&s->timers[i].timer, s->dev.ctx, on_match, &s->timers[i]);
  }
  vm_region_new_io(vm_get_memory(vm), "hpet", VM_SPACE_MEMORY, HPET_BASE, REGION_BYTES, PC_PRIORITY_CHIPSET, &hpet_ops,
                   s, s->dev.ctx);
  hpet_reset(&s->dev);
  return s;
}
