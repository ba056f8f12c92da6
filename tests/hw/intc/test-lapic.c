/* Local APICs: priorities, EOI, the timer's three modes, IPIs and destinations, x2APIC, the PIC's virtual wire. */
#include "hw/intc/lapic.h"

#include "hw/intc/i8259.h"
#include "tests/hw/device-test.h"
#include "vm-engine/x86/tsc.h"

enum {
  ID = 0x20,
  VERSION = 0x30,
  TPR = 0x80,
  PPR = 0xa0,
  EOI = 0xb0,
  LDR = 0xd0,
  DFR = 0xe0,
  SVR = 0xf0,
  ISR = 0x100,
  TMR = 0x180,
  IRR = 0x200,
  ESR = 0x280,
  ICR = 0x300,
  ICR_HIGH = 0x310,
  LVT_TIMER = 0x320,
  LVT_LINT0 = 0x350,
  LVT_LINT1 = 0x360,
  LVT_ERROR = 0x370,
  INITIAL = 0x380,
  CURRENT = 0x390,
  DIVIDE = 0x3e0,
};
enum { MASKED = 1 << 16, PERIODIC = 1 << 17, TSC_DEADLINE = 1 << 18, MSR_DEADLINE = 0x6e0 };
enum { N_CPUS = 4, ENABLE = 1 << 11, X2APIC = 1 << 10 };

typedef struct Fixture {
  Vm *vm;
  I8259 *pic;
  LapicBus *bus;
  VmCpu *cpus[N_CPUS];
  Lapic *lapics[N_CPUS];
  unsigned eois;
  uint8_t eoi_vector;
} Fixture;

static void on_eoi(void *opaque, uint8_t vector)
{
  Fixture *f = opaque;
  f->eois++;
  f->eoi_vector = vector;
}

static void setup(Fixture *f, gconstpointer data)
{
  f->vm = vm_new_manual();
  f->pic = i8259_create(f->vm);
  f->bus = lapic_bus_create(f->vm, f->pic);
  lapic_bus_set_eoi(f->bus, on_eoi, f);
  for (unsigned i = 0; i < N_CPUS; i++) {
    f->cpus[i] = vm_cpu_new(f->vm, NULL);
    g_assert_nonnull(f->cpus[i]);
    f->lapics[i] = lapic_create(f->bus, f->cpus[i], (uint8_t)i);
  }
  test_store(f->vm, LAPIC_BASE + SVR, 0x1ff, 4);
}

static void teardown(Fixture *f, gconstpointer data)
{
  vm_free(f->vm);
}

/* By memory: CPU 0's registers, as no vCPU thread asks. */
static uint32_t get(Fixture *f, unsigned reg)
{
  return (uint32_t)test_load(f->vm, LAPIC_BASE + reg, 4);
}
static void set(Fixture *f, unsigned reg, uint32_t value)
{
  test_store(f->vm, LAPIC_BASE + reg, value, 4);
}

static int acknowledge(Fixture *f, unsigned cpu)
{
  return f->cpus[cpu]->intc_ops->acknowledge(f->cpus[cpu]->intc);
}

static bool asks(Fixture *f, unsigned cpu)
{
  return vm_cpu_requests(f->cpus[cpu]) & VM_CPU_REQ_INTR;
}

static bool take(Fixture *f, unsigned cpu, uint32_t request)
{
  bool there = vm_cpu_requests(f->cpus[cpu]) & request;
  vm_cpu_clear_request(f->cpus[cpu], request);
  return there;
}

static bool write_msr(Fixture *f, unsigned cpu, uint32_t index, uint64_t value)
{
  return f->cpus[cpu]->intc_ops->write_msr(f->cpus[cpu]->intc, index, value);
}

static uint64_t read_msr(Fixture *f, unsigned cpu, uint32_t index)
{
  uint64_t value = 0;
  g_assert_true(f->cpus[cpu]->intc_ops->read_msr(f->cpus[cpu]->intc, index, &value));
  return value;
}

static bool set_base(Fixture *f, unsigned cpu, uint64_t value)
{
  return f->cpus[cpu]->intc_ops->set_apic_base(f->cpus[cpu]->intc, value);
}

static uint64_t get_base(Fixture *f, unsigned cpu)
{
  return f->cpus[cpu]->intc_ops->get_apic_base(f->cpus[cpu]->intc);
}

/* The other CPUs have no thread here that could reach their memory registers; they go x2APIC and are set up by MSR. */
static void enable_x2apic(Fixture *f, unsigned cpu)
{
  g_assert_true(set_base(f, cpu, get_base(f, cpu) | X2APIC));
  g_assert_true(write_msr(f, cpu, 0x80f, 0x1ff));
}

static void enable_all_x2apic(Fixture *f)
{
  for (unsigned i = 0; i < N_CPUS; i++)
    enable_x2apic(f, i);
}

static bool deliver(Fixture *f, const LapicMessage *message)
{
  test_lock(f->vm);
  bool taken = lapic_bus_deliver(f->bus, message);
  test_unlock(f->vm);
  return taken;
}

static bool send_fixed(Fixture *f, uint32_t destination, uint8_t vector)
{
  return deliver(f, &(LapicMessage){ .destination = destination, .vector = vector });
}

static void test_power_on(Fixture *f, gconstpointer data)
{
  test_reset(f->lapics[0]);
  g_assert_cmphex(get_base(f, 0), ==, 0xfee00900);
  g_assert_cmphex(get_base(f, 1), ==, 0xfee00800);
  g_assert_cmphex(get(f, ID), ==, 0);
  g_assert_cmphex(get(f, VERSION), ==, 0x00050014);
  g_assert_cmphex(get(f, SVR), ==, 0xff);
  g_assert_cmphex(get(f, DFR), ==, 0xffffffff);
  g_assert_cmphex(get(f, LVT_TIMER), ==, MASKED);
  g_assert_cmphex(get(f, LVT_LINT0), ==, 0x700);
  g_assert_false(send_fixed(f, 0, 0x40)); /* disabled by software */
  set(f, LVT_TIMER, 0x30);
  g_assert_cmphex(get(f, LVT_TIMER), ==, MASKED | 0x30);
}

static void test_priorities(Fixture *f, gconstpointer data)
{
  g_assert_true(send_fixed(f, 0, 0x41));
  g_assert_true(send_fixed(f, 0, 0x55));
  g_assert_true(asks(f, 0));
  g_assert_cmphex(get(f, IRR + 0x20), ==, 1u << 1 | 1u << 21);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x55);
  g_assert_cmphex(get(f, PPR), ==, 0x50);
  g_assert_cmphex(get(f, ISR + 0x20), ==, 1u << 21);
  g_assert_false(asks(f, 0));
  send_fixed(f, 0, 0x5f); /* the same class waits */
  g_assert_false(asks(f, 0));
  send_fixed(f, 0, 0x60);
  g_assert_true(asks(f, 0));
  g_assert_cmpint(acknowledge(f, 0), ==, 0x60);
  set(f, EOI, 0);
  set(f, EOI, 0);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x5f);
  set(f, EOI, 0);
  set(f, TPR, 0x40);
  g_assert_cmphex(get(f, PPR), ==, 0x40);
  g_assert_false(asks(f, 0));
  g_assert_cmpint(acknowledge(f, 0), ==, -1);
  f->cpus[0]->intc_ops->set_tpr(f->cpus[0]->intc, 3);
  g_assert_cmphex(get(f, TPR), ==, 0x30);
  g_assert_cmpint(f->cpus[0]->intc_ops->get_tpr(f->cpus[0]->intc), ==, 3);
  g_assert_true(asks(f, 0));
  g_assert_cmpint(acknowledge(f, 0), ==, 0x41);
  set(f, EOI, 0);
  g_assert_cmpuint(f->eois, ==, 0);
}

static void test_eoi_broadcast(Fixture *f, gconstpointer data)
{
  deliver(f, &(LapicMessage){ .destination = 0, .vector = 0x71, .level = true });
  g_assert_cmphex(get(f, TMR + 0x30), ==, 1u << 17);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x71);
  set(f, EOI, 0);
  g_assert_cmpuint(f->eois, ==, 1);
  g_assert_cmphex(f->eoi_vector, ==, 0x71);
  set(f, EOI, 0); /* nothing in service */
  g_assert_cmpuint(f->eois, ==, 1);
}

static void test_one_shot(Fixture *f, gconstpointer data)
{
  set(f, DIVIDE, 3); /* by 16 */
  set(f, LVT_TIMER, 0x30);
  set(f, INITIAL, 1000);
  test_step(f->vm, 8000);
  g_assert_cmpuint(get(f, CURRENT), ==, 500);
  test_step(f->vm, 7999);
  g_assert_false(asks(f, 0));
  g_assert_cmpuint(get(f, CURRENT), ==, 1);
  test_step(f->vm, 1);
  g_assert_true(asks(f, 0));
  g_assert_cmpuint(get(f, CURRENT), ==, 0);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x30);
  set(f, EOI, 0);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_false(asks(f, 0));
  /* Masked it counts, but says nothing, also not afterwards. */
  set(f, LVT_TIMER, MASKED | 0x30);
  set(f, INITIAL, 1000);
  test_step(f->vm, 20000);
  g_assert_cmpuint(get(f, CURRENT), ==, 0);
  set(f, LVT_TIMER, 0x30);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_false(asks(f, 0));
}

static void test_periodic(Fixture *f, gconstpointer data)
{
  set(f, DIVIDE, 0xb); /* by 1 */
  set(f, LVT_TIMER, PERIODIC | 0x31);
  set(f, INITIAL, 1000000);
  for (unsigned i = 0; i < 10; i++) {
    test_step(f->vm, 999999);
    g_assert_false(asks(f, 0));
    test_step(f->vm, 1);
    g_assert_cmpint(acknowledge(f, 0), ==, 0x31);
    g_assert_cmpuint(get(f, CURRENT), ==, 1000000);
    set(f, EOI, 0);
  }
  set(f, INITIAL, 0);
  test_step(f->vm, 10000000);
  g_assert_false(asks(f, 0));
  /* The divider may change under way: what is left counts at the new rate. */
  set(f, INITIAL, 1000000);
  test_step(f->vm, 500000);
  set(f, DIVIDE, 0); /* by 2 */
  g_assert_cmpuint(get(f, CURRENT), ==, 500000);
  test_step(f->vm, 999999);
  g_assert_false(asks(f, 0));
  test_step(f->vm, 1);
  g_assert_true(asks(f, 0));
}

/* A period of one nanosecond neither hangs nor starves anybody. */
static void test_absurd_period(Fixture *f, gconstpointer data)
{
  set(f, DIVIDE, 0xb);
  set(f, LVT_TIMER, PERIODIC | 0x31);
  set(f, INITIAL, 1);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_true(asks(f, 0));
}

static void test_tsc_deadline(Fixture *f, gconstpointer data)
{
  g_assert_true(write_msr(f, 0, MSR_DEADLINE, 5000)); /* another mode: ignored */
  g_assert_cmpuint(read_msr(f, 0, MSR_DEADLINE), ==, 0);
  set(f, LVT_TIMER, TSC_DEADLINE | 0x32);
  test_step(f->vm, 1000);
  uint64_t deadline = vm_tsc_from_ns(500000);
  g_assert_true(write_msr(f, 0, MSR_DEADLINE, deadline));
  g_assert_cmpuint(read_msr(f, 0, MSR_DEADLINE), ==, deadline);
  g_assert_cmpuint(get(f, CURRENT), ==, 0);
  set(f, INITIAL, 100); /* ignored in this mode */
  test_step(f->vm, 498999);
  g_assert_false(asks(f, 0));
  test_step(f->vm, 1);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x32);
  set(f, EOI, 0);
  g_assert_cmpuint(read_msr(f, 0, MSR_DEADLINE), ==, 0);
  write_msr(f, 0, MSR_DEADLINE, 1); /* in the past: at once */
  g_assert_cmpint(acknowledge(f, 0), ==, 0x32);
  set(f, EOI, 0);
  write_msr(f, 0, MSR_DEADLINE, UINT64_MAX);
  write_msr(f, 0, MSR_DEADLINE, vm_tsc_from_ns(1000000));
  write_msr(f, 0, MSR_DEADLINE, 0); /* disarmed */
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_false(asks(f, 0));
}

static uint64_t fast_tsc(VmCpu *cpu, void *opaque)
{
  return 7 + 3 * (uint64_t)vm_clock_get_ns(vm_get_clock(cpu->vm));
}

static void test_other_tsc(Fixture *f, gconstpointer data)
{
  lapic_set_tsc(f->lapics[0], UINT64_C(3000000000), fast_tsc, NULL);
  set(f, LVT_TIMER, TSC_DEADLINE | 0x32);
  write_msr(f, 0, MSR_DEADLINE, 7 + 3 * 1000);
  test_step(f->vm, 999);
  g_assert_false(asks(f, 0));
  test_step(f->vm, 1);
  g_assert_true(asks(f, 0));
}

static void test_ipis(Fixture *f, gconstpointer data)
{
  for (unsigned i = 1; i < N_CPUS; i++)
    enable_x2apic(f, i);
  set(f, ICR_HIGH, 2u << 24);
  set(f, ICR, 0x4045);
  g_assert_true(!asks(f, 0) && !asks(f, 1) && asks(f, 2) && !asks(f, 3));
  g_assert_cmpint(acknowledge(f, 2), ==, 0x45);
  set(f, ICR, 0xc4046); /* all others */
  g_assert_true(!asks(f, 0) && asks(f, 1) && asks(f, 3));
  set(f, ICR, 0x44047); /* self */
  g_assert_cmpint(acknowledge(f, 0), ==, 0x47);
  set(f, EOI, 0);
  set(f, ICR, 0x84050); /* all */
  g_assert_true(asks(f, 0));
  set(f, ICR_HIGH, 1u << 24);
  set(f, ICR, 0x4400); /* NMI */
  g_assert_true(take(f, 1, VM_CPU_REQ_NMI));
  set(f, ICR, 0x4200); /* SMI */
  g_assert_true(take(f, 1, VM_CPU_REQ_SMI));
  set(f, ICR, 0xc500); /* INIT, assert */
  g_assert_true(take(f, 1, VM_CPU_REQ_INIT));
  set(f, ICR, 0x8500); /* INIT, level de-assert: nothing */
  g_assert_false(take(f, 1, VM_CPU_REQ_INIT));
  set(f, ICR, 0x4612); /* startup at 12000 */
  g_assert_true(take(f, 1, VM_CPU_REQ_SIPI));
  g_assert_cmphex(f->cpus[1]->sipi_vector, ==, 0x12);
  g_assert_cmphex(get(f, ICR) & 1 << 12, ==, 0);
}

static void test_xapic_logical(Fixture *f, gconstpointer data)
{
  LapicMessage message = { .destination = 0x06, .logical = true, .vector = 0x40 };
  set(f, LDR, 0x04000000);
  g_assert_cmphex(get(f, LDR), ==, 0x04000000);
  g_assert_true(deliver(f, &message)); /* flat: a bit in common */
  message.destination = 0x03;
  g_assert_false(deliver(f, &message));
  set(f, DFR, 0x0fffffff); /* cluster 0, member 2 */
  message.destination = 0x04;
  g_assert_true(deliver(f, &message));
  message.destination = 0x14;
  g_assert_false(deliver(f, &message));
  message.destination = 0xff;
  g_assert_true(deliver(f, &message));
}

static void test_lowest_priority(Fixture *f, gconstpointer data)
{
  enable_all_x2apic(f);
  for (unsigned i = 0; i < N_CPUS; i++)
    write_msr(f, i, 0x808, i == 2 ? 0x10 : 0x20);
  LapicMessage message = { .destination = 0x0f, .logical = true, .vector = 0x50, .delivery = LAPIC_LOWEST };
  g_assert_true(deliver(f, &message));
  g_assert_true(!asks(f, 0) && !asks(f, 1) && asks(f, 2) && !asks(f, 3));
  g_assert_cmpint(acknowledge(f, 2), ==, 0x50); /* now at priority 5 */
  for (unsigned i = 0; i < 3; i++)
    deliver(f, &message);
  g_assert_true(asks(f, 0) && asks(f, 1) && !asks(f, 2) && asks(f, 3)); /* equals take turns */
  message.destination = 0x04;
  g_assert_true(deliver(f, &message)); /* only one addressed */
}

static void test_x2apic(Fixture *f, gconstpointer data)
{
  uint64_t value;
  g_assert_false(f->cpus[3]->intc_ops->read_msr(f->cpus[3]->intc, 0x802, &value)); /* not in that mode */
  g_assert_false(set_base(f, 3, 0xfee00400));                                      /* x2APIC without enable */
  g_assert_false(set_base(f, 3, UINT64_C(1) << 60));
  enable_all_x2apic(f);
  g_assert_false(set_base(f, 3, 0xfee00800)); /* not straight back */
  g_assert_cmpuint(read_msr(f, 3, 0x802), ==, 3);
  g_assert_cmphex(read_msr(f, 3, 0x80d), ==, 0x8);
  g_assert_cmphex(test_load(f->vm, LAPIC_BASE + VERSION, 4), ==, UINT32_MAX); /* memory is off */
  g_assert_false(write_msr(f, 3, 0x802, 1));
  g_assert_false(write_msr(f, 3, 0x80b, 1));
  g_assert_false(write_msr(f, 3, 0x808, 0x100));
  g_assert_false(write_msr(f, 3, 0x80e, 0));
  g_assert_false(write_msr(f, 3, 0x831, 0));
  g_assert_false(write_msr(f, 3, 0x839, 0));
  g_assert_true(write_msr(f, 3, 0x83f, 0x61)); /* self IPI */
  g_assert_cmpint(acknowledge(f, 3), ==, 0x61);
  g_assert_true(write_msr(f, 3, 0x80b, 0));
  g_assert_true(write_msr(f, 3, 0x830, UINT64_C(1) << 32 | 0x62));
  g_assert_cmpint(acknowledge(f, 1), ==, 0x62);
  g_assert_true(write_msr(f, 3, 0x830, UINT64_C(0x7) << 32 | 1 << 11 | 0x63)); /* logical: members 0, 1, 2 */
  g_assert_true(asks(f, 0) && asks(f, 2) && !asks(f, 3));
  g_assert_true(set_base(f, 3, 0xfee00000)); /* off, then xAPIC again */
  g_assert_false(set_base(f, 3, 0xfee00c00));
  g_assert_true(set_base(f, 3, 0xfee00800));
}

static void test_base_moves(Fixture *f, gconstpointer data)
{
  g_assert_true(set_base(f, 0, 0xfed40900));
  g_assert_cmphex(test_load(f->vm, 0xfed40000 + VERSION, 4), ==, 0x50014);
  g_assert_cmphex(get(f, VERSION), ==, UINT32_MAX); /* the other CPUs are still there, this one is not */
}

static void test_virtual_wire(Fixture *f, gconstpointer data)
{
  test_out8(f->vm, 0x20, 0x11);
  test_out8(f->vm, 0x21, 0x08);
  test_out8(f->vm, 0x21, 0x04);
  test_out8(f->vm, 0x21, 0x01);
  VmIrq irq3 = i8259_irq(f->pic, 3);
  test_set_irq(f->vm, irq3, true);
  g_assert_true(asks(f, 0));
  g_assert_false(asks(f, 1));
  set(f, TPR, 0xff); /* ExtINT knows no priority */
  g_assert_true(asks(f, 0));
  set(f, LVT_LINT0, MASKED | 0x700);
  g_assert_false(asks(f, 0));
  set(f, LVT_LINT0, 0x700);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x0b);
  g_assert_false(asks(f, 0));
  g_assert_cmpint(acknowledge(f, 0), ==, -1);
  test_out8(f->vm, 0x20, 0x20);
  /* Globally off, the PIC has the CPU's pin. */
  set_base(f, 0, 0xfee00100);
  test_set_irq(f->vm, irq3, false);
  test_set_irq(f->vm, irq3, true);
  g_assert_true(asks(f, 0));
  g_assert_cmpint(acknowledge(f, 0), ==, 0x0b);
}

static void test_lints(Fixture *f, gconstpointer data)
{
  VmIrq nmi = lapic_bus_nmi(f->bus);
  set(f, LVT_LINT1, 0x400);
  test_set_irq(f->vm, nmi, true);
  g_assert_true(take(f, 0, VM_CPU_REQ_NMI));
  test_set_irq(f->vm, nmi, false);
  g_assert_false(take(f, 0, VM_CPU_REQ_NMI));
  set(f, LVT_LINT1, 0x8077); /* fixed, level */
  test_set_irq(f->vm, nmi, true);
  g_assert_cmphex(get(f, LVT_LINT1), ==, 0xc077);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x77);
  set(f, EOI, 0);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x77); /* still high */
  test_set_irq(f->vm, nmi, false);
  set(f, EOI, 0);
  g_assert_cmphex(get(f, LVT_LINT1), ==, 0x8077);
  g_assert_false(asks(f, 0));
}

static void test_errors(Fixture *f, gconstpointer data)
{
  set(f, LVT_ERROR, 0x39);
  set(f, ICR, 0x4405 & ~0x700);
  g_assert_cmpint(acknowledge(f, 0), ==, 0x39);
  set(f, EOI, 0);
  g_assert_cmphex(get(f, ESR), ==, 0);
  set(f, ESR, 0);
  g_assert_cmphex(get(f, ESR), ==, 0x20);
  get(f, 0x040);
  send_fixed(f, 0, 3);
  set(f, ESR, 0);
  g_assert_cmphex(get(f, ESR), ==, 0xc0);
  set(f, ESR, 0);
  g_assert_cmphex(get(f, ESR), ==, 0);
  set(f, LVT_ERROR, 0x03); /* an error entry that is itself an error */
  get(f, 0x040);
  set(f, ESR, 0);
  g_assert_cmphex(get(f, ESR), ==, 0xc0);
}

static void test_msi(Fixture *f, gconstpointer data)
{
  enable_x2apic(f, 1);
  test_lock(f->vm);
  lapic_deliver_msi(f->bus, 0xfee01000, 0x4066);
  lapic_deliver_msi(f->bus, 0xfed01000, 0x4067); /* not an interrupt address */
  lapic_deliver_msi(f->bus, 0xfee01000, 0x8068); /* level, de-asserted */
  test_unlock(f->vm);
  g_assert_cmpint(acknowledge(f, 1), ==, 0x66);
  g_assert_cmpint(acknowledge(f, 1), ==, -1);
}

static void test_init(Fixture *f, gconstpointer data)
{
  set(f, LDR, 0x02000000);
  set(f, LVT_TIMER, PERIODIC | 0x31);
  set(f, INITIAL, 1000);
  send_fixed(f, 0, 0x90);
  f->cpus[0]->intc_ops->init(f->cpus[0]->intc);
  g_assert_false(asks(f, 0));
  g_assert_cmphex(get(f, SVR), ==, 0xff);
  g_assert_cmphex(get(f, LDR), ==, 0);
  g_assert_cmphex(get_base(f, 0), ==, 0xfee00900);
  test_step(f->vm, VM_NS_PER_SEC);
  g_assert_false(asks(f, 0));
}

static void test_state(Fixture *f, gconstpointer data)
{
  Fixture other = { 0 };
  setup(&other, NULL);
  test_check_type(f->lapics[0]);
  test_check_type(f->bus);
  set(f, DIVIDE, 0xb);
  set(f, LVT_TIMER, PERIODIC | 0x31);
  set(f, INITIAL, 100000);
  send_fixed(f, 0, 0x80);
  test_step(f->vm, 50000);
  test_step(other.vm, 50000);
  test_round_trip(f->lapics[0], other.lapics[0]);
  test_round_trip(f->bus, other.bus);
  g_assert_cmpint(acknowledge(&other, 0), ==, 0x80);
  set(&other, EOI, 0);
  test_step(other.vm, 49999);
  g_assert_false(asks(&other, 0));
  test_step(other.vm, 1);
  g_assert_cmpint(acknowledge(&other, 0), ==, 0x31);
  teardown(&other, NULL);
}

static void test_hostile(Fixture *f, gconstpointer data)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(0xfee);
  test_hostile_memory(f->vm, LAPIC_BASE, 0x400, rand);
  for (unsigned i = 1; i < N_CPUS; i++)
    enable_x2apic(f, i);
  for (unsigned i = 0; i < TEST_POKES; i++) {
    unsigned cpu = (unsigned)g_rand_int_range(rand, 0, N_CPUS);
    uint32_t msr = i % 16 == 0 ? MSR_DEADLINE : 0x800 + (uint32_t)g_rand_int_range(rand, 0, 256);
    uint64_t value;
    write_msr(f, cpu, msr, test_random_value(rand));
    if (f->cpus[cpu]->intc_ops->read_msr(f->cpus[cpu]->intc, msr, &value) && i % 8 == 0)
      acknowledge(f, cpu);
    if (i % 16 == 0)
      test_step(f->vm, g_rand_int_range(rand, 0, 50000));
    if (i % 1024 == 0) /* anywhere, also over other regions */
      set_base(f, cpu, test_random_value(rand));
  }
  for (unsigned i = 0; i < N_CPUS; i++)
    test_hostile_streams(f->lapics[i], rand);
  set(f, SVR, 0x1ff);
  set(f, LVT_LINT0, MASKED);
  test_priorities(f, data);
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*func)(Fixture *, gconstpointer);
  } tests[] = {
    { "/lapic/power-on", test_power_on },
    { "/lapic/priorities", test_priorities },
    { "/lapic/eoi-broadcast", test_eoi_broadcast },
    { "/lapic/one-shot", test_one_shot },
    { "/lapic/periodic", test_periodic },
    { "/lapic/absurd-period", test_absurd_period },
    { "/lapic/tsc-deadline", test_tsc_deadline },
    { "/lapic/other-tsc", test_other_tsc },
    { "/lapic/ipis", test_ipis },
    { "/lapic/xapic-logical", test_xapic_logical },
    { "/lapic/lowest-priority", test_lowest_priority },
    { "/lapic/x2apic", test_x2apic },
    { "/lapic/base-moves", test_base_moves },
    { "/lapic/virtual-wire", test_virtual_wire },
    { "/lapic/lints", test_lints },
    { "/lapic/errors", test_errors },
    { "/lapic/msi", test_msi },
    { "/lapic/init", test_init },
    { "/lapic/state", test_state },
    { "/lapic/hostile", test_hostile },
  };
  g_test_init(&argc, &argv, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, setup, tests[i].func, teardown);
  return g_test_run();
}
