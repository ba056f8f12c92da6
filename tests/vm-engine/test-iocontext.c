/* Clocks, timers and I/O contexts: by hand with a manual clock, and the real loop. */
#include <unistd.h>

#include "vm-engine/clock.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"

typedef struct Trace {
  VmClock *clock;
  VmTimer timers[8];
  int order[64];
  int64_t when[64];
  unsigned n;
  VmTimer *cancel, *rearm;
  int rearm_left;
} Trace;

typedef struct Tick {
  Trace *trace;
  int id;
} Tick;

static void record(void *opaque)
{
  Tick *tick = opaque;
  Trace *t = tick->trace;
  t->order[t->n] = tick->id;
  t->when[t->n++] = vm_clock_get_ns(t->clock);
  if (t->cancel != NULL)
    vm_timer_cancel(t->cancel);
  if (t->rearm != NULL && t->rearm_left-- > 0)
    vm_timer_set(t->rearm, vm_clock_get_ns(t->clock) + 10);
}

static void test_manual_order(void)
{
  g_autoptr(VmClock) clock = vm_clock_new_manual();
  g_autoptr(VmIoContext) ctx = vm_io_context_new_manual(clock);
  Trace t = { .clock = clock };
  Tick ticks[4];
  vm_io_context_lock(ctx);
  for (int i = 0; i < 4; i++) {
    ticks[i] = (Tick){ &t, i };
    vm_timer_init(&t.timers[i], ctx, record, &ticks[i]);
  }
  vm_timer_set(&t.timers[0], 300);
  vm_timer_set(&t.timers[1], 100);
  vm_timer_set(&t.timers[2], 200);
  vm_timer_set(&t.timers[3], 1000);
  vm_timer_set(&t.timers[2], 250); /* moved */
  g_assert_cmpint(vm_timer_get_deadline(&t.timers[2]), ==, 250);
  vm_io_context_unlock(ctx);
  vm_io_context_step(ctx, 500);
  g_assert_cmpuint(t.n, ==, 3);
  g_assert_cmpint(t.order[0], ==, 1);
  g_assert_cmpint(t.order[1], ==, 2);
  g_assert_cmpint(t.order[2], ==, 0);
  g_assert_cmpint(t.when[0], ==, 100);
  g_assert_cmpint(t.when[1], ==, 250);
  g_assert_cmpint(vm_clock_get_ns(clock), ==, 500);
  g_assert_true(vm_timer_is_pending(&t.timers[3]));
  vm_io_context_lock(ctx);
  vm_timer_finish(&t.timers[3]);
  vm_io_context_unlock(ctx);
  vm_io_context_step(ctx, 1000);
  g_assert_cmpuint(t.n, ==, 3);
  VmTimer never = { 0 };
  vm_timer_finish(&never);
  g_assert_false(vm_timer_is_pending(&never));
}

static void test_callbacks_change_timers(void)
{
  g_autoptr(VmClock) clock = vm_clock_new_manual();
  g_autoptr(VmIoContext) ctx = vm_io_context_new_manual(clock);
  Trace t = { .clock = clock };
  Tick ticks[2] = { { &t, 0 }, { &t, 1 } };
  vm_io_context_lock(ctx);
  vm_timer_init(&t.timers[0], ctx, record, &ticks[0]);
  vm_timer_init(&t.timers[1], ctx, record, &ticks[1]);
  vm_timer_set(&t.timers[0], 5);
  vm_timer_set(&t.timers[1], 6);
  vm_io_context_unlock(ctx);
  t.cancel = &t.timers[1];
  t.rearm = &t.timers[0];
  t.rearm_left = 3;
  vm_io_context_step(ctx, 100);
  g_assert_cmpuint(t.n, ==, 4);
  g_assert_cmpint(t.when[3], ==, 35);
}

static void test_heap(void)
{
  g_autoptr(VmClock) clock = vm_clock_new_manual();
  g_autoptr(VmIoContext) ctx = vm_io_context_new_manual(clock);
  enum { N = 50 };
  Trace t = { .clock = clock };
  VmTimer timers[N];
  Tick ticks[N];
  vm_io_context_lock(ctx);
  for (int i = 0; i < N; i++) {
    ticks[i] = (Tick){ &t, i };
    vm_timer_init(&timers[i], ctx, record, &ticks[i]);
    vm_timer_set(&timers[i], (i * 37) % 101);
  }
  for (int i = 0; i < N; i += 3)
    vm_timer_cancel(&timers[i]);
  for (int i = 1; i < N; i += 5)
    vm_timer_set(&timers[i], (i * 53) % 97);
  vm_io_context_unlock(ctx);
  vm_io_context_step(ctx, 200);
  for (unsigned i = 1; i < t.n; i++)
    g_assert_cmpint(t.when[i], >=, t.when[i - 1]);
  for (int i = 0; i < N; i++)
    g_assert_false(vm_timer_is_pending(&timers[i]));
}

static gboolean append_letter(void *data)
{
  g_string_append_c(*(GString **)data, 'a');
  return G_SOURCE_REMOVE;
}

static void test_invoke_manual(void)
{
  g_autoptr(VmClock) clock = vm_clock_new_manual();
  g_autoptr(VmIoContext) ctx = vm_io_context_new_manual(clock);
  GString *text = g_string_new(NULL);
  vm_io_context_invoke(ctx, append_letter, &text, NULL);
  vm_io_context_invoke(ctx, append_letter, &text, NULL);
  g_assert_cmpstr(text->str, ==, "");
  vm_io_context_step(ctx, 0);
  g_assert_cmpstr(text->str, ==, "aa");
  vm_io_context_invoke(ctx, append_letter, NULL, NULL); /* freed with the context, never run */
  g_string_free(text, TRUE);
}

static void test_muldiv(void)
{
  g_assert_cmpuint(vm_muldiv64(UINT64_C(1) << 62, 1193182, 1000000000), ==,
                   (uint64_t)((unsigned __int128)(UINT64_C(1) << 62) * 1193182 / 1000000000));
}

/* ---- the real loop ----------------------------------------------------------------------------------------------------- */

typedef struct Real {
  GMutex mutex;
  GCond cond;
  VmIoContext *ctx;
  VmClock *clock;
  VmTimer timer;
  int fired;
  int64_t late_ns;
  bool locked;
} Real;

static void real_fired(void *opaque)
{
  Real *r = opaque;
  g_mutex_lock(&r->mutex);
  r->fired++;
  r->locked = vm_io_context_is_locked(r->ctx);
  g_cond_signal(&r->cond);
  g_mutex_unlock(&r->mutex);
}

static gboolean real_invoked(void *opaque)
{
  real_fired(opaque);
  return G_SOURCE_REMOVE;
}

static bool wait_fired(Real *r, int n, int ms)
{
  int64_t until = g_get_monotonic_time() + ms * 1000;
  g_mutex_lock(&r->mutex);
  while (r->fired < n && g_cond_wait_until(&r->cond, &r->mutex, until))
    ;
  bool good = r->fired >= n;
  g_mutex_unlock(&r->mutex);
  return good;
}

static void pipe_ready(int fd, GIOCondition condition, void *opaque)
{
  char byte;
  g_assert_cmpint(read(fd, &byte, 1), ==, 1);
  real_fired(opaque);
}

static void test_real_loop(void)
{
  Real r = { 0 };
  g_autoptr(VmClock) clock = vm_clock_new();
  r.clock = clock;
  r.ctx = vm_io_context_new("test", clock, NULL);
  g_assert_nonnull(r.ctx);
  vm_io_context_invoke(r.ctx, real_invoked, &r, NULL);
  g_assert_true(wait_fired(&r, 1, 2000));
  g_assert_true(r.locked);

  /* A timer waits for the clock to run, and stops with it. */
  vm_io_context_lock(r.ctx);
  vm_timer_init(&r.timer, r.ctx, real_fired, &r);
  vm_timer_set(&r.timer, 2 * VM_NS_PER_MS);
  vm_io_context_unlock(r.ctx);
  g_assert_false(wait_fired(&r, 2, 20));
  vm_clock_start(clock);
  g_assert_true(wait_fired(&r, 2, 2000));
  int64_t now = vm_clock_get_ns(clock);
  g_assert_cmpint(now, >=, 2 * VM_NS_PER_MS);
  vm_io_context_lock(r.ctx);
  vm_timer_set(&r.timer, now + 30 * VM_NS_PER_MS);
  vm_io_context_unlock(r.ctx);
  vm_clock_stop(clock);
  int64_t stopped = vm_clock_get_ns(clock);
  g_assert_false(wait_fired(&r, 3, 60));
  g_assert_cmpint(vm_clock_get_ns(clock), ==, stopped);
  vm_clock_start(clock);
  g_assert_true(wait_fired(&r, 3, 2000));
  /* Moved nearer, and to the past. */
  vm_io_context_lock(r.ctx);
  vm_timer_set(&r.timer, vm_clock_get_ns(clock) + 100 * VM_NS_PER_SEC);
  vm_timer_set(&r.timer, 1);
  vm_io_context_unlock(r.ctx);
  g_assert_true(wait_fired(&r, 4, 2000));

  int fds[2];
  g_assert_cmpint(pipe(fds), ==, 0);
  vm_io_context_lock(r.ctx);
  VmIoWatch *watch = vm_io_context_watch_fd(r.ctx, fds[0], G_IO_IN, pipe_ready, &r);
  vm_io_context_unlock(r.ctx);
  g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
  g_assert_true(wait_fired(&r, 5, 2000));
  vm_io_context_lock(r.ctx);
  vm_io_watch_remove(watch);
  vm_io_context_unlock(r.ctx);
  g_assert_cmpint(write(fds[1], "x", 1), ==, 1);
  g_assert_false(wait_fired(&r, 6, 20));
  vm_io_context_free(r.ctx);
  close(fds[0]);
  close(fds[1]);
}

/* Sub-millisecond timers: a chain of 100 timers 200 µs apart takes about 20 ms, not 100. */
static void chain(void *opaque)
{
  Real *r = opaque;
  if (r->fired < 99)
    vm_timer_set(&r->timer, vm_clock_get_ns(r->clock) + 200 * VM_NS_PER_US);
  real_fired(r);
}

static void test_accuracy(void)
{
  Real r = { 0 };
  g_autoptr(VmClock) clock = vm_clock_new();
  r.clock = clock;
  r.ctx = vm_io_context_new("test", clock, NULL);
  vm_clock_start(clock);
  vm_io_context_lock(r.ctx);
  vm_timer_init(&r.timer, r.ctx, chain, &r);
  vm_timer_set(&r.timer, 0);
  vm_io_context_unlock(r.ctx);
  g_assert_true(wait_fired(&r, 100, 5000));
  g_test_message("100 timers of 200 us took %" G_GINT64_FORMAT " us", vm_clock_get_ns(clock) / 1000);
  g_assert_cmpint(vm_clock_get_ns(clock), >=, 99 * 200 * VM_NS_PER_US);
  vm_io_context_free(r.ctx);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/iocontext/manual-order", test_manual_order);
  g_test_add_func("/iocontext/callbacks-change-timers", test_callbacks_change_timers);
  g_test_add_func("/iocontext/heap", test_heap);
  g_test_add_func("/iocontext/invoke-manual", test_invoke_manual);
  g_test_add_func("/iocontext/muldiv", test_muldiv);
  g_test_add_func("/iocontext/real-loop", test_real_loop);
  g_test_add_func("/iocontext/accuracy", test_accuracy);
  return g_test_run();
}
