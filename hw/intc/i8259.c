/*
 * The interrupt controller pair (Intel 8259A data sheet, order number 231468; the edge/level registers from the 82371SB
 * PIIX3's).
 *
 * Deviations from the chip, on purpose:
 *   - An edge is latched until it is acknowledged, even if its line falls before. Devices may pulse lines for less time
 *     than a vCPU takes to answer; on the chip such a request would end as a spurious one.
 *   - ICW1's LTIM is ignored, as the PIIX3 does: the ELCR registers say which lines are level-triggered.
 *   - The cascade shows the slave's output at the master's IRQ 2 as a level. On the chip the slave's output falls with
 *     each acknowledge and rises for the next request; without that time in between an edge would be missed.
 */
#include "hw/intc/i8259.h"

#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

enum {
  ICW1_ICW4 = 1 << 0,
  ICW1_SINGLE = 1 << 1,
  ICW1_INIT = 1 << 4,
  ICW4_AUTO_EOI = 1 << 1,
  ICW4_NESTED = 1 << 4, /* special fully nested mode */
  OCW2_OR_3 = 1 << 3,
  OCW2_EOI = 1 << 5,
  OCW2_SPECIFIC = 1 << 6,
  OCW2_ROTATE = 1 << 7,
  OCW3_READ_ISR = 1 << 0,
  OCW3_READ = 1 << 1,
  OCW3_POLL = 1 << 2,
  OCW3_SPECIAL_MASK = 1 << 5,
  OCW3_SPECIAL_MASK_ENABLE = 1 << 6,

  CASCADE_LINE = 2,
  NO_LINE = -1,
};

typedef enum InitState { INIT_DONE, INIT_ICW2, INIT_ICW3, INIT_ICW4, N_INIT_STATES } InitState;

typedef struct Chip {
  uint8_t lines; /* input levels */
  uint8_t irr, imr, isr;
  uint8_t elcr; /* 1 = level-triggered */
  uint8_t vector_base;
  uint8_t lowest; /* the line with the lowest priority */
  uint8_t init_state;
  uint8_t icw1;
  bool auto_eoi, rotate_on_auto_eoi;
  bool special_mask, nested;
  bool read_isr, poll;
  bool output;
} Chip;

struct I8259 {
  VmDevice dev;
  Chip chips[2]; /* master, slave */
  VmIrq outputs[I8259_MAX_OUTPUTS];
  unsigned n_outputs;
};

static const VmField chip_fields[] = {
  VM_UINT(Chip, lines),
  VM_UINT(Chip, irr),
  VM_UINT(Chip, imr),
  VM_UINT(Chip, isr),
  VM_UINT(Chip, elcr),
  VM_UINT(Chip, vector_base),
  VM_UINT_MAX(Chip, lowest, 7),
  VM_UINT_MAX(Chip, init_state, N_INIT_STATES - 1),
  VM_UINT(Chip, icw1),
  VM_UINT(Chip, auto_eoi),
  VM_UINT(Chip, rotate_on_auto_eoi),
  VM_UINT(Chip, special_mask),
  VM_UINT(Chip, nested),
  VM_UINT(Chip, read_isr),
  VM_UINT(Chip, poll),
  VM_UINT(Chip, output),
  VM_FIELDS_END,
};

static const VmField i8259_fields[] = {
  VM_STRUCT_ARRAY(I8259, chips, chip_fields),
  VM_TRANSIENT(I8259, outputs, "wiring"),
  VM_TRANSIENT(I8259, n_outputs, "wiring"),
  VM_FIELDS_END,
};

/* Which lines of master and slave may be level-triggered: not the timer, keyboard, cascade, clock and coprocessor. */
static const uint8_t elcr_masks[2] = { 0xf8, 0xde };

/* ---- one chip ------------------------------------------------------------------------------------------------------ */

/* The line of highest priority in `lines`; NO_LINE if that is empty. */
static int highest(const Chip *c, uint8_t lines)
{
  for (unsigned i = 1; i <= 8; i++) {
    unsigned line = (c->lowest + i) & 7;
    if (lines >> line & 1)
      return (int)line;
  }
  return NO_LINE;
}

static unsigned rank(const Chip *c, int line)
{
  return line == NO_LINE ? 8 : ((unsigned)line + 7 - c->lowest) & 7;
}

/* The request that the chip would put through now. What is in service keeps out its own and lower priorities, except
 * for masked lines in special mask mode, and for the slave's line in special fully nested mode. */
static int find_request(const Chip *c)
{
  uint8_t blocking = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
  int request = highest(c, c->irr & (uint8_t)~c->imr);
  int in_service = highest(c, blocking);
  if (request == NO_LINE)
    return NO_LINE;
  if (c->nested && request == CASCADE_LINE && in_service == CASCADE_LINE)
    return request;
  return rank(c, request) < rank(c, in_service) ? request : NO_LINE;
}

static void chip_set_line(Chip *c, unsigned line, bool level)
{
  uint8_t bit = (uint8_t)(1u << line);
  bool rises = level && !(c->lines & bit);
  c->lines = level ? c->lines | bit : c->lines & (uint8_t)~bit;
  if (c->elcr & bit)
    c->irr = level ? c->irr | bit : c->irr & (uint8_t)~bit;
  else if (rises)
    c->irr |= bit;
}

static void chip_acknowledge(Chip *c, int line)
{
  uint8_t bit = (uint8_t)(1u << line);
  if (!(c->elcr & bit))
    c->irr &= (uint8_t)~bit;
  if (!c->auto_eoi)
    c->isr |= bit;
  else if (c->rotate_on_auto_eoi)
    c->lowest = (uint8_t)line;
}

static void chip_end_of_interrupt(Chip *c, uint8_t ocw2)
{
  uint8_t candidates = c->special_mask ? c->isr & (uint8_t)~c->imr : c->isr;
  int line = ocw2 & OCW2_SPECIFIC ? ocw2 & 7 : highest(c, candidates);
  if (line == NO_LINE)
    return;
  c->isr &= (uint8_t) ~(1u << line);
  if (ocw2 & OCW2_ROTATE)
    c->lowest = (uint8_t)line;
}

static void chip_write_ocw2(Chip *c, uint8_t value)
{
  if (value & OCW2_EOI)
    chip_end_of_interrupt(c, value);
  else if (!(value & OCW2_SPECIFIC))
    c->rotate_on_auto_eoi = (value & OCW2_ROTATE) != 0;
  else if (value & OCW2_ROTATE)
    c->lowest = value & 7;
}

static void chip_write_ocw3(Chip *c, uint8_t value)
{
  if (value & OCW3_POLL)
    c->poll = true;
  else if (value & OCW3_READ)
    c->read_isr = value & OCW3_READ_ISR;
  if (value & OCW3_SPECIAL_MASK_ENABLE)
    c->special_mask = (value & OCW3_SPECIAL_MASK) != 0;
}

static void chip_write_icw1(Chip *c, uint8_t value)
{
  c->icw1 = value;
  c->init_state = INIT_ICW2;
  c->irr = c->lines & c->elcr;
  c->imr = c->isr = 0;
  c->lowest = 7;
  c->special_mask = c->read_isr = c->poll = false;
  if (!(value & ICW1_ICW4))
    c->auto_eoi = c->rotate_on_auto_eoi = c->nested = false;
}

static void chip_write_data(Chip *c, uint8_t value)
{
  InitState after_icw3 = c->icw1 & ICW1_ICW4 ? INIT_ICW4 : INIT_DONE;
  switch (c->init_state) {
  case INIT_ICW2:
    c->vector_base = value & 0xf8;
    c->init_state = (uint8_t)(c->icw1 & ICW1_SINGLE ? after_icw3 : INIT_ICW3);
    break;
  case INIT_ICW3: /* the cascade is wired */
    c->init_state = (uint8_t)after_icw3;
    break;
  case INIT_ICW4:
    c->auto_eoi = (value & ICW4_AUTO_EOI) != 0;
    c->nested = (value & ICW4_NESTED) != 0;
    c->init_state = INIT_DONE;
    break;
  default:
    c->imr = value;
  }
}

/* ---- the pair ------------------------------------------------------------------------------------------------------ */

static void drive_outputs(I8259 *s)
{
  for (unsigned i = 0; i < s->n_outputs; i++)
    vm_irq_set(&s->outputs[i], s->chips[0].output);
}

static void update(I8259 *s)
{
  Chip *master = &s->chips[0], *slave = &s->chips[1];
  bool was = master->output;
  slave->output = find_request(slave) != NO_LINE;
  master->irr = (uint8_t)((master->irr & ~(1u << CASCADE_LINE)) | (unsigned)slave->output << CASCADE_LINE);
  master->output = find_request(master) != NO_LINE;
  if (master->output != was)
    drive_outputs(s);
}

static void set_line(void *opaque, unsigned line, bool level)
{
  I8259 *s = opaque;
  if (line == CASCADE_LINE)
    return;
  chip_set_line(&s->chips[line / 8], line % 8, level);
  update(s);
}

VmIrq i8259_irq(I8259 *pic, unsigned line)
{
  g_assert(line < 16);
  return (VmIrq){ .func = set_line, .opaque = pic, .line = line };
}

void i8259_connect_output(I8259 *pic, VmIrq output)
{
  g_assert(pic->n_outputs < I8259_MAX_OUTPUTS);
  pic->outputs[pic->n_outputs++] = output;
}

bool i8259_get_output(const I8259 *pic)
{
  return pic->chips[0].output;
}

/* One chip's part of the cycle: its vector; IRQ 7's without a service bit if the request went away. */
static uint8_t take_request(Chip *c, int *line)
{
  *line = find_request(c);
  if (*line == NO_LINE)
    return c->vector_base + 7;
  chip_acknowledge(c, *line);
  return (uint8_t)(c->vector_base + *line);
}

uint8_t i8259_acknowledge(I8259 *pic)
{
  int line;
  uint8_t vector = take_request(&pic->chips[0], &line);
  if (line == CASCADE_LINE)
    vector = take_request(&pic->chips[1], &line);
  update(pic);
  return vector;
}

/* ---- registers ----------------------------------------------------------------------------------------------------- */

/* The read after a poll command acknowledges in the place of the CPU. */
static uint8_t read_poll(I8259 *s, Chip *c)
{
  int line;
  c->poll = false;
  take_request(c, &line);
  update(s);
  return line == NO_LINE ? 0 : (uint8_t)(0x80 | line);
}

static uint64_t chip_port_read(I8259 *s, Chip *c, uint64_t offset)
{
  if (c->poll)
    return read_poll(s, c);
  if (offset == 1)
    return c->imr;
  return c->read_isr ? c->isr : c->irr;
}

static void chip_port_write(I8259 *s, Chip *c, uint64_t offset, uint8_t value)
{
  if (offset == 1)
    chip_write_data(c, value);
  else if (value & ICW1_INIT)
    chip_write_icw1(c, value);
  else if (value & OCW2_OR_3)
    chip_write_ocw3(c, value);
  else
    chip_write_ocw2(c, value);
  update(s);
}

static uint64_t master_read(void *opaque, uint64_t offset, unsigned size)
{
  I8259 *s = opaque;
  return chip_port_read(s, &s->chips[0], offset);
}

static void master_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I8259 *s = opaque;
  chip_port_write(s, &s->chips[0], offset, (uint8_t)value);
}

static uint64_t slave_read(void *opaque, uint64_t offset, unsigned size)
{
  I8259 *s = opaque;
  return chip_port_read(s, &s->chips[1], offset);
}

static void slave_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I8259 *s = opaque;
  chip_port_write(s, &s->chips[1], offset, (uint8_t)value);
}

static uint64_t elcr_read(void *opaque, uint64_t offset, unsigned size)
{
  return ((I8259 *)opaque)->chips[offset].elcr;
}

static void elcr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I8259 *s = opaque;
  Chip *c = &s->chips[offset];
  c->elcr = (uint8_t)value & elcr_masks[offset];
  c->irr = (uint8_t)((c->irr & ~c->elcr) | (c->lines & c->elcr));
  update(s);
}

static const VmMmioOps master_ops = { .read = master_read, .write = master_write, .impl_max = 1 };
static const VmMmioOps slave_ops = { .read = slave_read, .write = slave_write, .impl_max = 1 };
static const VmMmioOps elcr_ops = { .read = elcr_read, .write = elcr_write, .impl_max = 1 };

/* ---- life ---------------------------------------------------------------------------------------------------------- */

/* Input levels are the devices' and stay. */
static void i8259_reset(VmDevice *dev)
{
  I8259 *s = (I8259 *)dev;
  for (unsigned i = 0; i < 2; i++)
    s->chips[i] = (Chip){ .lines = s->chips[i].lines, .lowest = 7, .output = s->chips[i].output };
  update(s);
}

static void i8259_loaded(VmDevice *dev)
{
  drive_outputs((I8259 *)dev);
}

static const VmDeviceType i8259_type = {
  .name = "i8259",
  .version = 1,
  .size = sizeof(I8259),
  .fields = i8259_fields,
  .reset = i8259_reset,
  .loaded = i8259_loaded,
};

I8259 *i8259_create(Vm *vm)
{
  I8259 *s = vm_device_new(vm, &i8259_type, "pic");
  VmMemory *memory = vm_get_memory(vm);
  vm_memory_begin(memory);
  vm_region_new_io(memory, "pic-master", VM_SPACE_PORTS, 0x20, 2, 0, &master_ops, s, s->dev.ctx);
  vm_region_new_io(memory, "pic-slave", VM_SPACE_PORTS, 0xa0, 2, 0, &slave_ops, s, s->dev.ctx);
  vm_region_new_io(memory, "elcr", VM_SPACE_PORTS, 0x4d0, 2, 0, &elcr_ops, s, s->dev.ctx);
  vm_memory_commit(memory);
  i8259_reset(&s->dev);
  return s;
}
