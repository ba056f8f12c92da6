/* The table of floppy formats. */
#include "hw/storage/floppy-format.h"

#include <stddef.h>

static const FloppyFormat formats[] = {
  { 40, 1, 8, FLOPPY_DD, FLOPPY_DRIVE_360K },                                                 /* 160 KB */
  { 40, 1, 9, FLOPPY_DD, FLOPPY_DRIVE_360K },                                                 /* 180 KB */
  { 40, 2, 8, FLOPPY_DD, FLOPPY_DRIVE_360K },                                                 /* 320 KB */
  { 40, 2, 9, FLOPPY_DD, FLOPPY_DRIVE_360K },                                                 /* 360 KB */
  { 40, 2, 10, FLOPPY_DD, FLOPPY_DRIVE_360K },                                                /* 400 KB */
  { 80, 2, 8, FLOPPY_DD, FLOPPY_DRIVE_720K },                                                 /* 640 KB */
  { 80, 2, 9, FLOPPY_DD, FLOPPY_DRIVE_720K },                                                 /* 720 KB */
  { 80, 2, 10, FLOPPY_DD, FLOPPY_DRIVE_720K },                                                /* 800 KB */
  { 80, 2, 15, FLOPPY_HD, FLOPPY_DRIVE_1200K },                                               /* 1.2 MB */
  { 80, 2, 18, FLOPPY_HD, FLOPPY_DRIVE_1440K },                                               /* 1.44 MB */
  { 80, 2, 20, FLOPPY_HD, FLOPPY_DRIVE_1440K }, { 80, 2, 21, FLOPPY_HD, FLOPPY_DRIVE_1440K }, /* 1.68 MB, "DMF" */
  { 82, 2, 21, FLOPPY_HD, FLOPPY_DRIVE_1440K },                                               /* 1.72 MB */
  { 83, 2, 21, FLOPPY_HD, FLOPPY_DRIVE_1440K }, { 80, 2, 36, FLOPPY_ED, FLOPPY_DRIVE_2880K }, /* 2.88 MB */
};

#define COMMON_BYTES (1440u * 1024)

uint32_t floppy_format_bytes(const FloppyFormat *format)
{
  return (uint32_t)format->tracks * format->heads * format->sectors * FLOPPY_SECTOR_BYTES;
}

const FloppyFormat *floppy_format_for_size(uint64_t size_bytes)
{
  for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
    if (floppy_format_bytes(&formats[i]) == size_bytes)
      return &formats[i];
  /* Boot images are often cut off after their last byte of use. */
  uint64_t at_least = size_bytes < COMMON_BYTES ? COMMON_BYTES : size_bytes;
  for (size_t i = 0; i < G_N_ELEMENTS(formats); i++)
    if (floppy_format_bytes(&formats[i]) >= at_least)
      return &formats[i];
  return NULL;
}

FloppyDriveType floppy_drive_type_for_size(uint64_t size_bytes)
{
  const FloppyFormat *format = floppy_format_for_size(size_bytes);
  if (format == NULL)
    return FLOPPY_DRIVE_2880K;
  /* A 1.44 MB drive reads what a 720 KB one does, and more. */
  return format->drive == FLOPPY_DRIVE_720K ? FLOPPY_DRIVE_1440K : format->drive;
}

FloppyDensity floppy_drive_density(FloppyDriveType type)
{
  switch (type) {
  case FLOPPY_DRIVE_1200K:
  case FLOPPY_DRIVE_1440K:
    return FLOPPY_HD;
  case FLOPPY_DRIVE_2880K:
    return FLOPPY_ED;
  default:
    return FLOPPY_DD;
  }
}
