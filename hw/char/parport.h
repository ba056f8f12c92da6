/*
 * A parallel port in the standard (SPP) mode with a printer that takes every byte.
 */
#ifndef HW_CHAR_PARPORT_H
#define HW_CHAR_PARPORT_H

#include <stdint.h>

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct VmChardev VmChardev;

extern const VmDeviceType parport_type; /* for the tests */

#define PARPORT_LPT1_PORT 0x378
#define PARPORT_LPT1_IRQ  7

/* Three ports from `port`. `chardev` takes what is printed and is from then on owned by the device; NULL: no printer.
 * At set-up; the machine owns the device. */
VmDevice *parport_new(Vm *vm, const char *id, uint16_t port, const VmIrq *irq, VmChardev *chardev);

#endif
