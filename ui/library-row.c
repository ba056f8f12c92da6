/* See library-row.h. */
#include "ui/library-row.h"

#include <glib/gi18n.h>

#include "app/library.h"
#include "app/settings.h"

#define ROW_KEY "oriel-row"

typedef struct Row {
  char *name;
  GtkWidget *state, *start, *menu_button;
  bool running;
} Row;

static void free_row(gpointer data)
{
  Row *r = data;
  g_free(r->name);
  g_free(r);
}

static Row *row_of(GtkWidget *row)
{
  return g_object_get_data(G_OBJECT(row), ROW_KEY);
}

/* What the machine is made of, or what is wrong with its settings. */
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

typedef struct MenuRow {
  const char *label, *action;
} MenuRow;

static GMenuModel *new_section(const char *name, const MenuRow *rows, size_t n)
{
  GMenu *section = g_menu_new();
  for (size_t i = 0; i < n; i++) {
    g_autoptr(GMenuItem) item = g_menu_item_new(_(rows[i].label), NULL);
    g_menu_item_set_action_and_target(item, rows[i].action, "s", name);
    g_menu_append_item(section, item);
  }
  return G_MENU_MODEL(section);
}

static GMenuModel *new_menu(const char *name, bool running)
{
  static const MenuRow stopped_rows[] = { { N_("Start"), "win.start" } };
  static const MenuRow running_rows[] = { { N_("Press the Power Button"), "win.power-button" },
                                          { N_("Power Off"), "win.power-off" } };
  static const MenuRow common_rows[] = { { N_("Rename…"), "win.rename" },
                                         { N_("Open Folder"), "win.open-folder" },
                                         { N_("Remove"), "win.remove" } };
  GMenu *menu = g_menu_new();
  g_autoptr(GMenuModel) power = running ? new_section(name, running_rows, G_N_ELEMENTS(running_rows))
                                        : new_section(name, stopped_rows, G_N_ELEMENTS(stopped_rows));
  g_autoptr(GMenuModel) common = new_section(name, common_rows, G_N_ELEMENTS(common_rows));
  g_menu_append_section(menu, NULL, power);
  g_menu_append_section(menu, NULL, common);
  return G_MENU_MODEL(menu);
}

static GtkWidget *new_menu_button(const char *name)
{
  GtkWidget *button = gtk_menu_button_new();
  g_autofree char *label = g_strdup_printf(_("More for %s"), name);
  gtk_button_set_image(GTK_BUTTON(button), gtk_image_new_from_icon_name("view-more-symbolic", GTK_ICON_SIZE_BUTTON));
  gtk_button_set_relief(GTK_BUTTON(button), GTK_RELIEF_NONE);
  gtk_widget_set_valign(button, GTK_ALIGN_CENTER);
  gtk_widget_set_tooltip_text(button, _("More"));
  atk_object_set_name(gtk_widget_get_accessible(button), label);
  return button;
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

static GtkWidget *new_texts(const char *name)
{
  GtkWidget *texts = gtk_box_new(GTK_ORIENTATION_VERTICAL, 2), *title = gtk_label_new(NULL);
  g_autofree char *text = describe(name);
  g_autofree char *markup = g_markup_printf_escaped("<b>%s</b>", name);
  GtkWidget *detail = gtk_label_new(text);
  gtk_label_set_markup(GTK_LABEL(title), markup);
  gtk_label_set_xalign(GTK_LABEL(title), 0);
  gtk_label_set_xalign(GTK_LABEL(detail), 0);
  gtk_label_set_ellipsize(GTK_LABEL(title), PANGO_ELLIPSIZE_END);
  gtk_label_set_ellipsize(GTK_LABEL(detail), PANGO_ELLIPSIZE_END);
  gtk_widget_set_tooltip_text(detail, text);
  gtk_widget_set_valign(texts, GTK_ALIGN_CENTER);
  gtk_style_context_add_class(gtk_widget_get_style_context(detail), "dim-label");
  gtk_box_pack_start(GTK_BOX(texts), title, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(texts), detail, FALSE, FALSE, 0);
  return texts;
}

static void show_state(Row *r)
{
  g_autoptr(GMenuModel) menu = new_menu(r->name, r->running);
  gtk_label_set_text(GTK_LABEL(r->state), r->running ? _("running") : "");
  gtk_widget_set_sensitive(r->start, !r->running);
  gtk_menu_button_set_menu_model(GTK_MENU_BUTTON(r->menu_button), menu);
}

void oriel_library_row_update(GtkWidget *row)
{
  Row *r = row_of(row);
  bool running = oriel_library_is_running(r->name);
  if (running == r->running)
    return;
  r->running = running;
  show_state(r);
}

const char *oriel_library_row_get_name(GtkWidget *row)
{
  return row_of(row)->name;
}

void oriel_library_row_open_menu(GtkWidget *row)
{
  gtk_toggle_button_set_active(GTK_TOGGLE_BUTTON(row_of(row)->menu_button), TRUE);
}

GtkWidget *oriel_library_row_new(const char *name)
{
  GtkWidget *row = gtk_list_box_row_new(), *box = gtk_box_new(GTK_ORIENTATION_HORIZONTAL, 12);
  Row *r = g_new0(Row, 1);
  r->name = g_strdup(name);
  r->state = gtk_label_new(NULL);
  r->start = new_start_button(name);
  r->menu_button = new_menu_button(name);
  r->running = oriel_library_is_running(name);
  gtk_style_context_add_class(gtk_widget_get_style_context(r->state), "dim-label");
  g_object_set(box, "margin", 10, NULL);
  gtk_box_pack_start(GTK_BOX(box), gtk_image_new_from_icon_name("computer-symbolic", GTK_ICON_SIZE_DND), FALSE, FALSE,
                     4);
  gtk_box_pack_start(GTK_BOX(box), new_texts(name), TRUE, TRUE, 0);
  gtk_box_pack_start(GTK_BOX(box), r->state, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), r->start, FALSE, FALSE, 0);
  gtk_box_pack_start(GTK_BOX(box), r->menu_button, FALSE, FALSE, 0);
  gtk_container_add(GTK_CONTAINER(row), box);
  g_object_set_data_full(G_OBJECT(row), ROW_KEY, r, free_row);
  atk_object_set_name(gtk_widget_get_accessible(row), name);
  show_state(r);
  gtk_widget_show_all(row);
  return row;
}
