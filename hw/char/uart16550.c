/*
 * A serial port: National Semiconductor PC16550D, "Universal Asynchronous Receiver/Transmitter with FIFOs" (1995), as a
 * PC wires it: the interrupt passes only while the modem control output OUT2 is on, and not in loopback.
 *
 *   0 RBR/THR, or divisor low   1 IER, or divisor high   2 IIR/FCR   3 LCR   4 MCR   5 LSR   6 MSR   7 scratch
 *
 * Bytes are sent at once, whatever the baud rate, so that a guest never waits for a wire that is not there; the
 * transmitter's FIFO fills only while the far end takes nothing. Received bytes are taken from the far end only while
 * there is room, so that none is lost. The divisor matters for the time after which a few received bytes are told of
 * although they are fewer than the trigger level.
 */
#include "hw/char/uart16550.h"

#include "vm-engine/chardev.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define FIFO_BYTES         16
#define CLOCK_HZ           1843200
#define DEFAULT_DIVISOR    12 /* 9600 baud */
#define TIMEOUT_CHARACTERS 4

enum { IER_RECEIVED = 0x01, IER_SENT = 0x02, IER_LINE = 0x04, IER_MODEM = 0x08, IER_ALL = 0x0F };
enum { IIR_NONE = 0x01, IIR_MODEM = 0x00, IIR_SENT = 0x02, IIR_RECEIVED = 0x04, IIR_LINE = 0x06, IIR_TIMEOUT = 0x0C };
enum { FCR_ENABLE = 0x01, FCR_CLEAR_RECEIVER = 0x02, FCR_CLEAR_SENDER = 0x04, IIR_FIFOS = 0xC0 };
enum { LCR_TWO_STOP = 0x04, LCR_PARITY = 0x08, LCR_BREAK = 0x40, LCR_DLAB = 0x80 };
enum { MCR_DTR = 0x01, MCR_RTS = 0x02, MCR_OUT1 = 0x04, MCR_OUT2 = 0x08, MCR_LOOP = 0x10, MCR_ALL = 0x1F };
enum {
  LSR_DATA = 0x01,
  LSR_OVERRUN = 0x02,
  LSR_BREAK = 0x10,
  LSR_SENDER_EMPTY = 0x20,
  LSR_SENDER_IDLE = 0x40,
  LSR_ERRORS = 0x1E
};
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80, MSR_RI_ENDED = 0x04 };

typedef struct Fifo {
  uint8_t bytes[FIFO_BYTES];
  uint8_t first, count;
} Fifo;

typedef struct Uart {
  VmDevice dev;
  VmIrq irq;
  VmChardev *chardev;
  Fifo received, sending;
  uint16_t divisor;
  uint8_t ier, fcr, lcr, mcr, msr, scratch;
  uint8_t errors;    /* of the LSR: until it is read */
  bool sent_pending; /* "transmitter empty" was not yet acknowledged */
  bool timed_out;    /* received bytes have waited */
  VmTimer timeout;
} Uart;

static const VmField fifo_fields[] = {
  VM_BYTES(Fifo, bytes),
  VM_UINT_MAX(Fifo, first, FIFO_BYTES - 1),
  VM_UINT_MAX(Fifo, count, FIFO_BYTES),
  VM_FIELDS_END,
};

static const VmField uart_fields[] = {
  VM_TRANSIENT(Uart, irq, "wiring"),
  VM_TRANSIENT(Uart, chardev, "wiring"),
  VM_STRUCT(Uart, received, fifo_fields),
  VM_STRUCT(Uart, sending, fifo_fields),
  VM_UINT(Uart, divisor),
  VM_UINT_MAX(Uart, ier, IER_ALL),
  VM_UINT(Uart, fcr),
  VM_UINT(Uart, lcr),
  VM_UINT_MAX(Uart, mcr, MCR_ALL),
  VM_UINT(Uart, msr),
  VM_UINT(Uart, scratch),
  VM_UINT(Uart, errors),
  VM_UINT_MAX(Uart, sent_pending, 1),
  VM_UINT_MAX(Uart, timed_out, 1),
  VM_TIMER(Uart, timeout),
  VM_FIELDS_END,
};

/* ---- FIFOs ------------------------------------------------------------------------------------------------------------ */

static bool fifo_push(Fifo *fifo, uint8_t byte)
{
  if (fifo->count >= FIFO_BYTES)
    return false;
  fifo->bytes[(fifo->first + fifo->count++) % FIFO_BYTES] = byte;
  return true;
}

static uint8_t fifo_pop(Fifo *fifo)
{
  uint8_t byte = fifo->bytes[fifo->first];
  fifo->first = (fifo->first + 1) % FIFO_BYTES;
  fifo->count--;
  return byte;
}

static void fifo_clear(Fifo *fifo)
{
  fifo->first = fifo->count = 0;
}

static bool has_fifos(const Uart *uart)
{
  return (uart->fcr & FCR_ENABLE) != 0;
}

/* How many bytes a FIFO holds; without them there is one holding register. */
static unsigned capacity(const Uart *uart)
{
  return has_fifos(uart) ? FIFO_BYTES : 1;
}

static unsigned trigger_level(const Uart *uart)
{
  static const uint8_t levels[4] = { 1, 4, 8, 14 };
  return has_fifos(uart) ? levels[uart->fcr >> 6] : 1;
}

/* ---- interrupt -------------------------------------------------------------------------------------------------------- */

static uint8_t interrupt_source(const Uart *uart)
{
  if ((uart->ier & IER_LINE) && uart->errors)
    return IIR_LINE;
  if ((uart->ier & IER_RECEIVED) && uart->received.count >= trigger_level(uart))
    return IIR_RECEIVED;
  if ((uart->ier & IER_RECEIVED) && uart->timed_out)
    return IIR_TIMEOUT;
  if ((uart->ier & IER_SENT) && uart->sent_pending)
    return IIR_SENT;
  if ((uart->ier & IER_MODEM) && (uart->msr & 0x0F))
    return IIR_MODEM;
  return IIR_NONE;
}

static void update_irq(Uart *uart)
{
  bool wired = (uart->mcr & (MCR_OUT2 | MCR_LOOP)) == MCR_OUT2;
  vm_irq_set(&uart->irq, wired && interrupt_source(uart) != IIR_NONE);
}

/* ---- receiving -------------------------------------------------------------------------------------------------------- */

static int64_t character_ns(const Uart *uart)
{
  unsigned bits = 1 + 5 + (uart->lcr & 3) + (uart->lcr & LCR_PARITY ? 1 : 0) + (uart->lcr & LCR_TWO_STOP ? 2 : 1);
  return (int64_t)bits * 16 * MAX(uart->divisor, 1) * VM_NS_PER_SEC / CLOCK_HZ;
}

/* Counts anew after each byte that comes or is read. */
static void restart_timeout(Uart *uart)
{
  uart->timed_out = false;
  if (!has_fifos(uart) || uart->received.count == 0)
    vm_timer_cancel(&uart->timeout);
  else
    vm_timer_set(&uart->timeout, vm_clock_get_ns(vm_get_clock(uart->dev.vm)) + TIMEOUT_CHARACTERS * character_ns(uart));
}

static void on_timeout(void *opaque)
{
  Uart *uart = opaque;
  uart->timed_out = uart->received.count > 0;
  update_irq(uart);
}

/* A full FIFO keeps what it has; without FIFOs the newer byte takes the older's place. */
static void receive_byte(Uart *uart, uint8_t byte)
{
  if (uart->received.count >= capacity(uart)) {
    uart->errors |= LSR_OVERRUN;
    if (has_fifos(uart))
      return;
    fifo_clear(&uart->received);
  }
  fifo_push(&uart->received, byte);
  restart_timeout(uart);
}

static size_t on_can_receive(void *opaque)
{
  const Uart *uart = opaque;
  unsigned room = capacity(uart);
  if ((uart->mcr & MCR_LOOP) || uart->received.count >= room)
    return 0;
  return room - uart->received.count;
}

static void on_receive(void *opaque, const uint8_t *bytes, size_t size)
{
  Uart *uart = opaque;
  for (size_t i = 0; i < size; i++)
    receive_byte(uart, bytes[i]);
  update_irq(uart);
}

static void accept_input(Uart *uart)
{
  if (uart->chardev != NULL && on_can_receive(uart) > 0)
    vm_chardev_accept_input(uart->chardev);
}

/* ---- sending ---------------------------------------------------------------------------------------------------------- */

static bool far_end_takes(Uart *uart, uint8_t byte)
{
  return uart->chardev == NULL || vm_chardev_write(uart->chardev, &byte, 1) == 1;
}

/* Hands over what the far end takes. */
static void send_waiting(Uart *uart)
{
  if (uart->sending.count == 0)
    return;
  while (uart->sending.count > 0 && far_end_takes(uart, uart->sending.bytes[uart->sending.first]))
    fifo_pop(&uart->sending);
  if (uart->sending.count == 0)
    uart->sent_pending = true;
}

static void on_writable(void *opaque)
{
  Uart *uart = opaque;
  send_waiting(uart);
  update_irq(uart);
}

/* A byte that finds no room is lost: the guest did not look at the status. */
static void send_byte(Uart *uart, uint8_t byte)
{
  uart->sent_pending = false;
  if (uart->mcr & MCR_LOOP) {
    receive_byte(uart, byte);
    uart->sent_pending = true;
    return;
  }
  if (uart->sending.count < capacity(uart))
    fifo_push(&uart->sending, byte);
  send_waiting(uart);
}

/* ---- modem lines ------------------------------------------------------------------------------------------------------ */

static uint8_t modem_inputs(const Uart *uart)
{
  if (!(uart->mcr & MCR_LOOP))
    return uart->chardev != NULL ? MSR_CTS | MSR_DSR | MSR_DCD : 0;
  return (uart->mcr & MCR_RTS ? MSR_CTS : 0) | (uart->mcr & MCR_DTR ? MSR_DSR : 0) |
         (uart->mcr & MCR_OUT1 ? MSR_RI : 0) | (uart->mcr & MCR_OUT2 ? MSR_DCD : 0);
}

/* Bits 0–3 remember what changed; of the ring indicator only its end. */
static void update_modem_status(Uart *uart)
{
  uint8_t new = modem_inputs(uart), old = uart->msr & 0xF0;
  uint8_t changed = (new ^ old) >> 4;
  if (!((old & MSR_RI) && !(new &MSR_RI)))
    changed &= ~MSR_RI_ENDED;
  uart->msr = new | (uart->msr & 0x0F) | changed;
}

/* ---- registers -------------------------------------------------------------------------------------------------------- */

static uint8_t read_received(Uart *uart)
{
  uint8_t byte = uart->received.bytes[uart->received.first];
  if (uart->received.count == 0)
    return 0;
  fifo_pop(&uart->received);
  restart_timeout(uart);
  return byte;
}

static uint8_t read_interrupt_source(Uart *uart)
{
  uint8_t source = interrupt_source(uart);
  if (source == IIR_SENT)
    uart->sent_pending = false;
  return source | (has_fifos(uart) ? IIR_FIFOS : 0);
}

static uint8_t read_line_status(Uart *uart)
{
  uint8_t value = uart->errors | (uart->received.count > 0 ? LSR_DATA : 0);
  if (uart->sending.count == 0)
    value |= LSR_SENDER_EMPTY | LSR_SENDER_IDLE;
  uart->errors = 0;
  return value;
}

static uint8_t read_modem_status(Uart *uart)
{
  uint8_t value = uart->msr;
  uart->msr &= 0xF0;
  return value;
}

static void write_fifo_control(Uart *uart, uint8_t value)
{
  bool toggled = ((uart->fcr ^ value) & FCR_ENABLE) != 0;
  if (toggled || ((value & FCR_ENABLE) && (value & FCR_CLEAR_RECEIVER)))
    fifo_clear(&uart->received);
  if (toggled || ((value & FCR_ENABLE) && (value & FCR_CLEAR_SENDER))) {
    fifo_clear(&uart->sending);
    uart->sent_pending = true;
  }
  uart->fcr = value & FCR_ENABLE ? value & 0xC9 : 0;
  restart_timeout(uart);
}

static void write_interrupt_enable(Uart *uart, uint8_t value)
{
  bool newly = (value & ~uart->ier & IER_SENT) != 0;
  uart->ier = value & IER_ALL;
  if (newly && uart->sending.count == 0)
    uart->sent_pending = true;
}

static void write_line_control(Uart *uart, uint8_t value)
{
  /* In loopback the receiver sees a break that the sender makes: a zero byte without a stop bit. */
  if ((uart->mcr & MCR_LOOP) && (value & ~uart->lcr & LCR_BREAK)) {
    receive_byte(uart, 0);
    uart->errors |= LSR_BREAK;
  }
  uart->lcr = value;
}

static uint64_t uart_read(void *opaque, uint64_t offset, unsigned size)
{
  Uart *uart = opaque;
  bool dlab = (uart->lcr & LCR_DLAB) != 0;
  uint8_t value;
  switch (offset) {
  case 0:
    value = dlab ? uart->divisor & 0xFF : read_received(uart);
    break;
  case 1:
    value = dlab ? uart->divisor >> 8 : uart->ier;
    break;
  case 2:
    value = read_interrupt_source(uart);
    break;
  case 3:
    value = uart->lcr;
    break;
  case 4:
    value = uart->mcr;
    break;
  case 5:
    value = read_line_status(uart);
    break;
  case 6:
    value = read_modem_status(uart);
    break;
  default:
    value = uart->scratch;
    break;
  }
  update_irq(uart);
  if (offset == 0 && !dlab)
    accept_input(uart);
  return value;
}

static void write_low_registers(Uart *uart, uint64_t offset, uint8_t value)
{
  if (uart->lcr & LCR_DLAB)
    uart->divisor = offset == 0 ? (uart->divisor & 0xFF00) | value : (uart->divisor & 0x00FF) | value << 8;
  else if (offset == 0)
    send_byte(uart, value);
  else
    write_interrupt_enable(uart, value);
}

static void uart_write(void *opaque, uint64_t offset, uint64_t value64, unsigned size)
{
  Uart *uart = opaque;
  uint8_t value = (uint8_t)value64;
  switch (offset) {
  case 0:
  case 1:
    write_low_registers(uart, offset, value);
    break;
  case 2:
    write_fifo_control(uart, value);
    break;
  case 3:
    write_line_control(uart, value);
    break;
  case 4:
    uart->mcr = value & MCR_ALL;
    update_modem_status(uart);
    break;
  case 7:
    uart->scratch = value;
    break;
  default: /* the status registers' writes are for factory tests */
    break;
  }
  update_irq(uart);
  if (offset == 2 || offset == 4)
    accept_input(uart);
}

static const VmMmioOps uart_ops = { .read = uart_read, .write = uart_write, .impl_min = 1, .impl_max = 1 };

/* ---- device ----------------------------------------------------------------------------------------------------------- */

static const VmChardevHandler uart_handler = {
  .can_receive = on_can_receive,
  .receive = on_receive,
  .writable = on_writable,
};

/* Not earlier than the first reset or load, which would lose what was typed before. */
static void listen_to_far_end(Uart *uart)
{
  if (uart->chardev != NULL)
    vm_chardev_set_handler(uart->chardev, &uart_handler, uart);
}

static void uart_reset(VmDevice *dev)
{
  Uart *uart = (Uart *)dev;
  fifo_clear(&uart->received);
  fifo_clear(&uart->sending);
  uart->divisor = DEFAULT_DIVISOR;
  uart->ier = uart->fcr = uart->lcr = uart->mcr = uart->scratch = uart->errors = 0;
  uart->msr = modem_inputs(uart);
  uart->sent_pending = true;
  uart->timed_out = false;
  vm_timer_cancel(&uart->timeout);
  update_irq(uart);
  listen_to_far_end(uart);
}

static void uart_loaded(VmDevice *dev)
{
  Uart *uart = (Uart *)dev;
  send_waiting(uart);
  update_irq(uart);
  listen_to_far_end(uart);
}

static void uart_finish(VmDevice *dev)
{
  Uart *uart = (Uart *)dev;
  vm_chardev_free(uart->chardev);
  vm_timer_finish(&uart->timeout);
}

const VmDeviceType uart16550_type = {
  .name = "uart16550",
  .version = 1,
  .size = sizeof(Uart),
  .fields = uart_fields,
  .reset = uart_reset,
  .loaded = uart_loaded,
  .finish = uart_finish,
};

uint16_t uart16550_default_port(unsigned n)
{
  static const uint16_t ports[4] = { 0x3F8, 0x2F8, 0x3E8, 0x2E8 };
  return ports[n & 3];
}

unsigned uart16550_default_irq(unsigned n)
{
  return n & 1 ? 3 : 4;
}

VmDevice *uart16550_new(Vm *vm, const char *id, uint16_t port, const VmIrq *irq, VmChardev *chardev)
{
  Uart *uart = vm_device_new(vm, &uart16550_type, id);
  uart->irq = *irq;
  uart->chardev = chardev;
  vm_timer_init(&uart->timeout, uart->dev.ctx, on_timeout, uart);
  vm_region_new_io(vm_get_memory(vm), id, VM_SPACE_PORTS, port, 8, 0, &uart_ops, uart, uart->dev.ctx);
  return &uart->dev;
}
