/*
 * The PC's pair of interrupt controllers (Intel 8259A), cascaded at IRQ 2, at ports 0x20/0x21 and 0xA0/0xA1, with the
 * edge/level control registers of the PIIX3 at 0x4D0/0x4D1.
 */
#ifndef HW_INTC_I8259_H
#define HW_INTC_I8259_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct I8259 I8259;

#define I8259_MAX_OUTPUTS 3

/* Creates the pair as device "pic". */
I8259 *i8259_create(Vm *vm);
/* Adds a listener to the INTR output (at most I8259_MAX_OUTPUTS). Set-up only. */
void i8259_connect_output(I8259 *pic, VmIrq output);
/* Input line 0–15 (2 is the cascade and does nothing). */
VmIrq i8259_irq(I8259 *pic, unsigned line);
/* The INTR output's level. */
bool i8259_get_output(const I8259 *pic);
/* The CPU's interrupt acknowledge cycle: the vector, which is the spurious one of IRQ 7 or 15 if nothing asks. */
uint8_t i8259_acknowledge(I8259 *pic);

#endif
