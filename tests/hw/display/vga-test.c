/*
 * The rig of the VGA's tests.
 */
#include "tests/hw/display/vga-test.h"

#define SAME_PALETTE 0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x0E, 0x0F

const ModeSet mode_text = {
  .misc = 0x67,
  .seq = { 0x03, 0x00, 0x03, 0x00, 0x02 },
  .crtc = { 0x5F, 0x4F, 0x50, 0x82, 0x55, 0x81, 0xBF, 0x1F, 0x00, 0x4F, 0x2D, 0x0E, 0x00,
            0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x1F, 0x96, 0xB9, 0xA3, 0xFF },
  .gc = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x0E, 0x00, 0xFF },
  .ac = { SAME_PALETTE, 0x0C, 0x00, 0x0F, 0x08, 0x00 },
};
const ModeSet mode_12h = {
  .misc = 0xE3,
  .seq = { 0x03, 0x01, 0x0F, 0x00, 0x06 },
  .crtc = { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0x0B, 0x3E, 0x00, 0x40, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0xEA, 0x8C, 0xDF, 0x28, 0x00, 0xE7, 0x04, 0xE3, 0xFF },
  .gc = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0F, 0xFF },
  .ac = { SAME_PALETTE, 0x01, 0x00, 0x0F, 0x00, 0x00 },
};
const ModeSet mode_13h = {
  .misc = 0x63,
  .seq = { 0x03, 0x01, 0x0F, 0x00, 0x0E },
  .crtc = { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0x41, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x40, 0x96, 0xB9, 0xA3, 0xFF },
  .gc = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x05, 0x0F, 0xFF },
  .ac = { SAME_PALETTE, 0x41, 0x00, 0x0F, 0x00, 0x00 },
};
const ModeSet mode_cga4 = {
  .misc = 0x63,
  .seq = { 0x03, 0x09, 0x03, 0x00, 0x02 },
  .crtc = { 0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xA2, 0xFF },
  .gc = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x30, 0x0F, 0x00, 0xFF },
  .ac = { SAME_PALETTE, 0x01, 0x00, 0x03, 0x00, 0x00 },
};
const ModeSet mode_cga2 = {
  .misc = 0x63,
  .seq = { 0x03, 0x01, 0x01, 0x00, 0x06 },
  .crtc = { 0x5F, 0x4F, 0x50, 0x82, 0x54, 0x80, 0xBF, 0x1F, 0x00, 0xC1, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x28, 0x00, 0x96, 0xB9, 0xC2, 0xFF },
  .gc = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0D, 0x00, 0xFF },
  .ac = { SAME_PALETTE, 0x01, 0x00, 0x01, 0x00, 0x00 },
};
const ModeSet mode_0dh = {
  .misc = 0x63,
  .seq = { 0x03, 0x09, 0x0F, 0x00, 0x06 },
  .crtc = { 0x2D, 0x27, 0x28, 0x90, 0x2B, 0x80, 0xBF, 0x1F, 0x00, 0xC0, 0x00, 0x00, 0x00,
            0x00, 0x00, 0x00, 0x9C, 0x8E, 0x8F, 0x14, 0x00, 0x96, 0xB9, 0xE3, 0xFF },
  .gc = { 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0x0F, 0xFF },
  .ac = { SAME_PALETTE, 0x01, 0x00, 0x0F, 0x00, 0x00 },
};

static void no_interrupt(void *opaque, unsigned line, bool level) {}

Rig *rig_new(uint64_t vram_bytes)
{
  Rig *rig = g_new0(Rig, 1);
  g_autoptr(GError) error = NULL;
  rig->vm = vm_new_manual();
  rig->memory = vm_get_memory(rig->vm);
  VmIoContext *ctx = vm_get_io_context(rig->vm);
  vm_io_context_lock(ctx);
  rig->bus = pci_bus_new(rig->vm, no_interrupt, NULL);
  VgaConfig config = { .vram_bytes = vram_bytes };
  rig->dev = vga_new(rig->bus, "vga", PCI_DEVFN(2, 0), &config, &error);
  g_assert_no_error(error);
  vm_io_context_unlock(ctx);
  rig_reset(rig);
  return rig;
}

void rig_free(Rig *rig)
{
  vm_free(rig->vm);
  pci_bus_free(rig->bus);
  g_free(rig->pixels);
  g_free(rig);
}

void rig_reset(Rig *rig)
{
  VmIoContext *ctx = vm_get_io_context(rig->vm);
  vm_io_context_lock(ctx);
  rig->dev->type->reset(rig->dev);
  pci_config_write(rig->bus, 0, PCI_DEVFN(2, 0), 0x10, BAR0, 4);
  pci_config_write(rig->bus, 0, PCI_DEVFN(2, 0), 0x18, BAR2, 4);
  pci_config_write(rig->bus, 0, PCI_DEVFN(2, 0), 0x04, 3, 2);
  vm_io_context_unlock(ctx);
}

void rig_out(Rig *rig, uint16_t port, uint8_t value)
{
  vm_port_write(rig->memory, port, value, 1);
}

uint8_t rig_in(Rig *rig, uint16_t port)
{
  return (uint8_t)vm_port_read(rig->memory, port, 1);
}

void rig_set(Rig *rig, uint16_t port, uint8_t index, uint8_t value)
{
  vm_port_write(rig->memory, port, (uint32_t)index | (uint32_t)value << 8, 2);
}

uint8_t rig_get(Rig *rig, uint16_t port, uint8_t index)
{
  rig_out(rig, port, index);
  return rig_in(rig, port + 1);
}

void rig_set_attribute(Rig *rig, uint8_t index, uint8_t value)
{
  rig_in(rig, 0x3DA);
  rig_out(rig, 0x3C0, index | 0x20);
  rig_out(rig, 0x3C0, value);
}

void rig_vbe(Rig *rig, uint16_t index, uint16_t value)
{
  vm_port_write(rig->memory, 0x1CE, index, 2);
  vm_port_write(rig->memory, 0x1CF, value, 2);
}

uint16_t rig_vbe_get(Rig *rig, uint16_t index)
{
  vm_port_write(rig->memory, 0x1CE, index, 2);
  return (uint16_t)vm_port_read(rig->memory, 0x1CF, 2);
}

void rig_vbe_mode(Rig *rig, unsigned width, unsigned height, unsigned bpp)
{
  rig_in(rig, 0x3DA);
  rig_out(rig, 0x3C0, 0x20);
  rig_vbe(rig, VBE_ENABLE, 0);
  rig_vbe(rig, VBE_XRES, (uint16_t)width);
  rig_vbe(rig, VBE_YRES, (uint16_t)height);
  rig_vbe(rig, VBE_BPP, (uint16_t)bpp);
  rig_vbe(rig, VBE_ENABLE, VBE_ENABLED | VBE_LFB);
}

void rig_poke(Rig *rig, uint32_t gpa, uint8_t value)
{
  vm_memory_store(rig->memory, VM_VIEW_NORMAL, gpa, value, 1);
}

uint8_t rig_peek(Rig *rig, uint32_t gpa)
{
  return (uint8_t)vm_memory_load(rig->memory, VM_VIEW_NORMAL, gpa, 1);
}

void rig_mode(Rig *rig, const ModeSet *mode)
{
  rig_out(rig, 0x3C2, mode->misc);
  for (unsigned i = 0; i < 5; i++)
    rig_set(rig, 0x3C4, (uint8_t)i, mode->seq[i]);
  rig_set(rig, 0x3D4, 0x11, 0);
  for (unsigned i = 0; i < 25; i++)
    rig_set(rig, 0x3D4, (uint8_t)i, mode->crtc[i]);
  for (unsigned i = 0; i < 9; i++)
    rig_set(rig, 0x3CE, (uint8_t)i, mode->gc[i]);
  for (unsigned i = 0; i < 21; i++)
    rig_set_attribute(rig, (uint8_t)i, mode->ac[i]);
}

void rig_grey_dac(Rig *rig)
{
  rig_out(rig, 0x3C8, 0);
  for (unsigned i = 0; i < 256; i++)
    for (unsigned j = 0; j < 3; j++)
      rig_out(rig, 0x3C9, (uint8_t)(i & 0x3F));
}

uint32_t grey(unsigned index)
{
  uint32_t level = (index & 0x3F) << 2 | (index & 0x3F) >> 4;
  return level * 0x010101;
}

void rig_draw(Rig *rig)
{
  g_free(rig->pixels);
  rig->pixels = vm_display_dup_pixels(vm_get_display(rig->vm), &rig->width, &rig->height);
  g_assert_nonnull(rig->pixels);
}

uint32_t rig_pixel(const Rig *rig, unsigned x, unsigned y)
{
  g_assert_cmpuint(x, <, rig->width);
  g_assert_cmpuint(y, <, rig->height);
  return rig->pixels[(size_t)y * rig->width + x];
}

void rig_step_ns(Rig *rig, int64_t ns)
{
  vm_io_context_step(vm_get_io_context(rig->vm), ns);
}
