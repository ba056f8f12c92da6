/*
 * The face as a loadable module: `oriel` itself links no GTK, so that a headless machine neither waits for it nor pays
 * for it. The module (liboriel-ui.so) is found beside the program or in the library folder and exports one table.
 */
#ifndef APP_UI_MODULE_H
#define APP_UI_MODULE_H

#include <stdbool.h>
#include <glib.h>

typedef struct OrielMachine OrielMachine;

#define ORIEL_UI_ABI 1

typedef struct OrielUiModule {
  unsigned abi;
  /* Is there a display to open? Called first; initialises GTK. */
  bool (*init)(GError **error);
  /* Shows the library until its last window is closed; returns the exit status. */
  int (*run_library)(void);
  /* Shows the machine (started by the caller) until it has ended and the window is closed; returns the exit status. */
  int (*run_machine)(OrielMachine *machine);
} OrielUiModule;

/* The symbol that the module exports: const OrielUiModule *oriel_ui_module(void) */
#define ORIEL_UI_SYMBOL "oriel_ui_module"

#endif
