/* What the machine (vm.c) tells the display. */
#ifndef VM_DISPLAY_PRIVATE_H
#define VM_DISPLAY_PRIVATE_H

#include "vm-engine/display.h"

/* Asked before each update, lock held: true if writes to the card are still on their way; then the update waits for
 * vm_display_gate_passed(), from any thread. Set-up only. */
typedef bool (*VmDisplayGate)(void *opaque);
void vm_display_set_gate(VmDisplay *display, VmDisplayGate gate, void *opaque);
void vm_display_gate_passed(VmDisplay *display);

#endif
