/* The module's entry: see app/ui-module.h. */
#include "app/ui-module.h"

#include <glib/gi18n.h>
#include <gmodule.h>
#include <gtk/gtk.h>

#include "app/library.h"
#include "app/settings.h"
#include "ui/display.h"
#include "ui/launch.h"
#include "ui/library-window.h"
#include "ui/machine-window.h"

#define APPLICATION_ID "org.oriel.Oriel"

G_MODULE_EXPORT const OrielUiModule *oriel_ui_module(void);

/* Where there is no graphics processor, GTK is kept from looking for visuals by OpenGL, which would bring a software renderer
 * and its compiler into memory (some 50 MB) that nothing here then uses. */
static bool init_gtk(void)
{
  bool without_gl = !oriel_display_wants_gl() && g_getenv("GDK_GL") == NULL;
  if (without_gl)
    g_setenv("GDK_GL", "disable", TRUE);
  /* GTK 3 cannot hold the pointer under Wayland, but X11 on top of it can; so that comes first. */
  gdk_set_allowed_backends("x11,wayland,*");
  bool ok = gtk_init_check(NULL, NULL);
  if (without_gl)
    g_unsetenv("GDK_GL");
  return ok;
}

static bool ui_init(GError **error)
{
  g_set_prgname(APPLICATION_ID); /* so that desktops find the icon */
  if (init_gtk()) {
    gtk_window_set_default_icon_name(APPLICATION_ID);
    return true;
  }
  g_set_error(
      error, ORIEL_ERROR, ORIEL_ERROR_FAILED,
      "there is no display to open a window on; use `oriel run --headless` with --serial stdio, or set DISPLAY");
  return false;
}

static void on_library_startup(GtkApplication *app, gpointer unused)
{
  oriel_library_empty_trash();
}

static GtkWindow *get_library_window(GtkApplication *app)
{
  GtkWindow *window = gtk_application_get_active_window(app);
  return window != NULL ? window : GTK_WINDOW(oriel_library_window_new(app));
}

static void on_library_activate(GtkApplication *app, gpointer unused)
{
  gtk_window_present(get_library_window(app));
}

static void on_file_failed(const char *message, gpointer app)
{
  GtkWindow *window = get_library_window(app);
  oriel_library_window_show_message(ORIEL_LIBRARY_WINDOW(window), message);
  gtk_window_present(window);
}

/* Files that the desktop was asked to open: a transient machine each. */
static void on_library_open(GtkApplication *app, GFile **files, int n_files, const char *hint, gpointer unused)
{
  for (int i = 0; i < n_files; i++) {
    g_autofree char *path = g_file_get_path(files[i]);
    if (path != NULL)
      oriel_launch(G_APPLICATION(app), path, on_file_failed, G_OBJECT(app));
    else
      on_file_failed(_("Only files of this computer can be opened"), app);
  }
}

/* One library window a session: a second start shows the first one's. Where the desktop starts us over the bus, it says
 * afterwards whether it wants the window or a file opened. */
static int ui_run_library(void)
{
  bool by_bus = g_getenv("DBUS_STARTER_BUS_TYPE") != NULL;
  GApplicationFlags flags = G_APPLICATION_HANDLES_OPEN | (by_bus ? G_APPLICATION_IS_SERVICE : 0);
  g_autoptr(GtkApplication) app = gtk_application_new(APPLICATION_ID, flags);
  g_unsetenv("DBUS_STARTER_BUS_TYPE"); /* not the machines' business */
  g_signal_connect(app, "startup", G_CALLBACK(on_library_startup), NULL);
  g_signal_connect(app, "activate", G_CALLBACK(on_library_activate), NULL);
  g_signal_connect(app, "open", G_CALLBACK(on_library_open), NULL);
  return g_application_run(G_APPLICATION(app), 0, NULL);
}

static void on_machine_activate(GtkApplication *app, gpointer machine)
{
  if (gtk_application_get_active_window(app) == NULL)
    gtk_window_present(GTK_WINDOW(oriel_machine_window_new(app, machine)));
}

static int ui_run_machine(OrielMachine *machine)
{
  g_autoptr(GtkApplication) app = gtk_application_new(APPLICATION_ID ".Machine", G_APPLICATION_NON_UNIQUE);
  g_signal_connect(app, "activate", G_CALLBACK(on_machine_activate), machine);
  g_application_run(G_APPLICATION(app), 0, NULL);
  return oriel_machine_window_get_exit_status(app);
}

const OrielUiModule *oriel_ui_module(void)
{
  static const OrielUiModule module = { ORIEL_UI_ABI, ui_init, ui_run_library, ui_run_machine };
  return &module;
}
