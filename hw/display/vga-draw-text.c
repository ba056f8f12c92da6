/*
 * Text modes: characters of 8 or 9 dots from a font in plane 2, with attributes in plane 1.
 *
 * What each cell of the screen showed last (character, attribute, cursor, blink) is kept in a shadow, and only cells
 * that differ are drawn. Whatever else the picture depends on is in the layout, or counts as a font change, and draws
 * everything.
 */
#include "hw/display/vga-state.h"

/* A shadow value: character, attribute, then these. */
enum {
  SHADOW_CURSOR_START_SHIFT = 16,
  SHADOW_CURSOR_END_SHIFT = 21,
  SHADOW_CURSOR = 1u << 26,
  SHADOW_HIDDEN = 1u << 27, /* blinking, in the dark half */
  SHADOW_VALID = 1u << 28
};

/* The periods' halves, in frames. */
#define CURSOR_BLINK_FRAMES 8
#define TEXT_BLINK_FRAMES   16

/* A row of characters where it stands in the picture. */
typedef struct TextRow {
  unsigned y, lines;
  VgaScan first; /* as of its first line */
} TextRow;

/* What all cells of an update have in common. */
typedef struct TextView {
  const Vga *vga;
  const VgaLayout *layout;
  VgaCanvas *canvas;
  uint32_t cursor_counter; /* 0x10000: nowhere */
  uint32_t cursor_bits;
  bool text_hidden; /* the dark half of blinking */
} TextView;

/* Takes the scan to the next row and says where the one it stood at is. */
static TextRow next_row(VgaScan *scan, unsigned y)
{
  TextRow row = { .y = y, .first = *scan };
  while (y < scan->layout->height) {
    bool ended = vga_scan_next(scan, y);
    y++;
    if (ended)
      break;
  }
  row.lines = y - row.y;
  return row;
}

static void find_cursor(TextView *view)
{
  const uint8_t *crtc = view->vga->crtc;
  unsigned start = crtc[VGA_CR_CURSOR_START] & 0x1F, end = crtc[VGA_CR_CURSOR_END] & 0x1F;
  bool dark = vga_get_frame_count(view->vga) / CURSOR_BLINK_FRAMES & 1;
  view->cursor_counter = 0x10000;
  if ((crtc[VGA_CR_CURSOR_START] & 0x20) || start > end || dark)
    return;
  unsigned skew = crtc[VGA_CR_CURSOR_END] >> 5 & 3;
  view->cursor_counter = ((uint32_t)crtc[VGA_CR_CURSOR_HIGH] << 8 | crtc[VGA_CR_CURSOR_LOW]) + skew;
  view->cursor_counter &= 0xFFFF;
  view->cursor_bits = SHADOW_CURSOR | start << SHADOW_CURSOR_START_SHIFT | end << SHADOW_CURSOR_END_SHIFT;
}

/* What the cell at `counter` is to look like. Characters are fetched in the first scan line of a row. */
static uint32_t cell_value(const TextView *view, uint32_t counter)
{
  uint32_t cell = vga_load_cell(view->vga, vga_scan_cell(view->layout, counter, 0));
  uint32_t value = SHADOW_VALID | (cell & 0xFFFF);
  if (counter == view->cursor_counter)
    value |= view->cursor_bits;
  if (view->layout->blink && (value & 0x8000) && view->text_hidden)
    value |= SHADOW_HIDDEN;
  return value;
}

/* The dots of one scan line of a cell, the leftmost in bit 8, the ninth in bit 0. */
static unsigned cell_dots(const TextView *view, uint32_t value, unsigned scan)
{
  const VgaLayout *layout = view->layout;
  unsigned character = value & 0xFF, attribute = value >> 8 & 0xFF;
  uint32_t font = attribute & 8 ? layout->font_bold : layout->font_plain;
  unsigned dots = (vga_load_cell(view->vga, font + character * 32 + scan) >> 16 & 0xFF) << 1;
  if (layout->line_graphics && (character & 0xE0) == 0xC0)
    dots |= dots >> 1 & 1;
  if (scan == layout->underline_scan && (attribute & 0x77) == 0x01)
    dots = 0x1FF;
  if (value & SHADOW_HIDDEN)
    dots = 0;
  if ((value & SHADOW_CURSOR) && scan >= (value >> SHADOW_CURSOR_START_SHIFT & 0x1F) &&
      scan <= (value >> SHADOW_CURSOR_END_SHIFT & 0x1F))
    dots = 0x1FF;
  return dots;
}

/* Draws a cell whose left edge is at `x` (in dots, perhaps left of the picture), clipped to the picture's width. */
static void draw_cell(const TextView *view, const TextRow *row, int x, uint32_t value)
{
  const VgaLayout *layout = view->layout;
  unsigned attribute = value >> 8 & 0xFF;
  uint32_t foreground = view->vga->colours16[attribute & 0xF];
  uint32_t background = view->vga->colours16[attribute >> 4 & (layout->blink ? 7 : 0xF)];
  int repeat = (int)layout->dot_repeat;
  int left = MAX(x * repeat, 0), right = MIN((x + (int)layout->char_dots) * repeat, (int)layout->width);
  if (left >= right)
    return;
  for (unsigned i = 0; i < row->lines; i++) {
    unsigned passed = layout->double_scan ? (i + row->first.repeat) / 2 : i;
    unsigned dots = cell_dots(view, value, (row->first.row_scan + passed) & 0x1F);
    uint32_t *line = view->canvas->pixels + (size_t)(row->y + i) * view->canvas->stride;
    for (int at = left; at < right; at++)
      line[at] = dots >> (8 - (at / repeat - x)) & 1 ? foreground : background;
  }
  vga_canvas_changed(view->canvas, left, (int)row->y, right - left, (int)row->lines);
}

/* A column more than shows, since panning brings a part of it in. */
static void draw_row(const TextView *view, const TextRow *row, uint32_t *shadow, bool full)
{
  const VgaLayout *layout = view->layout;
  for (uint32_t column = 0; column <= layout->columns; column++) {
    uint32_t value = cell_value(view, (row->first.counter + column) & 0xFFFF);
    if (value == shadow[column] && !full)
      continue;
    shadow[column] = value;
    draw_cell(view, row, (int)(column * layout->char_dots) - (int)row->first.pan, value);
  }
}

/* A row takes a scan line at least, so that there are no more of them than lines. */
static void fit_shadow(Vga *vga, const VgaLayout *layout)
{
  size_t cells = (size_t)layout->height * (layout->columns + 1);
  if (cells == vga->text_shadow_cells)
    return;
  g_free(vga->text_shadow);
  vga->text_shadow = g_new0(uint32_t, cells);
  vga->text_shadow_cells = cells;
}

void vga_draw_text(Vga *vga, const VgaLayout *layout, VgaCanvas *canvas, bool full)
{
  TextView view = { .vga = vga, .layout = layout, .canvas = canvas };
  VgaScan scan;
  fit_shadow(vga, layout);
  find_cursor(&view);
  view.text_hidden = vga_get_frame_count(vga) / TEXT_BLINK_FRAMES & 1;
  full |= vga->font_written;
  vga->font_written = false;
  uint32_t *shadow = vga->text_shadow;
  vga_scan_begin(&scan, layout, vga_get_start(vga));
  for (unsigned y = 0; y < layout->height;) {
    TextRow row = next_row(&scan, y);
    draw_row(&view, &row, shadow, full);
    shadow += layout->columns + 1;
    y += row.lines;
  }
}

/* ---- as text ------------------------------------------------------------------------------------------------------- */

/* Code page 437's first 32 characters as they look, and its upper half. */
static const uint16_t cp437_low[32] = {
  0x0020, 0x263A, 0x263B, 0x2665, 0x2666, 0x2663, 0x2660, 0x2022, 0x25D8, 0x25CB, 0x25D9,
  0x2642, 0x2640, 0x266A, 0x266B, 0x263C, 0x25BA, 0x25C4, 0x2195, 0x203C, 0x00B6, 0x00A7,
  0x25AC, 0x21A8, 0x2191, 0x2193, 0x2192, 0x2190, 0x221F, 0x2194, 0x25B2, 0x25BC,
};
static const uint16_t cp437_high[128] = {
  0x00C7, 0x00FC, 0x00E9, 0x00E2, 0x00E4, 0x00E0, 0x00E5, 0x00E7, 0x00EA, 0x00EB, 0x00E8, 0x00EF, 0x00EE,
  0x00EC, 0x00C4, 0x00C5, 0x00C9, 0x00E6, 0x00C6, 0x00F4, 0x00F6, 0x00F2, 0x00FB, 0x00F9, 0x00FF, 0x00D6,
  0x00DC, 0x00A2, 0x00A3, 0x00A5, 0x20A7, 0x0192, 0x00E1, 0x00ED, 0x00F3, 0x00FA, 0x00F1, 0x00D1, 0x00AA,
  0x00BA, 0x00BF, 0x2310, 0x00AC, 0x00BD, 0x00BC, 0x00A1, 0x00AB, 0x00BB, 0x2591, 0x2592, 0x2593, 0x2502,
  0x2524, 0x2561, 0x2562, 0x2556, 0x2555, 0x2563, 0x2551, 0x2557, 0x255D, 0x255C, 0x255B, 0x2510, 0x2514,
  0x2534, 0x252C, 0x251C, 0x2500, 0x253C, 0x255E, 0x255F, 0x255A, 0x2554, 0x2569, 0x2566, 0x2560, 0x2550,
  0x256C, 0x2567, 0x2568, 0x2564, 0x2565, 0x2559, 0x2558, 0x2552, 0x2553, 0x256B, 0x256A, 0x2518, 0x250C,
  0x2588, 0x2584, 0x258C, 0x2590, 0x2580, 0x03B1, 0x00DF, 0x0393, 0x03C0, 0x03A3, 0x03C3, 0x00B5, 0x03C4,
  0x03A6, 0x0398, 0x03A9, 0x03B4, 0x221E, 0x03C6, 0x03B5, 0x2229, 0x2261, 0x00B1, 0x2265, 0x2264, 0x2320,
  0x2321, 0x00F7, 0x2248, 0x00B0, 0x2219, 0x00B7, 0x221A, 0x207F, 0x00B2, 0x25A0, 0x0020,
};

static gunichar cp437_to_unicode(unsigned character)
{
  if (character < 32)
    return cp437_low[character];
  if (character == 0x7F)
    return 0x2302;
  return character < 0x80 ? character : cp437_high[character & 0x7F];
}

static void append_row(const Vga *vga, const VgaLayout *layout, const TextRow *row, GString *text)
{
  gsize end = text->len;
  for (uint32_t column = 0; column < layout->columns; column++) {
    uint32_t cell = vga_load_cell(vga, vga_scan_cell(layout, (row->first.counter + column) & 0xFFFF, 0));
    gunichar character = cp437_to_unicode(cell & 0xFF);
    g_string_append_unichar(text, character);
    if (character != ' ')
      end = text->len;
  }
  g_string_truncate(text, end);
}

char *vga_dup_text(const Vga *vga, const VgaLayout *layout)
{
  GString *text = g_string_new(NULL);
  VgaScan scan;
  vga_scan_begin(&scan, layout, vga_get_start(vga));
  for (unsigned y = 0; y < layout->height;) {
    TextRow row = next_row(&scan, y);
    if (y > 0)
      g_string_append_c(text, '\n');
    append_row(vga, layout, &row, text);
    y += row.lines;
  }
  return g_string_free(text, FALSE);
}
