/* CPUID: what all guests read first must hang together. */
#include "vm-engine/x86/cpu.h"
#include "vm-engine/x86/tsc.h"

static const X86CpuidFeatures all_features = {
  .leaf1_edx = 0x178bfbff, .leaf1_ecx = 0x1f982203, .leaf7_ebx = 1, .ext1_edx = 0x2c100800, .leaf_d1_eax = 7
};

static void ask(const X86CpuidFeatures *f, unsigned index, unsigned n, uint64_t xcr0, uint32_t leaf, uint32_t subleaf,
                uint32_t out[4])
{
  X86Cpu *cpu = g_aligned_alloc0(1, sizeof(X86Cpu), 64);
  X86CpuidTopology topology = { index, n };
  cpu->xcr0 = xcr0;
  cpu->cr4 = X86_CR4_OSXSAVE;
  x86_cpuid(cpu, f, &topology, 0xfee00900, leaf, subleaf, out);
  g_aligned_free(cpu);
}

static void test_tsc_ratio(void)
{
  static const uint32_t rates[] = { 0, 2000000, 2499998, 3999999, 800000, 4200001, 2394377 };
  for (unsigned i = 0; i < G_N_ELEMENTS(rates); i++) {
    X86CpuidFeatures f = { .tsc_khz = rates[i] };
    uint32_t out[4];
    ask(&f, 0, 1, 1, 0x15, 0, out);
    uint32_t khz = rates[i] != 0 ? rates[i] : VM_TSC_HZ / 1000;
    g_assert_cmpuint(out[0], >, 0);
    g_assert_cmpuint((uint64_t)out[1] * (out[2] / 1000), <=, UINT32_MAX); /* as Linux computes it */
    int64_t told = (int64_t)((uint32_t)(out[1] * (out[2] / 1000)) / out[0]);
    g_assert_cmpint(ABS(told - (int64_t)khz), <=, khz / 1000000 + 1);
  }
}

static void test_topology(void)
{
  uint32_t out[4];
  ask(&all_features, 2, 6, 1, 1, 0, out);
  g_assert_cmphex(out[1] >> 24, ==, 2);
  g_assert_cmpuint(out[1] >> 16 & 0xff, ==, 8);
  g_assert_true(out[3] >> 28 & 1);
  ask(&all_features, 2, 6, 1, 0xb, 1, out);
  g_assert_cmpuint(out[0], ==, 3);
  g_assert_cmpuint(out[1], ==, 6);
  g_assert_cmpuint(out[3], ==, 2);
  ask(&all_features, 0, 1, 1, 1, 0, out);
  g_assert_false(out[3] >> 28 & 1);
}

static void test_xsave(void)
{
  uint32_t out[4];
  ask(&all_features, 0, 1, 7, 0xd, 0, out);
  g_assert_cmphex(out[0], ==, 7);
  g_assert_cmpuint(out[1], ==, 832);
  g_assert_cmpuint(out[2], ==, 832);
  ask(&all_features, 0, 1, 3, 0xd, 0, out);
  g_assert_cmpuint(out[1], ==, 576);
  X86CpuidFeatures none = { 0 };
  ask(&none, 0, 1, 1, 0xd, 0, out);
  g_assert_cmphex(out[0] | out[1] | out[2], ==, 0);
}

static void test_names(void)
{
  uint32_t out[4];
  ask(&all_features, 0, 1, 1, 0, 0, out);
  g_assert_cmpmem(&out[1], 4, "Genu", 4);
  g_assert_cmpmem(&out[3], 4, "ineI", 4);
  g_assert_cmpmem(&out[2], 4, "ntel", 4);
  ask(&all_features, 0, 1, 1, 0x80000002, 0, out);
  g_assert_cmpmem(out, 16, "Oriel Virtual CP", 16);
  static const uint32_t odd[] = { 0x17, 0x3fffffff, 0x40000002, 0x80000009, 0xffffffff };
  for (unsigned i = 0; i < G_N_ELEMENTS(odd); i++) {
    ask(&all_features, 0, 1, 1, odd[i], 0, out);
    g_assert_cmphex(out[0] | out[1] | out[2] | out[3], ==, 0);
  }
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/cpuid/tsc-ratio", test_tsc_ratio);
  g_test_add_func("/cpuid/topology", test_topology);
  g_test_add_func("/cpuid/xsave", test_xsave);
  g_test_add_func("/cpuid/names", test_names);
  return g_test_run();
}
