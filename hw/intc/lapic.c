/*
 * A local APIC (Intel SDM volume 3, chapter 11): xAPIC registers by memory, x2APIC by MSR, the timer in its three modes.
 *
 * All CPUs see their own registers at the same address. Each local APIC maps a region where its base MSR says; whichever
 * of overlapping regions is asked, it answers for the CPU that asks. Accesses from outside any vCPU are CPU 0's.
 *
 * The timer's count is never stepped: `expiry_ns` says when it reaches 0, and the current count follows from the time
 * left. A callback exists only while the timer entry is unmasked.
 *
 * Deviation: the bootstrap CPU powers on with LINT0 as an unmasked ExtINT, as a PC's firmware leaves it (virtual wire
 * mode), so that code which never touches the APIC gets the PIC's interrupts.
 */
#include "hw/intc/i8259.h"
#include "hw/intc/lapic-private.h"
#include "hw/pci/i440fx.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/cpu.h"
#include "vm-engine/x86/tsc.h"

/* Register numbers: MMIO offset / 16 = MSR - 0x800. */
enum {
  REG_ID = 0x02,
  REG_VERSION = 0x03,
  REG_TPR = 0x08,
  REG_APR = 0x09,
  REG_PPR = 0x0a,
  REG_EOI = 0x0b,
  REG_LDR = 0x0d,
  REG_DFR = 0x0e,
  REG_SVR = 0x0f,
  REG_ISR = 0x10,
  REG_TMR = 0x18,
  REG_IRR = 0x20,
  REG_ESR = 0x28,
  REG_ICR = 0x30,
  REG_ICR_HIGH = 0x31,
  REG_LVT = 0x32,
  REG_INITIAL_COUNT = 0x38,
  REG_CURRENT_COUNT = 0x39,
  REG_DIVIDE = 0x3e,
  REG_SELF_IPI = 0x3f,

  VERSION = 0x14 | (N_LVT - 1) << 16,
  SVR_ENABLE = 1 << 8,
  SVR_WRITABLE = 0x3ff,
  DIVIDE_WRITABLE = 0xb,

  LVT_REMOTE_IRR = 1 << 14,
  LVT_LEVEL = 1 << 15,
  LVT_MASKED = 1 << 16,
  LVT_STATUS_BITS = 1 << 12 | LVT_REMOTE_IRR,

  ESR_SEND_ILLEGAL = 1 << 5,
  ESR_RECEIVE_ILLEGAL = 1 << 6,
  ESR_ILLEGAL_REGISTER = 1 << 7,

  MSR_X2APIC = 0x800,
  MSR_X2APIC_LAST = 0x8ff,
  MSR_TSC_DEADLINE = 0x6e0,
  REGION_BYTES = 0x1000,
  FIRST_VECTOR = 16, /* lower ones are illegal */
};

typedef enum TimerMode { TIMER_ONE_SHOT, TIMER_PERIODIC, TIMER_TSC_DEADLINE } TimerMode;

/* A guest may ask for a period of a nanosecond; the host need not follow it. */
#define MIN_PERIOD_NS (20 * VM_NS_PER_US)
#define MAX_WAIT_NS   (INT64_MAX / 4)

static const uint32_t lvt_writable[N_LVT] = {
  [LVT_TIMER] = 0x700ff, [LVT_THERMAL] = 0x107ff, [LVT_PERF] = 0x107ff,
  [LVT_LINT0] = 0x1a7ff, [LVT_LINT1] = 0x1a7ff,   [LVT_ERROR] = 0x100ff,
};

static const VmField lapic_fields[] = {
  VM_TRANSIENT(Lapic, bus, "wiring"),
  VM_TRANSIENT(Lapic, cpu, "wiring"),
  VM_TRANSIENT(Lapic, region, "mapping follows the base"),
  VM_TRANSIENT(Lapic, tsc_now, "wiring"),
  VM_TRANSIENT(Lapic, tsc_opaque, "wiring"),
  VM_TRANSIENT(Lapic, tsc_hz, "wiring"),
  VM_TRANSIENT(Lapic, id, "wiring"),
  VM_TRANSIENT(Lapic, output, "follows from the request and service bits"),
  VM_UINT(Lapic, base),
  VM_UINT(Lapic, icr),
  VM_UINT_ARRAY(Lapic, irr),
  VM_UINT_ARRAY(Lapic, isr),
  VM_UINT_ARRAY(Lapic, tmr),
  VM_UINT_ARRAY(Lapic, lvt),
  VM_UINT(Lapic, svr),
  VM_UINT(Lapic, dfr),
  VM_UINT(Lapic, esr),
  VM_UINT(Lapic, esr_pending),
  VM_UINT(Lapic, initial_count),
  VM_UINT(Lapic, divide),
  VM_UINT(Lapic, tpr),
  VM_UINT(Lapic, ldr),
  VM_UINT_ARRAY(Lapic, lint),
  VM_UINT(Lapic, extint),
  VM_UINT(Lapic, expiry_ns),
  VM_UINT(Lapic, tsc_deadline),
  VM_TIMER(Lapic, timer),
  VM_FIELDS_END,
};

static bool accept(Lapic *l, uint8_t vector, bool level);

/* ---- modes and IDs ------------------------------------------------------------------------------------------------- */

bool lapic_is_enabled(const Lapic *l)
{
  return (l->base & APIC_BASE_ENABLE) != 0;
}

bool lapic_is_x2apic(const Lapic *l)
{
  return (l->base & APIC_BASE_X2APIC) != 0;
}

bool lapic_accepts_fixed(const Lapic *l)
{
  return lapic_is_enabled(l) && (l->svr & SVR_ENABLE);
}

uint32_t lapic_get_logical_id(const Lapic *l)
{
  return lapic_is_x2apic(l) ? (uint32_t)l->id >> 4 << 16 | 1u << (l->id & 0xf) : l->ldr;
}

static int64_t get_now(const Lapic *l)
{
  return vm_clock_get_ns(vm_get_clock(l->dev.vm));
}

/* ---- vectors and priorities ---------------------------------------------------------------------------------------- */

static void set_vector(uint32_t *words, uint8_t vector)
{
  words[vector / 32] |= 1u << (vector % 32);
}

static void clear_vector(uint32_t *words, uint8_t vector)
{
  words[vector / 32] &= ~(1u << (vector % 32));
}

static bool has_vector(const uint32_t *words, uint8_t vector)
{
  return words[vector / 32] >> (vector % 32) & 1;
}

/* -1 if none. */
static int highest_vector(const uint32_t *words)
{
  for (int i = LAPIC_VECTOR_WORDS - 1; i >= 0; i--) {
    if (words[i] != 0)
      return i * 32 + 31 - __builtin_clz(words[i]);
  }
  return -1;
}

uint8_t lapic_get_ppr(const Lapic *l)
{
  int in_service = MAX(highest_vector(l->isr), 0);
  return (l->tpr & 0xf0) >= (in_service & 0xf0) ? l->tpr : (uint8_t)(in_service & 0xf0);
}

/* The vector that may interrupt now; -1 if none. */
static int find_request(const Lapic *l)
{
  if (!lapic_accepts_fixed(l))
    return -1;
  int vector = highest_vector(l->irr);
  return vector >= 0 && (vector & 0xf0) > (lapic_get_ppr(l) & 0xf0) ? vector : -1;
}

/* Does the PIC ask this CPU? With the APIC off, LINT0 is the bootstrap CPU's INTR pin. */
static bool wants_extint(const Lapic *l)
{
  if (!lapic_is_enabled(l))
    return l->lint[0] && (l->base & APIC_BASE_BSP);
  uint32_t lvt = l->lvt[LVT_LINT0];
  return l->extint || (l->lint[0] && !(lvt & LVT_MASKED) && (lvt >> 8 & 7) == LAPIC_EXTINT);
}

static void tell_cpu(Lapic *l, bool level)
{
  l->output = level;
  if (level)
    vm_cpu_request(l->cpu, VM_CPU_REQ_INTR);
  else
    vm_cpu_clear_request(l->cpu, VM_CPU_REQ_INTR);
}

static bool wants_interrupt(const Lapic *l)
{
  return find_request(l) >= 0 || wants_extint(l);
}

static void update(Lapic *l)
{
  bool wanted = wants_interrupt(l);
  if (wanted != l->output)
    tell_cpu(l, wanted);
}

/* ---- local interrupts ---------------------------------------------------------------------------------------------- */

/* By the delivery mode of an entry whose event has happened. */
static void raise_local(Lapic *l, unsigned index)
{
  uint32_t lvt = l->lvt[index];
  if (lvt & LVT_MASKED)
    return;
  switch (lvt >> 8 & 7) {
  case LAPIC_FIXED:
    accept(l, (uint8_t)lvt, false);
    break;
  case LAPIC_SMI:
    vm_cpu_request(l->cpu, VM_CPU_REQ_SMI);
    break;
  case LAPIC_NMI:
    vm_cpu_request(l->cpu, VM_CPU_REQ_NMI);
    break;
  case LAPIC_INIT:
    vm_cpu_request(l->cpu, VM_CPU_REQ_INIT);
    break;
  }
}

/* An error that is already noted interrupts no more: so an error entry with an illegal vector ends here. */
static void note_error(Lapic *l, uint32_t bit)
{
  bool is_new = !(l->esr_pending & bit);
  l->esr_pending |= bit;
  if (is_new)
    raise_local(l, LVT_ERROR);
}

static bool accept(Lapic *l, uint8_t vector, bool level)
{
  if (!lapic_accepts_fixed(l))
    return false;
  if (vector < FIRST_VECTOR) {
    note_error(l, ESR_RECEIVE_ILLEGAL);
    return false;
  }
  set_vector(l->irr, vector);
  if (level)
    set_vector(l->tmr, vector);
  else
    clear_vector(l->tmr, vector);
  update(l);
  return true;
}

static bool is_level_lint(uint32_t lvt)
{
  return (lvt & LVT_LEVEL) && (lvt >> 8 & 7) == LAPIC_FIXED;
}

/* A LINT pin in fixed, level-triggered mode: once until its EOI. */
static void service_lint(Lapic *l, unsigned pin)
{
  uint32_t *lvt = &l->lvt[LVT_LINT0 + pin];
  if (!is_level_lint(*lvt) || (*lvt & (LVT_MASKED | LVT_REMOTE_IRR)) || !l->lint[pin])
    return;
  if (accept(l, (uint8_t)*lvt, true))
    *lvt |= LVT_REMOTE_IRR;
}

void lapic_set_lint(Lapic *l, unsigned pin, bool level)
{
  bool rises = level && !l->lint[pin];
  l->lint[pin] = level;
  if (!lapic_is_enabled(l)) {
    if (pin == 1 && rises)
      vm_cpu_request(l->cpu, VM_CPU_REQ_NMI);
  } else if (is_level_lint(l->lvt[LVT_LINT0 + pin])) {
    service_lint(l, pin);
  } else if (rises) {
    raise_local(l, LVT_LINT0 + pin);
  }
  update(l);
}

bool lapic_receive(Lapic *l, const LapicMessage *message)
{
  switch (message->delivery) {
  case LAPIC_FIXED:
  case LAPIC_LOWEST:
    return accept(l, message->vector, message->level);
  case LAPIC_SMI:
    vm_cpu_request(l->cpu, VM_CPU_REQ_SMI);
    return true;
  case LAPIC_NMI:
    vm_cpu_request(l->cpu, VM_CPU_REQ_NMI);
    return true;
  case LAPIC_INIT:
    vm_cpu_request(l->cpu, VM_CPU_REQ_INIT);
    return true;
  case LAPIC_SIPI:
    vm_cpu_sipi(l->cpu, message->vector);
    return true;
  case LAPIC_EXTINT:
    l->extint = true;
    update(l);
    return true;
  default:
    return false;
  }
}

static void end_of_interrupt(Lapic *l)
{
  int vector = highest_vector(l->isr);
  if (vector < 0)
    return;
  clear_vector(l->isr, (uint8_t)vector);
  if (has_vector(l->tmr, (uint8_t)vector)) {
    for (unsigned i = 0; i < LAPIC_N_LINTS; i++) {
      if ((uint8_t)l->lvt[LVT_LINT0 + i] == vector)
        l->lvt[LVT_LINT0 + i] &= ~(uint32_t)LVT_REMOTE_IRR;
      service_lint(l, i);
    }
    lapic_bus_end_of_interrupt(l->bus, (uint8_t)vector);
  }
  update(l);
}

/* ---- the timer ------------------------------------------------------------------------------------------------------ */

static TimerMode get_timer_mode(const Lapic *l)
{
  unsigned mode = l->lvt[LVT_TIMER] >> 17 & 3;
  return mode > TIMER_TSC_DEADLINE ? TIMER_ONE_SHOT : (TimerMode)mode;
}

/* One count, in ns: the input clock's tick is one. */
static int64_t get_tick_ns(const Lapic *l)
{
  unsigned code = (l->divide & 3u) | (l->divide >> 1 & 4u);
  return INT64_C(1) << ((code + 1) & 7);
}

static void rearm(Lapic *l, int64_t earliest_ns)
{
  if (l->expiry_ns >= 0 && !(l->lvt[LVT_TIMER] & LVT_MASKED))
    vm_timer_set(&l->timer, MAX(l->expiry_ns, earliest_ns));
  else
    vm_timer_cancel(&l->timer);
}

/* Carries out an expiry that lies behind. Periods that were missed are one interrupt, as its one request bit holds. */
static void catch_up(Lapic *l)
{
  int64_t now = get_now(l);
  if (l->expiry_ns < 0 || l->expiry_ns > now)
    return;
  int64_t period = (int64_t)l->initial_count * get_tick_ns(l);
  if (get_timer_mode(l) == TIMER_PERIODIC && period > 0) {
    l->expiry_ns += ((now - l->expiry_ns) / period + 1) * period;
  } else {
    l->expiry_ns = -1;
    l->tsc_deadline = 0;
  }
  raise_local(l, LVT_TIMER);
}

static void on_timer(void *opaque)
{
  Lapic *l = opaque;
  catch_up(l);
  rearm(l, get_now(l) + MIN_PERIOD_NS);
}

static uint32_t get_current_count(const Lapic *l)
{
  int64_t tick = get_tick_ns(l);
  if (l->expiry_ns < 0 || get_timer_mode(l) == TIMER_TSC_DEADLINE)
    return 0;
  return (uint32_t)MIN((l->expiry_ns - get_now(l) + tick - 1) / tick, (int64_t)UINT32_MAX);
}

static void start_count(Lapic *l, uint32_t count)
{
  l->expiry_ns = count == 0 ? -1 : get_now(l) + count * get_tick_ns(l);
  rearm(l, 0);
}

static void write_initial_count(Lapic *l, uint32_t value)
{
  if (get_timer_mode(l) == TIMER_TSC_DEADLINE)
    return;
  catch_up(l);
  l->initial_count = value;
  start_count(l, value);
}

static void write_divide(Lapic *l, uint32_t value)
{
  catch_up(l);
  uint32_t left = get_current_count(l);
  l->divide = value & DIVIDE_WRITABLE;
  if (get_timer_mode(l) != TIMER_TSC_DEADLINE)
    start_count(l, left);
}

static uint64_t get_guest_tsc(const Lapic *l)
{
  if (l->tsc_now != NULL)
    return l->tsc_now(l->cpu, l->tsc_opaque);
  return vm_tsc_now(vm_get_clock(l->dev.vm)) + (l->cpu->x86 != NULL ? l->cpu->x86->tsc_offset : 0);
}

/* Armed by distance, so a guest that moves its counter afterwards does not move the deadline. */
static void write_tsc_deadline(Lapic *l, uint64_t deadline)
{
  if (get_timer_mode(l) != TIMER_TSC_DEADLINE)
    return;
  catch_up(l);
  uint64_t tsc = get_guest_tsc(l);
  int64_t now = get_now(l);
  l->tsc_deadline = deadline;
  l->expiry_ns = deadline == 0 ? -1 : now;
  if (deadline > tsc) {
    unsigned __int128 scaled = (unsigned __int128)(deadline - tsc) * VM_NS_PER_SEC + (l->tsc_hz - 1);
    l->expiry_ns = now + (int64_t)MIN(scaled / l->tsc_hz, (unsigned __int128)MAX_WAIT_NS);
  }
  catch_up(l);
  rearm(l, 0);
}

static uint64_t read_tsc_deadline(Lapic *l)
{
  catch_up(l);
  rearm(l, 0);
  return l->tsc_deadline;
}

/* ---- registers, xAPIC and x2APIC alike ------------------------------------------------------------------------------- */

static void write_lvt(Lapic *l, unsigned index, uint32_t value)
{
  TimerMode old_mode = get_timer_mode(l);
  if (index == LVT_TIMER)
    catch_up(l);
  uint32_t lvt = (value & lvt_writable[index]) | (l->lvt[index] & LVT_REMOTE_IRR);
  if (!(l->svr & SVR_ENABLE))
    lvt |= LVT_MASKED;
  if (!is_level_lint(lvt))
    lvt &= ~(uint32_t)LVT_REMOTE_IRR;
  l->lvt[index] = lvt;
  if (index == LVT_TIMER) {
    if ((old_mode == TIMER_TSC_DEADLINE) != (get_timer_mode(l) == TIMER_TSC_DEADLINE)) {
      l->expiry_ns = -1;
      l->tsc_deadline = 0;
    }
    rearm(l, 0);
  } else if (index == LVT_LINT0 || index == LVT_LINT1) {
    service_lint(l, index - LVT_LINT0);
  }
  update(l);
}

/* While disabled by software, all entries are masked and stay so. */
static void write_svr(Lapic *l, uint32_t value)
{
  catch_up(l);
  l->svr = value & SVR_WRITABLE;
  if (!(l->svr & SVR_ENABLE)) {
    for (unsigned i = 0; i < N_LVT; i++)
      l->lvt[i] |= LVT_MASKED;
  }
  rearm(l, 0);
  update(l);
}

static void send_ipi(Lapic *l)
{
  LapicMessage message = {
    .destination = lapic_is_x2apic(l) ? (uint32_t)(l->icr >> 32) : (uint32_t)(l->icr >> 56),
    .wide = lapic_is_x2apic(l),
    .logical = (l->icr & 1 << 11) != 0,
    .vector = (uint8_t)l->icr,
    .delivery = (LapicDelivery)(l->icr >> 8 & 7),
  };
  bool has_vector_field = message.delivery == LAPIC_FIXED || message.delivery == LAPIC_LOWEST;
  if (has_vector_field && message.vector < FIRST_VECTOR) {
    note_error(l, ESR_SEND_ILLEGAL);
    return;
  }
  /* INIT level de-assert only synchronised arbitration IDs, on processors of old; ExtINT cannot be sent by a CPU. */
  bool is_deassert = message.delivery == LAPIC_INIT && !(l->icr & 1 << 14) && (l->icr & 1 << 15);
  if (!is_deassert && message.delivery != LAPIC_EXTINT)
    lapic_bus_send_ipi(l->bus, l, &message, l->icr >> 18 & 3);
}

static void write_tpr(Lapic *l, uint8_t value)
{
  l->tpr = value;
  update(l);
}

/* False: there is no such register, or it cannot be read. */
static bool read_register(Lapic *l, unsigned reg, uint32_t *value)
{
  switch (reg) {
  case REG_ID:
    *value = lapic_is_x2apic(l) ? l->id : (uint32_t)l->id << 24;
    return true;
  case REG_VERSION:
    *value = VERSION;
    return true;
  case REG_TPR:
    *value = l->tpr;
    return true;
  case REG_APR:
  case REG_PPR:
    *value = lapic_get_ppr(l);
    return true;
  case REG_LDR:
    *value = lapic_is_x2apic(l) ? lapic_get_logical_id(l) : (uint32_t)l->ldr << 24;
    return true;
  case REG_DFR:
    *value = l->dfr;
    return true;
  case REG_SVR:
    *value = l->svr;
    return true;
  case REG_ISR ... REG_ISR + LAPIC_VECTOR_WORDS - 1:
    *value = l->isr[reg - REG_ISR];
    return true;
  case REG_TMR ... REG_TMR + LAPIC_VECTOR_WORDS - 1:
    *value = l->tmr[reg - REG_TMR];
    return true;
  case REG_IRR ... REG_IRR + LAPIC_VECTOR_WORDS - 1:
    *value = l->irr[reg - REG_IRR];
    return true;
  case REG_ESR:
    *value = l->esr;
    return true;
  case REG_ICR:
    *value = (uint32_t)l->icr;
    return true;
  case REG_ICR_HIGH:
    *value = (uint32_t)(l->icr >> 32);
    return true;
  case REG_LVT ... REG_LVT + N_LVT - 1:
    *value = l->lvt[reg - REG_LVT];
    return true;
  case REG_INITIAL_COUNT:
    *value = l->initial_count;
    return true;
  case REG_CURRENT_COUNT:
    catch_up(l);
    rearm(l, 0);
    *value = get_current_count(l);
    return true;
  case REG_DIVIDE:
    *value = l->divide;
    return true;
  default:
    return false;
  }
}

/* False: there is no such register, or it cannot be written. */
static bool write_register(Lapic *l, unsigned reg, uint32_t value)
{
  switch (reg) {
  case REG_TPR:
    write_tpr(l, (uint8_t)value);
    return true;
  case REG_EOI:
    end_of_interrupt(l);
    return true;
  case REG_LDR:
    l->ldr = (uint8_t)(value >> 24);
    return true;
  case REG_DFR:
    l->dfr = value | 0x0fffffff;
    return true;
  case REG_SVR:
    write_svr(l, value);
    return true;
  case REG_ESR:
    l->esr = l->esr_pending;
    l->esr_pending = 0;
    return true;
  case REG_ICR:
    l->icr = (l->icr & UINT64_C(0xffffffff00000000)) | (value & 0xccfff);
    send_ipi(l);
    return true;
  case REG_ICR_HIGH:
    l->icr = (l->icr & UINT32_MAX) | (uint64_t)(value & 0xff000000) << 32;
    return true;
  case REG_LVT ... REG_LVT + N_LVT - 1:
    write_lvt(l, reg - REG_LVT, value);
    return true;
  case REG_INITIAL_COUNT:
    write_initial_count(l, value);
    return true;
  case REG_DIVIDE:
    write_divide(l, value);
    return true;
  default:
    return false;
  }
}

/* ---- xAPIC: memory ---------------------------------------------------------------------------------------------------- */

static const VmCpuIntcOps intc_ops;

/* Whose registers are meant: see the top. NULL: that CPU has nothing at this address. */
static Lapic *get_addressed(const Lapic *owner)
{
  VmCpu *cpu = vm_cpu_current();
  Lapic *l = lapic_bus_get_first(owner->bus);
  if (cpu != NULL && cpu->vm == owner->dev.vm && cpu->intc_ops == &intc_ops)
    l = cpu->intc;
  bool here = lapic_is_enabled(l) && !lapic_is_x2apic(l) && !((l->base ^ owner->base) & APIC_BASE_ADDRESS);
  return here ? l : NULL;
}

static uint64_t lapic_mmio_read(void *opaque, uint64_t offset, unsigned size)
{
  Lapic *l = get_addressed(opaque);
  uint32_t value = 0;
  if (l == NULL)
    return UINT64_MAX;
  if (offset % 16 / 4 == 0 && !read_register(l, (unsigned)offset / 16, &value))
    note_error(l, ESR_ILLEGAL_REGISTER);
  return value;
}

static void lapic_mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Lapic *l = get_addressed(opaque);
  if (l != NULL && offset % 16 == 0 && !write_register(l, (unsigned)offset / 16, (uint32_t)value))
    note_error(l, ESR_ILLEGAL_REGISTER);
}

static const VmMmioOps lapic_mmio_ops = {
  .read = lapic_mmio_read, .write = lapic_mmio_write, .impl_min = 4, .impl_max = 4
};

static void update_mapping(Lapic *l)
{
  bool on = lapic_is_enabled(l) && !lapic_is_x2apic(l);
  uint64_t address = l->base & APIC_BASE_ADDRESS;
  VmMemory *memory = vm_get_memory(l->dev.vm);
  vm_memory_begin(memory);
  if (vm_region_get_base(l->region) != address)
    vm_region_set_base(l->region, address);
  if (vm_region_is_enabled(l->region) != on)
    vm_region_set_enabled(l->region, on);
  vm_memory_commit(memory);
}

/* ---- x2APIC: MSRs ------------------------------------------------------------------------------------------------------ */

static bool x2apic_read(Lapic *l, unsigned reg, uint64_t *value)
{
  uint32_t low = 0;
  if (reg == REG_ICR) {
    *value = l->icr;
    return true;
  }
  if (reg == REG_APR || reg == REG_DFR || reg == REG_ICR_HIGH || !read_register(l, reg, &low))
    return false;
  *value = low;
  return true;
}

/* The bits that may be set in a write; -1: not writable. SDM volume 3, 11.12.1.2. */
static int64_t x2apic_writable(unsigned reg)
{
  switch (reg) {
  case REG_TPR:
  case REG_SELF_IPI:
    return 0xff;
  case REG_EOI:
  case REG_ESR:
    return 0;
  case REG_SVR:
    return SVR_WRITABLE;
  case REG_LVT ... REG_LVT + N_LVT - 1:
    return lvt_writable[reg - REG_LVT] | LVT_STATUS_BITS;
  case REG_INITIAL_COUNT:
    return UINT32_MAX;
  case REG_DIVIDE:
    return DIVIDE_WRITABLE;
  default:
    return -1;
  }
}

static bool x2apic_write(Lapic *l, unsigned reg, uint64_t value)
{
  if (reg == REG_ICR) {
    l->icr = value & UINT64_C(0xffffffff000ccfff);
    send_ipi(l);
    return true;
  }
  int64_t writable = x2apic_writable(reg);
  if (writable < 0 || (value & ~(uint64_t)writable))
    return false;
  if (reg != REG_SELF_IPI)
    return write_register(l, reg, (uint32_t)value);
  if (value < FIRST_VECTOR)
    note_error(l, ESR_SEND_ILLEGAL);
  else
    accept(l, (uint8_t)value, false);
  return true;
}

/* ---- resets ------------------------------------------------------------------------------------------------------------ */

/* What INIT does: all but the ID, the base and the pins. */
static void reset_registers(Lapic *l)
{
  memset(l->irr, 0, sizeof l->irr);
  memset(l->isr, 0, sizeof l->isr);
  memset(l->tmr, 0, sizeof l->tmr);
  for (unsigned i = 0; i < N_LVT; i++)
    l->lvt[i] = LVT_MASKED;
  if (l->base & APIC_BASE_BSP)
    l->lvt[LVT_LINT0] = LAPIC_EXTINT << 8;
  l->icr = 0;
  l->svr = 0xff;
  l->dfr = UINT32_MAX;
  l->ldr = 0;
  l->tpr = 0;
  l->esr = l->esr_pending = 0;
  l->initial_count = 0;
  l->divide = 0;
  l->extint = false;
  l->expiry_ns = -1;
  l->tsc_deadline = 0;
  rearm(l, 0);
  tell_cpu(l, wants_interrupt(l));
}

static void lapic_reset(VmDevice *dev)
{
  Lapic *l = (Lapic *)dev;
  l->base = LAPIC_BASE | APIC_BASE_ENABLE | (l->cpu->index == 0 ? APIC_BASE_BSP : 0);
  reset_registers(l);
  update_mapping(l);
}

/* ---- what the vCPU asks ------------------------------------------------------------------------------------------------- */

static Lapic *lock(void *intc)
{
  Lapic *l = intc;
  vm_io_context_lock(l->dev.ctx);
  return l;
}

static void unlock(Lapic *l)
{
  vm_io_context_unlock(l->dev.ctx);
}

/* The local APIC's own requests go before the PIC's. */
static int acknowledge_locked(Lapic *l)
{
  int vector = find_request(l);
  I8259 *pic = lapic_bus_get_pic(l->bus);
  if (vector >= 0) {
    clear_vector(l->irr, (uint8_t)vector);
    set_vector(l->isr, (uint8_t)vector);
  } else if (wants_extint(l)) {
    l->extint = false;
    if (i8259_get_output(pic))
      vector = i8259_acknowledge(pic);
  }
  update(l);
  return vector;
}

static int intc_acknowledge(void *intc)
{
  Lapic *l = lock(intc);
  int vector = acknowledge_locked(l);
  unlock(l);
  return vector;
}

static uint8_t intc_get_tpr(void *intc)
{
  Lapic *l = lock(intc);
  uint8_t cr8 = l->tpr >> 4;
  unlock(l);
  return cr8;
}

static void intc_set_tpr(void *intc, uint8_t cr8)
{
  Lapic *l = lock(intc);
  write_tpr(l, (uint8_t)(cr8 << 4));
  unlock(l);
}

static uint64_t intc_get_apic_base(void *intc)
{
  Lapic *l = lock(intc);
  uint64_t base = l->base;
  unlock(l);
  return base;
}

/* SDM volume 3, 11.12.5: x2APIC is entered from xAPIC only and left to off only. */
static bool is_base_allowed(const Lapic *l, uint64_t value)
{
  const uint64_t modes = APIC_BASE_ENABLE | APIC_BASE_X2APIC;
  uint64_t from = l->base & modes, to = value & modes;
  if (value & ~(APIC_BASE_ADDRESS | APIC_BASE_BSP | modes))
    return false;
  if (to == APIC_BASE_X2APIC || (to == modes && from == 0))
    return false;
  return !(from == modes && to == APIC_BASE_ENABLE);
}

static bool set_base_locked(Lapic *l, uint64_t value)
{
  bool was_enabled = lapic_is_enabled(l);
  if (!is_base_allowed(l, value))
    return false;
  l->base = value;
  if (was_enabled && !lapic_is_enabled(l))
    reset_registers(l);
  update_mapping(l);
  update(l);
  return true;
}

static bool intc_set_apic_base(void *intc, uint64_t value)
{
  Lapic *l = lock(intc);
  bool allowed = set_base_locked(l, value);
  unlock(l);
  return allowed;
}

static bool intc_read_msr(void *intc, uint32_t index, uint64_t *value)
{
  Lapic *l = lock(intc);
  bool known = false;
  if (index == MSR_TSC_DEADLINE) {
    *value = read_tsc_deadline(l);
    known = true;
  } else if (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST && lapic_is_x2apic(l)) {
    known = x2apic_read(l, index - MSR_X2APIC, value);
  }
  unlock(l);
  return known;
}

static bool intc_write_msr(void *intc, uint32_t index, uint64_t value)
{
  Lapic *l = lock(intc);
  bool known = false;
  if (index == MSR_TSC_DEADLINE) {
    write_tsc_deadline(l, value);
    known = true;
  } else if (index >= MSR_X2APIC && index <= MSR_X2APIC_LAST && lapic_is_x2apic(l)) {
    known = x2apic_write(l, index - MSR_X2APIC, value);
  }
  unlock(l);
  return known;
}

static void intc_init(void *intc)
{
  Lapic *l = lock(intc);
  reset_registers(l);
  unlock(l);
}

static const VmCpuIntcOps intc_ops = {
  .acknowledge = intc_acknowledge,
  .get_tpr = intc_get_tpr,
  .set_tpr = intc_set_tpr,
  .get_apic_base = intc_get_apic_base,
  .set_apic_base = intc_set_apic_base,
  .read_msr = intc_read_msr,
  .write_msr = intc_write_msr,
  .init = intc_init,
};

/* ---- life ---------------------------------------------------------------------------------------------------------------- */

static bool lapic_validate(const VmDevice *scratch, GError **error)
{
  const Lapic *l = (const Lapic *)scratch;
  uint64_t modes = l->base & (APIC_BASE_ENABLE | APIC_BASE_X2APIC);
  bool is_base_right = modes != APIC_BASE_X2APIC &&
                       !(l->base & ~(APIC_BASE_ADDRESS | APIC_BASE_BSP | APIC_BASE_ENABLE | APIC_BASE_X2APIC));
  if (is_base_right && l->expiry_ns >= -1 && l->expiry_ns <= 2 * MAX_WAIT_NS && (l->divide & ~DIVIDE_WRITABLE) == 0)
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of %s is not one that a local APIC can have",
              scratch->id);
  return false;
}

static void lapic_loaded(VmDevice *dev)
{
  Lapic *l = (Lapic *)dev;
  update_mapping(l);
  rearm(l, 0);
  tell_cpu(l, wants_interrupt(l));
}

static void lapic_finish(VmDevice *dev)
{
  vm_timer_finish(&((Lapic *)dev)->timer);
}

static const VmDeviceType lapic_type = {
  .name = "lapic",
  .version = 1,
  .size = sizeof(Lapic),
  .fields = lapic_fields,
  .reset = lapic_reset,
  .validate = lapic_validate,
  .loaded = lapic_loaded,
  .finish = lapic_finish,
};

static uint64_t accel_tsc(VmCpu *cpu, void *opaque)
{
  return ((const VmAccelOps *)opaque)->cpu_get_tsc(cpu);
}

/* The counter's rate: the accelerator's where its CPUs count by themselves, else the machine's. */
static void choose_tsc(Lapic *l)
{
  const VmAccelOps *ops = vm_get_accel_ops(l->dev.vm);
  bool has_own = ops != NULL && ops->get_tsc_hz != NULL && ops->cpu_get_tsc != NULL;
  uint64_t hz = has_own ? ops->get_tsc_hz(vm_get_accel(l->dev.vm)) : 0;
  l->tsc_hz = VM_TSC_HZ;
  if (hz != 0)
    lapic_set_tsc(l, hz, accel_tsc, (void *)ops);
}

Lapic *lapic_create(LapicBus *bus, VmCpu *cpu, uint8_t apic_id)
{
  g_assert(apic_id < LAPIC_MAX_CPUS);
  g_autofree char *name = g_strdup_printf("lapic.%u", apic_id);
  Lapic *l = vm_device_new(cpu->vm, &lapic_type, name);
  l->bus = bus;
  l->cpu = cpu;
  l->id = apic_id;
  choose_tsc(l);
  vm_timer_init(&l->timer, l->dev.ctx, on_timer, l);
  l->region = vm_region_new_io(vm_get_memory(cpu->vm), name, VM_SPACE_MEMORY, LAPIC_BASE, REGION_BYTES,
                               PC_PRIORITY_LAPIC, &lapic_mmio_ops, l, l->dev.ctx);
  lapic_bus_add(bus, l);
  vm_cpu_set_intc(cpu, &intc_ops, l);
  lapic_reset(&l->dev);
  return l;
}

void lapic_set_tsc(Lapic *lapic, uint64_t hz, LapicTscFunc now, void *opaque)
{
  g_assert(hz != 0);
  lapic->tsc_hz = hz;
  lapic->tsc_now = now;
  lapic->tsc_opaque = opaque;
}
