/* A serial port's far end as a terminal in the window. */
#ifndef UI_SERIAL_PAGE_H
#define UI_SERIAL_PAGE_H

#include <gtk/gtk.h>

typedef struct VmChardev VmChardev;

/* A scrolled VTE terminal on `chardev`, which must outlive it. Ctrl+Shift+C and V copy and paste. */
GtkWidget *oriel_serial_page_new(VmChardev *chardev, const char *name);
/* The terminal in it, which takes the keys. */
GtkWidget *oriel_serial_page_get_terminal(GtkWidget *page);

#endif
