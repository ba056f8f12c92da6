/*
 * The PC: i440FX and PIIX3, with what a desktop PC of that make has. One function lists it all.
 */
#ifndef HW_BOARDS_PC_H
#define HW_BOARDS_PC_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

typedef struct Vm Vm;
typedef struct VmChardev VmChardev;
typedef struct BlkImage BlkImage;

#define PC_MAX_CPUS 16
#define PC_MAX_SERIALS 4
#define PC_N_IDE 4     /* primary master, primary slave, secondary master, secondary slave */
#define PC_N_FLOPPIES 2
#define PC_MIN_MEMORY_BYTES (UINT64_C(1) << 20)
#define PC_MAX_MEMORY_BYTES (UINT64_C(1) << 38)

typedef enum PcDriveKind { PC_DRIVE_NONE, PC_DRIVE_DISK, PC_DRIVE_CDROM } PcDriveKind;

typedef struct PcDrive {
  PcDriveKind kind;
  BlkImage *image; /* NULL: an empty CD-ROM drive */
} PcDrive;

/* What the firmware tries first; the rest of the devices follow. */
typedef enum PcBoot { PC_BOOT_DISK, PC_BOOT_CDROM, PC_BOOT_FLOPPY, PC_BOOT_NET } PcBoot;

typedef struct PcConfig {
  uint64_t memory_bytes; /* PC_MIN … PC_MAX, whole MiB */
  unsigned n_cpus;       /* 1 … PC_MAX_CPUS */
  const char *firmware_path; /* NULL: SeaBIOS where its package puts it */
  const char *vga_rom_path;  /* NULL: SeaBIOS's VGA BIOS */
  PcBoot boot;
  bool boot_menu;        /* the firmware shows its boot menu */
  const char *kernel_path, *initrd_path, *append; /* direct boot; NULL: none */
  /* Images were opened for the machine's main context. Images and character back ends are taken over, whether or not
   * the board can be made; pointers to them stay good until vm_free(). */
  PcDrive ide[PC_N_IDE];
  BlkImage *floppies[PC_N_FLOPPIES];
  VmChardev *serials[PC_MAX_SERIALS]; /* NULL: the port is absent */
  VmChardev *debugcon;   /* port 0x402; NULL: absent */
  bool no_vga;
  uint32_t vga_memory_bytes; /* 0: 16 MiB */
  uint16_t debug_exit_port;  /* 0: none. A write of V ends the run with status (V << 1) | 1 */
  const uint8_t *uuid;       /* 16 bytes, or NULL */
} PcConfig;

/* Fills an empty machine. False with `error`, naming the file or range at fault; the machine is then only to be freed.
 * Before vm_start(); no thread of the machine runs guest code yet. */
bool pc_board_create(Vm *vm, const PcConfig *config, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Puts another image (taken over unless it fails; NULL: empty) in CD-ROM drive `ide` (0–3) or floppy drive `unit` / what is there. Main
 * context's lock held. False: no such drive, or the guest holds the tray locked and `force` is not set. */
bool pc_change_cdrom(Vm *vm, unsigned ide, BlkImage *image, bool force, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool pc_change_floppy(Vm *vm, unsigned unit, BlkImage *image, GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
