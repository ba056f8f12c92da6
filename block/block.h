/*
 * Disk images: one interface for every format.
 *
 * A BlkImage is an open image: a size in bytes and asynchronous requests. All requests go through one choke point that
 * checks range, alignment and state before a format driver sees them. Completion comes in the GMainContext that the
 * image was opened for, in any order; nothing is called back from within the submitting call.
 *
 * Limits: a request is at most BLK_MAX_REQUEST_BYTES; offsets and lengths are bytes (any alignment; drivers bounce).
 */
#ifndef BLK_BLOCK_H
#define BLK_BLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>
#include <glib.h>

#define BLK_SECTOR_BYTES 512u
#define BLK_MAX_REQUEST_BYTES (UINT64_C(1) << 30)

#define BLK_ERROR blk_error_quark()
GQuark blk_error_quark(void);
typedef enum BlkError { BLK_ERROR_FAILED, BLK_ERROR_NOT_FOUND, BLK_ERROR_DENIED, BLK_ERROR_FORMAT, BLK_ERROR_LOCKED, BLK_ERROR_INVALID } BlkError;

typedef struct BlkImage BlkImage;

typedef struct BlkOpenOptions {
  const char *format;   /* "raw", …; NULL: raw (probing is the caller's decision, never repeated: see facts on guests' headers) */
  bool read_only;
  bool discard_changes; /* writes go to a temporary, deleted overlay; the file stays as it is */
  GMainContext *context; /* completions; NULL: the thread-default one. Borrowed; must outlive the image. */
} BlkOpenOptions;

/* `error` names the path and what to do. Locks the file against a second writer (OFD locks). */
BlkImage *blk_open(const char *path, const BlkOpenOptions *options, GError **error);
/* Waits for requests under way, flushes, closes. NULL allowed. */
void blk_close(BlkImage *image);

uint64_t blk_get_size(const BlkImage *image); /* bytes */
bool blk_is_read_only(const BlkImage *image);
const char *blk_get_path(const BlkImage *image);
const char *blk_get_format(const BlkImage *image);

/* 0, or a positive errno value: EIO, ENOSPC, EROFS, EINVAL (out of range) … */
typedef void (*BlkDone)(void *opaque, int error);

/* The vector and its buffers live until `done`; the vector itself is copied. */
void blk_read(BlkImage *image, uint64_t offset, const struct iovec *iov, unsigned n_iov, BlkDone done, void *opaque);
void blk_write(BlkImage *image, uint64_t offset, const struct iovec *iov, unsigned n_iov, BlkDone done, void *opaque);
void blk_write_zeroes(BlkImage *image, uint64_t offset, uint64_t length, BlkDone done, void *opaque);
void blk_discard(BlkImage *image, uint64_t offset, uint64_t length, BlkDone done, void *opaque);
/* Everything completed before is on stable storage. */
void blk_flush(BlkImage *image, BlkDone done, void *opaque);

/* Waits until no request is under way; completions that were not delivered yet are delivered within this call, by this
 * thread. Called by blk_close() too. For a device: with its context's lock held. */
void blk_drain(BlkImage *image);

typedef struct BlkStatistics {
  uint64_t reads, writes, flushes; /* requests completed; zeroing and discarding count as writes */
  uint64_t read_bytes, written_bytes;
  uint64_t errors;
  unsigned in_flight;
} BlkStatistics;
/* Any thread. */
void blk_get_statistics(BlkImage *image, BlkStatistics *statistics);

/* Blocking forms, for tools and set-up. False with `error`. */
bool blk_read_sync(BlkImage *image, uint64_t offset, void *buffer, uint64_t length, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool blk_write_sync(BlkImage *image, uint64_t offset, const void *buffer, uint64_t length, GError **error) G_GNUC_WARN_UNUSED_RESULT;
bool blk_flush_sync(BlkImage *image, GError **error) G_GNUC_WARN_UNUSED_RESULT;

/* Makes a new, empty image; refuses to overwrite. A failure leaves no file. */
bool blk_create(const char *path, const char *format, uint64_t size_bytes, GError **error) G_GNUC_WARN_UNUSED_RESULT;

G_DEFINE_AUTOPTR_CLEANUP_FUNC(BlkImage, blk_close)

#endif
