/*
 * The library's window. See library-window.h.
 *
 * Rows follow the library's folder by a file monitor; what runs is looked at every second, by the locks that running
 * machines hold, so a machine that was killed is seen to be gone.
 */
#include "ui/library-window.h"

#include <gio/gio.h>
#include <glib/gi18n.h>

#include "app/control.h"
#include "app/library.h"
#include "ui/launch.h"
#include "ui/library-row.h"
#include "ui/new-machine-dialog.h"

#define UNDO_SECONDS  8
#define STATE_POLL_MS 1000

struct _OrielLibraryWindow {
  GtkApplicationWindow parent;
  GtkWidget *stack, *list, *search_bar, *search_entry, *toast, *toast_label, *undo_button;
  GFileMonitor *monitor;
  guint state_timer, undo_timer, refresh_idle;
  char *trashed_path, *trashed_name; /* what the undo would bring back */
  char *wanted_name;                 /* to be selected by the next refresh; NULL: as it is */
};

G_DEFINE_TYPE(OrielLibraryWindow, oriel_library_window, GTK_TYPE_APPLICATION_WINDOW)

/* ---- toasts and the trash ------------------------------------------------------------------------------------------------- */

static void hide_toast(OrielLibraryWindow *w)
{
  gtk_revealer_set_reveal_child(GTK_REVEALER(w->toast), FALSE);
  g_clear_handle_id(&w->undo_timer, g_source_remove);
}

/* The undo has run out: what is in the trash goes for good. */
static void purge_trashed(OrielLibraryWindow *w)
{
  if (w->trashed_path != NULL)
    (void)!oriel_library_purge(w->trashed_path, false, NULL);
  g_clear_pointer(&w->trashed_path, g_free);
  g_clear_pointer(&w->trashed_name, g_free);
}

static gboolean on_toast_timeout(gpointer data)
{
  OrielLibraryWindow *w = data;
  w->undo_timer = 0;
  purge_trashed(w);
  hide_toast(w);
  return G_SOURCE_REMOVE;
}

static void on_dismiss(GtkButton *button, gpointer data)
{
  purge_trashed(data);
  hide_toast(data);
}

static void show_toast(OrielLibraryWindow *w, const char *text, bool with_undo)
{
  gtk_label_set_text(GTK_LABEL(w->toast_label), text);
  gtk_widget_set_visible(w->undo_button, with_undo);
  gtk_revealer_set_reveal_child(GTK_REVEALER(w->toast), TRUE);
  g_clear_handle_id(&w->undo_timer, g_source_remove);
  w->undo_timer = g_timeout_add_seconds(UNDO_SECONDS, on_toast_timeout, w);
}

void oriel_library_window_show_message(OrielLibraryWindow *w, const char *text)
{
  purge_trashed(w);
  show_toast(w, text, false);
}

static void queue_refresh(OrielLibraryWindow *w);

static void on_undo(GtkButton *button, gpointer data)
{
  OrielLibraryWindow *w = data;
  g_autoptr(GError) error = NULL;
  hide_toast(w);
  if (w->trashed_path != NULL && !oriel_library_restore(w->trashed_path, w->trashed_name, &error)) {
    show_toast(w, error->message, false);
    return;
  }
  w->wanted_name = g_steal_pointer(&w->trashed_name);
  g_clear_pointer(&w->trashed_path, g_free);
  queue_refresh(w);
}

/* ---- a machine's doings ------------------------------------------------------------------------------------------------------ */

static void on_launch_failed(const char *message, gpointer data)
{
  OrielLibraryWindow *w = data;
  if (w->list != NULL) /* not closed meanwhile */
    oriel_library_window_show_message(w, message);
}

static void start_machine(OrielLibraryWindow *w, const char *name)
{
  if (oriel_library_is_running(name))
    oriel_library_window_show_message(w, _("It is running already; see its own window"));
  else
    oriel_launch(G_APPLICATION(gtk_window_get_application(GTK_WINDOW(w))), name, on_launch_failed, G_OBJECT(w));
}

typedef struct ControlCall {
  char *path;
  const char *command;
} ControlCall;

static void free_control_call(gpointer data)
{
  ControlCall *c = data;
  g_free(c->path);
  g_free(c);
}

/* In a thread: the machine may take its time to answer. */
static void call_control(GTask *task, gpointer window, gpointer data, GCancellable *cancellable)
{
  const ControlCall *c = data;
  g_autoptr(GError) error = NULL;
  g_autofree char *answer = oriel_control_call(c->path, c->command, NULL, &error);
  if (answer != NULL)
    g_task_return_boolean(task, TRUE);
  else
    g_task_return_error(task, g_steal_pointer(&error));
}

static void on_control_answer(GObject *window, GAsyncResult *result, gpointer unused)
{
  g_autoptr(GError) error = NULL;
  if (!g_task_propagate_boolean(G_TASK(result), &error))
    on_launch_failed(error->message, window);
}

static void control_machine(OrielLibraryWindow *w, const char *name, const char *command)
{
  ControlCall *c = g_new(ControlCall, 1);
  g_autoptr(GTask) task = g_task_new(w, NULL, on_control_answer, NULL);
  *c = (ControlCall){ oriel_library_dup_control_path(name), command };
  g_task_set_task_data(task, c, free_control_call);
  g_task_run_in_thread(task, call_control);
}

static void remove_machine(OrielLibraryWindow *w, const char *name)
{
  g_autoptr(GError) error = NULL;
  purge_trashed(w);
  w->trashed_path = oriel_library_trash(name, &error);
  if (w->trashed_path == NULL) {
    oriel_library_window_show_message(w, error->message);
    return;
  }
  w->trashed_name = g_strdup(name);
  g_autofree char *text = g_strdup_printf(_("“%s” was removed"), name);
  show_toast(w, text, true);
  queue_refresh(w);
}

typedef struct RenameDialog {
  GtkWidget *dialog, *entry, *error;
} RenameDialog;

static void build_rename_dialog(RenameDialog *r, GtkWindow *parent, const char *name)
{
  GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 10), *label = gtk_label_new_with_mnemonic(_("_New name"));
  r->dialog = gtk_dialog_new_with_buttons(_("Rename"), parent, GTK_DIALOG_MODAL | GTK_DIALOG_USE_HEADER_BAR,
                                          _("_Cancel"), GTK_RESPONSE_CANCEL, _("_Rename"), GTK_RESPONSE_OK, NULL);
  gtk_dialog_set_default_response(GTK_DIALOG(r->dialog), GTK_RESPONSE_OK);
  gtk_window_set_resizable(GTK_WINDOW(r->dialog), FALSE);
  r->entry = gtk_entry_new();
  r->error = gtk_label_new(NULL);
  gtk_entry_set_text(GTK_ENTRY(r->entry), name);
  gtk_entry_set_activates_default(GTK_ENTRY(r->entry), TRUE);
  gtk_entry_set_width_chars(GTK_ENTRY(r->entry), 32);
  gtk_label_set_mnemonic_widget(GTK_LABEL(label), r->entry);
  atk_object_set_name(gtk_widget_get_accessible(r->entry), gtk_label_get_text(GTK_LABEL(label)));
  gtk_label_set_xalign(GTK_LABEL(label), 0);
  gtk_label_set_xalign(GTK_LABEL(r->error), 0);
  gtk_label_set_line_wrap(GTK_LABEL(r->error), TRUE);
  gtk_label_set_max_width_chars(GTK_LABEL(r->error), 40);
  gtk_style_context_add_class(gtk_widget_get_style_context(r->error), "error");
  g_object_set(box, "margin", 18, NULL);
  gtk_container_add(GTK_CONTAINER(box), label);
  gtk_container_add(GTK_CONTAINER(box), r->entry);
  gtk_container_add(GTK_CONTAINER(box), r->error);
  gtk_container_add(GTK_CONTAINER(gtk_dialog_get_content_area(GTK_DIALOG(r->dialog))), box);
  gtk_widget_show_all(box);
  gtk_widget_hide(r->error);
}

/* An error stays in the dialog, beside what was typed. */
static void rename_machine(OrielLibraryWindow *w, const char *name)
{
  RenameDialog r;
  bool done = false;
  build_rename_dialog(&r, GTK_WINDOW(w), name);
  while (!done && gtk_dialog_run(GTK_DIALOG(r.dialog)) == GTK_RESPONSE_OK) {
    g_autoptr(GError) error = NULL;
    const char *new_name = gtk_entry_get_text(GTK_ENTRY(r.entry));
    done = g_str_equal(new_name, name) || oriel_library_rename(name, new_name, &error);
    if (done) {
      g_free(w->wanted_name);
      w->wanted_name = g_strdup(new_name);
    } else {
      gtk_label_set_text(GTK_LABEL(r.error), error->message);
      gtk_widget_show(r.error);
    }
  }
  gtk_widget_destroy(r.dialog);
  queue_refresh(w);
}

static void open_folder(OrielLibraryWindow *w, const char *name)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *folder = oriel_library_dup_machine_path(name);
  g_autofree char *uri = g_filename_to_uri(folder, NULL, NULL);
  if (!gtk_show_uri_on_window(GTK_WINDOW(w), uri, GDK_CURRENT_TIME, &error))
    oriel_library_window_show_message(w, error->message);
}

/* Actions on a machine take its name. */
static void do_start(GSimpleAction *action, GVariant *name, gpointer data)
{
  start_machine(data, g_variant_get_string(name, NULL));
}
/* Dialogs wait in a loop of their own, so they are opened when what asked for them is over: an assistive technology's call that
 * still waited for its answer would get no other. */
typedef struct Later {
  OrielLibraryWindow *window;
  char *name;
} Later;

static void free_later(gpointer data)
{
  Later *l = data;
  g_object_unref(l->window);
  g_free(l->name);
  g_free(l);
}

static void do_later(OrielLibraryWindow *w, const char *name, GSourceFunc func)
{
  Later *l = g_new(Later, 1);
  *l = (Later){ g_object_ref(w), g_strdup(name) };
  g_idle_add_full(G_PRIORITY_DEFAULT, func, l, free_later);
}

static gboolean rename_later(gpointer data)
{
  Later *l = data;
  rename_machine(l->window, l->name);
  return G_SOURCE_REMOVE;
}

static void do_rename(GSimpleAction *action, GVariant *name, gpointer data)
{
  do_later(data, g_variant_get_string(name, NULL), rename_later);
}
static void do_remove(GSimpleAction *action, GVariant *name, gpointer data)
{
  remove_machine(data, g_variant_get_string(name, NULL));
}
static void do_open_folder(GSimpleAction *action, GVariant *name, gpointer data)
{
  open_folder(data, g_variant_get_string(name, NULL));
}

static void do_power_button(GSimpleAction *action, GVariant *name, gpointer data)
{
  control_machine(data, g_variant_get_string(name, NULL), "system_powerdown");
}
static void do_power_off(GSimpleAction *action, GVariant *name, gpointer data)
{
  control_machine(data, g_variant_get_string(name, NULL), "quit");
}

static void do_search(GSimpleAction *action, GVariant *unused, gpointer data)
{
  OrielLibraryWindow *w = data;
  gtk_search_bar_set_search_mode(GTK_SEARCH_BAR(w->search_bar), TRUE);
}

static void do_close(GSimpleAction *action, GVariant *unused, gpointer data)
{
  gtk_window_close(GTK_WINDOW(data));
}

static gboolean new_later(gpointer data)
{
  OrielLibraryWindow *w = ((Later *)data)->window;
  char *name = oriel_new_machine_dialog_run(GTK_WINDOW(w));
  if (name != NULL) {
    g_free(w->wanted_name);
    w->wanted_name = name;
    queue_refresh(w);
  }
  return G_SOURCE_REMOVE;
}

static void do_new(GSimpleAction *action, GVariant *unused, gpointer data)
{
  do_later(data, NULL, new_later);
}

static void do_about(GSimpleAction *action, GVariant *unused, gpointer data)
{
  gtk_show_about_dialog(GTK_WINDOW(data), "program-name", "Oriel", "version", ORIEL_VERSION, "comments",
                        _("Runs other operating systems in a window"), "license-type", GTK_LICENSE_LGPL_2_1,
                        "logo-icon-name", "org.oriel.Oriel", NULL);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------------------ */

static void destroy_row(GtkWidget *row, gpointer unused)
{
  gtk_widget_destroy(row);
}

static GtkWidget *find_row(OrielLibraryWindow *w, const char *name)
{
  g_autoptr(GList) rows = gtk_container_get_children(GTK_CONTAINER(w->list));
  for (GList *at = rows; at != NULL; at = at->next)
    if (g_str_equal(oriel_library_row_get_name(at->data), name))
      return at->data;
  return NULL;
}

/* Makes the rows anew; the selection stays with its machine. */
static void refresh(OrielLibraryWindow *w)
{
  g_auto(GStrv) names = oriel_library_list();
  GtkListBoxRow *selected = gtk_list_box_get_selected_row(GTK_LIST_BOX(w->list));
  g_autofree char *name = g_strdup(w->wanted_name ? w->wanted_name
                                   : selected     ? oriel_library_row_get_name(GTK_WIDGET(selected))
                                                  : NULL);
  g_clear_pointer(&w->wanted_name, g_free);
  gtk_container_foreach(GTK_CONTAINER(w->list), destroy_row, NULL);
  for (char **at = names; *at != NULL; at++)
    gtk_container_add(GTK_CONTAINER(w->list), oriel_library_row_new(*at));
  gtk_stack_set_visible_child_name(GTK_STACK(w->stack), *names ? "list" : "empty");
  GtkWidget *row = name ? find_row(w, name) : NULL;
  if (row == NULL)
    return;
  gtk_list_box_select_row(GTK_LIST_BOX(w->list), GTK_LIST_BOX_ROW(row));
  gtk_widget_grab_focus(row);
}

static gboolean refresh_when_idle(gpointer data)
{
  OrielLibraryWindow *w = data;
  w->refresh_idle = 0;
  refresh(w);
  return G_SOURCE_REMOVE;
}

/* Not at once: what asks for it may be a row's own menu, which a refresh destroys. */
static void queue_refresh(OrielLibraryWindow *w)
{
  if (w->refresh_idle == 0)
    w->refresh_idle = g_idle_add(refresh_when_idle, w);
}

static void on_folder_changed(GFileMonitor *monitor, GFile *file, GFile *other, GFileMonitorEvent event, gpointer data)
{
  OrielLibraryWindow *w = data;
  if (event != G_FILE_MONITOR_EVENT_CREATED && event != G_FILE_MONITOR_EVENT_DELETED &&
      event != G_FILE_MONITOR_EVENT_RENAMED && event != G_FILE_MONITOR_EVENT_MOVED_IN &&
      event != G_FILE_MONITOR_EVENT_MOVED_OUT)
    return;
  queue_refresh(w);
}

static void update_row(GtkWidget *row, gpointer unused)
{
  oriel_library_row_update(row);
}

static gboolean on_state_timer(gpointer data)
{
  OrielLibraryWindow *w = data;
  gtk_container_foreach(GTK_CONTAINER(w->list), update_row, NULL);
  return G_SOURCE_CONTINUE;
}

static void on_row_activated(GtkListBox *list, GtkListBoxRow *row, gpointer data)
{
  start_machine(data, oriel_library_row_get_name(GTK_WIDGET(row)));
}

static gboolean on_menu_key(GtkWidget *list, gpointer unused)
{
  GtkListBoxRow *row = gtk_list_box_get_selected_row(GTK_LIST_BOX(list));
  if (row != NULL)
    oriel_library_row_open_menu(GTK_WIDGET(row));
  return row != NULL;
}

static gboolean on_list_button(GtkWidget *list, GdkEventButton *event, gpointer unused)
{
  GtkListBoxRow *row = gtk_list_box_get_row_at_y(GTK_LIST_BOX(list), (int)event->y);
  if (row == NULL || !gdk_event_triggers_context_menu((GdkEvent *)event))
    return FALSE;
  gtk_list_box_select_row(GTK_LIST_BOX(list), row);
  oriel_library_row_open_menu(GTK_WIDGET(row));
  return TRUE;
}

static gboolean on_list_key(GtkWidget *list, GdkEventKey *event, gpointer data)
{
  GtkWidget *row = gtk_container_get_focus_child(GTK_CONTAINER(list));
  const char *action = event->keyval == GDK_KEY_F2 ? "rename" : event->keyval == GDK_KEY_Delete ? "remove" : NULL;
  if (row == NULL || action == NULL)
    return FALSE;
  g_action_group_activate_action(G_ACTION_GROUP(data), action, g_variant_new_string(oriel_library_row_get_name(row)));
  return TRUE;
}

/* Typing anywhere searches. */
static gboolean on_window_key(GtkWidget *window, GdkEvent *event, gpointer unused)
{
  OrielLibraryWindow *w = ORIEL_LIBRARY_WINDOW(window);
  return gtk_window_propagate_key_event(GTK_WINDOW(w), &event->key) ||
         gtk_search_bar_handle_event(GTK_SEARCH_BAR(w->search_bar), event);
}

static gboolean matches_search(GtkListBoxRow *row, gpointer data)
{
  OrielLibraryWindow *w = data;
  g_autofree char *wanted = g_utf8_casefold(gtk_entry_get_text(GTK_ENTRY(w->search_entry)), -1);
  g_autofree char *name = g_utf8_casefold(oriel_library_row_get_name(GTK_WIDGET(row)), -1);
  return strstr(name, wanted) != NULL;
}

/* ---- building ---------------------------------------------------------------------------------------------------------------------- */

static void add_header(OrielLibraryWindow *w)
{
  GtkWidget *header = gtk_header_bar_new();
  GtkWidget *add = gtk_button_new_from_icon_name("list-add-symbolic", GTK_ICON_SIZE_BUTTON);
  GtkWidget *search = gtk_toggle_button_new(), *menu_button = gtk_menu_button_new();
  gtk_header_bar_set_show_close_button(GTK_HEADER_BAR(header), TRUE);
  gtk_header_bar_set_title(GTK_HEADER_BAR(header), "Oriel");
  gtk_actionable_set_action_name(GTK_ACTIONABLE(add), "win.new");
  gtk_widget_set_tooltip_text(add, _("New machine"));
  atk_object_set_name(gtk_widget_get_accessible(add), _("New machine"));
  gtk_button_set_image(GTK_BUTTON(search), gtk_image_new_from_icon_name("edit-find-symbolic", GTK_ICON_SIZE_BUTTON));
  gtk_widget_set_tooltip_text(search, _("Search"));
  atk_object_set_name(gtk_widget_get_accessible(search), _("Search"));
  g_object_bind_property(search, "active", w->search_bar, "search-mode-enabled", G_BINDING_BIDIRECTIONAL);
  g_autoptr(GMenu) menu = g_menu_new();
  g_menu_append(menu, _("About Oriel"), "win.about");
  gtk_menu_button_set_menu_model(GTK_MENU_BUTTON(menu_button), G_MENU_MODEL(menu));
  gtk_button_set_image(GTK_BUTTON(menu_button),
                       gtk_image_new_from_icon_name("open-menu-symbolic", GTK_ICON_SIZE_BUTTON));
  gtk_widget_set_tooltip_text(menu_button, _("Menu"));
  atk_object_set_name(gtk_widget_get_accessible(menu_button), _("Menu"));
  gtk_header_bar_pack_start(GTK_HEADER_BAR(header), add);
  gtk_header_bar_pack_end(GTK_HEADER_BAR(header), menu_button);
  gtk_header_bar_pack_end(GTK_HEADER_BAR(header), search);
  gtk_widget_show_all(header);
  gtk_window_set_titlebar(GTK_WINDOW(w), header);
}

static GtkWidget *new_empty_page(void)
{
  GtkWidget *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 12),
            *image = gtk_image_new_from_icon_name("computer-symbolic", GTK_ICON_SIZE_DIALOG);
  GtkWidget *title = gtk_label_new(NULL),
            *text = gtk_label_new(_("A machine runs another operating system in a window."));
  GtkWidget *button = gtk_button_new_with_mnemonic(_("_New Machine…"));
  g_autofree char *markup = g_markup_printf_escaped("<big><b>%s</b></big>", _("No machines yet"));
  gtk_label_set_markup(GTK_LABEL(title), markup);
  gtk_image_set_pixel_size(GTK_IMAGE(image), 96);
  gtk_style_context_add_class(gtk_widget_get_style_context(image), "dim-label");
  gtk_style_context_add_class(gtk_widget_get_style_context(button), "suggested-action");
  gtk_actionable_set_action_name(GTK_ACTIONABLE(button), "win.new");
  gtk_widget_set_halign(button, GTK_ALIGN_CENTER);
  gtk_widget_set_valign(box, GTK_ALIGN_CENTER);
  gtk_container_add(GTK_CONTAINER(box), image);
  gtk_container_add(GTK_CONTAINER(box), title);
  gtk_container_add(GTK_CONTAINER(box), text);
  gtk_container_add(GTK_CONTAINER(box), button);
  return box;
}

static GtkWidget *new_toast(OrielLibraryWindow *w)
{
  GtkWidget *frame = gtk_frame_new(NULL), *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 18);
  w->toast = gtk_revealer_new();
  w->toast_label = gtk_label_new(NULL);
  w->undo_button = gtk_button_new_with_mnemonic(_("_Undo"));
  GtkWidget *close = gtk_button_new_from_icon_name("window-close-symbolic", GTK_ICON_SIZE_BUTTON);
  gtk_button_set_relief(GTK_BUTTON(close), GTK_RELIEF_NONE);
  gtk_widget_set_tooltip_text(close, _("Dismiss"));
  atk_object_set_name(gtk_widget_get_accessible(close), _("Dismiss"));
  gtk_label_set_line_wrap(GTK_LABEL(w->toast_label), TRUE);
  gtk_style_context_add_class(gtk_widget_get_style_context(frame), "app-notification");
  gtk_box_pack_start(GTK_BOX(box), w->toast_label, TRUE, TRUE, 6);
  gtk_box_pack_start(GTK_BOX(box), w->undo_button, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), close, FALSE, FALSE, 0);
  gtk_container_add(GTK_CONTAINER(frame), box);
  gtk_container_add(GTK_CONTAINER(w->toast), frame);
  gtk_widget_set_halign(w->toast, GTK_ALIGN_CENTER);
  gtk_widget_set_valign(w->toast, GTK_ALIGN_START);
  g_signal_connect(w->undo_button, "clicked", G_CALLBACK(on_undo), w);
  g_signal_connect(close, "clicked", G_CALLBACK(on_dismiss), w);
  return w->toast;
}

static void add_content(OrielLibraryWindow *w)
{
  GtkWidget *overlay = gtk_overlay_new(), *box = gtk_box_new(GTK_ORIENTATION_VERTICAL, 0),
            *scroller = gtk_scrolled_window_new(NULL, NULL);
  w->search_bar = gtk_search_bar_new();
  w->search_entry = gtk_search_entry_new();
  w->stack = gtk_stack_new();
  w->list = gtk_list_box_new();
  gtk_container_add(GTK_CONTAINER(w->search_bar), w->search_entry);
  gtk_search_bar_connect_entry(GTK_SEARCH_BAR(w->search_bar), GTK_ENTRY(w->search_entry));
  gtk_list_box_set_filter_func(GTK_LIST_BOX(w->list), matches_search, w, NULL);
  atk_object_set_name(gtk_widget_get_accessible(w->list), _("Machines"));
  atk_object_set_name(gtk_widget_get_accessible(w->search_entry), _("Search"));
  GtkWidget *nothing = gtk_label_new(_("No machine has such a name"));
  g_object_set(nothing, "margin", 24, "visible", TRUE, NULL);
  gtk_style_context_add_class(gtk_widget_get_style_context(nothing), "dim-label");
  gtk_list_box_set_placeholder(GTK_LIST_BOX(w->list), nothing);
  gtk_container_add(GTK_CONTAINER(scroller), w->list);
  GtkWidget *empty = new_empty_page();
  gtk_widget_show_all(scroller);
  gtk_widget_show_all(empty);
  gtk_stack_add_named(GTK_STACK(w->stack), scroller, "list");
  gtk_stack_add_named(GTK_STACK(w->stack), empty, "empty");
  gtk_box_pack_start(GTK_BOX(box), w->search_bar, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), w->stack, TRUE, TRUE, 0);
  gtk_container_add(GTK_CONTAINER(overlay), box);
  gtk_overlay_add_overlay(GTK_OVERLAY(overlay), new_toast(w));
  gtk_container_add(GTK_CONTAINER(w), overlay);
  gtk_widget_show_all(overlay);
  g_signal_connect(w->list, "row-activated", G_CALLBACK(on_row_activated), w);
  g_signal_connect(w->list, "popup-menu", G_CALLBACK(on_menu_key), w);
  g_signal_connect(w->list, "button-press-event", G_CALLBACK(on_list_button), w);
  g_signal_connect(w->list, "key-press-event", G_CALLBACK(on_list_key), w);
  g_signal_connect(w, "key-press-event", G_CALLBACK(on_window_key), NULL);
  g_signal_connect_swapped(w->search_entry, "search-changed", G_CALLBACK(gtk_list_box_invalidate_filter), w->list);
}

static void watch_folder(OrielLibraryWindow *w)
{
  g_autofree char *path = oriel_library_dup_path();
  g_autoptr(GFile) folder = g_file_new_for_path(path);
  g_mkdir_with_parents(path, 0755);
  w->monitor = g_file_monitor_directory(folder, G_FILE_MONITOR_WATCH_MOVES, NULL, NULL);
  if (w->monitor != NULL)
    g_signal_connect(w->monitor, "changed", G_CALLBACK(on_folder_changed), w);
  w->state_timer = g_timeout_add(STATE_POLL_MS, on_state_timer, w);
}

static void oriel_library_window_dispose(GObject *object)
{
  OrielLibraryWindow *w = ORIEL_LIBRARY_WINDOW(object);
  g_clear_handle_id(&w->state_timer, g_source_remove);
  g_clear_handle_id(&w->undo_timer, g_source_remove);
  g_clear_handle_id(&w->refresh_idle, g_source_remove);
  g_clear_object(&w->monitor);
  purge_trashed(w);
  g_clear_pointer(&w->wanted_name, g_free);
  w->list = NULL;
  G_OBJECT_CLASS(oriel_library_window_parent_class)->dispose(object);
}

static void oriel_library_window_class_init(OrielLibraryWindowClass *klass)
{
  G_OBJECT_CLASS(klass)->dispose = oriel_library_window_dispose;
}

static void oriel_library_window_init(OrielLibraryWindow *w)
{
  static const GActionEntry entries[] = {
    { .name = "new", .activate = do_new },
    { .name = "about", .activate = do_about },
    { .name = "search", .activate = do_search },
    { .name = "close", .activate = do_close },
    { .name = "power-button", .activate = do_power_button, .parameter_type = "s" },
    { .name = "power-off", .activate = do_power_off, .parameter_type = "s" },
    { .name = "start", .activate = do_start, .parameter_type = "s" },
    { .name = "rename", .activate = do_rename, .parameter_type = "s" },
    { .name = "remove", .activate = do_remove, .parameter_type = "s" },
    { .name = "open-folder", .activate = do_open_folder, .parameter_type = "s" },
  };
  g_action_map_add_action_entries(G_ACTION_MAP(w), entries, G_N_ELEMENTS(entries), w);
  gtk_window_set_default_size(GTK_WINDOW(w), 640, 480);
  gtk_window_set_title(GTK_WINDOW(w), "Oriel");
  add_content(w);
  add_header(w);
  watch_folder(w);
  refresh(w);
}

GtkWidget *oriel_library_window_new(GtkApplication *app)
{
  static const struct {
    const char *action, *keys[3];
  } accelerators[] = {
    { "win.new", { "<Primary>n" } },
    { "win.search", { "<Primary>f" } },
    { "win.close", { "<Primary>w", "<Primary>q" } },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(accelerators); i++)
    gtk_application_set_accels_for_action(app, accelerators[i].action, accelerators[i].keys);
  return g_object_new(ORIEL_TYPE_LIBRARY_WINDOW, "application", app, NULL);
}
