/*
 * Does /dev/kvm serve? A throw-away machine runs what kernels do in 16-, 32- and 64-bit mode (probe-guest.S), checks the
 * results and takes the time.
 *
 * Some hosts offer a /dev/kvm that starts small programs well enough and then crawls: KVM within a virtual machine
 * without hardware support for that, where a guest kernel's privileged code is emulated instruction by instruction. A
 * firmware's screen comes up there, an operating system does not. So each phase has a limit, far above what a processor
 * with VT-x or AMD-V takes, also as a guest itself (nested), and far below emulation. What counts is the thread's CPU
 * time, guest code included, so that a busy host is not mistaken for a slow one; and a failure must repeat itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "vm-engine/accel/kvm/kvm-private.h"
#include "vm-engine/accel/kvm/probe.h"
#include "vm-engine/clock.h"

#define N_ATTEMPTS           2
#define DEADLINE_NS          (130 * VM_NS_PER_MS) /* of an attempt */
#define MAX_CPUID_ENTRIES    256
#define TSS_ADDRESS          0xfffbd000u
#define IDENTITY_MAP_ADDRESS 0xfffbc000u

extern const uint8_t vm_kvm_probe_guest[], vm_kvm_probe_guest_end[];
extern const uint64_t vm_kvm_probe_page_fault;

/* What a phase does, how often, and the most that one turn may take. */
static const struct {
  const char *what;
  unsigned count;
  int64_t max_ns;
} phases[PROBE_N_PHASES] = {
  [PROBE_PHASE_REAL] = { "an access to a port", PROBE_EXITS, 500 * VM_NS_PER_US },
  [PROBE_PHASE_REAL_SPIN] = { "an instruction in real mode", 2 * PROBE_SPINS, 1000 },
  [PROBE_PHASE_PROTECTED] = { "the way to protected mode", 1, 100 * VM_NS_PER_MS },
  [PROBE_PHASE_PROTECTED_SPIN] = { "an instruction in protected mode", 2 * PROBE_SPINS, 200 },
  [PROBE_PHASE_LONG] = { "the way to 64-bit mode", 1, 100 * VM_NS_PER_MS },
  [PROBE_PHASE_LONG_SPIN] = { "an instruction in 64-bit mode", 2 * PROBE_SPINS, 200 },
  [PROBE_PHASE_MSRS] = { "setting the GS bases", PROBE_ROUNDS, 100 * VM_NS_PER_US },
  [PROBE_PHASE_REMAP] = { "changing a page's mapping", PROBE_ROUNDS, 100 * VM_NS_PER_US },
  [PROBE_PHASE_FAULTS] = { "a page fault", PROBE_ROUNDS, 200 * VM_NS_PER_US },
  [PROBE_PHASE_CR3] = { "changing page tables", PROBE_ROUNDS, 100 * VM_NS_PER_US },
  [PROBE_PHASE_SYSCALLS] = { "a system call", PROBE_ROUNDS, 50 * VM_NS_PER_US },
};

typedef struct Probe {
  int kvm_fd, vm_fd, cpu_fd;
  uint8_t *ram;
  struct kvm_run *run;
  size_t run_bytes;
  timer_t timer;
  bool has_timer;
  struct sigaction old_action;
  int64_t deadline_ns;
} Probe;

static int64_t read_clock(clockid_t id)
{
  struct timespec ts;
  clock_gettime(id, &ts);
  return ts.tv_sec * VM_NS_PER_SEC + ts.tv_nsec;
}

static int64_t now_ns(void)
{
  return read_clock(CLOCK_MONOTONIC);
}
static int64_t thread_ns(void)
{
  return read_clock(CLOCK_THREAD_CPUTIME_ID);
}

/* ---- the machine ------------------------------------------------------------------------------------------------------ */

static void put64(Probe *p, uint32_t at, uint64_t value)
{
  memcpy(p->ram + at, &value, sizeof(value));
}
static void put32(Probe *p, uint32_t at, uint32_t value)
{
  memcpy(p->ram + at, &value, sizeof(value));
}

static void fill_ram(Probe *p)
{
  memcpy(p->ram + PROBE_CODE, vm_kvm_probe_guest, (size_t)(vm_kvm_probe_guest_end - vm_kvm_probe_guest));
  put32(p, PROBE_PAGE_DIR32, 0x83); /* 4 MiB pages, both of the first memory */
  put32(p, PROBE_PAGE_DIR32 + 4, 0x83);
  put64(p, PROBE_PML4, PROBE_PDPT | 7);
  put64(p, PROBE_PML4_OTHER, PROBE_PDPT | 7);
  put64(p, PROBE_PDPT, PROBE_PAGE_DIR | 7);
  put64(p, PROBE_PAGE_DIR, PROBE_PT | 7);
  for (uint32_t i = 0; i < PROBE_RAM_BYTES / 4096; i++)
    put64(p, PROBE_PT + 8 * i, (uint64_t)i << 12 | 7);
  uint64_t handler = vm_kvm_probe_page_fault;
  put64(p, PROBE_IDT + 14 * 16,
        (handler & 0xffff) | 0x18 << 16 | UINT64_C(0x8e00) << 32 | (handler >> 16 & 0xffff) << 48);
  put64(p, PROBE_IDT + 14 * 16 + 8, handler >> 32);
  put64(p, PROBE_DATA2, 0x3333);
}

static bool set_cpuid(Probe *p)
{
  g_autofree struct kvm_cpuid2 *list = g_malloc0(sizeof(*list) + MAX_CPUID_ENTRIES * sizeof(list->entries[0]));
  list->nent = MAX_CPUID_ENTRIES;
  return kvm_ioctl(p->kvm_fd, KVM_GET_SUPPORTED_CPUID, list) == 0 && kvm_ioctl(p->cpu_fd, KVM_SET_CPUID2, list) == 0;
}

static bool set_registers(Probe *p)
{
  struct kvm_sregs sregs;
  struct kvm_regs regs = { .rip = PROBE_CODE, .rflags = 2 };
  if (kvm_ioctl(p->cpu_fd, KVM_GET_SREGS, &sregs) < 0)
    return false;
  sregs.cs.base = 0;
  sregs.cs.selector = 0;
  return kvm_ioctl(p->cpu_fd, KVM_SET_SREGS, &sregs) == 0 && kvm_ioctl(p->cpu_fd, KVM_SET_REGS, &regs) == 0;
}

static bool set_memory(Probe *p)
{
  p->ram = mmap(NULL, PROBE_RAM_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p->ram == MAP_FAILED) {
    p->ram = NULL;
    return false;
  }
  fill_ram(p);
  uint64_t identity_map = IDENTITY_MAP_ADDRESS;
  struct kvm_userspace_memory_region region = { .memory_size = PROBE_RAM_BYTES, .userspace_addr = (uintptr_t)p->ram };
  return kvm_ioctl(p->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) == 0 &&
         kvm_ioctl(p->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_ADDRESS) == 0 &&
         kvm_ioctl(p->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

static bool create_cpu(Probe *p)
{
  p->cpu_fd = kvm_ioctl(p->vm_fd, KVM_CREATE_VCPU, NULL);
  int bytes = p->cpu_fd >= 0 ? kvm_ioctl(p->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL) : -1;
  if (bytes < (int)sizeof(struct kvm_run))
    return false;
  p->run_bytes = (size_t)bytes;
  void *run = mmap(NULL, p->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, p->cpu_fd, 0);
  if (run == MAP_FAILED)
    return false;
  p->run = run;
  return set_cpuid(p) && set_registers(p);
}

/* ---- the deadline --------------------------------------------------------------------------------------------------------- */

static void ignore_signal(int number)
{
  (void)number;
}

/* Signals this thread when the time is up, again and again: one may come between two KVM_RUNs and be lost. */
static void start_timer(Probe *p)
{
  struct sigaction action = { .sa_handler = ignore_signal };
  sigaction(kvm_kick_signal(), &action, &p->old_action);
  struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = kvm_kick_signal() };
  event._sigev_un._tid = gettid();
  p->has_timer = timer_create(CLOCK_MONOTONIC, &event, &p->timer) == 0;
  struct itimerspec spec = { .it_value = { .tv_nsec = DEADLINE_NS }, .it_interval = { .tv_nsec = 10 * VM_NS_PER_MS } };
  if (p->has_timer)
    timer_settime(p->timer, 0, &spec, NULL);
}

static void stop_timer(Probe *p)
{
  if (p->has_timer)
    timer_delete(p->timer);
  if (p->old_action.sa_handler != SIG_DFL) /* else leave ours: a signal may still be on its way */
    sigaction(kvm_kick_signal(), &p->old_action, NULL);
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------ */

/* Runs until the guest reports a phase, which is returned; 0 with `why` if it does something else. */
static unsigned run_to_report(Probe *p, char **why)
{
  while (now_ns() < p->deadline_ns) {
    if (ioctl(p->cpu_fd, KVM_RUN, 0) < 0) {
      if (errno == EINTR || errno == EAGAIN)
        continue;
      *why = g_strdup_printf("the processor cannot run it (KVM_RUN: %s)", g_strerror(errno));
      return 0;
    }
    const struct kvm_run *run = p->run;
    bool is_port = run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_OUT;
    if (is_port && run->io.port == PROBE_PORT)
      return *((const uint8_t *)run + run->io.data_offset);
    if (!is_port && run->exit_reason != KVM_EXIT_INTR) {
      *why = g_strdup_printf("the processor gave up (exit %u)", run->exit_reason);
      return 0;
    }
  }
  *why = g_strdup("it takes far too long");
  return 0;
}

/* NULL: the phase was fast enough. */
static char *judge(unsigned phase, int64_t ns)
{
  int64_t each_ns = ns / phases[phase].count;
  if (each_ns <= phases[phase].max_ns)
    return NULL;
  return g_strdup_printf("%s takes %" PRId64 " ns, where %" PRId64 " would be slow", phases[phase].what, each_ns,
                         phases[phase].max_ns);
}

static char *run_phases(Probe *p, KvmProbeResult *result)
{
  int64_t last = thread_ns();
  p->deadline_ns = now_ns() + DEADLINE_NS;
  for (unsigned phase = 1; phase < PROBE_N_PHASES; phase++) {
    g_autofree char *why = NULL;
    unsigned reported = run_to_report(p, &why);
    int64_t now = thread_ns();
    result->phase_ns[phase] = now - last;
    last = now;
    if (reported == 0)
      return g_strdup_printf("%s: %s", phases[phase].what, why);
    if (reported != phase)
      return g_strdup_printf("%s gives a wrong result", phases[phase].what);
    char *slow = judge(phase, result->phase_ns[phase]);
    if (slow != NULL)
      return slow;
  }
  return NULL;
}

static void probe_finish(Probe *p)
{
  if (p->run != NULL)
    munmap(p->run, p->run_bytes);
  const int fds[] = { p->cpu_fd, p->vm_fd, p->kvm_fd };
  for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++)
    if (fds[i] >= 0)
      close(fds[i]);
  if (p->ram != NULL)
    munmap(p->ram, PROBE_RAM_BYTES);
}

static char *probe_once(KvmProbeResult *result)
{
  Probe p = { .kvm_fd = -1, .vm_fd = -1, .cpu_fd = -1 };
  g_autoptr(GError) error = NULL;
  char *why = NULL;
  p.kvm_fd = kvm_open(&error);
  if (p.kvm_fd >= 0)
    p.vm_fd = kvm_create_vm(p.kvm_fd, &error);
  if (error != NULL) {
    why = g_strdup(error->message);
  } else if (!set_memory(&p) || !create_cpu(&p)) {
    why = g_strdup_printf("KVM cannot make a test machine: %s", g_strerror(errno));
  } else {
    start_timer(&p);
    g_autofree char *detail = run_phases(&p, result);
    stop_timer(&p);
    if (detail != NULL)
      why = g_strdup_printf("this computer has /dev/kvm, but it does not run ordinary systems well (%s)", detail);
  }
  probe_finish(&p);
  return why;
}

char *vm_kvm_probe(KvmProbeResult *result)
{
  char *why = NULL;
  for (unsigned attempt = 0; attempt < N_ATTEMPTS && (attempt == 0 || why != NULL); attempt++) {
    KvmProbeResult own = { 0 };
    g_free(why);
    why = probe_once(&own);
    if (result != NULL)
      *result = own;
  }
  return why;
}

bool vm_kvm_available(GError **error)
{
  int kvm_fd = kvm_open(error);
  if (kvm_fd < 0)
    return false;
  int vm_fd = kvm_create_vm(kvm_fd, error);
  if (vm_fd >= 0)
    close(vm_fd);
  close(kvm_fd);
  return vm_fd >= 0;
}
