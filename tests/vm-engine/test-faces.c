/* Display, input and character back ends: what stands between devices and the world. */
#include <fcntl.h>
#include <linux/input-event-codes.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "vm-engine/chardev.h"
#include "vm-engine/clock.h"
#include "vm-engine/display.h"
#include "vm-engine/input.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"

static void step(Vm *vm)
{
  vm_io_context_step(vm_get_io_context(vm), VM_NS_PER_MS);
}

/* ---- display ----------------------------------------------------------------------------------------------------------- */

/* A card of one colour a call, in a moving rectangle. */
typedef struct Card {
  VmDisplay *display;
  unsigned width, height, n;
} Card;

static void card_update(void *opaque, bool full)
{
  Card *card = opaque;
  unsigned stride;
  bool is_new;
  uint32_t *pixels = vm_display_begin(card->display, card->width, card->height, &stride, &is_new);
  card->n++;
  VmRect changed = { (int)(card->n % 5), 1, 2, 2 };
  for (int y = changed.y; y < changed.y + changed.height; y++)
    for (int x = changed.x; x < changed.x + changed.width; x++)
      pixels[(unsigned)y * stride + (unsigned)x] = card->n;
  vm_display_publish(card->display, &changed);
}

static char *card_text(void *opaque)
{
  return g_strdup("text");
}
static const VmDisplayCardOps card_ops = { card_update, card_text };

static void count(void *opaque)
{
  ++*(unsigned *)opaque;
}

static void test_display(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  VmDisplay *display = vm_get_display(vm);
  VmFrame frame;
  g_assert_false(vm_display_take(display, &frame));
  Card card = { display, 16, 8, 0 };
  vm_display_set_card(display, &card_ops, &card);
  unsigned notified = 0, id = vm_display_add_viewer(display, count, &notified);
  uint32_t model[16 * 8] = { 0 };
  for (unsigned round = 1; round < 30; round++) {
    vm_display_request_update(display, false);
    vm_display_request_update(display, false); /* one */
    step(vm);
    g_assert_cmpuint(card.n, ==, round);
    for (int y = 1; y < 3; y++)
      for (unsigned x = round % 5; x < round % 5 + 2; x++)
        model[(unsigned)y * 16 + x] = round;
    if (round % 3 == 0)
      continue; /* a viewer that skips frames sees the same in the end */
    g_assert_true(vm_display_take(display, &frame));
    g_assert_cmpmem(frame.pixels, sizeof(model), model, sizeof(model));
    g_assert_cmpint(frame.changed.width, >=, round == 1 ? 16 : 2);
    VmFrame again;
    g_assert_true(vm_display_take(display, &again));
    g_assert_cmpint(again.changed.width, ==, 0);
  }
  g_assert_cmpuint(notified, ==, 29);
  vm_display_remove_viewer(display, id);
  card.width = 20; /* another mode */
  unsigned width, height;
  g_autofree uint32_t *copy = vm_display_dup_pixels(display, &width, &height);
  g_assert_cmpuint(width, ==, 20);
  g_assert_cmphex(copy[0], ==, 0);
  g_assert_cmpuint(notified, ==, 29);
  g_autofree char *text = vm_display_dup_text(display);
  g_assert_cmpstr(text, ==, "text");
  /* Absurd sizes are cut. */
  unsigned stride;
  bool is_new;
  g_assert_nonnull(vm_display_begin(display, 0, 1000000, &stride, &is_new));
  g_assert_cmpuint(stride, ==, 1);
}

/* ---- input --------------------------------------------------------------------------------------------------------------- */

static void log_key(void *opaque, uint16_t code, bool down)
{
  g_string_append_printf(opaque, "k%u%c ", code, down ? '+' : '-');
}
static void log_button(void *opaque, unsigned button, bool down)
{
  g_string_append_printf(opaque, "b%u%c ", button, down ? '+' : '-');
}
static void log_relative(void *opaque, int dx, int dy)
{
  g_string_append_printf(opaque, "r%d,%d ", dx, dy);
}
static void log_absolute(void *opaque, int x, int y)
{
  g_string_append_printf(opaque, "a%d,%d ", x, y);
}
static void log_sync(void *opaque)
{
  g_string_append(opaque, "s ");
}

static void test_input(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  VmInput *input = vm_get_input(vm);
  g_autoptr(GString) ps2 = g_string_new(NULL);
  g_autoptr(GString) tablet = g_string_new(NULL);
  static const VmInputHandler ps2_ops = {
    .key = log_key, .button = log_button, .move_relative = log_relative, .sync = log_sync
  };
  static const VmInputHandler tablet_ops = { .button = log_button, .move_absolute = log_absolute };
  vm_input_add_handler(input, &ps2_ops, ps2);
  unsigned id = vm_input_add_handler(input, &tablet_ops, tablet);
  g_assert_true(vm_input_is_absolute(input));
  vm_input_set_active(input, id, false);
  g_assert_false(vm_input_is_absolute(input));
  vm_input_key(input, KEY_A, true);
  vm_input_move_relative(input, 1, 2);
  vm_input_move_relative(input, 3, -5);
  vm_input_button(input, VM_BUTTON_LEFT, true);
  vm_input_move_absolute(input, 5, 5); /* nobody takes it */
  vm_input_key(input, 60000, true);
  vm_input_button(input, 99, true);
  g_assert_cmpstr(ps2->str, ==, "");
  step(vm);
  g_assert_cmpstr(ps2->str, ==, "k30+ r4,-3 s b0+ s ");
  g_string_truncate(ps2, 0);
  vm_input_release_all(input);
  vm_input_release_all(input);
  step(vm);
  g_assert_cmpstr(ps2->str, ==, "k30- b0- s ");
  g_string_truncate(ps2, 0);
  vm_input_set_active(input, id, true);
  vm_input_move_absolute(input, 100000, -1);
  vm_input_button(input, VM_BUTTON_RIGHT, true);
  vm_input_move_relative(input, 1, 1);
  step(vm);
  g_assert_cmpstr(tablet->str, ==, "a32767,0 b1+ ");
  g_assert_cmpstr(ps2->str, ==, "r1,1 s ");
  vm_input_remove_handler(input, id);
  g_assert_false(vm_input_is_absolute(input));
  vm_input_set_leds(input, 0xff);
  g_assert_cmpuint(vm_input_get_leds(input), ==, 7);
}

/* ---- character back ends ---------------------------------------------------------------------------------------------------- */

typedef struct Line {
  GString *received;
  size_t room;
  unsigned writable;
} Line;

static size_t line_room(void *opaque)
{
  return ((Line *)opaque)->room;
}
static void line_receive(void *opaque, const uint8_t *bytes, size_t size)
{
  Line *line = opaque;
  g_assert_cmpuint(size, <=, line->room);
  line->room -= size;
  g_string_append_len(line->received, (const char *)bytes, (gssize)size);
}
static void line_writable(void *opaque)
{
  ((Line *)opaque)->writable++;
}
static const VmChardevHandler line_ops = { line_room, line_receive, line_writable };

static void take_output(const uint8_t *bytes, size_t size, void *opaque)
{
  g_string_append_len(opaque, (const char *)bytes, (gssize)size);
}

static void take_escape(char key, void *opaque)
{
  *(char *)opaque = key;
}

static void test_window(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  VmIoContext *ctx = vm_get_io_context(vm);
  Line line = { g_string_new(NULL), 3, 0 };
  VmChardev *chardev = vm_chardev_new(ctx, "window", NULL);
  vm_io_context_lock(ctx);
  vm_chardev_set_handler(chardev, &line_ops, &line);
  g_assert_cmpuint(vm_chardev_write(chardev, (const uint8_t *)"early ", 6), ==, 6);
  vm_io_context_unlock(ctx);
  vm_chardev_feed(chardev, (const uint8_t *)"hello", 5);
  step(vm);
  g_assert_cmpstr(line.received->str, ==, "hel");
  line.room = 10;
  vm_io_context_lock(ctx);
  vm_chardev_accept_input(chardev);
  vm_io_context_unlock(ctx);
  g_assert_cmpstr(line.received->str, ==, "hello");
  g_autoptr(GString) out = g_string_new(NULL);
  vm_chardev_set_output(chardev, take_output, out);
  vm_io_context_lock(ctx);
  vm_chardev_write(chardev, (const uint8_t *)"late", 4);
  vm_io_context_unlock(ctx);
  g_assert_cmpstr(out->str, ==, "early late");
  /* Ctrl-A. */
  char key = 0;
  vm_chardev_set_escape(chardev, take_escape, &key);
  vm_chardev_feed(chardev, (const uint8_t *)"a\001xb\001\001c", 7);
  step(vm);
  g_assert_cmpint(key, ==, 'x');
  g_assert_cmpstr(line.received->str, ==, "helloab\001c");
  vm_chardev_feed(chardev, (const uint8_t *)"lost", 4); /* still queued when it goes */
  vm_chardev_free(chardev);
  step(vm);
  g_string_free(line.received, TRUE);
}

static void test_file(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  g_autofree char *path = g_build_filename(g_get_tmp_dir(), "oriel-chardev-XXXXXX", NULL);
  close(g_mkstemp(path));
  g_autofree char *spec = g_strconcat("file:", path, NULL);
  VmChardev *chardev = vm_chardev_new(vm_get_io_context(vm), spec, NULL);
  vm_io_context_lock(vm_get_io_context(vm));
  vm_chardev_write(chardev, (const uint8_t *)"boot\n", 5);
  vm_io_context_unlock(vm_get_io_context(vm));
  vm_chardev_free(chardev);
  g_autofree char *text = NULL;
  g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
  g_assert_cmpstr(text, ==, "boot\n");
  unlink(path);
  static const char *const bad[] = {
    "file:/no/such/dir/x", "unix:/no/such/dir/x", "host:/dev/null", "host:/no/such", "what", "file:", "stdio:x", ""
  };
  for (unsigned i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(vm_chardev_new(vm_get_io_context(vm), bad[i], &error));
    g_test_message("%s", error->message);
  }
}

static void test_unix(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  VmIoContext *ctx = vm_get_io_context(vm);
  g_autofree char *dir = g_dir_make_tmp("oriel-XXXXXX", NULL);
  g_autofree char *path = g_build_filename(dir, "serial", NULL);
  g_autofree char *spec = g_strconcat("unix:", path, NULL);
  struct sockaddr_un address = { .sun_family = AF_UNIX };
  g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
  int stale = socket(AF_UNIX, SOCK_STREAM, 0); /* a killed process's socket is in the way */
  g_assert_cmpint(bind(stale, (struct sockaddr *)&address, sizeof(address)), ==, 0);
  close(stale);
  g_autoptr(GError) error = NULL;
  VmChardev *chardev = vm_chardev_new(ctx, spec, &error);
  g_assert_no_error(error);
  g_assert_cmpstr(vm_chardev_get_path(chardev), ==, path);
  Line line = { g_string_new(NULL), 1000, 0 };
  vm_io_context_lock(ctx);
  vm_chardev_set_handler(chardev, &line_ops, &line);
  g_assert_cmpuint(vm_chardev_write(chardev, (const uint8_t *)"nobody", 6), ==, 6);
  vm_io_context_unlock(ctx);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
  step(vm);
  g_assert_cmpint(write(fd, "typed", 5), ==, 5);
  step(vm);
  g_assert_cmpstr(line.received->str, ==, "typed");
  /* A reader that does not read: the guest is held back, then told. */
  static uint8_t block[1 << 16];
  vm_io_context_lock(ctx);
  size_t taken = 0, n;
  while ((n = vm_chardev_write(chardev, block, sizeof(block))) > 0)
    taken += n;
  vm_io_context_unlock(ctx);
  g_assert_cmpuint(taken, <, 16 << 20);
  g_assert_cmpuint(line.writable, ==, 0);
  fcntl(fd, F_SETFL, O_NONBLOCK);
  size_t got = 0;
  for (unsigned i = 0; i < 100000 && got < taken; i++) {
    ssize_t m = read(fd, block, sizeof(block));
    got += m > 0 ? (size_t)m : 0;
    step(vm);
  }
  g_assert_cmpuint(got, ==, taken);
  g_assert_cmpuint(line.writable, >=, 1);
  close(fd); /* hangs up; another may come */
  step(vm);
  fd = socket(AF_UNIX, SOCK_STREAM, 0);
  g_assert_cmpint(connect(fd, (struct sockaddr *)&address, sizeof(address)), ==, 0);
  step(vm);
  g_assert_cmpint(write(fd, "!", 1), ==, 1);
  step(vm);
  g_assert_cmpstr(line.received->str, ==, "typed!");
  vm_chardev_free(chardev);
  close(fd);
  g_assert_cmpint(access(path, F_OK), !=, 0);
  rmdir(dir);
  g_string_free(line.received, TRUE);
}

static void test_pty(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  VmIoContext *ctx = vm_get_io_context(vm);
  g_autoptr(GError) error = NULL;
  VmChardev *chardev = vm_chardev_new(ctx, "pty", &error);
  g_assert_no_error(error);
  Line line = { g_string_new(NULL), 1000, 0 };
  vm_io_context_lock(ctx);
  vm_chardev_set_handler(chardev, &line_ops, &line);
  for (unsigned i = 0; i < 10000; i++) /* nobody is there: never held back */
    g_assert_cmpuint(vm_chardev_write(chardev, (const uint8_t *)"0123456789", 10), ==, 10);
  vm_io_context_unlock(ctx);
  int fd = open(vm_chardev_get_path(chardev), O_RDWR | O_NOCTTY | O_NONBLOCK);
  g_assert_cmpint(fd, >=, 0);
  g_assert_cmpint(write(fd, "hi", 2), ==, 2);
  for (unsigned i = 0; i < 200 && line.received->len < 2; i++) {
    g_usleep(10000);
    step(vm);
  }
  g_assert_cmpstr(line.received->str, ==, "hi");
  vm_chardev_free(chardev);
  close(fd);
  g_string_free(line.received, TRUE);
}

/* Pictures of ever other sizes, taken or not: each buffer is caught up within its own bounds, and shows what was drawn. */
static void test_display_sizes(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  VmDisplay *display = vm_get_display(vm);
  g_autoptr(GRand) rand = g_rand_new_with_seed(11);
  static const unsigned sizes[][2] = { { 64, 64 }, { 1023, 3 }, { 8, 700 }, { 640, 480 }, { 64, 64 } };
  for (uint32_t i = 0; i < 3000; i++) {
    const unsigned *size = sizes[g_rand_int_range(rand, 0, G_N_ELEMENTS(sizes))];
    unsigned stride;
    bool is_new;
    uint32_t *pixels = vm_display_begin(display, size[0], size[1], &stride, &is_new);
    pixels[0] = i;
    pixels[(size_t)(size[1] - 1) * stride + size[0] - 1] = i;
    VmRect all = { 0, 0, (int)size[0], (int)size[1] }, none = { 0 };
    vm_display_publish(display, g_rand_int_range(rand, 0, 4) ? &all : &none);
    VmFrame frame;
    if (g_rand_boolean(rand) && vm_display_take(display, &frame)) {
      g_assert_cmpuint(frame.pixels[0], ==, frame.pixels[(size_t)(frame.height - 1) * frame.stride + frame.width - 1]);
    }
  }
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/faces/display", test_display);
  g_test_add_func("/faces/display-sizes", test_display_sizes);
  g_test_add_func("/faces/input", test_input);
  g_test_add_func("/faces/chardev-window", test_window);
  g_test_add_func("/faces/chardev-file", test_file);
  g_test_add_func("/faces/chardev-unix", test_unix);
  g_test_add_func("/faces/chardev-pty", test_pty);
  return g_test_run();
}
