/*
 * The display card: an IBM VGA with the Bochs VBE extensions, as a PCI card 1234:1111.
 *
 * Ports 0x3B0–0x3DF and 0x1CE–0x1D0, the window at 0xA0000–0xBFFFF, BAR 0 = video memory, BAR 2 = 4 KiB of registers
 * (EDID at 0, VGA ports at 0x400, VBE registers at 0x500). It becomes the card of the machine's VmDisplay.
 */
#ifndef HW_DISPLAY_VGA_H
#define HW_DISPLAY_VGA_H

#include <stddef.h>
#include <stdint.h>
#include <glib.h>

#include "vm-engine/device.h"

typedef struct PciBus PciBus;

#define VGA_DEFAULT_VRAM_BYTES (UINT64_C(16) << 20)
#define VGA_MIN_VRAM_BYTES     (UINT64_C(1) << 20)
#define VGA_MAX_VRAM_BYTES     (UINT64_C(256) << 20)

/* Priority of the regions at 0xA0000–0xBFFFF (and one above): over a board's RAM at 0, under SMRAM's at 8 or so. */
#define VGA_WINDOW_PRIORITY 1

typedef struct VgaConfig {
  uint64_t vram_bytes; /* 0: the default; else rounded up to a power of two within the limits above */
  const void *rom;     /* the VGA BIOS, copied; NULL: a card without a ROM */
  size_t rom_bytes;
} VgaConfig;

/* At set-up. The machine owns the device. NULL with `error` where memory is short or the ROM is not one. */
VmDevice *vga_new(PciBus *bus, const char *id, uint8_t devfn, const VgaConfig *config, GError **error);

#endif
