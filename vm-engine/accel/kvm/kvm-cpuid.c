/*
 * CPUID under KVM: the features that the host supports for guests, less those whose state X86Cpu does not hold, since a
 * saved machine could not be resumed with them. The processor goes by the host's own vendor and model, so that guests
 * guard themselves against what that processor suffers from.
 */
#include <errno.h>

#include "vm-engine/accel/kvm/kvm-private.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/tsc.h"

#define MAX_ENTRIES             256
#define LEAF1_ECX_X2APIC        (1u << 21)
#define LEAF1_ECX_TSC_DEADLINE  (1u << 24)
#define LEAF1_ECX_HYPERVISOR    (1u << 31)
#define LEAF1_EDX_APIC          (1u << 9)
#define KVM_FEATURE_NO_IO_DELAY (1u << 1) /* guests need not write to port 0x80 to wait */

/* What X86Cpu holds: by name in the manuals' order of bits. */
#define ALLOWED_1_EDX 0x178bfbffu /* FPU … PSE36, CLFSH, MMX, FXSR, SSE, SSE2, HTT; no DS, ACPI, SS */
#define ALLOWED_1_ECX                                                                                                  \
  (1u << 0 | 1u << 1 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 17 | 1u << 19 | 1u << 20 | 1u << 22 | 1u << 23 |          \
   1u << 25 | 1u << 26 | 1u << 28 | 1u << 29 | 1u << 30) /* SSE3 … AVX, PCID, MOVBE, XSAVE; no VMX, MONITOR, PDCM */
#define ALLOWED_7_EBX                                                                                                  \
  (1u << 0 | 1u << 1 | 1u << 3 | 1u << 5 | 1u << 7 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 18 | 1u << 19 | 1u << 20 |   \
   1u << 23 | 1u << 24 | 1u << 29) /* FSGSBASE … INVPCID, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA; no TSX, AVX-512 */
#define ALLOWED_7_ECX  (1u << 2 | 1u << 8 | 1u << 9 | 1u << 10 | 1u << 22) /* UMIP, GFNI, VAES, VPCLMULQDQ, RDPID */
#define ALLOWED_7_EDX  (1u << 4 | 1u << 10 | 1u << 26 | 1u << 27 | 1u << 29 | 1u << 31) /* FSRM, speculation controls */
#define ALLOWED_D1_EAX 7u /* XSAVEOPT, XSAVEC, XGETBV with ECX 1; no XSAVES */
#define ALLOWED_81_EDX (0x0183f3ffu | 1u << 11 | 1u << 20 | 1u << 22 | 1u << 25 | 1u << 26 | 1u << 27 | 1u << 29)
#define ALLOWED_81_ECX (1u << 0 | 1u << 1 | 1u << 4 | 1u << 5 | 1u << 6 | 1u << 7 | 1u << 8) /* LAHF … 3DNOWPREFETCH */
#define ALLOWED_88_EBX (1u << 0 | 1u << 2 | 1u << 12 | 1u << 14 | 1u << 15 | 1u << 24) /* CLZERO, IBPB, IBRS, SSBD … */

static struct kvm_cpuid2 *read_supported(const VmAccel *accel)
{
  struct kvm_cpuid2 *list = g_malloc0(sizeof(*list) + MAX_ENTRIES * sizeof(list->entries[0]));
  list->nent = MAX_ENTRIES;
  if (kvm_ioctl(accel->kvm_fd, KVM_GET_SUPPORTED_CPUID, list) < 0)
    g_clear_pointer(&list, g_free);
  return list;
}

static struct kvm_cpuid_entry2 find(const struct kvm_cpuid2 *list, uint32_t leaf, uint32_t subleaf)
{
  for (unsigned i = 0; i < list->nent; i++)
    if (list->entries[i].function == leaf && list->entries[i].index == subleaf)
      return list->entries[i];
  return (struct kvm_cpuid_entry2){ 0 };
}

static void read_tsc_rate(VmAccel *accel)
{
  int khz = kvm_ioctl(accel->vm_fd, KVM_GET_TSC_KHZ, NULL);
  if (khz <= 0)
    khz = (int)(VM_TSC_HZ / 1000);
  accel->features.tsc_khz = (uint32_t)khz;
  accel->tsc_hz = (uint64_t)khz * 1000;
}

bool kvm_read_features(VmAccel *accel, GError **error)
{
  g_autofree struct kvm_cpuid2 *list = read_supported(accel);
  if (list == NULL) {
    g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
                "KVM cannot be used: asking for the processor's features (KVM_GET_SUPPORTED_CPUID): %s",
                g_strerror(errno));
    return false;
  }
  X86CpuidFeatures *f = &accel->features;
  struct kvm_cpuid_entry2 e = find(list, 0, 0);
  memcpy(f->vendor, &e.ebx, 4);
  memcpy(f->vendor + 4, &e.edx, 4);
  memcpy(f->vendor + 8, &e.ecx, 4);
  e = find(list, 1, 0);
  f->signature = e.eax;
  f->leaf1_edx = (e.edx & ALLOWED_1_EDX) | LEAF1_EDX_APIC;
  f->leaf1_ecx = (e.ecx & ALLOWED_1_ECX) | LEAF1_ECX_HYPERVISOR;
  if (accel->has_user_msrs)
    f->leaf1_ecx |= LEAF1_ECX_X2APIC | LEAF1_ECX_TSC_DEADLINE;
  e = find(list, 7, 0);
  f->leaf7_ebx = e.ebx & ALLOWED_7_EBX;
  f->leaf7_ecx = e.ecx & ALLOWED_7_ECX;
  f->leaf7_edx = e.edx & ALLOWED_7_EDX;
  f->leaf_d1_eax = find(list, 0xd, 1).eax & ALLOWED_D1_EAX;
  e = find(list, 0x80000001, 0);
  f->ext1_edx = e.edx & ALLOWED_81_EDX;
  f->ext1_ecx = e.ecx & ALLOWED_81_ECX;
  e = find(list, 0x80000008, 0);
  f->phys_bits = CLAMP(e.eax & 0xff, 32, 52);
  f->ext8_ebx = e.ebx & ALLOWED_88_EBX;
  f->kvm_features = KVM_FEATURE_NO_IO_DELAY;
  read_tsc_rate(accel);
  return true;
}

/* The leaves to tell, and how many subleaves of each. */
static const struct {
  uint32_t first, last, n_subleaves;
} ranges[] = { { 0, 3, 1 },
               { 4, 4, 4 },
               { 5, 6, 1 },
               { 7, 7, 1 },
               { 8, 0xa, 1 },
               { 0xb, 0xb, 3 },
               { 0xc, 0xc, 1 },
               { 0xd, 0xd, 3 },
               { 0xe, 0x16, 1 },
               { 0x40000000, 0x40000001, 1 },
               { 0x80000000, 0x80000008, 1 } };

static void add_entries(const KvmCpu *kc, uint32_t leaf, uint32_t n_subleaves, struct kvm_cpuid2 *list)
{
  X86CpuidTopology topology = { kc->vcpu->index, MAX(vm_get_n_cpus(kc->vcpu->vm), kc->vcpu->index + 1) };
  for (uint32_t subleaf = 0; subleaf < n_subleaves; subleaf++) {
    uint32_t out[4];
    x86_cpuid(kc->vcpu->x86, &kc->accel->features, &topology, 0xfee00900, leaf, subleaf, out);
    list->entries[list->nent++] =
        (struct kvm_cpuid_entry2){ .function = leaf,
                                   .index = subleaf,
                                   .flags = n_subleaves > 1 ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
                                   .eax = out[0],
                                   .ebx = out[1],
                                   .ecx = out[2],
                                   .edx = out[3] };
  }
}

bool kvm_set_cpuid(KvmCpu *kc, GError **error)
{
  g_autofree struct kvm_cpuid2 *list = g_malloc0(sizeof(*list) + MAX_ENTRIES * sizeof(list->entries[0]));
  for (unsigned i = 0; i < G_N_ELEMENTS(ranges); i++)
    for (uint32_t leaf = ranges[i].first; leaf <= ranges[i].last; leaf++)
      add_entries(kc, leaf, ranges[i].n_subleaves, list);
  if (kvm_ioctl(kc->fd, KVM_SET_CPUID2, list) == 0)
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED, "KVM cannot be used: describing CPU %u (KVM_SET_CPUID2): %s",
              kc->vcpu->index, g_strerror(errno));
  return false;
}
