/*
 * The machine: what it owns, and the commands that start, pause, reset and end it.
 *
 * Commands come from any thread and are queued; the main I/O context carries them out one after the other, so that what
 * a caller asked for happens in the order of asking and listeners hear of each. Most need the CPUs out of guest code:
 * then queueing already orders the CPUs to park (a guest that pulled its reset line must not run on), and the last CPU
 * to park has the queue looked at again. When the queue is empty and the machine shall run, the CPUs are let go.
 */
#include "vm-engine/clock-private.h"
#include "vm-engine/display-private.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory-impl.h"
#include "vm-engine/vm-private.h"

typedef enum CommandKind {
  COMMAND_START,
  COMMAND_PAUSE,
  COMMAND_RESET,
  COMMAND_SHUTDOWN,
  COMMAND_PANIC, /* `text` says why; ends with `status` */
  COMMAND_END,
} CommandKind;

typedef struct Command {
  CommandKind kind;
  int status;
  bool by_guest;
  char *text;
} Command;

typedef struct Listener {
  unsigned id;
  VmEventFunc func;
  void *opaque;
} Listener;

typedef struct ResetHandler {
  VmResetFunc func;
  void *opaque;
} ResetHandler;

static void command_free(Command *command)
{
  g_free(command->text);
  g_free(command);
}

/* ---- making ------------------------------------------------------------------------------------------------------------ */

static Vm *vm_alloc(void)
{
  Vm *vm = g_new0(Vm, 1);
  vm->devices = g_ptr_array_new();
  vm->cpus = g_ptr_array_new();
  vm->listeners = g_array_new(FALSE, FALSE, sizeof(Listener));
  vm->reset_handlers = g_array_new(FALSE, FALSE, sizeof(ResetHandler));
  g_mutex_init(&vm->command_mutex);
  g_cond_init(&vm->ended);
  g_queue_init(&vm->commands);
  return vm;
}

static void writes_flushed(VmCpu *cpu, void *data)
{
  vm_display_gate_passed(data);
}

/* The picture is drawn from what the card has been told: what the accelerator still holds back comes first. */
static bool writes_are_waiting(void *opaque)
{
  Vm *vm = opaque;
  return vm->accel != NULL && vm->accel_ops->flush_writes != NULL &&
         vm->accel_ops->flush_writes(vm->accel, writes_flushed, vm->display);
}

static void add_faces(Vm *vm)
{
  vm_memory_set_main_context(vm->memory, vm->ctx);
  vm->display = vm_display_new(vm->ctx);
  vm_display_set_gate(vm->display, writes_are_waiting, vm);
  vm->input = vm_input_new(vm->ctx);
}

Vm *vm_new(const VmAccelOps *accel, GError **error)
{
  g_autoptr(Vm) vm = vm_alloc();
  vm->clock = vm_clock_new();
  vm->memory = vm_memory_new(error);
  if (vm->memory == NULL)
    return NULL;
  vm->ctx = vm_io_context_new("oriel-main-io", vm->clock, error);
  if (vm->ctx == NULL)
    return NULL;
  add_faces(vm);
  vm->accel_ops = accel;
  vm->accel = accel->create(vm, error);
  return vm->accel != NULL ? g_steal_pointer(&vm) : NULL;
}

Vm *vm_new_manual(void)
{
  Vm *vm = vm_alloc();
  vm->clock = vm_clock_new_manual();
  vm->memory = vm_memory_new(NULL);
  g_assert(vm->memory != NULL);
  vm->ctx = vm_io_context_new_manual(vm->clock);
  add_faces(vm);
  return vm;
}

void vm_free(Vm *vm)
{
  if (vm == NULL)
    return;
  if (vm->cpus->len > 0 && vm->accel_ops != NULL) {
    vm_request_end(vm, 0, NULL);
    vm_wait(vm);
  }
  vm_cpus_join(vm);
  if (vm->ctx != NULL) {
    vm_io_context_stop(vm->ctx);
    vm_io_context_lock(vm->ctx);
    vm_devices_destroy(vm);
    vm_io_context_unlock(vm->ctx);
  }
  vm_cpus_free(vm);
  if (vm->accel != NULL)
    vm->accel_ops->destroy(vm->accel);
  vm_io_context_free(vm->ctx);
  vm_display_free(vm->display);
  vm_input_free(vm->input);
  vm_memory_free(vm->memory);
  vm_clock_free(vm->clock);
  g_queue_clear_full(&vm->commands, (GDestroyNotify)command_free);
  g_array_free(vm->listeners, TRUE);
  g_array_free(vm->reset_handlers, TRUE);
  g_ptr_array_free(vm->devices, TRUE);
  g_ptr_array_free(vm->cpus, TRUE);
  g_mutex_clear(&vm->command_mutex);
  g_cond_clear(&vm->ended);
  g_free(vm);
}

VmMemory *vm_get_memory(Vm *vm)
{
  return vm->memory;
}
VmClock *vm_get_clock(Vm *vm)
{
  return vm->clock;
}
VmIoContext *vm_get_io_context(Vm *vm)
{
  return vm->ctx;
}
VmAccel *vm_get_accel(Vm *vm)
{
  return vm->accel;
}
const VmAccelOps *vm_get_accel_ops(const Vm *vm)
{
  return vm->accel_ops;
}
VmDisplay *vm_get_display(Vm *vm)
{
  return vm->display;
}
VmInput *vm_get_input(Vm *vm)
{
  return vm->input;
}
VmState vm_get_state(const Vm *vm)
{
  return (VmState)atomic_load(&vm->state);
}

void vm_set_no_reboot(Vm *vm, bool on)
{
  vm->no_reboot = on;
}
void vm_set_no_shutdown(Vm *vm, bool on)
{
  vm->no_shutdown = on;
}

void vm_set_powerdown_handler(Vm *vm, VmPowerdownFunc func, void *opaque)
{
  vm->powerdown = func;
  vm->powerdown_opaque = opaque;
}

void vm_add_reset_handler(Vm *vm, VmResetFunc func, void *opaque)
{
  ResetHandler handler = { func, opaque };
  g_array_append_val(vm->reset_handlers, handler);
}

/* ---- listeners ----------------------------------------------------------------------------------------------------------- */

unsigned vm_add_listener(Vm *vm, VmEventFunc func, void *opaque)
{
  Listener listener = { ++vm->next_listener, func, opaque };
  g_array_append_val(vm->listeners, listener);
  return listener.id;
}

void vm_remove_listener(Vm *vm, unsigned id)
{
  for (unsigned i = 0; i < vm->listeners->len; i++) {
    if (g_array_index(vm->listeners, Listener, i).id == id) {
      g_array_remove_index(vm->listeners, i);
      return;
    }
  }
}

static void tell(Vm *vm, VmEvent event, const char *text)
{
  for (unsigned i = 0; i < vm->listeners->len; i++) {
    Listener listener = g_array_index(vm->listeners, Listener, i);
    listener.func(vm, event, text, listener.opaque);
  }
}

/* ---- carrying commands out: main context, lock held, CPUs parked ------------------------------------------------------------- */

static void do_reset(Vm *vm)
{
  vm_devices_reset(vm);
  vm_cpus_reset(vm);
  for (unsigned i = 0; i < vm->reset_handlers->len; i++) {
    ResetHandler handler = g_array_index(vm->reset_handlers, ResetHandler, i);
    handler.func(handler.opaque);
  }
  vm_cpus_load(vm);
  vm->was_reset = true;
}

static void do_start(Vm *vm)
{
  if (vm->state != VM_STATE_STOPPED)
    return;
  if (!vm->was_reset)
    do_reset(vm);
  vm->state = VM_STATE_RUNNING;
  vm_clock_start(vm->clock);
  tell(vm, VM_EVENT_RUNNING, NULL);
}

static void do_pause(Vm *vm, const char *text)
{
  if (vm->state != VM_STATE_RUNNING)
    return;
  vm_clock_stop(vm->clock);
  vm->state = VM_STATE_STOPPED;
  tell(vm, VM_EVENT_PAUSED, text);
}

static void do_end(Vm *vm, int status, const char *text)
{
  vm_clock_stop(vm->clock);
  vm->state = VM_STATE_ENDED;
  g_mutex_lock(&vm->command_mutex);
  vm->exit_status = status;
  g_mutex_unlock(&vm->command_mutex);
  tell(vm, VM_EVENT_ENDED, text);
  g_mutex_lock(&vm->command_mutex);
  vm->has_ended = true;
  g_cond_broadcast(&vm->ended);
  g_mutex_unlock(&vm->command_mutex);
}

/* Counts a reset by the guest; true if they come so fast that the machine does nothing else. */
static bool is_reset_storm(Vm *vm)
{
  const unsigned n = G_N_ELEMENTS(vm->guest_resets_us);
  int64_t now = g_get_monotonic_time();
  vm->guest_resets_us[vm->n_guest_resets++ % n] = now;
  return vm->n_guest_resets >= n && now - vm->guest_resets_us[vm->n_guest_resets % n] < 2 * G_USEC_PER_SEC;
}

static void do_reset_command(Vm *vm, const Command *command)
{
  if (command->by_guest && vm->no_reboot) {
    do_end(vm, 0, "the guest asked for a restart");
    return;
  }
  do_reset(vm);
  tell(vm, VM_EVENT_RESET, command->text);
  if (!command->by_guest || !is_reset_storm(vm))
    return;
  vm->n_guest_resets = 0;
  const char *text =
      "the guest restarts over and over; it was paused (its system may be damaged, or want other hardware)";
  tell(vm, VM_EVENT_PANIC, text);
  do_pause(vm, text);
}

static void carry_out(Vm *vm, const Command *command)
{
  if (vm->state == VM_STATE_ENDED)
    return;
  switch (command->kind) {
  case COMMAND_START:
    do_start(vm);
    break;
  case COMMAND_PAUSE:
    do_pause(vm, command->text);
    break;
  case COMMAND_RESET:
    do_reset_command(vm, command);
    break;
  case COMMAND_SHUTDOWN:
    tell(vm, VM_EVENT_SHUTDOWN, command->text);
    if (vm->no_shutdown)
      do_pause(vm, command->text);
    else
      do_end(vm, 0, command->text);
    break;
  case COMMAND_PANIC:
    tell(vm, VM_EVENT_PANIC, command->text);
    do_end(vm, command->status, command->text);
    break;
  case COMMAND_END:
    do_end(vm, command->status, command->text);
    break;
  }
}

static Command *next_command(Vm *vm)
{
  g_mutex_lock(&vm->command_mutex);
  Command *command = g_queue_pop_head(&vm->commands);
  g_mutex_unlock(&vm->command_mutex);
  return command;
}

/* The queue is empty: CPUs run if the machine does. Not if a command has come in since, which has ordered them to park. */
static void let_cpus_run(Vm *vm)
{
  g_mutex_lock(&vm->command_mutex);
  bool run = vm->state == VM_STATE_RUNNING && g_queue_is_empty(&vm->commands);
  if (run)
    atomic_store(&vm->cpus_may_run, true);
  g_mutex_unlock(&vm->command_mutex);
  if (run)
    vm_cpus_release(vm);
}

static gboolean process_commands(void *opaque)
{
  Vm *vm = opaque;
  Command *command;
  while (vm_cpus_are_parked(vm) && (command = next_command(vm)) != NULL) {
    carry_out(vm, command);
    command_free(command);
  }
  let_cpus_run(vm);
  return G_SOURCE_REMOVE;
}

void vm_cpu_has_parked(Vm *vm)
{
  vm_io_context_invoke(vm->ctx, process_commands, vm, NULL);
}

/* ---- commands: any thread ------------------------------------------------------------------------------------------------ */

/* Queued twice in a row these mean no more than once. */
static bool repeats_last(Vm *vm, CommandKind kind)
{
  const Command *last = g_queue_peek_tail(&vm->commands);
  return last != NULL && last->kind == kind && kind != COMMAND_END;
}

static void push(Vm *vm, CommandKind kind, int status, const char *text)
{
  Command *command = g_new(Command, 1);
  *command = (Command){ kind, status, vm_cpu_current() != NULL, g_strdup(text) };
  g_mutex_lock(&vm->command_mutex);
  if (repeats_last(vm, kind))
    command_free(command);
  else
    g_queue_push_tail(&vm->commands, command);
  atomic_store(&vm->cpus_may_run, false);
  g_mutex_unlock(&vm->command_mutex);
  vm_cpus_stop(vm);
  vm_io_context_invoke(vm->ctx, process_commands, vm, NULL);
}

void vm_start(Vm *vm)
{
  push(vm, COMMAND_START, 0, NULL);
}
void vm_pause(Vm *vm)
{
  push(vm, COMMAND_PAUSE, 0, NULL);
}
void vm_request_reset(Vm *vm)
{
  push(vm, COMMAND_RESET, 0, NULL);
}
void vm_request_shutdown(Vm *vm)
{
  push(vm, COMMAND_SHUTDOWN, 0, NULL);
}
void vm_request_end(Vm *vm, int exit_status, const char *why)
{
  push(vm, COMMAND_END, exit_status, why);
}

static gboolean press_power_button(void *opaque)
{
  Vm *vm = opaque;
  tell(vm, VM_EVENT_POWERDOWN, NULL);
  if (vm->powerdown != NULL)
    vm->powerdown(vm->powerdown_opaque);
  return G_SOURCE_REMOVE;
}

void vm_request_powerdown(Vm *vm)
{
  vm_io_context_invoke(vm->ctx, press_power_button, vm, NULL);
}

void vm_report_triple_fault(Vm *vm, VmCpu *cpu)
{
  g_autofree char *text = g_strdup_printf("CPU %u shut down after a triple fault", cpu->index);
  if (vm->no_reboot)
    push(vm, COMMAND_PANIC, 3, text);
  else
    push(vm, COMMAND_RESET, 0, text);
}

void vm_report_cpu_error(Vm *vm, VmCpu *cpu, const char *text)
{
  g_autofree char *full =
      g_strdup_printf("CPU %u cannot go on: %s", cpu->index, text != NULL ? text : "no reason given");
  push(vm, COMMAND_PANIC, 3, full);
}

int vm_wait(Vm *vm)
{
  g_mutex_lock(&vm->command_mutex);
  while (!vm->has_ended)
    g_cond_wait(&vm->ended, &vm->command_mutex);
  int status = vm->exit_status;
  g_mutex_unlock(&vm->command_mutex);
  return status;
}

int vm_get_exit_status(const Vm *vm)
{
  return vm->exit_status;
}
