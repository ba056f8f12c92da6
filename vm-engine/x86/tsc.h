/*
 * The machine's time-stamp counter: one fixed rate, a pure function of virtual time.
 *
 * Virtual time stands still while the machine is paused and survives a save, so the counter does too, and it is the
 * same on all CPUs (an invariant TSC). The rate is 2 GHz: a whole multiple of the clock's nanosecond, so that the
 * conversion is a shift without rounding both ways, and fast enough that guests which divide by "MHz" get a usual
 * number. The guest's own counter is this plus X86Cpu.tsc_offset.
 *
 * An accelerator whose hardware counts at another rate tells the local APICs so (lapic_set_tsc()).
 */
#ifndef VM_X86_TSC_H
#define VM_X86_TSC_H

#include <stdint.h>

#include "vm-engine/clock.h"

#define VM_TSC_SHIFT 1
#define VM_TSC_HZ    ((uint64_t)VM_NS_PER_SEC << VM_TSC_SHIFT)

/* The counter at virtual time `ns` (>= 0). */
static inline uint64_t vm_tsc_from_ns(int64_t ns)
{
  return (uint64_t)ns << VM_TSC_SHIFT;
}

/* The first virtual nanosecond at which the counter is at least `tsc`. */
static inline int64_t vm_tsc_to_ns(uint64_t tsc)
{
  return (int64_t)((tsc >> VM_TSC_SHIFT) + (tsc & ((1u << VM_TSC_SHIFT) - 1) ? 1 : 0));
}

/* The counter now. Any thread. */
static inline uint64_t vm_tsc_now(const VmClock *clock)
{
  return vm_tsc_from_ns(vm_clock_get_ns(clock));
}

#endif
