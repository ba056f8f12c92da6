/*
 * Vm: one machine's engine. It owns the guest's memory, the clock, the main I/O context, the devices, the vCPUs and the
 * accelerator. It knows no device: a board (hw/boards) fills it.
 *
 * Life: vm_new → board adds memory, devices, vCPUs → vm_start → … → vm_free.
 * States: STOPPED (made, or paused) ⇄ RUNNING, → ENDED (with a reason).
 *
 * Commands (start, pause, reset, end) come from any thread and are carried out by the main I/O context, so a caller
 * never waits; what happened is told to the listeners.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#include "vm-engine/accel.h"

typedef struct Vm Vm;
typedef struct VmMemory VmMemory;
typedef struct VmClock VmClock;
typedef struct VmIoContext VmIoContext;
typedef struct VmDevice VmDevice;
typedef struct VmCpu VmCpu;
typedef struct VmDisplay VmDisplay;
typedef struct VmInput VmInput;

#define VM_ERROR vm_error_quark()
GQuark vm_error_quark(void);
typedef enum VmError { VM_ERROR_FAILED, VM_ERROR_UNSUPPORTED, VM_ERROR_BAD_STATE } VmError;

typedef enum VmState { VM_STATE_STOPPED, VM_STATE_RUNNING, VM_STATE_ENDED } VmState;

typedef enum VmEvent {
  VM_EVENT_RUNNING,   /* started or resumed */
  VM_EVENT_PAUSED,    /* stopped by command */
  VM_EVENT_RESET,     /* a reset was carried out */
  VM_EVENT_SHUTDOWN,  /* the guest powered off (S5) */
  VM_EVENT_POWERDOWN, /* the power button was pressed */
  VM_EVENT_PANIC,     /* triple fault with no_reboot, reset storm, internal error: see the text */
  VM_EVENT_ENDED,     /* vCPUs are down; vm_get_exit_status() holds */
} VmEvent;

/* Runs in the main I/O context, lock held; must not wait. `text` says why, for people, or is NULL. */
typedef void (*VmEventFunc)(Vm *vm, VmEvent event, const char *text, void *opaque);

/* A machine with nothing in it, using `accel`'s ops. `error` names what the host lacks. */
Vm *vm_new(const VmAccelOps *accel, GError **error);
/* As above, with a manual clock and context and no accelerator, for device tests. */
Vm *vm_new_manual(void);
/* Ends vCPUs, frees everything. NULL allowed. Not from the I/O context. */
void vm_free(Vm *vm);

VmMemory *vm_get_memory(Vm *vm);
VmClock *vm_get_clock(Vm *vm);
VmIoContext *vm_get_io_context(Vm *vm);
VmAccel *vm_get_accel(Vm *vm);
const VmAccelOps *vm_get_accel_ops(const Vm *vm); /* NULL in a manual machine */
VmDisplay *vm_get_display(Vm *vm); /* always there; without content until a card draws */
VmInput *vm_get_input(Vm *vm);
unsigned vm_get_n_cpus(const Vm *vm);
VmCpu *vm_get_cpu(Vm *vm, unsigned index);
VmDevice *vm_find_device(Vm *vm, const char *id);
typedef void (*VmDeviceFunc)(VmDevice *dev, void *opaque);
void vm_foreach_device(Vm *vm, VmDeviceFunc func, void *opaque);

/* Called in order of registration; lock held or before the start. Returns an id for removal. */
unsigned vm_add_listener(Vm *vm, VmEventFunc func, void *opaque);
void vm_remove_listener(Vm *vm, unsigned id);

/* ---- commands: any thread, at once, never wait ------------------------------------------------------------------ */

void vm_start(Vm *vm); /* first start (resets all devices and CPUs) or resume */
void vm_pause(Vm *vm);
void vm_request_reset(Vm *vm);      /* by the guest (port 92, 0xCF9, keyboard controller, triple fault) or a person */
void vm_request_shutdown(Vm *vm);   /* the guest powered off: ends with status 0 (or pauses, with no_shutdown) */
void vm_request_powerdown(Vm *vm);  /* presses the power button: the board's handler below */
void vm_request_end(Vm *vm, int exit_status, const char *why); /* why: for people, or NULL; copied */
/* A CPU has met a triple fault: reset, or the end with status 3 under no_reboot. More than 20 resets by the guest
 * within 2 s pause the machine with VM_EVENT_PANIC instead. */
void vm_report_triple_fault(Vm *vm, VmCpu *cpu);

VmState vm_get_state(const Vm *vm);
/* Waits until ENDED. Returns the exit status. Not from the I/O context or GTK's thread. */
int vm_wait(Vm *vm);
int vm_get_exit_status(const Vm *vm);

/* Set before the start. */
void vm_set_no_reboot(Vm *vm, bool on);
void vm_set_no_shutdown(Vm *vm, bool on);
typedef void (*VmPowerdownFunc)(void *opaque);
void vm_set_powerdown_handler(Vm *vm, VmPowerdownFunc func, void *opaque);
/* Runs after all devices were reset, before CPUs run: boards load firmware anew here. */
typedef void (*VmResetFunc)(void *opaque);
void vm_add_reset_handler(Vm *vm, VmResetFunc func, void *opaque);

/* Saves the stopped machine (devices, CPUs, RAM, clock) to `fd` / loads it into a machine of the same make that was
 * not started yet or is stopped. From any thread but the I/O context; a refused load leaves the machine as it was,
 * as far as devices go, and must be followed by a reset. */
bool vm_save(Vm *vm, int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool vm_load(Vm *vm, int fd, GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(Vm, vm_free)

#endif
