/*
 * vCPUs: one thread each, and the requests that other threads put to them.
 *
 * The thread's loop: while it may run, call the accelerator's cpu_run; when that returns, serve the request bits
 * (pause, work, end, reset, INIT/SIPI), sleep while halted, and go on. The wake-up race: a requester sets its bit
 * (release), then kicks; the vCPU announces that it is about to sleep or enter guest code, then looks at the bits
 * (acquire). One of the two always sees the other.
 */
#ifndef VM_VCPU_H
#define VM_VCPU_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct Vm Vm;
typedef struct VmAccel VmAccel;
typedef struct VmCpu VmCpu;
typedef struct X86Cpu X86Cpu;

/* Bits of VmCpu.requests. INTR is a level that mirrors the interrupt controller's output; it stays set until that
 * clears it. NMI, SMI, INIT and SIPI are taken by the accelerator or the loop. */
enum {
  VM_CPU_REQ_INTR = 1 << 0,
  VM_CPU_REQ_NMI = 1 << 1,
  VM_CPU_REQ_SMI = 1 << 2,
  VM_CPU_REQ_INIT = 1 << 3,
  VM_CPU_REQ_SIPI = 1 << 4,
  VM_CPU_REQ_STOP = 1 << 5,  /* leave cpu_run: pause, end, reset or work waits */
  VM_CPU_REQ_FLUSH = 1 << 6, /* the memory map or A20 changed: drop cached translations */
  VM_CPU_REQ_TRANSLATOR = 1 << 7, /* for the translator's own use */
};

/* What a vCPU asks of its local interrupt controller. Called on the vCPU's thread without any lock: the implementation
 * takes its own context's lock. `intc` is the implementer's pointer. */
typedef struct VmCpuIntcOps {
  /* The vector of the interrupt to take now, acknowledging it; -1 if there is none after all. */
  int (*acknowledge)(void *intc);
  /* CR8: bits 7:4 of the task priority. */
  uint8_t (*get_tpr)(void *intc);
  void (*set_tpr)(void *intc, uint8_t cr8);
  uint64_t (*get_apic_base)(void *intc);
  /* False: a reserved combination (the accelerator raises #GP). */
  bool (*set_apic_base)(void *intc, uint64_t value);
  /* MSRs 0x800–0x8FF (x2APIC) and 0x6E0 (TSC deadline). False: #GP. */
  bool (*read_msr)(void *intc, uint32_t index, uint64_t *value);
  bool (*write_msr)(void *intc, uint32_t index, uint64_t value);
  /* INIT reached the CPU: the controller resets itself as the manual says (APIC ID and base stay). */
  void (*init)(void *intc);
} VmCpuIntcOps;

struct VmCpu {
  Vm *vm;
  unsigned index;
  X86Cpu *x86;      /* set by the accelerator's cpu_create */
  void *accel_cpu;  /* the accelerator's own */
  _Atomic uint32_t requests;
  _Atomic uint32_t in_guest; /* 1 while cpu_run executes guest code (for kicks) */
  const VmCpuIntcOps *intc_ops;
  void *intc;
  /* FERR#, for boards that report x87 errors by IRQ 13 (CR0.NE clear); NULL: none, #MF is raised whatever NE says.
   * `active`: an instruction waits for an unmasked x87 exception to be served; false: there is none any more. Returns
   * whether IGNNE# is asserted, so that instructions go on in spite of it. On the vCPU's thread, no lock held. */
  bool (*fpu_error)(VmCpu *cpu, bool active, void *opaque);
  void *fpu_error_opaque;
  uint8_t sipi_vector;
  _Atomic int host_thread_id;
  char *error_text;
  struct VmCpuThread *thread; /* the loop's private part */
};

/* Adds a vCPU; board set-up only. Its number is the count of those before it. */
VmCpu *vm_cpu_new(Vm *vm, GError **error);
void vm_cpu_set_intc(VmCpu *cpu, const VmCpuIntcOps *ops, void *intc);

/* Sets request bits and kicks or wakes the CPU / clears them. Any thread. */
void vm_cpu_request(VmCpu *cpu, uint32_t bits);
void vm_cpu_clear_request(VmCpu *cpu, uint32_t bits);
static inline uint32_t vm_cpu_requests(const VmCpu *cpu)
{
  return atomic_load_explicit(&cpu->requests, memory_order_acquire);
}
/* Startup IPI: `vector` page; ignored unless the CPU waits for it. */
void vm_cpu_sipi(VmCpu *cpu, uint8_t vector);

/* Runs `func(cpu, data)` on the vCPU's thread, out of guest code, soon. Any thread; does not wait. */
typedef void (*VmCpuFunc)(VmCpu *cpu, void *data);
void vm_cpu_run_on(VmCpu *cpu, VmCpuFunc func, void *data);
/* The registers as lines of text, for the monitor: taken on the vCPU's thread, waiting at most a second. Owned. Not from
 * the I/O context or a vCPU. */
char *vm_cpu_dup_registers(VmCpu *cpu);
/* The host's thread ID (gettid) of the vCPU's thread; 0 before it runs. */
static inline int vm_cpu_get_thread_id(const VmCpu *cpu)
{
  return atomic_load_explicit(&cpu->host_thread_id, memory_order_relaxed);
}
/* The calling vCPU thread's CPU, or NULL. */
VmCpu *vm_cpu_current(void);

#endif
