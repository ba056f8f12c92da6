/*
 * What the VGA's tests share: a machine with nothing but the card, its ports and memory, and register sets of the
 * BIOS's modes.
 */
#ifndef TESTS_VGA_TEST_H
#define TESTS_VGA_TEST_H

#include "hw/display/vga-state.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"

#define BAR0 0xE0000000u
#define BAR2 0xF0000000u

typedef struct Rig {
  Vm *vm;
  VmMemory *memory;
  PciBus *bus;
  VmDevice *dev;
  uint32_t *pixels; /* of the last rig_draw() */
  unsigned width, height;
} Rig;

typedef struct ModeSet {
  uint8_t misc, seq[5], crtc[25], gc[9], ac[21];
} ModeSet;

extern const ModeSet mode_text, mode_12h, mode_13h, mode_cga4, mode_cga2, mode_0dh;

Rig *rig_new(uint64_t vram_bytes);
void rig_free(Rig *rig);
void rig_reset(Rig *rig);
void rig_out(Rig *rig, uint16_t port, uint8_t value);
uint8_t rig_in(Rig *rig, uint16_t port);
/* An indexed register at `port`, `port` + 1. */
void rig_set(Rig *rig, uint16_t port, uint8_t index, uint8_t value);
uint8_t rig_get(Rig *rig, uint16_t port, uint8_t index);
void rig_set_attribute(Rig *rig, uint8_t index, uint8_t value);
void rig_vbe(Rig *rig, uint16_t index, uint16_t value);
uint16_t rig_vbe_get(Rig *rig, uint16_t index);
void rig_vbe_mode(Rig *rig, unsigned width, unsigned height, unsigned bpp);
void rig_poke(Rig *rig, uint32_t gpa, uint8_t value);
uint8_t rig_peek(Rig *rig, uint32_t gpa);
void rig_mode(Rig *rig, const ModeSet *mode);
/* The 16 DAC colours that the attribute controller's default palette uses get 0x000000, 0x040404, …: red = 4 * index. */
void rig_grey_dac(Rig *rig);
/* Asks for a picture, as a window would, and keeps it. */
void rig_draw(Rig *rig);
uint32_t rig_pixel(const Rig *rig, unsigned x, unsigned y);
/* rig_grey_dac()'s colour. */
uint32_t grey(unsigned index);
void rig_step_ns(Rig *rig, int64_t ns);

#endif
