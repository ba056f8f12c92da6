/*
 * I/O contexts: a GMainContext run by hand, so that its lock is held while things are called and free while it sleeps.
 *
 * Timers are a binary heap of our own beside it, for two reasons. GLib counts in milliseconds, and a guest's timer
 * interrupts want microseconds: one timerfd in the poll set wakes the loop at the earliest deadline. And a vCPU moves
 * its timers tens of thousands of times a second: the timerfd is armed anew only when the earliest deadline comes
 * nearer; when it moves away, the loop wakes once for nothing and arms itself for what is due then.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <glib-unix.h>

#include "vm-engine/clock-private.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"

/* Timers fired, or functions run, in a row before a vCPU that waits for the lock gets its chance. */
#define BATCH 64

typedef struct Invocation {
  GSourceFunc func;
  void *data;
  GDestroyNotify destroy;
} Invocation;

struct VmIoContext {
  VmClock *clock;
  GMainContext *main_context;
  GThread *thread; /* NULL: manual */
  _Atomic bool quit;

  pthread_mutex_t lock; /* the context's lock */
  _Atomic(pthread_t) owner;
  _Atomic bool owned;

  /* Under the lock. */
  VmTimer **heap;
  unsigned n_timers, heap_room;
  int timer_fd; /* -1: manual */
  GPollFD timer_poll;
  int64_t armed_ns; /* virtual time for which timer_fd is set, INT64_MAX: not at all */

  _Atomic bool rearm; /* the clock changed */
  GMutex queue_mutex; /* innermost; guards `queue` */
  GQueue queue;       /* of Invocation, in order */
};

struct VmIoWatch {
  GSource source; /* first */
  VmIoContext *ctx;
  int fd;
  void *tag;
  VmIoWatchFunc func;
  void *opaque;
};

/* ---- the lock ------------------------------------------------------------------------------------------------------- */

bool vm_io_context_is_locked(const VmIoContext *ctx)
{
  return atomic_load_explicit(&ctx->owned, memory_order_relaxed) &&
         pthread_equal(atomic_load_explicit(&ctx->owner, memory_order_relaxed), pthread_self());
}

void vm_io_context_lock(VmIoContext *ctx)
{
  g_assert(!vm_io_context_is_locked(ctx));
  pthread_mutex_lock(&ctx->lock);
  atomic_store_explicit(&ctx->owner, pthread_self(), memory_order_relaxed);
  atomic_store_explicit(&ctx->owned, true, memory_order_relaxed);
}

void vm_io_context_unlock(VmIoContext *ctx)
{
  atomic_store_explicit(&ctx->owned, false, memory_order_relaxed);
  pthread_mutex_unlock(&ctx->lock);
}

/* ---- timers ----------------------------------------------------------------------------------------------------------- */

static void heap_put(VmIoContext *ctx, unsigned index, VmTimer *timer)
{
  ctx->heap[index] = timer;
  timer->heap_index = index;
}

static void heap_up(VmIoContext *ctx, unsigned index, VmTimer *timer)
{
  while (index > 0) {
    unsigned parent = (index - 1) / 2;
    if (ctx->heap[parent]->deadline_ns <= timer->deadline_ns)
      break;
    heap_put(ctx, index, ctx->heap[parent]);
    index = parent;
  }
  heap_put(ctx, index, timer);
}

static void heap_down(VmIoContext *ctx, unsigned index, VmTimer *timer)
{
  for (;;) {
    unsigned child = 2 * index + 1;
    if (child >= ctx->n_timers)
      break;
    if (child + 1 < ctx->n_timers && ctx->heap[child + 1]->deadline_ns < ctx->heap[child]->deadline_ns)
      child++;
    if (timer->deadline_ns <= ctx->heap[child]->deadline_ns)
      break;
    heap_put(ctx, index, ctx->heap[child]);
    index = child;
  }
  heap_put(ctx, index, timer);
}

static void heap_remove(VmIoContext *ctx, VmTimer *timer)
{
  unsigned index = timer->heap_index;
  g_assert(index < ctx->n_timers && ctx->heap[index] == timer);
  VmTimer *last = ctx->heap[--ctx->n_timers];
  if (last == timer)
    return;
  heap_up(ctx, index, last);
  heap_down(ctx, last->heap_index, last);
}

static void heap_insert(VmIoContext *ctx, VmTimer *timer)
{
  if (ctx->n_timers == ctx->heap_room) {
    ctx->heap_room = MAX(16, ctx->heap_room * 2);
    ctx->heap = g_renew(VmTimer *, ctx->heap, ctx->heap_room);
  }
  heap_up(ctx, ctx->n_timers++, timer);
}

/* Lock held. Sets the timerfd for the earliest timer, if that is before what it is set for. */
static void arm(VmIoContext *ctx)
{
  int64_t earliest = ctx->n_timers > 0 ? ctx->heap[0]->deadline_ns : INT64_MAX;
  if (ctx->timer_fd < 0 || earliest >= ctx->armed_ns || !vm_clock_is_running(ctx->clock))
    return;
  int64_t at = MAX(vm_clock_to_monotonic(ctx->clock, earliest), 1);
  struct itimerspec spec = { .it_value = { .tv_sec = at / VM_NS_PER_SEC, .tv_nsec = at % VM_NS_PER_SEC } };
  timerfd_settime(ctx->timer_fd, TFD_TIMER_ABSTIME, &spec, NULL);
  ctx->armed_ns = earliest;
}

static void disarm(VmIoContext *ctx)
{
  struct itimerspec spec = { 0 };
  timerfd_settime(ctx->timer_fd, 0, &spec, NULL);
  ctx->armed_ns = INT64_MAX;
}

void vm_io_context_timer_moved(VmIoContext *ctx, VmTimer *timer, int64_t deadline_ns)
{
  if (timer->deadline_ns >= 0)
    heap_remove(ctx, timer);
  timer->deadline_ns = deadline_ns;
  if (deadline_ns < 0)
    return;
  heap_insert(ctx, timer);
  arm(ctx);
}

void vm_io_context_rearm(VmIoContext *ctx)
{
  atomic_store(&ctx->rearm, true);
  g_main_context_wakeup(ctx->main_context);
}

/* Lock held: fires the earliest timer if it is due at `now`. */
static bool fire_one(VmIoContext *ctx, int64_t now)
{
  if (ctx->n_timers == 0 || ctx->heap[0]->deadline_ns > now)
    return false;
  VmTimer *timer = ctx->heap[0];
  heap_remove(ctx, timer);
  timer->deadline_ns = -1;
  timer->func(timer->opaque);
  return true;
}

/* Lock held, after the loop woke. */
static void run_timers(VmIoContext *ctx)
{
  uint64_t expirations;
  if (ctx->timer_poll.revents != 0 && read(ctx->timer_fd, &expirations, sizeof(expirations)) > 0)
    ctx->armed_ns = INT64_MAX;
  if (atomic_exchange(&ctx->rearm, false))
    disarm(ctx);
  if (vm_clock_is_running(ctx->clock)) {
    int64_t now = vm_clock_get_ns(ctx->clock);
    for (unsigned i = 0; i < BATCH && fire_one(ctx, now); i++)
      ;
  }
  arm(ctx);
}

/* ---- invoked functions ---------------------------------------------------------------------------------------------------- */

void vm_io_context_invoke(VmIoContext *ctx, GSourceFunc func, void *data, GDestroyNotify destroy)
{
  Invocation *invocation = g_new(Invocation, 1);
  *invocation = (Invocation){ func, data, destroy };
  g_mutex_lock(&ctx->queue_mutex);
  bool was_empty = g_queue_is_empty(&ctx->queue);
  g_queue_push_tail(&ctx->queue, invocation);
  g_mutex_unlock(&ctx->queue_mutex);
  if (was_empty)
    g_main_context_wakeup(ctx->main_context);
}

/* Lock held. The function's value is that of a GSourceFunc, but it runs once. False: none was waiting. */
static bool run_one_invocation(VmIoContext *ctx)
{
  g_mutex_lock(&ctx->queue_mutex);
  Invocation *invocation = g_queue_pop_head(&ctx->queue);
  g_mutex_unlock(&ctx->queue_mutex);
  if (invocation == NULL)
    return false;
  if (invocation->func != NULL)
    invocation->func(invocation->data);
  if (invocation->destroy != NULL)
    invocation->destroy(invocation->data);
  g_free(invocation);
  return true;
}

/* Lock held. Those that come meanwhile wait for the next round; false if some do. */
static bool run_invocations(VmIoContext *ctx)
{
  unsigned i = 0;
  while (i < BATCH && run_one_invocation(ctx))
    i++;
  return i < BATCH;
}

/* ---- the loop ------------------------------------------------------------------------------------------------------------------ */

/* The poll set of one round. */
typedef struct PollSet {
  GPollFD *fds;
  int room;
} PollSet;

/* One round: sleeps (unless told not to) without the lock, then runs what is ready with it. The lock is held at call
 * and return. */
static void iterate(VmIoContext *ctx, PollSet *set, bool may_sleep)
{
  int priority, timeout, n;
  g_main_context_prepare(ctx->main_context, &priority);
  while ((n = g_main_context_query(ctx->main_context, priority, &timeout, set->fds, set->room)) > set->room) {
    set->room = n;
    set->fds = g_renew(GPollFD, set->fds, n);
  }
  vm_io_context_unlock(ctx);
  g_poll(set->fds, (guint)n, may_sleep ? timeout : 0);
  vm_io_context_lock(ctx);
  bool ready = g_main_context_check(ctx->main_context, priority, set->fds, n);
  if (ctx->timer_fd >= 0)
    run_timers(ctx);
  if (ready)
    g_main_context_dispatch(ctx->main_context);
}

static void *loop_main(void *opaque)
{
  VmIoContext *ctx = opaque;
  PollSet set = { g_new(GPollFD, 16), 16 };
  prctl(PR_SET_TIMERSLACK, 1000ul); /* ns; the default lets a wake-up come 50 microseconds late */
  g_main_context_acquire(ctx->main_context);
  g_main_context_push_thread_default(ctx->main_context);
  vm_io_context_lock(ctx);
  while (!atomic_load(&ctx->quit)) {
    bool idle = run_invocations(ctx);
    iterate(ctx, &set, idle);
  }
  vm_io_context_unlock(ctx);
  g_main_context_pop_thread_default(ctx->main_context);
  g_main_context_release(ctx->main_context);
  g_free(set.fds);
  return NULL;
}

static VmIoContext *context_alloc(VmClock *clock)
{
  VmIoContext *ctx = g_new0(VmIoContext, 1);
  ctx->clock = clock;
  ctx->main_context = g_main_context_new();
  ctx->timer_fd = -1;
  ctx->armed_ns = INT64_MAX;
  pthread_mutex_init(&ctx->lock, NULL);
  g_mutex_init(&ctx->queue_mutex);
  g_queue_init(&ctx->queue);
  vm_clock_add_context(clock, ctx);
  return ctx;
}

VmIoContext *vm_io_context_new(const char *name, VmClock *clock, GError **error)
{
  VmIoContext *ctx = context_alloc(clock);
  ctx->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  if (ctx->timer_fd < 0) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "cannot make the event loop \"%s\": timerfd: %s", name,
                g_strerror(errno));
    vm_io_context_free(ctx);
    return NULL;
  }
  ctx->timer_poll = (GPollFD){ .fd = ctx->timer_fd, .events = G_IO_IN };
  g_main_context_add_poll(ctx->main_context, &ctx->timer_poll, G_PRIORITY_HIGH);

  g_autoptr(GError) reason = NULL;
  ctx->thread = g_thread_try_new(name, loop_main, ctx, &reason);
  if (ctx->thread == NULL) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "cannot start the event loop \"%s\": %s", name, reason->message);
    vm_io_context_free(ctx);
    return NULL;
  }
  return ctx;
}

VmIoContext *vm_io_context_new_manual(VmClock *clock)
{
  g_assert(vm_clock_is_manual(clock));
  return context_alloc(clock);
}

void vm_io_context_stop(VmIoContext *ctx)
{
  if (ctx->thread == NULL)
    return;
  g_assert(ctx->thread != g_thread_self());
  atomic_store(&ctx->quit, true);
  g_main_context_wakeup(ctx->main_context);
  g_thread_join(g_steal_pointer(&ctx->thread));
}

void vm_io_context_free(VmIoContext *ctx)
{
  if (ctx == NULL)
    return;
  vm_io_context_stop(ctx);
  vm_clock_remove_context(ctx->clock, ctx);
  Invocation *left;
  while ((left = g_queue_pop_head(&ctx->queue)) != NULL) { /* too late to run, but its data is freed */
    if (left->destroy != NULL)
      left->destroy(left->data);
    g_free(left);
  }
  if (ctx->timer_fd >= 0)
    close(ctx->timer_fd);
  g_main_context_unref(ctx->main_context);
  g_free(ctx->heap);
  g_mutex_clear(&ctx->queue_mutex);
  pthread_mutex_destroy(&ctx->lock);
  g_free(ctx);
}

VmClock *vm_io_context_get_clock(VmIoContext *ctx)
{
  return ctx->clock;
}
GMainContext *vm_io_context_get_main_context(VmIoContext *ctx)
{
  return ctx->main_context;
}

/* Runs everything that waits: invoked functions and ready descriptors. Lock held. */
static void settle(VmIoContext *ctx, PollSet *set)
{
  while (run_one_invocation(ctx))
    ;
  g_main_context_acquire(ctx->main_context);
  iterate(ctx, set, false);
  g_main_context_release(ctx->main_context);
  while (run_one_invocation(ctx))
    ;
}

void vm_io_context_step(VmIoContext *ctx, int64_t ns)
{
  g_assert(vm_clock_is_manual(ctx->clock) && ns >= 0);
  PollSet set = { g_new(GPollFD, 16), 16 };
  int64_t target = vm_clock_get_ns(ctx->clock) + ns;
  vm_io_context_lock(ctx);
  settle(ctx, &set);
  while (ctx->n_timers > 0 && ctx->heap[0]->deadline_ns <= target) {
    vm_clock_set_ns(ctx->clock, MAX(ctx->heap[0]->deadline_ns, vm_clock_get_ns(ctx->clock)));
    fire_one(ctx, target);
    while (run_one_invocation(ctx))
      ;
  }
  vm_clock_set_ns(ctx->clock, target);
  settle(ctx, &set);
  vm_io_context_unlock(ctx);
  g_free(set.fds);
}

/* ---- watched descriptors ------------------------------------------------------------------------------------------------- */

static gboolean watch_dispatch(GSource *source, GSourceFunc func, gpointer data)
{
  VmIoWatch *watch = (VmIoWatch *)source;
  watch->func(watch->fd, g_source_query_unix_fd(source, watch->tag), watch->opaque);
  return G_SOURCE_CONTINUE;
}

VmIoWatch *vm_io_context_watch_fd(VmIoContext *ctx, int fd, GIOCondition condition, VmIoWatchFunc func, void *opaque)
{
  static GSourceFuncs funcs = { .dispatch = watch_dispatch }; /* constant, but for what GLib's prototype says */
  VmIoWatch *watch = (VmIoWatch *)g_source_new(&funcs, sizeof(VmIoWatch));
  watch->ctx = ctx;
  watch->fd = fd;
  watch->func = func;
  watch->opaque = opaque;
  watch->tag = g_source_add_unix_fd(&watch->source, fd, condition);
  g_source_attach(&watch->source, ctx->main_context);
  return watch;
}

void vm_io_watch_remove(VmIoWatch *watch)
{
  if (watch == NULL)
    return;
  g_source_destroy(&watch->source);
  g_source_unref(&watch->source);
}
