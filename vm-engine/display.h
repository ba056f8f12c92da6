/*
 * The guest's picture on its way from a display card to whoever shows it.
 *
 * A triple-buffered surface: the card draws into the back buffer in the I/O context and publishes it with the rectangle
 * that changed; the viewer takes the newest published buffer whenever it likes. Neither waits for the other (one short
 * mutex around the swap). Pixels are 32-bit 0x00RRGGBB in host byte order, rows top to bottom.
 *
 * The card draws only on demand: the viewer (window, screenshot, test) asks with vm_display_request_update(), the card's
 * handler runs in the I/O context, draws what changed and publishes. A window asks at its frame rate while visible.
 */
#ifndef VM_DISPLAY_H
#define VM_DISPLAY_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct Vm Vm;
typedef struct VmDisplay VmDisplay;
typedef struct VmIoContext VmIoContext;

#define VM_DISPLAY_MAX_WIDTH 8192u
#define VM_DISPLAY_MAX_HEIGHT 8192u

typedef struct VmRect { int x, y, width, height; } VmRect;

VmDisplay *vm_display_new(VmIoContext *ctx);
void vm_display_free(VmDisplay *display);

/* ---- the card's side: I/O context, lock held ---------------------------------------------------------------------- */

typedef struct VmDisplayCardOps {
  /* Draw what changed since the last call (everything if `full`), by begin/publish below. */
  void (*update)(void *card, bool full);
  /* The screen as text if it is in a text mode: rows separated by \n, trailing blanks cut, UTF-8, owned; else NULL. */
  char *(*dup_text)(void *card);
} VmDisplayCardOps;
void vm_display_set_card(VmDisplay *display, const VmDisplayCardOps *ops, void *card);

/* The back buffer, `width` × `height` (at most the limits above, at least 1), with the last published picture in it
 * if the size is the same (otherwise black: then draw everything; *is_new tells). Stride is in pixels. */
uint32_t *vm_display_begin(VmDisplay *display, unsigned width, unsigned height, unsigned *stride, bool *is_new);
/* Publishes it; `changed` bounds what differs from the last published picture (empty: nothing does). */
void vm_display_publish(VmDisplay *display, const VmRect *changed);

/* ---- the viewer's side: any thread ---------------------------------------------------------------------------------- */

/* Asks the card for an update; returns at once. Several requests before it runs are one. */
void vm_display_request_update(VmDisplay *display, bool full);
/* Called (in the I/O context, lock held) after each publish that changed something; must not wait. NULL: none. */
typedef void (*VmDisplayNotify)(void *opaque);
unsigned vm_display_add_viewer(VmDisplay *display, VmDisplayNotify notify, void *opaque);
void vm_display_remove_viewer(VmDisplay *display, unsigned id);

/* The newest picture: borrowed until the next vm_display_take() by the same (only) viewer. False: none yet.
 * `changed`: since the last take. */
typedef struct VmFrame { const uint32_t *pixels; unsigned width, height, stride; VmRect changed; uint64_t serial; } VmFrame;
bool vm_display_take(VmDisplay *display, VmFrame *frame);
/* A copy of an up-to-date picture, for screenshots and tests: asks the card, waits for it (at most 2 s; on a manual
 * context draws at once). Owned, width * height pixels. Not from the I/O context. NULL: no picture. */
uint32_t *vm_display_dup_pixels(VmDisplay *display, unsigned *width, unsigned *height);
/* Text of a text mode, or NULL. Owned. Not from the I/O context. */
char *vm_display_dup_text(VmDisplay *display);

#endif
