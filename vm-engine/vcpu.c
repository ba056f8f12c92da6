/*
 * vCPU threads.
 *
 * A thread alternates between two places: the accelerator's cpu_run, and the loop below, which parks the CPU while the
 * machine is paused, reset, saved or ended, runs work that others queued for it, takes INIT and SIPI, and sleeps while
 * the CPU is halted.
 *
 * Parking: whoever wants the CPUs out of guest code clears vm->cpus_may_run, then requests STOP. A CPU clears STOP,
 * then looks at cpus_may_run under its own mutex, and says `parked` under the same mutex; so either it sees the order
 * and parks, or the STOP that follows makes cpu_run return and it looks again.
 *
 * Sleeping: a halted CPU announces `sleeping`, then looks at the requests; a requester sets its bits, then looks at
 * `sleeping`. All four are sequentially consistent, so one of the two sees the other.
 */
#include "vm-engine/iocontext.h"
#include "vm-engine/vm-private.h"
#include "vm-engine/x86/cpu.h"

struct VmCpuThread {
  GThread *thread; /* NULL in a manual machine: nobody runs the CPU */
  GMutex mutex;    /* guards the next four */
  GCond cond;
  GQueue work;
  bool quit, parked;
  bool halted; /* the thread's own: cpu_run returned because of HLT */
  _Atomic bool sleeping;
};

typedef struct Work {
  VmCpuFunc func;
  void *data;
} Work;

/* A thread's identity, not the program's state: what vm_cpu_current() exists to tell. */
static _Thread_local VmCpu *current_cpu;

VmCpu *vm_cpu_current(void)
{
  return current_cpu;
}

/* ---- requests ------------------------------------------------------------------------------------------------------- */

static void wake(VmCpu *cpu)
{
  g_mutex_lock(&cpu->thread->mutex);
  g_cond_signal(&cpu->thread->cond);
  g_mutex_unlock(&cpu->thread->mutex);
}

void vm_cpu_request(VmCpu *cpu, uint32_t bits)
{
  uint32_t old = atomic_fetch_or(&cpu->requests, bits);
  if ((old & bits) == bits || cpu->thread->thread == NULL || cpu == current_cpu)
    return;
  cpu->vm->accel_ops->cpu_kick(cpu);
  if (atomic_load(&cpu->thread->sleeping))
    wake(cpu);
}

void vm_cpu_clear_request(VmCpu *cpu, uint32_t bits)
{
  atomic_fetch_and(&cpu->requests, ~bits);
}

void vm_cpu_sipi(VmCpu *cpu, uint8_t vector)
{
  cpu->sipi_vector = vector;
  vm_cpu_request(cpu, VM_CPU_REQ_SIPI);
}

void vm_cpu_run_on(VmCpu *cpu, VmCpuFunc func, void *data)
{
  Work *work = g_new(Work, 1);
  *work = (Work){ func, data };
  g_mutex_lock(&cpu->thread->mutex);
  g_queue_push_tail(&cpu->thread->work, work);
  g_cond_signal(&cpu->thread->cond);
  g_mutex_unlock(&cpu->thread->mutex);
  vm_cpu_request(cpu, VM_CPU_REQ_STOP);
}

void vm_cpu_set_intc(VmCpu *cpu, const VmCpuIntcOps *ops, void *intc)
{
  cpu->intc_ops = ops;
  cpu->intc = intc;
}

/* ---- the loop --------------------------------------------------------------------------------------------------------- */

/* Mutex held; free while the work runs. */
static void run_work(VmCpu *cpu)
{
  Work *work;
  while ((work = g_queue_pop_head(&cpu->thread->work)) != NULL) {
    g_mutex_unlock(&cpu->thread->mutex);
    work->func(cpu, work->data);
    g_free(work);
    g_mutex_lock(&cpu->thread->mutex);
  }
}

static void take_init(VmCpu *cpu)
{
  const VmAccelOps *ops = cpu->vm->accel_ops;
  vm_cpu_clear_request(cpu, VM_CPU_REQ_INIT);
  ops->cpu_store(cpu);
  x86_cpu_reset(cpu->x86, cpu->index == 0, true);
  if (cpu->intc_ops != NULL && cpu->intc_ops->init != NULL)
    cpu->intc_ops->init(cpu->intc);
  ops->cpu_load(cpu);
  cpu->thread->halted = false;
}

static void take_sipi(VmCpu *cpu)
{
  vm_cpu_clear_request(cpu, VM_CPU_REQ_SIPI);
  if (!cpu->x86->wait_for_sipi)
    return;
  x86_cpu_start_ap(cpu->x86, cpu->sipi_vector);
  cpu->vm->accel_ops->cpu_load(cpu);
  cpu->thread->halted = false;
}

static void take_startup_requests(VmCpu *cpu)
{
  if (vm_cpu_requests(cpu) & VM_CPU_REQ_INIT)
    take_init(cpu);
  if (vm_cpu_requests(cpu) & VM_CPU_REQ_SIPI)
    take_sipi(cpu);
}

/* Which requests end the CPU's sleep; none need to if it does not sleep. */
static bool must_sleep(VmCpu *cpu)
{
  uint32_t wakes = VM_CPU_REQ_STOP | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI;
  if (!cpu->x86->wait_for_sipi) {
    if (!cpu->thread->halted)
      return false;
    wakes |= VM_CPU_REQ_NMI | VM_CPU_REQ_SMI | VM_CPU_REQ_FLUSH | VM_CPU_REQ_TRANSLATOR;
    if (cpu->x86->rflags & X86_F_IF)
      wakes |= VM_CPU_REQ_INTR;
  }
  return (atomic_load(&cpu->requests) & wakes) == 0;
}

/* Mutex held. Returns early when anything changes. */
static void sleep_halted(VmCpu *cpu)
{
  atomic_store(&cpu->thread->sleeping, true);
  if (must_sleep(cpu))
    g_cond_wait(&cpu->thread->cond, &cpu->thread->mutex);
  atomic_store(&cpu->thread->sleeping, false);
}

/* Mutex held; free while others are told. */
static void park(VmCpu *cpu)
{
  if (cpu->thread->parked) {
    g_cond_wait(&cpu->thread->cond, &cpu->thread->mutex);
    return;
  }
  cpu->thread->parked = true;
  g_mutex_unlock(&cpu->thread->mutex);
  vm_cpu_has_parked(cpu->vm);
  g_mutex_lock(&cpu->thread->mutex);
}

/* Does what is asked of the CPU until it can run guest code. False: the thread shall end. */
static bool wait_until_runnable(VmCpu *cpu)
{
  struct VmCpuThread *t = cpu->thread;
  bool runnable = false;
  g_mutex_lock(&t->mutex);
  while (!runnable && !t->quit) {
    vm_cpu_clear_request(cpu, VM_CPU_REQ_STOP);
    run_work(cpu);
    if (!atomic_load(&cpu->vm->cpus_may_run)) {
      if (!t->quit)
        park(cpu);
      continue;
    }
    t->parked = false;
    g_mutex_unlock(&t->mutex);
    take_startup_requests(cpu); /* takes the controller's lock, so not with the mutex */
    g_mutex_lock(&t->mutex);
    if (must_sleep(cpu))
      sleep_halted(cpu);
    else
      runnable = true;
  }
  g_mutex_unlock(&t->mutex);
  return runnable;
}

static void *cpu_main(void *opaque)
{
  VmCpu *cpu = opaque;
  current_cpu = cpu;
  atomic_store(&cpu->host_thread_id, gettid());
  while (wait_until_runnable(cpu)) {
    VmCpuExit reason = cpu->vm->accel_ops->cpu_run(cpu);
    cpu->thread->halted = reason == VM_CPU_EXIT_HALT;
    if (reason == VM_CPU_EXIT_TRIPLE_FAULT)
      vm_report_triple_fault(cpu->vm, cpu);
    else if (reason == VM_CPU_EXIT_ERROR)
      vm_report_cpu_error(cpu->vm, cpu, cpu->error_text);
  }
  return NULL;
}

/* ---- making and freeing ----------------------------------------------------------------------------------------------- */

static void cpu_free(VmCpu *cpu)
{
  const VmAccelOps *ops = cpu->vm->accel_ops;
  if (ops == NULL)
    g_aligned_free(cpu->x86);
  else if (cpu->x86 != NULL)
    ops->cpu_destroy(cpu);
  Work *work;
  while ((work = g_queue_pop_head(&cpu->thread->work)) != NULL)
    g_free(work);
  g_mutex_clear(&cpu->thread->mutex);
  g_cond_clear(&cpu->thread->cond);
  g_free(cpu->thread);
  g_free(cpu->error_text);
  g_free(cpu);
}

/* A manual machine's CPU is never run: its state stands there for devices and tests to look at. */
static bool create_state(VmCpu *cpu, GError **error)
{
  Vm *vm = cpu->vm;
  if (vm->accel_ops != NULL)
    return vm->accel_ops->cpu_create(vm->accel, cpu, error);
  cpu->x86 = g_aligned_alloc0(1, sizeof(X86Cpu), _Alignof(X86Cpu));
  x86_cpu_reset(cpu->x86, cpu->index == 0, false);
  return true;
}

static bool start_thread(VmCpu *cpu, GError **error)
{
  if (cpu->vm->accel_ops == NULL)
    return true;
  g_autofree char *name = g_strdup_printf("cpu%u", cpu->index);
  g_autoptr(GError) reason = NULL;
  cpu->thread->thread = g_thread_try_new(name, cpu_main, cpu, &reason);
  if (cpu->thread->thread == NULL)
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "cannot start a thread for CPU %u: %s", cpu->index, reason->message);
  return cpu->thread->thread != NULL;
}

VmCpu *vm_cpu_new(Vm *vm, GError **error)
{
  VmCpu *cpu = g_new0(VmCpu, 1);
  cpu->vm = vm;
  cpu->index = vm->cpus->len;
  cpu->thread = g_new0(struct VmCpuThread, 1);
  cpu->thread->parked = true;
  g_mutex_init(&cpu->thread->mutex);
  g_cond_init(&cpu->thread->cond);
  g_queue_init(&cpu->thread->work);
  if (!create_state(cpu, error) || !start_thread(cpu, error)) {
    cpu_free(cpu);
    return NULL;
  }
  g_ptr_array_add(vm->cpus, cpu);
  return cpu;
}

unsigned vm_get_n_cpus(const Vm *vm)
{
  return vm->cpus->len;
}

VmCpu *vm_get_cpu(Vm *vm, unsigned index)
{
  return index < vm->cpus->len ? g_ptr_array_index(vm->cpus, index) : NULL;
}

/* ---- all of a machine's CPUs -------------------------------------------------------------------------------------------- */

bool vm_cpus_are_parked(Vm *vm)
{
  bool all = true;
  for (unsigned i = 0; i < vm->cpus->len && all; i++) {
    struct VmCpuThread *t = vm_get_cpu(vm, i)->thread;
    g_mutex_lock(&t->mutex);
    all = t->parked;
    g_mutex_unlock(&t->mutex);
  }
  return all;
}

void vm_cpus_stop(Vm *vm)
{
  for (unsigned i = 0; i < vm->cpus->len; i++)
    vm_cpu_request(vm_get_cpu(vm, i), VM_CPU_REQ_STOP);
}

void vm_cpus_release(Vm *vm)
{
  for (unsigned i = 0; i < vm->cpus->len; i++)
    wake(vm_get_cpu(vm, i));
}

void vm_cpus_reset(Vm *vm)
{
  for (unsigned i = 0; i < vm->cpus->len; i++) {
    VmCpu *cpu = vm_get_cpu(vm, i);
    x86_cpu_reset(cpu->x86, i == 0, false);
    vm_cpu_clear_request(cpu, VM_CPU_REQ_NMI | VM_CPU_REQ_SMI | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI);
    cpu->thread->halted = false;
  }
}

void vm_cpus_load(Vm *vm)
{
  for (unsigned i = 0; i < vm->cpus->len; i++) {
    vm_get_cpu(vm, i)->thread->halted = false; /* cpu_run finds out anew */
    if (vm->accel_ops != NULL)
      vm->accel_ops->cpu_load(vm_get_cpu(vm, i));
  }
}

void vm_cpus_store(Vm *vm)
{
  for (unsigned i = 0; i < vm->cpus->len && vm->accel_ops != NULL; i++)
    vm->accel_ops->cpu_store(vm_get_cpu(vm, i));
}

void vm_cpus_join(Vm *vm)
{
  for (unsigned i = 0; i < vm->cpus->len; i++) {
    VmCpu *cpu = vm_get_cpu(vm, i);
    if (cpu->thread->thread == NULL)
      continue;
    g_mutex_lock(&cpu->thread->mutex);
    cpu->thread->quit = true;
    g_cond_signal(&cpu->thread->cond);
    g_mutex_unlock(&cpu->thread->mutex);
    vm_cpu_request(cpu, VM_CPU_REQ_STOP);
    g_thread_join(g_steal_pointer(&cpu->thread->thread));
  }
}

void vm_cpus_free(Vm *vm)
{
  for (unsigned i = 0; i < vm->cpus->len; i++)
    cpu_free(vm_get_cpu(vm, i));
  g_ptr_array_set_size(vm->cpus, 0);
}
