/*
 * Accelerators: what runs a vCPU's instructions. KVM and the translator stand behind this one table.
 *
 * The common vCPU loop (vm-engine/vcpu.c) owns pausing, reset, halting and ending; an accelerator only runs guest code
 * until something asks for the loop.
 */
#ifndef VM_ACCEL_H
#define VM_ACCEL_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct Vm Vm;
typedef struct VmCpu VmCpu;
typedef struct VmAccel VmAccel; /* each accelerator's own */

typedef enum VmCpuExit {
  VM_CPU_EXIT_REQUEST,      /* a bit of cpu->requests wants the loop */
  VM_CPU_EXIT_HALT,         /* HLT with nothing pending: sleep until an interrupt */
  VM_CPU_EXIT_TRIPLE_FAULT, /* the CPU shut down */
  VM_CPU_EXIT_ERROR,        /* the accelerator cannot go on: cpu->error_text says why */
} VmCpuExit;

typedef struct VmAccelOps {
  const char *name; /* "kvm", "tcg" */
  bool has_smm;     /* can it run system-management mode? Boards without tell their firmware so */
  /* `error` says in plain words what the host lacks. The main context and memory exist already; no RAM does. */
  VmAccel *(*create)(Vm *vm, GError **error);
  void (*destroy)(VmAccel *accel);
  /* Allocates the CPU's state: sets cpu->x86 (and cpu->accel_cpu). Any thread, before it runs. */
  bool (*cpu_create)(VmAccel *accel, VmCpu *cpu, GError **error);
  void (*cpu_destroy)(VmCpu *cpu);
  /* On the vCPU's thread. cpu->x86 is current at call and return only as far as cpu_load/cpu_store made it. */
  VmCpuExit (*cpu_run)(VmCpu *cpu);
  /* Makes a running cpu_run look at cpu->requests soon. Any thread; cheap and harmless when it is not running. */
  void (*cpu_kick)(VmCpu *cpu);
  /* Copies cpu->x86 into the accelerator (after reset, load, debugger) / out of it. On the vCPU's thread, or from any
   * while that is not in cpu_run. */
  void (*cpu_load)(VmCpu *cpu);
  void (*cpu_store)(VmCpu *cpu);
  /* Lines for `info jit` and the like; owned; may be NULL. */
  char *(*dup_description)(VmAccel *accel);
  /* Do device writes of the guest's still wait in the accelerator (KVM's coalesced MMIO)? If so, has them applied, calls
   * `done(cpu, data)` on a vCPU's thread afterwards, and returns true. Lock held. NULL: they never wait. */
  bool (*flush_writes)(VmAccel *accel, void (*done)(VmCpu *cpu, void *data), void *data);
  /* Where the CPU counts its TSC by itself: its rate in Hz, and the guest's counter now (any thread). For the local
   * APIC's TSC-deadline timer. NULL: the machine's own (vm-engine/x86/tsc.h). */
  uint64_t (*get_tsc_hz)(VmAccel *accel);
  uint64_t (*cpu_get_tsc)(VmCpu *cpu);
} VmAccelOps;

extern const VmAccelOps vm_accel_kvm;
extern const VmAccelOps vm_accel_tcg;

/* What `--accel` says. AUTO probes KVM by running 16-, 32- and 64-bit guest code for a fraction of a second; on a
 * failure `*why` (owned text, or NULL) says in one sentence why the translator was taken. KVM insists: NULL with
 * `error`. Any thread; takes at most 300 ms. */
typedef enum VmAccelChoice { VM_ACCEL_AUTO, VM_ACCEL_KVM, VM_ACCEL_TCG } VmAccelChoice;
const VmAccelOps *vm_accel_choose(VmAccelChoice choice, char **why, GError **error);

#endif
