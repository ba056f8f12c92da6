/*
 * The debug-exit port: what test programs write their result to. It models no hardware; the encoding is the one that
 * QEMU's isa-debug-exit has made customary, so that existing test programs work.
 */
#include "hw/char/debug-exit.h"

#include "vm-engine/device.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

typedef struct DebugExit {
  VmDevice dev;
  VmRegion *ports;
} DebugExit;

static const VmField debug_exit_fields[] = {
  VM_TRANSIENT(DebugExit, ports, "wiring"),
  VM_FIELDS_END,
};

static uint64_t debug_exit_read(void *opaque, uint64_t offset, unsigned size)
{
  return 0;
}

static void debug_exit_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  DebugExit *d = opaque;
  vm_request_end(d->dev.vm, (int)((uint32_t)value << 1 | 1), NULL);
}

static const VmMmioOps debug_exit_ops = { debug_exit_read, debug_exit_write, 1, 4, false };

static void debug_exit_reset(VmDevice *dev) {}

static const VmDeviceType debug_exit_type = {
  .name = "debug-exit",
  .version = 1,
  .size = sizeof(DebugExit),
  .fields = debug_exit_fields,
  .reset = debug_exit_reset,
};

const VmDeviceType *debug_exit_get_type(void)
{
  return &debug_exit_type;
}

VmDevice *debug_exit_new(Vm *vm, uint16_t port)
{
  DebugExit *d = vm_device_new(vm, &debug_exit_type, "debug-exit");
  uint64_t size = MIN(4, 0x10000 - port);
  d->ports =
      vm_region_new_io(vm_get_memory(vm), "debug-exit", VM_SPACE_PORTS, port, size, 1, &debug_exit_ops, d, d->dev.ctx);
  return &d->dev;
}
