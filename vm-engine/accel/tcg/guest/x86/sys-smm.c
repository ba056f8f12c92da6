/*
 * System-management mode: entry on an SMI, and RSM. The state-save area has AMD64's layout (APM volume 2, table 10-1),
 * which firmware tells by the revision in it.
 *
 * While `in_smm` is set, all accesses see the SMM view of memory, the save area's own among them.
 */
#include "vm-engine/accel/tcg/guest/x86/sys.h"

#define AREA_OFFSET  0xfe00u /* from SMBASE; the area is 512 bytes */
#define AREA_SIZE    0x200u
#define SMM_ENTRY    0x8000u
#define SMM_REVISION 0x00020064u /* SMBASE relocation, 64-bit layout */

/* Offsets in the area. */
enum {
  AREA_SEGMENTS = 0x00,
  AREA_GDTR = 0x60,
  AREA_LDTR = 0x70,
  AREA_IDTR = 0x80,
  AREA_TR = 0x90,
  AREA_AUTO_HALT = 0xc9,
  AREA_NMI_MASK = 0xca,
  AREA_SHADOW = 0xcb,
  AREA_EFER = 0xd0,
  AREA_REVISION = 0xfc,
  AREA_SMBASE = 0x100,
  AREA_CR4 = 0x148,
  AREA_CR3 = 0x150,
  AREA_CR0 = 0x158,
  AREA_DR7 = 0x160,
  AREA_DR6 = 0x168,
  AREA_RFLAGS = 0x170,
  AREA_RIP = 0x178,
  AREA_GPR_TOP = 0x1f8,
};

/* ---- the area's fields ---------------------------------------------------------------------------------------------- */

static void put(uint8_t *area, unsigned offset, uint64_t value, unsigned size)
{
  memcpy(area + offset, &value, size);
}

static uint64_t get(const uint8_t *area, unsigned offset, unsigned size)
{
  uint64_t value = 0;
  memcpy(&value, area + offset, size);
  return value;
}

/* Attributes stand as in VMCBs: the descriptor's byte 5, then bits 55–52 above it. */
static void put_segment(uint8_t *area, unsigned offset, const X86Segment *seg)
{
  put(area, offset, seg->selector, 2);
  put(area, offset + 2, (seg->attr >> 8 & 0xff) | (seg->attr >> 12 & 0xf00), 2);
  put(area, offset + 4, seg->limit, 4);
  put(area, offset + 8, seg->base, 8);
}

static X86Segment get_segment(const uint8_t *area, unsigned offset)
{
  uint32_t attr = (uint32_t)get(area, offset + 2, 2);

  return (X86Segment){ .selector = (uint16_t)get(area, offset, 2),
                       .attr = (attr & 0xff) << 8 | (attr & 0xf00) << 12,
                       .limit = (uint32_t)get(area, offset + 4, 4),
                       .base = get(area, offset + 8, 8) };
}

static void put_table(uint8_t *area, unsigned offset, const X86Table *table)
{
  put(area, offset + 4, table->limit, 4);
  put(area, offset + 8, table->base, 8);
}

static X86Table get_table(const uint8_t *area, unsigned offset)
{
  return (X86Table){ .base = get(area, offset + 8, 8), .limit = get(area, offset + 4, 2) };
}

static void save_state(const TcgCpu *cpu, uint8_t *area)
{
  const X86Cpu *x86 = &cpu->x86;

  for (unsigned i = 0; i < X86_N_SEG; i++)
    put_segment(area, AREA_SEGMENTS + 16 * i, &x86->seg[i]);
  put_table(area, AREA_GDTR, &x86->gdt);
  put_segment(area, AREA_LDTR, &x86->seg[X86_LDTR]);
  put_table(area, AREA_IDTR, &x86->idt);
  put_segment(area, AREA_TR, &x86->seg[X86_TR]);
  put(area, AREA_AUTO_HALT, x86->halted, 1);
  put(area, AREA_NMI_MASK, x86->nmi_masked, 1);
  put(area, AREA_SHADOW, x86->interrupt_shadow, 1);
  put(area, AREA_EFER, x86->efer, 8);
  put(area, AREA_REVISION, SMM_REVISION, 4);
  put(area, AREA_SMBASE, x86->smbase, 4);
  put(area, AREA_CR4, x86->cr4, 8);
  put(area, AREA_CR3, x86->cr3, 8);
  put(area, AREA_CR0, x86->cr0, 8);
  put(area, AREA_DR7, x86->dr[7], 8);
  put(area, AREA_DR6, x86->dr[6], 8);
  put(area, AREA_RFLAGS, tcg_get_rflags(cpu), 8);
  put(area, AREA_RIP, x86->rip, 8);
  for (unsigned i = 0; i < X86_N_GPR; i++)
    put(area, AREA_GPR_TOP - 8 * i, x86->gpr[i], 8);
}

/* What software may have made impossible in the area is made possible again: paging without protection, long mode
 * without paging. */
static void restore_control(TcgCpu *cpu, const uint8_t *area)
{
  X86Cpu *x86 = &cpu->x86;

  x86->cr0 = (get(area, AREA_CR0, 8) & 0xe005003f) | X86_CR0_ET;
  if (!(x86->cr0 & X86_CR0_PE))
    x86->cr0 &= ~(uint64_t)X86_CR0_PG;
  x86->cr3 = get(area, AREA_CR3, 8) & X86_PHYS_MASK;
  x86->cr4 = get(area, AREA_CR4, 8) & 0x310fff;
  x86->efer = get(area, AREA_EFER, 8) & (X86_EFER_SCE | X86_EFER_LME | X86_EFER_NXE);
  if (x86->efer & X86_EFER_LME && x86->cr0 & X86_CR0_PG && x86->cr4 & X86_CR4_PAE)
    x86->efer |= X86_EFER_LMA;
  x86->dr[7] = (get(area, AREA_DR7, 8) & 0xffff27ff) | 0x400;
  x86->dr[6] = (get(area, AREA_DR6, 8) & 0xe00f) | SYS_DR6_FIXED;
}

static void restore_state(TcgCpu *cpu, const uint8_t *area)
{
  X86Cpu *x86 = &cpu->x86;

  restore_control(cpu, area);
  for (unsigned i = 0; i < X86_N_SEG; i++)
    x86->seg[i] = get_segment(area, AREA_SEGMENTS + 16 * i);
  x86->gdt = get_table(area, AREA_GDTR);
  x86->seg[X86_LDTR] = get_segment(area, AREA_LDTR);
  x86->idt = get_table(area, AREA_IDTR);
  x86->seg[X86_TR] = get_segment(area, AREA_TR);
  x86->halted = get(area, AREA_AUTO_HALT, 1) & 1;
  x86->nmi_masked = get(area, AREA_NMI_MASK, 1) & 1;
  x86->interrupt_shadow = get(area, AREA_SHADOW, 1) & 3;
  x86->smbase = (uint32_t)get(area, AREA_SMBASE, 4);
  x86->rip = get(area, AREA_RIP, 8);
  for (unsigned i = 0; i < X86_N_GPR; i++)
    x86->gpr[i] = get(area, AREA_GPR_TOP - 8 * i, 8);
  tcg_set_rflags(cpu, (get(area, AREA_RFLAGS, 8) & 0x3f7fd5) | X86_F_FIXED);
}

/* ---- the area in memory: physical, eight bytes at a time ------------------------------------------------------------- */

static void write_area(TcgCpu *cpu, const uint8_t *area)
{
  for (unsigned i = 0; i < AREA_SIZE; i += 8)
    vm_memory_store(cpu->memory, VM_VIEW_SMM, (cpu->x86.smbase + (uint64_t)AREA_OFFSET + i) & cpu->a20_mask,
                    get(area, i, 8), 8);
}

static void read_area(TcgCpu *cpu, uint8_t *area)
{
  for (unsigned i = 0; i < AREA_SIZE; i += 8)
    put(area, i,
        vm_memory_load(cpu->memory, VM_VIEW_SMM, (cpu->x86.smbase + (uint64_t)AREA_OFFSET + i) & cpu->a20_mask, 8), 8);
}

/* ---- entry and exit ------------------------------------------------------------------------------------------------------ */

static void enter_segments(X86Cpu *x86)
{
  const uint32_t attr = X86_ATTR_P | X86_ATTR_S | X86_ATTR_RW | X86_ATTR_ACCESSED | X86_ATTR_G;

  for (unsigned i = 0; i < X86_N_SEG; i++)
    x86->seg[i] = (X86Segment){ .limit = 0xffffffff, .attr = attr };
  x86->seg[X86_CS].attr |= X86_ATTR_CODE;
  x86->seg[X86_CS].selector = (uint16_t)(x86->smbase >> 4);
  x86->seg[X86_CS].base = x86->smbase;
}

void x86_enter_smm(TcgCpu *cpu)
{
  X86Cpu *x86 = &cpu->x86;
  uint8_t area[AREA_SIZE] = { 0 };

  save_state(cpu, area);
  x86->in_smm = 1;
  write_area(cpu, area);
  x86->halted = 0;
  x86->nmi_masked = 1;
  x86->interrupt_shadow = 0;
  x86->cr0 &= ~(uint64_t)(X86_CR0_PE | X86_CR0_EM | X86_CR0_TS | X86_CR0_PG);
  x86->cr4 = 0;
  x86->efer = 0;
  x86->dr[7] = 0x400;
  x86->rip = SMM_ENTRY;
  enter_segments(x86);
  tcg_set_rflags(cpu, X86_F_FIXED);
  x86_tlb_flush(cpu);
}

uint64_t helper_rsm(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  X86Cpu *x86 = &cpu->x86;
  uint8_t area[AREA_SIZE];

  if (!x86->in_smm) {
    x86_raise(cpu, X86_EXC_UD);
    return 0;
  }
  read_area(cpu, area);
  x86->in_smm = 0;
  restore_state(cpu, area);
  x86_tlb_flush(cpu);
  if (x86->cr0 & X86_CR0_PG && x86->cr4 & X86_CR4_PAE && !(x86->efer & X86_EFER_LMA) && !x86_load_pdptes(cpu, x86->cr3))
    memset(x86->pae_pdpte, 0, sizeof x86->pae_pdpte);
  x86_update_hflags(cpu);
  return 0;
}
