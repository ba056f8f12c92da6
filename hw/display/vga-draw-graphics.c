/*
 * Graphics modes, a scan line at a time.
 *
 * The CRTC's modes: a cell of four bytes makes eight nibbles by one of three shift modes, each nibble a colour through
 * the attribute controller's palette, or each pair a DAC index. So 16-colour planes, the CGA's two and four colours, and
 * the 256 colours of mode 13h and its unchained kin are one path. The VBE's linear modes are another.
 */
#include "hw/display/vga-state.h"

#define MAX_CELLS (VBE_MAX_XRES / 8 + 1)

/* A byte's bits, each into the low bit of a nibble; bit 7 of the byte to the highest nibble. */
static inline uint32_t spread_bits(uint32_t byte)
{
  uint32_t x = byte & 0xFF;
  x = (x | x << 12) & 0x000F000F;
  x = (x | x << 6) & 0x03030303;
  return (x | x << 3) & 0x11111111;
}

/* A byte's pairs of bits, each into the low half of a nibble. */
static inline uint32_t spread_pairs(uint32_t byte)
{
  uint32_t x = byte & 0xFF;
  x = (x | x << 4) & 0x0F0F;
  return (x | x << 2) & 0x3333;
}

/* Eight nibbles, the leftmost the highest. */
static uint32_t shift_out(uint32_t cell, unsigned shift_mode)
{
  if (shift_mode >= 2) /* whole bytes, plane 0 first */
    return GUINT32_SWAP_LE_BE(cell);
  if (shift_mode == 1) /* planes 0 and 2 make the left four pixels, 1 and 3 the right four */
    return (spread_pairs(cell) | spread_pairs(cell >> 16) << 2) << 16 | spread_pairs(cell >> 8) |
           spread_pairs(cell >> 24) << 2;
  return spread_bits(cell) | spread_bits(cell >> 8) << 1 | spread_bits(cell >> 16) << 2 | spread_bits(cell >> 24) << 3;
}

/* Colour indices of a line's pixels, a cell more than are shown. */
static void fetch_line(const Vga *vga, const VgaScan *scan, uint8_t *pixels)
{
  const VgaLayout *layout = scan->layout;
  for (uint32_t i = 0; i <= layout->columns; i++) {
    uint32_t counter = scan->counter + i;
    if (!layout->wide_counter)
      counter &= 0xFFFF;
    uint32_t nibbles =
        shift_out(vga_load_cell(vga, vga_scan_cell(layout, counter, scan->row_scan)), layout->shift_mode);
    if (layout->eight_bit) {
      for (int shift = 24; shift >= 0; shift -= 8)
        *pixels++ = (uint8_t)(nibbles >> shift);
    } else {
      for (int shift = 28; shift >= 0; shift -= 4)
        *pixels++ = nibbles >> shift & 0xF;
    }
  }
}

static void draw_line(const Vga *vga, const VgaScan *scan, uint32_t *out)
{
  const VgaLayout *layout = scan->layout;
  uint8_t pixels[MAX_CELLS * 8];
  const uint32_t *colours = layout->eight_bit ? vga->colours : vga->colours16;
  unsigned dots_a_pixel = layout->eight_bit ? 2 : 1;
  fetch_line(vga, scan, pixels);
  const uint8_t *pixel = pixels + scan->pan / dots_a_pixel;
  unsigned repeat = dots_a_pixel * layout->dot_repeat;
  if (repeat == 1) {
    for (uint32_t x = 0; x < layout->width; x++)
      out[x] = colours[pixel[x]];
    return;
  }
  for (uint32_t x = 0; x < layout->width; pixel++)
    for (unsigned i = 0; i < repeat && x < layout->width; i++)
      out[x++] = colours[*pixel];
}

/* Was a cell of this line written? Marks stand for 1024 cells, so a look at each 128th and the last counter suffices. */
static bool line_is_marked(const Vga *vga, const VgaScan *scan)
{
  const VgaLayout *layout = scan->layout;
  uint32_t cell_mask = (uint32_t)(vga->vram_bytes / 4 - 1);
  for (uint32_t i = 0;; i += 128) {
    uint32_t counter = scan->counter + MIN(i, layout->columns);
    uint32_t cell = vga_scan_cell(layout, layout->wide_counter ? counter : counter & 0xFFFF, scan->row_scan);
    if (vga_bit(vga->marks, (cell & cell_mask) >> 10))
      return true;
    if (i >= layout->columns)
      return false;
  }
}

void vga_draw_pixels(Vga *vga, const VgaLayout *layout, VgaCanvas *canvas, bool full)
{
  VgaScan scan, above = { 0 };
  bool above_drawn = false;
  vga_scan_begin(&scan, layout, layout->start);
  for (unsigned y = 0; y < layout->height; vga_scan_next(&scan, y), y++) {
    uint32_t *line = canvas->pixels + (size_t)y * canvas->stride;
    bool same =
        y > 0 && above.counter == scan.counter && above.pan == scan.pan &&
        vga_scan_cell(layout, above.counter, above.row_scan) == vga_scan_cell(layout, scan.counter, scan.row_scan);
    bool wanted = same ? above_drawn : full || line_is_marked(vga, &scan);
    if (wanted && same)
      memcpy(line, line - canvas->stride, (size_t)layout->width * sizeof *line);
    else if (wanted)
      draw_line(vga, &scan, line);
    if (wanted)
      vga_canvas_changed(canvas, 0, (int)y, (int)layout->width, 1);
    above = scan;
    above_drawn = wanted;
  }
}

/* ---- linear -------------------------------------------------------------------------------------------------------- */

static inline uint32_t widen5(uint32_t v)
{
  return v << 3 | v >> 2;
}
static inline uint32_t widen6(uint32_t v)
{
  return v << 2 | v >> 4;
}
static inline uint32_t load16(const uint8_t *p)
{
  return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static void convert_8(const Vga *vga, const uint8_t *in, uint32_t *out, size_t n)
{
  for (size_t i = 0; i < n; i++)
    out[i] = vga->colours[in[i]];
}

static void convert_15(const Vga *vga, const uint8_t *in, uint32_t *out, size_t n)
{
  for (size_t i = 0; i < n; i++, in += 2) {
    uint32_t v = load16(in);
    out[i] = widen5(v >> 10 & 0x1F) << 16 | widen5(v >> 5 & 0x1F) << 8 | widen5(v & 0x1F);
  }
}

static void convert_16(const Vga *vga, const uint8_t *in, uint32_t *out, size_t n)
{
  for (size_t i = 0; i < n; i++, in += 2) {
    uint32_t v = load16(in);
    out[i] = widen5(v >> 11) << 16 | widen6(v >> 5 & 0x3F) << 8 | widen5(v & 0x1F);
  }
}

static void convert_24(const Vga *vga, const uint8_t *in, uint32_t *out, size_t n)
{
  for (size_t i = 0; i < n; i++, in += 3)
    out[i] = load16(in) | (uint32_t)in[2] << 16;
}

static void convert_32(const Vga *vga, const uint8_t *in, uint32_t *out, size_t n)
{
  for (size_t i = 0; i < n; i++, in += 4) {
    uint32_t v;
    memcpy(&v, in, sizeof v);
    out[i] = GUINT32_FROM_LE(v) & 0xFFFFFF;
  }
}

typedef void (*Convert)(const Vga *vga, const uint8_t *in, uint32_t *out, size_t n);

static Convert converter(unsigned bpp)
{
  switch (bpp) {
  case 8:
    return convert_8;
  case 15:
    return convert_15;
  case 16:
    return convert_16;
  case 24:
    return convert_24;
  default:
    return convert_32;
  }
}

/* `n` bytes from `offset`, which wraps at the memory's end. */
static const uint8_t *linear_bytes(Vga *vga, uint64_t offset, size_t n)
{
  if (offset + n <= vga->vram_bytes)
    return vga->vram_hva + offset;
  size_t head = (size_t)(vga->vram_bytes - offset);
  memcpy(vga->line_bounce, vga->vram_hva + offset, head);
  memcpy(vga->line_bounce + head, vga->vram_hva, n - head);
  return vga->line_bounce;
}

/* Collects the marks of the pages shown into vga->pages; bit 0 is the page that is returned. */
static uint64_t collect_linear(Vga *vga, const VgaLayout *layout, size_t line_bytes)
{
  uint64_t n_pages = vga->vram_bytes / VM_PAGE_SIZE;
  uint64_t first = layout->linear_start / VM_PAGE_SIZE;
  uint64_t last =
      (layout->linear_start + (uint64_t)layout->pitch * (layout->height - 1) + line_bytes - 1) / VM_PAGE_SIZE;
  if (last >= n_pages) {
    first = 0;
    last = n_pages - 1;
  }
  memset(vga->pages, 0, (n_pages + 63) / 64 * 8);
  vm_ram_collect_dirty(vga->vram, first, last - first + 1, vga->pages);
  return first;
}

static bool range_is_dirty(const Vga *vga, uint64_t first_page, uint64_t offset, size_t n)
{
  for (uint64_t page = offset / VM_PAGE_SIZE; page <= (offset + n - 1) / VM_PAGE_SIZE; page++)
    if (vga_bit(vga->pages, (page & (vga->vram_bytes / VM_PAGE_SIZE - 1)) - first_page))
      return true;
  return false;
}

void vga_draw_linear(Vga *vga, const VgaLayout *layout, VgaCanvas *canvas, bool full)
{
  Convert convert = converter(layout->bpp);
  size_t n = (size_t)layout->width * vbe_pixel_bytes(layout->bpp);
  uint64_t first_page = collect_linear(vga, layout, n);
  for (unsigned y = 0; y < layout->height; y++) {
    uint64_t offset = (layout->linear_start + (uint64_t)y * layout->pitch) & (vga->vram_bytes - 1);
    if (!full && !range_is_dirty(vga, first_page, offset, n))
      continue;
    convert(vga, linear_bytes(vga, offset, n), canvas->pixels + (size_t)y * canvas->stride, layout->width);
    vga_canvas_changed(canvas, 0, (int)y, (int)layout->width, 1);
  }
}
