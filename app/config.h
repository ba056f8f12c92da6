/*
 * One machine's settings: values for rows of the settings table, kept in a GKeyFile so that keys and comments that this
 * version does not know survive a rewrite. Not thread-safe: the main thread's.
 */
#ifndef APP_CONFIG_H
#define APP_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct OrielConfig OrielConfig;

OrielConfig *oriel_config_new(void);
OrielConfig *oriel_config_copy(const OrielConfig *config);
void oriel_config_free(OrielConfig *config);

/* Reads and checks a file; `error` names it and the offending key. Values of unknown keys are kept. */
OrielConfig *oriel_config_load(const char *path, GError **error);
/* Replaces the file in one step. */
bool oriel_config_save(const OrielConfig *config, const char *path, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* The value as text, or the table's default, or NULL. Borrowed until the config changes. `key` must be in the table. */
const char *oriel_config_get(const OrielConfig *config, const char *key);
uint64_t oriel_config_get_number(const OrielConfig *config, const char *key); /* UINT, SIZE (bytes) */
bool oriel_config_get_bool(const OrielConfig *config, const char *key);
/* All values of a repeatable key; NULL-terminated, owned; never NULL. */
char **oriel_config_dup_list(const OrielConfig *config, const char *key);
bool oriel_config_is_set(const OrielConfig *config, const char *key);

/* Sets (for repeatable keys: replaces the list by values separated by ';', empty: none) after checking. */
bool oriel_config_set(OrielConfig *config, const char *key, const char *value, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Adds one value to a repeatable key. */
bool oriel_config_add(OrielConfig *config, const char *key, const char *value, GError **error) G_GNUC_WARN_UNUSED_RESULT;
void oriel_config_unset(OrielConfig *config, const char *key);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(OrielConfig, oriel_config_free)

#endif
