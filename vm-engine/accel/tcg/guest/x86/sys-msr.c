/*
 * Model-specific registers. Sources: Intel SDM volume 4; AMD64 APM volume 2, appendix A.
 *
 * Three kinds: those that only hold a value (a table), those with behaviour (the switches), and those of real
 * processors that systems probe without asking CPUID, which read as 0 and take anything. All others fault, as on
 * hardware: systems that probe for them catch that.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/x86/tsc.h"

enum {
  MSR_TSC = 0x10,
  MSR_APIC_BASE = 0x1b,
  MSR_FEATURE_CONTROL = 0x3a,
  MSR_TSC_ADJUST = 0x3b,
  MSR_SPEC_CTRL = 0x48,
  MSR_MICROCODE = 0x8b,
  MSR_MTRR_CAP = 0xfe,
  MSR_SYSENTER_CS = 0x174,
  MSR_SYSENTER_ESP = 0x175,
  MSR_SYSENTER_EIP = 0x176,
  MSR_MCG_CAP = 0x179,
  MSR_MCG_STATUS = 0x17a,
  MSR_MCG_CTL = 0x17b,
  MSR_MISC_ENABLE = 0x1a0,
  MSR_DEBUGCTL = 0x1d9,
  MSR_MTRR_VAR = 0x200,
  MSR_MTRR_FIXED_64K = 0x250,
  MSR_MTRR_FIXED_16K = 0x258,
  MSR_MTRR_FIXED_4K = 0x268,
  MSR_PAT = 0x277,
  MSR_MTRR_DEF_TYPE = 0x2ff,
  MSR_MC_BANKS = 0x400,
  MSR_TSC_DEADLINE = 0x6e0,
  MSR_X2APIC = 0x800,
  MSR_EFER = 0xc0000080,
  MSR_STAR,
  MSR_LSTAR,
  MSR_CSTAR,
  MSR_SFMASK,
  MSR_FS_BASE = 0xc0000100,
  MSR_GS_BASE,
  MSR_KERNEL_GS_BASE,
  MSR_TSC_AUX,
};
#define N_MC_BANKS      10u
#define MCG_CTL_PRESENT (1u << 8)
/* Write-combining, fixed ranges, X86_N_MTRR_VAR variable ones. */
#define MTRR_CAP           (1u << 10 | 1u << 8 | X86_N_MTRR_VAR)
#define MICROCODE_REVISION (UINT64_C(1) << 32)
#define EFER_KNOWN         (X86_EFER_SCE | X86_EFER_LME | X86_EFER_LMA | X86_EFER_NXE)
#define APIC_BASE_DEFAULT  UINT64_C(0xfee00900)

/* ---- those that hold a value ---------------------------------------------------------------------------------------- */

typedef enum StoredKind { STORED_ANY, STORED_32, STORED_CANONICAL, STORED_MEMORY_TYPES } StoredKind;
typedef struct StoredMsr {
  uint32_t index;
  uint32_t offset; /* in X86Cpu */
  StoredKind kind;
} StoredMsr;

#define STORED(index, field, kind)                                                                                     \
  {                                                                                                                    \
    index, offsetof(X86Cpu, field), kind                                                                               \
  }
static const StoredMsr stored_msrs[] = {
  STORED(MSR_FEATURE_CONTROL, feature_control, STORED_ANY),
  STORED(MSR_SPEC_CTRL, spec_ctrl, STORED_ANY),
  STORED(MSR_SYSENTER_CS, sysenter_cs, STORED_ANY),
  STORED(MSR_SYSENTER_ESP, sysenter_esp, STORED_CANONICAL),
  STORED(MSR_SYSENTER_EIP, sysenter_eip, STORED_CANONICAL),
  STORED(MSR_MCG_STATUS, mcg_status, STORED_ANY),
  STORED(MSR_MCG_CTL, mcg_ctl, STORED_ANY),
  STORED(MSR_MISC_ENABLE, misc_enable, STORED_ANY),
  STORED(MSR_DEBUGCTL, debugctl, STORED_ANY),
  STORED(MSR_PAT, pat, STORED_MEMORY_TYPES),
  STORED(MSR_MTRR_DEF_TYPE, mtrr_def_type, STORED_ANY),
  STORED(MSR_STAR, star, STORED_ANY),
  STORED(MSR_LSTAR, lstar, STORED_CANONICAL),
  STORED(MSR_CSTAR, cstar, STORED_CANONICAL),
  STORED(MSR_SFMASK, sfmask, STORED_32),
  STORED(MSR_FS_BASE, seg[X86_FS].base, STORED_CANONICAL),
  STORED(MSR_GS_BASE, seg[X86_GS].base, STORED_CANONICAL),
  STORED(MSR_KERNEL_GS_BASE, kernel_gs_base, STORED_CANONICAL),
  STORED(MSR_TSC_AUX, tsc_aux, STORED_32),
};

static const StoredMsr *find_stored(uint32_t index)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(stored_msrs); i++)
    if (stored_msrs[i].index == index)
      return &stored_msrs[i];
  return NULL;
}

/* PAT: each byte one of UC, WC, WT, WP, WB, UC-. */
static bool are_memory_types(uint64_t value)
{
  for (unsigned i = 0; i < 8; i++) {
    uint8_t type = (uint8_t)(value >> (8 * i));
    if (type > 7 || type == 2 || type == 3)
      return false;
  }
  return true;
}

static bool stored_is_valid(const StoredMsr *msr, uint64_t value)
{
  switch (msr->kind) {
  case STORED_CANONICAL:
    return x86_is_canonical(value);
  case STORED_MEMORY_TYPES:
    return are_memory_types(value);
  default:
    return true;
  }
}

/* The memory type ranges: 8 pairs, 11 fixed. NULL: `index` is none of them. */
static uint64_t *find_mtrr(X86Cpu *x86, uint32_t index)
{
  if (index >= MSR_MTRR_VAR && index < MSR_MTRR_VAR + 2 * X86_N_MTRR_VAR)
    return &x86->mtrr_var[(index - MSR_MTRR_VAR) / 2][index & 1];
  if (index == MSR_MTRR_FIXED_64K)
    return &x86->mtrr_fixed[0];
  if (index == MSR_MTRR_FIXED_16K || index == MSR_MTRR_FIXED_16K + 1)
    return &x86->mtrr_fixed[1 + index - MSR_MTRR_FIXED_16K];
  if (index >= MSR_MTRR_FIXED_4K && index < MSR_MTRR_FIXED_4K + 8)
    return &x86->mtrr_fixed[3 + index - MSR_MTRR_FIXED_4K];
  return NULL;
}

/* ---- those that read as 0 --------------------------------------------------------------------------------------------- */

typedef struct MsrRange {
  uint32_t first, last;
} MsrRange;
static const MsrRange quiet_msrs[] = {
  { 0x0, 0x1 },     /* the Pentium's machine check */
  { 0x17, 0x17 },   /* platform ID */
  { 0x2a, 0x2a },   /* power-on configuration */
  { 0x2c, 0x2c },   /* bus clock, P4 */
  { 0x34, 0x35 },   /* SMI count, core count */
  { 0x79, 0x79 },   /* microcode update trigger */
  { 0xc1, 0xc8 },   /* performance counters */
  { 0xcd, 0xce },   /* bus clock, platform information */
  { 0xe2, 0xe2 },   /* C-state configuration */
  { 0x11e, 0x11e }, /* L2 control */
  { 0x186, 0x18d }, /* performance event selectors */
  { 0x198, 0x19d }, /* performance state, thermal */
  { 0x1ad, 0x1ad }, /* turbo limits */
  { 0x1b0, 0x1b2 }, /* energy bias, package thermal */
  { 0x1c8, 0x1c9 }, /* last branch records */
  { 0x1db, 0x1de },
  { 0x280, 0x280 + N_MC_BANKS - 1 },
  { MSR_MC_BANKS, MSR_MC_BANKS + 4 * N_MC_BANKS - 1 },
  { 0xc0010000, 0xc0010007 }, /* AMD: performance counters */
  { 0xc0010010, 0xc0010010 }, /* AMD: SYSCFG */
  { 0xc0010015, 0xc001001f }, /* AMD: HWCR, IORR, TOP_MEM, NB_CFG */
  { 0xc0010055, 0xc0010055 }, /* AMD: interrupt pending */
  { 0xc0010061, 0xc0010064 }, /* AMD: P-states */
  { 0xc0010112, 0xc0010113 }, /* AMD: SMM ranges */
  { 0xc0010140, 0xc0010141 }, /* AMD: OSVW */
  { 0xc0011020, 0xc001102f }, /* AMD: load/store, instruction cache, decode configuration */
};

static bool is_quiet(uint32_t index)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(quiet_msrs); i++)
    if (index >= quiet_msrs[i].first && index <= quiet_msrs[i].last)
      return true;
  return false;
}

/* ---- those with behaviour ------------------------------------------------------------------------------------------------ */

/* APIC base, x2APIC registers and the TSC deadline belong to the interrupt controller. */
static bool is_intc_msr(uint32_t index)
{
  return index == MSR_TSC_DEADLINE || (index >= MSR_X2APIC && index <= MSR_X2APIC + 0xff);
}

static bool read_intc_msr(const TcgCpu *cpu, uint32_t index, uint64_t *value)
{
  const VmCpu *vcpu = cpu->vcpu;
  if (!vcpu || !vcpu->intc_ops)
    return false;
  uint32_t fp = x86_host_fp_begin();
  bool known = vcpu->intc_ops->read_msr(vcpu->intc, index, value);
  x86_host_fp_end(fp);
  return known;
}

static bool write_intc_msr(const TcgCpu *cpu, uint32_t index, uint64_t value)
{
  const VmCpu *vcpu = cpu->vcpu;
  if (!vcpu || !vcpu->intc_ops)
    return false;
  uint32_t fp = x86_host_fp_begin();
  bool good = vcpu->intc_ops->write_msr(vcpu->intc, index, value);
  x86_host_fp_end(fp);
  return good;
}

uint64_t sys_get_apic_base(const TcgCpu *cpu)
{
  const VmCpu *vcpu = cpu->vcpu;
  return vcpu && vcpu->intc_ops ? vcpu->intc_ops->get_apic_base(vcpu->intc) : APIC_BASE_DEFAULT;
}

static bool write_apic_base(const TcgCpu *cpu, uint64_t value)
{
  const VmCpu *vcpu = cpu->vcpu;
  return !vcpu || !vcpu->intc_ops || vcpu->intc_ops->set_apic_base(vcpu->intc, value);
}

static bool write_efer(TcgCpu *cpu, uint64_t value)
{
  X86Cpu *x86 = &cpu->x86;
  uint64_t changed = value ^ x86->efer;

  if (value & ~(uint64_t)EFER_KNOWN || (changed & X86_EFER_LME && x86->cr0 & X86_CR0_PG))
    return false;
  x86->efer = (value & ~(uint64_t)X86_EFER_LMA) | (x86->efer & X86_EFER_LMA);
  if (changed & X86_EFER_NXE)
    x86_tlb_flush(cpu);
  return true;
}

/* A write to the counter moves its offset; TSC_ADJUST keeps the sum of all such moves. */
static void move_tsc(TcgCpu *cpu, uint64_t delta)
{
  cpu->x86.tsc_offset += delta;
  cpu->x86.tsc_adjust += delta;
}

static bool read_msr(TcgCpu *cpu, uint32_t index, uint64_t *value)
{
  const StoredMsr *stored = find_stored(index);
  const uint64_t *mtrr = find_mtrr(&cpu->x86, index);

  if (stored || mtrr) {
    *value = stored ? *(const uint64_t *)((const uint8_t *)&cpu->x86 + stored->offset) : *mtrr;
    return true;
  }
  if (is_intc_msr(index))
    return read_intc_msr(cpu, index, value);
  switch (index) {
  case MSR_TSC:
    *value = sys_read_tsc(cpu);
    return true;
  case MSR_TSC_ADJUST:
    *value = cpu->x86.tsc_adjust;
    return true;
  case MSR_APIC_BASE:
    *value = sys_get_apic_base(cpu);
    return true;
  case MSR_EFER:
    *value = cpu->x86.efer;
    return true;
  case MSR_MICROCODE:
    *value = MICROCODE_REVISION;
    return true;
  case MSR_MTRR_CAP:
    *value = MTRR_CAP;
    return true;
  case MSR_MCG_CAP:
    *value = MCG_CTL_PRESENT | N_MC_BANKS;
    return true;
  default:
    *value = 0;
    return is_quiet(index);
  }
}

static bool write_msr(TcgCpu *cpu, uint32_t index, uint64_t value)
{
  const StoredMsr *stored = find_stored(index);
  uint64_t *mtrr = find_mtrr(&cpu->x86, index);

  if (stored) {
    if (!stored_is_valid(stored, value))
      return false;
    *(uint64_t *)((uint8_t *)&cpu->x86 + stored->offset) = stored->kind == STORED_32 ? (uint32_t)value : value;
    return true;
  }
  if (mtrr) {
    *mtrr = value;
    return true;
  }
  if (is_intc_msr(index))
    return write_intc_msr(cpu, index, value);
  switch (index) {
  case MSR_TSC:
    move_tsc(cpu, value - sys_read_tsc(cpu));
    return true;
  case MSR_TSC_ADJUST:
    move_tsc(cpu, value - cpu->x86.tsc_adjust);
    return true;
  case MSR_APIC_BASE:
    return write_apic_base(cpu, value);
  case MSR_EFER:
    return write_efer(cpu, value);
  case MSR_MICROCODE: /* written as 0 before the revision is asked for */
    return true;
  default:
    return is_quiet(index);
  }
}

/* ---- instructions ------------------------------------------------------------------------------------------------------------ */

uint64_t helper_rdmsr(TcgCpu *cpu, uint64_t index, uint64_t b, uint64_t c)
{
  uint64_t value;

  if (!sys_require_cpl0(cpu))
    return 0;
  if (read_msr(cpu, (uint32_t)index, &value))
    return value;
  x86_raise_error(cpu, X86_EXC_GP, 0);
  return 0;
}

uint64_t helper_wrmsr(TcgCpu *cpu, uint64_t index, uint64_t value, uint64_t c)
{
  if (!sys_require_cpl0(cpu))
    return 0;
  if (!write_msr(cpu, (uint32_t)index, value))
    x86_raise_error(cpu, X86_EXC_GP, 0);
  x86_update_hflags(cpu);
  return 0;
}
