/*
 * The machine window. See machine-window.h.
 *
 * The machine's events come in its I/O context; each is handed to GTK's thread as a copy. Nothing here waits for the engine.
 */
#include <glib/gi18n.h>

#include "ui/machine-window-impl.h"
#include "ui/preferences.h"
#include "ui/serial-page.h"

G_DEFINE_TYPE(OrielMachineWindow, oriel_machine_window, GTK_TYPE_APPLICATION_WINDOW)

#define TOAST_SECONDS  5
#define STATUS_KEY     "oriel-exit-status"
#define DEFAULT_WIDTH  720
#define DEFAULT_HEIGHT 400

enum { RESPONSE_POWER_BUTTON = 1, RESPONSE_POWER_OFF, RESPONSE_RESET };

/* ---- messages ------------------------------------------------------------------------------------------------------------- */

static gboolean hide_toast(gpointer data)
{
  OrielMachineWindow *w = data;
  w->toast_timer = 0;
  gtk_revealer_set_reveal_child(GTK_REVEALER(w->toast), FALSE);
  return G_SOURCE_REMOVE;
}

void oriel_machine_window_show_toast(OrielMachineWindow *w, const char *text)
{
  gtk_label_set_text(GTK_LABEL(w->toast_label), text);
  gtk_revealer_set_reveal_child(GTK_REVEALER(w->toast), TRUE);
  g_clear_handle_id(&w->toast_timer, g_source_remove);
  w->toast_timer = g_timeout_add_seconds(TOAST_SECONDS, hide_toast, w);
}

void oriel_machine_window_show_error(OrielMachineWindow *w, const GError *error)
{
  oriel_machine_window_show_toast(w, error->message);
}

static void show_banner(OrielMachineWindow *w, const char *text)
{
  gtk_label_set_text(GTK_LABEL(w->banner_label), text);
  gtk_info_bar_set_revealed(GTK_INFO_BAR(w->banner), TRUE);
  gtk_widget_show(w->banner);
}

static void on_banner_response(GtkInfoBar *bar, int response, gpointer data)
{
  OrielMachineWindow *w = data;
  if (response == RESPONSE_RESET)
    g_action_group_activate_action(G_ACTION_GROUP(w), "reset", NULL);
  else if (response == RESPONSE_POWER_OFF)
    vm_request_end(w->vm, 0, NULL);
  gtk_widget_hide(w->banner);
}

/* ---- what is shown of the machine's state ------------------------------------------------------------------------------------- */

static void update_state(OrielMachineWindow *w)
{
  const char *state = w->ended ? _("ended") : w->paused ? _("paused") : _("running");
  const char *subtitle = oriel_display_is_grabbed(w->display) ? _("Press left Ctrl+Alt to release the pointer")
                         : w->paused                          ? _("Paused")
                                                              : NULL;
  gtk_label_set_text(GTK_LABEL(w->state_label), state);
  gtk_header_bar_set_subtitle(GTK_HEADER_BAR(w->header), subtitle);
  GtkWidget *image = gtk_image_new_from_icon_name(
      w->paused ? "media-playback-start-symbolic" : "media-playback-pause-symbolic", GTK_ICON_SIZE_BUTTON);
  gtk_button_set_image(GTK_BUTTON(w->pause_button), image);
  gtk_widget_set_tooltip_text(w->pause_button, w->paused ? _("Go on") : _("Pause"));
  atk_object_set_name(gtk_widget_get_accessible(w->pause_button), w->paused ? _("Go on") : _("Pause"));
}

static void on_picture_resized(OrielDisplay *display, gpointer data)
{
  OrielMachineWindow *w = data;
  unsigned width, height;
  oriel_display_get_picture_size(display, &width, &height);
  g_autofree char *text = g_strdup_printf("%u × %u", width, height);
  gtk_label_set_text(GTK_LABEL(w->size_label), text);
  oriel_machine_window_fit_to_picture(w);
}

static void on_grab_changed(OrielDisplay *display, gpointer data)
{
  update_state(data);
}

void oriel_machine_window_fit_to_picture(OrielMachineWindow *w)
{
  unsigned width, height;
  int window_width, window_height;
  oriel_display_get_picture_size(w->display, &width, &height);
  if (width == 0 || w->fullscreen || gtk_window_is_maximized(GTK_WINDOW(w)))
    return;
  /* What the window has around the picture stays; the picture's place gets its size in device pixels. */
  int scale = gtk_widget_get_scale_factor(GTK_WIDGET(w));
  GtkAllocation place;
  gtk_widget_get_allocation(GTK_WIDGET(w->display), &place);
  gtk_window_get_size(GTK_WINDOW(w), &window_width, &window_height);
  GdkMonitor *monitor =
      gdk_display_get_monitor_at_window(gtk_widget_get_display(GTK_WIDGET(w)), gtk_widget_get_window(GTK_WIDGET(w)));
  GdkRectangle area = { 0, 0, 4096, 4096 };
  if (monitor != NULL)
    gdk_monitor_get_workarea(monitor, &area);
  int extra_width = MAX(window_width - place.width, 0), extra_height = MAX(window_height - place.height, 0);
  gtk_window_resize(GTK_WINDOW(w), MIN((int)(width * w->zoom) / scale + extra_width, area.width),
                    MIN((int)(height * w->zoom) / scale + extra_height, area.height));
}

/* ---- events of the machine ------------------------------------------------------------------------------------------------------- */

typedef struct Event {
  OrielMachineWindow *window;
  VmEvent event;
  char *text;
} Event;

static gboolean take_event(gpointer data)
{
  Event *e = data;
  OrielMachineWindow *w = e->window;
  switch (e->event) {
  case VM_EVENT_RUNNING:
    w->paused = false;
    gtk_widget_hide(w->banner);
    break;
  case VM_EVENT_PAUSED:
    w->paused = true;
    break;
  case VM_EVENT_PANIC:
    show_banner(w, e->text ? e->text : _("The guest has died"));
    break;
  case VM_EVENT_ENDED:
    w->ended = true;
    if (w->vm != NULL)
      gtk_widget_destroy(GTK_WIDGET(w));
    return G_SOURCE_REMOVE;
  case VM_EVENT_RESET:
  case VM_EVENT_SHUTDOWN:
  case VM_EVENT_POWERDOWN:
    break;
  }
  if (w->vm != NULL)
    update_state(w);
  return G_SOURCE_REMOVE;
}

static void free_event(gpointer data)
{
  Event *e = data;
  g_object_unref(e->window);
  g_free(e->text);
  g_free(e);
}

/* In the I/O context. */
static void on_vm_event(Vm *vm, VmEvent event, const char *text, void *opaque)
{
  Event *e = g_new(Event, 1);
  *e = (Event){ g_object_ref(opaque), event, g_strdup(text) };
  g_idle_add_full(G_PRIORITY_DEFAULT, take_event, e, free_event);
}

/* ---- closing ------------------------------------------------------------------------------------------------------------------------ */

/* The answer's name among oriel_closing_choices; NULL: cancelled. */
static const char *ask_how_to_close(OrielMachineWindow *w)
{
  GtkWidget *dialog =
      gtk_message_dialog_new(GTK_WINDOW(w), GTK_DIALOG_MODAL | GTK_DIALOG_DESTROY_WITH_PARENT, GTK_MESSAGE_QUESTION,
                             GTK_BUTTONS_NONE, _("“%s” is still running"), oriel_machine_get_title(w->machine));
  GtkWidget *remember = gtk_check_button_new_with_mnemonic(_("_Remember my choice for every machine"));
  GtkWidget *area = gtk_message_dialog_get_message_area(GTK_MESSAGE_DIALOG(dialog));
  gtk_message_dialog_format_secondary_text(
      GTK_MESSAGE_DIALOG(dialog),
      _("Powering off at once is like pulling the plug: what the guest has not written yet is lost."));
  gtk_box_pack_end(GTK_BOX(area), remember, FALSE, FALSE, 0);
  gtk_widget_show(remember);
  gtk_dialog_add_buttons(GTK_DIALOG(dialog), _("_Cancel"), GTK_RESPONSE_CANCEL, _("Press the _Power Button"),
                         RESPONSE_POWER_BUTTON, _("Power _Off"), RESPONSE_POWER_OFF, NULL);
  gtk_dialog_set_default_response(GTK_DIALOG(dialog), RESPONSE_POWER_BUTTON);
  int response = gtk_dialog_run(GTK_DIALOG(dialog));
  const char *choice = response == RESPONSE_POWER_BUTTON ? "power-button"
                       : response == RESPONSE_POWER_OFF  ? "power-off"
                                                         : NULL;
  if (choice != NULL && gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(remember)))
    g_action_group_change_action_state(G_ACTION_GROUP(w), "when-closed", g_variant_new_string(choice));
  if (!w->ended) /* else the window has taken the dialog with it */
    gtk_widget_destroy(dialog);
  return choice;
}

static gboolean on_delete(GtkWidget *widget, GdkEvent *event, gpointer unused)
{
  g_autoptr(OrielMachineWindow) w = g_object_ref(ORIEL_MACHINE_WINDOW(widget));
  oriel_display_ungrab(w->display);
  g_autoptr(GVariant) state = g_action_group_get_action_state(G_ACTION_GROUP(w), "when-closed");
  const char *choice = g_variant_get_string(state, NULL);
  /* A guest that has died hears no power button. */
  if (g_str_equal(choice, "ask") || (w->paused && g_str_equal(choice, "power-button")))
    choice = ask_how_to_close(w);
  if (choice != NULL && !w->ended)
    g_action_group_activate_action(G_ACTION_GROUP(w), choice, NULL);
  return TRUE;
}

/* ---- building ------------------------------------------------------------------------------------------------------------------------- */

static GtkWidget *get_page_focus(OrielMachineWindow *w)
{
  GtkWidget *page = gtk_stack_get_visible_child(GTK_STACK(w->pages));
  return page == NULL || page == GTK_WIDGET(w->display) ? page : oriel_serial_page_get_terminal(page);
}

void oriel_machine_window_show_page(OrielMachineWindow *w, unsigned index)
{
  if (index >= w->n_pages)
    return;
  gtk_stack_set_visible_child(GTK_STACK(w->pages), w->page_widgets[index]);
  gtk_widget_grab_focus(get_page_focus(w));
}

/* Whoever switched to it, what is typed next is for the page. */
static void on_page_shown(GObject *stack, GParamSpec *property, gpointer data)
{
  GtkWidget *focus = get_page_focus(data);
  if (focus != NULL)
    gtk_widget_grab_focus(focus);
}

/* Before the window's own handling: a guest or terminal that has the focus gets F10, Alt and a letter, and the like. */
static gboolean on_window_key(GtkWidget *widget, GdkEventKey *event, gpointer unused)
{
  OrielMachineWindow *w = ORIEL_MACHINE_WINDOW(widget);
  GtkWidget *focus = gtk_window_get_focus(GTK_WINDOW(w));
  return focus != NULL && focus == get_page_focus(w) && gtk_window_propagate_key_event(GTK_WINDOW(w), event);
}

void oriel_machine_window_open_menu(OrielMachineWindow *w)
{
  oriel_display_ungrab(w->display);
  oriel_machine_window_set_fullscreen(w, false); /* where the header is hidden */
  gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(w->menu_button), TRUE);
}

void oriel_machine_window_set_fullscreen(OrielMachineWindow *w, bool on)
{
  if (on)
    gtk_window_fullscreen(GTK_WINDOW(w));
  else if (w->fullscreen)
    gtk_window_unfullscreen(GTK_WINDOW(w));
}

/* The window manager has the last word on what the window is. */
static gboolean on_window_state(GtkWidget *widget, GdkEventWindowState *event, gpointer unused)
{
  OrielMachineWindow *w = ORIEL_MACHINE_WINDOW(widget);
  w->fullscreen = event->new_window_state & GDK_WINDOW_STATE_FULLSCREEN;
  gtk_widget_set_visible(w->status_bar, !w->fullscreen);
  oriel_fullscreen_bar_set_active(w->fullscreen_bar, w->fullscreen);
  return FALSE;
}

static gboolean on_page_key(GtkWidget *widget, GdkEventKey *event, gpointer data)
{
  return oriel_machine_window_take_key(event, data);
}

static void add_page(OrielMachineWindow *w, GtkWidget *page, const char *title)
{
  g_autofree char *name = g_strdup_printf("page%u", w->n_pages);
  gtk_stack_add_titled(GTK_STACK(w->pages), page, name, title);
  w->page_widgets[w->n_pages++] = page;
}

static void add_pages(OrielMachineWindow *w)
{
  w->pages = gtk_stack_new();
  gtk_stack_set_homogeneous(GTK_STACK(w->pages), FALSE);
  w->display = ORIEL_DISPLAY(oriel_display_new(w->vm));
  oriel_display_set_key_filter(w->display, oriel_machine_window_take_key, w);
  add_page(w, GTK_WIDGET(w->display), _("Screen"));
  for (unsigned i = 0; i + 1 < ORIEL_MAX_PAGES; i++) {
    if (!oriel_machine_serial_is_window(w->machine, i))
      continue;
    g_autofree char *title = g_strdup_printf(_("Serial %u"), i + 1);
    GtkWidget *page = oriel_serial_page_new(oriel_machine_get_serial(w->machine, i), title);
    g_signal_connect(oriel_serial_page_get_terminal(page), "key-press-event", G_CALLBACK(on_page_key), w);
    add_page(w, page, title);
  }
}

static GtkWidget *new_header_button(const char *icon, const char *label, const char *action)
{
  GtkWidget *button = gtk_button_new_from_icon_name(icon, GTK_ICON_SIZE_BUTTON);
  gtk_widget_set_tooltip_text(button, label);
  atk_object_set_name(gtk_widget_get_accessible(button), label);
  gtk_actionable_set_action_name(GTK_ACTIONABLE(button), action);
  gtk_widget_set_focus_on_click(button, FALSE);
  return button;
}

static void add_header(OrielMachineWindow *w, GMenuModel *menu)
{
  w->header = gtk_header_bar_new();
  gtk_header_bar_set_show_close_button(GTK_HEADER_BAR(w->header), TRUE);
  gtk_header_bar_set_title(GTK_HEADER_BAR(w->header), oriel_machine_get_title(w->machine));
  w->pause_button = new_header_button("media-playback-pause-symbolic", _("Pause"), "win.pause");
  gtk_header_bar_pack_start(GTK_HEADER_BAR(w->header), w->pause_button);

  w->menu_button = gtk_menu_button_new();
  gtk_menu_button_set_menu_model(GTK_MENU_BUTTON(w->menu_button), menu);
  gtk_button_set_image(GTK_BUTTON(w->menu_button),
                       gtk_image_new_from_icon_name("open-menu-symbolic", GTK_ICON_SIZE_BUTTON));
  gtk_widget_set_tooltip_text(w->menu_button, _("Menu (Ctrl+Alt+M)"));
  atk_object_set_name(gtk_widget_get_accessible(w->menu_button), _("Menu"));
  gtk_header_bar_pack_end(GTK_HEADER_BAR(w->header), w->menu_button);
  gtk_header_bar_pack_end(
      GTK_HEADER_BAR(w->header),
      new_header_button("view-fullscreen-symbolic", _("Full screen (Ctrl+Alt+F)"), "win.fullscreen"));
  if (w->n_pages > 1) {
    GtkWidget *switcher = gtk_stack_switcher_new();
    gtk_stack_switcher_set_stack(GTK_STACK_SWITCHER(switcher), GTK_STACK(w->pages));
    gtk_header_bar_pack_start(GTK_HEADER_BAR(w->header), switcher);
  }
  gtk_window_set_titlebar(GTK_WINDOW(w), w->header);
}

static GtkWidget *add_status_label(OrielMachineWindow *w, const char *text, bool at_end)
{
  GtkWidget *label = gtk_label_new(text);
  gtk_style_context_add_class(gtk_widget_get_style_context(label), "dim-label");
  if (at_end)
    gtk_box_pack_end(GTK_BOX(w->status_bar), label, FALSE, FALSE, 0);
  else
    gtk_box_pack_start(GTK_BOX(w->status_bar), label, FALSE, FALSE, 0);
  return label;
}

/* Why the machine is translated, where nobody asked for that: in words, as far as there is room. */
static void add_accel_reason(OrielMachineWindow *w, const char *reason)
{
  GtkWidget *why = gtk_label_new(reason);
  gtk_label_set_ellipsize(GTK_LABEL(why), PANGO_ELLIPSIZE_END);
  gtk_label_set_xalign(GTK_LABEL(why), 0);
  gtk_widget_set_tooltip_text(why, reason);
  gtk_style_context_add_class(gtk_widget_get_style_context(why), "dim-label");
  gtk_box_pack_start(GTK_BOX(w->status_bar), why, TRUE, TRUE, 0);
}

static void add_status_bar(OrielMachineWindow *w)
{
  const char *reason = oriel_machine_get_accel_reason(w->machine);
  w->status_bar = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
  g_object_set(w->status_bar, "margin-start", 8, "margin-end", 8, "margin-top", 3, "margin-bottom", 3, NULL);
  w->state_label = add_status_label(w, "", false);
  add_status_label(w, oriel_machine_get_accel_label(w->machine), false);
  if (reason != NULL)
    add_accel_reason(w, reason);
  w->size_label = add_status_label(w, "", true);
}

static void add_banner(OrielMachineWindow *w)
{
  w->banner = gtk_info_bar_new_with_buttons(_("Reset"), RESPONSE_RESET, _("Power Off"), RESPONSE_POWER_OFF, NULL);
  gtk_info_bar_set_message_type(GTK_INFO_BAR(w->banner), GTK_MESSAGE_ERROR);
  w->banner_label = gtk_label_new(NULL);
  gtk_label_set_line_wrap(GTK_LABEL(w->banner_label), TRUE);
  gtk_label_set_xalign(GTK_LABEL(w->banner_label), 0);
  gtk_container_add(GTK_CONTAINER(gtk_info_bar_get_content_area(GTK_INFO_BAR(w->banner))), w->banner_label);
  g_signal_connect(w->banner, "response", G_CALLBACK(on_banner_response), w);
  gtk_widget_show_all(w->banner);
  gtk_widget_set_no_show_all(w->banner, TRUE);
  gtk_widget_hide(w->banner);
}

static GtkWidget *wrap_with_overlays(OrielMachineWindow *w, GtkWidget *content, GMenuModel *menu)
{
  GtkWidget *overlay = gtk_overlay_new(), *frame = gtk_frame_new(NULL);
  w->toast = gtk_revealer_new();
  w->toast_label = gtk_label_new(NULL);
  gtk_label_set_line_wrap(GTK_LABEL(w->toast_label), TRUE);
  g_object_set(w->toast_label, "margin", 10, NULL);
  gtk_style_context_add_class(gtk_widget_get_style_context(frame), "app-notification");
  gtk_container_add(GTK_CONTAINER(frame), w->toast_label);
  gtk_container_add(GTK_CONTAINER(w->toast), frame);
  gtk_widget_set_halign(w->toast, GTK_ALIGN_CENTER);
  gtk_widget_set_valign(w->toast, GTK_ALIGN_START);
  gtk_container_add(GTK_CONTAINER(overlay), content);
  gtk_overlay_add_overlay(GTK_OVERLAY(overlay), w->toast);
  gtk_overlay_set_overlay_pass_through(GTK_OVERLAY(overlay), w->toast, TRUE);
  w->fullscreen_bar = oriel_fullscreen_bar_new(GTK_OVERLAY(overlay), oriel_machine_get_title(w->machine), menu);
  oriel_fullscreen_bar_watch(w->fullscreen_bar, GTK_WIDGET(w->display));
  return overlay;
}

static void build(OrielMachineWindow *w)
{
  GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0);
  g_autoptr(GMenuModel) menu = oriel_machine_window_build_menu();
  add_pages(w);
  add_header(w, menu);
  add_banner(w);
  add_status_bar(w);
  gtk_box_pack_start(GTK_BOX(box), w->banner, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), wrap_with_overlays(w, w->pages, menu), TRUE, TRUE, 0);
  gtk_box_pack_start(GTK_BOX(box), w->status_bar, FALSE, FALSE, 0);
  gtk_container_add(GTK_CONTAINER(w), box);
  gtk_widget_show_all(box);
  gtk_widget_show_all(w->header);
  gtk_window_set_default_size(GTK_WINDOW(w), DEFAULT_WIDTH, DEFAULT_HEIGHT + 90);
  g_signal_connect(w->display, "picture-resized", G_CALLBACK(on_picture_resized), w);
  g_signal_connect(w->display, "grab-changed", G_CALLBACK(on_grab_changed), w);
  g_signal_connect(w, "delete-event", G_CALLBACK(on_delete), NULL);
  g_signal_connect(w->pages, "notify::visible-child", G_CALLBACK(on_page_shown), w);
  g_signal_connect(w, "key-press-event", G_CALLBACK(on_window_key), NULL);
  g_signal_connect(w, "key-release-event", G_CALLBACK(on_window_key), NULL);
  g_signal_connect(w, "window-state-event", G_CALLBACK(on_window_state), NULL);
  update_state(w);
  bool has_screen = !g_str_equal(oriel_config_get(oriel_machine_get_config(w->machine), "card"), "none");
  oriel_machine_window_show_page(w, has_screen ? 0 : w->n_pages - 1);
}

static void oriel_machine_window_dispose(GObject *object)
{
  OrielMachineWindow *w = ORIEL_MACHINE_WINDOW(object);
  g_clear_handle_id(&w->toast_timer, g_source_remove);
  if (w->vm != NULL) {
    vm_remove_listener(w->vm, w->listener);
    w->vm = NULL;
  }
  G_OBJECT_CLASS(oriel_machine_window_parent_class)->dispose(object);
}

static void oriel_machine_window_class_init(OrielMachineWindowClass *klass)
{
  G_OBJECT_CLASS(klass)->dispose = oriel_machine_window_dispose;
}

static void oriel_machine_window_init(OrielMachineWindow *w)
{
  w->zoom = 1;
}

GtkWidget *oriel_machine_window_new(GtkApplication *app, OrielMachine *machine)
{
  OrielMachineWindow *w = g_object_new(ORIEL_TYPE_MACHINE_WINDOW, "application", app, NULL);
  w->machine = machine;
  w->vm = oriel_machine_get_vm(machine);
  gtk_window_set_title(GTK_WINDOW(w), oriel_machine_get_title(machine));
  oriel_machine_window_add_actions(w);
  build(w);
  oriel_machine_window_restore_choices(w);
  g_object_set_data(G_OBJECT(app), STATUS_KEY, machine);
  w->listener = vm_add_listener(w->vm, on_vm_event, w);
  gtk_application_inhibit(app, GTK_WINDOW(w), GTK_APPLICATION_INHIBIT_LOGOUT, _("A machine is running"));
  vm_start(w->vm);
  return GTK_WIDGET(w);
}

int oriel_machine_window_get_exit_status(GtkApplication *app)
{
  OrielMachine *machine = g_object_get_data(G_OBJECT(app), STATUS_KEY);
  return machine != NULL ? vm_get_exit_status(oriel_machine_get_vm(machine)) : 1;
}
