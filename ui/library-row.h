/* A machine's row in the library's list. */
#ifndef UI_LIBRARY_ROW_H
#define UI_LIBRARY_ROW_H

#include <stdbool.h>
#include <gtk/gtk.h>

/* Its buttons and menu activate the window's actions "start", "rename", "remove", … with the name. */
GtkWidget *oriel_library_row_new(const char *name);
const char *oriel_library_row_get_name(GtkWidget *row);
/* Looks whether the machine runs. */
void oriel_library_row_update(GtkWidget *row);
void oriel_library_row_open_menu(GtkWidget *row);

#endif
