/*
 * The PC's ACPI tables (ACPI specification 6.4, chapter 5): FACS, DSDT, FADT, MADT, HPET, RSDT and RSDP.
 *
 * The firmware decides where they stand: the tables are one file, and a list of commands (QEMU's table-loader interface)
 * tells it to allocate the file, to add its address to the pointers in it, and to sum the tables anew.
 */
#include "hw/firmware/acpi-impl.h"

#include "hw/firmware/fw-cfg.h"
#include "hw/intc/ioapic.h"
#include "hw/pci/piix4-pm.h"
#include "hw/timer/hpet.h"

#define OEM_ID          "ORIEL "
#define OEM_TABLE_ID    "ORIELPC "
#define CREATOR_ID      "ORIL"
#define HEADER_BYTES    36
#define CHECKSUM_OFFSET 9
#define LENGTH_OFFSET   4
#define LAPIC_BASE_GPA  0xfee00000u
#define TABLES_FILE     "etc/acpi/tables"
#define RSDP_FILE       "etc/acpi/rsdp"

void acpi_put(GByteArray *table, uint64_t value, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    uint8_t byte = i < 8 ? (uint8_t)(value >> (8 * i)) : 0;
    g_byte_array_append(table, &byte, 1);
  }
}

static void put_text(GByteArray *table, const char *text, size_t n)
{
  g_byte_array_append(table, (const guint8 *)text, (guint)n);
}

GByteArray *acpi_table_new(const char *signature, uint8_t revision)
{
  GByteArray *table = g_byte_array_new();
  put_text(table, signature, 4);
  acpi_put(table, 0, 4);
  acpi_put(table, revision, 1);
  acpi_put(table, 0, 1);
  put_text(table, OEM_ID, 6);
  put_text(table, OEM_TABLE_ID, 8);
  acpi_put(table, 1, 4);
  put_text(table, CREATOR_ID, 4);
  acpi_put(table, 1, 4);
  return table;
}

static uint8_t checksum(const uint8_t *bytes, size_t n)
{
  uint8_t sum = 0;
  for (size_t i = 0; i < n; i++)
    sum = (uint8_t)(sum + bytes[i]);
  return (uint8_t)-sum;
}

void acpi_table_close(GByteArray *table)
{
  uint32_t length = GUINT32_TO_LE(table->len);
  memcpy(table->data + LENGTH_OFFSET, &length, 4);
  table->data[CHECKSUM_OFFSET] = 0;
  table->data[CHECKSUM_OFFSET] = checksum(table->data, table->len);
}

/* ---- the loader's commands ------------------------------------------------------------------------------------------ */

enum { LOADER_ALLOCATE = 1, LOADER_ADD_POINTER = 2, LOADER_ADD_CHECKSUM = 3 };
enum { LOADER_ZONE_HIGH = 1, LOADER_ZONE_FSEG = 2 };
#define LOADER_FILE_BYTES  56
#define LOADER_ENTRY_BYTES 128

static void put_file_name(GByteArray *loader, const char *name)
{
  char padded[LOADER_FILE_BYTES] = { 0 };
  g_strlcpy(padded, name, sizeof padded);
  put_text(loader, padded, sizeof padded);
}

static void pad_entry(GByteArray *loader)
{
  while (loader->len % LOADER_ENTRY_BYTES != 0)
    acpi_put(loader, 0, 1);
}

static void loader_allocate(GByteArray *loader, const char *file, uint32_t align, uint8_t zone)
{
  acpi_put(loader, LOADER_ALLOCATE, 4);
  put_file_name(loader, file);
  acpi_put(loader, align, 4);
  acpi_put(loader, zone, 1);
  pad_entry(loader);
}

/* Adds the address of the tables' file to the pointer of `size` bytes at `offset` in `file`. */
static void loader_add_pointer(GByteArray *loader, const char *file, uint32_t offset, uint8_t size)
{
  acpi_put(loader, LOADER_ADD_POINTER, 4);
  put_file_name(loader, file);
  put_file_name(loader, TABLES_FILE);
  acpi_put(loader, offset, 4);
  acpi_put(loader, size, 1);
  pad_entry(loader);
}

static void loader_add_checksum(GByteArray *loader, const char *file, uint32_t at, uint32_t start, uint32_t length)
{
  acpi_put(loader, LOADER_ADD_CHECKSUM, 4);
  put_file_name(loader, file);
  acpi_put(loader, at, 4);
  acpi_put(loader, start, 4);
  acpi_put(loader, length, 4);
  pad_entry(loader);
}

/* ---- tables ------------------------------------------------------------------------------------------------------------- */

/* The file being put together, and the commands for it. */
typedef struct Builder {
  GByteArray *tables, *loader;
  uint32_t roots[4]; /* offsets of what the RSDT lists */
  unsigned n_roots;
} Builder;

/* Appends a closed table; returns its offset. The firmware sums it anew if a pointer in it changes. */
static uint32_t append(Builder *b, GByteArray *table)
{
  uint32_t offset = b->tables->len;
  g_byte_array_append(b->tables, table->data, table->len);
  g_byte_array_unref(table);
  return offset;
}

static uint32_t add_facs(Builder *b)
{
  GByteArray *facs = g_byte_array_new();
  put_text(facs, "FACS", 4);
  acpi_put(facs, 64, 4);
  while (facs->len < 64)
    acpi_put(facs, 0, 1);
  return append(b, facs);
}

/* Generic address structure in port space (5.2.3.2). */
static void put_port_address(GByteArray *table, uint8_t bits, uint8_t access_size, uint64_t port)
{
  acpi_put(table, 1, 1);
  acpi_put(table, bits, 1);
  acpi_put(table, 0, 1);
  acpi_put(table, access_size, 1);
  acpi_put(table, port, 8);
}

#define FADT_FACS_OFFSET   36
#define FADT_DSDT_OFFSET   40
#define FADT_X_DSDT_OFFSET 140
enum {
  FADT_WBINVD = 1 << 0,
  FADT_PROC_C1 = 1 << 2,
  FADT_SLP_BUTTON = 1 << 5,
  FADT_RTC_S4 = 1 << 7,
  FADT_RESET_REG = 1 << 10
};

/* Revision 3: the port addresses twice, and the reset register (5.2.9). */
static GByteArray *build_fadt(void)
{
  GByteArray *t = acpi_table_new("FACP", 3);
  acpi_put(t, 0, 4); /* FACS: linked by the loader */
  acpi_put(t, 0, 4); /* DSDT */
  acpi_put(t, 1, 1); /* interrupt model, of old */
  acpi_put(t, 1, 1); /* preferred profile: desktop */
  acpi_put(t, PIIX4_SCI_IRQ, 2);
  acpi_put(t, PIIX4_SMI_CMD_PORT, 4);
  acpi_put(t, PIIX4_ACPI_ENABLE, 1);
  acpi_put(t, PIIX4_ACPI_DISABLE, 1);
  acpi_put(t, 0, 2); /* S4BIOS, P-states */
  acpi_put(t, PIIX4_PM_BASE + PIIX4_PM1_EVT_OFFSET, 4);
  acpi_put(t, 0, 4);
  acpi_put(t, PIIX4_PM_BASE + PIIX4_PM1_CNT_OFFSET, 4);
  acpi_put(t, 0, 4);
  acpi_put(t, 0, 4); /* PM2 */
  acpi_put(t, PIIX4_PM_BASE + PIIX4_PM_TMR_OFFSET, 4);
  acpi_put(t, PIIX4_GPE0_BASE, 4);
  acpi_put(t, 0, 4);
  acpi_put(t, 4, 1); /* lengths: PM1 event, control, PM2, timer, GPE0, GPE1 */
  acpi_put(t, 2, 1);
  acpi_put(t, 0, 1);
  acpi_put(t, 4, 1);
  acpi_put(t, PIIX4_GPE0_BYTES, 1);
  acpi_put(t, 0, 1);
  acpi_put(t, 0, 2);     /* GPE1 base, C-state control */
  acpi_put(t, 0xfff, 2); /* C2 and C3 latency: not there */
  acpi_put(t, 0xfff, 2);
  acpi_put(t, 0, 6);    /* flush size, stride, duty */
  acpi_put(t, 0, 2);    /* day and month alarm */
  acpi_put(t, 0x32, 1); /* century, in CMOS */
  acpi_put(t, 0x03, 2); /* legacy devices, 8042 */
  acpi_put(t, 0, 1);
  acpi_put(t, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_RTC_S4 | FADT_RESET_REG, 4);
  put_port_address(t, 8, 1, 0xcf9);
  acpi_put(t, 0x06, 1); /* reset value */
  acpi_put(t, 0, 3);
  acpi_put(t, 0, 8); /* X_FACS: the 32-bit one is used */
  acpi_put(t, 0, 8); /* X_DSDT */
  put_port_address(t, 32, 2, PIIX4_PM_BASE + PIIX4_PM1_EVT_OFFSET);
  acpi_put(t, 0, 12);
  put_port_address(t, 16, 2, PIIX4_PM_BASE + PIIX4_PM1_CNT_OFFSET);
  acpi_put(t, 0, 12);
  acpi_put(t, 0, 12);
  put_port_address(t, 32, 3, PIIX4_PM_BASE + PIIX4_PM_TMR_OFFSET);
  put_port_address(t, PIIX4_GPE0_BYTES * 8, 1, PIIX4_GPE0_BASE);
  acpi_put(t, 0, 12);
  return t;
}

static void point(Builder *b, GByteArray *table, uint32_t field, unsigned size, uint32_t target, uint32_t table_offset)
{
  for (unsigned i = 0; i < size; i++)
    table->data[field + i] = i < 4 ? (uint8_t)(target >> (8 * i)) : 0;
  loader_add_pointer(b->loader, TABLES_FILE, table_offset + field, (uint8_t)size);
}

static void add_fadt(Builder *b, uint32_t facs, uint32_t dsdt)
{
  uint32_t offset = b->tables->len;
  GByteArray *t = build_fadt();
  point(b, t, FADT_FACS_OFFSET, 4, facs, offset);
  point(b, t, FADT_DSDT_OFFSET, 4, dsdt, offset);
  point(b, t, FADT_X_DSDT_OFFSET, 8, dsdt, offset);
  acpi_table_close(t);
  t->data[CHECKSUM_OFFSET] = 0;
  uint32_t length = t->len;
  b->roots[b->n_roots++] = append(b, t);
  loader_add_checksum(b->loader, TABLES_FILE, offset + CHECKSUM_OFFSET, offset, length);
}

static void put_override(GByteArray *t, uint8_t irq, uint32_t gsi, uint16_t flags)
{
  acpi_put(t, 2, 1);
  acpi_put(t, 10, 1);
  acpi_put(t, 0, 1); /* ISA */
  acpi_put(t, irq, 1);
  acpi_put(t, gsi, 4);
  acpi_put(t, flags, 2);
}

#define MADT_LEVEL_HIGH 0x0d

static void add_madt(Builder *b, const AcpiConfig *config)
{
  static const uint8_t level_irqs[] = { 5, 9, 10, 11 };
  GByteArray *t = acpi_table_new("APIC", 1);
  acpi_put(t, LAPIC_BASE_GPA, 4);
  acpi_put(t, 1, 4); /* PC-AT compatible: there is a PIC pair too */
  for (unsigned i = 0; i < config->n_cpus; i++) {
    acpi_put(t, 0, 1);
    acpi_put(t, 8, 1);
    acpi_put(t, i, 1);
    acpi_put(t, i, 1);
    acpi_put(t, 1, 4);
  }
  acpi_put(t, 1, 1);
  acpi_put(t, 12, 1);
  acpi_put(t, config->n_cpus, 1); /* the I/O APIC's ID follows the CPUs' */
  acpi_put(t, 0, 1);
  acpi_put(t, IOAPIC_BASE, 4);
  acpi_put(t, 0, 4);
  put_override(t, 0, 2, 0);
  for (size_t i = 0; i < G_N_ELEMENTS(level_irqs); i++)
    put_override(t, level_irqs[i], level_irqs[i], MADT_LEVEL_HIGH);
  acpi_put(t, 4, 1); /* NMI on every CPU's LINT1 */
  acpi_put(t, 6, 1);
  acpi_put(t, 0xff, 1);
  acpi_put(t, 0, 2);
  acpi_put(t, 1, 1);
  acpi_table_close(t);
  b->roots[b->n_roots++] = append(b, t);
}

static void add_hpet(Builder *b)
{
  GByteArray *t = acpi_table_new("HPET", 1);
  acpi_put(t, HPET_EVENT_TIMER_BLOCK_ID, 4);
  acpi_put(t, 0, 1); /* memory space */
  acpi_put(t, 64, 1);
  acpi_put(t, 0, 2);
  acpi_put(t, HPET_BASE, 8);
  acpi_put(t, 0, 1);
  acpi_put(t, 0x80, 2); /* minimum tick, periodic */
  acpi_put(t, 0, 1);
  acpi_table_close(t);
  b->roots[b->n_roots++] = append(b, t);
}

static uint32_t add_rsdt(Builder *b)
{
  uint32_t offset = b->tables->len;
  GByteArray *t = acpi_table_new("RSDT", 1);
  for (unsigned i = 0; i < b->n_roots; i++) {
    loader_add_pointer(b->loader, TABLES_FILE, offset + t->len, 4);
    acpi_put(t, b->roots[i], 4);
  }
  acpi_table_close(t);
  t->data[CHECKSUM_OFFSET] = 0;
  uint32_t length = t->len;
  append(b, t);
  loader_add_checksum(b->loader, TABLES_FILE, offset + CHECKSUM_OFFSET, offset, length);
  return offset;
}

#define RSDP_BYTES           20
#define RSDP_CHECKSUM_OFFSET 8
#define RSDP_RSDT_OFFSET     16

static GByteArray *add_rsdp(Builder *b, uint32_t rsdt)
{
  GByteArray *t = g_byte_array_new();
  put_text(t, "RSD PTR ", 8);
  acpi_put(t, 0, 1);
  put_text(t, OEM_ID, 6);
  acpi_put(t, 0, 1); /* revision 0: ACPI 1.0, an RSDT */
  acpi_put(t, rsdt, 4);
  loader_add_pointer(b->loader, RSDP_FILE, RSDP_RSDT_OFFSET, 4);
  loader_add_checksum(b->loader, RSDP_FILE, RSDP_CHECKSUM_OFFSET, 0, RSDP_BYTES);
  return t;
}

static void give(FwCfg *cfg, const char *name, GByteArray *array)
{
  g_autoptr(GBytes) bytes = g_byte_array_free_to_bytes(array);
  fw_cfg_add_file(cfg, name, bytes);
}

void acpi_add_tables(FwCfg *cfg, const AcpiConfig *config)
{
  Builder b = { .tables = g_byte_array_new(), .loader = g_byte_array_new() };
  loader_allocate(b.loader, RSDP_FILE, 16, LOADER_ZONE_FSEG);
  loader_allocate(b.loader, TABLES_FILE, 64, LOADER_ZONE_HIGH);
  uint32_t facs = add_facs(&b);
  uint32_t dsdt = append(&b, acpi_build_dsdt(config));
  add_fadt(&b, facs, dsdt);
  add_madt(&b, config);
  add_hpet(&b);
  GByteArray *rsdp = add_rsdp(&b, add_rsdt(&b));
  give(cfg, TABLES_FILE, b.tables);
  give(cfg, RSDP_FILE, rsdp);
  give(cfg, "etc/table-loader", b.loader);
}
