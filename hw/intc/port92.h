/*
 * The A20 gate and port 0x92, "system control port A" (PS/2): fast A20 and fast reset. A20 is on while the port or the
 * keyboard controller asks for it.
 */
#ifndef HW_INTC_PORT92_H
#define HW_INTC_PORT92_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct Port92 Port92;

Port92 *port92_create(Vm *vm);
/* The keyboard controller's A20 line; high until it is driven low, and at reset. */
VmIrq port92_keyboard_a20(Port92 *port92);

#endif
