/*
 * Claims on an image file, so that no two programs write it, or one writes what another reads.
 *
 * The claims are open-file-description locks on single bytes, at the offsets that QEMU uses, so that the two programs
 * respect each other. For every kind of access i, a program that uses it holds a shared lock on byte 100 + i, and one
 * that cannot bear others to use it holds a shared lock on byte 200 + i. Having set its own, each looks whether an
 * exclusive lock would be possible on the opposite bytes: if not, somebody is in conflict. Setting first and looking
 * after means that of two programs at the same instant at least one sees the other.
 *
 * File systems without such locks (some network ones) go unclaimed, with a warning.
 */
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "block/block-impl.h"

#define USES_BASE   100
#define DENIES_BASE 200

/* Kinds of access, numbered as on disk. */
enum { KIND_READ = 1u << 0, KIND_WRITE = 1u << 1, KIND_RESIZE = 1u << 3, N_KINDS = 4 };

static int set_shared(int fd, off_t byte)
{
  struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
  int rc;
  do {
    rc = fcntl(fd, F_OFD_SETLK, &lock);
  } while (rc < 0 && errno == EINTR);
  return rc == 0 ? 0 : errno;
}

/* 0 free, EAGAIN held by somebody, or an error. */
static int look(int fd, off_t byte)
{
  struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
  if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
    return errno;
  return lock.l_type == F_UNLCK ? 0 : EAGAIN;
}

static int claim(int fd, unsigned uses, unsigned denies)
{
  int error = 0;
  for (unsigned i = 0; i < N_KINDS && error == 0; i++) {
    if (uses & 1u << i)
      error = set_shared(fd, USES_BASE + (off_t)i);
    if (error == 0 && denies & 1u << i)
      error = set_shared(fd, DENIES_BASE + (off_t)i);
  }
  for (unsigned i = 0; i < N_KINDS && error == 0; i++) {
    if (uses & 1u << i)
      error = look(fd, DENIES_BASE + (off_t)i);
    if (error == 0 && denies & 1u << i)
      error = look(fd, USES_BASE + (off_t)i);
  }
  return error;
}

bool blk_lock_file(int fd, const char *path, bool writing, GError **error)
{
  unsigned uses = writing ? KIND_READ | KIND_WRITE | KIND_RESIZE : KIND_READ;
  /* A writer bears no readers either: they would see torn data. */
  int errnum = claim(fd, uses, KIND_WRITE | KIND_RESIZE | (writing ? KIND_READ : 0));
  if (errnum == 0)
    return true;
  if (errnum == EAGAIN || errnum == EACCES) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_LOCKED,
                writing
                    ? "%s: another program uses this image; close it there, or open the image read-only there and here"
                    : "%s: another program writes to this image; close it there first",
                path);
    return false;
  }
  g_warning("%s: its file system knows no locks (%s); take care that no other program opens the image", path,
            g_strerror(errnum));
  return true;
}
