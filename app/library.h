/*
 * The library: machines on disk. Each is a folder $XDG_DATA_HOME/oriel/machines/NAME/ with `machine.conf` and its own
 * disks, which can be moved as a whole.
 *
 * Every change is made beside and put in place in one step, so that a kill at any instant leaves the machine as it was
 * or as it was to be. Functions block on the file system; any thread, one at a time.
 */
#ifndef APP_LIBRARY_H
#define APP_LIBRARY_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#include "app/config.h"

/* The library's folder: $ORIEL_MACHINES if set, else as above. Owned. */
char *oriel_library_dup_path(void);
/* The machine's folder, whether or not it exists. Owned. */
char *oriel_library_dup_machine_path(const char *name);
/* Names in the file system's own and people's order (collated). NULL-terminated, owned; never NULL. */
char **oriel_library_list(void);
bool oriel_library_exists(const char *name);
/* 1–100 bytes of UTF-8 without '/', control characters or a leading dot. */
bool oriel_library_check_name(const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;

OrielConfig *oriel_library_load(const char *name, GError **error);
bool oriel_library_store(const char *name, const OrielConfig *config, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Makes the folder with `config`; with `disk_bytes` not 0, an empty raw disk `disk.img` that is added to it as first
 * disk. A failure leaves nothing behind. */
bool oriel_library_create(const char *name, const OrielConfig *config, uint64_t disk_bytes, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool oriel_library_rename(const char *name, const char *new_name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Moves the folder to the library's trash and returns where it is now (owned), for oriel_library_restore() or
 * oriel_library_purge(); NULL with `error`. A running machine is not removed. */
char *oriel_library_trash(const char *name, GError **error);
bool oriel_library_restore(const char *trashed, const char *name, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool oriel_library_purge(const char *trashed, bool keep_disks, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Deletes what is in the trash since before this session (a window closed before the undo ran out). */
void oriel_library_empty_trash(void);

/* ---- running ------------------------------------------------------------------------------------------------------- */

/* Held by the process that runs the machine: an OFD lock on a file in its folder, gone with the process however it
 * ends. NULL with `error` if another holds it. */
typedef struct OrielLock OrielLock;
OrielLock *oriel_library_lock(const char *name, GError **error);
void oriel_lock_free(OrielLock *lock);
bool oriel_library_is_running(const char *name);
/* Where the running machine's control socket is: under $XDG_RUNTIME_DIR/oriel, else in its folder. Owned. */
char *oriel_library_dup_control_path(const char *name);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(OrielLock, oriel_lock_free)

#endif
