/*
 * High precision event timers (IA-PC HPET specification 1.0a) at 0xFED00000: a 64-bit counter at 100 MHz and three
 * comparators.
 */
#ifndef HW_TIMER_HPET_H
#define HW_TIMER_HPET_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"

typedef struct Hpet Hpet;

#define HPET_BASE      0xfed00000u
#define HPET_N_TIMERS  3
#define HPET_N_ROUTES  32
#define HPET_PERIOD_FS 10000000u /* 10 ns */
/* For the ACPI HPET table: the low dword of the capabilities register. */
#define HPET_EVENT_TIMER_BLOCK_ID 0x8086a201u

/* How it is wired. Unconnected wires stay zero. */
typedef struct HpetWiring {
  VmIrq legacy_irq0, legacy_irq8; /* with legacy replacement: ISA lines 0 and 8 for timers 0 and 1 */
  VmIrq pit_inhibit, rtc_inhibit; /* high while legacy replacement is on */
  VmIrq routes[HPET_N_ROUTES];    /* I/O APIC pins that timers may be routed to */
} HpetWiring;

/* Creates "hpet"; `wiring` is copied. Each connected route is offered to the guest by every timer. */
Hpet *hpet_create(Vm *vm, const HpetWiring *wiring);

#endif
