/*
 * Pushing and popping on a stack that is not (yet) the CPU's own: for gates, far transfers and IRET, which check
 * everything before they change SS:RSP.
 *
 * Values pushed before a fault stay in memory below the stack pointer, where nobody looks.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

void sys_stack_current(const TcgCpu *cpu, SysStack *s)
{
  const X86Segment *ss = &cpu->x86.seg[X86_SS];
  bool flat = sys_is_64bit(cpu);

  *s = (SysStack){
    .ss = *ss,
    .mask = flat                     ? UINT64_MAX
            : ss->attr & X86_ATTR_DB ? 0xffffffff
                                     : 0xffff,
    .sp = cpu->x86.gpr[X86_RSP],
    .mmu = sys_mmu_for(sys_cpl(cpu)),
    .flat = flat,
  };
}

void sys_stack_new(const TcgCpu *cpu, SysStack *s, uint16_t selector, const SysDescriptor *d, uint32_t esp,
                   unsigned cpl)
{
  *s = (SysStack){
    .ss = { .selector = selector, .base = sys_desc_base(d), .limit = sys_desc_limit(d), .attr = sys_desc_attr(d) },
    .mask = d->hi & X86_ATTR_DB ? 0xffffffff : 0xffff,
    .sp = esp,
    .mmu = sys_mmu_for(cpl),
    .replaces = true,
    .error = selector,
  };
}

void sys_stack_long(SysStack *s, uint64_t rsp, unsigned cpl)
{
  *s = (SysStack){ .mask = UINT64_MAX, .sp = rsp, .mmu = sys_mmu_for(cpl), .flat = true, .replaces = true };
}

/* The linear address of `bytes` at `offset`. */
static bool stack_address(TcgCpu *cpu, const SysStack *s, uint64_t offset, unsigned bytes, uint64_t *linear)
{
  if (s->flat) {
    *linear = offset;
    return x86_check_canonical(cpu, offset, bytes, X86_EXC_SS);
  }
  *linear = (uint32_t)(s->ss.base + offset);
  return sys_segment_holds(&s->ss, offset, bytes) || sys_fail(cpu, X86_EXC_SS, s->error);
}

static void move_pointer(SysStack *s, uint64_t sp)
{
  s->sp = (s->sp & ~s->mask) | (sp & s->mask);
}

bool sys_push(TcgCpu *cpu, SysStack *s, uint64_t value, unsigned bytes)
{
  uint64_t offset = (s->sp - bytes) & s->mask, linear;

  if (!stack_address(cpu, s, offset, bytes, &linear) || !x86_write(cpu, linear, &value, bytes, s->mmu))
    return false;
  move_pointer(s, offset);
  return true;
}

bool sys_pop(TcgCpu *cpu, SysStack *s, uint64_t *value, unsigned bytes)
{
  uint64_t offset = s->sp & s->mask, linear;

  *value = 0;
  if (!stack_address(cpu, s, offset, bytes, &linear) || !x86_read(cpu, linear, value, bytes, s->mmu))
    return false;
  move_pointer(s, offset + bytes);
  return true;
}

void sys_stack_commit(TcgCpu *cpu, const SysStack *s)
{
  uint64_t *rsp = &cpu->x86.gpr[X86_RSP];

  if (s->replaces)
    *rsp = s->sp;
  else if (s->mask == 0xffffffff)
    *rsp = s->sp & s->mask;
  else
    *rsp = (*rsp & ~s->mask) | (s->sp & s->mask);
}
