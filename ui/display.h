/*
 * The widget that shows a guest's picture and takes keyboard and pointer for it.
 *
 * The picture is drawn by OpenGL where the host has it in hardware, else by cairo. Sizes count in device pixels, so that a
 * guest's pixel is a whole number of the screen's in the 1:1 and integer modes.
 */
#ifndef UI_DISPLAY_H
#define UI_DISPLAY_H

#include <stdbool.h>
#include <gtk/gtk.h>

typedef struct Vm Vm;

typedef enum OrielScaling { ORIEL_SCALE_FIT, ORIEL_SCALE_INTEGER, ORIEL_SCALE_ONE } OrielScaling;

#define ORIEL_TYPE_DISPLAY oriel_display_get_type()
G_DECLARE_FINAL_TYPE(OrielDisplay, oriel_display, ORIEL, DISPLAY, GtkEventBox)

/* Emits "grab-changed" when the pointer is taken or let go, "picture-resized" when the guest's picture has another size. */
GtkWidget *oriel_display_new(Vm *vm);
void oriel_display_set_scaling(OrielDisplay *display, OrielScaling scaling);
OrielScaling oriel_display_get_scaling(const OrielDisplay *display);
/* The guest's picture; 0 × 0 before the first. */
void oriel_display_get_picture_size(const OrielDisplay *display, unsigned *width, unsigned *height);
bool oriel_display_is_grabbed(const OrielDisplay *display);
void oriel_display_grab(OrielDisplay *display);
void oriel_display_ungrab(OrielDisplay *display);
/* Would a new display draw by OpenGL? (There is a graphics processor, or $ORIEL_RENDERER is "gl".) Needs no display. */
bool oriel_display_wants_gl(void);
/* "OpenGL" or "cairo". */
const char *oriel_display_get_renderer(const OrielDisplay *display);

/* Keys that the window keeps for itself: asked before a key goes to the guest. */
typedef bool (*OrielKeyFilter)(const GdkEventKey *event, gpointer data);
void oriel_display_set_key_filter(OrielDisplay *display, OrielKeyFilter filter, gpointer data);

#endif
