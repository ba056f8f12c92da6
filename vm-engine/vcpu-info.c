/* What a debugger or the monitor shows of a vCPU: its registers as text, taken on its own thread. */
#include "vm-engine/vcpu.h"

#include "vm-engine/accel.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/cpu.h"

#define WAIT_US (G_USEC_PER_SEC)

/* Shared by who asks and the vCPU's thread; whoever drops the last reference frees it. */
typedef struct Snapshot {
  GMutex mutex;
  GCond cond;
  bool taken;
  X86Cpu x86;
} Snapshot;

static void clear_snapshot(void *data)
{
  Snapshot *s = data;
  g_mutex_clear(&s->mutex);
  g_cond_clear(&s->cond);
}

static void take_snapshot(VmCpu *cpu, void *data)
{
  Snapshot *s = data;
  vm_get_accel_ops(cpu->vm)->cpu_store(cpu);
  g_mutex_lock(&s->mutex);
  s->x86 = *cpu->x86;
  s->taken = true;
  g_cond_signal(&s->cond);
  g_mutex_unlock(&s->mutex);
  g_atomic_rc_box_release_full(s, clear_snapshot);
}

static void append_segment(GString *out, const char *name, const X86Segment *s)
{
  g_string_append_printf(out, "%-3s=%04x %016" G_GINT64_MODIFIER "x %08x %08x\n", name, s->selector, s->base, s->limit,
                         s->attr);
}

static char *format_registers(const X86Cpu *c)
{
  static const char *const names[] = { "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI",
                                       "R8",  "R9",  "R10", "R11", "R12", "R13", "R14", "R15" };
  static const char *const segments[] = { "ES", "CS", "SS", "DS", "FS", "GS", "LDT", "TR" };
  GString *out = g_string_new(NULL);
  for (unsigned i = 0; i < X86_N_GPR; i++)
    g_string_append_printf(out, "%-3s=%016" G_GINT64_MODIFIER "x%c", names[i], c->gpr[i], i % 4 == 3 ? '\n' : ' ');
  g_string_append_printf(out, "RIP=%016" G_GINT64_MODIFIER "x RFL=%08" G_GINT64_MODIFIER "x CPL=%u HLT=%u SMM=%u\n",
                         c->rip, c->rflags, c->seg[X86_CS].selector & 3u, c->halted, c->in_smm);
  for (unsigned i = 0; i < X86_N_SEG_ALL; i++)
    append_segment(out, segments[i], &c->seg[i]);
  g_string_append_printf(out, "GDT=     %016" G_GINT64_MODIFIER "x %08x\nIDT=     %016" G_GINT64_MODIFIER "x %08x\n",
                         c->gdt.base, c->gdt.limit, c->idt.base, c->idt.limit);
  g_string_append_printf(out,
                         "CR0=%08" G_GINT64_MODIFIER "x CR2=%016" G_GINT64_MODIFIER "x CR3=%016" G_GINT64_MODIFIER
                         "x CR4=%08" G_GINT64_MODIFIER "x EFER=%016" G_GINT64_MODIFIER "x\n",
                         c->cr0, c->cr2, c->cr3, c->cr4, c->efer);
  return g_string_free(out, FALSE);
}

char *vm_cpu_dup_registers(VmCpu *cpu)
{
  Snapshot *s = g_atomic_rc_box_new0(Snapshot);
  gint64 until = g_get_monotonic_time() + WAIT_US;
  g_mutex_init(&s->mutex);
  g_cond_init(&s->cond);
  vm_cpu_run_on(cpu, take_snapshot, g_atomic_rc_box_acquire(s));
  g_mutex_lock(&s->mutex);
  while (!s->taken && g_cond_wait_until(&s->cond, &s->mutex, until))
    continue;
  char *text = s->taken ? format_registers(&s->x86) : g_strdup("the CPU does not answer\n");
  g_mutex_unlock(&s->mutex);
  g_atomic_rc_box_release_full(s, clear_snapshot);
  return text;
}
