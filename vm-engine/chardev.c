/*
 * Character back ends: how bytes flow between a device and its far end. What kinds of far ends there are and how they
 * are opened is in chardev-open.c.
 *
 * A slow far end must hold back the guest without stopping the I/O context, so nothing here ever waits: what a
 * descriptor does not take at once is buffered up to a bound, then the device is told that fewer bytes were taken.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "vm-engine/chardev-private.h"

#define MAX_BUFFERED_BYTES (64u << 10)
#define HISTORY_BYTES      (256u << 10)
#define MAX_FED_BYTES      (1u << 20)
#define MAX_WAITING_BYTES  (64u << 10) /* read from a descriptor before the device takes it */
#define CHUNK_BYTES        512u /* a descriptor that polls writable takes so much without blocking, also where it may block */
#define ESCAPE_KEY         0x01 /* Ctrl-A */

static void unref(void *opaque)
{
  VmChardev *chardev = opaque;
  if (!g_atomic_ref_count_dec(&chardev->refs))
    return;
  g_byte_array_unref(chardev->out);
  g_byte_array_unref(chardev->fed);
  g_byte_array_unref(chardev->judged);
  if (chardev->history != NULL)
    g_byte_array_unref(chardev->history);
  g_mutex_clear(&chardev->mutex);
  g_free(chardev->path);
  g_free(chardev);
}

VmChardev *vm_chardev_new(VmIoContext *ctx, const char *spec, GError **error)
{
  VmChardev *chardev = g_new0(VmChardev, 1);
  chardev->ctx = ctx;
  g_atomic_ref_count_init(&chardev->refs);
  chardev->in_fd = chardev->out_fd = chardev->listen_fd = -1;
  chardev->out = g_byte_array_new();
  chardev->fed = g_byte_array_new();
  chardev->judged = g_byte_array_new();
  g_mutex_init(&chardev->mutex);
  if (!vm_chardev_open(chardev, spec, error)) {
    vm_chardev_free(chardev);
    return NULL;
  }
  if (chardev->kind == VM_CHARDEV_WINDOW)
    chardev->history = g_byte_array_new();
  return chardev;
}

static void remove_watches(VmChardev *chardev)
{
  g_clear_pointer(&chardev->in_watch, vm_io_watch_remove);
  g_clear_pointer(&chardev->out_watch, vm_io_watch_remove);
  g_clear_pointer(&chardev->listen_watch, vm_io_watch_remove);
  if (chardev->pty_retry != NULL)
    g_source_destroy(chardev->pty_retry);
  g_clear_pointer(&chardev->pty_retry, g_source_unref);
}

void vm_chardev_free(VmChardev *chardev)
{
  if (chardev == NULL)
    return;
  bool locked = vm_io_context_is_locked(chardev->ctx);
  if (!locked)
    vm_io_context_lock(chardev->ctx);
  remove_watches(chardev);
  if (!locked)
    vm_io_context_unlock(chardev->ctx);
  vm_chardev_close(chardev);
  chardev->handler = NULL;
  unref(chardev);
}

const char *vm_chardev_get_path(const VmChardev *chardev)
{
  return chardev->path;
}

/* ---- from the device to the far end -------------------------------------------------------------------------------------- */

/* Writes what the descriptor takes without blocking. SIZE_MAX: it is gone. */
static size_t write_some(int fd, const uint8_t *bytes, size_t size)
{
  size_t done = 0;
  while (done < size) {
    struct pollfd p = { .fd = fd, .events = POLLOUT };
    if (poll(&p, 1, 0) <= 0 || !(p.revents & POLLOUT))
      break;
    ssize_t n = write(fd, bytes + done, MIN(size - done, CHUNK_BYTES));
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      break;
    if (n <= 0)
      return SIZE_MAX;
    done += (size_t)n;
  }
  return done;
}

static void flush_ready(int fd, GIOCondition condition, void *opaque)
{
  VmChardev *chardev = opaque;
  size_t n = write_some(fd, chardev->out->data, chardev->out->len);
  if (n == SIZE_MAX || (n == 0 && (condition & (G_IO_HUP | G_IO_ERR)))) {
    vm_chardev_lost(chardev, true);
    return;
  }
  g_byte_array_remove_range(chardev->out, 0, (guint)n);
  if (chardev->out->len == 0)
    g_clear_pointer(&chardev->out_watch, vm_io_watch_remove);
  if (!chardev->was_short || chardev->out->len >= MAX_BUFFERED_BYTES / 2)
    return;
  chardev->was_short = false;
  if (chardev->handler != NULL && chardev->handler->writable != NULL)
    chardev->handler->writable(chardev->handler_opaque);
}

/* Keeps the last HISTORY_BYTES; trims rarely, so that a byte costs no move of all. */
static void remember(GByteArray *history, const uint8_t *bytes, size_t size)
{
  if (size > HISTORY_BYTES) {
    bytes += size - HISTORY_BYTES;
    size = HISTORY_BYTES;
  }
  g_byte_array_append(history, bytes, (guint)size);
  if (history->len > 2 * HISTORY_BYTES)
    g_byte_array_remove_range(history, 0, history->len - HISTORY_BYTES);
}

size_t vm_chardev_write(VmChardev *chardev, const uint8_t *bytes, size_t size)
{
  size_t taken = size;
  if (chardev->out_fd >= 0) {
    size_t direct = chardev->out->len == 0 ? write_some(chardev->out_fd, bytes, size) : 0;
    if (direct == SIZE_MAX) {
      vm_chardev_lost(chardev, true);
      return size;
    }
    taken = direct + MIN(size - direct, MAX_BUFFERED_BYTES - MIN(chardev->out->len, MAX_BUFFERED_BYTES));
    g_byte_array_append(chardev->out, bytes + direct, (guint)(taken - direct));
    chardev->was_short |= taken < size;
    if (chardev->out->len > 0 && chardev->out_watch == NULL)
      chardev->out_watch = vm_io_context_watch_fd(chardev->ctx, chardev->out_fd, G_IO_OUT, flush_ready, chardev);
  }
  if (chardev->history != NULL)
    remember(chardev->history, bytes, taken);
  if (chardev->output != NULL)
    chardev->output(bytes, taken, chardev->output_opaque);
  return taken;
}

void vm_chardev_set_output(VmChardev *chardev, VmChardevOutput output, void *opaque)
{
  bool locked = vm_io_context_is_locked(chardev->ctx);
  if (!locked)
    vm_io_context_lock(chardev->ctx);
  chardev->output = output;
  chardev->output_opaque = opaque;
  if (output != NULL && chardev->history != NULL && chardev->history->len > 0) {
    guint n = MIN(chardev->history->len, HISTORY_BYTES);
    output(chardev->history->data + chardev->history->len - n, n, opaque);
  }
  if (!locked)
    vm_io_context_unlock(chardev->ctx);
}

/* ---- from the far end to the device -------------------------------------------------------------------------------------- */

static size_t room(const VmChardev *chardev)
{
  return chardev->handler != NULL ? chardev->handler->can_receive(chardev->handler_opaque) : 0;
}

/* Takes the escape keys out of what was typed; returns how much is left for the guest. */
static size_t filter_escapes(VmChardev *chardev, uint8_t *bytes, size_t size)
{
  if (chardev->escape == NULL)
    return size;
  size_t kept = 0;
  for (size_t i = 0; i < size; i++) {
    bool prefix = bytes[i] == ESCAPE_KEY;
    if (!chardev->escape_pending && prefix) {
      chardev->escape_pending = true;
      continue;
    }
    if (chardev->escape_pending && !prefix)
      chardev->escape((char)bytes[i], chardev->escape_opaque);
    else
      bytes[kept++] = bytes[i];
    chardev->escape_pending = false;
  }
  return kept;
}

/* How much to read of up to `most` bytes: what the device can take; with escape keys more than that, so that they work
 * while the guest reads nothing (what is not theirs waits). */
static size_t readable(const VmChardev *chardev, size_t most)
{
  if (chardev->escape == NULL)
    return MIN(room(chardev), most);
  return chardev->judged->len < MAX_WAITING_BYTES ? most : 0;
}

/* Passes on what waits, as far as the device can take it. */
static void pump(VmChardev *chardev)
{
  size_t n;
  while ((n = MIN(room(chardev), chardev->judged->len)) > 0) {
    uint8_t bytes[256];
    n = MIN(n, sizeof(bytes));
    memcpy(bytes, chardev->judged->data, n);
    g_byte_array_remove_range(chardev->judged, 0, (guint)n);
    chardev->handler->receive(chardev->handler_opaque, bytes, n);
  }
}

/* What came from the far end: escape keys are served at once, the rest goes to the device when it can. */
static void take_input(VmChardev *chardev, uint8_t *bytes, size_t size)
{
  size_t left = filter_escapes(chardev, bytes, size);
  g_byte_array_append(chardev->judged, bytes, (guint)left);
  pump(chardev);
}

static GByteArray *steal_fed(VmChardev *chardev)
{
  g_mutex_lock(&chardev->mutex);
  GByteArray *fed = chardev->fed;
  chardev->fed = g_byte_array_new();
  chardev->feed_queued = false;
  g_mutex_unlock(&chardev->mutex);
  return fed;
}

static void read_ready(int fd, GIOCondition condition, void *opaque)
{
  VmChardev *chardev = opaque;
  uint8_t bytes[4096];
  size_t can_take = readable(chardev, sizeof(bytes));
  if (can_take == 0) {
    vm_chardev_update_watch(chardev);
    return;
  }
  ssize_t n = read(fd, bytes, can_take);
  if (n < 0 && (errno == EAGAIN || errno == EINTR))
    return;
  if (n <= 0) {
    vm_chardev_lost(chardev, false);
    return;
  }
  take_input(chardev, bytes, (size_t)n);
}

void vm_chardev_update_watch(VmChardev *chardev)
{
  bool want = chardev->in_fd >= 0 && chardev->pty_retry == NULL && readable(chardev, 1) > 0;
  if (want && chardev->in_watch == NULL)
    chardev->in_watch = vm_io_context_watch_fd(chardev->ctx, chardev->in_fd, G_IO_IN | G_IO_HUP, read_ready, chardev);
  else if (!want)
    g_clear_pointer(&chardev->in_watch, vm_io_watch_remove);
}

static gboolean pump_fed(void *opaque)
{
  VmChardev *chardev = opaque;
  g_autoptr(GByteArray) fed = steal_fed(chardev);
  if (chardev->judged->len < MAX_FED_BYTES) /* else the guest reads nothing: it is lost */
    take_input(chardev, fed->data, fed->len);
  return G_SOURCE_REMOVE;
}

void vm_chardev_feed(VmChardev *chardev, const uint8_t *bytes, size_t size)
{
  g_mutex_lock(&chardev->mutex);
  size =
      MIN(size, MAX_FED_BYTES - MIN(chardev->fed->len, MAX_FED_BYTES)); /* the guest reads nothing: the rest is lost */
  g_byte_array_append(chardev->fed, bytes, (guint)size);
  bool queue = !chardev->feed_queued;
  chardev->feed_queued = true;
  g_mutex_unlock(&chardev->mutex);
  if (!queue)
    return;
  g_atomic_ref_count_inc(&chardev->refs);
  vm_io_context_invoke(chardev->ctx, pump_fed, chardev, unref);
}

void vm_chardev_accept_input(VmChardev *chardev)
{
  pump(chardev);
  vm_chardev_update_watch(chardev);
}

void vm_chardev_set_handler(VmChardev *chardev, const VmChardevHandler *handler, void *opaque)
{
  chardev->handler = handler;
  chardev->handler_opaque = opaque;
  vm_chardev_accept_input(chardev);
}

void vm_chardev_set_escape(VmChardev *chardev, VmChardevEscape escape, void *opaque)
{
  chardev->escape = escape;
  chardev->escape_opaque = opaque;
  chardev->escape_pending = false;
  vm_chardev_update_watch(chardev);
}
