/*
 * The KVM accelerator with small programs in real and long mode: ports, MMIO, ROM, halting and interrupts by an
 * interrupt controller of ours, state in and out, pausing, triple faults.
 */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm-engine/accel/kvm/probe.h"
#include "vm-engine/device.h"
#include "vm-engine/display.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/cpu.h"

#define RAM_BYTES  (2u << 20)
#define TEXT_PORT  0x402
#define QUIT_PORT  0x501
#define IRQ_PORT   0x600
#define MMIO_BASE  0xd0000000u
#define IRQ_VECTOR 0x20

typedef struct Machine {
  Vm *vm;
  VmRam *ram, *rom;
  VmRegion *mmio_region;
  GString *text;
  GString *mmio;
  /* The interrupt controller: one line, one vector. */
  bool pending;
  unsigned acknowledged;
  uint8_t tpr;
  uint64_t apic_base;
  uint64_t deadline_msr;
  const uint8_t *program;
  size_t program_bytes;
  bool long_mode;
  GMutex mutex;
  GCond cond;
  unsigned counts[VM_EVENT_ENDED + 1];
  char *panic;
} Machine;

/* ---- devices -------------------------------------------------------------------------------------------------------------- */

static uint64_t text_read(void *opaque, uint64_t offset, unsigned size)
{
  return 0xe9;
}
static void text_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  g_string_append_c(((Machine *)opaque)->text, (char)value);
}
static const VmMmioOps text_ops = { text_read, text_write, 1, 1, false };

static void quit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  vm_request_end(((Machine *)opaque)->vm, (int)value, "the guest is done");
}
static const VmMmioOps quit_ops = { .write = quit_write };

/* The guest asks for an interrupt. */
static void irq_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Machine *m = opaque;
  m->pending = true;
  vm_cpu_request(vm_get_cpu(m->vm, 0), VM_CPU_REQ_INTR);
}
static const VmMmioOps irq_ops = { .write = irq_write };

static uint64_t mmio_read(void *opaque, uint64_t offset, unsigned size)
{
  g_string_append_printf(((Machine *)opaque)->mmio, "r%u@%x ", size, (unsigned)offset);
  return 0x8877665544332211 >> (offset % 8 * 8);
}
static void mmio_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  g_string_append_printf(((Machine *)opaque)->mmio, "w%u@%x=%x ", size, (unsigned)offset, (unsigned)value);
}
static const VmMmioOps mmio_ops = { mmio_read, mmio_write, 1, 8, false };

static int intc_acknowledge(void *intc)
{
  Machine *m = intc;
  VmIoContext *ctx = vm_get_io_context(m->vm);
  vm_io_context_lock(ctx);
  int vector = m->pending ? IRQ_VECTOR : -1;
  m->pending = false;
  m->acknowledged++;
  vm_cpu_clear_request(vm_get_cpu(m->vm, 0), VM_CPU_REQ_INTR);
  vm_io_context_unlock(ctx);
  return vector;
}
static uint8_t intc_get_tpr(void *intc)
{
  return ((Machine *)intc)->tpr;
}
static void intc_set_tpr(void *intc, uint8_t cr8)
{
  ((Machine *)intc)->tpr = cr8;
}
static uint64_t intc_get_base(void *intc)
{
  return ((Machine *)intc)->apic_base;
}
static bool intc_set_base(void *intc, uint64_t value)
{
  ((Machine *)intc)->apic_base = value;
  return true;
}
static bool intc_read_msr(void *intc, uint32_t index, uint64_t *value)
{
  *value = index == 0x6e0 ? ((Machine *)intc)->deadline_msr : index;
  return index != 0x8ff;
}
static bool intc_write_msr(void *intc, uint32_t index, uint64_t value)
{
  ((Machine *)intc)->deadline_msr = value;
  return index == 0x6e0;
}
static void intc_init(void *intc) {}
static const VmCpuIntcOps intc_ops = { intc_acknowledge, intc_get_tpr,  intc_set_tpr,   intc_get_base,
                                       intc_set_base,    intc_read_msr, intc_write_msr, intc_init };

/* ---- the machine -------------------------------------------------------------------------------------------------------------- */

static void on_event(Vm *vm, VmEvent event, const char *text, void *opaque)
{
  Machine *m = opaque;
  g_mutex_lock(&m->mutex);
  m->counts[event]++;
  if (event == VM_EVENT_PANIC) {
    g_free(m->panic);
    m->panic = g_strdup(text);
  }
  g_cond_broadcast(&m->cond);
  g_mutex_unlock(&m->mutex);
}

static bool wait_event(Machine *m, VmEvent event, unsigned n)
{
  int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
  g_mutex_lock(&m->mutex);
  while (m->counts[event] < n && g_cond_wait_until(&m->cond, &m->mutex, until))
    ;
  bool good = m->counts[event] >= n;
  g_mutex_unlock(&m->mutex);
  return good;
}

/* 64-bit mode, identity-mapped by one page of 1 GiB … or 2 MiB pages, with an IDT at 0x5000. */
static void enter_long_mode(Machine *m)
{
  uint8_t *ram = vm_ram_get_hva(m->ram);
  X86Cpu *x = vm_get_cpu(m->vm, 0)->x86;
  uint64_t pml4 = 0x2000 | 3, pdpt0 = 0x3000 | 3, pdpt3 = 0x4000 | 3;
  memcpy(ram + 0x1000, &pml4, 8);
  memcpy(ram + 0x2000, &pdpt0, 8);
  memcpy(ram + 0x2000 + 3 * 8, &pdpt3, 8);
  for (uint64_t i = 0; i < 512; i++) {
    uint64_t low = i << 21 | 0x83, high = (UINT64_C(3) << 30) + (i << 21) + 0x83;
    memcpy(ram + 0x3000 + 8 * i, &low, 8);
    memcpy(ram + 0x4000 + 8 * i, &high, 8);
  }
  /* GDT at 0x6000: null, 64-bit code, data. */
  const uint64_t gdt[3] = { 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
  memcpy(ram + 0x6000, gdt, sizeof(gdt));
  x->gdt = (X86Table){ .base = 0x6000, .limit = sizeof(gdt) - 1 };
  x->idt = (X86Table){ .base = 0x5000, .limit = 0xfff };
  x->cr3 = 0x1000;
  x->cr4 = X86_CR4_PAE;
  x->efer = X86_EFER_LME | X86_EFER_LMA;
  x->cr0 = X86_CR0_PE | X86_CR0_PG | X86_CR0_ET | X86_CR0_NE;
  const uint32_t code =
      X86_ATTR_P | X86_ATTR_S | X86_ATTR_CODE | X86_ATTR_RW | X86_ATTR_ACCESSED | X86_ATTR_L | X86_ATTR_G;
  const uint32_t data = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED | X86_ATTR_DB | X86_ATTR_G;
  for (unsigned i = 0; i < X86_N_SEG; i++)
    x->seg[i] = (X86Segment){ .selector = 0x10, .limit = 0xffffffff, .attr = data };
  x->seg[X86_CS] = (X86Segment){ .selector = 8, .limit = 0xffffffff, .attr = code };
  x->gpr[X86_RSP] = 0x9000;
}

/* Programs start at 0x10000: in real mode as 1000:0000, in long mode flat. */
static void load_program(void *opaque)
{
  Machine *m = opaque;
  X86Cpu *x = vm_get_cpu(m->vm, 0)->x86;
  memcpy(vm_ram_get_hva(m->ram) + 0x10000, m->program, m->program_bytes);
  if (m->long_mode) {
    enter_long_mode(m);
    x->rip = 0x10000;
    return;
  }
  x->seg[X86_CS].selector = 0x1000;
  x->seg[X86_CS].base = 0x10000;
  x->rip = 0;
  x->gpr[X86_RSP] = 0x8000;
}

static Machine *machine_new(const uint8_t *program, size_t size, bool long_mode)
{
  g_autoptr(GError) error = NULL;
  Vm *vm = vm_new(&vm_accel_kvm, &error);
  if (vm == NULL) {
    g_test_skip(error->message);
    return NULL;
  }
  Machine *m = g_new0(Machine, 1);
  *m =
      (Machine){ .vm = vm, .program = program, .program_bytes = size, .long_mode = long_mode, .apic_base = 0xfee00900 };
  m->text = g_string_new(NULL);
  m->mmio = g_string_new(NULL);
  VmMemory *memory = vm_get_memory(vm);
  VmIoContext *ctx = vm_get_io_context(vm);
  m->ram = vm_ram_new(memory, "ram", RAM_BYTES, NULL);
  m->rom = vm_ram_new(memory, "rom", 0x10000, NULL);
  memset(vm_ram_get_hva(m->rom), 0x5a, 0x10000);
  vm_region_new_ram(memory, "ram", 0, RAM_BYTES, 0, m->ram, 0, VM_ACCESS_RW);
  vm_region_new_rom(memory, "rom", 0xf0000, 0x10000, 1, m->rom, 0);
  vm_region_new_io(memory, "text", VM_SPACE_PORTS, TEXT_PORT, 1, 0, &text_ops, m, ctx);
  vm_region_new_io(memory, "quit", VM_SPACE_PORTS, QUIT_PORT, 1, 0, &quit_ops, m, ctx);
  vm_region_new_io(memory, "irq", VM_SPACE_PORTS, IRQ_PORT, 1, 0, &irq_ops, m, ctx);
  m->mmio_region = vm_region_new_io(memory, "mmio", VM_SPACE_MEMORY, MMIO_BASE, 0x1000, 0, &mmio_ops, m, ctx);
  VmCpu *cpu = vm_cpu_new(vm, &error);
  g_assert_no_error(error);
  vm_cpu_set_intc(cpu, &intc_ops, m);
  vm_add_reset_handler(vm, load_program, m);
  vm_add_listener(vm, on_event, m);
  return m;
}

static void machine_free(Machine *m)
{
  vm_free(m->vm);
  g_string_free(m->text, TRUE);
  g_string_free(m->mmio, TRUE);
  g_free(m->panic);
  g_free(m);
}

/* Runs to the end. Where this host's KVM is no good, a failure is the host's: skipped, and false. */
static bool run_to_end(Machine *m, int status)
{
  vm_start(m->vm);
  if (wait_event(m, VM_EVENT_ENDED, 1) && vm_get_exit_status(m->vm) == status)
    return true;
  g_autofree char *why = vm_kvm_probe(NULL);
  if (why == NULL)
    g_error("status %d instead of %d: %s", vm_get_exit_status(m->vm), status, m->panic != NULL ? m->panic : "no panic");
  g_test_skip(why);
  return false;
}

#define QUIT(status)   0xba, 0x01, 0x05, 0xb0, status, 0xee, 0xf4 /* mov dx, 501h; mov al, status; out dx, al; hlt */
#define QUIT64(status) 0x66, 0xba, 0x01, 0x05, 0xb0, status, 0xee, 0xf4

/* ---- the tests ---------------------------------------------------------------------------------------------------------------- */

static void test_real_mode(void)
{
  static const uint8_t program[] = {
    0xbe,    0x16, 0x00,       /* mov si, text */
    0x2e,    0xac,             /* next: cs lodsb */
    0x84,    0xc0, 0x74, 0x06, /* test al, al; jz done */
    0xba,    0x02, 0x04, 0xee, /* mov dx, 402h; out dx, al */
    0xeb,    0xf4,             /* jmp next */
    QUIT(7),                   /* done: */
    'r',     'e',  'a',  'l',  0,
  };
  Machine *m = machine_new(program, sizeof(program), false);
  if (m == NULL)
    return;
  if (run_to_end(m, 7))
    g_assert_cmpstr(m->text->str, ==, "real");
  machine_free(m);
}

/* String I/O, a port read, a write to ROM that is dropped, memory that is not there. */
static void test_ports_and_rom(void)
{
  static const uint8_t program[] = {
    0xb8,    0x00, 0x10, 0x8e, 0xd8, 0xbe, 0x29, 0x00, /* ds = 1000h; mov si, text */
    0xb9,    0x03, 0x00, 0xba, 0x02, 0x04, 0xf3, 0x6e, /* mov cx, 3; mov dx, 402h; rep outsb */
    0xec,    0xee,                                     /* in al, dx; out dx, al */
    0xb8,    0x00, 0xf0, 0x8e, 0xd8,                   /* ds = f000h */
    0xc6,    0x06, 0x10, 0x00, 0x41,                   /* mov byte [10h], 'A' */
    0xa0,    0x10, 0x00, 0xee,                         /* mov al, [10h]; out dx, al */
    QUIT(9), 0xf4, 0xf4,                               /* */
    'a',     'b',  'c',  'x',  'y',
  };
  G_STATIC_ASSERT(sizeof(program) == 0x29 + 5);
  Machine *m = machine_new(program, sizeof(program), false);
  if (m == NULL)
    return;
  if (run_to_end(m, 9)) {
    g_assert_cmpuint(m->text->len, ==, 5);
    g_assert_cmphex((uint8_t)m->text->str[3], ==, 0xe9);
    g_assert_cmphex((uint8_t)m->text->str[4], ==, 0x5a);
  }
  machine_free(m);
}

/* HLT, then an interrupt through the controller, by the real-mode vector table. */
static void test_interrupts(void)
{
  static const uint8_t program[] = {
    0x31,     0xc0, 0x8e, 0xd8, 0x8e, 0xd0,                                     /* ds = ss = 0 */
    0xc7,     0x06, 0x80, 0x00, 0x30, 0x00, 0xc7, 0x06, 0x82, 0x00, 0x00, 0x10, /* vector 20h = 1000:0030 */
    0xb9,     0x05, 0x00,                                                       /* mov cx, 5 */
    0xba,     0x00, 0x06, 0xfa, 0xee,                                           /* again: cli; ask for an interrupt */
    0xfb,     0xf4,                                                             /* sti; hlt */
    0xe2,     0xf7,                                                             /* loop again */
    QUIT(11),                                                                   /* */
    0x90,     0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90,       /* to 30h: */
    0x50,     0x52, 0xba, 0x02, 0x04, 0xb0, 'i',  0xee, 0x5a, 0x58, 0xcf,       /* out 402h, 'i'; iret */
  };
  G_STATIC_ASSERT(sizeof(program) == 0x30 + 11);
  Machine *m = machine_new(program, sizeof(program), false);
  if (m == NULL)
    return;
  if (run_to_end(m, 11)) {
    g_assert_cmpstr(m->text->str, ==, "iiiii");
    g_assert_cmpuint(m->acknowledged, ==, 5);
  }
  machine_free(m);
}

static void test_long_mode(void)
{
  static const uint8_t program[] = {
    0x48,       0xbb, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,             /* mov rbx, 0123456789abcdefh */
    0xbf,       0x00, 0x00, 0x00, 0xd0,                                           /* mov edi, MMIO */
    0x8b,       0x07,                                                             /* mov eax, [rdi] */
    0x89,       0x47, 0x10,                                                       /* mov [rdi+16], eax */
    0x88,       0x5f, 0x20,                                                       /* mov [rdi+32], bl */
    0x0f,       0xb7, 0x47, 0x02,                                                 /* movzx eax, word [rdi+2] */
    0xb9,       0xe8, 0x03, 0x00, 0x00, 0x48, 0xff, 0xc3, 0xff, 0xc9, 0x75, 0xf9, /* 1000 times inc rbx */
    0x48,       0x89, 0x1c, 0x25, 0x00, 0x80, 0x00, 0x00,                         /* mov [8000h], rbx */
    QUIT64(13),
  };
  Machine *m = machine_new(program, sizeof(program), true);
  if (m == NULL)
    return;
  if (run_to_end(m, 13)) {
    g_assert_cmpstr(m->mmio->str, ==, "r4@0 w4@10=44332211 w1@20=ef r2@2 ");
    uint64_t value;
    memcpy(&value, vm_ram_get_hva(m->ram) + 0x8000, 8);
    g_assert_cmphex(value, ==, 0x0123456789abcdef + 1000);
  }
  machine_free(m);
}

/* The controller's MSRs reach it: TSC deadline; CR8 too. */
static void test_controller_registers(void)
{
  static const uint8_t program[] = {
    0xb9,       0xe0, 0x06, 0x00, 0x00, 0xb8, 0x78, 0x56, 0x34,
    0x12,       0x31, 0xd2, 0x0f, 0x30,                         /* wrmsr 6e0h, 12345678h */
    0x31,       0xc0, 0x0f, 0x32,                               /* rdmsr */
    0xa3,       0x00, 0x80, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, /* mov [8000h], eax */
    0xb8,       0x05, 0x00, 0x00, 0x00, 0x44, 0x0f, 0x22, 0xc0, /* mov cr8, 5 */
    QUIT64(15),
  };
  Machine *m = machine_new(program, sizeof(program), true);
  if (m == NULL)
    return;
  g_autofree char *about = vm_accel_kvm.dup_description(vm_get_accel(m->vm));
  if (strstr(about, "TSC deadline: yes") == NULL) {
    g_test_skip("this kernel does not hand MSRs to user space");
  } else if (run_to_end(m, 15)) {
    g_assert_cmphex(m->deadline_msr, ==, 0x12345678);
    uint32_t value;
    memcpy(&value, vm_ram_get_hva(m->ram) + 0x8000, 4);
    g_assert_cmphex(value, ==, 0x12345678);
    g_assert_cmpuint(m->tpr, ==, 5);
  }
  machine_free(m);
}

static void test_triple_fault(void)
{
  static const uint8_t program[] = { 0x0f, 0x0b }; /* ud2, and no IDT entry is present */
  Machine *m = machine_new(program, sizeof(program), true);
  if (m == NULL)
    return;
  vm_set_no_reboot(m->vm, true);
  if (run_to_end(m, 3))
    g_assert_nonnull(strstr(m->panic, "triple fault"));
  machine_free(m);
}

/* A guest that never exits by itself can be paused, saved, loaded into another machine, and goes on there. */
static int save_to_file(Machine *m)
{
  g_autoptr(GError) error = NULL;
  int fd = memfd_create("state", MFD_CLOEXEC);
  g_assert_true(vm_save(m->vm, fd, &error));
  g_assert_no_error(error);
  lseek(fd, 0, SEEK_SET);
  return fd;
}

static void test_pause_save_load(void)
{
  static const uint8_t program[] = { 0x66, 0x40, 0x90, 0xeb, 0xfb }; /* inc eax; nop; jmp back */
  Machine *m = machine_new(program, sizeof(program), false);
  if (m == NULL)
    return;
  vm_start(m->vm);
  VmCpu *cpu = vm_get_cpu(m->vm, 0);
  for (unsigned i = 1; i <= 5; i++) {
    g_assert_true(wait_event(m, VM_EVENT_RUNNING, i));
    g_usleep(3000);
    vm_pause(m->vm);
    g_assert_true(wait_event(m, VM_EVENT_PAUSED, i));
    if (i < 5)
      vm_start(m->vm);
  }
  int fd = save_to_file(m);
  uint64_t eax = cpu->x86->gpr[X86_RAX];
  g_assert_cmpuint(eax, >, 0);
  g_assert_cmphex(cpu->x86->seg[X86_CS].base, ==, 0x10000);
  g_assert_cmphex(cpu->x86->rip, <, 8);
  Machine *n = machine_new(program, sizeof(program), false);
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_load(n->vm, fd, &error));
  g_assert_no_error(error);
  close(fd);
  vm_start(n->vm);
  g_assert_true(wait_event(n, VM_EVENT_RUNNING, 1));
  g_usleep(5000);
  vm_pause(n->vm);
  g_assert_true(wait_event(n, VM_EVENT_PAUSED, 1));
  close(save_to_file(n)); /* brings cpu->x86 up to date */
  g_assert_cmpuint(vm_get_cpu(n->vm, 0)->x86->gpr[X86_RAX], >, eax);
  machine_free(n);
  machine_free(m);
}

/* The state survives the way through KVM unchanged. */
static void fill_state(X86Cpu *x)
{
  for (unsigned i = 0; i < X86_N_GPR; i++)
    x->gpr[i] = 0x1000 + i;
  x->gpr[X86_RSP] = 0x9000;
  x->cr2 = 0x12345000;
  x->star = UINT64_C(0x0023001000000000);
  x->lstar = 0x8000;
  x->sfmask = 0x47700;
  x->kernel_gs_base = 0x123456;
  x->sysenter_eip = 0x4000;
  x->seg[X86_GS].base = 0x77000;
  x->dr[0] = 0x1234;
  x->fpu.fcw = 0x27f;
  x->fpu.mxcsr = 0x1fa0;
  x->fpu.ftw = 0x80;
  for (unsigned i = 0; i < 10; i++)
    x->fpu.st[0][i] = (uint8_t)(i + 1);
  x->fpu.st[0][9] = 0x3f;
  for (unsigned i = 0; i < 16; i++)
    memset(x->fpu.xmm[i], (int)i + 1, 16);
  x->nmi_masked = 1;
}

static void test_state(void)
{
  static const uint8_t program[] = { 0xf4 };
  Machine *m = machine_new(program, sizeof(program), true);
  if (m == NULL)
    return;
  enter_long_mode(m);
  VmCpu *cpu = vm_get_cpu(m->vm, 0);
  fill_state(cpu->x86);
  cpu->x86->rip = 0x10000;
  cpu->x86->rflags = 0x202;
  X86Cpu *before = g_aligned_alloc(1, sizeof(X86Cpu), 64);
  *before = *cpu->x86;
  int fd = save_to_file(m); /* of the state as filled */
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_load(m->vm, fd, &error));
  close(fd);
  vm_ram_get_hva(m->ram)[0x10000] = 0xf4;
  vm_start(m->vm); /* a HLT, and it sleeps */
  g_assert_true(wait_event(m, VM_EVENT_RUNNING, 1));
  for (unsigned i = 0; i < 500 && !cpu->x86->halted; i++)
    g_usleep(1000);
  vm_pause(m->vm);
  g_assert_true(wait_event(m, VM_EVENT_PAUSED, 1));
  close(save_to_file(m));
  const X86Cpu *x = cpu->x86;
  if (!x->halted || x->rip != 0x10001) {
    g_autofree char *why = vm_kvm_probe(NULL);
    g_assert_nonnull(why);
    g_test_skip(why);
  } else {
    g_assert_cmpmem(x->gpr, sizeof(x->gpr), before->gpr, sizeof(x->gpr));
    g_assert_cmphex(x->cr2, ==, before->cr2);
    g_assert_cmphex(x->cr3, ==, before->cr3);
    g_assert_cmphex(x->star, ==, before->star);
    g_assert_cmphex(x->lstar, ==, before->lstar);
    g_assert_cmphex(x->kernel_gs_base, ==, before->kernel_gs_base);
    g_assert_cmphex(x->seg[X86_GS].base, ==, before->seg[X86_GS].base);
    g_assert_cmphex(x->seg[X86_CS].attr, ==, before->seg[X86_CS].attr);
    g_assert_cmphex(x->dr[0], ==, before->dr[0]);
    g_assert_cmphex(x->fpu.fcw, ==, before->fpu.fcw);
    g_assert_cmphex(x->fpu.mxcsr, ==, before->fpu.mxcsr);
    g_assert_cmphex(x->fpu.ftw, ==, before->fpu.ftw);
    g_assert_cmpmem(x->fpu.st[0], 10, before->fpu.st[0], 10);
    g_assert_cmpmem(x->fpu.xmm, sizeof(x->fpu.xmm), before->fpu.xmm, sizeof(x->fpu.xmm));
    g_assert_cmpuint(x->nmi_masked, ==, 1);
  }
  g_aligned_free(before);
  machine_free(m);
}

/* Video memory: pages that the guest writes are reported once. */
static void test_dirty_log(void)
{
  static const uint8_t program[] = {
    0xb8,     0x00, 0x40, 0x8e, 0xd8,                            /* ds = 4000h */
    0xc6,     0x06, 0x00, 0x00, 1,    0xc6, 0x06, 0x00, 0x30, 1, /* bytes at 40000h, 43000h */
    QUIT(17),
  };
  Machine *m = machine_new(program, sizeof(program), false);
  if (m == NULL)
    return;
  VmIoContext *ctx = vm_get_io_context(m->vm);
  unsigned long bits[1] = { 0 };
  vm_io_context_lock(ctx);
  vm_ram_track_dirty(m->ram, true);
  vm_ram_collect_dirty(m->ram, 0x40, 8, bits);
  bits[0] = 0;
  g_assert_false(vm_ram_collect_dirty(m->ram, 0x40, 8, bits));
  vm_io_context_unlock(ctx);
  if (run_to_end(m, 17)) {
    vm_io_context_lock(ctx);
    g_assert_true(vm_ram_collect_dirty(m->ram, 0x40, 8, bits));
    g_assert_cmphex(bits[0], ==, 1 << 0 | 1 << 3);
    bits[0] = 0;
    g_assert_false(vm_ram_collect_dirty(m->ram, 0x40, 8, bits));
    vm_io_context_unlock(ctx);
  }
  machine_free(m);
}

/* Coalesced writes wait in the kernel while the guest spins; asking for the picture brings them in. */
typedef struct Card {
  Machine *m;
  char *seen;
} Card;

static void card_update(void *opaque, bool full)
{
  Card *card = opaque;
  g_free(card->seen);
  card->seen = g_strdup(card->m->mmio->str);
}

static void test_coalesced(void)
{
  static const uint8_t program[] = {
    0xbf, 0x00, 0x00, 0x00, 0xd0, 0xc6, 0x07, 0x11, 0xc6, 0x47, 0x01, 0x22, 0xeb, 0xfe, /* two bytes; jmp $ */
  };
  static const VmDisplayCardOps card_ops = { card_update, NULL };
  Machine *m = machine_new(program, sizeof(program), true);
  if (m == NULL)
    return;
  Card card = { .m = m };
  VmIoContext *ctx = vm_get_io_context(m->vm);
  vm_io_context_lock(ctx);
  vm_region_set_coalesced(m->mmio_region, true);
  vm_display_set_card(vm_get_display(m->vm), &card_ops, &card);
  vm_io_context_unlock(ctx);
  vm_start(m->vm);
  g_assert_true(wait_event(m, VM_EVENT_RUNNING, 1));
  unsigned width, height;
  for (unsigned i = 0; i < 200 && (card.seen == NULL || strstr(card.seen, "w1@1") == NULL); i++) {
    g_usleep(5000);
    g_free(vm_display_dup_pixels(vm_get_display(m->vm), &width, &height));
  }
  g_assert_cmpstr(card.seen, ==, "w1@0=11 w1@1=22 ");
  machine_free(m);
  g_free(card.seen);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/kvm/real-mode", test_real_mode);
  g_test_add_func("/kvm/ports-and-rom", test_ports_and_rom);
  g_test_add_func("/kvm/interrupts", test_interrupts);
  g_test_add_func("/kvm/long-mode", test_long_mode);
  g_test_add_func("/kvm/controller-registers", test_controller_registers);
  g_test_add_func("/kvm/triple-fault", test_triple_fault);
  g_test_add_func("/kvm/pause-save-load", test_pause_save_load);
  g_test_add_func("/kvm/state", test_state);
  g_test_add_func("/kvm/dirty-log", test_dirty_log);
  g_test_add_func("/kvm/coalesced", test_coalesced);
  return g_test_run();
}
