/*
 * Preferences. A key file and not GSettings: it works from a build folder, where no schema is installed, and a person can
 * read it. See preferences.h.
 */
#include "ui/preferences.h"

#include <stdbool.h>

#define GROUP "window"

static char *dup_path(void)
{
  return g_build_filename(g_get_user_config_dir(), "oriel", "preferences.conf", NULL);
}

static GKeyFile *load(const char *path)
{
  GKeyFile *file = g_key_file_new();
  (void)g_key_file_load_from_file(file, path, G_KEY_FILE_KEEP_COMMENTS, NULL); /* none yet: the standard values */
  return file;
}

char *oriel_preference_dup(const char *key, const char *const *choices, const char *standard)
{
  g_autofree char *path = dup_path();
  g_autoptr(GKeyFile) file = load(path);
  g_autofree char *value = g_key_file_get_string(file, GROUP, key, NULL);
  return g_strdup(value != NULL && g_strv_contains(choices, value) ? value : standard);
}

void oriel_preference_set(const char *key, const char *value)
{
  g_autofree char *path = dup_path();
  g_autofree char *folder = g_path_get_dirname(path);
  g_autoptr(GKeyFile) file = load(path);
  g_autoptr(GError) error = NULL;
  g_mkdir_with_parents(folder, 0700);
  g_key_file_set_string(file, GROUP, key, value);
  if (!g_key_file_save_to_file(file, path, &error))
    g_message("the preference \"%s\" is not kept: %s", key, error->message);
}
