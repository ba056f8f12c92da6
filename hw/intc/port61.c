/*
 * Port 0x61 (IBM PC/AT Technical Reference, "system control port B"; 82371SB PIIX3, NMI status and control).
 *
 * The refresh bit toggles with the DRAM refresh of an AT, every 15.085 us; old programs time themselves by it. It is a
 * function of virtual time. IOCHK# and SERR# are latched until their disable bit is set.
 */
#include "hw/intc/port61.h"

#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

enum {
  PORT = 0x61,
  GATE = 1 << 0,
  SPEAKER_DATA = 1 << 1,
  SERR_DISABLE = 1 << 2,
  IOCHK_DISABLE = 1 << 3,
  REFRESH = 1 << 4,
  OUTPUT = 1 << 5,
  IOCHK = 1 << 6,
  SERR = 1 << 7,
  WRITABLE = GATE | SPEAKER_DATA | SERR_DISABLE | IOCHK_DISABLE,

  SPEAKER_CHANNEL = 2,
  REFRESH_NS = 15085,
};

struct Port61 {
  VmDevice dev;
  I8254 *pit;
  VmIrq nmi;
  Port61SpeakerFunc speaker;
  void *speaker_opaque;
  uint8_t control;
  uint8_t pending; /* IOCHK and SERR, latched */
  bool nmi_masked;
};

static const VmField port61_fields[] = {
  VM_TRANSIENT(Port61, pit, "wiring"),
  VM_TRANSIENT(Port61, nmi, "wiring"),
  VM_TRANSIENT(Port61, speaker, "wiring"),
  VM_TRANSIENT(Port61, speaker_opaque, "wiring"),
  VM_UINT(Port61, control),
  VM_UINT(Port61, pending),
  VM_UINT(Port61, nmi_masked),
  VM_FIELDS_END,
};

static void update_nmi(Port61 *s)
{
  vm_irq_set(&s->nmi, s->pending != 0 && !s->nmi_masked);
}

static void latch(Port61 *s, uint8_t source, uint8_t disable, bool level)
{
  if (level && !(s->control & disable))
    s->pending |= source;
  update_nmi(s);
}

static void set_iochk(void *opaque, unsigned line, bool level)
{
  latch(opaque, IOCHK, IOCHK_DISABLE, level);
}

static void set_serr(void *opaque, unsigned line, bool level)
{
  latch(opaque, SERR, SERR_DISABLE, level);
}

static void set_nmi_mask(void *opaque, unsigned line, bool level)
{
  Port61 *s = opaque;
  s->nmi_masked = level;
  update_nmi(s);
}

VmIrq port61_nmi_mask(Port61 *port61)
{
  return (VmIrq){ .func = set_nmi_mask, .opaque = port61 };
}

VmIrq port61_iochk(Port61 *port61)
{
  return (VmIrq){ .func = set_iochk, .opaque = port61 };
}

VmIrq port61_serr(Port61 *port61)
{
  return (VmIrq){ .func = set_serr, .opaque = port61 };
}

static void update_speaker(Port61 *s)
{
  if (s->speaker == NULL)
    return;
  bool sounding = (s->control & SPEAKER_DATA) && i8254_get_output(s->pit, SPEAKER_CHANNEL);
  int64_t period_ns = i8254_get_wave_period_ns(s->pit, SPEAKER_CHANNEL);
  if ((s->control & (SPEAKER_DATA | GATE)) == (SPEAKER_DATA | GATE) && period_ns > 0)
    s->speaker(s->speaker_opaque, true, period_ns);
  else
    s->speaker(s->speaker_opaque, sounding, 0);
}

static void on_channel_changed(void *opaque, unsigned channel)
{
  if (channel == SPEAKER_CHANNEL)
    update_speaker(opaque);
}

void port61_set_speaker(Port61 *port61, Port61SpeakerFunc func, void *opaque)
{
  port61->speaker = func;
  port61->speaker_opaque = opaque;
}

static uint64_t port61_read(void *opaque, uint64_t offset, unsigned size)
{
  const Port61 *s = opaque;
  int64_t now = vm_clock_get_ns(vm_get_clock(s->dev.vm));
  unsigned value = s->control | s->pending;
  if (now / REFRESH_NS & 1)
    value |= REFRESH;
  if (i8254_get_output(s->pit, SPEAKER_CHANNEL))
    value |= OUTPUT;
  return value;
}

static void port61_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  Port61 *s = opaque;
  s->control = value & WRITABLE;
  if (s->control & IOCHK_DISABLE)
    s->pending &= (uint8_t)~IOCHK;
  if (s->control & SERR_DISABLE)
    s->pending &= (uint8_t)~SERR;
  i8254_set_gate(s->pit, SPEAKER_CHANNEL, s->control & GATE);
  update_speaker(s);
  update_nmi(s);
}

static const VmMmioOps port61_ops = { .read = port61_read, .write = port61_write, .impl_max = 1 };

static void port61_reset(VmDevice *dev)
{
  Port61 *s = (Port61 *)dev;
  s->control = 0;
  s->pending = 0;
  s->nmi_masked = false;
  i8254_set_gate(s->pit, SPEAKER_CHANNEL, false);
  update_nmi(s);
  update_speaker(s);
}

static void port61_loaded(VmDevice *dev)
{
  update_nmi((Port61 *)dev);
  update_speaker((Port61 *)dev);
}

static const VmDeviceType port61_type = {
  .name = "port61",
  .version = 1,
  .size = sizeof(Port61),
  .fields = port61_fields,
  .reset = port61_reset,
  .loaded = port61_loaded,
};

Port61 *port61_create(Vm *vm, I8254 *pit, VmIrq nmi)
{
  Port61 *s = vm_device_new(vm, &port61_type, "port61");
  s->pit = pit;
  s->nmi = nmi;
  i8254_set_listener(pit, on_channel_changed, s);
  vm_region_new_io(vm_get_memory(vm), "port61", VM_SPACE_PORTS, PORT, 1, 0, &port61_ops, s, s->dev.ctx);
  port61_reset(&s->dev);
  return s;
}
