/*
 * Port 0x61, "system control port B" (PC/AT): the speaker's gate and data bits over channel 2 of the timer, the
 * refresh toggle, and the NMI sources SERR# and IOCHK# with their enables.
 */
#ifndef HW_INTC_PORT61_H
#define HW_INTC_PORT61_H

#include "hw/timer/i8254.h"
#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct Port61 Port61;

/* `nmi`: where NMIs go (lapic_bus_nmi()). */
Port61 *port61_create(Vm *vm, I8254 *pit, VmIrq nmi);
/* High while bit 7 of port 0x70 masks NMIs: give it to mc146818_set_nmi_mask_line(). */
VmIrq port61_nmi_mask(Port61 *port61);
/* The ISA bus's IOCHK# and the PCI bus's SERR#, as active-high lines. */
VmIrq port61_iochk(Port61 *port61);
VmIrq port61_serr(Port61 *port61);

/* Told whenever what the speaker plays changes: off, the level the data bit and channel 2 hold, or a square wave of
 * `period_ns`. For a sound device; lock held. */
typedef void (*Port61SpeakerFunc)(void *opaque, bool sounding, int64_t period_ns);
void port61_set_speaker(Port61 *port61, Port61SpeakerFunc func, void *opaque);

#endif
