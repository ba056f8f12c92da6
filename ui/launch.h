/* Starting machines from the library: each in a process of its own, whose failure comes back as a message. */
#ifndef UI_LAUNCH_H
#define UI_LAUNCH_H

#include <gio/gio.h>

/* The machine could not start or died: what it said last, or how it ended. */
typedef void (*OrielLaunchFailed)(const char *message, gpointer data);

/*
 * Runs `oriel run WHAT` (a machine's name or a file's path). What it prints goes to
 * $XDG_STATE_HOME/oriel/NAME.log. `failed` may come later, at most once; `data` is an object, referenced until the process
 * has ended. The application is held meanwhile, so that a library that was opened for a file only stays to tell.
 */
void oriel_launch(GApplication *app, const char *what, OrielLaunchFailed failed, GObject *data);

#endif
