/*
 * KVM: opening the host's device, making the machine and its CPUs.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm-engine/accel/kvm/kvm-private.h"
#include "vm-engine/vm.h"

/* Three pages and one that processors without "unrestricted guest" need of the guest's space; between the devices and
 * the firmware at the end of the first 4 GiB, where no guest looks. */
#define TSS_ADDRESS          0xfffbd000u
#define IDENTITY_MAP_ADDRESS 0xfffbc000u

int kvm_ioctl(int fd, unsigned long request, void *argument)
{
  int result;
  do
    result = ioctl(fd, request, argument);
  while (result < 0 && errno == EINTR);
  return result;
}

int kvm_check(const VmAccel *accel, unsigned capability)
{
  int value = kvm_ioctl(accel->vm_fd, KVM_CHECK_EXTENSION, (void *)(uintptr_t)capability);
  return MAX(value, 0);
}

/* "KVM: what: errno's text; what to do". */
static bool fail(GError **error, const char *what, const char *remedy)
{
  g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED, "KVM cannot be used: %s: %s%s%s", what, g_strerror(errno),
              remedy[0] != '\0' ? "; " : "", remedy);
  return false;
}

int kvm_open(GError **error)
{
  int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
  if (fd < 0) {
    const char *remedy = "";
    if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
      remedy = "switch virtualization (VT-x, AMD-V or SVM) on in the firmware's setup and load kvm-intel or kvm-amd";
    else if (errno == EACCES || errno == EPERM)
      remedy = "add yourself to the group that owns it (sudo usermod -aG kvm $USER) and log in again";
    fail(error, "opening /dev/kvm", remedy);
    return -1;
  }
  int version = kvm_ioctl(fd, KVM_GET_API_VERSION, NULL);
  if (version == KVM_API_VERSION)
    return fd;
  g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
              "KVM cannot be used: /dev/kvm speaks version %d of its interface, Oriel version %d; "
              "update this computer's kernel",
              version, KVM_API_VERSION);
  close(fd);
  return -1;
}

int kvm_create_vm(int kvm_fd, GError **error)
{
  int fd = kvm_ioctl(kvm_fd, KVM_CREATE_VM, NULL);
  if (fd >= 0)
    return fd;
  const char *remedy = "";
  if (errno == EBUSY)
    remedy = "another hypervisor (VirtualBox, VMware …) holds the processor's virtualization: stop its machines";
  else if (errno == ENOMEM)
    remedy = "close other programs to free memory";
  fail(error, "making a machine (KVM_CREATE_VM)", remedy);
  return -1;
}

/* ---- the machine -------------------------------------------------------------------------------------------------------- */

static bool need_capability(VmAccel *accel, unsigned capability, const char *name, GError **error)
{
  if (kvm_check(accel, capability) > 0)
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED, "KVM cannot be used: this computer's kernel lacks %s; update it",
              name);
  return false;
}

static bool check_capabilities(VmAccel *accel, GError **error)
{
  static const struct {
    unsigned capability;
    const char *name;
  } needed[] = {
    { KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY" },
    { KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT" },
    { KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID" },
    { KVM_CAP_SYNC_MMU, "KVM_CAP_SYNC_MMU" },
  };
  for (unsigned i = 0; i < G_N_ELEMENTS(needed); i++)
    if (!need_capability(accel, needed[i].capability, needed[i].name, error))
      return false;
  accel->has_readonly = kvm_check(accel, KVM_CAP_READONLY_MEM) > 0;
  accel->has_xsave = kvm_check(accel, KVM_CAP_XSAVE) > 0;
  accel->has_xcrs = kvm_check(accel, KVM_CAP_XCRS) > 0;
  accel->has_debugregs = kvm_check(accel, KVM_CAP_DEBUGREGS) > 0;
  accel->has_events = kvm_check(accel, KVM_CAP_VCPU_EVENTS) > 0;
  accel->coalesced_page = (uint32_t)kvm_check(accel, KVM_CAP_COALESCED_MMIO);
  return true;
}

static void read_msr_list(VmAccel *accel)
{
  struct kvm_msr_list probe = { 0 };
  kvm_ioctl(accel->kvm_fd, KVM_GET_MSR_INDEX_LIST, &probe); /* fails with E2BIG and says how many */
  unsigned n = MIN(probe.nmsrs, 4096);
  g_autofree struct kvm_msr_list *list = g_malloc0(sizeof(*list) + n * sizeof(uint32_t));
  list->nmsrs = n;
  if (kvm_ioctl(accel->kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0)
    return;
  accel->n_msrs = MIN(list->nmsrs, n);
  accel->msrs = g_new(uint64_t, accel->n_msrs);
  for (unsigned i = 0; i < accel->n_msrs; i++)
    accel->msrs[i] = list->indices[i];
}

/*
 * The local APIC is ours, so are its MSRs. KVM itself hands over accesses that it refuses (x2APIC's range, which it does
 * not filter), and by the filter those that it would serve: APIC base and TSC deadline, and writes to the TSC, after
 * which the counter's offset has to be read anew.
 */
static void route_msrs(VmAccel *accel)
{
  uint64_t reasons = (uint64_t)kvm_check(accel, KVM_CAP_X86_USER_SPACE_MSR) > 0
                         ? KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER
                         : 0;
  if (reasons == 0 || kvm_check(accel, KVM_CAP_X86_MSR_FILTER) <= 0)
    return;
  struct kvm_enable_cap cap = { .cap = KVM_CAP_X86_USER_SPACE_MSR, .args = { reasons } };
  if (kvm_ioctl(accel->vm_fd, KVM_ENABLE_CAP, &cap) < 0)
    return;
  uint8_t deny[8] = { 0 }; /* a bit for each MSR of a range: clear, denied */
  const uint32_t rw = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
  struct kvm_msr_filter filter = {
    .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
    .ranges = { { rw, 1, 0x1b, deny },
                { rw, 1, 0x6e0, deny },
                { KVM_MSR_FILTER_WRITE, 1, 0x10, deny },
                { KVM_MSR_FILTER_WRITE, 1, 0x3b, deny } },
  };
  accel->has_user_msrs = kvm_ioctl(accel->vm_fd, KVM_X86_SET_MSR_FILTER, &filter) == 0;
}

static void ignore_signal(int number)
{
  (void)number;
}

/* Near the end of the real-time range, away from what libraries use. */
int kvm_kick_signal(void)
{
  return SIGRTMAX - 3;
}

/* The signal has nothing to do: that it arrives makes KVM_RUN return. */
static void install_kick_handler(void)
{
  struct sigaction action = { .sa_handler = ignore_signal, .sa_flags = SA_RESTART };
  sigaction(kvm_kick_signal(), &action, NULL);
}

static bool open_machine(VmAccel *accel, GError **error)
{
  accel->kvm_fd = kvm_open(error);
  if (accel->kvm_fd < 0)
    return false;
  accel->vm_fd = kvm_create_vm(accel->kvm_fd, error);
  if (accel->vm_fd < 0)
    return false;
  uint64_t identity_map = IDENTITY_MAP_ADDRESS;
  if (kvm_ioctl(accel->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0 ||
      kvm_ioctl(accel->vm_fd, KVM_SET_TSS_ADDR, (void *)(uintptr_t)TSS_ADDRESS) < 0)
    return fail(error, "reserving pages of the guest for the processor (KVM_SET_TSS_ADDR)", "");
  int bytes = kvm_ioctl(accel->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, NULL);
  if (bytes < (int)sizeof(struct kvm_run))
    return fail(error, "asking for the size of a CPU's mapping (KVM_GET_VCPU_MMAP_SIZE)", "");
  accel->run_bytes = (size_t)bytes;
  return true;
}

static void kvm_destroy(VmAccel *accel)
{
  if (accel == NULL)
    return;
  kvm_slots_finish(accel);
  if (accel->vm_fd >= 0)
    close(accel->vm_fd);
  if (accel->kvm_fd >= 0)
    close(accel->kvm_fd);
  g_free(accel->msrs);
  g_mutex_clear(&accel->ring_mutex);
  g_free(accel);
}

static VmAccel *kvm_create(Vm *vm, GError **error)
{
  VmAccel *accel = g_new0(VmAccel, 1);
  accel->vm = vm;
  accel->kvm_fd = accel->vm_fd = -1;
  g_mutex_init(&accel->ring_mutex);
  if (!open_machine(accel, error) || !check_capabilities(accel, error)) {
    kvm_destroy(accel);
    return NULL;
  }
  install_kick_handler();
  read_msr_list(accel);
  route_msrs(accel);
  if (!kvm_read_features(accel, error)) {
    kvm_destroy(accel);
    return NULL;
  }
  kvm_slots_init(accel);
  return accel;
}

/* ---- CPUs ------------------------------------------------------------------------------------------------------------------ */

static void kvm_cpu_destroy(VmCpu *cpu)
{
  KvmCpu *kc = kvm_cpu(cpu);
  if (kc != NULL) {
    if (kc->run != NULL) {
      g_mutex_lock(&kc->accel->ring_mutex);
      if (cpu->index == 0)
        atomic_store(&kc->accel->ring, NULL);
      g_mutex_unlock(&kc->accel->ring_mutex);
      munmap(kc->run, kc->accel->run_bytes);
    }
    if (kc->fd >= 0)
      close(kc->fd);
    g_free(kc);
  }
  g_aligned_free(cpu->x86);
  cpu->x86 = NULL;
  cpu->accel_cpu = NULL;
}

static bool open_cpu(KvmCpu *kc, GError **error)
{
  VmAccel *accel = kc->accel;
  kc->fd = kvm_ioctl(accel->vm_fd, KVM_CREATE_VCPU, (void *)(uintptr_t)kc->vcpu->index);
  if (kc->fd < 0)
    return fail(error, "making a CPU (KVM_CREATE_VCPU)", errno == EINVAL ? "give the machine fewer CPUs" : "");
  void *run = mmap(NULL, accel->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, kc->fd, 0);
  if (run == MAP_FAILED)
    return fail(error, "mapping a CPU's run structure", "");
  kc->run = run;
  if (accel->coalesced_page != 0 && (accel->coalesced_page + 1) * (size_t)VM_PAGE_SIZE <= accel->run_bytes &&
      kc->vcpu->index == 0)
    atomic_store(&accel->ring, (void *)((uint8_t *)run + accel->coalesced_page * (size_t)VM_PAGE_SIZE));
  return true;
}

static bool kvm_cpu_create(VmAccel *accel, VmCpu *cpu, GError **error)
{
  KvmCpu *kc = g_new0(KvmCpu, 1);
  *kc = (KvmCpu){ .vcpu = cpu, .accel = accel, .fd = -1, .load_pending = true };
  cpu->accel_cpu = kc;
  cpu->x86 = g_aligned_alloc0(1, sizeof(X86Cpu), _Alignof(X86Cpu));
  x86_cpu_reset(cpu->x86, cpu->index == 0, false);
  if (open_cpu(kc, error))
    return true;
  kvm_cpu_destroy(cpu);
  return false;
}

static void kvm_cpu_load(VmCpu *cpu)
{
  kvm_cpu(cpu)->load_pending = true;
  kvm_cpu(cpu)->completion_pending = false;
}

static void kvm_cpu_store(VmCpu *cpu)
{
  if (!kvm_cpu(cpu)->load_pending)
    kvm_get_state(kvm_cpu(cpu));
}

static uint64_t kvm_get_tsc_hz(VmAccel *accel)
{
  return accel->tsc_hz;
}

static uint64_t kvm_cpu_get_tsc(VmCpu *cpu)
{
  return __builtin_ia32_rdtsc() + atomic_load_explicit(&kvm_cpu(cpu)->tsc_offset, memory_order_relaxed);
}

static char *kvm_dup_description(VmAccel *accel)
{
  return g_strdup_printf("accelerator: kvm\nmemory slots: %u\nTSC: %" PRIu64 " MHz\nx2APIC, TSC deadline: %s\n",
                         accel->slots->len, accel->tsc_hz / 1000000, accel->has_user_msrs ? "yes" : "no");
}

const VmAccelOps vm_accel_kvm = {
  .name = "kvm",
  .create = kvm_create,
  .destroy = kvm_destroy,
  .cpu_create = kvm_cpu_create,
  .cpu_destroy = kvm_cpu_destroy,
  .cpu_run = kvm_cpu_run,
  .cpu_kick = kvm_cpu_kick,
  .cpu_load = kvm_cpu_load,
  .cpu_store = kvm_cpu_store,
  .dup_description = kvm_dup_description,
  .flush_writes = kvm_flush_writes,
  .get_tsc_hz = kvm_get_tsc_hz,
  .cpu_get_tsc = kvm_cpu_get_tsc,
};
