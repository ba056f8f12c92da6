/* An image in memory with faults to order, for tests: answers come without a thread, at the context's next turn. */
#ifndef TESTS_BLOCK_MEMORY_IMAGE_H
#define TESTS_BLOCK_MEMORY_IMAGE_H

#include "block/block-impl.h"

typedef struct MemoryImage {
  uint8_t *bytes; /* survives the image; memory_image_clear() frees it */
  uint64_t size_bytes;
  int read_error, write_error, flush_error; /* an errno value: every such request fails with it */
  uint64_t bad_offset, bad_length;          /* with errors: only requests that touch this range (length 0: all) */
  bool hold;                                /* requests wait until memory_image_release() */
  GQueue held;
  unsigned n_reads, n_writes, n_flushes, n_closed;
} MemoryImage;

void memory_image_init(MemoryImage *memory, uint64_t size_bytes);
void memory_image_clear(MemoryImage *memory);
BlkImage *memory_image_open(MemoryImage *memory, const char *name, bool read_only, GMainContext *context);
/* Serves what waits, and stops holding. */
void memory_image_release(MemoryImage *memory);

#endif
