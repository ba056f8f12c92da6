/*
 * One block: its ops in order, then its rare paths.
 */
#include "vm-engine/accel/tcg/host/x86_64/backend.h"

/* What may follow the last check of the room that is left. */
#define ROOM_FOR_ONE 8192u

HostTranslator *host_translator_new(void)
{
  HostTranslator *t = g_new0(HostTranslator, 1);
  t->temps_array = g_array_sized_new(FALSE, FALSE, sizeof(Temp), 256);
  t->colds = g_array_sized_new(FALSE, FALSE, sizeof(Cold), 64);
  t->has.bmi2 = __builtin_cpu_supports("bmi2");
  t->has.bmi1 = __builtin_cpu_supports("bmi");
  t->has.lzcnt = __builtin_cpu_supports("lzcnt");
  t->has.popcnt = __builtin_cpu_supports("popcnt");
  t->has.sse42 = __builtin_cpu_supports("sse4.2");
  return t;
}

void host_translator_free(HostTranslator *t)
{
  if (t == NULL)
    return;
  g_array_free(t->temps_array, TRUE);
  g_array_free(t->colds, TRUE);
  g_free(t);
}

static void dispatch(Backend *be, const IrInsn *insn)
{
  switch (insn->op) {
  case IR_SETCC:
  case IR_CMOVCC:
  case IR_GETFLAGS:
  case IR_SETFLAGS:
  case IR_CLC:
  case IR_STC:
  case IR_CMC:
    be_op_flags(be, insn);
    break;
  case IR_LD:
  case IR_ST:
  case IR_LDV:
  case IR_STV:
  case IR_PROBEW:
    be_op_memory(be, insn);
    break;
  case IR_LDE:
  case IR_STE:
    be_op_state(be, insn);
    break;
  case IR_CALL:
    be_op_call(be, insn);
    break;
  case IR_NAT:
    be_op_native(be, insn);
    break;
  case IR_INSN:
    be_op_insn(be, insn);
    break;
  case IR_EXITCC:
  case IR_EXITNZ:
  case IR_EXIT:
  case IR_EXITIND:
  case IR_EXITLOOP:
    be_op_exit(be, insn);
    break;
  default:
    be_op_compute(be, insn);
    break;
  }
}

unsigned be_op(Backend *be, unsigned index)
{
  be->index = index;
  be->locked = 0;
  const IrInsn *insn = ir_get(be->ir, index);
  if (be_fuse_partial(be, insn))
    return index + 2;
  dispatch(be, insn);
  be_op_done(be);
  return index + 1;
}

static void begin(Backend *be, Tcg *tcg, const IrBlock *ir, HostCode *out)
{
  TcgCache *cache = tcg->cache;
  cache->used = (cache->used + 15) & ~(size_t)15;
  be->e =
      (Emit){ .p = cache->rw + cache->used, .start = cache->rw + cache->used, .to_executable = cache->rx - cache->rw };
  be->tcg = tcg;
  be->stubs = tcg->stubs;
  be->ir = ir;
  be->out = out;
  be->failed = be->in_tail = be->mmx_used = be->slot1_taken = false;
  be->poll_jump = NULL;
  be->flags = FLAGS_MEM;
  g_array_set_size(be->colds, 0);
  *out = (HostCode){ .start = emit_here(&be->e) };
}

static bool has_room(const Backend *be)
{
  return (size_t)(be->e.p - be->e.start) < TCG_CACHE_RESERVE - ROOM_FOR_ONE && !be->failed;
}

/* By index: a cold path may add others. */
static void emit_cold_paths(Backend *be)
{
  for (unsigned i = 0; i < be->colds->len && has_room(be); i++) {
    Cold cold = g_array_index(be->colds, Cold, i);
    be->in_tail = cold.in_tail;
    be_emit_cold(be, &cold);
  }
}

bool host_translate(HostTranslator *be, Tcg *tcg, const IrBlock *ir, uint64_t cs_base, uint32_t block_id, uint32_t mode,
                    HostCode *out)
{
  if (ir_count(ir) >= UINT16_MAX)
    return false;
  begin(be, tcg, ir, out);
  be->cs_base = cs_base;
  be->block_id = block_id;
  be->mode = mode;
  be->rip = ir->rip;
  be_alloc_start(be);
  out->entry_host = emit_here(&be->e);
  if (ir->flags_in != 0)
    be_save_flags(be);
  out->entry_mem = emit_here(&be->e);
  be->flags = FLAGS_MEM;
  for (unsigned i = 0; i < ir_count(ir) && has_room(be);)
    i = be_op(be, i);
  emit_cold_paths(be);
  if (!has_room(be))
    return false;
  out->size = (size_t)(be->e.p - be->e.start);
  tcg->cache->used += out->size;
  return true;
}

const void *host_translate_native(HostTranslator *be, Tcg *tcg, const IrNative *native)
{
  HostCode out;
  IrBlock *empty = NULL;
  begin(be, tcg, empty, &out);
  Emit *e = &be->e;
  bool gpr_read =
      (native->reg.kind == IR_NAT_GPR && !native->reg.writes) || (native->rm.kind == IR_NAT_GPR && !native->rm.writes);
  emit_u8(e, 0x55); /* push rbp */
  emit_mov_rr(e, Q, RBP, RDI);
  if (native->flags_def != 0 && native->flags_def != IR_FL_ALL)
    be_need_host_flags(be);
  if (gpr_read)
    emit_mov_rr(e, Q, RAX, RSI);
  be_emit_native(be, native, RAX);
  if (native->flags_def != 0) {
    emit_mov_rr(e, Q, RCX, RAX);
    be_save_flags(be);
    emit_mov_rr(e, Q, RAX, RCX);
  }
  be_emms(be);
  emit_u8(e, 0x5d); /* pop rbp */
  emit_u8(e, 0xc3);
  tcg->cache->used += (size_t)(e->p - e->start);
  return out.start;
}

void host_patch(TcgCache *cache, uint8_t *site, const uint8_t *target)
{
  /* Aligned, so other threads that run the jump see the old displacement or the new one. */
  int32_t displacement = (int32_t)(target - (site + 4));
  __atomic_store_n((int32_t *)(void *)tcg_cache_writable(cache, site), displacement, __ATOMIC_RELEASE);
}
