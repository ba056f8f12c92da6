/*
 * The AT's coprocessor error logic: FERR# becomes IRQ 13 until port 0xF0 is written.
 */
#ifndef HW_INTC_FERR_H
#define HW_INTC_FERR_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct Ferr Ferr;

/* `irq` is ISA line 13. */
Ferr *ferr_create(Vm *vm, VmIrq irq);
/* The CPU's FERR# pin, active high: raising it raises IRQ 13, which stays until the guest writes port 0xF0. */
VmIrq ferr_line(Ferr *ferr);
/* IGNNE#: true between a write to port 0xF0 and the fall of FERR#. */
bool ferr_get_ignne(const Ferr *ferr);

#endif
