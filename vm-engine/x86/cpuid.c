/*
 * CPUID (Intel SDM volume 2, "CPUID"; AMD APM volume 3, appendix E), for all accelerators.
 *
 * Which processor to be, where the host's own name is not passed on, decides what code guests run. A guest that thinks
 * the processor can be tricked by speculation (Spectre, Meltdown, MDS, …) puts retpolines, page-table isolation and
 * buffer clearing into its hot paths, which a translated CPU pays for and gains nothing from: translated code is not
 * what the host's predictors see. The name of an in-order processor, Intel's first Atom (family 6, model 28, stepping
 * 10), is on every system's list of processors without such problems, however old the system; it is 64-bit, asks for
 * no microcode, and its errata are fixed in this stepping. What the CPU can do is told by the feature bits, as always,
 * and reaches beyond that Atom.
 *
 * The topology is one package of n cores with one thread each. Leaves that say nothing read as zero.
 */
#include <string.h>

#include "vm-engine/x86/cpu.h"
#include "vm-engine/x86/tsc.h"

#define MAX_BASIC_LEAF      0x16u
#define MAX_EXTENDED_LEAF   0x80000008u
#define MAX_HYPERVISOR_LEAF 0x40000001u
#define CRYSTAL_HZ          1000000000u /* also the local APIC timer's clock: Linux takes one for the other */

#define LEAF1_EDX_APIC    (1u << 9)
#define LEAF1_EDX_HTT     (1u << 28)
#define LEAF1_ECX_MONITOR (1u << 3)
#define LEAF1_ECX_XSAVE   (1u << 26)
#define LEAF1_ECX_OSXSAVE (1u << 27)
#define LEAF1_ECX_AVX     (1u << 28)
#define LEAF7_ECX_OSPKE   (1u << 4)
#define APIC_BASE_ENABLE  (1u << 11)

enum { EAX, EBX, ECX, EDX };

typedef struct Query {
  const X86Cpu *cpu;
  const X86CpuidFeatures *features;
  X86CpuidTopology topology;
  uint64_t apic_base;
  uint32_t leaf, subleaf;
} Query;

/* Bits that are needed to count to `n`. */
static unsigned width_of(unsigned n)
{
  unsigned bits = 0;
  while ((1u << bits) < n)
    bits++;
  return bits;
}

static uint32_t four_chars(const char *text)
{
  uint32_t value;
  memcpy(&value, text, 4);
  return value;
}

static void leaf_vendor(const Query *q, uint32_t *out)
{
  const char *vendor = q->features->vendor[0] != '\0' ? q->features->vendor : X86_VENDOR;
  out[EAX] = MAX_BASIC_LEAF;
  out[EBX] = four_chars(vendor);
  out[EDX] = four_chars(vendor + 4);
  out[ECX] = four_chars(vendor + 8);
}

static void leaf_features(const Query *q, uint32_t *out)
{
  const X86CpuidFeatures *f = q->features;
  unsigned n_ids = 1u << width_of(q->topology.n_cpus);
  out[EAX] = f->signature != 0 ? f->signature : X86_SIGNATURE;
  out[EBX] = q->topology.cpu_index << 24 | n_ids << 16 | 8 << 8; /* APIC ID, IDs a package, CLFLUSH of 8 quadwords */
  out[ECX] = f->leaf1_ecx & ~LEAF1_ECX_OSXSAVE;
  if ((f->leaf1_ecx & LEAF1_ECX_XSAVE) && (q->cpu->cr4 & X86_CR4_OSXSAVE))
    out[ECX] |= LEAF1_ECX_OSXSAVE;
  out[EDX] = f->leaf1_edx & ~(LEAF1_EDX_APIC | LEAF1_EDX_HTT);
  if (q->apic_base & APIC_BASE_ENABLE)
    out[EDX] |= LEAF1_EDX_APIC & f->leaf1_edx;
  if (q->topology.n_cpus > 1)
    out[EDX] |= LEAF1_EDX_HTT;
}

/* Leaf 2: L1 instruction and data caches of 32 KiB, L2 of 2 MiB; leaf 4 says the same in detail. */
static void leaf_cache_descriptors(const Query *q, uint32_t *out)
{
  out[EAX] = 0x2c307d01;
}

static void leaf_caches(const Query *q, uint32_t *out)
{
  static const struct {
    uint32_t type, level, ways, sets;
    bool shared;
  } caches[] = { { 1, 1, 8, 64, false }, { 2, 1, 8, 64, false }, { 3, 2, 8, 4096, true } };
  if (q->subleaf >= sizeof(caches) / sizeof(caches[0]))
    return;
  uint32_t n_ids = (1u << width_of(q->topology.n_cpus)) - 1;
  out[EAX] = caches[q->subleaf].type | caches[q->subleaf].level << 5 | 1 << 8 | n_ids << 26;
  if (caches[q->subleaf].shared)
    out[EAX] |= n_ids << 14;
  out[EBX] = (caches[q->subleaf].ways - 1) << 22 | (64 - 1);
  out[ECX] = caches[q->subleaf].sets - 1;
}

static void leaf_monitor(const Query *q, uint32_t *out)
{
  if (!(q->features->leaf1_ecx & LEAF1_ECX_MONITOR))
    return;
  out[EAX] = out[EBX] = 64;
}

static void leaf_power(const Query *q, uint32_t *out)
{
  out[EAX] = 1 << 2;
} /* the APIC timer runs in every sleep state */

static void leaf_features7(const Query *q, uint32_t *out)
{
  if (q->subleaf != 0)
    return;
  out[EBX] = q->features->leaf7_ebx;
  out[ECX] = q->features->leaf7_ecx & ~LEAF7_ECX_OSPKE;
  if (q->cpu->cr4 & X86_CR4_PKE)
    out[ECX] |= LEAF7_ECX_OSPKE & q->features->leaf7_ecx << 1;
  out[EDX] = q->features->leaf7_edx;
}

static void leaf_topology(const Query *q, uint32_t *out)
{
  out[ECX] = q->subleaf & 0xff;
  out[EDX] = q->topology.cpu_index;
  if (q->subleaf == 0) {
    out[EBX] = 1;
    out[ECX] |= 1 << 8; /* threads of a core */
  } else if (q->subleaf == 1) {
    out[EAX] = width_of(q->topology.n_cpus);
    out[EBX] = q->topology.n_cpus;
    out[ECX] |= 2 << 8; /* cores of a package */
  }
}

#define XSAVE_LEGACY_BYTES 576u
#define XSAVE_AVX_BYTES    256u

static void leaf_xsave(const Query *q, uint32_t *out)
{
  if (!(q->features->leaf1_ecx & LEAF1_ECX_XSAVE))
    return;
  bool has_avx = (q->features->leaf1_ecx & LEAF1_ECX_AVX) != 0;
  uint32_t now = XSAVE_LEGACY_BYTES + ((q->cpu->xcr0 & 4) ? XSAVE_AVX_BYTES : 0);
  if (q->subleaf == 0) {
    out[EAX] = has_avx ? 7 : 3;
    out[EBX] = now;
    out[ECX] = XSAVE_LEGACY_BYTES + (has_avx ? XSAVE_AVX_BYTES : 0);
  } else if (q->subleaf == 1) {
    out[EAX] = q->features->leaf_d1_eax;
    out[EBX] = now;
  } else if (q->subleaf == 2 && has_avx) {
    out[EAX] = XSAVE_AVX_BYTES;
    out[EBX] = XSAVE_LEGACY_BYTES;
  }
}

static uint32_t tsc_khz(const Query *q)
{
  return q->features->tsc_khz != 0 ? q->features->tsc_khz : (uint32_t)(VM_TSC_HZ / 1000);
}

/* Linux multiplies the crystal's kHz by EBX in 32 bits. */
#define MAX_RATIO_NUMERATOR (UINT32_MAX / (CRYSTAL_HZ / 1000))

/* TSC = crystal * EBX / EAX: the fraction of small numbers that comes nearest, which is within a millionth. */
static void leaf_tsc(const Query *q, uint32_t *out)
{
  const uint64_t crystal_khz = CRYSTAL_HZ / 1000, khz = tsc_khz(q);
  uint64_t best_error = UINT64_MAX, best = 1;
  for (uint64_t divisor = 1; khz * divisor / crystal_khz < MAX_RATIO_NUMERATOR && best_error > 0; divisor++) {
    uint64_t numerator = (khz * divisor + crystal_khz / 2) / crystal_khz;
    uint64_t error = numerator * crystal_khz > khz * divisor ? numerator * crystal_khz - khz * divisor
                                                              : khz * divisor - numerator * crystal_khz;
    if (best_error != UINT64_MAX && error * best >= best_error * divisor)
      continue;
    best_error = error;
    best = divisor;
  }
  out[EAX] = (uint32_t)best;
  out[EBX] = (uint32_t)((khz * best + crystal_khz / 2) / crystal_khz);
  out[ECX] = CRYSTAL_HZ;
}

static void leaf_frequency(const Query *q, uint32_t *out)
{
  out[EAX] = out[EBX] = (tsc_khz(q) + 500) / 1000;
  out[ECX] = 100;
}

static void leaf_hypervisor(const Query *q, uint32_t *out)
{
  const char *name = q->features->kvm_features != 0 ? "KVMKVMKVM\0\0" : "OrielVirtual";
  if (q->leaf == 0x40000001) {
    out[EAX] = q->features->kvm_features;
    return;
  }
  out[EAX] = MAX_HYPERVISOR_LEAF;
  out[EBX] = four_chars(name);
  out[ECX] = four_chars(name + 4);
  out[EDX] = four_chars(name + 8);
}

static void leaf_extended_max(const Query *q, uint32_t *out)
{
  out[EAX] = MAX_EXTENDED_LEAF;
}

static void leaf_extended_features(const Query *q, uint32_t *out)
{
  out[ECX] = q->features->ext1_ecx;
  out[EDX] = q->features->ext1_edx;
}

static void leaf_brand(const Query *q, uint32_t *out)
{
  static const char brand[48] = "Oriel Virtual CPU";
  const char *part = brand + (q->leaf - 0x80000002) * 16;
  for (unsigned i = 0; i < 4; i++)
    out[i] = four_chars(part + 4 * i);
}

static void leaf_l2(const Query *q, uint32_t *out)
{
  out[ECX] = 2048u << 16 | 6 << 12 | 64;
} /* KiB, 8-way, line */

static void leaf_invariant_tsc(const Query *q, uint32_t *out)
{
  out[EDX] = 1 << 8;
}

static void leaf_addresses(const Query *q, uint32_t *out)
{
  out[EAX] = (q->features->phys_bits != 0 ? q->features->phys_bits : 40) | 48 << 8;
  out[EBX] = q->features->ext8_ebx;
}

static const struct {
  uint32_t leaf;
  void (*fill)(const Query *q, uint32_t *out);
} leaves[] = {
  { 0x00000000, leaf_vendor },     { 0x00000001, leaf_features },      { 0x00000002, leaf_cache_descriptors },
  { 0x00000004, leaf_caches },     { 0x00000005, leaf_monitor },       { 0x00000006, leaf_power },
  { 0x00000007, leaf_features7 },  { 0x0000000b, leaf_topology },      { 0x0000000d, leaf_xsave },
  { 0x00000015, leaf_tsc },        { 0x00000016, leaf_frequency },     { 0x40000000, leaf_hypervisor },
  { 0x40000001, leaf_hypervisor }, { 0x80000000, leaf_extended_max },  { 0x80000001, leaf_extended_features },
  { 0x80000002, leaf_brand },      { 0x80000003, leaf_brand },         { 0x80000004, leaf_brand },
  { 0x80000006, leaf_l2 },         { 0x80000007, leaf_invariant_tsc }, { 0x80000008, leaf_addresses },
};

void x86_cpuid(const X86Cpu *cpu, const X86CpuidFeatures *features, const X86CpuidTopology *topology,
               uint64_t apic_base, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
  Query query = { cpu, features, *topology, apic_base, leaf, subleaf };
  memset(out, 0, 4 * sizeof(out[0]));
  for (size_t i = 0; i < sizeof(leaves) / sizeof(leaves[0]); i++)
    if (leaves[i].leaf == leaf)
      leaves[i].fill(&query, out);
}
