/*
 * A machine of this process: settings turned into a board, and the handles that a window, the control socket and the
 * command line need. Main thread, unless said otherwise.
 */
#ifndef APP_MACHINE_H
#define APP_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#include "app/config.h"

typedef struct Vm Vm;
typedef struct VmChardev VmChardev;
typedef struct OrielMachine OrielMachine;

/* What one run has beyond the settings. */
typedef struct OrielRunOptions {
  const char *name;   /* of a library machine, else NULL */
  const char *folder; /* against which relative paths of the config count; NULL: the working directory */
  const char *title;  /* for the window's title; NULL: the name */
  bool headless;
  bool no_reboot, no_shutdown;
  unsigned debug_exit_port; /* 0: none */
  const char *control_path; /* NULL: none */
  const char *debugcon;     /* where the firmware's debug port goes, as --serial has it; NULL: no such port */
} OrielRunOptions;

/* Opens every file and makes the machine, not yet running; nothing is left behind on failure. `error`: one line. */
OrielMachine *oriel_machine_new(const OrielConfig *config, const OrielRunOptions *options, GError **error);
/* Ends it if it runs. NULL allowed. */
void oriel_machine_free(OrielMachine *machine);

Vm *oriel_machine_get_vm(OrielMachine *machine);
const OrielConfig *oriel_machine_get_config(const OrielMachine *machine);
const char *oriel_machine_get_title(const OrielMachine *machine);
const char *oriel_machine_get_name(const OrielMachine *machine); /* NULL for a transient one */
/* "KVM" or "translation"; and, where the translator was not asked for, why in one sentence (else NULL). */
const char *oriel_machine_get_accel_label(const OrielMachine *machine);
const char *oriel_machine_get_accel_reason(const OrielMachine *machine);

/* The back end of COM `index` + 1, or NULL; and whether it belongs to the window's terminal. */
VmChardev *oriel_machine_get_serial(OrielMachine *machine, unsigned index);
bool oriel_machine_serial_is_window(const OrielMachine *machine, unsigned index);

/* Puts a medium into the first CD-ROM drive (`path` NULL: ejects) or floppy A. */
bool oriel_machine_change_cdrom(OrielMachine *machine, const char *path, bool force, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;
bool oriel_machine_change_floppy(OrielMachine *machine, const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* What the machine's drives hold, for query-block and the window's menu. */
typedef struct OrielDrive {
  char *id;   /* "ide0-hd0", "ide1-cd0", "floppy0" */
  char *path; /* NULL: empty */
  bool removable, read_only;
  uint64_t size_bytes;
} OrielDrive;
/* Array of OrielDrive, owned (free with g_ptr_array_unref). */
GPtrArray *oriel_machine_dup_drives(OrielMachine *machine);

/* Writes the picture to `path` as PNG or PPM by its ending or `format`. Waits for the card; not from the I/O context. */
bool oriel_machine_screenshot(OrielMachine *machine, const char *path, const char *format, GError **error)
    G_GNUC_WARN_UNUSED_RESULT;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(OrielMachine, oriel_machine_free)

#endif
