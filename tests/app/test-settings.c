/* The settings table: sizes, choices, disks; and configurations kept through a file. */
#include <glib/gstdio.h>

#include "app/config.h"
#include "app/settings.h"

static void test_sizes(void)
{
  static const struct {
    const char *text;
    uint64_t bytes;
  } good[] = { { "1048576", 1 << 20 },
               { "512M", 512u << 20 },
               { "2G", UINT64_C(2) << 30 },
               { "1.5GiB", UINT64_C(3) << 29 },
               { "64k", 64 << 10 },
               { "1TB", UINT64_C(1) << 40 },
               { "0", 0 },
               { "3 MiB", 3 << 20 } };
  static const char *const bad[] = {
    "", "M", "-1M", "lots", "12Q", "1Mx", "1e400G", "nan", "inf", "0x10", "9999999999T"
  };
  for (size_t i = 0; i < G_N_ELEMENTS(good); i++) {
    uint64_t bytes = 1;
    g_assert_true(oriel_parse_size(good[i].text, &bytes, NULL));
    g_assert_cmpuint(bytes, ==, good[i].bytes);
  }
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    uint64_t bytes;
    g_autoptr(GError) error = NULL;
    if (oriel_parse_size(bad[i], &bytes, &error))
      g_error("\"%s\" was taken as a size", bad[i]);
    g_assert_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE);
  }
  g_autofree char *text = oriel_format_size(UINT64_C(3) << 29);
  g_assert_cmpstr(text, ==, "1.5 GiB");
}

/* Every default is a value that its own row accepts, and every row says what it is. */
static void test_table(void)
{
  for (const OrielSetting *s = oriel_settings; s->key != NULL; s++) {
    g_autoptr(GError) error = NULL;
    g_assert_true(oriel_setting_find(s->key) == s);
    g_assert_nonnull(s->group);
    g_assert_nonnull(s->label);
    g_assert_nonnull(s->help);
    g_assert_nonnull(s->metavar);
    if (s->standard != NULL)
      g_assert_true(oriel_setting_check(s, s->standard, &error));
    g_assert_no_error(error);
  }
  g_assert_null(oriel_setting_find("nothing"));
}

static void test_disks(void)
{
  static const char *const bad[] = { "", ",readonly", "x,bus=scsi", "x,format=qcow2", "x,frob", "x,bus" };
  g_autoptr(OrielDiskSpec) d = oriel_disk_spec_parse("a,,b.img,readonly,discard-changes,bus=ide", NULL);
  g_assert_cmpstr(d->path, ==, "a,b.img");
  g_assert_true(d->read_only && d->discard_changes);
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++) {
    g_autoptr(GError) error = NULL;
    g_assert_null(oriel_disk_spec_parse(bad[i], &error));
    g_assert_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE);
  }
}

static void test_config(void)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *folder = g_dir_make_tmp("oriel-config-XXXXXX", NULL),
                  *path = g_build_filename(folder, "machine.conf", NULL);
  g_assert_true(g_file_set_contents(path, "# kept\n[machine]\nmemory=2G\n[other]\nx=1\n", -1, NULL));
  g_autoptr(OrielConfig) c = oriel_config_load(path, &error);
  g_assert_no_error(error);
  g_assert_cmpuint(oriel_config_get_number(c, "memory"), ==, UINT64_C(2) << 30);
  g_assert_cmpuint(oriel_config_get_number(c, "cpus"), ==, 1);
  g_assert_false(oriel_config_is_set(c, "cpus"));
  g_assert_true(oriel_config_add(c, "disk", "a.img", NULL));
  g_assert_true(oriel_config_add(c, "disk", "b;c.img", NULL));
  g_assert_false(oriel_config_set(c, "cpus", "0", NULL));
  g_assert_false(oriel_config_set(c, "nothing", "0", NULL));
  g_assert_true(oriel_config_save(c, path, &error));

  g_autoptr(OrielConfig) again = oriel_config_load(path, &error);
  g_auto(GStrv) disks = oriel_config_dup_list(again, "disk");
  g_assert_cmpuint(g_strv_length(disks), ==, 2);
  g_assert_cmpstr(disks[1], ==, "b;c.img");
  g_autofree char *text = NULL;
  g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
  g_assert_nonnull(strstr(text, "# kept"));
  g_assert_nonnull(strstr(text, "x=1"));

  g_assert_true(g_file_set_contents(path, "[machine]\ncpus=many\n", -1, NULL));
  g_assert_null(oriel_config_load(path, &error));
  g_assert_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE);
  g_assert_nonnull(strstr(error->message, path));
  g_remove(path);
  g_rmdir(folder);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/settings/sizes", test_sizes);
  g_test_add_func("/settings/table", test_table);
  g_test_add_func("/settings/disks", test_disks);
  g_test_add_func("/settings/config", test_config);
  return g_test_run();
}
