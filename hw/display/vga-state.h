/*
 * The VGA card's state, for its own files only.
 *
 * Video memory. The IBM VGA has four planes of 64 Ki bytes; what stands at one address of all four is a cell of 32 bits
 * that is fetched and latched as one. A cell is stored as four adjacent bytes, plane 0 first. In chain-4 mode the
 * hardware takes address bits 0 and 1 as the plane and leaves the cell address a multiple of four, so that
 * cells are stored rotated: cell c at index (c >> 2 | (c & 3) << 14) of its group of 64 Ki. Then chain-4 memory is
 * linear in the block, and can be mapped for the guest as plain memory, while the planes keep the real thing's
 * addresses in every other mode. The VBE modes of 8 bits and more a pixel are linear anyway.
 *
 * Drawing happens on request. What the picture depends on is derived from the registers into a VgaLayout; if it equals
 * the last one drawn, only lines whose memory was written (graphics) or cells that differ (text) are drawn again.
 */
#ifndef HW_DISPLAY_VGA_STATE_H
#define HW_DISPLAY_VGA_STATE_H

#include "hw/display/vga.h"
#include "hw/pci/pci.h"
#include "vm-engine/display.h"

enum { VGA_SEQ_RESET, VGA_SEQ_CLOCKING, VGA_SEQ_MAP_MASK, VGA_SEQ_FONT, VGA_SEQ_MEMORY, VGA_N_SEQ };

enum {
  VGA_GC_SET_RESET,
  VGA_GC_ENABLE_SET_RESET,
  VGA_GC_COMPARE,
  VGA_GC_ROTATE,
  VGA_GC_READ_MAP,
  VGA_GC_MODE,
  VGA_GC_MISC,
  VGA_GC_DONT_CARE,
  VGA_GC_BIT_MASK,
  VGA_N_GC
};

enum {
  VGA_CR_H_TOTAL = 0x00,
  VGA_CR_H_DISPLAY_END = 0x01,
  VGA_CR_V_TOTAL = 0x06,
  VGA_CR_OVERFLOW = 0x07,
  VGA_CR_PRESET_ROW = 0x08,
  VGA_CR_MAX_SCAN = 0x09,
  VGA_CR_CURSOR_START = 0x0A,
  VGA_CR_CURSOR_END = 0x0B,
  VGA_CR_START_HIGH = 0x0C,
  VGA_CR_START_LOW = 0x0D,
  VGA_CR_CURSOR_HIGH = 0x0E,
  VGA_CR_CURSOR_LOW = 0x0F,
  VGA_CR_V_RETRACE_START = 0x10,
  VGA_CR_V_RETRACE_END = 0x11,
  VGA_CR_V_DISPLAY_END = 0x12,
  VGA_CR_OFFSET = 0x13,
  VGA_CR_UNDERLINE = 0x14,
  VGA_CR_MODE = 0x17,
  VGA_CR_LINE_COMPARE = 0x18,
  VGA_N_CR = 0x19
};

enum { VGA_AC_MODE = 0x10, VGA_AC_OVERSCAN, VGA_AC_PLANE_ENABLE, VGA_AC_PEL_PAN, VGA_AC_COLOUR_SELECT, VGA_N_AC };

/* Registers of the Bochs VBE extensions (DISPI), by index. */
enum {
  VBE_ID,
  VBE_XRES,
  VBE_YRES,
  VBE_BPP,
  VBE_ENABLE,
  VBE_BANK,
  VBE_VIRT_WIDTH,
  VBE_VIRT_HEIGHT,
  VBE_X_OFFSET,
  VBE_Y_OFFSET,
  VBE_MEMORY_64K,
  VBE_N_REGS
};

enum { VBE_ENABLED = 0x01, VBE_GETCAPS = 0x02, VBE_8BIT_DAC = 0x20, VBE_LFB = 0x40, VBE_NOCLEARMEM = 0x80 };

#define VBE_ID_OLDEST  0xB0C0
#define VBE_ID_NEWEST  0xB0C5
#define VBE_MAX_XRES   4096
#define VBE_MAX_YRES   4096
#define VBE_MAX_BPP    32
#define VGA_BANK_BYTES 0x10000u

#define VGA_MAX_COLUMNS 256
#define VGA_EDID_BYTES  128

typedef enum VgaKind {
  VGA_KIND_BLANK,
  VGA_KIND_TEXT,
  VGA_KIND_PIXELS, /* fetched cell by cell by the CRTC: planar, CGA, mode 13h, mode X, VBE's 4 bpp */
  VGA_KIND_LINEAR  /* VBE, 8 bpp and more */
} VgaKind;

/* What the picture depends on, besides memory, colours and (in text) start address, cursor and time. Compared as bytes,
 * so every member is a uint32_t and there is no padding. */
typedef struct VgaLayout {
  uint32_t kind;
  uint32_t width, height; /* of the picture, in dots and scan lines */
  /* cell by cell */
  uint32_t columns;      /* characters, or groups of eight dots, in a line */
  uint32_t char_dots;    /* 8 or 9 */
  uint32_t dot_repeat;   /* 1, or 2 with the halved dot clock */
  uint32_t start;        /* CRTC address counter at the top; 0 in text */
  uint32_t row_counters; /* counters from a row to the next */
  uint32_t line_compare; /* the last scan line above the split */
  uint32_t max_scan;     /* last scan line of a row */
  uint32_t preset_scan;  /* first scan line of the top row */
  uint32_t double_scan;  /* 1: each scan line twice */
  uint32_t pan;          /* dots to the left */
  uint32_t pan_stops;    /* 1: no panning below the split */
  uint32_t byte_mode, word_wrap_bit, dword_mode, row_to_bit13, row_to_bit14;
  uint32_t wide_counter; /* 1: VBE's 4 bpp, addresses above 64 Ki cells count */
  uint32_t shift_mode;   /* graphics controller: 0 planes, 1 interleaved, 2 or 3 bytes */
  uint32_t eight_bit;    /* attribute controller: pairs of nibbles are pixels */
  /* text */
  uint32_t font_bold, font_plain; /* cell addresses of the fonts for attribute bit 3 set and clear */
  uint32_t underline_scan;
  uint32_t blink;
  uint32_t line_graphics;
  /* linear */
  uint32_t bpp;
  uint32_t pitch;        /* bytes */
  uint32_t linear_start; /* byte of the first pixel */
} VgaLayout;

typedef struct Vga {
  PciDevice pci;

  /* Wiring and host side. */
  VmMemory *memory;
  VmDisplay *display;
  VmRam *vram;
  uint8_t *vram_hva;
  uint64_t vram_bytes; /* a power of two */
  VmRegion *window;    /* 0xA0000–0xBFFFF as registers */
  VmRegion *linear;    /* 0xA0000–0xAFFFF as memory, over the former; NULL while not in use */
  uint64_t linear_bank;
  uint8_t edid[VGA_EDID_BYTES];

  /* Registers. */
  uint8_t misc;
  uint8_t feature;
  uint8_t subsystem_enable;
  uint8_t seq_index;
  uint8_t seq[VGA_N_SEQ];
  uint8_t gc_index;
  uint8_t gc[VGA_N_GC];
  uint8_t crtc_index;
  uint8_t crtc[VGA_N_CR];
  uint8_t ac_index; /* with the palette address source bit 0x20 */
  bool ac_expects_data;
  uint8_t ac[VGA_N_AC];
  uint8_t dac_mask;
  uint8_t dac_reading;
  uint8_t dac_read_index;
  uint8_t dac_write_index;
  uint8_t dac_component;
  uint8_t dac_pending[3];
  uint8_t dac[256 * 3]; /* 6 bits each, or 8 with VBE's 8-bit DAC */
  uint32_t latch;
  uint16_t vbe_index;
  uint8_t vbe_data_low; /* written, waits for its upper half */
  uint16_t vbe[VBE_N_REGS];
  int64_t last_poll_ns; /* when input status 1 was last read */

  /* The picture as last drawn. */
  bool drawn;
  bool font_written;
  VgaLayout layout;
  uint32_t colours[256]; /* DAC colours of the 256 indices, mask applied */
  uint32_t colours16[16];
  uint32_t *text_shadow;
  size_t text_shadow_cells;
  unsigned long *marks; /* a bit for each 1024 cells written through the window, by cell address */
  unsigned long *pages; /* a bit for each page of the block, as collected */
  uint8_t *line_bounce; /* for a line that wraps around the end of the memory */
} Vga;

/* A rectangle of the back buffer being drawn. */
typedef struct VgaCanvas {
  uint32_t *pixels;
  unsigned stride;
  int left, top, right, bottom; /* what has changed so far; empty while right <= left */
} VgaCanvas;

static inline void vga_canvas_changed(VgaCanvas *canvas, int x, int y, int width, int height)
{
  if (canvas->right <= canvas->left)
    *canvas = (VgaCanvas){ canvas->pixels, canvas->stride, x, y, x + width, y + height };
  canvas->left = MIN(canvas->left, x);
  canvas->top = MIN(canvas->top, y);
  canvas->right = MAX(canvas->right, x + width);
  canvas->bottom = MAX(canvas->bottom, y + height);
}

/* ---- video memory ------------------------------------------------------------------------------------------------ */

/* Byte offset of a cell in the block, whatever the address. */
static inline uint64_t vga_cell_offset(const Vga *vga, uint32_t cell)
{
  uint64_t index = (uint64_t)(cell & ~0xFFFFu) | (cell >> 2 & 0x3FFFu) | (cell & 3u) << 14;
  return index * 4 & (vga->vram_bytes - 1);
}

/* All four planes of a cell, plane 0 in the low byte. */
static inline uint32_t vga_load_cell(const Vga *vga, uint32_t cell)
{
  uint32_t word;
  memcpy(&word, vga->vram_hva + vga_cell_offset(vga, cell), sizeof word);
  return GUINT32_FROM_LE(word);
}

static inline void vga_store_cell(Vga *vga, uint32_t cell, uint32_t planes)
{
  uint32_t word = GUINT32_TO_LE(planes);
  memcpy(vga->vram_hva + vga_cell_offset(vga, cell), &word, sizeof word);
}

static inline bool vga_bit(const unsigned long *bitmap, uint64_t bit)
{
  return (bitmap[bit / (8 * sizeof(long))] >> bit % (8 * sizeof(long)) & 1) != 0;
}

static inline void vga_set_bit(unsigned long *bitmap, uint64_t bit)
{
  bitmap[bit / (8 * sizeof(long))] |= 1ul << bit % (8 * sizeof(long));
}

extern const VmMmioOps vga_window_ops;
/* Maps the window as memory where the registers make it plain, as registers otherwise. After any change of them. */
void vga_update_window(Vga *vga);

/* ---- registers --------------------------------------------------------------------------------------------------- */

/* `port` is 0x3B0–0x3DF. */
uint8_t vga_port_read(Vga *vga, unsigned port);
void vga_port_write(Vga *vga, unsigned port, uint8_t value);
/* Claims the ports; at set-up. */
void vga_ports_map(Vga *vga);
/* All registers to their power-on values. */
void vga_registers_reset(Vga *vga);

uint16_t vbe_read(Vga *vga, unsigned index);
void vbe_write(Vga *vga, unsigned index, uint16_t value);
void vbe_reset(Vga *vga);
/* Could this state have come from vbe_write()? For loading. */
bool vbe_is_valid(const Vga *vga);
static inline bool vbe_is_on(const Vga *vga)
{
  return (vga->vbe[VBE_ENABLE] & VBE_ENABLED) != 0;
}
static inline bool vbe_is_linear(const Vga *vga)
{
  return vbe_is_on(vga) && vga->vbe[VBE_BPP] >= 8;
}
/* Bytes a pixel of a linear mode. */
static inline unsigned vbe_pixel_bytes(unsigned bpp)
{
  return (bpp + 7) / 8;
}

/* ---- timing and geometry (vga-crtc.c) ------------------------------------------------------------------------------ */

void vga_get_layout(const Vga *vga, VgaLayout *layout);
/* Start of the picture in the CRTC's counter, byte panning included. */
uint32_t vga_get_start(const Vga *vga);
/* Input status 1 (0x3DA): bit 0 display disabled, bit 3 vertical retrace, as of now. */
uint8_t vga_read_status1(Vga *vga);
/* How many frames have been shown: for blinking. */
uint64_t vga_get_frame_count(const Vga *vga);

/* The CRTC's way down the picture, one scan line at a time. */
typedef struct VgaScan {
  const VgaLayout *layout;
  uint32_t counter;
  uint32_t row_counter; /* of the row's start, without wrap */
  unsigned row_scan;
  unsigned repeat; /* 1: the second showing of a doubled line */
  unsigned pan;
} VgaScan;

void vga_scan_begin(VgaScan *scan, const VgaLayout *layout, uint32_t start);
/* From scan line `y` to the next; true if a new row, or the split, begins there. */
bool vga_scan_next(VgaScan *scan, unsigned y);
/* The cell that the CRTC fetches at `counter` in scan line `row_scan` of a row. */
static inline uint32_t vga_scan_cell(const VgaLayout *layout, uint32_t counter, unsigned row_scan)
{
  uint32_t cell;
  if (layout->wide_counter)
    return counter;
  if (layout->dword_mode)
    cell = counter << 2 | (counter >> 14 & 3);
  else if (!layout->byte_mode)
    cell = counter << 1 | (counter >> layout->word_wrap_bit & 1);
  else
    cell = counter;
  if (layout->row_to_bit13)
    cell = (cell & ~(1u << 13)) | (row_scan & 1) << 13;
  if (layout->row_to_bit14)
    cell = (cell & ~(1u << 14)) | (row_scan >> 1 & 1) << 14;
  return cell & 0xFFFF;
}

/* ---- drawing ------------------------------------------------------------------------------------------------------- */

extern const VmDeviceType vga_type; /* for the tests too */
extern const VmDisplayCardOps vga_card_ops;
void vga_draw_text(Vga *vga, const VgaLayout *layout, VgaCanvas *canvas, bool full);
void vga_draw_pixels(Vga *vga, const VgaLayout *layout, VgaCanvas *canvas, bool full);
void vga_draw_linear(Vga *vga, const VgaLayout *layout, VgaCanvas *canvas, bool full);
/* Owned text. */
char *vga_dup_text(const Vga *vga, const VgaLayout *layout);

/* Fills the base block that describes the monitor. */
void vga_edid_fill(uint8_t edid[VGA_EDID_BYTES]);

#endif
