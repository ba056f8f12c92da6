/*
 * The assembler: x86-64 instructions as bytes. Each function appends one instruction; encodings are those of the manuals'
 * volume 2.
 *
 * An opcode is written as a number: the byte in bits 7–0, the map in bits 15–8 (0 none, 1 0F, 2 0F38, 3 0F3A), a mandatory
 * prefix in bits 23–16.
 */
#ifndef HOST_X86_64_EMIT_H
#define HOST_X86_64_EMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NO_REG };

typedef struct Emit {
  uint8_t *p; /* where the next byte goes, in the writable mapping */
  uint8_t *start;
  ptrdiff_t to_executable; /* added to a writable address, it gives the executable one */
} Emit;

/* A memory operand: [base + index << scale + disp]. */
typedef struct Mem {
  uint8_t base, index, scale;
  int32_t disp;
} Mem;

/* Operand widths, as IrWidth: 0 = 8 bits … 3 = 64. */
enum { B, W, D, Q };

#define OP0F(byte)    (0x100u | (byte))
#define OP0F38(byte)  (0x200u | (byte))
#define OP0F3A(byte)  (0x300u | (byte))
#define PREFIX(p, op) ((unsigned)(p) << 16 | (op))

static inline const uint8_t *emit_here(const Emit *e)
{
  return e->p + e->to_executable;
}
static inline void emit_u8(Emit *e, unsigned v)
{
  *e->p++ = (uint8_t)v;
}
static inline void emit_u32(Emit *e, uint32_t v)
{
  __builtin_memcpy(e->p, &v, 4);
  e->p += 4;
}
static inline void emit_u64(Emit *e, uint64_t v)
{
  __builtin_memcpy(e->p, &v, 8);
  e->p += 8;
}

/* Prefixes, REX and opcode. `byte_regs`: a byte register numbered 4–7 needs a REX to mean SPL … DIL. */
static inline void emit_opcode(Emit *e, unsigned width, unsigned op, unsigned reg, unsigned index, unsigned base,
                               bool byte_regs)
{
  if (width == W)
    emit_u8(e, 0x66);
  if (op >> 16 != 0)
    emit_u8(e, op >> 16);
  unsigned rex = (width == Q) << 3 | (reg >> 3 & 1) << 2 | (index >> 3 & 1) << 1 | (base >> 3 & 1);
  if (rex != 0 || byte_regs)
    emit_u8(e, 0x40 | rex);
  unsigned map = op >> 8 & 0xff;
  if (map != 0)
    emit_u8(e, 0x0f);
  if (map == 2)
    emit_u8(e, 0x38);
  else if (map == 3)
    emit_u8(e, 0x3a);
  emit_u8(e, op);
}

static inline void emit_modrm_reg(Emit *e, unsigned reg, unsigned rm)
{
  emit_u8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void emit_modrm_mem(Emit *e, unsigned reg, Mem m)
{
  bool sib = m.index != NO_REG || (m.base & 7) == RSP;
  bool disp8 = m.disp == (int8_t)m.disp, none = m.disp == 0 && (m.base & 7) != RBP;
  emit_u8(e, (none ? 0 : disp8 ? 0x40 : 0x80) | (reg & 7) << 3 | (sib ? 4u : m.base & 7u));
  if (sib)
    emit_u8(e, (unsigned)m.scale << 6 | (m.index == NO_REG ? 4u : m.index & 7u) << 3 | (m.base & 7u));
  if (disp8 && !none)
    emit_u8(e, (unsigned)m.disp);
  else if (!none)
    emit_u32(e, (uint32_t)m.disp);
}

/* op reg, rm. Byte instructions: `width` B, and both operands are byte registers. */
static inline void emit_rr(Emit *e, unsigned width, unsigned op, unsigned reg, unsigned rm)
{
  emit_opcode(e, width, op, reg, 0, rm, width == B && (reg >= 4 || rm >= 4));
  emit_modrm_reg(e, reg, rm);
}
static inline void emit_rm(Emit *e, unsigned width, unsigned op, unsigned reg, Mem m)
{
  emit_opcode(e, width, op, reg, m.index == NO_REG ? 0u : m.index, m.base, width == B && reg >= 4);
  emit_modrm_mem(e, reg, m);
}
static inline Mem mem_at(unsigned base, int32_t disp)
{
  return (Mem){ (uint8_t)base, NO_REG, 0, disp };
}
static inline Mem mem_index(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
  return (Mem){ (uint8_t)base, (uint8_t)index, (uint8_t)scale, disp };
}

/* ---- moves ---------------------------------------------------------------------------------------------------------- */

static inline void emit_mov_rr(Emit *e, unsigned width, unsigned d, unsigned s)
{
  emit_rr(e, width, width == B ? 0x8a : 0x8b, d, s);
}
static inline void emit_mov_rm(Emit *e, unsigned width, unsigned d, Mem m)
{
  emit_rm(e, width, width == B ? 0x8a : 0x8b, d, m);
}
static inline void emit_mov_mr(Emit *e, unsigned width, Mem m, unsigned s)
{
  emit_rm(e, width, width == B ? 0x88 : 0x89, s, m);
}
/* The shortest way that leaves the flags alone. */
static inline void emit_mov_ri(Emit *e, unsigned d, uint64_t v)
{
  if (v == (uint32_t)v) {
    emit_opcode(e, D, 0xb8 | (d & 7), 0, 0, d, false);
    emit_u32(e, (uint32_t)v);
  } else if ((int64_t)v == (int32_t)v) {
    emit_opcode(e, Q, 0xc7, 0, 0, d, false);
    emit_modrm_reg(e, 0, d);
    emit_u32(e, (uint32_t)v);
  } else {
    emit_opcode(e, Q, 0xb8 | (d & 7), 0, 0, d, false);
    emit_u64(e, v);
  }
}
static inline void emit_imm(Emit *e, unsigned width, uint32_t v)
{
  if (width == B)
    emit_u8(e, v);
  else if (width == W) {
    emit_u8(e, v);
    emit_u8(e, v >> 8);
  } else
    emit_u32(e, v);
}
/* 64 bits: the 32 are sign-extended. */
static inline void emit_mov_mi(Emit *e, unsigned width, Mem m, uint32_t v)
{
  emit_rm(e, width, width == B ? 0xc6 : 0xc7, 0, m);
  emit_imm(e, width, v);
}
static inline void emit_lea(Emit *e, unsigned width, unsigned d, Mem m)
{
  emit_rm(e, width, 0x8d, d, m);
}
/* d (32 bits, so 64) = zero-extended s. */
static inline void emit_movzx8(Emit *e, unsigned d, unsigned s)
{
  emit_opcode(e, D, OP0F(0xb6), d, 0, s, s >= 4);
  emit_modrm_reg(e, d, s);
}
static inline void emit_movzx16(Emit *e, unsigned d, unsigned s)
{
  emit_rr(e, D, OP0F(0xb7), d, s);
}

/* ---- arithmetic -------------------------------------------------------------------------------------------------------- */

/* The eight of 80–83 and 00–3F. */
enum { ALU_ADD, ALU_OR, ALU_ADC, ALU_SBB, ALU_AND, ALU_SUB, ALU_XOR, ALU_CMP };

static inline void emit_alu_rr(Emit *e, unsigned width, unsigned alu, unsigned d, unsigned s)
{
  emit_rr(e, width, alu << 3 | 2 | (width != B), d, s);
}
static inline void emit_alu_rm(Emit *e, unsigned width, unsigned alu, unsigned d, Mem m)
{
  emit_rm(e, width, alu << 3 | 2 | (width != B), d, m);
}
static inline void emit_alu_mr(Emit *e, unsigned width, unsigned alu, Mem m, unsigned s)
{
  emit_rm(e, width, alu << 3 | (width != B), s, m);
}
static inline void emit_alu_ri(Emit *e, unsigned width, unsigned alu, unsigned d, int32_t v)
{
  bool short_form = width != B && v == (int8_t)v;
  emit_opcode(e, width, width == B ? 0x80 : short_form ? 0x83 : 0x81, 0, 0, d, width == B && d >= 4);
  emit_modrm_reg(e, alu, d);
  emit_imm(e, short_form ? (unsigned)B : width, (uint32_t)v);
}
static inline void emit_alu_mi(Emit *e, unsigned width, unsigned alu, Mem m, int32_t v)
{
  bool short_form = width != B && v == (int8_t)v;
  emit_rm(e, width, width == B ? 0x80 : short_form ? 0x83 : 0x81, alu, m);
  emit_imm(e, short_form ? (unsigned)B : width, (uint32_t)v);
}
static inline void emit_test_rr(Emit *e, unsigned width, unsigned a, unsigned b)
{
  emit_rr(e, width, width == B ? 0x84 : 0x85, b, a);
}
static inline void emit_test_ri(Emit *e, unsigned width, unsigned a, uint32_t v)
{
  emit_opcode(e, width, width == B ? 0xf6 : 0xf7, 0, 0, a, width == B && a >= 4);
  emit_modrm_reg(e, 0, a);
  emit_imm(e, width, v);
}
static inline void emit_test_mi(Emit *e, unsigned width, Mem m, uint32_t v)
{
  emit_rm(e, width, width == B ? 0xf6 : 0xf7, 0, m);
  emit_imm(e, width, v);
}
/* F6/F7: 2 not, 3 neg, 4 mul, 5 imul. FE/FF: 0 inc, 1 dec. */
static inline void emit_unary(Emit *e, unsigned width, unsigned op, unsigned digit, unsigned r)
{
  emit_opcode(e, width, op | (width != B), 0, 0, r, width == B && r >= 4);
  emit_modrm_reg(e, digit, r);
}
static inline void emit_unary_mem(Emit *e, unsigned width, unsigned op, unsigned digit, Mem m)
{
  emit_rm(e, width, op | (width != B), digit, m);
}
/* 0 rol, 1 ror, 2 rcl, 3 rcr, 4 shl, 5 shr, 7 sar. */
static inline void emit_shift_cl(Emit *e, unsigned width, unsigned digit, unsigned d)
{
  emit_unary(e, width, 0xd2, digit, d);
}
static inline void emit_shift_ri(Emit *e, unsigned width, unsigned digit, unsigned d, unsigned count)
{
  emit_unary(e, width, 0xc0, digit, d);
  emit_u8(e, count);
}
static inline void emit_bt_ri(Emit *e, unsigned width, unsigned digit, unsigned r, unsigned bit)
{
  emit_opcode(e, width, OP0F(0xba), 0, 0, r, false);
  emit_modrm_reg(e, digit, r);
  emit_u8(e, bit);
}

/* BMI2. VEX: [map 2 or 3][pp: 0 none, 1 66, 2 F3, 3 F2] */
static inline void emit_vex(Emit *e, unsigned map, unsigned pp, unsigned width, unsigned op, unsigned reg,
                            unsigned vvvv, unsigned rm)
{
  emit_u8(e, 0xc4);
  emit_u8(e, (~reg >> 3 & 1) << 7 | 1u << 6 | (~rm >> 3 & 1) << 5 | map);
  emit_u8(e, (unsigned)(width == Q) << 7 | (~vvvv & 15) << 3 | pp);
  emit_u8(e, op);
  emit_modrm_reg(e, reg, rm);
}
static inline void emit_rorx(Emit *e, unsigned width, unsigned d, unsigned s, unsigned count)
{
  emit_vex(e, 3, 3, width, 0xf0, d, 0, s);
  emit_u8(e, count);
}

/* ---- control ------------------------------------------------------------------------------------------------------------ */

/* Forward jumps: return the displacement's place, for emit_patch32/8(). */
static inline uint8_t *emit_jcc32(Emit *e, unsigned cc)
{
  emit_u8(e, 0x0f);
  emit_u8(e, 0x80 | cc);
  emit_u32(e, 0);
  return e->p - 4;
}
static inline uint8_t *emit_jmp32(Emit *e)
{
  emit_u8(e, 0xe9);
  emit_u32(e, 0);
  return e->p - 4;
}
static inline void emit_patch32(uint8_t *at, const uint8_t *target)
{
  int32_t v = (int32_t)(target - (at + 4));
  __builtin_memcpy(at, &v, 4);
}
static inline uint8_t *emit_jcc8(Emit *e, unsigned cc)
{
  emit_u8(e, 0x70 | cc);
  emit_u8(e, 0);
  return e->p - 1;
}
static inline uint8_t *emit_jrcxz(Emit *e)
{
  emit_u8(e, 0xe3);
  emit_u8(e, 0);
  return e->p - 1;
}
static inline uint8_t *emit_jmp8(Emit *e)
{
  emit_u8(e, 0xeb);
  emit_u8(e, 0);
  return e->p - 1;
}
static inline void emit_patch8(uint8_t *at, const uint8_t *target)
{
  *at = (uint8_t)(target - (at + 1));
}
/* To an executable address within 2 GiB. */
static inline void emit_jmp_to(Emit *e, const uint8_t *executable)
{
  emit_u8(e, 0xe9);
  emit_u32(e, (uint32_t)(executable - (emit_here(e) + 4)));
}
static inline void emit_call_to(Emit *e, const uint8_t *executable)
{
  emit_u8(e, 0xe8);
  emit_u32(e, (uint32_t)(executable - (emit_here(e) + 4)));
}
static inline void emit_jmp_mem(Emit *e, Mem m)
{
  emit_rm(e, D, 0xff, 4, m);
}
static inline void emit_nops(Emit *e, unsigned n)
{
  static const uint8_t nops[8][8] = { { 0x90 },
                                      { 0x66, 0x90 },
                                      { 0x0f, 0x1f, 0x00 },
                                      { 0x0f, 0x1f, 0x40, 0x00 },
                                      { 0x0f, 0x1f, 0x44, 0x00, 0x00 },
                                      { 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00 },
                                      { 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00 },
                                      { 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 } };
  while (n > 0) {
    unsigned k = n > 8 ? 8 : n;
    __builtin_memcpy(e->p, nops[k - 1], k);
    e->p += k;
    n -= k;
  }
}

#endif
