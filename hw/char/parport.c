/*
 * A parallel port: IBM PC/AT Technical Reference, "Parallel Adapter", with the PS/2's direction bit; IEEE 1284
 * compatibility mode.
 *
 *   0 data   1 status (read-only)   2 control
 *
 * The printer takes a byte at the end of a strobe pulse, acknowledges at once and is busy only while its far end takes
 * nothing.
 */
#include "hw/char/parport.h"

#include "vm-engine/chardev.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

enum {
  STATUS_NOT_BUSY = 0x80,
  STATUS_NO_ACK = 0x40, /* the pulse is over before a guest can look */
  STATUS_SELECTED = 0x10,
  STATUS_NO_ERROR = 0x08,
  STATUS_UNUSED = 0x07
};
enum { CONTROL_STROBE = 0x01, CONTROL_IRQ = 0x10, CONTROL_INPUT = 0x20, CONTROL_ALL = 0x3F, CONTROL_UNUSED = 0xC0 };

typedef struct Parport {
  VmDevice dev;
  VmIrq irq;
  VmChardev *chardev;
  uint8_t data;
  uint8_t control;
  uint8_t printing; /* the byte that waits, while busy */
  bool busy;
} Parport;

static const VmField parport_fields[] = {
  VM_TRANSIENT(Parport, irq, "wiring"),
  VM_TRANSIENT(Parport, chardev, "wiring"),
  VM_UINT(Parport, data),
  VM_UINT_MAX(Parport, control, CONTROL_ALL),
  VM_UINT(Parport, printing),
  VM_UINT_MAX(Parport, busy, 1),
  VM_FIELDS_END,
};

static void try_printing(Parport *port)
{
  if (!port->busy || port->chardev == NULL || vm_chardev_write(port->chardev, &port->printing, 1) != 1)
    return;
  port->busy = false;
  if (port->control & CONTROL_IRQ)
    vm_irq_pulse(&port->irq);
}

static void on_writable(void *opaque)
{
  try_printing(opaque);
}

static size_t on_can_receive(void *opaque)
{
  return 0;
}

static void on_receive(void *opaque, const uint8_t *bytes, size_t size) {}

static void write_control(Parport *port, uint8_t value)
{
  bool strobe_ended = (port->control & ~value & CONTROL_STROBE) != 0;
  port->control = value & CONTROL_ALL;
  if (!strobe_ended || port->busy || port->chardev == NULL)
    return;
  port->printing = port->data;
  port->busy = true;
  try_printing(port);
}

static uint8_t read_status(const Parport *port)
{
  if (port->chardev == NULL) /* no printer: the lines float high, and so "busy", which is inverted, is on */
    return 0xFF & ~STATUS_NOT_BUSY;
  return STATUS_NO_ACK | STATUS_SELECTED | STATUS_NO_ERROR | STATUS_UNUSED | (port->busy ? 0 : STATUS_NOT_BUSY);
}

static uint64_t parport_read(void *opaque, uint64_t offset, unsigned size)
{
  const Parport *port = opaque;
  switch (offset) {
  case 0: /* as an input there is nobody who drives the lines */
    return port->control & CONTROL_INPUT ? 0xFF : port->data;
  case 1:
    return read_status(port);
  default:
    return port->control | CONTROL_UNUSED;
  }
}

static void parport_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Parport *port = opaque;
  if (offset == 0)
    port->data = (uint8_t)value;
  else if (offset == 2)
    write_control(port, (uint8_t)value);
}

static const VmMmioOps parport_ops = { .read = parport_read, .write = parport_write, .impl_min = 1, .impl_max = 1 };

static void parport_reset(VmDevice *dev)
{
  Parport *port = (Parport *)dev;
  port->data = 0;
  port->control = 0x0C; /* not initialising, selected */
  port->printing = 0;
  port->busy = false;
  vm_irq_lower(&port->irq);
}

static void parport_loaded(VmDevice *dev)
{
  try_printing((Parport *)dev);
}

static void parport_finish(VmDevice *dev)
{
  vm_chardev_free(((Parport *)dev)->chardev);
}

const VmDeviceType parport_type = {
  .name = "parport",
  .version = 1,
  .size = sizeof(Parport),
  .fields = parport_fields,
  .reset = parport_reset,
  .loaded = parport_loaded,
  .finish = parport_finish,
};

static const VmChardevHandler parport_handler = {
  .can_receive = on_can_receive,
  .receive = on_receive,
  .writable = on_writable,
};

VmDevice *parport_new(Vm *vm, const char *id, uint16_t port_number, const VmIrq *irq, VmChardev *chardev)
{
  Parport *port = vm_device_new(vm, &parport_type, id);
  port->irq = *irq;
  port->chardev = chardev;
  vm_region_new_io(vm_get_memory(vm), id, VM_SPACE_PORTS, port_number, 3, 0, &parport_ops, port, port->dev.ctx);
  if (chardev != NULL)
    vm_chardev_set_handler(chardev, &parport_handler, port);
  return &port->dev;
}
