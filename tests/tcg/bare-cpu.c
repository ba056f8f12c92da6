#include "tests/tcg/bare-cpu.h"

/* The execution loop's part, where it is not linked in: there are no blocks to forget. */
__attribute__((weak)) void tcg_flush_jump_cache(TcgCpu *cpu) {}
__attribute__((weak)) void tcg_flush_jump_cache_page(TcgCpu *cpu, uint64_t linear_page) {}
__attribute__((weak)) void tcg_invalidate(Tcg *tcg, TcgCpu *cpu, VmRam *ram, uint64_t offset, uint64_t size) {}

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
  BareCpu *b = opaque;
  uint64_t value = 0;

  b->n_mmio_reads++;
  b->last_mmio_size = size;
  memcpy(&value, b->mmio + offset, size);
  return value;
}

static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  BareCpu *b = opaque;

  b->n_mmio_writes++;
  b->last_mmio_size = size;
  memcpy(b->mmio + offset, &value, size);
}

static const VmMmioOps mmio_ops = { .read = mmio_read, .write = mmio_write, .impl_min = 1, .impl_max = 8 };

BareCpu *bare_cpu_new(void)
{
  BareCpu *b = g_new0(BareCpu, 1);
  g_autoptr(GError) error = NULL;

  b->vm = vm_new_manual();
  b->memory = vm_get_memory(b->vm);
  VmIoContext *ctx = vm_get_io_context(b->vm);
  vm_io_context_lock(ctx);
  b->ram = vm_ram_new(b->memory, "ram", BARE_RAM_SIZE, &error);
  g_assert_no_error(error);
  VmRam *rom = vm_ram_new(b->memory, "rom", 0x10000, &error);
  g_assert_no_error(error);
  vm_region_new_ram(b->memory, "ram", 0, BARE_RAM_SIZE, 0, b->ram, 0, VM_ACCESS_RW);
  vm_region_new_rom(b->memory, "rom", BARE_ROM_BASE, 0x10000, 0, rom, 0);
  vm_region_new_io(b->memory, "mmio", VM_SPACE_MEMORY, BARE_MMIO_BASE, sizeof b->mmio, 0, &mmio_ops, b, ctx);
  vm_memory_set_a20(b->memory, true);
  vm_io_context_unlock(ctx);

  b->cpu = g_aligned_alloc0(1, sizeof(TcgCpu), 64);
  b->cpu->memory = b->memory;
  b->cpu->a20_mask = ~UINT64_C(0);
  x86_cpu_reset(&b->cpu->x86, true, false);
  x86_tcg_import(b->cpu);
  return b;
}

void bare_cpu_free(BareCpu *b)
{
  g_aligned_free(b->cpu);
  vm_free(b->vm);
  g_free(b);
}

void bare_poke(BareCpu *b, uint64_t gpa, uint64_t value, unsigned size)
{
  memcpy(vm_ram_get_hva(b->ram) + gpa, &value, size);
}

uint64_t bare_peek(BareCpu *b, uint64_t gpa, unsigned size)
{
  uint64_t value = 0;
  memcpy(&value, vm_ram_get_hva(b->ram) + gpa, size);
  return value;
}

void bare_expect(BareCpu *b, unsigned vector, int64_t error)
{
  g_assert_true(b->cpu->exc_pending);
  g_assert_cmpuint(b->cpu->exc_vector, ==, vector);
  g_assert_cmpint(b->cpu->exc_has_error ? (int64_t)b->cpu->exc_error : -1, ==, error);
  b->cpu->exc_pending = 0;
}

void bare_expect_none(BareCpu *b)
{
  if (b->cpu->exc_pending)
    g_error("unexpected exception %u, error %#x", b->cpu->exc_vector, b->cpu->exc_error);
}
