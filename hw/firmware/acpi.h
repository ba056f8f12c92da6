/*
 * The PC's ACPI tables, handed to the firmware as files that its table loader places and links.
 */
#ifndef HW_FIRMWARE_ACPI_H
#define HW_FIRMWARE_ACPI_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct FwCfg FwCfg;

typedef struct AcpiConfig {
  unsigned n_cpus;
  uint32_t pci_hole_first, pci_hole_last; /* the 32-bit window for PCI memory */
  bool floppy, parallel;
  unsigned serial_mask; /* bit n: COM n+1 is there */
  bool vga;
} AcpiConfig;

/* Adds etc/acpi/rsdp, etc/acpi/tables and etc/table-loader. */
void acpi_add_tables(FwCfg *cfg, const AcpiConfig *config);
/* The DSDT alone, with its header and checksum, for tests by a disassembler. Owned. */
GByteArray *acpi_build_dsdt(const AcpiConfig *config);

#endif
