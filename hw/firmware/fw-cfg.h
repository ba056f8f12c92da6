/*
 * The firmware configuration device: how SeaBIOS, OVMF and our boot ROM learn of the machine.
 * Interface: QEMU's "fw_cfg" specification (selector port 0x510, data port 0x511, DMA ports 0x514–0x51B).
 */
#ifndef HW_FIRMWARE_FW_CFG_H
#define HW_FIRMWARE_FW_CFG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef struct Vm Vm;
typedef struct FwCfg FwCfg;
typedef struct VmDeviceType VmDeviceType;

/* Fixed items' keys. */
enum {
  FW_CFG_SIGNATURE = 0x00, FW_CFG_ID = 0x01, FW_CFG_UUID = 0x02, FW_CFG_RAM_SIZE = 0x03, FW_CFG_NOGRAPHIC = 0x04,
  FW_CFG_NB_CPUS = 0x05, FW_CFG_KERNEL_ADDR = 0x07, FW_CFG_KERNEL_SIZE = 0x08, FW_CFG_INITRD_ADDR = 0x0a,
  FW_CFG_INITRD_SIZE = 0x0b, FW_CFG_BOOT_DEVICE = 0x0c, FW_CFG_NUMA = 0x0d, FW_CFG_BOOT_MENU = 0x0e,
  FW_CFG_MAX_CPUS = 0x0f, FW_CFG_KERNEL_DATA = 0x11, FW_CFG_INITRD_DATA = 0x12, FW_CFG_CMDLINE_ADDR = 0x13,
  FW_CFG_CMDLINE_SIZE = 0x14, FW_CFG_CMDLINE_DATA = 0x15, FW_CFG_SETUP_ADDR = 0x16, FW_CFG_SETUP_SIZE = 0x17,
  FW_CFG_SETUP_DATA = 0x18, FW_CFG_FILE_DIR = 0x19, FW_CFG_FILE_FIRST = 0x20, FW_CFG_ARCH_LOCAL = 0x8000,
  FW_CFG_IRQ0_OVERRIDE = 0x8002,
};

/* Adds the device to the machine, empty but for its signature and identity. Set-up only, like all below. */
FwCfg *fw_cfg_new(Vm *vm);
/* The item `key` is `bytes` (referenced, not copied: a kernel may be large). Replaces an earlier one. */
void fw_cfg_add(FwCfg *cfg, uint16_t key, GBytes *bytes);
void fw_cfg_add_u16(FwCfg *cfg, uint16_t key, uint16_t value);
void fw_cfg_add_u32(FwCfg *cfg, uint16_t key, uint32_t value);
void fw_cfg_add_u64(FwCfg *cfg, uint16_t key, uint64_t value);
/* A file with a name of at most 55 bytes; its key follows from the order of names. `bytes` is referenced. */
void fw_cfg_add_file(FwCfg *cfg, const char *name, GBytes *bytes);

/* For tests of the state table. */
const VmDeviceType *fw_cfg_get_type(void);

#endif
