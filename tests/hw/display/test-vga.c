/*
 * The card as a device: its table, registers, retrace, saved states, and a guest that writes anything anywhere.
 */
#include "tests/hw/display/vga-test.h"

static void test_type(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_device_type_check(&vga_type, &error));
  g_assert_no_error(error);
}

static void test_registers(void)
{
  Rig *rig = rig_new(0);
  /* Monochrome at reset: the colour CRTC does not answer. */
  g_assert_cmphex(rig_in(rig, 0x3D5), ==, 0xFF);
  rig_set(rig, 0x3B4, VGA_CR_CURSOR_LOW, 0x5A);
  g_assert_cmphex(rig_get(rig, 0x3B4, VGA_CR_CURSOR_LOW), ==, 0x5A);
  rig_out(rig, 0x3C2, 0x67);
  g_assert_cmphex(rig_in(rig, 0x3CC), ==, 0x67);
  g_assert_cmphex(rig_in(rig, 0x3B5), ==, 0xFF);
  g_assert_cmphex(rig_get(rig, 0x3D4, VGA_CR_CURSOR_LOW), ==, 0x5A);
  /* The lock. */
  rig_set(rig, 0x3D4, VGA_CR_H_TOTAL, 0x5F);
  rig_set(rig, 0x3D4, VGA_CR_V_RETRACE_END, 0x80);
  rig_set(rig, 0x3D4, VGA_CR_H_TOTAL, 0x11);
  rig_set(rig, 0x3D4, VGA_CR_OVERFLOW, 0xFF);
  g_assert_cmphex(rig_get(rig, 0x3D4, VGA_CR_H_TOTAL), ==, 0x5F);
  g_assert_cmphex(rig_get(rig, 0x3D4, VGA_CR_OVERFLOW), ==, 0x10);
  /* The attribute controller's turns. */
  rig_in(rig, 0x3DA);
  rig_out(rig, 0x3C0, 0x10);
  rig_out(rig, 0x3C0, 0xFF);
  rig_out(rig, 0x3C0, 0x30);
  g_assert_cmphex(rig_in(rig, 0x3C1), ==, 0xEF);
  g_assert_cmphex(rig_get(rig, 0x3D4, 0x24), ==, 0x80);
  rig_in(rig, 0x3DA);
  g_assert_cmphex(rig_get(rig, 0x3D4, 0x24), ==, 0x00);
  /* Bits that do not exist, registers that do not. */
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 0xFF);
  g_assert_cmphex(rig_get(rig, 0x3C4, VGA_SEQ_MAP_MASK), ==, 0x0F);
  rig_set(rig, 0x3CE, 0x1F, 0xFF);
  g_assert_cmphex(rig_get(rig, 0x3CE, 0x1F), ==, 0);
  /* The DAC: a colour is three writes; 6 bits. */
  rig_out(rig, 0x3C8, 255);
  for (unsigned i = 0; i < 6; i++)
    rig_out(rig, 0x3C9, (uint8_t)(0xC1 + i));
  g_assert_cmphex(rig_in(rig, 0x3C7), ==, 0);
  rig_out(rig, 0x3C7, 255);
  g_assert_cmphex(rig_in(rig, 0x3C7), ==, 3);
  for (unsigned i = 0; i < 6; i++)
    g_assert_cmphex(rig_in(rig, 0x3C9), ==, 1 + i);
  rig_free(rig);
}

/* Steps to the next change of `bits` in input status 1, in steps of 1 µs; returns the time it took. */
static int64_t step_to(Rig *rig, uint8_t bits, bool set)
{
  for (int64_t us = 0; us < 40000; us++) {
    if (((rig_in(rig, 0x3DA) & bits) != 0) == set)
      return us;
    rig_step_ns(rig, VM_NS_PER_US);
  }
  g_error("input status 1 never changes");
}

static void test_retrace(void)
{
  Rig *rig = rig_new(0);
  rig_mode(rig, &mode_text);
  step_to(rig, 8, true);
  int64_t retrace_us = step_to(rig, 8, false);
  int64_t rest_us = step_to(rig, 8, true);
  /* 70 Hz: 449 lines of 31.8 µs, two of them retrace. */
  g_assert_cmpint(ABS(retrace_us - 64), <=, 2);
  g_assert_cmpint(ABS(retrace_us + rest_us - 14268), <=, 3);
  /* While it lasts, the display is off; afterwards come dark lines, then the picture. */
  g_assert_cmphex(rig_in(rig, 0x3DA) & 9, ==, 9);
  step_to(rig, 1, false);
  int64_t shown_us = step_to(rig, 1, true), hidden_us = step_to(rig, 1, false);
  g_assert_cmpint(ABS(shown_us - 25), <=, 2);
  g_assert_cmpint(ABS(hidden_us - 6), <=, 2);
  /* A guest that polls too slowly to meet it still sees each retrace. */
  unsigned seen = 0;
  bool before = false;
  for (unsigned i = 0; i < 1000; i++) {
    rig_step_ns(rig, 1100 * VM_NS_PER_US);
    bool now = rig_in(rig, 0x3DA) & 8;
    seen += now && !before;
    before = now;
  }
  g_assert_cmpint(ABS((int)seen - 1100000 / 14268), <=, 2);
  /* In a VBE mode there are 60 in a second. */
  rig_vbe_mode(rig, 1280, 800, 32);
  step_to(rig, 8, true);
  int64_t frame_us = step_to(rig, 8, false);
  frame_us += step_to(rig, 8, true);
  g_assert_cmpint(ABS(frame_us - 16667), <=, 3);
  rig_free(rig);
}

static void test_dirty_rectangles(void)
{
  Rig *rig = rig_new(0);
  VmDisplay *display = vm_get_display(rig->vm);
  VmFrame frame;
  rig_vbe_mode(rig, 1024, 768, 32);
  rig_draw(rig);
  g_assert_true(vm_display_take(display, &frame));
  uint64_t serial = frame.serial;
  rig_draw(rig);
  g_assert_true(vm_display_take(display, &frame));
  g_assert_cmpuint(frame.serial, ==, serial);
  rig_poke(rig, BAR0 + 300 * 4096 + 8, 0xFF);
  rig_draw(rig);
  g_assert_true(vm_display_take(display, &frame));
  g_assert_cmpuint(frame.serial, ==, serial + 1);
  g_assert_cmpint(frame.changed.y, ==, 300);
  g_assert_cmpint(frame.changed.height, ==, 1);
  rig_free(rig);
}

static void check_frame(Rig *rig)
{
  VmFrame frame;
  g_assert_true(vm_display_take(vm_get_display(rig->vm), &frame));
  g_assert_cmpuint(frame.width, <=, VM_DISPLAY_MAX_WIDTH);
  g_assert_cmpuint(frame.height, <=, VM_DISPLAY_MAX_HEIGHT);
}

static uint16_t random_port(GRand *random)
{
  switch (g_rand_int_range(random, 0, 4)) {
  case 0:
    return (uint16_t)(0x1CE + g_rand_int_range(random, 0, 4));
  case 1:
    return (uint16_t)(0x3B0 + g_rand_int_range(random, 0, 16));
  default:
    return (uint16_t)(0x3C0 + g_rand_int_range(random, 0, 32));
  }
}

static void poke_randomly(Rig *rig, GRand *random)
{
  static const unsigned sizes[4] = { 1, 2, 4, 8 };
  unsigned size = sizes[g_rand_int_range(random, 0, 3)];
  uint32_t value = g_rand_int(random);
  switch (g_rand_int_range(random, 0, 12)) {
  case 0:
    vm_memory_store(rig->memory, VM_VIEW_NORMAL, 0xA0000 + value % 0x20000, value, size);
    break;
  case 1:
    vm_memory_load(rig->memory, VM_VIEW_NORMAL, 0xA0000 + value % 0x20000, size);
    break;
  case 2:
    vm_memory_store(rig->memory, VM_VIEW_NORMAL, BAR2 + g_rand_int_range(random, 0, 0x1000), value, size);
    break;
  case 3:
    vm_port_read(rig->memory, random_port(random), size);
    break;
  case 4: /* a plausible VBE mode */
    rig_vbe(rig, (uint16_t)g_rand_int_range(random, 0, 12), (uint16_t)(value >> g_rand_int_range(random, 16, 32)));
    break;
  case 5:
    rig_vbe(rig, VBE_BPP, (uint16_t)((const uint8_t[]){ 0, 4, 8, 15, 16, 24, 32, 5 })[value & 7]);
    rig_vbe(rig, VBE_ENABLE, value >> 8 & 1);
    break;
  case 6:
    rig_set_attribute(rig, value & 0x1F, (uint8_t)(value >> 8));
    rig_set(rig, 0x3C4, 0, 3);
    break;
  case 7:
    rig_set(rig, 0x3D4, (uint8_t)(value % 0x19), (uint8_t)(value >> 8));
    break;
  default:
    vm_port_write(rig->memory, random_port(random), value, size);
    break;
  }
}

static void test_hostile(void)
{
  Rig *rig = rig_new(VGA_MIN_VRAM_BYTES * 2);
  GRand *random = g_rand_new_with_seed(0x56474131);
  for (unsigned i = 0; i < 200000; i++) {
    poke_randomly(rig, random);
    if (i % 997 == 0) {
      vm_display_request_update(vm_get_display(rig->vm), false);
      rig_step_ns(rig, 7 * VM_NS_PER_MS);
      check_frame(rig);
      g_free(vm_display_dup_text(vm_get_display(rig->vm)));
    }
    if (i % 20011 == 0)
      rig_mode(rig, i & 1 ? &mode_text : &mode_13h);
  }
  g_rand_free(random);
  rig_free(rig);
}

static GByteArray *save(Rig *rig)
{
  VmIoContext *ctx = vm_get_io_context(rig->vm);
  GByteArray *bytes = g_byte_array_new();
  vm_io_context_lock(ctx);
  vm_device_save(rig->dev, bytes);
  vm_io_context_unlock(ctx);
  return bytes;
}

static bool load(Rig *rig, const GByteArray *bytes)
{
  VmIoContext *ctx = vm_get_io_context(rig->vm);
  g_autoptr(GError) error = NULL;
  vm_io_context_lock(ctx);
  bool good = vm_device_load(rig->dev, bytes->data, bytes->len, &error);
  vm_io_context_unlock(ctx);
  return good;
}

static void test_save_load(void)
{
  Rig *rig = rig_new(0), *other = rig_new(0);
  rig_mode(rig, &mode_text);
  rig_grey_dac(rig);
  rig_vbe_mode(rig, 800, 600, 16);
  rig_vbe(rig, VBE_VIRT_WIDTH, 1024);
  rig_vbe(rig, VBE_Y_OFFSET, 33);
  rig_vbe(rig, VBE_BANK, 2);
  g_autoptr(GByteArray) bytes = save(rig);
  g_assert_true(load(other, bytes));
  g_autoptr(GByteArray) again = save(other);
  g_assert_cmpmem(bytes->data, bytes->len, again->data, again->len);
  /* The mapping follows. */
  rig_poke(other, 0xA0000, 0x12);
  g_assert_cmphex(rig_peek(other, BAR0 + 2 * 65536), ==, 0x12);
  rig_draw(other);
  g_assert_cmpuint(other->width, ==, 800);
  /* A state with a mode that does not fit is refused, and nothing has changed. */
  Vga *vga = (Vga *)rig->dev;
  vga->vbe[VBE_VIRT_WIDTH] = 0xFFFF;
  g_autoptr(GByteArray) bad = save(rig);
  g_assert_false(load(other, bad));
  g_autoptr(GByteArray) third = save(other);
  g_assert_cmpmem(bytes->data, bytes->len, third->data, third->len);
  rig_free(rig);
  rig_free(other);
}

static void test_reset(void)
{
  Rig *rig = rig_new(0);
  g_autoptr(GByteArray) first = save(rig);
  rig_mode(rig, &mode_13h);
  rig_grey_dac(rig);
  rig_vbe_mode(rig, 800, 600, 16);
  rig_reset(rig);
  g_autoptr(GByteArray) second = save(rig);
  g_assert_cmpmem(first->data, first->len, second->data, second->len);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 720);
  rig_free(rig);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/vga/type", test_type);
  g_test_add_func("/vga/registers", test_registers);
  g_test_add_func("/vga/retrace", test_retrace);
  g_test_add_func("/vga/dirty", test_dirty_rectangles);
  g_test_add_func("/vga/hostile", test_hostile);
  g_test_add_func("/vga/save-load", test_save_load);
  g_test_add_func("/vga/reset", test_reset);
  return g_test_run();
}
