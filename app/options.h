/*
 * The command line's options: those that are machine settings come from the settings table, the rest from a table of
 * their own. The help texts and the man page are made of both.
 */
#ifndef APP_OPTIONS_H
#define APP_OPTIONS_H

#include <stdbool.h>
#include <glib.h>

#include "app/config.h"

/* Which commands know an option. */
enum {
  ORIEL_FOR_RUN = 1 << 0, ORIEL_FOR_CREATE = 1 << 1, ORIEL_FOR_LIST = 1 << 2, ORIEL_FOR_REMOVE = 1 << 3,
  ORIEL_FOR_STOP = 1 << 4, ORIEL_FOR_SHOW = 1 << 5, ORIEL_FOR_SET = 1 << 6, ORIEL_FOR_OTHER = 1 << 7,
  ORIEL_FOR_ALL = 0xff,
};

/* What was given. Texts are borrowed from argv. */
typedef struct OrielOptions {
  OrielConfig *config; /* the settings that were given, and only those */
  GPtrArray *arguments; /* char *: what is not an option */
  bool headless, no_reboot, no_shutdown, json, force, keep_disks, help;
  unsigned debug_exit_port;
  const char *control_path, *debugcon, *disk_size, *display;
} OrielOptions;

/* Parses argv[1 …] (argv[0] is the command). `error` is ORIEL_ERROR_USAGE. NULL then. */
OrielOptions *oriel_options_parse(int argc, char **argv, unsigned command, GError **error);
void oriel_options_free(OrielOptions *options);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OrielOptions, oriel_options_free)

/* Calls `func` for each option that the command knows: "--memory", "SIZE" (or NULL), help. */
typedef void (*OrielOptionFunc)(const char *name, const char *metavar, const char *help, void *data);
void oriel_options_foreach(unsigned command, OrielOptionFunc func, void *data);

#endif
