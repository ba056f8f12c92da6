/*
 * Keys and pointer events from the control socket.
 *
 * Keys that are typed by send-key are queued: each combination goes down, is held, goes up, and only then comes the next,
 * as a person would type, so that a guest polling its keyboard misses none.
 */
#include "app/control-impl.h"

#include <linux/input-event-codes.h>

#include "app/machine.h"
#include "vm-engine/input.h"
#include "vm-engine/vm.h"

#define DEFAULT_HOLD_MS 100
#define MAX_HOLD_MS     10000
#define GAP_MS          20
#define MAX_COMBINATION 16
#define MAX_QUEUE       4096
#define ABSOLUTE_RANGE  32767

/* QEMU's names of keys (its QKeyCode), in the order of evdev's codes. */
static const struct {
  const char *name;
  uint16_t code;
} key_names[] = {
  { "esc", KEY_ESC },
  { "1", KEY_1 },
  { "2", KEY_2 },
  { "3", KEY_3 },
  { "4", KEY_4 },
  { "5", KEY_5 },
  { "6", KEY_6 },
  { "7", KEY_7 },
  { "8", KEY_8 },
  { "9", KEY_9 },
  { "0", KEY_0 },
  { "minus", KEY_MINUS },
  { "equal", KEY_EQUAL },
  { "backspace", KEY_BACKSPACE },
  { "tab", KEY_TAB },
  { "q", KEY_Q },
  { "w", KEY_W },
  { "e", KEY_E },
  { "r", KEY_R },
  { "t", KEY_T },
  { "y", KEY_Y },
  { "u", KEY_U },
  { "i", KEY_I },
  { "o", KEY_O },
  { "p", KEY_P },
  { "bracket_left", KEY_LEFTBRACE },
  { "bracket_right", KEY_RIGHTBRACE },
  { "ret", KEY_ENTER },
  { "ctrl", KEY_LEFTCTRL },
  { "a", KEY_A },
  { "s", KEY_S },
  { "d", KEY_D },
  { "f", KEY_F },
  { "g", KEY_G },
  { "h", KEY_H },
  { "j", KEY_J },
  { "k", KEY_K },
  { "l", KEY_L },
  { "semicolon", KEY_SEMICOLON },
  { "apostrophe", KEY_APOSTROPHE },
  { "grave_accent", KEY_GRAVE },
  { "shift", KEY_LEFTSHIFT },
  { "backslash", KEY_BACKSLASH },
  { "z", KEY_Z },
  { "x", KEY_X },
  { "c", KEY_C },
  { "v", KEY_V },
  { "b", KEY_B },
  { "n", KEY_N },
  { "m", KEY_M },
  { "comma", KEY_COMMA },
  { "dot", KEY_DOT },
  { "slash", KEY_SLASH },
  { "shift_r", KEY_RIGHTSHIFT },
  { "asterisk", KEY_KPASTERISK },
  { "kp_multiply", KEY_KPASTERISK },
  { "alt", KEY_LEFTALT },
  { "spc", KEY_SPACE },
  { "caps_lock", KEY_CAPSLOCK },
  { "f1", KEY_F1 },
  { "f2", KEY_F2 },
  { "f3", KEY_F3 },
  { "f4", KEY_F4 },
  { "f5", KEY_F5 },
  { "f6", KEY_F6 },
  { "f7", KEY_F7 },
  { "f8", KEY_F8 },
  { "f9", KEY_F9 },
  { "f10", KEY_F10 },
  { "num_lock", KEY_NUMLOCK },
  { "scroll_lock", KEY_SCROLLLOCK },
  { "kp_7", KEY_KP7 },
  { "kp_8", KEY_KP8 },
  { "kp_9", KEY_KP9 },
  { "kp_subtract", KEY_KPMINUS },
  { "kp_4", KEY_KP4 },
  { "kp_5", KEY_KP5 },
  { "kp_6", KEY_KP6 },
  { "kp_add", KEY_KPPLUS },
  { "kp_1", KEY_KP1 },
  { "kp_2", KEY_KP2 },
  { "kp_3", KEY_KP3 },
  { "kp_0", KEY_KP0 },
  { "kp_decimal", KEY_KPDOT },
  { "less", KEY_102ND },
  { "f11", KEY_F11 },
  { "f12", KEY_F12 },
  { "ro", KEY_RO },
  { "hiragana", KEY_HIRAGANA },
  { "henkan", KEY_HENKAN },
  { "katakanahiragana", KEY_KATAKANAHIRAGANA },
  { "muhenkan", KEY_MUHENKAN },
  { "kp_enter", KEY_KPENTER },
  { "ctrl_r", KEY_RIGHTCTRL },
  { "kp_divide", KEY_KPSLASH },
  { "print", KEY_SYSRQ },
  { "sysrq", KEY_SYSRQ },
  { "alt_r", KEY_RIGHTALT },
  { "home", KEY_HOME },
  { "up", KEY_UP },
  { "pgup", KEY_PAGEUP },
  { "left", KEY_LEFT },
  { "right", KEY_RIGHT },
  { "end", KEY_END },
  { "down", KEY_DOWN },
  { "pgdn", KEY_PAGEDOWN },
  { "insert", KEY_INSERT },
  { "delete", KEY_DELETE },
  { "audiomute", KEY_MUTE },
  { "volumedown", KEY_VOLUMEDOWN },
  { "volumeup", KEY_VOLUMEUP },
  { "power", KEY_POWER },
  { "kp_equals", KEY_KPEQUAL },
  { "pause", KEY_PAUSE },
  { "kp_comma", KEY_KPCOMMA },
  { "yen", KEY_YEN },
  { "meta_l", KEY_LEFTMETA },
  { "meta_r", KEY_RIGHTMETA },
  { "menu", KEY_COMPOSE },
  { "compose", KEY_COMPOSE },
  { "sleep", KEY_SLEEP },
  { "wake", KEY_WAKEUP },
};

uint16_t control_find_key(const char *qcode)
{
  for (size_t i = 0; i < G_N_ELEMENTS(key_names); i++)
    if (g_str_equal(key_names[i].name, qcode))
      return key_names[i].code;
  return 0;
}

/* ---- typing ------------------------------------------------------------------------------------------------------------ */

typedef struct Combination {
  uint16_t codes[MAX_COMBINATION];
  unsigned n_codes;
  unsigned hold_ms;
} Combination;

struct ControlKeys {
  OrielMachine *machine;
  GMainContext *context;
  GQueue queue; /* Combination; the head is down while `is_down` */
  bool is_down;
  GSource *timer;
};

ControlKeys *control_keys_new(OrielMachine *machine, GMainContext *context)
{
  ControlKeys *keys = g_new0(ControlKeys, 1);
  keys->machine = machine;
  keys->context = context;
  g_queue_init(&keys->queue);
  return keys;
}

static void clear_timer(ControlKeys *keys)
{
  if (keys->timer == NULL)
    return;
  g_source_destroy(keys->timer);
  g_clear_pointer(&keys->timer, g_source_unref);
}

void control_keys_free(ControlKeys *keys)
{
  if (keys == NULL)
    return;
  clear_timer(keys);
  g_queue_clear_full(&keys->queue, g_free);
  g_free(keys);
}

static gboolean next_step(gpointer data);

static void set_timer(ControlKeys *keys, unsigned ms)
{
  clear_timer(keys);
  keys->timer = g_timeout_source_new(ms);
  g_source_set_callback(keys->timer, next_step, keys, NULL);
  g_source_attach(keys->timer, keys->context);
}

/* Presses the head of the queue, or releases it and waits for the gap. */
static void step(ControlKeys *keys)
{
  VmInput *input = vm_get_input(oriel_machine_get_vm(keys->machine));
  Combination *c = g_queue_peek_head(&keys->queue);
  if (c == NULL)
    return;
  for (unsigned i = 0; i < c->n_codes; i++)
    vm_input_key(input, c->codes[keys->is_down ? c->n_codes - 1 - i : i], !keys->is_down);
  keys->is_down = !keys->is_down;
  set_timer(keys, keys->is_down ? c->hold_ms : GAP_MS);
  if (!keys->is_down)
    g_free(g_queue_pop_head(&keys->queue));
}

static gboolean next_step(gpointer data)
{
  ControlKeys *keys = data;
  g_clear_pointer(&keys->timer, g_source_unref);
  step(keys);
  return G_SOURCE_REMOVE;
}

static bool enqueue(ControlKeys *keys, const Combination *combination, GError **error)
{
  if (g_queue_get_length(&keys->queue) >= MAX_QUEUE) {
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "too many keys are waiting to be typed");
    return false;
  }
  g_queue_push_tail(&keys->queue, g_memdup2(combination, sizeof *combination));
  if (keys->timer == NULL)
    step(keys);
  return true;
}

static bool add_code(Combination *c, uint16_t code, const char *name, GError **error)
{
  if (code == 0 || c->n_codes == MAX_COMBINATION) {
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC,
                code == 0 ? "Parameter 'data' does not accept value '%s'" : "too many keys at once, at '%s'", name);
    return false;
  }
  c->codes[c->n_codes++] = code;
  return true;
}

bool control_type_combination(ControlKeys *keys, const char *text, GError **error)
{
  Combination c = { .hold_ms = DEFAULT_HOLD_MS };
  g_auto(GStrv) names = g_strsplit(text, "-", -1);
  for (char **name = names; *name != NULL; name++)
    if (!add_code(&c, control_find_key(*name), *name, error))
      return false;
  return enqueue(keys, &c, error);
}

/* A QMP KeyValue {"type": "qcode" | "number", "data": …}; 0 with `error`. */
static uint16_t parse_key_value(JsonNode *node, GError **error)
{
  JsonObject *object = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
  JsonNode *data = object ? json_object_get_member(object, "data") : NULL;
  if (data != NULL && JSON_NODE_HOLDS_VALUE(data) && json_node_get_value_type(data) == G_TYPE_STRING) {
    uint16_t code = control_find_key(json_node_get_string(data));
    if (code == 0)
      g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "Parameter 'data' does not accept value '%s'",
                  json_node_get_string(data));
    return code;
  }
  g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC,
              "a key is an object with 'type': 'qcode' and the key's name as 'data'");
  return 0;
}

static JsonArray *get_array(const ControlCall *call, const char *name, GError **error)
{
  JsonNode *node = json_object_get_member(call->arguments, name);
  if (node != NULL && JSON_NODE_HOLDS_ARRAY(node))
    return json_node_get_array(node);
  g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "Parameter '%s' is missing or not an array", name);
  return NULL;
}

JsonNode *control_send_key(const ControlCall *call, GError **error)
{
  JsonArray *list = get_array(call, "keys", error);
  Combination c = { .hold_ms = (unsigned)CLAMP(control_get_int(call, "hold-time", DEFAULT_HOLD_MS), 1, MAX_HOLD_MS) };
  if (list == NULL)
    return NULL;
  for (guint i = 0; i < json_array_get_length(list); i++) {
    uint16_t code = parse_key_value(json_array_get_element(list, i), error);
    if (code == 0 || !add_code(&c, code, "key", error))
      return NULL;
  }
  (void)!enqueue(call->keys, &c, error);
  return NULL;
}

/* ---- input-send-event ------------------------------------------------------------------------------------------------------- */

typedef struct PointerState {
  int dx, dy;
  int x, y;
  bool absolute;
} PointerState;

static bool send_button(VmInput *input, const char *button, bool down, GError **error)
{
  static const char *const names[] = { "left", "right", "middle", "side", "extra" };
  int vertical = g_str_equal(button, "wheel-up") ? 1 : g_str_equal(button, "wheel-down") ? -1 : 0;
  int horizontal = g_str_equal(button, "wheel-right") ? 1 : g_str_equal(button, "wheel-left") ? -1 : 0;
  if (vertical || horizontal) {
    if (down)
      vm_input_wheel(input, vertical, horizontal);
    return true;
  }
  for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
    if (!g_str_equal(names[i], button))
      continue;
    vm_input_button(input, i, down);
    return true;
  }
  g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "Parameter 'button' does not accept value '%s'", button);
  return false;
}

/* Axis events are gathered, so that both axes of one movement reach the guest together. */
static void gather_axis(PointerState *state, JsonObject *data, bool absolute)
{
  bool is_x = g_str_equal(json_object_get_string_member_with_default(data, "axis", "x"), "x");
  int value = (int)CLAMP(json_object_get_int_member_with_default(data, "value", 0), -ABSOLUTE_RANGE, ABSOLUTE_RANGE);
  state->absolute |= absolute;
  *(absolute ? (is_x ? &state->x : &state->y) : (is_x ? &state->dx : &state->dy)) = value;
}

static void flush_axes(VmInput *input, PointerState *state)
{
  if (state->dx != 0 || state->dy != 0)
    vm_input_move_relative(input, state->dx, state->dy);
  if (state->absolute)
    vm_input_move_absolute(input, MAX(state->x, 0), MAX(state->y, 0));
  *state = (PointerState){ 0 };
}

static bool send_one_event(VmInput *input, PointerState *state, JsonObject *event, GError **error)
{
  const char *type = json_object_get_string_member_with_default(event, "type", "");
  JsonNode *node = json_object_get_member(event, "data");
  JsonObject *data = node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
  if (data == NULL) {
    g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "an event needs the object 'data'");
    return false;
  }
  if (g_str_equal(type, "rel") || g_str_equal(type, "abs")) {
    gather_axis(state, data, *type == 'a');
    return true;
  }
  flush_axes(input, state);
  bool down = json_object_get_boolean_member_with_default(data, "down", FALSE);
  if (g_str_equal(type, "btn"))
    return send_button(input, json_object_get_string_member_with_default(data, "button", ""), down, error);
  if (g_str_equal(type, "key")) {
    uint16_t code = parse_key_value(json_object_get_member(data, "key"), error);
    if (code != 0)
      vm_input_key(input, code, down);
    return code != 0;
  }
  g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "Parameter 'type' does not accept value '%s'", type);
  return false;
}

JsonNode *control_input_send_event(const ControlCall *call, GError **error)
{
  VmInput *input = vm_get_input(oriel_machine_get_vm(call->machine));
  JsonArray *events = get_array(call, "events", error);
  PointerState state = { 0 };
  if (events == NULL)
    return NULL;
  for (guint i = 0; i < json_array_get_length(events); i++) {
    JsonNode *node = json_array_get_element(events, i);
    if (!JSON_NODE_HOLDS_OBJECT(node)) {
      g_set_error(error, CONTROL_ERROR, CONTROL_ERROR_GENERIC, "an event must be an object");
      return NULL;
    }
    if (!send_one_event(input, &state, json_node_get_object(node), error))
      return NULL;
  }
  flush_axes(input, &state);
  return NULL;
}
