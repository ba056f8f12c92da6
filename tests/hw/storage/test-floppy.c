/* The floppy controller, driven by its commands, with DMA and without. */
#include <errno.h>
#include <string.h>

#include "hw/storage/floppy.h"
#include "tests/block/memory-image.h"
#include "tests/hw/device-test.h"

#define RAM_BYTES  0x100000u
#define DISK_BYTES (1440u * 1024)

enum { DOR = 0x3F2, MSR = 0x3F4, DSR = 0x3F4, FIFO = 0x3F5, CHANGE_LINE = 0x3F7, CCR = 0x3F7 };

typedef struct Fixture {
  Vm *vm;
  I8237 *dma;
  Floppy *fdc;
  TestLine irq;
  MemoryImage disk;
} Fixture;

static uint8_t pattern(uint64_t at)
{
  return (uint8_t)(at * 7 + (at >> 9) * 31 + 3);
}

static BlkImage *open_image(Fixture *f, MemoryImage *memory, bool read_only)
{
  return memory_image_open(memory, "floppy", read_only, vm_io_context_get_main_context(vm_get_io_context(f->vm)));
}

static void wait_irq(Fixture *f)
{
  for (unsigned i = 0; i < 1000 && !f->irq.level; i++)
    test_step(f->vm, 100 * VM_NS_PER_US);
  g_assert_true(f->irq.level);
}

static void command(Fixture *f, const uint8_t *bytes, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    g_assert_cmphex(test_in8(f->vm, MSR) & 0xC0, ==, 0x80);
    test_out8(f->vm, FIFO, bytes[i]);
  }
}

static void results(Fixture *f, uint8_t *bytes, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    g_assert_cmphex(test_in8(f->vm, MSR) & 0xD0, ==, 0xD0);
    bytes[i] = test_in8(f->vm, FIFO);
  }
  g_assert_cmphex(test_in8(f->vm, MSR) & 0xD0, ==, 0x80);
}

static void sense_interrupt(Fixture *f, uint8_t st0, uint8_t track)
{
  uint8_t bytes[2];
  command(f, (const uint8_t[]){ 0x08 }, 1);
  results(f, bytes, 2);
  g_assert_cmphex(bytes[0], ==, st0);
  g_assert_cmpuint(bytes[1], ==, track);
}

static void power_up(Fixture *f)
{
  test_out8(f->vm, DOR, 0x00);
  test_out8(f->vm, DOR, 0x1C); /* motor A, DMA gate */
  wait_irq(f);
  for (uint8_t i = 0; i < 4; i++)
    sense_interrupt(f, 0xC0 | i, 0);
  g_assert_false(f->irq.level);
  test_out8(f->vm, CCR, 0);
  command(f, (const uint8_t[]){ 0x03, 0xDF, 0x02 }, 3);
}

static void make(Fixture *f, FloppyDriveType type, uint64_t size, bool read_only)
{
  VmMemory *memory;
  VmIrq irq = test_line_irq(&f->irq);
  f->vm = vm_new_manual();
  memory = vm_get_memory(f->vm);
  VmRam *ram = vm_ram_new(memory, "ram", RAM_BYTES, NULL);
  memory_image_init(&f->disk, size);
  for (uint64_t i = 0; i < size; i++)
    f->disk.bytes[i] = pattern(i);
  test_lock(f->vm);
  vm_region_new_ram(memory, "ram", 0, RAM_BYTES, 0, ram, 0, VM_ACCESS_RW);
  f->dma = i8237_new(f->vm);
  f->fdc = floppy_new(f->vm, f->dma, &irq);
  floppy_add_drive(f->fdc, 0, type);
  g_assert_true(floppy_insert(f->fdc, 0, open_image(f, &f->disk, read_only), NULL));
  test_unlock(f->vm);
}

static void set_up(Fixture *f, gconstpointer data)
{
  make(f, FLOPPY_DRIVE_1440K, DISK_BYTES, data != NULL);
  power_up(f);
}

static void tear_down(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
  g_assert_cmpuint(f->disk.n_closed, ==, 1);
  memory_image_clear(&f->disk);
}

static void seek(Fixture *f, uint8_t track)
{
  command(f, (const uint8_t[]){ 0x0F, 0, track }, 3);
  wait_irq(f);
  sense_interrupt(f, 0x20, track);
}

static void program_dma(Fixture *f, uint8_t mode, uint32_t gpa, uint16_t bytes)
{
  test_out8(f->vm, 0xD6, 0xC0);
  test_out8(f->vm, 0xD4, 0x00);
  test_out8(f->vm, 0x0A, 6);
  test_out8(f->vm, 0x0C, 0);
  test_out8(f->vm, 0x0B, mode);
  test_out8(f->vm, 0x04, (uint8_t)gpa);
  test_out8(f->vm, 0x04, (uint8_t)(gpa >> 8));
  test_out8(f->vm, 0x81, (uint8_t)(gpa >> 16));
  test_out8(f->vm, 0x05, (uint8_t)(bytes - 1));
  test_out8(f->vm, 0x05, (uint8_t)((bytes - 1) >> 8));
  test_out8(f->vm, 0x0A, 2);
}

static void assert_memory_pattern(Fixture *f, VmGpa gpa, uint64_t at, unsigned size)
{
  g_autofree uint8_t *bytes = g_malloc(size);
  g_assert_true(vm_memory_read(vm_get_memory(f->vm), gpa, bytes, size));
  for (unsigned i = 0; i < size; i++)
    g_assert_cmpuint(bytes[i], ==, pattern(at + i));
}

/* Runs a read or write and compares its seven result bytes. */
static void data_command(Fixture *f, const uint8_t *bytes, const uint8_t *expected)
{
  uint8_t got[7];
  command(f, bytes, 9);
  wait_irq(f);
  results(f, got, 7);
  g_assert_false(f->irq.level);
  g_assert_cmpmem(got, 7, expected, 7);
}

static void test_reset_and_settings(Fixture *f, gconstpointer data)
{
  uint8_t bytes[10];
  command(f, (const uint8_t[]){ 0x10 }, 1);
  results(f, bytes, 1);
  g_assert_cmphex(bytes[0], ==, 0x90);
  command(f, (const uint8_t[]){ 0x13, 0, 0x57, 0x11 }, 4);
  command(f, (const uint8_t[]){ 0x12, 0x84 }, 2);
  command(f, (const uint8_t[]){ 0x94 }, 1);
  results(f, bytes, 1);
  g_assert_cmphex(bytes[0], ==, 0x10);
  command(f, (const uint8_t[]){ 0x0E }, 1);
  results(f, bytes, 10);
  g_assert_cmphex(bytes[4], ==, 0xDF);
  g_assert_cmphex(bytes[7], ==, 0x84);
  g_assert_cmphex(bytes[8], ==, 0x57);
  g_assert_cmphex(bytes[9], ==, 0x11);
  command(f, (const uint8_t[]){ 0x08 }, 1); /* nothing to sense */
  results(f, bytes, 1);
  g_assert_cmphex(bytes[0], ==, 0x80);
  command(f, (const uint8_t[]){ 0x1E }, 1); /* no such command */
  results(f, bytes, 1);
  g_assert_cmphex(bytes[0], ==, 0x80);
  /* A reset by the data rate register; what is locked stays. */
  test_out8(f->vm, DSR, 0x80);
  g_assert_cmphex(test_in8(f->vm, MSR), ==, 0);
  wait_irq(f);
  sense_interrupt(f, 0xC0, 0);
  command(f, (const uint8_t[]){ 0x0E }, 1);
  results(f, bytes, 10);
  g_assert_cmphex(bytes[8], ==, 0x57);
  test_out8(f->vm, DOR, 0x18); /* held in reset: deaf */
  g_assert_cmphex(test_in8(f->vm, MSR), ==, 0);
  test_out8(f->vm, FIFO, 0x10);
  test_out8(f->vm, DOR, 0x1C);
  wait_irq(f);
  g_assert_cmphex(test_in8(f->vm, MSR), ==, 0x80);
}

static void test_heads(Fixture *f, gconstpointer data)
{
  uint8_t st3;
  g_assert_cmphex(test_in8(f->vm, CHANGE_LINE) & 0x80, ==, 0x80); /* changed, since power-on */
  seek(f, 40);
  g_assert_cmphex(test_in8(f->vm, CHANGE_LINE) & 0x80, ==, 0);
  command(f, (const uint8_t[]){ 0x04, 0x04 }, 2);
  results(f, &st3, 1);
  g_assert_cmphex(st3, ==, 0x2C);
  command(f, (const uint8_t[]){ 0x07, 0 }, 2);
  g_assert_cmphex(test_in8(f->vm, MSR) & 1, ==, 1);
  wait_irq(f);
  sense_interrupt(f, 0x20, 0);
  command(f, (const uint8_t[]){ 0x04, 0x00 }, 2);
  results(f, &st3, 1);
  g_assert_cmphex(st3, ==, 0x38);
  /* Drive B is not there: its track 0 is not found. */
  command(f, (const uint8_t[]){ 0x07, 1 }, 2);
  wait_irq(f);
  sense_interrupt(f, 0x71, 0);
  /* Relative, inwards and out. */
  command(f, (const uint8_t[]){ 0xCF, 0, 10 }, 3);
  wait_irq(f);
  sense_interrupt(f, 0x20, 10);
  command(f, (const uint8_t[]){ 0x8F, 0, 3 }, 3);
  wait_irq(f);
  sense_interrupt(f, 0x20, 7);
}

static void test_read_dma(Fixture *f, gconstpointer data)
{
  seek(f, 5);
  program_dma(f, 0x46, 0x20000, 3 * 512);
  data_command(f, (const uint8_t[]){ 0xE6, 0x04, 5, 1, 4, 2, 18, 0x1B, 0xFF },
               (const uint8_t[]){ 0x04, 0, 0, 5, 1, 7, 2 });
  assert_memory_pattern(f, 0x20000, ((5 * 2 + 1) * 18 + 3) * 512, 3 * 512);
  g_assert_cmphex(test_in8(f->vm, 0x08) & 0x44, ==, 0x04);
  /* Over both sides, a whole cylinder, which takes two tracks. */
  program_dma(f, 0x46, 0x30000, 36 * 512);
  data_command(f, (const uint8_t[]){ 0xE6, 0x00, 5, 0, 1, 2, 18, 0x1B, 0xFF },
               (const uint8_t[]){ 0x04, 0, 0, 6, 0, 1, 2 });
  assert_memory_pattern(f, 0x30000, 5 * 36 * 512, 36 * 512);
  /* The side's end before the count's: an error that names it. */
  program_dma(f, 0x46, 0x30000, 36 * 512);
  data_command(f, (const uint8_t[]){ 0x46, 0x00, 5, 0, 17, 2, 18, 0x1B, 0xFF },
               (const uint8_t[]){ 0x40, 0x80, 0, 6, 0, 1, 2 });
  /* The channel is opened only later. */
  program_dma(f, 0x46, 0x40000, 512);
  test_out8(f->vm, 0x0A, 6);
  command(f, (const uint8_t[]){ 0x46, 0x00, 5, 0, 2, 2, 18, 0x1B, 0xFF }, 9);
  test_step(f->vm, VM_NS_PER_MS);
  g_assert_false(f->irq.level);
  test_out8(f->vm, 0x0A, 2);
  wait_irq(f);
  assert_memory_pattern(f, 0x40000, (5 * 36 + 1) * 512, 512);
}

static void test_write_dma(Fixture *f, gconstpointer data)
{
  for (unsigned i = 0; i < 1024; i++)
    test_store(f->vm, 0x20000 + i, 0x5A ^ i, 1);
  seek(f, 79);
  program_dma(f, 0x4A, 0x20000, 600); /* ends within the second sector */
  data_command(f, (const uint8_t[]){ 0x45, 0x04, 79, 1, 17, 2, 18, 0x1B, 0xFF },
               (const uint8_t[]){ 0x04, 0, 0, 80, 1, 1, 2 });
  const uint8_t *at = f->disk.bytes + (79 * 36 + 18 + 16) * 512;
  for (unsigned i = 0; i < 1024; i++)
    g_assert_cmphex(at[i], ==, i < 600 ? (uint8_t)(0x5A ^ i) : 0);
  for (unsigned i = 0; i < 512; i++)
    g_assert_cmphex(at[-512 + (int)i], ==, pattern((79 * 36 + 18 + 15) * 512 + i));
}

static void test_without_dma(Fixture *f, gconstpointer data)
{
  uint8_t got[7];
  command(f, (const uint8_t[]){ 0x03, 0xDF, 0x03 }, 3);
  command(f, (const uint8_t[]){ 0x46, 0, 0, 0, 17, 2, 18, 0x1B, 0xFF }, 9);
  for (unsigned i = 0; i < 1024; i++) {
    wait_irq(f);
    g_assert_cmphex(test_in8(f->vm, MSR) & 0xF0, ==, 0xF0);
    g_assert_cmphex(test_in8(f->vm, FIFO), ==, pattern(16 * 512 + i));
  }
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[0], ==, 0x40); /* nobody said "enough" */
  g_assert_cmphex(got[1], ==, 0x80);
  command(f, (const uint8_t[]){ 0x45, 0, 0, 0, 18, 2, 18, 0x1B, 0xFF }, 9);
  for (unsigned i = 0; i < 512; i++) {
    g_assert_cmphex(test_in8(f->vm, MSR) & 0xF0, ==, 0xB0);
    test_out8(f->vm, FIFO, (uint8_t)(i * 3));
  }
  wait_irq(f);
  results(f, got, 7);
  for (unsigned i = 0; i < 512; i++)
    g_assert_cmphex(f->disk.bytes[17 * 512 + i], ==, (uint8_t)(i * 3));
}

static void test_read_id_and_rate(Fixture *f, gconstpointer data)
{
  uint8_t got[7];
  seek(f, 3);
  for (uint8_t i = 1; i <= 3; i++) {
    command(f, (const uint8_t[]){ 0x4A, 0x04 }, 2);
    wait_irq(f);
    results(f, got, 7);
    g_assert_cmpmem(got, 7, ((const uint8_t[]){ 0x04, 0, 0, 3, 1, i, 2 }), 7);
  }
  test_out8(f->vm, CCR, 2); /* 250 kbit/s reads no high density */
  command(f, (const uint8_t[]){ 0x4A, 0x00 }, 2);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[0], ==, 0x40);
  g_assert_cmphex(got[1], ==, 0x01);
  test_out8(f->vm, CCR, 0);
  test_out8(f->vm, DOR, 0x0C); /* the motor off */
  command(f, (const uint8_t[]){ 0x4A, 0x00 }, 2);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[1], ==, 0x01);
}

static void test_errors(Fixture *f, gconstpointer data)
{
  static const struct {
    uint8_t command[9], results[3];
  } rows[] = {
    { { 0x46, 0, 0, 0, 19, 2, 18, 0x1B, 0xFF }, { 0x40, 0x04, 0x00 } }, /* sector 19 */
    { { 0x46, 0, 0, 0, 0, 2, 18, 0x1B, 0xFF }, { 0x40, 0x04, 0x00 } },  /* sector 0 */
    { { 0x46, 0, 1, 0, 1, 2, 18, 0x1B, 0xFF }, { 0x40, 0x04, 0x10 } },  /* the head is elsewhere */
    { { 0x46, 0, 0, 1, 1, 2, 18, 0x1B, 0xFF }, { 0x40, 0x04, 0x00 } },  /* the wrong side's address */
    { { 0x46, 0, 0, 0, 1, 3, 18, 0x1B, 0xFF }, { 0x40, 0x04, 0x00 } },  /* 1024-byte sectors */
    { { 0x06, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF }, { 0x40, 0x01, 0x00 } },  /* single density */
    { { 0x46, 1, 0, 0, 1, 2, 18, 0x1B, 0xFF }, { 0x41, 0x01, 0x00 } },  /* no such drive */
    { { 0x45, 3, 0, 0, 1, 2, 18, 0x1B, 0xFF }, { 0x43, 0x01, 0x00 } },
    { { 0x46, 0, 255, 0, 1, 2, 255, 0x1B, 0xFF }, { 0x40, 0x04, 0x10 } },
  };
  uint8_t got[7];
  program_dma(f, 0x46, 0x20000, 512);
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    command(f, rows[i].command, 9);
    wait_irq(f);
    results(f, got, 7);
    g_assert_cmpmem(got, 3, rows[i].results, 3);
  }
  f->disk.read_error = EIO;
  f->disk.write_error = ENOSPC;
  command(f, (const uint8_t[]){ 0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF }, 9);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmpmem(got, 3, ((const uint8_t[]){ 0x40, 0x20, 0x20 }), 3);
  program_dma(f, 0x4A, 0x20000, 512);
  command(f, (const uint8_t[]){ 0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF }, 9);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmpmem(got, 3, ((const uint8_t[]){ 0x50, 0x00, 0x00 }), 3);
  for (uint64_t i = 0; i < DISK_BYTES; i++)
    g_assert_cmphex(f->disk.bytes[i], ==, pattern(i));
}

static void test_protected(Fixture *f, gconstpointer data)
{
  uint8_t got[7];
  program_dma(f, 0x4A, 0x20000, 512);
  command(f, (const uint8_t[]){ 0x45, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF }, 9);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[0], ==, 0x40);
  g_assert_cmphex(got[1], ==, 0x02);
  command(f, (const uint8_t[]){ 0x4D, 0, 2, 18, 0x54, 0xF6 }, 6);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[1], ==, 0x02);
  command(f, (const uint8_t[]){ 0x04, 0 }, 2);
  results(f, got, 1);
  g_assert_cmphex(got[0] & 0x40, ==, 0x40);
  g_assert_cmpuint(f->disk.n_writes, ==, 0);
}

static void test_format(Fixture *f, gconstpointer data)
{
  uint8_t got[7];
  seek(f, 10);
  for (unsigned i = 0; i < 18; i++) {
    unsigned sector = i * 5 % 18 + 1; /* interleaved */
    test_store(f->vm, 0x20000 + 4 * i, 10 | 1u << 8 | sector << 16 | 2u << 24, 4);
  }
  program_dma(f, 0x4A, 0x20000, 72);
  command(f, (const uint8_t[]){ 0x4D, 0x04, 2, 18, 0x54, 0xF6 }, 6);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[0], ==, 0x04);
  g_assert_cmphex(got[1], ==, 0x00);
  for (unsigned i = 0; i < 18 * 512; i++)
    g_assert_cmphex(f->disk.bytes[(10 * 2 + 1) * 18 * 512 + i], ==, 0xF6);
  g_assert_cmphex(f->disk.bytes[(10 * 2 + 1) * 18 * 512 - 1], ==, pattern((10 * 2 + 1) * 18 * 512 - 1));
  g_assert_cmphex(f->disk.bytes[(10 * 2 + 2) * 18 * 512], ==, pattern((10 * 2 + 2) * 18 * 512));
  /* A sector that this disk cannot have. */
  test_store(f->vm, 0x20000, 10 | 1u << 8 | 19u << 16 | 2u << 24, 4);
  program_dma(f, 0x4A, 0x20000, 4);
  command(f, (const uint8_t[]){ 0x4D, 0x04, 2, 1, 0x54, 0xF6 }, 6);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[0] & 0xC0, ==, 0x40);
}

static void test_sizes(void)
{
  static const struct {
    unsigned kib, sectors, tracks, heads;
    FloppyDriveType type;
    uint8_t rate;
  } rows[] = {
    { 160, 8, 40, 1, FLOPPY_DRIVE_360K, 2 },    { 180, 9, 40, 1, FLOPPY_DRIVE_360K, 2 },
    { 320, 8, 40, 2, FLOPPY_DRIVE_360K, 1 },    { 360, 9, 40, 2, FLOPPY_DRIVE_360K, 2 },
    { 720, 9, 80, 2, FLOPPY_DRIVE_1440K, 2 },   { 1200, 15, 80, 2, FLOPPY_DRIVE_1200K, 0 },
    { 1440, 18, 80, 2, FLOPPY_DRIVE_1440K, 0 }, { 1680, 21, 80, 2, FLOPPY_DRIVE_1440K, 0 },
    { 2880, 36, 80, 2, FLOPPY_DRIVE_2880K, 3 }, { 100, 18, 80, 2, FLOPPY_DRIVE_1440K, 0 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    Fixture f = { 0 };
    uint8_t last = (uint8_t)(rows[i].tracks - 1), head = (uint8_t)(rows[i].heads - 1),
            sector = (uint8_t)rows[i].sectors;
    uint64_t at = (((uint64_t)last * rows[i].heads + head) * sector + sector - 1) * 512;
    g_assert_cmpuint(floppy_drive_type_for_size(rows[i].kib * 1024), ==, rows[i].type);
    make(&f, rows[i].type, rows[i].kib * 1024, false);
    power_up(&f);
    test_out8(f.vm, CCR, rows[i].rate);
    seek(&f, last);
    program_dma(&f, 0x46, 0x20000, 512);
    uint8_t got[7];
    command(&f, (const uint8_t[]){ 0x46, (uint8_t)(head << 2), last, head, sector, 2, sector, 0x1B, 0xFF }, 9);
    wait_irq(&f);
    results(&f, got, 7);
    g_assert_cmphex(got[0], ==, head << 2);
    if (at + 512 <= rows[i].kib * 1024)
      assert_memory_pattern(&f, 0x20000, at, 512);
    else
      g_assert_cmphex(test_load(f.vm, 0x20000, 4), ==, 0); /* past the end of a cut-off image */
    tear_down(&f, NULL);
  }
}

static void test_change(Fixture *f, gconstpointer data)
{
  MemoryImage other, large;
  uint8_t got[7];
  g_autoptr(GError) error = NULL;
  memory_image_init(&other, 720 * 1024);
  memory_image_init(&large, 2880 * 1024);
  seek(f, 1);
  g_assert_cmphex(test_in8(f->vm, CHANGE_LINE) & 0x80, ==, 0);
  test_lock(f->vm);
  floppy_eject(f->fdc, 0);
  g_assert_null(floppy_get_image(f->fdc, 0));
  test_unlock(f->vm);
  g_assert_cmpuint(f->disk.n_closed, ==, 1);
  seek(f, 0); /* a step without a disk does not lower the line */
  g_assert_cmphex(test_in8(f->vm, CHANGE_LINE) & 0x80, ==, 0x80);
  command(f, (const uint8_t[]){ 0x4A, 0x00 }, 2);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[1], ==, 0x01);
  BlkImage *refused = open_image(f, &large, false);
  test_lock(f->vm);
  g_assert_false(floppy_insert(f->fdc, 0, refused, &error));
  g_assert_nonnull(strstr(error->message, "too large"));
  g_clear_error(&error);
  g_assert_false(floppy_insert(f->fdc, 1, refused, &error));
  blk_close(refused);
  g_assert_true(floppy_insert(f->fdc, 0, open_image(f, &other, false), NULL));
  test_unlock(f->vm);
  g_assert_cmphex(test_in8(f->vm, CHANGE_LINE) & 0x80, ==, 0x80);
  seek(f, 2);
  g_assert_cmphex(test_in8(f->vm, CHANGE_LINE) & 0x80, ==, 0);
  /* Taken out while a read is under way. */
  test_out8(f->vm, CCR, 2);
  other.hold = true;
  command(f, (const uint8_t[]){ 0x46, 0, 2, 0, 1, 2, 9, 0x1B, 0xFF }, 9);
  memory_image_release(&other);
  test_lock(f->vm);
  floppy_eject(f->fdc, 0);
  test_unlock(f->vm);
  wait_irq(f);
  results(f, got, 7);
  g_assert_cmphex(got[0] & 0xC0, ==, 0x40);
  memory_image_clear(&other);
  memory_image_clear(&large);
}

static void test_reset_in_flight(Fixture *f, gconstpointer data)
{
  f->disk.hold = true;
  program_dma(f, 0x46, 0x20000, 512);
  command(f, (const uint8_t[]){ 0x46, 0, 0, 0, 1, 2, 18, 0x1B, 0xFF }, 9);
  test_out8(f->vm, DOR, 0x18);
  test_out8(f->vm, DOR, 0x1C);
  wait_irq(f);
  sense_interrupt(f, 0xC0, 0);
  command(f, (const uint8_t[]){ 0x46, 0, 0, 0, 2, 2, 18, 0x1B, 0xFF }, 9);
  memory_image_release(&f->disk);
  wait_irq(f);
  assert_memory_pattern(f, 0x20000, 512, 512); /* the second command's, not the first's */
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  uint8_t got[7];
  set_up(&other, NULL);
  test_check_type(f->fdc);
  seek(f, 8);
  f->disk.hold = true;
  program_dma(f, 0x46, 0x20000, 512);
  command(f, (const uint8_t[]){ 0x46, 0, 8, 0, 3, 2, 18, 0x1B, 0xFF }, 9);
  test_step(other.vm, vm_clock_get_ns(vm_get_clock(f->vm)) - vm_clock_get_ns(vm_get_clock(other.vm)));
  test_round_trip(f->dma, other.dma);
  test_round_trip(f->fdc, other.fdc); /* while the image is asked */
  wait_irq(&other);
  results(&other, got, 7);
  g_assert_cmpmem(got, 7, ((const uint8_t[]){ 0, 0, 0, 8, 0, 4, 2 }), 7);
  assert_memory_pattern(&other, 0x20000, (8 * 36 + 2) * 512, 512);
  memory_image_release(&f->disk);
  tear_down(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(20401);
  test_hostile_ports(f->vm, 0x3F0, 8, rand);
  for (unsigned i = 0; i < TEST_POKES; i++) { /* the FIFO alone, most of all */
    if (i % 1000 == 0) {
      test_out8(f->vm, DOR, 0);
      test_out8(f->vm, DOR, 0x1C);
      test_step(f->vm, VM_NS_PER_MS);
      program_dma(f, g_rand_boolean(rand) ? 0x46 : 0x4A, g_rand_int(rand) & 0xFFFFFF, (uint16_t)g_rand_int(rand));
    }
    if (g_rand_int(rand) % 8 == 0)
      test_in8(f->vm, FIFO);
    else
      test_out8(f->vm, FIFO, (uint8_t)g_rand_int(rand));
    if (i % 64 == 0)
      test_step(f->vm, VM_NS_PER_MS);
  }
  test_hostile_streams(f->fdc, rand);
  power_up(f);
  seek(f, 2);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name, read_only, func) g_test_add("/hw/storage/floppy/" name, Fixture, read_only, set_up, func, tear_down)
  ADD("reset-and-settings", NULL, test_reset_and_settings);
  ADD("heads", NULL, test_heads);
  ADD("read-dma", NULL, test_read_dma);
  ADD("write-dma", NULL, test_write_dma);
  ADD("without-dma", NULL, test_without_dma);
  ADD("read-id-and-rate", NULL, test_read_id_and_rate);
  ADD("errors", NULL, test_errors);
  ADD("protected", "read-only", test_protected);
  ADD("format", NULL, test_format);
  g_test_add_func("/hw/storage/floppy/sizes", test_sizes);
  ADD("change", NULL, test_change);
  ADD("reset-in-flight", NULL, test_reset_in_flight);
  ADD("state", NULL, test_state);
  ADD("hostile", NULL, test_hostile);
  return g_test_run();
}
