/*
 * x87, MMX and SSE state as a whole: control words, the environment in memory, FXSAVE and XSAVE images, and the move
 * between the translator's form (fpr, fpu_top, fpu_tags) and the architectural image.
 *
 * MXCSR. While translated code runs, the host's MXCSR is the guest's with all exceptions masked; flags gather there.
 * Helpers run with it too, so x86_mxcsr_read() collects the flags from it. The execution loop loads guest_mxcsr_masked on
 * entry, and on leaving puts the flags back there.
 */
#include "vm-engine/accel/tcg/guest/x86/fpu-x87.h"

#include "vm-engine/vcpu.h"

#define MXCSR_FLAGS 0x3fu
#define MXCSR_MASKS 0x1f80u
#define XSAVE_X87   1u
#define XSAVE_SSE   2u
#define XSAVE_AVX   4u

/* ---- control and status ------------------------------------------------------------------------------------------ */

uint16_t x87_get_fsw(const TcgCpu *cpu)
{
  return (uint16_t)((cpu->x86.fpu.fsw & ~X87_TOP) | (unsigned)(cpu->fpu_top & 7) << 11);
}

static void x87_update_summary(TcgCpu *cpu)
{
  X86Fpu *fpu = &cpu->x86.fpu;
  bool was_pending = fpu->fsw & X87_ES;
  fpu->fsw &= (uint16_t) ~(X87_ES | X87_BUSY);
  if (fpu->fsw & ~(unsigned)fpu->fcw & X87_EXCEPTIONS) {
    fpu->fsw |= X87_ES | X87_BUSY;
  } else if (was_pending && cpu->vcpu && cpu->vcpu->fpu_error) {
    cpu->vcpu->fpu_error(cpu->vcpu, false, cpu->vcpu->fpu_error_opaque);
  }
}

void x87_set_fsw(TcgCpu *cpu, uint16_t fsw)
{
  cpu->x86.fpu.fsw = (uint16_t)((fsw & ~(X87_TOP | X87_ES | X87_BUSY)) | (cpu->x86.fpu.fsw & X87_ES));
  cpu->fpu_top = fsw >> 11 & 7;
  x87_update_summary(cpu);
}

void x87_set_fcw(TcgCpu *cpu, uint16_t fcw)
{
  cpu->x86.fpu.fcw = (fcw & 0x1f3f) | 0x40;
  x87_update_summary(cpu);
}

void x87_init(TcgCpu *cpu)
{
  X86Fpu *fpu = &cpu->x86.fpu;
  x87_set_fsw(cpu, 0);
  x87_set_fcw(cpu, X87_CW_DEFAULT);
  cpu->fpu_tags = 0;
  fpu->fop = 0;
  fpu->fip = fpu->fdp = 0;
}

/* One register's tag: 0 valid, 1 zero, 2 anything that is not a normal number, 3 empty. */
static unsigned x87_tag(const TcgCpu *cpu, unsigned phys)
{
  uint64_t significand;
  uint16_t exponent;
  if (!(cpu->fpu_tags >> phys & 1)) {
    return 3;
  }
  memcpy(&significand, cpu->fpr[phys], 8);
  memcpy(&exponent, cpu->fpr[phys] + 8, 2);
  exponent &= 0x7fff;
  if (exponent == 0 && significand == 0) {
    return 1;
  }
  return exponent == 0 || exponent == 0x7fff || !(significand >> 63) ? 2 : 0;
}

uint16_t x87_get_tag_word(const TcgCpu *cpu)
{
  unsigned tags = 0;
  for (unsigned i = 0; i < 8; i++) {
    tags |= x87_tag(cpu, i) << 2 * i;
  }
  return (uint16_t)tags;
}

uint64_t helper_x87_fldcw(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (x87_check_pending(cpu)) {
    x87_set_fcw(cpu, (uint16_t)b);
  }
  return 0;
}

uint64_t helper_x87_fnstsw(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  return x87_get_fsw(cpu);
}

uint64_t helper_x87_fnclex(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  x87_set_fsw(cpu, x87_get_fsw(cpu) & (uint16_t) ~(X87_EXCEPTIONS | X87_SF));
  return 0;
}

uint64_t helper_x87_fninit(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  x87_init(cpu);
  return 0;
}

/* ---- the environment: SDM volume 1, 8.1.10, figures 8-9 to 8-12 -------------------------------------------------------- */

static bool x87_protected_format(const TcgCpu *cpu)
{
  return (cpu->hflags & (TCG_HF_PE | TCG_HF_VM)) == TCG_HF_PE;
}

/* A pointer as real mode has it: linear, of the saved selector and offset. */
static uint32_t x87_real_pointer(uint64_t pointer)
{
  return (uint32_t)((pointer >> 32 & 0xffff) << 4) + (uint32_t)pointer;
}

static void x87_pack_environment(const TcgCpu *cpu, bool op16, uint32_t fields[7])
{
  const X86Fpu *fpu = &cpu->x86.fpu;
  bool long_mode = cpu->hflags & TCG_HF_CS64;
  fields[0] = 0xffff0000u | fpu->fcw;
  fields[1] = 0xffff0000u | x87_get_fsw(cpu);
  fields[2] = 0xffff0000u | x87_get_tag_word(cpu);
  if (x87_protected_format(cpu)) {
    uint32_t fcs = long_mode ? 0 : fpu->fip >> 32 & 0xffff, fds = long_mode ? 0 : fpu->fdp >> 32 & 0xffff;
    fields[3] = (uint32_t)fpu->fip;
    fields[4] = op16 ? fcs : fcs | (uint32_t)(fpu->fop & 0x7ff) << 16;
    fields[5] = (uint32_t)fpu->fdp;
    fields[6] = 0xffff0000u | fds;
    return;
  }
  uint32_t ip = x87_real_pointer(fpu->fip), dp = x87_real_pointer(fpu->fdp);
  fields[3] = 0xffff0000u | (ip & 0xffff);
  fields[4] = (ip >> 16 << 12) | (fpu->fop & 0x7ff);
  fields[5] = 0xffff0000u | (dp & 0xffff);
  fields[6] = dp >> 16 << 12;
}

static void x87_unpack_environment(TcgCpu *cpu, bool op16, const uint32_t fields[7])
{
  X86Fpu *fpu = &cpu->x86.fpu;
  fpu->fcw = (fields[0] & 0x1f3f) | 0x40;
  x87_set_fsw(cpu, (uint16_t)fields[1]);
  cpu->fpu_tags = 0;
  for (unsigned i = 0; i < 8; i++) {
    if ((fields[2] >> 2 * i & 3) != 3) {
      cpu->fpu_tags |= (uint8_t)(1u << i);
    }
  }
  if (x87_protected_format(cpu)) {
    fpu->fip = fields[3] | (uint64_t)(fields[4] & 0xffff) << 32;
    fpu->fdp = fields[5] | (uint64_t)(fields[6] & 0xffff) << 32;
    if (cpu->hflags & TCG_HF_CS64) {
      fpu->fip = fields[3];
      fpu->fdp = fields[5];
    }
    fpu->fop = op16 ? 0 : fields[4] >> 16 & 0x7ff;
  } else {
    fpu->fip = (fields[3] & 0xffff) | (fields[4] & 0x0ffff000) << 4;
    fpu->fdp = (fields[5] & 0xffff) | (fields[6] & 0x0ffff000) << 4;
    fpu->fop = fields[4] & 0x7ff;
  }
}

bool x87_store_environment(TcgCpu *cpu, uint64_t linear, bool op16, bool with_registers)
{
  uint8_t image[108];
  uint32_t fields[7];
  unsigned size = op16 ? 14 : 28;
  x87_pack_environment(cpu, op16, fields);
  for (unsigned i = 0; i < 7; i++) {
    memcpy(image + i * (op16 ? 2 : 4), &fields[i], op16 ? 2 : 4);
  }
  if (with_registers) {
    for (unsigned i = 0; i < 8; i++) {
      memcpy(image + size + i * 10, x87_st(cpu, i), 10);
    }
    size += 80;
  }
  return x86_write(cpu, linear, image, size, x86_mmu(cpu));
}

bool x87_load_environment(TcgCpu *cpu, uint64_t linear, bool op16, bool with_registers)
{
  uint8_t image[108];
  uint32_t fields[7] = { 0 };
  unsigned size = op16 ? 14 : 28;
  if (!x86_read(cpu, linear, image, size + (with_registers ? 80 : 0), x86_mmu(cpu))) {
    return false;
  }
  for (unsigned i = 0; i < 7; i++) {
    memcpy(&fields[i], image + i * (op16 ? 2 : 4), op16 ? 2 : 4);
  }
  x87_unpack_environment(cpu, op16, fields);
  for (unsigned i = 0; with_registers && i < 8; i++) {
    memcpy(x87_st(cpu, i), image + size + i * 10, 10);
  }
  return true;
}

/* FNSTENV D9 /6 masks all exceptions afterwards; FNSAVE DD /6 initialises. */
uint64_t helper_x87_store_env(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  bool with_registers = x87_word_opcode(a) == 0xdd;
  if (!x87_store_environment(cpu, c, a & X87_WORD_OP16, with_registers)) {
    return 0;
  }
  if (with_registers) {
    x87_init(cpu);
  } else {
    x87_set_fcw(cpu, cpu->x86.fpu.fcw | X87_EXCEPTIONS);
  }
  return 0;
}

uint64_t helper_x87_load_env(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (x87_check_pending(cpu)) {
    (void)!x87_load_environment(cpu, c, a & X87_WORD_OP16, x87_word_opcode(a) == 0xdd);
  }
  return 0;
}

/* ---- MXCSR --------------------------------------------------------------------------------------------------------------- */

uint32_t x86_mxcsr_valid_bits(void)
{
  return 0xffff;
}

uint32_t x86_mxcsr_read(TcgCpu *cpu)
{
  cpu->x86.fpu.mxcsr |= (__builtin_ia32_stmxcsr() | cpu->guest_mxcsr_masked) & MXCSR_FLAGS;
  return cpu->x86.fpu.mxcsr;
}

void x86_mxcsr_write(TcgCpu *cpu, uint32_t mxcsr)
{
  cpu->x86.fpu.mxcsr = mxcsr;
  cpu->guest_mxcsr_masked = mxcsr | MXCSR_MASKS;
  __builtin_ia32_ldmxcsr(cpu->guest_mxcsr_masked);
  bool unmasked = (mxcsr & MXCSR_MASKS) != MXCSR_MASKS;
  if (unmasked != !!(cpu->hflags & TCG_HF_SSE_UNMASKED)) {
    x86_update_hflags(cpu);
    cpu->exit_block = 1;
  }
}

uint64_t helper_ldmxcsr(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  if (b & ~(uint64_t)x86_mxcsr_valid_bits()) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  x86_mxcsr_write(cpu, (uint32_t)b);
  return 0;
}

uint64_t helper_stmxcsr(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  return x86_mxcsr_read(cpu);
}

/* ---- images --------------------------------------------------------------------------------------------------------------- */

void x86_fpu_import(TcgCpu *cpu)
{
  X86Fpu *fpu = &cpu->x86.fpu;
  uint16_t fsw = fpu->fsw;
  cpu->fpu_top = fsw >> 11 & 7;
  cpu->fpu_tags = fpu->ftw;
  fpu->fsw = fsw & (uint16_t)~X87_TOP;
  for (unsigned i = 0; i < 8; i++) {
    memcpy(x87_st(cpu, i), fpu->st[i], 10);
    memset(x87_st(cpu, i) + 10, 0, 6);
  }
  fpu->fcw = (fpu->fcw & 0x1f3f) | 0x40;
  x87_update_summary(cpu);
  fpu->mxcsr &= x86_mxcsr_valid_bits();
  cpu->guest_mxcsr_masked = fpu->mxcsr | MXCSR_MASKS;
}

void x86_fpu_export(TcgCpu *cpu)
{
  X86Fpu *fpu = &cpu->x86.fpu;
  fpu->fsw = x87_get_fsw(cpu);
  fpu->ftw = cpu->fpu_tags;
  fpu->rsvd = 0;
  for (unsigned i = 0; i < 8; i++) {
    memcpy(fpu->st[i], x87_st(cpu, i), 10);
    memset(fpu->st[i] + 10, 0, 6);
  }
  fpu->mxcsr |= cpu->guest_mxcsr_masked & MXCSR_FLAGS;
  fpu->mxcsr_mask = x86_mxcsr_valid_bits();
}

/* Lays out the x87 part of an FXSAVE image: bytes 0–23 and 32–159. */
static void x87_to_fxsave(TcgCpu *cpu, X86Fpu *image, bool wide)
{
  const X86Fpu *fpu = &cpu->x86.fpu;
  image->fcw = fpu->fcw;
  image->fsw = x87_get_fsw(cpu);
  image->ftw = cpu->fpu_tags;
  image->rsvd = 0;
  image->fop = fpu->fop & 0x7ff;
  bool long_mode = cpu->hflags & TCG_HF_CS64;
  uint64_t keep = wide ? UINT64_MAX : long_mode ? UINT32_MAX : 0xffffffffffff;
  image->fip = fpu->fip & keep;
  image->fdp = fpu->fdp & keep;
  for (unsigned i = 0; i < 8; i++) {
    memcpy(image->st[i], x87_st(cpu, i), 10);
    memset(image->st[i] + 10, 0, 6);
  }
}

static void x87_from_fxsave(TcgCpu *cpu, const X86Fpu *image, bool wide)
{
  X86Fpu *fpu = &cpu->x86.fpu;
  bool long_mode = cpu->hflags & TCG_HF_CS64;
  uint64_t keep = wide ? UINT64_MAX : long_mode ? UINT32_MAX : 0xffffffffffff;
  fpu->fcw = (image->fcw & 0x1f3f) | 0x40;
  x87_set_fsw(cpu, image->fsw);
  cpu->fpu_tags = image->ftw;
  fpu->fop = image->fop & 0x7ff;
  fpu->fip = image->fip & keep;
  fpu->fdp = image->fdp & keep;
  for (unsigned i = 0; i < 8; i++) {
    memcpy(x87_st(cpu, i), image->st[i], 10);
  }
}

static unsigned x86_xmm_bytes(const TcgCpu *cpu)
{
  return (cpu->hflags & TCG_HF_CS64) ? 256 : 128;
}

uint64_t helper_fxsave(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  X86Fpu image;
  if (c & 15) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  x87_to_fxsave(cpu, &image, a & 1);
  image.mxcsr = x86_mxcsr_read(cpu);
  image.mxcsr_mask = x86_mxcsr_valid_bits();
  memcpy(image.xmm, cpu->x86.fpu.xmm, sizeof image.xmm);
  /* The XMM registers that this mode has; what is behind them is left alone in memory. */
  (void)!x86_write(cpu, c, &image, 160 + x86_xmm_bytes(cpu), x86_mmu(cpu));
  return 0;
}

uint64_t helper_fxrstor(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  X86Fpu image;
  if (c & 15) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  if (!x86_read(cpu, c, &image, 512, x86_mmu(cpu))) {
    return 0;
  }
  if (image.mxcsr & ~x86_mxcsr_valid_bits()) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  x87_from_fxsave(cpu, &image, a & 1);
  memcpy(cpu->x86.fpu.xmm, image.xmm, x86_xmm_bytes(cpu));
  x86_mxcsr_write(cpu, image.mxcsr);
  return 0;
}

/* ---- XSAVE, standard form: SDM volume 1, 13.4 and 13.7 to 13.9 -------------------------------------------------------------- */

#define XSAVE_HEADER     512u
#define XSAVE_AVX_OFFSET 576u

static bool xsave_write(TcgCpu *cpu, uint64_t linear, const void *data, unsigned size)
{
  return x86_write(cpu, linear, data, size, x86_mmu(cpu));
}

/* A fault in a later part leaves earlier ones written; the restart writes them again. XSTATE_BV goes last. */
uint64_t helper_xsave(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint64_t rfbm = b & cpu->x86.xcr0, xstate_bv;
  X86Fpu image;
  if (c & 63) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  x87_to_fxsave(cpu, &image, a & 1);
  image.mxcsr = x86_mxcsr_read(cpu);
  image.mxcsr_mask = x86_mxcsr_valid_bits();
  if (!x86_read(cpu, c + XSAVE_HEADER, &xstate_bv, 8, x86_mmu(cpu))) {
    return 0;
  }
  bool ok = true;
  if (rfbm & XSAVE_X87) {
    ok = xsave_write(cpu, c, &image, 24) && xsave_write(cpu, c + 32, image.st, sizeof image.st);
  }
  if (ok && (rfbm & (XSAVE_SSE | XSAVE_AVX))) {
    ok = xsave_write(cpu, c + 24, &image.mxcsr, 8);
  }
  if (ok && (rfbm & XSAVE_SSE)) {
    ok = xsave_write(cpu, c + 160, cpu->x86.fpu.xmm, x86_xmm_bytes(cpu));
  }
  if (ok && (rfbm & XSAVE_AVX)) {
    ok = xsave_write(cpu, c + XSAVE_AVX_OFFSET, cpu->x86.fpu.ymm_high, x86_xmm_bytes(cpu));
  }
  xstate_bv = (xstate_bv & ~rfbm) | rfbm;
  if (ok) {
    (void)!xsave_write(cpu, c + XSAVE_HEADER, &xstate_bv, 8);
  }
  return 0;
}

static void xrstor_part(void *to, const void *from, unsigned size, bool from_image)
{
  if (from_image) {
    memcpy(to, from, size);
  } else {
    memset(to, 0, size);
  }
}

uint64_t helper_xrstor(TcgCpu *cpu, uint64_t a, uint64_t b, uint64_t c)
{
  uint64_t rfbm = b & cpu->x86.xcr0;
  X86Fpu image;
  struct {
    uint64_t xstate_bv, xcomp_bv, reserved[6];
  } header;
  uint8_t high[16][16];
  if (c & 63) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  if (!x86_read(cpu, c, &image, 512, x86_mmu(cpu)) || !x86_read(cpu, c + XSAVE_HEADER, &header, 64, x86_mmu(cpu))) {
    return 0;
  }
  bool has_avx = rfbm & header.xstate_bv & XSAVE_AVX;
  if (has_avx && !x86_read(cpu, c + XSAVE_AVX_OFFSET, high, x86_xmm_bytes(cpu), x86_mmu(cpu))) {
    return 0;
  }
  bool mxcsr_wanted = rfbm & (XSAVE_SSE | XSAVE_AVX);
  if ((header.xstate_bv & ~cpu->x86.xcr0) || header.xcomp_bv || header.reserved[0] ||
      (mxcsr_wanted && (image.mxcsr & ~x86_mxcsr_valid_bits()))) {
    x86_raise_error(cpu, X86_EXC_GP, 0);
    return 0;
  }
  if (rfbm & XSAVE_X87) {
    if (header.xstate_bv & XSAVE_X87) {
      x87_from_fxsave(cpu, &image, a & 1);
    } else {
      x87_init(cpu);
      memset(cpu->fpr, 0, sizeof cpu->fpr);
    }
  }
  if (rfbm & XSAVE_SSE) {
    xrstor_part(cpu->x86.fpu.xmm, image.xmm, x86_xmm_bytes(cpu), header.xstate_bv & XSAVE_SSE);
  }
  if (rfbm & XSAVE_AVX) {
    xrstor_part(cpu->x86.fpu.ymm_high, high, x86_xmm_bytes(cpu), has_avx);
  }
  if (mxcsr_wanted) {
    x86_mxcsr_write(cpu, image.mxcsr);
  }
  return 0;
}
