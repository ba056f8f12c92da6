/*
 * The device base: making, resetting, saving, loading and freeing devices by their types' tables.
 */
#include <stdatomic.h>

#include "vm-engine/state.h"
#include "vm-engine/vm-private.h"

/* Lines a device may log within one second. */
#define LOG_LINES_PER_SECOND 5

struct VmDeviceLog {
  GMutex mutex;
  int64_t window_start_us;
  unsigned lines, suppressed;
};

/* State structs may hold members that want more than malloc's alignment (FPU images). */
static void *state_alloc(size_t size)
{
  return g_aligned_alloc0(1, (size + 63) & ~(size_t)63, 64);
}

void *vm_device_new(Vm *vm, const VmDeviceType *type, const char *id)
{
  g_assert(type->size >= sizeof(VmDevice) && type->reset != NULL && type->fields != NULL);
  g_assert(vm_find_device(vm, id) == NULL);
  VmDevice *dev = state_alloc(type->size);
  dev->type = type;
  dev->vm = vm;
  dev->ctx = vm->ctx;
  dev->id = g_strdup(id);
  dev->log = g_new0(struct VmDeviceLog, 1);
  g_mutex_init(&dev->log->mutex);
  g_ptr_array_add(vm->devices, dev);
  return dev;
}

VmDevice *vm_find_device(Vm *vm, const char *id)
{
  for (unsigned i = 0; i < vm->devices->len; i++) {
    VmDevice *dev = g_ptr_array_index(vm->devices, i);
    if (strcmp(dev->id, id) == 0)
      return dev;
  }
  return NULL;
}

void vm_foreach_device(Vm *vm, VmDeviceFunc func, void *opaque)
{
  for (unsigned i = 0; i < vm->devices->len; i++)
    func(g_ptr_array_index(vm->devices, i), opaque);
}

void vm_devices_reset(Vm *vm)
{
  for (unsigned i = 0; i < vm->devices->len; i++) {
    VmDevice *dev = g_ptr_array_index(vm->devices, i);
    dev->type->reset(dev);
  }
}

void vm_devices_destroy(Vm *vm)
{
  while (vm->devices->len > 0) {
    VmDevice *dev = g_ptr_array_steal_index(vm->devices, vm->devices->len - 1);
    if (dev->type->finish != NULL)
      dev->type->finish(dev);
    g_mutex_clear(&dev->log->mutex);
    g_free(dev->log);
    g_free(dev->id);
    g_aligned_free(dev);
  }
}

/* ---- save and load ------------------------------------------------------------------------------------------------- */

void vm_device_save(VmDevice *dev, GByteArray *out)
{
  if (dev->type->saving != NULL)
    dev->type->saving(dev);
  vm_fields_save(dev->type->fields, dev, out);
}

struct VmDeviceLoad {
  VmDevice *dev;
  void *scratch;
  bool committed;
};

VmDeviceLoad *vm_device_load_prepare(VmDevice *dev, const uint8_t *bytes, size_t size, GError **error)
{
  VmDeviceLoad *load = g_new0(VmDeviceLoad, 1);
  load->dev = dev;
  load->scratch = state_alloc(dev->type->size);
  memcpy(load->scratch, dev, dev->type->size);
  VmByteReader reader = { bytes, size };
  bool good = vm_fields_decode(dev->type->fields, dev, load->scratch, &reader, dev->id, error);
  if (good && reader.left != 0) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of %s is damaged: too many bytes", dev->id);
    good = false;
  }
  if (good && dev->type->validate != NULL)
    good = dev->type->validate(load->scratch, error);
  if (good)
    return load;
  vm_device_load_finish(load);
  return NULL;
}

void vm_device_load_commit(VmDeviceLoad *load)
{
  vm_fields_commit(load->dev->type->fields, load->scratch, load->dev);
  load->committed = true;
}

void vm_device_load_finish(VmDeviceLoad *load)
{
  if (load == NULL)
    return;
  if (load->committed && load->dev->type->loaded != NULL)
    load->dev->type->loaded(load->dev);
  g_aligned_free(load->scratch);
  g_free(load);
}

bool vm_device_load(VmDevice *dev, const uint8_t *bytes, size_t size, GError **error)
{
  VmDeviceLoad *load = vm_device_load_prepare(dev, bytes, size, error);
  if (load == NULL)
    return false;
  vm_device_load_commit(load);
  vm_device_load_finish(load);
  return true;
}

/* ---- description, check, log ----------------------------------------------------------------------------------------- */

char *vm_device_dup_description(const VmDevice *dev)
{
  GString *text = g_string_new(NULL);
  g_string_append_printf(text, "%s (%s, version %u)\n", dev->id, dev->type->name, dev->type->version);
  vm_fields_describe(dev->type->fields, dev, "", text);
  return g_string_free(text, FALSE);
}

bool vm_device_type_check(const VmDeviceType *type, GError **error)
{
  size_t start = type->fields[0].kind != VM_FIELD_END && type->fields[0].offset == 0 ? 0 : sizeof(VmDevice);
  return vm_fields_check(type->fields, type->name, start, type->size, error);
}

/* May one more line go out? `missed` is how many did not since the last that did. */
static bool log_allowed(struct VmDeviceLog *log, unsigned *missed)
{
  g_mutex_lock(&log->mutex);
  int64_t now = g_get_monotonic_time();
  bool fresh = log->window_start_us == 0 || now - log->window_start_us >= G_USEC_PER_SEC;
  if (fresh) {
    log->window_start_us = now;
    log->lines = 0;
  }
  bool allowed = log->lines < LOG_LINES_PER_SECOND;
  *missed = allowed ? log->suppressed : 0;
  log->suppressed = allowed ? 0 : log->suppressed + 1;
  log->lines += allowed;
  g_mutex_unlock(&log->mutex);
  return allowed;
}

void vm_device_log(VmDevice *dev, const char *format, ...)
{
  unsigned missed;
  if (!log_allowed(dev->log, &missed))
    return;
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  if (missed > 0)
    g_log("oriel", G_LOG_LEVEL_INFO, "%s: %s (%u more like it were not shown)", dev->id, text, missed);
  else
    g_log("oriel", G_LOG_LEVEL_INFO, "%s: %s", dev->id, text);
}
