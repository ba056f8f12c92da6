/*
 * A PS/2 mouse: IBM PS/2 Hardware Interface Technical Reference, "Mouse", with Microsoft's extensions for a wheel
 * (IntelliMouse, ID 3) and five buttons (IntelliMouse Explorer, ID 4), which a driver unlocks by setting the sample
 * rates 200, 100, 80 or 200, 200, 80.
 *
 * Movement is collected between packets, so that a slow guest gets fewer, longer steps; but not over a change of
 * buttons, so that no click is lost and each happens where it was made. What does not fit in a packet's nine bits goes
 * out in several.
 */
#include "hw/input/ps2.h"

enum { REPLY_ACK = 0xFA, REPLY_RESEND = 0xFE, REPLY_SELF_TEST_OK = 0xAA };

enum {
  COMMAND_SCALING_OFF = 0xE6,
  COMMAND_SCALING_ON = 0xE7,
  COMMAND_RESOLUTION = 0xE8,
  COMMAND_STATUS = 0xE9,
  COMMAND_STREAM = 0xEA,
  COMMAND_READ = 0xEB,
  COMMAND_WRAP_OFF = 0xEC,
  COMMAND_WRAP_ON = 0xEE,
  COMMAND_REMOTE = 0xF0,
  COMMAND_IDENTIFY = 0xF2,
  COMMAND_RATE = 0xF3,
  COMMAND_ENABLE = 0xF4,
  COMMAND_DISABLE = 0xF5,
  COMMAND_DEFAULTS = 0xF6,
  COMMAND_RESEND = 0xFE,
  COMMAND_RESET = 0xFF
};

#define DEFAULT_RATE       100
#define DEFAULT_RESOLUTION 2
/* Beyond this, movement that the guest does not fetch is lost. */
#define MAX_DISTANCE   0x8000
#define MAX_STEP       255
#define MAX_WHEEL_STEP 7

static const VmField motion_fields[] = {
  VM_BYTES(Ps2Motion, dx),
  VM_BYTES(Ps2Motion, dy),
  VM_BYTES(Ps2Motion, dz),
  VM_UINT(Ps2Motion, buttons),
  VM_TRANSIENT(Ps2Motion, pad, "unused"),
  VM_FIELDS_END,
};

const VmField ps2_mouse_fields[] = {
  VM_TRANSIENT(Ps2Mouse, changed, "wiring"),
  VM_TRANSIENT(Ps2Mouse, opaque, "wiring"),
  VM_STRUCT(Ps2Mouse, replies, ps2_queue_fields),
  VM_STRUCT(Ps2Mouse, events, ps2_queue_fields),
  VM_STRUCT_ARRAY(Ps2Mouse, motions, motion_fields),
  VM_UINT_MAX(Ps2Mouse, n_motions, PS2_MOUSE_MOTIONS),
  VM_UINT(Ps2Mouse, buttons),
  VM_UINT(Ps2Mouse, reported_buttons),
  VM_UINT_MAX(Ps2Mouse, reporting, 1),
  VM_UINT_MAX(Ps2Mouse, remote, 1),
  VM_UINT_MAX(Ps2Mouse, wrap, 1),
  VM_UINT_MAX(Ps2Mouse, scaling, 1),
  VM_UINT_MAX(Ps2Mouse, id, 4),
  VM_UINT_MAX(Ps2Mouse, resolution, 3),
  VM_UINT(Ps2Mouse, rate),
  VM_BYTES(Ps2Mouse, last_rates),
  VM_UINT(Ps2Mouse, command),
  VM_UINT(Ps2Mouse, last_sent),
  VM_UINT_MAX(Ps2Mouse, next_packet_ns, INT64_MAX),
  VM_FIELDS_END,
};

static bool distance_is_valid(int32_t distance)
{
  return distance >= -MAX_DISTANCE && distance <= MAX_DISTANCE;
}

bool ps2_mouse_is_valid(const Ps2Mouse *mouse)
{
  for (unsigned i = 0; i < mouse->n_motions && i < PS2_MOUSE_MOTIONS; i++) {
    const Ps2Motion *motion = &mouse->motions[i];
    if (!distance_is_valid(motion->dx) || !distance_is_valid(motion->dy) || !distance_is_valid(motion->dz))
      return false;
  }
  return true;
}

/* ---- movement -------------------------------------------------------------------------------------------------------- */

static void forget_motions(Ps2Mouse *mouse)
{
  mouse->n_motions = 0;
  mouse->reported_buttons = mouse->buttons;
}

static void drop_first_motion(Ps2Mouse *mouse)
{
  mouse->n_motions--;
  memmove(mouse->motions, mouse->motions + 1, mouse->n_motions * sizeof mouse->motions[0]);
}

/* The last motion, with the buttons as they are; when there are too many, the last two become one. */
static Ps2Motion *current_motion(Ps2Mouse *mouse)
{
  Ps2Motion *last = mouse->n_motions > 0 ? &mouse->motions[mouse->n_motions - 1] : NULL;
  if (last != NULL && last->buttons == mouse->buttons)
    return last;
  if (mouse->n_motions == PS2_MOUSE_MOTIONS) {
    last->buttons = mouse->buttons;
    return last;
  }
  last = &mouse->motions[mouse->n_motions++];
  *last = (Ps2Motion){ .buttons = mouse->buttons };
  return last;
}

static bool takes_motion(const Ps2Mouse *mouse)
{
  return (mouse->reporting || mouse->remote) && !mouse->wrap;
}

void ps2_mouse_button(Ps2Mouse *mouse, unsigned button, bool down)
{
  uint8_t bit = (uint8_t)(1u << button);
  uint8_t buttons = down ? mouse->buttons | bit : mouse->buttons & (uint8_t)~bit;
  if (button >= VM_N_BUTTONS || buttons == mouse->buttons)
    return;
  mouse->buttons = buttons;
  if (!takes_motion(mouse)) {
    mouse->reported_buttons = buttons;
    return;
  }
  current_motion(mouse);
  mouse->changed(mouse->opaque);
}

static int32_t add_distance(int32_t distance, int more)
{
  return (int32_t)CLAMP((int64_t)distance + more, -MAX_DISTANCE, MAX_DISTANCE);
}

void ps2_mouse_move(Ps2Mouse *mouse, int dx, int dy)
{
  if (!takes_motion(mouse) || (dx == 0 && dy == 0))
    return;
  Ps2Motion *motion = current_motion(mouse);
  motion->dx = add_distance(motion->dx, dx);
  motion->dy = add_distance(motion->dy, -CLAMP(dy, -MAX_DISTANCE, MAX_DISTANCE));
  mouse->changed(mouse->opaque);
}

void ps2_mouse_wheel(Ps2Mouse *mouse, int vertical)
{
  if (!takes_motion(mouse) || mouse->id == 0 || vertical == 0)
    return;
  Ps2Motion *motion = current_motion(mouse);
  motion->dz = add_distance(motion->dz, -CLAMP(vertical, -MAX_DISTANCE, MAX_DISTANCE));
  mouse->changed(mouse->opaque);
}

/* ---- packets --------------------------------------------------------------------------------------------------------- */

/* Takes what one packet can carry from `*distance`. */
static int take_step(int32_t *distance, int most)
{
  int step = CLAMP(*distance, -most, most);
  *distance -= step;
  return step;
}

/* 2:1 scaling: small steps as they are or less, from six on double. */
static int scale(int step)
{
  static const uint8_t small[6] = { 0, 1, 1, 3, 6, 9 };
  int size = ABS(step);
  int scaled = size < 6 ? small[size] : MIN(2 * size, MAX_STEP);
  return step < 0 ? -scaled : scaled;
}

static void put_packet(Ps2Mouse *mouse, Ps2Queue *queue, bool scaled)
{
  Ps2Motion still = { .buttons = mouse->buttons };
  Ps2Motion *motion = mouse->n_motions > 0 ? mouse->motions : &still;
  int dx = take_step(&motion->dx, MAX_STEP), dy = take_step(&motion->dy, MAX_STEP);
  int dz = take_step(&motion->dz, MAX_WHEEL_STEP);
  mouse->reported_buttons = motion->buttons;
  if (scaled && mouse->scaling) {
    dx = scale(dx);
    dy = scale(dy);
  }
  /* Left, right and middle are in both places bits 0 to 2. */
  ps2_queue_push(queue, (uint8_t)(0x08 | (motion->buttons & 7) | (dx < 0) << 4 | (dy < 0) << 5));
  ps2_queue_push(queue, (uint8_t)dx);
  ps2_queue_push(queue, (uint8_t)dy);
  if (mouse->id == 3)
    ps2_queue_push(queue, (uint8_t)dz);
  else if (mouse->id == 4)
    ps2_queue_push(queue, (uint8_t)((dz & 0x0F) | (motion->buttons >> 3 & 3) << 4));
  if (mouse->n_motions > 0 && motion->dx == 0 && motion->dy == 0 && motion->dz == 0)
    drop_first_motion(mouse);
}

bool ps2_mouse_take_reply(Ps2Mouse *mouse, uint8_t *byte)
{
  if (!ps2_queue_pop(&mouse->replies, byte))
    return false;
  if (*byte != REPLY_RESEND)
    mouse->last_sent = *byte;
  return true;
}

static bool wants_packet(const Ps2Mouse *mouse)
{
  return mouse->n_motions > 0 && mouse->reporting && !mouse->remote && !mouse->wrap;
}

bool ps2_mouse_has_event(const Ps2Mouse *mouse, int64_t *when_ns)
{
  *when_ns = mouse->events.count > 0 ? 0 : mouse->next_packet_ns;
  return mouse->events.count > 0 || wants_packet(mouse);
}

bool ps2_mouse_take_event(Ps2Mouse *mouse, int64_t now_ns, uint8_t *byte)
{
  if (mouse->events.count == 0 && wants_packet(mouse) && now_ns >= mouse->next_packet_ns) {
    put_packet(mouse, &mouse->events, true);
    mouse->next_packet_ns = now_ns + VM_NS_PER_SEC / MAX(mouse->rate, 10);
  }
  if (!ps2_queue_pop(&mouse->events, byte))
    return false;
  mouse->last_sent = *byte;
  return true;
}

/* ---- commands -------------------------------------------------------------------------------------------------------- */

static void reply(Ps2Mouse *mouse, uint8_t byte)
{
  ps2_queue_push(&mouse->replies, byte);
}

static void set_defaults(Ps2Mouse *mouse)
{
  mouse->reporting = mouse->remote = mouse->wrap = mouse->scaling = false;
  mouse->resolution = DEFAULT_RESOLUTION;
  mouse->rate = DEFAULT_RATE;
  mouse->next_packet_ns = 0;
  ps2_queue_clear(&mouse->events);
  forget_motions(mouse);
}

void ps2_mouse_reset(Ps2Mouse *mouse)
{
  ps2_queue_clear(&mouse->replies);
  set_defaults(mouse);
  mouse->id = 0;
  mouse->last_rates[0] = mouse->last_rates[1] = 0;
  mouse->command = 0;
  mouse->last_sent = 0;
}

static void set_rate(Ps2Mouse *mouse, uint8_t rate)
{
  uint8_t first = mouse->last_rates[0], second = mouse->last_rates[1];
  if (first == 200 && second == 100 && rate == 80)
    mouse->id = 3;
  else if (first == 200 && second == 200 && rate == 80)
    mouse->id = 4;
  mouse->last_rates[0] = second;
  mouse->last_rates[1] = rate;
  mouse->rate = rate;
}

static bool rate_is_known(uint8_t rate)
{
  static const uint8_t rates[] = { 10, 20, 40, 60, 80, 100, 200 };
  return memchr(rates, rate, sizeof rates) != NULL;
}

static void take_argument(Ps2Mouse *mouse, uint8_t value)
{
  bool is_rate = mouse->command == COMMAND_RATE;
  bool good = is_rate ? rate_is_known(value) : value <= 3;
  mouse->command = 0;
  reply(mouse, good ? REPLY_ACK : REPLY_RESEND);
  if (!good)
    return;
  if (is_rate)
    set_rate(mouse, value);
  else
    mouse->resolution = value;
}

/* Here the buttons stand in another order than in packets: left 4, middle 2, right 1. */
static void reply_status(Ps2Mouse *mouse)
{
  uint8_t buttons = mouse->buttons, order = 0;
  order |= buttons >> VM_BUTTON_LEFT & 1 ? 4 : 0;
  order |= buttons >> VM_BUTTON_MIDDLE & 1 ? 2 : 0;
  order |= buttons >> VM_BUTTON_RIGHT & 1;
  reply(mouse, REPLY_ACK);
  reply(mouse, (uint8_t)(mouse->remote << 6 | mouse->reporting << 5 | mouse->scaling << 4 | order));
  reply(mouse, mouse->resolution);
  reply(mouse, mouse->rate);
}

static bool run_answering_command(Ps2Mouse *mouse, uint8_t command)
{
  switch (command) {
  case COMMAND_STATUS:
    reply_status(mouse);
    return true;
  case COMMAND_READ:
    reply(mouse, REPLY_ACK);
    put_packet(mouse, &mouse->replies, false);
    return true;
  case COMMAND_IDENTIFY:
    reply(mouse, REPLY_ACK);
    reply(mouse, mouse->id);
    return true;
  case COMMAND_RESEND:
    reply(mouse, mouse->last_sent);
    return true;
  case COMMAND_RESET:
    ps2_mouse_reset(mouse);
    reply(mouse, REPLY_ACK);
    reply(mouse, REPLY_SELF_TEST_OK);
    reply(mouse, mouse->id);
    return true;
  default:
    return false;
  }
}

static void run_command(Ps2Mouse *mouse, uint8_t command)
{
  if (run_answering_command(mouse, command))
    return;
  switch (command) {
  case COMMAND_SCALING_OFF:
  case COMMAND_SCALING_ON:
    mouse->scaling = command == COMMAND_SCALING_ON;
    break;
  case COMMAND_RESOLUTION:
  case COMMAND_RATE:
    mouse->command = command;
    break;
  case COMMAND_STREAM:
  case COMMAND_REMOTE:
    mouse->remote = command == COMMAND_REMOTE;
    break;
  case COMMAND_WRAP_OFF:
  case COMMAND_WRAP_ON:
    mouse->wrap = command == COMMAND_WRAP_ON;
    break;
  case COMMAND_ENABLE:
    mouse->reporting = true;
    break;
  case COMMAND_DISABLE:
    mouse->reporting = false;
    break;
  case COMMAND_DEFAULTS:
    set_defaults(mouse);
    break;
  default:
    reply(mouse, REPLY_RESEND);
    return;
  }
  ps2_queue_clear(&mouse->events);
  if (command == COMMAND_DISABLE || command == COMMAND_ENABLE || command == COMMAND_STREAM || command == COMMAND_REMOTE)
    forget_motions(mouse);
  reply(mouse, REPLY_ACK);
}

void ps2_mouse_write(Ps2Mouse *mouse, uint8_t byte)
{
  /* What was not fetched of the last answer is void, but for "resend". */
  if (byte != COMMAND_RESEND)
    ps2_queue_clear(&mouse->replies);
  if (mouse->wrap && byte != COMMAND_RESET && byte != COMMAND_WRAP_OFF) {
    reply(mouse, byte);
    return;
  }
  if (mouse->command != 0 && byte < COMMAND_SCALING_OFF) {
    take_argument(mouse, byte);
    return;
  }
  mouse->command = 0;
  run_command(mouse, byte);
}

void ps2_mouse_init(Ps2Mouse *mouse, void (*changed)(void *opaque), void *opaque)
{
  mouse->changed = changed;
  mouse->opaque = opaque;
}
