/*
 * Keys and pointer, from whoever has them (window, control socket, test) to the devices that pass them to the guest.
 *
 * Keys are Linux evdev codes (linux/input-event-codes.h: KEY_A …), which name a place on the keyboard, not a letter.
 * Senders call from any thread; handlers run in the I/O context, lock held. The newest registered handler of a kind
 * that is active gets the event; so a tablet that the guest's driver opens takes the pointer from the PS/2 mouse.
 */
#ifndef VM_INPUT_H
#define VM_INPUT_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct VmInput VmInput;
typedef struct VmIoContext VmIoContext;

enum { VM_BUTTON_LEFT, VM_BUTTON_RIGHT, VM_BUTTON_MIDDLE, VM_BUTTON_SIDE, VM_BUTTON_EXTRA, VM_N_BUTTONS };

VmInput *vm_input_new(VmIoContext *ctx);
void vm_input_free(VmInput *input);

/* ---- senders ---------------------------------------------------------------------------------------------------- */

void vm_input_key(VmInput *input, uint16_t evdev_code, bool down);
/* Releases every key that is down: focus was lost. */
void vm_input_release_all(VmInput *input);
void vm_input_button(VmInput *input, unsigned button, bool down);
/* Movement in pixels, right and down positive. */
void vm_input_move_relative(VmInput *input, int dx, int dy);
/* Position on the picture, 0–32767 each. */
void vm_input_move_absolute(VmInput *input, int x, int y);
/* Notches; up and right positive. */
void vm_input_wheel(VmInput *input, int vertical, int horizontal);

/* Does an active device take absolute positions (then no grab is needed)? */
bool vm_input_is_absolute(const VmInput *input);
/* Keyboard LEDs as the guest set them: bit 0 scroll, 1 num, 2 caps. */
unsigned vm_input_get_leds(const VmInput *input);

/* ---- devices ------------------------------------------------------------------------------------------------------ */

typedef struct VmInputHandler {
  void (*key)(void *opaque, uint16_t evdev_code, bool down);
  void (*button)(void *opaque, unsigned button, bool down);
  void (*move_relative)(void *opaque, int dx, int dy);
  void (*move_absolute)(void *opaque, int x, int y);
  void (*wheel)(void *opaque, int vertical, int horizontal);
  void (*sync)(void *opaque); /* after each group of pointer events; may be NULL */
} VmInputHandler;
unsigned vm_input_add_handler(VmInput *input, const VmInputHandler *handler, void *opaque);
void vm_input_remove_handler(VmInput *input, unsigned id);
void vm_input_set_active(VmInput *input, unsigned id, bool active);
void vm_input_set_leds(VmInput *input, unsigned leds);

#endif
