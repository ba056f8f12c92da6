/*
 * What the translator says it can run, and the instructions that ask: CPUID, RDRAND, RDSEED.
 */
#include <sys/random.h>

#include "vm-engine/accel/tcg/guest/x86/sys.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"

#define BIT(n) (1u << (n))

const X86CpuidFeatures x86_tcg_features = {
  .leaf1_edx = BIT(0) /* FPU */ | BIT(1) /* VME */ | BIT(2) /* DE */ | BIT(3) /* PSE */ | BIT(4) /* TSC */ |
               BIT(5) /* MSR */ | BIT(6) /* PAE */ | BIT(7) /* MCE */ | BIT(8) /* CX8 */ | BIT(9) /* APIC */ |
               BIT(11) /* SEP */ | BIT(12) /* MTRR */ | BIT(13) /* PGE */ | BIT(14) /* MCA */ | BIT(15) /* CMOV */ |
               BIT(16) /* PAT */ | BIT(17) /* PSE-36 */ | BIT(19) /* CLFSH */ | BIT(23) /* MMX */ | BIT(24) /* FXSR */ |
               BIT(25) /* SSE */ | BIT(26) /* SSE2 */,
  .leaf1_ecx = BIT(0) /* SSE3 */ | BIT(1) /* PCLMULQDQ */ | BIT(9) /* SSSE3 */ | BIT(13) /* CX16 */ |
               BIT(19) /* SSE4.1 */ | BIT(20) /* SSE4.2 */ | BIT(21) /* x2APIC */ | BIT(22) /* MOVBE */ |
               BIT(23) /* POPCNT */ | BIT(24) /* TSC deadline */ | BIT(25) /* AES */ | BIT(30) /* RDRAND */ |
               BIT(31) /* hypervisor */,
  .leaf7_ebx = BIT(0) /* FSGSBASE */ | BIT(1) /* TSC_ADJUST */ | BIT(3) /* BMI1 */ | BIT(7) /* SMEP */ |
               BIT(8) /* BMI2 */ | BIT(9) /* ERMS */ | BIT(18) /* RDSEED */ | BIT(19) /* ADX */ | BIT(20) /* SMAP */ |
               BIT(23) /* CLFLUSHOPT */,
  .leaf7_ecx = BIT(2) /* UMIP */ | BIT(22) /* RDPID */,
  .ext1_edx = BIT(11) /* SYSCALL */ | BIT(20) /* NX */ | BIT(26) /* 1 GiB pages */ | BIT(27) /* RDTSCP */ |
              BIT(29) /* long mode */,
  .ext1_ecx = BIT(0) /* LAHF in 64-bit mode */ | BIT(5) /* LZCNT */ | BIT(8) /* PREFETCHW */,
};

uint64_t helper_cpuid(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint64_t *gpr = cpu->x86.gpr;
  X86CpuidTopology topology = { .cpu_index = 0, .n_cpus = 1 };
  uint32_t out[4];

  if (cpu->vcpu) {
    topology.cpu_index = cpu->vcpu->index;
    topology.n_cpus = vm_get_n_cpus(cpu->vcpu->vm);
  }
  x86_cpuid(&cpu->x86, &x86_tcg_features, &topology, sys_get_apic_base(cpu), (uint32_t)gpr[X86_RAX],
            (uint32_t)gpr[X86_RCX], out);
  gpr[X86_RAX] = out[0];
  gpr[X86_RBX] = out[1];
  gpr[X86_RCX] = out[2];
  gpr[X86_RDX] = out[3];
  return 0;
}

/* CF says that the value is good; a host without entropy leaves 0 and CF clear, as the instruction does. */
uint64_t helper_rdrand(TcgCpu *cpu, uint64_t size, uint64_t b, uint64_t c)
{
  uint64_t value = 0;
  size_t wanted = MIN(size, sizeof value);
  bool ok = getrandom(&value, wanted, GRND_NONBLOCK) == (ssize_t)wanted;

  cpu->flags = tcg_pack_flags(ok ? X86_F_CF : 0);
  return ok ? value : 0;
}
