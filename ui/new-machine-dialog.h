/* The plain "new machine" dialog: name, memory, processors, disk size, installation medium. */
#ifndef UI_NEW_MACHINE_DIALOG_H
#define UI_NEW_MACHINE_DIALOG_H

#include <gtk/gtk.h>

/* Runs the dialog over `parent`. The new machine's name, owned; NULL where it was cancelled. */
char *oriel_new_machine_dialog_run(GtkWindow *parent);

#endif
