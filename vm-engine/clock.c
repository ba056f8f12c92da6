/*
 * The virtual clock: CLOCK_MONOTONIC less an offset while it runs, a constant while it stands.
 *
 * It is read far more often than it is changed, from every vCPU, so readers take no lock: a sequence counter tells them
 * to look again if a change went on meanwhile.
 */
#include <stdatomic.h>
#include <time.h>

#include "vm-engine/clock-private.h"

struct VmClock {
  bool manual;
  GMutex mutex; /* one changer at a time; guards `contexts` */
  GPtrArray *contexts;
  _Atomic uint32_t sequence; /* odd while a change goes on */
  _Atomic bool running;
  _Atomic int64_t offset_ns; /* running: CLOCK_MONOTONIC - virtual time */
  _Atomic int64_t stopped_ns;
};

static int64_t host_ns(clockid_t id)
{
  struct timespec ts;
  clock_gettime(id, &ts);
  return ts.tv_sec * VM_NS_PER_SEC + ts.tv_nsec;
}

VmClock *vm_clock_new(void)
{
  VmClock *clock = g_new0(VmClock, 1);
  g_mutex_init(&clock->mutex);
  clock->contexts = g_ptr_array_new();
  return clock;
}

VmClock *vm_clock_new_manual(void)
{
  VmClock *clock = vm_clock_new();
  clock->manual = true;
  return clock;
}

void vm_clock_free(VmClock *clock)
{
  if (clock == NULL)
    return;
  g_ptr_array_free(clock->contexts, TRUE);
  g_mutex_clear(&clock->mutex);
  g_free(clock);
}

int64_t vm_clock_get_ns(const VmClock *clock)
{
  for (;;) {
    uint32_t before = atomic_load_explicit(&clock->sequence, memory_order_acquire);
    int64_t ns = atomic_load_explicit(&clock->stopped_ns, memory_order_relaxed);
    if (atomic_load_explicit(&clock->running, memory_order_relaxed))
      ns = host_ns(CLOCK_MONOTONIC) - atomic_load_explicit(&clock->offset_ns, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    if (!(before & 1) && atomic_load_explicit(&clock->sequence, memory_order_relaxed) == before)
      return ns;
  }
}

/* Mutex held. Between the two, readers wait. */
static void change_begin(VmClock *clock)
{
  atomic_fetch_add_explicit(&clock->sequence, 1, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
}

static void change_end(VmClock *clock)
{
  atomic_fetch_add_explicit(&clock->sequence, 1, memory_order_release);
}

static void tell_contexts(VmClock *clock)
{
  for (unsigned i = 0; i < clock->contexts->len; i++)
    vm_io_context_rearm(g_ptr_array_index(clock->contexts, i));
}

void vm_clock_start(VmClock *clock)
{
  g_mutex_lock(&clock->mutex);
  if (!clock->manual && !clock->running) {
    change_begin(clock);
    atomic_store_explicit(&clock->offset_ns, host_ns(CLOCK_MONOTONIC) - clock->stopped_ns, memory_order_relaxed);
    atomic_store_explicit(&clock->running, true, memory_order_relaxed);
    change_end(clock);
    tell_contexts(clock);
  }
  g_mutex_unlock(&clock->mutex);
}

void vm_clock_stop(VmClock *clock)
{
  g_mutex_lock(&clock->mutex);
  if (clock->running) {
    change_begin(clock);
    atomic_store_explicit(&clock->stopped_ns, host_ns(CLOCK_MONOTONIC) - clock->offset_ns, memory_order_relaxed);
    atomic_store_explicit(&clock->running, false, memory_order_relaxed);
    change_end(clock);
    tell_contexts(clock);
  }
  g_mutex_unlock(&clock->mutex);
}

bool vm_clock_is_running(const VmClock *clock)
{
  return atomic_load_explicit(&clock->running, memory_order_acquire);
}

void vm_clock_set_ns(VmClock *clock, int64_t ns)
{
  g_return_if_fail(ns >= 0);
  g_mutex_lock(&clock->mutex);
  if (!clock->running) {
    change_begin(clock);
    atomic_store_explicit(&clock->stopped_ns, ns, memory_order_relaxed);
    change_end(clock);
  }
  g_mutex_unlock(&clock->mutex);
}

int64_t vm_clock_wall_ns(void)
{
  return host_ns(CLOCK_REALTIME);
}

bool vm_clock_is_manual(const VmClock *clock)
{
  return clock->manual;
}

int64_t vm_clock_to_monotonic(const VmClock *clock, int64_t ns)
{
  int64_t offset = atomic_load_explicit(&clock->offset_ns, memory_order_relaxed), sum;
  return __builtin_add_overflow(ns, offset, &sum) ? INT64_MAX : sum;
}

void vm_clock_add_context(VmClock *clock, VmIoContext *ctx)
{
  g_mutex_lock(&clock->mutex);
  g_ptr_array_add(clock->contexts, ctx);
  g_mutex_unlock(&clock->mutex);
}

void vm_clock_remove_context(VmClock *clock, VmIoContext *ctx)
{
  g_mutex_lock(&clock->mutex);
  g_ptr_array_remove(clock->contexts, ctx);
  g_mutex_unlock(&clock->mutex);
}

/* ---- timers ------------------------------------------------------------------------------------------------------- */

void vm_timer_init(VmTimer *timer, VmIoContext *ctx, VmTimerFunc func, void *opaque)
{
  *timer = (VmTimer){ .ctx = ctx, .func = func, .opaque = opaque, .deadline_ns = -1 };
}

void vm_timer_set(VmTimer *timer, int64_t deadline_ns)
{
  g_assert(timer->ctx != NULL);
  vm_io_context_timer_moved(timer->ctx, timer, MAX(deadline_ns, 0));
}

void vm_timer_cancel(VmTimer *timer)
{
  if (vm_timer_is_pending(timer))
    vm_io_context_timer_moved(timer->ctx, timer, -1);
}

/* A timer that was never initialised (all zero) has no context and is not pending. */
bool vm_timer_is_pending(const VmTimer *timer)
{
  return timer->ctx != NULL && timer->deadline_ns >= 0;
}

int64_t vm_timer_get_deadline(const VmTimer *timer)
{
  return vm_timer_is_pending(timer) ? timer->deadline_ns : -1;
}

void vm_timer_finish(VmTimer *timer)
{
  vm_timer_cancel(timer);
}
