/* From GDK's hardware key codes to evdev's, which name a place on the keyboard whatever the layout. */
#ifndef UI_KEYS_H
#define UI_KEYS_H

#include <gdk/gdk.h>

/* 0: not a key of the keyboard. */
guint16 oriel_key_from_event(const GdkEventKey *event);

#endif
