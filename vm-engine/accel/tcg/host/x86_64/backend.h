/*
 * One block's translation to x86-64, as its parts share it.
 *
 * Registers. rbp holds the TcgCpu. Some guest registers are pinned (the table in regs.c): they live in the same host
 * register in every block, are loaded on entering translated code and stored on leaving it. rax and rcx are the back
 * end's scratch within one op. The rest hold temps; a temp that finds none lives in TcgCpu.spill.
 *
 * Flags. The guest's arithmetic flags are in the host's flags register (FLAGS_HOST), in cpu->flags (FLAGS_MEM), or both;
 * `flags` says which holds now. An op that clobbers the host's calls be_clobber_flags() before its first instruction that
 * does, which saves them if they are live and nowhere else. mov, lea, movzx, cmov, BMI2 and jrcxz leave them alone.
 *
 * Rare paths stand behind the block's last instruction ("cold"): each is described by a Cold when the hot code is
 * emitted, and emitted at the end with the registers' state of then.
 */
#ifndef HOST_X86_64_BACKEND_H
#define HOST_X86_64_BACKEND_H

#include "vm-engine/accel/tcg/host/host.h"
#include "vm-engine/accel/tcg/host/x86_64/emit.h"

#define CPU(field) ((int32_t)offsetof(TcgCpu, field))
static inline Mem cpu_mem(int32_t offset)
{
  return mem_at(RBP, offset);
}

enum { FLAGS_HOST = 1, FLAGS_MEM = 2 };
enum { N_HOST_REGS = 16, N_SPILL = 64 };

typedef struct Temp {
  uint16_t last_use; /* index of the op */
  uint8_t host;      /* register that holds it, or NO_REG */
  uint8_t slot;      /* its place in spill, or NO_SLOT */
  uint8_t hot_slot;  /* the same as the hot code left it: see place_temp() */
} Temp;
#define NO_SLOT 0xff

/* Where an operand is. */
typedef enum LocKind { LOC_NONE, LOC_REG, LOC_MEM, LOC_IMM } LocKind;
typedef struct Loc {
  uint8_t kind, reg;
  int32_t offset; /* MEM: in TcgCpu */
  int64_t imm;
} Loc;

/* The register allocator's state that a cold path may have to go back to. */
typedef struct Alloc {
  uint16_t owner[N_HOST_REGS]; /* temp index + 1; 0: free */
  uint64_t slots;              /* of spill, in use */
} Alloc;

typedef enum ColdKind {
  COLD_LOAD,
  COLD_STORE,
  COLD_VECTOR,
  COLD_PROBE,
  COLD_CALL,
  COLD_EXIT,
  COLD_POLL,
  COLD_LOOKUP
} ColdKind;
typedef struct Cold {
  uint8_t kind;
  uint8_t flags; /* where they are at the hot place */
  bool mmx_used;
  bool in_tail;   /* the hot place is itself in a tail */
  uint8_t slot;   /* EXIT: 0, 1, or NO_SLOT */
  uint16_t index; /* of the op */
  uint8_t n_jumps;
  uint8_t *jumps[2]; /* displacements that lead here */
  uint8_t *back;     /* where it goes on, in the writable mapping */
  Loc address, value;
  uint64_t rip;
  Alloc alloc;
} Cold;

typedef struct Features {
  bool bmi2, lzcnt, popcnt, bmi1, sse42;
} Features;

struct HostTranslator {
  Emit e;
  Features has;
  Tcg *tcg;
  const IrBlock *ir;
  const HostStubs *stubs;
  uint64_t cs_base;
  uint32_t block_id, mode;
  HostCode *out;
  GArray *temps_array, *colds;
  Temp *temps;
  Alloc alloc;
  uint32_t locked; /* host registers that the current op's operands need */
  unsigned index;  /* of the current op */
  uint64_t rip;    /* of the current guest instruction */
  uint8_t flags;
  bool mmx_used; /* the x87 tag word is not empty: EMMS before C or the end */
  bool in_tail;  /* emitting the rest of an instruction after which the block is left */
  bool failed;
  bool slot1_taken;
  uint8_t *poll_jump; /* a jrcxz whose way to its cold path is due behind the end, or NULL */
  unsigned poll_cold;
};
typedef HostTranslator Backend;

/* ---- regs.c -------------------------------------------------------------------------------------------------------- */

/* Guest register → host register that it is pinned in, or NO_REG. */
extern const uint8_t host_pinned[];
extern const unsigned host_n_pinned;
unsigned be_pinned(unsigned guest_register);

void be_alloc_start(Backend *be);
Loc be_loc(Backend *be, IrRef ref);
/* The operand in a register: its own, or `scratch` loaded with it. Only the low `width` bits are promised. */
unsigned be_reg(Backend *be, IrRef ref, unsigned width, unsigned scratch);
void be_load(Backend *be, unsigned reg, Loc loc); /* 64 bits, flags left alone */
/* A register for result `ref`: its own, or rax for what lives in memory. Frees the inputs that die here first, unless
 * `early`, so the result may share a register with one. */
unsigned be_def(Backend *be, IrRef ref, bool early);
void be_def_done(Backend *be, IrRef ref, unsigned reg);
/* Moves what is in `reg` elsewhere, unless it dies in this op; it stays locked for the op. / Even then. */
void be_take(Backend *be, unsigned reg);
void be_evict(Backend *be, unsigned reg);
/* All temps that are used after this op into spill. */
void be_spill_live(Backend *be);
void be_op_done(Backend *be);
bool be_is_last_use(const Backend *be, IrRef ref);

/* ---- flags (flags.c) -------------------------------------------------------------------------------------------------- */

/* Which flags have to survive the current op's own clobbering. */
uint16_t be_flags_needed(const Backend *be);
void be_save_flags(Backend *be); /* uses rax */
void be_clobber_flags(Backend *be);
/* The host's flags are the guest's from here on / only CF has to be. */
void be_need_host_flags(Backend *be);
void be_need_host_carry(Backend *be);
/* Tests condition `cc`; returns the host condition to use. */
unsigned be_condition(Backend *be, unsigned cc);

/* ---- ops ---------------------------------------------------------------------------------------------------------------- */

void be_op_compute(Backend *be, const IrInsn *insn); /* ops-int.c: moves to TZCNTF */
void be_op_flags(Backend *be, const IrInsn *insn);   /* flags.c: SETCC to CMC */
void be_op_memory(Backend *be, const IrInsn *insn);  /* ops-mem.c */
void be_op_state(Backend *be, const IrInsn *insn);
void be_op_call(Backend *be, const IrInsn *insn); /* ops-flow.c */
void be_op_exit(Backend *be, const IrInsn *insn);
void be_op_insn(Backend *be, const IrInsn *insn);
void be_op_native(Backend *be, const IrInsn *insn); /* ops-native.c */
void be_emit_native(Backend *be, const IrNative *n, unsigned gpr);
/* Emits op `index`, with the next one if both make one instruction; returns the index to go on with. */
unsigned be_op(Backend *be, unsigned index);
/* Can this op and the next be one host instruction on part of a register? Then emits it and returns true. */
bool be_fuse_partial(Backend *be, const IrInsn *insn);
void be_bmi_fallback(Backend *be, const IrInsn *insn);

Cold *be_cold(Backend *be, ColdKind kind);
void be_cold_jump(Cold *cold, uint8_t *at);
void be_emit_cold(Backend *be, const Cold *cold);
/* The rest of the current guest instruction behind op `index`, then out to the main loop. */
void be_emit_tail(Backend *be, const Cold *cold);
void be_leave(Backend *be, IrLeave how);
void be_store_rip(Backend *be, uint64_t rip);
void be_emms(Backend *be);

#endif
