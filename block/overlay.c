/*
 * A layer that keeps writes to itself: what is written goes to a sparse temporary without a name, and is gone when the
 * image is closed. The layer below is only read.
 *
 * A bitmap has one bit for each cluster of 4 KiB: set, the cluster is in the temporary, whole; clear, it is below. A
 * write that covers a cluster in part first copies that cluster up. 4 KiB is what guests' file systems write, so that
 * copying up is rare, and costs 32 MiB of bitmap (touched only where used) for a disk of 1 TiB.
 *
 * `lock`: readers share it; whoever changes the bitmap or the temporary has it alone. A write that fails (the
 * temporary's file system is full) leaves every cluster as either its old content or a part of the new one.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block-impl.h"

#define CLUSTER_BYTES   UINT64_C(4096)
#define TEMPORARY_DIR   "/var/tmp"
#define BITS_PER_LONG   (sizeof(unsigned long) * CHAR_BIT)
#define MAX_IMAGE_BYTES (UINT64_C(1) << 46) /* its bitmap takes 2 GiB */

typedef struct Overlay {
  const BlkDriver *lower;
  void *lower_state;
  uint64_t size_bytes;
  int fd;
  GRWLock lock;
  unsigned long *present; /* a bit for each cluster */
} Overlay;

static bool is_present(const Overlay *overlay, uint64_t cluster)
{
  return overlay->present[cluster / BITS_PER_LONG] >> (cluster % BITS_PER_LONG) & 1;
}

static void mark_present(Overlay *overlay, uint64_t first, uint64_t last)
{
  for (uint64_t cluster = first; cluster <= last; cluster++)
    overlay->present[cluster / BITS_PER_LONG] |= 1ul << (cluster % BITS_PER_LONG);
}

/* How many bytes from `offset` on, at most `length`, lie in the same layer. */
static uint64_t run_length(const Overlay *overlay, uint64_t offset, uint64_t length, bool *present)
{
  uint64_t end = offset + length, at = (offset / CLUSTER_BYTES + 1) * CLUSTER_BYTES;
  *present = is_present(overlay, offset / CLUSTER_BYTES);
  while (at < end && is_present(overlay, at / CLUSTER_BYTES) == *present)
    at += CLUSTER_BYTES;
  return MIN(at, end) - offset;
}

static int overlay_read(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  Overlay *overlay = state;
  uint64_t length, done = 0;
  int error = 0;
  if (!blk_iov_length(iov, n_iov, &length))
    return EINVAL;
  g_autofree struct iovec *part = g_new(struct iovec, n_iov);
  g_rw_lock_reader_lock(&overlay->lock);
  while (done < length && error == 0) {
    bool present;
    uint64_t n = run_length(overlay, offset + done, length - done, &present);
    unsigned n_part = blk_iov_slice(iov, n_iov, done, n, part);
    error = present ? blk_file_read(overlay->fd, offset + done, part, n_part)
                    : overlay->lower->read(overlay->lower_state, offset + done, part, n_part);
    done += n;
  }
  g_rw_lock_reader_unlock(&overlay->lock);
  return error;
}

/* Brings a cluster up whole. */
static int copy_up(Overlay *overlay, uint64_t cluster)
{
  uint8_t buffer[CLUSTER_BYTES];
  uint64_t at = cluster * CLUSTER_BYTES;
  struct iovec iov = { buffer, MIN(CLUSTER_BYTES, overlay->size_bytes - at) };
  if (is_present(overlay, cluster))
    return 0;
  int error = overlay->lower->read(overlay->lower_state, at, &iov, 1);
  if (error == 0)
    error = blk_file_write(overlay->fd, at, &iov, 1);
  if (error == 0)
    mark_present(overlay, cluster, cluster);
  return error;
}

/* Copies up the clusters that [offset, offset + length) covers only in part. */
static int copy_up_edges(Overlay *overlay, uint64_t offset, uint64_t length)
{
  uint64_t end = offset + length;
  int error = 0;
  if (offset % CLUSTER_BYTES != 0)
    error = copy_up(overlay, offset / CLUSTER_BYTES);
  if (error == 0 && end % CLUSTER_BYTES != 0 && end != overlay->size_bytes)
    error = copy_up(overlay, end / CLUSTER_BYTES);
  return error;
}

static int overlay_write(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  Overlay *overlay = state;
  uint64_t length;
  if (!blk_iov_length(iov, n_iov, &length) || length == 0)
    return EINVAL;
  g_rw_lock_writer_lock(&overlay->lock);
  int error = copy_up_edges(overlay, offset, length);
  if (error == 0)
    error = blk_file_write(overlay->fd, offset, iov, n_iov);
  if (error == 0)
    mark_present(overlay, offset / CLUSTER_BYTES, (offset + length - 1) / CLUSTER_BYTES);
  g_rw_lock_writer_unlock(&overlay->lock);
  return error;
}

static int overlay_write_zeroes(void *state, uint64_t offset, uint64_t length)
{
  Overlay *overlay = state;
  g_rw_lock_writer_lock(&overlay->lock);
  int error = copy_up_edges(overlay, offset, length);
  if (error == 0)
    error = blk_file_write_zeroes(overlay->fd, offset, length);
  if (error == 0)
    mark_present(overlay, offset / CLUSTER_BYTES, (offset + length - 1) / CLUSTER_BYTES);
  g_rw_lock_writer_unlock(&overlay->lock);
  return error;
}

/* Nothing outlives the process, so there is nothing to make durable. */
static int overlay_flush(void *state)
{
  return 0;
}

static void overlay_close(void *state)
{
  Overlay *overlay = state;
  overlay->lower->close(overlay->lower_state);
  if (overlay->fd >= 0)
    close(overlay->fd);
  g_rw_lock_clear(&overlay->lock);
  free(overlay->present);
  g_free(overlay);
}

/* A file without a name; file systems that know no such thing get one that is deleted at once. */
static int open_temporary(void)
{
  int fd = open(TEMPORARY_DIR, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT && errno != EINVAL))
    return fd;
  char name[] = TEMPORARY_DIR "/oriel-XXXXXX";
  fd = mkostemp(name, O_CLOEXEC);
  if (fd >= 0)
    unlink(name);
  return fd;
}

void *blk_overlay_new(const BlkDriver *lower, void *lower_state, uint64_t size_bytes, GError **error)
{
  Overlay *overlay = g_new0(Overlay, 1);
  overlay->lower = lower;
  overlay->lower_state = lower_state;
  overlay->size_bytes = size_bytes;
  overlay->fd = open_temporary();
  g_rw_lock_init(&overlay->lock);
  if (overlay->fd < 0 || ftruncate(overlay->fd, (off_t)size_bytes) < 0) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_FAILED,
                "%s: the temporary for changes that are to be discarded cannot be made: %s; make room or give the "
                "right to write there",
                TEMPORARY_DIR, g_strerror(errno));
    overlay_close(overlay);
    return NULL;
  }
  /* calloc, not g_malloc0: the pages that are never touched shall cost nothing, and a refusal is an answer. */
  uint64_t n_clusters = (size_bytes + CLUSTER_BYTES - 1) / CLUSTER_BYTES;
  if (size_bytes <= MAX_IMAGE_BYTES)
    overlay->present = calloc(n_clusters / BITS_PER_LONG + 1, sizeof(unsigned long));
  if (overlay->present == NULL) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_FAILED,
                "changes to an image of %" G_GUINT64_FORMAT " bytes cannot be kept apart: it is too large", size_bytes);
    overlay_close(overlay);
    return NULL;
  }
  return overlay;
}

const BlkDriver blk_overlay_driver = {
  .format = "overlay",
  .close = overlay_close,
  .read = overlay_read,
  .write = overlay_write,
  .write_zeroes = overlay_write_zeroes,
  .discard = overlay_write_zeroes,
  .flush = overlay_flush,
};
