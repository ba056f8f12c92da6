/* A serial port's far end as a terminal in the window. */
#ifndef UI_SERIAL_PAGE_H
#define UI_SERIAL_PAGE_H

#include <gtk/gtk.h>

typedef struct VmChardev VmChardev;

/* A VTE terminal on `chardev`, which must outlive it. */
GtkWidget *oriel_serial_page_new(VmChardev *chardev, const char *name);

#endif
