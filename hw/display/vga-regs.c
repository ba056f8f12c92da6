/*
 * The VGA's registers at ports 0x3B0–0x3DF: IBM PS/2 Hardware Interface Technical Reference, "Video Subsystem" (1992).
 *
 *   3B4/3D4 CRTC index     3B5/3D5 CRTC data    3BA/3DA in: input status 1, out: feature control
 *   3C0 attribute index and data, 3C1 attribute data in           3C2 in: input status 0, out: miscellaneous output
 *   3C4/3C5 sequencer      3C6–3C9 DAC          3CA, 3CC read-back    3CE/3CF graphics controller
 *
 * Miscellaneous output bit 0 moves the CRTC and status 1 between 3Bx (monochrome) and 3Dx (colour).
 */
#include "hw/display/vga-state.h"

#include "vm-engine/vm.h"

/* Bits that exist in each register. */
static const uint8_t seq_bits[VGA_N_SEQ] = { 0x03, 0x3D, 0x0F, 0x3F, 0x0E };
static const uint8_t gc_bits[VGA_N_GC] = { 0x0F, 0x0F, 0x0F, 0x1F, 0x03, 0x7B, 0x0F, 0x0F, 0xFF };
static const uint8_t ac_bits[VGA_N_AC] = { 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0x3F,
                                           0x3F, 0x3F, 0x3F, 0x3F, 0x3F, 0xEF, 0xFF, 0x3F, 0x0F, 0x0F };

static bool crtc_is_locked(const Vga *vga)
{
  return (vga->crtc[VGA_CR_V_RETRACE_END] & 0x80) != 0;
}

static void crtc_write(Vga *vga, uint8_t value)
{
  unsigned index = vga->crtc_index;
  if (index >= VGA_N_CR)
    return;
  if (index <= VGA_CR_OVERFLOW && crtc_is_locked(vga)) {
    /* The lock covers 0–7, but for the line compare's bit in the overflow register. */
    if (index == VGA_CR_OVERFLOW)
      vga->crtc[index] = (vga->crtc[index] & ~0x10) | (value & 0x10);
    return;
  }
  vga->crtc[index] = value;
}

/* 0x22, 0x24 and 0x26 are not in IBM's book, but all VGA chips have them and identification programs look. */
static uint8_t crtc_read(const Vga *vga)
{
  switch (vga->crtc_index) {
  case 0x22:
    return vga->latch >> 8 * (vga->gc[VGA_GC_READ_MAP] & 3);
  case 0x24:
    return vga->ac_expects_data ? 0x80 : 0;
  case 0x26:
    return vga->ac_index;
  default:
    return vga->crtc_index < VGA_N_CR ? vga->crtc[vga->crtc_index] : 0;
  }
}

static void seq_write(Vga *vga, uint8_t value)
{
  if (vga->seq_index >= VGA_N_SEQ)
    return;
  vga->seq[vga->seq_index] = value & seq_bits[vga->seq_index];
  if (vga->seq_index == VGA_SEQ_MAP_MASK || vga->seq_index == VGA_SEQ_MEMORY)
    vga_update_window(vga);
}

static void gc_write(Vga *vga, uint8_t value)
{
  if (vga->gc_index >= VGA_N_GC)
    return;
  vga->gc[vga->gc_index] = value & gc_bits[vga->gc_index];
  vga_update_window(vga);
}

/* One port takes index and data by turns; reading input status 1 makes the index next. */
static void ac_write(Vga *vga, uint8_t value)
{
  if (!vga->ac_expects_data) {
    vga->ac_index = value & 0x3F;
  } else {
    unsigned index = vga->ac_index & 0x1F;
    if (index < VGA_N_AC)
      vga->ac[index] = value & ac_bits[index];
  }
  vga->ac_expects_data = !vga->ac_expects_data;
}

static uint8_t ac_read(const Vga *vga)
{
  unsigned index = vga->ac_index & 0x1F;
  return index < VGA_N_AC ? vga->ac[index] : 0;
}

/* A colour takes effect with its third component. */
static void dac_write(Vga *vga, uint8_t value)
{
  bool wide = (vga->vbe[VBE_ENABLE] & VBE_8BIT_DAC) != 0;
  vga->dac_pending[vga->dac_component % 3] = wide ? value : value & 0x3F;
  if (++vga->dac_component < 3)
    return;
  vga->dac_component = 0;
  memcpy(vga->dac + 3u * vga->dac_write_index++, vga->dac_pending, 3);
}

static uint8_t dac_read(Vga *vga)
{
  uint8_t value = vga->dac[3u * vga->dac_read_index + vga->dac_component % 3];
  if (++vga->dac_component >= 3) {
    vga->dac_component = 0;
    vga->dac_read_index++;
  }
  return value;
}

/* Is this one of the CRTC's ports in the half of the map that is switched off? */
static bool port_is_off(const Vga *vga, unsigned port)
{
  bool colour = (vga->misc & 1) != 0;
  return (port >= 0x3B0 && port <= 0x3BF && colour) || (port >= 0x3D0 && port <= 0x3DF && !colour);
}

uint8_t vga_port_read(Vga *vga, unsigned port)
{
  if (port_is_off(vga, port))
    return 0xFF;
  switch (port) {
  case 0x3B4:
  case 0x3D4:
    return vga->crtc_index;
  case 0x3B5:
  case 0x3D5:
    return crtc_read(vga);
  case 0x3BA:
  case 0x3DA:
    vga->ac_expects_data = false;
    return vga_read_status1(vga);
  case 0x3C0:
    return vga->ac_expects_data ? ac_read(vga) : vga->ac_index;
  case 0x3C1:
    return ac_read(vga);
  case 0x3C2:
    return 0x10; /* switch sense: a colour monitor */
  case 0x3C3:
    return vga->subsystem_enable;
  case 0x3C4:
    return vga->seq_index;
  case 0x3C5:
    return vga->seq_index < VGA_N_SEQ ? vga->seq[vga->seq_index] : 0;
  case 0x3C6:
    return vga->dac_mask;
  case 0x3C7:
    return vga->dac_reading ? 3 : 0;
  case 0x3C8:
    return vga->dac_write_index;
  case 0x3C9:
    return dac_read(vga);
  case 0x3CA:
    return vga->feature;
  case 0x3CC:
    return vga->misc;
  case 0x3CE:
    return vga->gc_index;
  case 0x3CF:
    return vga->gc_index < VGA_N_GC ? vga->gc[vga->gc_index] : 0;
  default:
    return 0xFF;
  }
}

void vga_port_write(Vga *vga, unsigned port, uint8_t value)
{
  if (port_is_off(vga, port))
    return;
  switch (port) {
  case 0x3B4:
  case 0x3D4:
    vga->crtc_index = value;
    break;
  case 0x3B5:
  case 0x3D5:
    crtc_write(vga, value);
    break;
  case 0x3BA:
  case 0x3DA:
    vga->feature = value & 0x0B;
    break;
  case 0x3C0:
    ac_write(vga, value);
    break;
  case 0x3C2:
    vga->misc = value & 0xEF;
    vga_update_window(vga);
    break;
  case 0x3C3:
    vga->subsystem_enable = value & 1;
    break;
  case 0x3C4:
    vga->seq_index = value;
    break;
  case 0x3C5:
    seq_write(vga, value);
    break;
  case 0x3C6:
    vga->dac_mask = value;
    break;
  case 0x3C7:
    vga->dac_read_index = value;
    vga->dac_component = 0;
    vga->dac_reading = 1;
    break;
  case 0x3C8:
    vga->dac_write_index = value;
    vga->dac_component = 0;
    vga->dac_reading = 0;
    break;
  case 0x3C9:
    dac_write(vga, value);
    break;
  case 0x3CE:
    vga->gc_index = value;
    break;
  case 0x3CF:
    gc_write(vga, value);
    break;
  default:
    break;
  }
}

/* Each group of ports is a region of its own, so that offsets have to be told apart. */
#define PORT_GROUP(name, base)                                                                                         \
  static uint64_t name##_read(void *opaque, uint64_t offset, unsigned size)                                            \
  {                                                                                                                    \
    return vga_port_read(opaque, (base) + (unsigned)offset);                                                           \
  }                                                                                                                    \
  static void name##_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)                               \
  {                                                                                                                    \
    vga_port_write(opaque, (base) + (unsigned)offset, (uint8_t)value);                                                 \
  }                                                                                                                    \
  static const VmMmioOps name##_ops = { .read = name##_read, .write = name##_write, .impl_min = 1, .impl_max = 1 };

PORT_GROUP(mono_crtc, 0x3B4)
PORT_GROUP(mono_status, 0x3BA)
PORT_GROUP(common, 0x3C0)
PORT_GROUP(colour_crtc, 0x3D4)
PORT_GROUP(colour_status, 0x3DA)

void vga_ports_map(Vga *vga)
{
  /* Not 0x3B0–0x3DF whole: 0x3BC belongs to a parallel port. */
  static const struct {
    const char *name;
    uint16_t base, size;
    const VmMmioOps *ops;
  } groups[] = {
    { "vga-crtc-mono", 0x3B4, 2, &mono_crtc_ops },         { "vga-status-mono", 0x3BA, 1, &mono_status_ops },
    { "vga-registers", 0x3C0, 16, &common_ops },           { "vga-crtc-colour", 0x3D4, 2, &colour_crtc_ops },
    { "vga-status-colour", 0x3DA, 1, &colour_status_ops },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(groups); i++)
    vm_region_new_io(vga->memory, groups[i].name, VM_SPACE_PORTS, groups[i].base, groups[i].size, 0, groups[i].ops, vga,
                     vga->pci.dev.ctx);
}

void vga_registers_reset(Vga *vga)
{
  vga->misc = 0;
  vga->feature = 0;
  vga->subsystem_enable = 1;
  vga->seq_index = vga->gc_index = vga->crtc_index = vga->ac_index = 0;
  memset(vga->seq, 0, sizeof vga->seq);
  memset(vga->gc, 0, sizeof vga->gc);
  memset(vga->crtc, 0, sizeof vga->crtc);
  memset(vga->ac, 0, sizeof vga->ac);
  vga->ac_expects_data = false;
  vga->dac_mask = 0xFF;
  vga->dac_reading = vga->dac_read_index = vga->dac_write_index = vga->dac_component = 0;
  memset(vga->dac_pending, 0, sizeof vga->dac_pending);
  memset(vga->dac, 0, sizeof vga->dac);
  vga->latch = 0;
  vga->last_poll_ns = 0;
}
