/* Pictures to files. */
#ifndef APP_PICTURE_H
#define APP_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <glib.h>

/* Writes `width` × `height` pixels (0x00RRGGBB, rows without gaps) to `path`, replacing it in one step. `format`: "png",
 * "ppm", or NULL for what the path ends in (PPM otherwise). */
bool oriel_picture_save(const uint32_t *pixels, unsigned width, unsigned height, const char *path, const char *format,
                        GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
