/*
 * An interrupt line: a wire from the device that drives it to the input of the one that listens.
 *
 * A VmIrq is a small value; the driver keeps a copy of what the listener handed out. An unconnected wire (all zero)
 * may be driven. Lines carry levels; an edge is two calls. Called with the I/O context's lock held.
 */
#ifndef VM_IRQ_H
#define VM_IRQ_H

#include <stdbool.h>
#include <stddef.h>

typedef void (*VmIrqFunc)(void *opaque, unsigned line, bool level);

typedef struct VmIrq {
  VmIrqFunc func;
  void *opaque;
  unsigned line;
} VmIrq;

static inline void vm_irq_set(const VmIrq *irq, bool level)
{
  if (irq->func != NULL)
    irq->func(irq->opaque, irq->line, level);
}

static inline void vm_irq_raise(const VmIrq *irq) { vm_irq_set(irq, true); }
static inline void vm_irq_lower(const VmIrq *irq) { vm_irq_set(irq, false); }
static inline void vm_irq_pulse(const VmIrq *irq)
{
  vm_irq_set(irq, true);
  vm_irq_set(irq, false);
}

#endif
