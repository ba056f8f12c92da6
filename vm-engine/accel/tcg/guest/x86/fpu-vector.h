/*
 * The vector table (fpu-table-vector.def) as data, for the translator and for the differential tester.
 */
#ifndef X86_FPU_VECTOR_H
#define X86_FPU_VECTOR_H

#include <stdbool.h>
#include <stdint.h>

#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"

/* The mandatory prefix. */
enum { VEC_NP, VEC_P66, VEC_PF3, VEC_PF2, VEC_N_PREFIXES };

typedef enum VecMemory {
  VEC_MEM_NONE,
  VEC_MEM_TMP2,
  VEC_MEM_TMP4,
  VEC_MEM_TMP8,
  VEC_MEM_TMP16,
  VEC_MEM_TMP16U,
  VEC_MEM_GPR1,
  VEC_MEM_GPR2,
  VEC_MEM_GPRY,
  VEC_MEM_LD4Z,
  VEC_MEM_LD8Z,
  VEC_MEM_LD16A,
  VEC_MEM_LD16U,
  VEC_MEM_LDLO,
  VEC_MEM_LDHI,
  VEC_MEM_LDM,
  VEC_MEM_LDY,
  VEC_MEM_ST4,
  VEC_MEM_ST8LO,
  VEC_MEM_ST8HI,
  VEC_MEM_ST16A,
  VEC_MEM_ST16U,
  VEC_MEM_STM,
  VEC_MEM_STY,
  VEC_MEM_STG1,
  VEC_MEM_STG2,
  VEC_MEM_STG4,
  VEC_MEM_STGY,
} VecMemory;

/* An operand: IrNativeKind in bits 0–1, access in 2–3, log2 of bytes in 4–6. */
#define VEC_OPERAND(kind, read, write, log2_bytes) (IR_NAT_##kind | (read) << 2 | (write) << 3 | (log2_bytes) << 4)
enum {
  VEC_NO = 0,
  VEC_XR4 = VEC_OPERAND(XMM, 1, 0, 2),
  VEC_XW4 = VEC_OPERAND(XMM, 0, 1, 2),
  VEC_XRW4 = VEC_OPERAND(XMM, 1, 1, 2),
  VEC_XR8 = VEC_OPERAND(XMM, 1, 0, 3),
  VEC_XW8 = VEC_OPERAND(XMM, 0, 1, 3),
  VEC_XRW8 = VEC_OPERAND(XMM, 1, 1, 3),
  VEC_XR16 = VEC_OPERAND(XMM, 1, 0, 4),
  VEC_XW16 = VEC_OPERAND(XMM, 0, 1, 4),
  VEC_XRW16 = VEC_OPERAND(XMM, 1, 1, 4),
  VEC_MR8 = VEC_OPERAND(MMX, 1, 0, 3),
  VEC_MW8 = VEC_OPERAND(MMX, 0, 1, 3),
  VEC_MRW8 = VEC_OPERAND(MMX, 1, 1, 3),
  VEC_GR = VEC_OPERAND(GPR, 1, 0, 2),
  VEC_GW = VEC_OPERAND(GPR, 0, 1, 2),
};
static inline unsigned vec_kind(uint8_t operand)
{
  return operand & 3;
}
static inline bool vec_reads(uint8_t operand)
{
  return operand >> 2 & 1;
}
static inline bool vec_writes(uint8_t operand)
{
  return operand >> 3 & 1;
}
static inline unsigned vec_bytes(uint8_t operand)
{
  return operand ? 1u << (operand >> 4) : 0;
}

enum {
  VEC_FP = 1 << 0,
  VEC_IMM = 1 << 1,
  VEC_EFL = 1 << 2,
  VEC_X0 = 1 << 3,
  VEC_RW = 1 << 4,
  VEC_MEMONLY = 1 << 5,
  VEC_CUSTOM = 1 << 6,
  VEC_GROUP = 1 << 7,
};

typedef enum VecFeature {
  VEC_MMX,
  VEC_SSE,
  VEC_SSE2,
  VEC_SSE3,
  VEC_SSSE3,
  VEC_SSE41,
  VEC_SSE42,
  VEC_AES,
  VEC_PCLMUL,
} VecFeature;

typedef struct X86VectorRow {
  const char *name; /* NULL: no such instruction */
  uint8_t memory;   /* VecMemory */
  uint8_t reg, rm;  /* VEC_OPERAND */
  uint8_t feature;  /* VecFeature */
  uint8_t flags;
} X86VectorRow;

/* The row of [prefix] map opcode (a group's by `modrm_reg`), or NULL. `map` is 1 to 3. */
const X86VectorRow *x86_vector_row(unsigned prefix, unsigned map, uint8_t opcode, unsigned modrm_reg);

#endif
