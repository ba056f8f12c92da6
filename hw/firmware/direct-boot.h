/*
 * Direct boot: a kernel file started by the firmware as if from a disk, by our own boot ROM (boot-rom.S).
 *
 * Three kinds are known: a Linux bzImage or zImage (Linux/x86 boot protocol), a multiboot 1 image (specification 0.6.96)
 * and an ELF with a PVH entry note (Xen's x86 HVM direct boot ABI).
 */
#ifndef HW_FIRMWARE_DIRECT_BOOT_H
#define HW_FIRMWARE_DIRECT_BOOT_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct FwCfg FwCfg;

/* The name under which the ROM stands in the firmware's boot order. */
#define DIRECT_BOOT_ROM_NAME "genroms/oriel-boot.rom"

/* Reads the files, judges and places them below `low_ram_bytes` (RAM from 0, below the PCI hole), and adds to `cfg` the
 * ROM, its plan and the items it loads. `initrd` may be NULL; for multiboot it is a list "FILE ARGS,FILE ARGS". `append`
 * may be NULL. False with `error`, naming the file and what is wrong with it. */
bool direct_boot_add(FwCfg *cfg, uint64_t low_ram_bytes, const char *kernel, const char *initrd, const char *append,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
