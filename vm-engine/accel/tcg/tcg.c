/*
 * The translator as an accelerator: one Tcg a machine, and each CPU's loop around translated code.
 *
 * Requests. Whoever wants a CPU's attention sets bits in VmCpu.requests, then kicks: that clears jump_generation, which
 * translated code looks at before it jumps back and at every look-up of the jump cache. The loop sets jump_generation,
 * then looks at the requests; so either it sees the bits, or translated code sees the kick.
 */
#include "vm-engine/accel.h"
#include "vm-engine/accel/tcg/guest/x86/mmu.h"
#include "vm-engine/accel/tcg/host/host.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"

/* ---- the machine's part --------------------------------------------------------------------------------------------- */

static void on_view_changed(void *opaque)
{
  Tcg *tcg = opaque;
  for (unsigned i = 0; i < tcg->cpus->len; i++) {
    TcgCpu *cpu = g_ptr_array_index(tcg->cpus, i);
    if (cpu->vcpu != NULL)
      vm_cpu_request(cpu->vcpu, VM_CPU_REQ_FLUSH);
  }
}

static TcgCpu *current_cpu(const Tcg *tcg)
{
  VmCpu *vcpu = vm_cpu_current();
  return vcpu != NULL && tcg->vm != NULL && vcpu->vm == tcg->vm ? vcpu->accel_cpu : NULL;
}

static void on_code_written(void *opaque, VmRam *ram, uint64_t offset, uint64_t size)
{
  Tcg *tcg = opaque;
  tcg_invalidate(tcg, current_cpu(tcg), ram, offset, size);
}

static void on_pages_clean(void *opaque, VmRam *ram)
{
  (void)ram;
  on_view_changed(opaque); /* write tags of these pages must go */
}

static Tcg *tcg_new(Vm *vm, VmMemory *memory, TcgBackend backend, GError **error)
{
  Tcg *tcg = g_new0(Tcg, 1);
  tcg->vm = vm;
  tcg->memory = memory;
  tcg->backend = backend;
  g_mutex_init(&tcg->lock);
  g_cond_init(&tcg->quiet);
  tcg->cpus = g_ptr_array_new();
  tcg->natives = g_hash_table_new_full(g_bytes_hash, g_bytes_equal, (GDestroyNotify)g_bytes_unref, NULL);
  tcg_blocks_init(tcg);
  tcg->trace = tcg_trace_new();
  tcg->cache = tcg_cache_new(TCG_CACHE_BYTES, tcg_trace_is_for_perf(tcg->trace), error);
  tcg->stubs = tcg->cache != NULL ? host_stubs_new(tcg->cache, error) : NULL;
  const VmMemoryListener listener = {
    .view_changed = on_view_changed, .code_written = on_code_written, .pages_clean = on_pages_clean, .opaque = tcg
  };
  vm_memory_set_listener(memory, &listener);
  return tcg;
}

static void tcg_free(Tcg *tcg)
{
  vm_memory_set_listener(tcg->memory, NULL);
  tcg_blocks_finish(tcg);
  g_hash_table_destroy(tcg->natives);
  host_stubs_free(tcg->stubs);
  tcg_cache_free(tcg->cache);
  tcg_trace_free(tcg->trace);
  g_ptr_array_free(tcg->cpus, TRUE);
  g_mutex_clear(&tcg->lock);
  g_cond_clear(&tcg->quiet);
  g_free(tcg);
}

static TcgBackend backend_from_environment(void)
{
  return g_strcmp0(g_getenv("ORIEL_TCG_BACKEND"), "interp") == 0 ? TCG_BACKEND_INTERP : TCG_BACKEND_JIT;
}

static VmAccel *accel_create(Vm *vm, GError **error)
{
  Tcg *tcg = tcg_new(vm, vm_get_memory(vm), backend_from_environment(), error);
  if (tcg->stubs == NULL) {
    tcg_free(tcg);
    return NULL;
  }
  return (VmAccel *)tcg;
}

static void accel_destroy(VmAccel *accel)
{
  if (accel != NULL)
    tcg_free((Tcg *)accel);
}

/* ---- a CPU's part -------------------------------------------------------------------------------------------------------- */

static TcgCpu *cpu_new(Tcg *tcg)
{
  TcgCpu *cpu = g_aligned_alloc0(1, sizeof(TcgCpu), _Alignof(TcgCpu));
  cpu->tcg = tcg;
  cpu->memory = tcg->memory;
  cpu->a20_mask = ~0ull;
  cpu->insn_budget = INT64_MAX;
  cpu->exec = g_new0(TcgExec, 1);
  cpu->exec->ir = ir_block_new();
  cpu->exec->host = host_translator_new();
  x86_tlb_init(cpu);
  g_mutex_lock(&tcg->lock);
  g_ptr_array_add(tcg->cpus, cpu);
  g_mutex_unlock(&tcg->lock);
  return cpu;
}

static void cpu_free(TcgCpu *cpu)
{
  Tcg *tcg = cpu->tcg;
  g_mutex_lock(&tcg->lock);
  g_ptr_array_remove(tcg->cpus, cpu);
  g_mutex_unlock(&tcg->lock);
  ir_block_free(cpu->exec->ir);
  host_translator_free(cpu->exec->host);
  g_free(cpu->exec);
  g_aligned_free(cpu);
}

static bool cpu_create(VmAccel *accel, VmCpu *vcpu, GError **error)
{
  (void)error; /* nothing here can fail */
  TcgCpu *cpu = cpu_new((Tcg *)accel);
  cpu->vcpu = vcpu;
  vcpu->accel_cpu = cpu;
  vcpu->x86 = &cpu->x86;
  x86_cpu_reset(&cpu->x86, vcpu->index == 0, false);
  x86_tcg_import(cpu);
  return true;
}

static void cpu_destroy(VmCpu *vcpu)
{
  if (vcpu->accel_cpu != NULL)
    cpu_free(vcpu->accel_cpu);
  vcpu->accel_cpu = NULL;
  vcpu->x86 = NULL;
}

static void cpu_kick(VmCpu *vcpu)
{
  if (vcpu->accel_cpu != NULL)
    tcg_kick(vcpu->accel_cpu);
}

static void update_a20(TcgCpu *cpu)
{
  cpu->a20_mask = vm_memory_get_a20(cpu->memory) ? ~0ull : ~(1ull << 20);
}

static void cpu_load(VmCpu *vcpu)
{
  TcgCpu *cpu = vcpu->accel_cpu;
  update_a20(cpu);
  cpu->link_site = 0;
  cpu->single_next = 0;
  x86_tcg_import(cpu);
  x86_tlb_flush(cpu);
}

static void cpu_store(VmCpu *vcpu)
{
  x86_tcg_export(vcpu->accel_cpu);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------------------- */

/* Does an interrupt of that kind reach the CPU now? */
static bool can_interrupt(const TcgCpu *cpu)
{
  return (cpu->x86.rflags & X86_F_IF) != 0 && cpu->x86.interrupt_shadow == 0;
}

/* Delivers the most urgent event that the CPU may take. False: triple fault. */
static bool deliver_event(TcgCpu *cpu, uint32_t requests)
{
  VmCpu *vcpu = cpu->vcpu;
  if ((requests & VM_CPU_REQ_SMI) != 0 && !cpu->x86.in_smm) {
    vm_cpu_clear_request(vcpu, VM_CPU_REQ_SMI);
    cpu->x86.halted = 0;
    x86_enter_smm(cpu);
    return true;
  }
  if ((requests & VM_CPU_REQ_NMI) != 0 && !cpu->x86.nmi_masked && cpu->x86.interrupt_shadow != 2) {
    vm_cpu_clear_request(vcpu, VM_CPU_REQ_NMI);
    cpu->x86.halted = 0;
    return x86_deliver_interrupt(cpu, X86_EXC_NMI, true);
  }
  if ((requests & VM_CPU_REQ_INTR) == 0 || !can_interrupt(cpu) || vcpu->intc_ops == NULL)
    return true;
  int vector = vcpu->intc_ops->acknowledge(vcpu->intc);
  if (vector < 0)
    return true;
  cpu->x86.halted = 0;
  return x86_deliver_interrupt(cpu, (uint8_t)vector, false);
}

static void serve_own_requests(TcgCpu *cpu, uint32_t requests)
{
  if ((requests & VM_CPU_REQ_TRANSLATOR) != 0)
    vm_cpu_clear_request(cpu->vcpu, VM_CPU_REQ_TRANSLATOR);
  if ((requests & VM_CPU_REQ_FLUSH) != 0) {
    vm_cpu_clear_request(cpu->vcpu, VM_CPU_REQ_FLUSH);
    update_a20(cpu);
    x86_tlb_flush(cpu);
  }
}

/* Looks at everything between two runs of translated code. True: go on. */
static bool attend(TcgCpu *cpu, VmCpuExit *exit)
{
  uint32_t requests = vm_cpu_requests(cpu->vcpu);
  serve_own_requests(cpu, requests);
  if (cpu->exc_pending != 0) {
    if (!x86_deliver_exception(cpu)) {
      *exit = VM_CPU_EXIT_TRIPLE_FAULT;
      return false;
    }
  }
  if ((requests & (VM_CPU_REQ_STOP | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI)) != 0) {
    *exit = VM_CPU_EXIT_REQUEST;
    return false;
  }
  if (!deliver_event(cpu, requests)) {
    *exit = VM_CPU_EXIT_TRIPLE_FAULT;
    return false;
  }
  *exit = VM_CPU_EXIT_HALT;
  return !cpu->x86.halted;
}

/* Runs until something may want attend(). */
static void run_translated(TcgCpu *cpu)
{
  unsigned n_insns;
  IrLeave how;
  do {
    how = tcg_step(cpu, &n_insns);
  } while (how != IR_LEAVE_EXCEPTION && how != IR_LEAVE_LOOP && cpu->exit_block == 0 &&
           atomic_load_explicit(&cpu->jump_generation, memory_order_relaxed) != 0);
  if (how == IR_LEAVE_EXCEPTION || how == IR_LEAVE_LOOP)
    cpu->link_site = 0;
}

static VmCpuExit cpu_run(VmCpu *vcpu)
{
  TcgCpu *cpu = vcpu->accel_cpu;
  Tcg *tcg = cpu->tcg;
  VmCpuExit exit;
  uint64_t rip = cpu->x86.rip;
  cpu->link_site = 0;
  tcg_exec_begin(cpu);
  for (;;) {
    atomic_store(&cpu->jump_generation, cpu->exec->generation);
    if (__atomic_load_n(&tcg->n_waiting, __ATOMIC_SEQ_CST) > 0) {
      tcg_exec_end(cpu);
      tcg_exec_begin(cpu);
      continue;
    }
    rip = cpu->x86.rip;
    if (!attend(cpu, &exit))
      break;
    if (cpu->x86.rip != rip)
      cpu->link_site = 0; /* the exit led elsewhere */
    cpu->exit_block = 0;
    run_translated(cpu);
  }
  tcg_exec_end(cpu);
  return exit;
}

/* ---- description --------------------------------------------------------------------------------------------------------------- */

static char *dup_description(VmAccel *accel)
{
  Tcg *tcg = (Tcg *)accel;
  g_autoptr(GString) s = g_string_new(NULL);
  g_mutex_lock(&tcg->lock);
  const TcgCounters *c = &tcg->counters;
  uint64_t loads = 0, stores = 0;
  for (unsigned i = 0; i < tcg->cpus->len; i++) {
    const TcgCpu *cpu = g_ptr_array_index(tcg->cpus, i);
    loads += cpu->exec->slow_loads;
    stores += cpu->exec->slow_stores;
  }
  double insns = c->guest_insns != 0 ? (double)c->guest_insns : 1;
  g_string_append_printf(s, "back end: %s\n", tcg->backend == TCG_BACKEND_INTERP ? "interpreter" : "x86-64");
  g_string_append_printf(s, "code cache: %zu of %zu KiB\n", tcg->cache->used >> 10, tcg->cache->size >> 10);
  g_string_append_printf(
      s, "blocks translated: %" G_GUINT64_FORMAT " (%" G_GUINT64_FORMAT " guest instructions, %.1f host bytes each)\n",
      c->blocks, c->guest_insns, (double)c->host_bytes / insns);
  g_string_append_printf(s,
                         "exits chained: %" G_GUINT64_FORMAT "\nblocks looked up in the table: %" G_GUINT64_FORMAT "\n",
                         c->links, c->tables_misses);
  g_string_append_printf(s, "writes to code pages: %" G_GUINT64_FORMAT ", blocks dropped: %" G_GUINT64_FORMAT "\n",
                         c->code_writes, c->dropped);
  g_string_append_printf(s, "flushes of the cache: %" G_GUINT64_FORMAT "\n", c->flushes);
  g_string_append_printf(s, "slow loads: %" G_GUINT64_FORMAT ", slow stores: %" G_GUINT64_FORMAT "\n", loads, stores);
  g_mutex_unlock(&tcg->lock);
  return g_string_free(g_steal_pointer(&s), FALSE);
}

const VmAccelOps vm_accel_tcg = {
  .name = "tcg",
  .create = accel_create,
  .destroy = accel_destroy,
  .cpu_create = cpu_create,
  .cpu_destroy = cpu_destroy,
  .cpu_run = cpu_run,
  .cpu_kick = cpu_kick,
  .cpu_load = cpu_load,
  .cpu_store = cpu_store,
  .dup_description = dup_description,
};

/* ---- bare CPUs, for tests ------------------------------------------------------------------------------------------------------- */

TcgCpu *tcg_cpu_new_bare(VmMemory *memory, TcgBackend backend)
{
  g_autoptr(GError) error = NULL;
  Tcg *tcg = tcg_new(NULL, memory, backend, &error);
  if (tcg->stubs == NULL)
    g_error("%s", error->message);
  TcgCpu *cpu = cpu_new(tcg);
  update_a20(cpu);
  x86_cpu_reset(&cpu->x86, true, false);
  x86_tcg_import(cpu);
  return cpu;
}

void tcg_cpu_free_bare(TcgCpu *cpu)
{
  if (cpu == NULL)
    return;
  Tcg *tcg = cpu->tcg;
  cpu_free(cpu);
  tcg_free(tcg);
}

/* What stops a bare run after a step? False: nothing. */
static bool stops(TcgCpu *cpu, bool stop_on_exception, TcgStop *stop)
{
  if (cpu->exc_pending != 0) {
    if (stop_on_exception) {
      *stop = TCG_STOP_EXCEPTION;
      return true;
    }
    cpu->link_site = 0;
    if (!x86_deliver_exception(cpu)) {
      *stop = TCG_STOP_TRIPLE_FAULT;
      return true;
    }
  }
  *stop = TCG_STOP_HALT;
  return cpu->x86.halted;
}

TcgStop tcg_cpu_run_bare(TcgCpu *cpu, uint64_t max_insns, bool exact, bool stop_on_exception)
{
  TcgStop stop = TCG_STOP_BUDGET;
  uint64_t done = 0;
  bool endless = max_insns == UINT64_MAX && !exact;
  tcg_exec_begin(cpu);
  cpu->link_site = 0;
  while (done < max_insns) {
    unsigned n_insns;
    /* Blocks that return after each count; the last few instructions one by one. */
    cpu->exec->mode = endless ? 0 : exact || max_insns - done < 64 ? TCG_MODE_SINGLE : TCG_MODE_NOCHAIN;
    atomic_store(&cpu->jump_generation, cpu->exec->generation);
    cpu->exit_block = 0;
    IrLeave how = tcg_step(cpu, &n_insns);
    if (how != IR_LEAVE_EXCEPTION)
      done += n_insns;
    if (how == IR_LEAVE_EXCEPTION || how == IR_LEAVE_LOOP)
      cpu->link_site = 0;
    if (stops(cpu, stop_on_exception, &stop))
      break;
    stop = TCG_STOP_BUDGET;
  }
  cpu->exec->mode = 0;
  tcg_exec_end(cpu);
  return stop;
}
