/* The ATAPI CD-ROM drive: packets by PIO and DMA, sense, media and their changes. */
#include <errno.h>
#include <string.h>

#include "hw/storage/atapi.h"
#include "tests/hw/storage/storage-test.h"

#define CD_SECTORS 400u

typedef struct Fixture {
  Machine m;
  MemoryImage cd;
  IdeDrive *drive;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
  machine_init(&f->m);
  memory_image_init(&f->cd, CD_SECTORS * 2048);
  f->drive = machine_add_cdrom(&f->m, 0, data == NULL ? &f->cd : NULL);
}

static void tear_down(Fixture *f, gconstpointer data)
{
  machine_clear(&f->m);
  memory_image_clear(&f->cd);
}

static void send_packet(Machine *m, const uint8_t *packet, uint16_t limit, bool dma)
{
  out8(m, DEVICE, 0xA0);
  out8(m, FEATURE, dma);
  out8(m, LBA_MID, (uint8_t)limit);
  out8(m, LBA_HIGH, (uint8_t)(limit >> 8));
  out8(m, COMMAND, 0xA0);
  g_assert_cmphex(wait_not_busy(m), ==, 0x58);
  g_assert_cmphex(in8(m, COUNT) & 3, ==, 1); /* it wants a command */
  write_data(m, packet, 12);
}

/* Sends and reads all of the answer; its length, or -1 after CHECK CONDITION. */
static int transact(Machine *m, const uint8_t *packet, uint16_t limit, uint8_t *buffer, unsigned room)
{
  unsigned n = 0;
  send_packet(m, packet, limit, false);
  for (;;) {
    uint8_t status = wait_not_busy(m);
    if (!(status & ST_DRQ)) {
      g_assert_cmphex(in8(m, COUNT) & 3, ==, 3);
      g_assert_true(m->irq14.level);
      return in8(m, STATUS) & ST_ERR ? -1 : (int)n;
    }
    unsigned burst = in8(m, LBA_MID) | (unsigned)in8(m, LBA_HIGH) << 8;
    g_assert_cmphex(in8(m, COUNT) & 3, ==, 2);
    g_assert_cmpuint(burst, <=, limit);
    g_assert_cmpuint(n + burst, <=, room);
    g_assert_true(m->irq14.level);
    in8(m, STATUS);
    read_data(m, buffer + n, burst);
    n += burst;
  }
}

static uint32_t sense(Machine *m)
{
  uint8_t packet[12] = { 0x03, 0, 0, 0, 18 }, reply[18];
  g_assert_cmpint(transact(m, packet, 18, reply, sizeof(reply)), ==, 18);
  return (uint32_t)reply[2] << 16 | reply[12] << 8 | reply[13];
}

static int test_unit_ready(Machine *m)
{
  return transact(m, (const uint8_t[12]){ 0 }, 8, NULL, 0);
}

static uint32_t be32(const uint8_t *at)
{
  return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void assert_pattern(const uint8_t *bytes, uint64_t at, uint64_t size)
{
  for (uint64_t i = 0; i < size; i++)
    g_assert_cmpuint(bytes[i], ==, storage_pattern(at + i));
}

static void test_signature(Fixture *f, gconstpointer data)
{
  uint8_t page[512];
  out8(&f->m, CONTROL, 4);
  out8(&f->m, CONTROL, 0);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0);
  g_assert_cmphex(in8(&f->m, LBA_MID), ==, 0x14);
  g_assert_cmphex(in8(&f->m, LBA_HIGH), ==, 0xEB);
  out8(&f->m, LBA_MID, 0);
  out8(&f->m, COMMAND, 0xEC); /* a disk's IDENTIFY */
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
  g_assert_cmphex(in8(&f->m, ERROR), ==, 0x04);
  g_assert_cmphex(in8(&f->m, LBA_MID), ==, 0x14);
  out8(&f->m, COMMAND, 0xA1);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x58);
  read_data(&f->m, page, 512);
  g_assert_cmphex(page[0] | page[1] << 8, ==, 0x85C0);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  out8(&f->m, COMMAND, 0x08);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0);
}

static void test_read(Fixture *f, gconstpointer data)
{
  const uint8_t capacity[12] = { 0x25 };
  const uint8_t read10[12] = { 0x28, 0, 0, 0, 0, 20, 0, 0, 70 }, read12[12] = { 0xA8, 0, 0, 0, 1, 0, 0, 0, 0, 3 };
  g_autofree uint8_t *buffer = g_malloc(80 * 2048);
  g_assert_cmpint(test_unit_ready(&f->m), ==, 0);
  g_assert_cmpint(transact(&f->m, capacity, 8, buffer, 8), ==, 8);
  g_assert_cmpuint(be32(buffer), ==, CD_SECTORS - 1);
  g_assert_cmpuint(be32(buffer + 4), ==, 2048);
  g_assert_cmpint(transact(&f->m, read10, 0xF800, buffer, 80 * 2048), ==, 70 * 2048);
  assert_pattern(buffer, 20 * 2048, 70 * 2048);
  g_assert_cmpuint(f->cd.n_reads, ==, 2); /* two chunks */
  g_assert_cmpint(transact(&f->m, read12, 2048, buffer, 80 * 2048), ==, 3 * 2048);
  assert_pattern(buffer, 256 * 2048, 3 * 2048);
  g_assert_cmpint(transact(&f->m, read12, 0x0800 - 1, buffer, 80 * 2048), ==, 3 * 2048); /* an odd limit */
  assert_pattern(buffer, 256 * 2048, 3 * 2048);
}

static void test_read_errors(Fixture *f, gconstpointer data)
{
  static const struct {
    uint8_t packet[12];
    uint32_t sense;
  } rows[] = {
    { { 0x28, 0, 0, 0, 1, 0x90, 0, 0, 1 }, 0x052100 }, /* sector 400 */
    { { 0x28, 0, 0, 0, 1, 0x8F, 0, 0, 2 }, 0x052100 }, /* 399 and on */
    { { 0x28, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 1 }, 0x052100 },
    { { 0xA8, 0, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF }, 0x052100 },
    { { 0xBE, 0x04, 0, 0, 0, 0, 0, 0, 1, 0xF8 }, 0x056400 }, /* as audio */
    { { 0xBE, 0, 0, 0, 0, 0, 0, 0, 1, 0xF8, 1 }, 0x052400 }, /* with a subchannel */
    { { 0xB9, 0, 0, 0, 1, 0, 0, 2, 0, 0x10 }, 0x052100 },    /* in front of the disc */
    { { 0xFE }, 0x052000 },
    { { 0x0A }, 0x052000 },
    { { 0x2B, 0, 0, 0, 1, 0x90 }, 0x052100 },
    { { 0x43, 0, 5, 0, 0, 0, 0, 1, 0 }, 0x052400 },
    { { 0x5A, 0, 0x05, 0, 0, 0, 0, 1, 0 }, 0x052400 },
    { { 0x5A, 0, 0xEA, 0, 0, 0, 0, 1, 0 }, 0x053900 },
    { { 0x12, 1, 0x80, 0, 36 }, 0x052400 },
    { { 0xAD, 0, 0, 0, 0, 0, 0, 0, 8 }, 0x053002 }, /* no DVD */
    { { 0x4A, 0, 0, 0, 0x10, 0, 0, 0, 8 }, 0x052400 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_assert_cmpint(transact(&f->m, rows[i].packet, 2048, NULL, 0), ==, -1);
    g_assert_cmphex(in8(&f->m, ERROR) >> 4, ==, rows[i].sense >> 16);
    g_assert_cmphex(sense(&f->m), ==, rows[i].sense);
    g_assert_cmphex(sense(&f->m), ==, 0);
  }
  f->cd.read_error = EIO;
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x28, 0, 0, 0, 0, 1, 0, 0, 1 }, 2048, NULL, 0), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x031100);
}

static void test_read_cd(Fixture *f, gconstpointer data)
{
  const uint8_t raw[12] = { 0xBE, 0, 0, 0, 0, 16, 0, 0, 2, 0xF8 }, user[12] = { 0xBE, 0, 0, 0, 0, 16, 0, 0, 2, 0x10 };
  const uint8_t header[12] = { 0xBE, 0, 0, 0, 0, 16, 0, 0, 2, 0x20 };
  const uint8_t msf[12] = { 0xB9, 0, 0, 0, 2, 16, 0, 2, 18, 0x10 };
  uint8_t buffer[2 * 2352];
  g_assert_cmpint(transact(&f->m, raw, 2352, buffer, sizeof(buffer)), ==, 2 * 2352);
  for (unsigned i = 0; i < 2; i++) {
    const uint8_t *sector = buffer + i * 2352;
    g_assert_cmpmem(sector, 12, "\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\0", 12);
    g_assert_cmphex(be32(sector + 12), ==, 0x00021601 + i * 0x100); /* 0:02:16, mode 1 */
    assert_pattern(sector + 16, (16 + i) * 2048, 2048);
  }
  g_assert_cmpint(transact(&f->m, user, 0xFFFF, buffer, sizeof(buffer)), ==, 2 * 2048);
  assert_pattern(buffer, 16 * 2048, 2 * 2048);
  g_assert_cmpint(transact(&f->m, header, 0xFFFF, buffer, sizeof(buffer)), ==, 8);
  g_assert_cmphex(be32(buffer + 4), ==, 0x00021701);
  g_assert_cmpint(transact(&f->m, msf, 0xFFFF, buffer, sizeof(buffer)), ==, 2 * 2048);
  assert_pattern(buffer, 16 * 2048, 2 * 2048);
}

static void test_dma(Fixture *f, gconstpointer data)
{
  const uint8_t read10[12] = { 0x28, 0, 0, 0, 0, 5, 0, 0, 100 };
  const uint32_t pairs[] = { 0x20000, 0, 0x30000, 0, 0x40000, 0, 0x50000, 0x2000 }; /* 200 KiB */
  g_autofree uint8_t *buffer = g_malloc(100 * 2048);
  start_bus_master(&f->m, pairs, 4, true);
  send_packet(&f->m, read10, 0, true);
  wait_not_busy(&f->m);
  while (!f->m.irq14.level)
    test_step(f->m.vm, 1000);
  g_assert_cmphex(in8(&f->m, BM_BASE + 2) & 7, ==, BM_INTERRUPT);
  g_assert_cmphex(in8(&f->m, STATUS), ==, 0x50);
  g_assert_true(vm_memory_read(vm_get_memory(f->m.vm), 0x20000, buffer, 100 * 2048));
  assert_pattern(buffer, 5 * 2048, 100 * 2048);
}

static void test_toc(Fixture *f, gconstpointer data)
{
  uint8_t reply[64];
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x43, 0, 0, 0, 0, 0, 0, 0, 64 }, 64, reply, 64), ==, 20);
  g_assert_cmpuint(reply[1], ==, 18);
  g_assert_cmpuint(reply[6], ==, 1);
  g_assert_cmpuint(be32(reply + 8), ==, 0);
  g_assert_cmphex(reply[14], ==, 0xAA);
  g_assert_cmpuint(be32(reply + 16), ==, CD_SECTORS);
  /* In minutes, seconds and frames: 400 + 150 frames are 7.33 s. */
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x43, 2, 0, 0, 0, 0, 0xAA, 0, 64 }, 64, reply, 64), ==, 12);
  g_assert_cmphex(be32(reply + 8), ==, 7 << 8 | 25);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x43, 0, 1, 0, 0, 0, 0, 0, 64 }, 64, reply, 64), ==, 12);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x43, 0, 2, 0, 0, 0, 0, 0, 64 }, 64, reply, 64), ==, 48);
  g_assert_cmphex(reply[4 + 22 + 3], ==, 0xA2);
  g_assert_cmpuint(reply[4 + 22 + 9], ==, 7);
  /* As SFF-8020i has it, and cut off. */
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x43, 0, 0, 0, 0, 0, 0, 0, 4, 0x40 }, 64, reply, 64), ==, 4);
  g_assert_cmpuint(reply[1], ==, 10);
}

static void test_info(Fixture *f, gconstpointer data)
{
  uint8_t reply[256];
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x12, 0, 0, 0, 96 }, 256, reply, 256), ==, 36);
  g_assert_cmphex(reply[0], ==, 5);
  g_assert_cmpmem(reply + 8, 8, "ORIEL   ", 8);
  int n = transact(&f->m, (const uint8_t[12]){ 0x5A, 0, 0x3F, 0, 0, 0, 0, 1, 0 }, 256, reply, 256);
  g_assert_cmpint(n, ==, 8 + 8 + 16 + 12 + 22);
  g_assert_cmpint(reply[1], ==, n - 2);
  n = transact(&f->m, (const uint8_t[12]){ 0x1A, 0, 0x2A, 0, 200 }, 256, reply, 256);
  g_assert_cmpint(n, ==, 4 + 22);
  g_assert_cmphex(reply[4], ==, 0x2A);
  n = transact(&f->m, (const uint8_t[12]){ 0x46, 0, 0, 0, 0, 0, 0, 1, 0 }, 256, reply, 256);
  g_assert_cmpint(n, ==, (int)be32(reply) + 4);
  g_assert_cmphex(reply[7], ==, 0x08); /* a CD */
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x51, 0, 0, 0, 0, 0, 0, 1, 0 }, 256, reply, 256), ==, 34);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x42, 2, 0x40, 1, 0, 0, 0, 1, 0 }, 256, reply, 256), ==, 16);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0xBD, 0, 0, 0, 0, 0, 0, 0, 0, 8 }, 256, reply, 256), ==, 8);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0xBB, 0, 0xFF, 0xFF }, 256, reply, 256), ==, 0);
}

static void test_change(Fixture *f, gconstpointer data)
{
  const uint8_t prevent[12] = { 0x1E, 0, 0, 0, 1 }, allow[12] = { 0x1E },
                events[12] = { 0x4A, 1, 0, 0, 0x10, 0, 0, 0, 8 };
  const uint8_t capacity[12] = { 0x25 };
  MemoryImage other;
  uint8_t reply[8];
  g_autoptr(GError) error = NULL;
  memory_image_init(&other, 100 * 2048);
  g_assert_cmpint(transact(&f->m, prevent, 8, NULL, 0), ==, 0);
  BlkImage *image = machine_open(&f->m, &other, "other", true);
  test_lock(f->m.vm);
  g_assert_true(atapi_is_locked(f->drive));
  g_assert_false(atapi_insert(f->drive, image, false, &error));
  test_unlock(f->m.vm);
  g_assert_nonnull(strstr(error->message, "locked"));
  g_assert_cmpint(transact(&f->m, events, 8, reply, 8), ==, 8);
  g_assert_cmpuint(reply[4], ==, 1); /* somebody wishes to eject */
  g_assert_cmpuint(reply[5], ==, 2);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x1B, 0, 0, 0, 2 }, 8, NULL, 0), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x055302);
  g_assert_cmpint(transact(&f->m, allow, 8, NULL, 0), ==, 0);
  test_lock(f->m.vm);
  g_assert_true(atapi_insert(f->drive, image, false, NULL));
  test_unlock(f->m.vm);
  g_assert_cmpuint(f->cd.n_closed, ==, 1);
  g_assert_cmpint(transact(&f->m, events, 8, reply, 8), ==, 8);
  g_assert_cmpuint(reply[4], ==, 2); /* a new medium */
  g_assert_cmpint(transact(&f->m, events, 8, reply, 8), ==, 8);
  g_assert_cmpuint(reply[4], ==, 0);
  g_assert_cmpint(test_unit_ready(&f->m), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x023A01);
  g_assert_cmpint(test_unit_ready(&f->m), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x062800);
  g_assert_cmpint(test_unit_ready(&f->m), ==, 0);
  g_assert_cmpint(transact(&f->m, capacity, 8, reply, 8), ==, 8);
  g_assert_cmpuint(be32(reply), ==, 99);
  /* The guest opens the tray and closes it again: the medium is still in it. */
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x1B, 0, 0, 0, 2 }, 8, NULL, 0), ==, 0);
  g_assert_cmpint(test_unit_ready(&f->m), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x023A02);
  test_lock(f->m.vm);
  g_assert_true(atapi_is_tray_open(f->drive));
  test_unlock(f->m.vm);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x1B, 0, 0, 0, 3 }, 8, NULL, 0), ==, 0);
  g_assert_cmpint(test_unit_ready(&f->m), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x062800);
  g_assert_cmpint(test_unit_ready(&f->m), ==, 0);
  g_clear_error(&error);
  test_lock(f->m.vm);
  g_assert_true(atapi_eject(f->drive, false, &error));
  test_unlock(f->m.vm);
  g_assert_cmpuint(other.n_closed, ==, 1);
  g_assert_null(ide_drive_get_image(f->drive));
  memory_image_clear(&other);
}

/* Taken out in the middle of a read, with an answer under way. */
static void test_eject_in_flight(Fixture *f, gconstpointer data)
{
  f->cd.hold = true;
  send_packet(&f->m, (const uint8_t[12]){ 0x28, 0, 0, 0, 0, 5, 0, 0, 1 }, 2048, false);
  g_assert_true(in8(&f->m, CONTROL) & ST_BSY);
  memory_image_release(&f->cd); /* done, but not delivered */
  test_lock(f->m.vm);
  g_assert_true(atapi_eject(f->drive, true, NULL));
  test_unlock(f->m.vm);
  g_assert_cmphex(wait_not_busy(&f->m), ==, 0x51);
  g_assert_true(f->m.irq14.level);
  g_assert_cmphex(sense(&f->m) >> 8, ==, 0x023A);
}

static void test_empty(Fixture *f, gconstpointer data)
{
  uint8_t reply[36];
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x12, 0, 0, 0, 36 }, 36, reply, 36), ==, 36);
  g_assert_cmpint(test_unit_ready(&f->m), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x023A01);
  g_assert_cmpint(transact(&f->m, (const uint8_t[12]){ 0x28, 0, 0, 0, 0, 0, 0, 0, 1 }, 2048, reply, 36), ==, -1);
  g_assert_cmphex(sense(&f->m), ==, 0x023A01);
}

/* Over 900 MB it is a DVD. The image is all holes: nothing of it is touched. */
static void test_dvd(void)
{
  Machine m;
  MemoryImage dvd;
  g_autofree uint8_t *reply = g_malloc(4096);
  machine_init(&m);
  memory_image_init(&dvd, 4096);
  dvd.size_bytes = UINT64_C(1) << 30;
  test_lock(m.vm);
  IdeDrive *drive = piix3_ide_attach_cdrom(m.ide, 0, 0, machine_open(&m, &dvd, "dvd", true), NULL);
  test_unlock(m.vm);
  g_assert_nonnull(drive);
  transact(&m, (const uint8_t[12]){ 0x46, 0, 0, 0, 0, 0, 0, 0, 8 }, 256, reply, 256);
  g_assert_cmphex(reply[7], ==, 0x10);
  g_assert_cmpint(transact(&m, (const uint8_t[12]){ 0xAD, 0, 0, 0, 0, 0, 0, 0, 0x10, 0 }, 4096, reply, 4096), ==, 2052);
  g_assert_cmphex(be32(reply + 8), ==, 0x030000);
  g_assert_cmphex(be32(reply + 12), ==, 0x030000 + (1 << 19) - 1);
  machine_clear(&m);
  memory_image_clear(&dvd);
}

static void test_state(Fixture *f, gconstpointer data)
{
  Machine other;
  MemoryImage cd;
  uint8_t buffer[4096];
  machine_init(&other);
  memory_image_init(&cd, CD_SECTORS * 2048);
  machine_add_cdrom(&other, 0, &cd);
  f->cd.hold = true;
  send_packet(&f->m, (const uint8_t[12]){ 0x28, 0, 0, 0, 0, 5, 0, 0, 2 }, 4096, false);
  test_round_trip(f->m.ide, other.ide); /* while the image is asked */
  g_assert_cmphex(wait_not_busy(&other), ==, 0x58);
  read_data(&other, buffer, 4096);
  assert_pattern(buffer, 5 * 2048, 4096);
  memory_image_release(&f->cd);
  machine_clear(&other);
  memory_image_clear(&cd);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(20201);
  test_hostile_ports(f->m.vm, 0x1F0, 8, rand);
  for (unsigned i = 0; i < 3000; i++) { /* random packets with likely first bytes */
    static const uint8_t codes[] = {
      0x28, 0xA8, 0xBE, 0xB9, 0x43, 0x46, 0x4A, 0x51, 0x5A, 0xAD, 0x42, 0x1B, 0x12, 0xBD
    };
    uint8_t packet[12];
    for (unsigned j = 0; j < 12; j++)
      packet[j] = g_rand_boolean(rand) ? (uint8_t)g_rand_int(rand) : 0;
    packet[0] = codes[(unsigned)g_rand_int_range(rand, 0, G_N_ELEMENTS(codes))];
    out8(&f->m, CONTROL, 4);
    out8(&f->m, CONTROL, 0);
    out8(&f->m, LBA_MID, (uint8_t)g_rand_int(rand));
    out8(&f->m, COMMAND, 0xA0);
    write_data(&f->m, packet, 12);
    test_step(f->m.vm, 1000);
    for (unsigned j = 0; j < 40; j++)
      test_in32(f->m.vm, DATA);
  }
  assert_pattern(f->cd.bytes, 0, f->cd.size_bytes);
  test_hostile_streams(f->m.ide, rand);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name, empty, func) g_test_add("/hw/storage/atapi/" name, Fixture, empty, set_up, func, tear_down)
  ADD("signature", NULL, test_signature);
  ADD("read", NULL, test_read);
  ADD("read-errors", NULL, test_read_errors);
  ADD("read-cd", NULL, test_read_cd);
  ADD("dma", NULL, test_dma);
  ADD("toc", NULL, test_toc);
  ADD("info", NULL, test_info);
  ADD("change", NULL, test_change);
  ADD("eject-in-flight", NULL, test_eject_in_flight);
  ADD("empty", "empty", test_empty);
  g_test_add_func("/hw/storage/atapi/dvd", test_dvd);
  ADD("state", NULL, test_state);
  ADD("hostile", NULL, test_hostile);
  return g_test_run();
}
