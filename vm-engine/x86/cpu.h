/*
 * The architectural state of one x86 CPU, the same under every accelerator, so that a machine saved under one resumes
 * under another. Sources: AMD64 Architecture Programmer's Manual volume 2, Intel SDM volume 3.
 *
 * Invariants: `rflags` is complete and bit 1 is set; segment bases, limits and attributes are the hidden parts, as
 * loaded; `fpu` is an FXSAVE64 image. The reset state is x86_cpu_reset()'s.
 */
#ifndef VM_X86_CPU_H
#define VM_X86_CPU_H

#include <stdbool.h>
#include <stdint.h>

#include "vm-engine/device.h"

enum { X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI, X86_R8, X86_R9, X86_R10, X86_R11,
       X86_R12, X86_R13, X86_R14, X86_R15, X86_N_GPR };
enum { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_N_SEG, X86_LDTR = X86_N_SEG, X86_TR, X86_N_SEG_ALL };

/* Segment attributes: bits 8–23 of a descriptor's second dword, kept in place. */
enum {
  X86_ATTR_TYPE = 0xf << 8, X86_ATTR_ACCESSED = 1 << 8, X86_ATTR_RW = 1 << 9, X86_ATTR_DC = 1 << 10,
  X86_ATTR_CODE = 1 << 11, X86_ATTR_S = 1 << 12, X86_ATTR_DPL_SHIFT = 13, X86_ATTR_DPL = 3 << 13, X86_ATTR_P = 1 << 15,
  X86_ATTR_AVL = 1 << 20, X86_ATTR_L = 1 << 21, X86_ATTR_DB = 1 << 22, X86_ATTR_G = 1 << 23,
};
typedef struct X86Segment {
  uint64_t base;
  uint32_t limit;    /* in bytes, granularity applied */
  uint32_t attr;     /* X86_ATTR_*; P clear = null or unusable */
  uint16_t selector;
  uint16_t pad[3];
} X86Segment;
typedef struct X86Table { uint64_t base; uint32_t limit; uint32_t pad; } X86Table;

#define X86_F_CF (1u << 0)
#define X86_F_FIXED (1u << 1)
#define X86_F_PF (1u << 2)
#define X86_F_AF (1u << 4)
#define X86_F_ZF (1u << 6)
#define X86_F_SF (1u << 7)
#define X86_F_TF (1u << 8)
#define X86_F_IF (1u << 9)
#define X86_F_DF (1u << 10)
#define X86_F_OF (1u << 11)
#define X86_F_IOPL (3u << 12)
#define X86_F_NT (1u << 14)
#define X86_F_RF (1u << 16)
#define X86_F_VM (1u << 17)
#define X86_F_AC (1u << 18)
#define X86_F_VIF (1u << 19)
#define X86_F_VIP (1u << 20)
#define X86_F_ID (1u << 21)
#define X86_F_ARITH (X86_F_CF | X86_F_PF | X86_F_AF | X86_F_ZF | X86_F_SF | X86_F_OF)

#define X86_CR0_PE (1u << 0)
#define X86_CR0_MP (1u << 1)
#define X86_CR0_EM (1u << 2)
#define X86_CR0_TS (1u << 3)
#define X86_CR0_ET (1u << 4)
#define X86_CR0_NE (1u << 5)
#define X86_CR0_WP (1u << 16)
#define X86_CR0_AM (1u << 18)
#define X86_CR0_NW (1u << 29)
#define X86_CR0_CD (1u << 30)
#define X86_CR0_PG (1u << 31)
#define X86_CR4_VME (1u << 0)
#define X86_CR4_PVI (1u << 1)
#define X86_CR4_TSD (1u << 2)
#define X86_CR4_DE (1u << 3)
#define X86_CR4_PSE (1u << 4)
#define X86_CR4_PAE (1u << 5)
#define X86_CR4_MCE (1u << 6)
#define X86_CR4_PGE (1u << 7)
#define X86_CR4_PCE (1u << 8)
#define X86_CR4_OSFXSR (1u << 9)
#define X86_CR4_OSXMMEXCPT (1u << 10)
#define X86_CR4_UMIP (1u << 11)
#define X86_CR4_LA57 (1u << 12)
#define X86_CR4_FSGSBASE (1u << 16)
#define X86_CR4_PCIDE (1u << 17)
#define X86_CR4_OSXSAVE (1u << 18)
#define X86_CR4_SMEP (1u << 20)
#define X86_CR4_SMAP (1u << 21)
#define X86_CR4_PKE (1u << 22)
#define X86_EFER_SCE (1u << 0)
#define X86_EFER_LME (1u << 8)
#define X86_EFER_LMA (1u << 10)
#define X86_EFER_NXE (1u << 11)
#define X86_EFER_SVME (1u << 12)
#define X86_EFER_FFXSR (1u << 14)

/* Exception vectors. */
enum { X86_EXC_DE, X86_EXC_DB, X86_EXC_NMI, X86_EXC_BP, X86_EXC_OF, X86_EXC_BR, X86_EXC_UD, X86_EXC_NM, X86_EXC_DF,
       X86_EXC_TS = 10, X86_EXC_NP, X86_EXC_SS, X86_EXC_GP, X86_EXC_PF, X86_EXC_MF = 16, X86_EXC_AC, X86_EXC_MC,
       X86_EXC_XM };

/* The FXSAVE64 image, then the upper halves of YMM as XSAVE's standard form has them behind its header. */
typedef struct X86Fpu {
  uint16_t fcw, fsw;
  uint8_t ftw; /* abridged: bit i set = physical register i not empty */
  uint8_t rsvd;
  uint16_t fop;
  uint64_t fip, fdp;
  uint32_t mxcsr, mxcsr_mask;
  uint8_t st[8][16]; /* ST(i), relative to TOP, 80 bits each */
  uint8_t xmm[16][16];
  uint8_t rsvd2[96];
  uint8_t ymm_high[16][16];
} __attribute__((aligned(64))) X86Fpu;

/* Stored MSRs that need no behaviour beyond holding what was written. */
#define X86_N_MTRR_VAR 8

struct X86Cpu {
  uint64_t gpr[X86_N_GPR];
  uint64_t rip;
  uint64_t rflags;
  X86Segment seg[X86_N_SEG_ALL]; /* the six, then LDTR, TR */
  X86Table gdt, idt;
  uint64_t cr0, cr2, cr3, cr4;
  uint64_t xcr0;
  uint64_t dr[8]; /* 4 and 5 unused */
  uint64_t efer, star, lstar, cstar, sfmask, kernel_gs_base;
  uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
  uint64_t tsc_offset; /* guest TSC = the machine's TSC + this */
  uint64_t tsc_aux, pat, misc_enable, spec_ctrl, tsc_adjust;
  uint64_t mtrr_def_type, mtrr_fixed[11], mtrr_var[X86_N_MTRR_VAR][2];
  uint64_t mcg_status, mcg_ctl;
  uint64_t debugctl, feature_control;
  uint64_t pae_pdpte[4];
  uint32_t smbase;
  uint32_t pkru;
  X86Fpu fpu;
  uint8_t interrupt_shadow; /* one instruction after STI (1) or MOV SS / POP SS (2) */
  uint8_t nmi_masked;       /* between an NMI's delivery and IRET */
  uint8_t in_smm;
  uint8_t halted;
  uint8_t wait_for_sipi; /* an application processor after INIT */
  uint8_t pending_exception_valid; /* an exception taken but not delivered yet, across a save */
  uint8_t pending_exception, pending_has_error;
  uint32_t pending_error;
  uint8_t pending_interrupt_valid, pending_interrupt; /* acknowledged, not delivered yet: a vector */
  uint16_t pad;
};
typedef struct X86Cpu X86Cpu;

/* For vm_cpu's save, restore and the dump. */
extern const VmField x86_cpu_fields[];

/* Power-on or RESET# (`init` false) / INIT (true: FPU, MTRR and most MSRs stay). The bootstrap CPU (`bsp`) starts at
 * F000:FFF0, others wait for SIPI. APM volume 2, 14.1. */
void x86_cpu_reset(X86Cpu *cpu, bool bsp, bool init);
/* SIPI: real mode at vector << 12. */
void x86_cpu_start_ap(X86Cpu *cpu, uint8_t vector);

/* ---- CPUID: one table for all accelerators ---------------------------------------------------------------------- */

typedef struct X86CpuidTopology { unsigned cpu_index, n_cpus; } X86CpuidTopology;
/* The leaf's registers as the guest sees them: `features` is what the accelerator can run, below. `out` is EAX, EBX,
 * ECX, EDX. `cpu` supplies what depends on state (OSXSAVE, APIC bit, XCR0 sizes). */
typedef struct X86CpuidFeatures {
  uint32_t leaf1_edx, leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_edx, ext1_edx, ext1_ecx, leaf_d1_eax;
  /* All of the following may be zero, for a CPU of our own making. */
  uint32_t signature;    /* leaf 1 EAX; 0: X86_SIGNATURE */
  char vendor[12];       /* "" : X86_VENDOR */
  uint32_t tsc_khz;      /* 0: the machine's own rate (tsc.h) */
  uint32_t phys_bits;    /* 0: 40 */
  uint32_t ext8_ebx;     /* leaf 0x80000008 EBX: AMD's speculation controls */
  uint32_t kvm_features; /* leaf 0x40000001 EAX; not 0: the guest is told of KVM */
} X86CpuidFeatures;

/* What the CPU says it is, where the accelerator does not pass the host's own name on: see cpuid.c for the choice. */
#define X86_VENDOR "GenuineIntel"
#define X86_SIGNATURE 0x000106cau
void x86_cpuid(const X86Cpu *cpu, const X86CpuidFeatures *features, const X86CpuidTopology *topology,
               uint64_t apic_base, uint32_t leaf, uint32_t subleaf, uint32_t out[4]);

#endif
