/*
 * The machine's insides, for vm.c, device.c, vcpu.c and save.c.
 *
 * Locks, in the order in which they are taken: the main context's lock, then `command_mutex` or a vCPU's mutex (never
 * both). What no comment says otherwise belongs to the main context's lock.
 */
#ifndef VM_VM_PRIVATE_H
#define VM_VM_PRIVATE_H

#include <stdatomic.h>

#include "vm-engine/chardev.h"
#include "vm-engine/display.h"
#include "vm-engine/input.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"

/* So many resets by the guest within two seconds are a storm. */
#define VM_RESET_STORM 20

struct Vm {
  const VmAccelOps *accel_ops; /* NULL: a manual machine */
  VmAccel *accel;
  VmClock *clock;
  VmIoContext *ctx;
  VmMemory *memory;
  VmDisplay *display;
  VmInput *input;
  GPtrArray *devices; /* in order of creation */
  GPtrArray *cpus;    /* VmCpu; grows at set-up only */

  GArray *listeners;
  unsigned next_listener;
  GArray *reset_handlers;
  VmPowerdownFunc powerdown;
  void *powerdown_opaque;
  bool no_reboot, no_shutdown;

  GMutex command_mutex; /* guards the next five */
  GCond ended;
  GQueue commands; /* of Command, see vm.c */
  int exit_status;
  bool has_ended;

  _Atomic int state;                           /* VmState */
  _Atomic bool cpus_may_run;                   /* changed under command_mutex */
  bool was_reset;                              /* the power-on reset is done, or a saved state was loaded */
  int64_t guest_resets_us[VM_RESET_STORM + 1]; /* host times of the guest's latest resets, a ring */
  unsigned n_guest_resets;
};

/* ---- device.c ---- */
void vm_devices_reset(Vm *vm);
/* In reverse order of creation. Lock held. */
void vm_devices_destroy(Vm *vm);

/* A load in two steps, so that a machine's devices are all judged before any is changed. NULL: refused. */
typedef struct VmDeviceLoad VmDeviceLoad;
VmDeviceLoad *vm_device_load_prepare(VmDevice *dev, const uint8_t *bytes, size_t size, GError **error);
void vm_device_load_commit(VmDeviceLoad *load); /* the type's `loaded` is not called yet */
void vm_device_load_finish(VmDeviceLoad *load); /* calls it, if committed, and frees; NULL allowed */

/* ---- vcpu.c ---- */
/* Are all CPUs' threads out of cpu_run, to stay so until vm_cpus_release()? Lock held. */
bool vm_cpus_are_parked(Vm *vm);
/* Makes CPUs park (cpus_may_run is false already) / lets them go on. Any thread. */
void vm_cpus_stop(Vm *vm);
void vm_cpus_release(Vm *vm);
/* Parked CPUs, lock held: the power-on state in cpu->x86 / that into the accelerator / out of it. */
void vm_cpus_reset(Vm *vm);
void vm_cpus_load(Vm *vm);
void vm_cpus_store(Vm *vm);
/* Ends and joins the threads / frees the CPUs afterwards. */
void vm_cpus_join(Vm *vm);
void vm_cpus_free(Vm *vm);

/* ---- vm.c ---- */
/* A CPU has parked: what waits for that may go on. Any thread. */
void vm_cpu_has_parked(Vm *vm);
/* A CPU met something from which neither it nor the guest can go on: ends the machine with status 3. */
void vm_report_cpu_error(Vm *vm, VmCpu *cpu, const char *text);

#endif
