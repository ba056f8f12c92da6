/*
 * SMBIOS tables. Source: DMTF DSP0134, "System Management BIOS Reference Specification" 2.8. A structure is a formatted
 * area whose length its header gives, then its strings, each ended by a zero, and another zero.
 */
#include "hw/firmware/smbios.h"

#include "hw/firmware/acpi-impl.h"
#include "hw/firmware/fw-cfg.h"

#define ANCHOR_BYTES 31
#define MAX_STRINGS  6

typedef struct Smbios {
  GByteArray *out;
  guint start; /* of the open structure */
  const char *strings[MAX_STRINGS];
  uint8_t n_strings;
  uint16_t n_structures;
  guint largest;
} Smbios;

static void open_structure(Smbios *s, uint8_t type, uint16_t handle)
{
  s->start = s->out->len;
  s->n_strings = 0;
  acpi_put(s->out, type, 1);
  acpi_put(s->out, 0, 1);
  acpi_put(s->out, handle, 2);
}

/* A string's number, in place of the string. */
static void put_string(Smbios *s, const char *text)
{
  g_assert(s->n_strings < MAX_STRINGS);
  s->strings[s->n_strings++] = text;
  acpi_put(s->out, s->n_strings, 1);
}

static void close_structure(Smbios *s)
{
  s->out->data[s->start + 1] = (uint8_t)(s->out->len - s->start);
  for (unsigned i = 0; i < s->n_strings; i++)
    g_byte_array_append(s->out, (const guint8 *)s->strings[i], (guint)strlen(s->strings[i]) + 1);
  acpi_put(s->out, 0, s->n_strings ? 1 : 2);
  s->n_structures++;
  s->largest = MAX(s->largest, s->out->len - s->start);
}

static void add_bios(Smbios *s)
{
  open_structure(s, 0, 0x0000);
  put_string(s, "SeaBIOS");
  put_string(s, "Oriel");
  acpi_put(s->out, 0xe800, 2);
  put_string(s, "04/01/2014");
  acpi_put(s->out, 0, 1);      /* 64 KiB */
  acpi_put(s->out, 0x08, 8);   /* characteristics not supported */
  acpi_put(s->out, 0x0400, 2); /* extension 2: a virtual machine */
  acpi_put(s->out, 0, 2);
  acpi_put(s->out, 0xffff, 2);
  close_structure(s);
}

static void add_system(Smbios *s, const uint8_t *uuid)
{
  static const uint8_t none[16];
  open_structure(s, 1, 0x0100);
  put_string(s, "Oriel");
  put_string(s, "Standard PC (i440FX + PIIX3)");
  put_string(s, "1");
  acpi_put(s->out, 0, 1);
  g_byte_array_append(s->out, uuid ? uuid : none, 16);
  acpi_put(s->out, 6, 1); /* woken by the power switch */
  acpi_put(s->out, 0, 2);
  close_structure(s);
}

static void add_enclosure(Smbios *s)
{
  open_structure(s, 3, 0x0300);
  put_string(s, "Oriel");
  acpi_put(s->out, 1, 1); /* other */
  put_string(s, "1");
  acpi_put(s->out, 0, 2);
  acpi_put(s->out, 3, 1); /* states: safe; security: none */
  acpi_put(s->out, 3, 1);
  acpi_put(s->out, 3, 1);
  acpi_put(s->out, 2, 1);
  acpi_put(s->out, 0, 4);
  acpi_put(s->out, 0, 4);
  close_structure(s);
}

static void add_processor(Smbios *s, unsigned index)
{
  open_structure(s, 4, (uint16_t)(0x0400 + index));
  put_string(s, "CPU");
  acpi_put(s->out, 3, 1); /* central processor */
  acpi_put(s->out, 1, 1); /* family: other */
  put_string(s, "Oriel");
  acpi_put(s->out, 0, 8);
  put_string(s, "1");
  acpi_put(s->out, 0, 1);
  acpi_put(s->out, 0, 2);
  acpi_put(s->out, 2000, 2);
  acpi_put(s->out, 2000, 2);
  acpi_put(s->out, 0x41, 1); /* populated, enabled */
  acpi_put(s->out, 1, 1);
  acpi_put(s->out, 0xffff, 2);
  acpi_put(s->out, 0xffff, 2);
  acpi_put(s->out, 0xffff, 2);
  acpi_put(s->out, 0, 3);
  acpi_put(s->out, 1, 1); /* cores, enabled, threads */
  acpi_put(s->out, 1, 1);
  acpi_put(s->out, 1, 1);
  acpi_put(s->out, 2, 2);
  acpi_put(s->out, 1, 2);
  close_structure(s);
}

static void add_memory_array(Smbios *s, uint64_t bytes)
{
  uint64_t kib = bytes >> 10;
  bool extended = kib >= 0x80000000u;
  open_structure(s, 16, 0x1000);
  acpi_put(s->out, 1, 1);
  acpi_put(s->out, 3, 1); /* system memory */
  acpi_put(s->out, 6, 1); /* multi-bit ECC */
  acpi_put(s->out, extended ? 0x80000000u : kib, 4);
  acpi_put(s->out, 0xfffe, 2);
  acpi_put(s->out, 1, 2);
  acpi_put(s->out, extended ? bytes : 0, 8);
  close_structure(s);
}

static void add_memory_device(Smbios *s, uint64_t bytes)
{
  uint64_t mib = bytes >> 20;
  open_structure(s, 17, 0x1100);
  acpi_put(s->out, 0x1000, 2);
  acpi_put(s->out, 0xfffe, 2);
  acpi_put(s->out, 0xffff, 2);
  acpi_put(s->out, 0xffff, 2);
  acpi_put(s->out, mib < 0x7fff ? mib : 0x7fff, 2);
  acpi_put(s->out, 9, 1); /* DIMM */
  acpi_put(s->out, 0, 1);
  put_string(s, "DIMM 0");
  acpi_put(s->out, 0, 1);
  acpi_put(s->out, 7, 1); /* RAM */
  acpi_put(s->out, 2, 2);
  acpi_put(s->out, 0, 2);
  put_string(s, "Oriel");
  acpi_put(s->out, 0, 3);
  acpi_put(s->out, 0, 1);
  acpi_put(s->out, mib < 0x7fff ? 0 : mib, 4);
  acpi_put(s->out, 0, 2);
  acpi_put(s->out, 0, 6);
  close_structure(s);
}

static void add_mapped_range(Smbios *s, unsigned index, uint64_t first, uint64_t bytes)
{
  if (bytes == 0)
    return;
  uint64_t last_kib = (first + bytes - 1) >> 10;
  bool extended = last_kib >= UINT32_MAX;
  open_structure(s, 19, (uint16_t)(0x1300 + index));
  acpi_put(s->out, extended ? UINT32_MAX : first >> 10, 4);
  acpi_put(s->out, extended ? UINT32_MAX : last_kib, 4);
  acpi_put(s->out, 0x1000, 2);
  acpi_put(s->out, 1, 1);
  acpi_put(s->out, extended ? first : 0, 8);
  acpi_put(s->out, extended ? first + bytes - 1 : 0, 8);
  close_structure(s);
}

static void add_boot_and_end(Smbios *s)
{
  open_structure(s, 32, 0x2000);
  acpi_put(s->out, 0, 6);
  acpi_put(s->out, 0, 1); /* no errors */
  close_structure(s);
  open_structure(s, 127, 0x7f00);
  close_structure(s);
}

static void set_checksum(uint8_t *at, const uint8_t *bytes, size_t n)
{
  uint8_t sum = 0;
  *at = 0;
  for (size_t i = 0; i < n; i++)
    sum = (uint8_t)(sum + bytes[i]);
  *at = (uint8_t)-sum;
}

/* The 32-bit entry point (5.2.1); the firmware fills in the tables' address and sums it again. */
static GByteArray *build_anchor(const Smbios *s)
{
  GByteArray *a = g_byte_array_new();
  g_byte_array_append(a, (const guint8 *)"_SM_", 4);
  acpi_put(a, 0, 1);
  acpi_put(a, ANCHOR_BYTES, 1);
  acpi_put(a, 2, 1);
  acpi_put(a, 8, 1);
  acpi_put(a, s->largest, 2);
  acpi_put(a, 0, 6);
  g_byte_array_append(a, (const guint8 *)"_DMI_", 5);
  acpi_put(a, 0, 1);
  acpi_put(a, s->out->len, 2);
  acpi_put(a, 0, 4);
  acpi_put(a, s->n_structures, 2);
  acpi_put(a, 0x28, 1);
  set_checksum(a->data + 0x15, a->data + 0x10, 15);
  set_checksum(a->data + 4, a->data, ANCHOR_BYTES);
  return a;
}

void smbios_add_tables(FwCfg *cfg, const SmbiosConfig *config)
{
  Smbios s = { .out = g_byte_array_new() };
  add_bios(&s);
  add_system(&s, config->uuid);
  add_enclosure(&s);
  for (unsigned i = 0; i < config->n_cpus; i++)
    add_processor(&s, i);
  add_memory_array(&s, config->below_4g_bytes + config->above_4g_bytes);
  add_memory_device(&s, config->below_4g_bytes + config->above_4g_bytes);
  add_mapped_range(&s, 0, 0, config->below_4g_bytes);
  add_mapped_range(&s, 1, UINT64_C(1) << 32, config->above_4g_bytes);
  add_boot_and_end(&s);
  GByteArray *anchor = build_anchor(&s);
  g_autoptr(GBytes) anchor_bytes = g_byte_array_free_to_bytes(anchor);
  g_autoptr(GBytes) table_bytes = g_byte_array_free_to_bytes(s.out);
  fw_cfg_add_file(cfg, "etc/smbios/smbios-anchor", anchor_bytes);
  fw_cfg_add_file(cfg, "etc/smbios/smbios-tables", table_bytes);
}
