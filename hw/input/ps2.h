/*
 * The two devices on the keyboard controller's PS/2 ports, for hw/input only.
 *
 * A device has two queues to the controller: replies to commands, and events. Replies go first, as a command stops a
 * device's transmission. A scan code sequence is queued whole or not at all.
 */
#ifndef HW_INPUT_PS2_H
#define HW_INPUT_PS2_H

#include "vm-engine/device.h"
#include "vm-engine/input.h"

/* ---- a byte queue -------------------------------------------------------------------------------------------------- */

#define PS2_QUEUE_BYTES 256

typedef struct Ps2Queue {
  uint8_t bytes[PS2_QUEUE_BYTES];
  uint16_t first, count;
} Ps2Queue;

extern const VmField ps2_queue_fields[];
extern const VmDeviceType i8042_type; /* for the tests */

static inline void ps2_queue_clear(Ps2Queue *queue)
{
  queue->first = queue->count = 0;
}
static inline unsigned ps2_queue_room(const Ps2Queue *queue)
{
  return PS2_QUEUE_BYTES - queue->count;
}

/* Drops the byte if there is no room. */
static inline void ps2_queue_push(Ps2Queue *queue, uint8_t byte)
{
  if (queue->count < PS2_QUEUE_BYTES)
    queue->bytes[(queue->first + queue->count++) % PS2_QUEUE_BYTES] = byte;
}

static inline bool ps2_queue_pop(Ps2Queue *queue, uint8_t *byte)
{
  if (queue->count == 0)
    return false;
  *byte = queue->bytes[queue->first];
  queue->first = (queue->first + 1) % PS2_QUEUE_BYTES;
  queue->count--;
  return true;
}

/* ---- keyboard ------------------------------------------------------------------------------------------------------ */

#define PS2_N_SET3_CODES 0x90

typedef struct Ps2Keyboard {
  VmInput *input;
  void (*changed)(void *opaque); /* something was queued by the person, not by a command */
  void *opaque;
  Ps2Queue replies, events;
  uint8_t scan_set; /* 1, 2 or 3 */
  bool scanning;
  bool overrun;    /* the queue's last code says that some were lost */
  uint8_t command; /* waits for its argument; 0: none */
  uint8_t leds;
  uint8_t rate;
  uint8_t last_sent;     /* for "resend" */
  uint8_t keys_down[32]; /* a bit for each evdev code: tells repeats, and modifiers that change other keys' codes */
  uint8_t set3_modes[PS2_N_SET3_CODES];
} Ps2Keyboard;

extern const VmField ps2_keyboard_fields[];

void ps2_keyboard_init(Ps2Keyboard *keyboard, VmInput *input, void (*changed)(void *opaque), void *opaque);
void ps2_keyboard_reset(Ps2Keyboard *keyboard);
/* A byte from the controller. */
void ps2_keyboard_write(Ps2Keyboard *keyboard, uint8_t byte);
/* A key by its evdev code; a repeated `down` is a repeat. */
void ps2_keyboard_key(Ps2Keyboard *keyboard, uint16_t evdev_code, bool down);
bool ps2_keyboard_take_reply(Ps2Keyboard *keyboard, uint8_t *byte);
bool ps2_keyboard_take_event(Ps2Keyboard *keyboard, uint8_t *byte);
/* What the controller's translation makes of a set 2 byte (0xF0 is not for it). */
uint8_t ps2_translate(uint8_t set2_byte);

/* ---- mouse --------------------------------------------------------------------------------------------------------- */

#define PS2_MOUSE_MOTIONS 16

/* Movement while the buttons stayed as they are here. */
typedef struct Ps2Motion {
  int32_t dx, dy, dz; /* right, up, down (as the wheel's byte has it) positive */
  uint8_t buttons;    /* bit = VM_BUTTON_… */
  uint8_t pad[3];
} Ps2Motion;

typedef struct Ps2Mouse {
  void (*changed)(void *opaque);
  void *opaque;
  Ps2Queue replies, events;
  Ps2Motion motions[PS2_MOUSE_MOTIONS]; /* not told yet; the oldest first */
  uint8_t n_motions;
  uint8_t buttons; /* as they are */
  uint8_t reported_buttons;
  bool reporting;
  bool remote;
  bool wrap;
  bool scaling;
  uint8_t id; /* 0, 3 with a wheel, 4 with five buttons */
  uint8_t resolution;
  uint8_t rate;          /* packets a second */
  uint8_t last_rates[2]; /* the two before: a driver unlocks the wheel by a sequence of three */
  uint8_t command;
  uint8_t last_sent;
  int64_t next_packet_ns;
} Ps2Mouse;

extern const VmField ps2_mouse_fields[];
bool ps2_mouse_is_valid(const Ps2Mouse *mouse);

void ps2_mouse_init(Ps2Mouse *mouse, void (*changed)(void *opaque), void *opaque);
void ps2_mouse_reset(Ps2Mouse *mouse);
void ps2_mouse_write(Ps2Mouse *mouse, uint8_t byte);
void ps2_mouse_button(Ps2Mouse *mouse, unsigned button, bool down);
/* Right and down positive. */
void ps2_mouse_move(Ps2Mouse *mouse, int dx, int dy);
/* Up positive. */
void ps2_mouse_wheel(Ps2Mouse *mouse, int vertical);
bool ps2_mouse_take_reply(Ps2Mouse *mouse, uint8_t *byte);
/* Has it an event byte, perhaps only later? `*when_ns`: virtual time from which ps2_mouse_take_event() gives it. */
bool ps2_mouse_has_event(const Ps2Mouse *mouse, int64_t *when_ns);
bool ps2_mouse_take_event(Ps2Mouse *mouse, int64_t now_ns, uint8_t *byte);

#endif
