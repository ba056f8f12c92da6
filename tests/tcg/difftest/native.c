/*
 * The native side: runs a case on the processor underneath by way of signals. INT3 raises the first one; its handler
 * keeps the tester's context and puts the case's into the ucontext; the case ends by a fault or by the INT3 behind it,
 * whose handler takes the state out and puts the tester's context back.
 */
#include "tests/tcg/difftest/difftest.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define NATIVE_CS64        0x33u
#define NATIVE_CS32        0x23u
#define NATIVE_SS          0x2bu
#define SIGNAL_STACK_BYTES (256 * 1024)
/* Arithmetic flags and DF. */
#define NATIVE_FLAGS (X86_F_ARITH | X86_F_DF)

typedef struct _libc_fpstate NativeFpstate;

/* A signal handler has no argument of ours, so this is the one piece of state that cannot be passed. */
static struct {
  const DiffCase *c;
  DiffState *after;
  bool running;
  ucontext_t outer;
  uint8_t outer_fp[4096] __attribute__((aligned(64)));
} native;

static const int gpr_order[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                   REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

/* The frame's extended state: make x87 and SSE come from the image, whatever was in use. */
static void mark_in_use(NativeFpstate *fp)
{
  ((uint8_t *)fp)[512] |= 3;
}

static const uint64_t code_selectors[DIFF_N_MODES] = { DIFF_CS16, NATIVE_CS32, NATIVE_CS64 };

static void enter_case(ucontext_t *uc)
{
  const DiffCase *c = native.c;
  greg_t *g = uc->uc_mcontext.gregs;
  native.outer = *uc;
  memcpy(native.outer_fp, uc->uc_mcontext.fpregs, 512);
  for (unsigned i = 0; i < 16; i++) {
    g[gpr_order[i]] = (greg_t)c->before.gpr[i];
  }
  g[REG_RIP] = c->code_address - diff_cs_base(c->mode);
  g[REG_EFL] = (greg_t)((c->before.rflags & NATIVE_FLAGS) | X86_F_FIXED | X86_F_IF);
  uint64_t segments = (uint64_t)g[REG_CSGSFS] & 0x0000ffffffff0000u;
  uint64_t ss = c->mode == DIFF_16 ? DIFF_SS16 : NATIVE_SS;
  g[REG_CSGSFS] = (greg_t)(segments | code_selectors[c->mode] | ss << 48);
  memcpy(uc->uc_mcontext.fpregs, c->before.fx, 416);
  mark_in_use(uc->uc_mcontext.fpregs);
  native.running = true;
}

static void leave_case(ucontext_t *uc)
{
  DiffState *after = native.after;
  greg_t *g = uc->uc_mcontext.gregs;
  for (unsigned i = 0; i < 16; i++) {
    after->gpr[i] = (uint64_t)g[gpr_order[i]];
  }
  after->rip = (uint64_t)g[REG_RIP];
  after->rflags = (uint64_t)g[REG_EFL];
  after->vector = (uint8_t)g[REG_TRAPNO];
  after->error = (uint32_t)g[REG_ERR];
  after->cr2 = (uint64_t)g[REG_CR2];
  memcpy(after->fx, uc->uc_mcontext.fpregs, 512);
  memcpy(uc->uc_mcontext.fpregs, native.outer_fp, 416);
  mark_in_use(uc->uc_mcontext.fpregs);
  memcpy(g, native.outer.uc_mcontext.gregs, sizeof(gregset_t));
  native.running = false;
}

static void on_signal(int signal_number, siginfo_t *info, void *context)
{
  ucontext_t *uc = context;
  if (native.running) {
    leave_case(uc);
  } else if (native.c) {
    enter_case(uc);
  } else {
    abort();
  }
}

static bool map_at(uint32_t address, size_t bytes, int protection)
{
  void *p = mmap((void *)(uintptr_t)address, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  if (p != (void *)(uintptr_t)address) {
    fprintf(stderr, "cannot map 0x%x\n", address);
    return false;
  }
  memset(p, 0, bytes);
  return mprotect(p, bytes, protection) == 0;
}

static void set_handlers(void)
{
  static const int signals[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE };
  stack_t stack = { .ss_sp = g_malloc(SIGNAL_STACK_BYTES), .ss_size = SIGNAL_STACK_BYTES };
  sigaltstack(&stack, NULL);
  for (unsigned i = 0; i < G_N_ELEMENTS(signals); i++) {
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
    sigaction(signals[i], &action, NULL);
  }
}

/* Does 32- or 16-bit code run here? INC eAX is REX in 64-bit mode. */
static bool probe(DiffMode mode)
{
  g_autofree DiffCase *c = g_new0(DiffCase, 1);
  g_autofree DiffState *after = g_new0(DiffState, 1);
  c->mode = mode;
  c->code_address = DIFF_CODE;
  memcpy(c->code, "\x40\xcc", 2);
  c->code_length = 2;
  c->before.gpr[X86_RAX] = 0x1ffff;
  c->before.gpr[X86_RSP] = DIFF_STACK + DIFF_STACK_BYTES / 2 - diff_ss_base(mode);
  c->before.fx[0] = 0x7f;
  c->before.fx[1] = 0x03;
  c->before.fx[24] = 0x80;
  c->before.fx[25] = 0x1f;
  diff_native_run(c, after);
  return after->vector == X86_EXC_BP && after->gpr[X86_RAX] == (mode == DIFF_16 ? 0x10000 : 0x20000);
}

/* 16-bit segments for selector `selector` of the LDT. */
static bool set_ldt(unsigned selector, uint32_t base, unsigned contents)
{
  struct user_desc d = {
    .entry_number = selector >> 3, .base_addr = base, .limit = 0xffff, .contents = contents, .useable = 1
  };
  return syscall(SYS_modify_ldt, 0x11, &d, sizeof d) == 0;
}

static bool set_16bit_segments(void)
{
  return set_ldt(DIFF_CS16, DIFF_CODE, MODIFY_LDT_CONTENTS_CODE) &&
         set_ldt(DIFF_DS16, DIFF_DATA, MODIFY_LDT_CONTENTS_DATA) &&
         set_ldt(DIFF_SS16, DIFF_STACK, MODIFY_LDT_CONTENTS_DATA);
}

/* Compatibility mode needs usable data segments; 64-bit mode, and so the tester, ignores them. */
static void set_data_segments(uint16_t selector)
{
  __asm__ volatile("movw %w0, %%ds\n\tmovw %w0, %%es" : : "r"(selector));
}

bool diff_native_init(bool has_mode[DIFF_N_MODES])
{
  if (!map_at(DIFF_CODE, DIFF_CODE_PAGES * DIFF_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) ||
      !map_at(DIFF_DATA, DIFF_DATA_BYTES + DIFF_PAGE, PROT_READ | PROT_WRITE) ||
      !map_at(DIFF_STACK, DIFF_STACK_BYTES, PROT_READ | PROT_WRITE)) {
    return false;
  }
  uintptr_t read_only = DIFF_DATA + DIFF_DATA_BYTES;
  mprotect((void *)read_only, DIFF_PAGE, PROT_READ);
  syscall(SYS_arch_prctl, ARCH_SET_GS, (unsigned long)DIFF_DATA);
  set_handlers();
  has_mode[DIFF_64] = true;
  has_mode[DIFF_32] = probe(DIFF_32);
  has_mode[DIFF_16] = set_16bit_segments() && probe(DIFF_16);
  return true;
}

void diff_native_run(const DiffCase *c, DiffState *after)
{
  memcpy((void *)(uintptr_t)c->code_address, c->code, c->code_length);
  memcpy((void *)(uintptr_t)DIFF_DATA, c->before.data, DIFF_DATA_BYTES);
  memcpy((void *)(uintptr_t)DIFF_STACK, c->before.stack, DIFF_STACK_BYTES);
  native.c = c;
  native.after = after;
  set_data_segments(c->mode == DIFF_16 ? DIFF_DS16 : NATIVE_SS);
  __asm__ volatile("int3" : : : "memory");
  set_data_segments(NATIVE_SS);
  native.c = NULL;
  memcpy(after->data, (void *)(uintptr_t)DIFF_DATA, DIFF_DATA_BYTES);
  memcpy(after->stack, (void *)(uintptr_t)DIFF_STACK, DIFF_STACK_BYTES);
}
