/*
 * Two Intel 8237A DMA controllers and their page registers, as a PC has them (Intel 8237A data sheet; 82371SB PIIX3,
 * "DMA controller").
 *
 * The first controller's four channels move bytes, the second's 5–7 move words (its address counts words), and its
 * channel 4 cascades the first. A page register gives the address bits above the 16 that the chip counts, so that a
 * transfer wraps inside its 64 KiB (128 KiB for words).
 *
 * There is no bus cycle here: a device calls i8237_transfer() for as much as it has, at the pace it likes. That makes
 * demand, single and block mode the same; they differ only in who pauses whom. Memory-to-memory transfers, which the
 * PIIX3 leaves out, are left out.
 */
#include "hw/storage/i8237.h"

#include "vm-engine/device.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define N_CONTROLLERS 2
#define CHANNELS_EACH 4

enum {
  REG_COMMAND_STATUS = 8,
  REG_REQUEST = 9,
  REG_MASK_ONE = 10,
  REG_MODE = 11,
  REG_CLEAR_POINTER = 12,
  REG_MASTER_CLEAR = 13,
  REG_CLEAR_MASK = 14,
  REG_MASK_ALL = 15,

  COMMAND_DISABLE = 1 << 2,

  MODE_CHANNEL = 3,
  MODE_TYPE = 3 << 2,
  MODE_TYPE_VERIFY = 0 << 2,
  MODE_TYPE_WRITE = 1 << 2, /* to memory */
  MODE_TYPE_READ = 2 << 2,
  MODE_AUTOINIT = 1 << 4,
  MODE_DECREMENT = 1 << 5,
  MODE_CASCADE = 3 << 6,

  CASCADE_CHANNEL = 4,
};

typedef struct Channel {
  uint16_t base_address, base_count;
  uint16_t address, count;
  uint8_t mode;
  bool request; /* DREQ */
  I8237ReadyFunc ready;
  void *opaque;
} Channel;

typedef struct Controller {
  uint8_t command;
  uint8_t terminal_counts; /* status bits 0–3 */
  uint8_t software_requests;
  uint8_t masks;
  uint8_t temporary;
  bool high_byte; /* the byte pointer ("flip-flop") */
  Channel channels[CHANNELS_EACH];
} Controller;

struct I8237 {
  VmDevice dev;
  Controller controllers[N_CONTROLLERS];
  uint8_t pages[16]; /* by the port's low four bits */
};

static const VmField channel_fields[] = {
  VM_UINT(Channel, base_address),
  VM_UINT(Channel, base_count),
  VM_UINT(Channel, address),
  VM_UINT(Channel, count),
  VM_UINT(Channel, mode),
  VM_UINT_MAX(Channel, request, 1),
  VM_TRANSIENT(Channel, ready, "wiring"),
  VM_TRANSIENT(Channel, opaque, "wiring"),
  VM_FIELDS_END,
};

static const VmField controller_fields[] = {
  VM_UINT(Controller, command),
  VM_UINT_MAX(Controller, terminal_counts, 15),
  VM_UINT_MAX(Controller, software_requests, 15),
  VM_UINT_MAX(Controller, masks, 15),
  VM_UINT(Controller, temporary),
  VM_UINT_MAX(Controller, high_byte, 1),
  VM_STRUCT_ARRAY(Controller, channels, channel_fields),
  VM_FIELDS_END,
};

static const VmField i8237_fields[] = {
  VM_STRUCT_ARRAY(I8237, controllers, controller_fields),
  VM_BYTES(I8237, pages),
  VM_FIELDS_END,
};

/* Where each channel's page register stands among ports 80–8F. */
static const uint8_t page_ports[I8237_N_CHANNELS] = { 0x7, 0x3, 0x1, 0x2, 0xF, 0xB, 0x9, 0xA };

/* ---- channels ---------------------------------------------------------------------------------------------------- */

static bool is_open(const I8237 *dma, unsigned channel)
{
  const Controller *c = &dma->controllers[channel / CHANNELS_EACH];
  return !(c->command & COMMAND_DISABLE) && !(c->masks >> (channel % CHANNELS_EACH) & 1);
}

I8237Kind i8237_get_kind(const I8237 *dma, unsigned channel)
{
  g_assert(channel < I8237_N_CHANNELS);
  const Channel *ch = &dma->controllers[channel / CHANNELS_EACH].channels[channel % CHANNELS_EACH];
  if (!is_open(dma, channel) || (ch->mode & MODE_CASCADE) == MODE_CASCADE)
    return I8237_NONE;
  if (channel < CASCADE_CHANNEL && !is_open(dma, CASCADE_CHANNEL))
    return I8237_NONE;
  switch (ch->mode & MODE_TYPE) {
  case MODE_TYPE_WRITE:
    return I8237_TO_MEMORY;
  case MODE_TYPE_READ:
    return I8237_FROM_MEMORY;
  case MODE_TYPE_VERIFY:
    return I8237_VERIFY;
  default:
    return I8237_NONE; /* "illegal" in the data sheet */
  }
}

static void notify(I8237 *dma, unsigned controller)
{
  for (unsigned i = 0; i < CHANNELS_EACH; i++) {
    const Channel *ch = &dma->controllers[controller].channels[i];
    if (ch->ready != NULL && ch->request && i8237_get_kind(dma, controller * CHANNELS_EACH + i) != I8237_NONE)
      ch->ready(ch->opaque);
  }
}

void i8237_connect(I8237 *dma, unsigned channel, I8237ReadyFunc ready, void *opaque)
{
  g_assert(channel < I8237_N_CHANNELS && channel != CASCADE_CHANNEL);
  Channel *ch = &dma->controllers[channel / CHANNELS_EACH].channels[channel % CHANNELS_EACH];
  ch->ready = ready;
  ch->opaque = opaque;
}

void i8237_set_request(I8237 *dma, unsigned channel, bool level)
{
  g_assert(channel < I8237_N_CHANNELS);
  dma->controllers[channel / CHANNELS_EACH].channels[channel % CHANNELS_EACH].request = level;
}

/* Piecewise, so that an address outside RAM takes only its own bytes with it. */
static void move(I8237 *dma, VmGpa gpa, const uint8_t *from, uint8_t *to, size_t size)
{
  VmMemory *memory = vm_get_memory(dma->dev.vm);
  while (size > 0) {
    size_t n = MIN(size, VM_PAGE_SIZE - gpa % VM_PAGE_SIZE);
    if (from != NULL && !vm_memory_write(memory, gpa, from, n))
      vm_device_log(&dma->dev, "a transfer to %" G_GINT64_MODIFIER "x, where there is no RAM", gpa);
    if (to != NULL && !vm_memory_read(memory, gpa, to, n))
      memset(to, 0xFF, n);
    from = from != NULL ? from + n : NULL;
    to = to != NULL ? to + n : NULL;
    gpa += n;
    size -= n;
  }
}

/* `units` bytes or words from the channel's address on, which does not wrap among them. */
static void move_run(I8237 *dma, unsigned channel, const Channel *ch, const uint8_t *from, uint8_t *to, uint32_t units)
{
  unsigned width = channel < CASCADE_CHANNEL ? 1 : 2;
  VmGpa page = dma->pages[page_ports[channel]];
  VmGpa base = width == 1 ? page << 16 : (page & 0xFE) << 16;
  if (!(ch->mode & MODE_DECREMENT)) {
    move(dma, base + (VmGpa)ch->address * width, from, to, (size_t)units * width);
    return;
  }
  for (uint32_t i = 0; i < units; i++)
    move(dma, base + (VmGpa)(ch->address - i) * width, from != NULL ? from + i * width : NULL,
         to != NULL ? to + i * width : NULL, width);
}

static void reach_terminal_count(I8237 *dma, unsigned channel, Channel *ch)
{
  Controller *c = &dma->controllers[channel / CHANNELS_EACH];
  uint8_t bit = (uint8_t)(1u << (channel % CHANNELS_EACH));
  c->terminal_counts |= bit;
  c->software_requests &= (uint8_t)~bit;
  if (ch->mode & MODE_AUTOINIT) {
    ch->address = ch->base_address;
    ch->count = ch->base_count;
  } else {
    c->masks |= bit;
  }
}

size_t i8237_transfer(I8237 *dma, unsigned channel, const uint8_t *from_device, uint8_t *to_device, size_t size,
                      bool *terminal_count)
{
  I8237Kind kind = i8237_get_kind(dma, channel);
  Channel *ch = &dma->controllers[channel / CHANNELS_EACH].channels[channel % CHANNELS_EACH];
  unsigned width = channel < CASCADE_CHANNEL ? 1 : 2;
  size_t left = size / width;
  size_t done = 0; /* units */
  *terminal_count = false;
  if (kind == I8237_NONE || (kind == I8237_TO_MEMORY && from_device == NULL) ||
      (kind == I8237_FROM_MEMORY && to_device == NULL))
    return 0;
  while (left > 0 && !*terminal_count) {
    bool down = ch->mode & MODE_DECREMENT;
    uint32_t to_wrap = down ? ch->address + 1u : 0x10000u - ch->address;
    uint32_t units = (uint32_t)MIN(left, MIN(to_wrap, ch->count + 1u));
    move_run(dma, channel, ch, kind == I8237_TO_MEMORY ? from_device + done * width : NULL,
             kind == I8237_FROM_MEMORY ? to_device + done * width : NULL, units);
    ch->address = (uint16_t)(down ? ch->address - units : ch->address + units);
    *terminal_count = units == ch->count + 1u;
    ch->count = (uint16_t)(ch->count - units); /* runs on to FFFF */
    done += units;
    left -= units;
  }
  if (*terminal_count)
    reach_terminal_count(dma, channel, ch);
  return done * width;
}

/* ---- registers --------------------------------------------------------------------------------------------------- */

static uint8_t read_status(Controller *c)
{
  uint8_t status = c->terminal_counts | (uint8_t)(c->software_requests << 4);
  for (unsigned i = 0; i < CHANNELS_EACH; i++)
    if (c->channels[i].request)
      status |= (uint8_t)(0x10u << i);
  c->terminal_counts = 0;
  return status;
}

static uint8_t read_register(Controller *c, unsigned reg)
{
  if (reg < REG_COMMAND_STATUS) {
    const Channel *ch = &c->channels[reg / 2];
    uint16_t value = reg % 2 == 0 ? ch->address : ch->count;
    c->high_byte = !c->high_byte;
    return (uint8_t)(c->high_byte ? value : value >> 8);
  }
  if (reg == REG_COMMAND_STATUS)
    return read_status(c);
  if (reg == REG_MASTER_CLEAR)
    return c->temporary;
  if (reg == REG_MASK_ALL)
    return c->masks | 0xF0;
  return 0xFF;
}

static void write_half(uint16_t *value, bool high, uint8_t byte)
{
  *value = high ? (uint16_t)((*value & 0x00FF) | byte << 8) : (uint16_t)((*value & 0xFF00) | byte);
}

static void write_counter(Controller *c, unsigned reg, uint8_t value)
{
  Channel *ch = &c->channels[reg / 2];
  write_half(reg % 2 == 0 ? &ch->base_address : &ch->base_count, c->high_byte, value);
  write_half(reg % 2 == 0 ? &ch->address : &ch->count, c->high_byte, value);
  c->high_byte = !c->high_byte;
}

static void assign_bit(uint8_t *bits, unsigned bit, bool on)
{
  *bits = (uint8_t)(on ? *bits | 1u << bit : *bits & ~(1u << bit));
}

static void clear_controller(Controller *c)
{
  c->command = 0;
  c->terminal_counts = 0;
  c->software_requests = 0;
  c->temporary = 0;
  c->masks = 0xF;
  c->high_byte = false;
}

static void write_register(Controller *c, unsigned reg, uint8_t value)
{
  switch (reg) {
  case REG_COMMAND_STATUS:
    c->command = value;
    break;
  case REG_REQUEST:
    assign_bit(&c->software_requests, value & MODE_CHANNEL, value & 4);
    break;
  case REG_MASK_ONE:
    assign_bit(&c->masks, value & MODE_CHANNEL, value & 4);
    break;
  case REG_MODE:
    c->channels[value & MODE_CHANNEL].mode = value;
    break;
  case REG_CLEAR_POINTER:
    c->high_byte = false;
    break;
  case REG_MASTER_CLEAR:
    clear_controller(c);
    break;
  case REG_CLEAR_MASK:
    c->masks = 0;
    break;
  case REG_MASK_ALL:
    c->masks = value & 0xF;
    break;
  default:
    write_counter(c, reg, value);
    break;
  }
}

static void write_controller(I8237 *dma, unsigned controller, unsigned reg, uint8_t value)
{
  write_register(&dma->controllers[controller], reg, value);
  if (reg < REG_COMMAND_STATUS)
    return;
  notify(dma, 0); /* the second controller's channel 4 opens and closes the first */
  notify(dma, 1);
}

static uint64_t first_read(void *opaque, uint64_t offset, unsigned size)
{
  I8237 *dma = opaque;
  return read_register(&dma->controllers[0], (unsigned)offset & 15);
}

static void first_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  write_controller(opaque, 0, (unsigned)offset & 15, (uint8_t)value);
}

/* The second one's registers stand at every other port. */
static uint64_t second_read(void *opaque, uint64_t offset, unsigned size)
{
  I8237 *dma = opaque;
  return read_register(&dma->controllers[1], (unsigned)offset / 2 & 15);
}

static void second_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  write_controller(opaque, 1, (unsigned)offset / 2 & 15, (uint8_t)value);
}

/* Ports 81–8F. Those that belong to no channel are plain memory, which firmware uses. */
static uint64_t page_read(void *opaque, uint64_t offset, unsigned size)
{
  I8237 *dma = opaque;
  return dma->pages[(offset + 1) & 15];
}

static void page_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  I8237 *dma = opaque;
  dma->pages[(offset + 1) & 15] = (uint8_t)value;
}

/* ---- reset, creation --------------------------------------------------------------------------------------------- */

/* DREQ belongs to the devices, who take it back in their own resets. */
static void i8237_reset(VmDevice *dev)
{
  I8237 *dma = (I8237 *)dev;
  for (unsigned i = 0; i < N_CONTROLLERS; i++) {
    clear_controller(&dma->controllers[i]);
    for (unsigned j = 0; j < CHANNELS_EACH; j++) {
      Channel *ch = &dma->controllers[i].channels[j];
      ch->base_address = ch->base_count = ch->address = ch->count = 0;
      ch->mode = 0;
      ch->request = false;
    }
  }
  memset(dma->pages, 0, sizeof(dma->pages));
}

static const VmMmioOps first_ops = { first_read, first_write, 1, 1, false };
static const VmMmioOps second_ops = { second_read, second_write, 1, 1, false };
static const VmMmioOps page_ops = { page_read, page_write, 1, 1, false };

static const VmDeviceType i8237_type = {
  .name = "i8237",
  .version = 1,
  .size = sizeof(I8237),
  .fields = i8237_fields,
  .reset = i8237_reset,
};

I8237 *i8237_new(Vm *vm)
{
  I8237 *dma = vm_device_new(vm, &i8237_type, "dma");
  VmMemory *memory = vm_get_memory(vm);
  vm_region_new_io(memory, "dma1", VM_SPACE_PORTS, 0x00, 16, 0, &first_ops, dma, dma->dev.ctx);
  vm_region_new_io(memory, "dma2", VM_SPACE_PORTS, 0xC0, 32, 0, &second_ops, dma, dma->dev.ctx);
  vm_region_new_io(memory, "dma-pages", VM_SPACE_PORTS, 0x81, 15, 0, &page_ops, dma, dma->dev.ctx);
  i8237_reset(&dma->dev);
  return dma;
}
