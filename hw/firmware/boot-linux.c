/*
 * Direct boot of a Linux kernel image. Source: "The Linux/x86 Boot Protocol", versions 2.00 to 2.15 and the old one.
 */
#include "hw/firmware/direct-boot-impl.h"

#include "hw/firmware/fw-cfg.h"
#include "vm-engine/vm.h"

/* Offsets in the setup header. */
enum {
  H_SETUP_SECTS = 0x1f1,
  H_VID_MODE = 0x1fa,
  H_BOOT_FLAG = 0x1fe,
  H_MAGIC = 0x202,
  H_VERSION = 0x206,
  H_TYPE_OF_LOADER = 0x210,
  H_LOADFLAGS = 0x211,
  H_RAMDISK_IMAGE = 0x218,
  H_RAMDISK_SIZE = 0x21c,
  H_HEAP_END_PTR = 0x224,
  H_CMD_LINE_PTR = 0x228,
  H_INITRD_ADDR_MAX = 0x22c,
  H_CMDLINE_SIZE = 0x238,
  H_INIT_SIZE = 0x260,
  H_END = 0x268,
  /* the old protocol's command line */
  H_OLD_CL_MAGIC = 0x20,
  H_OLD_CL_OFFSET = 0x22,
};
enum { LOADED_HIGH = 1 << 0, CAN_USE_HEAP = 1 << 7 };
#define OLD_CL_MAGIC_VALUE      0xa33f
#define LOADER_UNDEFINED        0xff
#define DEFAULT_INITRD_ADDR_MAX 0x37ffffffu
#define KERNEL_HIGH_GPA         0x100000u
#define KERNEL_LOW_GPA          0x10000u
#define SETUP_LOW_GPA           0x90000u
#define CMDLINE_LOW_GPA         0x99000u
/* The firmware keeps its tables at the top of RAM below the PCI hole. */
#define FIRMWARE_RESERVE_BYTES (1u << 20)

static uint16_t get16(const uint8_t *p)
{
  uint16_t v;
  memcpy(&v, p, 2);
  return GUINT16_FROM_LE(v);
}
static uint32_t get32(const uint8_t *p)
{
  uint32_t v;
  memcpy(&v, p, 4);
  return GUINT32_FROM_LE(v);
}
static void put16(uint8_t *p, uint16_t v)
{
  v = GUINT16_TO_LE(v);
  memcpy(p, &v, 2);
}
static void put32(uint8_t *p, uint32_t v)
{
  v = GUINT32_TO_LE(v);
  memcpy(p, &v, 4);
}

typedef struct LinuxImage {
  uint8_t *setup; /* a copy that gets the loader's fields */
  size_t setup_bytes;
  GBytes *body; /* the protected-mode part */
  uint16_t version;
  bool high;
  uint32_t setup_gpa, cmdline_gpa, body_gpa;
} LinuxImage;

bool boot_linux_matches(GBytes *kernel)
{
  gsize size;
  const uint8_t *bytes = g_bytes_get_data(kernel, &size);
  return size >= 1024 && get16(bytes + H_BOOT_FLAG) == 0xaa55 && memcmp(bytes + H_MAGIC, "HdrS", 4) == 0;
}

/* `vga=` of the command line, as the boot loader has to pass it in the header. */
static uint16_t video_mode(const char *append)
{
  const char *at = g_str_has_prefix(append, "vga=") ? append : strstr(append, " vga=");
  if (at == NULL)
    return 0xffff;
  at = strchr(at, '=') + 1;
  if (g_str_has_prefix(at, "normal"))
    return 0xffff;
  if (g_str_has_prefix(at, "ext"))
    return 0xfffe;
  if (g_str_has_prefix(at, "ask"))
    return 0xfffd;
  return (uint16_t)g_ascii_strtoull(at, NULL, 0);
}

static bool split_image(BootLoader *loader, LinuxImage *image, GError **error)
{
  gsize size;
  const uint8_t *bytes = g_bytes_get_data(loader->kernel, &size);
  unsigned sectors = bytes[H_SETUP_SECTS] ? bytes[H_SETUP_SECTS] : 4;
  image->setup_bytes = (size_t)(sectors + 1) * 512;
  if (image->setup_bytes >= size) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s is cut short: its header tells of %u setup sectors",
                loader->kernel_path, sectors);
    return false;
  }
  image->version = get16(bytes + H_VERSION);
  image->high = image->version >= 0x200 && (bytes[H_LOADFLAGS] & LOADED_HIGH);
  image->setup = g_malloc0(MAX(image->setup_bytes, (size_t)H_END));
  memcpy(image->setup, bytes, image->setup_bytes);
  image->body = g_bytes_new_from_bytes(loader->kernel, image->setup_bytes, size - image->setup_bytes);
  image->setup_gpa = image->high ? BOOT_LINUX_SETUP_GPA : SETUP_LOW_GPA;
  image->cmdline_gpa = image->high ? BOOT_LINUX_CMDLINE_GPA : CMDLINE_LOW_GPA;
  image->body_gpa = image->high ? KERNEL_HIGH_GPA : KERNEL_LOW_GPA;
  return true;
}

static bool check_command_line(BootLoader *loader, const LinuxImage *image, GError **error)
{
  uint32_t limit = image->version >= 0x206 ? get32(image->setup + H_CMDLINE_SIZE) : 255;
  limit = MIN(limit, image->high ? 0xffffu : 0x0fffu);
  if (strlen(loader->append) <= limit)
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the --append text has %zu characters; %s takes at most %u",
              strlen(loader->append), loader->kernel_path, limit);
  return false;
}

/* The initrd goes as high as the kernel and the firmware allow, on a page. */
static bool place_initrd(BootLoader *loader, LinuxImage *image, GError **error)
{
  if (loader->initrd_path == NULL)
    return true;
  g_autoptr(GBytes) initrd = boot_loader_read_file(loader->initrd_path, error);
  if (initrd == NULL)
    return false;
  uint64_t size = g_bytes_get_size(initrd);
  uint64_t limit = image->version >= 0x203 ? get32(image->setup + H_INITRD_ADDR_MAX) : DEFAULT_INITRD_ADDR_MAX;
  uint64_t top = MIN(limit + 1, loader->low_ram_bytes - MIN(FIRMWARE_RESERVE_BYTES, loader->low_ram_bytes));
  uint64_t kernel_bytes = g_bytes_get_size(image->body);
  if (image->version >= 0x20a)
    kernel_bytes = MAX(kernel_bytes, get32(image->setup + H_INIT_SIZE));
  uint64_t floor = KERNEL_HIGH_GPA + kernel_bytes;
  if (top < floor || top - floor < size + 4095) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
                "%s (%" G_GUINT64_FORMAT
                " MiB) does not fit into the machine's memory beside the kernel; give it more with --memory",
                loader->initrd_path, (size >> 20) + 1);
    return false;
  }
  uint32_t gpa = (uint32_t)((top - size) & ~UINT64_C(4095));
  put32(image->setup + H_RAMDISK_IMAGE, gpa);
  put32(image->setup + H_RAMDISK_SIZE, (uint32_t)size);
  fw_cfg_add_u32(loader->cfg, FW_CFG_INITRD_ADDR, gpa);
  fw_cfg_add_u32(loader->cfg, FW_CFG_INITRD_SIZE, (uint32_t)size);
  fw_cfg_add(loader->cfg, FW_CFG_INITRD_DATA, initrd);
  return size == 0 || boot_loader_add(loader, initrd, gpa, size, error);
}

static void fill_header(BootLoader *loader, LinuxImage *image)
{
  uint8_t *h = image->setup;
  put16(h + H_VID_MODE, video_mode(loader->append));
  if (image->version >= 0x200)
    h[H_TYPE_OF_LOADER] = LOADER_UNDEFINED;
  if (image->version >= 0x201) {
    h[H_LOADFLAGS] |= CAN_USE_HEAP;
    put16(h + H_HEAP_END_PTR, (uint16_t)((image->high ? 0xe000 : 0x9000) - 0x200));
  }
  if (image->version >= 0x202) {
    put32(h + H_CMD_LINE_PTR, image->cmdline_gpa);
  } else {
    put16(h + H_OLD_CL_MAGIC, OLD_CL_MAGIC_VALUE);
    put16(h + H_OLD_CL_OFFSET, (uint16_t)(image->cmdline_gpa - image->setup_gpa));
  }
}

/* The same parts under the fixed keys, where other firmware looks for them. */
static void add_known_keys(BootLoader *loader, LinuxImage *image, GBytes *setup, GBytes *cmdline)
{
  FwCfg *cfg = loader->cfg;
  fw_cfg_add_u32(cfg, FW_CFG_KERNEL_ADDR, image->body_gpa);
  fw_cfg_add_u32(cfg, FW_CFG_KERNEL_SIZE, (uint32_t)g_bytes_get_size(image->body));
  fw_cfg_add(cfg, FW_CFG_KERNEL_DATA, image->body);
  fw_cfg_add_u32(cfg, FW_CFG_CMDLINE_ADDR, image->cmdline_gpa);
  fw_cfg_add_u32(cfg, FW_CFG_CMDLINE_SIZE, (uint32_t)g_bytes_get_size(cmdline));
  fw_cfg_add(cfg, FW_CFG_CMDLINE_DATA, cmdline);
  fw_cfg_add_u32(cfg, FW_CFG_SETUP_ADDR, image->setup_gpa);
  fw_cfg_add_u32(cfg, FW_CFG_SETUP_SIZE, (uint32_t)g_bytes_get_size(setup));
  fw_cfg_add(cfg, FW_CFG_SETUP_DATA, setup);
}

static bool plan_image(BootLoader *loader, LinuxImage *image, GError **error)
{
  if (!split_image(loader, image, error) || !check_command_line(loader, image, error) ||
      !place_initrd(loader, image, error))
    return false;
  fill_header(loader, image);
  g_autoptr(GBytes) setup = g_bytes_new(image->setup, image->setup_bytes);
  g_autoptr(GBytes) cmdline = g_bytes_new(loader->append, strlen(loader->append) + 1);
  add_known_keys(loader, image, setup, cmdline);
  loader->plan.kind = BOOT_KIND_REAL_MODE;
  loader->plan.entry = image->setup_gpa;
  loader->plan.ebx = image->high ? 0xfff0 : 0x8ff0;
  return boot_loader_add(loader, setup, image->setup_gpa, g_bytes_get_size(setup), error) &&
         boot_loader_add(loader, cmdline, image->cmdline_gpa, g_bytes_get_size(cmdline), error) &&
         boot_loader_add(loader, image->body, image->body_gpa, g_bytes_get_size(image->body), error);
}

bool boot_linux_plan(BootLoader *loader, GError **error)
{
  LinuxImage image = { 0 };
  bool ok = plan_image(loader, &image, error);
  g_free(image.setup);
  g_clear_pointer(&image.body, g_bytes_unref);
  return ok;
}
