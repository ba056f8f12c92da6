/*
 * The floppy disk controller with up to two drives.
 *
 * All calls with the main I/O context's lock held, or at set-up.
 */
#ifndef HW_STORAGE_FLOPPY_H
#define HW_STORAGE_FLOPPY_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

#include "hw/storage/i8237.h"
#include "vm-engine/irq.h"

typedef struct Vm Vm;
typedef struct BlkImage BlkImage;
typedef struct Floppy Floppy;

#define FLOPPY_N_DRIVES 2

/* Values as the CMOS's byte 10h names drive types (a nibble each: drive A high, drive B low). */
typedef enum FloppyDriveType {
  FLOPPY_DRIVE_NONE = 0,
  FLOPPY_DRIVE_360K = 1,
  FLOPPY_DRIVE_1200K = 2,
  FLOPPY_DRIVE_720K = 3,
  FLOPPY_DRIVE_1440K = 4,
  FLOPPY_DRIVE_2880K = 5
} FloppyDriveType;

/* Device id "fdc"; ports 3F0–3F5 and 3F7 (3F6 belongs to the IDE channel), DMA channel 2; `irq` (6) is copied. No
 * drive yet. The machine owns it. */
Floppy *floppy_new(Vm *vm, I8237 *dma, const VmIrq *irq);

/* Puts a drive at `unit`, before the machine first runs. */
void floppy_add_drive(Floppy *fdc, unsigned unit, FloppyDriveType type);
FloppyDriveType floppy_get_drive_type(const Floppy *fdc, unsigned unit);
/* The drive in which an image of this size works best: for choosing the type at set-up. */
FloppyDriveType floppy_drive_type_for_size(uint64_t size_bytes);

/* Puts a medium in (opened with the main I/O context's GMainContext). Its format follows from its size; an image of no
 * format's size counts as a 1.44 MB one that was cut off, or as the next larger format. Takes the image over, unless it
 * fails: no drive there, or too large for it. A former medium is closed. */
bool floppy_insert(Floppy *fdc, unsigned unit, BlkImage *image, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Takes the medium out and closes it; nothing where there is none. */
void floppy_eject(Floppy *fdc, unsigned unit);
/* Borrowed; NULL while empty. */
BlkImage *floppy_get_image(const Floppy *fdc, unsigned unit);

#endif
