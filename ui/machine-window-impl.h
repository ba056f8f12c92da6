/* The machine window's inside, shared with its actions. */
#ifndef UI_MACHINE_WINDOW_IMPL_H
#define UI_MACHINE_WINDOW_IMPL_H

#include <stdbool.h>

#include "app/machine.h"
#include "ui/display.h"
#include "ui/fullscreen-bar.h"
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
  OrielFullscreenBar *fullscreen_bar;
  GtkWidget *page_widgets[ORIEL_MAX_PAGES];
  unsigned n_pages;
  guint toast_timer;
  bool ended, paused, fullscreen;
  double zoom; /* window's size against the picture's, by Ctrl+Alt+plus and minus */
};

/* machine-window-actions.c */
void oriel_machine_window_add_actions(OrielMachineWindow *w);
/* After the display was made. */
void oriel_machine_window_restore_choices(OrielMachineWindow *w);
GMenuModel *oriel_machine_window_build_menu(void);
/* Ctrl+Alt combinations and F11: true if it was one of the window's. */
bool oriel_machine_window_take_key(const GdkEventKey *event, gpointer window);

/* What the "scaling" and "when-closed" actions may be set to: NULL-terminated, the standard one first. */
extern const char *const oriel_scaling_choices[];
extern const char *const oriel_closing_choices[];

/* machine-window.c */
void oriel_machine_window_show_toast(OrielMachineWindow *w, const char *text);
void oriel_machine_window_show_error(OrielMachineWindow *w, const GError *error);
void oriel_machine_window_fit_to_picture(OrielMachineWindow *w);
void oriel_machine_window_show_page(OrielMachineWindow *w, unsigned index);
void oriel_machine_window_open_menu(OrielMachineWindow *w);
void oriel_machine_window_set_fullscreen(OrielMachineWindow *w, bool on);

#endif
