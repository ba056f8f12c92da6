/*
 * Finding, making and running blocks on one CPU.
 *
 * The ways from one block to the next, fastest first: a chained jump (same page), the jump cache looked up in line, the
 * jump cache looked up here, the table of all blocks, a translation.
 */
#include "vm-engine/accel/tcg/guest/x86/x86-tcg.h"
#include "vm-engine/accel/tcg/host/host.h"
#include "vm-engine/vcpu.h"

/* Guest instructions in a block. */
#define MAX_INSNS 64u
/* The interpreter's blocks and dropped ones cost memory, too. */
#define MAX_BLOCKS        (512u << 10)
#define MAX_INTERP_BLOCKS (32u << 10)
/* How often a page may be written while we translate from it before we give up and interpret. */
#define MAX_TRIES 8u

/* ---- CPUs in and out of translated code -------------------------------------------------------------------------------- */

void tcg_kick(TcgCpu *cpu)
{
  atomic_store(&cpu->jump_generation, 0);
}

void tcg_exec_begin(TcgCpu *cpu)
{
  Tcg *tcg = cpu->tcg;
  g_mutex_lock(&tcg->lock);
  while (tcg->n_waiting > 0 || tcg->exclusive)
    g_cond_wait(&tcg->quiet, &tcg->lock);
  tcg->n_running++;
  cpu->exec->running = true;
  g_mutex_unlock(&tcg->lock);
}

void tcg_exec_end(TcgCpu *cpu)
{
  Tcg *tcg = cpu->tcg;
  g_mutex_lock(&tcg->lock);
  tcg->n_running--;
  cpu->exec->running = false;
  g_cond_broadcast(&tcg->quiet);
  g_mutex_unlock(&tcg->lock);
}

void tcg_exclusive_begin_locked(Tcg *tcg, TcgCpu *self)
{
  if (self->exec->running)
    tcg->n_running--;
  tcg->n_waiting++;
  g_cond_broadcast(&tcg->quiet);
  while (tcg->n_running > 0 || tcg->exclusive) {
    for (unsigned i = 0; i < tcg->cpus->len; i++)
      tcg_kick(g_ptr_array_index(tcg->cpus, i));
    g_cond_wait(&tcg->quiet, &tcg->lock);
  }
  tcg->n_waiting--;
  tcg->exclusive = true;
}

void tcg_exclusive_end_locked(Tcg *tcg, TcgCpu *self)
{
  tcg->exclusive = false;
  if (self->exec->running)
    tcg->n_running++;
  g_cond_broadcast(&tcg->quiet);
}

/* ---- jump cache ------------------------------------------------------------------------------------------------------------ */

static uint64_t cs_base_of(const TcgCpu *cpu)
{
  return (cpu->hflags & TCG_HF_CS64) != 0 ? 0 : cpu->x86.seg[X86_CS].base;
}

static uint64_t linear_pc(const TcgCpu *cpu)
{
  return (cpu->hflags & TCG_HF_CS64) != 0 ? cpu->x86.rip : (uint32_t)(cs_base_of(cpu) + cpu->x86.rip);
}

static uint64_t jump_key(const TcgCpu *cpu)
{
  if ((cpu->hflags & TCG_HF_CS64) != 0)
    return cpu->x86.rip;
  return (uint32_t)cpu->x86.rip | cs_base_of(cpu) << 32;
}

void tcg_flush_jump_cache(TcgCpu *cpu)
{
  TcgExec *exec = cpu->exec;
  if (exec == NULL)
    return;
  if (++exec->generation == 0) { /* all numbers were used: begin anew with an empty cache */
    memset(cpu->jump_cache, 0, sizeof cpu->jump_cache);
    exec->generation = 1;
  }
  memset(exec->jump_pages, 0, sizeof exec->jump_pages);
  /* A 0 that another thread has put there stays: it wants the CPU out. */
  uint32_t old = atomic_load(&cpu->jump_generation);
  while (old != 0 && !atomic_compare_exchange_weak(&cpu->jump_generation, &old, exec->generation))
    ;
}

static unsigned page_bit(uint64_t linear)
{
  return (unsigned)((linear >> VM_PAGE_SHIFT) * 0x9e3779b1u >> 8) & 1023;
}

static void note_jump_page(TcgExec *exec, uint64_t linear)
{
  exec->jump_pages[page_bit(linear) / 64] |= 1ull << page_bit(linear) % 64;
}

void tcg_flush_jump_cache_page(TcgCpu *cpu, uint64_t linear_page)
{
  unsigned bit = page_bit(linear_page);
  if (cpu->exec != NULL && (cpu->exec->jump_pages[bit / 64] >> bit % 64 & 1) != 0)
    tcg_flush_jump_cache(cpu);
}

/* If the block was dropped meanwhile by another thread, either that sees the entry or we see its mark. */
static void enter_in_jump_cache(TcgCpu *cpu, TcgBlock *block)
{
  uint64_t key = jump_key(cpu);
  TcgJumpEntry *entry = &cpu->jump_cache[tcg_jump_index(key)];
  entry->pc = key;
  entry->code = block->entry_mem;
  entry->hflags = block->key.hflags;
  entry->block = block;
  __atomic_store_n(&entry->generation, cpu->exec->generation, __ATOMIC_SEQ_CST);
  if (!atomic_load(&block->valid))
    __atomic_store_n(&entry->generation, 0, __ATOMIC_SEQ_CST);
  note_jump_page(cpu->exec, block->key.pc);
  if (block->parts[1].page != NULL)
    note_jump_page(cpu->exec, block->key.pc + VM_PAGE_SIZE);
}

static TcgBlock *find_in_jump_cache(TcgCpu *cpu)
{
  uint64_t key = jump_key(cpu);
  const TcgJumpEntry *entry = &cpu->jump_cache[tcg_jump_index(key)];
  if (entry->pc != key || entry->hflags != cpu->hflags || entry->generation != cpu->exec->generation)
    return NULL;
  return entry->block;
}

/* ---- translation --------------------------------------------------------------------------------------------------------------- */

/* Where a translation's bytes come from. */
typedef struct Source {
  TcgBlockKey key;
  X86Code first, second;
  bool crosses;
} Source;

static bool is_protected(VmRam *ram, uint64_t offset)
{
  return (atomic_load(&ram->page_flags[offset >> VM_PAGE_SHIFT]) & VM_PAGE_CODE) != 0;
}

/* From here on every write to the page comes to tcg_invalidate(). Other CPUs' TLBs are theirs to touch while they run. */
static void protect_page_locked(TcgCpu *cpu, VmRam *ram, uint64_t offset)
{
  Tcg *tcg = cpu->tcg;
  uint64_t page = offset & ~(uint64_t)(VM_PAGE_SIZE - 1);
  if (is_protected(ram, offset))
    return;
  bool others = tcg->cpus->len > 1;
  if (others)
    tcg_exclusive_begin_locked(tcg, cpu);
  atomic_fetch_or(&ram->page_flags[offset >> VM_PAGE_SHIFT], VM_PAGE_CODE);
  for (unsigned i = 0; i < tcg->cpus->len; i++)
    x86_tlb_protect_writes(g_ptr_array_index(tcg->cpus, i), ram, page, VM_PAGE_SIZE);
  if (others)
    tcg_exclusive_end_locked(tcg, cpu);
}

static TcgPage *watch_page(TcgCpu *cpu, const X86Code *code, uint32_t *writes, bool *was_watched)
{
  Tcg *tcg = cpu->tcg;
  g_mutex_lock(&tcg->lock);
  TcgPage *page = tcg_page_get_locked(tcg, code->ram, code->ram_offset);
  *was_watched = is_protected(code->ram, code->ram_offset);
  protect_page_locked(cpu, code->ram, code->ram_offset);
  *writes = page->writes;
  g_mutex_unlock(&tcg->lock);
  return page;
}

static void make_room_locked(TcgCpu *cpu)
{
  Tcg *tcg = cpu->tcg;
  uint32_t limit = tcg->backend == TCG_BACKEND_INTERP ? MAX_INTERP_BLOCKS : MAX_BLOCKS;
  while (!tcg_cache_has_room(tcg->cache) || tcg->n_blocks >= limit) {
    uint64_t generation = tcg->generation;
    tcg_exclusive_begin_locked(tcg, cpu);
    if (tcg->generation == generation)
      tcg_blocks_flush_locked(tcg);
    tcg_exclusive_end_locked(tcg, cpu);
  }
}

static void set_link(TcgBlock *block, unsigned slot, const HostExit *exit)
{
  block->links[slot] =
      (TcgLink){ .from = block, .site = exit->site, .stub = exit->stub, .flags_in_host = exit->flags_in_host };
}

/* Host code, or a copy of the IR. False: too complex. */
static bool generate_locked(TcgCpu *cpu, TcgBlock *block)
{
  Tcg *tcg = cpu->tcg;
  IrBlock *ir = cpu->exec->ir;
  HostCode code;
  if (tcg->backend == TCG_BACKEND_INTERP) {
    block->ir = ir;
    cpu->exec->ir = ir_block_new();
    return true;
  }
  if (!host_translate(cpu->exec->host, tcg, ir, block->key.cs_base, block->id, block->key.mode, &code))
    return false;
  block->entry_mem = code.entry_mem;
  block->entry_host = code.entry_host;
  set_link(block, 0, &code.exits[0]);
  set_link(block, 1, &code.exits[1]);
  tcg->counters.host_bytes += code.size;
  if (tcg->trace != NULL)
    tcg_trace_block(tcg->trace, block, block->key.ram->hva + block->key.ram_offset,
                    MIN(block->guest_bytes, VM_PAGE_SIZE - (block->key.ram_offset & (VM_PAGE_SIZE - 1))), code.start,
                    code.size);
  return true;
}

static TcgBlock *make_block_locked(TcgCpu *cpu, const Source *src, TcgPage *first, TcgPage *second)
{
  Tcg *tcg = cpu->tcg;
  IrBlock *ir = cpu->exec->ir;
  TcgBlock *block = tcg_block_new_locked(tcg, &src->key);
  block->n_guest_insns = (uint16_t)ir->n_guest_insns;
  block->guest_bytes = (uint16_t)ir->guest_bytes;
  if (!generate_locked(cpu, block)) {
    tcg_block_discard_locked(tcg, block);
    return NULL;
  }
  tcg_block_insert_locked(tcg, block, first, second);
  tcg->counters.blocks++;
  tcg->counters.guest_insns += block->n_guest_insns;
  return block;
}

/* The IR of the block at src->key, in exec->ir. False: an exception is pending. */
static bool translate_ir(TcgCpu *cpu, const Source *src, unsigned max_insns)
{
  IrBlock *ir = cpu->exec->ir;
  GString *dump = cpu->tcg->trace != NULL ? tcg_trace_begin(cpu->tcg->trace) : NULL;
  ir_block_clear(ir);
  if (!x86_translate(cpu, ir, src->key.pc, max_insns))
    return false;
  ir_optimise(ir, dump);
  return true;
}

typedef enum Outcome { OUTCOME_BLOCK, OUTCOME_FAULT, OUTCOME_UNCACHED } Outcome;

/* Translates from memory that others may write meanwhile: watch the page, read it, see whether it was written. */
static Outcome translate(TcgCpu *cpu, Source *src, TcgBlock **block)
{
  Tcg *tcg = cpu->tcg;
  unsigned max_insns = (src->key.mode & TCG_MODE_SINGLE) != 0 ? 1 : MAX_INSNS;
  for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
    uint32_t writes, writes2 = 0;
    bool watched;
    TcgPage *page = watch_page(cpu, &src->first, &writes, &watched), *page2 = NULL;
    if (!translate_ir(cpu, src, max_insns))
      return OUTCOME_FAULT;
    if ((src->key.pc & (VM_PAGE_SIZE - 1)) + cpu->exec->ir->guest_bytes > VM_PAGE_SIZE) {
      if (!x86_resolve_code(cpu, (src->key.pc | (VM_PAGE_SIZE - 1)) + 1, &src->second))
        return OUTCOME_FAULT;
      if (src->second.ram == NULL)
        return OUTCOME_UNCACHED;
      page2 = watch_page(cpu, &src->second, &writes2, &watched);
      if (!watched)
        continue; /* it was not when we read it */
    }
    g_mutex_lock(&tcg->lock);
    make_room_locked(cpu);
    bool good = page->writes == writes && is_protected(src->first.ram, src->first.ram_offset);
    if (page2 != NULL)
      good = good && page2->writes == writes2 && is_protected(src->second.ram, src->second.ram_offset);
    *block = good ? tcg_block_find_locked(tcg, &src->key) : NULL;
    if (good && *block == NULL)
      *block = make_block_locked(cpu, src, page, page2);
    g_mutex_unlock(&tcg->lock);
    if (*block != NULL)
      return OUTCOME_BLOCK;
    if (good)
      max_insns = MAX(max_insns / 2, 1);
  }
  return OUTCOME_UNCACHED;
}

/* A block that goes on in a second page is good only while that is still the same one. False with a fault pending: the
 * page is gone; the translation anew finds where to end. */
static bool second_page_matches(TcgCpu *cpu, const TcgBlock *block)
{
  X86Code code;
  if (block->parts[1].page == NULL && block->parts[0].end - block->parts[0].start == block->guest_bytes)
    return true;
  if (!x86_resolve_code(cpu, (block->key.pc | (VM_PAGE_SIZE - 1)) + 1, &code))
    return false;
  const TcgPage *page = block->parts[1].page != NULL ? block->parts[1].page : block->parts[0].page;
  return code.ram == page->ram && (code.ram_offset & ~(uint64_t)(VM_PAGE_SIZE - 1)) == page->offset;
}

static TcgBlock *find_in_table(TcgCpu *cpu, const TcgBlockKey *key)
{
  Tcg *tcg = cpu->tcg;
  g_mutex_lock(&tcg->lock);
  tcg->counters.tables_misses++;
  TcgBlock *block = tcg_block_find_locked(tcg, key);
  g_mutex_unlock(&tcg->lock);
  return block;
}

static void drop_stale(TcgCpu *cpu, const TcgBlock *block)
{
  tcg_invalidate(cpu->tcg, NULL, block->key.ram, block->key.ram_offset, 1);
}

/* Finds or makes the block at the CPU's rip. */
static Outcome find_block(TcgCpu *cpu, uint32_t mode, TcgBlock **out)
{
  *out = mode == 0 ? find_in_jump_cache(cpu) : NULL;
  if (*out != NULL)
    return OUTCOME_BLOCK;
  Source src = { .key = { .pc = linear_pc(cpu), .cs_base = cs_base_of(cpu), .hflags = cpu->hflags, .mode = mode } };
  if (!x86_resolve_code(cpu, src.key.pc, &src.first))
    return OUTCOME_FAULT;
  if (src.first.ram == NULL)
    return OUTCOME_UNCACHED;
  src.key.ram = src.first.ram;
  src.key.ram_offset = src.first.ram_offset;
  TcgBlock *block = find_in_table(cpu, &src.key);
  if (block != NULL && !second_page_matches(cpu, block)) {
    cpu->exc_pending = 0; /* not the guest's: nothing was fetched for it yet */
    drop_stale(cpu, block);
    block = NULL;
  }
  Outcome outcome = block != NULL ? OUTCOME_BLOCK : translate(cpu, &src, &block);
  if (outcome == OUTCOME_BLOCK && mode == 0)
    enter_in_jump_cache(cpu, block);
  *out = block;
  return outcome;
}

/* ---- running -------------------------------------------------------------------------------------------------------------------- */

static IrLeave interpret(TcgCpu *cpu, const IrBlock *ir)
{
  cpu->link_site = 0;
  cpu->host_mxcsr = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(cpu->guest_mxcsr_masked);
  IrLeave how = ir_interpret(ir, cpu);
  cpu->guest_mxcsr_masked = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(cpu->host_mxcsr);
  return how;
}

static IrLeave run_block(TcgCpu *cpu, const TcgBlock *block)
{
  cpu->running = (TcgBlock *)(uintptr_t)block;
  if (cpu->tcg->backend == TCG_BACKEND_INTERP)
    return interpret(cpu, block->ir);
  return (IrLeave)cpu->tcg->stubs->enter(cpu, block->entry_mem);
}

/* Code in memory that is no RAM, or that is written all the time: one instruction, kept nowhere. */
static IrLeave run_uncached(TcgCpu *cpu)
{
  Source src = { .key = { .pc = linear_pc(cpu) } };
  if (!translate_ir(cpu, &src, 1))
    return IR_LEAVE_EXCEPTION;
  return interpret(cpu, cpu->exec->ir);
}

/* The exit that was taken last leads straight to `block` from now on, if both stand in one guest page: then the guest's
 * mappings cannot part them. */
static void chain(TcgCpu *cpu, uint64_t site, TcgBlock *block)
{
  Tcg *tcg = cpu->tcg;
  g_mutex_lock(&tcg->lock);
  TcgBlock *from = tcg_block_by_id(tcg, (uint32_t)((site - 2) / 2));
  bool same_page = (from->key.pc ^ block->key.pc) >> VM_PAGE_SHIFT == 0 && block->parts[1].page == NULL &&
                   from->key.ram == block->key.ram &&
                   (from->key.ram_offset ^ block->key.ram_offset) >> VM_PAGE_SHIFT == 0;
  if (same_page && from->key.hflags == block->key.hflags && from->key.cs_base == block->key.cs_base)
    tcg_block_link_locked(tcg, &from->links[site & 1], block);
  g_mutex_unlock(&tcg->lock);
}

IrLeave tcg_step(TcgCpu *cpu, unsigned *n_insns)
{
  TcgBlock *block;
  uint32_t mode = cpu->exec->mode | (cpu->single_next ? TCG_MODE_SINGLE : 0);
  uint64_t generation = cpu->tcg->generation, site = cpu->link_site;
  cpu->single_next = 0;
  cpu->link_site = 0;
  switch (find_block(cpu, mode, &block)) {
  case OUTCOME_FAULT:
    *n_insns = 0;
    return IR_LEAVE_EXCEPTION;
  case OUTCOME_UNCACHED:
    *n_insns = 1;
    return run_uncached(cpu);
  default:
    break;
  }
  if (site != 0 && mode == 0 && cpu->tcg->generation == generation)
    chain(cpu, site, block);
  *n_insns = block->n_guest_insns;
  return run_block(cpu, block);
}

/* ---- slow paths of translated code ------------------------------------------------------------------------------------------------ */

/* What was read may have changed what the main loop looks at, and a CPU is not kicked for its own doings. */
static void look_at_requests(TcgCpu *cpu)
{
  if (cpu->vcpu != NULL && vm_cpu_requests(cpu->vcpu) != 0)
    tcg_kick(cpu);
}

uint64_t tcg_do_slow_load(TcgCpu *cpu)
{
  unsigned unused = 64 - ir_width_bits(cpu->slow_memop & 3);
  uint64_t value = tcg_slow_load(cpu, cpu->slow_address, cpu->slow_memop) << unused;
  bool is_signed = (cpu->slow_memop & IR_MEM_SIGNED) != 0;
  cpu->slow_value = is_signed ? (uint64_t)((int64_t)value >> unused) : value >> unused;
  cpu->exec->slow_loads++;
  look_at_requests(cpu);
  return 0;
}

uint64_t tcg_do_slow_store(TcgCpu *cpu)
{
  cpu->exec->slow_stores++;
  tcg_slow_store(cpu, cpu->slow_address, cpu->slow_value, cpu->slow_memop);
  return 0;
}

uint64_t tcg_do_slow_load_vector(TcgCpu *cpu)
{
  cpu->exec->slow_loads++;
  tcg_slow_load_vector(cpu, cpu->slow_address, cpu->slow_memop, cpu->slow_state);
  return 0;
}

uint64_t tcg_do_slow_store_vector(TcgCpu *cpu)
{
  cpu->exec->slow_stores++;
  tcg_slow_store_vector(cpu, cpu->slow_address, cpu->slow_memop, cpu->slow_state);
  return 0;
}

uint64_t tcg_do_slow_probe(TcgCpu *cpu)
{
  tcg_slow_probe_write(cpu, cpu->slow_address, cpu->slow_memop);
  const TcgTlb *tlb = &cpu->tlb[(cpu->hflags & TCG_HF_MMU) >> TCG_HF_MMU_SHIFT];
  unsigned size = 1u << (cpu->slow_memop & IR_MEM_SIZE), i = cpu->slow_address >> VM_PAGE_SHIFT & (TCG_TLB_SIZE - 1);
  if (cpu->exc_pending != 0 || (cpu->slow_address ^ tlb->write_tag[i]) <= VM_PAGE_SIZE - size)
    return 0;
  return 1;
}

uint64_t tcg_run_native(TcgCpu *cpu, const IrNative *native, uint64_t gpr)
{
  Tcg *tcg = cpu->tcg;
  uint32_t mxcsr = __builtin_ia32_stmxcsr(); /* the guest's: a hash table that grows computes with doubles */
  g_mutex_lock(&tcg->lock);
  g_autoptr(GBytes) key = g_bytes_new(native, sizeof *native);
  const void *code = g_hash_table_lookup(tcg->natives, key);
  if (code == NULL) {
    code = host_translate_native(cpu->exec->host, tcg, native);
    g_hash_table_insert(tcg->natives, g_bytes_ref(key), (void *)(uintptr_t)code);
  }
  g_mutex_unlock(&tcg->lock);
  __builtin_ia32_ldmxcsr(mxcsr);
  return ((uint64_t(*)(TcgCpu *, uint64_t))(uintptr_t)code)(cpu, gpr);
}
