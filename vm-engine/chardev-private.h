/* What chardev.c (the flow of bytes) and chardev-open.c (the kinds of far ends) share. */
#ifndef VM_CHARDEV_PRIVATE_H
#define VM_CHARDEV_PRIVATE_H

#include "vm-engine/chardev.h"
#include "vm-engine/iocontext.h"

typedef enum VmChardevKind {
  VM_CHARDEV_NONE,
  VM_CHARDEV_WINDOW,
  VM_CHARDEV_STDIO,
  VM_CHARDEV_PTY,
  VM_CHARDEV_FILE,
  VM_CHARDEV_UNIX,
  VM_CHARDEV_HOST,
} VmChardevKind;

struct VmChardev {
  VmIoContext *ctx;
  gatomicrefcount refs; /* the owner's, and a queued feed's */
  VmChardevKind kind;
  char *path;
  /* -1 where there is none. The same descriptor may stand in both; then it is closed once. */
  int in_fd, out_fd, listen_fd;
  VmIoWatch *in_watch, *out_watch, *listen_watch;
  GSource *pty_retry; /* nobody has the pty open: look again */
  bool raw_terminal;

  const VmChardevHandler *handler;
  void *handler_opaque;
  bool was_short;  /* a write was cut: tell the device when there is room */
  GByteArray *out; /* waits for out_fd */
  VmChardevOutput output;
  void *output_opaque;
  GByteArray *history; /* window: what the guest wrote last, for a terminal that opens late */

  VmChardevEscape escape;
  void *escape_opaque;
  bool escape_pending; /* the prefix was typed */

  GMutex mutex; /* guards the next two */
  GByteArray *fed;
  GByteArray *judged; /* what of it is the guest's, escape keys taken out; of the I/O context */
  bool feed_queued;
};

/* Opens the far end that `spec` names. */
bool vm_chardev_open(VmChardev *chardev, const char *spec, GError **error);
/* Closes it; gives a terminal its settings back. */
void vm_chardev_close(VmChardev *chardev);
/* Watches in_fd while the device can take bytes. Lock held (or before the chardev is handed out). */
void vm_chardev_update_watch(VmChardev *chardev);
/* The far end is gone: a client hung up, nobody has the pty open. Noticed while reading, or while writing. */
void vm_chardev_lost(VmChardev *chardev, bool writing);

#endif
