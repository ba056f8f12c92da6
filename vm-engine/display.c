/*
 * The picture's triple buffer.
 *
 * Three buffers: `back` belongs to the card, `front` to the viewer, and `ready` is the newest published one; the mutex
 * guards which is which and the damage. To let a card draw only what changed, begin() first brings the back buffer up to
 * the last published picture, by copying the rectangles that it missed.
 */
#include "vm-engine/display-private.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/clock-private.h"

typedef struct Buffer {
  uint32_t *pixels;
  size_t room; /* pixels allocated */
  unsigned width, height;
  VmRect stale; /* where it differs from the last published picture (valid while the sizes are the same) */
} Buffer;

typedef struct Viewer {
  unsigned id;
  VmDisplayNotify notify;
  void *opaque;
} Viewer;

struct VmDisplay {
  VmIoContext *ctx;
  const VmDisplayCardOps *ops;
  void *card;
  VmDisplayGate gate;
  void *gate_opaque;

  GMutex mutex; /* guards all below */
  GCond updated;
  Buffer buffers[3];
  unsigned back, ready, front;
  bool has_picture;                       /* something was published */
  bool is_fresh;                          /* `ready` is newer than `front` */
  VmRect untaken;                         /* damage since the last take */
  unsigned current_width, current_height; /* of the last published picture */
  unsigned newest;                        /* index of the last published buffer: `ready` if is_fresh, else `front` */
  uint64_t serial;
  bool update_queued, update_full, gate_passed;
  uint64_t updates_done, updates_asked;
  GArray *viewers;
  unsigned next_viewer;
};

static VmRect rect_union(VmRect a, VmRect b)
{
  if (a.width <= 0 || a.height <= 0)
    return b;
  if (b.width <= 0 || b.height <= 0)
    return a;
  int x0 = MIN(a.x, b.x), y0 = MIN(a.y, b.y);
  int x1 = MAX(a.x + a.width, b.x + b.width), y1 = MAX(a.y + a.height, b.y + b.height);
  return (VmRect){ x0, y0, x1 - x0, y1 - y0 };
}

static VmRect rect_clip(VmRect r, unsigned width, unsigned height)
{
  int x0 = CLAMP(r.x, 0, (int)width), y0 = CLAMP(r.y, 0, (int)height);
  int64_t x1 = CLAMP((int64_t)r.x + r.width, x0, (int64_t)width);
  int64_t y1 = CLAMP((int64_t)r.y + r.height, y0, (int64_t)height);
  return (VmRect){ x0, y0, (int)(x1 - x0), (int)(y1 - y0) };
}

VmDisplay *vm_display_new(VmIoContext *ctx)
{
  VmDisplay *display = g_new0(VmDisplay, 1);
  display->ctx = ctx;
  display->ready = 1;
  display->front = 2;
  g_mutex_init(&display->mutex);
  g_cond_init(&display->updated);
  display->viewers = g_array_new(FALSE, FALSE, sizeof(Viewer));
  return display;
}

void vm_display_free(VmDisplay *display)
{
  if (display == NULL)
    return;
  for (unsigned i = 0; i < 3; i++)
    g_free(display->buffers[i].pixels);
  g_array_free(display->viewers, TRUE);
  g_cond_clear(&display->updated);
  g_mutex_clear(&display->mutex);
  g_free(display);
}

/* ---- the card's side --------------------------------------------------------------------------------------------------- */

void vm_display_set_card(VmDisplay *display, const VmDisplayCardOps *ops, void *card)
{
  display->ops = ops;
  display->card = card;
}

/* Copies what the back buffer missed from the last published picture. Nobody writes to either meanwhile: the back
 * buffer is the card's, and a published one is only read. */
static void catch_up(const Buffer *from, Buffer *to)
{
  VmRect r = to->stale;
  for (int y = r.y; y < r.y + r.height; y++)
    memcpy(to->pixels + (size_t)y * to->width + r.x, from->pixels + (size_t)y * from->width + r.x,
           (size_t)r.width * sizeof(uint32_t));
}

uint32_t *vm_display_begin(VmDisplay *display, unsigned width, unsigned height, unsigned *stride, bool *is_new)
{
  width = CLAMP(width, 1, VM_DISPLAY_MAX_WIDTH);
  height = CLAMP(height, 1, VM_DISPLAY_MAX_HEIGHT);
  g_mutex_lock(&display->mutex);
  Buffer *back = &display->buffers[display->back];
  const Buffer *newest = &display->buffers[display->newest];
  bool same = display->has_picture && newest->width == width && newest->height == height;
  g_mutex_unlock(&display->mutex);

  size_t n_pixels = (size_t)width * height;
  VmRect whole = { 0, 0, (int)width, (int)height };
  if (back->width != width || back->height != height) {
    if (back->room < n_pixels || back->room / 4 > n_pixels) {
      g_free(back->pixels);
      back->pixels = g_new(uint32_t, n_pixels);
      back->room = n_pixels;
    }
    back->width = width;
    back->height = height;
    back->stale = whole;
  }
  back->stale = rect_clip(back->stale, width, height); /* pictures of other sizes have come and gone since */
  if (same)
    catch_up(newest, back);
  else
    memset(back->pixels, 0, n_pixels * sizeof(uint32_t));
  back->stale = (VmRect){ 0 };
  *stride = width;
  *is_new = !same;
  return back->pixels;
}

void vm_display_publish(VmDisplay *display, const VmRect *changed)
{
  g_mutex_lock(&display->mutex);
  unsigned mine = display->back;
  Buffer *back = &display->buffers[mine];
  bool resized =
      !display->has_picture || display->current_width != back->width || display->current_height != back->height;
  VmRect whole = { 0, 0, (int)back->width, (int)back->height };
  VmRect damage = resized ? whole : rect_clip(*changed, back->width, back->height);
  bool any = damage.width > 0 && damage.height > 0;
  if (any) {
    for (unsigned i = 0; i < 3; i++)
      if (i != mine)
        display->buffers[i].stale = rect_union(display->buffers[i].stale, damage);
    display->back = display->ready;
    display->ready = mine;
    display->newest = mine;
    display->is_fresh = true;
    display->has_picture = true;
    display->untaken = resized ? whole : rect_union(display->untaken, damage);
    display->current_width = back->width;
    display->current_height = back->height;
    display->serial++;
  }
  g_mutex_unlock(&display->mutex);
  for (unsigned i = 0; any && i < display->viewers->len; i++) {
    Viewer viewer = g_array_index(display->viewers, Viewer, i);
    if (viewer.notify != NULL)
      viewer.notify(viewer.opaque);
  }
}

/* ---- the viewer's side -------------------------------------------------------------------------------------------------- */

void vm_display_set_gate(VmDisplay *display, VmDisplayGate gate, void *opaque)
{
  display->gate = gate;
  display->gate_opaque = opaque;
}

/* The update goes on by vm_display_gate_passed(); until then further requests are part of it. */
static bool waits_at_gate(VmDisplay *display)
{
  g_mutex_lock(&display->mutex);
  bool passed = display->gate_passed;
  display->gate_passed = false;
  g_mutex_unlock(&display->mutex);
  return !passed && display->gate != NULL && display->gate(display->gate_opaque);
}

static gboolean run_update(void *opaque)
{
  VmDisplay *display = opaque;
  if (waits_at_gate(display))
    return G_SOURCE_REMOVE;
  g_mutex_lock(&display->mutex);
  bool full = display->update_full;
  uint64_t asked = display->updates_asked;
  display->update_queued = display->update_full = false;
  g_mutex_unlock(&display->mutex);
  if (display->ops != NULL && display->ops->update != NULL)
    display->ops->update(display->card, full);
  g_mutex_lock(&display->mutex);
  display->updates_done = asked;
  g_cond_broadcast(&display->updated);
  g_mutex_unlock(&display->mutex);
  return G_SOURCE_REMOVE;
}

void vm_display_gate_passed(VmDisplay *display)
{
  g_mutex_lock(&display->mutex);
  display->gate_passed = true;
  g_mutex_unlock(&display->mutex);
  vm_io_context_invoke(display->ctx, run_update, display, NULL);
}

void vm_display_request_update(VmDisplay *display, bool full)
{
  g_mutex_lock(&display->mutex);
  bool queue = !display->update_queued;
  display->update_queued = true;
  display->update_full |= full;
  display->updates_asked++;
  g_mutex_unlock(&display->mutex);
  if (queue)
    vm_io_context_invoke(display->ctx, run_update, display, NULL);
}

unsigned vm_display_add_viewer(VmDisplay *display, VmDisplayNotify notify, void *opaque)
{
  bool locked = vm_io_context_is_locked(display->ctx);
  if (!locked)
    vm_io_context_lock(display->ctx);
  Viewer viewer = { ++display->next_viewer, notify, opaque };
  g_array_append_val(display->viewers, viewer);
  if (!locked)
    vm_io_context_unlock(display->ctx);
  return viewer.id;
}

void vm_display_remove_viewer(VmDisplay *display, unsigned id)
{
  bool locked = vm_io_context_is_locked(display->ctx);
  if (!locked)
    vm_io_context_lock(display->ctx);
  for (unsigned i = 0; i < display->viewers->len; i++) {
    if (g_array_index(display->viewers, Viewer, i).id == id) {
      g_array_remove_index(display->viewers, i);
      break;
    }
  }
  if (!locked)
    vm_io_context_unlock(display->ctx);
}

bool vm_display_take(VmDisplay *display, VmFrame *frame)
{
  g_mutex_lock(&display->mutex);
  bool has = display->has_picture;
  if (has) {
    if (display->is_fresh) {
      unsigned old = display->front;
      display->front = display->ready;
      display->ready = old;
      display->is_fresh = false;
    }
    const Buffer *front = &display->buffers[display->front];
    *frame = (VmFrame){ front->pixels, front->width, front->height, front->width, display->untaken, display->serial };
    display->untaken = (VmRect){ 0 };
  }
  g_mutex_unlock(&display->mutex);
  return has;
}

/* Asks the card and waits until it has drawn. False: it did not within the time. */
static bool update_and_wait(VmDisplay *display, bool full)
{
  g_assert(!vm_io_context_is_locked(display->ctx));
  vm_display_request_update(display, full);
  if (vm_clock_is_manual(vm_io_context_get_clock(display->ctx))) {
    vm_io_context_step(display->ctx, 0);
    return true;
  }
  int64_t until = g_get_monotonic_time() + 2 * G_USEC_PER_SEC;
  g_mutex_lock(&display->mutex);
  uint64_t mine = display->updates_asked;
  bool in_time = true;
  while (display->updates_done < mine && in_time)
    in_time = g_cond_wait_until(&display->updated, &display->mutex, until);
  g_mutex_unlock(&display->mutex);
  return in_time;
}

uint32_t *vm_display_dup_pixels(VmDisplay *display, unsigned *width, unsigned *height)
{
  (void)update_and_wait(display, false); /* if the loop is stuck, the last picture is what there is */
  uint32_t *copy = NULL;
  g_mutex_lock(&display->mutex);
  if (display->has_picture) {
    const Buffer *newest = &display->buffers[display->newest];
    *width = newest->width;
    *height = newest->height;
    copy = g_memdup2(newest->pixels, (size_t)newest->width * newest->height * sizeof(uint32_t));
  }
  g_mutex_unlock(&display->mutex);
  return copy;
}

char *vm_display_dup_text(VmDisplay *display)
{
  g_assert(!vm_io_context_is_locked(display->ctx));
  vm_io_context_lock(display->ctx);
  char *text = display->ops != NULL && display->ops->dup_text != NULL ? display->ops->dup_text(display->card) : NULL;
  vm_io_context_unlock(display->ctx);
  return text;
}
