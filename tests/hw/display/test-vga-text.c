/*
 * Text modes: characters, attributes, cursor, panning, split screen, and the screen as text.
 */
#include "tests/hw/display/vga-test.h"

#define TEXT 0xB8000u

static void load_glyph(Rig *rig, unsigned font, unsigned character, const uint8_t *rows, unsigned n)
{
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 4);
  rig_set(rig, 0x3C4, VGA_SEQ_MEMORY, 6);
  rig_set(rig, 0x3CE, VGA_GC_MODE, 0);
  rig_set(rig, 0x3CE, VGA_GC_MISC, 4);
  for (unsigned i = 0; i < n; i++)
    rig_poke(rig, 0xA0000 + font * 0x2000 + character * 32 + i, rows[i]);
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 3);
  rig_set(rig, 0x3C4, VGA_SEQ_MEMORY, 2);
  rig_set(rig, 0x3CE, VGA_GC_MODE, 0x10);
  rig_set(rig, 0x3CE, VGA_GC_MISC, 0x0E);
}

/* A character whose rows are all `row`. */
static void load_bars(Rig *rig, unsigned font, unsigned character, uint8_t row)
{
  uint8_t rows[32];
  memset(rows, row, sizeof rows);
  load_glyph(rig, font, character, rows, sizeof rows);
}

static void put(Rig *rig, unsigned cell, uint8_t character, uint8_t attribute)
{
  rig_poke(rig, TEXT + cell * 2, character);
  rig_poke(rig, TEXT + cell * 2 + 1, attribute);
}

static Rig *text_rig(void)
{
  Rig *rig = rig_new(0);
  rig_mode(rig, &mode_text);
  rig_grey_dac(rig);
  for (unsigned i = 0; i < 32 * 1024 / 2; i++)
    put(rig, i, ' ', 0x07);
  return rig;
}

/* The nine dots of a scan line of a character, leftmost in bit 8; set where the colour is `foreground`. */
static unsigned dots_at(const Rig *rig, unsigned x, unsigned y, unsigned foreground)
{
  unsigned dots = 0;
  for (unsigned i = 0; i < 9; i++)
    dots = dots << 1 | (rig_pixel(rig, x + i, y) == grey(foreground));
  return dots;
}

static void test_characters(void)
{
  Rig *rig = text_rig();
  static const uint8_t glyph[16] = { 0x81, 0x42, 0x24, 0x18, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x55 };
  load_glyph(rig, 0, 'A', glyph, 16);
  put(rig, 80 + 2, 'A', 0x1E);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 720);
  g_assert_cmpuint(rig->height, ==, 400);
  for (unsigned y = 0; y < 16; y++) {
    g_assert_cmphex(dots_at(rig, 18, 16 + y, 0xE), ==, glyph[y] << 1);
    g_assert_cmphex(rig_pixel(rig, 18 + 8, 16 + y), ==, grey(1));
  }
  g_assert_cmphex(rig_pixel(rig, 17, 16), ==, grey(0));
  /* A changed cell is drawn, the others stay. */
  put(rig, 80 + 2, ' ', 0x30);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 18, 16), ==, grey(3));
  /* So is a changed glyph. */
  load_bars(rig, 0, ' ', 0xF0);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 18, 31, 0), ==, 0x1E0);
  g_assert_cmphex(dots_at(rig, 0, 0, 7), ==, 0x1E0);
  rig_free(rig);
}

static void test_attributes(void)
{
  Rig *rig = text_rig();
  load_bars(rig, 0, 0xC4, 0xFF);
  load_bars(rig, 0, 0xB0, 0xFF);
  put(rig, 0, 0xC4, 0x07); /* line graphics: the ninth dot repeats the eighth */
  put(rig, 1, 0xB0, 0x07);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 0, 3, 7), ==, 0x1FF);
  g_assert_cmphex(dots_at(rig, 9, 3, 7), ==, 0x1FE);
  rig_set_attribute(rig, VGA_AC_MODE, 0x08);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 0, 3, 7), ==, 0x1FE);
  /* Underline, where the CRTC says so. */
  put(rig, 2, ' ', 0x01);
  rig_set(rig, 0x3D4, VGA_CR_UNDERLINE, 13);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 18, 13, 1), ==, 0x1FF);
  g_assert_cmphex(dots_at(rig, 18, 12, 1), ==, 0);
  /* Without blinking, bit 7 is the background's. */
  put(rig, 3, ' ', 0xA7);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 27, 0), ==, grey(2));
  rig_set_attribute(rig, VGA_AC_MODE, 0x00);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 27, 0), ==, grey(0xA));
  /* Two fonts, chosen by attribute bit 3. */
  load_bars(rig, 1, 'x', 0x0F); /* the font at 8 KiB is number 4 */
  load_bars(rig, 0, 'x', 0xF0);
  rig_set(rig, 0x3C4, VGA_SEQ_FONT, 0x20);
  put(rig, 4, 'x', 0x07);
  put(rig, 5, 'x', 0x0F);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 36, 1, 7), ==, 0x1E0);
  g_assert_cmphex(dots_at(rig, 45, 1, 15), ==, 0x01E);
  rig_free(rig);
}

static void test_blink_and_cursor(void)
{
  Rig *rig = text_rig();
  load_bars(rig, 0, 'x', 0xFF);
  put(rig, 0, 'x', 0x87);
  unsigned lit = 0, dark = 0;
  for (unsigned i = 0; i < 20; i++) {
    rig_step_ns(rig, 100 * VM_NS_PER_MS);
    rig_draw(rig);
    if (dots_at(rig, 0, 0, 7) == 0x1FE)
      lit++;
    else
      dark++;
  }
  g_assert_cmpuint(lit, >, 5);
  g_assert_cmpuint(dark, >, 5);

  rig_set(rig, 0x3D4, VGA_CR_CURSOR_START, 0x0D);
  rig_set(rig, 0x3D4, VGA_CR_CURSOR_END, 0x0E);
  rig_set(rig, 0x3D4, VGA_CR_CURSOR_LOW, 5);
  lit = dark = 0;
  for (unsigned i = 0; i < 20; i++) {
    rig_step_ns(rig, 50 * VM_NS_PER_MS);
    rig_draw(rig);
    bool on = dots_at(rig, 45, 13, 7) == 0x1FF && dots_at(rig, 45, 14, 7) == 0x1FF;
    g_assert_cmphex(dots_at(rig, 45, 12, 7), ==, 0);
    g_assert_cmphex(dots_at(rig, 45, 15, 7), ==, 0);
    lit += on;
    dark += !on;
  }
  g_assert_cmpuint(lit, >, 5);
  g_assert_cmpuint(dark, >, 5);
  rig_set(rig, 0x3D4, VGA_CR_CURSOR_START, 0x2D); /* off */
  for (unsigned i = 0; i < 5; i++) {
    rig_step_ns(rig, 50 * VM_NS_PER_MS);
    rig_draw(rig);
    g_assert_cmphex(dots_at(rig, 45, 13, 7), ==, 0);
  }
  rig_free(rig);
}

static void test_scrolling(void)
{
  Rig *rig = text_rig();
  load_bars(rig, 0, 'x', 0xFF);
  put(rig, 80, 'x', 0x07);
  put(rig, 0, 'x', 0x02);
  /* By a row, by its start address. */
  rig_set(rig, 0x3D4, VGA_CR_START_LOW, 80);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 0, 0, 7), ==, 0x1FE);
  /* By three scan lines and two dots more. */
  rig_set(rig, 0x3D4, VGA_CR_PRESET_ROW, 3);
  rig_set_attribute(rig, VGA_AC_PEL_PAN, 1);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 0, 0, 7), ==, 0x1F8);
  g_assert_cmphex(dots_at(rig, 0, 12, 7), ==, 0x1F8);
  g_assert_cmphex(dots_at(rig, 0, 13, 7), ==, 0);
  /* Below the split, address 0 without panning. */
  rig_set_attribute(rig, VGA_AC_MODE, 0x2C);
  rig_set(rig, 0x3D4, VGA_CR_OVERFLOW, 0x0F); /* line compare's bit is not locked */
  rig_set(rig, 0x3D4, VGA_CR_MAX_SCAN, 0x0F);
  rig_set(rig, 0x3D4, VGA_CR_LINE_COMPARE, 99);
  rig_draw(rig);
  g_assert_cmphex(dots_at(rig, 0, 0, 7), ==, 0x1F8);
  g_assert_cmphex(dots_at(rig, 0, 99, 2), ==, 0);
  g_assert_cmphex(dots_at(rig, 0, 100, 2), ==, 0x1FE);
  g_assert_cmphex(dots_at(rig, 0, 115, 2), ==, 0x1FE);
  g_assert_cmphex(dots_at(rig, 0, 116, 2), ==, 0);
  rig_free(rig);
}

static void test_other_geometry(void)
{
  Rig *rig = text_rig();
  load_bars(rig, 0, 'x', 0xAA);
  put(rig, 1, 'x', 0x07);
  rig_set(rig, 0x3C4, VGA_SEQ_CLOCKING, 0x09);     /* 8 dots, doubled */
  rig_set(rig, 0x3D4, VGA_CR_V_RETRACE_END, 0x0E); /* unlock */
  rig_set(rig, 0x3D4, VGA_CR_H_DISPLAY_END, 39);
  rig_set(rig, 0x3D4, VGA_CR_MAX_SCAN, 0x87); /* 8 lines, doubled */
  rig_set_attribute(rig, VGA_AC_PEL_PAN, 0);
  put(rig, 80 + 1, 'x', 0x07);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 640);
  g_assert_cmpuint(rig->height, ==, 400);
  for (unsigned i = 0; i < 16; i++)
    g_assert_cmphex(rig_pixel(rig, 16 + i, 15), ==, grey(i & 2 ? 0 : 7));
  g_assert_cmphex(rig_pixel(rig, 16, 16), ==, grey(7)); /* the next row begins after 16 lines */
  g_assert_cmphex(rig_pixel(rig, 16, 32), ==, grey(0));
  rig_free(rig);
}

static void test_as_text(void)
{
  Rig *rig = text_rig();
  static const char line[] = "Hello,\xC4\x80 world";
  for (unsigned i = 0; line[i]; i++)
    put(rig, 160 + i, (uint8_t)line[i], 0x07);
  put(rig, 24 * 80 + 79, 0x01, 0x07);
  g_autofree char *text = vm_display_dup_text(vm_get_display(rig->vm));
  g_auto(GStrv) rows = g_strsplit(text, "\n", -1);
  g_assert_cmpuint(g_strv_length(rows), ==, 25);
  g_assert_cmpstr(rows[0], ==, "");
  g_assert_cmpstr(rows[2], ==, "Hello,─Ç world");
  g_assert_true(g_str_has_suffix(rows[24], " ☺"));
  g_assert_cmpint(g_utf8_strlen(rows[24], -1), ==, 80);
  rig_mode(rig, &mode_13h);
  g_assert_null(vm_display_dup_text(vm_get_display(rig->vm)));
  rig_free(rig);
}

/* Odd/even addressing: attributes are in plane 1, seen also without it. */
static void test_odd_even(void)
{
  Rig *rig = text_rig();
  put(rig, 3, 'q', 0x5A);
  g_assert_cmphex(rig_peek(rig, TEXT + 6), ==, 'q');
  g_assert_cmphex(rig_peek(rig, TEXT + 7), ==, 0x5A);
  g_assert_cmphex(vm_memory_load(rig->memory, VM_VIEW_NORMAL, TEXT + 6, 2), ==, 0x5A00 | 'q');
  rig_set(rig, 0x3CE, VGA_GC_MODE, 0);
  rig_set(rig, 0x3CE, VGA_GC_MISC, 5);
  rig_set(rig, 0x3CE, VGA_GC_READ_MAP, 1);
  g_assert_cmphex(rig_peek(rig, 0xA0000 + 6), ==, 0x5A);
  g_assert_cmphex(rig_peek(rig, TEXT + 6), ==, 0xFF);
  rig_free(rig);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/vga/text/characters", test_characters);
  g_test_add_func("/vga/text/attributes", test_attributes);
  g_test_add_func("/vga/text/blink-cursor", test_blink_and_cursor);
  g_test_add_func("/vga/text/scrolling", test_scrolling);
  g_test_add_func("/vga/text/geometry", test_other_geometry);
  g_test_add_func("/vga/text/as-text", test_as_text);
  g_test_add_func("/vga/text/odd-even", test_odd_even);
  return g_test_run();
}
