/*
 * PCI: the bus, and the base of its devices.
 *
 * A PCI device is a struct that begins with a PciDevice. The base holds the configuration space with a write mask, the
 * BARs (sized and moved by the guest as the PCI Local Bus Specification 3.0, 6.2.5 says) and the interrupt pin; the
 * device's own state table lists the base as its first row, VM_STRUCT(S, pci, pci_device_fields).
 *
 * All calls with the main I/O context's lock held (or at set-up).
 */
#ifndef HW_PCI_PCI_H
#define HW_PCI_PCI_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"
#include "vm-engine/memory.h"

typedef struct PciBus PciBus;
typedef struct PciDevice PciDevice;

#define PCI_CONFIG_BYTES          256
#define PCI_N_BARS                7 /* six, and the expansion ROM */
#define PCI_ROM_BAR               6
#define PCI_DEVFN(slot, function) ((uint8_t)((slot) << 3 | (function)))

typedef enum PciBarKind { PCI_BAR_NONE, PCI_BAR_MEMORY, PCI_BAR_MEMORY_PREFETCH, PCI_BAR_PORTS } PciBarKind;

typedef struct PciBar {
  PciBarKind kind;
  uint64_t size;    /* a power of two */
  VmRegion *region; /* disabled until decoding is on and a base is set */
} PciBar;

typedef struct PciIds {
  uint16_t vendor, device, subsystem_vendor, subsystem;
  uint32_t class_code; /* 24 bits: class, subclass, interface */
  uint8_t revision;
} PciIds;

struct PciDevice {
  VmDevice dev;
  PciBus *bus;
  uint8_t devfn;
  bool irq_level;
  uint8_t config[PCI_CONFIG_BYTES];
  uint8_t write_mask[PCI_CONFIG_BYTES]; /* which bits the guest may change */
  uint8_t clear_mask[PCI_CONFIG_BYTES]; /* which bits a written 1 clears */
  PciBar bars[PCI_N_BARS];
  /* After the guest wrote configuration bytes [offset, offset + size); the base has applied masks and BARs. NULL: none. */
  void (*config_written)(PciDevice *dev, unsigned offset, unsigned size);
};

/* Rows for everything in PciDevice; the VmDevice inside stands in it as transient. */
extern const VmField pci_device_fields[];

/* Allocates through vm_device_new(), fills the header. `devfn` must be free. */
void *pci_device_new(PciBus *bus, const VmDeviceType *type, const char *id, uint8_t devfn, const PciIds *ids);
/* The base's part of reset: every writable or clearable bit of the header (command, status, BARs, interrupt line) to 0; the
 * device sets what differs and its own registers. Call it from the device's reset. */
void pci_device_reset(PciDevice *dev);
/* The base's part of `loaded`. */
void pci_device_loaded(PciDevice *dev);

/* Declares a BAR; registers by ops, or a block. The region is made here and owned by the memory. */
void pci_bar_io(PciDevice *dev, unsigned bar, PciBarKind kind, uint64_t size, const VmMmioOps *ops, void *opaque);
void pci_bar_ram(PciDevice *dev, unsigned bar, uint64_t size, VmRam *ram, bool prefetch);
/* Expansion ROM from a file's bytes (copied). */
bool pci_bar_rom(PciDevice *dev, const void *bytes, size_t size, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Interrupt pin 1–4 (INTA–INTD); 0 none. */
void pci_set_interrupt_pin(PciDevice *dev, uint8_t pin);

/* Drives the device's interrupt pin. Pin P of slot S is bus line (P - 1 + S - 1) mod 4, as a PC is wired. */
void pci_set_irq(PciDevice *dev, bool level);

/* Bus-master access: RAM only, and only while the guest has the bus-master bit set. */
bool pci_dma_read(PciDevice *dev, VmGpa gpa, void *buffer, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;
bool pci_dma_write(PciDevice *dev, VmGpa gpa, const void *buffer, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;

/* ---- the bus ------------------------------------------------------------------------------------------------------- */

/* `intx(opaque, line, level)`: the four (already swizzled and or-ed) bus interrupt lines. NULL until somebody, such as
 * the PCI-to-ISA bridge, takes them with pci_bus_set_intx(). */
PciBus *pci_bus_new(Vm *vm, VmIrqFunc intx, void *opaque);
void pci_bus_set_intx(PciBus *bus, VmIrqFunc intx, void *opaque);
void pci_bus_free(PciBus *bus);
PciDevice *pci_bus_find(PciBus *bus, uint8_t devfn);
/* Configuration access as mechanism #1 does it; absent functions read all ones. */
uint32_t pci_config_read(PciBus *bus, uint8_t bus_number, uint8_t devfn, unsigned offset, unsigned size);
void pci_config_write(PciBus *bus, uint8_t bus_number, uint8_t devfn, unsigned offset, uint32_t value, unsigned size);

#endif
