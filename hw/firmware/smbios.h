/* The SMBIOS tables: what the machine says of itself to its operating system. */
#ifndef HW_FIRMWARE_SMBIOS_H
#define HW_FIRMWARE_SMBIOS_H

#include <stdint.h>

typedef struct FwCfg FwCfg;

typedef struct SmbiosConfig {
  unsigned n_cpus;
  uint64_t below_4g_bytes, above_4g_bytes;
  const uint8_t *uuid; /* 16 bytes, or NULL for none */
} SmbiosConfig;

/* Adds etc/smbios/smbios-anchor and etc/smbios/smbios-tables; the firmware places them. */
void smbios_add_tables(FwCfg *cfg, const SmbiosConfig *config);

#endif
