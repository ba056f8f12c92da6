/* The table of formats, and making new images. */
#include "block/block-impl.h"

static const BlkDriver *const drivers[] = { &blk_raw_driver };

const BlkDriver *blk_driver_find(const char *format)
{
  for (size_t i = 0; i < G_N_ELEMENTS(drivers); i++)
    if (g_str_equal(drivers[i]->format, format))
      return drivers[i];
  return NULL;
}

bool blk_create(const char *path, const char *format, uint64_t size_bytes, GError **error)
{
  const BlkDriver *driver = blk_driver_find(format != NULL ? format : "raw");
  if (driver == NULL || driver->create == NULL) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_FORMAT, "%s: images of the format \"%s\" cannot be made; use raw", path,
                format);
    return false;
  }
  if (size_bytes == 0 || size_bytes > INT64_MAX - BLK_SECTOR_BYTES) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID,
                "%s: a disk of %" G_GUINT64_FORMAT " bytes cannot be; choose another size", path, size_bytes);
    return false;
  }
  return driver->create(path, (size_bytes + BLK_SECTOR_BYTES - 1) / BLK_SECTOR_BYTES * BLK_SECTOR_BYTES, error);
}
