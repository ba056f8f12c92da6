/*
 * Local APICs, one for each vCPU, and the bus that carries interrupt messages to them (Intel SDM volume 3, chapter 11).
 *
 * Lock: the main I/O context's, as for any device. VmCpuIntcOps are called without it and take it.
 */
#ifndef HW_INTC_LAPIC_H
#define HW_INTC_LAPIC_H

#include "vm-engine/device.h"
#include "vm-engine/irq.h"
#include "vm-engine/vcpu.h"

typedef struct Lapic Lapic;
typedef struct LapicBus LapicBus;
typedef struct I8259 I8259;

#define LAPIC_BASE 0xfee00000u
/* The timer's input clock, before the divide configuration. */
#define LAPIC_TIMER_HZ 1000000000u
#define LAPIC_MAX_CPUS 64

typedef enum LapicDelivery {
  LAPIC_FIXED,
  LAPIC_LOWEST,
  LAPIC_SMI,
  LAPIC_RESERVED,
  LAPIC_NMI,
  LAPIC_INIT,
  LAPIC_SIPI,
  LAPIC_EXTINT
} LapicDelivery;

/* An interrupt message. `destination` is 8 bits in xAPIC form (0xFF = all), 32 bits with `wide` (0xFFFFFFFF = all). */
typedef struct LapicMessage {
  uint32_t destination;
  bool wide;
  bool logical;
  bool level; /* trigger mode: the EOI is broadcast to the I/O APIC */
  uint8_t vector;
  LapicDelivery delivery;
} LapicMessage;

/* Creates the bus ("lapic-bus", owned by the machine). It listens to `pic`'s INTR and wires it to every LINT0; the CPUs
 * acknowledge from it. */
LapicBus *lapic_bus_create(Vm *vm, I8259 *pic);
/* Creates "lapic.N" and makes it `cpu`'s interrupt controller. `apic_id` below LAPIC_MAX_CPUS and unique. */
Lapic *lapic_create(LapicBus *bus, VmCpu *cpu, uint8_t apic_id);

/* Sends a message; true if some local APIC took it. */
bool lapic_bus_deliver(LapicBus *bus, const LapicMessage *message);
/* A device's message-signalled interrupt: a write of `data` to 0xFEExxxxx. */
void lapic_deliver_msi(LapicBus *bus, uint64_t address, uint32_t data);
/* The NMI wire: LINT1 of every CPU. */
VmIrq lapic_bus_nmi(LapicBus *bus);
/* Tells who hears of the end of level-triggered interrupts: `func(opaque, vector, ...)`. Set-up only. */
typedef void (*LapicEoiFunc)(void *opaque, uint8_t vector);
void lapic_bus_set_eoi(LapicBus *bus, LapicEoiFunc func, void *opaque);

/* Another counter for the TSC-deadline timer: its rate, and how to read the guest's counter now. Without this call it is
 * the accelerator's (VmAccelOps.cpu_get_tsc) where it has one, else the machine's (vm-engine/x86/tsc.h) plus
 * X86Cpu.tsc_offset. Set-up only. */
typedef uint64_t (*LapicTscFunc)(VmCpu *cpu, void *opaque);
void lapic_set_tsc(Lapic *lapic, uint64_t hz, LapicTscFunc now, void *opaque);

#endif
