/*
 * The differential tester: the same machine instruction, with the same state before, run by the processor underneath and
 * by the translator. What differs afterwards is a bug (registers, all flags, vectors, x87, memory, the fault).
 *
 * Instructions are made from the decoder's own tables, so every row is reached and counted. Each case depends on the seed
 * and its number alone, so that it can be run again by itself.
 *
 * Natively, the case runs in this process in user mode: a signal handler swaps the state in and out by way of its own
 * ucontext. So everything is as privilege level 3 sees it, in 64-bit mode and in 32- and 16-bit compatibility mode. The guest has
 * the same pages at the same addresses.
 */
#ifndef DIFFTEST_H
#define DIFFTEST_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#include "vm-engine/accel/tcg/guest/x86/decode-tables.h"
#include "vm-engine/accel/tcg/guest/x86/fpu-vector.h"
#include "vm-engine/accel/tcg/tcg.h"

/* ---- address space ---------------------------------------------------------------------------------------------------- */

#define DIFF_PAGE        4096u
#define DIFF_CODE        0x10000000u
#define DIFF_CODE_PAGES  16u
#define DIFF_DATA        0x10100000u
#define DIFF_DATA_PAGES  4u /* writable; one read-only page follows; holes around */
#define DIFF_STACK       0x10200000u
#define DIFF_STACK_PAGES 4u
#define DIFF_DATA_BYTES  (DIFF_DATA_PAGES * DIFF_PAGE)
#define DIFF_STACK_BYTES (DIFF_STACK_PAGES * DIFF_PAGE)

/* ---- a case ------------------------------------------------------------------------------------------------------------------ */

/* What is loaded before and compared after. */
typedef struct DiffState {
  uint64_t gpr[16];
  uint64_t rip;
  uint64_t rflags;
  uint8_t fx[512]; /* FXSAVE64 image */
  uint8_t data[DIFF_DATA_BYTES];
  uint8_t stack[DIFF_STACK_BYTES];
  /* After: the exception that ended it (3: ran to the end). */
  uint8_t vector;
  uint32_t error;
  uint64_t cr2;
} DiffState;

/* The mode that a case runs in. In DIFF_16, as the guest's 16-bit segments in protected mode: CS at the code's address, DS
 * and ES at the data's, SS at the stack's, 64 KiB each. Otherwise all are flat. */
typedef enum DiffMode { DIFF_16, DIFF_32, DIFF_64, DIFF_N_MODES } DiffMode;
/* Selectors of DIFF_16: this process's LDT. */
enum { DIFF_CS16 = 0x07, DIFF_DS16 = 0x0f, DIFF_SS16 = 0x17 };

#define DIFF_MAX_CODE 192
typedef struct DiffCase {
  DiffMode mode;
  uint8_t code[DIFF_MAX_CODE]; /* the instruction(s), then INT3s */
  unsigned code_length;
  uint32_t code_address;
  uint8_t read_only[DIFF_PAGE];
  DiffState before;
} DiffCase;

static inline uint32_t diff_cs_base(DiffMode mode) { return mode == DIFF_16 ? DIFF_CODE : 0; }
static inline uint32_t diff_ds_base(DiffMode mode) { return mode == DIFF_16 ? DIFF_DATA : 0; }
static inline uint32_t diff_ss_base(DiffMode mode) { return mode == DIFF_16 ? DIFF_STACK : 0; }

/* ---- forms ----------------------------------------------------------------------------------------------------------------------- */

typedef enum DiffFormKind { DIFF_INTEGER, DIFF_X87, DIFF_VECTOR, DIFF_FPU_STATE } DiffFormKind;
typedef struct DiffForm {
  char name[48];
  DiffFormKind kind;
  uint8_t map, opcode, prefix;
  bool vex;
  bool memory, registers; /* which forms of modrm it has (both false: no modrm) */
  int modrm_reg;          /* -1: any */
  int modrm_rm;           /* -1: any; register forms only */
  const X86Row *row;
  const X86VectorRow *vector;
  bool in64, in32;
  uint64_t n_runs;
} DiffForm;

/* All of them, an owned array of DiffForm. */
GArray *diff_forms_new(void);

/* ---- random numbers ---------------------------------------------------------------------------------------------------------------- */

typedef struct DiffRandom {
  uint64_t state;
} DiffRandom;
static inline uint64_t diff_random(DiffRandom *r)
{
  uint64_t z = r->state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}
static inline unsigned diff_below(DiffRandom *r, unsigned n)
{
  return (unsigned)(diff_random(r) >> 33) % n;
}
static inline bool diff_percent(DiffRandom *r, unsigned percent)
{
  return diff_below(r, 100) < percent;
}

/* ---- making cases (generate.c, values.c) ------------------------------------------------------------------------------------------- */

/* Fills `c` with `n_insns` instructions, the first one of `form`; further ones are drawn from `forms` among those that can
 * stand in a sequence. False: this draw makes no case. */
bool diff_generate(DiffCase *c, DiffRandom *r, const GArray *forms, const DiffForm *form, DiffMode mode, unsigned n_insns,
                   uint32_t code_address);
/* Values with the corners that matter. */
uint64_t diff_random_integer(DiffRandom *r);
void diff_random_state(DiffRandom *r, DiffState *state);

/* ---- running them -------------------------------------------------------------------------------------------------------------------- */

/* False (with text on stderr) where this host cannot. */
bool diff_native_init(bool has_mode[DIFF_N_MODES]);
void diff_native_run(const DiffCase *c, DiffState *after);

typedef struct DiffEngine DiffEngine;
DiffEngine *diff_engine_new(TcgBackend backend);
void diff_engine_free(DiffEngine *engine);
/* `load_code`: the code was not there before; without it, what has been translated is used again. */
void diff_engine_run(DiffEngine *engine, const DiffCase *c, DiffState *after, bool load_code);

/* Appends the differences to `text`; true if there is none. */
bool diff_compare(const DiffCase *c, const DiffState *native, const DiffState *engine, GString *text);

#endif
