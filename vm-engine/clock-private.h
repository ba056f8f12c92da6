/* What the clock and the I/O contexts need of each other. */
#ifndef VM_CLOCK_PRIVATE_H
#define VM_CLOCK_PRIVATE_H

#include "vm-engine/clock.h"

/* The clock tells its contexts when it starts, stops or is set, so that they arm their timers anew. Any thread. */
void vm_clock_add_context(VmClock *clock, VmIoContext *ctx);
void vm_clock_remove_context(VmClock *clock, VmIoContext *ctx);
bool vm_clock_is_manual(const VmClock *clock);
/* The host's CLOCK_MONOTONIC at which the running clock will show `ns`. */
int64_t vm_clock_to_monotonic(const VmClock *clock, int64_t ns);

/* The loop shall look at its timers again: the clock changed. Any thread. */
void vm_io_context_rearm(VmIoContext *ctx);
/* Ends the loop's thread; what is done to the context afterwards happens on the caller's. For the machine's end. */
void vm_io_context_stop(VmIoContext *ctx);
/* The timer heap of a context; lock held. */
void vm_io_context_timer_moved(VmIoContext *ctx, VmTimer *timer, int64_t deadline_ns);

#endif
