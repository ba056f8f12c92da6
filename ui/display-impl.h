/* The display widget's inside, shared by its drawing and its input. */
#ifndef UI_DISPLAY_IMPL_H
#define UI_DISPLAY_IMPL_H

#include <linux/input-event-codes.h>

#include "ui/display.h"
#include "vm-engine/display.h"

typedef struct OrielGlPicture OrielGlPicture;

struct _OrielDisplay {
  GtkEventBox parent;
  Vm *vm;
  GtkWidget *canvas;      /* GtkGLArea or GtkDrawingArea */
  OrielGlPicture *gl;     /* NULL: cairo */
  unsigned viewer;        /* at the VmDisplay */
  guint timer;
  unsigned idle_ticks;    /* since the picture last changed */
  VmFrame frame;          /* the newest; pixels NULL before the first */
  OrielScaling scaling;

  OrielKeyFilter key_filter;
  gpointer key_filter_data;
  guint8 keys_down[KEY_MAX / 8 + 1]; /* what the guest was told is down */
  bool grabbed;
  bool release_armed;     /* left Ctrl+Alt alone are down: letting go of them lets go of the pointer */
  double last_x, last_y;  /* where the grabbed pointer was last seen; last_x < 0: not known yet */
  bool warped;            /* it was put back to the middle, and its arrival there has not been seen */
  double rest_x, rest_y;  /* movement below a pixel, kept for the next event */
  double wheel_rest;
};

/* Where the picture is drawn, in the canvas's device pixels. */
typedef struct OrielPlace { double x, y, width, height; } OrielPlace;
OrielPlace oriel_display_get_place(const OrielDisplay *display);

/* display-input.c */
void oriel_display_connect_input(OrielDisplay *display);
void oriel_display_release_keys(OrielDisplay *display);

/* display-gl.c: a textured rectangle. `area` is current. */
OrielGlPicture *oriel_gl_picture_new(void);
void oriel_gl_picture_free(OrielGlPicture *gl);
void oriel_gl_picture_upload(OrielGlPicture *gl, const VmFrame *frame, const VmRect *changed);
/* `whole`: the canvas's size in device pixels. `smooth`: linear filtering. */
void oriel_gl_picture_draw(OrielGlPicture *gl, const OrielPlace *place, double whole_width, double whole_height, bool smooth);

#endif
