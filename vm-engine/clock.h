/*
 * The machine's virtual clock and the timers on it.
 *
 * Virtual time counts nanoseconds while the machine runs and stands still while it is paused. It is CLOCK_MONOTONIC
 * less the time spent paused, so a host's suspend or clock change never makes it jump. A manual clock moves only by
 * vm_io_context_step().
 */
#ifndef VM_CLOCK_H
#define VM_CLOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#define VM_NS_PER_SEC INT64_C(1000000000)
#define VM_NS_PER_MS  INT64_C(1000000)
#define VM_NS_PER_US  INT64_C(1000)

typedef struct VmClock VmClock;
typedef struct VmIoContext VmIoContext;

/* A clock that stands at 0 and is stopped. */
VmClock *vm_clock_new(void);
VmClock *vm_clock_new_manual(void);
void vm_clock_free(VmClock *clock);

/* Virtual time in ns, never decreasing, never negative. Any thread, lock-free. */
int64_t vm_clock_get_ns(const VmClock *clock);

/* Lets the clock run, or stand. Timers of all its contexts follow. No effect on a manual clock. Any thread. */
void vm_clock_start(VmClock *clock);
void vm_clock_stop(VmClock *clock);
bool vm_clock_is_running(const VmClock *clock);

/* Sets virtual time, of a stopped or manual clock only: for loading a saved machine. */
void vm_clock_set_ns(VmClock *clock, int64_t ns);

/* Wall-clock time for the RTC, in ns since 1970 UTC. */
int64_t vm_clock_wall_ns(void);

typedef void (*VmTimerFunc)(void *opaque);

/* A one-shot timer, embedded by value in a device's state (so that the state table can save its deadline). All fields
 * are private. All calls with the context's lock held. */
typedef struct VmTimer {
  VmIoContext *ctx;
  VmTimerFunc func;
  void *opaque;
  int64_t deadline_ns; /* virtual time; -1 while not pending */
  unsigned heap_index;
} VmTimer;

void vm_timer_init(VmTimer *timer, VmIoContext *ctx, VmTimerFunc func, void *opaque);
/* Sets or moves the deadline, in virtual ns; one in the past fires at once (from the loop, never from this call). */
void vm_timer_set(VmTimer *timer, int64_t deadline_ns);
void vm_timer_cancel(VmTimer *timer);
bool vm_timer_is_pending(const VmTimer *timer);
/* -1 while not pending. */
int64_t vm_timer_get_deadline(const VmTimer *timer);
/* Cancels; the timer may be freed afterwards. A timer that was never initialised (all zero) is allowed. */
void vm_timer_finish(VmTimer *timer);

/* value * mul / div without overflow in the middle; div != 0. For converting between clock rates. */
static inline uint64_t vm_muldiv64(uint64_t value, uint32_t mul, uint32_t div)
{
  return (uint64_t)((unsigned __int128)value * mul / div);
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmClock, vm_clock_free)

#endif
