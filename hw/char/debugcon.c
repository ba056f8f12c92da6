/*
 * The debug console that PC firmware for virtual machines writes its log to (SeaBIOS' CONFIG_DEBUG_IO, OVMF's
 * DebugLibIoPort): a port that reads 0xE9 where it exists. It has no state. A far end that is slow loses text: a log is
 * not worth stopping a guest for, and the firmware never looks.
 */
#include "hw/char/debugcon.h"

#include "vm-engine/chardev.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define PRESENT 0xE9

typedef struct Debugcon {
  VmDevice dev;
  VmChardev *chardev;
  DebugconSink sink;
  void *sink_opaque;
} Debugcon;

static const VmField debugcon_fields[] = {
  VM_TRANSIENT(Debugcon, chardev, "wiring"),
  VM_TRANSIENT(Debugcon, sink, "wiring"),
  VM_TRANSIENT(Debugcon, sink_opaque, "wiring"),
  VM_FIELDS_END,
};

static uint64_t debugcon_read(void *opaque, uint64_t offset, unsigned size)
{
  return PRESENT;
}

static void debugcon_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Debugcon *debugcon = opaque;
  uint8_t byte = (uint8_t)value;
  if (debugcon->chardev != NULL)
    (void)vm_chardev_write(debugcon->chardev, &byte, 1);
  if (debugcon->sink != NULL)
    debugcon->sink(debugcon->sink_opaque, byte);
}

static const VmMmioOps debugcon_ops = { .read = debugcon_read, .write = debugcon_write, .impl_min = 1, .impl_max = 1 };

static void debugcon_reset(VmDevice *dev) {}

static void debugcon_finish(VmDevice *dev)
{
  vm_chardev_free(((Debugcon *)dev)->chardev);
}

const VmDeviceType debugcon_type = {
  .name = "debugcon",
  .version = 1,
  .size = sizeof(Debugcon),
  .fields = debugcon_fields,
  .reset = debugcon_reset,
  .finish = debugcon_finish,
};

VmDevice *debugcon_new(Vm *vm, const char *id, uint16_t port, VmChardev *chardev)
{
  Debugcon *debugcon = vm_device_new(vm, &debugcon_type, id);
  debugcon->chardev = chardev;
  vm_region_new_io(vm_get_memory(vm), id, VM_SPACE_PORTS, port, 1, 0, &debugcon_ops, debugcon, debugcon->dev.ctx);
  return &debugcon->dev;
}

void debugcon_set_sink(VmDevice *dev, DebugconSink sink, void *opaque)
{
  Debugcon *debugcon = (Debugcon *)dev;
  debugcon->sink = sink;
  debugcon->sink_opaque = opaque;
}
