/* See fake-accel.h. */
#include "tests/vm-engine/fake-accel.h"

#include "vm-engine/memory.h"
#include "vm-engine/x86/cpu.h"

struct VmAccel {
  int unused;
};

typedef struct FakeCpu {
  GMutex mutex;
  GCond cond;
} FakeCpu;

static VmAccel *fake_create(Vm *vm, GError **error)
{
  return g_new0(VmAccel, 1);
}
static void fake_destroy(VmAccel *accel)
{
  g_free(accel);
}

static bool fake_cpu_create(VmAccel *accel, VmCpu *cpu, GError **error)
{
  FakeCpu *fake = g_new0(FakeCpu, 1);
  g_mutex_init(&fake->mutex);
  g_cond_init(&fake->cond);
  cpu->accel_cpu = fake;
  cpu->x86 = g_aligned_alloc0(1, sizeof(X86Cpu), 64);
  return true;
}

static void fake_cpu_destroy(VmCpu *cpu)
{
  FakeCpu *fake = cpu->accel_cpu;
  g_mutex_clear(&fake->mutex);
  g_cond_clear(&fake->cond);
  g_free(fake);
  g_aligned_free(cpu->x86);
}

static void fake_cpu_kick(VmCpu *cpu)
{
  FakeCpu *fake = cpu->accel_cpu;
  g_mutex_lock(&fake->mutex);
  g_cond_signal(&fake->cond);
  g_mutex_unlock(&fake->mutex);
}

/* What the "instruction" at RIP does; the port is where the test's device listens. */
static VmCpuExit step(VmCpu *cpu, uint8_t instruction)
{
  VmMemory *memory = vm_get_memory(cpu->vm);
  FakeCpu *fake = cpu->accel_cpu;
  switch (instruction) {
  case FAKE_COUNT:
    cpu->x86->gpr[X86_RAX]++;
    cpu->x86->rip--; /* again */
    return VM_CPU_EXIT_REQUEST;
  case FAKE_OUT:
    vm_port_write(memory, FAKE_PORT, (uint32_t)cpu->x86->gpr[X86_RAX], 1);
    return VM_CPU_EXIT_REQUEST;
  case FAKE_HALT:
    if (vm_cpu_requests(cpu) & VM_CPU_REQ_INTR)
      return VM_CPU_EXIT_REQUEST; /* woken: goes on behind it */
    cpu->x86->rip--;
    cpu->x86->rflags |= X86_F_IF;
    return VM_CPU_EXIT_HALT;
  case FAKE_TRIPLE_FAULT:
    return VM_CPU_EXIT_TRIPLE_FAULT;
  case FAKE_ERROR:
    g_free(cpu->error_text);
    cpu->error_text = g_strdup("fake trouble");
    return VM_CPU_EXIT_ERROR;
  default: /* waits for a request */
    cpu->x86->rip--;
    g_mutex_lock(&fake->mutex);
    while (!(vm_cpu_requests(cpu) & (VM_CPU_REQ_STOP | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI)))
      g_cond_wait(&fake->cond, &fake->mutex);
    g_mutex_unlock(&fake->mutex);
    return VM_CPU_EXIT_REQUEST;
  }
}

static VmCpuExit fake_cpu_run(VmCpu *cpu)
{
  for (;;) {
    if (vm_cpu_requests(cpu) & (VM_CPU_REQ_STOP | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI))
      return VM_CPU_EXIT_REQUEST;
    uint8_t instruction =
        (uint8_t)vm_memory_load(vm_get_memory(cpu->vm), VM_VIEW_NORMAL, cpu->x86->seg[X86_CS].base + cpu->x86->rip, 1);
    cpu->x86->rip++;
    VmCpuExit reason = step(cpu, instruction);
    if (reason != VM_CPU_EXIT_REQUEST)
      return reason;
  }
}

static void fake_nothing(VmCpu *cpu) {}

const VmAccelOps fake_accel = {
  .name = "fake",
  .create = fake_create,
  .destroy = fake_destroy,
  .cpu_create = fake_cpu_create,
  .cpu_destroy = fake_cpu_destroy,
  .cpu_run = fake_cpu_run,
  .cpu_kick = fake_cpu_kick,
  .cpu_load = fake_nothing,
  .cpu_store = fake_nothing,
};
