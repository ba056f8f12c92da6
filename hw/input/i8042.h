/*
 * The PC's keyboard controller (ports 0x60 and 0x64) with a PS/2 keyboard and a PS/2 mouse plugged in.
 *
 * The keyboard and mouse take the events of the machine's VmInput. A reset pulse on the output port asks the machine
 * for a reset.
 */
#ifndef HW_INPUT_I8042_H
#define HW_INPUT_I8042_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct I8042Wiring {
  VmIrq keyboard; /* IRQ 1 */
  VmIrq mouse;    /* IRQ 12 */
  VmIrq a20;      /* follows output port bit 1; high after reset. The board joins it with port 0x92's */
} I8042Wiring;

/* At set-up; the machine owns the device. */
VmDevice *i8042_new(Vm *vm, const char *id, const I8042Wiring *wiring);

#endif
