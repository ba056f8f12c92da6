/*
 * A serial port with a 16550A UART.
 */
#ifndef HW_CHAR_UART16550_H
#define HW_CHAR_UART16550_H

#include <stdint.h>

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct VmChardev VmChardev;

extern const VmDeviceType uart16550_type; /* for the tests */

/* The usual places of the first four ports (0x3F8, 0x2F8, 0x3E8, 0x2E8) and their IRQs (4, 3, 4, 3); n is 0–3. */
uint16_t uart16550_default_port(unsigned n);
unsigned uart16550_default_irq(unsigned n);

/* Eight ports from `port`. `chardev` is the far end and from then on owned by the device (NULL: nothing plugged in).
 * At set-up; the machine owns the device. */
VmDevice *uart16550_new(Vm *vm, const char *id, uint16_t port, const VmIrq *irq, VmChardev *chardev);

#endif
