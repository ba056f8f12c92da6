/*
 * The VGA's own graphics modes, drawn into through the window, and the window's write and read modes.
 */
#include "tests/hw/display/vga-test.h"

#define WINDOW 0xA0000u

static Rig *graphics_rig(const ModeSet *mode)
{
  Rig *rig = rig_new(0);
  rig_mode(rig, mode);
  rig_grey_dac(rig);
  return rig;
}

static bool window_is_memory(Rig *rig)
{
  g_autofree char *text = vm_memory_dup_description(rig->memory);
  return strstr(text, "vga-linear-window") != NULL;
}

static void test_planar(void)
{
  Rig *rig = graphics_rig(&mode_12h);
  /* Plane by plane: pixel x of the first line has colour x & 15. */
  for (unsigned plane = 0; plane < 4; plane++) {
    rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, (uint8_t)(1 << plane));
    for (unsigned byte = 0; byte < 80; byte++) {
      uint8_t bits = 0;
      for (unsigned i = 0; i < 8; i++)
        bits = (uint8_t)(bits << 1 | ((byte * 8 + i) >> plane & 1));
      rig_poke(rig, WINDOW + byte, bits);
      rig_poke(rig, WINDOW + 479 * 80 + byte, (uint8_t)~bits);
    }
  }
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 640);
  g_assert_cmpuint(rig->height, ==, 480);
  for (unsigned x = 0; x < 640; x++) {
    g_assert_cmphex(rig_pixel(rig, x, 0), ==, grey(x & 15));
    g_assert_cmphex(rig_pixel(rig, x, 1), ==, grey(0));
    g_assert_cmphex(rig_pixel(rig, x, 479), ==, grey(~x & 15));
  }
  /* Only what is written is drawn again, but that is. */
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 0xF);
  rig_poke(rig, WINDOW + 240 * 80, 0x80);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 240), ==, grey(15));
  g_assert_cmphex(rig_pixel(rig, 1, 240), ==, grey(0));
  g_assert_cmphex(rig_pixel(rig, 5, 0), ==, grey(5));
  /* Panning by five dots; the palette; colours not enabled; start address. */
  rig_set_attribute(rig, VGA_AC_PEL_PAN, 5);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, grey(5));
  rig_set_attribute(rig, 6, 0x21);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 1, 0), ==, grey(0x21));
  rig_set_attribute(rig, VGA_AC_PLANE_ENABLE, 0x3);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, grey(1));
  rig_set(rig, 0x3D4, VGA_CR_START_LOW, 1);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, grey(13 & 3));
  rig_free(rig);
}

static void test_write_modes(void)
{
  Rig *rig = graphics_rig(&mode_12h);
  /* Set/reset paints pixels of the bit mask in a colour, the rest comes from the latches. */
  rig_set(rig, 0x3CE, VGA_GC_SET_RESET, 0x9);
  rig_set(rig, 0x3CE, VGA_GC_ENABLE_SET_RESET, 0xF);
  rig_set(rig, 0x3CE, VGA_GC_BIT_MASK, 0x3C);
  rig_peek(rig, WINDOW);
  rig_poke(rig, WINDOW, 0x00);
  rig_set(rig, 0x3CE, VGA_GC_ENABLE_SET_RESET, 0);
  /* Write mode 2 with XOR. */
  rig_set(rig, 0x3CE, VGA_GC_MODE, 2);
  rig_set(rig, 0x3CE, VGA_GC_ROTATE, 0x18);
  rig_set(rig, 0x3CE, VGA_GC_BIT_MASK, 0x0F);
  rig_peek(rig, WINDOW);
  rig_poke(rig, WINDOW, 0x5);
  rig_draw(rig);
  static const uint8_t expected[8] = { 0, 0, 9, 9, 12, 12, 5, 5 };
  for (unsigned x = 0; x < 8; x++)
    g_assert_cmphex(rig_pixel(rig, x, 0), ==, grey(expected[x]));
  /* Write mode 1 copies all planes. */
  rig_set(rig, 0x3CE, VGA_GC_MODE, 1);
  rig_peek(rig, WINDOW);
  rig_poke(rig, WINDOW + 80, 0);
  rig_draw(rig);
  for (unsigned x = 0; x < 8; x++)
    g_assert_cmphex(rig_pixel(rig, x, 1), ==, grey(expected[x]));
  /* Write mode 3: the rotated data is the mask. */
  rig_set(rig, 0x3CE, VGA_GC_MODE, 3);
  rig_set(rig, 0x3CE, VGA_GC_ROTATE, 0x04);
  rig_set(rig, 0x3CE, VGA_GC_BIT_MASK, 0xF0);
  rig_set(rig, 0x3CE, VGA_GC_SET_RESET, 0x6);
  rig_peek(rig, WINDOW);
  rig_poke(rig, WINDOW, 0xFA);
  rig_draw(rig);
  static const uint8_t after[8] = { 6, 0, 6, 9, 12, 12, 5, 5 };
  for (unsigned x = 0; x < 8; x++)
    g_assert_cmphex(rig_pixel(rig, x, 0), ==, grey(after[x]));
  /* Read mode 1 tells which pixels have a colour, some planes not cared for. */
  rig_set(rig, 0x3CE, VGA_GC_MODE, 8);
  rig_set(rig, 0x3CE, VGA_GC_COMPARE, 12);
  g_assert_cmphex(rig_peek(rig, WINDOW), ==, 0x0C);
  rig_set(rig, 0x3CE, VGA_GC_DONT_CARE, 0x4);
  g_assert_cmphex(rig_peek(rig, WINDOW), ==, 0xAF);
  /* AND and OR of write mode 0. */
  rig_set(rig, 0x3CE, VGA_GC_MODE, 0);
  rig_set(rig, 0x3CE, VGA_GC_BIT_MASK, 0xFF);
  rig_set(rig, 0x3CE, VGA_GC_ROTATE, 0x08);
  rig_peek(rig, WINDOW);
  rig_poke(rig, WINDOW + 160, 0xF0);
  rig_set(rig, 0x3CE, VGA_GC_ROTATE, 0x10);
  rig_poke(rig, WINDOW + 240, 0x0F);
  rig_draw(rig);
  for (unsigned x = 0; x < 8; x++) {
    g_assert_cmphex(rig_pixel(rig, x, 2), ==, grey(x < 4 ? after[x] : 0));
    g_assert_cmphex(rig_pixel(rig, x, 3), ==, grey(x < 4 ? after[x] : 15));
  }
  rig_free(rig);
}

static void test_mode_13h(void)
{
  Rig *rig = graphics_rig(&mode_13h);
  g_assert_true(window_is_memory(rig));
  for (unsigned i = 0; i < 64000; i++)
    rig_poke(rig, WINDOW + i, (uint8_t)(i % 320 + i / 320));
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 640);
  g_assert_cmpuint(rig->height, ==, 400);
  for (unsigned y = 0; y < 400; y++)
    for (unsigned x = 0; x < 640; x++)
      if (rig_pixel(rig, x, y) != grey((x / 2 + y / 2) & 0xFF))
        g_error("pixel %u, %u", x, y);
  rig_poke(rig, WINDOW + 100 * 320 + 7, 0x2A);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 14, 200), ==, grey(0x2A));
  g_assert_cmphex(rig_pixel(rig, 15, 201), ==, grey(0x2A));
  /* A colour changes without the memory. */
  rig_out(rig, 0x3C8, 0x2A);
  rig_out(rig, 0x3C9, 63);
  rig_out(rig, 0x3C9, 0);
  rig_out(rig, 0x3C9, 32);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 14, 200), ==, 0xFF0082);
  rig_out(rig, 0x3C6, 0x0F);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 14, 200), ==, grey(0x0A));
  rig_free(rig);
}

/* Chain-4 as plain memory and through the data path are the same, and the planes have the addresses of a real card. */
static void test_chain4_addresses(void)
{
  Rig *rig = graphics_rig(&mode_13h);
  for (unsigned i = 0; i < 0x10000; i += 13)
    rig_poke(rig, WINDOW + i, (uint8_t)(i * 7));
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 0x7);
  g_assert_false(window_is_memory(rig));
  for (unsigned i = 0; i < 0x10000; i += 13)
    g_assert_cmphex(rig_peek(rig, WINDOW + i), ==, (uint8_t)(i * 7));
  rig_poke(rig, WINDOW + 3, 0x77); /* plane 3 is masked */
  g_assert_cmphex(rig_peek(rig, WINDOW + 3), ==, 0);
  rig_set(rig, 0x3C4, VGA_SEQ_MEMORY, 6);
  rig_set(rig, 0x3CE, VGA_GC_READ_MAP, 2);
  g_assert_cmphex(rig_peek(rig, WINDOW + (26 & ~3u)), ==, 26 * 7);
  rig_free(rig);
}

static void test_mode_x(void)
{
  Rig *rig = graphics_rig(&mode_13h);
  rig_set(rig, 0x3C4, VGA_SEQ_MEMORY, 6);
  rig_set(rig, 0x3D4, VGA_CR_UNDERLINE, 0);
  rig_set(rig, 0x3D4, VGA_CR_MODE, 0xE3);
  for (unsigned plane = 0; plane < 4; plane++) {
    rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, (uint8_t)(1 << plane));
    for (unsigned y = 0; y < 200; y++)
      for (unsigned x = plane; x < 320; x += 4)
        rig_poke(rig, WINDOW + 16000 + y * 80 + x / 4, (uint8_t)(x ^ y));
  }
  rig_set(rig, 0x3D4, VGA_CR_START_HIGH, 16000 >> 8);
  rig_set(rig, 0x3D4, VGA_CR_START_LOW, 16000 & 0xFF);
  rig_draw(rig);
  for (unsigned y = 0; y < 400; y++)
    for (unsigned x = 0; x < 640; x++)
      if (rig_pixel(rig, x, y) != grey((x / 2 ^ y / 2) & 0xFF))
        g_error("pixel %u, %u", x, y);
  /* Panning by one pixel is two steps; then a split at scan line 200. */
  rig_set_attribute(rig, VGA_AC_PEL_PAN, 2);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, grey(1));
  rig_set(rig, 0x3D4, VGA_CR_OVERFLOW, 0x0F);
  rig_set(rig, 0x3D4, 0x11, 0x0E);
  rig_set(rig, 0x3D4, VGA_CR_OVERFLOW, 0x0F);
  rig_set(rig, 0x3D4, VGA_CR_MAX_SCAN, 0x01);
  rig_set(rig, 0x3D4, VGA_CR_LINE_COMPARE, 199);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 199), ==, grey(1 ^ 99));
  g_assert_cmphex(rig_pixel(rig, 0, 200), ==, grey(0));
  /* The split shows address 0. */
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 2);
  rig_poke(rig, WINDOW, 0x33);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 200), ==, grey(0x33));
  rig_free(rig);
}

static void test_cga(void)
{
  Rig *rig = graphics_rig(&mode_cga4);
  /* Even lines at 0, odd ones at 8 KiB; two bits a pixel. */
  rig_poke(rig, 0xB8000, 0x1B);
  rig_poke(rig, 0xB8001, 0xE4);
  rig_poke(rig, 0xB8000 + 0x2000 + 79, 0x03);
  rig_poke(rig, 0xB8000 + 80, 0x40);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 640);
  g_assert_cmpuint(rig->height, ==, 400);
  static const uint8_t expected[8] = { 0, 1, 2, 3, 3, 2, 1, 0 };
  for (unsigned x = 0; x < 16; x++) {
    g_assert_cmphex(rig_pixel(rig, x, 0), ==, grey(expected[x / 2]));
    g_assert_cmphex(rig_pixel(rig, x, 1), ==, grey(expected[x / 2]));
    g_assert_cmphex(rig_pixel(rig, x, 2), ==, grey(0));
  }
  g_assert_cmphex(rig_pixel(rig, 639, 2), ==, grey(3));
  g_assert_cmphex(rig_pixel(rig, 637, 2), ==, grey(0));
  g_assert_cmphex(rig_pixel(rig, 0, 4), ==, grey(1));
  rig_free(rig);

  rig = graphics_rig(&mode_cga2);
  rig_poke(rig, 0xB8000, 0xA5);
  rig_poke(rig, 0xB8000 + 0x2000, 0x80);
  rig_draw(rig);
  for (unsigned x = 0; x < 8; x++)
    g_assert_cmphex(rig_pixel(rig, x, 0), ==, grey(0xA5 >> (7 - x) & 1));
  g_assert_cmphex(rig_pixel(rig, 0, 2), ==, grey(1));
  g_assert_cmphex(rig_pixel(rig, 1, 3), ==, grey(0));
  rig_free(rig);
}

static void test_ega_320(void)
{
  Rig *rig = graphics_rig(&mode_0dh);
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 0xA);
  rig_poke(rig, WINDOW + 40, 0x40);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 640);
  g_assert_cmpuint(rig->height, ==, 400);
  for (unsigned y = 2; y < 4; y++)
    for (unsigned x = 0; x < 6; x++)
      g_assert_cmphex(rig_pixel(rig, x, y), ==, grey(x / 2 == 1 ? 10 : 0));
  rig_free(rig);
}

static void test_blanking(void)
{
  Rig *rig = graphics_rig(&mode_13h);
  rig_poke(rig, WINDOW, 1);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, grey(1));
  rig_set(rig, 0x3C4, VGA_SEQ_CLOCKING, 0x21);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 640);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, 0);
  rig_set(rig, 0x3C4, VGA_SEQ_CLOCKING, 0x01);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, grey(1));
  rig_in(rig, 0x3DA);
  rig_out(rig, 0x3C0, 0x00); /* the palette to the CPU */
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, 0);
  rig_out(rig, 0x3C0, 0x00);
  rig_out(rig, 0x3C0, 0x20);
  rig_set(rig, 0x3C4, VGA_SEQ_RESET, 1);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 0), ==, 0);
  rig_free(rig);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/vga/graphics/planar", test_planar);
  g_test_add_func("/vga/graphics/write-modes", test_write_modes);
  g_test_add_func("/vga/graphics/mode-13h", test_mode_13h);
  g_test_add_func("/vga/graphics/chain4", test_chain4_addresses);
  g_test_add_func("/vga/graphics/mode-x", test_mode_x);
  g_test_add_func("/vga/graphics/cga", test_cga);
  g_test_add_func("/vga/graphics/ega-320", test_ega_320);
  g_test_add_func("/vga/graphics/blanking", test_blanking);
  return g_test_run();
}
