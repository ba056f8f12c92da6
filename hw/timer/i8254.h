/*
 * The programmable interval timer (Intel 8254): ports 0x40–0x43, 1.193182 MHz. Channel 0 drives IRQ 0, channel 1 is
 * the refresh timer of old, channel 2 the speaker (gate and output at port 0x61, see hw/intc/port61.h).
 */
#ifndef HW_TIMER_I8254_H
#define HW_TIMER_I8254_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct I8254 I8254;

#define I8254_HZ 1193182u

/* Creates "pit". `irq` is ISA line 0. */
I8254 *i8254_create(Vm *vm, VmIrq irq);
/* While high, channel 0's output does not reach IRQ 0: the HPET's legacy replacement. */
VmIrq i8254_irq_inhibit(I8254 *pit);

/* For port 0x61 and the speaker. `channel` 0–2. */
void i8254_set_gate(I8254 *pit, unsigned channel, bool gate);
bool i8254_get_gate(const I8254 *pit, unsigned channel);
bool i8254_get_output(const I8254 *pit, unsigned channel);
/* The period of the square wave that the channel makes (mode 3), in ns; 0 in other modes. */
int64_t i8254_get_wave_period_ns(const I8254 *pit, unsigned channel);
/* Called after a channel was programmed. One listener. Set-up only. */
typedef void (*I8254ChangedFunc)(void *opaque, unsigned channel);
void i8254_set_listener(I8254 *pit, I8254ChangedFunc func, void *opaque);

#endif
