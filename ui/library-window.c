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
#include "app/settings.h"
#include "ui/new-machine-dialog.h"

#define UNDO_SECONDS  8
#define STATE_POLL_MS 1000

struct _OrielLibraryWindow {
  GtkApplicationWindow parent;
  GtkWidget *stack, *list, *search_bar, *search_entry, *toast, *toast_label, *undo_button;
  GFileMonitor *monitor;
  guint state_timer, undo_timer, refresh_idle;
  char *trashed_path, *trashed_name; /* what the undo would bring back */
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

static void show_toast(OrielLibraryWindow *w, const char *text, bool with_undo)
{
  gtk_label_set_text(GTK_LABEL(w->toast_label), text);
  gtk_widget_set_visible(w->undo_button, with_undo);
  gtk_revealer_set_reveal_child(GTK_REVEALER(w->toast), TRUE);
  g_clear_handle_id(&w->undo_timer, g_source_remove);
  w->undo_timer = g_timeout_add_seconds(UNDO_SECONDS, on_toast_timeout, w);
}

static void show_error(OrielLibraryWindow *w, const GError *error)
{
  purge_trashed(w);
  show_toast(w, error->message, false);
}

static void refresh(OrielLibraryWindow *w);

static void on_undo(GtkButton *button, gpointer data)
{
  OrielLibraryWindow *w = data;
  g_autoptr(GError) error = NULL;
  hide_toast(w);
  if (w->trashed_path != NULL && !oriel_library_restore(w->trashed_path, w->trashed_name, &error)) {
    show_toast(w, error->message, false);
    return;
  }
  g_clear_pointer(&w->trashed_path, g_free);
  g_clear_pointer(&w->trashed_name, g_free);
  refresh(w);
}

/* ---- a machine's doings ------------------------------------------------------------------------------------------------------ */

static void start_machine(OrielLibraryWindow *w, const char *name)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *program = g_file_read_link("/proc/self/exe", &error);
  const char *argv[] = { program, "run", name, NULL };
  if (oriel_library_is_running(name)) {
    show_toast(w, _("It is running already; see its own window"), false);
    return;
  }
  if (program == NULL || !g_spawn_async(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, &error))
    show_error(w, error);
}

static void remove_machine(OrielLibraryWindow *w, const char *name)
{
  g_autoptr(GError) error = NULL;
  purge_trashed(w);
  w->trashed_path = oriel_library_trash(name, &error);
  if (w->trashed_path == NULL) {
    show_error(w, error);
    return;
  }
  w->trashed_name = g_strdup(name);
  g_autofree char *text = g_strdup_printf(_("“%s” was removed"), name);
  show_toast(w, text, true);
  refresh(w);
}

static void rename_machine(OrielLibraryWindow *w, const char *name)
{
  GtkWidget *dialog =
      gtk_dialog_new_with_buttons(_("Rename"), GTK_WINDOW(w), GTK_DIALOG_MODAL | GTK_DIALOG_USE_HEADER_BAR,
                                  _("_Cancel"), GTK_RESPONSE_CANCEL, _("_Rename"), GTK_RESPONSE_OK, NULL);
  GtkWidget *entry = gtk_entry_new();
  g_autoptr(GError) error = NULL;
  gtk_dialog_set_default_response(GTK_DIALOG(dialog), GTK_RESPONSE_OK);
  gtk_entry_set_text(GTK_ENTRY(entry), name);
  gtk_entry_set_activates_default(GTK_ENTRY(entry), TRUE);
  atk_object_set_name(gtk_widget_get_accessible(entry), _("New name"));
  g_object_set(entry, "margin", 18, "width-chars", 30, NULL);
  gtk_container_add(GTK_CONTAINER(gtk_dialog_get_content_area(GTK_DIALOG(dialog))), entry);
  gtk_widget_show(entry);
  bool wanted = gtk_dialog_run(GTK_DIALOG(dialog)) == GTK_RESPONSE_OK;
  g_autofree char *new_name = g_strdup(gtk_entry_get_text(GTK_ENTRY(entry)));
  gtk_widget_destroy(dialog);
  if (wanted && !g_str_equal(new_name, name) && !oriel_library_rename(name, new_name, &error))
    show_error(w, error);
  refresh(w);
}

static void open_folder(OrielLibraryWindow *w, const char *name)
{
  g_autoptr(GError) error = NULL;
  g_autofree char *folder = oriel_library_dup_machine_path(name);
  g_autofree char *uri = g_filename_to_uri(folder, NULL, NULL);
  if (!gtk_show_uri_on_window(GTK_WINDOW(w), uri, GDK_CURRENT_TIME, &error))
    show_error(w, error);
}

/* Actions on a machine take its name. */
static void do_start(GSimpleAction *action, GVariant *name, gpointer data)
{
  start_machine(data, g_variant_get_string(name, NULL));
}
static void do_rename(GSimpleAction *action, GVariant *name, gpointer data)
{
  rename_machine(data, g_variant_get_string(name, NULL));
}
static void do_remove(GSimpleAction *action, GVariant *name, gpointer data)
{
  remove_machine(data, g_variant_get_string(name, NULL));
}
static void do_open_folder(GSimpleAction *action, GVariant *name, gpointer data)
{
  open_folder(data, g_variant_get_string(name, NULL));
}

static void do_new(GSimpleAction *action, GVariant *unused, gpointer data)
{
  OrielLibraryWindow *w = data;
  g_autofree char *name = oriel_new_machine_dialog_run(GTK_WINDOW(w));
  if (name != NULL)
    refresh(w);
}

static void do_about(GSimpleAction *action, GVariant *unused, gpointer data)
{
  gtk_show_about_dialog(GTK_WINDOW(data), "program-name", "Oriel", "version", ORIEL_VERSION, "comments",
                        _("Runs other operating systems in a window"), "license-type", GTK_LICENSE_LGPL_2_1,
                        "logo-icon-name", "org.oriel.Oriel", NULL);
}

/* ---- rows ------------------------------------------------------------------------------------------------------------------------ */

static char *describe(const char *name)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(OrielConfig) config = oriel_library_load(name, &error);
  if (config == NULL)
    return g_strdup(error->message);
  g_autofree char *memory = oriel_format_size(oriel_config_get_number(config, "memory"));
  guint cpus = (guint)oriel_config_get_number(config, "cpus");
  g_autofree char *text =
      g_strdup_printf(ngettext("%s memory, %u processor", "%s memory, %u processors", cpus), memory, cpus);
  const char *title = oriel_config_get(config, "title");
  return title ? g_strdup_printf("%s — %s", title, text) : g_steal_pointer(&text);
}

static GtkWidget *new_row_menu(const char *name)
{
  static const struct {
    const char *label, *action;
  } items[] = { { N_("Rename…"), "win.rename" },
                { N_("Open Folder"), "win.open-folder" },
                { N_("Remove"), "win.remove" } };
  g_autoptr(GMenu) menu = g_menu_new();
  for (size_t i = 0; i < G_N_ELEMENTS(items); i++) {
    g_autoptr(GMenuItem) item = g_menu_item_new(_(items[i].label), NULL);
    g_menu_item_set_action_and_target(item, items[i].action, "s", name);
    g_menu_append_item(menu, item);
  }
  GtkWidget *button = gtk_menu_button_new();
  gtk_menu_button_set_menu_model(GTK_MENU_BUTTON(button), G_MENU_MODEL(menu));
  gtk_button_set_image(GTK_BUTTON(button), gtk_image_new_from_icon_name("view-more-symbolic", GTK_ICON_SIZE_BUTTON));
  gtk_button_set_relief(GTK_BUTTON(button), GTK_RELIEF_NONE);
  gtk_widget_set_tooltip_text(button, _("More"));
  g_autofree char *label = g_strdup_printf(_("More for %s"), name);
  atk_object_set_name(gtk_widget_get_accessible(button), label);
  return button;
}

static void update_row_state(GtkWidget *row)
{
  const char *name = g_object_get_data(G_OBJECT(row), "name");
  GtkWidget *state = g_object_get_data(G_OBJECT(row), "state"), *start = g_object_get_data(G_OBJECT(row), "start");
  bool running = oriel_library_is_running(name);
  gtk_label_set_text(GTK_LABEL(state), running ? _("running") : "");
  gtk_widget_set_sensitive(start, !running);
}

static GtkWidget *new_start_button(const char *name)
{
  GtkWidget *start = gtk_button_new_from_icon_name("media-playback-start-symbolic", GTK_ICON_SIZE_BUTTON);
  g_autofree char *label = g_strdup_printf(_("Start %s"), name);
  gtk_actionable_set_action_name(GTK_ACTIONABLE(start), "win.start");
  gtk_actionable_set_action_target(GTK_ACTIONABLE(start), "s", name);
  gtk_widget_set_tooltip_text(start, _("Start"));
  gtk_widget_set_valign(start, GTK_ALIGN_CENTER);
  atk_object_set_name(gtk_widget_get_accessible(start), label);
  return start;
}

static GtkWidget *new_row(const char *name)
{
  GtkWidget *row = gtk_list_box_row_new(), *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
  GtkWidget *texts = gtk_box_new(GTK_ORIENTATION_VERTICAL, 2), *title = gtk_label_new(NULL),
            *state = gtk_label_new(NULL);
  g_autofree char *text = describe(name);
  g_autofree char *markup = g_markup_printf_escaped("<b>%s</b>", name);
  GtkWidget *detail = gtk_label_new(text), *start = new_start_button(name);
  gtk_label_set_markup(GTK_LABEL(title), markup);
  gtk_label_set_xalign(GTK_LABEL(title), 0);
  gtk_label_set_xalign(GTK_LABEL(detail), 0);
  gtk_label_set_ellipsize(GTK_LABEL(detail), PANGO_ELLIPSIZE_END);
  gtk_style_context_add_class(gtk_widget_get_style_context(detail), "dim-label");
  gtk_style_context_add_class(gtk_widget_get_style_context(state), "dim-label");
  g_object_set(box, "margin", 10, NULL);
  gtk_box_pack_start(GTK_BOX(texts), title, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(texts), detail, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), gtk_image_new_from_icon_name("computer-symbolic", GTK_ICON_SIZE_DND), FALSE, FALSE,
                     0);
  gtk_box_pack_start(GTK_BOX(box), texts, TRUE, TRUE, 0);
  gtk_box_pack_start(GTK_BOX(box), state, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), start, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), new_row_menu(name), FALSE, FALSE, 0);
  gtk_container_add(GTK_CONTAINER(row), box);
  g_object_set_data_full(G_OBJECT(row), "name", g_strdup(name), g_free);
  g_object_set_data(G_OBJECT(row), "state", state);
  g_object_set_data(G_OBJECT(row), "start", start);
  atk_object_set_name(gtk_widget_get_accessible(row), name);
  update_row_state(row);
  gtk_widget_show_all(row);
  return row;
}

static void destroy_row(GtkWidget *row, gpointer unused)
{
  gtk_widget_destroy(row);
}

static void refresh(OrielLibraryWindow *w)
{
  g_auto(GStrv) names = oriel_library_list();
  gtk_container_foreach(GTK_CONTAINER(w->list), destroy_row, NULL);
  for (char **name = names; *name != NULL; name++)
    gtk_container_add(GTK_CONTAINER(w->list), new_row(*name));
  gtk_stack_set_visible_child_name(GTK_STACK(w->stack), *names ? "list" : "empty");
}

static gboolean refresh_when_idle(gpointer data)
{
  OrielLibraryWindow *w = data;
  w->refresh_idle = 0;
  refresh(w);
  return G_SOURCE_REMOVE;
}

static void on_folder_changed(GFileMonitor *monitor, GFile *file, GFile *other, GFileMonitorEvent event, gpointer data)
{
  OrielLibraryWindow *w = data;
  if (event != G_FILE_MONITOR_EVENT_CREATED && event != G_FILE_MONITOR_EVENT_DELETED &&
      event != G_FILE_MONITOR_EVENT_RENAMED && event != G_FILE_MONITOR_EVENT_MOVED_IN &&
      event != G_FILE_MONITOR_EVENT_MOVED_OUT)
    return;
  if (w->refresh_idle == 0)
    w->refresh_idle = g_idle_add(refresh_when_idle, w);
}

static void update_row(GtkWidget *row, gpointer unused)
{
  update_row_state(row);
}

static gboolean on_state_timer(gpointer data)
{
  OrielLibraryWindow *w = data;
  gtk_container_foreach(GTK_CONTAINER(w->list), update_row, NULL);
  return G_SOURCE_CONTINUE;
}

static void on_row_activated(GtkListBox *list, GtkListBoxRow *row, gpointer data)
{
  start_machine(data, g_object_get_data(G_OBJECT(row), "name"));
}

static gboolean matches_search(GtkListBoxRow *row, gpointer data)
{
  OrielLibraryWindow *w = data;
  g_autofree char *wanted = g_utf8_casefold(gtk_entry_get_text(GTK_ENTRY(w->search_entry)), -1);
  g_autofree char *name = g_utf8_casefold(g_object_get_data(G_OBJECT(row), "name"), -1);
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
  gtk_label_set_line_wrap(GTK_LABEL(w->toast_label), TRUE);
  gtk_style_context_add_class(gtk_widget_get_style_context(frame), "app-notification");
  gtk_box_pack_start(GTK_BOX(box), w->toast_label, TRUE, TRUE, 6);
  gtk_box_pack_start(GTK_BOX(box), w->undo_button, FALSE, FALSE, 0);
  gtk_container_add(GTK_CONTAINER(frame), box);
  gtk_container_add(GTK_CONTAINER(w->toast), frame);
  gtk_widget_set_halign(w->toast, GTK_ALIGN_CENTER);
  gtk_widget_set_valign(w->toast, GTK_ALIGN_START);
  g_signal_connect(w->undo_button, "clicked", G_CALLBACK(on_undo), w);
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
  return g_object_new(ORIEL_TYPE_LIBRARY_WINDOW, "application", app, NULL);
}
