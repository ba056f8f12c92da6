/* The module's entry: see app/ui-module.h. */
#include "app/ui-module.h"

#include <gmodule.h>
#include <gtk/gtk.h>

#include "app/library.h"
#include "app/settings.h"
#include "ui/display.h"
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

static void on_library_activate(GtkApplication *app, gpointer unused)
{
  GtkWindow *window = gtk_application_get_active_window(app);
  if (window == NULL)
    window = GTK_WINDOW(oriel_library_window_new(app));
  gtk_window_present(window);
}

/* One library window a session: a second start shows the first one's. */
static int ui_run_library(void)
{
  g_autoptr(GtkApplication) app = gtk_application_new(APPLICATION_ID, G_APPLICATION_DEFAULT_FLAGS);
  g_signal_connect(app, "startup", G_CALLBACK(on_library_startup), NULL);
  g_signal_connect(app, "activate", G_CALLBACK(on_library_activate), NULL);
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
