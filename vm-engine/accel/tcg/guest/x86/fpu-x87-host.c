/*
 * The exact path of the x87: the guest's whole state goes to the host's x87 by FRSTOR, the guest's own instruction runs
 * there, and FNSAVE brings the state back. Slow (some hundred cycles), but it is right by construction about stack
 * faults, unmasked exceptions, condition codes and every transcendental function. fpu-x87.c's fast paths fall back to it.
 *
 * No host exception ever comes of it: x87 exceptions are reported by the next waiting instruction, and FNSAVE, which
 * does not wait, is what follows.
 */
#include "vm-engine/accel/tcg/guest/x86/fpu-x87.h"

/* FNSAVE's image in 64-bit and 32-bit code. */
typedef struct __attribute__((packed)) X87SaveImage {
  uint32_t fcw, fsw, tags, fip, fop, fdp, fds;
  uint8_t st[8][10];
} X87SaveImage;
_Static_assert(sizeof(X87SaveImage) == 108, "FSAVE image");

/* What x87_host_run() works on: its fields' offsets are in the assembly below. */
typedef struct X87HostRun {
  uint64_t stub;      /* 0: the instruction, then RET */
  uint64_t memory;    /* 8: its operand, for RAX */
  uint64_t flags;     /* 16: RFLAGS in and out */
  X87SaveImage image; /* 24 */
} X87HostRun;
_Static_assert(offsetof(X87HostRun, image) == 24, "offsets in x87_host_run");

void x87_host_run(X87HostRun *run);
extern const uint8_t x87_stubs_reg[8][64][4]; /* every D8–DF with modrm C0–FF */
extern const uint8_t x87_stubs_mem[8][8][4];  /* every D8–DF with modrm [RAX] and reg 0–7 */

__asm__(".pushsection .text\n"
        ".balign 16\n"
        ".globl x87_stubs_reg\n"
        ".hidden x87_stubs_reg\n"
        "x87_stubs_reg:\n"
        ".set x87_op, 0xd8\n"
        ".rept 8\n"
        "  .set x87_modrm, 0xc0\n"
        "  .rept 64\n"
        "    .byte x87_op, x87_modrm, 0xc3, 0x90\n"
        "    .set x87_modrm, x87_modrm + 1\n"
        "  .endr\n"
        "  .set x87_op, x87_op + 1\n"
        ".endr\n"
        ".globl x87_stubs_mem\n"
        ".hidden x87_stubs_mem\n"
        "x87_stubs_mem:\n"
        ".set x87_op, 0xd8\n"
        ".rept 8\n"
        "  .set x87_modrm, 0\n"
        "  .rept 8\n"
        "    .byte x87_op, x87_modrm, 0xc3, 0x90\n"
        "    .set x87_modrm, x87_modrm + 8\n"
        "  .endr\n"
        "  .set x87_op, x87_op + 1\n"
        ".endr\n"
        ".globl x87_host_run\n"
        ".hidden x87_host_run\n"
        ".type x87_host_run, @function\n"
        "x87_host_run:\n"
        "  pushq %rbx\n"
        "  movq %rdi, %rbx\n"
        "  frstor 24(%rbx)\n"
        "  pushq 16(%rbx)\n"
        "  popfq\n"
        "  movq 8(%rbx), %rax\n"
        "  call *(%rbx)\n"
        "  pushfq\n"
        "  popq 16(%rbx)\n"
        "  fnsave 24(%rbx)\n"
        "  popq %rbx\n"
        "  ret\n"
        ".size x87_host_run, . - x87_host_run\n"
        ".popsection\n");

/* By opcode, bit r set: modrm C0 + 8 r … is valid in full. Rows that are valid in part follow in x87_is_valid(). */
static const uint8_t x87_valid_reg_rows[8] = { 0xff, 0x0b, 0x0f, 0x6f, 0xff, 0x3f, 0xf7, 0x6f };
/* By opcode, bit r set: the memory form with modrm.reg r is valid. */
static const uint8_t x87_valid_mem_rows[8] = { 0xff, 0xfd, 0xff, 0xaf, 0xff, 0xdf, 0xff, 0xff };

bool x87_is_valid(unsigned opcode, unsigned modrm)
{
  unsigned row = modrm >> 3 & 7;
  if (modrm < 0xc0) {
    return x87_valid_mem_rows[opcode & 7] >> row & 1;
  }
  if (x87_valid_reg_rows[opcode & 7] >> row & 1) {
    return true;
  }
  switch (opcode << 8 | modrm) {
  case 0xd9d0: /* FNOP */
  case 0xd9e0:
  case 0xd9e1:
  case 0xd9e4:
  case 0xd9e5: /* FCHS, FABS, FTST, FXAM */
  case 0xdae9: /* FUCOMPP */
  case 0xdbe0:
  case 0xdbe1:
  case 0xdbe2:
  case 0xdbe3:
  case 0xdbe4: /* FENI, FDISI, FNCLEX, FNINIT, FSETPM */
  case 0xded9: /* FCOMPP */
  case 0xdfe0: /* FNSTSW AX */
    return true;
  default:
    return opcode == 0xd9 && ((modrm >= 0xe8 && modrm <= 0xee) || modrm >= 0xf0);
  }
}

static void x87_save_to_image(const TcgCpu *cpu, X87SaveImage *image)
{
  uint16_t tags = 0;
  for (unsigned i = 0; i < 8; i++) {
    if (!(cpu->fpu_tags >> i & 1)) {
      tags |= (uint16_t)(3u << 2 * i);
    }
    memcpy(image->st[i], cpu->fpr[x87_phys(cpu, i)], 10);
  }
  image->fcw = cpu->x86.fpu.fcw;
  image->fsw = x87_get_fsw(cpu);
  image->tags = tags;
  image->fip = image->fop = image->fdp = image->fds = 0;
}

static void x87_load_from_image(TcgCpu *cpu, const X87SaveImage *image)
{
  x87_set_fsw(cpu, (uint16_t)image->fsw);
  cpu->fpu_tags = 0;
  for (unsigned i = 0; i < 8; i++) {
    if ((image->tags >> 2 * i & 3) != 3) {
      cpu->fpu_tags |= (uint8_t)(1u << i);
    }
    memcpy(cpu->fpr[x87_phys(cpu, i)], image->st[i], 10);
  }
}

void x87_run_exact(TcgCpu *cpu, uint64_t word, void *memory)
{
  X87HostRun run;
  unsigned op = word >> 8 & 7, modrm = x87_word_modrm(word);
  bool is_memory = word & X87_WORD_MEMORY;
  run.stub = is_memory ? (uintptr_t)x87_stubs_mem[op][modrm >> 3 & 7] : (uintptr_t)x87_stubs_reg[op][modrm & 63];
  run.memory = (uintptr_t)memory;
  run.flags = tcg_unpack_flags(cpu->flags) | X86_F_FIXED | X86_F_IF;
  x87_save_to_image(cpu, &run.image);
  x87_host_run(&run);
  x87_load_from_image(cpu, &run.image);
  cpu->flags = tcg_pack_flags(run.flags);
}
