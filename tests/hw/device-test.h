/*
 * What device tests share: a wire that remembers, state round trips, random pokes. Everything on a manual machine.
 */
#ifndef TESTS_HW_DEVICE_TEST_H
#define TESTS_HW_DEVICE_TEST_H

#include "vm-engine/device.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/irq.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

/* ---- wires ------------------------------------------------------------------------------------------------------ */

typedef struct TestLine {
  bool level;
  unsigned rises;
} TestLine;

static inline void test_line_set(void *opaque, unsigned line, bool level)
{
  TestLine *l = opaque;
  l->rises += level && !l->level;
  l->level = level;
}

static inline VmIrq test_line_irq(TestLine *line)
{
  return (VmIrq){ .func = test_line_set, .opaque = line };
}

/* ---- time and accesses -------------------------------------------------------------------------------------------- */

static inline void test_step(Vm *vm, int64_t ns)
{
  vm_io_context_step(vm_get_io_context(vm), ns);
}
static inline void test_lock(Vm *vm)
{
  vm_io_context_lock(vm_get_io_context(vm));
}
static inline void test_unlock(Vm *vm)
{
  vm_io_context_unlock(vm_get_io_context(vm));
}

static inline uint8_t test_in8(Vm *vm, uint16_t port)
{
  return (uint8_t)vm_port_read(vm_get_memory(vm), port, 1);
}
static inline uint16_t test_in16(Vm *vm, uint16_t port)
{
  return (uint16_t)vm_port_read(vm_get_memory(vm), port, 2);
}
static inline uint32_t test_in32(Vm *vm, uint16_t port)
{
  return vm_port_read(vm_get_memory(vm), port, 4);
}
static inline void test_out8(Vm *vm, uint16_t port, uint8_t value)
{
  vm_port_write(vm_get_memory(vm), port, value, 1);
}
static inline void test_out16(Vm *vm, uint16_t port, uint16_t v)
{
  vm_port_write(vm_get_memory(vm), port, v, 2);
}
static inline void test_out32(Vm *vm, uint16_t port, uint32_t v)
{
  vm_port_write(vm_get_memory(vm), port, v, 4);
}

static inline uint64_t test_load(Vm *vm, VmGpa gpa, unsigned size)
{
  return vm_memory_load(vm_get_memory(vm), VM_VIEW_NORMAL, gpa, size);
}

static inline void test_store(Vm *vm, VmGpa gpa, uint64_t value, unsigned size)
{
  vm_memory_store(vm_get_memory(vm), VM_VIEW_NORMAL, gpa, value, size);
}

/* Drives a line with the lock that its listener expects. */
static inline void test_set_irq(Vm *vm, VmIrq irq, bool level)
{
  test_lock(vm);
  vm_irq_set(&irq, level);
  test_unlock(vm);
}

static inline void test_reset(void *device)
{
  VmDevice *dev = device;
  test_lock(dev->vm);
  dev->type->reset(dev);
  test_unlock(dev->vm);
}

/* ---- state -------------------------------------------------------------------------------------------------------- */

static inline void test_check_type(void *device)
{
  g_autoptr(GError) error = NULL;
  bool ok = vm_device_type_check(((VmDevice *)device)->type, &error);
  g_assert_no_error(error);
  g_assert_true(ok);
}

static inline GByteArray *test_save(void *device)
{
  VmDevice *dev = device;
  GByteArray *bytes = g_byte_array_new();
  test_lock(dev->vm);
  vm_device_save(dev, bytes);
  test_unlock(dev->vm);
  return bytes;
}

/* Saves `from`, loads into `to` (of a machine at the same virtual time), and finds the same state there. */
static inline void test_round_trip(void *from, void *to)
{
  g_autoptr(GError) error = NULL;
  VmDevice *target = to;
  g_autoptr(GByteArray) saved = test_save(from);
  test_lock(target->vm);
  bool ok = vm_device_load(target, saved->data, saved->len, &error);
  test_unlock(target->vm);
  g_assert_no_error(error);
  g_assert_true(ok);
  g_autoptr(GByteArray) again = test_save(to);
  g_assert_cmpmem(saved->data, saved->len, again->data, again->len);
}

/* Random and cut streams are refused, or leave a device that still takes time and accesses; neither crashes. The good
 * one is loaded again at the end. */
static inline void test_hostile_streams(void *device, GRand *rand)
{
  VmDevice *dev = device;
  g_autoptr(GByteArray) saved = test_save(dev);
  for (unsigned round = 0; round < 500; round++) {
    g_autofree uint8_t *copy = g_memdup2(saved->data, saved->len);
    g_autoptr(GError) error = NULL;
    for (int i = g_rand_int_range(rand, 1, 9); i > 0; i--)
      copy[g_rand_int_range(rand, 0, (gint32)saved->len)] = (uint8_t)g_rand_int(rand);
    size_t size = round % 4 == 0 ? (size_t)g_rand_int_range(rand, 0, (gint32)saved->len) : saved->len;
    test_lock(dev->vm);
    bool ok = vm_device_load(dev, copy, size, &error);
    test_unlock(dev->vm);
    g_assert_true(ok == (error == NULL));
    test_step(dev->vm, g_rand_int_range(rand, 0, 20000));
  }
  test_lock(dev->vm);
  bool ok = vm_device_load(dev, saved->data, saved->len, NULL);
  test_unlock(dev->vm);
  g_assert_true(ok);
  test_reset(dev);
}

/* ---- random pokes ---------------------------------------------------------------------------------------------------- */

#define TEST_POKES 100000

static inline uint64_t test_random_value(GRand *rand)
{
  uint64_t value = (uint64_t)g_rand_int(rand) << 32 | g_rand_int(rand);
  switch (g_rand_int_range(rand, 0, 4)) {
  case 0:
    return value & 0xff;
  case 1:
    return UINT64_C(1) << (value % 64);
  case 2:
    return value % 2 ? UINT64_MAX : 0;
  default:
    return value;
  }
}

/* Writes and reads of all widths in [base, base + size), with a little time between them. */
static inline void test_hostile_ports(Vm *vm, uint16_t base, unsigned size, GRand *rand)
{
  static const unsigned widths[] = { 1, 2, 4 };
  for (unsigned i = 0; i < TEST_POKES; i++) {
    uint16_t port = (uint16_t)(base + (unsigned)g_rand_int_range(rand, 0, (gint32)size));
    unsigned width = widths[g_rand_int_range(rand, 0, 3)];
    if (i % 4 == 0)
      vm_port_read(vm_get_memory(vm), port, width);
    else
      vm_port_write(vm_get_memory(vm), port, (uint32_t)test_random_value(rand), width);
    if (i % 16 == 0)
      test_step(vm, g_rand_int_range(rand, 0, 50000));
  }
}

static inline void test_hostile_memory(Vm *vm, VmGpa base, unsigned size, GRand *rand)
{
  static const unsigned widths[] = { 1, 2, 4, 8 };
  for (unsigned i = 0; i < TEST_POKES; i++) {
    VmGpa gpa = base + (unsigned)g_rand_int_range(rand, 0, (gint32)size);
    unsigned width = widths[g_rand_int_range(rand, 0, 4)];
    if (i % 2 == 0)
      gpa &= ~(VmGpa)7;
    if (i % 4 == 0)
      vm_memory_load(vm_get_memory(vm), VM_VIEW_NORMAL, gpa, width);
    else
      vm_memory_store(vm_get_memory(vm), VM_VIEW_NORMAL, gpa, test_random_value(rand), width);
    if (i % 16 == 0)
      test_step(vm, g_rand_int_range(rand, 0, 50000));
  }
}

/* ---- events ------------------------------------------------------------------------------------------------------------ */

typedef struct TestEvents {
  unsigned resets, shutdowns, powerdowns;
} TestEvents;

static inline void test_on_event(Vm *vm, VmEvent event, const char *text, void *opaque)
{
  TestEvents *events = opaque;
  events->resets += event == VM_EVENT_RESET;
  events->shutdowns += event == VM_EVENT_SHUTDOWN;
  events->powerdowns += event == VM_EVENT_POWERDOWN;
}

#endif
