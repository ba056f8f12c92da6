/*
 * `oriel run`. The window, if there is one, comes from the UI module, which is loaded only then: see ui-module.h.
 */
#include "app/run.h"

#include <gio/gio.h>
#include <glib-unix.h>
#include <glib/gi18n.h>
#include <gmodule.h>
#include <unistd.h>

#include "app/library.h"
#include "app/machine.h"
#include "app/settings.h"
#include "app/ui-module.h"
#include "vm-engine/vm.h"

#define UI_MODULE_FILE   "liboriel-ui.so"
#define ISO_MAGIC_OFFSET 0x8001
#define PROBE_BYTES      (ISO_MAGIC_OFFSET + 5)

/* ---- the UI module -------------------------------------------------------------------------------------------------- */

/* Beside the program, as built; else where it was installed. */
static char *find_ui_module(void)
{
  g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);
  g_autofree char *folder = program ? g_path_get_dirname(program) : g_strdup(".");
  char *built = g_build_filename(folder, "..", "ui", UI_MODULE_FILE, NULL);
  if (g_file_test(built, G_FILE_TEST_EXISTS))
    return built;
  g_free(built);
  return g_build_filename(ORIEL_MODULE_DIR, UI_MODULE_FILE, NULL);
}

static const OrielUiModule *load_ui(GError **error)
{
  g_autofree char *path = find_ui_module();
  GModule *module = g_module_open(path, G_MODULE_BIND_LAZY | G_MODULE_BIND_LOCAL);
  const OrielUiModule *(*get)(void) = NULL;
  if (module == NULL || !g_module_symbol(module, ORIEL_UI_SYMBOL, (gpointer *)&get) || get == NULL) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "the window cannot be loaded: %s; --headless runs without one",
                g_module_error());
    return NULL;
  }
  g_module_make_resident(module);
  const OrielUiModule *ui = get();
  if (ui->abi != ORIEL_UI_ABI) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "%s belongs to another version of Oriel; reinstall it", path);
    return NULL;
  }
  return ui->init(error) ? ui : NULL;
}

int oriel_run_library(GError **error)
{
  const OrielUiModule *ui = load_ui(error);
  return ui ? ui->run_library() : -1;
}

/* ---- transient machines -------------------------------------------------------------------------------------------------- */

typedef enum FileKind { FILE_DISK, FILE_ISO, FILE_FLOPPY, FILE_OTHER_FORMAT, FILE_UNREADABLE } FileKind;

static bool is_floppy_size(uint64_t bytes)
{
  static const unsigned kib[] = { 160, 180, 320, 360, 720, 1200, 1440, 1680, 1722, 2880 };
  for (size_t i = 0; i < G_N_ELEMENTS(kib); i++)
    if (bytes == (uint64_t)kib[i] << 10)
      return true;
  return false;
}

/* A disk image of a format that this version cannot open, by its magic. */
static const char *other_format(const uint8_t *bytes, size_t size)
{
  static const struct {
    unsigned offset;
    const char *magic;
    const char *name;
  } formats[] = {
    { 0, "QFI\xfb", "qcow2" },           { 0, "KDMV", "VMDK" },     { 0, "# Disk Descriptor", "VMDK" },
    { 0x40, "\x7f\x10\xda\xbe", "VDI" }, { 0, "vhdxfile", "VHDX" }, { 0, "conectix", "VHD" },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(formats); i++) {
    size_t n = strlen(formats[i].magic);
    if (size >= formats[i].offset + n && memcmp(bytes + formats[i].offset, formats[i].magic, n) == 0)
      return formats[i].name;
  }
  return NULL;
}

/* What the user named on the command line is looked at once, here; a stored machine's disks never are. */
static FileKind judge_file(const char *path, const char **format, GError **error)
{
  g_autoptr(GFile) file = g_file_new_for_path(path);
  g_autoptr(GFileInputStream) stream = g_file_read(file, NULL, error);
  g_autofree uint8_t *bytes = g_malloc0(PROBE_BYTES);
  gsize got = 0;
  if (stream == NULL || !g_input_stream_read_all(G_INPUT_STREAM(stream), bytes, PROBE_BYTES, &got, NULL, error)) {
    g_prefix_error(error, "cannot read %s: ", path);
    return FILE_UNREADABLE;
  }
  if (got == PROBE_BYTES && memcmp(bytes + ISO_MAGIC_OFFSET, "CD001", 5) == 0)
    return FILE_ISO;
  *format = other_format(bytes, got);
  if (*format != NULL)
    return FILE_OTHER_FORMAT;
  g_autoptr(GFileInfo) info = g_file_input_stream_query_info(stream, G_FILE_ATTRIBUTE_STANDARD_SIZE, NULL, NULL);
  return info && is_floppy_size((uint64_t)g_file_info_get_size(info)) ? FILE_FLOPPY : FILE_DISK;
}

/* Commas in a path are doubled where fields may follow it. */
static char *escape_commas(const char *path)
{
  g_auto(GStrv) parts = g_strsplit(path, ",", -1);
  return g_strjoinv(",,", parts);
}

static bool add_file(OrielConfig *config, const char *path, GError **error)
{
  const char *format = NULL;
  g_autofree char *disk = escape_commas(path);
  switch (judge_file(path, &format, error)) {
  case FILE_ISO:
    return oriel_config_set(config, "cdrom", path, error) &&
           (oriel_config_is_set(config, "boot") || oriel_config_set(config, "boot", "cdrom", error));
  case FILE_FLOPPY:
    return oriel_config_set(config, "floppy", path, error) &&
           (oriel_config_is_set(config, "boot") || oriel_config_set(config, "boot", "floppy", error));
  case FILE_DISK:
    return oriel_config_add(config, "disk", disk, error);
  case FILE_OTHER_FORMAT:
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED,
                "%s is a %s image; this version opens raw images (convert it with qemu-img convert -O raw)", path,
                format);
    return false;
  case FILE_UNREADABLE:
    return false;
  }
  g_assert_not_reached();
}

/* ---- settings of a run ------------------------------------------------------------------------------------------------------ */

/* Puts the options given on the command line over the stored settings. */
static bool overlay(OrielConfig *config, const OrielConfig *given, GError **error)
{
  for (const OrielSetting *s = oriel_settings; s->key != NULL; s++) {
    if (!oriel_config_is_set(given, s->key))
      continue;
    if (!s->repeatable) {
      if (!oriel_config_set(config, s->key, oriel_config_get(given, s->key), error))
        return false;
      continue;
    }
    g_auto(GStrv) values = oriel_config_dup_list(given, s->key);
    oriel_config_unset(config, s->key);
    for (char **value = values; *value != NULL; value++)
      if (!oriel_config_add(config, s->key, *value, error))
        return false;
  }
  return true;
}

/* What is to run: its settings, and for a library machine its name, folder and lock. */
typedef struct Run {
  OrielConfig *config;
  const char *name;
  char *folder, *title, *control_path;
  OrielLock *lock;
  OrielMachine *machine;
  GMainLoop *loop;
  bool headless;
} Run;

static bool prepare_library_machine(Run *run, const char *name, GError **error)
{
  run->config = oriel_library_load(name, error);
  if (run->config == NULL)
    return false;
  run->lock = oriel_library_lock(name, error);
  run->name = name;
  run->folder = oriel_library_dup_machine_path(name);
  run->control_path = oriel_library_dup_control_path(name);
  return run->lock != NULL;
}

static bool prepare(Run *run, const OrielOptions *o, GError **error)
{
  const char *what = o->arguments->len ? g_ptr_array_index(o->arguments, 0) : NULL;
  if (o->arguments->len > 1) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "run takes one machine or file, not %u", o->arguments->len);
    return false;
  }
  if (what != NULL && strchr(what, '/') == NULL && oriel_library_exists(what))
    return prepare_library_machine(run, what, error) && overlay(run->config, o->config, error);

  run->config = oriel_config_copy(o->config);
  if (what == NULL)
    return true;
  if (!g_file_test(what, G_FILE_TEST_EXISTS)) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED,
                "there is neither a machine nor a file \"%s\"; `oriel list` shows the machines", what);
    return false;
  }
  run->title = g_path_get_basename(what);
  return add_file(run->config, what, error);
}

/* ---- the run ------------------------------------------------------------------------------------------------------------------- */

static gboolean quit_loop(gpointer data)
{
  g_main_loop_quit(data);
  return G_SOURCE_REMOVE;
}

/* In the I/O context. */
static void on_event(Vm *vm, VmEvent event, const char *text, void *opaque)
{
  Run *run = opaque;
  if (event == VM_EVENT_PANIC && text != NULL)
    g_printerr("oriel: %s\n", text);
  if (event == VM_EVENT_ENDED)
    g_main_context_invoke(NULL, quit_loop, run->loop);
}

static gboolean on_signal(gpointer data)
{
  Run *run = data;
  vm_request_end(oriel_machine_get_vm(run->machine), 0, NULL);
  return G_SOURCE_CONTINUE;
}

static int run_headless(Run *run)
{
  Vm *vm = oriel_machine_get_vm(run->machine);
  run->loop = g_main_loop_new(NULL, FALSE);
  guint interrupt = g_unix_signal_add(SIGINT, on_signal, run);
  guint terminate = g_unix_signal_add(SIGTERM, on_signal, run);
  guint hangup = g_unix_signal_add(SIGHUP, on_signal, run);
  unsigned listener = vm_add_listener(vm, on_event, run);
  if (vm_get_state(vm) != VM_STATE_ENDED) { /* the terminal may have ended it already */
    vm_start(vm);
    g_main_loop_run(run->loop);
  }
  vm_remove_listener(vm, listener);
  g_source_remove(interrupt);
  g_source_remove(terminate);
  g_source_remove(hangup);
  g_main_loop_unref(run->loop);
  return vm_get_exit_status(vm);
}

static void tell_accel(const Run *run)
{
  const char *reason = oriel_machine_get_accel_reason(run->machine);
  if (reason != NULL && run->headless)
    g_printerr(_("oriel: running by translation: %s\n"), reason);
}

static int start(Run *run, const OrielOptions *o, GError **error)
{
  const OrielUiModule *ui = NULL;
  if (!run->headless && (ui = load_ui(error)) == NULL)
    return -1;
  OrielRunOptions options = { .name = run->name,
                              .folder = run->folder,
                              .title = run->title,
                              .headless = run->headless,
                              .no_reboot = o->no_reboot,
                              .no_shutdown = o->no_shutdown,
                              .debug_exit_port = o->debug_exit_port,
                              .control_path = o->control_path ? o->control_path : run->control_path,
                              .debugcon = o->debugcon };
  run->machine = oriel_machine_new(run->config, &options, error);
  if (run->machine == NULL)
    return -1;
  tell_accel(run);
  return ui ? ui->run_machine(run->machine) : run_headless(run);
}

int oriel_run(const OrielOptions *o, GError **error)
{
  Run run = { .headless = o->headless };
  int status = prepare(&run, o, error) ? start(&run, o, error) : -1;
  oriel_machine_free(run.machine);
  oriel_lock_free(run.lock);
  oriel_config_free(run.config);
  g_free(run.folder);
  g_free(run.title);
  g_free(run.control_path);
  return status;
}
