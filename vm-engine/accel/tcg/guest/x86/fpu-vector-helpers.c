/*
 * Vector instructions that translated code does not run by itself: unmasked exceptions, string comparisons with their
 * implicit operands, masked stores.
 */
#include "vm-engine/accel/tcg/guest/x86/fpu-x87.h"

#include <emmintrin.h>

#define MXCSR_FLAGS      0x3fu
#define MXCSR_UE         0x10u
#define MXCSR_PRE        0x07u /* invalid, denormal, divide by zero: found before the operation is carried out */
#define MXCSR_MASK_SHIFT 7
#define MXCSR_FTZ        0x8000u

/* Operands named by their offset in TcgCpu: constants of translated code. */
static __m128i vec_load(const TcgCpu *cpu, uint32_t offset)
{
  return _mm_loadu_si128((const __m128i *)((const uint8_t *)cpu + offset));
}

/* ---- unmasked exceptions: see fpu_emit_trial() ------------------------------------------------------------------------ */

/* Which exceptions the guest unmasks, as flag bits. */
static uint32_t sse_unmasked(const TcgCpu *cpu)
{
  return ~(cpu->x86.fpu.mxcsr >> MXCSR_MASK_SHIFT) & MXCSR_FLAGS;
}

static void sse_set_live(TcgCpu *cpu, uint32_t mxcsr)
{
  cpu->guest_mxcsr_masked = mxcsr;
  _mm_setcsr(mxcsr);
}

static uint32_t sse_masked_control(const TcgCpu *cpu)
{
  return (cpu->x86.fpu.mxcsr | MXCSR_FLAGS << MXCSR_MASK_SHIFT) & ~MXCSR_FLAGS;
}

static uint32_t sse_trial_flags(const TcgCpu *cpu)
{
  return (_mm_getcsr() | cpu->guest_mxcsr_masked) & MXCSR_FLAGS;
}

uint64_t helper_sse_begin(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  x86_mxcsr_read(cpu);
  uint32_t control = sse_masked_control(cpu);
  sse_set_live(cpu, sse_unmasked(cpu) & MXCSR_UE ? control & ~MXCSR_FTZ : control);
  return 0;
}

uint64_t helper_sse_again(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint32_t flags = sse_trial_flags(cpu);
  memcpy(cpu->vtmp[3], &flags, sizeof flags);
  sse_set_live(cpu, sse_masked_control(cpu) | MXCSR_FTZ);
  return 0;
}

/* Raises what `flags` and the masks call for (false), or takes the flags over. */
static bool sse_verdict(TcgCpu *cpu, uint32_t flags)
{
  uint32_t unmasked = sse_unmasked(cpu);
  if (flags & unmasked & MXCSR_PRE) {
    flags &= MXCSR_PRE;
  }
  cpu->x86.fpu.mxcsr |= flags;
  sse_set_live(cpu, cpu->x86.fpu.mxcsr | MXCSR_FLAGS << MXCSR_MASK_SHIFT);
  if (flags & unmasked) {
    x86_raise(cpu, cpu->x86.cr4 & X86_CR4_OSXMMEXCPT ? X86_EXC_XM : X86_EXC_UD);
    return false;
  }
  return true;
}

uint64_t helper_sse_check(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint32_t flags, flushed = sse_trial_flags(cpu);
  memcpy(&flags, cpu->vtmp[3], sizeof flags);
  flags &= MXCSR_FLAGS;
  if (sse_unmasked(cpu) & MXCSR_UE) {
    flags |= flushed & MXCSR_UE;
  }
  (void)!sse_verdict(cpu, flags);
  return 0;
}

#define SSE_COMPARE(insn)                                                                                              \
  __asm__ volatile(insn " %[y], %[x]" : "=@ccz"(z), "=@ccp"(p), "=@ccc"(cy) : [x] "x"(x), [y] "x"(y))

uint64_t helper_sse_comis(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  __m128i x = vec_load(cpu, (uint32_t)b), y = vec_load(cpu, (uint32_t)c);
  bool z, p, cy;
  helper_sse_begin(cpu, 0, 0, 0);
  switch (a) {
  case 0x2e:
    SSE_COMPARE("ucomiss");
    break;
  case 0x12e:
    SSE_COMPARE("ucomisd");
    break;
  case 0x2f:
    SSE_COMPARE("comiss");
    break;
  default:
    SSE_COMPARE("comisd");
    break;
  }
  if (sse_verdict(cpu, sse_trial_flags(cpu))) {
    cpu->flags = tcg_pack_flags((z ? X86_F_ZF : 0) | (p ? X86_F_PF : 0) | (cy ? X86_F_CF : 0));
  }
  return 0;
}

/* ---- PCMPxSTRx ------------------------------------------------------------------------------------------------------------ */

/* What vec_pcmpstr_run() works on: offsets are in the assembly below. */
typedef struct VecPcmpstr {
  uint64_t stub;     /* 0: the instruction on XMM0 and XMM1, then RET */
  uint64_t rax, rdx; /* 8, 16: explicit lengths */
  uint64_t rcx;      /* 24: the index, out */
  uint64_t flags;    /* 32: RFLAGS, out */
  uint64_t pad;
  __m128i x, y; /* 48, 64: operands; x is the mask, out */
} VecPcmpstr;
_Static_assert(offsetof(VecPcmpstr, x) == 48, "offsets in vec_pcmpstr_run");

void vec_pcmpstr_run(VecPcmpstr *run);
extern const uint8_t vec_pcmpstr_stubs[4][128][8]; /* opcodes 60–63 with each immediate (its bit 7 means nothing) */

__asm__(".pushsection .text\n"
        ".balign 16\n"
        ".globl vec_pcmpstr_stubs\n"
        ".hidden vec_pcmpstr_stubs\n"
        "vec_pcmpstr_stubs:\n"
        ".set vec_op, 0x60\n"
        ".rept 2\n"
        "  .set vec_imm, 0\n"
        "  .rept 128\n"
        "    .byte 0x66, 0x48, 0x0f, 0x3a, vec_op, 0xc1, vec_imm, 0xc3\n"
        "    .set vec_imm, vec_imm + 1\n"
        "  .endr\n"
        "  .set vec_op, vec_op + 1\n"
        ".endr\n"
        ".rept 2\n"
        "  .set vec_imm, 0\n"
        "  .rept 128\n"
        "    .byte 0x66, 0x0f, 0x3a, vec_op, 0xc1, vec_imm, 0xc3, 0x90\n"
        "    .set vec_imm, vec_imm + 1\n"
        "  .endr\n"
        "  .set vec_op, vec_op + 1\n"
        ".endr\n"
        ".globl vec_pcmpstr_run\n"
        ".hidden vec_pcmpstr_run\n"
        ".type vec_pcmpstr_run, @function\n"
        "vec_pcmpstr_run:\n"
        "  movq 8(%rdi), %rax\n"
        "  movq 16(%rdi), %rdx\n"
        "  movups 48(%rdi), %xmm0\n"
        "  movups 64(%rdi), %xmm1\n"
        "  call *(%rdi)\n"
        "  pushfq\n"
        "  popq 32(%rdi)\n"
        "  movq %rcx, 24(%rdi)\n"
        "  movups %xmm0, 48(%rdi)\n"
        "  ret\n"
        ".size vec_pcmpstr_run, . - vec_pcmpstr_run\n"
        ".popsection\n");

uint64_t helper_pcmpstr(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  unsigned opcode = a >> 8 & 3;
  bool wide = a >> 16 & 1;
  VecPcmpstr run = {
    .stub = (uintptr_t)vec_pcmpstr_stubs[opcode][a & 127],
    .rax = wide ? cpu->x86.gpr[X86_RAX] : (uint64_t)(int32_t)cpu->x86.gpr[X86_RAX],
    .rdx = wide ? cpu->x86.gpr[X86_RDX] : (uint64_t)(int32_t)cpu->x86.gpr[X86_RDX],
    .x = vec_load(cpu, (uint32_t)b),
    .y = vec_load(cpu, (uint32_t)c),
  };
  vec_pcmpstr_run(&run);
  cpu->flags = tcg_pack_flags(run.flags);
  if (!(opcode & 1)) {
    memcpy(cpu->x86.fpu.xmm[0], &run.x, 16);
  }
  return run.rcx;
}

/* ---- MASKMOVQ, MASKMOVDQU ----------------------------------------------------------------------------------------------------- */

/* Writes each run of selected bytes. A fault in a later run leaves earlier ones written, as the restart writes them again;
 * it is reported for the operand as a whole where that begins in the same page. */
uint64_t helper_maskmov(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  const uint8_t *data = (const uint8_t *)cpu + (uint32_t)b, *mask = (const uint8_t *)cpu + (uint32_t)(b >> 32);
  unsigned bytes = a == 8 ? 8 : 16;
  for (unsigned i = 0; i < bytes;) {
    unsigned end = i;
    while (end < bytes && mask[end] & 0x80) {
      end++;
    }
    if (end > i && !x86_write(cpu, c + i, data + i, end - i, x86_mmu(cpu))) {
      if ((c ^ cpu->exc_cr2) < 4096) {
        cpu->exc_cr2 = c;
      }
      return 0;
    }
    i = end + 1;
  }
  return 0;
}
