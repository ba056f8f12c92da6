/* The commands. One row each in the table at the end; main dispatches by it, and help and man page read it. */
#include "app/commands.h"

#include <glib/gi18n.h>
#include <locale.h>

#include "app/control.h"
#include "app/json.h"
#include "app/library.h"
#include "app/options.h"
#include "app/run.h"
#include "app/settings.h"

typedef struct Command {
  const char *name;
  unsigned bit; /* ORIEL_FOR_… */
  const char *arguments, *help;
  unsigned min_arguments, max_arguments;
  /* The exit status; -1 with `error`. */
  int (*run)(const struct Command *command, const OrielOptions *options, GError **error);
} Command;

static const Command commands[];

static const char *argument(const OrielOptions *o, unsigned index)
{
  return g_ptr_array_index(o->arguments, index);
}

/* ---- run ------------------------------------------------------------------------------------------------------------ */

static int command_run(const Command *c, const OrielOptions *o, GError **error)
{
  if (o->arguments->len == 0 && !oriel_config_is_set(o->config, "kernel") && !oriel_config_is_set(o->config, "disk") &&
      !oriel_config_is_set(o->config, "cdrom") && !oriel_config_is_set(o->config, "floppy") && !o->headless &&
      !oriel_config_is_set(o->config, "firmware"))
    return oriel_run_library(error);
  return oriel_run(o, error);
}

/* ---- the library ------------------------------------------------------------------------------------------------------ */

static int command_create(const Command *c, const OrielOptions *o, GError **error)
{
  uint64_t disk_bytes = 0;
  if (o->disk_size != NULL && !oriel_parse_size(o->disk_size, &disk_bytes, error)) {
    g_prefix_error(error, "disk-size: ");
    return -1;
  }
  return oriel_library_create(argument(o, 0), o->config, disk_bytes, error) ? 0 : -1;
}

/* The settings as a JSON object: lists as arrays, the rest as strings. */
static void append_settings(GString *out, const OrielConfig *config)
{
  bool first = true;
  g_string_append_c(out, '{');
  for (const OrielSetting *s = oriel_settings; s->key != NULL; s++) {
    if (!s->repeatable && oriel_config_get(config, s->key) == NULL)
      continue;
    g_string_append_printf(out, "%s\"%s\": ", first ? "" : ", ", s->key);
    first = false;
    if (!s->repeatable) {
      oriel_json_append_string(out, oriel_config_get(config, s->key));
      continue;
    }
    g_auto(GStrv) values = oriel_config_dup_list(config, s->key);
    g_string_append_c(out, '[');
    for (char **value = values; *value != NULL; value++) {
      g_string_append(out, value == values ? "" : ", ");
      oriel_json_append_string(out, *value);
    }
    g_string_append_c(out, ']');
  }
  g_string_append_c(out, '}');
}

static void append_machine(GString *out, const char *name, const OrielConfig *config)
{
  g_autofree char *folder = oriel_library_dup_machine_path(name);
  g_string_append(out, "{\"name\": ");
  oriel_json_append_string(out, name);
  g_string_append(out, ", \"folder\": ");
  oriel_json_append_string(out, folder);
  g_string_append_printf(out, ", \"running\": %s", oriel_library_is_running(name) ? "true" : "false");
  if (config != NULL) {
    g_string_append(out, ", \"settings\": ");
    append_settings(out, config);
  }
  g_string_append_c(out, '}');
}

static int command_list(const Command *c, const OrielOptions *o, GError **error)
{
  g_auto(GStrv) names = oriel_library_list();
  g_autoptr(GString) out = g_string_new(o->json ? "[" : "");
  for (char **name = names; *name != NULL; name++) {
    if (o->json) {
      g_string_append(out, name == names ? "" : ", ");
      append_machine(out, *name, NULL);
    } else {
      g_string_append_printf(out, "%s%s\n", *name, oriel_library_is_running(*name) ? _("  (running)") : "");
    }
  }
  g_print("%s%s", out->str, o->json ? "]\n" : "");
  return 0;
}

static void print_settings(const OrielConfig *config)
{
  for (const OrielSetting *s = oriel_settings; s->key != NULL; s++) {
    if (s->repeatable) {
      g_auto(GStrv) values = oriel_config_dup_list(config, s->key);
      for (char **value = values; *value != NULL; value++)
        g_print("%s=%s\n", s->key, *value);
    } else if (oriel_config_get(config, s->key) != NULL) {
      g_print("%s=%s\n", s->key, oriel_config_get(config, s->key));
    }
  }
}

static int command_show(const Command *c, const OrielOptions *o, GError **error)
{
  g_autoptr(OrielConfig) config = oriel_library_load(argument(o, 0), error);
  if (config == NULL)
    return -1;
  if (!o->json) {
    print_settings(config);
    return 0;
  }
  g_autoptr(GString) out = g_string_new(NULL);
  append_machine(out, argument(o, 0), config);
  g_print("%s\n", out->str);
  return 0;
}

static int command_set(const Command *c, const OrielOptions *o, GError **error)
{
  g_autoptr(OrielConfig) config = oriel_library_load(argument(o, 0), error);
  if (config == NULL)
    return -1;
  for (guint i = 1; i < o->arguments->len; i++) {
    const char *equals = strchr(argument(o, i), '=');
    if (equals == NULL) {
      g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "\"%s\" is not of the form KEY=VALUE", argument(o, i));
      return -1;
    }
    g_autofree char *key = g_strndup(argument(o, i), (gsize)(equals - argument(o, i)));
    if (!oriel_config_set(config, key, equals + 1, error))
      return -1;
  }
  if (!oriel_library_store(argument(o, 0), config, error))
    return -1;
  if (oriel_library_is_running(argument(o, 0)))
    g_printerr(_("\"%s\" is running: the change takes effect when it is started again\n"), argument(o, 0));
  return 0;
}

static int command_remove(const Command *c, const OrielOptions *o, GError **error)
{
  g_autofree char *trashed = oriel_library_trash(argument(o, 0), error);
  return trashed != NULL && oriel_library_purge(trashed, o->keep_disks, error) ? 0 : -1;
}

/* ---- running machines ---------------------------------------------------------------------------------------------------- */

/* One QMP command to a running machine; the answer's text in *answer (may be NULL). */
static int call(const char *name, const char *command, char **answer, GError **error)
{
  g_autofree char *path = oriel_library_dup_control_path(name);
  if (!oriel_library_exists(name)) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED,
                "there is no machine \"%s\"; `oriel list` shows those there are", name);
    return -1;
  }
  if (!oriel_library_is_running(name)) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "\"%s\" is not running", name);
    return -1;
  }
  g_autofree char *text = oriel_control_call(path, command, NULL, error);
  if (text == NULL)
    return -1;
  if (answer != NULL)
    *answer = g_steal_pointer(&text);
  return 0;
}

static int command_start(const Command *c, const OrielOptions *o, GError **error)
{
  const char *name = argument(o, 0);
  if (!oriel_library_exists(name)) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED,
                "there is no machine \"%s\"; `oriel list` shows those there are", name);
    return -1;
  }
  g_autofree char *program = g_file_read_link("/proc/self/exe", error);
  bool display = g_getenv("DISPLAY") || g_getenv("WAYLAND_DISPLAY");
  const char *argv[] = { program, "run", name, display ? NULL : "--headless", NULL };
  return program && g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, error) ? 0 : -1;
}

static int command_stop(const Command *c, const OrielOptions *o, GError **error)
{
  return call(argument(o, 0), o->force ? "quit" : "system_powerdown", NULL, error);
}

static int command_pause(const Command *c, const OrielOptions *o, GError **error)
{
  return call(argument(o, 0), "stop", NULL, error);
}

static int command_resume(const Command *c, const OrielOptions *o, GError **error)
{
  return call(argument(o, 0), "cont", NULL, error);
}

static int command_reset(const Command *c, const OrielOptions *o, GError **error)
{
  return call(argument(o, 0), "system_reset", NULL, error);
}

static int command_status(const Command *c, const OrielOptions *o, GError **error)
{
  g_autofree char *answer = NULL;
  if (oriel_library_exists(argument(o, 0)) && !oriel_library_is_running(argument(o, 0))) {
    g_print("%s\n", o->json ? "{\"running\": false, \"status\": \"stopped\"}" : _("stopped"));
    return 0;
  }
  if (call(argument(o, 0), "query-status", &answer, error) != 0)
    return -1;
  bool running = strstr(answer, "\"running\": true") != NULL || strstr(answer, "\"running\":true") != NULL;
  g_print("%s\n", o->json ? answer : running ? _("running") : _("paused"));
  return 0;
}

/* ---- help ---------------------------------------------------------------------------------------------------------------------- */

static void print_option(const char *name, const char *metavar, const char *help, void *unused)
{
  g_autofree char *left = g_strdup_printf("%s%s%s", name, metavar ? " " : "", metavar ? metavar : "");
  g_print(strlen(left) > 28 ? "  %s\n                                %s\n" : "  %-29s %s\n", left, help);
}

static void print_command_help(const Command *c)
{
  g_print(_("Usage: oriel %s %s\n\n%s\n\nOptions:\n"), c->name, c->arguments, _(c->help));
  oriel_options_foreach(c->bit, print_option, NULL);
}

static int command_help(const Command *unused, const OrielOptions *o, GError **error)
{
  g_print(_("Usage: oriel                     open the library\n       oriel COMMAND [OPTIONS]   see below; oriel "
            "COMMAND --help lists its options\n\n"));
  for (const Command *c = commands; c->name != NULL; c++)
    if (c->help != NULL)
      g_print("  %-8s %-24s %s\n", c->name, c->arguments, _(c->help));
  return 0;
}

static int command_version(const Command *c, const OrielOptions *o, GError **error)
{
  g_print("oriel %s\n", ORIEL_VERSION);
  return 0;
}

/* ---- the man page -------------------------------------------------------------------------------------------------------------- */

/* Text for troff: backslashes, leading dots and dashes. */
static char *troff(const char *text)
{
  GString *out = g_string_new(NULL);
  for (const char *at = text; *at != '\0'; at++) {
    if (*at == '\\' || *at == '-')
      g_string_append_c(out, '\\');
    g_string_append_c(out, *at);
  }
  return g_string_free(out, FALSE);
}

static void print_option_troff(const char *name, const char *metavar, const char *help, void *unused)
{
  g_autofree char *n = troff(name), *m = troff(metavar ? metavar : ""), *h = troff(help);
  g_print(".TP\n\\fB%s\\fR%s\\fI%s\\fR\n%s.\n", n, metavar ? " " : "", m, h);
}

static int command_man(const Command *unused, const OrielOptions *o, GError **error)
{
  g_print(
      ".TH ORIEL 1 \"\" \"oriel %s\" \"User Commands\"\n.SH NAME\noriel \\- run other operating systems in a window\n"
      ".SH SYNOPSIS\n.B oriel\n[COMMAND [OPTIONS]]\n.SH DESCRIPTION\nWithout a command, Oriel opens its library of "
      "machines.\n.SH COMMANDS\n",
      ORIEL_VERSION);
  for (const Command *c = commands; c->name != NULL; c++) {
    if (c->help == NULL)
      continue;
    g_autofree char *arguments = troff(c->arguments), *help = troff(c->help);
    g_print(".TP\n\\fBoriel %s\\fR %s\n%s.\n", c->name, arguments, help);
  }
  g_print(".SH OPTIONS OF RUN AND CREATE\n");
  oriel_options_foreach(ORIEL_FOR_RUN | ORIEL_FOR_CREATE, print_option_troff, NULL);
  g_print(".SH EXIT STATUS\n0: the guest powered off or the window was closed as asked. 1: could not start; one line "
          "on standard error says why. "
          "2: usage. 3: the guest died. (V << 1) | 1: by the debug\\-exit port.\n"
          ".SH FILES\n.TP\n$XDG_DATA_HOME/oriel/machines/NAME/\na machine: its settings (machine.conf) and its own "
          "disks; the folder can be moved as a whole.\n");
  return 0;
}

/* ---- dispatch --------------------------------------------------------------------------------------------------------------------- */

static const Command commands[] = {
  { "run", ORIEL_FOR_RUN, "[MACHINE | FILE] [OPTIONS]", N_("run a machine, or a transient one made of FILE"), 0, 1,
    command_run },
  { "create", ORIEL_FOR_CREATE, "NAME [OPTIONS]", N_("make a machine"), 1, 1, command_create },
  { "list", ORIEL_FOR_LIST, "[--json]", N_("list the machines"), 0, 0, command_list },
  { "show", ORIEL_FOR_SHOW, "NAME [--json]", N_("show a machine's settings"), 1, 1, command_show },
  { "set", ORIEL_FOR_SET, "NAME KEY=VALUE…", N_("change settings"), 2, 1000, command_set },
  { "remove", ORIEL_FOR_REMOVE, "NAME [--keep-disks]", N_("remove a machine"), 1, 1, command_remove },
  { "start", ORIEL_FOR_OTHER, "NAME", N_("start a machine in a process of its own"), 1, 1, command_start },
  { "stop", ORIEL_FOR_STOP, "NAME [--force]", N_("press the power button"), 1, 1, command_stop },
  { "pause", ORIEL_FOR_OTHER, "NAME", N_("pause a running machine"), 1, 1, command_pause },
  { "resume", ORIEL_FOR_OTHER, "NAME", N_("let a paused machine go on"), 1, 1, command_resume },
  { "reset", ORIEL_FOR_OTHER, "NAME", N_("press the reset button"), 1, 1, command_reset },
  { "status", ORIEL_FOR_OTHER, "NAME [--json]", N_("tell whether it runs"), 1, 1, command_status },
  { "help", ORIEL_FOR_OTHER, "", N_("show this"), 0, 0, command_help },
  { "man", ORIEL_FOR_OTHER, "", NULL, 0, 0, command_man },
  { "version", ORIEL_FOR_OTHER, "", N_("print the version"), 0, 0, command_version },
  { .name = NULL },
};

static const Command *find_command(const char *name)
{
  if (g_str_equal(name, "--help") || g_str_equal(name, "-h"))
    name = "help";
  if (g_str_equal(name, "--version"))
    name = "version";
  for (const Command *c = commands; c->name != NULL; c++)
    if (g_str_equal(c->name, name))
      return c;
  return NULL;
}

static int run_command(const Command *c, int argc, char **argv, GError **error)
{
  g_autoptr(OrielOptions) o = oriel_options_parse(argc, argv, c->bit, error);
  if (o == NULL)
    return -1;
  if (o->help) {
    print_command_help(c);
    return 0;
  }
  if (o->arguments->len < c->min_arguments || o->arguments->len > c->max_arguments) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_USAGE, "usage: oriel %s %s", c->name, c->arguments);
    return -1;
  }
  return c->run(c, o, error);
}

static int report(const GError *error)
{
  g_printerr("oriel: %s\n", error->message);
  return g_error_matches(error, ORIEL_ERROR, ORIEL_ERROR_USAGE) ? 2 : 1;
}

int oriel_main(int argc, char **argv)
{
  g_autoptr(GError) error = NULL;
  setlocale(LC_ALL, "");
  bindtextdomain(GETTEXT_PACKAGE, ORIEL_LOCALE_DIR);
  bind_textdomain_codeset(GETTEXT_PACKAGE, "UTF-8");
  textdomain(GETTEXT_PACKAGE);

  int status;
  if (argc < 2) {
    status = oriel_run_library(&error);
  } else {
    const Command *c = find_command(argv[1]);
    if (c == NULL) {
      g_printerr("oriel: there is no command \"%s\"; oriel help lists them\n", argv[1]);
      return 2;
    }
    status = run_command(c, argc - 1, argv + 1, &error);
  }
  return error != NULL ? report(error) : status;
}
