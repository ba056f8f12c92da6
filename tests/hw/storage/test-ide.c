/* The disk at the PIIX3's IDE ports, poked as a driver would. */
#include <errno.h>
#include <string.h>

#include "tests/hw/storage/storage-test.h"

#define DISK_SECTORS 4096u

typedef struct Fixture {
  Machine m;
  MemoryImage disk;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
  machine_init(&f->m);
  memory_image_init(&f->disk, DISK_SECTORS * 512);
  machine_add_disk(&f->m, 0, &f->disk, false);
}

static void tear_down(Fixture *f, gconstpointer data)
{
  machine_clear(&f->m);
  g_assert_cmpuint(f->disk.n_closed, ==, 1);
  memory_image_clear(&f->disk);
}

static void assert_pattern(const uint8_t *bytes, uint64_t at, uint64_t size)
{
  for (uint64_t i = 0; i < size; i++)
    g_assert_cmpuint(bytes[i], ==, storage_pattern(at + i));
}

static uint16_t word(const uint8_t *page, unsigned i)
{
  return (uint16_t)(page[2 * i] | page[2 * i + 1] << 8);
}

static void identify(Fixture *f, uint8_t *page)
{
  out8(&f->m, DEVICE, 0xE0);
  out8(&f->m, COMMAND, 0xEC);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
  read_data(&f->m, page, 512);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
}

static void test_identify(Fixture *f, gconstpointer data)
{
  uint8_t page[512], sum = 0;
  identify(f, page);
  g_assert_cmpuint(f->m.irq14.rises, ==, 1);
  g_assert_cmpuint(word(page, 1), ==, DISK_SECTORS / (16 * 63));
  g_assert_cmpuint(word(page, 3), ==, 16);
  g_assert_cmpuint(word(page, 6), ==, 63);
  g_assert_cmpuint(word(page, 60), ==, DISK_SECTORS);
  g_assert_cmpuint(word(page, 100), ==, DISK_SECTORS);
  g_assert_cmphex(word(page, 47), ==, 0x8010);
  g_assert_cmpmem(page + 54, 14, "ROEI LAHDRIDKS", 14);
  for (unsigned i = 0; i < 512; i++)
    sum = (uint8_t)(sum + page[i]);
  g_assert_cmpuint(sum, ==, 0);
  /* The chosen DMA mode is marked. */
  out8(&f->m, FEATURE, 0x03);
  out8(&f->m, COUNT, 0x42);
  out8(&f->m, COMMAND, 0xEF);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  identify(f, page);
  g_assert_cmphex(word(page, 88), ==, 0x043F);
}

static void test_pio_read(Fixture *f, gconstpointer data)
{
  uint8_t buffer[512];
  select_lba(&f->m, 0, 100, 3);
  out8(&f->m, COMMAND, 0x20);
  g_assert_true(in8(&f->m, CONTROL) & ST_BSY);
  g_assert_false(f->m.irq14.level);
  for (unsigned i = 0; i < 3; i++) {
    g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
    g_assert_true(f->m.irq14.level);
    g_assert_cmphex(in8(&f->m, STATUS), ==, 0x58); /* acknowledges */
    g_assert_false(f->m.irq14.level);
    read_data(&f->m, buffer, 512);
    assert_pattern(buffer, (100 + i) * 512, 512);
  }
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  g_assert_false(f->m.irq14.level); /* no interrupt at the end of a PIO read */
  g_assert_cmpuint(f->m.irq14.rises, ==, 3);
  g_assert_cmpuint(in8(&f->m, LBA_LOW), ==, 102);
  g_assert_cmpuint(in8(&f->m, COUNT), ==, 0);
}

/* 256 sectors, 32 bits at a time, is one chunk; EXT goes over several. */
static void test_read_ext(Fixture *f, gconstpointer data)
{
  out8(&f->m, DEVICE, 0xE0);
  out8(&f->m, COUNT, 2); /* 0x0200 = 512 sectors */
  out8(&f->m, COUNT, 0);
  out8(&f->m, LBA_LOW, 0);
  out8(&f->m, LBA_LOW, 1);
  for (unsigned i = 0; i < 2; i++) {
    out8(&f->m, LBA_MID, 0);
    out8(&f->m, LBA_HIGH, 0);
  }
  out8(&f->m, COMMAND, 0x24);
  for (unsigned i = 0; i < 512; i++) {
    g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
    for (unsigned j = 0; j < 512; j += 4) {
      uint32_t value = test_in32(f->m.vm, DATA);
      for (unsigned k = 0; k < 4; k++)
        g_assert_cmpuint((uint8_t)(value >> (8 * k)), ==, storage_pattern((1 + i) * 512 + j + k));
    }
  }
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  g_assert_cmpuint(f->disk.n_reads, ==, 2);
  g_assert_cmpuint(in8(&f->m, LBA_MID), ==, 2); /* 512 */
  out8(&f->m, CONTROL, 0x80);
  g_assert_cmpuint(in8(&f->m, LBA_LOW), ==, 0); /* bits 24–31 */
}

static void test_pio_write(Fixture *f, gconstpointer data)
{
  uint8_t buffer[512];
  select_lba(&f->m, 0, 7, 2);
  out8(&f->m, COMMAND, 0x30);
  g_assert_cmphex(in8(&f->m, CONTROL), ==, 0x58);
  g_assert_false(f->m.irq14.level); /* the first block comes without */
  memset(buffer, 0xAB, 512);
  write_data(&f->m, buffer, 512);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
  g_assert_true(f->m.irq14.level);
  in8(&f->m, STATUS);
  memset(buffer, 0xCD, 512);
  write_data(&f->m, buffer, 512);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  g_assert_true(f->m.irq14.level);
  g_assert_cmpuint(f->disk.bytes[7 * 512], ==, 0xAB);
  g_assert_cmpuint(f->disk.bytes[8 * 512 + 511], ==, 0xCD);
  assert_pattern(f->disk.bytes, 0, 7 * 512);
  assert_pattern(f->disk.bytes + 9 * 512, 9 * 512, 512);
}

static void test_multiple(Fixture *f, gconstpointer data)
{
  uint8_t buffer[8 * 512];
  out8(&f->m, DEVICE, 0xE0);
  out8(&f->m, COUNT, 3); /* no power of two */
  out8(&f->m, COMMAND, 0xC6);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
  g_assert_cmphex(in8(&f->m, ERROR), ==, 0x04);
  out8(&f->m, COUNT, 8);
  out8(&f->m, COMMAND, 0xC6);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  select_lba(&f->m, 0, 50, 11);
  in8(&f->m, STATUS);
  unsigned rises = f->m.irq14.rises;
  out8(&f->m, COMMAND, 0xC4);
  wait_not_busy(&f->m);
  in8(&f->m, STATUS);
  read_data(&f->m, buffer, 8 * 512);
  assert_pattern(buffer, 50 * 512, 8 * 512);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x58);
  read_data(&f->m, buffer, 3 * 512);
  assert_pattern(buffer, 58 * 512, 3 * 512);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  g_assert_cmpuint(f->m.irq14.rises - rises, ==, 2);
  /* Written back in blocks of eight, somewhere else. */
  select_lba(&f->m, 0, 500, 8);
  out8(&f->m, COMMAND, 0xC5);
  memset(buffer, 0x77, sizeof(buffer));
  write_data(&f->m, buffer, sizeof(buffer));
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  g_assert_cmpmem(f->disk.bytes + 500 * 512, sizeof(buffer), buffer, sizeof(buffer));
}

static void test_chs(Fixture *f, gconstpointer data)
{
  uint8_t buffer[512];
  uint32_t lba = (2 * 16 + 5) * 63 + 10 - 1;
  out8(&f->m, DEVICE, 0xA5);
  out8(&f->m, COUNT, 1);
  out8(&f->m, LBA_LOW, 10);
  out8(&f->m, LBA_MID, 2);
  out8(&f->m, LBA_HIGH, 0);
  out8(&f->m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
  read_data(&f->m, buffer, 512);
  assert_pattern(buffer, lba * 512, 512);
  /* Another translation: 4 heads, 17 sectors. */
  out8(&f->m, DEVICE, 0xA3);
  out8(&f->m, COUNT, 17);
  out8(&f->m, COMMAND, 0x91);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  out8(&f->m, DEVICE, 0xA2);
  out8(&f->m, COUNT, 1);
  out8(&f->m, LBA_LOW, 17);
  out8(&f->m, LBA_MID, 6);
  out8(&f->m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
  read_data(&f->m, buffer, 512);
  assert_pattern(buffer, ((6 * 4 + 2) * 17 + 16) * 512, 512);
  /* Sector 0, and a head that is not there. */
  out8(&f->m, LBA_LOW, 0);
  out8(&f->m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
  g_assert_cmphex(in8(&f->m, ERROR), ==, 0x10);
  out8(&f->m, LBA_LOW, 1);
  out8(&f->m, DEVICE, 0xA4);
  out8(&f->m, COMMAND, 0x70);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
}

static void test_dma_read(Fixture *f, gconstpointer data)
{
  /* Three pieces, one across a page, one of a full 64 KiB (written as 0). */
  const uint32_t pairs[] = { 0x20000, 512, 0x30FF0, 0x1E00, 0x40000, 0x0000 };
  uint8_t buffer[512];
  select_lba(&f->m, 0, 20, 144);
  start_bus_master(&f->m, pairs, 3, true);
  out8(&f->m, COMMAND, 0xC8);
  wait_not_busy(&f->m);
  test_step(f->m.vm, 1000);
  g_assert_true(f->m.irq14.level);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & 7, ==, BM_INTERRUPT);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  g_assert_true(vm_memory_read(vm_get_memory(f->m.vm), 0x20000, buffer, 512));
  assert_pattern(buffer, 20 * 512, 512);
  g_assert_true(vm_memory_read(vm_get_memory(f->m.vm), 0x30FF0 + 0x1C00, buffer, 512));
  assert_pattern(buffer, 20 * 512 + 512 + 0x1C00, 512);
  g_assert_true(vm_memory_read(vm_get_memory(f->m.vm), 0x4FE00, buffer, 512));
  assert_pattern(buffer, 20 * 512 + 512 + 0x1E00 + 0xFE00, 512);
  out8(&f->m, BM_BASE + 2, BM_INTERRUPT);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & 7, ==, 0);
}

static void test_dma_write(Fixture *f, gconstpointer data)
{
  const uint32_t pairs[] = { 0x20000, 4096 };
  for (unsigned i = 0; i < 4096; i += 8)
    test_store(f->m.vm, 0x20000 + i, UINT64_C(0x0123456789ABCDEF) + i, 8);
  select_lba(&f->m, 0, 1000, 8);
  out8(&f->m, COMMAND, 0xCA); /* before the bus master runs */
  g_assert_true(wait_not_busy(&f->m) & ST_DRQ);
  start_bus_master(&f->m, pairs, 1, false);
  wait_not_busy(&f->m);
  g_assert_true(f->m.irq14.level);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  for (unsigned i = 0; i < 4096; i += 8) {
    uint64_t value;
    memcpy(&value, f->disk.bytes + 1000 * 512 + i, 8);
    g_assert_cmphex(value, ==, UINT64_C(0x0123456789ABCDEF) + i);
  }
}

/* Tables that end early, wind on, or lead nowhere. */
static void test_dma_bad_tables(Fixture *f, gconstpointer data)
{
  const uint32_t half[] = { 0x20000, 512 }, nowhere[] = { 0xF0000000, 1024 }, more[] = { 0x20200, 512 };
  const uint32_t tiny[] = { 0x20000, 2 };
  uint8_t buffer[1024];
  select_lba(&f->m, 0, 10, 2);
  start_bus_master(&f->m, half, 1, true);
  out8(&f->m, COMMAND, 0xC8);
  g_assert_true(wait_not_busy(&f->m) & ST_DRQ);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & 7, ==, 0); /* stopped, not done */
  start_bus_master(&f->m, more, 1, true);              /* goes on where it stopped */
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  g_assert_true(vm_memory_read(vm_get_memory(f->m.vm), 0x20000, buffer, 1024));
  assert_pattern(buffer, 10 * 512, 1024);
  /* An address without RAM. */
  select_lba(&f->m, 0, 10, 2);
  start_bus_master(&f->m, nowhere, 1, true);
  out8(&f->m, COMMAND, 0xC8);
  wait_not_busy(&f->m);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & 7, ==, BM_ERROR);
  g_assert_false(f->m.irq14.level);
  out8(&f->m, CONTROL, 4);
  out8(&f->m, CONTROL, 0);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  /* A table in the wrong direction, and one at no RAM. */
  select_lba(&f->m, 0, 10, 2);
  start_bus_master(&f->m, half, 1, false);
  out8(&f->m, COMMAND, 0xC8);
  wait_not_busy(&f->m);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & 7, ==, BM_ERROR);
  out8(&f->m, BM_BASE, 0);
  out8(&f->m, BM_BASE + 2, BM_ERROR);
  test_out32(f->m.vm, BM_BASE + 4, 0xFFFFFFFC);
  out8(&f->m, BM_BASE, BM_START | BM_TO_MEMORY);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & 7, ==, BM_ERROR);
  out8(&f->m, CONTROL, 4);
  out8(&f->m, CONTROL, 0);
  /* A table without an end, all in two-byte pieces: 64 KiB of it, and it wraps. */
  for (unsigned i = 0; i < 0x10000; i += 8) {
    test_store(f->m.vm, 0x10000 + i, tiny[0] + i, 4);
    test_store(f->m.vm, 0x10000 + i + 4, 2, 4);
  }
  select_lba(&f->m, 0, 0, 0); /* 256 sectors */
  out8(&f->m, BM_BASE, 0);
  test_out32(f->m.vm, BM_BASE + 4, 0x10000);
  out8(&f->m, BM_BASE, BM_START | BM_TO_MEMORY);
  out8(&f->m, COMMAND, 0xC8);
  wait_not_busy(&f->m);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
}

/* Without the bus-master bit nothing moves. */
static void test_dma_needs_master(Fixture *f, gconstpointer data)
{
  const uint32_t pairs[] = { 0x20000, 512 };
  test_store(f->m.vm, 0x20000, 0x5555, 2);
  test_lock(f->m.vm);
  pci_config_write(f->m.bus, 0, f->m.devfn, 0x04, 0x0001, 2);
  test_unlock(f->m.vm);
  select_lba(&f->m, 0, 10, 1);
  start_bus_master(&f->m, pairs, 1, true);
  out8(&f->m, COMMAND, 0xC8);
  wait_not_busy(&f->m);
  g_assert_cmphex(test_load(f->m.vm, 0x20000, 2), ==, 0x5555);
}

static void test_range(Fixture *f, gconstpointer data)
{
  static const struct {
    uint32_t lba;
    uint8_t count, command;
  } rows[] = {
    { DISK_SECTORS, 1, 0x20 },       { DISK_SECTORS - 1, 2, 0x20 }, { DISK_SECTORS - 1, 2, 0x30 },
    { 0x0FFFFFFF, 0, 0xC8 },         { DISK_SECTORS - 1, 0, 0xCA }, { DISK_SECTORS, 1, 0x40 },
    { DISK_SECTORS - 255, 0, 0xC4 }, { DISK_SECTORS, 1, 0x70 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    select_lba(&f->m, 0, rows[i].lba, rows[i].count);
    out8(&f->m, COMMAND, rows[i].command);
    g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
    g_assert_cmphex(in8(&f->m, ERROR), ==, 0x10);
    g_assert_true(f->m.irq14.level);
    in8(&f->m, STATUS);
  }
  select_lba(&f->m, 0, DISK_SECTORS - 1, 1);
  out8(&f->m, COMMAND, 0x40);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  g_assert_cmpuint(f->disk.n_writes, ==, 0);
}

static void test_faults(Fixture *f, gconstpointer data)
{
  uint8_t buffer[512] = { 0 };
  const uint32_t pairs[] = { 0x20000, 1024 };
  f->disk.read_error = EIO;
  f->disk.write_error = ENOSPC;
  f->disk.bad_offset = 300 * 512;
  f->disk.bad_length = 512;
  select_lba(&f->m, 0, 300, 1);
  out8(&f->m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
  g_assert_cmphex(in8(&f->m, ERROR), ==, 0x40); /* uncorrectable */
  g_assert_cmpuint(in8(&f->m, LBA_LOW) | in8(&f->m, LBA_MID) << 8, ==, 300);
  select_lba(&f->m, 0, 299, 1);
  out8(&f->m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58); /* the neighbour is well */
  read_data(&f->m, buffer, 512);
  select_lba(&f->m, 0, 300, 1);
  out8(&f->m, COMMAND, 0x30);
  write_data(&f->m, buffer, 512);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x71); /* device fault */
  g_assert_cmphex(in8(&f->m, ERROR), ==, 0x04);
  g_assert_true(f->m.irq14.level);
  select_lba(&f->m, 0, 299, 2);
  start_bus_master(&f->m, pairs, 1, true);
  out8(&f->m, COMMAND, 0xC8);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & BM_INTERRUPT, ==, BM_INTERRUPT);
  assert_pattern(f->disk.bytes, 0, f->disk.size_bytes);
}

/* A failed flush is told, and never taken back. Ends with the image's own warning, so this is the last test. */
static GLogWriterOutput swallow(GLogLevelFlags level, const GLogField *fields, gsize n, gpointer data)
{
  return G_LOG_WRITER_HANDLED;
}

static void test_flush(Fixture *f, gconstpointer data)
{
  g_log_set_writer_func(swallow, NULL, NULL);
  out8(&f->m, DEVICE, 0xE0);
  out8(&f->m, COMMAND, 0xE7);
  g_assert_true(in8(&f->m, CONTROL) & ST_BSY);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  g_assert_cmpuint(f->disk.n_flushes, ==, 1);
  f->disk.flush_error = EIO;
  out8(&f->m, COMMAND, 0xEA);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x71);
  f->disk.flush_error = 0;
  out8(&f->m, COMMAND, 0xE7);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x71);
}

static void test_read_only(void)
{
  Machine m;
  MemoryImage disk;
  uint8_t buffer[512] = { 0 };
  machine_init(&m);
  memory_image_init(&disk, 64 * 512);
  machine_add_disk(&m, 0, &disk, true);
  select_lba(&m, 0, 3, 1);
  out8(&m, COMMAND, 0x30);
  g_assert_cmphex(wait_not_busy(&m), ==, 0x51);
  g_assert_cmphex(in8(&m, ERROR), ==, 0x04);
  select_lba(&m, 0, 3, 1);
  out8(&m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&m), ==, 0x58);
  read_data(&m, buffer, 512);
  assert_pattern(buffer, 3 * 512, 512);
  machine_clear(&m);
  memory_image_clear(&disk);
}

static void test_nien_and_reset(Fixture *f, gconstpointer data)
{
  out8(&f->m, CONTROL, 2);
  select_lba(&f->m, 0, 5, 1);
  out8(&f->m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
  g_assert_false(f->m.irq14.level);
  out8(&f->m, CONTROL, 0);
  g_assert_true(f->m.irq14.level); /* it was pending */
  /* A software reset ends the command and shows the signature. */
  out8(&f->m, CONTROL, 4);
  g_assert_cmphex(in8(&f->m, CONTROL), ==, ST_BSY);
  out8(&f->m, CONTROL, 0);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  g_assert_false(f->m.irq14.level);
  g_assert_cmphex(in8(&f->m, ERROR), ==, 1);
  g_assert_cmphex(in8(&f->m, COUNT), ==, 1);
  g_assert_cmphex(in8(&f->m, LBA_LOW), ==, 1);
  g_assert_cmphex(in8(&f->m, LBA_MID), ==, 0);
  out8(&f->m, COMMAND, 0x90);
  g_assert_true(f->m.irq14.level);
  g_assert_cmphex(in8(&f->m, ERROR), ==, 1);
}

/* A reset while the image is asked: the late answer is dropped, and the next write comes after the abandoned one. */
static void test_reset_in_flight(Fixture *f, gconstpointer data)
{
  uint8_t a[512], b[512];
  memset(a, 0xAA, 512);
  memset(b, 0xBB, 512);
  f->disk.hold = true;
  select_lba(&f->m, 0, 9, 1);
  out8(&f->m, COMMAND, 0x30);
  write_data(&f->m, a, 512);
  out8(&f->m, CONTROL, 4);
  out8(&f->m, CONTROL, 0);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  select_lba(&f->m, 0, 9, 1);
  out8(&f->m, COMMAND, 0x30);
  write_data(&f->m, b, 512);
  g_assert_true(in8(&f->m, CONTROL) & ST_BSY);
  g_assert_cmpuint(f->disk.held.length, ==, 1);
  memory_image_release(&f->disk);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  g_assert_cmpmem(f->disk.bytes + 9 * 512, 512, b, 512);
}

static void test_commands(Fixture *f, gconstpointer data)
{
  static const struct {
    uint8_t command, status;
  } rows[] = {
    { 0x00, 0x51 }, { 0x10, 0x50 }, { 0x1F, 0x50 }, { 0xE0, 0x50 }, { 0xE1, 0x50 }, { 0x94, 0x50 }, { 0x97, 0x50 },
    { 0xF5, 0x51 }, { 0xF1, 0x51 }, { 0xA0, 0x51 }, { 0xA1, 0x51 }, { 0xB0, 0x51 }, { 0xFF, 0x51 }, { 0x08, 0x51 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    out8(&f->m, DEVICE, 0xE0);
    out8(&f->m, COMMAND, rows[i].command);
    g_assert_cmphex(wait_not_busy(&f->m), ==, rows[i].status);
    if (rows[i].status & ST_ERR)
      g_assert_cmphex(in8(&f->m, ERROR), ==, 0x04);
  }
  out8(&f->m, COMMAND, 0xE5);
  wait_not_busy(&f->m);
  g_assert_cmphex(in8(&f->m, COUNT), ==, 0x80); /* idle */
  out8(&f->m, COMMAND, 0xF8);
  wait_not_busy(&f->m);
  g_assert_cmphex(in8(&f->m, LBA_LOW) | in8(&f->m, LBA_MID) << 8, ==, DISK_SECTORS - 1);
  out8(&f->m, FEATURE, 0xDA); /* SMART: healthy */
  out8(&f->m, LBA_MID, 0x4F);
  out8(&f->m, LBA_HIGH, 0xC2);
  out8(&f->m, COMMAND, 0xB0);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  g_assert_cmphex(in8(&f->m, LBA_MID), ==, 0x4F);
}

static void test_absent(Fixture *f, gconstpointer data)
{
  out8(&f->m, DEVICE, 0xB0);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0); /* drive 0 answers for it */
  out8(&f->m, COMMAND, 0xEC);
  g_assert_cmphex(in8(&f->m, CONTROL), ==, 0);
  g_assert_cmphex(in8(&f->m, 0x177), ==, 0x7F); /* nobody there */
  g_assert_cmphex(in8(&f->m, 0x376), ==, 0x7F);
  test_out8(f->m.vm, 0x172, 0x55);
  g_assert_cmphex(in8(&f->m, 0x172), !=, 0x55);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Machine other;
  MemoryImage disk;
  uint8_t buffer[1024];
  machine_init(&other);
  memory_image_init(&disk, DISK_SECTORS * 512);
  machine_add_disk(&other, 0, &disk, false);
  test_check_type(f->m.ide);
  /* Saved in the middle of a sector. */
  select_lba(&f->m, 0, 40, 2);
  out8(&f->m, COMMAND, 0x20);
  wait_not_busy(&f->m);
  read_data(&f->m, buffer, 100);
  test_round_trip(f->m.ide, other.ide);
  g_assert_true(other.irq14.level);
  read_data(&other, buffer + 100, 924);
  assert_pattern(buffer, 40 * 512, 1024);
  g_assert_cmphex(wait_not_busy(&other), ==, 0x50);
  /* Saved while the image is asked: issued anew at the other side. */
  read_data(&f->m, buffer, 924);
  f->disk.hold = true;
  memset(buffer, 0x3C, 512);
  select_lba(&f->m, 0, 60, 1);
  out8(&f->m, COMMAND, 0x30);
  write_data(&f->m, buffer, 512);
  test_round_trip(f->m.ide, other.ide);
  g_assert_cmphex(wait_not_busy(&other), ==, 0x50);
  g_assert_cmpmem(disk.bytes + 60 * 512, 512, buffer, 512);
  memory_image_release(&f->disk);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x50);
  machine_clear(&other);
  memory_image_clear(&disk);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(20101);
  g_autofree uint8_t *copy = NULL;
  test_hostile_ports(f->m.vm, 0x1F0, 8, rand);
  test_hostile_ports(f->m.vm, BM_BASE, 16, rand);
  /* Whatever it did, it wrote whole sectors only, and the disk still works. */
  test_reset(f->m.ide);
  test_lock(f->m.vm);
  pci_config_write(f->m.bus, 0, f->m.devfn, 0x20, BM_BASE, 4);
  pci_config_write(f->m.bus, 0, f->m.devfn, 0x04, 0x0005, 2);
  test_unlock(f->m.vm);
  storage_fill(&f->disk);
  copy = g_malloc(512);
  select_lba(&f->m, 0, 77, 1);
  out8(&f->m, COMMAND, 0x20);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
  read_data(&f->m, copy, 512);
  assert_pattern(copy, 77 * 512, 512);
}

/* A read-only image is the same after anything that a guest can do. */
static void test_hostile_read_only(void)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(20102);
  Machine m;
  MemoryImage disk;
  machine_init(&m);
  memory_image_init(&disk, 1024 * 512);
  machine_add_disk(&m, 0, &disk, true);
  test_hostile_ports(m.vm, 0x1F0, 8, rand);
  test_step(m.vm, 1000);
  g_assert_cmpuint(disk.n_writes, ==, 0);
  assert_pattern(disk.bytes, 0, disk.size_bytes);
  machine_clear(&m);
  memory_image_clear(&disk);
}

static void test_hostile_state(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(20103);
  select_lba(&f->m, 0, 40, 2);
  out8(&f->m, COMMAND, 0x30);
  test_hostile_streams(f->m.ide, rand);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/hw/storage/ide/" name, Fixture, NULL, set_up, func, tear_down)
  ADD("identify", test_identify);
  ADD("pio-read", test_pio_read);
  ADD("read-ext", test_read_ext);
  ADD("pio-write", test_pio_write);
  ADD("multiple", test_multiple);
  ADD("chs", test_chs);
  ADD("dma-read", test_dma_read);
  ADD("dma-write", test_dma_write);
  ADD("dma-bad-tables", test_dma_bad_tables);
  ADD("dma-needs-master", test_dma_needs_master);
  ADD("range", test_range);
  ADD("faults", test_faults);
  g_test_add_func("/hw/storage/ide/read-only", test_read_only);
  ADD("nien-and-reset", test_nien_and_reset);
  ADD("reset-in-flight", test_reset_in_flight);
  ADD("commands", test_commands);
  ADD("absent", test_absent);
  ADD("state", test_state);
  ADD("hostile", test_hostile);
  g_test_add_func("/hw/storage/ide/hostile-read-only", test_hostile_read_only);
  ADD("hostile-state", test_hostile_state);
  ADD("flush", test_flush);
  return g_test_run();
}
