#include <errno.h>
#include <string.h>

#include "tests/block/memory-image.h"

static bool is_bad(const MemoryImage *memory, uint64_t offset, uint64_t length)
{
  return memory->bad_length == 0 ||
         (offset < memory->bad_offset + memory->bad_length && memory->bad_offset < offset + length);
}

static int move(MemoryImage *memory, uint64_t offset, const struct iovec *iov, unsigned n_iov, bool writing)
{
  int error = writing ? memory->write_error : memory->read_error;
  uint64_t length;
  g_assert_true(blk_iov_length(iov, n_iov, &length));
  g_assert_true(offset <= memory->size_bytes && length <= memory->size_bytes - offset);
  if (error != 0 && is_bad(memory, offset, length))
    return error;
  for (unsigned i = 0; i < n_iov; offset += iov[i++].iov_len)
    if (writing)
      memcpy(memory->bytes + offset, iov[i].iov_base, iov[i].iov_len);
    else
      memcpy(iov[i].iov_base, memory->bytes + offset, iov[i].iov_len);
  return 0;
}

static int memory_read(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  MemoryImage *memory = state;
  memory->n_reads++;
  return move(memory, offset, iov, n_iov, false);
}

static int memory_write(void *state, uint64_t offset, const struct iovec *iov, unsigned n_iov)
{
  MemoryImage *memory = state;
  memory->n_writes++;
  return move(memory, offset, iov, n_iov, true);
}

static int memory_write_zeroes(void *state, uint64_t offset, uint64_t length)
{
  MemoryImage *memory = state;
  memory->n_writes++;
  if (memory->write_error != 0)
    return memory->write_error;
  memset(memory->bytes + offset, 0, length);
  return 0;
}

static int memory_flush(void *state)
{
  MemoryImage *memory = state;
  memory->n_flushes++;
  return memory->flush_error;
}

static int serve(MemoryImage *memory, const BlkRequest *request)
{
  switch (request->op) {
  case BLK_OP_READ:
    return memory_read(memory, request->offset, request->iov, request->n_iov);
  case BLK_OP_WRITE:
    return memory_write(memory, request->offset, request->iov, request->n_iov);
  case BLK_OP_FLUSH:
    return memory_flush(memory);
  default:
    return memory_write_zeroes(memory, request->offset, request->length);
  }
}

static bool memory_submit(void *state, BlkRequest *request)
{
  MemoryImage *memory = state;
  if (memory->hold)
    g_queue_push_tail(&memory->held, request);
  else
    blk_request_complete(request, serve(memory, request));
  return true;
}

static void memory_close(void *state)
{
  MemoryImage *memory = state;
  memory->n_closed++;
}

static const BlkDriver memory_driver = {
  .format = "memory",
  .close = memory_close,
  .read = memory_read,
  .write = memory_write,
  .write_zeroes = memory_write_zeroes,
  .flush = memory_flush,
  .submit = memory_submit,
};

void memory_image_init(MemoryImage *memory, uint64_t size_bytes)
{
  *memory = (MemoryImage){ .bytes = g_malloc0(size_bytes), .size_bytes = size_bytes };
  g_queue_init(&memory->held);
}

void memory_image_clear(MemoryImage *memory)
{
  g_assert_true(g_queue_is_empty(&memory->held));
  g_clear_pointer(&memory->bytes, g_free);
}

BlkImage *memory_image_open(MemoryImage *memory, const char *name, bool read_only, GMainContext *context)
{
  return blk_image_new(&memory_driver, memory, name, memory->size_bytes, read_only, context);
}

void memory_image_release(MemoryImage *memory)
{
  BlkRequest *request;
  memory->hold = false;
  while ((request = g_queue_pop_head(&memory->held)) != NULL)
    blk_request_complete(request, serve(memory, request));
}
