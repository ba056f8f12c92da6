/* Raw files: contents, errors in words, locks against other programs, the overlay that discards changes, creation. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <glib/gstdio.h>

#include "block/block-impl.h"

typedef struct Fixture {
  char *dir;
  char *path;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
  f->dir = g_dir_make_tmp("oriel-block-XXXXXX", NULL);
  g_assert_nonnull(f->dir);
  f->path = g_build_filename(f->dir, "disk.img", NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
  g_unlink(f->path);
  g_assert_cmpint(g_rmdir(f->dir), ==, 0); /* nothing else was left behind */
  g_free(f->path);
  g_free(f->dir);
}

static void make(Fixture *f, uint64_t size)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(blk_create(f->path, "raw", size, &error));
  g_assert_no_error(error);
}

static BlkImage *open_image(Fixture *f, BlkOpenOptions options)
{
  g_autoptr(GError) error = NULL;
  BlkImage *image = blk_open(f->path, &options, &error);
  g_assert_no_error(error);
  g_assert_nonnull(image);
  return image;
}

static void assert_refused(const char *path, BlkOpenOptions options, int code, const char *words)
{
  g_autoptr(GError) error = NULL;
  g_assert_null(blk_open(path, &options, &error));
  g_assert_error(error, BLK_ERROR, code);
  g_assert_true(g_str_has_prefix(error->message, path));
  if (strstr(error->message, words) == NULL)
    g_error("\"%s\" lacks \"%s\"", error->message, words);
  g_assert_null(strchr(error->message, '\n'));
}

static uint8_t pattern(uint64_t at)
{
  return (uint8_t)(at * 31 + (at >> 9) * 7 + 1);
}

static void write_pattern(BlkImage *image, uint64_t offset, uint64_t length)
{
  g_autofree uint8_t *buffer = g_malloc(length);
  g_autoptr(GError) error = NULL;
  for (uint64_t i = 0; i < length; i++)
    buffer[i] = pattern(offset + i);
  g_assert_true(blk_write_sync(image, offset, buffer, length, &error));
}

static void test_round_trip(Fixture *f, gconstpointer data)
{
  uint8_t back[3000];
  make(f, 100000); /* rounded up to sectors */
  {
    g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ 0 });
    g_assert_cmpuint(blk_get_size(image), ==, 100352);
    g_assert_cmpstr(blk_get_format(image), ==, "raw");
    write_pattern(image, 777, 3000);
    g_assert_true(blk_flush_sync(image, NULL));
  }
  g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ .read_only = true });
  g_assert_true(blk_read_sync(image, 777, back, sizeof(back), NULL));
  for (unsigned i = 0; i < sizeof(back); i++)
    g_assert_cmpuint(back[i], ==, pattern(777 + i));
  g_assert_true(blk_read_sync(image, 0, back, 777, NULL));
  for (unsigned i = 0; i < 777; i++)
    g_assert_cmpuint(back[i], ==, 0);
}

typedef struct Batch {
  unsigned left;
  unsigned failed;
} Batch;

static void on_batch(void *opaque, int error)
{
  Batch *batch = opaque;
  batch->left--;
  batch->failed += error != 0;
}

/* Many requests at once through the pool, completed in the image's own context. */
static void test_pool(Fixture *f, gconstpointer data)
{
  enum { N = 200, BYTES = 4096 };
  g_autoptr(GMainContext) context = g_main_context_new();
  g_autofree uint8_t *buffer = g_malloc(N * BYTES);
  Batch batch = { .left = N };
  make(f, N * BYTES);
  g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ .context = context });
  for (unsigned i = 0; i < N * BYTES; i++)
    buffer[i] = pattern(i);
  for (unsigned i = 0; i < N; i++)
    blk_write(image, i * BYTES, &(struct iovec){ buffer + i * BYTES, BYTES }, 1, on_batch, &batch);
  while (batch.left > 0)
    g_main_context_iteration(context, TRUE);
  memset(buffer, 0, N * BYTES);
  batch.left = N;
  for (unsigned i = 0; i < N; i++)
    blk_read(image, i * BYTES, &(struct iovec){ buffer + i * BYTES, BYTES }, 1, on_batch, &batch);
  blk_drain(image);
  g_assert_cmpuint(batch.left, ==, 0);
  g_assert_cmpuint(batch.failed, ==, 0);
  for (unsigned i = 0; i < N * BYTES; i++)
    g_assert_cmpuint(buffer[i], ==, pattern(i));
}

static void test_zeroes_are_sparse(Fixture *f, gconstpointer data)
{
  enum { BYTES = 1 << 20 };
  struct stat before, after;
  g_autofree uint8_t *back = g_malloc(BYTES);
  make(f, BYTES);
  g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ 0 });
  write_pattern(image, 0, BYTES);
  g_assert_true(blk_flush_sync(image, NULL));
  g_assert_cmpint(stat(f->path, &before), ==, 0);
  Batch batch = { .left = 1 };
  blk_write_zeroes(image, 1000, BYTES - 2000, on_batch, &batch);
  blk_drain(image);
  g_assert_cmpuint(batch.failed, ==, 0);
  g_assert_true(blk_read_sync(image, 0, back, BYTES, NULL));
  for (unsigned i = 0; i < BYTES; i++)
    g_assert_cmpuint(back[i], ==, i >= 1000 && i < BYTES - 1000 ? 0 : pattern(i));
  g_assert_cmpint(stat(f->path, &after), ==, 0);
  g_assert_cmpint(after.st_size, ==, BYTES);
  if (after.st_blocks >= before.st_blocks)
    g_test_message("this file system has no holes");
  else
    g_assert_cmpint(after.st_blocks, <, before.st_blocks / 4);
}

static void test_refusals(Fixture *f, gconstpointer data)
{
  assert_refused(f->path, (BlkOpenOptions){ 0 }, BLK_ERROR_NOT_FOUND, "check the path");
  assert_refused(f->dir, (BlkOpenOptions){ 0 }, BLK_ERROR_INVALID, "directory");
  assert_refused(f->dir, (BlkOpenOptions){ .read_only = true }, BLK_ERROR_INVALID, "directory");
  assert_refused("/dev/null", (BlkOpenOptions){ 0 }, BLK_ERROR_INVALID, "neither a file nor a block device");
  g_assert_true(g_file_set_contents(f->path, "", 0, NULL));
  assert_refused(f->path, (BlkOpenOptions){ 0 }, BLK_ERROR_FORMAT, "empty");
  assert_refused(f->path, (BlkOpenOptions){ .format = "nonsense" }, BLK_ERROR_FORMAT, "\"nonsense\"");
  g_unlink(f->path);
  g_assert_cmpint(mkfifo(f->path, 0600), ==, 0); /* does not wait for a writer */
  assert_refused(f->path, (BlkOpenOptions){ .read_only = true }, BLK_ERROR_INVALID, "neither");
}

/* Root may do anything, so the child becomes somebody else. */
static void test_no_permission(Fixture *f, gconstpointer data)
{
  make(f, 4096);
  g_assert_cmpint(g_chmod(f->dir, 0755), ==, 0);
  g_assert_cmpint(g_chmod(f->path, 0444), ==, 0);
  pid_t pid = fork();
  if (pid == 0) {
    g_autoptr(GError) error = NULL;
    if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
      _exit(77);
    BlkImage *image = blk_open(f->path, &(BlkOpenOptions){ 0 }, &error);
    bool right = image == NULL && error->code == BLK_ERROR_DENIED && strstr(error->message, "read-only") != NULL;
    image = blk_open(f->path, &(BlkOpenOptions){ .read_only = true }, NULL);
    _exit(right && image != NULL ? 0 : 1);
  }
  int status = -1;
  g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
    g_test_skip("cannot become another user here");
  else
    g_assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_odd_size(Fixture *f, gconstpointer data)
{
  uint8_t sector[512];
  g_assert_true(g_file_set_contents(f->path, "abc", 3, NULL));
  g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ 0 });
  g_assert_cmpuint(blk_get_size(image), ==, 512);
  memset(sector, 0xFF, sizeof(sector));
  g_assert_true(blk_read_sync(image, 0, sector, 512, NULL));
  g_assert_cmpmem(sector, 4, "abc\0", 4);
  g_assert_cmpuint(sector[511], ==, 0);
}

static void test_own_locks(Fixture *f, gconstpointer data)
{
  make(f, 4096);
  {
    g_autoptr(BlkImage) writer = open_image(f, (BlkOpenOptions){ 0 });
    assert_refused(f->path, (BlkOpenOptions){ 0 }, BLK_ERROR_LOCKED, "another program uses this image");
    assert_refused(f->path, (BlkOpenOptions){ .read_only = true }, BLK_ERROR_LOCKED, "another program writes");
  }
  {
    g_autoptr(BlkImage) reader = open_image(f, (BlkOpenOptions){ .read_only = true });
    g_autoptr(BlkImage) second = open_image(f, (BlkOpenOptions){ .read_only = true });
    g_autoptr(BlkImage) third = open_image(f, (BlkOpenOptions){ .discard_changes = true });
    assert_refused(f->path, (BlkOpenOptions){ 0 }, BLK_ERROR_LOCKED, "another program uses this image");
  }
  g_autoptr(BlkImage) writer = open_image(f, (BlkOpenOptions){ 0 }); /* closing let go */
}

static int qemu_io(const char *path, const char *mode, const char *command)
{
  const char *argv[] = { "qemu-io", "-f", "raw", mode, "-c", command, path, NULL };
  int status = -1;
  if (!g_spawn_sync(NULL, (char **)argv, NULL,
                    G_SPAWN_SEARCH_PATH | G_SPAWN_STDOUT_TO_DEV_NULL | G_SPAWN_STDERR_TO_DEV_NULL, NULL, NULL, NULL,
                    NULL, &status, NULL))
    return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* QEMU refuses what we hold. */
static void test_qemu_refused(Fixture *f, gconstpointer data)
{
  g_autofree char *tool = g_find_program_in_path("qemu-io");
  if (tool == NULL) {
    g_test_skip("qemu-io is not installed");
    return;
  }
  make(f, 4096);
  g_assert_cmpint(qemu_io(f->path, "-n", "write 0 512"), ==, 0);
  {
    g_autoptr(BlkImage) writer = open_image(f, (BlkOpenOptions){ 0 });
    g_assert_cmpint(qemu_io(f->path, "-n", "write 0 512"), ==, 1);
    g_assert_cmpint(qemu_io(f->path, "-r", "read 0 512"), ==, 1);
  }
  g_autoptr(BlkImage) reader = open_image(f, (BlkOpenOptions){ .read_only = true });
  g_assert_cmpint(qemu_io(f->path, "-n", "write 0 512"), ==, 1);
  g_assert_cmpint(qemu_io(f->path, "-r", "read 0 512"), ==, 0);
}

/* We refuse what QEMU holds. */
static void test_refused_by_qemu(Fixture *f, gconstpointer data)
{
  g_autofree char *tool = g_find_program_in_path("qemu-io");
  if (tool == NULL) {
    g_test_skip("qemu-io is not installed");
    return;
  }
  make(f, 4096);
  const char *argv[] = { "qemu-io", "-f", "raw", f->path, NULL };
  GPid pid;
  int in, out;
  char greeting[64];
  g_assert_true(g_spawn_async_with_pipes(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD,
                                         NULL, NULL, &pid, &in, &out, NULL, NULL));
  g_assert_cmpint(write(in, "length\n", 7), ==, 7);
  g_assert_cmpint(read(out, greeting, sizeof(greeting)), >, 0); /* it has answered, so the file is open */
  assert_refused(f->path, (BlkOpenOptions){ 0 }, BLK_ERROR_LOCKED, "another program uses this image");
  assert_refused(f->path, (BlkOpenOptions){ .read_only = true }, BLK_ERROR_LOCKED, "another program writes");
  close(in);
  close(out);
  int status;
  g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
  g_spawn_close_pid(pid);
  g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ 0 });
}

static void test_overlay(Fixture *f, gconstpointer data)
{
  enum { BYTES = 300 * 512 }; /* its last cluster is cut off */
  g_autofree uint8_t *model = g_malloc(BYTES), *back = g_malloc(BYTES), *chunk = g_malloc(BYTES);
  g_autofree char *now = NULL;
  g_autoptr(GRand) rand = g_rand_new_with_seed(42);
  gsize size;
  make(f, BYTES);
  {
    g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ 0 });
    write_pattern(image, 0, BYTES);
  }
  for (unsigned i = 0; i < BYTES; i++)
    model[i] = pattern(i);
  {
    g_autoptr(BlkImage) image = open_image(f, (BlkOpenOptions){ .discard_changes = true });
    g_assert_false(blk_is_read_only(image));
    g_assert_cmpstr(blk_get_format(image), ==, "raw");
    for (unsigned round = 0; round < 300; round++) {
      uint32_t offset = (uint32_t)g_rand_int_range(rand, 0, BYTES), length = (uint32_t)g_rand_int_range(rand, 1, 12000);
      length = MIN(length, BYTES - offset);
      if (round % 5 == 4) {
        Batch batch = { .left = 1 };
        blk_discard(image, offset, length, on_batch, &batch);
        blk_drain(image);
        g_assert_cmpuint(batch.failed, ==, 0);
        memset(model + offset, 0, length);
      } else {
        memset(chunk, (int)round, length);
        memcpy(model + offset, chunk, length);
        g_assert_true(blk_write_sync(image, offset, chunk, length, NULL));
      }
      g_assert_true(blk_read_sync(image, 0, back, BYTES, NULL));
      g_assert_cmpmem(back, BYTES, model, BYTES);
    }
    g_assert_true(blk_flush_sync(image, NULL));
  }
  g_assert_true(g_file_get_contents(f->path, &now, &size, NULL));
  g_assert_cmpuint(size, ==, BYTES);
  for (unsigned i = 0; i < BYTES; i++)
    g_assert_cmpuint((uint8_t)now[i], ==, pattern(i));
}

static void test_create(Fixture *f, gconstpointer data)
{
  g_autoptr(GError) error = NULL;
  make(f, 1000);
  struct stat st;
  g_assert_cmpint(stat(f->path, &st), ==, 0);
  g_assert_cmpint(st.st_size, ==, 1024);
  g_assert_cmpint(st.st_blocks, ==, 0);
  g_assert_false(blk_create(f->path, "raw", 4096, &error));
  g_assert_nonnull(strstr(error->message, "exists"));
  g_assert_cmpint(stat(f->path, &st), ==, 0);
  g_assert_cmpint(st.st_size, ==, 1024);
  g_clear_error(&error);
  g_unlink(f->path);
  g_assert_false(blk_create(f->path, "raw", 0, &error));
  g_clear_error(&error);
  g_assert_false(blk_create(f->path, "vdx", 4096, &error));
  g_assert_error(error, BLK_ERROR, BLK_ERROR_FORMAT);
  g_clear_error(&error);
  g_assert_false(blk_create(f->path, "raw", INT64_MAX - 1024, &error));
  g_assert_false(g_file_test(f->path, G_FILE_TEST_EXISTS)); /* a failure leaves no file */
  g_clear_error(&error);
  g_assert_false(blk_create("/nonexistent-folder/x.img", "raw", 4096, &error));
  g_assert_nonnull(strstr(error->message, "folder"));
}

/* A full disk is an answer, not a crash: /dev/full stands for one. */
static void test_no_room(Fixture *f, gconstpointer data)
{
  uint8_t byte = 0;
  struct iovec iov = { &byte, 1 };
  int fd = g_open("/dev/full", O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) {
    g_test_skip("no /dev/full here");
    return;
  }
  g_assert_cmpint(blk_file_write(fd, 0, &iov, 1), ==, ENOSPC);
  close(fd);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/block/raw/" name, Fixture, NULL, set_up, func, tear_down)
  ADD("round-trip", test_round_trip);
  ADD("pool", test_pool);
  ADD("zeroes-are-sparse", test_zeroes_are_sparse);
  ADD("refusals", test_refusals);
  ADD("no-permission", test_no_permission);
  ADD("odd-size", test_odd_size);
  ADD("own-locks", test_own_locks);
  ADD("qemu-refused", test_qemu_refused);
  ADD("refused-by-qemu", test_refused_by_qemu);
  ADD("overlay", test_overlay);
  ADD("create", test_create);
  ADD("no-room", test_no_room);
  return g_test_run();
}
