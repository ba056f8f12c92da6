/*
 * A translator CPU without a translator, for tests of the guest's system half: RAM, a few registers, and the helpers
 * called straight from the test.
 */
#ifndef TESTS_TCG_BARE_CPU_H
#define TESTS_TCG_BARE_CPU_H

#include "vm-engine/accel/tcg/guest/x86/sys.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"

#define BARE_RAM_SIZE 0x1000000u    /* 16 MiB at 0 */
#define BARE_MMIO_BASE 0xe0000000u  /* 64 KiB: register n * 4 reads as what was written, by bytes */
#define BARE_ROM_BASE 0xf0000000u   /* 64 KiB */

typedef struct BareCpu {
  Vm *vm;
  VmMemory *memory;
  VmRam *ram;
  TcgCpu *cpu;
  uint8_t mmio[0x10000];
  unsigned n_mmio_reads, n_mmio_writes;
  unsigned last_mmio_size;
} BareCpu;

/* In real mode after a reset, A20 on. */
BareCpu *bare_cpu_new(void);
void bare_cpu_free(BareCpu *b);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(BareCpu, bare_cpu_free)

/* Guest-physical memory. */
void bare_poke(BareCpu *b, uint64_t gpa, uint64_t value, unsigned size);
uint64_t bare_peek(BareCpu *b, uint64_t gpa, unsigned size);

/* Asserts that `vector` waits with this error code (-1: with none) and takes it back. */
void bare_expect(BareCpu *b, unsigned vector, int64_t error);
/* Asserts that nothing waits. */
void bare_expect_none(BareCpu *b);

#endif
