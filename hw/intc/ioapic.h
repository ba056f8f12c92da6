/*
 * The I/O APIC (Intel 82093AA with the EOI register of its successors): 24 pins, each with a redirection entry.
 */
#ifndef HW_INTC_IOAPIC_H
#define HW_INTC_IOAPIC_H

#include "hw/intc/lapic.h"

typedef struct Ioapic Ioapic;

#define IOAPIC_BASE   0xfec00000u
#define IOAPIC_N_PINS 24

/* Creates "ioapic" at IOAPIC_BASE; hears EOIs from `bus`. `id` is its power-on APIC ID (4 bits). */
Ioapic *ioapic_create(Vm *vm, LapicBus *bus, uint8_t id);
/* Pin 0–23. Pin 0 takes the PIC's INTR (for ExtINT), 1–15 the ISA lines with IRQ 0 at pin 2. */
VmIrq ioapic_irq(Ioapic *ioapic, unsigned pin);

#endif
