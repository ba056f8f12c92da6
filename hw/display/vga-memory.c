/*
 * The VGA's window on its memory, 0xA0000–0xBFFFF, and the data path between: latches, set/reset, the function unit,
 * bit mask and map mask, as the "Graphics Controller" and "Sequencer" chapters of IBM's PS/2 Hardware Interface Technical
 * Reference give them.
 *
 * The odd/even page bit of the miscellaneous output register is not modelled: with the 64 KiB and 32 KiB windows
 * odd/even mode always sees even cells, which is what every program sets.
 */
#include "hw/display/vga-state.h"

#define WINDOW_BASE 0xA0000u

/* Four bits to four bytes of ones, bit 0 to the low byte. */
static inline uint32_t expand4(unsigned bits)
{
  return ((bits & 0xF) * 0x00204081u & 0x01010101u) * 0xFFu;
}

static inline uint32_t replicate(uint8_t byte)
{
  return byte * 0x01010101u;
}

/* The address inside the selected part of the window, or false where the card does not answer. */
static bool decode(const Vga *vga, uint64_t offset, uint32_t *address)
{
  static const struct {
    uint32_t base, size;
  } maps[4] = { { 0x00000, 0x20000 }, { 0x00000, 0x10000 }, { 0x10000, 0x08000 }, { 0x18000, 0x08000 } };
  unsigned map = vga->gc[VGA_GC_MISC] >> 2 & 3;
  if (!(vga->misc & 2) || vbe_is_linear(vga) || offset < maps[map].base || offset - maps[map].base >= maps[map].size)
    return false;
  *address = (uint32_t)(offset - maps[map].base);
  return true;
}

static bool is_chain4(const Vga *vga)
{
  return (vga->seq[VGA_SEQ_MEMORY] & 8) != 0;
}

/* In odd/even addressing bit 0 names the plane; bit 16 (of the 128 KiB window) takes its place. */
static uint32_t cell_of(const Vga *vga, uint32_t address, bool odd_even)
{
  uint32_t bank = vbe_is_on(vga) ? (uint32_t)vga->vbe[VBE_BANK] << 16 : 0;
  if (is_chain4(vga))
    return bank + (address & 0xFFFC);
  if (odd_even && (vga->gc[VGA_GC_MISC] & 2))
    return bank + ((address & 0xFFFE) | (address >> 16 & 1));
  return bank + (address & 0xFFFF);
}

/* Read mode 1: a bit for each pixel whose colour matches in all planes that are cared for. */
static uint8_t compare_colours(const Vga *vga)
{
  uint32_t differs = (vga->latch ^ expand4(vga->gc[VGA_GC_COMPARE])) & expand4(vga->gc[VGA_GC_DONT_CARE]);
  differs |= differs >> 16;
  differs |= differs >> 8;
  return (uint8_t)~differs;
}

static uint8_t read_byte(Vga *vga, uint64_t offset)
{
  uint32_t address;
  if (!decode(vga, offset, &address))
    return 0xFF;
  bool odd_even = (vga->gc[VGA_GC_MODE] & 0x10) != 0;
  vga->latch = vga_load_cell(vga, cell_of(vga, address, odd_even));
  unsigned plane = vga->gc[VGA_GC_READ_MAP] & 3;
  if (is_chain4(vga))
    plane = address & 3;
  else if (vga->gc[VGA_GC_MODE] & 8)
    return compare_colours(vga);
  else if (odd_even)
    plane = (plane & 2) | (address & 1);
  return (uint8_t)(vga->latch >> 8 * plane);
}

/* The function unit: rotate register bits 3–4. */
static uint32_t combine(const Vga *vga, uint32_t data)
{
  switch (vga->gc[VGA_GC_ROTATE] >> 3 & 3) {
  case 1:
    return data & vga->latch;
  case 2:
    return data | vga->latch;
  case 3:
    return data ^ vga->latch;
  default:
    return data;
  }
}

static uint8_t rotate(const Vga *vga, uint8_t value)
{
  unsigned count = vga->gc[VGA_GC_ROTATE] & 7;
  return (uint8_t)(value >> count | value << (8 - count));
}

/* What the four planes get for a written byte, before the map mask. */
static uint32_t write_data(const Vga *vga, uint8_t value)
{
  uint32_t mask = replicate(vga->gc[VGA_GC_BIT_MASK]);
  uint32_t set_reset = expand4(vga->gc[VGA_GC_SET_RESET]);
  uint32_t data;
  switch (vga->gc[VGA_GC_MODE] & 3) {
  case 0: {
    uint32_t enable = expand4(vga->gc[VGA_GC_ENABLE_SET_RESET]);
    data = combine(vga, (replicate(rotate(vga, value)) & ~enable) | (set_reset & enable));
    break;
  }
  case 1:
    return vga->latch;
  case 2:
    data = combine(vga, expand4(value));
    break;
  default:
    mask &= replicate(rotate(vga, value));
    data = combine(vga, set_reset);
    break;
  }
  return (data & mask) | (vga->latch & ~mask);
}

static void write_byte(Vga *vga, uint64_t offset, uint8_t value)
{
  uint32_t address;
  if (!decode(vga, offset, &address))
    return;
  bool odd_even = !(vga->seq[VGA_SEQ_MEMORY] & 4);
  unsigned planes = vga->seq[VGA_SEQ_MAP_MASK];
  if (is_chain4(vga))
    planes &= 1u << (address & 3);
  else if (odd_even)
    planes &= 5u << (address & 1);
  if (planes == 0)
    return;
  uint32_t cell = cell_of(vga, address, odd_even);
  uint32_t mask = expand4(planes);
  uint32_t old = vga_load_cell(vga, cell);
  uint32_t new = (old & ~mask) | (write_data(vga, value) & mask);
  if (new == old)
    return;
  vga_store_cell(vga, cell, new);
  vga_set_bit(vga->marks, (cell & (vga->vram_bytes / 4 - 1)) >> 10);
  if ((new ^ old) & 0x00FF0000)
    vga->font_written = true;
}

static uint64_t window_read(void *opaque, uint64_t offset, unsigned size)
{
  uint64_t value = 0;
  for (unsigned i = 0; i < size; i++)
    value |= (uint64_t)read_byte(opaque, offset + i) << 8 * i;
  return value;
}

static void window_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  for (unsigned i = 0; i < size; i++)
    write_byte(opaque, offset + i, (uint8_t)(value >> 8 * i));
}

const VmMmioOps vga_window_ops = { .read = window_read, .write = window_write, .impl_min = 1, .impl_max = 8 };

/* Does a byte in the 64 KiB window go to, and come from, memory as it is? (But for the latches, which a read through
 * plain memory leaves alone; a program that wants them uses the planes and is not in chain-4 mode.) */
static bool is_plain_chain4(const Vga *vga)
{
  const uint8_t *gc = vga->gc;
  return (vga->misc & 2) && is_chain4(vga) && vga->seq[VGA_SEQ_MAP_MASK] == 0xF && gc[VGA_GC_ENABLE_SET_RESET] == 0 &&
         gc[VGA_GC_ROTATE] == 0 && (gc[VGA_GC_MODE] & 3) == 0 && gc[VGA_GC_BIT_MASK] == 0xFF &&
         (gc[VGA_GC_MISC] >> 2 & 3) == 1;
}

void vga_update_window(Vga *vga)
{
  bool plain = vbe_is_linear(vga) || (is_plain_chain4(vga) && !vbe_is_on(vga));
  uint64_t bank = vbe_is_linear(vga) ? vga->vbe[VBE_BANK] : 0;
  if (plain == (vga->linear != NULL) && (!plain || bank == vga->linear_bank))
    return;
  vm_memory_begin(vga->memory);
  if (vga->linear != NULL)
    vm_region_free(vga->linear);
  vga->linear = NULL;
  if (plain)
    vga->linear = vm_region_new_ram(vga->memory, "vga-linear-window", WINDOW_BASE, VGA_BANK_BYTES,
                                    VGA_WINDOW_PRIORITY + 1, vga->vram, bank * VGA_BANK_BYTES, VM_ACCESS_RW);
  vga->linear_bank = bank;
  vm_memory_commit(vga->memory);
}
