/* One machine's settings. See config.h. */
#include "app/config.h"

#include "app/settings.h"

#define LIST_SEPARATOR ';'

struct OrielConfig {
  GKeyFile *file;
  GHashTable *shown; /* key → text last handed out, so that accessors can lend it */
};

OrielConfig *oriel_config_new(void)
{
  OrielConfig *config = g_new0(OrielConfig, 1);
  config->file = g_key_file_new();
  g_key_file_set_list_separator(config->file, LIST_SEPARATOR);
  config->shown = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, g_free);
  return config;
}

void oriel_config_free(OrielConfig *config)
{
  if (config == NULL)
    return;
  g_key_file_unref(config->file);
  g_hash_table_unref(config->shown);
  g_free(config);
}

OrielConfig *oriel_config_copy(const OrielConfig *config)
{
  OrielConfig *copy = oriel_config_new();
  gsize size;
  g_autofree char *text = g_key_file_to_data(config->file, &size, NULL);
  g_key_file_load_from_data(copy->file, text, size, G_KEY_FILE_KEEP_COMMENTS, NULL);
  return copy;
}

static const OrielSetting *must_find(const char *key)
{
  const OrielSetting *setting = oriel_setting_find(key);
  g_assert(setting != NULL);
  return setting;
}

static bool check_values(const OrielConfig *config, const OrielSetting *s, GError **error)
{
  if (!g_key_file_has_key(config->file, s->group, s->key, NULL))
    return true;
  if (s->repeatable) {
    g_auto(GStrv) values = oriel_config_dup_list(config, s->key);
    for (char **value = values; *value != NULL; value++)
      if (!oriel_setting_check(s, *value, error))
        return false;
    return true;
  }
  g_autofree char *value = g_key_file_get_string(config->file, s->group, s->key, error);
  return value != NULL && oriel_setting_check(s, value, error);
}

OrielConfig *oriel_config_load(const char *path, GError **error)
{
  g_autoptr(OrielConfig) config = oriel_config_new();
  if (!g_key_file_load_from_file(config->file, path, G_KEY_FILE_KEEP_COMMENTS, error)) {
    g_prefix_error(error, "cannot read %s: ", path);
    return NULL;
  }
  for (const OrielSetting *s = oriel_settings; s->key != NULL; s++) {
    if (!check_values(config, s, error)) {
      g_prefix_error(error, "%s: ", path);
      return NULL;
    }
  }
  return g_steal_pointer(&config);
}

bool oriel_config_save(const OrielConfig *config, const char *path, GError **error)
{
  gsize size;
  g_autofree char *text = g_key_file_to_data(config->file, &size, NULL);
  return g_file_set_contents_full(path, text, (gssize)size,
                                  G_FILE_SET_CONTENTS_CONSISTENT | G_FILE_SET_CONTENTS_DURABLE, 0644, error);
}

bool oriel_config_is_set(const OrielConfig *config, const char *key)
{
  return g_key_file_has_key(config->file, must_find(key)->group, key, NULL);
}

const char *oriel_config_get(const OrielConfig *config, const char *key)
{
  const OrielSetting *s = must_find(key);
  char *value = g_key_file_get_string(config->file, s->group, key, NULL);
  if (value == NULL)
    return s->standard;
  g_hash_table_replace(config->shown, (gpointer)s->key, value);
  return value;
}

uint64_t oriel_config_get_number(const OrielConfig *config, const char *key)
{
  const OrielSetting *s = must_find(key);
  const char *text = oriel_config_get(config, key);
  uint64_t number = s->min;
  if (s->type == ORIEL_SETTING_SIZE)
    (void)!oriel_parse_size(text, &number, NULL);
  else
    g_ascii_string_to_unsigned(text, 10, s->min, s->max, &number, NULL);
  return number;
}

bool oriel_config_get_bool(const OrielConfig *config, const char *key)
{
  return g_strcmp0(oriel_config_get(config, key), "yes") == 0;
}

char **oriel_config_dup_list(const OrielConfig *config, const char *key)
{
  const OrielSetting *s = must_find(key);
  char **values = g_key_file_get_string_list(config->file, s->group, key, NULL, NULL);
  return values ? values : g_new0(char *, 1);
}

static void store_list(OrielConfig *config, const OrielSetting *s, GPtrArray *values)
{
  if (values->len == 0)
    g_key_file_remove_key(config->file, s->group, s->key, NULL);
  else
    g_key_file_set_string_list(config->file, s->group, s->key, (const char *const *)values->pdata, values->len);
}

static bool set_list(OrielConfig *config, const OrielSetting *s, const char *value, GError **error)
{
  g_auto(GStrv) parts = g_strsplit(value, ";", -1);
  g_autoptr(GPtrArray) values = g_ptr_array_new();
  for (char **part = parts; *part != NULL; part++) {
    if (**part == '\0')
      continue;
    if (!oriel_setting_check(s, *part, error))
      return false;
    g_ptr_array_add(values, *part);
  }
  store_list(config, s, values);
  return true;
}

bool oriel_config_set(OrielConfig *config, const char *key, const char *value, GError **error)
{
  const OrielSetting *s = oriel_setting_find(key);
  if (s == NULL) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "there is no setting \"%s\"; `oriel set --help` lists them",
                key);
    return false;
  }
  if (s->repeatable)
    return set_list(config, s, value, error);
  if (*value == '\0') {
    oriel_config_unset(config, key);
    return true;
  }
  if (!oriel_setting_check(s, value, error))
    return false;
  g_key_file_set_string(config->file, s->group, s->key, value);
  return true;
}

bool oriel_config_add(OrielConfig *config, const char *key, const char *value, GError **error)
{
  const OrielSetting *s = must_find(key);
  if (!oriel_setting_check(s, value, error))
    return false;
  g_auto(GStrv) old = oriel_config_dup_list(config, key);
  g_autoptr(GPtrArray) values = g_ptr_array_new();
  for (char **item = old; *item != NULL; item++)
    g_ptr_array_add(values, *item);
  g_ptr_array_add(values, (gpointer)value);
  store_list(config, s, values);
  return true;
}

void oriel_config_unset(OrielConfig *config, const char *key)
{
  g_key_file_remove_key(config->file, must_find(key)->group, key, NULL);
}
