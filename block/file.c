/*
 * Whole transfers on a file descriptor, as the formats need them: nothing short, nothing interrupted.
 *
 * A read past the end gives zeroes, since an image's last sector may be cut off in its file.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <sys/uio.h>
#include <unistd.h>

#include "block/block-impl.h"

#define MAX_IOV           1024u
#define ZERO_BUFFER_BYTES (UINT64_C(64) << 10)

/* Drops `done` bytes from the front of the vector. */
static void advance(struct iovec **iov, unsigned *n_iov, size_t done)
{
  while (*n_iov > 0 && done >= (*iov)->iov_len) {
    done -= (*iov)->iov_len;
    (*iov)++;
    (*n_iov)--;
  }
  if (*n_iov > 0) {
    (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + done;
    (*iov)->iov_len -= done;
  }
}

typedef ssize_t (*TransferFunc)(int fd, const struct iovec *iov, int n_iov, off_t offset);

/* Moves the vector `rest`; what the end of the file kept back stays in it. */
static int transfer(int fd, uint64_t offset, TransferFunc func, struct iovec **rest, unsigned *n_rest)
{
  if (offset > INT64_MAX)
    return EINVAL;
  advance(rest, n_rest, 0); /* empty elements in front */
  while (*n_rest > 0) {
    ssize_t n = func(fd, *rest, (int)MIN(*n_rest, MAX_IOV), (off_t)offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return errno;
    if (n == 0)
      return 0;
    offset += (uint64_t)n;
    advance(rest, n_rest, (size_t)n);
  }
  return 0;
}

int blk_file_read(int fd, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  g_autofree struct iovec *copy = g_memdup2(iov, n_iov * sizeof(*iov));
  struct iovec *rest = copy;
  unsigned n_rest = n_iov;
  int error = transfer(fd, offset, preadv, &rest, &n_rest);
  if (error == 0)
    blk_iov_clear(rest, n_rest);
  return error;
}

int blk_file_write(int fd, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  g_autofree struct iovec *copy = g_memdup2(iov, n_iov * sizeof(*iov));
  struct iovec *rest = copy;
  unsigned n_rest = n_iov;
  int error = transfer(fd, offset, pwritev, &rest, &n_rest);
  if (error == 0 && n_rest > 0)
    error = EIO;
  return error;
}

/* 0, an error, or EOPNOTSUPP where this file cannot have holes there. */
static int punch_hole(int fd, uint64_t offset, uint64_t length)
{
  int rc;
  if (offset > INT64_MAX || length > INT64_MAX)
    return EINVAL;
  do {
    rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)length);
  } while (rc < 0 && errno == EINTR);
  if (rc == 0)
    return 0;
  /* EINVAL: a block device whose sectors are larger than the range's alignment. */
  return errno == ENOSYS || errno == ENOTSUP || errno == EINVAL || errno == ENODEV ? EOPNOTSUPP : errno;
}

int blk_file_write_zeroes(int fd, uint64_t offset, uint64_t length)
{
  int error = punch_hole(fd, offset, length);
  if (error != EOPNOTSUPP)
    return error;
  g_autofree uint8_t *zeroes = g_malloc0(ZERO_BUFFER_BYTES);
  while (length > 0) {
    struct iovec iov = { zeroes, MIN(length, ZERO_BUFFER_BYTES) };
    error = blk_file_write(fd, offset, &iov, 1);
    if (error != 0)
      return error;
    offset += iov.iov_len;
    length -= iov.iov_len;
  }
  return 0;
}

int blk_file_discard(int fd, uint64_t offset, uint64_t length)
{
  int error = punch_hole(fd, offset, length);
  return error == EOPNOTSUPP ? 0 : error; /* discarding is a wish */
}

int blk_file_flush(int fd)
{
  int rc;
  do {
    rc = fdatasync(fd);
  } while (rc < 0 && errno == EINTR);
  /* EINVAL, EROFS: there is nothing behind the descriptor that could be flushed. */
  return rc == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
}

void blk_set_open_error(GError **error, const char *path, int errnum, bool writing)
{
  switch (errnum) {
  case ENOENT:
  case ENOTDIR:
    g_set_error(error, BLK_ERROR, BLK_ERROR_NOT_FOUND, "%s: no such file; check the path", path);
    break;
  case EACCES:
  case EPERM:
    g_set_error(error, BLK_ERROR, BLK_ERROR_DENIED, "%s: you have no permission to %s it; %s", path,
                writing ? "write to" : "read",
                writing ? "change its permissions, or open it read-only" : "change its permissions");
    break;
  case EISDIR:
    g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID, "%s: this is a directory; give a disk image or a block device",
                path);
    break;
  case EROFS:
    g_set_error(
        error, BLK_ERROR, BLK_ERROR_DENIED,
        "%s: its file system is mounted read-only; open it read-only, discard changes, or copy the file elsewhere",
        path);
    break;
  case EEXIST:
    g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID, "%s: a file of this name exists; choose another name or remove it",
                path);
    break;
  case ENOSPC:
  case EDQUOT:
    g_set_error(error, BLK_ERROR, BLK_ERROR_FAILED, "%s: there is no room left on its file system; make room there",
                path);
    break;
  case ENOMEDIUM:
  case ENXIO:
    g_set_error(error, BLK_ERROR, BLK_ERROR_NOT_FOUND, "%s: the drive holds no medium; insert one", path);
    break;
  default:
    g_set_error(error, BLK_ERROR, BLK_ERROR_FAILED, "%s: cannot be %s: %s", path,
                writing ? "opened for writing" : "opened", g_strerror(errnum));
    break;
  }
}
