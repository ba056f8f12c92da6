/*
 * The display widget's input: keys by place, and the pointer.
 *
 * A pointer that the guest takes relatively (a PS/2 mouse) has to be grabbed: a click does it; left Ctrl+Alt, pressed and let
 * go without another key, ends it, so that Ctrl+Alt+Del and its like still reach the guest. While grabbed the host's pointer
 * is hidden and put back to the middle after each movement, so it never meets an edge.
 */
#include "ui/display-impl.h"

#ifdef GDK_WINDOWING_X11
#include <gdk/gdkx.h>
#endif

#include "ui/keys.h"
#include "vm-engine/input.h"
#include "vm-engine/vm.h"

#define ABSOLUTE_MAX 32767

static VmInput *input_of(OrielDisplay *d)
{
  return vm_get_input(d->vm);
}

/* ---- keys --------------------------------------------------------------------------------------------------------------- */

static bool is_down(const OrielDisplay *d, guint16 code)
{
  return d->keys_down[code / 8] >> code % 8 & 1;
}

static void send_key(OrielDisplay *d, guint16 code, bool down)
{
  if (down)
    d->keys_down[code / 8] |= (guint8)(1 << code % 8);
  else
    d->keys_down[code / 8] &= (guint8) ~(1 << code % 8);
  vm_input_key(input_of(d), code, down);
}

void oriel_display_release_keys(OrielDisplay *d)
{
  for (guint16 code = 1; code <= KEY_MAX; code++)
    if (is_down(d, code))
      send_key(d, code, false);
}

static bool any_other_down(const OrielDisplay *d)
{
  for (guint16 code = 1; code <= KEY_MAX; code++)
    if (code != KEY_LEFTCTRL && code != KEY_LEFTALT && is_down(d, code))
      return true;
  return false;
}

/* After a key went down or up: is it the end of the combination that lets go of the pointer? */
static bool ends_grab(OrielDisplay *d, guint16 code, bool down)
{
  bool of_it = code == KEY_LEFTCTRL || code == KEY_LEFTALT;
  bool ends = d->release_armed && of_it && !down;
  if (down)
    d->release_armed = of_it && is_down(d, KEY_LEFTCTRL) && is_down(d, KEY_LEFTALT) && !any_other_down(d);
  else if (of_it)
    d->release_armed = false;
  return ends;
}

static gboolean on_key(GtkWidget *widget, GdkEventKey *event, gpointer unused)
{
  OrielDisplay *d = ORIEL_DISPLAY(widget);
  guint16 code = oriel_key_from_event(event);
  bool down = event->type == GDK_KEY_PRESS;
  if (down && d->key_filter != NULL && d->key_filter(event, d->key_filter_data)) {
    oriel_display_release_keys(d);
    d->release_armed = false;
    return TRUE;
  }
  if (code == 0)
    return FALSE;
  if (down || is_down(d, code))
    send_key(d, code, down);
  if (ends_grab(d, code, down) && d->grabbed)
    oriel_display_ungrab(d);
  return TRUE;
}

static gboolean on_focus_out(GtkWidget *widget, GdkEventFocus *event, gpointer unused)
{
  oriel_display_release_keys(ORIEL_DISPLAY(widget));
  return FALSE;
}

/* ---- the grab ------------------------------------------------------------------------------------------------------------- */

static GdkSeat *seat_of(OrielDisplay *d)
{
  return gdk_display_get_default_seat(gtk_widget_get_display(GTK_WIDGET(d)));
}

static void get_middle(OrielDisplay *d, int *x, int *y)
{
  *x = gtk_widget_get_allocated_width(GTK_WIDGET(d)) / 2;
  *y = gtk_widget_get_allocated_height(GTK_WIDGET(d)) / 2;
}

/* Only X11 lets a program move the pointer. */
static bool can_warp(OrielDisplay *d)
{
#ifdef GDK_WINDOWING_X11
  return GDK_IS_X11_DISPLAY(gtk_widget_get_display(GTK_WIDGET(d)));
#else
  return false;
#endif
}

static void warp_to_middle(OrielDisplay *d)
{
  GdkWindow *window = gtk_widget_get_window(GTK_WIDGET(d));
  int x, y, root_x, root_y;
  get_middle(d, &x, &y);
  gdk_window_get_root_coords(window, x, y, &root_x, &root_y);
  gdk_device_warp(gdk_seat_get_pointer(seat_of(d)), gdk_window_get_screen(window), root_x, root_y);
  d->warped = true;
}

bool oriel_display_is_grabbed(const OrielDisplay *d)
{
  return d->grabbed;
}

void oriel_display_grab(OrielDisplay *d)
{
  GdkWindow *window = gtk_widget_get_window(GTK_WIDGET(d));
  if (d->grabbed || window == NULL)
    return;
  g_autoptr(GdkCursor) blank = gdk_cursor_new_for_display(gtk_widget_get_display(GTK_WIDGET(d)), GDK_BLANK_CURSOR);
  if (gdk_seat_grab(seat_of(d), window, GDK_SEAT_CAPABILITY_ALL, FALSE, blank, NULL, NULL, NULL) != GDK_GRAB_SUCCESS)
    return;
  d->grabbed = true;
  d->rest_x = d->rest_y = 0;
  d->last_x = -1;
  d->warped = false;
  gdk_window_set_event_compression(window, FALSE);
  gtk_widget_grab_focus(GTK_WIDGET(d));
  if (can_warp(d))
    warp_to_middle(d);
  g_signal_emit_by_name(d, "grab-changed");
}

void oriel_display_ungrab(OrielDisplay *d)
{
  if (!d->grabbed)
    return;
  d->grabbed = false;
  gdk_seat_ungrab(seat_of(d));
  gdk_window_set_event_compression(gtk_widget_get_window(GTK_WIDGET(d)), TRUE);
  oriel_display_release_keys(d);
  g_signal_emit_by_name(d, "grab-changed");
}

static gboolean on_grab_broken(GtkWidget *widget, GdkEventGrabBroken *event, gpointer unused)
{
  oriel_display_ungrab(ORIEL_DISPLAY(widget));
  return FALSE;
}

/* ---- the pointer ------------------------------------------------------------------------------------------------------------ */

static void move_absolute(OrielDisplay *d, double x, double y)
{
  OrielPlace place = oriel_display_get_place(d);
  int scale = gtk_widget_get_scale_factor(GTK_WIDGET(d));
  double px = (x * scale - place.x) / MAX(place.width - 1, 1), py = (y * scale - place.y) / MAX(place.height - 1, 1);
  vm_input_move_absolute(input_of(d), (int)(CLAMP(px, 0, 1) * ABSOLUTE_MAX), (int)(CLAMP(py, 0, 1) * ABSOLUTE_MAX));
}

/* Whole pixels go to the guest, the rest waits. */
static void add_movement(OrielDisplay *d, double x, double y)
{
  d->rest_x += x;
  d->rest_y += y;
  int dx = (int)d->rest_x, dy = (int)d->rest_y;
  d->rest_x -= dx;
  d->rest_y -= dy;
  if (dx != 0 || dy != 0)
    vm_input_move_relative(input_of(d), dx, dy);
}

/* Movement counts from event to event. Some are on their way when the pointer is put back, so its arrival in the middle, and
 * not the request, is the new point to count from; for that GDK must not merge events. */
static void move_grabbed(OrielDisplay *d, double x, double y)
{
  int middle_x, middle_y;
  get_middle(d, &middle_x, &middle_y);
  bool arrived = d->warped && (int)x == middle_x && (int)y == middle_y;
  if (d->last_x >= 0 && !arrived)
    add_movement(d, x - d->last_x, y - d->last_y);
  d->last_x = x;
  d->last_y = y;
  if (arrived)
    d->warped = false;
  else if (!d->warped && can_warp(d))
    warp_to_middle(d);
}

static gboolean on_motion(GtkWidget *widget, GdkEventMotion *event, gpointer unused)
{
  OrielDisplay *d = ORIEL_DISPLAY(widget);
  if (d->grabbed)
    move_grabbed(d, event->x, event->y);
  else if (vm_input_is_absolute(input_of(d)))
    move_absolute(d, event->x, event->y);
  return TRUE;
}

/* GDK's button numbers; 4 to 7 are scrolling. */
static int button_of(guint button)
{
  switch (button) {
  case GDK_BUTTON_PRIMARY:
    return VM_BUTTON_LEFT;
  case GDK_BUTTON_MIDDLE:
    return VM_BUTTON_MIDDLE;
  case GDK_BUTTON_SECONDARY:
    return VM_BUTTON_RIGHT;
  case 8:
    return VM_BUTTON_SIDE;
  case 9:
    return VM_BUTTON_EXTRA;
  default:
    return -1;
  }
}

static gboolean on_button(GtkWidget *widget, GdkEventButton *event, gpointer unused)
{
  OrielDisplay *d = ORIEL_DISPLAY(widget);
  int button = button_of(event->button);
  gtk_widget_grab_focus(widget);
  if (event->type != GDK_BUTTON_PRESS && event->type != GDK_BUTTON_RELEASE)
    return TRUE; /* double clicks come as presses too */
  if (!d->grabbed && !vm_input_is_absolute(input_of(d))) {
    if (event->type == GDK_BUTTON_PRESS)
      oriel_display_grab(d); /* the click that grabs is not the guest's */
    return TRUE;
  }
  if (button >= 0)
    vm_input_button(input_of(d), (unsigned)button, event->type == GDK_BUTTON_PRESS);
  return TRUE;
}

static gboolean on_scroll(GtkWidget *widget, GdkEventScroll *event, gpointer unused)
{
  OrielDisplay *d = ORIEL_DISPLAY(widget);
  if (!d->grabbed && !vm_input_is_absolute(input_of(d)))
    return FALSE;
  if (event->direction == GDK_SCROLL_SMOOTH) {
    d->wheel_rest -= event->delta_y;
    int notches = (int)d->wheel_rest;
    d->wheel_rest -= notches;
    if (notches != 0)
      vm_input_wheel(input_of(d), notches, 0);
    return TRUE;
  }
  vm_input_wheel(input_of(d), (event->direction == GDK_SCROLL_UP) - (event->direction == GDK_SCROLL_DOWN),
                 (event->direction == GDK_SCROLL_RIGHT) - (event->direction == GDK_SCROLL_LEFT));
  return TRUE;
}

void oriel_display_connect_input(OrielDisplay *d)
{
  gtk_widget_add_events(GTK_WIDGET(d), GDK_KEY_PRESS_MASK | GDK_KEY_RELEASE_MASK | GDK_BUTTON_PRESS_MASK |
                                           GDK_BUTTON_RELEASE_MASK | GDK_POINTER_MOTION_MASK | GDK_SCROLL_MASK |
                                           GDK_SMOOTH_SCROLL_MASK | GDK_FOCUS_CHANGE_MASK);
  g_signal_connect(d, "key-press-event", G_CALLBACK(on_key), NULL);
  g_signal_connect(d, "key-release-event", G_CALLBACK(on_key), NULL);
  g_signal_connect(d, "focus-out-event", G_CALLBACK(on_focus_out), NULL);
  g_signal_connect(d, "grab-broken-event", G_CALLBACK(on_grab_broken), NULL);
  g_signal_connect(d, "motion-notify-event", G_CALLBACK(on_motion), NULL);
  g_signal_connect(d, "button-press-event", G_CALLBACK(on_button), NULL);
  g_signal_connect(d, "button-release-event", G_CALLBACK(on_button), NULL);
  g_signal_connect(d, "scroll-event", G_CALLBACK(on_scroll), NULL);
}
