/*
 * The display card as a whole: creation, PCI, state table.
 *
 * An IBM VGA (PS/2 Hardware Interface Technical Reference, "Video Subsystem") with the Bochs VBE extensions, on a PCI
 * card with the register layout that is usual for such cards in virtual machines, so that firmware (SeaBIOS' VGA BIOS,
 * OVMF) and drivers (bochs-drm, vesafb, vga16fb) know it:
 *
 *   BAR 0  video memory, prefetchable
 *   BAR 2  0x000 EDID; 0x400 ports 0x3C0–0x3DF; 0x500 VBE registers, 16 bits each; 0x600 size of the block that begins
 *          there (8), 0x604 byte order of the frame buffer (0x1E1E1E1E: little-endian; writes ignored)
 *
 * The legacy ports and window answer whatever the PCI command register says.
 */
#include "hw/display/vga-state.h"

#include "vm-engine/vm.h"

#define VGA_WINDOW_BASE     0xA0000u
#define VGA_WINDOW_BYTES    0x20000u
#define MMIO_BYTES          0x1000
#define MMIO_PORTS          0x400
#define MMIO_VBE            0x500
#define MMIO_BLOCK          0x600
#define LITTLE_ENDIAN_FRAME 0x1E1E1E1Eu

/* ---- BAR 2 --------------------------------------------------------------------------------------------------------- */

static uint8_t mmio_read_byte(Vga *vga, uint64_t offset)
{
  if (offset < VGA_EDID_BYTES)
    return vga->edid[offset];
  if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20)
    return vga_port_read(vga, 0x3C0 + (unsigned)(offset - MMIO_PORTS));
  if (offset >= MMIO_VBE && offset < MMIO_VBE + 2 * VBE_N_REGS)
    return (uint8_t)(vbe_read(vga, (unsigned)(offset - MMIO_VBE) / 2) >> 8 * (offset & 1));
  if (offset >= MMIO_BLOCK && offset < MMIO_BLOCK + 8)
    return offset == MMIO_BLOCK ? 8 : offset < MMIO_BLOCK + 4 ? 0 : LITTLE_ENDIAN_FRAME & 0xFF;
  return 0;
}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
  uint64_t value = 0;
  for (unsigned i = 0; i < size; i++)
    value |= (uint64_t)mmio_read_byte(opaque, offset + i) << 8 * i;
  return value;
}

static void mmio_write_vbe(Vga *vga, uint64_t offset, uint64_t value, unsigned size)
{
  unsigned index = (unsigned)(offset - MMIO_VBE) / 2;
  if (size == 1) {
    unsigned shift = 8 * (offset & 1);
    uint16_t old = vbe_read(vga, index);
    vbe_write(vga, index, (uint16_t)((old & ~(0xFFu << shift)) | (value & 0xFF) << shift));
    return;
  }
  for (unsigned i = 0; i < size / 2; i++)
    vbe_write(vga, index + i, (uint16_t)(value >> 16 * i));
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Vga *vga = opaque;
  if (offset >= MMIO_PORTS && offset < MMIO_PORTS + 0x20) {
    for (unsigned i = 0; i < size; i++)
      vga_port_write(vga, (0x3C0 + (unsigned)(offset - MMIO_PORTS) + i), (uint8_t)(value >> 8 * i));
  } else if (offset >= MMIO_VBE && offset < MMIO_VBE + 2 * VBE_N_REGS) {
    mmio_write_vbe(vga, offset, value, size);
  }
}

static const VmMmioOps mmio_ops = { .read = mmio_read, .write = mmio_write, .impl_min = 1, .impl_max = 4 };

/* ---- VBE ports: index at 0x1CE, data at 0x1CF and, aligned, at 0x1D0 -------------------------------------------------
 *
 * A word at the odd 0x1CF arrives here as two bytes, the low one first. */

enum { VBE_PORT_INDEX, VBE_PORT_DATA, VBE_PORT_DATA_ALIGNED };

static uint64_t vbe_port_read(void *opaque, uint64_t offset, unsigned size)
{
  Vga *vga = opaque;
  if (offset == VBE_PORT_INDEX)
    return vga->vbe_index;
  uint16_t value = vbe_read(vga, vga->vbe_index);
  return offset == VBE_PORT_DATA_ALIGNED && size == 1 ? value >> 8 : value;
}

static void vbe_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Vga *vga = opaque;
  if (offset == VBE_PORT_INDEX)
    vga->vbe_index = (uint16_t)value;
  else if (offset == VBE_PORT_DATA)
    vga->vbe_data_low = (uint8_t)value;
  else if (offset == VBE_PORT_DATA_ALIGNED)
    vbe_write(vga, vga->vbe_index, (uint16_t)(size == 1 ? value << 8 | vga->vbe_data_low : value));
}

static const VmMmioOps vbe_port_ops = { .read = vbe_port_read, .write = vbe_port_write, .impl_min = 1, .impl_max = 2 };

/* ---- device ---------------------------------------------------------------------------------------------------------- */

/* Video memory keeps its content, as DRAM does; clearing it would only make the host provide all its pages. */
static void vga_reset(VmDevice *dev)
{
  Vga *vga = (Vga *)dev;
  pci_device_reset(&vga->pci);
  vga_registers_reset(vga);
  vbe_reset(vga);
  vga->drawn = false;
  vga_update_window(vga);
}

static bool vga_validate(const VmDevice *scratch, GError **error)
{
  const Vga *vga = (const Vga *)scratch;
  if (vbe_is_valid(vga))
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of display card %s has an impossible VBE mode",
              scratch->id);
  return false;
}

static void vga_loaded(VmDevice *dev)
{
  Vga *vga = (Vga *)dev;
  pci_device_loaded(&vga->pci);
  vga->drawn = false;
  vga_update_window(vga);
}

static void vga_finish(VmDevice *dev)
{
  Vga *vga = (Vga *)dev;
  g_free(vga->text_shadow);
  g_free(vga->marks);
  g_free(vga->pages);
  g_free(vga->line_bounce);
}

static const VmField vga_fields[] = { VM_STRUCT(Vga, pci, pci_device_fields),
                                      VM_TRANSIENT(Vga, memory, "wiring"),
                                      VM_TRANSIENT(Vga, display, "wiring"),
                                      VM_TRANSIENT(Vga, vram, "saved with the machine's memory"),
                                      VM_TRANSIENT(Vga, vram_hva, "address in this process"),
                                      VM_TRANSIENT(Vga, vram_bytes, "configuration"),
                                      VM_TRANSIENT(Vga, window, "wiring"),
                                      VM_TRANSIENT(Vga, linear, "follows from the registers"),
                                      VM_TRANSIENT(Vga, linear_bank, "follows from the registers"),
                                      VM_TRANSIENT(Vga, edid, "constant"),
                                      VM_UINT(Vga, misc),
                                      VM_UINT(Vga, feature),
                                      VM_UINT(Vga, subsystem_enable),
                                      VM_UINT(Vga, seq_index),
                                      VM_BYTES(Vga, seq),
                                      VM_UINT(Vga, gc_index),
                                      VM_BYTES(Vga, gc),
                                      VM_UINT(Vga, crtc_index),
                                      VM_BYTES(Vga, crtc),
                                      VM_UINT(Vga, ac_index),
                                      VM_UINT_MAX(Vga, ac_expects_data, 1),
                                      VM_BYTES(Vga, ac),
                                      VM_UINT(Vga, dac_mask),
                                      VM_UINT(Vga, dac_reading),
                                      VM_UINT(Vga, dac_read_index),
                                      VM_UINT(Vga, dac_write_index),
                                      VM_UINT_MAX(Vga, dac_component, 2),
                                      VM_BYTES(Vga, dac_pending),
                                      VM_BYTES(Vga, dac),
                                      VM_UINT(Vga, latch),
                                      VM_UINT(Vga, vbe_index),
                                      VM_UINT(Vga, vbe_data_low),
                                      VM_UINT_ARRAY(Vga, vbe),
                                      VM_UINT_MAX(Vga, last_poll_ns, INT64_MAX),
                                      VM_TRANSIENT(Vga, drawn, "the host's picture"),
                                      VM_TRANSIENT(Vga, font_written, "the host's picture"),
                                      VM_TRANSIENT(Vga, layout, "the host's picture"),
                                      VM_TRANSIENT(Vga, colours, "the host's picture"),
                                      VM_TRANSIENT(Vga, colours16, "the host's picture"),
                                      VM_TRANSIENT(Vga, text_shadow, "the host's picture"),
                                      VM_TRANSIENT(Vga, text_shadow_cells, "the host's picture"),
                                      VM_TRANSIENT(Vga, marks, "the host's picture"),
                                      VM_TRANSIENT(Vga, pages, "scratch space"),
                                      VM_TRANSIENT(Vga, line_bounce, "scratch space"),
                                      VM_FIELDS_END };

const VmDeviceType vga_type = {
  .name = "vga",
  .version = 1,
  .size = sizeof(Vga),
  .fields = vga_fields,
  .reset = vga_reset,
  .validate = vga_validate,
  .loaded = vga_loaded,
  .finish = vga_finish,
};

static uint64_t choose_vram_bytes(const VgaConfig *config)
{
  uint64_t wanted = config->vram_bytes ? config->vram_bytes : VGA_DEFAULT_VRAM_BYTES, bytes = VGA_MIN_VRAM_BYTES;
  while (bytes < wanted && bytes < VGA_MAX_VRAM_BYTES)
    bytes *= 2;
  return bytes;
}

static void map_legacy(Vga *vga)
{
  vga->window = vm_region_new_io(vga->memory, "vga-window", VM_SPACE_MEMORY, VGA_WINDOW_BASE, VGA_WINDOW_BYTES,
                                 VGA_WINDOW_PRIORITY, &vga_window_ops, vga, vga->pci.dev.ctx);
  vm_region_set_coalesced(vga->window, true);
  vga_ports_map(vga);
  vm_region_new_io(vga->memory, "vbe", VM_SPACE_PORTS, 0x1CE, 4, 0, &vbe_port_ops, vga, vga->pci.dev.ctx);
}

VmDevice *vga_new(PciBus *bus, const char *id, uint8_t devfn, const VgaConfig *config, GError **error)
{
  static const PciIds ids = { .vendor = 0x1234,
                              .device = 0x1111,
                              .subsystem_vendor = 0x1AF4,
                              .subsystem = 0x1100,
                              .class_code = 0x030000,
                              .revision = 2 };
  uint64_t bytes = choose_vram_bytes(config);
  Vga *vga = pci_device_new(bus, &vga_type, id, devfn, &ids);
  vga->memory = vm_get_memory(vga->pci.dev.vm);
  vga->display = vm_get_display(vga->pci.dev.vm);
  vga->vram_bytes = bytes;
  vga->vram = vm_ram_new(vga->memory, "vga-memory", bytes, error);
  if (vga->vram == NULL)
    return NULL;
  vga->vram_hva = vm_ram_get_hva(vga->vram);
  vga->marks = g_malloc0(MAX(bytes / VM_PAGE_SIZE / 8, sizeof(long)));
  vga->pages = g_malloc0(MAX(bytes / VM_PAGE_SIZE / 8, sizeof(long)));
  vga->line_bounce = g_malloc(VBE_MAX_XRES * 4);
  vga_edid_fill(vga->edid);
  vm_ram_track_dirty(vga->vram, true);
  pci_bar_ram(&vga->pci, 0, bytes, vga->vram, true);
  pci_bar_io(&vga->pci, 2, PCI_BAR_MEMORY, MMIO_BYTES, &mmio_ops, vga);
  if (config->rom != NULL && !pci_bar_rom(&vga->pci, config->rom, config->rom_bytes, error))
    return NULL;
  map_legacy(vga);
  vm_display_set_card(vga->display, &vga_card_ops, vga);
  return &vga->pci.dev;
}
