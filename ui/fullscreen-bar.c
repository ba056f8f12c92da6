/* See fullscreen-bar.h. */
#include "ui/fullscreen-bar.h"

#include <glib/gi18n.h>

#define EDGE_PIXELS   3
#define FIRST_SECONDS 3
#define LINGER_MS     900

struct OrielFullscreenBar {
  GtkOverlay *overlay;
  GtkWidget *revealer, *menu_button;
  guint timer;
  bool active;
};

static gboolean hide(gpointer data)
{
  OrielFullscreenBar *bar = data;
  if (gtk_toggle_button_get_active(GTK_TOGGLE_BUTTON(bar->menu_button)))
    return G_SOURCE_CONTINUE; /* its menu is open */
  bar->timer = 0;
  gtk_revealer_set_reveal_child(GTK_REVEALER(bar->revealer), FALSE);
  return G_SOURCE_REMOVE;
}

static void show(OrielFullscreenBar *bar)
{
  g_clear_handle_id(&bar->timer, g_source_remove);
  gtk_revealer_set_reveal_child(GTK_REVEALER(bar->revealer), TRUE);
}

static void hide_later(OrielFullscreenBar *bar, guint ms)
{
  g_clear_handle_id(&bar->timer, g_source_remove);
  bar->timer = g_timeout_add(ms, hide, bar);
}

static void on_pointer(OrielFullscreenBar *bar, double y)
{
  int height = gtk_widget_get_allocated_height(bar->revealer);
  bool shown = gtk_revealer_get_reveal_child(GTK_REVEALER(bar->revealer));
  if (y < EDGE_PIXELS || (shown && y < height))
    show(bar);
  else if (shown && bar->timer == 0)
    hide_later(bar, LINGER_MS);
}

/* Runs before the widget's own handlers, which may stop the event. */
static gboolean on_event(GtkWidget *window, GdkEvent *event, gpointer data)
{
  OrielFullscreenBar *bar = data;
  double x, y;
  int root_x, root_y;
  GdkWindow *place = gtk_widget_get_window(GTK_WIDGET(bar->overlay));
  if (!bar->active || place == NULL || (event->type != GDK_MOTION_NOTIFY && event->type != GDK_ENTER_NOTIFY) ||
      !gdk_event_get_root_coords(event, &x, &y))
    return FALSE;
  gdk_window_get_origin(place, &root_x, &root_y);
  on_pointer(bar, y - root_y);
  return FALSE;
}

static void free_bar(gpointer data)
{
  OrielFullscreenBar *bar = data;
  g_clear_handle_id(&bar->timer, g_source_remove);
  g_free(bar);
}

static GtkWidget *new_button(const char *icon, const char *label, const char *action)
{
  GtkWidget *button = gtk_button_new_from_icon_name(icon, GTK_ICON_SIZE_BUTTON);
  gtk_widget_set_tooltip_text(button, label);
  atk_object_set_name(gtk_widget_get_accessible(button), label);
  gtk_actionable_set_action_name(GTK_ACTIONABLE(button), action);
  gtk_widget_set_focus_on_click(button, FALSE);
  return button;
}

static GtkWidget *new_header(OrielFullscreenBar *bar, const char *title, GMenuModel *menu)
{
  GtkWidget *header = gtk_header_bar_new();
  gtk_header_bar_set_title(GTK_HEADER_BAR(header), title);
  gtk_header_bar_set_subtitle(GTK_HEADER_BAR(header), _("Ctrl+Alt+F leaves full screen"));
  bar->menu_button = gtk_menu_button_new();
  gtk_menu_button_set_menu_model(GTK_MENU_BUTTON(bar->menu_button), menu);
  gtk_button_set_image(GTK_BUTTON(bar->menu_button),
                       gtk_image_new_from_icon_name("open-menu-symbolic", GTK_ICON_SIZE_BUTTON));
  gtk_widget_set_tooltip_text(bar->menu_button, _("Menu"));
  atk_object_set_name(gtk_widget_get_accessible(bar->menu_button), _("Menu"));
  gtk_header_bar_pack_end(GTK_HEADER_BAR(header),
                          new_button("view-restore-symbolic", _("Leave full screen"), "win.fullscreen"));
  gtk_header_bar_pack_end(GTK_HEADER_BAR(header), bar->menu_button);
  return header;
}

OrielFullscreenBar *oriel_fullscreen_bar_new(GtkOverlay *overlay, const char *title, GMenuModel *menu)
{
  OrielFullscreenBar *bar = g_new0(OrielFullscreenBar, 1);
  bar->overlay = overlay;
  bar->revealer = gtk_revealer_new();
  gtk_container_add(GTK_CONTAINER(bar->revealer), new_header(bar, title, menu));
  gtk_widget_set_valign(bar->revealer, GTK_ALIGN_START);
  gtk_widget_add_events(bar->revealer, GDK_POINTER_MOTION_MASK | GDK_ENTER_NOTIFY_MASK);
  oriel_fullscreen_bar_watch(bar, bar->revealer); /* even hidden it lies over the topmost pixels */
  gtk_overlay_add_overlay(overlay, bar->revealer);
  gtk_widget_show_all(bar->revealer);
  gtk_widget_set_no_show_all(bar->revealer, TRUE);
  gtk_widget_hide(bar->revealer);
  g_object_set_data_full(G_OBJECT(overlay), "oriel-fullscreen-bar", bar, free_bar);
  return bar;
}

void oriel_fullscreen_bar_set_active(OrielFullscreenBar *bar, bool active)
{
  if (bar->active == active)
    return;
  bar->active = active;
  gtk_widget_set_visible(bar->revealer, active);
  show(bar);
  if (active)
    hide_later(bar, FIRST_SECONDS * 1000);
}

void oriel_fullscreen_bar_watch(OrielFullscreenBar *bar, GtkWidget *widget)
{
  g_signal_connect(widget, "event", G_CALLBACK(on_event), bar);
}
