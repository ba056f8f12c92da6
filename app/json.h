/* JSON text: what the command line prints and the control socket speaks. */
#ifndef APP_JSON_H
#define APP_JSON_H

#include <glib.h>

/* Appends `text` as a JSON string, quotes included; NULL becomes null. */
void oriel_json_append_string(GString *out, const char *text);

#endif
