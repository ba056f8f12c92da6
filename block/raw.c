/*
 * The raw format: a file or block device whose bytes are the disk's.
 *
 * A file's size is rounded up to whole sectors; the missing end reads as zeroes and appears once it is written.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "block/block-impl.h"

typedef struct Raw {
  int fd;
} Raw;

static bool get_size(int fd, const char *path, bool writing, uint64_t *size, GError **error)
{
  struct stat st;
  if (fstat(fd, &st) < 0) {
    blk_set_open_error(error, path, errno, writing);
    return false;
  }
  if (S_ISBLK(st.st_mode)) {
    int device_read_only = 0;
    if (ioctl(fd, BLKGETSIZE64, size) < 0 || (writing && ioctl(fd, BLKROGET, &device_read_only) < 0)) {
      blk_set_open_error(error, path, errno, writing);
      return false;
    }
    if (device_read_only) {
      g_set_error(error, BLK_ERROR, BLK_ERROR_DENIED, "%s: this device is read-only; open it read-only", path);
      return false;
    }
  } else if (S_ISREG(st.st_mode)) {
    *size = (uint64_t)st.st_size;
  } else {
    if (S_ISDIR(st.st_mode))
      blk_set_open_error(error, path, EISDIR, writing);
    else
      g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID,
                  "%s: this is neither a file nor a block device; give a disk image or a block device", path);
    return false;
  }
  if (*size == 0) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_FORMAT, "%s: the file is empty; give a disk image that holds something",
                path);
    return false;
  }
  if (*size > INT64_MAX - BLK_SECTOR_BYTES) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_FORMAT, "%s: the image is too large for this host", path);
    return false;
  }
  *size = (*size + BLK_SECTOR_BYTES - 1) / BLK_SECTOR_BYTES * BLK_SECTOR_BYTES;
  return true;
}

static void *raw_open(const char *path, const BlkOpenOptions *options, uint64_t *size, GError **error)
{
  bool writing = !options->read_only;
  /* O_NONBLOCK: a pipe of this name must not keep us waiting. It means nothing for files and block devices. */
  int fd = open(path, O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (writing ? O_RDWR : O_RDONLY));
  if (fd < 0) {
    int errnum = errno;
    blk_set_open_error(error, path, errnum, writing);
    return NULL;
  }
  if (!get_size(fd, path, writing, size, error) || !blk_lock_file(fd, path, writing, error)) {
    close(fd);
    return NULL;
  }
  Raw *raw = g_new0(Raw, 1);
  raw->fd = fd;
  return raw;
}

static void raw_close(void *state)
{
  Raw *raw = state;
  close(raw->fd);
  g_free(raw);
}

static int raw_read(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  Raw *raw = state;
  return blk_file_read(raw->fd, offset, iov, n_iov);
}

static int raw_write(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  Raw *raw = state;
  return blk_file_write(raw->fd, offset, iov, n_iov);
}

static int raw_write_zeroes(void *state, uint64_t offset, uint64_t length)
{
  Raw *raw = state;
  return blk_file_write_zeroes(raw->fd, offset, length);
}

static int raw_discard(void *state, uint64_t offset, uint64_t length)
{
  Raw *raw = state;
  return blk_file_discard(raw->fd, offset, length);
}

static int raw_flush(void *state)
{
  Raw *raw = state;
  return blk_file_flush(raw->fd);
}

static bool raw_create(const char *path, uint64_t size_bytes, GError **error)
{
  int fd = open(path, O_CLOEXEC | O_NOCTTY | O_RDWR | O_CREAT | O_EXCL, 0666);
  if (fd < 0) {
    int errnum = errno;
    if (errnum == ENOENT)
      g_set_error(error, BLK_ERROR, BLK_ERROR_NOT_FOUND, "%s: the folder for it does not exist; make it first", path);
    else
      blk_set_open_error(error, path, errnum, true);
    return false;
  }
  int errnum = ftruncate(fd, (off_t)size_bytes) < 0 ? errno : 0;
  if (errnum != 0)
    unlink(path);
  close(fd);
  if (errnum == EFBIG || errnum == EINVAL)
    g_set_error(error, BLK_ERROR, BLK_ERROR_INVALID,
                "%s: its file system cannot hold a file of %" G_GUINT64_FORMAT " bytes; choose a smaller size", path,
                size_bytes);
  else if (errnum != 0)
    blk_set_open_error(error, path, errnum, true);
  return errnum == 0;
}

const BlkDriver blk_raw_driver = {
  .format = "raw",
  .open = raw_open,
  .close = raw_close,
  .read = raw_read,
  .write = raw_write,
  .write_zeroes = raw_write_zeroes,
  .discard = raw_discard,
  .flush = raw_flush,
  .create = raw_create,
};
