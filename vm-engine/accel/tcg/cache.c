/*
 * The code cache: where translated code stands.
 *
 * One memfd, mapped once to write and once to execute. Space is taken from the front and given back only all at once; pages
 * are resident only once something stands in them.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm-engine/accel/tcg/tcg-impl.h"
#include "vm-engine/vm.h"

#ifndef MFD_EXEC
#define MFD_EXEC 0x10u
#endif

/* Newer kernels want to be told that a file will be executed, older ones do not know the flag. */
static int open_memfd(void)
{
  int fd = memfd_create("oriel-code", MFD_CLOEXEC | MFD_EXEC);
  return fd >= 0 || errno != EINVAL ? fd : memfd_create("oriel-code", MFD_CLOEXEC);
}

static uint8_t *map(TcgCache *cache, int protection)
{
  void *p = mmap(NULL, cache->size, protection, MAP_SHARED, cache->memfd, 0);
  return p == MAP_FAILED ? NULL : p;
}

/* The same out of shared memory without a name: `perf` believes its map of symbols only where no file is mapped. */
static void map_nameless(TcgCache *cache)
{
  void *rw = mmap(NULL, cache->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  void *rx = rw != MAP_FAILED ? mremap(rw, 0, cache->size, MREMAP_MAYMOVE) : MAP_FAILED;
  cache->rw = rw == MAP_FAILED ? NULL : rw;
  cache->rx = rx == MAP_FAILED || mprotect(rx, cache->size, PROT_READ | PROT_EXEC) != 0 ? NULL : rx;
}

TcgCache *tcg_cache_new(size_t size, bool for_perf, GError **error)
{
  TcgCache *cache = g_new0(TcgCache, 1);
  cache->size = size;
  cache->memfd = for_perf ? -1 : open_memfd();
  if (for_perf) {
    map_nameless(cache);
  } else if (cache->memfd >= 0 && ftruncate(cache->memfd, (off_t)size) == 0) {
    cache->rw = map(cache, PROT_READ | PROT_WRITE);
    cache->rx = map(cache, PROT_READ | PROT_EXEC);
  }
  if (cache->rw != NULL && cache->rx != NULL)
    return cache;
  int why = errno;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
              "cannot make %zu MiB of executable memory for the translator: %s; allow it, or use KVM (--accel kvm)",
              size >> 20, g_strerror(why));
  tcg_cache_free(cache);
  return NULL;
}

void tcg_cache_free(TcgCache *cache)
{
  if (cache == NULL)
    return;
  if (cache->rw != NULL)
    munmap(cache->rw, cache->size);
  if (cache->rx != NULL)
    munmap(cache->rx, cache->size);
  if (cache->memfd >= 0)
    close(cache->memfd);
  g_free(cache);
}

void tcg_cache_reset(TcgCache *cache)
{
  cache->used = cache->fixed;
}
