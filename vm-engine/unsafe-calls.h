/*
 * Included before every source file: calls that cannot be used safely do not compile.
 * The headers that declare them come first, so that only our own uses are caught.
 */
#ifndef VM_UNSAFE_CALLS_H
#define VM_UNSAFE_CALLS_H
#ifndef __ASSEMBLER__ /* assembly is compiled with the same arguments */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <alloca.h>
#include <glib.h>

#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok mktemp tmpnam

#endif
#endif
