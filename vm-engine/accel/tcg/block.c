/*
 * Blocks: the table that finds them, the pages that they come from, the links between them.
 */
#include "vm-engine/accel/tcg/host/host.h"

#define GRANULE_SHIFT 6 /* 64 bytes: what a bit of TcgPage.granules stands for */

void tcg_blocks_init(Tcg *tcg)
{
  tcg->hash = g_new0(TcgBlock *, 1u << TCG_HASH_BITS);
  tcg->chunks = g_ptr_array_new_with_free_func(g_free);
  tcg->pages = g_ptr_array_new_with_free_func(g_free);
  tcg->page_counts = g_array_new(FALSE, TRUE, sizeof(uint64_t));
}

static void free_page_structs(Tcg *tcg)
{
  for (unsigned i = 0; i < tcg->pages->len; i++) {
    TcgPage **pages = g_ptr_array_index(tcg->pages, i);
    for (uint64_t k = 0; pages != NULL && k < g_array_index(tcg->page_counts, uint64_t, i); k++)
      g_free(pages[k]);
  }
}

static void free_irs(Tcg *tcg)
{
  for (uint32_t i = 0; tcg->backend == TCG_BACKEND_INTERP && i < tcg->n_blocks; i++)
    ir_block_free(tcg_block_by_id(tcg, i)->ir);
}

void tcg_blocks_finish(Tcg *tcg)
{
  free_irs(tcg);
  free_page_structs(tcg);
  g_ptr_array_free(tcg->chunks, TRUE);
  g_ptr_array_free(tcg->pages, TRUE);
  g_array_free(tcg->page_counts, TRUE);
  g_free(tcg->hash);
}

/* ---- the table -------------------------------------------------------------------------------------------------------- */

static TcgBlock **bucket(Tcg *tcg, const TcgBlockKey *key)
{
  uint64_t h = key->ram_offset ^ key->pc << 7 ^ (uint64_t)key->hflags << 32 ^ key->mode ^ (uintptr_t)key->ram >> 4;
  h *= 0x9e3779b97f4a7c15ull;
  return &tcg->hash[h >> (64 - TCG_HASH_BITS)];
}

static bool key_equal(const TcgBlockKey *a, const TcgBlockKey *b)
{
  return a->ram == b->ram && a->ram_offset == b->ram_offset && a->pc == b->pc && a->cs_base == b->cs_base &&
         a->hflags == b->hflags && a->mode == b->mode;
}

TcgBlock *tcg_block_find_locked(Tcg *tcg, const TcgBlockKey *key)
{
  TcgBlock *b = *bucket(tcg, key);
  while (b != NULL && !key_equal(&b->key, key))
    b = b->hash_next;
  return b;
}

TcgBlock *tcg_block_new_locked(Tcg *tcg, const TcgBlockKey *key)
{
  if (tcg->n_blocks == tcg->chunks->len * TCG_BLOCKS_PER_CHUNK)
    g_ptr_array_add(tcg->chunks, g_new(TcgBlock, TCG_BLOCKS_PER_CHUNK));
  TcgBlock *block = tcg_block_by_id(tcg, tcg->n_blocks);
  memset(block, 0, sizeof *block);
  block->id = tcg->n_blocks++;
  block->key = *key;
  return block;
}

void tcg_block_discard_locked(Tcg *tcg, TcgBlock *block)
{
  g_assert(block->id == tcg->n_blocks - 1);
  tcg->n_blocks--;
}

/* ---- pages --------------------------------------------------------------------------------------------------------------- */

TcgPage *tcg_page_get_locked(Tcg *tcg, VmRam *ram, uint64_t offset)
{
  uint64_t n = ram->size >> VM_PAGE_SHIFT, index = offset >> VM_PAGE_SHIFT;
  g_assert(index < n);
  if (ram->index >= tcg->pages->len) {
    g_ptr_array_set_size(tcg->pages, (int)ram->index + 1);
    g_array_set_size(tcg->page_counts, ram->index + 1);
  }
  if (g_ptr_array_index(tcg->pages, ram->index) == NULL) {
    g_ptr_array_index(tcg->pages, ram->index) = g_new0(TcgPage *, n);
    g_array_index(tcg->page_counts, uint64_t, ram->index) = n;
  }
  TcgPage **pages = g_ptr_array_index(tcg->pages, ram->index);
  if (pages[index] == NULL) {
    pages[index] = g_new0(TcgPage, 1);
    pages[index]->ram = ram;
    pages[index]->offset = index << VM_PAGE_SHIFT;
  }
  return pages[index];
}

static TcgPage *page_look_up(Tcg *tcg, VmRam *ram, uint64_t offset)
{
  if (ram->index >= tcg->pages->len || g_ptr_array_index(tcg->pages, ram->index) == NULL)
    return NULL;
  TcgPage **pages = g_ptr_array_index(tcg->pages, ram->index);
  return pages[offset >> VM_PAGE_SHIFT];
}

/* Bits for the granules that bytes [start, end) of a page touch. */
static uint64_t granules_of(unsigned start, unsigned end)
{
  unsigned first = start >> GRANULE_SHIFT, last = (end - 1) >> GRANULE_SHIFT;
  return (last == 63 ? ~0ull : (1ull << (last + 1)) - 1) & ~((1ull << first) - 1);
}

/* Which of the block's parts is in this page. */
static TcgPart *part_in(TcgBlock *block, const TcgPage *page)
{
  return &block->parts[block->parts[0].page == page ? 0 : 1];
}

static void add_part(TcgBlock *block, unsigned which, TcgPage *page, unsigned start, unsigned end)
{
  TcgPart *part = &block->parts[which];
  *part = (TcgPart){ .page = page, .next = page->blocks, .start = (uint16_t)start, .end = (uint16_t)end };
  page->blocks = block;
  page->granules |= granules_of(start, end);
}

static void remove_part(TcgBlock *block, unsigned which)
{
  TcgPage *page = block->parts[which].page;
  if (page == NULL)
    return;
  TcgBlock **at = &page->blocks;
  while (*at != block)
    at = &part_in(*at, page)->next;
  *at = block->parts[which].next;
}

static void recount_granules(TcgPage *page)
{
  page->granules = 0;
  for (TcgBlock *b = page->blocks; b != NULL; b = part_in(b, page)->next)
    page->granules |= granules_of(part_in(b, page)->start, part_in(b, page)->end);
}

/* Writes go straight to the page again, once the CPUs' next slow write sees it. */
static void unprotect_if_empty(TcgPage *page)
{
  if (page->blocks == NULL)
    atomic_fetch_and(&page->ram->page_flags[page->offset >> VM_PAGE_SHIFT], (uint8_t)~VM_PAGE_CODE);
}

void tcg_block_insert_locked(Tcg *tcg, TcgBlock *block, TcgPage *first, TcgPage *second)
{
  TcgBlock **at = bucket(tcg, &block->key);
  block->hash_next = *at;
  *at = block;
  unsigned start = block->key.pc & (VM_PAGE_SIZE - 1), end = start + block->guest_bytes;
  add_part(block, 0, first, start, MIN(end, VM_PAGE_SIZE));
  if (second != NULL && second != first)
    add_part(block, 1, second, 0, end - VM_PAGE_SIZE);
  else if (second != NULL) /* both linear pages are the same bytes: the whole page */
    block->parts[0].start = 0, block->parts[0].end = VM_PAGE_SIZE, first->granules = ~0ull;
  atomic_store(&block->valid, true);
}

/* ---- links ------------------------------------------------------------------------------------------------------------------ */

void tcg_block_link_locked(Tcg *tcg, TcgLink *link, TcgBlock *to)
{
  if (link->site == NULL || link->to != NULL || !atomic_load(&link->from->valid) || !atomic_load(&to->valid))
    return;
  link->to = to;
  link->next_in = to->incoming;
  to->incoming = link;
  host_patch(tcg->cache, link->site, link->flags_in_host ? to->entry_host : to->entry_mem);
  tcg->counters.links++;
}

static void unlink_incoming(Tcg *tcg, TcgBlock *block)
{
  for (TcgLink *link = block->incoming; link != NULL; link = link->next_in) {
    host_patch(tcg->cache, link->site, link->stub);
    link->to = NULL;
  }
  block->incoming = NULL;
}

static void unlink_outgoing(Tcg *tcg, TcgBlock *block)
{
  for (unsigned i = 0; i < G_N_ELEMENTS(block->links); i++) {
    TcgLink *link = &block->links[i];
    if (link->to == NULL)
      continue;
    TcgLink **at = &link->to->incoming;
    while (*at != link)
      at = &(*at)->next_in;
    *at = link->next_in;
    link->to = NULL;
    host_patch(tcg->cache, link->site, link->stub);
  }
}

/* ---- dropping ---------------------------------------------------------------------------------------------------------------- */

static void forget_in_jump_caches(Tcg *tcg, const TcgBlock *block)
{
  uint64_t rip = block->key.pc - block->key.cs_base;
  uint64_t pc = (block->key.hflags & TCG_HF_CS64) != 0 ? rip : (uint32_t)rip | block->key.cs_base << 32;
  for (unsigned i = 0; i < tcg->cpus->len; i++) {
    TcgCpu *cpu = g_ptr_array_index(tcg->cpus, i);
    TcgJumpEntry *entry = &cpu->jump_cache[tcg_jump_index(pc)];
    if (entry->block == block)
      __atomic_store_n(&entry->generation, 0, __ATOMIC_SEQ_CST);
  }
}

static void drop_block(Tcg *tcg, TcgBlock *block)
{
  atomic_store(&block->valid, false);
  unlink_incoming(tcg, block);
  unlink_outgoing(tcg, block);
  TcgBlock **at = bucket(tcg, &block->key);
  while (*at != block)
    at = &(*at)->hash_next;
  *at = block->hash_next;
  remove_part(block, 0);
  remove_part(block, 1);
  forget_in_jump_caches(tcg, block);
  tcg->counters.dropped++;
}

/* Bytes [start, end) of the page changed. Returns whether a block was dropped. */
static bool invalidate_in_page(Tcg *tcg, TcgPage *page, unsigned start, unsigned end)
{
  bool any = false;
  page->writes++;
  if ((page->granules & granules_of(start, end)) != 0) {
    for (TcgBlock *b = page->blocks, *next; b != NULL; b = next) {
      TcgPart *part = part_in(b, page);
      TcgPart *other = &b->parts[part == &b->parts[0] ? 1 : 0];
      next = part->next;
      if (part->start >= end || part->end <= start)
        continue;
      TcgPage *other_page = other->page;
      drop_block(tcg, b);
      if (other_page != NULL) {
        recount_granules(other_page);
        unprotect_if_empty(other_page);
      }
      any = true;
    }
    if (any)
      recount_granules(page);
  }
  unprotect_if_empty(page);
  return any;
}

void tcg_invalidate(Tcg *tcg, TcgCpu *cpu, VmRam *ram, uint64_t offset, uint64_t size)
{
  bool any = false;
  if (size == 0 || offset >= ram->size || size > ram->size - offset)
    return;
  g_mutex_lock(&tcg->lock);
  tcg->counters.code_writes++;
  for (uint64_t end = offset + size; offset < end;) {
    uint64_t stop = MIN(end, (offset | (VM_PAGE_SIZE - 1)) + 1);
    TcgPage *page = page_look_up(tcg, ram, offset);
    if (page != NULL)
      any |= invalidate_in_page(tcg, page, offset & (VM_PAGE_SIZE - 1),
                                (unsigned)(stop - (offset & ~(uint64_t)(VM_PAGE_SIZE - 1))));
    offset = stop;
  }
  g_mutex_unlock(&tcg->lock);
  /* The running block may be among them: leaving needlessly costs less than knowing. */
  if (any && cpu != NULL)
    cpu->exit_block = 1;
}

void tcg_blocks_flush_locked(Tcg *tcg)
{
  for (uint32_t i = 0; i < tcg->n_blocks; i++) {
    TcgBlock *b = tcg_block_by_id(tcg, i);
    for (unsigned k = 0; k < 2 && atomic_load(&b->valid); k++) {
      TcgPage *page = b->parts[k].page;
      if (page == NULL)
        continue;
      page->blocks = NULL;
      page->granules = 0;
      page->writes++;
      unprotect_if_empty(page);
    }
  }
  free_irs(tcg);
  memset(tcg->hash, 0, sizeof(TcgBlock *) << TCG_HASH_BITS);
  tcg->n_blocks = 0;
  g_hash_table_remove_all(tcg->natives);
  tcg_cache_reset(tcg->cache);
  for (unsigned i = 0; i < tcg->cpus->len; i++)
    tcg_flush_jump_cache(g_ptr_array_index(tcg->cpus, i));
  tcg->generation++;
  tcg->counters.flushes++;
}
