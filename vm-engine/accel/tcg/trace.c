/*
 * What the translator writes down about its work, on request of the environment:
 *   ORIEL_PERF_MAP=1         /tmp/perf-PID.map, by which `perf` names translated code
 *   ORIEL_TCG_DUMP=FILE      each block's guest bytes, IR before and after the passes, host code
 */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "vm-engine/accel/tcg/tcg-impl.h"

#ifdef HAVE_ZYDIS
#include <Zydis/Zydis.h>
#endif

struct TcgTrace {
  FILE *perf_map;
  FILE *dump;
  GString *passes;
};

static FILE *open_perf_map(void)
{
  if (g_strcmp0(g_getenv("ORIEL_PERF_MAP"), "1") != 0)
    return NULL;
  g_autofree char *path = g_strdup_printf("/tmp/perf-%d.map", (int)getpid());
  return fopen(path, "we");
}

TcgTrace *tcg_trace_new(void)
{
  const char *dump_path = g_getenv("ORIEL_TCG_DUMP");
  FILE *perf_map = open_perf_map(), *dump = dump_path != NULL ? fopen(dump_path, "we") : NULL;
  if (perf_map == NULL && dump == NULL)
    return NULL;
  TcgTrace *trace = g_new0(TcgTrace, 1);
  trace->perf_map = perf_map;
  trace->dump = dump;
  trace->passes = g_string_new(NULL);
  return trace;
}

void tcg_trace_free(TcgTrace *trace)
{
  if (trace == NULL)
    return;
  if (trace->perf_map != NULL)
    fclose(trace->perf_map);
  if (trace->dump != NULL)
    fclose(trace->dump);
  g_string_free(trace->passes, TRUE);
  g_free(trace);
}

bool tcg_trace_is_for_perf(const TcgTrace *trace)
{
  return trace != NULL && trace->perf_map != NULL;
}

GString *tcg_trace_begin(TcgTrace *trace)
{
  if (trace->dump == NULL)
    return NULL;
  g_string_truncate(trace->passes, 0);
  return trace->passes;
}

static void dump_bytes(FILE *out, const uint8_t *bytes, size_t n)
{
  for (size_t i = 0; i < n; i++)
    fprintf(out, "%02x%s", bytes[i], i % 16 == 15 || i + 1 == n ? "\n" : " ");
}

#ifdef HAVE_ZYDIS
static void disassemble(FILE *out, const uint8_t *code, size_t n, uint64_t address, unsigned bits)
{
  ZydisMachineMode mode = bits == 64   ? ZYDIS_MACHINE_MODE_LONG_64
                          : bits == 32 ? ZYDIS_MACHINE_MODE_LONG_COMPAT_32
                                       : ZYDIS_MACHINE_MODE_LONG_COMPAT_16;
  ZydisDisassembledInstruction insn;
  for (size_t at = 0; at < n; at += insn.info.length) {
    if (!ZYAN_SUCCESS(ZydisDisassembleIntel(mode, address + at, code + at, n - at, &insn))) {
      fprintf(out, "  ?\n");
      return;
    }
    fprintf(out, "  %" PRIx64 "  %s\n", address + at, insn.text);
  }
}
#else
static void disassemble(FILE *out, const uint8_t *code, size_t n, uint64_t address, unsigned bits)
{
  (void)address;
  (void)bits;
  dump_bytes(out, code, n);
}
#endif

void tcg_trace_block(TcgTrace *trace, const TcgBlock *block, const uint8_t *guest, size_t n_guest, const uint8_t *host,
                     size_t n_host)
{
  if (trace->perf_map != NULL) {
    fprintf(trace->perf_map, "%" PRIxPTR " %zx guest_%" PRIx64 "\n", (uintptr_t)host, n_host, block->key.pc);
    fflush(trace->perf_map);
  }
  if (trace->dump == NULL)
    return;
  unsigned bits = (block->key.hflags & TCG_HF_CS64) != 0 ? 64 : (block->key.hflags & TCG_HF_CS32) != 0 ? 32 : 16;
  fprintf(trace->dump, "==== block %u: %u instructions at 0x%" PRIx64 ", hflags 0x%x, mode %u\n-- guest\n", block->id,
          block->n_guest_insns, block->key.pc, block->key.hflags, block->key.mode);
  dump_bytes(trace->dump, guest, n_guest);
  disassemble(trace->dump, guest, n_guest, block->key.pc, bits);
  fputs(trace->passes->str, trace->dump);
  fprintf(trace->dump, "-- host, %zu bytes\n", n_host);
  disassemble(trace->dump, host, n_host, (uint64_t)(uintptr_t)host, 64);
  fflush(trace->dump);
}
