/* The commands of the control socket, with QMP's names and members. The table is at the end. */
#include "app/control-impl.h"

#include "app/machine.h"
#include "vm-engine/accel.h"
#include "vm-engine/device.h"
#include "vm-engine/display.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"
#include "vm-engine/x86/cpu.h"

/* ---- arguments --------------------------------------------------------------------------------------------------------- */

const char *control_get_string(const ControlCall *call, const char *name, bool needed, GError **error)
{
  JsonNode *node = json_object_get_member(call->arguments, name);
  if (node != NULL && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == G_TYPE_STRING)
    return json_node_get_string(node);
  if (node != NULL)
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "Invalid parameter type for '%s', expected: string", name);
  else if (needed)
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "Parameter '%s' is missing", name);
  return NULL;
}

static JsonNode *find_value(const ControlCall *call, const char *name, GType type)
{
  JsonNode *node = json_object_get_member(call->arguments, name);
  return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type ? node : NULL;
}

gint64 control_get_int(const ControlCall *call, const char *name, gint64 standard)
{
  JsonNode *node = find_value(call, name, G_TYPE_INT64);
  return node ? json_node_get_int(node) : standard;
}

bool control_get_bool(const ControlCall *call, const char *name, bool standard)
{
  JsonNode *node = find_value(call, name, G_TYPE_BOOLEAN);
  return node ? json_node_get_boolean(node) : standard;
}

static JsonNode *take_object(JsonObject *object)
{
  JsonNode *node = json_node_new(JSON_NODE_OBJECT);
  json_node_take_object(node, object);
  return node;
}

static JsonNode *take_array(JsonArray *array)
{
  JsonNode *node = json_node_new(JSON_NODE_ARRAY);
  json_node_take_array(node, array);
  return node;
}

static JsonNode *take_text(char *text)
{
  JsonNode *node = json_node_new(JSON_NODE_VALUE);
  json_node_set_string(node, text ? text : "");
  g_free(text);
  return node;
}

/* ---- running and stopping -------------------------------------------------------------------------------------------------- */

static JsonNode *do_stop(const ControlCall *call, GError **error)
{
  vm_pause(oriel_machine_get_vm(call->machine));
  return NULL;
}

static JsonNode *do_cont(const ControlCall *call, GError **error)
{
  vm_start(oriel_machine_get_vm(call->machine));
  return NULL;
}

static JsonNode *do_reset(const ControlCall *call, GError **error)
{
  vm_request_reset(oriel_machine_get_vm(call->machine));
  return NULL;
}

static JsonNode *do_powerdown(const ControlCall *call, GError **error)
{
  vm_request_powerdown(oriel_machine_get_vm(call->machine));
  return NULL;
}

static JsonNode *do_quit(const ControlCall *call, GError **error)
{
  vm_request_end(oriel_machine_get_vm(call->machine), 0, NULL);
  return NULL;
}

static JsonNode *do_query_status(const ControlCall *call, GError **error)
{
  static const char *const names[] = { "paused", "running", "shutdown" };
  VmState state = vm_get_state(oriel_machine_get_vm(call->machine));
  JsonObject *out = json_object_new();
  json_object_set_boolean_member(out, "running", state == VM_STATE_RUNNING);
  json_object_set_boolean_member(out, "singlestep", FALSE);
  json_object_set_string_member(out, "status", names[state]);
  return take_object(out);
}

/* ---- about the machine ---------------------------------------------------------------------------------------------------------- */

static JsonNode *do_query_version(const ControlCall *call, GError **error)
{
  JsonObject *out = json_object_new(), *version = json_object_new();
  int parts[3] = { 0 };
  g_auto(GStrv) texts = g_strsplit(ORIEL_VERSION, ".", 3);
  for (int i = 0; i < 3 && texts[i] != NULL; i++)
    parts[i] = (int)g_ascii_strtoll(texts[i], NULL, 10);
  json_object_set_int_member(version, "major", parts[0]);
  json_object_set_int_member(version, "minor", parts[1]);
  json_object_set_int_member(version, "micro", parts[2]);
  json_object_set_object_member(out, "qemu", version);
  json_object_set_string_member(out, "package", "Oriel " ORIEL_VERSION);
  return take_object(out);
}

static JsonNode *do_query_commands(const ControlCall *call, GError **error)
{
  JsonArray *out = json_array_new();
  JsonObject *first = json_object_new();
  json_object_set_string_member(first, "name", "qmp_capabilities");
  json_array_add_object_element(out, first);
  for (const ControlCommand *c = control_commands; c->name != NULL; c++) {
    JsonObject *row = json_object_new();
    json_object_set_string_member(row, "name", c->name);
    json_array_add_object_element(out, row);
  }
  return take_array(out);
}

static JsonNode *do_query_name(const ControlCall *call, GError **error)
{
  JsonObject *out = json_object_new();
  json_object_set_string_member(out, "name", oriel_machine_get_title(call->machine));
  return take_object(out);
}

static JsonNode *do_query_kvm(const ControlCall *call, GError **error)
{
  bool kvm = vm_get_accel_ops(oriel_machine_get_vm(call->machine)) == &vm_accel_kvm;
  JsonObject *out = json_object_new();
  json_object_set_boolean_member(out, "enabled", kvm);
  json_object_set_boolean_member(out, "present", TRUE);
  return take_object(out);
}

static JsonNode *do_query_cpus(const ControlCall *call, GError **error)
{
  JsonArray *out = json_array_new();
  unsigned n = vm_get_n_cpus(oriel_machine_get_vm(call->machine));
  for (unsigned i = 0; i < n; i++) {
    JsonObject *row = json_object_new(), *props = json_object_new();
    g_autofree char *path = g_strdup_printf("/machine/cpu[%u]", i);
    json_object_set_int_member(row, "cpu-index", i);
    json_object_set_string_member(row, "qom-path", path);
    json_object_set_int_member(row, "thread-id",
                               vm_cpu_get_thread_id(vm_get_cpu(oriel_machine_get_vm(call->machine), i)));
    json_object_set_string_member(row, "target", "x86_64");
    json_object_set_int_member(props, "socket-id", i);
    json_object_set_object_member(row, "props", props);
    json_array_add_object_element(out, row);
  }
  return take_array(out);
}

/* ---- drives ------------------------------------------------------------------------------------------------------------------------ */

static JsonObject *describe_medium(const OrielDrive *drive)
{
  JsonObject *inserted = json_object_new(), *image = json_object_new();
  json_object_set_string_member(inserted, "file", drive->path);
  json_object_set_string_member(inserted, "drv", "raw");
  json_object_set_boolean_member(inserted, "ro", drive->read_only);
  json_object_set_string_member(image, "filename", drive->path);
  json_object_set_string_member(image, "format", "raw");
  json_object_set_int_member(image, "virtual-size", (gint64)drive->size_bytes);
  json_object_set_object_member(inserted, "image", image);
  return inserted;
}

static JsonNode *do_query_block(const ControlCall *call, GError **error)
{
  JsonArray *out = json_array_new();
  g_autoptr(GPtrArray) drives = oriel_machine_dup_drives(call->machine);
  for (guint i = 0; i < drives->len; i++) {
    const OrielDrive *drive = g_ptr_array_index(drives, i);
    JsonObject *row = json_object_new();
    json_object_set_string_member(row, "device", drive->id);
    json_object_set_string_member(row, "type", "unknown");
    json_object_set_boolean_member(row, "locked", FALSE);
    json_object_set_boolean_member(row, "removable", drive->removable);
    if (drive->path != NULL)
      json_object_set_object_member(row, "inserted", describe_medium(drive));
    json_array_add_object_element(out, row);
  }
  return take_array(out);
}

/* Changes what `device` (or `id`) holds; `path` NULL: ejects. */
static bool change_medium(const ControlCall *call, const char *path, bool force, GError **error)
{
  const char *id = control_get_string(call, "id", false, NULL);
  if (id == NULL)
    id = control_get_string(call, "device", true, error);
  if (id == NULL)
    return false;
  if (g_str_equal(id, "ide1-cd0"))
    return oriel_machine_change_cdrom(call->machine, path, force, error);
  if (g_str_equal(id, "floppy0"))
    return oriel_machine_change_floppy(call->machine, path, error);
  g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_DEVICE_NOT_FOUND, "Device '%s' is not found or not removable", id);
  return false;
}

static JsonNode *do_change_medium(const ControlCall *call, GError **error)
{
  const char *path = control_get_string(call, "filename", true, error);
  if (path != NULL)
    (void)!change_medium(call, path, control_get_bool(call, "force", false), error);
  return NULL;
}

static JsonNode *do_eject(const ControlCall *call, GError **error)
{
  (void)!change_medium(call, NULL, control_get_bool(call, "force", false), error);
  return NULL;
}

static JsonNode *do_device_add(const ControlCall *call, GError **error)
{
  const char *driver = control_get_string(call, "driver", true, error);
  if (driver != NULL)
    g_set_error(
        error, CONTROL_ERROR, CONTROL_ERROR_GENERIC,
        "'%s' is not a valid device model name: this machine has no device that can be plugged in while it runs",
        driver);
  return NULL;
}

static JsonNode *do_device_del(const ControlCall *call, GError **error)
{
  const char *id = control_get_string(call, "id", true, error);
  if (id != NULL)
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_DEVICE_NOT_FOUND, "Device '%s' not found", id);
  return NULL;
}

/* ---- the picture ---------------------------------------------------------------------------------------------------------------------- */

static JsonNode *do_screendump(const ControlCall *call, GError **error)
{
  const char *path = control_get_string(call, "filename", true, error);
  const char *format = control_get_string(call, "format", false, NULL);
  if (path == NULL)
    return NULL;
  if (format != NULL && !g_str_equal(format, "ppm") && !g_str_equal(format, "png"))
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "Parameter 'format' does not accept value '%s'", format);
  else
    (void)!oriel_machine_screenshot(call->machine, path, format, error);
  return NULL;
}

/* The screen of a text mode as text: not of QMP. */
static JsonNode *do_screen_text(const ControlCall *call, GError **error)
{
  JsonObject *out = json_object_new();
  g_autofree char *text = vm_display_dup_text(vm_get_display(oriel_machine_get_vm(call->machine)));
  if (text != NULL)
    json_object_set_string_member(out, "text", text);
  return take_object(out);
}

/* ---- the human monitor -------------------------------------------------------------------------------------------------------------------- */

static void describe_device(VmDevice *dev, void *opaque)
{
  g_autofree char *text = vm_device_dup_description(dev);
  g_string_append_printf(opaque, "%s (%s)\n%s", dev->id, dev->type->name, text);
}

static char *info_devices(Vm *vm)
{
  GString *out = g_string_new(NULL);
  vm_io_context_lock(vm_get_io_context(vm));
  vm_foreach_device(vm, describe_device, out);
  vm_io_context_unlock(vm_get_io_context(vm));
  return g_string_free(out, FALSE);
}

static char *info_accel(Vm *vm)
{
  const VmAccelOps *ops = vm_get_accel_ops(vm);
  return ops->dup_description ? ops->dup_description(vm_get_accel(vm))
                              : g_strdup_printf("accelerator: %s\n", ops->name);
}

static char *human_command(const ControlCall *call, const char *line, GError **error)
{
  Vm *vm = oriel_machine_get_vm(call->machine);
  if (g_str_equal(line, "info status"))
    return g_strdup_printf("VM status: %s\r\n", vm_get_state(vm) == VM_STATE_RUNNING ? "running" : "paused");
  if (g_str_equal(line, "info mtree"))
    return vm_memory_dup_description(vm_get_memory(vm));
  if (g_str_equal(line, "info jit"))
    return info_accel(vm);
  if (g_str_equal(line, "info registers"))
    return vm_cpu_dup_registers(vm_get_cpu(vm, 0));
  if (g_str_equal(line, "info qtree"))
    return info_devices(vm);
  if (g_str_has_prefix(line, "sendkey "))
    return control_type_combination(call->keys, line + strlen("sendkey "), error) ? g_strdup("") : NULL;
  return g_strdup_printf("unknown command: '%s'\r\n", line);
}

static JsonNode *do_human(const ControlCall *call, GError **error)
{
  const char *line = control_get_string(call, "command-line", true, error);
  char *text = line ? human_command(call, line, error) : NULL;
  return text ? take_text(text) : NULL;
}

/* ---- the table -------------------------------------------------------------------------------------------------------------------------------- */

const ControlCommand control_commands[] = {
  { "blockdev-change-medium", do_change_medium },
  { "cont", do_cont },
  { "device_add", do_device_add },
  { "device_del", do_device_del },
  { "eject", do_eject },
  { "human-monitor-command", do_human },
  { "input-send-event", control_input_send_event },
  { "query-block", do_query_block },
  { "query-commands", do_query_commands },
  { "query-cpus-fast", do_query_cpus },
  { "query-kvm", do_query_kvm },
  { "query-name", do_query_name },
  { "query-status", do_query_status },
  { "query-version", do_query_version },
  { "quit", do_quit },
  { "screendump", do_screendump },
  { "send-key", control_send_key },
  { "stop", do_stop },
  { "system_powerdown", do_powerdown },
  { "system_reset", do_reset },
  { "x-oriel-screen-text", do_screen_text },
  { NULL, NULL },
};

const ControlCommand *control_command_find(const char *name)
{
  for (const ControlCommand *c = control_commands; c->name != NULL; c++)
    if (g_str_equal(c->name, name))
      return c;
  return NULL;
}
