/*
 * The PCI-to-ISA bridge (Intel 82371SB PIIX3), function 0 of a multi-function device: PCI interrupt steering
 * (PIRQRC[A:D]), the reset control register at port 0xCF9, and the sixteen ISA interrupt lines.
 *
 * Everything that drives an ISA line does so here; a line goes to the PIC and, with IRQ 0 on pin 2 as the MP
 * specification's default has it, to the I/O APIC. PCI lines A–D are or-ed in where the guest routes them. Edge/level
 * registers 0x4D0/1 stand with the PIC, whose behaviour they change.
 */
#ifndef HW_PCI_PIIX3_H
#define HW_PCI_PIIX3_H

#include "hw/pci/i440fx.h"

typedef struct Piix3 Piix3;
typedef struct I8259 I8259;
typedef struct Ioapic Ioapic;

/* Creates "piix3" at `slot` (usually 1), function 0; takes the bus's interrupt lines and the host bridge's port 0xCF9.
 * `ioapic` may be NULL. */
Piix3 *piix3_create(Vm *vm, PciBus *bus, unsigned slot, I440fx *host, I8259 *pic, Ioapic *ioapic);

/* ISA line 0–15, for a device to drive. */
VmIrq piix3_isa_irq(Piix3 *piix3, unsigned irq);

#endif
