/*
 * The boot plan: what the boot ROM is told to load and where to jump. Shared by the loaders of each kernel kind.
 */
#ifndef HW_FIRMWARE_DIRECT_BOOT_IMPL_H
#define HW_FIRMWARE_DIRECT_BOOT_IMPL_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct FwCfg FwCfg;

#define BOOT_MAX_ITEMS 20
/* Low memory that the loaders use: nothing of the firmware stands there when a boot device is started. */
#define BOOT_LINUX_SETUP_GPA 0x10000u
#define BOOT_LINUX_CMDLINE_GPA 0x20000u
#define BOOT_INFO_GPA 0x20000u      /* multiboot's or PVH's information block, with what it points to */
#define BOOT_INFO_BYTES 0x10000u
#define BOOT_INFO_E820 0x400u       /* offsets in that block */
#define BOOT_INFO_MODULES 0x1400u
#define BOOT_INFO_STRINGS 0x1800u
#define BOOT_E820_ENTRY_BYTES 24u

typedef enum BootKind { BOOT_KIND_REAL_MODE, BOOT_KIND_PROTECTED } BootKind;

/* As the ROM reads it: little-endian 32-bit words. boot-rom.S has the same offsets. */
typedef struct BootPlan {
  uint32_t kind;
  uint32_t entry;          /* real mode: linear address of the setup code; protected: EIP */
  uint32_t eax, ebx;       /* values at a protected entry; in real mode EBX is the initial SP */
  uint32_t e820_gpa;       /* 0: not wanted. The firmware's memory map, 24 bytes an entry */
  uint32_t e820_prefix;    /* 4: each entry starts with its size, as multiboot has it; 0: a zero follows it */
  uint32_t e820_count_gpa; /* where count * scale goes */
  uint32_t e820_scale;
  uint32_t n_items;
  struct BootPlanItem { uint32_t key, gpa, size; } items[BOOT_MAX_ITEMS];
} BootPlan;

typedef struct BootLoader {
  FwCfg *cfg;
  uint64_t low_ram_bytes;
  const char *kernel_path, *initrd_path, *append;
  GBytes *kernel;
  BootPlan plan;
} BootLoader;

/* Adds an item: `bytes` at `gpa`, zero-filled up to `size`. False: outside RAM or over the hole below 1 MiB. */
bool boot_loader_add(BootLoader *loader, GBytes *bytes, uint64_t gpa, uint64_t size, GError **error);
/* The whole file; `error` names it. */
GBytes *boot_loader_read_file(const char *path, GError **error);

/* Is it one of this kind? / Plans its start. */
bool boot_linux_matches(GBytes *kernel);
bool boot_linux_plan(BootLoader *loader, GError **error);
bool boot_multiboot_matches(GBytes *kernel);
bool boot_multiboot_plan(BootLoader *loader, GError **error);
bool boot_pvh_matches(GBytes *kernel);
bool boot_pvh_plan(BootLoader *loader, GError **error);

/* Adds an ELF image's loadable segments by physical address. `entry_va` is translated to a physical address into *entry
 * (NULL: not wanted); *end is the highest address used. */
bool boot_elf_add(BootLoader *loader, uint32_t *entry, uint64_t *end, GError **error);

#endif
