/*
 * Character back ends: the far end of a serial line. stdio, a pty, a file, a Unix socket, a host device, or a pipe
 * inside the process (the window's terminal, tests).
 *
 * Bytes to the far end are buffered up to a bound; past it vm_chardev_write() takes fewer. Handlers run in the I/O
 * context, lock held.
 */
#ifndef VM_CHARDEV_H
#define VM_CHARDEV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef struct VmChardev VmChardev;
typedef struct VmIoContext VmIoContext;

/* `spec` as --serial has it: stdio, pty, none, window, file:PATH, unix:PATH (listens; one client at a time), host:/dev/….
 * "window" is an in-process pipe: see below. `error` names the path. */
VmChardev *vm_chardev_new(VmIoContext *ctx, const char *spec, GError **error);
void vm_chardev_free(VmChardev *chardev);

/* ---- the device's side: lock held ------------------------------------------------------------------------------------ */

/* How many bytes were taken (fewer than `size` when the far end is slow, all of them when there is none). */
size_t vm_chardev_write(VmChardev *chardev, const uint8_t *bytes, size_t size);
typedef struct VmChardevHandler {
  /* How many bytes the device can take now; asked before each receive. */
  size_t (*can_receive)(void *opaque);
  void (*receive)(void *opaque, const uint8_t *bytes, size_t size);
  void (*writable)(void *opaque); /* room again after a short write; may be NULL */
} VmChardevHandler;
void vm_chardev_set_handler(VmChardev *chardev, const VmChardevHandler *handler, void *opaque);
/* The device can receive again. */
void vm_chardev_accept_input(VmChardev *chardev);

/* ---- the in-process far end: any thread -------------------------------------------------------------------------------- */

/* Bytes as if typed at the far end. */
void vm_chardev_feed(VmChardev *chardev, const uint8_t *bytes, size_t size);
/* What the guest wrote, as it comes (I/O context, lock held); what came before (the last 256 KiB) first. */
typedef void (*VmChardevOutput)(const uint8_t *bytes, size_t size, void *opaque);
void vm_chardev_set_output(VmChardev *chardev, VmChardevOutput output, void *opaque);

/* ---- stdio: a way out of the guest's terminal ---------------------------------------------------------------------------- */

/* While this is set, Ctrl-A typed at the far end is not passed on: the key after it goes to `escape` (I/O context, lock
 * held), but a second Ctrl-A goes to the guest. NULL: Ctrl-A is a key like others. */
typedef void (*VmChardevEscape)(char key, void *opaque);
void vm_chardev_set_escape(VmChardev *chardev, VmChardevEscape escape, void *opaque);

/* Where a pty or socket can be reached, or NULL. */
const char *vm_chardev_get_path(const VmChardev *chardev);

#endif
