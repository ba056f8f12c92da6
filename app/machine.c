/*
 * A machine of this process. See machine.h.
 *
 * Everything that can fail is opened first and handed to the board as one PcConfig; the board takes it over.
 */
#include "app/machine.h"

#include <unistd.h>

#include <glib/gi18n.h>
#include <glib/gstdio.h>

#include "app/control.h"
#include "app/picture.h"
#include "app/settings.h"
#include "block/block.h"
#include "hw/boards/pc.h"
#include "vm-engine/chardev.h"
#include "vm-engine/display.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"

struct OrielMachine {
  OrielConfig *config;
  char *name, *folder, *title, *accel_reason;
  Vm *vm;
  OrielControl *control;
  VmChardev *serials[PC_MAX_SERIALS]; /* the board's; borrowed */
  bool serial_is_window[PC_MAX_SERIALS];
  GMutex drives_lock; /* guards `drives`, which a change of medium rewrites */
  GPtrArray *drives;
};

static const VmAccelOps *choose_accel(OrielMachine *m, GError **error)
{
  const char *wanted = oriel_config_get(m->config, "accel");
  VmAccelChoice choice = g_str_equal(wanted, "kvm")   ? VM_ACCEL_KVM
                         : g_str_equal(wanted, "tcg") ? VM_ACCEL_TCG
                                                      : VM_ACCEL_AUTO;
  return vm_accel_choose(choice, &m->accel_reason, error);
}

/* ---- drives -------------------------------------------------------------------------------------------------------- */

static void free_drive(void *data)
{
  OrielDrive *drive = data;
  g_free(drive->id);
  g_free(drive->path);
  g_free(drive);
}

static OrielDrive *add_drive(OrielMachine *m, const char *id, const char *path, bool removable, const BlkImage *image)
{
  OrielDrive *drive = g_new0(OrielDrive, 1);
  drive->id = g_strdup(id);
  drive->path = g_strdup(path);
  drive->removable = removable;
  drive->read_only = image != NULL && blk_is_read_only(image);
  drive->size_bytes = image != NULL ? blk_get_size(image) : 0;
  g_ptr_array_add(m->drives, drive);
  return drive;
}

static char *resolve_path(const OrielMachine *m, const char *path)
{
  return m->folder == NULL || g_path_is_absolute(path) ? g_strdup(path) : g_build_filename(m->folder, path, NULL);
}

static BlkImage *open_image(OrielMachine *m, const char *path, const char *format, bool read_only, bool discard,
                            GError **error)
{
  BlkOpenOptions options = { .format = format,
                             .read_only = read_only,
                             .discard_changes = discard,
                             .context = vm_io_context_get_main_context(vm_get_io_context(m->vm)) };
  return blk_open(path, &options, error);
}

/* Disks take the IDE places from the first on, but leave the secondary master to the CD-ROM drive. */
static int free_ide_place(const PcConfig *pc)
{
  static const int order[PC_N_IDE] = { 0, 1, 3, 2 };
  for (int i = 0; i < PC_N_IDE; i++)
    if (pc->ide[order[i]].kind == PC_DRIVE_NONE)
      return order[i];
  return -1;
}

static bool open_disk(OrielMachine *m, PcConfig *pc, const char *text, GError **error)
{
  g_autoptr(OrielDiskSpec) spec = oriel_disk_spec_parse(text, error);
  if (spec == NULL)
    return false;
  int place = free_ide_place(pc);
  if (place < 0) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "disk: %s is one too many; there is room for %d IDE drives",
                spec->path, PC_N_IDE);
    return false;
  }
  g_autofree char *path = resolve_path(m, spec->path);
  BlkImage *image = open_image(m, path, spec->format, spec->read_only, spec->discard_changes, error);
  if (image == NULL)
    return false;
  g_autofree char *id = g_strdup_printf("ide%d-hd%d", place / 2, place % 2);
  pc->ide[place] = (PcDrive){ PC_DRIVE_DISK, image };
  add_drive(m, id, path, false, image);
  return true;
}

static bool open_cdrom(OrielMachine *m, PcConfig *pc, GError **error)
{
  const char *value = oriel_config_get(m->config, "cdrom");
  g_autofree char *path = value ? resolve_path(m, value) : NULL;
  BlkImage *image = path ? open_image(m, path, "raw", true, false, error) : NULL;
  if (path != NULL && image == NULL)
    return false;
  pc->ide[2] = (PcDrive){ PC_DRIVE_CDROM, image };
  add_drive(m, "ide1-cd0", path, true, image);
  return true;
}

static bool open_floppy(OrielMachine *m, PcConfig *pc, GError **error)
{
  const char *value = oriel_config_get(m->config, "floppy");
  g_autofree char *path = value ? resolve_path(m, value) : NULL;
  if (path != NULL) {
    g_autoptr(GError) cause = NULL;
    pc->floppies[0] = open_image(m, path, "raw", false, false, &cause);
    if (g_error_matches(cause, BLK_ERROR, BLK_ERROR_DENIED))
      pc->floppies[0] = open_image(m, path, "raw", true, false, error);
    else if (cause != NULL)
      g_propagate_error(error, g_steal_pointer(&cause));
    if (pc->floppies[0] == NULL)
      return false;
  }
  add_drive(m, "floppy0", path, true, pc->floppies[0]);
  return true;
}

static bool open_drives(OrielMachine *m, PcConfig *pc, GError **error)
{
  g_auto(GStrv) disks = oriel_config_dup_list(m->config, "disk");
  if (!open_cdrom(m, pc, error) || !open_floppy(m, pc, error))
    return false;
  for (char **disk = disks; *disk != NULL; disk++)
    if (!open_disk(m, pc, *disk, error))
      return false;
  return true;
}

/* ---- serial ports ------------------------------------------------------------------------------------------------------ */

/* Ctrl-A x in the terminal ends the machine, as is customary. I/O context. */
static void on_escape(char key, void *opaque)
{
  OrielMachine *m = opaque;
  if (key == 'x')
    vm_request_end(m->vm, 0, NULL);
}

static bool open_serials(OrielMachine *m, const OrielRunOptions *options, PcConfig *pc, GError **error)
{
  static const char *const headless_default[] = { "none", NULL }, *const window_default[] = { "window", NULL };
  g_auto(GStrv) list = oriel_config_dup_list(m->config, "serial");
  const char *const *specs = options->headless ? headless_default : window_default;
  if (*list != NULL)
    specs = (const char *const *)list;
  if (g_strv_length((char **)specs) > PC_MAX_SERIALS) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "serial: there are at most %d ports", PC_MAX_SERIALS);
    return false;
  }
  for (unsigned i = 0; specs[i] != NULL; i++) {
    m->serials[i] = vm_chardev_new(vm_get_io_context(m->vm), specs[i], error);
    if (m->serials[i] == NULL)
      return false;
    if (g_str_equal(specs[i], "stdio"))
      vm_chardev_set_escape(m->serials[i], on_escape, m);
    m->serial_is_window[i] = g_str_equal(specs[i], "window");
    pc->serials[i] = m->serials[i];
    const char *path = vm_chardev_get_path(m->serials[i]);
    if (g_str_equal(specs[i], "pty") && path != NULL)
      g_printerr(_("COM%u is at %s\n"), i + 1, path);
  }
  if (options->debugcon != NULL)
    pc->debugcon = vm_chardev_new(vm_get_io_context(m->vm), options->debugcon, error);
  return options->debugcon == NULL || pc->debugcon != NULL;
}

/* ---- the board --------------------------------------------------------------------------------------------------------- */

/* A path among the settings, against the machine's folder; kept alive by `keep`. */
static const char *path_setting(OrielMachine *m, const char *key, GPtrArray *keep)
{
  const char *value = oriel_config_get(m->config, key);
  if (value == NULL)
    return NULL;
  char *path = resolve_path(m, value);
  g_ptr_array_add(keep, path);
  return path;
}

static PcBoot boot_choice(const char *text)
{
  return g_str_has_prefix(text, "cdrom")    ? PC_BOOT_CDROM
         : g_str_has_prefix(text, "floppy") ? PC_BOOT_FLOPPY
                                            : PC_BOOT_DISK;
}

static void fill_board_config(OrielMachine *m, const OrielRunOptions *options, PcConfig *pc, GPtrArray *keep)
{
  const char *firmware = oriel_config_get(m->config, "firmware");
  const char *boot = oriel_config_get(m->config, "boot");
  pc->memory_bytes = oriel_config_get_number(m->config, "memory") & ~UINT64_C(0xfffff);
  pc->n_cpus = (unsigned)oriel_config_get_number(m->config, "cpus");
  pc->firmware_path = g_str_equal(firmware, "bios") ? NULL : path_setting(m, "firmware", keep);
  pc->boot = boot_choice(boot);
  pc->boot_menu = g_str_has_suffix(boot, ",menu");
  pc->kernel_path = path_setting(m, "kernel", keep);
  pc->initrd_path = path_setting(m, "initrd", keep);
  pc->append = oriel_config_get(m->config, "append");
  pc->no_vga = g_str_equal(oriel_config_get(m->config, "card"), "none");
  pc->debug_exit_port = (uint16_t)options->debug_exit_port;
}

static bool check_kernel_options(const OrielConfig *config, GError **error)
{
  if (oriel_config_is_set(config, "kernel") ||
      (!oriel_config_is_set(config, "initrd") && !oriel_config_is_set(config, "append")))
    return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "--initrd and --append go with --kernel");
  return false;
}

static void close_board_config(PcConfig *pc)
{
  for (unsigned i = 0; i < PC_N_IDE; i++)
    blk_close(pc->ide[i].image);
  blk_close(pc->floppies[0]);
  for (unsigned i = 0; i < PC_MAX_SERIALS; i++)
    vm_chardev_free(pc->serials[i]);
}

static bool create_board(OrielMachine *m, const OrielRunOptions *options, GError **error)
{
  PcConfig pc = { 0 };
  g_autoptr(GPtrArray) keep = g_ptr_array_new_with_free_func(g_free);
  fill_board_config(m, options, &pc, keep);
  if (!open_drives(m, &pc, error) || !open_serials(m, options, &pc, error)) {
    close_board_config(&pc);
    return false;
  }
  VmIoContext *ctx = vm_get_io_context(m->vm);
  vm_io_context_lock(ctx);
  bool ok = pc_board_create(m->vm, &pc, error);
  vm_io_context_unlock(ctx);
  return ok;
}

/* Makes the engine; a KVM that was chosen automatically but cannot make a machine gives way to the translator. */
static bool create_engine(OrielMachine *m, GError **error)
{
  const VmAccelOps *accel = choose_accel(m, error);
  g_autoptr(GError) cause = NULL;
  if (accel == NULL)
    return false;
  m->vm = vm_new(accel, &cause);
  if (m->vm == NULL && accel == &vm_accel_kvm && g_str_equal(oriel_config_get(m->config, "accel"), "auto")) {
    g_free(m->accel_reason);
    m->accel_reason = g_strdup(cause->message);
    g_clear_error(&cause);
    m->vm = vm_new(&vm_accel_tcg, &cause);
  }
  if (m->vm == NULL)
    g_propagate_error(error, g_steal_pointer(&cause));
  return m->vm != NULL;
}

static bool build(OrielMachine *m, const OrielRunOptions *options, GError **error)
{
  if (!check_kernel_options(m->config, error) || !create_engine(m, error))
    return false;
  vm_set_no_reboot(m->vm, options->no_reboot);
  vm_set_no_shutdown(m->vm, options->no_shutdown);
  if (!create_board(m, options, error))
    return false;
  if (options->control_path != NULL)
    m->control = oriel_control_new(m, options->control_path, error);
  return options->control_path == NULL || m->control != NULL;
}

OrielMachine *oriel_machine_new(const OrielConfig *config, const OrielRunOptions *options, GError **error)
{
  OrielMachine *m = g_new0(OrielMachine, 1);
  const char *title = options->title ? options->title : oriel_config_get(config, "title");
  g_mutex_init(&m->drives_lock);
  m->config = oriel_config_copy(config);
  m->name = g_strdup(options->name);
  m->folder = g_strdup(options->folder);
  m->title = g_strdup(title ? title : options->name ? options->name : "Oriel");
  m->drives = g_ptr_array_new_with_free_func(free_drive);
  if (build(m, options, error))
    return m;
  oriel_machine_free(m);
  return NULL;
}

void oriel_machine_free(OrielMachine *m)
{
  if (m == NULL)
    return;
  oriel_control_free(m->control);
  vm_free(m->vm);
  oriel_config_free(m->config);
  g_ptr_array_unref(m->drives);
  g_mutex_clear(&m->drives_lock);
  g_free(m->name);
  g_free(m->folder);
  g_free(m->title);
  g_free(m->accel_reason);
  g_free(m);
}

/* ---- what others ask ------------------------------------------------------------------------------------------------------- */

Vm *oriel_machine_get_vm(OrielMachine *m)
{
  return m->vm;
}

const OrielConfig *oriel_machine_get_config(const OrielMachine *m)
{
  return m->config;
}

const char *oriel_machine_get_title(const OrielMachine *m)
{
  return m->title;
}

const char *oriel_machine_get_name(const OrielMachine *m)
{
  return m->name;
}

const char *oriel_machine_get_accel_label(const OrielMachine *m)
{
  return vm_get_accel_ops(m->vm) == &vm_accel_kvm ? _("KVM") : _("translation");
}

const char *oriel_machine_get_accel_reason(const OrielMachine *m)
{
  return m->accel_reason;
}

VmChardev *oriel_machine_get_serial(OrielMachine *m, unsigned index)
{
  return index < PC_MAX_SERIALS ? m->serials[index] : NULL;
}

bool oriel_machine_serial_is_window(const OrielMachine *m, unsigned index)
{
  return index < PC_MAX_SERIALS && m->serial_is_window[index];
}

/* ---- removable media ----------------------------------------------------------------------------------------------------------- */

static OrielDrive *find_drive(OrielMachine *m, const char *id)
{
  for (guint i = 0; i < m->drives->len; i++) {
    OrielDrive *drive = g_ptr_array_index(m->drives, i);
    if (g_str_equal(drive->id, id))
      return drive;
  }
  return NULL;
}

static void note_medium(OrielMachine *m, const char *id, const char *path, uint64_t size_bytes, bool read_only)
{
  g_mutex_lock(&m->drives_lock);
  OrielDrive *drive = find_drive(m, id);
  g_free(drive->path);
  drive->path = g_strdup(path);
  drive->size_bytes = size_bytes;
  drive->read_only = read_only;
  g_mutex_unlock(&m->drives_lock);
}

static bool change_medium(OrielMachine *m, const char *id, const char *path, bool read_only, bool force, GError **error)
{
  BlkImage *image = path ? open_image(m, path, "raw", read_only, false, error) : NULL;
  if (path != NULL && image == NULL)
    return false;
  uint64_t size_bytes = image ? blk_get_size(image) : 0;
  VmIoContext *ctx = vm_get_io_context(m->vm);
  vm_io_context_lock(ctx);
  bool ok = g_str_equal(id, "floppy0") ? pc_change_floppy(m->vm, 0, image, error)
                                       : pc_change_cdrom(m->vm, 2, image, force, error);
  vm_io_context_unlock(ctx);
  if (ok)
    note_medium(m, id, path, size_bytes, read_only);
  else
    blk_close(image);
  return ok;
}

bool oriel_machine_change_cdrom(OrielMachine *m, const char *path, bool force, GError **error)
{
  return change_medium(m, "ide1-cd0", path, true, force, error);
}

bool oriel_machine_change_floppy(OrielMachine *m, const char *path, GError **error)
{
  return change_medium(m, "floppy0", path, path != NULL && g_access(path, W_OK) != 0, true, error);
}

static void *copy_drive(const void *data, void *unused)
{
  const OrielDrive *drive = data;
  OrielDrive *copy = g_new(OrielDrive, 1);
  *copy = *drive;
  copy->id = g_strdup(drive->id);
  copy->path = g_strdup(drive->path);
  return copy;
}

GPtrArray *oriel_machine_dup_drives(OrielMachine *m)
{
  GPtrArray *drives = g_ptr_array_new_with_free_func(free_drive);
  g_mutex_lock(&m->drives_lock);
  for (guint i = 0; i < m->drives->len; i++)
    g_ptr_array_add(drives, copy_drive(g_ptr_array_index(m->drives, i), NULL));
  g_mutex_unlock(&m->drives_lock);
  return drives;
}

bool oriel_machine_screenshot(OrielMachine *m, const char *path, const char *format, GError **error)
{
  unsigned width, height;
  g_autofree uint32_t *pixels = vm_display_dup_pixels(vm_get_display(m->vm), &width, &height);
  if (pixels == NULL) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "the machine shows no picture");
    return false;
  }
  return oriel_picture_save(pixels, width, height, path, format, error);
}
