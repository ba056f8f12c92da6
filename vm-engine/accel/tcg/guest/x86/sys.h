/*
 * The system half of the x86 guest, shared by its files (sys-*.c): segments and descriptors, stacks, transfers, tasks.
 *
 * The privilege level is SS.DPL in protected mode (as in KVM's state), 3 in virtual-8086 mode, 0 in real mode: whatever
 * changes it loads SS, or writes its attributes.
 *
 * Functions that return bool return false with an exception pending. They check everything before they change anything,
 * but for task switches, whose late faults belong to the new task by definition.
 */
#ifndef X86_SYS_H
#define X86_SYS_H

#include "vm-engine/accel/tcg/guest/x86/mmu.h"

/* System descriptor types. */
enum { SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL_GATE16 = 4, SYS_TASK_GATE = 5, SYS_INT_GATE16 = 6,
       SYS_TRAP_GATE16 = 7, SYS_TSS32 = 9, SYS_TSS32_BUSY = 11, SYS_CALL_GATE32 = 12, SYS_INT_GATE32 = 14,
       SYS_TRAP_GATE32 = 15 };

/* DR6 and DR7. */
#define SYS_DR6_FIXED 0xffff0ff0u
#define SYS_DR6_BD (1u << 13)
#define SYS_DR6_BS (1u << 14)
#define SYS_DR6_BT (1u << 15)
#define SYS_DR7_GD (1u << 13)

/* ---- mode --------------------------------------------------------------------------------------------------------- */

static inline bool sys_is_vm86(const TcgCpu *cpu) { return cpu->x86.rflags & X86_F_VM; }
static inline bool sys_is_protected(const TcgCpu *cpu) { return cpu->x86.cr0 & X86_CR0_PE && !sys_is_vm86(cpu); }
static inline bool sys_is_long(const TcgCpu *cpu) { return cpu->x86.efer & X86_EFER_LMA; }
static inline bool sys_is_64bit(const TcgCpu *cpu) { return sys_is_long(cpu) && cpu->x86.seg[X86_CS].attr & X86_ATTR_L; }
static inline unsigned sys_iopl(const TcgCpu *cpu) { return (cpu->x86.rflags & X86_F_IOPL) >> 12; }
static inline unsigned sys_attr_dpl(uint32_t attr) { return (attr & X86_ATTR_DPL) >> X86_ATTR_DPL_SHIFT; }
static inline unsigned sys_cpl(const TcgCpu *cpu)
{
  if (!(cpu->x86.cr0 & X86_CR0_PE))
    return 0;
  return sys_is_vm86(cpu) ? 3 : sys_attr_dpl(cpu->x86.seg[X86_SS].attr);
}
/* Which translations an access at `cpl` uses when EFLAGS.AC gives no right to user pages. */
static inline TcgMmu sys_mmu_for(unsigned cpl) { return cpl == 3 ? TCG_MMU_USER : TCG_MMU_KERNEL; }

/* #GP(0) unless CPL is 0. */
bool sys_require_cpl0(TcgCpu *cpu) G_GNUC_WARN_UNUSED_RESULT;
/* `vector` with the selector (its RPL cut off) as error code; always false. */
bool sys_fail(TcgCpu *cpu, unsigned vector, uint16_t selector);
/* #DB as a trap in front of x86.rip. */
void sys_raise_debug_trap(TcgCpu *cpu, uint64_t next_rip, uint64_t dr6);
/* At the end of a transfer of control that began under `tf`. */
void sys_end_transfer(TcgCpu *cpu, bool tf);

/* ---- descriptors (sys-segments.c) ------------------------------------------------------------------------------------ */

typedef struct SysDescriptor {
  uint32_t lo, hi;
  uint64_t address; /* linear, of the first byte */
} SysDescriptor;

static inline uint32_t sys_desc_attr(const SysDescriptor *d) { return d->hi & 0x00f0ff00; }
static inline unsigned sys_desc_type(const SysDescriptor *d) { return d->hi >> 8 & 15; }
static inline unsigned sys_desc_dpl(const SysDescriptor *d) { return sys_attr_dpl(d->hi); }
static inline bool sys_is_null(uint16_t selector) { return !(selector & 0xfffc); }
static inline bool sys_is_code(uint32_t attr) { return (attr & (X86_ATTR_S | X86_ATTR_CODE)) == (X86_ATTR_S | X86_ATTR_CODE); }
static inline bool sys_is_conforming(uint32_t attr) { return attr & X86_ATTR_DC; }
static inline bool sys_is_writable_data(uint32_t attr)
{
  return (attr & (X86_ATTR_S | X86_ATTR_CODE | X86_ATTR_RW)) == (X86_ATTR_S | X86_ATTR_RW);
}
uint64_t sys_desc_base(const SysDescriptor *d);
uint32_t sys_desc_limit(const SysDescriptor *d);

/* Reads the descriptor of `selector` from the GDT or LDT; `vector`(selector) where that is outside of the table. */
bool sys_read_descriptor(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, unsigned vector) G_GNUC_WARN_UNUSED_RESULT;
/* As above without the fault: `found` is false outside of the table. False: page fault. */
bool sys_find_descriptor(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, bool *found) G_GNUC_WARN_UNUSED_RESULT;
/* Upper half of the base of a 16-byte system descriptor; #GP(selector) outside of the table or with a type there. */
bool sys_read_base_high(TcgCpu *cpu, uint16_t selector, const SysDescriptor *d, uint64_t *base) G_GNUC_WARN_UNUSED_RESULT;
/* Sets the accessed bit in memory, if it is not. */
bool sys_mark_accessed(TcgCpu *cpu, SysDescriptor *d) G_GNUC_WARN_UNUSED_RESULT;
/* Sets or clears the busy bit of a TSS descriptor in memory. */
bool sys_set_busy(TcgCpu *cpu, SysDescriptor *d, bool busy) G_GNUC_WARN_UNUSED_RESULT;

/* The hidden part from a descriptor / as a null selector leaves it / as in real and VM86 mode. No checks. */
void sys_set_segment(TcgCpu *cpu, unsigned sreg, uint16_t selector, const SysDescriptor *d);
void sys_set_null(TcgCpu *cpu, unsigned sreg, uint16_t selector);
void sys_set_null_ss(TcgCpu *cpu, uint16_t selector, unsigned cpl);
void sys_set_real(TcgCpu *cpu, unsigned sreg, uint16_t selector);
void sys_set_vm86(TcgCpu *cpu, unsigned sreg, uint16_t selector);
/* Loads ES, SS, DS, FS or GS with all checks of a MOV. */
bool sys_load_segment(TcgCpu *cpu, unsigned sreg, uint16_t selector) G_GNUC_WARN_UNUSED_RESULT;
/* After a return to an outer level: data segments that it may not have become null. */
void sys_drop_privileged_segments(TcgCpu *cpu, unsigned cpl);
/* LDTR from `selector`: faults as `vector`. */
bool sys_load_ldt(TcgCpu *cpu, uint16_t selector, unsigned vector) G_GNUC_WARN_UNUSED_RESULT;
/* Does the segment hold [offset, offset + size)? Limit and direction only. */
bool sys_segment_holds(const X86Segment *seg, uint64_t offset, unsigned size);

/* A code segment's descriptor judged as a target at `cpl`: #GP(selector), #NP(selector). The accessed bit is set. */
typedef enum SysTarget { SYS_TARGET_JUMP, SYS_TARGET_GATE, SYS_TARGET_RETURN } SysTarget;
bool sys_read_code(TcgCpu *cpu, uint16_t selector, SysTarget kind, SysDescriptor *d) G_GNUC_WARN_UNUSED_RESULT;
/* Is `rip` inside of that code segment (or canonical, for 64-bit code)? Else #GP(0). */
bool sys_check_rip(TcgCpu *cpu, const SysDescriptor *code, uint64_t rip) G_GNUC_WARN_UNUSED_RESULT;
/* A stack segment for privilege `cpl`: faults as `vector` (#TS for stacks out of a TSS, #GP for returns), #SS if absent. */
bool sys_read_stack(TcgCpu *cpu, uint16_t selector, unsigned cpl, unsigned vector, SysDescriptor *d) G_GNUC_WARN_UNUSED_RESULT;
/* SSn:ESPn of the TSS (legacy mode) / RSPn or ISTn (long mode; `slot` 0–2, or 2 + IST). #TS(TR). */
bool sys_read_tss_stack(TcgCpu *cpu, unsigned cpl, uint16_t *ss, uint32_t *esp) G_GNUC_WARN_UNUSED_RESULT;
bool sys_read_tss_rsp(TcgCpu *cpu, unsigned slot, uint64_t *rsp) G_GNUC_WARN_UNUSED_RESULT;

/* ---- stacks (sys-stack.c) -------------------------------------------------------------------------------------------------- */

/* A stack that is being pushed to or popped from, while the CPU's own SS and RSP stay as they are. */
typedef struct SysStack {
  X86Segment ss;
  uint64_t sp;
  uint64_t mask; /* 0xffff, 0xffffffff or all */
  TcgMmu mmu;
  bool flat;       /* 64-bit mode: neither base nor limit */
  bool replaces;   /* another stack than the CPU's: all of RSP is new */
  uint16_t error;  /* selector for #SS */
} SysStack;

void sys_stack_current(const TcgCpu *cpu, SysStack *s);
/* A new stack in the segment of `d`, at privilege `cpl` / in long mode. */
void sys_stack_new(const TcgCpu *cpu, SysStack *s, uint16_t selector, const SysDescriptor *d, uint32_t esp, unsigned cpl);
void sys_stack_long(SysStack *s, uint64_t rsp, unsigned cpl);
bool sys_push(TcgCpu *cpu, SysStack *s, uint64_t value, unsigned bytes) G_GNUC_WARN_UNUSED_RESULT;
bool sys_pop(TcgCpu *cpu, SysStack *s, uint64_t *value, unsigned bytes) G_GNUC_WARN_UNUSED_RESULT;
/* RSP takes the stack's pointer: all of it on a new stack, else as far as the mask goes. */
void sys_stack_commit(TcgCpu *cpu, const SysStack *s);

/* ---- events (sys-exceptions.c, sys-gates.c) ------------------------------------------------------------------------------------ */

/* An exception or interrupt on its way through the IDT. */
typedef struct SysEvent {
  uint8_t vector;
  bool has_error;
  bool software;  /* INT n, INT3, INTO: the gate's DPL is checked */
  bool external;  /* error codes on the way get EXT */
  bool exception; /* for double faults */
  bool set_rf;    /* in the pushed flags */
  uint32_t error;
  uint64_t return_rip;
} SysEvent;

bool sys_deliver_protected(TcgCpu *cpu, const SysEvent *ev) G_GNUC_WARN_UNUSED_RESULT;
bool sys_deliver_long(TcgCpu *cpu, const SysEvent *ev) G_GNUC_WARN_UNUSED_RESULT;
/* The interrupt table at linear `table` as the 8086 used it: for real mode, and VME's redirected INT n. */
bool sys_deliver_real(TcgCpu *cpu, uint64_t table, uint8_t vector, uint64_t return_rip, uint64_t pushed_flags,
                      uint64_t cleared_flags) G_GNUC_WARN_UNUSED_RESULT;

/* ---- tasks (sys-task.c) ------------------------------------------------------------------------------------------------------------ */

typedef enum SysTaskReason { SYS_TASK_JUMP, SYS_TASK_CALL, SYS_TASK_IRET } SysTaskReason;
/* Leaves the current task (which will go on at `next_rip`) for the one of `selector`, whose descriptor `d` has been
 * judged. An error code, if there is one, is pushed on the new task's stack. */
bool sys_switch_task(TcgCpu *cpu, uint16_t selector, SysDescriptor *d, SysTaskReason reason, uint64_t next_rip,
                     const uint32_t *error) G_GNUC_WARN_UNUSED_RESULT;
/* Reads and judges the TSS descriptor that a task gate names: #GP(selector), #NP(selector). */
bool sys_read_task(TcgCpu *cpu, uint16_t selector, SysDescriptor *d) G_GNUC_WARN_UNUSED_RESULT;

/* ---- control registers, time --------------------------------------------------------------------------------------------------------- */

/* The flags that a load at the current CPL may change, by POPF and IRET. */
uint64_t sys_writable_flags(const TcgCpu *cpu, unsigned bytes);
uint64_t sys_read_tsc(const TcgCpu *cpu);
/* What the interrupt controller says; a fixed value on a CPU without one. */
uint64_t sys_get_apic_base(const TcgCpu *cpu);

#endif
