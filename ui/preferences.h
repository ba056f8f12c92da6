/* What a person chose once and for all machines: a small key file, $XDG_CONFIG_HOME/oriel/preferences.conf. */
#ifndef UI_PREFERENCES_H
#define UI_PREFERENCES_H

#include <glib.h>

/* The value of `key`, owned; `standard` where nothing was chosen or the value is not one of `choices` (NULL-terminated). */
char *oriel_preference_dup(const char *key, const char *const *choices, const char *standard);
/* Failing to write is no reason to disturb anybody: it is logged, and the choice holds until the program ends. */
void oriel_preference_set(const char *key, const char *value);

#endif
