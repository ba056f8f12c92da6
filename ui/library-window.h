/* The library's window: the machines there are, and what can be done with them. */
#ifndef UI_LIBRARY_WINDOW_H
#define UI_LIBRARY_WINDOW_H

#include <gtk/gtk.h>

#define ORIEL_TYPE_LIBRARY_WINDOW oriel_library_window_get_type()
G_DECLARE_FINAL_TYPE(OrielLibraryWindow, oriel_library_window, ORIEL, LIBRARY_WINDOW, GtkApplicationWindow)

GtkWidget *oriel_library_window_new(GtkApplication *app);
/* Shows a line over the list for some seconds. */
void oriel_library_window_show_message(OrielLibraryWindow *window, const char *text);

#endif
