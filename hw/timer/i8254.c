/*
 * The programmable interval timer (Intel 8254 data sheet, order number 231164).
 *
 * A channel is never stepped. It keeps the tick at which its present count was loaded; output and count follow from the
 * ticks since. What changes later by itself (a count written in modes 2 and 3 takes effect at the end of the present
 * cycle) is applied by settle(), which runs before anything looks at the channel.
 *
 * Only rising edges of channel 0 matter to anybody outside, so its callback comes once a period: the line falls and
 * rises there. Edges closer than MIN_INTERVAL_NS are not all delivered; the count and output are right at any rate.
 */
#include "hw/timer/i8254.h"

#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

enum {
  N_CHANNELS = 3,
  PORT = 0x40,
  PORTS = 4,
  CONTROL_PORT = 3,

  CONTROL_BCD = 1 << 0,
  ACCESS_LATCH = 0,
  ACCESS_LOW = 1,
  ACCESS_HIGH = 2,
  ACCESS_BOTH = 3,
  SELECT_READ_BACK = 3,
  READ_BACK_NO_COUNT = 1 << 5,
  READ_BACK_NO_STATUS = 1 << 4,
  STATUS_OUTPUT = 1 << 7,
  STATUS_NULL_COUNT = 1 << 6,
};

enum { MODE_TERMINAL, MODE_ONE_SHOT, MODE_RATE, MODE_SQUARE, MODE_STROBE, MODE_HW_STROBE, N_MODES };

#define MIN_INTERVAL_NS (20 * VM_NS_PER_US)

typedef struct Channel {
  uint64_t start_tick;  /* when `count` was loaded (modes 2, 3: when a cycle of it began) */
  uint64_t reload_tick; /* when `next_count` takes effect; valid while reload_pending */
  uint64_t held_ticks;  /* how far the count was when the gate stopped it */
  uint32_t count;       /* 1–65536, in binary */
  uint32_t next_count;
  uint16_t latched_count;
  uint8_t latched_status;
  uint8_t mode;
  uint8_t access;
  bool bcd;
  bool gate;
  bool loaded;    /* a count was written since the control word */
  bool triggered; /* modes 1 and 5: the gate has started it */
  bool reload_pending;
  bool write_high_next; /* of a two-byte count, the low byte is written */
  uint8_t write_low;
  bool read_high_next;
  uint8_t count_latch; /* bytes still to be read from latched_count */
  bool status_latch;
} Channel;

struct I8254 {
  VmDevice dev;
  VmIrq irq;
  I8254ChangedFunc changed;
  void *changed_opaque;
  Channel channels[N_CHANNELS];
  bool inhibited;
  VmTimer timer;
};

static const VmField channel_fields[] = {
  VM_UINT(Channel, start_tick),
  VM_UINT(Channel, reload_tick),
  VM_UINT(Channel, held_ticks),
  VM_UINT_MAX(Channel, count, 65536),
  VM_UINT_MAX(Channel, next_count, 65536),
  VM_UINT(Channel, latched_count),
  VM_UINT(Channel, latched_status),
  VM_UINT_MAX(Channel, mode, N_MODES - 1),
  VM_UINT_MAX(Channel, access, ACCESS_BOTH),
  VM_UINT(Channel, bcd),
  VM_UINT(Channel, gate),
  VM_UINT(Channel, loaded),
  VM_UINT(Channel, triggered),
  VM_UINT(Channel, reload_pending),
  VM_UINT(Channel, write_high_next),
  VM_UINT(Channel, write_low),
  VM_UINT(Channel, read_high_next),
  VM_UINT_MAX(Channel, count_latch, 2),
  VM_UINT(Channel, status_latch),
  VM_FIELDS_END,
};

static const VmField i8254_fields[] = {
  VM_TRANSIENT(I8254, irq, "wiring"),
  VM_TRANSIENT(I8254, changed, "wiring"),
  VM_TRANSIENT(I8254, changed_opaque, "wiring"),
  VM_STRUCT_ARRAY(I8254, channels, channel_fields),
  VM_UINT(I8254, inhibited),
  VM_TIMER(I8254, timer),
  VM_FIELDS_END,
};

/* ---- time ----------------------------------------------------------------------------------------------------------- */

static uint64_t ns_to_tick(int64_t ns)
{
  return vm_muldiv64((uint64_t)ns, I8254_HZ, VM_NS_PER_SEC);
}

/* The first nanosecond of a tick. */
static int64_t tick_to_ns(uint64_t tick)
{
  unsigned __int128 ns = ((unsigned __int128)tick * VM_NS_PER_SEC + (I8254_HZ - 1)) / I8254_HZ;
  return (int64_t)MIN(ns, (unsigned __int128)INT64_MAX);
}

static int64_t get_now(const I8254 *s)
{
  return vm_clock_get_ns(vm_get_clock(s->dev.vm));
}

/* ---- one channel ------------------------------------------------------------------------------------------------------ */

static bool is_periodic(const Channel *c)
{
  return c->mode == MODE_RATE || c->mode == MODE_SQUARE;
}

static bool is_gate_triggered(const Channel *c)
{
  return c->mode == MODE_ONE_SHOT || c->mode == MODE_HW_STROBE;
}

/* In mode 0 the first byte of a count stops the one before. */
static bool is_half_written(const Channel *c)
{
  return c->mode == MODE_TERMINAL && c->write_high_next;
}

/* Does the count move? */
static bool is_running(const Channel *c)
{
  if (!c->loaded || is_half_written(c))
    return false;
  return is_gate_triggered(c) ? c->triggered : c->gate;
}

/* Ticks since the count was loaded; a stopped channel stays where it was. */
static uint64_t elapsed(const Channel *c, uint64_t tick)
{
  if (!is_running(c))
    return c->held_ticks;
  return tick > c->start_tick ? tick - c->start_tick : 0;
}

/* Ticks that a square wave is high: the longer half of an odd count. */
static uint32_t high_ticks(uint32_t count)
{
  return (count + 1) / 2;
}

/* The count written during a cycle takes effect at its end: for a square wave, at the end of the half cycle. */
static void settle(Channel *c, uint64_t tick)
{
  if (!c->reload_pending || tick < c->reload_tick)
    return;
  bool after_high = c->mode == MODE_SQUARE && (c->reload_tick - c->start_tick) % c->count != 0;
  c->count = c->next_count;
  c->start_tick = c->reload_tick - (after_high ? high_ticks(c->count) : 0);
  c->reload_pending = false;
}

static bool get_output_at(const Channel *c, uint64_t tick)
{
  uint64_t t = elapsed(c, tick);
  switch (c->mode) {
  case MODE_TERMINAL:
    return c->loaded && !is_half_written(c) && t >= c->count;
  case MODE_ONE_SHOT:
    return !c->triggered || t >= c->count;
  case MODE_RATE:
    return !is_running(c) || t % c->count != c->count - 1;
  case MODE_SQUARE:
    return !is_running(c) || t % c->count < high_ticks(c->count);
  case MODE_STROBE:
    return !c->loaded || t != c->count;
  default:
    return !c->triggered || t != c->count;
  }
}

/* The counting element as it is read, in binary. */
static uint32_t get_count_at(const Channel *c, uint64_t tick)
{
  uint64_t t = elapsed(c, tick);
  uint32_t modulus = c->bcd ? 10000 : 65536;
  if (c->mode == MODE_RATE)
    return c->count - (uint32_t)(t % c->count);
  if (c->mode == MODE_SQUARE) {
    uint32_t at = (uint32_t)(t % c->count), high = high_ticks(c->count);
    return (c->count & ~1u) - 2 * (at < high ? at : at - high);
  }
  return (uint32_t)((c->count + modulus - t % modulus) % modulus);
}

/* The next tick after `tick` at which the output rises; UINT64_MAX if it will not by itself. */
static uint64_t next_rise(const Channel *c, uint64_t tick)
{
  if (!is_running(c))
    return UINT64_MAX;
  uint64_t t = elapsed(c, tick);
  if (is_periodic(c)) {
    if (!c->reload_pending)
      return c->start_tick + (t / c->count + 1) * c->count;
    /* The count changes first. In mode 2, and after a low half, that is itself the rise. */
    bool after_high = c->mode == MODE_SQUARE && (c->reload_tick - c->start_tick) % c->count != 0;
    return c->reload_tick + (after_high ? c->next_count - high_ticks(c->next_count) : 0);
  }
  bool is_strobe = c->mode == MODE_STROBE || c->mode == MODE_HW_STROBE;
  uint64_t at = (uint64_t)c->count + (is_strobe ? 1 : 0);
  return t < at ? c->start_tick + at : UINT64_MAX;
}

static uint16_t to_bcd(uint32_t value)
{
  value %= 10000;
  return (uint16_t)(value / 1000 << 12 | value / 100 % 10 << 8 | value / 10 % 10 << 4 | value % 10);
}

/* 0 stands for the largest count. A periodic count of 1 is illegal; it is taken as 2. */
static uint32_t decode_count(const Channel *c, uint16_t written)
{
  uint32_t count = written;
  if (c->bcd)
    count = (written >> 12) * 1000u + (written >> 8 & 0xfu) * 100 + (written >> 4 & 0xfu) * 10 + (written & 0xfu);
  if (count == 0)
    count = c->bcd ? 10000 : 65536;
  return is_periodic(c) ? MAX(count, 2) : count;
}

/* ---- channel 0's interrupt --------------------------------------------------------------------------------------------- */

static void arm(I8254 *s, int64_t earliest_ns)
{
  const Channel *c = &s->channels[0];
  uint64_t rise = next_rise(c, ns_to_tick(earliest_ns));
  if (s->inhibited || rise == UINT64_MAX)
    vm_timer_cancel(&s->timer);
  else
    vm_timer_set(&s->timer, tick_to_ns(rise));
}

static void on_timer(void *opaque)
{
  I8254 *s = opaque;
  int64_t now = get_now(s);
  settle(&s->channels[0], ns_to_tick(now));
  vm_irq_lower(&s->irq);
  vm_irq_raise(&s->irq);
  arm(s, now + (is_periodic(&s->channels[0]) ? MIN_INTERVAL_NS : 0));
}

/* After anything but time changed a channel. */
static void channel_changed(I8254 *s, unsigned channel)
{
  int64_t now = get_now(s);
  if (channel == 0) {
    vm_irq_set(&s->irq, !s->inhibited && get_output_at(&s->channels[0], ns_to_tick(now)));
    arm(s, now);
  }
  if (s->changed != NULL)
    s->changed(s->changed_opaque, channel);
}

static void set_inhibited(void *opaque, unsigned line, bool level)
{
  I8254 *s = opaque;
  if (s->inhibited == level)
    return;
  s->inhibited = level;
  settle(&s->channels[0], ns_to_tick(get_now(s)));
  channel_changed(s, 0);
}

VmIrq i8254_irq_inhibit(I8254 *pit)
{
  return (VmIrq){ .func = set_inhibited, .opaque = pit };
}

/* ---- writes -------------------------------------------------------------------------------------------------------------- */

/* A count is loaded with the clock pulse after the write. */
static void load_count(Channel *c, uint32_t count, uint64_t tick)
{
  c->count = count;
  c->start_tick = tick + 1;
  c->held_ticks = 0;
  c->reload_pending = false;
}

static void write_count(Channel *c, uint16_t written, uint64_t tick)
{
  uint32_t count = decode_count(c, written);
  bool first = !c->loaded;
  c->loaded = true;
  if (is_gate_triggered(c)) {
    c->next_count = count;
    c->reload_tick = UINT64_MAX; /* the next trigger */
    c->reload_pending = true;
    return;
  }
  if (first || !is_periodic(c) || !c->gate) {
    load_count(c, count, tick);
    return;
  }
  uint64_t t = elapsed(c, tick), at = t % c->count, high = high_ticks(c->count);
  uint64_t left = c->mode == MODE_SQUARE && at < high ? high - at : c->count - at;
  c->reload_tick = c->start_tick + t + left;
  c->next_count = count;
  c->reload_pending = true;
}

static void write_data(Channel *c, uint8_t value, uint64_t tick)
{
  if (c->access == ACCESS_LOW) {
    write_count(c, value, tick);
  } else if (c->access == ACCESS_HIGH) {
    write_count(c, (uint16_t)(value << 8), tick);
  } else if (!c->write_high_next) {
    c->write_low = value;
    c->write_high_next = true;
    if (c->mode == MODE_TERMINAL)
      c->held_ticks = 0;
  } else {
    c->write_high_next = false;
    write_count(c, (uint16_t)(value << 8 | c->write_low), tick);
  }
}

static void latch_count(Channel *c, uint64_t tick)
{
  if (c->count_latch != 0)
    return;
  uint32_t count = get_count_at(c, tick);
  c->latched_count = c->bcd ? to_bcd(count) : (uint16_t)count;
  c->count_latch = c->access == ACCESS_BOTH ? 2 : 1;
}

static void latch_status(Channel *c, uint64_t tick)
{
  if (c->status_latch)
    return;
  bool is_null = !c->loaded || c->reload_pending || tick < c->start_tick;
  c->latched_status = (uint8_t)((get_output_at(c, tick) ? STATUS_OUTPUT : 0) | (is_null ? STATUS_NULL_COUNT : 0) |
                                c->access << 4 | c->mode << 1 | (c->bcd ? CONTROL_BCD : 0));
  c->status_latch = true;
}

static void write_read_back(I8254 *s, uint8_t value, uint64_t tick)
{
  for (unsigned i = 0; i < N_CHANNELS; i++) {
    if (!(value >> (i + 1) & 1))
      continue;
    if (!(value & READ_BACK_NO_COUNT))
      latch_count(&s->channels[i], tick);
    if (!(value & READ_BACK_NO_STATUS))
      latch_status(&s->channels[i], tick);
  }
}

static void set_mode(Channel *c, uint8_t control)
{
  uint8_t mode = control >> 1 & 7;
  c->mode = mode >= N_MODES ? mode - 4 : mode;
  c->access = control >> 4 & 3;
  c->bcd = control & CONTROL_BCD;
  c->loaded = c->triggered = c->reload_pending = false;
  c->write_high_next = c->read_high_next = false;
  c->count_latch = 0;
  c->status_latch = false;
  c->held_ticks = 0;
}

static void write_control(I8254 *s, uint8_t value, uint64_t tick)
{
  unsigned channel = value >> 6;
  if (channel == SELECT_READ_BACK) {
    write_read_back(s, value, tick);
  } else if ((value >> 4 & 3) == ACCESS_LATCH) {
    latch_count(&s->channels[channel], tick);
  } else {
    set_mode(&s->channels[channel], value);
    channel_changed(s, channel);
  }
}

static void settle_all(I8254 *s, uint64_t tick)
{
  for (unsigned i = 0; i < N_CHANNELS; i++)
    settle(&s->channels[i], tick);
}

static void i8254_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I8254 *s = opaque;
  uint64_t tick = ns_to_tick(get_now(s));
  settle_all(s, tick);
  if (offset == CONTROL_PORT) {
    write_control(s, (uint8_t)value, tick);
    return;
  }
  write_data(&s->channels[offset], (uint8_t)value, tick);
  channel_changed(s, (unsigned)offset);
}

/* ---- reads --------------------------------------------------------------------------------------------------------------- */

/* One byte of a two-byte or one-byte read; `high_next` is the flip-flop between them. */
static uint8_t pick_byte(const Channel *c, uint16_t count, bool *high_next)
{
  bool high = c->access == ACCESS_HIGH;
  if (c->access == ACCESS_BOTH) {
    high = *high_next;
    *high_next = !high;
  }
  return (uint8_t)(high ? count >> 8 : count);
}

static uint8_t read_data(Channel *c, uint64_t tick)
{
  if (c->status_latch) {
    c->status_latch = false;
    return c->latched_status;
  }
  if (c->count_latch != 0) {
    c->count_latch--;
    return pick_byte(c, c->latched_count, &c->read_high_next);
  }
  uint32_t count = get_count_at(c, tick);
  return pick_byte(c, c->bcd ? to_bcd(count) : (uint16_t)count, &c->read_high_next);
}

static uint64_t i8254_read(void *opaque, uint64_t offset, unsigned size)
{
  I8254 *s = opaque;
  uint64_t tick = ns_to_tick(get_now(s));
  if (offset == CONTROL_PORT)
    return UINT64_MAX;
  settle_all(s, tick);
  return read_data(&s->channels[offset], tick);
}

static const VmMmioOps i8254_ops = { .read = i8254_read, .write = i8254_write, .impl_max = 1 };

/* ---- gates and outputs ------------------------------------------------------------------------------------------------------ */

static void gate_rises(Channel *c, uint64_t tick)
{
  if (is_gate_triggered(c)) {
    if (c->loaded)
      load_count(c, c->next_count, tick);
    c->triggered = c->loaded;
  } else if (is_periodic(c)) {
    load_count(c, c->reload_pending ? c->next_count : c->count, tick);
  } else {
    c->start_tick = tick - MIN(c->held_ticks, tick);
  }
}

void i8254_set_gate(I8254 *pit, unsigned channel, bool gate)
{
  g_assert(channel < N_CHANNELS);
  Channel *c = &pit->channels[channel];
  if (c->gate == gate)
    return;
  uint64_t tick = ns_to_tick(get_now(pit));
  settle(c, tick);
  if (!gate && !is_gate_triggered(c))
    c->held_ticks = elapsed(c, tick);
  c->gate = gate;
  if (gate)
    gate_rises(c, tick);
  channel_changed(pit, channel);
}

bool i8254_get_gate(const I8254 *pit, unsigned channel)
{
  g_assert(channel < N_CHANNELS);
  return pit->channels[channel].gate;
}

bool i8254_get_output(const I8254 *pit, unsigned channel)
{
  g_assert(channel < N_CHANNELS);
  uint64_t tick = ns_to_tick(get_now(pit));
  Channel now = pit->channels[channel];
  settle(&now, tick);
  return get_output_at(&now, tick);
}

int64_t i8254_get_wave_period_ns(const I8254 *pit, unsigned channel)
{
  g_assert(channel < N_CHANNELS);
  const Channel *c = &pit->channels[channel];
  if (c->mode != MODE_SQUARE || !is_running(c))
    return 0;
  return tick_to_ns(c->reload_pending ? c->next_count : c->count);
}

void i8254_set_listener(I8254 *pit, I8254ChangedFunc func, void *opaque)
{
  pit->changed = func;
  pit->changed_opaque = opaque;
}

/* ---- life --------------------------------------------------------------------------------------------------------------------- */

/* The chip comes up undefined. Here it stands still in mode 0 with its outputs low, so that nothing happens until it is
 * programmed. Gates are wires: 0 and 1 are tied high, 2 is port 0x61's. */
static void i8254_reset(VmDevice *dev)
{
  I8254 *s = (I8254 *)dev;
  for (unsigned i = 0; i < N_CHANNELS; i++)
    s->channels[i] = (Channel){ .count = 65536, .next_count = 65536, .access = ACCESS_BOTH, .gate = i < 2 };
  s->inhibited = false;
  channel_changed(s, 0);
}

/* Ticks that far off would overflow on the way to nanoseconds; counts of 0 would divide. */
static bool i8254_validate(const VmDevice *scratch, GError **error)
{
  const uint64_t limit = UINT64_C(1) << 62;
  for (unsigned i = 0; i < N_CHANNELS; i++) {
    const Channel *c = &((const I8254 *)scratch)->channels[i];
    bool is_reload_right = !c->reload_pending || !is_periodic(c) || c->reload_tick < limit;
    if (c->count > 0 && c->next_count > 0 && c->start_tick < limit && c->held_ticks < limit && is_reload_right)
      continue;
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of %s is not one that channel %u can have",
                scratch->id, i);
    return false;
  }
  return true;
}

static void i8254_loaded(VmDevice *dev)
{
  I8254 *s = (I8254 *)dev;
  if (s->changed != NULL)
    s->changed(s->changed_opaque, 2);
}

static void i8254_finish(VmDevice *dev)
{
  vm_timer_finish(&((I8254 *)dev)->timer);
}

static const VmDeviceType i8254_type = {
  .name = "i8254",
  .version = 1,
  .size = sizeof(I8254),
  .fields = i8254_fields,
  .reset = i8254_reset,
  .validate = i8254_validate,
  .loaded = i8254_loaded,
  .finish = i8254_finish,
};

I8254 *i8254_create(Vm *vm, VmIrq irq)
{
  I8254 *s = vm_device_new(vm, &i8254_type, "pit");
  s->irq = irq;
  vm_timer_init(&s->timer, s->dev.ctx, on_timer, s);
  vm_region_new_io(vm_get_memory(vm), "pit", VM_SPACE_PORTS, PORT, PORTS, 0, &i8254_ops, s, s->dev.ctx);
  i8254_reset(&s->dev);
  return s;
}
