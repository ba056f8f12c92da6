/*
 * The Bochs VBE extensions: negotiation, modes of every depth, panning, banks, and what is clamped.
 */
#include "tests/hw/display/vga-test.h"

static void test_negotiation(void)
{
  Rig *rig = rig_new(0);
  g_assert_cmphex(rig_vbe_get(rig, VBE_ID), ==, 0xB0C5);
  for (uint16_t id = 0xB0C0; id <= 0xB0C5; id++) {
    rig_vbe(rig, VBE_ID, id);
    g_assert_cmphex(rig_vbe_get(rig, VBE_ID), ==, id);
  }
  rig_vbe(rig, VBE_ID, 0xB0C6);
  g_assert_cmphex(rig_vbe_get(rig, VBE_ID), ==, 0xB0C5);
  g_assert_cmphex(vm_port_read(rig->memory, 0x1D0, 2), ==, 0xB0C5);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_MEMORY_64K), ==, 256);
  rig_vbe(rig, VBE_XRES, 800);
  rig_vbe(rig, VBE_ENABLE, VBE_GETCAPS);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_XRES), ==, VBE_MAX_XRES);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_YRES), ==, VBE_MAX_YRES);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_BPP), ==, 32);
  rig_vbe(rig, VBE_ENABLE, 0);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_XRES), ==, 800);
  rig_free(rig);
}

static void check_direct_mode(unsigned bpp, const uint32_t raw[4], const uint32_t colours[4])
{
  Rig *rig = rig_new(0);
  unsigned bytes = (bpp + 7) / 8;
  rig_vbe_mode(rig, 800, 600, bpp);
  static const unsigned x[4] = { 0, 799, 0, 799 }, y[4] = { 0, 0, 599, 599 };
  for (unsigned i = 0; i < 4; i++)
    for (unsigned j = 0; j < bytes; j++)
      rig_poke(rig, BAR0 + (y[i] * 800 + x[i]) * bytes + j, (uint8_t)(raw[i] >> 8 * j));
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 800);
  g_assert_cmpuint(rig->height, ==, 600);
  for (unsigned i = 0; i < 4; i++)
    g_assert_cmphex(rig_pixel(rig, x[i], y[i]), ==, colours[i]);
  g_assert_cmphex(rig_pixel(rig, 400, 300), ==, 0);
  /* One more pixel, alone. */
  for (unsigned j = 0; j < bytes; j++)
    rig_poke(rig, BAR0 + (300 * 800 + 400) * bytes + j, (uint8_t)(raw[3] >> 8 * j));
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 400, 300), ==, colours[3]);
  g_assert_cmphex(rig_pixel(rig, 799, 599), ==, colours[3]);
  rig_free(rig);
}

static void test_direct_modes(void)
{
  check_direct_mode(15, (const uint32_t[]){ 0x7C00, 0x03E0, 0x001F, 0x4210 },
                    (const uint32_t[]){ 0xFF0000, 0x00FF00, 0x0000FF, 0x848484 });
  check_direct_mode(16, (const uint32_t[]){ 0xF800, 0x07E0, 0x001F, 0x8410 },
                    (const uint32_t[]){ 0xFF0000, 0x00FF00, 0x0000FF, 0x848284 });
  check_direct_mode(24, (const uint32_t[]){ 0x123456, 0xFF0000, 0x00FF00, 0xABCDEF },
                    (const uint32_t[]){ 0x123456, 0xFF0000, 0x00FF00, 0xABCDEF });
  check_direct_mode(32, (const uint32_t[]){ 0xFF123456, 0x00FF0000, 0x8000FF00, 0xFFABCDEF },
                    (const uint32_t[]){ 0x123456, 0xFF0000, 0x00FF00, 0xABCDEF });
}

static void test_palette_mode(void)
{
  Rig *rig = rig_new(0);
  rig_grey_dac(rig);
  rig_vbe_mode(rig, 640, 480, 8);
  rig_poke(rig, BAR0 + 5, 0x15);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 5, 0), ==, grey(0x15));
  /* Eight bits a colour: what was there keeps its look, what comes has all its bits. */
  rig_vbe(rig, VBE_ENABLE, VBE_ENABLED | VBE_LFB | VBE_8BIT_DAC);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 5, 0), ==, grey(0x15));
  rig_out(rig, 0x3C8, 0x15);
  rig_out(rig, 0x3C9, 0xFE);
  rig_out(rig, 0x3C9, 0x80);
  rig_out(rig, 0x3C9, 0x01);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 5, 0), ==, 0xFE8001);
  rig_out(rig, 0x3C7, 0x15);
  g_assert_cmphex(rig_in(rig, 0x3C9), ==, 0xFE);
  rig_free(rig);
}

static void test_planar_mode(void)
{
  Rig *rig = rig_new(0);
  rig_mode(rig, &mode_12h);
  rig_grey_dac(rig);
  rig_vbe_mode(rig, 1024, 768, 4);
  rig_set(rig, 0x3CE, VGA_GC_MISC, 5);
  rig_set(rig, 0x3C4, VGA_SEQ_MAP_MASK, 0x9);
  rig_poke(rig, 0xA0000 + 128, 0x01);
  rig_vbe(rig, VBE_BANK, 1); /* line 512 begins the second 64 Ki cells */
  rig_poke(rig, 0xA0000, 0x80);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 1024);
  g_assert_cmpuint(rig->height, ==, 768);
  g_assert_cmphex(rig_pixel(rig, 7, 1), ==, grey(9));
  g_assert_cmphex(rig_pixel(rig, 6, 1), ==, grey(0));
  g_assert_cmphex(rig_pixel(rig, 0, 512), ==, grey(9));
  rig_poke(rig, 0xA0000 + 128 * 255 + 127, 0x03);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 1023, 767), ==, grey(9));
  g_assert_cmphex(rig_pixel(rig, 1021, 767), ==, grey(0));
  rig_free(rig);
}

static void test_panning(void)
{
  Rig *rig = rig_new(0);
  rig_vbe_mode(rig, 640, 480, 32);
  rig_vbe(rig, VBE_VIRT_WIDTH, 1000);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_VIRT_WIDTH), ==, 1000);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_VIRT_HEIGHT), ==, (16 << 20) / 4000);
  vm_memory_store(rig->memory, VM_VIEW_NORMAL, BAR0 + (500 * 1000 + 123) * 4, 0x00C0FFEE, 4);
  rig_vbe(rig, VBE_X_OFFSET, 120);
  rig_vbe(rig, VBE_Y_OFFSET, 499);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 3, 1), ==, 0xC0FFEE);
  vm_memory_store(rig->memory, VM_VIEW_NORMAL, BAR0 + (501 * 1000 + 120) * 4, 0x00BADBAD, 4);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 0, 2), ==, 0xBADBAD);
  /* The last lines of the memory can be shown; those beyond cannot, and the offset stays. */
  unsigned last = (16 << 20) / 4000 - 480;
  rig_vbe(rig, VBE_Y_OFFSET, (uint16_t)last);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_Y_OFFSET), ==, last);
  rig_vbe(rig, VBE_Y_OFFSET, (uint16_t)(last + 1));
  g_assert_cmpuint(rig_vbe_get(rig, VBE_Y_OFFSET), ==, last);
  /* A picture that runs over the memory's end goes on at its start. */
  rig_vbe_mode(rig, 1024, 768, 32);
  vm_memory_store(rig->memory, VM_VIEW_NORMAL, BAR0, 0x00123456, 4);
  rig_vbe(rig, VBE_Y_OFFSET, 4096 - 768);
  rig_vbe(rig, VBE_X_OFFSET, 1000);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 24, 767), ==, 0x123456);
  rig_free(rig);
}

static void test_banks(void)
{
  Rig *rig = rig_new(0);
  rig_vbe_mode(rig, 1024, 768, 32);
  rig_vbe(rig, VBE_BANK, 3);
  rig_poke(rig, 0xA0000 + 6, 0x77);
  g_assert_cmphex(rig_peek(rig, BAR0 + 3 * 65536 + 6), ==, 0x77);
  rig_draw(rig);
  g_assert_cmphex(rig_pixel(rig, 1, 48), ==, 0x770000);
  rig_poke(rig, BAR0 + 255 * 65536, 0x99);
  rig_vbe(rig, VBE_BANK, 0xFFFF); /* as many address bits as there is memory */
  g_assert_cmpuint(rig_vbe_get(rig, VBE_BANK), ==, 255);
  g_assert_cmphex(rig_peek(rig, 0xA0000), ==, 0x99);
  /* The text window is not there in a linear mode, and comes back. */
  rig_poke(rig, 0xB8000, 0x42);
  g_assert_cmphex(rig_peek(rig, 0xB8000), ==, 0xFF);
  rig_vbe(rig, VBE_ENABLE, 0);
  rig_mode(rig, &mode_text);
  rig_poke(rig, 0xB8000, 0x42);
  g_assert_cmphex(rig_peek(rig, 0xB8000), ==, 0x42);
  rig_free(rig);
}

static void test_absurd_values(void)
{
  Rig *rig = rig_new(VGA_MIN_VRAM_BYTES);
  rig_vbe_mode(rig, 640, 480, 8);
  rig_vbe(rig, VBE_XRES, 320); /* fixed while on */
  g_assert_cmpuint(rig_vbe_get(rig, VBE_XRES), ==, 640);
  rig_vbe(rig, VBE_ENABLE, 0);
  rig_vbe(rig, VBE_XRES, 0);
  rig_vbe(rig, VBE_YRES, 0xFFFF);
  rig_vbe(rig, VBE_BPP, 7);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_XRES), ==, 640);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_YRES), ==, 480);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_BPP), ==, 8);
  /* More than the memory holds: fewer lines. */
  rig_vbe_mode(rig, 4096, 2160, 32);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_YRES), ==, 64);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 4096);
  g_assert_cmpuint(rig->height, ==, 64);
  rig_vbe(rig, VBE_VIRT_WIDTH, 0xFFFF);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_VIRT_WIDTH), ==, 4096);
  rig_vbe_mode(rig, 640, 480, 16);
  rig_vbe(rig, VBE_VIRT_WIDTH, 10);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_VIRT_WIDTH), ==, 640);
  rig_vbe_mode(rig, 1, 1, 4);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 1);
  rig_vbe_mode(rig, 4095, 4096, 4);
  rig_draw(rig);
  rig_free(rig);
}

static void test_clearing(void)
{
  Rig *rig = rig_new(0);
  rig_vbe_mode(rig, 640, 480, 8);
  rig_poke(rig, BAR0 + 1000, 5);
  rig_vbe(rig, VBE_ENABLE, 0);
  rig_vbe(rig, VBE_ENABLE, VBE_ENABLED | VBE_NOCLEARMEM);
  g_assert_cmphex(rig_peek(rig, BAR0 + 1000), ==, 5);
  rig_vbe(rig, VBE_ENABLE, 0);
  rig_vbe(rig, VBE_ENABLE, VBE_ENABLED);
  g_assert_cmphex(rig_peek(rig, BAR0 + 1000), ==, 0);
  rig_free(rig);
}

static void test_largest_mode(void)
{
  Rig *rig = rig_new(UINT64_C(64) << 20);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_MEMORY_64K), ==, 1024);
  rig_vbe_mode(rig, 4096, 2160, 32);
  vm_memory_store(rig->memory, VM_VIEW_NORMAL, BAR0 + (2160u * 4096 - 1) * 4, 0x00ABCDEF, 4);
  rig_draw(rig);
  g_assert_cmpuint(rig->width, ==, 4096);
  g_assert_cmpuint(rig->height, ==, 2160);
  g_assert_cmphex(rig_pixel(rig, 4095, 2159), ==, 0xABCDEF);
  rig_free(rig);
}

static uint32_t mmio_load(Rig *rig, unsigned offset, unsigned size)
{
  return (uint32_t)vm_memory_load(rig->memory, VM_VIEW_NORMAL, BAR2 + offset, size);
}

static void test_mmio(void)
{
  Rig *rig = rig_new(0);
  uint8_t sum = 0;
  for (unsigned i = 0; i < 128; i++)
    sum += (uint8_t)mmio_load(rig, i, 1);
  g_assert_cmphex(sum, ==, 0);
  g_assert_cmphex(mmio_load(rig, 0, 4), ==, 0xFFFFFF00);
  g_assert_cmphex(mmio_load(rig, 54, 2), ==, 7100);
  g_assert_cmphex(mmio_load(rig, 0x500, 2), ==, 0xB0C5);
  g_assert_cmphex(mmio_load(rig, 0x500, 4), ==, 640u << 16 | 0xB0C5);
  vm_memory_store(rig->memory, VM_VIEW_NORMAL, BAR2 + 0x502, 1280, 2);
  g_assert_cmpuint(rig_vbe_get(rig, VBE_XRES), ==, 1280);
  vm_memory_store(rig->memory, VM_VIEW_NORMAL, BAR2 + 0x400 + 0x02, 0x67, 1);
  g_assert_cmphex(rig_in(rig, 0x3CC), ==, 0x67);
  g_assert_cmphex(mmio_load(rig, 0x40C, 1), ==, 0x67);
  g_assert_cmphex(mmio_load(rig, 0x600, 4), ==, 8);
  g_assert_cmphex(mmio_load(rig, 0x604, 4), ==, 0x1E1E1E1E);
  g_assert_cmphex(mmio_load(rig, 0xFFC, 4), ==, 0);
  rig_free(rig);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/vga/vbe/negotiation", test_negotiation);
  g_test_add_func("/vga/vbe/direct", test_direct_modes);
  g_test_add_func("/vga/vbe/palette", test_palette_mode);
  g_test_add_func("/vga/vbe/planar", test_planar_mode);
  g_test_add_func("/vga/vbe/panning", test_panning);
  g_test_add_func("/vga/vbe/banks", test_banks);
  g_test_add_func("/vga/vbe/absurd", test_absurd_values);
  g_test_add_func("/vga/vbe/clearing", test_clearing);
  g_test_add_func("/vga/vbe/largest", test_largest_mode);
  g_test_add_func("/vga/vbe/mmio", test_mmio);
  return g_test_run();
}
