/* State tables: the check, save and load, damaged streams, the log's limit. */
#include "vm-engine/device.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/cpu.h"

typedef struct Channel {
  uint16_t count;
  bool gate;
  VmTimer timer;
} Channel;

typedef struct Toy {
  VmDevice dev;
  uint8_t index;
  uint32_t regs[4];
  bool on;
  Channel channels[2];
  uint8_t fifo[5];
  uint8_t *buffer;
  size_t buffer_bytes;
  int cache;
  int loaded_calls;
} Toy;

static const VmField channel_fields[] = {
  VM_UINT(Channel, count),
  VM_UINT(Channel, gate),
  VM_TIMER(Channel, timer),
  VM_FIELDS_END,
};

static const VmField toy_fields[] = {
  VM_UINT_MAX(Toy, index, 3),
  VM_UINT_ARRAY(Toy, regs),
  VM_UINT(Toy, on),
  VM_STRUCT_ARRAY(Toy, channels, channel_fields),
  VM_BYTES(Toy, fifo),
  VM_BUFFER(Toy, buffer, buffer_bytes),
  VM_TRANSIENT(Toy, buffer_bytes, "configuration"),
  VM_TRANSIENT(Toy, cache, "derived from regs"),
  VM_TRANSIENT(Toy, loaded_calls, "the test's own"),
  VM_FIELDS_END,
};

static void toy_reset(VmDevice *dev)
{
  Toy *toy = (Toy *)dev;
  toy->index = 0;
  toy->on = false;
  memset(toy->regs, 0, sizeof(toy->regs));
}

static bool toy_validate(const VmDevice *scratch, GError **error)
{
  if (((const Toy *)scratch)->regs[3] != 0xbad)
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "regs[3] is bad");
  return false;
}

static void toy_loaded(VmDevice *dev)
{
  Toy *toy = (Toy *)dev;
  toy->cache = (int)toy->regs[0];
  toy->loaded_calls++;
}

static void toy_finish(VmDevice *dev)
{
  Toy *toy = (Toy *)dev;
  for (unsigned i = 0; i < 2; i++)
    vm_timer_finish(&toy->channels[i].timer);
  g_free(toy->buffer);
}

static const VmDeviceType toy_type = { .name = "toy",
                                       .version = 1,
                                       .size = sizeof(Toy),
                                       .fields = toy_fields,
                                       .reset = toy_reset,
                                       .validate = toy_validate,
                                       .loaded = toy_loaded,
                                       .finish = toy_finish };

static void no_tick(void *opaque) {}

static Toy *toy_new(Vm *vm, const char *id)
{
  Toy *toy = vm_device_new(vm, &toy_type, id);
  for (unsigned i = 0; i < 2; i++)
    vm_timer_init(&toy->channels[i].timer, vm_get_io_context(vm), no_tick, toy);
  toy->buffer_bytes = 8;
  toy->buffer = g_malloc0(toy->buffer_bytes);
  return toy;
}

static void scribble(Toy *toy)
{
  toy->index = 2;
  toy->on = true;
  toy->regs[0] = 0x12345678;
  toy->channels[1].count = 0xabcd;
  vm_timer_set(&toy->channels[1].timer, 777);
  memcpy(toy->fifo, "abcde", 5);
  memcpy(toy->buffer, "12345678", 8);
}

static void test_round_trip(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  Toy *a = toy_new(vm, "a"), *b = toy_new(vm, "b");
  g_autoptr(GError) error = NULL;
  scribble(a);
  vm_timer_set(&b->channels[0].timer, 5);
  g_autoptr(GByteArray) saved = g_byte_array_new();
  vm_device_save(&a->dev, saved);
  g_assert_true(vm_device_load(&b->dev, saved->data, saved->len, &error));
  g_assert_no_error(error);
  g_assert_cmpuint(b->index, ==, 2);
  g_assert_true(b->on);
  g_assert_cmphex(b->channels[1].count, ==, 0xabcd);
  g_assert_cmpint(vm_timer_get_deadline(&b->channels[1].timer), ==, 777);
  g_assert_false(vm_timer_is_pending(&b->channels[0].timer));
  g_assert_cmpmem(b->buffer, 8, "12345678", 8);
  g_assert_true(b->buffer != a->buffer);
  g_assert_cmphex(b->cache, ==, 0x12345678);
  g_assert_cmpint(b->loaded_calls, ==, 1);
  g_autoptr(GByteArray) again = g_byte_array_new();
  vm_device_save(&b->dev, again);
  g_assert_cmpmem(saved->data, saved->len, again->data, again->len);
  g_autofree char *text = vm_device_dup_description(&b->dev);
  g_assert_nonnull(strstr(text, "regs[0] = 0x12345678"));
  g_assert_nonnull(strstr(text, "channels[1].timer = 777 ns"));
}

/* Every cut and every flipped bit: refused, or taken as a legal value; never half applied, never out of range. */
static void test_damage(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  Toy *a = toy_new(vm, "a"), *b = toy_new(vm, "b");
  scribble(a);
  g_autoptr(GByteArray) saved = g_byte_array_new(), before = g_byte_array_new();
  vm_device_save(&a->dev, saved);
  vm_device_save(&b->dev, before);
  for (unsigned cut = 0; cut < saved->len; cut++) {
    g_autoptr(GError) error = NULL;
    g_assert_false(vm_device_load(&b->dev, saved->data, cut, &error));
    g_assert_nonnull(strstr(error->message, "b"));
  }
  g_autoptr(GByteArray) now = g_byte_array_new();
  vm_device_save(&b->dev, now);
  g_assert_cmpmem(before->data, before->len, now->data, now->len);
  for (unsigned bit = 0; bit < saved->len * 8; bit++) {
    g_autofree uint8_t *bytes = g_memdup2(saved->data, saved->len);
    bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    int calls = b->loaded_calls;
    g_autoptr(GError) error = NULL;
    bool good = vm_device_load(&b->dev, bytes, saved->len, &error);
    g_assert_true(good == (error == NULL));
    g_assert_cmpint(b->loaded_calls - calls, ==, good);
    g_assert_cmpuint(b->index, <=, 3);
    g_assert_cmpuint(*(uint8_t *)&b->on, <=, 1);
  }
}

static void test_validate(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  Toy *a = toy_new(vm, "a"), *b = toy_new(vm, "b");
  a->regs[3] = 0xbad;
  g_autoptr(GByteArray) saved = g_byte_array_new();
  vm_device_save(&a->dev, saved);
  g_autoptr(GError) error = NULL;
  g_assert_false(vm_device_load(&b->dev, saved->data, saved->len, &error));
  g_assert_cmpstr(error->message, ==, "regs[3] is bad");
  g_assert_cmphex(b->regs[3], ==, 0);
}

/* ---- the completeness check --------------------------------------------------------------------------------------------- */

static void expect_bad(const VmField *fields, const char *part)
{
  VmDeviceType type = toy_type;
  type.fields = fields;
  g_autoptr(GError) error = NULL;
  g_assert_false(vm_device_type_check(&type, &error));
  g_test_message("%s", error->message);
  g_assert_nonnull(strstr(error->message, part));
}

static void test_check(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_device_type_check(&toy_type, &error));
  g_assert_no_error(error);
  enum { N = G_N_ELEMENTS(toy_fields) };
  for (unsigned missing = 0; missing + 1 < N; missing++) { /* each row is needed */
    /* But for two, whose place could as well be padding: nothing in the table tells. */
    if (strcmp(toy_fields[missing].name, "on") == 0 || strcmp(toy_fields[missing].name, "loaded_calls") == 0)
      continue;
    VmField fields[N];
    memcpy(fields, toy_fields, missing * sizeof(VmField));
    memcpy(fields + missing, toy_fields + missing + 1, (N - missing - 1) * sizeof(VmField));
    VmDeviceType type = toy_type;
    type.fields = fields;
    g_autoptr(GError) gap = NULL;
    g_assert_false(vm_device_type_check(&type, &gap));
  }
  VmField twice[N + 1];
  memcpy(twice, toy_fields, sizeof(VmField));
  memcpy(twice + 1, toy_fields, sizeof(toy_fields));
  expect_bad(twice, "overlaps");
  VmField silent[N];
  memcpy(silent, toy_fields, sizeof(toy_fields));
  silent[N - 2].reason = NULL;
  expect_bad(silent, "no reason");
}

static void test_cpu_table(void)
{
  VmDeviceType type = { .name = "x86", .size = sizeof(X86Cpu), .fields = x86_cpu_fields };
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_device_type_check(&type, &error));
  g_assert_no_error(error);
}

static void test_find(void)
{
  g_autoptr(Vm) vm = vm_new_manual();
  Toy *a = toy_new(vm, "a");
  g_assert_true(vm_find_device(vm, "a") == &a->dev);
  g_assert_null(vm_find_device(vm, "b"));
  a->index = 3;
  vm_start(vm); /* resets */
  vm_io_context_step(vm_get_io_context(vm), 0);
  g_assert_cmpuint(a->index, ==, 0);
  g_assert_cmpint(vm_get_state(vm), ==, VM_STATE_RUNNING);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/device/round-trip", test_round_trip);
  g_test_add_func("/device/damage", test_damage);
  g_test_add_func("/device/validate", test_validate);
  g_test_add_func("/device/check", test_check);
  g_test_add_func("/device/cpu-table", test_cpu_table);
  g_test_add_func("/device/find", test_find);
  return g_test_run();
}
