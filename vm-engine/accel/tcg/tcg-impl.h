/*
 * The translator's inner parts: blocks and their tables, the code cache, one CPU's loop. Private to accel/tcg.
 *
 * A block is the translation of a straight run of guest instructions. It is found by where its bytes stand (RAM block and
 * offset), the linear PC and CS base they were run at, hflags and mode: so it stays good when the guest's mappings change.
 * Each is registered with the one or two pages that its bytes are in; a write to those bytes drops it.
 *
 * Locks and threads. `lock` guards the tables, the pages' lists, the links between blocks, and allocation in the code
 * cache. Translating (front end and optimiser) runs without it; a page's `writes` counter tells whether the bytes changed
 * meanwhile. A dropped block is unlinked at once, but its code and struct stay until the next flush of the whole cache,
 * so that another CPU may still be in it. A flush needs all other CPUs outside of translated code: tcg_exclusive_begin().
 * The lock is never held while a device is accessed or another lock is taken, except the memory's own look-ups.
 */
#ifndef TCG_IMPL_H
#define TCG_IMPL_H

#include "vm-engine/accel/tcg/ir/ir.h"
#include "vm-engine/accel/tcg/tcg.h"
#include "vm-engine/memory-impl.h"

typedef struct TcgPage TcgPage;
typedef struct TcgCache TcgCache;
typedef struct TcgTrace TcgTrace;
typedef struct TcgExec TcgExec;
typedef struct HostTranslator HostTranslator;
typedef struct HostStubs HostStubs;

/* ---- code cache (cache.c) --------------------------------------------------------------------------------------- */

#define TCG_CACHE_BYTES (64u << 20)
/* Room that a block may need at most. */
#define TCG_CACHE_RESERVE (256u << 10)

/* One memfd mapped twice, so that no page is writable and executable at one address: what is written through `rw` runs
 * at the same offset from `rx`. */
struct TcgCache {
  int memfd;
  uint8_t *rw;
  uint8_t *rx;
  size_t size, used;
  size_t fixed; /* the stubs at the start, which a flush leaves */
};

/* NULL with `error`: the host has no memory, or lets no memory be executed. `for_perf`: so that `perf` finds symbols. */
TcgCache *tcg_cache_new(size_t size, bool for_perf, GError **error);
void tcg_cache_free(TcgCache *cache);
static inline bool tcg_cache_has_room(const TcgCache *cache)
{
  return cache->size - cache->used >= TCG_CACHE_RESERVE;
}
void tcg_cache_reset(TcgCache *cache);
static inline uint8_t *tcg_cache_writable(const TcgCache *cache, const uint8_t *rx)
{
  return cache->rw + (rx - cache->rx);
}

/* ---- blocks (block.c) ----------------------------------------------------------------------------------------------- */

enum {
  TCG_MODE_SINGLE = 1,  /* one instruction, left to the main loop behind it */
  TCG_MODE_NOCHAIN = 2, /* every exit returns to the loop */
};

typedef struct TcgBlockKey {
  VmRam *ram;
  uint64_t ram_offset;
  uint64_t pc;      /* linear */
  uint64_t cs_base; /* 0 in 64-bit mode */
  uint32_t hflags;
  uint32_t mode;
} TcgBlockKey;

typedef struct TcgLink TcgLink;
struct TcgLink {
  TcgBlock *from, *to; /* `to`: NULL while it goes to its stub */
  TcgLink *next_in;    /* the others that lead to `to` */
  uint8_t *site;       /* 32-bit displacement to patch, executable address; NULL: this exit is not chained */
  const uint8_t *stub; /* where it goes while it is not chained */
  bool flags_in_host;  /* the arithmetic flags are in the host's at this exit */
};

/* A block's part of one page. */
typedef struct TcgPart {
  TcgPage *page; /* NULL: no second page */
  TcgBlock *next;
  uint16_t start, end; /* bytes in the page, [start, end) */
} TcgPart;

struct TcgBlock {
  TcgBlockKey key;
  uint32_t id; /* place in the table of blocks */
  uint16_t n_guest_insns;
  uint16_t guest_bytes;
  _Atomic bool valid;
  const uint8_t *entry_mem; /* executable: flags are in cpu->flags / in the host's */
  const uint8_t *entry_host;
  TcgBlock *hash_next;
  TcgPart parts[2];
  TcgLink links[2];
  TcgLink *incoming;
  IrBlock *ir; /* interpreter only: the block's own copy */
};

struct TcgPage {
  VmRam *ram;
  uint64_t offset;
  TcgBlock *blocks;
  uint64_t granules; /* a bit for each 64 bytes that some block covers */
  uint32_t writes;   /* counts writes to the page while it held code */
};

typedef struct TcgCounters {
  uint64_t blocks, guest_insns, host_bytes, links, dropped, flushes, code_writes, tables_misses;
} TcgCounters;

#define TCG_HASH_BITS        15
#define TCG_BLOCKS_PER_CHUNK 1024

struct Tcg {
  Vm *vm; /* NULL: a bare CPU's */
  VmMemory *memory;
  TcgBackend backend;
  GMutex lock;
  GCond quiet;        /* signalled when a CPU leaves translated code */
  unsigned n_running; /* CPUs that may be in translated code */
  unsigned n_waiting; /* CPUs that want the others out */
  bool exclusive;     /* one of them has it */
  GPtrArray *cpus;    /* TcgCpu */
  TcgCache *cache;
  HostStubs *stubs;
  GPtrArray *chunks; /* of TCG_BLOCKS_PER_CHUNK blocks each */
  uint32_t n_blocks;
  uint64_t generation; /* counts flushes of the whole cache */
  TcgBlock **hash;
  GPtrArray *pages; /* by VmRam.index: TcgPage *[pages of the block] */
  GArray *page_counts;
  GHashTable *natives; /* interpreter: IrNative → host code */
  TcgTrace *trace;
  TcgCounters counters;
};

void tcg_blocks_init(Tcg *tcg);
void tcg_blocks_finish(Tcg *tcg);
/* All with the lock held. */
TcgBlock *tcg_block_find_locked(Tcg *tcg, const TcgBlockKey *key);
TcgBlock *tcg_block_new_locked(Tcg *tcg, const TcgBlockKey *key);
/* Takes back the block made last, which was not inserted. */
void tcg_block_discard_locked(Tcg *tcg, TcgBlock *block);
void tcg_block_insert_locked(Tcg *tcg, TcgBlock *block, TcgPage *first, TcgPage *second);
void tcg_block_link_locked(Tcg *tcg, TcgLink *link, TcgBlock *to);
TcgPage *tcg_page_get_locked(Tcg *tcg, VmRam *ram, uint64_t offset);
/* Drops every block. No other CPU may be in translated code. */
void tcg_blocks_flush_locked(Tcg *tcg);
static inline TcgBlock *tcg_block_by_id(const Tcg *tcg, uint32_t id)
{
  return (TcgBlock *)g_ptr_array_index(tcg->chunks, id / TCG_BLOCKS_PER_CHUNK) + id % TCG_BLOCKS_PER_CHUNK;
}

/* ---- one CPU's loop (exec.c) -------------------------------------------------------------------------------------------- */

struct TcgExec {
  IrBlock *ir;
  HostTranslator *host;
  uint32_t generation;              /* what cpu->jump_generation is when nobody asks */
  uint64_t jump_pages[16];          /* a bit for (a hash of) each page that the jump cache has blocks of */
  uint32_t mode;                    /* TCG_MODE_* for all blocks */
  bool running;                     /* counted in tcg->n_running */
  uint64_t slow_loads, slow_stores; /* counted */
};

bool tcg_cpu_init(TcgCpu *cpu, Tcg *tcg, GError **error);
void tcg_cpu_finish(TcgCpu *cpu);
/* Finds or makes the block at cpu->x86.rip and runs it, and what it leads to by itself. Then x86.rip is the next
 * instruction's; cpu->link_site says which exit was taken, for the next call to chain. `*n_insns`: of the first block.
 * IR_LEAVE_EXCEPTION: one is pending. */
IrLeave tcg_step(TcgCpu *cpu, unsigned *n_insns);
/* Counts the CPU as one that may be in translated code; waits while another wants all out. / The end of it. */
void tcg_exec_begin(TcgCpu *cpu);
void tcg_exec_end(TcgCpu *cpu);
/* With the lock held (it is released meanwhile), between tcg_exec_begin and _end or outside: until _end, no other CPU is
 * in translated code. */
void tcg_exclusive_begin_locked(Tcg *tcg, TcgCpu *self);
void tcg_exclusive_end_locked(Tcg *tcg, TcgCpu *self);
/* Makes the CPU leave translated code soon. Any thread. */
void tcg_kick(TcgCpu *cpu);

/* What translated code calls for memory accesses that miss the TLB. */
uint64_t tcg_do_slow_load(TcgCpu *cpu);
uint64_t tcg_do_slow_store(TcgCpu *cpu);
uint64_t tcg_do_slow_load_vector(TcgCpu *cpu);
uint64_t tcg_do_slow_store_vector(TcgCpu *cpu);
/* Not 0: the block is to be left in front of the current instruction, which then runs as a block of its own, because
 * writing to this page may drop the block: see ir/opt-live.c. */
uint64_t tcg_do_slow_probe(TcgCpu *cpu);

/* Executes one native instruction on the CPU's state; `gpr` is its general-purpose operand's value, the result what that
 * became. */
uint64_t tcg_run_native(TcgCpu *cpu, const IrNative *native, uint64_t gpr);

/* ---- translation's record (trace.c) ------------------------------------------------------------------------------------- */

/* From ORIEL_PERF_MAP and ORIEL_TCG_DUMP; NULL if neither is set. */
TcgTrace *tcg_trace_new(void);
void tcg_trace_free(TcgTrace *trace);
bool tcg_trace_is_for_perf(const TcgTrace *trace);
/* Where passes are to dump to, empty; NULL: no dump wanted. */
GString *tcg_trace_begin(TcgTrace *trace);
/* With the lock held. `guest`: the block's first bytes. */
void tcg_trace_block(TcgTrace *trace, const TcgBlock *block, const uint8_t *guest, size_t n_guest, const uint8_t *host,
                     size_t n_host);

#endif
