/*
 * The keyboard controller: an Intel 8042 (or what took its place) with the PS/2's firmware, IBM PS/2 Hardware Interface
 * Technical Reference, "Keyboard and Auxiliary Device Controller".
 *
 *   0x60  read: output buffer             write: a byte for the keyboard, or the argument of a command
 *   0x64  read: status                    write: command
 *
 * When the output buffer is empty it is filled from, in this order: the controller's own answers, the devices' answers,
 * the keyboard's and the mouse's events. Answers come at once, as polling firmware likes. An event comes 250 µs after
 * the last byte was read at the earliest: a device's wire is no faster, and programs that chain interrupt 9 read the
 * same scan code twice. A byte stays in the buffer until it is read; nothing overwrites it.
 */
#include "hw/input/i8042.h"

#include "hw/input/ps2.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define EVENT_GAP_NS (250 * VM_NS_PER_US)
#define RAM_BYTES    32
#define MAX_ANSWERS  16

enum {
  STATUS_FULL = 0x01,
  STATUS_SYSTEM = 0x04,
  STATUS_COMMAND = 0x08, /* the last write went to 0x64 */
  STATUS_UNLOCKED = 0x10,
  STATUS_MOUSE = 0x20
};

/* The command byte, which is byte 0 of the controller's RAM. */
enum {
  MODE_KEYBOARD_IRQ = 0x01,
  MODE_MOUSE_IRQ = 0x02,
  MODE_SYSTEM = 0x04,
  MODE_KEYBOARD_OFF = 0x10,
  MODE_MOUSE_OFF = 0x20,
  MODE_TRANSLATE = 0x40
};

enum { PORT_NOT_RESET = 0x01, PORT_A20 = 0x02, PORT_KEYBOARD_FULL = 0x10, PORT_MOUSE_FULL = 0x20, PORT_IDLE = 0xCC };

enum {
  COMMAND_READ_RAM = 0x20,  /* to 0x3F */
  COMMAND_WRITE_RAM = 0x60, /* to 0x7F */
  COMMAND_TEST_PASSWORD = 0xA4,
  COMMAND_LOAD_PASSWORD = 0xA5,
  COMMAND_MOUSE_OFF = 0xA7,
  COMMAND_MOUSE_ON = 0xA8,
  COMMAND_TEST_MOUSE = 0xA9,
  COMMAND_SELF_TEST = 0xAA,
  COMMAND_TEST_KEYBOARD = 0xAB,
  COMMAND_KEYBOARD_OFF = 0xAD,
  COMMAND_KEYBOARD_ON = 0xAE,
  COMMAND_READ_INPUT_PORT = 0xC0,
  COMMAND_READ_OUTPUT_PORT = 0xD0,
  COMMAND_WRITE_OUTPUT_PORT = 0xD1,
  COMMAND_FAKE_KEYBOARD = 0xD2,
  COMMAND_FAKE_MOUSE = 0xD3,
  COMMAND_TO_MOUSE = 0xD4,
  COMMAND_A20_OFF = 0xDD,
  COMMAND_A20_ON = 0xDF,
  COMMAND_READ_TEST_INPUTS = 0xE0,
  COMMAND_PULSE = 0xF0 /* to 0xFF; a zero bit pulses a line low */
};

typedef struct I8042 {
  VmDevice dev;
  I8042Wiring wiring;
  VmInputHandler handler;
  unsigned handler_id;
  Ps2Keyboard keyboard;
  Ps2Mouse mouse;
  uint8_t ram[RAM_BYTES];
  uint8_t status;
  uint8_t data;
  uint8_t output_port; /* bits 0 and 1, as written */
  uint8_t command;     /* waits for its argument; 0: none */
  /* The controller's answers that wait: values, and a bit each that they look like the mouse's. */
  uint8_t answers[MAX_ANSWERS];
  uint8_t n_answers;
  uint16_t mouse_answers;
  int64_t earliest_event_ns;
  VmTimer timer;
} I8042;

static const VmField i8042_fields[] = {
  VM_TRANSIENT(I8042, wiring, "wiring"),
  VM_TRANSIENT(I8042, handler, "wiring"),
  VM_TRANSIENT(I8042, handler_id, "wiring"),
  VM_STRUCT(I8042, keyboard, ps2_keyboard_fields),
  VM_STRUCT(I8042, mouse, ps2_mouse_fields),
  VM_BYTES(I8042, ram),
  VM_UINT(I8042, status),
  VM_UINT(I8042, data),
  VM_UINT(I8042, output_port),
  VM_UINT(I8042, command),
  VM_BYTES(I8042, answers),
  VM_UINT_MAX(I8042, n_answers, MAX_ANSWERS),
  VM_UINT(I8042, mouse_answers),
  VM_UINT_MAX(I8042, earliest_event_ns, INT64_MAX),
  VM_TIMER(I8042, timer),
  VM_FIELDS_END,
};

/* ---- output buffer ---------------------------------------------------------------------------------------------------- */

static void update_irqs(I8042 *kbc)
{
  bool full = (kbc->status & STATUS_FULL) != 0, mouse = (kbc->status & STATUS_MOUSE) != 0;
  vm_irq_set(&kbc->wiring.keyboard, full && !mouse && (kbc->ram[0] & MODE_KEYBOARD_IRQ));
  vm_irq_set(&kbc->wiring.mouse, full && mouse && (kbc->ram[0] & MODE_MOUSE_IRQ));
}

static void load(I8042 *kbc, uint8_t byte, bool mouse)
{
  kbc->data = byte;
  kbc->status = (kbc->status & ~STATUS_MOUSE) | STATUS_FULL | (mouse ? STATUS_MOUSE : 0);
  update_irqs(kbc);
}

static void answer(I8042 *kbc, uint8_t byte, bool mouse)
{
  if (kbc->n_answers == MAX_ANSWERS)
    return;
  kbc->answers[kbc->n_answers] = byte;
  kbc->mouse_answers = (uint16_t)((kbc->mouse_answers & ~(1u << kbc->n_answers)) | (unsigned)mouse << kbc->n_answers);
  kbc->n_answers++;
}

static bool load_own_answer(I8042 *kbc)
{
  if (kbc->n_answers == 0)
    return false;
  uint8_t byte = kbc->answers[0];
  bool mouse = kbc->mouse_answers & 1;
  kbc->n_answers--;
  memmove(kbc->answers, kbc->answers + 1, kbc->n_answers);
  kbc->mouse_answers >>= 1;
  load(kbc, byte, mouse);
  return true;
}

static bool keyboard_is_on(const I8042 *kbc)
{
  return !(kbc->ram[0] & MODE_KEYBOARD_OFF);
}
static bool mouse_is_on(const I8042 *kbc)
{
  return !(kbc->ram[0] & MODE_MOUSE_OFF);
}
static bool translates(const I8042 *kbc)
{
  return (kbc->ram[0] & MODE_TRANSLATE) != 0;
}

static bool load_device_answer(I8042 *kbc)
{
  uint8_t byte;
  if (keyboard_is_on(kbc) && ps2_keyboard_take_reply(&kbc->keyboard, &byte)) {
    load(kbc, translates(kbc) ? ps2_translate(byte) : byte, false);
    return true;
  }
  if (mouse_is_on(kbc) && ps2_mouse_take_reply(&kbc->mouse, &byte)) {
    load(kbc, byte, true);
    return true;
  }
  return false;
}

/* Translation makes one byte of a release's two; the keyboard queues whole sequences, so the second is there. */
static bool load_key(I8042 *kbc)
{
  uint8_t byte, release = 0;
  if (!keyboard_is_on(kbc) || !ps2_keyboard_take_event(&kbc->keyboard, &byte))
    return false;
  if (translates(kbc)) {
    if (byte == 0xF0 && ps2_keyboard_take_event(&kbc->keyboard, &byte))
      release = 0x80;
    byte = ps2_translate(byte) | release;
  }
  load(kbc, byte, false);
  return true;
}

static int64_t now_ns(const I8042 *kbc)
{
  return vm_clock_get_ns(vm_get_clock(kbc->dev.vm));
}

/* Fills the buffer if it is empty and there is something, or sees to it later. */
static void pump(void *opaque)
{
  I8042 *kbc = opaque;
  if ((kbc->status & STATUS_FULL) || load_own_answer(kbc) || load_device_answer(kbc))
    return;
  int64_t now = now_ns(kbc), mouse_ns;
  bool key = keyboard_is_on(kbc) && kbc->keyboard.events.count > 0;
  bool mouse = mouse_is_on(kbc) && ps2_mouse_has_event(&kbc->mouse, &mouse_ns);
  uint8_t byte;
  if (!key && !mouse)
    return;
  int64_t when = key ? kbc->earliest_event_ns : MAX(kbc->earliest_event_ns, mouse_ns);
  if (now < when)
    vm_timer_set(&kbc->timer, when);
  else if (key)
    load_key(kbc);
  else if (ps2_mouse_take_event(&kbc->mouse, now, &byte))
    load(kbc, byte, true);
}

static uint8_t read_data(I8042 *kbc)
{
  uint8_t byte = kbc->data;
  if (kbc->status & STATUS_FULL) {
    kbc->status &= ~(STATUS_FULL | STATUS_MOUSE);
    update_irqs(kbc);
    kbc->earliest_event_ns = now_ns(kbc) + EVENT_GAP_NS;
    pump(kbc);
  }
  return byte;
}

/* ---- commands --------------------------------------------------------------------------------------------------------- */

static uint8_t read_output_port(const I8042 *kbc)
{
  uint8_t value = PORT_IDLE | kbc->output_port;
  if (kbc->status & STATUS_FULL)
    value |= kbc->status & STATUS_MOUSE ? PORT_MOUSE_FULL : PORT_KEYBOARD_FULL;
  return value;
}

static void write_output_port(I8042 *kbc, uint8_t value)
{
  kbc->output_port = (value & PORT_A20) | PORT_NOT_RESET;
  vm_irq_set(&kbc->wiring.a20, (value & PORT_A20) != 0);
  if (!(value & PORT_NOT_RESET))
    vm_request_reset(kbc->dev.vm);
}

static void write_ram(I8042 *kbc, unsigned index, uint8_t value)
{
  kbc->ram[index] = value;
  if (index != 0)
    return;
  kbc->status = (kbc->status & ~STATUS_SYSTEM) | (value & MODE_SYSTEM ? STATUS_SYSTEM : 0);
  update_irqs(kbc);
}

static void set_mode_bits(I8042 *kbc, uint8_t clear, uint8_t set)
{
  write_ram(kbc, 0, (kbc->ram[0] & ~clear) | set);
}

static void run_fixed_answer(I8042 *kbc, uint8_t command)
{
  static const struct {
    uint8_t command, value;
  } fixed[] = {
    { COMMAND_TEST_PASSWORD, 0xF1 },   /* none is installed */
    { COMMAND_TEST_MOUSE, 0x00 },      /* no fault */
    { COMMAND_TEST_KEYBOARD, 0x00 },   /* no fault */
    { COMMAND_READ_INPUT_PORT, 0xA0 }, /* not locked, no manufacturing jumper */
    { COMMAND_READ_TEST_INPUTS, 0x00 },
  };
  for (size_t i = 0; i < G_N_ELEMENTS(fixed); i++)
    if (fixed[i].command == command)
      answer(kbc, fixed[i].value, false);
}

static void run_command(I8042 *kbc, uint8_t command)
{
  kbc->command = 0;
  if (command >= COMMAND_READ_RAM && command < COMMAND_READ_RAM + RAM_BYTES) {
    answer(kbc, kbc->ram[command - COMMAND_READ_RAM], false);
    return;
  }
  if (command >= COMMAND_PULSE) {
    if (!(command & PORT_NOT_RESET))
      vm_request_reset(kbc->dev.vm);
    return;
  }
  switch (command) {
  case COMMAND_LOAD_PASSWORD:
  case COMMAND_WRITE_OUTPUT_PORT:
  case COMMAND_FAKE_KEYBOARD:
  case COMMAND_FAKE_MOUSE:
  case COMMAND_TO_MOUSE:
    kbc->command = command;
    break;
  case COMMAND_MOUSE_OFF:
    set_mode_bits(kbc, 0, MODE_MOUSE_OFF);
    break;
  case COMMAND_MOUSE_ON:
    set_mode_bits(kbc, MODE_MOUSE_OFF, 0);
    break;
  case COMMAND_KEYBOARD_OFF:
    set_mode_bits(kbc, 0, MODE_KEYBOARD_OFF);
    break;
  case COMMAND_KEYBOARD_ON:
    set_mode_bits(kbc, MODE_KEYBOARD_OFF, 0);
    break;
  case COMMAND_SELF_TEST:
    set_mode_bits(kbc, 0, MODE_SYSTEM);
    answer(kbc, 0x55, false);
    break;
  case COMMAND_READ_OUTPUT_PORT:
    answer(kbc, read_output_port(kbc), false);
    break;
  case COMMAND_A20_OFF:
    write_output_port(kbc, PORT_NOT_RESET);
    break;
  case COMMAND_A20_ON:
    write_output_port(kbc, PORT_NOT_RESET | PORT_A20);
    break;
  default:
    if (command >= COMMAND_WRITE_RAM && command < COMMAND_WRITE_RAM + RAM_BYTES)
      kbc->command = command;
    else
      run_fixed_answer(kbc, command);
    break;
  }
}

/* A byte for a device also switches its wire on. */
static void send_to_keyboard(I8042 *kbc, uint8_t byte)
{
  kbc->ram[0] &= ~MODE_KEYBOARD_OFF;
  ps2_keyboard_write(&kbc->keyboard, byte);
}

static void send_to_mouse(I8042 *kbc, uint8_t byte)
{
  kbc->ram[0] &= ~MODE_MOUSE_OFF;
  ps2_mouse_write(&kbc->mouse, byte);
}

static void write_data(I8042 *kbc, uint8_t byte)
{
  uint8_t command = kbc->command;
  kbc->command = 0;
  switch (command) {
  case 0:
    send_to_keyboard(kbc, byte);
    break;
  case COMMAND_LOAD_PASSWORD: /* ends with a zero; none can be installed */
    kbc->command = byte != 0 ? command : 0;
    break;
  case COMMAND_WRITE_OUTPUT_PORT:
    write_output_port(kbc, byte);
    break;
  case COMMAND_FAKE_KEYBOARD:
  case COMMAND_FAKE_MOUSE:
    answer(kbc, byte, command == COMMAND_FAKE_MOUSE);
    break;
  case COMMAND_TO_MOUSE:
    send_to_mouse(kbc, byte);
    break;
  default:
    write_ram(kbc, command & (RAM_BYTES - 1), byte);
    break;
  }
}

/* ---- ports ------------------------------------------------------------------------------------------------------------ */

static uint64_t data_read(void *opaque, uint64_t offset, unsigned size)
{
  return read_data(opaque);
}

static void data_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I8042 *kbc = opaque;
  kbc->status &= ~STATUS_COMMAND;
  write_data(kbc, (uint8_t)value);
  pump(kbc);
}

static uint64_t status_read(void *opaque, uint64_t offset, unsigned size)
{
  const I8042 *kbc = opaque;
  return kbc->status;
}

static void command_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I8042 *kbc = opaque;
  kbc->status |= STATUS_COMMAND;
  run_command(kbc, (uint8_t)value);
  pump(kbc);
}

static const VmMmioOps data_ops = { .read = data_read, .write = data_write, .impl_min = 1, .impl_max = 1 };
static const VmMmioOps command_ops = { .read = status_read, .write = command_write, .impl_min = 1, .impl_max = 1 };

/* ---- the person's side ------------------------------------------------------------------------------------------------- */

static void on_key(void *opaque, uint16_t evdev_code, bool down)
{
  ps2_keyboard_key(&((I8042 *)opaque)->keyboard, evdev_code, down);
}

static void on_button(void *opaque, unsigned button, bool down)
{
  ps2_mouse_button(&((I8042 *)opaque)->mouse, button, down);
}

static void on_move(void *opaque, int dx, int dy)
{
  ps2_mouse_move(&((I8042 *)opaque)->mouse, dx, dy);
}

static void on_wheel(void *opaque, int vertical, int horizontal)
{
  ps2_mouse_wheel(&((I8042 *)opaque)->mouse, vertical);
}

/* ---- device ------------------------------------------------------------------------------------------------------------ */

static void i8042_reset(VmDevice *dev)
{
  I8042 *kbc = (I8042 *)dev;
  memset(kbc->ram, 0, sizeof kbc->ram);
  kbc->ram[0] = MODE_KEYBOARD_IRQ | MODE_MOUSE_IRQ;
  kbc->status = STATUS_COMMAND | STATUS_UNLOCKED;
  kbc->data = 0;
  kbc->output_port = PORT_NOT_RESET | PORT_A20;
  kbc->command = 0;
  kbc->n_answers = 0;
  kbc->mouse_answers = 0;
  kbc->earliest_event_ns = 0;
  vm_timer_cancel(&kbc->timer);
  ps2_keyboard_reset(&kbc->keyboard);
  ps2_mouse_reset(&kbc->mouse);
  vm_irq_raise(&kbc->wiring.a20);
  update_irqs(kbc);
}

static bool i8042_validate(const VmDevice *scratch, GError **error)
{
  const I8042 *kbc = (const I8042 *)scratch;
  if (ps2_mouse_is_valid(&kbc->mouse) && kbc->keyboard.scan_set >= 1)
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of keyboard controller %s is impossible", scratch->id);
  return false;
}

static void i8042_loaded(VmDevice *dev)
{
  I8042 *kbc = (I8042 *)dev;
  vm_input_set_leds(vm_get_input(dev->vm), kbc->keyboard.leds);
  vm_irq_set(&kbc->wiring.a20, (kbc->output_port & PORT_A20) != 0);
  update_irqs(kbc);
}

static void i8042_finish(VmDevice *dev)
{
  I8042 *kbc = (I8042 *)dev;
  vm_input_remove_handler(vm_get_input(dev->vm), kbc->handler_id);
  vm_timer_finish(&kbc->timer);
}

const VmDeviceType i8042_type = {
  .name = "i8042",
  .version = 1,
  .size = sizeof(I8042),
  .fields = i8042_fields,
  .reset = i8042_reset,
  .validate = i8042_validate,
  .loaded = i8042_loaded,
  .finish = i8042_finish,
};

VmDevice *i8042_new(Vm *vm, const char *id, const I8042Wiring *wiring)
{
  I8042 *kbc = vm_device_new(vm, &i8042_type, id);
  VmMemory *memory = vm_get_memory(vm);
  kbc->wiring = *wiring;
  vm_timer_init(&kbc->timer, kbc->dev.ctx, pump, kbc);
  ps2_keyboard_init(&kbc->keyboard, vm_get_input(vm), pump, kbc);
  ps2_mouse_init(&kbc->mouse, pump, kbc);
  kbc->handler = (VmInputHandler){ .key = on_key, .button = on_button, .move_relative = on_move, .wheel = on_wheel };
  kbc->handler_id = vm_input_add_handler(vm_get_input(vm), &kbc->handler, kbc);
  vm_region_new_io(memory, "i8042-data", VM_SPACE_PORTS, 0x60, 1, 0, &data_ops, kbc, kbc->dev.ctx);
  vm_region_new_io(memory, "i8042-command", VM_SPACE_PORTS, 0x64, 1, 0, &command_ops, kbc, kbc->dev.ctx);
  return &kbc->dev;
}
