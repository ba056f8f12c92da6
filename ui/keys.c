/*
 * Hardware key codes. Under X11 with evdev or libinput, and under Wayland, GDK's hardware code is evdev's plus 8 (the X
 * protocol keeps codes below 8 for itself).
 */
#include "ui/keys.h"

#include <linux/input-event-codes.h>

#define X_OFFSET 8

guint16 oriel_key_from_event(const GdkEventKey *event)
{
  guint16 code = event->hardware_keycode;
  return code > X_OFFSET && code - X_OFFSET <= KEY_MAX ? (guint16)(code - X_OFFSET) : 0;
}
