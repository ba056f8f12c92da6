/*
 * The keyboard controller with its keyboard and mouse, through the ports and the machine's input.
 */
#include <linux/input-event-codes.h>

#include "hw/input/i8042.h"
#include "hw/input/ps2.h"
#include "vm-engine/input.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

typedef struct Rig {
  Vm *vm;
  VmMemory *memory;
  VmInput *input;
  VmDevice *dev;
  bool lines[3]; /* keyboard, mouse, A20 */
  unsigned edges[3];
} Rig;

static void on_line(void *opaque, unsigned line, bool level)
{
  Rig *rig = opaque;
  rig->edges[line] += level && !rig->lines[line];
  rig->lines[line] = level;
}

static void reset(Rig *rig)
{
  vm_io_context_lock(vm_get_io_context(rig->vm));
  rig->dev->type->reset(rig->dev);
  vm_io_context_unlock(vm_get_io_context(rig->vm));
}

static Rig *rig_new(void)
{
  Rig *rig = g_new0(Rig, 1);
  rig->vm = vm_new_manual();
  rig->memory = vm_get_memory(rig->vm);
  rig->input = vm_get_input(rig->vm);
  I8042Wiring wiring = { { on_line, rig, 0 }, { on_line, rig, 1 }, { on_line, rig, 2 } };
  vm_io_context_lock(vm_get_io_context(rig->vm));
  rig->dev = i8042_new(rig->vm, "kbc", &wiring);
  vm_io_context_unlock(vm_get_io_context(rig->vm));
  reset(rig);
  return rig;
}

static void rig_free(Rig *rig)
{
  vm_free(rig->vm);
  g_free(rig);
}

static void step(Rig *rig, int64_t ns)
{
  vm_io_context_step(vm_get_io_context(rig->vm), ns);
}
static void out60(Rig *rig, uint8_t value)
{
  vm_port_write(rig->memory, 0x60, value, 1);
}
static void out64(Rig *rig, uint8_t value)
{
  vm_port_write(rig->memory, 0x64, value, 1);
}
static uint8_t in60(Rig *rig)
{
  return (uint8_t)vm_port_read(rig->memory, 0x60, 1);
}
static uint8_t in64(Rig *rig)
{
  return (uint8_t)vm_port_read(rig->memory, 0x64, 1);
}

/* Everything that comes within the time, as hexadecimal text; the mouse's bytes with an "m". */
static char *dup_bytes(Rig *rig)
{
  GString *text = g_string_new(NULL);
  for (unsigned i = 0; i < 40000; i++) {
    uint8_t status = in64(rig);
    if (status & 1)
      g_string_append_printf(text, "%s%s%02x", text->len ? " " : "", status & 0x20 ? "m" : "", in60(rig));
    step(rig, 20 * VM_NS_PER_US);
    if (!(status & 1) && i > 2000 + text->len * 10)
      break;
  }
  return g_string_free(text, FALSE);
}

#define assert_bytes(rig, expected)                                                                                    \
  G_STMT_START                                                                                                         \
  {                                                                                                                    \
    g_autofree char *bytes_ = dup_bytes(rig);                                                                          \
    g_assert_cmpstr(bytes_, ==, expected);                                                                             \
  }                                                                                                                    \
  G_STMT_END

static void set_mode(Rig *rig, uint8_t mode)
{
  out64(rig, 0x60);
  out60(rig, mode);
}

static void send_mouse(Rig *rig, uint8_t byte)
{
  out64(rig, 0xD4);
  out60(rig, byte);
}

static void tap(Rig *rig, uint16_t key)
{
  vm_input_key(rig->input, key, true);
  vm_input_key(rig->input, key, false);
  step(rig, 0);
}

static void test_type(void)
{
  g_autoptr(GError) error = NULL;
  g_assert_true(vm_device_type_check(&i8042_type, &error));
  g_assert_no_error(error);
}

static void test_controller(void)
{
  Rig *rig = rig_new();
  g_assert_cmphex(in64(rig), ==, 0x18);
  out64(rig, 0xAA);
  assert_bytes(rig, "55");
  g_assert_cmphex(in64(rig) & 4, ==, 4);
  out64(rig, 0xAB);
  assert_bytes(rig, "00");
  out64(rig, 0xA9);
  assert_bytes(rig, "00");
  set_mode(rig, 0x47);
  out64(rig, 0xA7);
  out64(rig, 0xAD);
  out64(rig, 0x20);
  assert_bytes(rig, "77");
  out64(rig, 0xA8);
  out64(rig, 0xAE);
  out64(rig, 0x20);
  assert_bytes(rig, "47");
  out64(rig, 0x6A); /* a byte of the controller's RAM */
  out60(rig, 0x5C);
  out64(rig, 0x2A);
  assert_bytes(rig, "5c");
  out64(rig, 0xD2);
  out60(rig, 0x99);
  out64(rig, 0xD3);
  out60(rig, 0x98);
  assert_bytes(rig, "99 m98");
  out64(rig, 0x77); /* unknown or without an answer */
  out60(rig, 1);
  out64(rig, 0xB5);
  assert_bytes(rig, "");
  rig_free(rig);
}

static void test_output_port(void)
{
  Rig *rig = rig_new();
  g_assert_true(rig->lines[2]);
  out64(rig, 0xD1);
  out60(rig, 0xDD);
  g_assert_false(rig->lines[2]);
  out64(rig, 0xD0);
  assert_bytes(rig, "cd");
  out64(rig, 0xDF);
  g_assert_true(rig->lines[2]);
  out64(rig, 0xDD);
  g_assert_false(rig->lines[2]);
  reset(rig);
  g_assert_true(rig->lines[2]);
  rig_free(rig);
}

static void on_event(Vm *vm, VmEvent event, const char *text, void *opaque)
{
  if (event == VM_EVENT_RESET)
    ++*(unsigned *)opaque;
}

static void test_reset_pulse(void)
{
  Rig *rig = rig_new();
  unsigned resets = 0;
  vm_add_listener(rig->vm, on_event, &resets);
  vm_start(rig->vm);
  step(rig, VM_NS_PER_MS);
  out64(rig, 0xFF); /* pulses nothing */
  step(rig, VM_NS_PER_MS);
  g_assert_cmpuint(resets, ==, 0);
  out64(rig, 0xFE);
  step(rig, VM_NS_PER_MS);
  g_assert_cmpuint(resets, ==, 1);
  out64(rig, 0xD1);
  out60(rig, 0x02);
  step(rig, VM_NS_PER_MS);
  g_assert_cmpuint(resets, ==, 2);
  rig_free(rig);
}

static void test_keyboard_commands(void)
{
  Rig *rig = rig_new();
  out60(rig, 0xEE);
  assert_bytes(rig, "ee");
  out60(rig, 0xFF);
  assert_bytes(rig, "fa aa");
  out60(rig, 0xF2);
  assert_bytes(rig, "fa ab 83");
  out60(rig, 0xED);
  assert_bytes(rig, "fa");
  out60(rig, 0x06);
  assert_bytes(rig, "fa");
  g_assert_cmpuint(vm_input_get_leds(rig->input), ==, 6);
  out60(rig, 0xF0);
  out60(rig, 0x00);
  assert_bytes(rig, "fa fa 02");
  out60(rig, 0xFE);
  assert_bytes(rig, "02");
  out60(rig, 0x12); /* no command */
  assert_bytes(rig, "fe");
  out60(rig, 0xF3);
  out60(rig, 0x00);
  assert_bytes(rig, "fa fa");
  out60(rig, 0xF5);
  assert_bytes(rig, "fa");
  tap(rig, KEY_A);
  assert_bytes(rig, "");
  out60(rig, 0xF4);
  assert_bytes(rig, "fa");
  tap(rig, KEY_A);
  assert_bytes(rig, "1c f0 1c");
  /* Translation touches answers too. */
  set_mode(rig, 0x40);
  out60(rig, 0xF2);
  assert_bytes(rig, "fa ab 41");
  rig_free(rig);
}

typedef struct KeyCase {
  uint16_t key;
  const char *set1, *set2, *set3;
} KeyCase;

static void check_keys(uint8_t set, bool translated)
{
  static const KeyCase cases[] = {
    { KEY_ESC, "01 81", "76 f0 76", "08 f0 08" },
    { KEY_F7, "41 c1", "83 f0 83", "37 f0 37" },
    { KEY_F12, "58 d8", "07 f0 07", "5e f0 5e" },
    { KEY_102ND, "56 d6", "61 f0 61", "13 f0 13" },
    { KEY_UP, "e0 48 e0 c8", "e0 75 e0 f0 75", "63 f0 63" },
    { KEY_KPENTER, "e0 1c e0 9c", "e0 5a e0 f0 5a", "79 f0 79" },
    { KEY_LEFTMETA, "e0 5b e0 db", "e0 1f e0 f0 1f", "8b f0 8b" },
    { KEY_COMPOSE, "e0 5d e0 dd", "e0 2f e0 f0 2f", "8d f0 8d" },
    { KEY_PAUSE, "e1 1d 45 e1 9d c5", "e1 14 77 e1 f0 14 f0 77", "62 f0 62" },
    { KEY_SYSRQ, "e0 2a e0 37 e0 b7 e0 aa", "e0 12 e0 7c e0 f0 7c e0 f0 12", "57 f0 57" },
    { KEY_RO, "73 f3", "51 f0 51", "51 f0 51" },
    { KEY_YEN, "7d fd", "6a f0 6a", "5d f0 5d" },
    { KEY_KATAKANAHIRAGANA, "70 f0", "13 f0 13", "87 f0 87" },
    { KEY_HENKAN, "79 f9", "64 f0 64", "86 f0 86" },
    { KEY_MUHENKAN, "7b fb", "67 f0 67", "85 f0 85" },
    { KEY_HANGEUL, "f2", "f2", "" },
    { KEY_POWER, "e0 5e e0 de", "e0 37 e0 f0 37", "" },
    { KEY_SLEEP, "e0 5f e0 df", "e0 3f e0 f0 3f", "" },
    { KEY_VOLUMEUP, "e0 30 e0 b0", "e0 32 e0 f0 32", "" },
    { KEY_PLAYPAUSE, "e0 22 e0 a2", "e0 34 e0 f0 34", "" },
    { KEY_F24, "76 f6", "5f f0 5f", "" },
    { KEY_MICMUTE, "", "", "" },
    { 700, "", "", "" },
  };
  Rig *rig = rig_new();
  set_mode(rig, translated ? 0x40 : 0);
  out60(rig, 0xF0);
  out60(rig, set);
  out60(rig, 0xFA); /* set 3: all keys tell their release */
  g_free(dup_bytes(rig));
  for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
    tap(rig, cases[i].key);
    assert_bytes(rig, translated || set == 1 ? cases[i].set1 : set == 2 ? cases[i].set2 : cases[i].set3);
  }
  rig_free(rig);
}

static void test_scan_sets(void)
{
  check_keys(2, true);
  check_keys(2, false);
  check_keys(1, false);
  check_keys(3, false);
}

/* Every key of the 105 has a code, and no two the same. */
static void test_all_keys(void)
{
  g_autoptr(GHashTable) seen = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
  Rig *rig = rig_new();
  set_mode(rig, 0x40);
  unsigned n = 0;
  for (uint16_t key = KEY_ESC; key <= KEY_COMPOSE; key++) {
    if (key == KEY_HANGEUL || key == KEY_HANJA || key == KEY_F24)
      continue;
    vm_input_key(rig->input, key, true);
    step(rig, 0);
    char *code = dup_bytes(rig);
    n += *code != '\0';
    if (*code != '\0')
      g_assert_true(g_hash_table_add(seen, code));
    else
      g_free(code);
    vm_input_key(rig->input, key, false);
    step(rig, 0);
    g_free(dup_bytes(rig));
  }
  g_assert_cmpuint(n, >=, 115);
  rig_free(rig);
}

static void test_modified_keys(void)
{
  Rig *rig = rig_new();
  set_mode(rig, 0x40);
  vm_input_key(rig->input, KEY_LEFTCTRL, true);
  tap(rig, KEY_PAUSE);
  tap(rig, KEY_SYSRQ);
  vm_input_key(rig->input, KEY_LEFTCTRL, false);
  step(rig, 0);
  assert_bytes(rig, "1d e0 46 e0 c6 e0 37 e0 b7 9d");
  vm_input_key(rig->input, KEY_RIGHTALT, true);
  tap(rig, KEY_SYSRQ);
  vm_input_key(rig->input, KEY_RIGHTALT, false);
  step(rig, 0);
  assert_bytes(rig, "e0 38 54 d4 e0 b8");
  rig_free(rig);
}

static void test_set3_modes(void)
{
  Rig *rig = rig_new();
  out60(rig, 0xF0);
  out60(rig, 3);
  g_free(dup_bytes(rig));
  tap(rig, KEY_A); /* by default only the press of most keys is told */
  tap(rig, KEY_LEFTSHIFT);
  assert_bytes(rig, "1c 12 f0 12");
  out60(rig, 0xFC); /* make and break for A and B */
  out60(rig, 0x1C);
  out60(rig, 0x32);
  out60(rig, 0xF4);
  g_free(dup_bytes(rig));
  vm_input_key(rig->input, KEY_A, true);
  tap(rig, KEY_A); /* and no repeat */
  tap(rig, KEY_B);
  tap(rig, KEY_C);
  assert_bytes(rig, "1c f0 1c 32 f0 32 21");
  rig_free(rig);
}

static void test_overrun(void)
{
  Rig *rig = rig_new();
  set_mode(rig, 0x00);
  for (unsigned i = 0; i < 1000; i++)
    tap(rig, KEY_PAUSE);
  g_autofree char *bytes = dup_bytes(rig);
  g_assert_true(g_str_has_suffix(bytes, " 77 00"));
  g_assert_null(strstr(bytes, "00 "));
  tap(rig, KEY_A);
  assert_bytes(rig, "1c f0 1c");
  rig_free(rig);
}

static void test_interrupts(void)
{
  Rig *rig = rig_new();
  set_mode(rig, 0x43);
  tap(rig, KEY_A);
  g_assert_true(rig->lines[0]);
  g_assert_cmphex(in60(rig), ==, 0x1E);
  g_assert_false(rig->lines[0]);
  g_assert_cmphex(in60(rig), ==, 0x1E); /* the next byte leaves time for a second look */
  step(rig, 300 * VM_NS_PER_US);
  g_assert_true(rig->lines[0]);
  g_assert_cmpuint(rig->edges[0], ==, 2);
  g_assert_cmphex(in60(rig), ==, 0x9E);
  /* A wire that is off keeps the bytes. */
  out64(rig, 0xAD);
  tap(rig, KEY_B);
  step(rig, VM_NS_PER_MS);
  g_assert_cmphex(in64(rig) & 1, ==, 0);
  out64(rig, 0xAE);
  g_assert_cmphex(in64(rig) & 1, ==, 1);
  assert_bytes(rig, "30 b0");
  /* The controller's answer waits for the byte that is in the buffer. */
  tap(rig, KEY_C);
  out64(rig, 0x20);
  assert_bytes(rig, "2e 43 ae");
  set_mode(rig, 0x40);
  tap(rig, KEY_A);
  g_assert_false(rig->lines[0]);
  g_free(dup_bytes(rig));
  send_mouse(rig, 0xF4);
  set_mode(rig, 0x42);
  g_assert_true(rig->lines[1]);
  assert_bytes(rig, "mfa");
  g_assert_false(rig->lines[1]);
  rig_free(rig);
}

static void test_mouse_commands(void)
{
  Rig *rig = rig_new();
  send_mouse(rig, 0xFF);
  assert_bytes(rig, "mfa maa m00");
  send_mouse(rig, 0xE9);
  assert_bytes(rig, "mfa m00 m02 m64");
  send_mouse(rig, 0xE8);
  send_mouse(rig, 0x03);
  send_mouse(rig, 0xF3);
  send_mouse(rig, 200);
  send_mouse(rig, 0xE7);
  send_mouse(rig, 0xF4);
  g_free(dup_bytes(rig));
  vm_input_button(rig->input, VM_BUTTON_RIGHT, true);
  step(rig, 0);
  g_free(dup_bytes(rig));
  send_mouse(rig, 0xE9);
  assert_bytes(rig, "mfa m31 m03 mc8");
  send_mouse(rig, 0xF3);
  send_mouse(rig, 33); /* no such rate */
  assert_bytes(rig, "mfa mfe");
  send_mouse(rig, 0xEE);
  send_mouse(rig, 0xE9);
  assert_bytes(rig, "mfa me9");
  send_mouse(rig, 0x12);
  send_mouse(rig, 0xEC);
  assert_bytes(rig, "m12 mfa");
  send_mouse(rig, 0xF6);
  send_mouse(rig, 0xF0);
  g_free(dup_bytes(rig));
  vm_input_move_relative(rig->input, 5, 7);
  step(rig, 0);
  assert_bytes(rig, ""); /* in remote mode it is asked */
  send_mouse(rig, 0xEB);
  assert_bytes(rig, "mfa m2a m05 mf9");
  rig_free(rig);
}

static void set_rates(Rig *rig, uint8_t a, uint8_t b, uint8_t c)
{
  const uint8_t rates[3] = { a, b, c };
  for (unsigned i = 0; i < 3; i++) {
    send_mouse(rig, 0xF3);
    send_mouse(rig, rates[i]);
  }
  g_free(dup_bytes(rig));
}

static void test_mouse_packets(void)
{
  Rig *rig = rig_new();
  vm_input_move_relative(rig->input, 9, 9); /* not enabled: nothing */
  step(rig, 0);
  send_mouse(rig, 0xF4);
  assert_bytes(rig, "mfa");
  vm_input_move_relative(rig->input, 3, -4);
  step(rig, 0);
  assert_bytes(rig, "m08 m03 m04");
  vm_input_move_relative(rig->input, -600, 0); /* more than a packet carries */
  step(rig, 0);
  assert_bytes(rig, "m18 m01 m00 m18 m01 m00 m18 ma6 m00");
  /* A click that is over before the guest looks. */
  vm_input_move_relative(rig->input, 1, 0);
  vm_input_button(rig->input, VM_BUTTON_LEFT, true);
  vm_input_button(rig->input, VM_BUTTON_LEFT, false);
  vm_input_move_relative(rig->input, 2, 0);
  step(rig, 0);
  assert_bytes(rig, "m08 m01 m00 m09 m00 m00 m08 m02 m00");
  vm_input_wheel(rig->input, 1, 0);
  vm_input_button(rig->input, VM_BUTTON_MIDDLE, true);
  step(rig, 0);
  assert_bytes(rig, "m0c m00 m00");
  set_rates(rig, 200, 100, 80);
  send_mouse(rig, 0xF2);
  assert_bytes(rig, "mfa m03");
  vm_input_wheel(rig->input, 1, 0);
  vm_input_wheel(rig->input, -2, 0);
  step(rig, 0);
  g_autofree char *wheel = dup_bytes(rig);
  g_assert_true(g_str_equal(wheel, "m0c m00 m00 m01") || g_str_equal(wheel, "m0c m00 m00 mff m0c m00 m00 m02"));
  set_rates(rig, 200, 200, 80);
  send_mouse(rig, 0xF2);
  assert_bytes(rig, "mfa m04");
  vm_input_button(rig->input, VM_BUTTON_EXTRA, true);
  step(rig, 0);
  assert_bytes(rig, "m0c m00 m00 m20");
  vm_input_button(rig->input, VM_BUTTON_EXTRA, false);
  vm_input_button(rig->input, VM_BUTTON_SIDE, true);
  vm_input_wheel(rig->input, 3, 0);
  step(rig, 0);
  assert_bytes(rig, "m0c m00 m00 m00 m0c m00 m00 m1d");
  rig_free(rig);
}

/* While the guest does not look, movement adds up; and packets keep to the sample rate. */
static void test_mouse_pace(void)
{
  Rig *rig = rig_new();
  send_mouse(rig, 0xF3);
  send_mouse(rig, 10);
  send_mouse(rig, 0xF4);
  g_free(dup_bytes(rig));
  for (unsigned i = 0; i < 50; i++) {
    vm_input_move_relative(rig->input, 2, 0);
    step(rig, VM_NS_PER_MS);
  }
  assert_bytes(rig, "m08 m02 m00"); /* and no other within the next 40 ms */
  step(rig, 60 * VM_NS_PER_MS);
  assert_bytes(rig, "m08 m62 m00");
  for (unsigned i = 0; i < 100; i++) {
    vm_input_button(rig->input, VM_BUTTON_LEFT, i % 2 == 0);
    vm_input_move_relative(rig->input, 1, 0);
    step(rig, 0);
  }
  reset(rig);
  step(rig, VM_NS_PER_SEC);
  assert_bytes(rig, "");
  rig_free(rig);
}

static void test_hostile(void)
{
  Rig *rig = rig_new();
  GRand *random = g_rand_new_with_seed(8042);
  for (unsigned i = 0; i < 200000; i++) {
    uint32_t value = g_rand_int(random);
    switch (value >> 28) {
    case 0:
      vm_input_key(rig->input, (uint16_t)(value % 800), value >> 20 & 1);
      break;
    case 1:
      vm_input_button(rig->input, value % 8, value >> 20 & 1);
      break;
    case 2:
      vm_input_move_relative(rig->input, (int)value, (int)(value << 3));
      break;
    case 3:
      vm_input_wheel(rig->input, (int)value, 1);
      break;
    case 4:
      step(rig, value % VM_NS_PER_MS);
      break;
    case 5:
    case 6:
      in60(rig);
      break;
    case 7:
      send_mouse(rig, (uint8_t)value);
      break;
    case 8:
    case 9:
      if ((value & 0xF1) != 0xF0) /* not the reset line */
        out64(rig, (uint8_t)value);
      break;
    default:
      out60(rig, (uint8_t)value | 1);
      break;
    }
  }
  g_rand_free(random);
  reset(rig);
  set_mode(rig, 0x40);
  out60(rig, 0xF4);
  g_free(dup_bytes(rig));
  tap(rig, KEY_Z);
  assert_bytes(rig, "2c ac");
  rig_free(rig);
}

static GByteArray *save(Rig *rig)
{
  GByteArray *bytes = g_byte_array_new();
  vm_io_context_lock(vm_get_io_context(rig->vm));
  vm_device_save(rig->dev, bytes);
  vm_io_context_unlock(vm_get_io_context(rig->vm));
  return bytes;
}

static void test_save_load(void)
{
  Rig *rig = rig_new(), *other = rig_new();
  g_autoptr(GError) error = NULL;
  set_mode(rig, 0x43);
  out60(rig, 0xED);
  out60(rig, 0x04);
  g_free(dup_bytes(rig));
  send_mouse(rig, 0xF4);
  out64(rig, 0xDD);
  tap(rig, KEY_Q);
  vm_input_move_relative(rig->input, 3, -4);
  step(rig, 0);
  g_autoptr(GByteArray) bytes = save(rig);
  vm_io_context_lock(vm_get_io_context(other->vm));
  g_assert_true(vm_device_load(other->dev, bytes->data, bytes->len, &error));
  vm_io_context_unlock(vm_get_io_context(other->vm));
  g_autoptr(GByteArray) again = save(other);
  g_assert_cmpmem(bytes->data, bytes->len, again->data, again->len);
  g_assert_false(other->lines[2]);
  g_assert_cmpuint(vm_input_get_leds(other->input), ==, 4);
  assert_bytes(other, "mfa 10 90 m08 m03 m04");
  rig_free(rig);
  rig_free(other);
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/i8042/type", test_type);
  g_test_add_func("/i8042/controller", test_controller);
  g_test_add_func("/i8042/output-port", test_output_port);
  g_test_add_func("/i8042/reset", test_reset_pulse);
  g_test_add_func("/i8042/keyboard-commands", test_keyboard_commands);
  g_test_add_func("/i8042/scan-sets", test_scan_sets);
  g_test_add_func("/i8042/all-keys", test_all_keys);
  g_test_add_func("/i8042/modified-keys", test_modified_keys);
  g_test_add_func("/i8042/set-3", test_set3_modes);
  g_test_add_func("/i8042/overrun", test_overrun);
  g_test_add_func("/i8042/interrupts", test_interrupts);
  g_test_add_func("/i8042/mouse-commands", test_mouse_commands);
  g_test_add_func("/i8042/mouse-packets", test_mouse_packets);
  g_test_add_func("/i8042/mouse-pace", test_mouse_pace);
  g_test_add_func("/i8042/hostile", test_hostile);
  g_test_add_func("/i8042/save-load", test_save_load);
  return g_test_run();
}
