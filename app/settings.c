/*
 * The settings table, and the judging of values by it. See settings.h.
 */
#include "app/settings.h"

#include <glib/gi18n.h>

#include "hw/boards/pc.h"

G_DEFINE_QUARK(oriel - error - quark, oriel_error)

static const char *const accel_choices[] = { "auto", "kvm", "tcg", NULL };
static const char *const firmware_choices[] = { "bios", NULL };
static const char *const boot_choices[] = { "disk", "cdrom", "floppy", "disk,menu", "cdrom,menu", "floppy,menu", NULL };
static const char *const card_choices[] = { "std", "none", NULL };
static const char *const none_choices[] = { "none", NULL };
static const char *const serial_kinds[] = { "stdio", "window", "pty", "none", NULL };
static const char *const serial_prefixes[] = { "file:", "unix:", "host:", NULL };

static bool check_disk(const char *value, GError **error)
{
  g_autoptr(OrielDiskSpec) spec = oriel_disk_spec_parse(value, error);
  return spec != NULL;
}

static bool check_serial(const char *value, GError **error)
{
  if (g_strv_contains(serial_kinds, value))
    return true;
  for (size_t i = 0; serial_prefixes[i] != NULL; i++)
    if (g_str_has_prefix(value, serial_prefixes[i]) && value[strlen(serial_prefixes[i])] != '\0')
      return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE,
              "serial: \"%s\" is not known; use stdio, window, pty, none, file:PATH, unix:PATH or host:DEVICE", value);
  return false;
}

const OrielSetting oriel_settings[] = {
  { "title", "machine", ORIEL_SETTING_TEXT, false, 0, 0, NULL, NULL, false, "TEXT", N_("Title"),
    N_("what the window and the library call the machine"), NULL },
  { "accel", "machine", ORIEL_SETTING_CHOICE, false, 0, 0, "auto", accel_choices, false, "auto|kvm|tcg",
    N_("Acceleration"), N_("run on KVM, on the translator, or on what serves best"), NULL },
  { "cpus", "machine", ORIEL_SETTING_UINT, false, 1, PC_MAX_CPUS, "1", NULL, false, "N", N_("Processors"),
    N_("number of virtual CPUs"), NULL },
  { "memory", "machine", ORIEL_SETTING_SIZE, false, PC_MIN_MEMORY_BYTES, PC_MAX_MEMORY_BYTES, "1G", NULL, false, "SIZE",
    N_("Memory"), N_("size of the guest's memory, e.g. 512M, 2G, 1.5GiB"), NULL },
  { "firmware", "boot", ORIEL_SETTING_CHOICE, false, 0, 0, "bios", firmware_choices, true, "bios|PATH", N_("Firmware"),
    N_("the built-in PC BIOS, or a firmware image"), NULL },
  { "boot", "boot", ORIEL_SETTING_CHOICE, false, 0, 0, "disk", boot_choices, false, "disk|cdrom|floppy[,menu]",
    N_("Start from"), N_("what the firmware tries first"), NULL },
  { "kernel", "boot", ORIEL_SETTING_PATH, false, 0, 0, NULL, NULL, false, "FILE", N_("Kernel"),
    N_("start this Linux bzImage, multiboot image or PVH ELF directly"), NULL },
  { "initrd", "boot", ORIEL_SETTING_PATH, false, 0, 0, NULL, NULL, false, "FILE", N_("Initial RAM disk"),
    N_("initial RAM disk (or multiboot modules) for the kernel"), NULL },
  { "append", "boot", ORIEL_SETTING_TEXT, false, 0, 0, NULL, NULL, false, "TEXT", N_("Kernel command line"),
    N_("the kernel's command line"), NULL },
  { "disk", "storage", ORIEL_SETTING_PATH, true, 0, 0, NULL, NULL, false,
    "PATH[,bus=ide][,format=raw][,readonly][,discard-changes]", N_("Disks"),
    N_("a disk image; may be given several times"), check_disk },
  { "cdrom", "storage", ORIEL_SETTING_PATH, false, 0, 0, NULL, NULL, false, "PATH", N_("CD or DVD"),
    N_("image in the CD-ROM drive"), NULL },
  { "floppy", "storage", ORIEL_SETTING_PATH, false, 0, 0, NULL, NULL, false, "PATH", N_("Floppy disk"),
    N_("image in floppy drive A"), NULL },
  { "card", "display", ORIEL_SETTING_CHOICE, false, 0, 0, "std", card_choices, false, "std|none", N_("Display card"),
    N_("the display card"), NULL },
  { "serial", "ports", ORIEL_SETTING_TEXT, true, 0, 0, NULL, NULL, false,
    "stdio|window|pty|none|file:PATH|unix:PATH|host:DEVICE", N_("Serial ports"),
    N_("far ends of COM1, COM2, …; may be given several times"), check_serial },
  { "nic", "network", ORIEL_SETTING_CHOICE, true, 0, 0, NULL, none_choices, false, "none", N_("Network"),
    N_("network cards (this version has none)"), NULL },
  { "audio", "sound", ORIEL_SETTING_CHOICE, false, 0, 0, "none", none_choices, false, "none", N_("Sound card"),
    N_("sound card (this version has none)"), NULL },
  { .key = NULL },
};

const OrielSetting *oriel_setting_find(const char *key)
{
  for (const OrielSetting *s = oriel_settings; s->key != NULL; s++)
    if (g_str_equal(s->key, key))
      return s;
  return NULL;
}

/* ---- sizes ---------------------------------------------------------------------------------------------------------- */

/* log2 of the unit at `text`, or -1. */
static int parse_unit(const char *text)
{
  static const char units[] = "KMGT";
  if (*text == '\0' || g_str_equal(text, "B"))
    return 0;
  const char *unit = strchr(units, g_ascii_toupper(*text));
  if (unit == NULL || *unit == '\0')
    return -1;
  const char *rest = text + 1;
  if (*rest != '\0' && g_ascii_strcasecmp(rest, "B") != 0 && g_ascii_strcasecmp(rest, "iB") != 0)
    return -1;
  return (int)(unit - units + 1) * 10;
}

bool oriel_parse_size(const char *text, uint64_t *bytes, GError **error)
{
  g_autofree char *digits = g_strndup(text, strspn(text, "0123456789."));
  const char *end = text + strlen(digits);
  char *parsed = NULL;
  double value = g_ascii_isdigit(*text) ? g_ascii_strtod(digits, &parsed) : -1;
  bool is_number = parsed != NULL && *parsed == '\0';
  while (*end == ' ')
    end++;
  int unit = is_number ? parse_unit(end) : -1;
  double scaled = unit >= 0 ? value * (double)(UINT64_C(1) << unit) : -1;
  if (!(scaled >= 0) || scaled > (double)(UINT64_C(1) << 62)) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "\"%s\" is not a size; write e.g. 512M, 2G or 1.5GiB", text);
    return false;
  }
  *bytes = (uint64_t)scaled;
  return true;
}

char *oriel_format_size(uint64_t bytes)
{
  static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
  unsigned unit = 0;
  double value = (double)bytes;
  for (; value >= 1024 && unit + 1 < G_N_ELEMENTS(units); unit++)
    value /= 1024;
  return value == (double)(uint64_t)value ? g_strdup_printf("%" G_GUINT64_FORMAT " %s", (uint64_t)value, units[unit])
                                          : g_strdup_printf("%.1f %s", value, units[unit]);
}

/* ---- values ----------------------------------------------------------------------------------------------------------- */

static bool range_error(const OrielSetting *s, const char *value, GError **error)
{
  g_autofree char *least =
      s->type == ORIEL_SETTING_SIZE ? oriel_format_size(s->min) : g_strdup_printf("%" G_GUINT64_FORMAT, s->min);
  g_autofree char *most =
      s->type == ORIEL_SETTING_SIZE ? oriel_format_size(s->max) : g_strdup_printf("%" G_GUINT64_FORMAT, s->max);
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "%s: %s is out of range; it must be between %s and %s", s->key,
              value, least, most);
  return false;
}

static bool check_uint(const OrielSetting *s, const char *value, GError **error)
{
  guint64 number;
  g_autoptr(GError) cause = NULL;
  if (!g_ascii_string_to_unsigned(value, 10, s->min, s->max, &number, &cause)) {
    if (g_error_matches(cause, G_NUMBER_PARSER_ERROR, G_NUMBER_PARSER_ERROR_OUT_OF_BOUNDS))
      return range_error(s, value, error);
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "%s: \"%s\" is not a number", s->key, value);
    return false;
  }
  return true;
}

static bool check_size(const OrielSetting *s, const char *value, GError **error)
{
  uint64_t bytes;
  if (!oriel_parse_size(value, &bytes, error)) {
    g_prefix_error(error, "%s: ", s->key);
    return false;
  }
  return (bytes >= s->min && bytes <= s->max) || range_error(s, value, error);
}

static bool check_choice(const OrielSetting *s, const char *value, GError **error)
{
  if (g_strv_contains(s->choices, value) || (s->choice_or_path && *value != '\0'))
    return true;
  g_autofree char *choices = g_strjoinv(", ", (char **)s->choices);
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "%s: \"%s\" is not available; choose from: %s", s->key, value,
              choices);
  return false;
}

static bool check_bool(const OrielSetting *s, const char *value, GError **error)
{
  if (g_str_equal(value, "yes") || g_str_equal(value, "no"))
    return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "%s: \"%s\" is neither yes nor no", s->key, value);
  return false;
}

static bool check_text(const OrielSetting *s, const char *value, GError **error)
{
  if (g_utf8_validate(value, -1, NULL) && strchr(value, '\n') == NULL &&
      (s->type != ORIEL_SETTING_PATH || *value != '\0'))
    return true;
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "%s: the value is empty or not plain text", s->key);
  return false;
}

static bool check_type(const OrielSetting *s, const char *value, GError **error)
{
  switch (s->type) {
  case ORIEL_SETTING_UINT:
    return check_uint(s, value, error);
  case ORIEL_SETTING_SIZE:
    return check_size(s, value, error);
  case ORIEL_SETTING_CHOICE:
    return check_choice(s, value, error);
  case ORIEL_SETTING_BOOL:
    return check_bool(s, value, error);
  case ORIEL_SETTING_PATH:
  case ORIEL_SETTING_TEXT:
    return check_text(s, value, error);
  }
  g_assert_not_reached();
}

bool oriel_setting_check(const OrielSetting *setting, const char *value, GError **error)
{
  return check_type(setting, value, error) && (setting->check == NULL || setting->check(value, error));
}

/* ---- disks ------------------------------------------------------------------------------------------------------------- */

void oriel_disk_spec_free(OrielDiskSpec *spec)
{
  if (spec == NULL)
    return;
  g_free(spec->path);
  g_free(spec->bus);
  g_free(spec->format);
  g_free(spec);
}

/* Splits at commas; a doubled comma stands for one. */
static GPtrArray *split_commas(const char *text)
{
  GPtrArray *parts = g_ptr_array_new_with_free_func(g_free);
  g_autoptr(GString) part = g_string_new(NULL);
  for (const char *at = text; *at != '\0'; at++) {
    if (*at == ',' && at[1] == ',') {
      g_string_append_c(part, *at++);
    } else if (*at == ',') {
      g_ptr_array_add(parts, g_strdup(part->str));
      g_string_truncate(part, 0);
    } else {
      g_string_append_c(part, *at);
    }
  }
  g_ptr_array_add(parts, g_strdup(part->str));
  return parts;
}

/* One field behind the path. */
static bool parse_disk_field(OrielDiskSpec *spec, const char *field, GError **error)
{
  if (g_str_equal(field, "readonly")) {
    spec->read_only = true;
  } else if (g_str_equal(field, "discard-changes")) {
    spec->discard_changes = true;
  } else if (g_str_has_prefix(field, "bus=")) {
    g_free(spec->bus);
    spec->bus = g_strdup(field + strlen("bus="));
  } else if (g_str_has_prefix(field, "format=")) {
    g_free(spec->format);
    spec->format = g_strdup(field + strlen("format="));
  } else {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE,
                "disk: \"%s\" is not known; after the path come bus=, format=, readonly and discard-changes", field);
    return false;
  }
  return true;
}

static bool check_disk_fields(const OrielDiskSpec *spec, GError **error)
{
  if (*spec->path == '\0') {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "disk: a path is missing");
    return false;
  }
  if (!g_str_equal(spec->bus, "ide")) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "disk: the bus \"%s\" is not available; use bus=ide", spec->bus);
    return false;
  }
  if (!g_str_equal(spec->format, "raw")) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "disk: the format \"%s\" is not available; use format=raw",
                spec->format);
    return false;
  }
  return true;
}

OrielDiskSpec *oriel_disk_spec_parse(const char *text, GError **error)
{
  g_autoptr(GPtrArray) parts = split_commas(text);
  g_autoptr(OrielDiskSpec) spec = g_new0(OrielDiskSpec, 1);
  spec->path = g_strdup(g_ptr_array_index(parts, 0));
  spec->bus = g_strdup("ide");
  spec->format = g_strdup("raw");
  for (guint i = 1; i < parts->len; i++)
    if (!parse_disk_field(spec, g_ptr_array_index(parts, i), error))
      return NULL;
  return check_disk_fields(spec, error) ? g_steal_pointer(&spec) : NULL;
}
