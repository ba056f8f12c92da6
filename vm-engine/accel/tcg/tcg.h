/*
 * The translator as an accelerator: code cache, block tables, the execution loop. What guest/x86 may call of it.
 */
#ifndef TCG_TCG_H
#define TCG_TCG_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#include "vm-engine/accel/tcg/tcg-cpu.h"

typedef struct Vm Vm;
typedef struct VmRam VmRam;

/* Which back end runs the IR: host code, or the interpreter (slow; the oracle). From ORIEL_TCG_BACKEND=jit|interp. */
typedef enum TcgBackend { TCG_BACKEND_JIT, TCG_BACKEND_INTERP } TcgBackend;

/* Forgets where blocks are by guest-virtual address (jump cache); after every change of the guest's mappings. Own CPU. */
void tcg_flush_jump_cache(TcgCpu *cpu);
/* The same for one page. */
void tcg_flush_jump_cache_page(TcgCpu *cpu, uint64_t linear_page);

/* A store to RAM that holds translated code has been done, or will be (any thread): drops the blocks that the bytes
 * touch. If `cpu`'s running block is among them, sets its exit_block so that it leaves after the current instruction. */
void tcg_invalidate(Tcg *tcg, TcgCpu *cpu, VmRam *ram, uint64_t offset, uint64_t size);

/* For tests: a translator CPU outside of any machine, over a VmMemory. */
TcgCpu *tcg_cpu_new_bare(VmMemory *memory, TcgBackend backend);
void tcg_cpu_free_bare(TcgCpu *cpu);
/* Runs until `max_insns` instructions were done (exactly, by single-instruction blocks if `exact`), HLT, an exception
 * that `stop_on_exception` keeps undelivered (cpu->exc_pending stays set), or a triple fault. */
typedef enum TcgStop { TCG_STOP_BUDGET, TCG_STOP_HALT, TCG_STOP_EXCEPTION, TCG_STOP_TRIPLE_FAULT } TcgStop;
TcgStop tcg_cpu_run_bare(TcgCpu *cpu, uint64_t max_insns, bool exact, bool stop_on_exception);

#endif
