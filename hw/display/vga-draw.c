/*
 * An update of the picture: what changed since the last one is found and drawn into the display's back buffer.
 */
#include "hw/display/vga-state.h"

#include "vm-engine/vm.h"

/* The IBM VGA's 256 KiB, which everything but the linear modes uses. */
#define PLANES_BYTES UINT64_C(0x40000)

static size_t bitmap_longs(uint64_t bits)
{
  return (bits + 8 * sizeof(long) - 1) / (8 * sizeof(long));
}

/* 6-bit components reach full brightness, hence the upper bits again below. */
static uint32_t dac_colour(const Vga *vga, unsigned index)
{
  const uint8_t *rgb = vga->dac + 3 * (index & 0xFF);
  bool wide = (vga->vbe[VBE_ENABLE] & VBE_8BIT_DAC) != 0;
  uint32_t colour = 0;
  for (unsigned i = 0; i < 3; i++)
    colour = colour << 8 | (wide ? rgb[i] : (uint8_t)(rgb[i] << 2 | (rgb[i] >> 4 & 3)));
  return colour;
}

/* The attribute controller's way from a nibble to a DAC index. */
static unsigned dac_index_of_nibble(const Vga *vga, unsigned nibble)
{
  unsigned index = vga->ac[nibble & vga->ac[VGA_AC_PLANE_ENABLE] & 0xF] & 0x3F;
  unsigned select = vga->ac[VGA_AC_COLOUR_SELECT];
  if (vga->ac[VGA_AC_MODE] & 0x80)
    index = (index & 0x0F) | (select & 3) << 4;
  return index | (select & 0xC) << 4;
}

/* Returns whether a colour changed. */
static bool update_colours(Vga *vga)
{
  uint32_t colours[256], colours16[16];
  for (unsigned i = 0; i < 256; i++)
    colours[i] = dac_colour(vga, i & vga->dac_mask);
  for (unsigned i = 0; i < 16; i++)
    colours16[i] = colours[dac_index_of_nibble(vga, i)];
  if (memcmp(colours, vga->colours, sizeof colours) == 0 && memcmp(colours16, vga->colours16, sizeof colours16) == 0)
    return false;
  memcpy(vga->colours, colours, sizeof colours);
  memcpy(vga->colours16, colours16, sizeof colours16);
  return true;
}

/* Pages that the guest wrote as plain memory, told by the planes' marks. Returns whether only a full drawing will do. */
static bool collect_planes(Vga *vga, const VgaLayout *layout)
{
  uint64_t n = MIN(vga->vram_bytes, PLANES_BYTES) / VM_PAGE_SIZE;
  memset(vga->pages, 0, bitmap_longs(n) * sizeof(long));
  if (!vm_ram_collect_dirty(vga->vram, 0, n, vga->pages))
    return false;
  /* The first 64 KiB are chain-4's cells, of which a page holds 4096 addresses' worth: four marks. */
  bool beyond = false;
  for (uint64_t page = 0; page < n; page++) {
    if (!vga_bit(vga->pages, page))
      continue;
    beyond |= page >= VGA_BANK_BYTES / VM_PAGE_SIZE;
    for (uint64_t i = 0; i < 4 && !beyond; i++)
      vga_set_bit(vga->marks, page * 4 + i);
  }
  return beyond || layout->kind == VGA_KIND_TEXT;
}

static void draw_blank(const VgaLayout *layout, VgaCanvas *canvas, bool full)
{
  if (!full)
    return;
  for (unsigned y = 0; y < layout->height; y++)
    memset(canvas->pixels + (size_t)y * canvas->stride, 0, (size_t)layout->width * sizeof(uint32_t));
  vga_canvas_changed(canvas, 0, 0, (int)layout->width, (int)layout->height);
}

static void draw(Vga *vga, const VgaLayout *layout, VgaCanvas *canvas, bool full)
{
  switch ((VgaKind)layout->kind) {
  case VGA_KIND_TEXT:
    vga_draw_text(vga, layout, canvas, full);
    break;
  case VGA_KIND_PIXELS:
    vga_draw_pixels(vga, layout, canvas, full);
    break;
  case VGA_KIND_LINEAR:
    vga_draw_linear(vga, layout, canvas, full);
    break;
  default:
    draw_blank(layout, canvas, full);
    break;
  }
}

static void vga_update(void *card, bool full)
{
  Vga *vga = card;
  VgaLayout layout;
  VgaCanvas canvas = { 0 };
  bool is_new;
  vga_get_layout(vga, &layout);
  if (update_colours(vga) || !vga->drawn || memcmp(&layout, &vga->layout, sizeof layout) != 0)
    full = true;
  if (layout.kind != VGA_KIND_LINEAR && collect_planes(vga, &layout))
    full = true;
  canvas.pixels = vm_display_begin(vga->display, layout.width, layout.height, &canvas.stride, &is_new);
  draw(vga, &layout, &canvas, full || is_new);
  memset(vga->marks, 0, bitmap_longs(vga->vram_bytes / VM_PAGE_SIZE) * sizeof(long));
  vga->layout = layout;
  vga->drawn = true;
  VmRect changed = { canvas.left, canvas.top, canvas.right - canvas.left, canvas.bottom - canvas.top };
  vm_display_publish(vga->display, &changed);
}

static char *vga_card_dup_text(void *card)
{
  const Vga *vga = card;
  VgaLayout layout;
  vga_get_layout(vga, &layout);
  return layout.kind == VGA_KIND_TEXT ? vga_dup_text(vga, &layout) : NULL;
}

const VmDisplayCardOps vga_card_ops = { .update = vga_update, .dup_text = vga_card_dup_text };
