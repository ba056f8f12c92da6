/* The toolbar that comes down from the upper edge in full screen while the pointer is there, and goes by itself. */
#ifndef UI_FULLSCREEN_BAR_H
#define UI_FULLSCREEN_BAR_H

#include <stdbool.h>
#include <gtk/gtk.h>

typedef struct OrielFullscreenBar OrielFullscreenBar;

/* Over `overlay`, and freed with it. Its buttons activate the window's actions. */
OrielFullscreenBar *oriel_fullscreen_bar_new(GtkOverlay *overlay, const char *title, GMenuModel *menu);
/* The pointer over `widget`, a part of the overlay's content, calls the bar. */
void oriel_fullscreen_bar_watch(OrielFullscreenBar *bar, GtkWidget *widget);
/* Turned on, it shows itself for a moment, so that the way back is known. */
void oriel_fullscreen_bar_set_active(OrielFullscreenBar *bar, bool active);

#endif
