/*
 * A PS/2 keyboard with 105 keys and more: IBM PS/2 Hardware Interface Technical Reference, "Keyboard (101- and 102-Key)"
 * (scan code sets 1, 2 and 3, commands), with the codes that Microsoft's "Keyboard Scan Code Specification" (rev. 1.3a)
 * gives to multimedia, power, Japanese and Korean keys.
 *
 * Repeating a held key is left to the host, which repeats by the person's own settings; the rate that the guest sets is
 * only stored. The queue is longer than a real keyboard's 16 bytes, so that text typed by a script arrives.
 */
#include <assert.h>
#include <linux/input-event-codes.h>

#include "hw/input/ps2.h"

enum { REPLY_ACK = 0xFA, REPLY_RESEND = 0xFE, REPLY_ECHO = 0xEE, REPLY_SELF_TEST_OK = 0xAA };

enum {
  COMMAND_LEDS = 0xED,
  COMMAND_ECHO = 0xEE,
  COMMAND_SCAN_SET = 0xF0,
  COMMAND_IDENTIFY = 0xF2,
  COMMAND_RATE = 0xF3,
  COMMAND_ENABLE = 0xF4,
  COMMAND_DISABLE = 0xF5,
  COMMAND_DEFAULTS = 0xF6,
  COMMAND_ALL_TYPEMATIC = 0xF7,
  COMMAND_ALL_MAKE_BREAK = 0xF8,
  COMMAND_ALL_MAKE = 0xF9,
  COMMAND_ALL_BOTH = 0xFA,
  COMMAND_KEY_TYPEMATIC = 0xFB,
  COMMAND_KEY_MAKE_BREAK = 0xFC,
  COMMAND_KEY_MAKE = 0xFD,
  COMMAND_RESEND = 0xFE,
  COMMAND_RESET = 0xFF
};

/* What a key does in set 3, which can be chosen for each. */
enum { MODE_BREAK = 1, MODE_TYPEMATIC = 2 };

#define DEFAULT_RATE 0x2B /* 500 ms, 10.9 a second */
#define MAX_SEQUENCE 8

#define E0       0x100 /* with the prefix 0xE0 */
#define NO_BREAK 0x200 /* the key is told when it goes down only */

typedef struct KeyCodes {
  uint16_t set2;
  uint8_t set3; /* 0: not on that set's keyboards */
} KeyCodes;

static const KeyCodes key_codes[] = {
  [KEY_ESC] = { 0x76, 0x08 },
  [KEY_1] = { 0x16, 0x16 },
  [KEY_2] = { 0x1E, 0x1E },
  [KEY_3] = { 0x26, 0x26 },
  [KEY_4] = { 0x25, 0x25 },
  [KEY_5] = { 0x2E, 0x2E },
  [KEY_6] = { 0x36, 0x36 },
  [KEY_7] = { 0x3D, 0x3D },
  [KEY_8] = { 0x3E, 0x3E },
  [KEY_9] = { 0x46, 0x46 },
  [KEY_0] = { 0x45, 0x45 },
  [KEY_MINUS] = { 0x4E, 0x4E },
  [KEY_EQUAL] = { 0x55, 0x55 },
  [KEY_BACKSPACE] = { 0x66, 0x66 },
  [KEY_TAB] = { 0x0D, 0x0D },
  [KEY_Q] = { 0x15, 0x15 },
  [KEY_W] = { 0x1D, 0x1D },
  [KEY_E] = { 0x24, 0x24 },
  [KEY_R] = { 0x2D, 0x2D },
  [KEY_T] = { 0x2C, 0x2C },
  [KEY_Y] = { 0x35, 0x35 },
  [KEY_U] = { 0x3C, 0x3C },
  [KEY_I] = { 0x43, 0x43 },
  [KEY_O] = { 0x44, 0x44 },
  [KEY_P] = { 0x4D, 0x4D },
  [KEY_LEFTBRACE] = { 0x54, 0x54 },
  [KEY_RIGHTBRACE] = { 0x5B, 0x5B },
  [KEY_ENTER] = { 0x5A, 0x5A },
  [KEY_LEFTCTRL] = { 0x14, 0x11 },
  [KEY_A] = { 0x1C, 0x1C },
  [KEY_S] = { 0x1B, 0x1B },
  [KEY_D] = { 0x23, 0x23 },
  [KEY_F] = { 0x2B, 0x2B },
  [KEY_G] = { 0x34, 0x34 },
  [KEY_H] = { 0x33, 0x33 },
  [KEY_J] = { 0x3B, 0x3B },
  [KEY_K] = { 0x42, 0x42 },
  [KEY_L] = { 0x4B, 0x4B },
  [KEY_SEMICOLON] = { 0x4C, 0x4C },
  [KEY_APOSTROPHE] = { 0x52, 0x52 },
  [KEY_GRAVE] = { 0x0E, 0x0E },
  [KEY_LEFTSHIFT] = { 0x12, 0x12 },
  [KEY_BACKSLASH] = { 0x5D, 0x5C },
  [KEY_Z] = { 0x1A, 0x1A },
  [KEY_X] = { 0x22, 0x22 },
  [KEY_C] = { 0x21, 0x21 },
  [KEY_V] = { 0x2A, 0x2A },
  [KEY_B] = { 0x32, 0x32 },
  [KEY_N] = { 0x31, 0x31 },
  [KEY_M] = { 0x3A, 0x3A },
  [KEY_COMMA] = { 0x41, 0x41 },
  [KEY_DOT] = { 0x49, 0x49 },
  [KEY_SLASH] = { 0x4A, 0x4A },
  [KEY_RIGHTSHIFT] = { 0x59, 0x59 },
  [KEY_KPASTERISK] = { 0x7C, 0x7E },
  [KEY_LEFTALT] = { 0x11, 0x19 },
  [KEY_SPACE] = { 0x29, 0x29 },
  [KEY_CAPSLOCK] = { 0x58, 0x14 },
  [KEY_F1] = { 0x05, 0x07 },
  [KEY_F2] = { 0x06, 0x0F },
  [KEY_F3] = { 0x04, 0x17 },
  [KEY_F4] = { 0x0C, 0x1F },
  [KEY_F5] = { 0x03, 0x27 },
  [KEY_F6] = { 0x0B, 0x2F },
  [KEY_F7] = { 0x83, 0x37 },
  [KEY_F8] = { 0x0A, 0x3F },
  [KEY_F9] = { 0x01, 0x47 },
  [KEY_F10] = { 0x09, 0x4F },
  [KEY_NUMLOCK] = { 0x77, 0x76 },
  [KEY_SCROLLLOCK] = { 0x7E, 0x5F },
  [KEY_KP7] = { 0x6C, 0x6C },
  [KEY_KP8] = { 0x75, 0x75 },
  [KEY_KP9] = { 0x7D, 0x7D },
  [KEY_KPMINUS] = { 0x7B, 0x84 },
  [KEY_KP4] = { 0x6B, 0x6B },
  [KEY_KP5] = { 0x73, 0x73 },
  [KEY_KP6] = { 0x74, 0x74 },
  [KEY_KPPLUS] = { 0x79, 0x7C },
  [KEY_KP1] = { 0x69, 0x69 },
  [KEY_KP2] = { 0x72, 0x72 },
  [KEY_KP3] = { 0x7A, 0x7A },
  [KEY_KP0] = { 0x70, 0x70 },
  [KEY_KPDOT] = { 0x71, 0x71 },
  [KEY_ZENKAKUHANKAKU] = { 0x5F, 0 },
  [KEY_102ND] = { 0x61, 0x13 },
  [KEY_F11] = { 0x78, 0x56 },
  [KEY_F12] = { 0x07, 0x5E },
  [KEY_RO] = { 0x51, 0x51 },
  [KEY_KATAKANA] = { 0x63, 0 },
  [KEY_HIRAGANA] = { 0x62, 0 },
  [KEY_HENKAN] = { 0x64, 0x86 },
  [KEY_KATAKANAHIRAGANA] = { 0x13, 0x87 },
  [KEY_MUHENKAN] = { 0x67, 0x85 },
  [KEY_KPJPCOMMA] = { 0x27, 0 },
  [KEY_KPENTER] = { E0 | 0x5A, 0x79 },
  [KEY_RIGHTCTRL] = { E0 | 0x14, 0x58 },
  [KEY_KPSLASH] = { E0 | 0x4A, 0x77 },
  [KEY_SYSRQ] = { E0 | 0x7C, 0x57 },
  [KEY_RIGHTALT] = { E0 | 0x11, 0x39 },
  [KEY_HOME] = { E0 | 0x6C, 0x6E },
  [KEY_UP] = { E0 | 0x75, 0x63 },
  [KEY_PAGEUP] = { E0 | 0x7D, 0x6F },
  [KEY_LEFT] = { E0 | 0x6B, 0x61 },
  [KEY_RIGHT] = { E0 | 0x74, 0x6A },
  [KEY_END] = { E0 | 0x69, 0x65 },
  [KEY_DOWN] = { E0 | 0x72, 0x60 },
  [KEY_PAGEDOWN] = { E0 | 0x7A, 0x6D },
  [KEY_INSERT] = { E0 | 0x70, 0x67 },
  [KEY_DELETE] = { E0 | 0x71, 0x64 },
  [KEY_MUTE] = { E0 | 0x23, 0 },
  [KEY_VOLUMEDOWN] = { E0 | 0x21, 0 },
  [KEY_VOLUMEUP] = { E0 | 0x32, 0 },
  [KEY_POWER] = { E0 | 0x37, 0 },
  [KEY_KPEQUAL] = { 0x0F, 0 },
  [KEY_PAUSE] = { E0 | 0x7E, 0x62 },
  [KEY_KPCOMMA] = { 0x6D, 0 },
  [KEY_HANGEUL] = { NO_BREAK | 0xF2, 0 },
  [KEY_HANJA] = { NO_BREAK | 0xF1, 0 },
  [KEY_YEN] = { 0x6A, 0x5D },
  [KEY_LEFTMETA] = { E0 | 0x1F, 0x8B },
  [KEY_RIGHTMETA] = { E0 | 0x27, 0x8C },
  [KEY_COMPOSE] = { E0 | 0x2F, 0x8D },
  [KEY_STOP] = { E0 | 0x28, 0 },
  [KEY_CALC] = { E0 | 0x2B, 0 },
  [KEY_SLEEP] = { E0 | 0x3F, 0 },
  [KEY_WAKEUP] = { E0 | 0x5E, 0 },
  [KEY_MAIL] = { E0 | 0x48, 0 },
  [KEY_BOOKMARKS] = { E0 | 0x18, 0 },
  [KEY_COMPUTER] = { E0 | 0x40, 0 },
  [KEY_BACK] = { E0 | 0x38, 0 },
  [KEY_FORWARD] = { E0 | 0x30, 0 },
  [KEY_NEXTSONG] = { E0 | 0x4D, 0 },
  [KEY_PLAYPAUSE] = { E0 | 0x34, 0 },
  [KEY_PREVIOUSSONG] = { E0 | 0x15, 0 },
  [KEY_STOPCD] = { E0 | 0x3B, 0 },
  [KEY_HOMEPAGE] = { E0 | 0x3A, 0 },
  [KEY_REFRESH] = { E0 | 0x20, 0 },
  [KEY_F13] = { 0x08, 0 },
  [KEY_F14] = { 0x10, 0 },
  [KEY_F15] = { 0x18, 0 },
  [KEY_F16] = { 0x20, 0 },
  [KEY_F17] = { 0x28, 0 },
  [KEY_F18] = { 0x30, 0 },
  [KEY_F19] = { 0x38, 0 },
  [KEY_F20] = { 0x40, 0 },
  [KEY_F21] = { 0x48, 0 },
  [KEY_F22] = { 0x50, 0 },
  [KEY_F23] = { 0x57, 0 },
  [KEY_F24] = { 0x5F, 0 },
  [KEY_SEARCH] = { E0 | 0x10, 0 },
  [KEY_MEDIA] = { E0 | 0x50, 0 },
};

static_assert(G_N_ELEMENTS(key_codes) <= 8 * sizeof(((Ps2Keyboard *)NULL)->keys_down), "a bit for each key");

/* Set 2 to set 1, as the controller's firmware translates and as set 1 itself is made. */
static const uint8_t translation[0x80] = {
  0xFF, 0x43, 0x41, 0x3F, 0x3D, 0x3B, 0x3C, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3E, 0x0F, 0x29, 0x59, 0x65, 0x38, 0x2A,
  0x70, 0x1D, 0x10, 0x02, 0x5A, 0x66, 0x71, 0x2C, 0x1F, 0x1E, 0x11, 0x03, 0x5B, 0x67, 0x2E, 0x2D, 0x20, 0x12, 0x05,
  0x04, 0x5C, 0x68, 0x39, 0x2F, 0x21, 0x14, 0x13, 0x06, 0x5D, 0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5E, 0x6A,
  0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5F, 0x6B, 0x33, 0x25, 0x17, 0x18, 0x0B, 0x0A, 0x60, 0x6C, 0x34, 0x35, 0x26,
  0x27, 0x19, 0x0C, 0x61, 0x6D, 0x73, 0x28, 0x74, 0x1A, 0x0D, 0x62, 0x6E, 0x3A, 0x36, 0x1C, 0x1B, 0x75, 0x2B, 0x63,
  0x76, 0x55, 0x56, 0x77, 0x78, 0x79, 0x7A, 0x0E, 0x7B, 0x7C, 0x4F, 0x7D, 0x4B, 0x47, 0x7E, 0x7F, 0x6F, 0x52, 0x53,
  0x50, 0x4C, 0x4D, 0x48, 0x01, 0x45, 0x57, 0x4E, 0x51, 0x4A, 0x37, 0x49, 0x46, 0x54,
};

uint8_t ps2_translate(uint8_t set2_byte)
{
  if (set2_byte < 0x80)
    return translation[set2_byte];
  return set2_byte == 0x83 ? 0x41 : set2_byte == 0x84 ? 0x54 : set2_byte;
}

const VmField ps2_queue_fields[] = { VM_BYTES(Ps2Queue, bytes), VM_UINT_MAX(Ps2Queue, first, PS2_QUEUE_BYTES - 1),
                                     VM_UINT_MAX(Ps2Queue, count, PS2_QUEUE_BYTES), VM_FIELDS_END };

const VmField ps2_keyboard_fields[] = {
  VM_TRANSIENT(Ps2Keyboard, input, "wiring"),
  VM_TRANSIENT(Ps2Keyboard, changed, "wiring"),
  VM_TRANSIENT(Ps2Keyboard, opaque, "wiring"),
  VM_STRUCT(Ps2Keyboard, replies, ps2_queue_fields),
  VM_STRUCT(Ps2Keyboard, events, ps2_queue_fields),
  VM_UINT_MAX(Ps2Keyboard, scan_set, 3),
  VM_UINT_MAX(Ps2Keyboard, scanning, 1),
  VM_UINT_MAX(Ps2Keyboard, overrun, 1),
  VM_UINT(Ps2Keyboard, command),
  VM_UINT(Ps2Keyboard, leds),
  VM_UINT(Ps2Keyboard, rate),
  VM_UINT(Ps2Keyboard, last_sent),
  VM_BYTES(Ps2Keyboard, keys_down),
  VM_BYTES(Ps2Keyboard, set3_modes),
  VM_FIELDS_END,
};

/* ---- keys ------------------------------------------------------------------------------------------------------------ */

/* Codes of one event, in set 2 until they are queued. */
typedef struct Sequence {
  uint8_t bytes[MAX_SEQUENCE];
  unsigned n;
} Sequence;

static void put(Sequence *sequence, uint8_t byte)
{
  if (sequence->n < MAX_SEQUENCE)
    sequence->bytes[sequence->n++] = byte;
}

static void put_code(Sequence *sequence, unsigned code, bool down)
{
  if (code & E0)
    put(sequence, 0xE0);
  if (!down)
    put(sequence, 0xF0);
  put(sequence, code & 0xFF);
}

static bool is_down(const Ps2Keyboard *keyboard, unsigned key)
{
  return keyboard->keys_down[key / 8] >> key % 8 & 1;
}

static bool either_is_down(const Ps2Keyboard *keyboard, unsigned key, unsigned other)
{
  return is_down(keyboard, key) || is_down(keyboard, other);
}

/* Print Screen is a shifted key of old keyboards, and SysRq with Alt. */
static void put_print_screen(const Ps2Keyboard *keyboard, Sequence *sequence, bool down)
{
  if (either_is_down(keyboard, KEY_LEFTALT, KEY_RIGHTALT)) {
    put_code(sequence, 0x84, down);
    return;
  }
  bool plain = !either_is_down(keyboard, KEY_LEFTCTRL, KEY_RIGHTCTRL) &&
               !either_is_down(keyboard, KEY_LEFTSHIFT, KEY_RIGHTSHIFT);
  if (plain && down)
    put_code(sequence, E0 | 0x12, true);
  put_code(sequence, E0 | 0x7C, down);
  if (plain && !down)
    put_code(sequence, E0 | 0x12, false);
}

/* Pause sends its whole life at once: Ctrl+Num Lock of old keyboards; Break, if Ctrl is down. */
static void put_pause(const Ps2Keyboard *keyboard, Sequence *sequence, bool down)
{
  if (!down)
    return;
  if (either_is_down(keyboard, KEY_LEFTCTRL, KEY_RIGHTCTRL)) {
    put_code(sequence, E0 | 0x7E, true);
    put_code(sequence, E0 | 0x7E, false);
    return;
  }
  static const uint8_t pause[8] = { 0xE1, 0x14, 0x77, 0xE1, 0xF0, 0x14, 0xF0, 0x77 };
  memcpy(sequence->bytes, pause, sizeof pause);
  sequence->n = sizeof pause;
}

/* Set 1 has the translated codes, with breaks as bit 7. */
static void to_set1(Sequence *sequence)
{
  unsigned n = 0;
  uint8_t release = 0;
  for (unsigned i = 0; i < sequence->n; i++) {
    if (sequence->bytes[i] == 0xF0) {
      release = 0x80;
      continue;
    }
    sequence->bytes[n++] = ps2_translate(sequence->bytes[i]) | release;
    release = 0;
  }
  sequence->n = n;
}

static void put_set3(const Ps2Keyboard *keyboard, Sequence *sequence, uint8_t code, bool down, bool repeat)
{
  if (code == 0 || code >= PS2_N_SET3_CODES)
    return;
  uint8_t mode = keyboard->set3_modes[code];
  if ((down && repeat && !(mode & MODE_TYPEMATIC)) || (!down && !(mode & MODE_BREAK)))
    return;
  put_code(sequence, code, down);
}

/* The whole sequence, or in its place (once) the code that says that something was lost. */
static void queue_sequence(Ps2Keyboard *keyboard, const Sequence *sequence)
{
  if (sequence->n == 0)
    return;
  if (ps2_queue_room(&keyboard->events) <= sequence->n) {
    if (!keyboard->overrun)
      ps2_queue_push(&keyboard->events, keyboard->scan_set == 1 ? 0xFF : 0x00);
    keyboard->overrun = true;
    return;
  }
  keyboard->overrun = false;
  for (unsigned i = 0; i < sequence->n; i++)
    ps2_queue_push(&keyboard->events, sequence->bytes[i]);
}

static void make_sequence(const Ps2Keyboard *keyboard, Sequence *sequence, uint16_t evdev_code, bool down, bool repeat)
{
  const KeyCodes *codes = &key_codes[evdev_code];
  if (keyboard->scan_set == 3) {
    put_set3(keyboard, sequence, codes->set3, down, repeat);
    return;
  }
  if (evdev_code == KEY_SYSRQ)
    put_print_screen(keyboard, sequence, down);
  else if (evdev_code == KEY_PAUSE)
    put_pause(keyboard, sequence, down && !repeat);
  else if (down || !(codes->set2 & NO_BREAK))
    put_code(sequence, codes->set2, down);
  if (keyboard->scan_set == 1)
    to_set1(sequence);
}

static void set_down(Ps2Keyboard *keyboard, unsigned key, bool down)
{
  uint8_t bit = (uint8_t)(1u << key % 8), others = keyboard->keys_down[key / 8] & (uint8_t)~bit;
  keyboard->keys_down[key / 8] = others | (down ? bit : 0);
}

void ps2_keyboard_key(Ps2Keyboard *keyboard, uint16_t evdev_code, bool down)
{
  if (evdev_code >= G_N_ELEMENTS(key_codes) || key_codes[evdev_code].set2 == 0)
    return;
  bool repeat = down && is_down(keyboard, evdev_code);
  set_down(keyboard, evdev_code, down);
  if (!keyboard->scanning)
    return;
  Sequence sequence = { .n = 0 };
  make_sequence(keyboard, &sequence, evdev_code, down, repeat);
  queue_sequence(keyboard, &sequence);
  keyboard->changed(keyboard->opaque);
}

bool ps2_keyboard_take_reply(Ps2Keyboard *keyboard, uint8_t *byte)
{
  if (!ps2_queue_pop(&keyboard->replies, byte))
    return false;
  if (*byte != REPLY_RESEND)
    keyboard->last_sent = *byte;
  return true;
}

bool ps2_keyboard_take_event(Ps2Keyboard *keyboard, uint8_t *byte)
{
  if (!ps2_queue_pop(&keyboard->events, byte))
    return false;
  keyboard->last_sent = *byte;
  return true;
}

/* ---- commands -------------------------------------------------------------------------------------------------------- */

static void reply(Ps2Keyboard *keyboard, uint8_t byte)
{
  ps2_queue_push(&keyboard->replies, byte);
}

static void set_leds(Ps2Keyboard *keyboard, uint8_t leds)
{
  keyboard->leds = leds & 7;
  vm_input_set_leds(keyboard->input, keyboard->leds);
}

static void set_all_modes(Ps2Keyboard *keyboard, uint8_t mode)
{
  memset(keyboard->set3_modes, mode, sizeof keyboard->set3_modes);
}

static void set_default_modes(Ps2Keyboard *keyboard)
{
  static const uint8_t make_break[] = { 0x11, 0x12, 0x14, 0x19, 0x59 }; /* left Ctrl, shifts, Caps Lock, left Alt */
  set_all_modes(keyboard, MODE_TYPEMATIC);
  for (unsigned i = 0; i < sizeof make_break; i++)
    keyboard->set3_modes[make_break[i]] = MODE_BREAK;
}

static void set_defaults(Ps2Keyboard *keyboard)
{
  ps2_queue_clear(&keyboard->events);
  keyboard->overrun = false;
  keyboard->scan_set = 2;
  keyboard->rate = DEFAULT_RATE;
  set_default_modes(keyboard);
}

void ps2_keyboard_reset(Ps2Keyboard *keyboard)
{
  ps2_queue_clear(&keyboard->replies);
  set_defaults(keyboard);
  keyboard->scanning = true;
  keyboard->command = 0;
  keyboard->last_sent = 0;
  set_leds(keyboard, 0);
}

static void take_scan_set(Ps2Keyboard *keyboard, uint8_t value)
{
  if (value > 3) {
    reply(keyboard, REPLY_RESEND);
    return;
  }
  reply(keyboard, REPLY_ACK);
  if (value == 0) {
    reply(keyboard, keyboard->scan_set);
    return;
  }
  keyboard->scan_set = value;
  ps2_queue_clear(&keyboard->events);
}

static void take_key_mode(Ps2Keyboard *keyboard, uint8_t command, uint8_t code)
{
  static const uint8_t modes[] = { MODE_TYPEMATIC, MODE_BREAK, 0 };
  if (code < PS2_N_SET3_CODES)
    keyboard->set3_modes[code] = modes[command - COMMAND_KEY_TYPEMATIC];
  reply(keyboard, REPLY_ACK);
  keyboard->command = command; /* a list of keys may follow, up to the next command */
}

static void take_argument(Ps2Keyboard *keyboard, uint8_t value)
{
  uint8_t command = keyboard->command;
  keyboard->command = 0;
  switch (command) {
  case COMMAND_LEDS:
    set_leds(keyboard, value);
    reply(keyboard, REPLY_ACK);
    break;
  case COMMAND_SCAN_SET:
    take_scan_set(keyboard, value);
    break;
  case COMMAND_RATE:
    keyboard->rate = value & 0x7F;
    reply(keyboard, REPLY_ACK);
    break;
  case COMMAND_KEY_TYPEMATIC:
  case COMMAND_KEY_MAKE_BREAK:
  case COMMAND_KEY_MAKE:
    take_key_mode(keyboard, command, value);
    break;
  default:
    reply(keyboard, REPLY_RESEND);
    break;
  }
}

/* Those that answer otherwise than by one acknowledgement. */
static bool run_answering_command(Ps2Keyboard *keyboard, uint8_t command)
{
  switch (command) {
  case COMMAND_ECHO:
    reply(keyboard, REPLY_ECHO);
    return true;
  case COMMAND_IDENTIFY:
    reply(keyboard, REPLY_ACK);
    reply(keyboard, 0xAB);
    reply(keyboard, 0x83);
    return true;
  case COMMAND_RESEND:
    reply(keyboard, keyboard->last_sent);
    return true;
  case COMMAND_RESET:
    ps2_keyboard_reset(keyboard);
    reply(keyboard, REPLY_ACK);
    reply(keyboard, REPLY_SELF_TEST_OK);
    return true;
  default:
    return false;
  }
}

static void run_command(Ps2Keyboard *keyboard, uint8_t command)
{
  if (run_answering_command(keyboard, command))
    return;
  switch (command) {
  case COMMAND_LEDS:
  case COMMAND_SCAN_SET:
  case COMMAND_RATE:
  case COMMAND_KEY_TYPEMATIC:
  case COMMAND_KEY_MAKE_BREAK:
  case COMMAND_KEY_MAKE:
    keyboard->command = command;
    break;
  case COMMAND_ENABLE:
    ps2_queue_clear(&keyboard->events);
    keyboard->scanning = true;
    break;
  case COMMAND_DISABLE:
    set_defaults(keyboard);
    keyboard->scanning = false;
    break;
  case COMMAND_DEFAULTS:
    set_defaults(keyboard);
    keyboard->scanning = true;
    break;
  case COMMAND_ALL_TYPEMATIC:
    set_all_modes(keyboard, MODE_TYPEMATIC);
    break;
  case COMMAND_ALL_MAKE_BREAK:
    set_all_modes(keyboard, MODE_BREAK);
    break;
  case COMMAND_ALL_MAKE:
    set_all_modes(keyboard, 0);
    break;
  case COMMAND_ALL_BOTH:
    set_all_modes(keyboard, MODE_BREAK | MODE_TYPEMATIC);
    break;
  default:
    reply(keyboard, REPLY_RESEND);
    return;
  }
  reply(keyboard, REPLY_ACK);
}

void ps2_keyboard_write(Ps2Keyboard *keyboard, uint8_t byte)
{
  /* What was not fetched of the last answer is void, but for "resend". */
  if (byte != COMMAND_RESEND)
    ps2_queue_clear(&keyboard->replies);
  if (keyboard->command != 0 && byte < COMMAND_LEDS) {
    take_argument(keyboard, byte);
    return;
  }
  keyboard->command = 0;
  run_command(keyboard, byte);
}

void ps2_keyboard_init(Ps2Keyboard *keyboard, VmInput *input, void (*changed)(void *opaque), void *opaque)
{
  keyboard->input = input;
  keyboard->changed = changed;
  keyboard->opaque = opaque;
}
