/*
 * Keys and pointer: a queue from any thread into the I/O context, and the choice of the device that gets an event.
 */
#include <stdatomic.h>

#include "vm-engine/input.h"
#include "vm-engine/iocontext.h"

/* Events that may wait while the machine is stopped or busy; what a person does beyond that is dropped. */
#define MAX_QUEUED 4096
#define N_KEYS     768 /* KEY_CNT of linux/input-event-codes.h */

typedef enum EventKind {
  EVENT_KEY,
  EVENT_BUTTON,
  EVENT_RELATIVE,
  EVENT_ABSOLUTE,
  EVENT_WHEEL,
  EVENT_RELEASE_ALL
} EventKind;

typedef struct Event {
  EventKind kind;
  int a, b;
} Event;

typedef struct Handler {
  unsigned id;
  const VmInputHandler *ops;
  void *opaque;
  bool active;
} Handler;

struct VmInput {
  VmIoContext *ctx;
  GArray *handlers; /* oldest first; context's lock */
  unsigned next_id;
  uint8_t keys_down[N_KEYS / 8]; /* context's lock */
  unsigned buttons_down;
  _Atomic bool absolute;
  _Atomic unsigned leds;
  GMutex mutex; /* guards the queue */
  GArray *queue;
};

VmInput *vm_input_new(VmIoContext *ctx)
{
  VmInput *input = g_new0(VmInput, 1);
  input->ctx = ctx;
  input->handlers = g_array_new(FALSE, FALSE, sizeof(Handler));
  input->queue = g_array_new(FALSE, FALSE, sizeof(Event));
  g_mutex_init(&input->mutex);
  return input;
}

void vm_input_free(VmInput *input)
{
  if (input == NULL)
    return;
  g_array_free(input->handlers, TRUE);
  g_array_free(input->queue, TRUE);
  g_mutex_clear(&input->mutex);
  g_free(input);
}

/* ---- delivery: I/O context, lock held -------------------------------------------------------------------------------- */

static bool takes(const VmInputHandler *ops, EventKind kind)
{
  switch (kind) {
  case EVENT_KEY:
    return ops->key != NULL;
  case EVENT_BUTTON:
    return ops->button != NULL;
  case EVENT_RELATIVE:
    return ops->move_relative != NULL;
  case EVENT_ABSOLUTE:
    return ops->move_absolute != NULL;
  case EVENT_WHEEL:
    return ops->wheel != NULL;
  case EVENT_RELEASE_ALL:
    break;
  }
  return false;
}

/* The newest active device that takes such events. */
static const Handler *find_handler(const VmInput *input, EventKind kind)
{
  for (unsigned i = input->handlers->len; i > 0; i--) {
    const Handler *handler = &g_array_index(input->handlers, Handler, i - 1);
    if (handler->active && takes(handler->ops, kind))
      return handler;
  }
  return NULL;
}

static void remember(VmInput *input, const Event *event)
{
  if (event->kind == EVENT_KEY) {
    uint8_t bit = (uint8_t)(1u << (event->a % 8));
    input->keys_down[event->a / 8] = (uint8_t)((input->keys_down[event->a / 8] & ~bit) | (event->b ? bit : 0));
  } else if (event->kind == EVENT_BUTTON) {
    input->buttons_down = (input->buttons_down & ~(1u << event->a)) | (event->b ? 1u << event->a : 0);
  }
}

static void deliver(VmInput *input, const Event *event)
{
  remember(input, event);
  const Handler *found = find_handler(input, event->kind);
  if (found == NULL)
    return;
  Handler handler = *found; /* the callback may change the list */
  switch (event->kind) {
  case EVENT_KEY:
    handler.ops->key(handler.opaque, (uint16_t)event->a, event->b != 0);
    return;
  case EVENT_BUTTON:
    handler.ops->button(handler.opaque, (unsigned)event->a, event->b != 0);
    break;
  case EVENT_RELATIVE:
    handler.ops->move_relative(handler.opaque, event->a, event->b);
    break;
  case EVENT_ABSOLUTE:
    handler.ops->move_absolute(handler.opaque, event->a, event->b);
    break;
  case EVENT_WHEEL:
    handler.ops->wheel(handler.opaque, event->a, event->b);
    break;
  case EVENT_RELEASE_ALL:
    return;
  }
  if (handler.ops->sync != NULL)
    handler.ops->sync(handler.opaque);
}

static void release_all(VmInput *input)
{
  for (int key = 0; key < N_KEYS; key++)
    if (input->keys_down[key / 8] >> (key % 8) & 1)
      deliver(input, &(Event){ EVENT_KEY, key, 0 });
  for (int button = 0; button < VM_N_BUTTONS; button++)
    if (input->buttons_down >> button & 1)
      deliver(input, &(Event){ EVENT_BUTTON, button, 0 });
}

static gboolean drain(void *opaque)
{
  VmInput *input = opaque;
  g_mutex_lock(&input->mutex);
  GArray *events = input->queue;
  input->queue = g_array_new(FALSE, FALSE, sizeof(Event));
  g_mutex_unlock(&input->mutex);
  for (unsigned i = 0; i < events->len; i++) {
    const Event *event = &g_array_index(events, Event, i);
    if (event->kind == EVENT_RELEASE_ALL)
      release_all(input);
    else
      deliver(input, event);
  }
  g_array_free(events, TRUE);
  return G_SOURCE_REMOVE;
}

/* ---- senders: any thread --------------------------------------------------------------------------------------------- */

/* Movements that the machine has not seen yet become one. */
static bool merge(Event *last, const Event *event)
{
  if (last->kind != event->kind)
    return false;
  if (event->kind == EVENT_RELATIVE) {
    last->a = CLAMP(last->a + event->a, -0x10000, 0x10000);
    last->b = CLAMP(last->b + event->b, -0x10000, 0x10000);
    return true;
  }
  if (event->kind == EVENT_ABSOLUTE) {
    *last = *event;
    return true;
  }
  return false;
}

static void send(VmInput *input, Event event)
{
  g_mutex_lock(&input->mutex);
  unsigned n = input->queue->len;
  if (n == 0 || !merge(&g_array_index(input->queue, Event, n - 1), &event)) {
    /* Releases are never dropped, or a key would hang. */
    bool is_release =
        event.kind == EVENT_RELEASE_ALL || ((event.kind == EVENT_KEY || event.kind == EVENT_BUTTON) && !event.b);
    if (n < MAX_QUEUED || (is_release && n < 2 * MAX_QUEUED))
      g_array_append_val(input->queue, event);
  }
  g_mutex_unlock(&input->mutex);
  if (n == 0)
    vm_io_context_invoke(input->ctx, drain, input, NULL);
}

void vm_input_key(VmInput *input, uint16_t evdev_code, bool down)
{
  if (evdev_code > 0 && evdev_code < N_KEYS)
    send(input, (Event){ EVENT_KEY, evdev_code, down });
}

void vm_input_release_all(VmInput *input)
{
  send(input, (Event){ EVENT_RELEASE_ALL, 0, 0 });
}

void vm_input_button(VmInput *input, unsigned button, bool down)
{
  if (button < VM_N_BUTTONS)
    send(input, (Event){ EVENT_BUTTON, (int)button, down });
}

void vm_input_move_relative(VmInput *input, int dx, int dy)
{
  send(input, (Event){ EVENT_RELATIVE, CLAMP(dx, -0x8000, 0x8000), CLAMP(dy, -0x8000, 0x8000) });
}

void vm_input_move_absolute(VmInput *input, int x, int y)
{
  send(input, (Event){ EVENT_ABSOLUTE, CLAMP(x, 0, 32767), CLAMP(y, 0, 32767) });
}

void vm_input_wheel(VmInput *input, int vertical, int horizontal)
{
  send(input, (Event){ EVENT_WHEEL, CLAMP(vertical, -127, 127), CLAMP(horizontal, -127, 127) });
}

bool vm_input_is_absolute(const VmInput *input)
{
  return atomic_load(&input->absolute);
}
unsigned vm_input_get_leds(const VmInput *input)
{
  return atomic_load(&input->leds);
}

/* ---- devices: lock held ----------------------------------------------------------------------------------------------- */

static Handler *find_id(VmInput *input, unsigned id)
{
  for (unsigned i = 0; i < input->handlers->len; i++)
    if (g_array_index(input->handlers, Handler, i).id == id)
      return &g_array_index(input->handlers, Handler, i);
  return NULL;
}

static void update_absolute(VmInput *input)
{
  atomic_store(&input->absolute, find_handler(input, EVENT_ABSOLUTE) != NULL);
}

unsigned vm_input_add_handler(VmInput *input, const VmInputHandler *ops, void *opaque)
{
  Handler handler = { ++input->next_id, ops, opaque, true };
  g_array_append_val(input->handlers, handler);
  update_absolute(input);
  return handler.id;
}

void vm_input_remove_handler(VmInput *input, unsigned id)
{
  Handler *handler = find_id(input, id);
  if (handler == NULL)
    return;
  g_array_remove_index(input->handlers, (guint)(handler - &g_array_index(input->handlers, Handler, 0)));
  update_absolute(input);
}

void vm_input_set_active(VmInput *input, unsigned id, bool active)
{
  Handler *handler = find_id(input, id);
  if (handler == NULL)
    return;
  handler->active = active;
  update_absolute(input);
}

void vm_input_set_leds(VmInput *input, unsigned leds)
{
  atomic_store(&input->leds, leds & 7);
}
