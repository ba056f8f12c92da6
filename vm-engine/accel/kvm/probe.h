/*
 * The probe: does /dev/kvm run ordinary kernels, and at a useful speed? The numbers here are shared with the guest code
 * (probe-guest.S).
 */
#ifndef VM_KVM_PROBE_H
#define VM_KVM_PROBE_H

/* The throw-away machine's memory. */
#define PROBE_RAM_BYTES  0x100000
#define PROBE_CODE       0x1000
#define PROBE_STACK      0x4000
#define PROBE_PAGE_DIR32 0x5000
#define PROBE_PML4       0x6000
#define PROBE_PDPT       0x7000
#define PROBE_PAGE_DIR   0x8000
#define PROBE_PT         0x9000
#define PROBE_PML4_OTHER 0xa000
#define PROBE_TSS        0xb000
#define PROBE_IDT        0xc000
#define PROBE_DATA       0xd000
#define PROBE_DATA2      0xe000
/* A page within the first 2 MiB, mapped by PROBE_PT, whose entry the guest changes. */
#define PROBE_WINDOW   0x80000
#define PROBE_PT_ENTRY (PROBE_PT + PROBE_WINDOW / 4096 * 8)

#define PROBE_PORT      0x10
#define PROBE_NULL_PORT 0x11

#define PROBE_EXITS  50
#define PROBE_SPINS  4000
#define PROBE_ROUNDS 40

/* In the order in which the guest reports them. */
#define PROBE_PHASE_REAL           1
#define PROBE_PHASE_REAL_SPIN      2
#define PROBE_PHASE_PROTECTED      3
#define PROBE_PHASE_PROTECTED_SPIN 4
#define PROBE_PHASE_LONG           5
#define PROBE_PHASE_LONG_SPIN      6
#define PROBE_PHASE_MSRS           7
#define PROBE_PHASE_REMAP          8
#define PROBE_PHASE_FAULTS         9
#define PROBE_PHASE_CR3            10
#define PROBE_PHASE_SYSCALLS       11
#define PROBE_N_PHASES             12
#define PROBE_FAILED               0xff

#ifndef __ASSEMBLER__
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/* What each phase took, in host ns; 0 for those not reached. */
typedef struct KvmProbeResult {
  int64_t phase_ns[PROBE_N_PHASES];
} KvmProbeResult;

/* Runs the probe, at most 300 ms. NULL: KVM serves; else why it does not, in one sentence for people; owned. `result`
 * may be NULL. */
char *vm_kvm_probe(KvmProbeResult *result);
/* Can a machine be made at all? Says nothing of how it runs. */
bool vm_kvm_available(GError **error) G_GNUC_WARN_UNUSED_RESULT;
#endif

#endif
