/*
 * The A20 gate and port 0x92 (IBM PS/2 Hardware Interface Technical Reference, "System Control Port A").
 *
 * The two sources are or-ed, as on every PC that has both. After a reset A20 is on: the first fetch comes from the top
 * of the address space.
 */
#include "hw/intc/port92.h"

#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

enum {
  PORT = 0x92,
  RESET = 1 << 0,
  A20 = 1 << 1,
};

struct Port92 {
  VmDevice dev;
  uint8_t value;
  bool keyboard_a20;
};

static const VmField port92_fields[] = {
  VM_UINT(Port92, value),
  VM_UINT(Port92, keyboard_a20),
  VM_FIELDS_END,
};

static void update(Port92 *s)
{
  VmMemory *memory = vm_get_memory(s->dev.vm);
  bool on = s->keyboard_a20 || (s->value & A20);
  if (on != vm_memory_get_a20(memory))
    vm_memory_set_a20(memory, on);
}

static void set_keyboard_a20(void *opaque, unsigned line, bool level)
{
  Port92 *s = opaque;
  s->keyboard_a20 = level;
  update(s);
}

VmIrq port92_keyboard_a20(Port92 *port92)
{
  return (VmIrq){ .func = set_keyboard_a20, .opaque = port92 };
}

static uint64_t port92_read(void *opaque, uint64_t offset, unsigned size)
{
  return ((Port92 *)opaque)->value;
}

static void port92_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Port92 *s = opaque;
  bool reset = (value & RESET) && !(s->value & RESET);
  s->value = (uint8_t)value;
  update(s);
  if (reset)
    vm_request_reset(s->dev.vm);
}

static const VmMmioOps port92_ops = { .read = port92_read, .write = port92_write, .impl_max = 1 };

static void port92_reset(VmDevice *dev)
{
  Port92 *s = (Port92 *)dev;
  s->value = 0;
  s->keyboard_a20 = true;
  update(s);
}

static void port92_loaded(VmDevice *dev)
{
  update((Port92 *)dev);
}

static const VmDeviceType port92_type = {
  .name = "port92",
  .version = 1,
  .size = sizeof(Port92),
  .fields = port92_fields,
  .reset = port92_reset,
  .loaded = port92_loaded,
};

Port92 *port92_create(Vm *vm)
{
  Port92 *s = vm_device_new(vm, &port92_type, "port92");
  vm_region_new_io(vm_get_memory(vm), "port92", VM_SPACE_PORTS, PORT, 1, 0, &port92_ops, s, s->dev.ctx);
  port92_reset(&s->dev);
  return s;
}
