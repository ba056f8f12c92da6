/* The CPU's state table: what a saved machine holds of each CPU. */
#include "vm-engine/x86/cpu.h"

static const VmField segment_fields[] = {
  VM_UINT(X86Segment, base),
  VM_UINT(X86Segment, limit),
  VM_UINT(X86Segment, attr),
  VM_UINT(X86Segment, selector),
  VM_TRANSIENT(X86Segment, pad, "padding"),
  VM_FIELDS_END,
};

static const VmField table_fields[] = {
  VM_UINT(X86Table, base),
  VM_UINT(X86Table, limit),
  VM_TRANSIENT(X86Table, pad, "padding"),
  VM_FIELDS_END,
};

static const VmField fpu_fields[] = {
  VM_UINT(X86Fpu, fcw),        VM_UINT(X86Fpu, fsw), VM_UINT(X86Fpu, ftw),  VM_TRANSIENT(X86Fpu, rsvd, "reserved"),
  VM_UINT(X86Fpu, fop),        VM_UINT(X86Fpu, fip), VM_UINT(X86Fpu, fdp),  VM_UINT_MAX(X86Fpu, mxcsr, 0xffff),
  VM_UINT(X86Fpu, mxcsr_mask), VM_BYTES(X86Fpu, st), VM_BYTES(X86Fpu, xmm), VM_TRANSIENT(X86Fpu, rsvd2, "reserved"),
  VM_BYTES(X86Fpu, ymm_high),  VM_FIELDS_END,
};

/* The variable MTRRs are pairs of base and mask; as an array of arrays they need a row by hand. */
#define MTRR_VAR_ROW                                                                                                   \
  {                                                                                                                    \
    "mtrr_var", VM_FIELD_UINT, offsetof(X86Cpu, mtrr_var), sizeof(uint64_t), X86_N_MTRR_VAR * 2, NULL, 0, 0, NULL, 8   \
  }

const VmField x86_cpu_fields[] = {
  VM_UINT_ARRAY(X86Cpu, gpr),
  VM_UINT(X86Cpu, rip),
  VM_UINT(X86Cpu, rflags),
  VM_STRUCT_ARRAY(X86Cpu, seg, segment_fields),
  VM_STRUCT(X86Cpu, gdt, table_fields),
  VM_STRUCT(X86Cpu, idt, table_fields),
  VM_UINT(X86Cpu, cr0),
  VM_UINT(X86Cpu, cr2),
  VM_UINT(X86Cpu, cr3),
  VM_UINT(X86Cpu, cr4),
  VM_UINT(X86Cpu, xcr0),
  VM_UINT_ARRAY(X86Cpu, dr),
  VM_UINT(X86Cpu, efer),
  VM_UINT(X86Cpu, star),
  VM_UINT(X86Cpu, lstar),
  VM_UINT(X86Cpu, cstar),
  VM_UINT(X86Cpu, sfmask),
  VM_UINT(X86Cpu, kernel_gs_base),
  VM_UINT(X86Cpu, sysenter_cs),
  VM_UINT(X86Cpu, sysenter_esp),
  VM_UINT(X86Cpu, sysenter_eip),
  VM_UINT(X86Cpu, tsc_offset),
  VM_UINT(X86Cpu, tsc_aux),
  VM_UINT(X86Cpu, pat),
  VM_UINT(X86Cpu, misc_enable),
  VM_UINT(X86Cpu, spec_ctrl),
  VM_UINT(X86Cpu, tsc_adjust),
  VM_UINT(X86Cpu, mtrr_def_type),
  VM_UINT_ARRAY(X86Cpu, mtrr_fixed),
  MTRR_VAR_ROW,
  VM_UINT(X86Cpu, mcg_status),
  VM_UINT(X86Cpu, mcg_ctl),
  VM_UINT(X86Cpu, debugctl),
  VM_UINT(X86Cpu, feature_control),
  VM_UINT_ARRAY(X86Cpu, pae_pdpte),
  VM_UINT(X86Cpu, smbase),
  VM_UINT(X86Cpu, pkru),
  VM_STRUCT(X86Cpu, fpu, fpu_fields),
  VM_UINT_MAX(X86Cpu, interrupt_shadow, 2),
  VM_UINT_MAX(X86Cpu, nmi_masked, 1),
  VM_UINT_MAX(X86Cpu, in_smm, 1),
  VM_UINT_MAX(X86Cpu, halted, 1),
  VM_UINT_MAX(X86Cpu, wait_for_sipi, 1),
  VM_UINT_MAX(X86Cpu, pending_exception_valid, 1),
  VM_UINT_MAX(X86Cpu, pending_exception, 31),
  VM_UINT_MAX(X86Cpu, pending_has_error, 1),
  VM_UINT(X86Cpu, pending_error),
  VM_UINT_MAX(X86Cpu, pending_interrupt_valid, 1),
  VM_UINT(X86Cpu, pending_interrupt),
  VM_TRANSIENT(X86Cpu, pad, "padding"),
  VM_FIELDS_END,
};
