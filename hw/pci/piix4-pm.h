/*
 * Power management and SMBus (function 3 of the Intel 82371AB PIIX4, 8086:7113): ACPI fixed-feature registers, the PM
 * timer, SMI command port, SCI, power button, soft off.
 *
 * The firmware places the blocks: SeaBIOS puts the PM block at 0x600 and the SMBus at 0x700. The ACPI tables describe
 * what it does. The GPE block is fixed.
 */
#ifndef HW_PCI_PIIX4_PM_H
#define HW_PCI_PIIX4_PM_H

#include "hw/pci/pci.h"

/* Where SeaBIOS puts the PM block; the tables' addresses are this plus the offsets below. */
#define PIIX4_PM_BASE        0x600
#define PIIX4_SMBUS_BASE     0x700
#define PIIX4_PM1_EVT_OFFSET 0x00 /* status, enable: 4 bytes */
#define PIIX4_PM1_CNT_OFFSET 0x04 /* 2 bytes */
#define PIIX4_PM_TMR_OFFSET  0x08 /* 4 bytes, 24 bits count */
#define PIIX4_GPE0_BASE      0xafe0
#define PIIX4_GPE0_BYTES     4 /* two status, two enable */
#define PIIX4_SMI_CMD_PORT   0xb2
#define PIIX4_ACPI_ENABLE    0xf1 /* FADT: values for the SMI command port */
#define PIIX4_ACPI_DISABLE   0xf0
#define PIIX4_SLP_TYP_S5     0 /* DSDT: \_S5 */
#define PIIX4_SCI_IRQ        9
#define PIIX4_PM_TIMER_HZ    3579545

typedef struct Piix4Pm Piix4Pm;

/* Creates "piix4-pm" at `slot`, function 3. `sci` is ISA line 9. Becomes the machine's power-button handler. */
Piix4Pm *piix4_pm_create(Vm *vm, PciBus *bus, unsigned slot, VmIrq sci);

/* Whether CPUs can enter system-management mode (by default they can). Without, SMIs are not raised, and the enable bit
 * reads as set so that SeaBIOS takes its set-up as done. Set-up only. */
void piix4_pm_set_smm(Piix4Pm *pm, bool available);

/* Presses the power button: sets PWRBTN_STS, which raises the SCI if the guest enabled it. Lock held. */
void piix4_pm_press_power_button(Piix4Pm *pm);
/* Sets bits of GPE0's status, which raises the SCI where they are enabled. Lock held. */
void piix4_pm_raise_gpe(Piix4Pm *pm, uint16_t bits);

#endif
