/* ACPI tables: what the files that build them share. */
#ifndef HW_FIRMWARE_ACPI_IMPL_H
#define HW_FIRMWARE_ACPI_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#include "hw/firmware/acpi.h"

/* A table with its 36-byte header, whose length and checksum acpi_table_close() puts in. */
GByteArray *acpi_table_new(const char *signature, uint8_t revision);
void acpi_table_close(GByteArray *table);
/* Appends an integer of `n` bytes, little-endian. */
void acpi_put(GByteArray *table, uint64_t value, unsigned n);

#endif
