/*
 * What lapic.c (registers, priorities, timer) and lapic-bus.c (messages between them) share.
 */
#ifndef HW_INTC_LAPIC_PRIVATE_H
#define HW_INTC_LAPIC_PRIVATE_H

#include "hw/intc/lapic.h"
#include "vm-engine/memory.h"

enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, N_LVT };
enum { LAPIC_N_LINTS = 2, LAPIC_VECTOR_WORDS = 8 };

#define APIC_BASE_BSP     (UINT64_C(1) << 8)
#define APIC_BASE_X2APIC  (UINT64_C(1) << 10)
#define APIC_BASE_ENABLE  (UINT64_C(1) << 11)
#define APIC_BASE_ADDRESS UINT64_C(0x000ffffffffff000)

struct Lapic {
  VmDevice dev;
  LapicBus *bus;
  VmCpu *cpu;
  VmRegion *region;
  LapicTscFunc tsc_now;
  void *tsc_opaque;
  uint64_t tsc_hz;
  uint8_t id;
  bool output;   /* INTR as the CPU was told */
  uint64_t base; /* IA32_APIC_BASE */
  uint64_t icr;
  uint32_t irr[LAPIC_VECTOR_WORDS];
  uint32_t isr[LAPIC_VECTOR_WORDS];
  uint32_t tmr[LAPIC_VECTOR_WORDS];
  uint32_t lvt[N_LVT];
  uint32_t svr;
  uint32_t dfr;
  uint32_t esr;         /* as latched by the last write */
  uint32_t esr_pending; /* errors since */
  uint32_t initial_count;
  uint8_t divide;
  uint8_t tpr;
  uint8_t ldr; /* xAPIC's; x2APIC's follows from the ID */
  bool lint[LAPIC_N_LINTS];
  bool extint;       /* an ExtINT message waits for its acknowledge */
  int64_t expiry_ns; /* when the timer's count reaches 0; -1 while it stands */
  uint64_t tsc_deadline;
  VmTimer timer; /* pending only while the expiry would interrupt */
};

/* ---- lapic.c ---- */
bool lapic_is_enabled(const Lapic *l); /* globally: the bus reaches it */
bool lapic_is_x2apic(const Lapic *l);
uint32_t lapic_get_logical_id(const Lapic *l);
uint8_t lapic_get_ppr(const Lapic *l);
bool lapic_accepts_fixed(const Lapic *l); /* also enabled by software */
/* A message that is for this one. */
bool lapic_receive(Lapic *l, const LapicMessage *message);
void lapic_set_lint(Lapic *l, unsigned pin, bool level);

/* ---- lapic-bus.c ---- */
void lapic_bus_add(LapicBus *bus, Lapic *l);
Lapic *lapic_bus_get_first(LapicBus *bus);
I8259 *lapic_bus_get_pic(LapicBus *bus);
void lapic_bus_end_of_interrupt(LapicBus *bus, uint8_t vector);
/* An inter-processor interrupt: destination from `message`, or by shorthand (ICR bits 19:18). */
void lapic_bus_send_ipi(LapicBus *bus, Lapic *from, const LapicMessage *message, unsigned shorthand);

#endif
