/*
 * The choke point: every request on every image goes through here.
 *
 * Here, and only here, are ranges, limits and the read-only state checked, requests counted, and completions carried to
 * the image's GMainContext. A driver sees requests that are inside the image, and does the I/O.
 *
 * Locks: `lock` guards the queue of completed requests, the counts and the sticky flush error; it is never held while a
 * driver or a caller's function runs. Completed requests wait in `completed`; a GSource whose ready time is set by the
 * completing thread delivers them.
 *
 * A flush that failed once fails for ever after: the kernel reports a lost write-back once and drops the pages, so a
 * second flush that "succeeds" would vouch for data that never reached the disk.
 */
#include <errno.h>
#include <limits.h>
#include <glib.h>

#include "block/block-impl.h"

#define N_THREADS 8 /* a disk controller keeps few requests in flight, and more would only seek against each other */
#define MAX_IOV   1024u /* IOV_MAX on Linux */

typedef struct ImageSource {
  GSource base;
  BlkImage *image; /* NULL once closed */
} ImageSource;

struct BlkImage {
  const BlkDriver *driver;
  void *state;
  const char *format; /* of the file, below any overlay */
  char *path;
  uint64_t size_bytes;
  bool read_only;
  ImageSource *source;
  GThreadPool *pool; /* made with the first request that needs it */
  GMutex lock;
  GCond idle; /* in_flight reached 0 */
  GQueue completed;
  unsigned in_flight; /* with the driver */
  int flush_error;    /* the first failed flush's */
  bool closing;
  BlkStatistics statistics;
};

G_DEFINE_QUARK(blk - error - quark, blk_error)

/* ---- completion -------------------------------------------------------------------------------------------------- */

static BlkRequest *pop_completed(BlkImage *image)
{
  g_mutex_lock(&image->lock);
  GList *link = g_queue_pop_head_link(&image->completed);
  g_mutex_unlock(&image->lock);
  return link != NULL ? link->data : NULL;
}

static void deliver(BlkRequest *request)
{
  BlkDone done = request->done;
  void *opaque = request->opaque;
  int error = request->error;
  g_free(request);
  done(opaque, error); /* may close the image */
}

/* Bounded by what is there at the start, so that a caller who answers each completion by a new request does not keep
 * the loop, and its lock, for ever. */
static gboolean source_dispatch(GSource *source, GSourceFunc func, gpointer data)
{
  ImageSource *self = (ImageSource *)source;
  g_source_set_ready_time(source, -1);
  if (self->image == NULL)
    return G_SOURCE_REMOVE;
  g_mutex_lock(&self->image->lock);
  unsigned n = self->image->completed.length;
  g_mutex_unlock(&self->image->lock);
  for (; n > 0 && self->image != NULL; n--) {
    BlkRequest *request = pop_completed(self->image);
    if (request == NULL)
      break;
    deliver(request);
  }
  if (self->image == NULL)
    return G_SOURCE_REMOVE;
  g_mutex_lock(&self->image->lock);
  if (self->image->completed.length > 0)
    g_source_set_ready_time(source, 0);
  g_mutex_unlock(&self->image->lock);
  return G_SOURCE_CONTINUE;
}

static const GSourceFuncs source_funcs = { .dispatch = source_dispatch };

static void account_locked(BlkImage *image, BlkOp op, uint64_t length, int error)
{
  BlkStatistics *s = &image->statistics;
  if (error != 0)
    s->errors++;
  if (op == BLK_OP_READ) {
    s->reads++;
    s->read_bytes += error == 0 ? length : 0;
  } else if (op == BLK_OP_FLUSH) {
    s->flushes++;
  } else {
    s->writes++;
    s->written_bytes += error == 0 ? length : 0;
  }
}

static int settle_locked(BlkImage *image, BlkOp op, uint64_t length, int error)
{
  if (op == BLK_OP_FLUSH && error != 0 && image->flush_error == 0)
    image->flush_error = error;
  if (op == BLK_OP_FLUSH && image->flush_error != 0)
    error = image->flush_error;
  account_locked(image, op, length, error);
  return error;
}

void blk_request_complete(BlkRequest *request, int error)
{
  BlkImage *image = request->image;
  g_assert(error >= 0);
  g_mutex_lock(&image->lock);
  g_assert(image->in_flight > 0);
  request->error = settle_locked(image, request->op, request->length, error);
  g_queue_push_tail_link(&image->completed, &request->link);
  g_source_set_ready_time(&image->source->base, 0);
  if (--image->in_flight == 0)
    g_cond_broadcast(&image->idle);
  g_mutex_unlock(&image->lock);
}

/* ---- submission ---------------------------------------------------------------------------------------------------- */

static int run(BlkImage *image, BlkOp op, uint64_t offset, uint64_t length, const struct iovec *iov, unsigned n_iov)
{
  switch (op) {
  case BLK_OP_READ:
    return image->driver->read(image->state, offset, iov, n_iov);
  case BLK_OP_WRITE:
    return image->driver->write(image->state, offset, iov, n_iov);
  case BLK_OP_WRITE_ZEROES:
    return image->driver->write_zeroes(image->state, offset, length);
  case BLK_OP_DISCARD:
    return image->driver->discard != NULL ? image->driver->discard(image->state, offset, length) : 0;
  case BLK_OP_FLUSH:
    return image->driver->flush(image->state);
  }
  return EINVAL;
}

static void pool_func(gpointer data, gpointer user_data)
{
  BlkRequest *request = data;
  int error = run(request->image, request->op, request->offset, request->length, request->iov, request->n_iov);
  blk_request_complete(request, error);
}

/* 0, or why the request cannot be. */
static int judge(const BlkImage *image, BlkOp op, uint64_t offset, uint64_t length)
{
  if (op == BLK_OP_FLUSH)
    return 0;
  /* Zeroing and discarding carry no buffer, so only the image bounds them. */
  if ((op == BLK_OP_READ || op == BLK_OP_WRITE) && length > BLK_MAX_REQUEST_BYTES)
    return EINVAL;
  if (offset > image->size_bytes || length > image->size_bytes - offset)
    return EINVAL;
  if (op != BLK_OP_READ && image->read_only)
    return EROFS;
  return 0;
}

static void start(BlkRequest *request)
{
  BlkImage *image = request->image;
  if (image->driver->submit != NULL && image->driver->submit(image->state, request))
    return;
  if (image->pool == NULL)
    image->pool = g_thread_pool_new(pool_func, NULL, N_THREADS, FALSE, NULL);
  if (g_thread_pool_push(image->pool, request, NULL) || g_thread_pool_get_num_threads(image->pool) > 0 ||
      g_thread_pool_unprocessed(image->pool) == 0)
    return;
  /* The host has no thread left for us. The request stands in the queue of a pool that nobody serves: do it here. */
  g_thread_pool_free(g_steal_pointer(&image->pool), TRUE, FALSE);
  pool_func(request, NULL);
}

static void submit(BlkImage *image, BlkOp op, uint64_t offset, uint64_t length, const struct iovec *iov, unsigned n_iov,
                   BlkDone done, void *opaque)
{
  int error = judge(image, op, offset, length);
  if (error != 0)
    n_iov = 0;
  BlkRequest *request = g_malloc0(sizeof(*request) + n_iov * sizeof(request->iov[0]));
  *request =
      (BlkRequest){ .image = image, .op = op, .offset = offset, .length = length, .done = done, .opaque = opaque };
  request->link.data = request;
  request->n_iov = n_iov;
  if (n_iov > 0)
    memcpy(request->iov, iov, n_iov * sizeof(request->iov[0]));
  g_mutex_lock(&image->lock);
  image->in_flight++;
  if (error == 0 && image->closing)
    error = ESHUTDOWN;
  g_mutex_unlock(&image->lock);
  if (error != 0 || (length == 0 && op != BLK_OP_FLUSH))
    blk_request_complete(request, error);
  else
    start(request);
}

static void submit_vector(BlkImage *image, BlkOp op, uint64_t offset, const struct iovec *iov, unsigned n_iov,
                          BlkDone done, void *opaque)
{
  uint64_t length;
  /* A vector that cannot be is answered as one too long. */
  if (n_iov > MAX_IOV || !blk_iov_length(iov, n_iov, &length)) {
    n_iov = 0;
    length = UINT64_MAX;
  }
  submit(image, op, offset, length, iov, n_iov, done, opaque);
}

void blk_read(BlkImage *image, uint64_t offset, const struct iovec *iov, unsigned n_iov, BlkDone done, void *opaque)
{
  submit_vector(image, BLK_OP_READ, offset, iov, n_iov, done, opaque);
}

void blk_write(BlkImage *image, uint64_t offset, const struct iovec *iov, unsigned n_iov, BlkDone done, void *opaque)
{
  submit_vector(image, BLK_OP_WRITE, offset, iov, n_iov, done, opaque);
}

void blk_write_zeroes(BlkImage *image, uint64_t offset, uint64_t length, BlkDone done, void *opaque)
{
  submit(image, BLK_OP_WRITE_ZEROES, offset, length, NULL, 0, done, opaque);
}

void blk_discard(BlkImage *image, uint64_t offset, uint64_t length, BlkDone done, void *opaque)
{
  submit(image, BLK_OP_DISCARD, offset, length, NULL, 0, done, opaque);
}

void blk_flush(BlkImage *image, BlkDone done, void *opaque)
{
  submit(image, BLK_OP_FLUSH, 0, 0, NULL, 0, done, opaque);
}

/* ---- blocking forms: the driver's functions block anyway, so they run in the caller ------------------------------ */

static bool run_sync(BlkImage *image, BlkOp op, uint64_t offset, uint64_t length, const struct iovec *iov,
                     unsigned n_iov, GError **error)
{
  static const char *const names[] = { "reading", "writing", "zeroing", "discarding", "flushing" };
  int errnum = judge(image, op, offset, length);
  if (errnum == 0 && (length > 0 || op == BLK_OP_FLUSH)) {
    errnum = run(image, op, offset, length, iov, n_iov);
    g_mutex_lock(&image->lock);
    errnum = settle_locked(image, op, length, errnum);
    g_mutex_unlock(&image->lock);
  }
  if (errnum == 0)
    return true;
  g_set_error(error, BLK_ERROR, errnum == EINVAL ? BLK_ERROR_INVALID : BLK_ERROR_FAILED, "%s: %s failed: %s",
              image->path, names[op], errnum == EINVAL ? "the range lies outside the image" : g_strerror(errnum));
  return false;
}

bool blk_read_sync(BlkImage *image, uint64_t offset, void *buffer, uint64_t length, GError **error)
{
  struct iovec iov = { buffer, length };
  return run_sync(image, BLK_OP_READ, offset, length, &iov, 1, error);
}

bool blk_write_sync(BlkImage *image, uint64_t offset, const void *buffer, uint64_t length, GError **error)
{
  struct iovec iov = { (void *)buffer, length };
  return run_sync(image, BLK_OP_WRITE, offset, length, &iov, 1, error);
}

bool blk_flush_sync(BlkImage *image, GError **error)
{
  return run_sync(image, BLK_OP_FLUSH, 0, 0, NULL, 0, error);
}

/* ---- opening and closing ------------------------------------------------------------------------------------------- */

static void assert_driver(const BlkDriver *driver)
{
  g_assert(driver->format != NULL && driver->close != NULL);
  g_assert(driver->read != NULL && driver->write != NULL && driver->write_zeroes != NULL && driver->flush != NULL);
}

BlkImage *blk_image_new(const BlkDriver *driver, void *state, const char *path, uint64_t size_bytes, bool read_only,
                        GMainContext *context)
{
  assert_driver(driver);
  BlkImage *image = g_new0(BlkImage, 1);
  image->driver = driver;
  image->state = state;
  image->format = driver->format;
  image->path = g_strdup(path);
  image->size_bytes = size_bytes;
  image->read_only = read_only;
  g_mutex_init(&image->lock);
  g_cond_init(&image->idle);
  g_queue_init(&image->completed);
  image->source = (ImageSource *)g_source_new((GSourceFuncs *)&source_funcs, sizeof(ImageSource));
  image->source->image = image;
  g_autoptr(GMainContext) own = context != NULL ? g_main_context_ref(context) : g_main_context_ref_thread_default();
  g_source_set_static_name(&image->source->base, "disk image");
  g_source_attach(&image->source->base, own);
  return image;
}

BlkImage *blk_open(const char *path, const BlkOpenOptions *options, GError **error)
{
  const char *format = options->format != NULL ? options->format : "raw";
  const BlkDriver *driver = blk_driver_find(format);
  if (driver == NULL || driver->open == NULL) {
    g_set_error(error, BLK_ERROR, BLK_ERROR_FORMAT, "%s: the image format \"%s\" is not known; the known one is raw",
                path, format);
    return NULL;
  }
  BlkOpenOptions lower = *options;
  lower.read_only = options->read_only || options->discard_changes;
  const BlkDriver *format_driver = driver;
  uint64_t size_bytes = 0;
  void *state = driver->open(path, &lower, &size_bytes, error);
  if (state == NULL)
    return NULL;
  if (options->discard_changes && !options->read_only) {
    state = blk_overlay_new(driver, state, size_bytes, error);
    if (state == NULL)
      return NULL;
    driver = &blk_overlay_driver;
  }
  BlkImage *image = blk_image_new(driver, state, path, size_bytes, options->read_only, options->context);
  image->format = format_driver->format;
  return image;
}

void blk_drain(BlkImage *image)
{
  for (;;) {
    g_mutex_lock(&image->lock);
    while (image->in_flight > 0)
      g_cond_wait(&image->idle, &image->lock);
    g_mutex_unlock(&image->lock);
    BlkRequest *request = pop_completed(image);
    if (request == NULL)
      return;
    deliver(request);
  }
}

void blk_close(BlkImage *image)
{
  if (image == NULL)
    return;
  blk_drain(image);
  g_mutex_lock(&image->lock);
  image->closing = true;
  g_mutex_unlock(&image->lock);
  g_autoptr(GError) error = NULL;
  if (!image->read_only && !blk_flush_sync(image, &error))
    g_warning("%s; what was written last may be lost", error->message);
  blk_drain(image);
  if (image->pool != NULL)
    g_thread_pool_free(image->pool, FALSE, TRUE);
  image->source->image = NULL;
  g_source_destroy(&image->source->base);
  g_source_unref(&image->source->base);
  image->driver->close(image->state);
  g_mutex_clear(&image->lock);
  g_cond_clear(&image->idle);
  g_free(image->path);
  g_free(image);
}

/* ---- what an image is ------------------------------------------------------------------------------------------- */

uint64_t blk_get_size(const BlkImage *image)
{
  return image->size_bytes;
}

bool blk_is_read_only(const BlkImage *image)
{
  return image->read_only;
}

const char *blk_get_path(const BlkImage *image)
{
  return image->path;
}

const char *blk_get_format(const BlkImage *image)
{
  return image->format;
}

void blk_get_statistics(BlkImage *image, BlkStatistics *statistics)
{
  g_mutex_lock(&image->lock);
  *statistics = image->statistics;
  statistics->in_flight = image->in_flight;
  g_mutex_unlock(&image->lock);
}
