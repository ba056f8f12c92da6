/*
 * The monitor's description: a base block of VESA Enhanced EDID 1.4 (E-EDID Release A, Revision 2), 3.1–3.11.
 */
#include "hw/display/vga-state.h"

/* Detailed timing of the preferred mode, 1280x800 at 60 Hz by CVT with reduced blanking. */
enum {
  CLOCK_10KHZ = 7100,
  H_ACTIVE = 1280,
  H_BLANK = 160,
  H_SYNC_OFFSET = 48,
  H_SYNC_WIDTH = 32,
  V_ACTIVE = 800,
  V_BLANK = 23,
  V_SYNC_OFFSET = 3,
  V_SYNC_WIDTH = 6,
  WIDTH_MM = 339,
  HEIGHT_MM = 212
};

static void fill_detailed_timing(uint8_t *d)
{
  const uint8_t bytes[18] = {
    CLOCK_10KHZ & 0xFF,
    CLOCK_10KHZ >> 8,
    H_ACTIVE & 0xFF,
    H_BLANK & 0xFF,
    (H_ACTIVE >> 8) << 4 | H_BLANK >> 8,
    V_ACTIVE & 0xFF,
    V_BLANK & 0xFF,
    (V_ACTIVE >> 8) << 4 | V_BLANK >> 8,
    H_SYNC_OFFSET,
    H_SYNC_WIDTH,
    V_SYNC_OFFSET << 4 | V_SYNC_WIDTH,
    0,
    WIDTH_MM & 0xFF,
    HEIGHT_MM & 0xFF,
    (WIDTH_MM >> 8) << 4 | HEIGHT_MM >> 8,
    0,
    0,
    0x1A /* digital, separate sync, +H -V */
  };
  memcpy(d, bytes, sizeof bytes);
}

static void fill_name(uint8_t *d)
{
  memcpy(d, "\0\0\0\xFC\0Oriel\n       ", 18);
}

/* 50–75 Hz, 30–150 kHz, 600 MHz at most. */
static void fill_range_limits(uint8_t *d)
{
  memcpy(d, "\0\0\0\xFD\0\x32\x4B\x1E\x96\x3C\x01\n      ", 18);
}

/* 60 Hz; `aspect`: 0 16:10, 1 4:3, 2 5:4, 3 16:9. */
static void fill_standard_timing(uint8_t *d, unsigned width, unsigned aspect)
{
  d[0] = (uint8_t)(width / 8 - 31);
  d[1] = (uint8_t)(aspect << 6);
}

void vga_edid_fill(uint8_t edid[VGA_EDID_BYTES])
{
  static const struct {
    uint16_t width;
    uint8_t aspect;
  } standard[8] = { { 1920, 3 }, { 1680, 0 }, { 1600, 1 }, { 1440, 0 },
                    { 1400, 1 }, { 1280, 2 }, { 1280, 3 }, { 1280, 0 } };
  static const uint8_t head[] = {
    0x00,          0xFF,
    0xFF,          0xFF,
    0xFF,          0xFF,
    0xFF,          0x00,
    0x3E,          0x4C, /* maker "ORL", five bits a letter */
    0x01,          0x00, /* product */
    0x00,          0x00,
    0x00,          0x00, /* serial number */
    0x00,          34,   /* made in 2024 */
    0x01,          0x04, /* EDID 1.4 */
    0xA5,                /* digital, 8 bits a colour, DisplayPort */
    WIDTH_MM / 10, HEIGHT_MM / 10,
    0x78, /* gamma 2.2 */
    0x06, /* sRGB, preferred timing is native */
    0xEE,          0x91,
    0xA3,          0x54,
    0x4C,          0x99,
    0x26,          0x0F,
    0x50,          0x54, /* sRGB's primaries */
    0x21,          0x08,
    0x00, /* 640x480, 800x600, 1024x768 at 60 Hz */
  };
  memset(edid, 0, VGA_EDID_BYTES);
  memcpy(edid, head, sizeof head);
  for (size_t i = 0; i < G_N_ELEMENTS(standard); i++)
    fill_standard_timing(edid + 38 + 2 * i, standard[i].width, standard[i].aspect);
  fill_detailed_timing(edid + 54);
  fill_name(edid + 72);
  fill_range_limits(edid + 90);
  memcpy(edid + 108, "\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 18); /* an empty descriptor */
  uint8_t sum = 0;
  for (size_t i = 0; i < VGA_EDID_BYTES - 1; i++)
    sum += edid[i];
  edid[VGA_EDID_BYTES - 1] = (uint8_t)-sum;
}
