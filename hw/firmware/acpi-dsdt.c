/*
 * The DSDT of the PC: what ACPI knows of the board beyond its fixed registers.
 *
 * Source: ACPI specification 6.4, chapters 5, 6 and 20. Four interrupt links stand for the PIIX3's PIRQ registers; a
 * PCI slot's pins reach them rotated by the slot number, as the board wires them (slot 1's INTA to link A, counting from
 * there).
 */
#include "hw/firmware/acpi-impl.h"

#include "hw/firmware/aml.h"
#include "hw/pci/piix4-pm.h"
#include "hw/timer/hpet.h"

#define N_SLOTS 32
#define N_LINKS 4

static const char *const link_names[N_LINKS] = { "LNKA", "LNKB", "LNKC", "LNKD" };
static const char *const pirq_names[N_LINKS] = { "PRQ0", "PRQ1", "PRQ2", "PRQ3" };

/* Name(_CRS or the like, Buffer(resources)); frees them. */
static void name_resources(Aml *aml, const char *name, GByteArray *res)
{
  aml_res_end(res);
  aml_name(aml, name);
  aml_buffer(aml, res->data, res->len);
  g_byte_array_unref(res);
}

static void name_integer(Aml *aml, const char *name, uint64_t value)
{
  aml_name(aml, name);
  aml_integer(aml, value);
}

static void name_hid(Aml *aml, const char *id)
{
  aml_name(aml, "_HID");
  aml_eisa_id(aml, id);
}

/* Which link slot `slot`'s pin (0 = INTA) is wired to. */
static unsigned link_of(unsigned slot, unsigned pin)
{
  return (slot + pin + N_LINKS - 1) % N_LINKS;
}

static void add_routing(Aml *aml)
{
  aml_name(aml, "_PRT");
  aml_package(aml, N_SLOTS * N_LINKS);
  for (unsigned slot = 0; slot < N_SLOTS; slot++) {
    for (unsigned pin = 0; pin < N_LINKS; pin++) {
      aml_package(aml, 4);
      aml_integer(aml, slot << 16 | 0xffff);
      aml_integer(aml, pin);
      aml_path(aml, link_names[link_of(slot, pin)]);
      aml_integer(aml, 0);
      aml_end(aml);
    }
  }
  aml_end(aml);
}

static void add_host_bridge_resources(Aml *aml, const AcpiConfig *config)
{
  GByteArray *res = g_byte_array_new();
  aml_res_word_bus(res, 0, 0xff);
  aml_res_io(res, 0xcf8, 8);
  aml_res_word_io(res, 0x0000, 0x0cf7);
  aml_res_word_io(res, 0x0d00, 0xffff);
  aml_res_dword_memory(res, 0xa0000, 0xbffff);
  aml_res_dword_memory(res, config->pci_hole_first, config->pci_hole_last);
  name_resources(aml, "_CRS", res);
}

typedef struct IsaDevice {
  const char *name, *hid;
  uint16_t io[4][2]; /* base, length */
  int irq;           /* -1: none */
  int dma;
  int uid; /* -1: none */
} IsaDevice;

static void add_isa_device(Aml *aml, const IsaDevice *d)
{
  GByteArray *res = g_byte_array_new();
  aml_device(aml, d->name);
  name_hid(aml, d->hid);
  if (d->uid >= 0)
    name_integer(aml, "_UID", (uint64_t)d->uid);
  name_integer(aml, "_STA", 0xf);
  for (size_t i = 0; i < G_N_ELEMENTS(d->io) && d->io[i][1] != 0; i++)
    aml_res_io(res, d->io[i][0], (uint8_t)d->io[i][1]);
  if (d->irq >= 0)
    aml_res_irq(res, (uint16_t)(1u << d->irq));
  if (d->dma >= 0)
    aml_res_dma(res, (uint8_t)(1u << d->dma));
  name_resources(aml, "_CRS", res);
  aml_end(aml);
}

static void add_isa_devices(Aml *aml, const AcpiConfig *config)
{
  static const IsaDevice fixed[] = {
    { "PIC", "PNP0000", { { 0x20, 2 }, { 0xa0, 2 }, { 0x4d0, 2 } }, 2, -1, -1 },
    { "TMR", "PNP0100", { { 0x40, 4 } }, 0, -1, -1 },
    { "DMAC", "PNP0200", { { 0x00, 16 }, { 0x81, 15 }, { 0xc0, 32 } }, -1, 4, -1 },
    { "SPKR", "PNP0800", { { 0x61, 1 } }, -1, -1, -1 },
    { "COPR", "PNP0C04", { { 0xf0, 16 } }, 13, -1, -1 },
    { "RTC", "PNP0B00", { { 0x70, 2 } }, 8, -1, -1 },
    { "KBD", "PNP0303", { { 0x60, 1 }, { 0x64, 1 } }, 1, -1, -1 },
    { "MOU", "PNP0F13", { { 0, 0 } }, 12, -1, -1 },
  };
  static const IsaDevice floppy = { "FDC0", "PNP0700", { { 0x3f2, 4 }, { 0x3f7, 1 } }, 6, 2, -1 };
  static const IsaDevice parallel = { "LPT1", "PNP0400", { { 0x378, 8 } }, 7, -1, 1 };
  static const IsaDevice serials[4] = {
    { "COM1", "PNP0501", { { 0x3f8, 8 } }, 4, -1, 1 },
    { "COM2", "PNP0501", { { 0x2f8, 8 } }, 3, -1, 2 },
    { "COM3", "PNP0501", { { 0x3e8, 8 } }, 4, -1, 3 },
    { "COM4", "PNP0501", { { 0x2e8, 8 } }, 3, -1, 4 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
    add_isa_device(aml, &fixed[i]);
  if (config->floppy)
    add_isa_device(aml, &floppy);
  if (config->parallel)
    add_isa_device(aml, &parallel);
  for (unsigned i = 0; i < G_N_ELEMENTS(serials); i++)
    if (config->serial_mask & 1u << i)
      add_isa_device(aml, &serials[i]);
}

static void add_isa_bridge(Aml *aml, const AcpiConfig *config)
{
  aml_device(aml, "ISA");
  name_integer(aml, "_ADR", 0x00010000);
  aml_pci_config_bytes(aml, "P40C", 0x60, pirq_names, N_LINKS);
  add_isa_devices(aml, config);
  aml_end(aml);
}

static char *pirq_path(unsigned link)
{
  return g_strdup_printf("\\_SB.PCI0.ISA.%s", pirq_names[link]);
}

/* _STA: 0x0B while enabled, 9 while bit 7 of the register disconnects the link. */
static void add_link_status(Aml *aml, const char *pirq)
{
  aml_method(aml, "_STA", 0, false);
  aml_if(aml);
  aml_op(aml, AML_AND);
  aml_path(aml, pirq);
  aml_integer(aml, 0x80);
  aml_op(aml, AML_NULL_TARGET);
  aml_op(aml, AML_RETURN);
  aml_integer(aml, 0x09);
  aml_end(aml);
  aml_op(aml, AML_RETURN);
  aml_integer(aml, 0x0b);
  aml_end(aml);
}

static void add_link_disable(Aml *aml, const char *pirq)
{
  aml_method(aml, "_DIS", 0, false);
  aml_op(aml, AML_OR);
  aml_path(aml, pirq);
  aml_integer(aml, 0x80);
  aml_path(aml, pirq);
  aml_end(aml);
}

/* CreateDWordField(buffer, 5, IRQW): the interrupt number in an extended interrupt descriptor. */
static void create_irq_field(Aml *aml, bool arg0)
{
  aml_op(aml, AML_CREATE_DWORD_FIELD);
  if (arg0)
    aml_op(aml, AML_ARG0);
  else
    aml_path(aml, "BUF_");
  aml_integer(aml, 5);
  aml_path(aml, "IRQW");
}

static void add_link_current(Aml *aml, const char *pirq)
{
  static const uint32_t none[1] = { 0 };
  aml_method(aml, "_CRS", 0, true);
  GByteArray *res = g_byte_array_new();
  aml_res_interrupts(res, true, none, 1);
  name_resources(aml, "BUF", res);
  create_irq_field(aml, false);
  aml_if(aml);
  aml_op(aml, AML_LNOT);
  aml_op(aml, AML_AND);
  aml_path(aml, pirq);
  aml_integer(aml, 0x80);
  aml_op(aml, AML_NULL_TARGET);
  aml_op(aml, AML_AND);
  aml_path(aml, pirq);
  aml_integer(aml, 0x0f);
  aml_path(aml, "IRQW");
  aml_end(aml);
  aml_op(aml, AML_RETURN);
  aml_path(aml, "BUF_");
  aml_end(aml);
}

static void add_link_set(Aml *aml, const char *pirq)
{
  aml_method(aml, "_SRS", 1, true);
  create_irq_field(aml, true);
  aml_op(aml, AML_STORE);
  aml_path(aml, "IRQW");
  aml_path(aml, pirq);
  aml_end(aml);
}

static void add_link(Aml *aml, unsigned link)
{
  static const uint32_t possible[] = { 5, 10, 11 };
  g_autofree char *pirq = pirq_path(link);
  aml_device(aml, link_names[link]);
  name_hid(aml, "PNP0C0F");
  name_integer(aml, "_UID", link);
  GByteArray *res = g_byte_array_new();
  aml_res_interrupts(res, true, possible, G_N_ELEMENTS(possible));
  name_resources(aml, "_PRS", res);
  add_link_status(aml, pirq);
  add_link_disable(aml, pirq);
  add_link_current(aml, pirq);
  add_link_set(aml, pirq);
  aml_end(aml);
}

static void add_hpet(Aml *aml)
{
  GByteArray *res = g_byte_array_new();
  aml_device(aml, "HPET");
  name_hid(aml, "PNP0103");
  name_integer(aml, "_UID", 0);
  aml_res_memory32(res, HPET_BASE, 0x400, false);
  name_resources(aml, "_CRS", res);
  aml_end(aml);
}

static void add_pci_root(Aml *aml, const AcpiConfig *config)
{
  aml_device(aml, "PCI0");
  name_hid(aml, "PNP0A03");
  name_integer(aml, "_ADR", 0);
  name_integer(aml, "_UID", 0);
  name_integer(aml, "_BBN", 0);
  add_host_bridge_resources(aml, config);
  add_isa_bridge(aml, config);
  add_routing(aml);
  aml_end(aml);
}

static void add_processors(Aml *aml, unsigned n_cpus)
{
  for (unsigned i = 0; i < n_cpus; i++) {
    g_autofree char *name = g_strdup_printf("CP%02X", i);
    aml_processor(aml, name, (uint8_t)i);
    aml_end(aml);
  }
}

static void add_sleep_state(Aml *aml, const char *name, uint8_t type)
{
  aml_name(aml, name);
  aml_package(aml, 4);
  aml_integer(aml, type);
  aml_integer(aml, type);
  aml_integer(aml, 0);
  aml_integer(aml, 0);
  aml_end(aml);
}

GByteArray *acpi_build_dsdt(const AcpiConfig *config)
{
  Aml *aml = aml_new();
  aml_scope(aml, "\\_SB");
  for (unsigned i = 0; i < N_LINKS; i++)
    add_link(aml, i);
  add_pci_root(aml, config);
  add_hpet(aml);
  add_processors(aml, config->n_cpus);
  aml_end(aml);
  add_sleep_state(aml, "\\_S5", PIIX4_SLP_TYP_S5);
  GByteArray *body = aml_finish(aml);
  GByteArray *table = acpi_table_new("DSDT", 1);
  g_byte_array_append(table, body->data, body->len);
  g_byte_array_unref(body);
  acpi_table_close(table);
  return table;
}
