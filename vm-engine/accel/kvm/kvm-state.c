/*
 * The CPU's state between X86Cpu and KVM.
 *
 * Order matters when putting: CPUID first (done at creation), then the special registers, which set the mode, then
 * XCR0 before the extended state that it enables, MSRs, and events last, which the general registers' ioctl clears.
 */
#include <errno.h>

#include "vm-engine/accel/kvm/kvm-private.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/tsc.h"

#define MSR_TSC           0x10u
#define APIC_BASE_DEFAULT 0xfee00900u
#define XSAVE_XSTATE_BV   512
#define XSAVE_YMM_HIGH    576

/* Puts a part of the state; what is refused first is remembered, and ends the machine. */
static void put(KvmCpu *kc, unsigned long request, void *argument, const char *name)
{
  if (kvm_ioctl(kc->fd, request, argument) >= 0 || kc->refused_call != NULL)
    return;
  kc->refused_call = name;
  kc->refused_errno = errno;
}
#define PUT(kc, request, argument) put(kc, request, argument, #request)

/* ---- MSRs --------------------------------------------------------------------------------------------------------------- */

typedef struct MsrRow {
  uint32_t index;
  size_t offset; /* in X86Cpu */
  bool always;   /* not in KVM's list, but known to it */
} MsrRow;

#define ROW(index, field)                                                                                              \
  {                                                                                                                    \
    index, offsetof(X86Cpu, field), false                                                                              \
  }
static const MsrRow msr_rows[] = {
  ROW(0x174, sysenter_cs),    ROW(0x175, sysenter_esp), ROW(0x176, sysenter_eip), ROW(0xc0000081, star),
  ROW(0xc0000082, lstar),     ROW(0xc0000083, cstar),   ROW(0xc0000084, sfmask),  ROW(0xc0000102, kernel_gs_base),
  ROW(0xc0000103, tsc_aux),   ROW(0x277, pat),          ROW(0x1a0, misc_enable),  ROW(0x48, spec_ctrl),
  ROW(0x3b, tsc_adjust),      ROW(0x17a, mcg_status),   ROW(0x17b, mcg_ctl),      ROW(0x1d9, debugctl),
  ROW(0x3a, feature_control),
};

#define MTRR(index, field)                                                                                             \
  {                                                                                                                    \
    index, offsetof(X86Cpu, field), true                                                                               \
  }
static const MsrRow mtrr_rows[] = {
  MTRR(0x2ff, mtrr_def_type),  MTRR(0x250, mtrr_fixed[0]),  MTRR(0x258, mtrr_fixed[1]),  MTRR(0x259, mtrr_fixed[2]),
  MTRR(0x268, mtrr_fixed[3]),  MTRR(0x269, mtrr_fixed[4]),  MTRR(0x26a, mtrr_fixed[5]),  MTRR(0x26b, mtrr_fixed[6]),
  MTRR(0x26c, mtrr_fixed[7]),  MTRR(0x26d, mtrr_fixed[8]),  MTRR(0x26e, mtrr_fixed[9]),  MTRR(0x26f, mtrr_fixed[10]),
  MTRR(0x200, mtrr_var[0][0]), MTRR(0x201, mtrr_var[0][1]), MTRR(0x202, mtrr_var[1][0]), MTRR(0x203, mtrr_var[1][1]),
  MTRR(0x204, mtrr_var[2][0]), MTRR(0x205, mtrr_var[2][1]), MTRR(0x206, mtrr_var[3][0]), MTRR(0x207, mtrr_var[3][1]),
  MTRR(0x208, mtrr_var[4][0]), MTRR(0x209, mtrr_var[4][1]), MTRR(0x20a, mtrr_var[5][0]), MTRR(0x20b, mtrr_var[5][1]),
  MTRR(0x20c, mtrr_var[6][0]), MTRR(0x20d, mtrr_var[6][1]), MTRR(0x20e, mtrr_var[7][0]), MTRR(0x20f, mtrr_var[7][1]),
};

#define MAX_MSRS (G_N_ELEMENTS(msr_rows) + G_N_ELEMENTS(mtrr_rows))
typedef struct MsrBatch {
  struct kvm_msrs head;
  struct kvm_msr_entry entries[MAX_MSRS];
  size_t offsets[MAX_MSRS];
} MsrBatch;

static bool is_listed(const VmAccel *accel, uint32_t index)
{
  for (unsigned i = 0; i < accel->n_msrs; i++)
    if (accel->msrs[i] == index)
      return true;
  return false;
}

static void batch_add(const KvmCpu *kc, const MsrRow *rows, size_t n, MsrBatch *batch)
{
  for (size_t i = 0; i < n; i++) {
    if (!rows[i].always && !is_listed(kc->accel, rows[i].index))
      continue;
    unsigned at = batch->head.nmsrs++;
    batch->offsets[at] = rows[i].offset;
    batch->entries[at] = (struct kvm_msr_entry){ .index = rows[i].index };
    memcpy(&batch->entries[at].data, (uint8_t *)kc->vcpu->x86 + rows[i].offset, sizeof(uint64_t));
  }
}

static MsrBatch *batch_new(const KvmCpu *kc)
{
  MsrBatch *batch = g_new0(MsrBatch, 1);
  batch_add(kc, msr_rows, G_N_ELEMENTS(msr_rows), batch);
  batch_add(kc, mtrr_rows, G_N_ELEMENTS(mtrr_rows), batch);
  return batch;
}

/* One MSR at a time from the first that KVM refuses: a host may know an MSR and yet not take this value for it. */
static void transfer(KvmCpu *kc, unsigned long request, const MsrBatch *batch, uint64_t *values)
{
  for (unsigned done = 0; done < batch->head.nmsrs;) {
    g_autofree struct kvm_msrs *rest = g_malloc0(sizeof(*rest) + (batch->head.nmsrs - done) * sizeof(rest->entries[0]));
    rest->nmsrs = batch->head.nmsrs - done;
    memcpy(rest->entries, batch->entries + done, rest->nmsrs * sizeof(rest->entries[0]));
    int n = kvm_ioctl(kc->fd, request, rest);
    for (int i = 0; i < n && values != NULL; i++)
      values[done + (unsigned)i] = rest->entries[i].data;
    done += (unsigned)MAX(n, 0) + 1; /* the one after the last taken was refused */
  }
}

static void put_msrs(KvmCpu *kc)
{
  g_autofree MsrBatch *batch = batch_new(kc);
  transfer(kc, KVM_SET_MSRS, batch, NULL);
}

static void get_msrs(KvmCpu *kc)
{
  g_autofree MsrBatch *batch = batch_new(kc);
  uint64_t values[MAX_MSRS];
  for (unsigned i = 0; i < batch->head.nmsrs; i++)
    values[i] = batch->entries[i].data;
  transfer(kc, KVM_GET_MSRS, batch, values);
  for (unsigned i = 0; i < batch->head.nmsrs; i++)
    memcpy((uint8_t *)kc->vcpu->x86 + batch->offsets[i], &values[i], sizeof(uint64_t));
}

typedef struct OneMsr {
  struct kvm_msrs head;
  struct kvm_msr_entry entry;
} OneMsr;

bool kvm_get_msr(KvmCpu *kc, uint32_t index, uint64_t *value)
{
  OneMsr one = { .head = { .nmsrs = 1 }, .entry = { .index = index } };
  bool good = kvm_ioctl(kc->fd, KVM_GET_MSRS, &one) == 1;
  *value = one.entry.data;
  return good;
}

bool kvm_set_msr(KvmCpu *kc, uint32_t index, uint64_t value)
{
  OneMsr one = { .head = { .nmsrs = 1 }, .entry = { .index = index, .data = value } };
  return kvm_ioctl(kc->fd, KVM_SET_MSRS, &one) == 1;
}

/* ---- time ------------------------------------------------------------------------------------------------------------------ */

void kvm_sample_tsc(KvmCpu *kc)
{
  uint64_t guest, before = __builtin_ia32_rdtsc();
  if (!kvm_get_msr(kc, MSR_TSC, &guest))
    return;
  uint64_t after = __builtin_ia32_rdtsc();
  atomic_store(&kc->tsc_offset, guest - (before + (after - before) / 2));
}

static void put_tsc(KvmCpu *kc)
{
  kvm_set_msr(kc, MSR_TSC, vm_tsc_now(vm_get_clock(kc->vcpu->vm)) + kc->vcpu->x86->tsc_offset);
  kvm_sample_tsc(kc);
}

static void get_tsc(KvmCpu *kc)
{
  uint64_t guest;
  if (kvm_get_msr(kc, MSR_TSC, &guest))
    kc->vcpu->x86->tsc_offset = guest - vm_tsc_now(vm_get_clock(kc->vcpu->vm));
}

/* ---- general and special registers ------------------------------------------------------------------------------------------ */

static void put_regs(KvmCpu *kc)
{
  const X86Cpu *x = kc->vcpu->x86;
  struct kvm_regs regs = {
    .rax = x->gpr[X86_RAX],
    .rbx = x->gpr[X86_RBX],
    .rcx = x->gpr[X86_RCX],
    .rdx = x->gpr[X86_RDX],
    .rsi = x->gpr[X86_RSI],
    .rdi = x->gpr[X86_RDI],
    .rsp = x->gpr[X86_RSP],
    .rbp = x->gpr[X86_RBP],
    .r8 = x->gpr[X86_R8],
    .r9 = x->gpr[X86_R9],
    .r10 = x->gpr[X86_R10],
    .r11 = x->gpr[X86_R11],
    .r12 = x->gpr[X86_R12],
    .r13 = x->gpr[X86_R13],
    .r14 = x->gpr[X86_R14],
    .r15 = x->gpr[X86_R15],
    .rip = x->rip,
    .rflags = x->rflags,
  };
  PUT(kc, KVM_SET_REGS, &regs);
}

static void get_regs(KvmCpu *kc)
{
  struct kvm_regs regs;
  if (kvm_ioctl(kc->fd, KVM_GET_REGS, &regs) < 0)
    return;
  const uint64_t gpr[X86_N_GPR] = { regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi,
                                    regs.r8,  regs.r9,  regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15 };
  memcpy(kc->vcpu->x86->gpr, gpr, sizeof(gpr));
  kc->vcpu->x86->rip = regs.rip;
  kc->vcpu->x86->rflags = regs.rflags;
}

static struct kvm_segment to_kvm(const X86Segment *s)
{
  return (struct kvm_segment){ .base = s->base,
                               .limit = s->limit,
                               .selector = s->selector,
                               .type = s->attr >> 8 & 15,
                               .s = (s->attr & X86_ATTR_S) != 0,
                               .dpl = s->attr >> X86_ATTR_DPL_SHIFT & 3,
                               .present = (s->attr & X86_ATTR_P) != 0,
                               .avl = (s->attr & X86_ATTR_AVL) != 0,
                               .l = (s->attr & X86_ATTR_L) != 0,
                               .db = (s->attr & X86_ATTR_DB) != 0,
                               .g = (s->attr & X86_ATTR_G) != 0,
                               .unusable = (s->attr & X86_ATTR_P) == 0 };
}

static X86Segment from_kvm(const struct kvm_segment *k)
{
  X86Segment s = { .base = k->base, .limit = k->limit, .selector = k->selector };
  s.attr = (uint32_t)k->type << 8 | (k->s ? X86_ATTR_S : 0) | (uint32_t)k->dpl << X86_ATTR_DPL_SHIFT |
           (k->present && !k->unusable ? X86_ATTR_P : 0) | (k->avl ? X86_ATTR_AVL : 0) | (k->l ? X86_ATTR_L : 0) |
           (k->db ? X86_ATTR_DB : 0) | (k->g ? X86_ATTR_G : 0);
  return s;
}

static struct kvm_segment *kvm_segment_of(struct kvm_sregs *sregs, unsigned index)
{
  struct kvm_segment *const order[X86_N_SEG_ALL + 2] = { &sregs->es, &sregs->cs, &sregs->ss,  &sregs->ds,
                                                         &sregs->fs, &sregs->gs, &sregs->ldt, &sregs->tr };
  return order[index];
}

static void put_sregs(KvmCpu *kc)
{
  const VmCpu *vcpu = kc->vcpu;
  const X86Cpu *x = vcpu->x86;
  struct kvm_sregs sregs = { .cr0 = x->cr0, .cr2 = x->cr2, .cr3 = x->cr3, .cr4 = x->cr4, .efer = x->efer };
  for (unsigned i = 0; i <= X86_TR; i++)
    *kvm_segment_of(&sregs, i) = to_kvm(&x->seg[i]);
  sregs.gdt = (struct kvm_dtable){ .base = x->gdt.base, .limit = (uint16_t)x->gdt.limit };
  sregs.idt = (struct kvm_dtable){ .base = x->idt.base, .limit = (uint16_t)x->idt.limit };
  sregs.apic_base = vcpu->intc_ops != NULL ? vcpu->intc_ops->get_apic_base(vcpu->intc) : APIC_BASE_DEFAULT;
  sregs.cr8 = vcpu->intc_ops != NULL ? vcpu->intc_ops->get_tpr(vcpu->intc) : 0;
  kc->known_cr8 = (uint8_t)sregs.cr8;
  if (x->pending_interrupt_valid)
    sregs.interrupt_bitmap[x->pending_interrupt / 64] |= UINT64_C(1) << (x->pending_interrupt % 64);
  PUT(kc, KVM_SET_SREGS, &sregs);
}

static void get_sregs(KvmCpu *kc)
{
  X86Cpu *x = kc->vcpu->x86;
  struct kvm_sregs sregs;
  if (kvm_ioctl(kc->fd, KVM_GET_SREGS, &sregs) < 0)
    return;
  for (unsigned i = 0; i <= X86_TR; i++)
    x->seg[i] = from_kvm(kvm_segment_of(&sregs, i));
  x->gdt = (X86Table){ .base = sregs.gdt.base, .limit = sregs.gdt.limit };
  x->idt = (X86Table){ .base = sregs.idt.base, .limit = sregs.idt.limit };
  x->cr0 = sregs.cr0;
  x->cr2 = sregs.cr2;
  x->cr3 = sregs.cr3;
  x->cr4 = sregs.cr4;
  x->efer = sregs.efer;
  x->pending_interrupt_valid = x->pending_interrupt = 0;
  for (unsigned i = 0; i < 256; i++)
    if (sregs.interrupt_bitmap[i / 64] >> (i % 64) & 1) {
      x->pending_interrupt_valid = 1;
      x->pending_interrupt = (uint8_t)i;
    }
}

/* ---- FPU and vectors ---------------------------------------------------------------------------------------------------------- */

static void put_fpu(KvmCpu *kc)
{
  const X86Fpu *fpu = &kc->vcpu->x86->fpu;
  if (!kc->accel->has_xsave) {
    struct kvm_fpu plain = { .fcw = fpu->fcw,
                             .fsw = fpu->fsw,
                             .ftwx = fpu->ftw,
                             .last_opcode = fpu->fop,
                             .last_ip = fpu->fip,
                             .last_dp = fpu->fdp,
                             .mxcsr = fpu->mxcsr };
    memcpy(plain.fpr, fpu->st, sizeof(plain.fpr));
    memcpy(plain.xmm, fpu->xmm, sizeof(plain.xmm));
    PUT(kc, KVM_SET_FPU, &plain);
    return;
  }
  g_autofree struct kvm_xsave *area = g_new0(struct kvm_xsave, 1);
  uint8_t *bytes = (uint8_t *)area;
  bool has_avx = (kc->accel->features.leaf1_ecx >> 28 & 1) != 0;
  uint64_t present = has_avx ? 7 : 3;
  memcpy(bytes, fpu, 512);
  memcpy(bytes + XSAVE_XSTATE_BV, &present, sizeof(present));
  if (has_avx)
    memcpy(bytes + XSAVE_YMM_HIGH, fpu->ymm_high, sizeof(fpu->ymm_high));
  PUT(kc, KVM_SET_XSAVE, area);
}

static void get_fpu(KvmCpu *kc)
{
  X86Fpu *fpu = &kc->vcpu->x86->fpu;
  memset(fpu->ymm_high, 0, sizeof(fpu->ymm_high));
  if (!kc->accel->has_xsave) {
    struct kvm_fpu plain;
    if (kvm_ioctl(kc->fd, KVM_GET_FPU, &plain) < 0)
      return;
    fpu->fcw = plain.fcw;
    fpu->fsw = plain.fsw;
    fpu->ftw = plain.ftwx;
    fpu->fop = plain.last_opcode;
    fpu->fip = plain.last_ip;
    fpu->fdp = plain.last_dp;
    fpu->mxcsr = plain.mxcsr;
    memcpy(fpu->st, plain.fpr, sizeof(plain.fpr));
    memcpy(fpu->xmm, plain.xmm, sizeof(plain.xmm));
    return;
  }
  g_autofree struct kvm_xsave *area = g_new0(struct kvm_xsave, 1);
  const uint8_t *bytes = (const uint8_t *)area;
  if (kvm_ioctl(kc->fd, KVM_GET_XSAVE, area) < 0)
    return;
  uint64_t present;
  memcpy(fpu, bytes, 512);
  memcpy(&present, bytes + XSAVE_XSTATE_BV, sizeof(present));
  if (present & 4)
    memcpy(fpu->ymm_high, bytes + XSAVE_YMM_HIGH, sizeof(fpu->ymm_high));
  if (fpu->mxcsr_mask == 0)
    fpu->mxcsr_mask = 0xffbf;
  memset(fpu->rsvd2, 0, sizeof(fpu->rsvd2));
}

static void put_xcrs(KvmCpu *kc)
{
  struct kvm_xcrs xcrs = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = MAX(kc->vcpu->x86->xcr0, 1) } } };
  if (kc->accel->has_xcrs)
    PUT(kc, KVM_SET_XCRS, &xcrs);
}

static void get_xcrs(KvmCpu *kc)
{
  struct kvm_xcrs xcrs;
  if (!kc->accel->has_xcrs || kvm_ioctl(kc->fd, KVM_GET_XCRS, &xcrs) < 0)
    return;
  for (unsigned i = 0; i < MIN(xcrs.nr_xcrs, KVM_MAX_XCRS); i++)
    if (xcrs.xcrs[i].xcr == 0)
      kc->vcpu->x86->xcr0 = xcrs.xcrs[i].value;
}

/* ---- debug registers, events ------------------------------------------------------------------------------------------------------ */

static void put_debugregs(KvmCpu *kc)
{
  struct kvm_debugregs regs = { .dr6 = kc->vcpu->x86->dr[6], .dr7 = kc->vcpu->x86->dr[7] };
  memcpy(regs.db, kc->vcpu->x86->dr, sizeof(regs.db));
  if (kc->accel->has_debugregs)
    PUT(kc, KVM_SET_DEBUGREGS, &regs);
}

static void get_debugregs(KvmCpu *kc)
{
  struct kvm_debugregs regs;
  if (!kc->accel->has_debugregs || kvm_ioctl(kc->fd, KVM_GET_DEBUGREGS, &regs) < 0)
    return;
  memcpy(kc->vcpu->x86->dr, regs.db, sizeof(regs.db));
  kc->vcpu->x86->dr[6] = regs.dr6;
  kc->vcpu->x86->dr[7] = regs.dr7;
}

static void put_events(KvmCpu *kc)
{
  const X86Cpu *x = kc->vcpu->x86;
  struct kvm_vcpu_events events = { .flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW };
  events.exception.injected = x->pending_exception_valid;
  events.exception.nr = x->pending_exception;
  events.exception.has_error_code = x->pending_has_error;
  events.exception.error_code = x->pending_error;
  events.interrupt.injected = x->pending_interrupt_valid;
  events.interrupt.nr = x->pending_interrupt;
  events.interrupt.shadow = x->interrupt_shadow == 1   ? KVM_X86_SHADOW_INT_STI
                            : x->interrupt_shadow == 2 ? KVM_X86_SHADOW_INT_MOV_SS
                                                       : 0;
  events.nmi.masked = x->nmi_masked;
  if (kc->accel->has_events)
    PUT(kc, KVM_SET_VCPU_EVENTS, &events);
}

static void get_events(KvmCpu *kc)
{
  X86Cpu *x = kc->vcpu->x86;
  struct kvm_vcpu_events events;
  if (!kc->accel->has_events || kvm_ioctl(kc->fd, KVM_GET_VCPU_EVENTS, &events) < 0)
    return;
  x->pending_exception_valid = events.exception.injected || events.exception.pending;
  x->pending_exception = events.exception.nr & 31;
  x->pending_has_error = events.exception.has_error_code != 0;
  x->pending_error = events.exception.error_code;
  if (!x->pending_exception_valid)
    x->pending_exception = x->pending_has_error = 0;
  x->pending_interrupt_valid = events.interrupt.injected && !events.interrupt.soft;
  x->pending_interrupt = x->pending_interrupt_valid ? events.interrupt.nr : 0;
  x->interrupt_shadow = (events.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS) ? 2 : events.interrupt.shadow != 0;
  x->nmi_masked = events.nmi.masked != 0;
  if (events.nmi.pending || events.nmi.injected)
    vm_cpu_request(kc->vcpu, VM_CPU_REQ_NMI);
}

/* ---- all of it --------------------------------------------------------------------------------------------------------------------- */

bool kvm_put_state(KvmCpu *kc)
{
  kc->refused_call = NULL;
  put_regs(kc);
  put_sregs(kc);
  put_xcrs(kc);
  put_fpu(kc);
  put_msrs(kc);
  put_tsc(kc);
  put_debugregs(kc);
  put_events(kc);
  kc->load_pending = false;
  if (kc->refused_call == NULL)
    return true;
  g_free(kc->vcpu->error_text);
  kc->vcpu->error_text =
      g_strdup_printf("KVM refuses the CPU's state (%s: %s); \"--accel tcg\" runs the guest without KVM",
                      kc->refused_call, g_strerror(kc->refused_errno));
  return false;
}

void kvm_get_state(KvmCpu *kc)
{
  kvm_complete_exit(kc);
  get_regs(kc);
  get_sregs(kc);
  get_xcrs(kc);
  get_fpu(kc);
  get_msrs(kc);
  get_tsc(kc);
  get_debugregs(kc);
  get_events(kc);
}
