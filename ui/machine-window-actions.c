/* What a person can do to a running machine: actions, the menu that lists them, and the keys. */
#include <glib/gi18n.h>
#include <glib/gstdio.h>

#include "app/machine.h"
#include "ui/keys.h"
#include "ui/machine-window-impl.h"
#include "ui/preferences.h"
#include "vm-engine/input.h"

#include <linux/input-event-codes.h>

#define HOLD_MS 60

const char *const oriel_scaling_choices[] = { "fit", "integer", "one", NULL };
const char *const oriel_closing_choices[] = { "ask", "power-button", "power-off", NULL };

/* ---- power --------------------------------------------------------------------------------------------------------------- */

static void do_pause(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  if (w->paused)
    vm_start(w->vm);
  else
    vm_pause(w->vm);
}

static void do_reset(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  vm_request_reset(w->vm);
  if (w->paused)
    vm_start(w->vm);
}

static void do_power_button(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  vm_request_powerdown(w->vm);
  oriel_machine_window_show_toast(w, _("The power button was pressed; the guest decides what to do"));
}

static void do_power_off(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  vm_request_end(w->vm, 0, NULL);
}

/* ---- keys ------------------------------------------------------------------------------------------------------------------- */

typedef struct KeyRelease {
  Vm *vm;
  guint16 codes[4];
  unsigned n;
} KeyRelease;

static gboolean release_keys(gpointer data)
{
  KeyRelease *r = data;
  while (r->n > 0)
    vm_input_key(vm_get_input(r->vm), r->codes[--r->n], false);
  return G_SOURCE_REMOVE;
}

/* The parameter is evdev codes, separated by blanks: pressed in order, let go in reverse. */
static void do_send_keys(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  g_auto(GStrv) texts = g_strsplit(g_variant_get_string(parameter, NULL), " ", 4);
  KeyRelease *r = g_new0(KeyRelease, 1);
  r->vm = w->vm;
  for (char **text = texts; *text != NULL; text++) {
    guint16 code = (guint16)MIN(g_ascii_strtoull(*text, NULL, 10), KEY_MAX);
    r->codes[r->n++] = code;
    vm_input_key(vm_get_input(w->vm), code, true);
  }
  g_timeout_add_full(G_PRIORITY_DEFAULT, HOLD_MS, release_keys, r, g_free);
}

/* ---- the picture ---------------------------------------------------------------------------------------------------------------- */

static void do_screenshot(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  g_autoptr(GError) error = NULL;
  const char *pictures = g_get_user_special_dir(G_USER_DIRECTORY_PICTURES);
  g_autofree char *folder = g_build_filename(pictures ? pictures : g_get_home_dir(), "Screenshots", NULL);
  g_autoptr(GDateTime) now = g_date_time_new_now_local();
  g_autofree char *when = g_date_time_format(now, "%Y-%m-%d %H-%M-%S");
  g_autofree char *title = g_strdelimit(g_strdup(oriel_machine_get_title(w->machine)), "/", '-');
  g_autofree char *name = g_strdup_printf("%s %s.png", title, when);
  g_autofree char *path = g_build_filename(folder, name, NULL);
  g_mkdir_with_parents(folder, 0755);
  if (!oriel_machine_screenshot(w->machine, path, "png", &error)) {
    oriel_machine_window_show_error(w, error);
    return;
  }
  g_autofree char *text = g_strdup_printf(_("Screenshot saved as %s"), path);
  oriel_machine_window_show_toast(w, text);
}

static void do_scaling(GSimpleAction *action, GVariant *state, gpointer data)
{
  OrielMachineWindow *w = data;
  const char *mode = g_variant_get_string(state, NULL);
  OrielScaling scaling = g_str_equal(mode, "one")       ? ORIEL_SCALE_ONE
                         : g_str_equal(mode, "integer") ? ORIEL_SCALE_INTEGER
                                                        : ORIEL_SCALE_FIT;
  oriel_display_set_scaling(w->display, scaling);
  oriel_preference_set("scaling", mode);
  g_simple_action_set_state(action, state);
}

static void do_when_closed(GSimpleAction *action, GVariant *state, gpointer data)
{
  const char *choice = g_variant_get_string(state, NULL);
  if (!g_strv_contains(oriel_closing_choices, choice))
    return;
  oriel_preference_set("when-closed", choice);
  g_simple_action_set_state(action, state);
}

static void do_fullscreen(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  oriel_machine_window_set_fullscreen(w, !w->fullscreen);
}

static void do_grab(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  oriel_machine_window_show_page(w, 0);
  if (oriel_display_is_grabbed(w->display))
    oriel_display_ungrab(w->display);
  else
    oriel_display_grab(w->display);
}

static void do_fit(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  w->zoom = 1;
  oriel_machine_window_fit_to_picture(w);
}

static void do_show_page(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  oriel_machine_window_show_page(data, (unsigned)g_variant_get_int32(parameter));
}

/* ---- media -------------------------------------------------------------------------------------------------------------------------- */

static void change_cdrom(OrielMachineWindow *w, const char *path)
{
  g_autoptr(GError) error = NULL;
  if (!oriel_machine_change_cdrom(w->machine, path, false, &error))
    oriel_machine_window_show_error(w, error);
  else
    oriel_machine_window_show_toast(w, path ? _("The disc was inserted") : _("The drive was emptied"));
}

static void do_insert_cd(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  OrielMachineWindow *w = data;
  GtkFileChooserNative *chooser = gtk_file_chooser_native_new(_("Insert a Disc Image"), GTK_WINDOW(w),
                                                              GTK_FILE_CHOOSER_ACTION_OPEN, _("_Insert"), _("_Cancel"));
  if (gtk_native_dialog_run(GTK_NATIVE_DIALOG(chooser)) == GTK_RESPONSE_ACCEPT) {
    g_autofree char *path = gtk_file_chooser_get_filename(GTK_FILE_CHOOSER(chooser));
    if (path != NULL)
      change_cdrom(w, path);
  }
  g_object_unref(chooser);
}

static void do_eject_cd(GSimpleAction *action, GVariant *parameter, gpointer data)
{
  change_cdrom(data, NULL);
}

/* ---- the lists ----------------------------------------------------------------------------------------------------------------------- */

void oriel_machine_window_add_actions(OrielMachineWindow *w)
{
  static const GActionEntry entries[] = {
    { .name = "pause", .activate = do_pause },
    { .name = "reset", .activate = do_reset },
    { .name = "power-button", .activate = do_power_button },
    { .name = "power-off", .activate = do_power_off },
    { .name = "send-keys", .activate = do_send_keys, .parameter_type = "s" },
    { .name = "screenshot", .activate = do_screenshot },
    { .name = "fullscreen", .activate = do_fullscreen },
    { .name = "grab", .activate = do_grab },
    { .name = "fit", .activate = do_fit },
    { .name = "scaling", .parameter_type = "s", .state = "'fit'", .change_state = do_scaling },
    { .name = "when-closed", .parameter_type = "s", .state = "'ask'", .change_state = do_when_closed },
    { .name = "show-page", .activate = do_show_page, .parameter_type = "i" },
    { .name = "insert-cd", .activate = do_insert_cd },
    { .name = "eject-cd", .activate = do_eject_cd },
  };
  g_action_map_add_action_entries(G_ACTION_MAP(w), entries, G_N_ELEMENTS(entries), w);
}

void oriel_machine_window_restore_choices(OrielMachineWindow *w)
{
  g_autofree char *scaling = oriel_preference_dup("scaling", oriel_scaling_choices, oriel_scaling_choices[0]);
  g_autofree char *closing = oriel_preference_dup("when-closed", oriel_closing_choices, oriel_closing_choices[0]);
  if (!g_str_equal(scaling, oriel_scaling_choices[0]))
    g_action_group_change_action_state(G_ACTION_GROUP(w), "scaling", g_variant_new_string(scaling));
  if (!g_str_equal(closing, oriel_closing_choices[0]))
    g_action_group_change_action_state(G_ACTION_GROUP(w), "when-closed", g_variant_new_string(closing));
}

static void append_keys(GMenu *menu, const char *label, const char *codes)
{
  g_autofree char *action = g_strdup_printf("win.send-keys('%s')", codes);
  g_menu_append(menu, label, action);
}

static GMenu *build_keys_menu(void)
{
  GMenu *menu = g_menu_new();
  append_keys(menu, "Ctrl+Alt+Del", "29 56 111");
  append_keys(menu, "Ctrl+Alt+Backspace", "29 56 14");
  for (unsigned i = 1; i <= 12; i++) {
    g_autofree char *label = g_strdup_printf("Ctrl+Alt+F%u", i);
    g_autofree char *codes = g_strdup_printf("29 56 %u", i <= 10 ? KEY_F1 + i - 1 : KEY_F11 + i - 11);
    append_keys(menu, label, codes);
  }
  append_keys(menu, _("Print Screen"), "99");
  append_keys(menu, _("Super"), "125");
  return menu;
}

static GMenu *build_scaling_menu(void)
{
  GMenu *menu = g_menu_new();
  g_menu_append(menu, _("Fit the Window"), "win.scaling('fit')");
  g_menu_append(menu, _("Whole Multiples"), "win.scaling('integer')");
  g_menu_append(menu, _("One to One"), "win.scaling('one')");
  return menu;
}

static GMenu *build_closing_menu(void)
{
  GMenu *menu = g_menu_new();
  g_menu_append(menu, _("Ask"), "win.when-closed('ask')");
  g_menu_append(menu, _("Press the Power Button"), "win.when-closed('power-button')");
  g_menu_append(menu, _("Power Off"), "win.when-closed('power-off')");
  return menu;
}

GMenuModel *oriel_machine_window_build_menu(void)
{
  GMenu *menu = g_menu_new();
  g_autoptr(GMenu) power = g_menu_new();
  g_menu_append(power, _("Pause or Go On"), "win.pause");
  g_menu_append(power, _("Reset"), "win.reset");
  g_menu_append(power, _("Press the Power Button"), "win.power-button");
  g_menu_append(power, _("Power Off"), "win.power-off");
  g_menu_append_section(menu, NULL, G_MENU_MODEL(power));

  g_autoptr(GMenu) view = g_menu_new(), keys = build_keys_menu(), scaling = build_scaling_menu();
  g_menu_append_submenu(view, _("Send Keys"), G_MENU_MODEL(keys));
  g_menu_append_submenu(view, _("Scaling"), G_MENU_MODEL(scaling));
  g_menu_append(view, _("Window as Large as the Picture"), "win.fit");
  g_menu_append(view, _("Full Screen"), "win.fullscreen");
  g_menu_append(view, _("Grab the Pointer"), "win.grab");
  g_menu_append(view, _("Take a Screenshot"), "win.screenshot");
  g_menu_append_section(menu, NULL, G_MENU_MODEL(view));

  g_autoptr(GMenu) media = g_menu_new();
  g_menu_append(media, _("Insert a Disc Image…"), "win.insert-cd");
  g_menu_append(media, _("Eject the Disc"), "win.eject-cd");
  g_menu_append_section(menu, NULL, G_MENU_MODEL(media));

  g_autoptr(GMenu) rest = g_menu_new(), closing = build_closing_menu();
  g_menu_append_submenu(rest, _("When the Window Is Closed"), G_MENU_MODEL(closing));
  g_menu_append_section(menu, NULL, G_MENU_MODEL(rest));
  return G_MENU_MODEL(menu);
}

/* ---- keys of the window ---------------------------------------------------------------------------------------------------------------- */

static void set_zoom(OrielMachineWindow *w, double factor)
{
  w->zoom = CLAMP(w->zoom * factor, 0.25, 4);
  oriel_machine_window_fit_to_picture(w);
}

static bool take_ctrl_alt(OrielMachineWindow *w, guint16 code)
{
  GActionGroup *actions = G_ACTION_GROUP(w);
  switch (code) {
  case KEY_F:
    g_action_group_activate_action(actions, "fullscreen", NULL);
    return true;
  case KEY_G:
    g_action_group_activate_action(actions, "grab", NULL);
    return true;
  case KEY_M:
    oriel_machine_window_open_menu(w);
    return true;
  case KEY_0:
    g_action_group_activate_action(actions, "fit", NULL);
    return true;
  case KEY_EQUAL:
  case KEY_KPPLUS:
    set_zoom(w, 1.25);
    return true;
  case KEY_MINUS:
  case KEY_KPMINUS:
    set_zoom(w, 0.8);
    return true;
  default:
    if (code < KEY_1 || code > KEY_9 || code - KEY_1 >= (int)w->n_pages)
      return false;
    oriel_machine_window_show_page(w, (unsigned)(code - KEY_1));
    return true;
  }
}

bool oriel_machine_window_take_key(const GdkEventKey *event, gpointer window)
{
  OrielMachineWindow *w = window;
  GdkModifierType ctrl_alt = GDK_CONTROL_MASK | GDK_MOD1_MASK;
  guint16 code = oriel_key_from_event(event);
  if ((event->state & ctrl_alt) == ctrl_alt)
    return take_ctrl_alt(w, code);
  if (code == KEY_F11 && !oriel_display_is_grabbed(w->display)) {
    oriel_machine_window_set_fullscreen(w, !w->fullscreen);
    return true;
  }
  return false;
}
