/* The memory map's rules: priorities, claims, views, splitting, DMA, dirty pages. */
#include "vm-engine/iocontext.h"
#include "vm-engine/memory-impl.h"
#include "vm-engine/vm.h"

typedef struct Access {
  bool write;
  uint64_t offset, value;
  unsigned size;
} Access;

/* A register block that remembers what was done to it, and reads as its offset's bytes. */
typedef struct Probe {
  Access log[64];
  unsigned n;
  uint8_t bytes[64];
  VmRegion *self;
  bool hide_on_write;
} Probe;

static uint64_t probe_read(void *opaque, uint64_t offset, unsigned size)
{
  Probe *probe = opaque;
  uint64_t value = 0;
  g_assert_cmpuint(offset + size, <=, sizeof(probe->bytes));
  memcpy(&value, probe->bytes + offset, size);
  probe->log[probe->n++ % 64] = (Access){ false, offset, value, size };
  return value;
}

static void probe_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Probe *probe = opaque;
  g_assert_cmpuint(offset + size, <=, sizeof(probe->bytes));
  memcpy(probe->bytes + offset, &value, size);
  probe->log[probe->n++ % 64] = (Access){ true, offset, value, size };
  if (probe->hide_on_write)
    vm_region_set_enabled(probe->self, false);
}

static const VmMmioOps plain_ops = { .read = probe_read, .write = probe_write };
static const VmMmioOps byte_ops = { .read = probe_read, .write = probe_write, .impl_max = 1 };
static const VmMmioOps dword_ops = { .read = probe_read, .write = probe_write, .impl_min = 4, .widen_writes = true };
static const VmMmioOps dword_through_ops = { .read = probe_read, .write = probe_write, .impl_min = 4 };
static const VmMmioOps wide_ops = { .read = probe_read, .write = probe_write, .impl_max = 8 };

typedef struct Fixture {
  Vm *vm;
  VmMemory *memory;
  VmIoContext *ctx;
  VmRam *ram, *rom;
  Probe probe;
} Fixture;

static void set_up(Fixture *f, gconstpointer data)
{
  *f = (Fixture){ .vm = vm_new_manual() };
  f->memory = vm_get_memory(f->vm);
  f->ctx = vm_get_io_context(f->vm);
  f->ram = vm_ram_new(f->memory, "ram", 16 * VM_PAGE_SIZE, NULL);
  f->rom = vm_ram_new(f->memory, "rom", 4 * VM_PAGE_SIZE, NULL);
  memset(vm_ram_get_hva(f->rom), 0x77, 4 * VM_PAGE_SIZE);
  for (unsigned i = 0; i < sizeof(f->probe.bytes); i++)
    f->probe.bytes[i] = (uint8_t)(0x10 + i);
}

static void tear_down(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

static uint64_t load(Fixture *f, VmGpa gpa, unsigned size)
{
  return vm_memory_load(f->memory, VM_VIEW_NORMAL, gpa, size);
}
static void store(Fixture *f, VmGpa gpa, uint64_t value, unsigned size)
{
  vm_memory_store(f->memory, VM_VIEW_NORMAL, gpa, value, size);
}

static void test_ram(Fixture *f, gconstpointer data)
{
  vm_region_new_ram(f->memory, "ram", 0, 16 * VM_PAGE_SIZE, 0, f->ram, 0, VM_ACCESS_RW);
  store(f, 0x100, 0x1122334455667788, 8);
  g_assert_cmphex(load(f, 0x100, 8), ==, 0x1122334455667788);
  g_assert_cmphex(load(f, 0x102, 2), ==, 0x5566);
  g_assert_cmphex(load(f, 0x101, 4), ==, 0x44556677);
  /* Nothing there: all ones, and dropped. */
  g_assert_cmphex(load(f, 0x100000, 4), ==, 0xffffffff);
  store(f, 0x100000, 0, 4);
  /* Half in, half out. */
  store(f, 16 * VM_PAGE_SIZE - 2, 0xaabbccdd, 4);
  g_assert_cmphex(load(f, 16 * VM_PAGE_SIZE - 2, 4), ==, 0xffffccdd);
  g_assert_cmphex(load(f, UINT64_MAX - 1, 4), ==, 0x0000ffff | (load(f, 0, 2) << 16));
}

static void test_priorities(Fixture *f, gconstpointer data)
{
  vm_region_new_ram(f->memory, "low", 0, 16 * VM_PAGE_SIZE, 0, f->ram, 0, VM_ACCESS_RW);
  VmRegion *over = vm_region_new_rom(f->memory, "over", 0x2000, VM_PAGE_SIZE, 1, f->rom, 0);
  g_assert_cmphex(load(f, 0x2000, 1), ==, 0x77);
  g_assert_cmphex(load(f, 0x1fff, 1), ==, 0);
  g_assert_cmphex(load(f, 0x3000, 1), ==, 0);
  store(f, 0x2000, 0x12, 1);
  g_assert_cmphex(load(f, 0x2000, 1), ==, 0x77);
  vm_region_set_enabled(over, false);
  g_assert_cmphex(load(f, 0x2000, 1), ==, 0);
  vm_region_set_base(over, 0x4000);
  vm_region_set_enabled(over, true);
  g_assert_cmphex(load(f, 0x4000, 1), ==, 0x77);
  /* Equal priorities: the later wins; lower ones lose whatever the order. */
  VmRegion *later = vm_region_new_ram(f->memory, "later", 0x4000, VM_PAGE_SIZE, 1, f->ram, 0x8000, VM_ACCESS_RW);
  vm_region_new_ram(f->memory, "below", 0x4000, VM_PAGE_SIZE, 0, f->ram, 0x9000, VM_ACCESS_RW);
  store(f, 0x4000, 0x5a, 1);
  g_assert_cmphex(vm_ram_get_hva(f->ram)[0x8000], ==, 0x5a);
  vm_region_free(later);
  g_assert_cmphex(load(f, 0x4000, 1), ==, 0x77);
}

/* As a PAM segment: reads from ROM, writes to the RAM below; then RAM both; then read-only RAM. */
static void test_claims(Fixture *f, gconstpointer data)
{
  vm_region_new_rom(f->memory, "rom", 0, 4 * VM_PAGE_SIZE, 0, f->rom, 0);
  VmRegion *pam = vm_region_new_ram(f->memory, "pam", 0x1000, VM_PAGE_SIZE, 1, f->ram, 0, VM_ACCESS_WRITE);
  store(f, 0x1000, 0x42, 1);
  g_assert_cmphex(load(f, 0x1000, 1), ==, 0x77);
  g_assert_cmphex(vm_ram_get_hva(f->ram)[0], ==, 0x42);
  VmResolved r;
  vm_memory_resolve(f->memory, VM_VIEW_NORMAL, 0x1234, &r);
  g_assert_true(r.read_ram == f->rom && r.write_ram == f->ram);
  g_assert_cmphex(r.read_offset, ==, 0x1234);
  g_assert_cmphex(r.write_offset, ==, 0x234);
  g_assert_cmphex(r.start, ==, 0x1000);
  g_assert_cmphex(r.end, ==, 0x2000);
  vm_region_set_access(pam, VM_ACCESS_RW);
  g_assert_cmphex(load(f, 0x1000, 1), ==, 0x42);
  vm_region_set_access(pam, VM_ACCESS_READ);
  store(f, 0x1000, 0x43, 1);
  g_assert_cmphex(load(f, 0x1000, 1), ==, 0x42);
  vm_region_set_access(pam, VM_ACCESS_NONE);
  g_assert_cmphex(load(f, 0x1000, 1), ==, 0x77);
}

static void test_smm(Fixture *f, gconstpointer data)
{
  VmRegion *io = vm_region_new_io(f->memory, "vga", VM_SPACE_MEMORY, 0xa000, 0x20, 1, &plain_ops, &f->probe, f->ctx);
  VmRegion *smram = vm_region_new_ram(f->memory, "smram", 0xa000, VM_PAGE_SIZE, 2, f->ram, 0, VM_ACCESS_RW);
  vm_region_set_smm_only(smram, true);
  vm_memory_store(f->memory, VM_VIEW_SMM, 0xa000, 0x99, 1);
  g_assert_cmphex(vm_ram_get_hva(f->ram)[0], ==, 0x99);
  g_assert_cmphex(load(f, 0xa000, 1), ==, 0x10);
  vm_region_set_smm_only(smram, false);
  g_assert_cmphex(load(f, 0xa000, 1), ==, 0x99);
  g_assert_true(vm_region_is_enabled(io));
}

static void expect(const Probe *probe, unsigned i, bool write, uint64_t offset, uint64_t value, unsigned size)
{
  g_assert_cmpuint(i, <, probe->n);
  g_assert_cmpint(probe->log[i].write, ==, write);
  g_assert_cmphex(probe->log[i].offset, ==, offset);
  g_assert_cmphex(probe->log[i].value, ==, value);
  g_assert_cmpuint(probe->log[i].size, ==, size);
}

static void test_splitting(Fixture *f, gconstpointer data)
{
  VmRegion *r = vm_region_new_io(f->memory, "io", VM_SPACE_MEMORY, 0x1000, 64, 0, &byte_ops, &f->probe, f->ctx);
  g_assert_cmphex(load(f, 0x1002, 4), ==, 0x15141312);
  g_assert_cmpuint(f->probe.n, ==, 4);
  expect(&f->probe, 0, false, 2, 0x12, 1);
  expect(&f->probe, 3, false, 5, 0x15, 1);
  vm_region_free(r);

  f->probe.n = 0;
  r = vm_region_new_io(f->memory, "io", VM_SPACE_MEMORY, 0x1000, 64, 0, &plain_ops, &f->probe, f->ctx);
  store(f, 0x1008, 0x1122334455667788, 8);
  g_assert_cmpuint(f->probe.n, ==, 2);
  expect(&f->probe, 0, true, 8, 0x55667788, 4);
  expect(&f->probe, 1, true, 12, 0x11223344, 4);
  f->probe.n = 0;
  store(f, 0x1001, 0xaabbccdd, 4); /* unaligned: by aligned pieces */
  g_assert_cmpuint(f->probe.n, ==, 3);
  expect(&f->probe, 0, true, 1, 0xdd, 1);
  expect(&f->probe, 1, true, 2, 0xbbcc, 2);
  expect(&f->probe, 2, true, 4, 0xaa, 1);
  g_assert_cmphex(load(f, 0x1001, 4), ==, 0xaabbccdd);
  /* The last register and what nobody claims behind it. */
  f->probe.bytes[63] = 0x4f;
  g_assert_cmphex(load(f, 0x103f, 2), ==, 0xff4f);
  vm_region_free(r);

  f->probe.n = 0;
  r = vm_region_new_io(f->memory, "io", VM_SPACE_MEMORY, 0x1000, 64, 0, &wide_ops, &f->probe, f->ctx);
  store(f, 0x1010, 1, 8);
  g_assert_cmpuint(f->probe.n, ==, 1);
  expect(&f->probe, 0, true, 0x10, 1, 8);
}

static void test_widening(Fixture *f, gconstpointer data)
{
  memset(f->probe.bytes, 0, sizeof(f->probe.bytes));
  f->probe.bytes[4] = 0x11;
  f->probe.bytes[5] = 0x22;
  f->probe.bytes[6] = 0x33;
  VmRegion *r = vm_region_new_io(f->memory, "io", VM_SPACE_MEMORY, 0x1000, 64, 0, &dword_ops, &f->probe, f->ctx);
  g_assert_cmphex(load(f, 0x1005, 1), ==, 0x22);
  expect(&f->probe, 0, false, 4, 0x332211, 4);
  f->probe.n = 0;
  store(f, 0x1005, 0xee, 1); /* read, modified, written */
  g_assert_cmpuint(f->probe.n, ==, 2);
  expect(&f->probe, 1, true, 4, 0x33ee11, 4);
  vm_region_free(r);
  f->probe.n = 0;
  vm_region_new_io(f->memory, "io", VM_SPACE_MEMORY, 0x1000, 64, 0, &dword_through_ops, &f->probe, f->ctx);
  store(f, 0x1008, 0xee, 1); /* passed on, zero-extended */
  expect(&f->probe, 0, true, 8, 0xee, 4);
}

static void test_ports(Fixture *f, gconstpointer data)
{
  Probe second = { .bytes = { 0xa0, 0xa1, 0xa2, 0xa3 } };
  vm_region_new_io(f->memory, "one", VM_SPACE_PORTS, 0x60, 1, 0, &byte_ops, &f->probe, f->ctx);
  vm_region_new_io(f->memory, "two", VM_SPACE_PORTS, 0x62, 2, 0, &plain_ops, &second, f->ctx);
  g_assert_cmphex(vm_port_read(f->memory, 0x60, 4), ==, 0xa1a0ff10);
  vm_port_write(f->memory, 0x62, 0x1234, 2);
  g_assert_cmphex(vm_port_read(f->memory, 0x62, 2), ==, 0x1234);
  g_assert_cmphex(vm_port_read(f->memory, 0x1000, 1), ==, 0xff);
  g_assert_cmphex(vm_port_read(f->memory, 0xffff, 4), ==, 0xffffffff);
  vm_port_write(f->memory, 0xfffe, 0, 4);
}

/* A device that unmaps itself while it is being written: the rest of the access meets what is below. */
static void test_change_during_access(Fixture *f, gconstpointer data)
{
  vm_region_new_ram(f->memory, "ram", 0, 16 * VM_PAGE_SIZE, 0, f->ram, 0, VM_ACCESS_RW);
  f->probe.self = vm_region_new_io(f->memory, "io", VM_SPACE_MEMORY, 0x1000, 16, 1, &plain_ops, &f->probe, f->ctx);
  f->probe.hide_on_write = true;
  store(f, 0x1000, 0x55, 1);
  store(f, 0x1000, 0x66, 1);
  g_assert_cmpuint(f->probe.n, ==, 1);
  g_assert_cmphex(vm_ram_get_hva(f->ram)[0x1000], ==, 0x66);
}

static void test_dma(Fixture *f, gconstpointer data)
{
  /* Two stretches of RAM in swapped order, a ROM, a register block behind. */
  vm_region_new_ram(f->memory, "b", 0, VM_PAGE_SIZE, 0, f->ram, VM_PAGE_SIZE, VM_ACCESS_RW);
  vm_region_new_ram(f->memory, "a", VM_PAGE_SIZE, VM_PAGE_SIZE, 0, f->ram, 0, VM_ACCESS_RW);
  vm_region_new_rom(f->memory, "rom", 2 * VM_PAGE_SIZE, VM_PAGE_SIZE, 0, f->rom, 0);
  vm_region_new_io(f->memory, "io", VM_SPACE_MEMORY, 3 * VM_PAGE_SIZE, 64, 0, &plain_ops, &f->probe, f->ctx);
  uint8_t out[16], in[16] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 };
  g_assert_true(vm_memory_write(f->memory, VM_PAGE_SIZE - 8, in, 16));
  g_assert_true(vm_memory_read(f->memory, VM_PAGE_SIZE - 8, out, 16));
  g_assert_cmpmem(in, 16, out, 16);
  g_assert_cmphex(vm_ram_get_hva(f->ram)[2 * VM_PAGE_SIZE - 8], ==, 1);
  g_assert_cmphex(vm_ram_get_hva(f->ram)[0], ==, 9);
  /* Into ROM: refused, and nothing moved. */
  g_assert_false(vm_memory_write(f->memory, 2 * VM_PAGE_SIZE - 8, in, 16));
  g_assert_cmphex(vm_ram_get_hva(f->ram)[VM_PAGE_SIZE - 8], ==, 0);
  g_assert_false(vm_memory_fill(f->memory, 2 * VM_PAGE_SIZE, 0, 1));
  g_assert_true(vm_memory_read(f->memory, 2 * VM_PAGE_SIZE - 8, out, 16));
  g_assert_cmphex(out[15], ==, 0x77);
  /* Registers, holes, wrapping. */
  g_assert_false(vm_memory_read(f->memory, 3 * VM_PAGE_SIZE, out, 4));
  g_assert_cmpuint(f->probe.n, ==, 0);
  g_assert_false(vm_memory_read(f->memory, 0x100000, out, 1));
  g_assert_false(vm_memory_read(f->memory, UINT64_MAX - 4, out, 16));
  g_assert_false(vm_memory_read(f->memory, 0, out, UINT64_MAX));
  g_assert_true(vm_memory_fill(f->memory, 0, 0xcc, 2 * VM_PAGE_SIZE));
  g_assert_cmphex(load(f, 2 * VM_PAGE_SIZE - 1, 1), ==, 0xcc);
}

static void test_dirty(Fixture *f, gconstpointer data)
{
  vm_region_new_ram(f->memory, "ram", 0, 16 * VM_PAGE_SIZE, 0, f->ram, 0, VM_ACCESS_RW);
  vm_ram_track_dirty(f->ram, true);
  unsigned long bits[1] = { 0 };
  g_assert_true(vm_ram_collect_dirty(f->ram, 0, 16, bits));
  g_assert_cmphex(bits[0], ==, 0xffff); /* all new */
  bits[0] = 0;
  g_assert_false(vm_ram_collect_dirty(f->ram, 0, 16, bits));
  store(f, 5 * VM_PAGE_SIZE - 1, 0xffff, 2);
  g_assert_true(vm_memory_fill(f->memory, 9 * VM_PAGE_SIZE, 1, 1));
  g_assert_true(vm_ram_collect_dirty(f->ram, 4, 12, bits));
  g_assert_cmphex(bits[0], ==, 1 << 0 | 1 << 1 | 1 << 5);
  bits[0] = 0;
  g_assert_false(vm_ram_collect_dirty(f->ram, 0, 16, bits));
}

static void test_a20(Fixture *f, gconstpointer data)
{
  VmRam *big = vm_ram_new(f->memory, "big", 4 << 20, NULL);
  vm_region_new_ram(f->memory, "big", 0, 4 << 20, 0, big, 0, VM_ACCESS_RW);
  store(f, 0x100010, 0x11, 1);
  store(f, 0x10, 0x22, 1);
  vm_memory_set_a20(f->memory, false);
  g_assert_cmphex(load(f, 0x100010, 1), ==, 0x22);
  g_assert_cmphex(load(f, 0x300010, 1), ==, load(f, 0x200010, 1));
  uint8_t byte;
  g_assert_true(vm_memory_read(f->memory, 0x100010, &byte, 1)); /* DMA is not touched */
  g_assert_cmphex(byte, ==, 0x11);
  vm_memory_set_a20(f->memory, true);
  g_assert_cmphex(load(f, 0x100010, 1), ==, 0x11);
}

static void count_change(void *opaque)
{
  ++*(unsigned *)opaque;
}

static void test_transactions(Fixture *f, gconstpointer data)
{
  unsigned n = 0;
  VmMemoryListener listener = { .view_changed = count_change, .opaque = &n };
  vm_memory_set_listener(f->memory, &listener);
  vm_memory_begin(f->memory);
  vm_memory_begin(f->memory);
  VmRegion *r = vm_region_new_ram(f->memory, "ram", 0, VM_PAGE_SIZE, 0, f->ram, 0, VM_ACCESS_RW);
  vm_region_set_base(r, 0x5000);
  vm_memory_commit(f->memory);
  g_assert_cmpuint(n, ==, 0);
  vm_memory_commit(f->memory);
  g_assert_cmpuint(n, ==, 1);
  vm_region_set_base(r, 0x5000); /* no change */
  g_assert_cmpuint(n, ==, 1);
  g_autofree char *text = vm_memory_dup_description(f->memory);
  g_assert_nonnull(strstr(text, "0000000000005000-0000000000005fff ram"));
  vm_memory_set_listener(f->memory, NULL);
}

/* Regions at the top of the address space, beyond it, and BARs that a guest moves to absurd places. */
static void test_edges(Fixture *f, gconstpointer data)
{
  VmRegion *r = vm_region_new_ram(f->memory, "ram", UINT64_MAX - 0xffff, 0xf000, 0, f->ram, 0, VM_ACCESS_RW);
  store(f, UINT64_MAX - 0xffff, 0x42, 1);
  g_assert_cmphex(vm_ram_get_hva(f->ram)[0], ==, 0x42);
  vm_region_set_base(r, UINT64_MAX - 0xfff); /* would wrap: nowhere */
  g_assert_cmphex(load(f, UINT64_MAX - 0xfff, 1), ==, 0xff);
  g_autoptr(GError) error = NULL;
  g_assert_null(vm_ram_new(f->memory, "huge", UINT64_MAX, &error));
  g_assert_nonnull(strstr(error->message, "huge"));
  g_assert_true(vm_memory_find_ram(f->memory, vm_memory_get_ram_space(f->memory)) == NULL);
  g_assert_true(vm_memory_find_ram(f->memory, 16 * VM_PAGE_SIZE) == f->rom);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
#define ADD(name) g_test_add("/memory/" #name, Fixture, NULL, set_up, test_##name, tear_down)
  ADD(ram);
  ADD(priorities);
  ADD(claims);
  ADD(smm);
  ADD(splitting);
  ADD(widening);
  ADD(ports);
  ADD(change_during_access);
  ADD(dma);
  ADD(dirty);
  ADD(a20);
  ADD(transactions);
  ADD(edges);
  return g_test_run();
}
