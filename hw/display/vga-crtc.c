/*
 * The CRTC: what the registers make of the picture's geometry, its way through the memory, and where the beam is now.
 *
 * Nothing runs while no one looks: the beam's place is computed from virtual time when a guest reads input status 1.
 * Not modelled: interlace, the counter's division by two and four (CRTC mode bit 3, underline bit 5), the overscan.
 */
#include "hw/display/vga-state.h"

#include "vm-engine/vm.h"

/* The picture's size while the CRTC is not programmed: the usual text mode's. */
#define IDLE_WIDTH  720
#define IDLE_HEIGHT 400

static unsigned crtc_with_overflow(const Vga *vga, unsigned index, unsigned bit8, unsigned bit9)
{
  unsigned overflow = vga->crtc[VGA_CR_OVERFLOW];
  return vga->crtc[index] | (overflow >> bit8 & 1) << 8 | (overflow >> bit9 & 1) << 9;
}

static unsigned line_factor(const Vga *vga)
{
  return vga->crtc[VGA_CR_MODE] & 4 ? 2 : 1;
}

static bool is_text(const Vga *vga)
{
  return !(vga->ac[VGA_AC_MODE] & 1);
}

static unsigned char_dots(const Vga *vga)
{
  return vga->seq[VGA_SEQ_CLOCKING] & 1 ? 8 : 9;
}

static unsigned dot_repeat(const Vga *vga)
{
  return vga->seq[VGA_SEQ_CLOCKING] & 8 ? 2 : 1;
}

static unsigned display_columns(const Vga *vga)
{
  return vga->crtc[VGA_CR_H_DISPLAY_END] + 1u;
}

static unsigned display_lines(const Vga *vga)
{
  return (crtc_with_overflow(vga, VGA_CR_V_DISPLAY_END, 1, 6) + 1) * line_factor(vga);
}

/* Screen off, or the attribute controller's palette given to the CPU, or (without VBE) a sequencer held in reset. */
static bool is_blank(const Vga *vga)
{
  return (vga->seq[VGA_SEQ_CLOCKING] & 0x20) || !(vga->ac_index & 0x20) ||
         (!vbe_is_on(vga) && vga->seq[VGA_SEQ_RESET] != 3);
}

static unsigned pel_pan(const Vga *vga)
{
  unsigned pan = vga->ac[VGA_AC_PEL_PAN];
  if (!is_text(vga))
    return vga->ac[VGA_AC_MODE] & 0x40 ? pan & 6 : pan & 7;
  if (char_dots(vga) == 9)
    return pan < 8 ? pan + 1 : 0;
  return pan & 7;
}

/* Font positions count in steps of 16 KiB, then in the 8 KiB between them. */
static uint32_t font_base(unsigned low, unsigned high)
{
  return low * 0x4000 + high * 0x2000;
}

static void text_layout(const Vga *vga, VgaLayout *layout)
{
  unsigned fonts = vga->seq[VGA_SEQ_FONT];
  layout->kind = VGA_KIND_TEXT;
  layout->start = 0;
  layout->font_plain = font_base(fonts & 3, fonts >> 4 & 1);
  layout->font_bold = font_base(fonts >> 2 & 3, fonts >> 5 & 1);
  layout->underline_scan = vga->crtc[VGA_CR_UNDERLINE] & 0x1F;
  layout->blink = vga->ac[VGA_AC_MODE] >> 3 & 1;
  layout->line_graphics = vga->ac[VGA_AC_MODE] >> 2 & 1;
}

static void crtc_layout(const Vga *vga, VgaLayout *layout)
{
  const uint8_t *crtc = vga->crtc;
  layout->kind = VGA_KIND_PIXELS;
  layout->columns = display_columns(vga);
  layout->char_dots = is_text(vga) ? char_dots(vga) : 8;
  layout->dot_repeat = dot_repeat(vga);
  layout->width = layout->columns * layout->char_dots * layout->dot_repeat;
  layout->height = display_lines(vga);
  layout->start = vga_get_start(vga);
  layout->row_counters = crtc[VGA_CR_OFFSET] * 2u;
  layout->line_compare =
      crtc[VGA_CR_LINE_COMPARE] | (crtc[VGA_CR_OVERFLOW] >> 4 & 1) << 8 | (crtc[VGA_CR_MAX_SCAN] >> 6 & 1) << 9;
  layout->max_scan = crtc[VGA_CR_MAX_SCAN] & 0x1F;
  layout->preset_scan = crtc[VGA_CR_PRESET_ROW] & 0x1F;
  layout->double_scan = crtc[VGA_CR_MAX_SCAN] >> 7;
  layout->pan = pel_pan(vga);
  layout->pan_stops = vga->ac[VGA_AC_MODE] >> 5 & 1;
  layout->byte_mode = crtc[VGA_CR_MODE] >> 6 & 1;
  layout->word_wrap_bit = crtc[VGA_CR_MODE] & 0x20 ? 15 : 13;
  layout->dword_mode = crtc[VGA_CR_UNDERLINE] >> 6 & 1;
  layout->row_to_bit13 = !(crtc[VGA_CR_MODE] & 1);
  layout->row_to_bit14 = !(crtc[VGA_CR_MODE] & 2);
  layout->shift_mode = vga->gc[VGA_GC_MODE] >> 5 & 3;
  layout->eight_bit = vga->ac[VGA_AC_MODE] >> 6 & 1;
  if (is_text(vga))
    text_layout(vga, layout);
}

static void vbe_layout(const Vga *vga, VgaLayout *layout)
{
  const uint16_t *vbe = vga->vbe;
  layout->width = vbe[VBE_XRES];
  layout->height = vbe[VBE_YRES];
  layout->bpp = vbe[VBE_BPP];
  if (vbe_is_linear(vga)) {
    unsigned bytes = vbe_pixel_bytes(layout->bpp);
    layout->kind = VGA_KIND_LINEAR;
    layout->pitch = vbe[VBE_VIRT_WIDTH] * bytes;
    layout->linear_start = vbe[VBE_Y_OFFSET] * layout->pitch + vbe[VBE_X_OFFSET] * bytes;
    return;
  }
  layout->kind = VGA_KIND_PIXELS;
  layout->columns = (layout->width + 7) / 8;
  layout->char_dots = 8;
  layout->dot_repeat = 1;
  layout->row_counters = vbe[VBE_VIRT_WIDTH] / 8;
  layout->start = vbe[VBE_Y_OFFSET] * layout->row_counters + vbe[VBE_X_OFFSET] / 8;
  layout->pan = vbe[VBE_X_OFFSET] & 7;
  layout->line_compare = UINT32_MAX;
  layout->wide_counter = 1;
}

void vga_get_layout(const Vga *vga, VgaLayout *layout)
{
  memset(layout, 0, sizeof *layout);
  if (vbe_is_on(vga))
    vbe_layout(vga, layout);
  else
    crtc_layout(vga, layout);
  if (!is_blank(vga))
    return;
  bool idle = !vbe_is_on(vga) && vga->crtc[VGA_CR_V_DISPLAY_END] == 0;
  *layout = (VgaLayout){ .kind = VGA_KIND_BLANK,
                         .width = idle ? IDLE_WIDTH : layout->width,
                         .height = idle ? IDLE_HEIGHT : layout->height };
}

uint32_t vga_get_start(const Vga *vga)
{
  return ((uint32_t)vga->crtc[VGA_CR_START_HIGH] << 8 | vga->crtc[VGA_CR_START_LOW]) +
         (vga->crtc[VGA_CR_PRESET_ROW] >> 5 & 3);
}

/* ---- the way down the picture ------------------------------------------------------------------------------------- */

static void scan_set_row(VgaScan *scan, uint32_t counter)
{
  scan->row_counter = counter;
  scan->counter = scan->layout->wide_counter ? counter : counter & 0xFFFF;
}

void vga_scan_begin(VgaScan *scan, const VgaLayout *layout, uint32_t start)
{
  *scan = (VgaScan){ .layout = layout, .row_scan = layout->preset_scan, .pan = layout->pan };
  scan_set_row(scan, start);
}

bool vga_scan_next(VgaScan *scan, unsigned y)
{
  const VgaLayout *layout = scan->layout;
  if (y == layout->line_compare) {
    scan_set_row(scan, 0);
    scan->row_scan = scan->repeat = 0;
    if (layout->pan_stops)
      scan->pan = 0;
    return true;
  }
  if (layout->double_scan && scan->repeat == 0) {
    scan->repeat = 1;
    return false;
  }
  scan->repeat = 0;
  if (scan->row_scan != layout->max_scan) {
    scan->row_scan = (scan->row_scan + 1) & 0x1F;
    return false;
  }
  scan->row_scan = 0;
  scan_set_row(scan, scan->row_counter + layout->row_counters);
  return true;
}

/* ---- the beam ----------------------------------------------------------------------------------------------------- */

typedef struct Timing {
  uint32_t clock_hz;
  uint32_t line_dots, shown_dots;
  uint32_t total_lines, shown_lines;
  uint32_t retrace_line, retrace_lines;
} Timing;

/* A monitor at 60 Hz with blanking in the usual proportion: the VBE registers say nothing about it. */
static Timing vbe_timing(const Vga *vga)
{
  Timing t = { .shown_dots = vga->vbe[VBE_XRES], .shown_lines = vga->vbe[VBE_YRES], .retrace_lines = 4 };
  t.line_dots = t.shown_dots + t.shown_dots / 4 + 8;
  t.total_lines = t.shown_lines + t.shown_lines / 16 + 8;
  t.retrace_line = t.shown_lines + 2;
  t.clock_hz = t.line_dots * t.total_lines * 60;
  return t;
}

static Timing crtc_timing(const Vga *vga)
{
  static const uint32_t clocks_hz[4] = { 25175000, 28322000, 28322000, 28322000 };
  uint32_t dots = char_dots(vga) * dot_repeat(vga), factor = line_factor(vga);
  Timing t = {
    .clock_hz = clocks_hz[vga->misc >> 2 & 3],
    .line_dots = (vga->crtc[VGA_CR_H_TOTAL] + 5) * dots,
    .shown_dots = display_columns(vga) * dots,
    .total_lines = (crtc_with_overflow(vga, VGA_CR_V_TOTAL, 0, 5) + 2) * factor,
    .shown_lines = display_lines(vga),
    .retrace_line = crtc_with_overflow(vga, VGA_CR_V_RETRACE_START, 2, 7) * factor,
  };
  t.retrace_lines = (vga->crtc[VGA_CR_V_RETRACE_END] - vga->crtc[VGA_CR_V_RETRACE_START]) & 0xF;
  if (t.retrace_lines == 0)
    t.retrace_lines = 16;
  t.retrace_lines *= factor;
  /* With a start beyond the end a real card never retraces, and a guest that polls for it never comes back. */
  t.retrace_line = MIN(t.retrace_line, t.total_lines - 1);
  return t;
}

static Timing get_timing(const Vga *vga)
{
  return vbe_is_on(vga) ? vbe_timing(vga) : crtc_timing(vga);
}

static uint64_t dots_of(const Timing *t, int64_t ns)
{
  return vm_muldiv64((uint64_t)ns, t->clock_hz, VM_NS_PER_SEC);
}

static int64_t now_ns(const Vga *vga)
{
  return vm_clock_get_ns(vm_get_clock(vga->pci.dev.vm));
}

uint64_t vga_get_frame_count(const Vga *vga)
{
  Timing t = get_timing(vga);
  return dots_of(&t, now_ns(vga)) / ((uint64_t)t.line_dots * t.total_lines);
}

/* A retrace lasts 64 µs or so, and a translated or descheduled guest may poll less often than that. So one that came and
 * went between two polls of a loop is told at the second, and a guest that waits for it does not lose a frame. */
static bool retrace_was_missed(const Timing *t, uint64_t frame_dots, uint64_t dots_since_start, int64_t gap_ns)
{
  uint64_t gap_dots = gap_ns > 0 ? dots_of(t, gap_ns) : 0;
  return gap_dots < frame_dots / 2 && dots_since_start < gap_dots;
}

uint8_t vga_read_status1(Vga *vga)
{
  Timing t = get_timing(vga);
  int64_t now = now_ns(vga), gap_ns = now - vga->last_poll_ns;
  vga->last_poll_ns = now;
  uint64_t frame_dots = (uint64_t)t.line_dots * t.total_lines;
  uint64_t place = dots_of(&t, now) % frame_dots;
  uint64_t since_start = (place + frame_dots - (uint64_t)t.retrace_line * t.line_dots) % frame_dots;
  uint64_t line = place / t.line_dots, dot = place % t.line_dots;
  bool retrace =
      since_start < (uint64_t)t.retrace_lines * t.line_dots || retrace_was_missed(&t, frame_dots, since_start, gap_ns);
  bool hidden = retrace || line >= t.shown_lines || dot >= t.shown_dots;
  return (uint8_t)((hidden ? 1 : 0) | (retrace ? 8 : 0));
}
