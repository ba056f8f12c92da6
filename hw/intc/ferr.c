/*
 * Coprocessor errors as an AT reports them (IBM PC/AT Technical Reference; 82371SB PIIX3, coprocessor error register).
 *
 * With CR0.NE clear, an unmasked x87 exception asserts FERR#. That latches IRQ 13; a write to port 0xF0 clears it and
 * asserts IGNNE#, under which the CPU goes on until FERR# falls.
 */
#include "hw/intc/ferr.h"

#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

enum {
  PORT = 0xf0,
  PORTS = 2, /* 0xF1 resets the coprocessor of an AT; it ends the error in the same way */
};

struct Ferr {
  VmDevice dev;
  VmIrq irq;
  bool ferr;
  bool latched;
  bool ignne;
};

static const VmField ferr_fields[] = {
  VM_TRANSIENT(Ferr, irq, "wiring"), VM_UINT(Ferr, ferr), VM_UINT(Ferr, latched), VM_UINT(Ferr, ignne), VM_FIELDS_END,
};

static void set_ferr(void *opaque, unsigned line, bool level)
{
  Ferr *s = opaque;
  if (level && !s->ferr)
    s->latched = true;
  if (!level)
    s->ignne = false;
  s->ferr = level;
  vm_irq_set(&s->irq, s->latched);
}

VmIrq ferr_line(Ferr *ferr)
{
  return (VmIrq){ .func = set_ferr, .opaque = ferr };
}

bool ferr_get_ignne(const Ferr *ferr)
{
  return ferr->ignne;
}

static uint64_t ferr_read(void *opaque, uint64_t offset, unsigned size)
{
  return UINT64_MAX;
}

static void ferr_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Ferr *s = opaque;
  s->latched = false;
  s->ignne = s->ferr;
  vm_irq_lower(&s->irq);
}

static const VmMmioOps ferr_ops = { .read = ferr_read, .write = ferr_write, .impl_max = 1 };

static void ferr_reset(VmDevice *dev)
{
  Ferr *s = (Ferr *)dev;
  s->ferr = s->latched = s->ignne = false;
  vm_irq_lower(&s->irq);
}

static void ferr_loaded(VmDevice *dev)
{
  const Ferr *s = (Ferr *)dev;
  vm_irq_set(&s->irq, s->latched);
}

static const VmDeviceType ferr_type = {
  .name = "ferr",
  .version = 1,
  .size = sizeof(Ferr),
  .fields = ferr_fields,
  .reset = ferr_reset,
  .loaded = ferr_loaded,
};

Ferr *ferr_create(Vm *vm, VmIrq irq)
{
  Ferr *s = vm_device_new(vm, &ferr_type, "ferr");
  s->irq = irq;
  vm_region_new_io(vm_get_memory(vm), "coprocessor", VM_SPACE_PORTS, PORT, PORTS, 0, &ferr_ops, s, s->dev.ctx);
  ferr_reset(&s->dev);
  return s;
}
