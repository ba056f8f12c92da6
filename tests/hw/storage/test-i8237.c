/* The DMA controllers: modes, counting, wrapping, pages, terminal count. */
#include <string.h>

#include "hw/storage/i8237.h"
#include "tests/hw/device-test.h"

#define RAM_BYTES 0x200000u

typedef struct Fixture {
  Vm *vm;
  I8237 *dma;
  unsigned ready;
} Fixture;

static void on_ready(void *opaque)
{
  Fixture *f = opaque;
  f->ready++;
}

static void set_up(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  VmMemory *memory = vm_get_memory(f->vm);
  VmRam *ram = vm_ram_new(memory, "ram", RAM_BYTES, NULL);
  test_lock(f->vm);
  vm_region_new_ram(memory, "ram", 0, RAM_BYTES, 0, ram, 0, VM_ACCESS_RW);
  f->dma = i8237_new(f->vm);
  i8237_connect(f->dma, 2, on_ready, f);
  test_unlock(f->vm);
}

static void tear_down(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static void program(Fixture *f, unsigned channel, uint8_t mode, uint8_t page, uint16_t address, uint16_t count)
{
  static const uint8_t pages[8] = { 0x87, 0x83, 0x81, 0x82, 0, 0x8B, 0x89, 0x8A };
  uint16_t base = channel < 4 ? 0x00 : 0xC0;
  unsigned step = channel < 4 ? 1 : 2, n = channel % 4;
  test_out8(f->vm, 0xD6, 0xC0); /* cascade */
  test_out8(f->vm, 0xD4, 0x00);
  test_out8(f->vm, (uint16_t)(base + 10 * step), (uint8_t)(4 | n));
  test_out8(f->vm, (uint16_t)(base + 12 * step), 0);
  test_out8(f->vm, (uint16_t)(base + 11 * step), (uint8_t)(mode | n));
  test_out8(f->vm, (uint16_t)(base + 2 * n * step), (uint8_t)address);
  test_out8(f->vm, (uint16_t)(base + 2 * n * step), (uint8_t)(address >> 8));
  test_out8(f->vm, (uint16_t)(base + (2 * n + 1) * step), (uint8_t)count);
  test_out8(f->vm, (uint16_t)(base + (2 * n + 1) * step), (uint8_t)(count >> 8));
  test_out8(f->vm, pages[channel], page);
  test_out8(f->vm, (uint16_t)(base + 10 * step), (uint8_t)n);
}

static size_t give(Fixture *f, unsigned channel, const void *bytes, size_t n, bool *tc)
{
  test_lock(f->vm);
  size_t moved = i8237_transfer(f->dma, channel, bytes, NULL, n, tc);
  test_unlock(f->vm);
  return moved;
}

static size_t take(Fixture *f, unsigned channel, void *bytes, size_t n, bool *tc)
{
  test_lock(f->vm);
  size_t moved = i8237_transfer(f->dma, channel, NULL, bytes, n, tc);
  test_unlock(f->vm);
  return moved;
}

/* Low byte first. */
static unsigned read_counter(Fixture *f, uint16_t port)
{
  unsigned low = test_in8(f->vm, port);
  return low | (unsigned)test_in8(f->vm, port) << 8;
}

static void assert_memory(Fixture *f, VmGpa gpa, const char *text)
{
  char buffer[64] = { 0 };
  g_assert_true(vm_memory_read(vm_get_memory(f->vm), gpa, buffer, strlen(text)));
  g_assert_cmpstr(buffer, ==, text);
}

static void test_to_memory(Fixture *f, gconstpointer data)
{
  bool tc;
  program(f, 2, 0x44, 0x03, 0x1000, 9);
  g_assert_cmpuint(give(f, 2, "abcdef", 6, &tc), ==, 6);
  g_assert_false(tc);
  g_assert_cmphex(test_in8(f->vm, 0x08), ==, 0);
  g_assert_cmpuint(read_counter(f, 0x04), ==, 0x1006);
  g_assert_cmpuint(read_counter(f, 0x05), ==, 3);
  g_assert_cmpuint(give(f, 2, "ghijkl", 6, &tc), ==, 4); /* the count ran out */
  g_assert_true(tc);
  assert_memory(f, 0x31000, "abcdefghij");
  g_assert_cmphex(test_in8(f->vm, 0x08), ==, 0x04); /* TC, cleared by reading */
  g_assert_cmphex(test_in8(f->vm, 0x08), ==, 0x00);
  g_assert_cmpuint(give(f, 2, "x", 1, &tc), ==, 0); /* masked itself */
  g_assert_cmphex(test_in8(f->vm, 0x0F) & 4, ==, 4);
}

static void test_from_memory_down(Fixture *f, gconstpointer data)
{
  char bytes[8] = { 0 };
  bool tc;
  g_assert_true(vm_memory_write(vm_get_memory(f->vm), 0x20000, "12345678", 8));
  program(f, 1, 0x68, 0x02, 0x0007, 7); /* downwards */
  g_assert_cmpuint(take(f, 1, bytes, 8, &tc), ==, 8);
  g_assert_true(tc);
  g_assert_cmpmem(bytes, 8, "87654321", 8);
}

static void test_wraps_in_page(Fixture *f, gconstpointer data)
{
  bool tc;
  program(f, 3, 0x44, 0x05, 0xFFFE, 3);
  g_assert_cmpuint(give(f, 3, "wxyz", 4, &tc), ==, 4);
  assert_memory(f, 0x5FFFE, "wx");
  assert_memory(f, 0x50000, "yz");
}

static void test_autoinit(Fixture *f, gconstpointer data)
{
  bool tc;
  program(f, 2, 0x54, 0x03, 0x2000, 3);
  for (unsigned i = 0; i < 3; i++) {
    g_assert_cmpuint(give(f, 2, i == 0 ? "aaaa" : "bbbb", 4, &tc), ==, 4);
    g_assert_true(tc);
  }
  assert_memory(f, 0x32000, "bbbb");
}

/* A word channel counts words, and ignores its page's lowest bit. */
static void test_words(Fixture *f, gconstpointer data)
{
  bool tc;
  program(f, 5, 0x44, 0x05, 0x8000, 1);
  g_assert_cmpuint(give(f, 5, "pqrstu", 6, &tc), ==, 4);
  g_assert_true(tc);
  assert_memory(f, 0x50000, "pqrs"); /* page 4, 0x8000 words */
}

static void test_gates(Fixture *f, gconstpointer data)
{
  bool tc;
  program(f, 2, 0x44, 0, 0x1000, 9);
  test_lock(f->vm);
  i8237_set_request(f->dma, 2, true);
  test_unlock(f->vm);
  g_assert_cmphex(test_in8(f->vm, 0x08) & 0xF0, ==, 0x40);
  f->ready = 0;
  test_out8(f->vm, 0x08, 4); /* the controller off */
  g_assert_cmpuint(give(f, 2, "x", 1, &tc), ==, 0);
  test_out8(f->vm, 0x08, 0);
  g_assert_cmpuint(f->ready, ==, 1);
  test_out8(f->vm, 0xD4, 4); /* the cascade masked */
  g_assert_cmpuint(give(f, 2, "x", 1, &tc), ==, 0);
  test_out8(f->vm, 0xD4, 0);
  g_assert_cmpuint(f->ready, ==, 2);
  test_out8(f->vm, 0x0B, 0x42); /* verify */
  g_assert_cmpuint(give(f, 2, "x", 1, &tc), ==, 1);
  g_assert_cmpuint(test_load(f->vm, 0x1000, 1), ==, 0);
  test_out8(f->vm, 0x0D, 0); /* master clear masks all */
  g_assert_cmpuint(give(f, 2, "x", 1, &tc), ==, 0);
}

static void test_no_ram(Fixture *f, gconstpointer data)
{
  char bytes[4] = { 0 };
  bool tc;
  program(f, 1, 0x48, 0xFF, 0, 3);
  g_assert_cmpuint(take(f, 1, bytes, 4, &tc), ==, 4);
  g_assert_cmpmem(bytes, 4, "\xFF\xFF\xFF\xFF", 4);
}

static void test_state_and_pokes(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(20301);
  g_autofree uint8_t *bytes = g_malloc0(0x20000);
  Fixture other = { 0 };
  bool tc;
  test_check_type(f->dma);
  set_up(&other, NULL);
  program(f, 2, 0x54, 0x03, 0x2000, 3);
  test_round_trip(f->dma, other.dma);
  tear_down(&other, NULL);
  test_hostile_ports(f->vm, 0x00, 16, rand);
  test_hostile_ports(f->vm, 0xC0, 32, rand);
  test_hostile_ports(f->vm, 0x81, 15, rand);
  for (unsigned i = 0; i < 8; i++)
    if (i != 4) {
      program(f, i, (uint8_t)(g_rand_int(rand) & 0x3C), (uint8_t)g_rand_int(rand), (uint16_t)g_rand_int(rand), 0xFFFF);
      g_assert_cmpuint(give(f, i, bytes, 0x20000, &tc) + take(f, i, bytes, 0x20000, &tc), <=, 0x40000);
    }
  test_hostile_streams(f->dma, rand);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name, func) g_test_add("/hw/storage/i8237/" name, Fixture, NULL, set_up, func, tear_down)
  ADD("to-memory", test_to_memory);
  ADD("from-memory-down", test_from_memory_down);
  ADD("wraps-in-page", test_wraps_in_page);
  ADD("autoinit", test_autoinit);
  ADD("words", test_words);
  ADD("gates", test_gates);
  ADD("no-ram", test_no_ram);
  ADD("state-and-pokes", test_state_and_pokes);
  return g_test_run();
}
