/*
 * The library on disk. See library.h.
 *
 * A machine is made in a hidden folder beside its place and renamed into it; the trash is a hidden folder of the library,
 * so that removing and restoring are renames too.
 */
#include "app/library.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/settings.h"
#include "block/block.h"

#define CONFIG_FILE    "machine.conf"
#define LOCK_FILE      ".lock"
#define DISK_FILE      "disk.img"
#define TRASH_FOLDER   ".trash"
#define MAX_NAME_BYTES 100

struct OrielLock {
  int fd;
};

static bool fail(GError **error, const char *what, const char *path)
{
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "%s %s: %s", what, path, g_strerror(errno));
  return false;
}

char *oriel_library_dup_path(void)
{
  const char *chosen = g_getenv("ORIEL_MACHINES");
  return chosen && *chosen ? g_strdup(chosen) : g_build_filename(g_get_user_data_dir(), "oriel", "machines", NULL);
}

char *oriel_library_dup_machine_path(const char *name)
{
  g_autofree char *library = oriel_library_dup_path();
  return g_build_filename(library, name, NULL);
}

static char *dup_config_path(const char *name)
{
  g_autofree char *folder = oriel_library_dup_machine_path(name);
  return g_build_filename(folder, CONFIG_FILE, NULL);
}

bool oriel_library_exists(const char *name)
{
  g_autofree char *path = dup_config_path(name);
  return oriel_library_check_name(name, NULL) && g_file_test(path, G_FILE_TEST_IS_REGULAR);
}

static int compare_names(gconstpointer a, gconstpointer b)
{
  return g_utf8_collate(*(const char *const *)a, *(const char *const *)b);
}

char **oriel_library_list(void)
{
  g_autofree char *library = oriel_library_dup_path();
  GPtrArray *names = g_ptr_array_new();
  g_autoptr(GDir) dir = g_dir_open(library, 0, NULL);
  const char *name;
  while (dir != NULL && (name = g_dir_read_name(dir)) != NULL)
    if (oriel_library_exists(name))
      g_ptr_array_add(names, g_strdup(name));
  g_ptr_array_sort(names, compare_names);
  g_ptr_array_add(names, NULL);
  return (char **)g_ptr_array_free(names, FALSE);
}

static bool has_control_character(const char *text)
{
  for (const char *at = text; *at != '\0'; at++)
    if (g_ascii_iscntrl(*at))
      return true;
  return false;
}

bool oriel_library_check_name(const char *name, GError **error)
{
  size_t n = strlen(name);
  if (n > 0 && n <= MAX_NAME_BYTES && *name != '.' && strchr(name, '/') == NULL && g_utf8_validate(name, -1, NULL) &&
      !has_control_character(name))
    return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE,
              "\"%s\" cannot be a machine's name: 1 to %d bytes of text, no \"/\", not beginning with a dot", name,
              MAX_NAME_BYTES);
  return false;
}

static bool check_exists(const char *name, GError **error)
{
  if (!oriel_library_check_name(name, error))
    return false;
  if (oriel_library_exists(name))
    return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "there is no machine \"%s\"; `oriel list` shows those there are",
              name);
  return false;
}

static bool check_free(const char *name, GError **error)
{
  g_autofree char *path = oriel_library_dup_machine_path(name);
  if (!oriel_library_check_name(name, error))
    return false;
  if (!g_file_test(path, G_FILE_TEST_EXISTS))
    return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "there is already a machine \"%s\"; choose another name", name);
  return false;
}

OrielConfig *oriel_library_load(const char *name, GError **error)
{
  g_autofree char *path = dup_config_path(name);
  return check_exists(name, error) ? oriel_config_load(path, error) : NULL;
}

bool oriel_library_store(const char *name, const OrielConfig *config, GError **error)
{
  g_autofree char *path = dup_config_path(name);
  return check_exists(name, error) && oriel_config_save(config, path, error);
}

/* ---- making ------------------------------------------------------------------------------------------------------------ */

static void remove_tree(const char *path)
{
  g_autoptr(GDir) dir = g_file_test(path, G_FILE_TEST_IS_SYMLINK) ? NULL : g_dir_open(path, 0, NULL);
  const char *name;
  while (dir != NULL && (name = g_dir_read_name(dir)) != NULL) {
    g_autofree char *child = g_build_filename(path, name, NULL);
    remove_tree(child);
  }
  g_remove(path);
}

/* Fills the folder that will become the machine's. */
static bool fill_folder(const char *folder, const OrielConfig *config, uint64_t disk_bytes, GError **error)
{
  g_autoptr(OrielConfig) stored = oriel_config_copy(config);
  g_autofree char *config_path = g_build_filename(folder, CONFIG_FILE, NULL);
  g_autofree char *disk_path = g_build_filename(folder, DISK_FILE, NULL);
  if (disk_bytes > 0) {
    g_auto(GStrv) disks = oriel_config_dup_list(config, "disk");
    g_autofree char *others = g_strjoinv(";", disks);
    g_autofree char *all = g_strdup_printf("%s;%s", DISK_FILE, others);
    if (!blk_create(disk_path, "raw", disk_bytes, error) || !oriel_config_set(stored, "disk", all, error))
      return false;
  }
  return oriel_config_save(stored, config_path, error);
}

bool oriel_library_create(const char *name, const OrielConfig *config, uint64_t disk_bytes, GError **error)
{
  g_autofree char *library = oriel_library_dup_path();
  g_autofree char *target = oriel_library_dup_machine_path(name);
  g_autofree char *work = g_build_filename(library, ".new-XXXXXX", NULL);
  if (!check_free(name, error))
    return false;
  if (g_mkdir_with_parents(library, 0755) != 0)
    return fail(error, "cannot make the folder", library);
  if (g_mkdtemp_full(work, 0755) == NULL)
    return fail(error, "cannot make a folder in", library);
  bool ok = fill_folder(work, config, disk_bytes, error);
  if (ok && g_rename(work, target) != 0)
    ok = fail(error, "cannot make", target);
  if (!ok)
    remove_tree(work);
  return ok;
}

static bool check_not_running(const char *name, const char *what, GError **error)
{
  if (!oriel_library_is_running(name))
    return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "\"%s\" is running and cannot be %s; stop it first", name, what);
  return false;
}

bool oriel_library_rename(const char *name, const char *new_name, GError **error)
{
  g_autofree char *from = oriel_library_dup_machine_path(name);
  g_autofree char *to = oriel_library_dup_machine_path(new_name);
  if (!check_exists(name, error) || !check_free(new_name, error) || !check_not_running(name, "renamed", error))
    return false;
  return g_rename(from, to) == 0 || fail(error, "cannot rename", from);
}

/* ---- removing ------------------------------------------------------------------------------------------------------------ */

static char *dup_trash_path(void)
{
  g_autofree char *library = oriel_library_dup_path();
  return g_build_filename(library, TRASH_FOLDER, NULL);
}

char *oriel_library_trash(const char *name, GError **error)
{
  g_autofree char *from = oriel_library_dup_machine_path(name);
  g_autofree char *trash = dup_trash_path();
  if (!check_exists(name, error) || !check_not_running(name, "removed", error))
    return NULL;
  if (g_mkdir_with_parents(trash, 0700) != 0) {
    fail(error, "cannot make the folder", trash);
    return NULL;
  }
  g_autofree char *to = g_strdup_printf("%s/%" G_GINT64_FORMAT "-%s", trash, g_get_real_time(), name);
  if (g_rename(from, to) != 0) {
    fail(error, "cannot remove", from);
    return NULL;
  }
  return g_steal_pointer(&to);
}

bool oriel_library_restore(const char *trashed, const char *name, GError **error)
{
  g_autofree char *to = oriel_library_dup_machine_path(name);
  if (!check_free(name, error))
    return false;
  return g_rename(trashed, to) == 0 || fail(error, "cannot restore", to);
}

/* Puts the machine's own disks beside the library's machines before the rest goes: "NAME-disk.img". */
static bool rescue_disks(const char *trashed, GError **error)
{
  g_autofree char *library = oriel_library_dup_path();
  g_autofree char *base = g_path_get_basename(trashed);
  const char *dash = strchr(base, '-');
  g_autoptr(GDir) dir = g_dir_open(trashed, 0, error);
  const char *file;
  if (dir == NULL)
    return false;
  while ((file = g_dir_read_name(dir)) != NULL) {
    if (g_str_equal(file, CONFIG_FILE) || *file == '.')
      continue;
    g_autofree char *from = g_build_filename(trashed, file, NULL);
    g_autofree char *to = g_strdup_printf("%s/%s-%s", library, dash ? dash + 1 : base, file);
    if (g_file_test(to, G_FILE_TEST_EXISTS)) {
      g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "%s is in the way of a kept disk; move it first", to);
      return false;
    }
    if (g_rename(from, to) != 0)
      return fail(error, "cannot keep", from);
  }
  return true;
}

bool oriel_library_purge(const char *trashed, bool keep_disks, GError **error)
{
  if (keep_disks && !rescue_disks(trashed, error))
    return false;
  remove_tree(trashed);
  return !g_file_test(trashed, G_FILE_TEST_EXISTS) || fail(error, "cannot delete", trashed);
}

void oriel_library_empty_trash(void)
{
  g_autofree char *trash = dup_trash_path();
  if (g_file_test(trash, G_FILE_TEST_IS_DIR))
    remove_tree(trash);
}

/* ---- running --------------------------------------------------------------------------------------------------------------- */

static char *dup_lock_path(const char *name)
{
  g_autofree char *folder = oriel_library_dup_machine_path(name);
  return g_build_filename(folder, LOCK_FILE, NULL);
}

OrielLock *oriel_library_lock(const char *name, GError **error)
{
  g_autofree char *path = dup_lock_path(name);
  struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) {
    fail(error, "cannot lock", path);
    return NULL;
  }
  if (fcntl(fd, F_OFD_SETLK, &whole) != 0) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "\"%s\" is already running", name);
    close(fd);
    return NULL;
  }
  OrielLock *lock = g_new0(OrielLock, 1);
  lock->fd = fd;
  return lock;
}

void oriel_lock_free(OrielLock *lock)
{
  if (lock == NULL)
    return;
  close(lock->fd);
  g_free(lock);
}

bool oriel_library_is_running(const char *name)
{
  g_autofree char *path = dup_lock_path(name);
  struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
  int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0)
    return false;
  bool held = fcntl(fd, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
  close(fd);
  return held;
}

/* A socket's path is at most 107 bytes, so the runtime folder is preferred and the name may be folded into a checksum. */
char *oriel_library_dup_control_path(const char *name)
{
  g_autofree char *folder = oriel_library_dup_machine_path(name);
  const char *runtime = g_getenv("XDG_RUNTIME_DIR");
  g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, folder, -1);
  hash[16] = '\0';
  if (runtime != NULL && *runtime != '\0') {
    g_autofree char *own = g_build_filename(runtime, "oriel", NULL);
    if (g_mkdir_with_parents(own, 0700) == 0)
      return g_strdup_printf("%s/%s.sock", own, hash);
  }
  return g_strdup_printf("%s/oriel-%u-%s.sock", g_get_tmp_dir(), (unsigned)getuid(), hash);
}
