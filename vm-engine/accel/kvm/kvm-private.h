/*
 * The KVM accelerator's insides: kvm.c (the device, the machine, CPUs), kvm-slots.c (guest memory), kvm-state.c (CPU
 * state in and out), kvm-cpuid.c, kvm-run.c (the run loop).
 *
 * KVM runs the CPUs' instructions and nothing else: interrupt controllers and timers are Oriel's own devices, the same
 * as under the translator.
 */
#ifndef VM_KVM_PRIVATE_H
#define VM_KVM_PRIVATE_H

#include <linux/kvm.h>
#include <pthread.h>
#include <stdatomic.h>

#include "vm-engine/accel.h"
#include "vm-engine/memory-impl.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/x86/cpu.h"

typedef struct KvmSlot {
  VmGpa gpa;
  uint64_t size;
  VmRam *ram;
  uint64_t ram_offset;
  uint32_t flags;
  uint32_t id;
} KvmSlot;

struct VmAccel {
  Vm *vm;
  int kvm_fd, vm_fd;
  size_t run_bytes; /* of a CPU's mapping */
  bool has_readonly, has_xsave, has_xcrs, has_debugregs, has_events, has_user_msrs;
  uint32_t coalesced_page; /* of the ring in a CPU's mapping; 0: none */
  uint64_t tsc_hz;
  X86CpuidFeatures features;
  uint64_t *msrs; /* what KVM_GET_MSR_INDEX_LIST knows */
  unsigned n_msrs;

  /* Main context's lock. */
  GArray *slots;      /* of KvmSlot, ascending */
  GArray *free_slots; /* of uint32_t: ids to use again */
  uint32_t next_slot;
  GArray *coalesced;                /* of struct kvm_coalesced_mmio_zone */
  _Atomic uint32_t slot_generation; /* counts changes: a CPU may have met a hole in between */

  GMutex ring_mutex; /* taken before any context's lock: one drains at a time */
  struct kvm_coalesced_mmio_ring *_Atomic ring;
};

typedef struct KvmCpu {
  VmCpu *vcpu;
  VmAccel *accel;
  int fd;
  struct kvm_run *run;
  pthread_t thread;         /* valid while vcpu->in_guest */
  bool has_cpuid;           /* told at the first run, when the number of CPUs is known */
  bool load_pending;        /* vcpu->x86 is the truth and KVM does not know it yet */
  bool completion_pending;  /* the last exit's instruction is finished by the next KVM_RUN */
  const char *refused_call; /* the first ioctl that refused state; NULL: none */
  int refused_errno;
  uint8_t known_cr8;
  /* When the CPU last left the loop, to let its TSC stand still with the machine. */
  bool has_left;
  int64_t left_virtual_ns, left_host_ns;
  _Atomic uint64_t tsc_offset; /* guest's TSC - host's TSC */
} KvmCpu;

static inline KvmCpu *kvm_cpu(VmCpu *cpu)
{
  return cpu->accel_cpu;
}

/* ioctl() that is repeated when a signal came. -1 with errno. */
int kvm_ioctl(int fd, unsigned long request, void *argument);
int kvm_check(const VmAccel *accel, unsigned capability);

/* Opens /dev/kvm and judges its version. -1 with `error`. */
int kvm_open(GError **error);
/* Makes a machine. -1 with `error`. */
int kvm_create_vm(int kvm_fd, GError **error);

/* ---- kvm-cpuid.c ---- */
/* Fills accel->features with what the host supports and X86Cpu can hold. */
bool kvm_read_features(VmAccel *accel, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool kvm_set_cpuid(KvmCpu *kc, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* ---- kvm-slots.c ---- */
void kvm_slots_init(VmAccel *accel);
void kvm_slots_finish(VmAccel *accel);
/* Applies what guests wrote to coalesced regions. Without any context's lock. */
void kvm_drain_coalesced(VmAccel *accel);
bool kvm_flush_writes(VmAccel *accel, void (*done)(VmCpu *cpu, void *data), void *data);

/* ---- kvm-state.c ---- */
/* False: KVM refuses it; vcpu->error_text says what. */
bool kvm_put_state(KvmCpu *kc) G_GNUC_WARN_UNUSED_RESULT;
void kvm_get_state(KvmCpu *kc);
bool kvm_get_msr(KvmCpu *kc, uint32_t index, uint64_t *value);
bool kvm_set_msr(KvmCpu *kc, uint32_t index, uint64_t value);
/* Reads anew how far the guest's TSC is from the host's. */
void kvm_sample_tsc(KvmCpu *kc);
/* Ends what the last exit began, so that the state is that between two instructions. */
void kvm_complete_exit(KvmCpu *kc);

/* ---- kvm-run.c ---- */
VmCpuExit kvm_cpu_run(VmCpu *cpu);
void kvm_cpu_kick(VmCpu *cpu);
/* Serves KVM_EXIT_IO, _MMIO, _X86_RDMSR and _X86_WRMSR. False: it was none of them. */
bool kvm_serve_access(KvmCpu *kc);
int kvm_kick_signal(void);

#endif
