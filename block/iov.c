/* Vectors of buffers: slices, sums. */
#include <string.h>

#include "block/block-impl.h"

unsigned blk_iov_slice(const struct iovec *iov, unsigned n_iov, uint64_t skip, uint64_t length, struct iovec *out)
{
  unsigned n = 0;
  for (unsigned i = 0; i < n_iov && length > 0; i++) {
    uint64_t part = iov[i].iov_len;
    if (skip >= part) {
      skip -= part;
      continue;
    }
    part = MIN(part - skip, length);
    out[n++] = (struct iovec){ (uint8_t *)iov[i].iov_base + skip, part };
    length -= part;
    skip = 0;
  }
  return n;
}

bool blk_iov_length(const struct iovec *iov, unsigned n_iov, uint64_t *length)
{
  uint64_t sum = 0;
  for (unsigned i = 0; i < n_iov; i++)
    if (__builtin_add_overflow(sum, (uint64_t)iov[i].iov_len, &sum))
      return false;
  *length = sum;
  return true;
}

void blk_iov_clear(const struct iovec *iov, unsigned n_iov)
{
  for (unsigned i = 0; i < n_iov; i++)
    memset(iov[i].iov_base, 0, iov[i].iov_len);
}
