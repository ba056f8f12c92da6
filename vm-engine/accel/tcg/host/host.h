/*
 * What a host back end offers the rest of the translator: IR to host code.
 *
 * Entry: a block has two entry points. At `entry_mem` the guest's arithmetic flags are in cpu->flags; at `entry_host` they
 * are in the host's flags register, where the block before left them. An exit says which it leads to, so chained blocks
 * pass flags on without saving them.
 */
#ifndef TCG_HOST_H
#define TCG_HOST_H

#include "vm-engine/accel/tcg/tcg-impl.h"

typedef struct HostExit {
  uint8_t *site;       /* executable address of a 32-bit displacement, aligned, relative to its end; NULL: none */
  const uint8_t *stub; /* where it leads to at first */
  bool flags_in_host;
} HostExit;

typedef struct HostCode {
  const uint8_t *entry_mem, *entry_host; /* executable */
  const uint8_t *start;
  size_t size;
  HostExit exits[2];
} HostCode;

/* Host code made once, at the start of the code cache. */
struct HostStubs {
  /* Runs translated code from `entry` on; returns an IrLeave. */
  uint64_t (*enter)(TcgCpu *cpu, const void *entry);
  const uint8_t *leave; /* with the IrLeave in the result register: back to enter's caller */
  const uint8_t *leave_exception;
  const uint8_t *slow[5]; /* load, store, vector load, vector store, probe */
  const uint8_t *call[4]; /* bit 0: stores guest registers first, bit 1: loads them after */
};

/* NULL with `error`: the host's processor lacks what translated code needs. */
HostStubs *host_stubs_new(TcgCache *cache, GError **error);
void host_stubs_free(HostStubs *stubs);

/* One CPU's scratch for translating. */
HostTranslator *host_translator_new(void);
void host_translator_free(HostTranslator *translator);

/* Host code for `ir` at the cache's end; the lock is held. False: the block is too complex (try fewer instructions). */
bool host_translate(HostTranslator *translator, Tcg *tcg, const IrBlock *ir, uint64_t cs_base, uint32_t block_id,
                    uint32_t mode, HostCode *out) G_GNUC_WARN_UNUSED_RESULT;
/* Code that executes one native instruction: uint64_t f(TcgCpu *, uint64_t gpr). */
const void *host_translate_native(HostTranslator *translator, Tcg *tcg, const IrNative *native);
/* Makes `site` lead to `target`. Other threads may be running it. */
void host_patch(TcgCache *cache, uint8_t *site, const uint8_t *target);

#endif
