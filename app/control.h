/*
 * The control socket: QMP's protocol, with QMP's names, on a Unix socket, so that existing QMP clients work.
 * Source: QEMU's published "QEMU Machine Protocol Specification".
 */
#ifndef APP_CONTROL_H
#define APP_CONTROL_H

#include <glib.h>

typedef struct OrielMachine OrielMachine;
typedef struct OrielControl OrielControl;

/* Listens at `path` (a stale socket file there is replaced; a live one is an error) with a thread of its own. */
OrielControl *oriel_control_new(OrielMachine *machine, const char *path, GError **error);
/* Closes all clients (after the last events were sent) and removes the socket file. NULL allowed. */
void oriel_control_free(OrielControl *control);

/* Client side, for `oriel stop NAME` and the library window: connects, negotiates, sends one command with `arguments` (JSON
 * text or NULL) and returns the answer's "return" as JSON text (owned). Waits at most 5 s. */
char *oriel_control_call(const char *path, const char *command, const char *arguments, GError **error);

#endif
