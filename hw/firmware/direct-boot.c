/*
 * Direct boot: reads and recognises the kernel, lets its kind's loader plan the start, and hands plan, items and boot ROM
 * to the firmware by fw_cfg.
 *
 * Why a ROM and not a jump into the kernel at reset: the firmware then has run as on a real PC, so the kernel finds its
 * tables, its video modes (`vga=`) and the memory map where they belong.
 */
#include "hw/firmware/direct-boot.h"

#include <gio/gio.h>

#include "hw/firmware/boot-rom.h" /* boot_rom_bytes, assembled from boot-rom.S */
#include "hw/firmware/direct-boot-impl.h"
#include "hw/firmware/fw-cfg.h"
#include "vm-engine/vm.h"

#define BOOT_PLAN_KEY       (FW_CFG_ARCH_LOCAL + 8)
#define BOOT_FIRST_ITEM_KEY (FW_CFG_ARCH_LOCAL + 9)
#define PNP_HEADER          0x20
#define PNP_CHECKSUM        (PNP_HEADER + 9)
#define PNP_BYTES           32

GBytes *boot_loader_read_file(const char *path, GError **error)
{
  char *contents = NULL;
  gsize size = 0;
  g_autoptr(GError) cause = NULL;
  if (g_file_test(path, G_FILE_TEST_IS_DIR)) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s is a folder; a file is wanted here", path);
    return NULL;
  }
  if (!g_file_get_contents(path, &contents, &size, &cause)) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "cannot read %s: %s", path, g_strerror(errno));
    return NULL;
  }
  return g_bytes_new_take(contents, size);
}

bool boot_loader_add(BootLoader *loader, GBytes *bytes, uint64_t gpa, uint64_t size, GError **error)
{
  BootPlan *plan = &loader->plan;
  uint64_t end = gpa + size;
  if (end < gpa || end > loader->low_ram_bytes || (gpa < 0x100000 && end > 0xa0000)) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
                "%s wants to be loaded at 0x%" G_GINT64_MODIFIER "x–0x%" G_GINT64_MODIFIER
                "x, where this machine has no memory; give it more with --memory",
                loader->kernel_path, gpa, end);
    return false;
  }
  if (plan->n_items == BOOT_MAX_ITEMS) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s has more parts than can be loaded (%d)", loader->kernel_path,
                BOOT_MAX_ITEMS);
    return false;
  }
  uint16_t key = (uint16_t)(BOOT_FIRST_ITEM_KEY + plan->n_items);
  fw_cfg_add(loader->cfg, key, bytes);
  plan->items[plan->n_items++] = (struct BootPlanItem){ key, (uint32_t)gpa, (uint32_t)size };
  return true;
}

static uint8_t checksum(const uint8_t *bytes, size_t size)
{
  uint8_t sum = 0;
  for (size_t i = 0; i < size; i++)
    sum = (uint8_t)(sum + bytes[i]);
  return (uint8_t)-sum;
}

static void add_rom(FwCfg *cfg)
{
  uint8_t *rom = g_memdup2(boot_rom_bytes, sizeof boot_rom_bytes);
  rom[PNP_CHECKSUM] = checksum(rom + PNP_HEADER, PNP_BYTES);
  rom[sizeof boot_rom_bytes - 1] = checksum(rom, sizeof boot_rom_bytes);
  g_autoptr(GBytes) bytes = g_bytes_new_take(rom, sizeof boot_rom_bytes);
  fw_cfg_add_file(cfg, DIRECT_BOOT_ROM_NAME, bytes);
}

static void add_plan(BootLoader *loader)
{
  uint32_t words[sizeof(BootPlan) / 4];
  memcpy(words, &loader->plan, sizeof words);
  for (size_t i = 0; i < G_N_ELEMENTS(words); i++)
    words[i] = GUINT32_TO_LE(words[i]);
  g_autoptr(GBytes) bytes = g_bytes_new(words, sizeof words);
  fw_cfg_add(loader->cfg, BOOT_PLAN_KEY, bytes);
}

static bool plan_by_kind(BootLoader *loader, GError **error)
{
  static const struct {
    bool (*matches)(GBytes *kernel);
    bool (*plan)(BootLoader *loader, GError **error);
  } kinds[] = {
    { boot_linux_matches, boot_linux_plan },
    { boot_multiboot_matches, boot_multiboot_plan },
    { boot_pvh_matches, boot_pvh_plan },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(kinds); i++)
    if (kinds[i].matches(loader->kernel))
      return kinds[i].plan(loader, error);

  gsize size;
  const uint8_t *bytes = g_bytes_get_data(loader->kernel, &size);
  bool gzip = size > 2 && bytes[0] == 0x1f && bytes[1] == 0x8b;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
              "%s is not a kernel that can be started directly (a Linux bzImage, a multiboot image, or an ELF with a "
              "PVH entry)%s",
              loader->kernel_path, gzip ? "; it is gzip-compressed: unpack it with gunzip first" : "");
  return false;
}

bool direct_boot_add(FwCfg *cfg, uint64_t low_ram_bytes, const char *kernel, const char *initrd, const char *append,
                     GError **error)
{
  BootLoader loader = { .cfg = cfg,
                        .low_ram_bytes = MIN(low_ram_bytes, UINT32_MAX),
                        .kernel_path = kernel,
                        .initrd_path = initrd,
                        .append = append ? append : "" };
  g_autoptr(GBytes) bytes = boot_loader_read_file(kernel, error);
  if (bytes == NULL)
    return false;
  loader.kernel = bytes;
  if (!plan_by_kind(&loader, error))
    return false;
  add_plan(&loader);
  add_rom(cfg);
  return true;
}
