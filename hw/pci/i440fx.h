/*
 * The host bridge of a PC of 1996 (Intel 82441FX PMC), PCI device 0:0.0: configuration mechanism #1 at ports 0xCF8 and
 * 0xCFC, the PAM registers that shadow the BIOS area, and SMRAM.
 *
 * How the regions of a PC stack up (higher wins), for everybody who maps one:
 *   PC_PRIORITY_PCI      BARs: whatever the guest puts them over wins, as RAM and fixed decoders do on the real bridge
 *   PC_PRIORITY_FIXED    RAM, firmware ROM, the VGA window, ISA ports
 *   PC_PRIORITY_SHADOW   this bridge's PAM segments (C0000–FFFFF) and SMRAM (A0000–BFFFF)
 *   PC_PRIORITY_CHIPSET  I/O APIC, HPET
 *   PC_PRIORITY_LAPIC    local APICs
 * The board maps RAM at [0, A0000) and from 100000 up, and the ROM over C0000–FFFFF as far as it reaches; what the PAM
 * registers do not claim shows through to that ROM or to nothing.
 */
#ifndef HW_PCI_I440FX_H
#define HW_PCI_I440FX_H

#include "hw/pci/pci.h"

enum {
  PC_PRIORITY_PCI = -1,
  PC_PRIORITY_FIXED = 0,
  PC_PRIORITY_SHADOW = 10,
  PC_PRIORITY_CHIPSET = 20,
  PC_PRIORITY_LAPIC = 21,
};

typedef struct I440fx I440fx;

/* Creates device 0:0.0 ("i440fx") and maps ports 0xCF8–0xCFF. `ram` is the block whose first MiB lies at address 0 (at
 * least 1 MiB long). Takes ownership of `bus`, which is freed after the devices on it. */
I440fx *i440fx_create(Vm *vm, PciBus *bus, VmRam *ram);

/* One-byte accesses to port 0xCF9 lie within the address register but belong to the south bridge: they go to `ops`
 * (offset 0, size 1). Set-up only. */
void i440fx_set_reset_control(I440fx *host, const VmMmioOps *ops, void *opaque);

#endif
