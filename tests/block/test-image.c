/* The choke point: what it refuses, how completions come, what it counts. */
#include <errno.h>
#include <string.h>

#include "tests/block/memory-image.h"

typedef struct Fixture {
  GMainContext *context;
  MemoryImage memory;
  BlkImage *image;
} Fixture;

typedef struct Answer {
  unsigned calls;
  int error;
  BlkImage *close; /* from within the completion */
} Answer;

static void on_done(void *opaque, int error)
{
  Answer *answer = opaque;
  answer->calls++;
  answer->error = error;
  g_clear_pointer(&answer->close, blk_close);
}

static void set_up(Fixture *f, gconstpointer data)
{
  f->context = g_main_context_new();
  memory_image_init(&f->memory, 65536);
  f->image = memory_image_open(&f->memory, "memory", GPOINTER_TO_INT(data), f->context);
}

static void tear_down(Fixture *f, gconstpointer data)
{
  blk_close(f->image); /* NULL where the test has closed it */
  g_assert_cmpuint(f->memory.n_closed, ==, 1);
  memory_image_clear(&f->memory);
  g_main_context_unref(f->context);
}

static void turn(Fixture *f)
{
  while (g_main_context_iteration(f->context, FALSE))
    ;
}

static void test_moves_and_completes_later(Fixture *f, gconstpointer data)
{
  uint8_t a[700], b[300], back[1000];
  memset(a, 0xA1, sizeof(a));
  memset(b, 0xB2, sizeof(b));
  struct iovec iov[] = { { a, sizeof(a) }, { b, sizeof(b) } };
  struct iovec whole = { back, sizeof(back) };
  Answer answer = { 0 };
  blk_write(f->image, 12345, iov, 2, on_done, &answer);
  g_assert_cmpuint(answer.calls, ==, 0); /* never from within the submitting call */
  turn(f);
  g_assert_cmpuint(answer.calls, ==, 1);
  g_assert_cmpint(answer.error, ==, 0);
  blk_read(f->image, 12345, &whole, 1, on_done, &answer);
  turn(f);
  g_assert_cmpuint(answer.calls, ==, 2);
  g_assert_cmpmem(back, 700, a, 700);
  g_assert_cmpmem(back + 700, 300, b, 300);
  BlkStatistics s;
  blk_get_statistics(f->image, &s);
  g_assert_cmpuint(s.reads, ==, 1);
  g_assert_cmpuint(s.read_bytes, ==, 1000);
  g_assert_cmpuint(s.written_bytes, ==, 1000);
  g_assert_cmpuint(s.in_flight, ==, 0);
}

static void test_refuses_outside(Fixture *f, gconstpointer data)
{
  static const struct {
    uint64_t offset, length;
    int error;
  } rows[] = {
    { 65536, 1, EINVAL }, { 65535, 2, EINVAL }, { UINT64_MAX, 1, EINVAL }, { UINT64_MAX - 511, 512, EINVAL },
    { 65536, 0, 0 },      { 0, 65536, 0 },      { 65537, 0, EINVAL },
  };
  g_autofree uint8_t *buffer = g_malloc0(65536);
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    Answer answer = { 0 };
    struct iovec iov = { buffer, MIN(rows[i].length, 65536) };
    blk_read(f->image, rows[i].offset, &iov, 1, on_done, &answer);
    turn(f);
    g_assert_cmpuint(answer.calls, ==, 1);
    g_assert_cmpint(answer.error, ==, rows[i].error);
  }
  /* A vector whose sum wraps, a length that does. */
  struct iovec wrap[] = { { buffer, SIZE_MAX }, { buffer, 2 } };
  Answer answer = { 0 };
  blk_write(f->image, 0, wrap, 2, on_done, &answer);
  blk_discard(f->image, 512, UINT64_MAX, on_done, &answer);
  turn(f);
  g_assert_cmpuint(answer.calls, ==, 2);
  g_assert_cmpint(answer.error, ==, EINVAL);
  g_assert_cmpuint(f->memory.n_writes, ==, 0);
}

static void test_read_only(Fixture *f, gconstpointer data)
{
  uint8_t byte = 1;
  struct iovec iov = { &byte, 1 };
  Answer answer = { 0 };
  blk_write(f->image, 0, &iov, 1, on_done, &answer);
  turn(f);
  g_assert_cmpint(answer.error, ==, EROFS);
  blk_write_zeroes(f->image, 0, 512, on_done, &answer);
  turn(f);
  g_assert_cmpint(answer.error, ==, EROFS);
  g_autoptr(GError) error = NULL;
  g_assert_false(blk_write_sync(f->image, 0, &byte, 1, &error));
  g_assert_nonnull(strstr(error->message, "memory"));
  g_assert_cmpuint(f->memory.n_writes, ==, 0);
}

static GLogWriterOutput count_warnings(GLogLevelFlags level, const GLogField *fields, gsize n_fields, gpointer data)
{
  unsigned *warnings = data;
  if (level & G_LOG_LEVEL_WARNING)
    ++*warnings;
  return G_LOG_WRITER_HANDLED;
}

/* Last of all tests: the log's writer can be set once. */
static void test_failed_flush_stays_failed(Fixture *f, gconstpointer data)
{
  Answer answer = { 0 };
  blk_flush(f->image, on_done, &answer);
  turn(f);
  g_assert_cmpint(answer.error, ==, 0);
  f->memory.flush_error = EIO;
  blk_flush(f->image, on_done, &answer);
  turn(f);
  g_assert_cmpint(answer.error, ==, EIO);
  f->memory.flush_error = 0;
  blk_flush(f->image, on_done, &answer);
  turn(f);
  g_assert_cmpint(answer.error, ==, EIO);
  static unsigned warnings;
  g_log_set_writer_func(count_warnings, &warnings, NULL);
  g_clear_pointer(&f->image, blk_close); /* says that something may be lost */
  g_assert_cmpuint(warnings, ==, 1);
  g_assert_cmpuint(f->memory.n_closed, ==, 1);
}

static void test_drain_delivers(Fixture *f, gconstpointer data)
{
  uint8_t byte = 7;
  struct iovec iov = { &byte, 1 };
  Answer answer = { 0 };
  blk_write(f->image, 99, &iov, 1, on_done, &answer);
  blk_drain(f->image);
  g_assert_cmpuint(answer.calls, ==, 1);
  g_assert_cmpuint(f->memory.bytes[99], ==, 7);
}

static void test_close_from_completion(Fixture *f, gconstpointer data)
{
  uint8_t byte = 7;
  struct iovec iov = { &byte, 1 };
  Answer first = { .close = f->image }, second = { 0 };
  blk_write(f->image, 0, &iov, 1, on_done, &first);
  blk_write(f->image, 1, &iov, 1, on_done, &second);
  f->image = NULL;
  turn(f);
  g_assert_cmpuint(first.calls, ==, 1);
  g_assert_cmpuint(second.calls, ==, 1);
}

/* A completion that submits again and again does not keep the loop for itself. */
typedef struct Chain {
  BlkImage *image;
  unsigned calls;
  uint8_t byte;
} Chain;

static void on_chain(void *opaque, int error)
{
  Chain *chain = opaque;
  struct iovec iov = { &chain->byte, 1 };
  if (++chain->calls < 100)
    blk_read(chain->image, 0, &iov, 1, on_chain, chain);
}

static void test_loop_breathes(Fixture *f, gconstpointer data)
{
  Chain chain = { .image = f->image };
  struct iovec iov = { &chain.byte, 1 };
  blk_read(f->image, 0, &iov, 1, on_chain, &chain);
  g_main_context_iteration(f->context, FALSE);
  g_assert_cmpuint(chain.calls, ==, 1);
  turn(f);
  g_assert_cmpuint(chain.calls, ==, 100);
}

static void test_iov_slice(void)
{
  uint8_t a[10], b[10], c[10];
  struct iovec iov[] = { { a, 10 }, { b, 0 }, { b, 10 }, { c, 10 } }, out[4];
  g_assert_cmpuint(blk_iov_slice(iov, 4, 5, 20, out), ==, 3);
  g_assert_true(out[0].iov_base == a + 5 && out[0].iov_len == 5);
  g_assert_true(out[1].iov_base == b && out[1].iov_len == 10);
  g_assert_true(out[2].iov_base == c && out[2].iov_len == 5);
  g_assert_cmpuint(blk_iov_slice(iov, 4, 30, 1, out), ==, 0);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name, ro, func) g_test_add("/block/image/" name, Fixture, GINT_TO_POINTER(ro), set_up, func, tear_down)
  ADD("moves-and-completes-later", 0, test_moves_and_completes_later);
  ADD("refuses-outside", 0, test_refuses_outside);
  ADD("read-only", 1, test_read_only);
  ADD("drain-delivers", 0, test_drain_delivers);
  ADD("close-from-completion", 0, test_close_from_completion);
  ADD("loop-breathes", 0, test_loop_breathes);
  g_test_add_func("/block/iov/slice", test_iov_slice);
  ADD("failed-flush-stays-failed", 0, test_failed_flush_stays_failed);
  return g_test_run();
}
