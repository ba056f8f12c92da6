/*
 * Direct boot of a multiboot image. Source: Multiboot Specification 0.6.96.
 *
 * Modules come from the initrd option as a list "FILE ARGS,FILE ARGS" and stand behind the kernel, each on a page.
 */
#include "hw/firmware/direct-boot-impl.h"

#include "vm-engine/vm.h"

#define HEADER_MAGIC        0x1badb002u
#define BOOTLOADER_MAGIC    0x2badb002u
#define HEADER_SEARCH_BYTES 8192
#define MAX_MODULES         8
enum { HEADER_HAS_ADDRESSES = 1 << 16, HEADER_KNOWN_REQUIREMENTS = 7 };
enum {
  INFO_MEMORY = 1 << 0,
  INFO_CMDLINE = 1 << 2,
  INFO_MODULES = 1 << 3,
  INFO_MMAP = 1 << 6,
  INFO_LOADER_NAME = 1 << 9
};
#define LOADER_NAME "Oriel"

typedef struct MultibootHeader {
  uint32_t magic, flags, checksum;
  uint32_t header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;
} MultibootHeader;

typedef struct MultibootInfo {
  uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length, mmap_addr,
      drives_length, drives_addr, config_table, boot_loader_name, apm_table;
} MultibootInfo;
typedef struct MultibootModule {
  uint32_t start, end, string, reserved;
} MultibootModule;

/* The block that is built at BOOT_INFO_GPA, and how far its strings reach. */
typedef struct InfoBlock {
  uint8_t bytes[BOOT_INFO_BYTES];
  size_t used;
} InfoBlock;

/* Where the header stands in the file, or -1. */
static int64_t find_header(GBytes *kernel, MultibootHeader *header)
{
  gsize size;
  const uint8_t *bytes = g_bytes_get_data(kernel, &size);
  for (gsize at = 0; at + 12 <= MIN(size, HEADER_SEARCH_BYTES); at += 4) {
    memset(header, 0, sizeof *header);
    memcpy(header, bytes + at, MIN(size - at, sizeof *header));
    if (header->magic == HEADER_MAGIC && header->magic + header->flags + header->checksum == 0)
      return (int64_t)at;
  }
  return -1;
}

bool boot_multiboot_matches(GBytes *kernel)
{
  MultibootHeader header;
  return find_header(kernel, &header) >= 0;
}

static bool damaged(BootLoader *loader, GError **error)
{
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s is damaged: its multiboot header's addresses do not fit the file",
              loader->kernel_path);
  return false;
}

/* The header itself says where the image goes (the "a.out kludge"). */
static bool add_by_header(BootLoader *loader, const MultibootHeader *h, uint64_t header_offset, uint64_t *end,
                          GError **error)
{
  uint64_t size = g_bytes_get_size(loader->kernel);
  uint64_t before = (uint64_t)h->header_addr - h->load_addr;
  if (h->header_addr < h->load_addr || before > header_offset)
    return damaged(loader, error);
  uint64_t offset = header_offset - before;
  uint64_t length = size - offset;
  if (h->load_end_addr != 0) {
    if (h->load_end_addr < h->load_addr || h->load_end_addr - h->load_addr > length)
      return damaged(loader, error);
    length = h->load_end_addr - h->load_addr;
  }
  uint64_t memory_bytes = length;
  if (h->bss_end_addr > h->load_addr)
    memory_bytes = MAX(memory_bytes, (uint64_t)h->bss_end_addr - h->load_addr);
  *end = h->load_addr + memory_bytes;
  loader->plan.entry = h->entry_addr;
  g_autoptr(GBytes) bytes = g_bytes_new_from_bytes(loader->kernel, offset, length);
  return boot_loader_add(loader, bytes, h->load_addr, memory_bytes, error);
}

/* Puts a string into the block; its guest address, or 0 with `error`. */
static uint32_t add_string(BootLoader *loader, InfoBlock *block, const char *text, GError **error)
{
  size_t n = strlen(text) + 1;
  if (n > sizeof block->bytes - block->used) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the --append and --initrd texts are too long for %s",
                loader->kernel_path);
    return 0;
  }
  memcpy(block->bytes + block->used, text, n);
  uint32_t gpa = BOOT_INFO_GPA + (uint32_t)block->used;
  block->used += n;
  return gpa;
}

static bool add_module(BootLoader *loader, InfoBlock *block, MultibootInfo *info, const char *spec, uint64_t *end,
                       GError **error)
{
  g_autofree char *path = g_strndup(spec, strcspn(spec, " "));
  g_autoptr(GBytes) bytes = boot_loader_read_file(path, error);
  if (bytes == NULL)
    return false;
  uint64_t size = g_bytes_get_size(bytes);
  uint64_t gpa = (*end + 4095) & ~UINT64_C(4095);
  if (!boot_loader_add(loader, bytes, gpa, size, error))
    return false;
  *end = gpa + size;
  uint32_t string = add_string(loader, block, spec, error);
  if (string == 0)
    return false;
  MultibootModule module = { (uint32_t)gpa, (uint32_t)*end, string, 0 };
  memcpy(block->bytes + BOOT_INFO_MODULES + info->mods_count++ * sizeof module, &module, sizeof module);
  return true;
}

static bool add_modules(BootLoader *loader, InfoBlock *block, MultibootInfo *info, uint64_t end, GError **error)
{
  if (loader->initrd_path == NULL)
    return true;
  g_auto(GStrv) specs = g_strsplit(loader->initrd_path, ",", -1);
  if (g_strv_length(specs) > MAX_MODULES) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "--initrd names more than %d modules", MAX_MODULES);
    return false;
  }
  for (char **spec = specs; *spec != NULL; spec++)
    if (!add_module(loader, block, info, *spec, &end, error))
      return false;
  info->flags |= INFO_MODULES;
  info->mods_addr = BOOT_INFO_GPA + BOOT_INFO_MODULES;
  return true;
}

static bool add_info(BootLoader *loader, uint64_t end, GError **error)
{
  MultibootInfo info = { .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER_NAME,
                         .mem_lower = 639,
                         .mem_upper = (uint32_t)((loader->low_ram_bytes - 0x100000) >> 10),
                         .mmap_addr = BOOT_INFO_GPA + BOOT_INFO_E820 };
  g_autofree InfoBlock *block = g_new0(InfoBlock, 1);
  g_autofree char *cmdline =
      *loader->append ? g_strdup_printf("%s %s", loader->kernel_path, loader->append) : g_strdup(loader->kernel_path);
  block->used = BOOT_INFO_STRINGS;
  info.cmdline = add_string(loader, block, cmdline, error);
  if (info.cmdline == 0 || !add_modules(loader, block, &info, end, error))
    return false;
  info.boot_loader_name = add_string(loader, block, LOADER_NAME, error);
  if (info.boot_loader_name == 0)
    return false;
  memcpy(block->bytes, &info, sizeof info);

  BootPlan *plan = &loader->plan;
  plan->eax = BOOTLOADER_MAGIC;
  plan->ebx = BOOT_INFO_GPA;
  plan->e820_gpa = BOOT_INFO_GPA + BOOT_INFO_E820;
  plan->e820_prefix = 4;
  plan->e820_count_gpa = BOOT_INFO_GPA + (uint32_t)G_STRUCT_OFFSET(MultibootInfo, mmap_length);
  plan->e820_scale = BOOT_E820_ENTRY_BYTES;
  g_autoptr(GBytes) bytes = g_bytes_new(block->bytes, block->used);
  return boot_loader_add(loader, bytes, BOOT_INFO_GPA, block->used, error);
}

bool boot_multiboot_plan(BootLoader *loader, GError **error)
{
  MultibootHeader header;
  uint64_t end = 0;
  int64_t at = find_header(loader->kernel, &header);
  if (loader->low_ram_bytes <= 0x100000) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s needs more memory; give the machine more with --memory",
                loader->kernel_path);
    return false;
  }
  if (header.flags & 0xffff & ~HEADER_KNOWN_REQUIREMENTS) {
    g_set_error(error, VM_ERROR, VM_ERROR_UNSUPPORTED,
                "%s asks for multiboot features (flags 0x%x) that are not defined", loader->kernel_path, header.flags);
    return false;
  }
  loader->plan.kind = BOOT_KIND_PROTECTED;
  bool ok = header.flags & HEADER_HAS_ADDRESSES ? add_by_header(loader, &header, (uint64_t)at, &end, error)
                                                : boot_elf_add(loader, &loader->plan.entry, &end, error);
  return ok && add_info(loader, end, error);
}
