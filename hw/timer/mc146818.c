/*
 * The real-time clock (Motorola MC146818A data sheet) with 128 bytes of memory, as a PC has it.
 *
 * Time is not stepped: it is a source (the host's wall clock, or virtual time from a given start) plus an offset, which
 * the guest changes when it sets the clock. While the guest holds the clock (SET, or the divider in reset) the time
 * registers in `cmos` are the truth; else they are written from the time whenever somebody looks.
 *
 * Interrupt flags are likewise worked out when register C is read. A callback exists only while its interrupt is enabled
 * and its flag is not set already: until the guest reads register C nothing more can be seen.
 *
 * Deviations: daylight saving (DSE) is held without effect. The update-in-progress bit precedes the change of the time
 * by 2228 us, the chip's 244 us and the 1984 us that its update takes; the registers change at the end.
 */
#include "hw/timer/mc146818.h"

#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

enum {
  PORT = 0x70,
  NMI_MASK = 1 << 7,

  REG_SECONDS = 0,
  REG_SECONDS_ALARM = 1,
  REG_MINUTES = 2,
  REG_MINUTES_ALARM = 3,
  REG_HOURS = 4,
  REG_HOURS_ALARM = 5,
  REG_WEEKDAY = 6,
  REG_DAY = 7,
  REG_MONTH = 8,
  REG_YEAR = 9,
  REG_A = 10,
  REG_B = 11,
  REG_C = 12,
  REG_D = 13,
  REG_CENTURY = 0x32,
  REG_CHECKSUM_FIRST = 0x10,
  REG_CHECKSUM = 0x2e,

  A_UIP = 1 << 7,
  A_DIVIDER_RESET = 6 << 4,
  A_RATE = 0xf,
  B_SET = 1 << 7,
  B_PERIODIC = 1 << 6,
  B_ALARM = 1 << 5,
  B_UPDATE = 1 << 4,
  B_BINARY = 1 << 2,
  B_24_HOURS = 1 << 1,
  C_IRQ = 1 << 7,
  C_FLAGS = B_PERIODIC | B_ALARM | B_UPDATE,
  D_VALID = 1 << 7,
  HOUR_PM = 1 << 7,
  ALARM_ANY = 0xc0, /* both bits set: any value matches */

  EQUIPMENT = 0x14,
  SECONDS_PER_DAY = 86400,
};

#define OSCILLATOR_HZ 32768u
#define UPDATE_NS     (2228 * VM_NS_PER_US)
#define NEVER         INT64_MAX
/* What a guest may set: 64 bits of nanoseconds reach from 1678 to 2262. */
#define FIRST_YEAR  1900
#define LAST_YEAR   2190
#define MAX_TIME_NS (INT64_C(7200000000) * VM_NS_PER_SEC)

struct Mc146818 {
  VmDevice dev;
  VmIrq irq;
  VmIrq nmi_mask;
  VmIrq alarm;
  bool follows_host;
  bool inhibited;
  uint8_t index;
  uint8_t weekday_shift; /* what the guest's day of the week is ahead of the calendar's, 0–6 */
  uint8_t cmos[MC146818_CMOS_BYTES];
  int64_t start_wall_ns;  /* time at virtual time 0, where it does not follow the host */
  int64_t offset_ns;      /* the guest's time less the source's */
  int64_t checked_second; /* flags in register C are right up to this second of the guest's time … */
  uint64_t checked_tick;  /* … and this tick of the oscillator */
  VmTimer second_timer;   /* update and alarm */
  VmTimer periodic_timer;
};

static const VmField mc146818_fields[] = {
  VM_TRANSIENT(Mc146818, irq, "wiring"),
  VM_TRANSIENT(Mc146818, nmi_mask, "wiring"),
  VM_TRANSIENT(Mc146818, alarm, "wiring"),
  VM_TRANSIENT(Mc146818, follows_host, "how the machine was made"),
  VM_UINT(Mc146818, inhibited),
  VM_UINT(Mc146818, index),
  VM_UINT_MAX(Mc146818, weekday_shift, 6),
  VM_BYTES(Mc146818, cmos),
  VM_UINT(Mc146818, start_wall_ns),
  VM_UINT(Mc146818, offset_ns),
  VM_UINT(Mc146818, checked_second),
  VM_UINT(Mc146818, checked_tick),
  VM_TIMER(Mc146818, second_timer),
  VM_TIMER(Mc146818, periodic_timer),
  VM_FIELDS_END,
};

/* ---- the calendar ------------------------------------------------------------------------------------------------------- */

typedef struct Date {
  int64_t year;
  unsigned month, day; /* from 1 */
} Date;

/* Floor division, for times before 1970. */
static int64_t floor_div(int64_t value, int64_t divisor)
{
  return value / divisor - (value % divisor < 0 ? 1 : 0);
}

/* Days since 1970-01-01 of a proleptic Gregorian date, counting years from March so that the leap day comes last. */
static int64_t days_from_date(Date date)
{
  int64_t year = date.month > 2 ? date.year : date.year - 1;
  int64_t month = (date.month + 9) % 12;
  int64_t leap_days = floor_div(year, 4) - floor_div(year, 100) + floor_div(year, 400);
  return 365 * year + leap_days + (153 * month + 2) / 5 + (int64_t)date.day - 1 - 719468;
}

static Date date_from_days(int64_t days)
{
  int64_t from_march_0 = days + 719468;
  int64_t era = floor_div(from_march_0, 146097);
  int64_t day_of_era = from_march_0 - era * 146097;
  int64_t year = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  int64_t day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
  int64_t month = (5 * day_of_year + 2) / 153;
  Date date = { .year = era * 400 + year,
                .month = (unsigned)(month < 10 ? month + 3 : month - 9),
                .day = (unsigned)(day_of_year - (153 * month + 2) / 5 + 1) };
  if (date.month <= 2)
    date.year++;
  return date;
}

/* 1 = Sunday. 1970-01-01 was a Thursday. */
static unsigned weekday_of(int64_t days)
{
  return (unsigned)(days + 4 - floor_div(days + 4, 7) * 7) + 1;
}

/* ---- time ------------------------------------------------------------------------------------------------------------------ */

static int64_t get_virtual_ns(const Mc146818 *s)
{
  return vm_clock_get_ns(vm_get_clock(s->dev.vm));
}

static int64_t get_source_ns(const Mc146818 *s)
{
  return s->follows_host ? vm_clock_wall_ns() : s->start_wall_ns + get_virtual_ns(s);
}

static int64_t get_time_ns(const Mc146818 *s)
{
  return get_source_ns(s) + s->offset_ns;
}

static bool is_divider_reset(const Mc146818 *s)
{
  return (s->cmos[REG_A] & A_DIVIDER_RESET) == A_DIVIDER_RESET;
}

static bool is_stopped(const Mc146818 *s)
{
  return (s->cmos[REG_B] & B_SET) || is_divider_reset(s);
}

static uint8_t encode(const Mc146818 *s, unsigned value)
{
  return (uint8_t)(s->cmos[REG_B] & B_BINARY ? value : value / 10 % 10 << 4 | value % 10);
}

static unsigned decode(const Mc146818 *s, uint8_t value)
{
  return s->cmos[REG_B] & B_BINARY ? value : (value >> 4) * 10u + (value & 0xfu);
}

static uint8_t encode_hour(const Mc146818 *s, unsigned hour)
{
  if (s->cmos[REG_B] & B_24_HOURS)
    return encode(s, hour);
  uint8_t twelve = encode(s, hour % 12 == 0 ? 12 : hour % 12);
  return hour >= 12 ? twelve | HOUR_PM : twelve;
}

static unsigned decode_hour(const Mc146818 *s, uint8_t value)
{
  if (s->cmos[REG_B] & B_24_HOURS)
    return decode(s, value);
  return decode(s, value & (uint8_t)~HOUR_PM) % 12 + (value & HOUR_PM ? 12 : 0);
}

/* Writes the time into the registers. */
static void refresh_registers(Mc146818 *s)
{
  if (is_stopped(s))
    return;
  int64_t seconds = floor_div(get_time_ns(s), VM_NS_PER_SEC);
  int64_t days = floor_div(seconds, SECONDS_PER_DAY);
  unsigned second_of_day = (unsigned)(seconds - days * SECONDS_PER_DAY);
  Date date = date_from_days(days);
  unsigned year = (unsigned)CLAMP(date.year, 0, 9999);
  s->cmos[REG_SECONDS] = encode(s, second_of_day % 60);
  s->cmos[REG_MINUTES] = encode(s, second_of_day / 60 % 60);
  s->cmos[REG_HOURS] = encode_hour(s, second_of_day / 3600);
  s->cmos[REG_WEEKDAY] = encode(s, (weekday_of(days) - 1 + s->weekday_shift) % 7 + 1);
  s->cmos[REG_DAY] = encode(s, date.day);
  s->cmos[REG_MONTH] = encode(s, date.month);
  s->cmos[REG_YEAR] = encode(s, year % 100);
  s->cmos[REG_CENTURY] = encode(s, year / 100);
}

/* The seconds since 1970 that the registers say. Values out of range roll over, or are cut where that would not end. */
static int64_t seconds_from_registers(const Mc146818 *s, int64_t *days)
{
  int64_t year = (int64_t)decode(s, s->cmos[REG_CENTURY]) % 100 * 100 + decode(s, s->cmos[REG_YEAR]) % 100;
  Date date = {
    .year = CLAMP(year, FIRST_YEAR, LAST_YEAR),
    .month = CLAMP(decode(s, s->cmos[REG_MONTH]), 1u, 12u),
    .day = CLAMP(decode(s, s->cmos[REG_DAY]), 1u, 31u),
  };
  *days = days_from_date(date);
  return *days * SECONDS_PER_DAY + (int64_t)decode_hour(s, s->cmos[REG_HOURS]) * 3600 +
         (int64_t)decode(s, s->cmos[REG_MINUTES]) * 60 + decode(s, s->cmos[REG_SECONDS]);
}

/* Makes the registers' time the time, `fraction_ns` into the second. */
static void set_time_from_registers(Mc146818 *s, int64_t fraction_ns)
{
  int64_t days;
  int64_t seconds = seconds_from_registers(s, &days);
  unsigned weekday = decode(s, s->cmos[REG_WEEKDAY]) % 7; /* Saturday is 0 */
  s->offset_ns = seconds * VM_NS_PER_SEC + fraction_ns - get_source_ns(s);
  s->weekday_shift = (uint8_t)((weekday + 14 - weekday_of(days)) % 7);
  s->checked_second = seconds;
}

static int64_t get_fraction_ns(const Mc146818 *s)
{
  int64_t now = get_time_ns(s);
  return now - floor_div(now, VM_NS_PER_SEC) * VM_NS_PER_SEC;
}

/* ---- alarms ------------------------------------------------------------------------------------------------------------------ */

/* What an alarm register asks for: -1 any, a value, or one that never comes. */
static int get_alarm(const Mc146818 *s, unsigned reg)
{
  uint8_t value = s->cmos[reg];
  if ((value & ALARM_ANY) == ALARM_ANY)
    return -1;
  return (int)(reg == REG_HOURS_ALARM ? decode_hour(s, value) : decode(s, value));
}

static bool fits(int alarm, int value)
{
  return alarm == -1 || alarm == value;
}

/* The first second after `second` at which the alarm matches; NEVER. Looks at most a day ahead, an hour or a minute at a
 * time where those do not match. */
static int64_t find_alarm(const Mc146818 *s, int64_t second)
{
  int hours = get_alarm(s, REG_HOURS_ALARM), minutes = get_alarm(s, REG_MINUTES_ALARM);
  int seconds = get_alarm(s, REG_SECONDS_ALARM);
  if (hours > 23 || minutes > 59 || seconds > 59)
    return NEVER;
  int64_t day = floor_div(second, SECONDS_PER_DAY) * SECONDS_PER_DAY;
  for (int64_t t = second + 1; t <= second + SECONDS_PER_DAY;) {
    int at = (int)((t - day) % SECONDS_PER_DAY);
    if (!fits(hours, at / 3600))
      t += 3600 - at % 3600;
    else if (!fits(minutes, at / 60 % 60))
      t += 60 - at % 60;
    else if (!fits(seconds, at % 60))
      t++;
    else
      return t;
  }
  return NEVER;
}

/* ---- flags and interrupts ------------------------------------------------------------------------------------------------------ */

static uint64_t get_oscillator_tick(const Mc146818 *s)
{
  return vm_muldiv64((uint64_t)get_virtual_ns(s), OSCILLATOR_HZ, VM_NS_PER_SEC);
}

/* In oscillator ticks; 0: none. */
static uint64_t get_period(const Mc146818 *s)
{
  unsigned rate = s->cmos[REG_A] & A_RATE;
  if (rate == 0 || is_divider_reset(s))
    return 0;
  return UINT64_C(1) << (rate <= 2 ? rate + 6 : rate - 1);
}

static void note_seconds(Mc146818 *s)
{
  if (is_stopped(s))
    return;
  int64_t second = floor_div(get_time_ns(s), VM_NS_PER_SEC);
  if (second > s->checked_second) {
    s->cmos[REG_C] |= B_UPDATE;
    if (find_alarm(s, s->checked_second) <= second)
      s->cmos[REG_C] |= B_ALARM;
  }
  s->checked_second = second;
}

static void note_periods(Mc146818 *s)
{
  uint64_t period = get_period(s);
  uint64_t tick = get_oscillator_tick(s);
  if (period != 0 && tick / period != s->checked_tick / period)
    s->cmos[REG_C] |= B_PERIODIC;
  s->checked_tick = tick;
}

static void arm_periodic(Mc146818 *s)
{
  uint64_t period = get_period(s);
  if (period == 0 || !(s->cmos[REG_B] & ~s->cmos[REG_C] & B_PERIODIC)) {
    vm_timer_cancel(&s->periodic_timer);
    return;
  }
  uint64_t next = (s->checked_tick / period + 1) * period;
  unsigned __int128 ns = ((unsigned __int128)next * VM_NS_PER_SEC + (OSCILLATOR_HZ - 1)) / OSCILLATOR_HZ;
  vm_timer_set(&s->periodic_timer, (int64_t)MIN(ns, (unsigned __int128)INT64_MAX));
}

static void arm_seconds(Mc146818 *s)
{
  uint8_t wanted = s->cmos[REG_B] & (uint8_t)~s->cmos[REG_C];
  int64_t second = NEVER;
  if (!is_stopped(s) && (wanted & B_UPDATE))
    second = s->checked_second + 1;
  else if (!is_stopped(s) && (wanted & B_ALARM))
    second = find_alarm(s, s->checked_second);
  if (second == NEVER)
    vm_timer_cancel(&s->second_timer);
  else
    vm_timer_set(&s->second_timer, get_virtual_ns(s) + second * VM_NS_PER_SEC - get_time_ns(s));
}

/* Brings flags, line and timers up to now. */
static void update(Mc146818 *s)
{
  note_seconds(s);
  note_periods(s);
  bool level = s->cmos[REG_C] & s->cmos[REG_B] & C_FLAGS;
  s->cmos[REG_C] = level ? s->cmos[REG_C] | C_IRQ : s->cmos[REG_C] & (uint8_t)~C_IRQ;
  vm_irq_set(&s->irq, level && !s->inhibited);
  vm_irq_set(&s->alarm, s->cmos[REG_C] & s->cmos[REG_B] & B_ALARM);
  arm_periodic(s);
  arm_seconds(s);
}

static void on_timer(void *opaque)
{
  update(opaque);
}

static void set_inhibited(void *opaque, unsigned line, bool level)
{
  Mc146818 *s = opaque;
  s->inhibited = level;
  update(s);
}

VmIrq mc146818_irq_inhibit(Mc146818 *rtc)
{
  return (VmIrq){ .func = set_inhibited, .opaque = rtc };
}

void mc146818_set_nmi_mask_line(Mc146818 *rtc, VmIrq line)
{
  rtc->nmi_mask = line;
}

void mc146818_set_alarm_line(Mc146818 *rtc, VmIrq line)
{
  rtc->alarm = line;
}

/* ---- registers -------------------------------------------------------------------------------------------------------------------- */

static bool is_time_register(uint8_t index)
{
  return index == REG_CENTURY || index == REG_SECONDS || index == REG_MINUTES || index == REG_HOURS ||
         (index >= REG_WEEKDAY && index <= REG_YEAR);
}

static uint8_t read_a(const Mc146818 *s)
{
  bool updating = !is_stopped(s) && get_fraction_ns(s) >= VM_NS_PER_SEC - UPDATE_NS;
  return updating ? s->cmos[REG_A] | A_UIP : s->cmos[REG_A];
}

/* Reading clears all flags. */
static uint8_t read_c(Mc146818 *s)
{
  update(s);
  uint8_t value = s->cmos[REG_C];
  s->cmos[REG_C] = 0;
  update(s);
  return value;
}

static uint8_t read_register(Mc146818 *s, uint8_t index)
{
  if (is_time_register(index))
    refresh_registers(s);
  switch (index) {
  case REG_A:
    return read_a(s);
  case REG_C:
    return read_c(s);
  case REG_D:
    return D_VALID;
  default:
    return s->cmos[index];
  }
}

/* A and B can stop and start the clock, and B changes how the registers are coded. Starting from a divider in reset, the
 * first second ends after half a second. */
static void write_a_or_b(Mc146818 *s, uint8_t index, uint8_t value)
{
  bool was_stopped = is_stopped(s), was_reset = is_divider_reset(s);
  note_seconds(s);
  note_periods(s);
  refresh_registers(s);
  s->cmos[index] = index == REG_A ? value & (uint8_t)~A_UIP : value;
  if (index == REG_B && (value & B_SET))
    s->cmos[REG_B] &= (uint8_t)~B_UPDATE;
  if (was_stopped && !is_stopped(s))
    set_time_from_registers(s, was_reset ? VM_NS_PER_SEC / 2 : get_fraction_ns(s));
  update(s);
}

static void write_register(Mc146818 *s, uint8_t index, uint8_t value)
{
  if (index == REG_A || index == REG_B) {
    write_a_or_b(s, index, value);
  } else if (index == REG_C || index == REG_D) {
    return;
  } else if (is_time_register(index)) {
    note_seconds(s);
    refresh_registers(s);
    s->cmos[index] = value;
    if (!is_stopped(s))
      set_time_from_registers(s, get_fraction_ns(s));
    update(s);
  } else {
    note_seconds(s);
    s->cmos[index] = value;
    update(s);
  }
}

static uint64_t mc146818_read(void *opaque, uint64_t offset, unsigned size)
{
  Mc146818 *s = opaque;
  return offset == 0 ? 0xff : read_register(s, s->index);
}

static void mc146818_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Mc146818 *s = opaque;
  if (offset != 0) {
    write_register(s, s->index, (uint8_t)value);
    return;
  }
  s->index = value & (MC146818_CMOS_BYTES - 1);
  vm_irq_set(&s->nmi_mask, value & NMI_MASK);
}

static const VmMmioOps mc146818_ops = { .read = mc146818_read, .write = mc146818_write, .impl_max = 1 };

/* ---- contents, for the board --------------------------------------------------------------------------------------------------------- */

static void update_checksum(Mc146818 *s)
{
  unsigned sum = 0;
  for (unsigned i = REG_CHECKSUM_FIRST; i < REG_CHECKSUM; i++)
    sum += s->cmos[i];
  s->cmos[REG_CHECKSUM] = (uint8_t)(sum >> 8);
  s->cmos[REG_CHECKSUM + 1] = (uint8_t)sum;
}

void mc146818_set_cmos(Mc146818 *rtc, uint8_t index, uint8_t value)
{
  g_assert(index > REG_D && index < MC146818_CMOS_BYTES);
  rtc->cmos[index] = value;
  update_checksum(rtc);
}

uint8_t mc146818_get_cmos(const Mc146818 *rtc, uint8_t index)
{
  g_assert(index < MC146818_CMOS_BYTES);
  return rtc->cmos[index];
}

static void set_cmos_word(Mc146818 *s, uint8_t index, uint64_t value, uint64_t limit)
{
  value = MIN(value, limit);
  mc146818_set_cmos(s, index, (uint8_t)value);
  mc146818_set_cmos(s, index + 1, (uint8_t)(value >> 8));
}

void mc146818_set_memory(Mc146818 *rtc, uint64_t below_4g_bytes, uint64_t above_4g_bytes)
{
  const uint64_t mib = UINT64_C(1) << 20;
  uint64_t extended_kib = below_4g_bytes > mib ? (below_4g_bytes - mib) / 1024 : 0;
  uint64_t above_16m = below_4g_bytes > 16 * mib ? (below_4g_bytes - 16 * mib) / 65536 : 0;
  uint64_t above_4g = MIN(above_4g_bytes / 65536, UINT64_C(0xffffff));
  set_cmos_word(rtc, 0x15, below_4g_bytes / 1024, 640);
  set_cmos_word(rtc, 0x17, extended_kib, 0xffff);
  set_cmos_word(rtc, 0x30, extended_kib, 0xffff);
  set_cmos_word(rtc, 0x34, above_16m, 0xffff);
  set_cmos_word(rtc, 0x5b, above_4g & 0xffff, 0xffff);
  mc146818_set_cmos(rtc, 0x5d, (uint8_t)(above_4g >> 16));
}

/* The equipment byte: how many drives, a coprocessor, a PS/2 mouse. The display is an EGA or VGA (00). */
void mc146818_set_floppies(Mc146818 *rtc, uint8_t type_a, uint8_t type_b)
{
  unsigned drives = (type_a != 0) + (type_b != 0);
  mc146818_set_cmos(rtc, 0x10, (uint8_t)(type_a << 4 | (type_b & 0xf)));
  mc146818_set_cmos(rtc, EQUIPMENT, (uint8_t)(0x06 | (drives != 0 ? (drives - 1) << 6 | 1 : 0)));
}

void mc146818_set_disk(Mc146818 *rtc, unsigned disk, uint16_t cylinders, uint8_t heads, uint8_t sectors)
{
  g_assert(disk < 2);
  uint8_t base = disk == 0 ? 0x1b : 0x24;
  unsigned shift = disk == 0 ? 4 : 0;
  unsigned types = (rtc->cmos[0x12] & ~(0xfu << shift)) | (cylinders != 0 ? 0xfu << shift : 0);
  const uint8_t entry[9] = {
    (uint8_t)cylinders,
    (uint8_t)(cylinders >> 8),
    heads,
    0xff,
    0xff, /* write precompensation: none */
    heads > 8 ? 0xc8 : 0xc0,
    (uint8_t)cylinders,
    (uint8_t)(cylinders >> 8),
    sectors,
  };
  mc146818_set_cmos(rtc, 0x12, (uint8_t)types);
  mc146818_set_cmos(rtc, (uint8_t)(0x19 + disk), cylinders != 0 ? 47 : 0);
  for (unsigned i = 0; i < sizeof entry; i++)
    mc146818_set_cmos(rtc, (uint8_t)(base + i), cylinders != 0 ? entry[i] : 0);
}

void mc146818_set_boot_order(Mc146818 *rtc, uint8_t first, uint8_t second, uint8_t third, bool check_floppy)
{
  mc146818_set_cmos(rtc, 0x3d, (uint8_t)((first & 0xf) | second << 4));
  mc146818_set_cmos(rtc, 0x38, (uint8_t)(third << 4 | (check_floppy ? 0 : 1)));
}

void mc146818_set_n_cpus(Mc146818 *rtc, unsigned n_cpus)
{
  g_assert(n_cpus > 0);
  mc146818_set_cmos(rtc, 0x5f, (uint8_t)(MIN(n_cpus, 256) - 1));
}

/* ---- life --------------------------------------------------------------------------------------------------------------------------------- */

/* RESET# clears the interrupt enables and flags; the rest is on the battery. */
static void mc146818_reset(VmDevice *dev)
{
  Mc146818 *s = (Mc146818 *)dev;
  s->index = 0;
  s->inhibited = false;
  s->cmos[REG_B] &= (uint8_t) ~(C_FLAGS | 1 << 3);
  update(s);
  s->cmos[REG_C] = 0;
  update(s);
  vm_irq_lower(&s->nmi_mask);
}

/* Times beyond those that a guest can set would overflow. */
static bool mc146818_validate(const VmDevice *scratch, GError **error)
{
  const Mc146818 *s = (const Mc146818 *)scratch;
  int64_t time_ns;
  if (s->index < MC146818_CMOS_BYTES && !__builtin_add_overflow(s->start_wall_ns, s->offset_ns, &time_ns) &&
      time_ns >= -MAX_TIME_NS && time_ns <= MAX_TIME_NS && s->start_wall_ns >= 0 && s->start_wall_ns <= MAX_TIME_NS &&
      s->checked_second >= -MAX_TIME_NS / VM_NS_PER_SEC && s->checked_second <= 2 * (MAX_TIME_NS / VM_NS_PER_SEC))
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of %s is not one that a clock can have", scratch->id);
  return false;
}

static void mc146818_loaded(VmDevice *dev)
{
  update((Mc146818 *)dev);
}

static void mc146818_finish(VmDevice *dev)
{
  vm_timer_finish(&((Mc146818 *)dev)->second_timer);
  vm_timer_finish(&((Mc146818 *)dev)->periodic_timer);
}

static const VmDeviceType mc146818_type = {
  .name = "mc146818",
  .version = 1,
  .size = sizeof(Mc146818),
  .fields = mc146818_fields,
  .reset = mc146818_reset,
  .validate = mc146818_validate,
  .loaded = mc146818_loaded,
  .finish = mc146818_finish,
};

Mc146818 *mc146818_create(Vm *vm, VmIrq irq, int64_t start_wall_ns)
{
  Mc146818 *s = vm_device_new(vm, &mc146818_type, "rtc");
  s->irq = irq;
  s->follows_host = start_wall_ns < 0;
  s->start_wall_ns = start_wall_ns < 0 ? 0 : start_wall_ns;
  s->cmos[REG_A] = 0x26;
  s->cmos[REG_B] = B_24_HOURS;
  vm_timer_init(&s->second_timer, s->dev.ctx, on_timer, s);
  vm_timer_init(&s->periodic_timer, s->dev.ctx, on_timer, s);
  s->checked_second = floor_div(get_time_ns(s), VM_NS_PER_SEC);
  mc146818_set_floppies(s, 0, 0);
  vm_region_new_io(vm_get_memory(vm), "rtc", VM_SPACE_PORTS, PORT, 2, 0, &mc146818_ops, s, s->dev.ctx);
  mc146818_reset(&s->dev);
  return s;
}
