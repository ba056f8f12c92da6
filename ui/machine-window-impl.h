/* The machine window's inside, shared with its actions. */
#ifndef UI_MACHINE_WINDOW_IMPL_H
#define UI_MACHINE_WINDOW_IMPL_H

#include <stdbool.h>

#include "app/machine.h"
#include "ui/display.h"
#include "ui/machine-window.h"
#include "vm-engine/vm.h"

#define ORIEL_MAX_PAGES 5 /* the screen and four serial ports */

struct _OrielMachineWindow {
  GtkApplicationWindow parent;
  OrielMachine *machine;
  Vm *vm;
  unsigned listener;
  OrielDisplay *display;
  GtkWidget *header, *menu_button, *pause_button, *pages, *status_bar, *state_label, *size_label, *banner, *banner_label, *toast, *toast_label;
  GtkWidget *page_widgets[ORIEL_MAX_PAGES];
  unsigned n_pages;
  guint toast_timer;
  bool ended, paused, fullscreen, close_asked;
  double zoom; /* window's size against the picture's, by Ctrl+Alt+plus and minus */
};

/* machine-window-actions.c */
void oriel_machine_window_add_actions(OrielMachineWindow *w);
GMenuModel *oriel_machine_window_build_menu(void);
/* Ctrl+Alt combinations and F11: true if it was one of the window's. */
bool oriel_machine_window_take_key(const GdkEventKey *event, gpointer window);

/* machine-window.c */
void oriel_machine_window_show_toast(OrielMachineWindow *w, const char *text);
void oriel_machine_window_show_error(OrielMachineWindow *w, const GError *error);
void oriel_machine_window_fit_to_picture(OrielMachineWindow *w);
void oriel_machine_window_show_page(OrielMachineWindow *w, unsigned index);
void oriel_machine_window_set_fullscreen(OrielMachineWindow *w, bool on);

#endif
