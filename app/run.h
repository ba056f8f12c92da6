/* `oriel run`: a machine of the library, or a transient one made of a file and options. */
#ifndef APP_RUN_H
#define APP_RUN_H

#include <stdbool.h>
#include <glib.h>

#include "app/options.h"

/* Runs the machine to its end and returns its exit status; -1 with `error` where it could not start. */
int oriel_run(const OrielOptions *options, GError **error);
/* Opens the library window; -1 with `error` where there is no display. */
int oriel_run_library(GError **error);

#endif
