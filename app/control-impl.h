/* The control socket: what the server and the commands share. */
#ifndef APP_CONTROL_IMPL_H
#define APP_CONTROL_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <gio/gio.h>
#include <json-glib/json-glib.h>

#include "app/control.h"

typedef struct ControlKeys ControlKeys;

/* What a command gets. It runs on the control thread. */
typedef struct ControlCall {
  OrielMachine *machine;
  ControlKeys *keys;
  JsonObject *arguments; /* never NULL */
} ControlCall;

typedef struct ControlCommand {
  const char *name;
  /* The value of "return" (owned; NULL: an empty object), or NULL with `error`. */
  JsonNode *(*run)(const ControlCall *call, GError **error);
} ControlCommand;

/* Ended by a NULL name. */
extern const ControlCommand control_commands[];
const ControlCommand *control_command_find(const char *name);

/* QMP's error classes; anything else is a GenericError. */
#define CONTROL_ERROR control_error_quark()
GQuark control_error_quark(void);
typedef enum ControlError { CONTROL_ERROR_GENERIC, CONTROL_ERROR_COMMAND_NOT_FOUND, CONTROL_ERROR_DEVICE_NOT_FOUND } ControlError;

/* Arguments by name; the error names a missing one or one of the wrong type. */
const char *control_get_string(const ControlCall *call, const char *name, bool needed, GError **error);
gint64 control_get_int(const ControlCall *call, const char *name, gint64 standard);
bool control_get_bool(const ControlCall *call, const char *name, bool standard);

/* ---- keys (control-keys.c) ------------------------------------------------------------------------------------------ */

/* Typed keys, one after the other with the time each is held; of the control thread. */
ControlKeys *control_keys_new(OrielMachine *machine, GMainContext *context);
void control_keys_free(ControlKeys *keys);
/* evdev code of QEMU's name for a key ("ret", "ctrl", "a"); 0: unknown. */
uint16_t control_find_key(const char *qcode);
JsonNode *control_send_key(const ControlCall *call, GError **error);
JsonNode *control_input_send_event(const ControlCall *call, GError **error);
/* "ctrl-alt-delete", as the monitor's sendkey takes it. */
bool control_type_combination(ControlKeys *keys, const char *text, GError **error);

#endif
