/*
 * The run loop: into the guest, out again, and what each exit means.
 *
 * The kick. A thread that wants a running CPU's attention (R) sets a request bit, then kicks; the CPU's thread (V) must
 * not sleep in KVM_RUN with the bit set and unseen. A signal alone does not do: it may arrive after V has looked at the
 * bits and before it is in the kernel, and is then spent on an empty handler. So:
 *
 *     V: in_guest = 1                      R: requests |= bit
 *        run->immediate_exit = 0              if in_guest: run->immediate_exit = 1
 *        look at requests                                  signal V's thread
 *        KVM_RUN
 *
 * If V's look misses the bit, R's store to immediate_exit comes after V's clearing of it; KVM_RUN reads it on entry and
 * returns at once, or, if R is later still, the signal finds V in KVM_RUN. All these accesses are sequentially
 * consistent. A kick that comes late costs one turn of the loop.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <time.h>

#include "vm-engine/accel/kvm/kvm-private.h"
#include "vm-engine/vm.h"

#define REQUESTS_FOR_LOOP (VM_CPU_REQ_STOP | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI)
#define MSR_TSC           0x10u
#define MSR_APIC_BASE     0x1bu
#define MSR_TSC_ADJUST    0x3bu
#define MSR_TSC_DEADLINE  0x6e0u
/* Left and back within this much of lost time: the machine was not paused in between. */
#define PAUSE_NS (2 * VM_NS_PER_MS)

void kvm_cpu_kick(VmCpu *cpu)
{
  KvmCpu *kc = kvm_cpu(cpu);
  if (!atomic_load(&cpu->in_guest))
    return;
  __atomic_store_n(&kc->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
  pthread_kill(kc->thread, kvm_kick_signal());
}

/* Ends with `text` in cpu->error_text. */
static VmCpuExit error_exit(KvmCpu *kc, char *text)
{
  g_free(kc->vcpu->error_text);
  kc->vcpu->error_text = text;
  return VM_CPU_EXIT_ERROR;
}

/* ---- accesses ------------------------------------------------------------------------------------------------------------ */

static void serve_io(KvmCpu *kc)
{
  struct kvm_run *run = kc->run;
  VmMemory *memory = vm_get_memory(kc->vcpu->vm);
  uint8_t *data = (uint8_t *)run + run->io.data_offset;
  unsigned size = run->io.size;
  for (uint32_t i = 0; i < run->io.count; i++, data += size) {
    uint32_t value = 0;
    if (run->io.direction == KVM_EXIT_IO_OUT) {
      memcpy(&value, data, size);
      vm_port_write(memory, run->io.port, value, size);
    } else {
      value = vm_port_read(memory, run->io.port, size);
      memcpy(data, &value, size);
    }
  }
}

static void serve_mmio(KvmCpu *kc)
{
  struct kvm_run *run = kc->run;
  VmMemory *memory = vm_get_memory(kc->vcpu->vm);
  unsigned size = MIN(run->mmio.len, 8u);
  bool whole = size == 1 || size == 2 || size == 4 || size == 8;
  unsigned step = whole ? size : 1; /* a piece of an access that crosses pages may have any length */
  for (unsigned done = 0; done < size; done += step) {
    uint64_t value = 0;
    if (run->mmio.is_write) {
      memcpy(&value, run->mmio.data + done, step);
      vm_memory_store(memory, VM_VIEW_NORMAL, run->mmio.phys_addr + done, value, step);
    } else {
      value = vm_memory_load(memory, VM_VIEW_NORMAL, run->mmio.phys_addr + done, step);
      memcpy(run->mmio.data + done, &value, step);
    }
  }
}

static bool is_apic_msr(uint32_t index)
{
  return (index >= 0x800 && index <= 0x8ff) || index == MSR_TSC_DEADLINE;
}

static bool read_msr(KvmCpu *kc, uint32_t index, uint64_t *value)
{
  const VmCpu *cpu = kc->vcpu;
  if (cpu->intc_ops == NULL)
    return false;
  if (index == MSR_APIC_BASE) {
    *value = cpu->intc_ops->get_apic_base(cpu->intc);
    return true;
  }
  return is_apic_msr(index) && cpu->intc_ops->read_msr(cpu->intc, index, value);
}

static bool write_msr(KvmCpu *kc, uint32_t index, uint64_t value)
{
  const VmCpu *cpu = kc->vcpu;
  if (index == MSR_TSC || index == MSR_TSC_ADJUST) {
    bool good = kvm_set_msr(kc, index, value);
    kvm_sample_tsc(kc);
    return good;
  }
  if (cpu->intc_ops == NULL)
    return false;
  if (index == MSR_APIC_BASE) {
    if (!cpu->intc_ops->set_apic_base(cpu->intc, value))
      return false;
    kvm_set_msr(kc, MSR_APIC_BASE, value); /* CPUID's APIC bit follows */
    return true;
  }
  return is_apic_msr(index) && cpu->intc_ops->write_msr(cpu->intc, index, value);
}

bool kvm_serve_access(KvmCpu *kc)
{
  struct kvm_run *run = kc->run;
  uint64_t value = 0;
  switch (run->exit_reason) {
  case KVM_EXIT_IO:
    serve_io(kc);
    break;
  case KVM_EXIT_MMIO:
    serve_mmio(kc);
    break;
  case KVM_EXIT_X86_RDMSR:
    run->msr.error = !read_msr(kc, run->msr.index, &value);
    run->msr.data = value;
    break;
  case KVM_EXIT_X86_WRMSR:
    run->msr.error = !write_msr(kc, run->msr.index, run->msr.data);
    break;
  default:
    return false;
  }
  kc->completion_pending = true;
  return true;
}

void kvm_complete_exit(KvmCpu *kc)
{
  while (kc->completion_pending) {
    kc->completion_pending = false;
    __atomic_store_n(&kc->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int result = ioctl(kc->fd, KVM_RUN, 0);
    __atomic_store_n(&kc->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (result == 0)
      kvm_serve_access(kc); /* an access in several pieces: the next of them */
  }
}

/* ---- before entry -------------------------------------------------------------------------------------------------------------- */

static int64_t host_ns(void)
{
  struct timespec ts;
  clock_gettime(CLOCK_MONOTONIC, &ts);
  return ts.tv_sec * VM_NS_PER_SEC + ts.tv_nsec;
}

/* The host counts the guest's TSC on while the machine is paused; on the way back it is set to where it was, plus the
 * time that the machine did see. */
static void take_pause_from_tsc(KvmCpu *kc)
{
  if (!kc->has_left)
    return;
  int64_t passed = host_ns() - kc->left_host_ns;
  int64_t seen = vm_clock_get_ns(vm_get_clock(kc->vcpu->vm)) - kc->left_virtual_ns;
  kc->has_left = false;
  if (passed - seen < PAUSE_NS)
    return;
  uint64_t lost = (uint64_t)((unsigned __int128)(uint64_t)(passed - seen) * kc->accel->tsc_hz / VM_NS_PER_SEC);
  uint64_t now;
  if (kvm_get_msr(kc, MSR_TSC, &now))
    kvm_set_msr(kc, MSR_TSC, now - lost);
  kvm_sample_tsc(kc);
}

static bool prepare_run(KvmCpu *kc)
{
  if (!kc->has_cpuid) {
    g_autoptr(GError) error = NULL;
    if (!kvm_set_cpuid(kc, &error)) {
      error_exit(kc, g_strdup(error->message));
      return false;
    }
    kc->has_cpuid = true;
  }
  if (kc->load_pending) {
    if (!kvm_put_state(kc))
      return false;
    kc->has_left = false;
  }
  take_pause_from_tsc(kc);
  return true;
}

/* Hands the controller's interrupt over where the guest can take it, and asks for an exit where it soon can. */
static void inject(KvmCpu *kc, uint32_t requests)
{
  VmCpu *cpu = kc->vcpu;
  if (requests & VM_CPU_REQ_NMI) {
    vm_cpu_clear_request(cpu, VM_CPU_REQ_NMI);
    kvm_ioctl(kc->fd, KVM_NMI, NULL);
  }
  if ((requests & VM_CPU_REQ_INTR) && cpu->intc_ops != NULL && kc->run->ready_for_interrupt_injection &&
      kc->run->if_flag) {
    int vector = cpu->intc_ops->acknowledge(cpu->intc);
    struct kvm_interrupt interrupt = { .irq = (uint32_t)MAX(vector, 0) };
    if (vector >= 0)
      kvm_ioctl(kc->fd, KVM_INTERRUPT, &interrupt);
    kc->run->ready_for_interrupt_injection = 0; /* one at a time */
  }
  kc->run->request_interrupt_window = (vm_cpu_requests(cpu) & VM_CPU_REQ_INTR) != 0;
  /* SMIs are for firmware that runs in system-management mode, which this accelerator does not offer. */
  vm_cpu_clear_request(cpu, VM_CPU_REQ_FLUSH | VM_CPU_REQ_TRANSLATOR | VM_CPU_REQ_SMI);
}

static void put_cr8(KvmCpu *kc)
{
  if (kc->vcpu->intc_ops != NULL)
    kc->known_cr8 = kc->vcpu->intc_ops->get_tpr(kc->vcpu->intc);
  kc->run->cr8 = kc->known_cr8;
}

static void get_cr8(KvmCpu *kc)
{
  uint8_t cr8 = (uint8_t)kc->run->cr8;
  if (cr8 == kc->known_cr8 || kc->vcpu->intc_ops == NULL)
    return;
  kc->known_cr8 = cr8;
  kc->vcpu->intc_ops->set_tpr(kc->vcpu->intc, cr8);
}

/* ---- exits ------------------------------------------------------------------------------------------------------------------------- */

static VmCpuExit internal_error(KvmCpu *kc)
{
  const struct kvm_run *run = kc->run;
  GString *text = g_string_new(NULL);
  switch (run->internal.suberror) {
  case KVM_INTERNAL_ERROR_EMULATION:
    g_string_assign(text, "KVM cannot emulate an instruction of the guest");
    break;
  case KVM_INTERNAL_ERROR_SIMUL_EX:
    g_string_assign(text, "KVM met an exception while it was delivering another");
    break;
  case KVM_INTERNAL_ERROR_DELIVERY_EV:
    g_string_assign(text, "KVM could not deliver an interrupt or exception");
    break;
  case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
    g_string_assign(text, "the processor left the guest for a reason that KVM does not know");
    break;
  default:
    g_string_printf(text, "KVM reports internal error %u", run->internal.suberror);
    break;
  }
  struct kvm_regs regs;
  if (kvm_ioctl(kc->fd, KVM_GET_REGS, &regs) == 0)
    g_string_append_printf(text, " at RIP 0x%" PRIx64, (uint64_t)regs.rip);
  if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata >= 4 &&
      (run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES)) {
    g_string_append(text, " (bytes");
    for (unsigned i = 0; i < MIN(run->emulation_failure.insn_size, 15u); i++)
      g_string_append_printf(text, " %02x", run->emulation_failure.insn_bytes[i]);
    g_string_append_c(text, ')');
  }
  g_string_append(text, "; \"--accel tcg\" runs the guest without KVM");
  return error_exit(kc, g_string_free(text, FALSE));
}

static VmCpuExit halt(KvmCpu *kc)
{
  X86Cpu *x86 = kc->vcpu->x86;
  x86->halted = 1;
  /* The loop looks at it to know whether interrupts end the sleep. */
  x86->rflags = (x86->rflags & ~(uint64_t)X86_F_IF) | (kc->run->if_flag ? X86_F_IF : 0);
  return VM_CPU_EXIT_HALT;
}

/* A halted CPU that nothing has woken goes back to sleep. */
static bool stays_halted(VmCpu *cpu, uint32_t requests)
{
  if (!cpu->x86->halted)
    return false;
  bool woken = (requests & VM_CPU_REQ_NMI) || ((requests & VM_CPU_REQ_INTR) && (cpu->x86->rflags & X86_F_IF));
  if (woken)
    cpu->x86->halted = 0;
  return !woken;
}

#define GO_ON ((VmCpuExit)-1)

static VmCpuExit run_failed(KvmCpu *kc, int error)
{
  if (error == EINTR || error == EAGAIN)
    return GO_ON;
  return error_exit(
      kc, g_strdup_printf("KVM cannot run the guest (KVM_RUN): %s%s", g_strerror(error),
                          error == EFAULT ? " (its memory cannot be reached; is this computer out of memory?)" : ""));
}

static VmCpuExit handle_exit(KvmCpu *kc, uint32_t generation)
{
  const struct kvm_run *run = kc->run;
  if (kvm_serve_access(kc))
    return GO_ON;
  switch (run->exit_reason) {
  case KVM_EXIT_INTR:
  case KVM_EXIT_IRQ_WINDOW_OPEN:
  case KVM_EXIT_SET_TPR:
    return GO_ON;
  case KVM_EXIT_HLT:
    return halt(kc);
  case KVM_EXIT_SHUTDOWN:
    return VM_CPU_EXIT_TRIPLE_FAULT;
  case KVM_EXIT_INTERNAL_ERROR:
    if (atomic_load(&kc->accel->slot_generation) != generation)
      return GO_ON; /* it ran into a slot that was being changed */
    return internal_error(kc);
  case KVM_EXIT_FAIL_ENTRY:
    return error_exit(kc, g_strdup_printf("the processor refuses to enter the guest (reason 0x%" PRIx64
                                          "); \"--accel tcg\" runs the guest without KVM",
                                          (uint64_t)run->fail_entry.hardware_entry_failure_reason));
  default:
    return error_exit(kc,
                      g_strdup_printf("KVM left the guest for reason %u, which Oriel does not know", run->exit_reason));
  }
}

/* One entry. The bits are looked at again after in_guest is set: see the top of the file. */
static VmCpuExit enter(KvmCpu *kc)
{
  VmCpu *cpu = kc->vcpu;
  uint32_t generation = atomic_load(&kc->accel->slot_generation);
  uint32_t before = vm_cpu_requests(cpu);
  inject(kc, before);
  put_cr8(kc);
  atomic_store(&cpu->in_guest, 1);
  __atomic_store_n(&kc->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
  uint32_t now = atomic_load(&cpu->requests);
  bool window_missing = (now & VM_CPU_REQ_INTR) && !kc->run->request_interrupt_window;
  if ((now & (REQUESTS_FOR_LOOP | VM_CPU_REQ_NMI)) || window_missing) {
    atomic_store(&cpu->in_guest, 0);
    return GO_ON;
  }
  int result = ioctl(kc->fd, KVM_RUN, 0);
  int error = errno;
  atomic_store(&cpu->in_guest, 0);
  kc->completion_pending = false;
  get_cr8(kc);
  kvm_drain_coalesced(kc->accel);
  return result < 0 ? run_failed(kc, error) : handle_exit(kc, generation);
}

VmCpuExit kvm_cpu_run(VmCpu *cpu)
{
  KvmCpu *kc = kvm_cpu(cpu);
  kc->thread = pthread_self();
  if (!prepare_run(kc))
    return VM_CPU_EXIT_ERROR;
  VmCpuExit reason = GO_ON;
  while (reason == GO_ON) {
    uint32_t requests = vm_cpu_requests(cpu);
    if (requests & REQUESTS_FOR_LOOP)
      reason = VM_CPU_EXIT_REQUEST;
    else if (stays_halted(cpu, requests))
      reason = VM_CPU_EXIT_HALT;
    else
      reason = enter(kc);
  }
  if (reason == VM_CPU_EXIT_REQUEST)
    kvm_complete_exit(kc);
  kc->has_left = true;
  kc->left_host_ns = host_ns();
  kc->left_virtual_ns = vm_clock_get_ns(vm_get_clock(cpu->vm));
  return reason;
}
