/* The formats of floppy disks, known by their sizes. Private to the floppy controller. */
#ifndef HW_STORAGE_FLOPPY_FORMAT_H
#define HW_STORAGE_FLOPPY_FORMAT_H

#include <stdint.h>

#include "hw/storage/floppy.h"

#define FLOPPY_SECTOR_BYTES 512u
#define FLOPPY_MAX_SECTORS  36u /* a track's */

typedef enum FloppyDensity { FLOPPY_DD, FLOPPY_HD, FLOPPY_ED } FloppyDensity;

typedef struct FloppyFormat {
  uint8_t tracks, heads, sectors;
  FloppyDensity density;
  FloppyDriveType drive; /* the one that it was made for */
} FloppyFormat;

/* NULL: larger than any. */
const FloppyFormat *floppy_format_for_size(uint64_t size_bytes);
uint32_t floppy_format_bytes(const FloppyFormat *format);
/* The densest that a drive can read. */
FloppyDensity floppy_drive_density(FloppyDriveType type);

#endif
