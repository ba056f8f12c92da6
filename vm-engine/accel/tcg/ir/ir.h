/*
 * The translator's intermediate representation: one straight line of operations for each translation block.
 *
 * Operands are temps (assigned once, 64 bits, local to the block), guest registers (the front end's list of pinned
 * state: read and written any number of times, in program order) and constants. The arithmetic flags are one implicit
 * piece of state that rows of ops.def say they define or use, so dead flags are found by one backward walk.
 * There is no control flow inside a block: it leaves by exits, of which only the last is unconditional.
 *
 * Exactness: an op that may fault (IR_MEM, helpers with HELPER_FAULTS) sees every earlier write to guest registers,
 * flags and CPU state done, and none of the later ones. So passes may not move writes across them, and flags count as
 * used by them.
 */
#ifndef TCG_IR_H
#define TCG_IR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

#include "vm-engine/accel/tcg/tcg-cpu.h"


typedef enum IrOpcode {
#define OP(name, ...) IR_##name,
#include "vm-engine/accel/tcg/ir/ops.def"
#undef OP
  IR_N_OPS
} IrOpcode;

enum { IR_PURE = 1, IR_COMM = 2, IR_MEM = 4, IR_ENV = 8, IR_CALLS = 16, IR_END = 32, IR_FOLD = 64 };

typedef enum IrWidth { IR_W8, IR_W16, IR_W32, IR_W64 } IrWidth; /* log2 of bytes */

/* An operand. */
typedef uint16_t IrRef;
#define IR_NONE 0
#define IR_TEMP_BASE 0x0001
#define IR_REG_BASE 0x4000
#define IR_CONST_BASE 0x8000
static inline bool ir_is_temp(IrRef r) { return r >= IR_TEMP_BASE && r < IR_REG_BASE; }
static inline bool ir_is_reg(IrRef r) { return r >= IR_REG_BASE && r < IR_CONST_BASE; }
static inline bool ir_is_const(IrRef r) { return r >= IR_CONST_BASE; }
static inline IrRef ir_reg(unsigned guest_register) { return (IrRef)(IR_REG_BASE + guest_register); }
static inline unsigned ir_reg_index(IrRef r) { return r - IR_REG_BASE; }

/* aux of memory ops. Bits 0–2: log2 bytes (0–5); the rest flags. */
enum {
  IR_MEM_SIZE = 7,
  IR_MEM_SIGNED = 1 << 3,
  IR_MEM_ALIGNED = 1 << 4, /* #GP(0) unless naturally aligned (MOVAPS and the like) */
  IR_MEM_SYSTEM = 1 << 5,  /* an access at supervisor level whatever the CPL (rare; helpers do most) */
  IR_MEM_STACK = 1 << 6,   /* through SS: what is wrong with the address itself is #SS, not #GP */
  IR_MEM_PROBED = 1 << 7,  /* set by the optimiser: the instruction probed this address, so that the op cannot fault */
};

/* A host vector or MMX instruction that stands for the guest's own: [prefix] [REX] 0F [38|3A] opcode modrm [imm8].
 * Its two operands are CPU-state slots (XMM, MMX) or one of them a GPR. The back end picks host registers, loads what is
 * read, stores what is written. */
typedef enum IrNativeKind { IR_NAT_NONE, IR_NAT_XMM, IR_NAT_MMX, IR_NAT_GPR } IrNativeKind;
typedef struct IrNativeOperand {
  uint8_t kind;   /* IrNativeKind */
  uint8_t bytes;  /* how much of the slot is read or written: 4, 8, 16 (XMM), 8 (MMX) */
  bool reads, writes;
  uint32_t offset; /* of the slot in TcgCpu; XMM slots are 16-byte aligned */
} IrNativeOperand;
typedef struct IrNative {
  uint8_t prefix;  /* 0, 0x66, 0xf2, 0xf3 */
  uint8_t map;     /* 1: 0F, 2: 0F38, 3: 0F3A */
  uint8_t opcode;
  uint8_t imm;
  bool has_imm, rex_w;
  bool implicit_xmm0;    /* PBLENDVB and kin: reads guest XMM0, at `xmm0_offset` */
  bool group;            /* modrm.reg is an opcode extension `group_reg` (shifts by immediate), not an operand */
  uint8_t group_reg;
  uint16_t flags_def;    /* arithmetic flags that it writes (PTEST, COMISS): EFLAGS mask */
  uint32_t xmm0_offset;
  IrNativeOperand reg, rm; /* the modrm fields. A GPR operand is insn.d if it is written, else insn.a */
} IrNative;

typedef struct IrInsn {
  uint8_t op;     /* IrOpcode */
  uint8_t width;  /* IrWidth */
  uint8_t aux;    /* condition, memop, scale, instruction length */
  uint8_t pad;
  uint16_t flags_live; /* by the liveness pass: which arithmetic flags are used after this op, whoever defined them */
  IrRef d, a, b, c;
  int64_t imm;
} IrInsn;

/* One piece of guest state that the IR names as a register. */
typedef struct IrGuestReg { const char *name; uint32_t offset; /* in TcgCpu, 8 bytes */ } IrGuestReg;

typedef struct IrBlock IrBlock;
struct IrBlock {
  GArray *insns;   /* IrInsn */
  GArray *consts;  /* int64_t */
  GArray *natives; /* IrNative */
  const IrGuestReg *guest_regs; /* the front end's list: what ir_reg(n) names */
  unsigned n_guest_regs;
  unsigned n_temps; /* refs IR_TEMP_BASE … IR_TEMP_BASE + n_temps - 1 */
  unsigned n_guest_insns;
  uint64_t pc;     /* linear address of the first instruction */
  uint64_t rip;    /* the same less the CS base */
  uint32_t hflags;
  uint32_t guest_bytes; /* how many the block covers, from pc on; at most two pages are touched */
  uint16_t flags_in;    /* by the liveness pass: which flags the block needs of its predecessor */
  bool poison;          /* for tests: the interpreter fills the unspecified bits of 8- and 16-bit results with rubbish */
  GArray *scratch[4];   /* the passes' own, kept for their memory */
};

/* For the x86 guest; another guest's front end sets guest_regs. */
IrBlock *ir_block_new(void);
void ir_block_free(IrBlock *block);
void ir_block_clear(IrBlock *block); /* for reuse: keeps the arrays' memory */

/* ---- building: each appends one op ------------------------------------------------------------------------------------ */

IrRef ir_temp(IrBlock *b);
IrRef ir_const(IrBlock *b, int64_t value);
int64_t ir_const_value(const IrBlock *b, IrRef ref);
IrInsn *ir_emit(IrBlock *b, IrOpcode op, IrWidth w, IrRef d, IrRef x, IrRef y);
/* d is a fresh temp, returned. */
IrRef ir_op1(IrBlock *b, IrOpcode op, IrWidth w, IrRef x);
IrRef ir_op2(IrBlock *b, IrOpcode op, IrWidth w, IrRef x, IrRef y);
void ir_mov(IrBlock *b, IrRef d, IrRef x); /* 64 bits */
IrRef ir_lea(IrBlock *b, IrWidth w, IrRef base, IrRef index, unsigned shift, int64_t disp);
IrRef ir_ld(IrBlock *b, unsigned memop, IrRef address, int64_t disp);
void ir_st(IrBlock *b, unsigned memop, IrRef address, int64_t disp, IrRef value);
void ir_ldv(IrBlock *b, unsigned memop, IrRef address, uint32_t state_offset);
void ir_stv(IrBlock *b, unsigned memop, IrRef address, uint32_t state_offset);
IrRef ir_lde(IrBlock *b, IrWidth w, uint32_t state_offset);
void ir_ste(IrBlock *b, IrWidth w, uint32_t state_offset, IrRef value);
IrRef ir_setcc(IrBlock *b, unsigned cc);
void ir_call(IrBlock *b, unsigned helper, IrRef d, IrRef x, IrRef y, IrRef z);
void ir_native(IrBlock *b, const IrNative *native, IrRef gpr);
void ir_insn_start(IrBlock *b, uint64_t rip);
void ir_exit(IrBlock *b, uint64_t rip);
void ir_exit_cc(IrBlock *b, unsigned cc, uint64_t rip);
void ir_exit_nz(IrBlock *b, IrWidth w, IrRef x, uint64_t rip);
void ir_exit_indirect(IrBlock *b, IrRef rip);
void ir_exit_loop(IrBlock *b, IrRef rip); /* IR_NONE: rip was stored by a helper */

/* ---- the op table --------------------------------------------------------------------------------------------------------- */

typedef enum IrOperandKind { IR_OPERAND_N, IR_OPERAND_O, IR_OPERAND_O2, IR_OPERAND_R, IR_OPERAND_RN } IrOperandKind;
typedef struct IrOpInfo {
  const char *text;
  uint8_t d, a, b, c; /* IrOperandKind */
  uint16_t flags_def, flags_use;
  uint8_t props;
} IrOpInfo;
extern const IrOpInfo ir_ops[IR_N_OPS];

static inline const IrInsn *ir_get(const IrBlock *b, unsigned i) { return &g_array_index(b->insns, IrInsn, i); }
static inline IrInsn *ir_at(IrBlock *b, unsigned i) { return &g_array_index(b->insns, IrInsn, i); }
static inline unsigned ir_count(const IrBlock *b) { return b->insns->len; }
static inline unsigned ir_width_bits(unsigned w) { return 8u << w; }

/* What an op does to the flags where it stands, finer than its row: constant shift counts, a helper's or a native
 * instruction's effects, and an op's faulting and leaving count (all flags are used then). Flags outside `def` pass
 * through. `live_after`: which flags are used later (an op that may leave a flag alone uses it only if so). */
typedef struct IrFlagEffect { uint16_t def, use; } IrFlagEffect;
IrFlagEffect ir_flag_effect(const IrBlock *b, const IrInsn *insn, uint16_t live_after);
/* The flags that an x86 condition code looks at. */
uint16_t ir_cc_flags(unsigned cc);

/* ---- helpers: C functions that translated code calls --------------------------------------------------------------------- */

typedef uint64_t (*TcgHelperFunc)(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c);
enum {
  HELPER_READS = 1 << 0,   /* reads guest registers (pinned ones are stored before) */
  HELPER_WRITES = 1 << 1,  /* writes guest registers (reloaded after) */
  HELPER_FAULTS = 1 << 2,  /* may set exc_pending: rip is stored before, exc_pending is checked after */
  HELPER_RIP = 1 << 3,     /* reads x86.rip */
  HELPER_FLAGS_USE = 1 << 4, /* reads cpu->flags */
  HELPER_FLAGS_DEF = 1 << 5, /* writes cpu->flags (all of them) */
  HELPER_EXITS = 1 << 6,   /* may set exit_block: checked after */
  HELPER_PURE = 1 << 7,    /* no effect but the result */
};
typedef struct TcgHelper { const char *name; TcgHelperFunc func; uint32_t effects; } TcgHelper;
typedef enum TcgHelperId {
#define HELPER(name, effects) HELPER_##name,
#include "vm-engine/accel/tcg/guest/x86/helpers.def"
#undef HELPER
  HELPER_N
} TcgHelperId;
#define HELPER(name, effects) uint64_t helper_##name(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c);
#include "vm-engine/accel/tcg/guest/x86/helpers.def"
#undef HELPER
extern const TcgHelper tcg_helpers[HELPER_N];

/* ---- passes, dump, verifier ---------------------------------------------------------------------------------------------------- */

typedef struct IrPass { const char *name; void (*run)(IrBlock *block); } IrPass;
extern const IrPass ir_passes[]; /* in order; ends with a NULL name */
/* Runs them all; `dump` (may be NULL) gets the IR before and after each. Verifies between them in debug builds. */
void ir_optimise(IrBlock *block, GString *dump);
bool ir_verify(const IrBlock *block, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void ir_dump(const IrBlock *block, GString *out);
/* The dump's text back to a block, for tests. */
IrBlock *ir_parse(const char *text, GError **error);

/* ---- the interpreting back end: the oracle ---------------------------------------------------------------------------------------- */

/* How a block was left. */
typedef enum IrLeave { IR_LEAVE_SLOT0, IR_LEAVE_SLOT1, IR_LEAVE_INDIRECT, IR_LEAVE_LOOP, IR_LEAVE_EXCEPTION } IrLeave;
/* Runs the block on `cpu`, whose x86.rip is then the next instruction's (or, at an exception, the faulting one's). */
IrLeave ir_interpret(const IrBlock *block, TcgCpu *cpu);

#endif
