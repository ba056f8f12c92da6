/* The commands of the command line. */
#ifndef APP_COMMANDS_H
#define APP_COMMANDS_H

/* Runs what argv says and returns the exit status (see the man page: 0, 1, 2, 3, or the debug-exit port's). */
int oriel_main(int argc, char **argv);

#endif
