/*
 * The Bochs VBE extensions ("DISPI", versions B0C0 to B0C5): an index and a data register of 16 bits that set up linear
 * modes and one planar, 4 bpp mode of any size. As documented in Bochs' "VBE display API" (vbe_display_api.txt).
 *
 * Invariants while a mode is on: VIRT_WIDTH >= XRES, the picture's YRES lines of VIRT_WIDTH pixels fit in the memory,
 * and so do the lines from Y_OFFSET on. Values that would break them are clamped (sizes) or ignored (offsets).
 */
#include "hw/display/vga-state.h"

/* Bytes from a line to the next, in all planes together. */
static uint64_t line_bytes(const Vga *vga)
{
  unsigned bpp = vga->vbe[VBE_BPP];
  return bpp == 4 ? vga->vbe[VBE_VIRT_WIDTH] / 8u * 4u : (uint64_t)vga->vbe[VBE_VIRT_WIDTH] * vbe_pixel_bytes(bpp);
}

static bool bpp_is_known(unsigned bpp)
{
  return bpp == 4 || bpp == 8 || bpp == 15 || bpp == 16 || bpp == 24 || bpp == 32;
}

static void set_virt_width(Vga *vga, unsigned width)
{
  unsigned bpp = vga->vbe[VBE_BPP];
  uint64_t pixels = bpp == 4 ? vga->vram_bytes * 2 : vga->vram_bytes / vbe_pixel_bytes(bpp);
  uint64_t most = MIN(pixels / vga->vbe[VBE_YRES], 0xFFFFu);
  uint64_t clamped = MAX((uint64_t)vga->vbe[VBE_XRES], MIN(width, most));
  if (bpp == 4)
    clamped = MIN((clamped + 7) & ~UINT64_C(7), most & ~UINT64_C(7));
  vga->vbe[VBE_VIRT_WIDTH] = (uint16_t)clamped;
  vga->vbe[VBE_VIRT_HEIGHT] = (uint16_t)MIN(vga->vram_bytes / line_bytes(vga), 0xFFFFu);
}

static bool offsets_fit(const Vga *vga)
{
  return vga->vbe[VBE_X_OFFSET] < vga->vbe[VBE_VIRT_WIDTH] &&
         (unsigned)vga->vbe[VBE_Y_OFFSET] + vga->vbe[VBE_YRES] <= vga->vbe[VBE_VIRT_HEIGHT];
}

static void switch_on(Vga *vga, bool clear)
{
  unsigned bpp = vga->vbe[VBE_BPP];
  uint64_t xres_bytes =
      bpp == 4 ? (vga->vbe[VBE_XRES] + 7u) / 8 * 4 : (uint64_t)vga->vbe[VBE_XRES] * vbe_pixel_bytes(bpp);
  vga->vbe[VBE_YRES] = (uint16_t)MIN(vga->vbe[VBE_YRES], vga->vram_bytes / xres_bytes);
  vga->vbe[VBE_BANK] = 0;
  vga->vbe[VBE_X_OFFSET] = vga->vbe[VBE_Y_OFFSET] = 0;
  set_virt_width(vga, vga->vbe[VBE_XRES]);
  /* Planes are spread over their whole 64 Ki cells. */
  if (clear)
    memset(vga->vram_hva, 0, bpp == 4 ? MIN(vga->vram_bytes, 512u * 1024) : line_bytes(vga) * vga->vbe[VBE_YRES]);
  vga->drawn = false;
}

/* The DAC's 6 bits become the upper ones of 8, and back. */
static void set_dac_width(Vga *vga, bool wide)
{
  for (size_t i = 0; i < sizeof vga->dac; i++)
    vga->dac[i] = wide ? (uint8_t)(vga->dac[i] << 2 | vga->dac[i] >> 4) : vga->dac[i] >> 2;
}

static void write_enable(Vga *vga, uint16_t value)
{
  uint16_t old = vga->vbe[VBE_ENABLE];
  vga->vbe[VBE_ENABLE] = value & (VBE_ENABLED | VBE_GETCAPS | VBE_8BIT_DAC | VBE_LFB | VBE_NOCLEARMEM);
  if ((old ^ value) & VBE_8BIT_DAC)
    set_dac_width(vga, (value & VBE_8BIT_DAC) != 0);
  if ((value & VBE_ENABLED) && !(old & VBE_ENABLED))
    switch_on(vga, !(value & VBE_NOCLEARMEM));
}

/* Size and depth are fixed while a mode is on; what no mode can have is ignored. */
static void write_size(Vga *vga, unsigned index, uint16_t value)
{
  bool good = index == VBE_XRES   ? value >= 1 && value <= VBE_MAX_XRES
              : index == VBE_YRES ? value >= 1 && value <= VBE_MAX_YRES
                                  : bpp_is_known(value);
  if (index == VBE_BPP && value == 0) {
    value = 8; /* the API's way to ask for the default */
    good = true;
  }
  if (good && !vbe_is_on(vga))
    vga->vbe[index] = value;
  else if (!good)
    vm_device_log(&vga->pci.dev, "VBE register %u cannot be %u", index, value);
}

static void write_offset(Vga *vga, unsigned index, uint16_t value)
{
  uint16_t old = vga->vbe[index];
  vga->vbe[index] = value;
  if (offsets_fit(vga))
    return;
  vga->vbe[index] = old;
  vm_device_log(&vga->pci.dev, "VBE offset %u would leave the video memory", value);
}

uint16_t vbe_read(Vga *vga, unsigned index)
{
  if (index >= VBE_N_REGS)
    return 0;
  if (vga->vbe[VBE_ENABLE] & VBE_GETCAPS) {
    if (index == VBE_XRES)
      return VBE_MAX_XRES;
    if (index == VBE_YRES)
      return VBE_MAX_YRES;
    if (index == VBE_BPP)
      return VBE_MAX_BPP;
  }
  if (index == VBE_MEMORY_64K)
    return (uint16_t)(vga->vram_bytes / VGA_BANK_BYTES);
  return vga->vbe[index];
}

void vbe_write(Vga *vga, unsigned index, uint16_t value)
{
  switch (index) {
  case VBE_ID:
    if (value >= VBE_ID_OLDEST && value <= VBE_ID_NEWEST)
      vga->vbe[VBE_ID] = value;
    break;
  case VBE_XRES:
  case VBE_YRES:
  case VBE_BPP:
    write_size(vga, index, value);
    break;
  case VBE_ENABLE:
    write_enable(vga, value);
    vga_update_window(vga);
    break;
  case VBE_BANK:
    vga->vbe[VBE_BANK] = value & (uint16_t)(vga->vram_bytes / VGA_BANK_BYTES - 1);
    vga_update_window(vga);
    break;
  case VBE_VIRT_WIDTH:
    if (!vbe_is_on(vga))
      break;
    set_virt_width(vga, value);
    if (!offsets_fit(vga))
      vga->vbe[VBE_X_OFFSET] = vga->vbe[VBE_Y_OFFSET] = 0;
    break;
  case VBE_X_OFFSET:
  case VBE_Y_OFFSET:
    if (vbe_is_on(vga))
      write_offset(vga, index, value);
    break;
  default: /* VIRT_HEIGHT follows from the width and the memory */
    break;
  }
}

void vbe_reset(Vga *vga)
{
  memset(vga->vbe, 0, sizeof vga->vbe);
  vga->vbe_index = 0;
  vga->vbe_data_low = 0;
  vga->vbe[VBE_ID] = VBE_ID_NEWEST;
  vga->vbe[VBE_XRES] = vga->vbe[VBE_VIRT_WIDTH] = 640;
  vga->vbe[VBE_YRES] = 480;
  vga->vbe[VBE_BPP] = 8;
  vga->vbe[VBE_VIRT_HEIGHT] = (uint16_t)MIN(vga->vram_bytes / 640, 0xFFFFu);
}

bool vbe_is_valid(const Vga *vga)
{
  const uint16_t *vbe = vga->vbe;
  if (vbe[VBE_XRES] < 1 || vbe[VBE_XRES] > VBE_MAX_XRES || vbe[VBE_YRES] < 1 || vbe[VBE_YRES] > VBE_MAX_YRES)
    return false;
  if (!bpp_is_known(vbe[VBE_BPP]) || vbe[VBE_BANK] >= vga->vram_bytes / VGA_BANK_BYTES)
    return false;
  if (!vbe_is_on(vga))
    return true;
  return vbe[VBE_VIRT_WIDTH] >= 8 && line_bytes(vga) * vbe[VBE_YRES] <= vga->vram_bytes && offsets_fit(vga) &&
         vbe[VBE_VIRT_HEIGHT] == MIN(vga->vram_bytes / line_bytes(vga), 0xFFFFu);
}
