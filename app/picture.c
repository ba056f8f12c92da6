/* Pictures to files: PNG by libpng's simplified interface, PPM by hand. */
#include "app/picture.h"

#include <png.h>

#include "app/settings.h"

static uint8_t *to_rgb(const uint32_t *pixels, size_t n)
{
  uint8_t *rgb = g_malloc(n * 3);
  for (size_t i = 0; i < n; i++) {
    rgb[3 * i] = (uint8_t)(pixels[i] >> 16);
    rgb[3 * i + 1] = (uint8_t)(pixels[i] >> 8);
    rgb[3 * i + 2] = (uint8_t)pixels[i];
  }
  return rgb;
}

static GBytes *encode_ppm(const uint8_t *rgb, unsigned width, unsigned height)
{
  g_autofree char *head = g_strdup_printf("P6\n%u %u\n255\n", width, height);
  GByteArray *out = g_byte_array_new();
  g_byte_array_append(out, (const guint8 *)head, (guint)strlen(head));
  g_byte_array_append(out, rgb, width * height * 3);
  return g_byte_array_free_to_bytes(out);
}

static GBytes *encode_png(const uint8_t *rgb, unsigned width, unsigned height)
{
  png_image image = { .version = PNG_IMAGE_VERSION,
                      .width = width,
                      .height = height,
                      .format = PNG_FORMAT_RGB,
                      .flags = PNG_IMAGE_FLAG_FAST }; /* a 4K picture must not keep anybody waiting */
  png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(image);
  void *out = g_malloc(size);
  if (!png_image_write_to_memory(&image, out, &size, 0, rgb, 0, NULL)) {
    g_free(out);
    return NULL;
  }
  return g_bytes_new_take(out, size);
}

bool oriel_picture_save(const uint32_t *pixels, unsigned width, unsigned height, const char *path, const char *format,
                        GError **error)
{
  bool png = format ? g_str_equal(format, "png") : g_str_has_suffix(path, ".png");
  g_autofree uint8_t *rgb = to_rgb(pixels, (size_t)width * height);
  g_autoptr(GBytes) bytes = png ? encode_png(rgb, width, height) : encode_ppm(rgb, width, height);
  if (bytes == NULL) {
    g_set_error(error, ORIEL_ERROR, ORIEL_ERROR_FAILED, "cannot write %s: the picture cannot be encoded", path);
    return false;
  }
  gsize size;
  const char *data = g_bytes_get_data(bytes, &size);
  return g_file_set_contents(path, data, (gssize)size, error);
}
