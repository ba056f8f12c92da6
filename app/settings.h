/*
 * The one table of machine settings. The config file, `oriel set`, the options of `run` and `create`, the dialogs'
 * limits, the man page and the error messages all read it.
 */
#ifndef APP_SETTINGS_H
#define APP_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#define ORIEL_ERROR oriel_error_quark()
GQuark oriel_error_quark(void);
/* What the exit status of the command line follows from. */
typedef enum OrielError { ORIEL_ERROR_FAILED /* 1 */, ORIEL_ERROR_USAGE /* 2 */ } OrielError;

typedef enum OrielSettingType {
  ORIEL_SETTING_UINT,   /* decimal, within [min, max] */
  ORIEL_SETTING_SIZE,   /* bytes: 512M, 2G, 1.5GiB; within [min, max] */
  ORIEL_SETTING_CHOICE, /* one of `choices` */
  ORIEL_SETTING_PATH,   /* a file; relative to the machine's folder in a stored machine */
  ORIEL_SETTING_TEXT,
  ORIEL_SETTING_BOOL,   /* yes or no */
} OrielSettingType;

typedef struct OrielSetting {
  const char *key;      /* "memory": in files, `oriel set`, and as the option --memory */
  const char *group;    /* in the file */
  OrielSettingType type;
  bool repeatable;      /* a list of values */
  uint64_t min, max;
  const char *standard; /* the default, as text; NULL: unset */
  const char *const *choices; /* NULL-terminated; for CHOICE */
  bool choice_or_path;  /* CHOICE: anything else is a path */
  const char *metavar;  /* "SIZE" */
  const char *label;    /* for dialogs; translatable */
  const char *help;     /* one line; translatable */
  /* Judges a value beyond its type, e.g. the fields of a disk. NULL: nothing more. */
  bool (*check)(const char *value, GError **error);
} OrielSetting;

/* All rows, ended by one with a NULL key. */
extern const OrielSetting oriel_settings[];
const OrielSetting *oriel_setting_find(const char *key);
/* Is `value` one for this setting? `error` (ORIEL_ERROR_USAGE) names the key, the value and what would be right. */
bool oriel_setting_check(const OrielSetting *setting, const char *value, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* "512M", "2G", "1.5GiB", "1048576" → bytes. Units K M G T (powers of 1024), optionally followed by B or iB. */
bool oriel_parse_size(const char *text, uint64_t *bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* "512 MiB", "1.5 GiB". Owned. */
char *oriel_format_size(uint64_t bytes);

/* "PATH,key=value,flag": the path and its options. A comma in the path is written twice. */
typedef struct OrielDiskSpec {
  char *path;
  char *bus;    /* "ide" */
  char *format; /* "raw" */
  bool read_only, discard_changes;
} OrielDiskSpec;
OrielDiskSpec *oriel_disk_spec_parse(const char *text, GError **error);
void oriel_disk_spec_free(OrielDiskSpec *spec);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(OrielDiskSpec, oriel_disk_spec_free)

#endif
