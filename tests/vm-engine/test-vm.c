/* The machine: commands and their events, vCPU threads, resets, saving and loading, two machines at once. */
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/vm-engine/fake-accel.h"
#include "vm-engine/device.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/x86/cpu.h"

/* A device with one register behind FAKE_PORT; some values command the machine. */
enum { OUT_RESET = 0xe0, OUT_SHUTDOWN, OUT_END, OUT_IPI };

typedef struct Port {
  VmDevice dev;
  uint32_t last;
  uint32_t writes;
} Port;

static const VmField port_fields[] = { VM_UINT(Port, last), VM_UINT(Port, writes), VM_FIELDS_END };
static void port_reset(VmDevice *dev)
{
  ((Port *)dev)->last = 0;
}
static const VmDeviceType port_type = {
  .name = "port", .version = 1, .size = sizeof(Port), .fields = port_fields, .reset = port_reset
};

static void port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Port *port = opaque;
  port->last = (uint32_t)value;
  port->writes++;
  if (value == OUT_RESET)
    vm_request_reset(port->dev.vm);
  else if (value == OUT_SHUTDOWN)
    vm_request_shutdown(port->dev.vm);
  else if (value == OUT_END)
    vm_request_end(port->dev.vm, 42, "enough");
  else if (value == OUT_IPI) {
    vm_cpu_request(vm_get_cpu(port->dev.vm, 1), VM_CPU_REQ_INIT);
    vm_cpu_sipi(vm_get_cpu(port->dev.vm, 1), 2);
  }
}
static const VmMmioOps port_ops = { .write = port_write };

typedef struct Machine {
  Vm *vm;
  VmRam *ram;
  Port *port;
  GMutex mutex;
  GCond cond;
  unsigned counts[VM_EVENT_ENDED + 1];
  char *text[VM_EVENT_ENDED + 1];
} Machine;

static void on_event(Vm *vm, VmEvent event, const char *text, void *opaque)
{
  Machine *m = opaque;
  g_mutex_lock(&m->mutex);
  m->counts[event]++;
  g_free(m->text[event]);
  m->text[event] = g_strdup(text);
  g_cond_broadcast(&m->cond);
  g_mutex_unlock(&m->mutex);
}

static void wait_event(Machine *m, VmEvent event, unsigned n)
{
  int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
  g_mutex_lock(&m->mutex);
  while (m->counts[event] < n)
    g_assert_true(g_cond_wait_until(&m->cond, &m->mutex, until));
  g_mutex_unlock(&m->mutex);
}

/* `program` stands at the reset vector. */
static Machine *machine_new(const uint8_t *program, size_t size, unsigned n_cpus)
{
  Machine *m = g_new0(Machine, 1);
  m->vm = vm_new(&fake_accel, NULL);
  VmMemory *memory = vm_get_memory(m->vm);
  m->ram = vm_ram_new(memory, "ram", 64 * VM_PAGE_SIZE, NULL);
  VmRam *rom = vm_ram_new(memory, "rom", VM_PAGE_SIZE, NULL);
  memcpy(vm_ram_get_hva(rom) + 0xff0, program, size);
  vm_region_new_ram(memory, "ram", 0, 64 * VM_PAGE_SIZE, 0, m->ram, 0, VM_ACCESS_RW);
  vm_region_new_rom(memory, "rom", 0xfffff000, VM_PAGE_SIZE, 0, rom, 0);
  m->port = vm_device_new(m->vm, &port_type, "port");
  vm_region_new_io(memory, "port", VM_SPACE_PORTS, FAKE_PORT, 1, 0, &port_ops, m->port, vm_get_io_context(m->vm));
  for (unsigned i = 0; i < n_cpus; i++)
    g_assert_nonnull(vm_cpu_new(m->vm, NULL));
  vm_add_listener(m->vm, on_event, m);
  return m;
}

static void machine_free(Machine *m)
{
  vm_free(m->vm);
  for (unsigned i = 0; i <= VM_EVENT_ENDED; i++)
    g_free(m->text[i]);
  g_free(m);
}

static const uint8_t count_forever[] = { FAKE_COUNT };
#define MACHINE(program, n_cpus) machine_new(program, sizeof(program), n_cpus)

static void test_pause_resume(void)
{
  Machine *m = MACHINE(count_forever, 2);
  vm_start(m->vm);
  wait_event(m, VM_EVENT_RUNNING, 1);
  for (unsigned i = 1; i <= 20; i++) {
    vm_pause(m->vm);
    wait_event(m, VM_EVENT_PAUSED, i);
    g_assert_cmpint(vm_get_state(m->vm), ==, VM_STATE_STOPPED);
    uint64_t count = vm_get_cpu(m->vm, 0)->x86->gpr[X86_RAX];
    int64_t now = vm_clock_get_ns(vm_get_clock(m->vm));
    g_usleep(500);
    g_assert_cmpuint(vm_get_cpu(m->vm, 0)->x86->gpr[X86_RAX], ==, count);
    g_assert_cmpint(vm_clock_get_ns(vm_get_clock(m->vm)), ==, now);
    vm_start(m->vm);
    wait_event(m, VM_EVENT_RUNNING, i + 1);
  }
  /* In one go: each is carried out, in order. */
  vm_pause(m->vm);
  vm_start(m->vm);
  vm_pause(m->vm);
  wait_event(m, VM_EVENT_PAUSED, 22);
  vm_request_end(m->vm, 5, "test");
  g_assert_cmpint(vm_wait(m->vm), ==, 5);
  g_assert_cmpstr(m->text[VM_EVENT_ENDED], ==, "test");
  vm_start(m->vm); /* too late */
  machine_free(m);
}

static void test_guest_commands(void)
{
  /* AL counts nothing here: the program writes what RAX holds, so RAX is set by run_on below. */
  static const uint8_t program[] = { FAKE_OUT, FAKE_WAIT };
  Machine *m = MACHINE(program, 1);
  vm_set_no_shutdown(m->vm, true);
  vm_start(m->vm);
  wait_event(m, VM_EVENT_RUNNING, 1);
  vm_request_shutdown(m->vm);
  wait_event(m, VM_EVENT_SHUTDOWN, 1);
  wait_event(m, VM_EVENT_PAUSED, 1);
  vm_start(m->vm);
  wait_event(m, VM_EVENT_RUNNING, 2);
  vm_request_reset(m->vm);
  wait_event(m, VM_EVENT_RESET, 1);
  vm_request_powerdown(m->vm);
  wait_event(m, VM_EVENT_POWERDOWN, 1);
  machine_free(m);
}

/* A guest that pulls its reset line at once after each reset: the machine is paused, not stuck. */
static void set_rax_to_reset(void *opaque)
{
  vm_get_cpu(opaque, 0)->x86->gpr[X86_RAX] = OUT_RESET;
}

static void test_reset_storm(void)
{
  static const uint8_t program[] = { FAKE_OUT, FAKE_WAIT };
  Machine *m = MACHINE(program, 1);
  vm_add_reset_handler(m->vm, set_rax_to_reset, m->vm);
  vm_start(m->vm);
  wait_event(m, VM_EVENT_PANIC, 1);
  wait_event(m, VM_EVENT_PAUSED, 1);
  g_assert_cmpuint(m->counts[VM_EVENT_RESET], >=, 20);
  g_assert_nonnull(strstr(m->text[VM_EVENT_PANIC], "over and over"));
  machine_free(m);
}

static void test_no_reboot(void)
{
  static const uint8_t program[] = { FAKE_OUT, FAKE_WAIT };
  Machine *m = MACHINE(program, 1);
  vm_set_no_reboot(m->vm, true);
  vm_add_reset_handler(m->vm, set_rax_to_reset, m->vm);
  vm_start(m->vm);
  g_assert_cmpint(vm_wait(m->vm), ==, 0);
  machine_free(m);

  static const uint8_t fault[] = { FAKE_TRIPLE_FAULT };
  m = MACHINE(fault, 1);
  vm_set_no_reboot(m->vm, true);
  vm_start(m->vm);
  g_assert_cmpint(vm_wait(m->vm), ==, 3);
  g_assert_nonnull(strstr(m->text[VM_EVENT_PANIC], "triple fault"));
  machine_free(m);

  static const uint8_t trouble[] = { FAKE_ERROR };
  m = MACHINE(trouble, 2);
  vm_start(m->vm);
  g_assert_cmpint(vm_wait(m->vm), ==, 3);
  g_assert_nonnull(strstr(m->text[VM_EVENT_PANIC], "fake trouble"));
  machine_free(m);
}

static void set_rax_to_ipi(void *opaque)
{
  vm_get_cpu(opaque, 0)->x86->gpr[X86_RAX] = OUT_IPI;
}

static void test_startup_ipi(void)
{
  static const uint8_t program[] = { FAKE_OUT, FAKE_WAIT };
  Machine *m = MACHINE(program, 2);
  vm_ram_get_hva(m->ram)[0x2000] = FAKE_COUNT; /* where vector 2 points */
  vm_add_reset_handler(m->vm, set_rax_to_ipi, m->vm);
  vm_start(m->vm);
  VmCpu *ap = vm_get_cpu(m->vm, 1);
  int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
  while (*(volatile uint64_t *)&ap->x86->gpr[X86_RAX] == 0 && g_get_monotonic_time() < until)
    g_usleep(100);
  g_assert_cmpuint(ap->x86->gpr[X86_RAX], >, 0);
  g_assert_cmphex(ap->x86->seg[X86_CS].base, ==, 0x2000);
  machine_free(m);
}

static void test_halt(void)
{
  static const uint8_t program[] = { FAKE_HALT, FAKE_COUNT };
  Machine *m = MACHINE(program, 1);
  vm_start(m->vm);
  wait_event(m, VM_EVENT_RUNNING, 1);
  g_usleep(20000);
  VmCpu *cpu = vm_get_cpu(m->vm, 0);
  g_assert_cmpuint(cpu->x86->gpr[X86_RAX], ==, 0);
  vm_pause(m->vm); /* a sleeping CPU parks too */
  wait_event(m, VM_EVENT_PAUSED, 1);
  vm_start(m->vm);
  vm_cpu_request(cpu, VM_CPU_REQ_INTR);
  int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
  while (*(volatile uint64_t *)&cpu->x86->gpr[X86_RAX] == 0 && g_get_monotonic_time() < until)
    g_usleep(100);
  g_assert_cmpuint(cpu->x86->gpr[X86_RAX], >, 0);
  machine_free(m);
}

typedef struct RunOn {
  _Atomic int calls;
  VmCpu *cpu;
} RunOn;

static void on_cpu(VmCpu *cpu, void *data)
{
  RunOn *r = data;
  g_assert_true(vm_cpu_current() == cpu && cpu == r->cpu);
  atomic_fetch_add(&r->calls, 1);
}

static void test_run_on(void)
{
  Machine *m = MACHINE(count_forever, 2);
  RunOn r = { .cpu = vm_get_cpu(m->vm, 0) };
  vm_cpu_run_on(r.cpu, on_cpu, &r); /* before the start, too */
  vm_start(m->vm);
  for (unsigned i = 0; i < 100; i++)
    vm_cpu_run_on(r.cpu, on_cpu, &r);
  int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
  while (atomic_load(&r.calls) < 101 && g_get_monotonic_time() < until)
    g_usleep(100);
  g_assert_cmpint(atomic_load(&r.calls), ==, 101);
  g_assert_null(vm_cpu_current());
  machine_free(m);
}

/* Two machines in one process know nothing of each other. */
static void test_two_machines(void)
{
  Machine *a = MACHINE(count_forever, 2), *b = MACHINE(count_forever, 1);
  vm_start(a->vm);
  vm_start(b->vm);
  wait_event(a, VM_EVENT_RUNNING, 1);
  wait_event(b, VM_EVENT_RUNNING, 1);
  vm_pause(a->vm);
  wait_event(a, VM_EVENT_PAUSED, 1);
  g_assert_cmpint(vm_get_state(b->vm), ==, VM_STATE_RUNNING);
  uint64_t before = *(volatile uint64_t *)&vm_get_cpu(b->vm, 0)->x86->gpr[X86_RAX];
  vm_request_end(a->vm, 1, NULL);
  g_assert_cmpint(vm_wait(a->vm), ==, 1);
  machine_free(a);
  int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
  while (*(volatile uint64_t *)&vm_get_cpu(b->vm, 0)->x86->gpr[X86_RAX] == before && g_get_monotonic_time() < until)
    g_usleep(100);
  g_assert_cmpuint(*(volatile uint64_t *)&vm_get_cpu(b->vm, 0)->x86->gpr[X86_RAX], >, before);
  machine_free(b);
}

/* ---- save and load -------------------------------------------------------------------------------------------------------- */

static int memory_file(const void *bytes, size_t size)
{
  int fd = memfd_create("state", MFD_CLOEXEC);
  g_assert_cmpint(write(fd, bytes, size), ==, (ssize_t)size);
  lseek(fd, 0, SEEK_SET);
  return fd;
}

static GByteArray *save_machine(Machine *m)
{
  g_autoptr(GError) error = NULL;
  int fd = memfd_create("state", MFD_CLOEXEC);
  g_assert_true(vm_save(m->vm, fd, &error));
  g_assert_no_error(error);
  off_t size = lseek(fd, 0, SEEK_CUR);
  GByteArray *bytes = g_byte_array_new();
  g_byte_array_set_size(bytes, (guint)size);
  g_assert_cmpint(pread(fd, bytes->data, (size_t)size, 0), ==, size);
  close(fd);
  return bytes;
}

static bool load_machine(Machine *m, const uint8_t *bytes, size_t size, GError **error)
{
  int fd = memory_file(bytes, size);
  bool good = vm_load(m->vm, fd, error);
  close(fd);
  return good;
}

static Machine *saved_machine(void)
{
  Machine *m = MACHINE(count_forever, 2);
  uint8_t *ram = vm_ram_get_hva(m->ram);
  for (unsigned page = 3; page < 60; page += 7)
    memset(ram + page * VM_PAGE_SIZE, (int)page, VM_PAGE_SIZE);
  vm_start(m->vm);
  wait_event(m, VM_EVENT_RUNNING, 1);
  g_autoptr(GError) error = NULL;
  g_assert_false(vm_save(m->vm, -1, &error)); /* it runs */
  g_assert_error(error, VM_ERROR, VM_ERROR_BAD_STATE);
  vm_pause(m->vm);
  wait_event(m, VM_EVENT_PAUSED, 1);
  m->port->last = 0x1234;
  vm_get_cpu(m->vm, 1)->x86->gpr[X86_RBX] = 0xfeedface;
  return m;
}

static void test_save_load(void)
{
  Machine *a = saved_machine(), *b = MACHINE(count_forever, 2);
  g_autoptr(GByteArray) saved = save_machine(a);
  g_assert_cmpuint(saved->len, <, 20 * VM_PAGE_SIZE); /* zero pages cost nothing */
  memset(vm_ram_get_hva(b->ram) + 20 * VM_PAGE_SIZE, 0x55, VM_PAGE_SIZE);
  g_autoptr(GError) error = NULL;
  g_assert_true(load_machine(b, saved->data, saved->len, &error));
  g_assert_no_error(error);
  g_assert_cmpmem(vm_ram_get_hva(a->ram), 64 * VM_PAGE_SIZE, vm_ram_get_hva(b->ram), 64 * VM_PAGE_SIZE);
  g_assert_cmphex(b->port->last, ==, 0x1234);
  g_assert_cmphex(vm_get_cpu(b->vm, 1)->x86->gpr[X86_RBX], ==, 0xfeedface);
  g_assert_cmpint(vm_clock_get_ns(vm_get_clock(b->vm)), ==, vm_clock_get_ns(vm_get_clock(a->vm)));
  g_autoptr(GByteArray) again = save_machine(b);
  g_assert_cmpmem(saved->data, saved->len, again->data, again->len);
  uint64_t count = vm_get_cpu(b->vm, 0)->x86->gpr[X86_RAX];
  vm_start(b->vm); /* goes on, without a reset */
  wait_event(b, VM_EVENT_RUNNING, 1);
  int64_t until = g_get_monotonic_time() + 5 * G_USEC_PER_SEC;
  while (*(volatile uint64_t *)&vm_get_cpu(b->vm, 0)->x86->gpr[X86_RAX] == count && g_get_monotonic_time() < until)
    g_usleep(100);
  g_assert_cmpuint(*(volatile uint64_t *)&vm_get_cpu(b->vm, 0)->x86->gpr[X86_RAX], >, count);
  g_assert_cmphex(b->port->last, ==, 0x1234);
  machine_free(a);
  machine_free(b);
}

static void test_damaged_state(void)
{
  Machine *a = saved_machine(), *b = MACHINE(count_forever, 2), *other = MACHINE(count_forever, 1);
  g_autoptr(GByteArray) saved = save_machine(a);
  b->port->last = 0x77;
  for (size_t cut = 0; cut < saved->len; cut += cut < 512 || cut + 4096 > saved->len ? 1 : 97) {
    g_autoptr(GError) error = NULL;
    g_assert_false(load_machine(b, saved->data, cut, &error));
    g_assert_error(error, VM_ERROR, VM_ERROR_FAILED);
    g_assert_cmphex(b->port->last, ==, 0x77);
    g_assert_cmphex(vm_get_cpu(b->vm, 1)->x86->gpr[X86_RBX], ==, 0);
  }
  for (size_t byte = 0; byte < saved->len; byte += byte < 512 || byte + 4096 > saved->len ? 1 : 89) {
    g_autofree uint8_t *bytes = g_memdup2(saved->data, saved->len);
    bytes[byte] ^= (uint8_t)(1u << (byte % 8));
    g_autoptr(GError) error = NULL;
    g_assert_false(load_machine(b, bytes, saved->len, &error));
    g_assert_cmphex(b->port->last, ==, 0x77);
    g_assert_cmphex(vm_get_cpu(b->vm, 1)->x86->gpr[X86_RBX], ==, 0);
  }
  g_autoptr(GError) error = NULL;
  g_assert_false(load_machine(other, saved->data, saved->len, &error));
  g_assert_nonnull(strstr(error->message, "other hardware"));
  machine_free(a);
  machine_free(b);
  machine_free(other);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/vm/pause-resume", test_pause_resume);
  g_test_add_func("/vm/guest-commands", test_guest_commands);
  g_test_add_func("/vm/reset-storm", test_reset_storm);
  g_test_add_func("/vm/no-reboot", test_no_reboot);
  g_test_add_func("/vm/startup-ipi", test_startup_ipi);
  g_test_add_func("/vm/halt", test_halt);
  g_test_add_func("/vm/run-on", test_run_on);
  g_test_add_func("/vm/two-machines", test_two_machines);
  g_test_add_func("/vm/save-load", test_save_load);
  g_test_add_func("/vm/damaged-state", test_damaged_state);
  return g_test_run();
}
