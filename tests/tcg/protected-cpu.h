/*
 * A BareCpu in protected or long mode: descriptor tables with one of each kind, and an IDT to put gates into.
 */
#ifndef TESTS_TCG_PROTECTED_CPU_H
#define TESTS_TCG_PROTECTED_CPU_H

#include "tests/tcg/bare-cpu.h"

#define GDT 0x1000u
#define IDT 0x2000u
#define TSS_A 0x3000u
#define TSS_B 0x3800u
#define LDT 0x4000u
#define STACK0 0x9000u  /* SS0:ESP0 (RSP0) */
#define STACK3 0xb000u
#define STACK_IST 0xc008u /* not aligned, on purpose */
#define HANDLER 0x7000u

/* Selectors. In long mode CODE0 and CODE3 are 64-bit. */
enum {
  CODE0 = 0x08, DATA0 = 0x10, CODE3 = 0x18 | 3, DATA3 = 0x20 | 3, TASK_A = 0x28, /* 16 bytes in long mode */
  TASK_B = 0x38, GATE_CALL = 0x40 | 3, CONFORMING = 0x48, ABSENT = 0x50, TABLE_LOCAL = 0x58, READ_ONLY3 = 0x60 | 3,
  EXECUTE_ONLY3 = 0x68 | 3, GATE_TASK = 0x70 | 3, STACK16 = 0x78, EXPAND_DOWN = 0x80, CODE3_COMPAT = 0x88 | 3,
  GATE_LONG = 0x90 | 3, GDT_END = 0xa0,
};

BareCpu *protected_cpu_new(void);
/* With identity-mapped 2 MiB pages, all of them the user's. */
BareCpu *long_cpu_new(void);

/* Puts the CPU at `rip` of ring 0 or 3, with the stack pointer `rsp`. */
void set_ring(BareCpu *b, unsigned cpl, uint64_t rip, uint64_t rsp);
void set_descriptor(BareCpu *b, uint16_t selector, uint32_t base, uint32_t limit, uint32_t attr);
/* A gate of the IDT (legacy). `type`: with P and DPL, as in a descriptor's byte 5. */
void set_gate(BareCpu *b, unsigned vector, uint16_t selector, uint32_t offset, unsigned type);
void set_long_gate(BareCpu *b, unsigned vector, uint16_t selector, uint64_t offset, unsigned type, unsigned ist);
/* Raises and delivers. */
bool deliver_fault(BareCpu *b, unsigned vector, int64_t error);
/* 32- or 64-bit value at SS:RSP + 4 (8) * n, flat. */
uint64_t stack_at(BareCpu *b, unsigned n, unsigned bytes);

#endif
