/* The window of a running machine: its picture, its serial terminals, its switches. */
#ifndef UI_MACHINE_WINDOW_H
#define UI_MACHINE_WINDOW_H

#include <gtk/gtk.h>

typedef struct OrielMachine OrielMachine;

#define ORIEL_TYPE_MACHINE_WINDOW oriel_machine_window_get_type()
G_DECLARE_FINAL_TYPE(OrielMachineWindow, oriel_machine_window, ORIEL, MACHINE_WINDOW, GtkApplicationWindow)

/* Starts the machine (borrowed; it outlives the window). The window closes when the machine ends. */
GtkWidget *oriel_machine_window_new(GtkApplication *app, OrielMachine *machine);
/* The machine's exit status, after the application has ended. */
int oriel_machine_window_get_exit_status(GtkApplication *app);

#endif
