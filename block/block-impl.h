/*
 * For those who implement an image format, or stand something else (a test's memory) behind the block interface.
 *
 * A driver's data functions block: the choke point (image.c) runs them on a bounded pool of threads, several at once, so
 * that a format or a filter reads the layer below it by a plain call. A driver that has true asynchronous I/O below it
 * (io_uring) also gives `submit`, which takes requests without a thread of the pool; what it declines goes to the pool.
 */
#ifndef BLK_BLOCK_IMPL_H
#define BLK_BLOCK_IMPL_H

#include "block/block.h"

typedef struct BlkDriver BlkDriver;
typedef struct BlkRequest BlkRequest;

typedef enum BlkOp { BLK_OP_READ, BLK_OP_WRITE, BLK_OP_WRITE_ZEROES, BLK_OP_DISCARD, BLK_OP_FLUSH } BlkOp;

/* One request under way. Ranges are inside the image, and READ and WRITE have length > 0 with a vector that sums to it. */
struct BlkRequest {
  BlkImage *image;
  BlkOp op;
  uint64_t offset, length; /* bytes */
  BlkDone done;
  void *opaque;
  int error;  /* set by completion */
  GList link; /* in the image's queue of completed requests */
  unsigned n_iov;
  struct iovec iov[];
};

/* `state` is what open() returned. Data functions: any thread, many at once; 0 or an errno value; ranges are checked. */
struct BlkDriver {
  const char *format; /* "raw" */
  /* NULL with `error` that names the path and the remedy. `size` gets the image's bytes. */
  void *(*open)(const char *path, const BlkOpenOptions *options, uint64_t *size, GError **error);
  void (*close)(void *state);                                                          /* mandatory */
  int (*read)(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov);  /* mandatory */
  int (*write)(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov); /* mandatory */
  int (*write_zeroes)(void *state, uint64_t offset, uint64_t length);                  /* mandatory */
  int (*discard)(void *state, uint64_t offset, uint64_t length); /* NULL: discarding does nothing */
  int (*flush)(void *state);                                     /* mandatory */
  /* True: taken, blk_request_complete() follows (from any thread, also within this call). NULL: none. */
  bool (*submit)(void *state, BlkRequest *request);
  /* Makes a new file, or leaves none. NULL: the format cannot be made. */
  bool (*create)(const char *path, uint64_t size_bytes, GError **error);
};

/* The formats, by name; NULL for an unknown one. */
const BlkDriver *blk_driver_find(const char *format);

extern const BlkDriver blk_raw_driver;

/* An image on a driver's state, which it takes over (close() is called by blk_close()). `context` NULL: thread-default. */
BlkImage *blk_image_new(const BlkDriver *driver, void *state, const char *path, uint64_t size_bytes, bool read_only,
                        GMainContext *context);

/* A driver's answer to a submitted request. Any thread. */
void blk_request_complete(BlkRequest *request, int error);

/* ---- parts that formats share ---------------------------------------------------------------------------------- */

/* What lies at [skip, skip + length) of a vector, as a vector in `out` (room for n_iov). Returns its elements. */
unsigned blk_iov_slice(const struct iovec *iov, unsigned n_iov, uint64_t skip, uint64_t length, struct iovec *out);
/* False where the sum overflows. */
bool blk_iov_length(const struct iovec *iov, unsigned n_iov, uint64_t *length) G_GNUC_WARN_UNUSED_RESULT;
void blk_iov_clear(const struct iovec *iov, unsigned n_iov);

/* Whole transfers at a file's offset: EINTR and short transfers are gone on with, reads past the end give zeroes.
 * 0 or an errno value. */
int blk_file_read(int fd, uint64_t offset, const struct iovec *iov, unsigned n_iov);
int blk_file_write(int fd, uint64_t offset, const struct iovec *iov, unsigned n_iov);
int blk_file_write_zeroes(int fd, uint64_t offset, uint64_t length);
int blk_file_discard(int fd, uint64_t offset, uint64_t length);
int blk_file_flush(int fd);

/* "PATH: what went wrong; what to do", for an errno value met when opening or making a file. */
void blk_set_open_error(GError **error, const char *path, int errnum, bool writing);

/* Claims the file for reading or writing against other programs (lock.c); held until `fd` is closed. */
bool blk_lock_file(int fd, const char *path, bool writing, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* A copy-on-write layer over an open driver state, which it takes over also on failure. */
extern const BlkDriver blk_overlay_driver;
void *blk_overlay_new(const BlkDriver *lower, void *lower_state, uint64_t size_bytes, GError **error);

#endif
