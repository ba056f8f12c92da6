/*
 * ATA and ATAPI drives on an IDE channel, as a controller's owner sees them. A controller (piix3-ide.h) makes them.
 *
 * All calls with the main I/O context's lock held, or at set-up.
 */
#ifndef HW_STORAGE_IDE_H
#define HW_STORAGE_IDE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct BlkImage BlkImage;
typedef struct IdeDrive IdeDrive;

typedef enum IdeDriveKind { IDE_DRIVE_NONE, IDE_DRIVE_DISK, IDE_DRIVE_CDROM } IdeDriveKind;

IdeDriveKind ide_drive_get_kind(const IdeDrive *drive);
/* The image in the drive, or NULL (an empty CD-ROM drive). Borrowed. */
BlkImage *ide_drive_get_image(const IdeDrive *drive);

/* The disk's physical geometry as IDENTIFY gives it. */
void ide_drive_get_chs(const IdeDrive *drive, uint32_t *cylinders, uint32_t *heads, uint32_t *sectors);
/* What the board puts into the two bits of CMOS byte 39h for this disk, where SeaBIOS looks: 0 none, 1 LBA. */
uint8_t ide_drive_get_bios_translation(const IdeDrive *drive);

#endif
