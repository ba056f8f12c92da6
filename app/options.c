/* The command line's options. See options.h. */
#include "app/options.h"

#include <glib/gi18n.h>

#include "app/settings.h"

typedef enum ExtraKind { EXTRA_FLAG, EXTRA_TEXT, EXTRA_PORT, EXTRA_UNAVAILABLE } ExtraKind;

typedef struct ExtraOption {
  const char *name;
  ExtraKind kind;
  unsigned commands;
  size_t offset; /* of the field in OrielOptions */
  const char *metavar, *help;
} ExtraOption;

#define FIELD(f) offsetof(OrielOptions, f)

static const ExtraOption extra_options[] = {
  { "headless", EXTRA_FLAG, ORIEL_FOR_RUN, FIELD(headless), NULL, N_("run without a window") },
  { "display", EXTRA_TEXT, ORIEL_FOR_RUN, FIELD(display), "gtk", N_("how to show the window") },
  { "control", EXTRA_TEXT, ORIEL_FOR_RUN, FIELD(control_path), "PATH", N_("QMP protocol on a Unix socket") },
  { "no-reboot", EXTRA_FLAG, ORIEL_FOR_RUN, FIELD(no_reboot), NULL, N_("a guest reset ends the run") },
  { "no-shutdown", EXTRA_FLAG, ORIEL_FOR_RUN, FIELD(no_shutdown), NULL, N_("a guest power-off pauses it") },
  { "debug-exit", EXTRA_PORT, ORIEL_FOR_RUN, FIELD(debug_exit_port), "PORT",
    N_("a guest's write of V to PORT ends the run with status (V << 1) | 1") },
  { "debugcon", EXTRA_TEXT, ORIEL_FOR_RUN, FIELD(debugcon), "stdio|file:PATH|…",
    N_("the firmware's debug messages (port 0x402)") },
  { "disk-size", EXTRA_TEXT, ORIEL_FOR_CREATE, FIELD(disk_size), "SIZE",
    N_("make a new, empty first disk of this size") },
  { "json", EXTRA_FLAG, ORIEL_FOR_LIST | ORIEL_FOR_SHOW | ORIEL_FOR_OTHER, FIELD(json), NULL, N_("print JSON") },
  { "force", EXTRA_FLAG, ORIEL_FOR_STOP, FIELD(force), NULL, N_("switch off at once, like pulling the plug") },
  { "keep-disks", EXTRA_FLAG, ORIEL_FOR_REMOVE, FIELD(keep_disks), NULL, N_("keep the machine's own disk images") },
  { "help", EXTRA_FLAG, ORIEL_FOR_ALL, FIELD(help), NULL, N_("show this") },
  { "audio-backend", EXTRA_UNAVAILABLE, ORIEL_FOR_RUN | ORIEL_FOR_CREATE, 0, NULL, NULL },
  { "usb", EXTRA_UNAVAILABLE, ORIEL_FOR_RUN | ORIEL_FOR_CREATE, 0, NULL, NULL },
  { "pci", EXTRA_UNAVAILABLE, ORIEL_FOR_RUN | ORIEL_FOR_CREATE, 0, NULL, NULL },
  { "gdb", EXTRA_UNAVAILABLE, ORIEL_FOR_RUN, 0, NULL, NULL },
};

#define SETTING_COMMANDS (ORIEL_FOR_RUN | ORIEL_FOR_CREATE)

static bool usage_error(GError **error, const char *format, const char *what)
{
  g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, format, what);
  return false;
}

static const ExtraOption *find_extra(const char *name, unsigned command)
{
  for (size_t i = 0; i < G_N_ELEMENTS(extra_options); i++)
    if ((extra_options[i].commands & command) && g_str_equal(extra_options[i].name, name))
      return &extra_options[i];
  return NULL;
}

static bool parse_port(const char *value, unsigned *port, GError **error)
{
  char *end;
  uint64_t number = g_ascii_strtoull(value, &end, 0);
  if (!g_ascii_isdigit(*value) || *end != '\0' || number == 0 || number > 0xffff)
    return usage_error(error, "debug-exit: \"%s\" is not an I/O port (1 to 0xffff)", value);
  *port = (unsigned)number;
  return true;
}

static bool take_extra(OrielOptions *o, const ExtraOption *extra, const char *value, GError **error)
{
  void *field = (char *)o + extra->offset;
  switch (extra->kind) {
  case EXTRA_FLAG:
    *(bool *)field = true;
    return true;
  case EXTRA_TEXT:
    *(const char **)field = value;
    return true;
  case EXTRA_PORT:
    return parse_port(value, field, error);
  case EXTRA_UNAVAILABLE:
    return usage_error(error, "--%s is not available in this version", extra->name);
  }
  g_assert_not_reached();
}

static bool take_setting(OrielOptions *o, const OrielSetting *setting, const char *value, GError **error)
{
  return setting->repeatable ? oriel_config_add(o->config, setting->key, value, error)
                             : oriel_config_set(o->config, setting->key, value, error);
}

/* One option at argv[*at]; moves *at over its value. */
static bool take_option(OrielOptions *o, int argc, char **argv, int *at, unsigned command, GError **error)
{
  const char *equals = strchr(argv[*at], '=');
  g_autofree char *name = equals ? g_strndup(argv[*at] + 2, (gsize)(equals - argv[*at] - 2)) : g_strdup(argv[*at] + 2);
  const OrielSetting *setting = command & SETTING_COMMANDS ? oriel_setting_find(name) : NULL;
  const ExtraOption *extra = find_extra(name, command);
  if (setting == NULL && extra == NULL)
    return usage_error(error, "unknown option --%s; add --help for those there are", name);

  bool wants_value = setting != NULL || extra->kind == EXTRA_TEXT || extra->kind == EXTRA_PORT;
  const char *value = equals ? equals + 1 : NULL;
  if (wants_value && value == NULL && *at + 1 < argc)
    value = argv[++*at];
  if (wants_value && value == NULL)
    return usage_error(error, "--%s needs a value", name);
  if (!wants_value && equals != NULL && extra->kind == EXTRA_FLAG)
    return usage_error(error, "--%s takes no value", name);
  return setting ? take_setting(o, setting, value, error) : take_extra(o, extra, value, error);
}

OrielOptions *oriel_options_parse(int argc, char **argv, unsigned command, GError **error)
{
  g_autoptr(OrielOptions) o = g_new0(OrielOptions, 1);
  o->config = oriel_config_new();
  o->arguments = g_ptr_array_new();
  bool only_arguments = false;
  for (int at = 1; at < argc; at++) {
    if (only_arguments || !g_str_has_prefix(argv[at], "-") || g_str_equal(argv[at], "-"))
      g_ptr_array_add(o->arguments, argv[at]);
    else if (g_str_equal(argv[at], "--"))
      only_arguments = true;
    else if (g_str_equal(argv[at], "-h"))
      o->help = true;
    else if (!g_str_has_prefix(argv[at], "--")) {
      usage_error(error, "unknown option %s; options begin with two dashes", argv[at]);
      return NULL;
    } else if (!take_option(o, argc, argv, &at, command, error))
      return NULL;
  }
  if (o->display != NULL && !g_str_equal(o->display, "gtk")) {
    usage_error(error, "display: \"%s\" is not available; choose from: gtk", o->display);
    return NULL;
  }
  return g_steal_pointer(&o);
}

void oriel_options_free(OrielOptions *options)
{
  if (options == NULL)
    return;
  oriel_config_free(options->config);
  g_clear_pointer(&options->arguments, g_ptr_array_unref);
  g_free(options);
}

void oriel_options_foreach(unsigned command, OrielOptionFunc func, void *data)
{
  if (command & SETTING_COMMANDS) {
    for (const OrielSetting *s = oriel_settings; s->key != NULL; s++) {
      g_autofree char *name = g_strdup_printf("--%s", s->key);
      func(name, s->metavar, _(s->help), data);
    }
  }
  for (size_t i = 0; i < G_N_ELEMENTS(extra_options); i++) {
    const ExtraOption *extra = &extra_options[i];
    g_autofree char *name = g_strdup_printf("--%s", extra->name);
    if ((extra->commands & command) && extra->help != NULL)
      func(name, extra->metavar, _(extra->help), data);
  }
}
