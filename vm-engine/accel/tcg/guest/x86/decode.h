/*
 * The x86 instruction decoder: bytes to a description in which prefixes, modrm, SIB and REX are already resolved.
 *
 * The manual's opcode maps (Intel SDM volume 2, appendix A; APM volume 3, appendix A) are data: decode-table-*.def has
 * one row an opcode, with its operands in the manual's notation. Vector and x87 rows only say that a modrm byte and
 * perhaps an immediate follow; their meaning is fpu-*.c's.
 *
 * The decoder touches no CPU state and allocates nothing, so that tests can run it on any bytes.
 */
#ifndef X86_DECODE_H
#define X86_DECODE_H

#include <stdbool.h>
#include <stdint.h>

#include "vm-engine/x86/cpu.h"

#define X86_MAX_INSN_BYTES 15
#define X86_NO_REG         0xff

/* Which opcode map. */
typedef enum X86Map { X86_MAP_ONE, X86_MAP_0F, X86_MAP_0F38, X86_MAP_0F3A } X86Map;

/* What the instruction is: one value a mnemonic (or a family with one translation). */
typedef enum X86Insn {
#define INSN(name, family) X86_I_##name,
#include "vm-engine/accel/tcg/guest/x86/decode-insns.def"
#undef INSN
  X86_N_INSNS
} X86Insn;

/* Operand kinds, the manual's letters: E modrm general, G modrm.reg, M memory only, R register only, I immediate, J
 * relative, O moffs, Z register in the opcode's low bits, X/Y string source/destination, S segment register, C/D control
 * and debug register, A far pointer, B VEX.vvvv. b byte, w word, d dword, q qword, v operand size, z 16/32 by operand
 * size, y 32/64. */
typedef enum X86Operand {
#define OPERAND(name, class, width) X86_OPD_##name,
#include "vm-engine/accel/tcg/guest/x86/decode-operands.def"
#undef OPERAND
  X86_N_OPERANDS
} X86Operand;

/* Attributes of a row. */
enum {
  X86_ROW_LOCK = 1 << 0,      /* LOCK is allowed if operand 0 is memory */
  X86_ROW_NO64 = 1 << 1,      /* #UD in 64-bit mode */
  X86_ROW_ONLY64 = 1 << 2,    /* #UD elsewhere */
  X86_ROW_DEF64 = 1 << 3,     /* 64-bit mode: operand size 64 unless 66 */
  X86_ROW_FORCE64 = 1 << 4,   /* 64-bit mode: operand size 64, 66 ignored (near branches, as Intel's do) */
  X86_ROW_RING0 = 1 << 5,     /* #GP(0) unless CPL 0 */
  X86_ROW_PROTECTED = 1 << 6, /* #UD in real and virtual-8086 mode */
  X86_ROW_PREFIXED = 1 << 7,  /* the table of prefixed forms may have another row, by 66/F3/F2 */
  X86_ROW_FPU = 1 << 8,       /* x86_translate_fpu()'s */
  X86_ROW_MODRM = 1 << 9,     /* a modrm byte follows (rows with operands that need one imply it) */
  X86_ROW_VEX = 1 << 10,      /* only with a VEX prefix */
};

typedef struct X86Row {
  uint16_t insn;       /* X86Insn */
  uint8_t operands[3]; /* X86Operand */
  uint16_t attr;
} X86Row;

typedef struct X86Decoded X86Decoded;
struct X86Decoded {
  X86Row row; /* of the group's member where the opcode is a group */
  uint16_t insn;
  uint8_t map, opcode;

  /* Sizes as log2 of bytes (IrWidth's values). */
  uint8_t code_size; /* the code's: 1, 2, 3 */
  uint8_t op_size;   /* of v operands: 1, 2, 3; defaults, 66, REX.W and DEF64/FORCE64 applied */
  uint8_t addr_size; /* 1, 2, 3 */

  /* Prefixes. */
  bool prefix_66, prefix_67, lock;
  uint8_t rep;          /* 0, 0xf2 or 0xf3: the last of them */
  uint8_t seg_override; /* X86_ES …, or X86_NO_REG; in 64-bit mode only FS and GS count */
  bool has_rex;
  uint8_t rex_w, rex_r, rex_x, rex_b; /* 0 or 1; VEX's are here too */
  bool vex;
  uint8_t vex_v, vex_l, vex_pp; /* vvvv un-inverted; pp: 0 none, 1 66, 2 F3, 3 F2 */

  /* modrm. `reg` and `rm` are extended by REX.R and REX.B; `rm` names a register only where mod is 3. */
  bool has_modrm;
  uint8_t modrm, mod, reg, rm;
  uint8_t opcode_reg; /* the opcode's low three bits, extended by REX.B */

  /* The memory operand (mod != 3), whatever its encoding: seg:[base + (index << scale) + disp], each register
   * X86_NO_REG where missing; RIP-relative: base missing, `rip_relative`, disp not yet added to the next rip. */
  bool rip_relative;
  uint8_t base, index, scale;
  uint8_t seg;  /* default by base register, override applied */
  int64_t disp; /* sign-extended; moffs: the offset */

  int64_t imm; /* sign-extended from its size, but unsigned where the manual says so (Iw of RET, ENTER; port numbers) */
  uint16_t imm2; /* ENTER's level; a far pointer's selector */

  uint8_t length;
};

static inline bool x86_decoded_is_memory(const X86Decoded *d)
{
  return d->has_modrm && d->mod != 3;
}

typedef enum X86DecodeStatus {
  X86_DECODE_OK,
  X86_DECODE_SHORT,    /* `n_bytes` end within the instruction */
  X86_DECODE_TOO_LONG, /* more than 15 bytes: #GP(0) */
  X86_DECODE_INVALID,  /* #UD */
} X86DecodeStatus;

/* Decodes the instruction at `bytes`, of which `n_bytes` are there. `code_size` is 1, 2 or 3: 16-, 32- or 64-bit code;
 * `protected_mode` is false in real and virtual-8086 mode (there VEX prefixes do not exist). Invalid opcodes, LOCK where
 * it is not allowed, and modes that lack an instruction are INVALID; what depends on privilege or CPUID is the
 * translator's matter. */
X86DecodeStatus x86_decode(X86Decoded *d, const uint8_t *bytes, unsigned n_bytes, unsigned code_size,
                           bool protected_mode);
const char *x86_insn_name(X86Insn insn);

/* What an operand kind is made of. */
typedef enum X86OperandClass {
  X86_OPC_NONE,
  X86_OPC_E,
  X86_OPC_M,
  X86_OPC_R,
  X86_OPC_RANY,
  X86_OPC_G,
  X86_OPC_Z,
  X86_OPC_REG,
  X86_OPC_B,
  X86_OPC_S,
  X86_OPC_CR,
  X86_OPC_DR,
  X86_OPC_U,
  X86_OPC_SX,
  X86_OPC_J,
  X86_OPC_O,
  X86_OPC_A,
  X86_OPC_ONE,
  X86_OPC_X,
  X86_OPC_Y,
} X86OperandClass;
X86OperandClass x86_operand_class(X86Operand kind);
/* log2 of its bytes in this instruction; 3 for kinds without a width. */
unsigned x86_operand_width(const X86Decoded *d, X86Operand kind);

#endif
