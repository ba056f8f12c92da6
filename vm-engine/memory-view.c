/*
 * Flat views: for every address, who takes a read and who takes a write.
 *
 * A rebuild cuts the address space at every region's start and end; within a piece the answer is the same everywhere,
 * and is the first region, in order of priority, that is visible in the view and claims the access. Neighbours with the
 * same answer are joined. A machine has some hundred regions and changes them rarely, so this plain way is fast enough
 * (tens of microseconds), and there is nothing incremental that could go wrong.
 */
#include <inttypes.h>

#include "vm-engine/memory-private.h"

static bool region_in_view(const VmRegion *region, unsigned flat)
{
  if (!region->enabled || region->size == 0 || region->base > UINT64_MAX - region->size)
    return false;
  if (flat == VM_FLAT_PORTS)
    return region->space == VM_SPACE_PORTS;
  return region->space == VM_SPACE_MEMORY && (flat == VM_FLAT_SMM || !region->smm_only);
}

static int compare_addresses(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* All addresses where the answer can change, ascending. */
static GArray *collect_cuts(const VmMemory *memory, unsigned flat)
{
  GArray *cuts = g_array_new(FALSE, FALSE, sizeof(uint64_t));
  for (unsigned i = 0; i < memory->regions->len; i++) {
    const VmRegion *region = g_ptr_array_index(memory->regions, i);
    if (!region_in_view(region, flat))
      continue;
    uint64_t ends[2] = { region->base, region->base + region->size };
    g_array_append_vals(cuts, ends, 2);
  }
  g_array_sort(cuts, compare_addresses);
  return cuts;
}

static VmRegion *find_claimant(const VmMemory *memory, unsigned flat, uint64_t address, VmAccess access)
{
  for (unsigned i = 0; i < memory->regions->len; i++) {
    VmRegion *region = g_ptr_array_index(memory->regions, i);
    if ((region->access & access) && address >= region->base && address - region->base < region->size &&
        region_in_view(region, flat))
      return region;
  }
  return NULL;
}

static void fill_target(VmFlatTarget *target, VmRegion *region, uint64_t start)
{
  if (region == NULL)
    return;
  uint64_t offset = start - region->base;
  *target = (VmFlatTarget){ .region = region,
                            .ram = region->ram,
                            .size = region->size,
                            .rom = region->rom,
                            .offset = region->ram != NULL ? region->ram_offset + offset : offset,
                            .ops = region->ops,
                            .opaque = region->opaque,
                            .ctx = region->ctx };
}

/* The same regions go on without a seam. */
static bool continues(const VmFlatEntry *last, uint64_t start, const VmRegion *read, const VmRegion *write)
{
  return last->end == start && last->read.region == read && last->write.region == write;
}

static VmFlatView build_view(const VmMemory *memory, unsigned flat)
{
  g_autoptr(GArray) cuts = collect_cuts(memory, flat);
  GArray *entries = g_array_new(FALSE, TRUE, sizeof(VmFlatEntry));
  for (unsigned i = 0; i + 1 < cuts->len; i++) {
    uint64_t start = g_array_index(cuts, uint64_t, i), end = g_array_index(cuts, uint64_t, i + 1);
    if (start == end)
      continue;
    VmRegion *read = find_claimant(memory, flat, start, VM_ACCESS_READ);
    VmRegion *write = find_claimant(memory, flat, start, VM_ACCESS_WRITE);
    if (read == NULL && write == NULL)
      continue;
    VmFlatEntry *last = entries->len > 0 ? &g_array_index(entries, VmFlatEntry, entries->len - 1) : NULL;
    if (last != NULL && continues(last, start, read, write)) {
      last->end = end;
      continue;
    }
    VmFlatEntry entry = { .start = start, .end = end };
    fill_target(&entry.read, read, start);
    fill_target(&entry.write, write, start);
    g_array_append_val(entries, entry);
  }
  VmFlatView view = { .n_entries = entries->len };
  view.entries = (VmFlatEntry *)(void *)g_array_free(entries, FALSE);
  return view;
}

void vm_memory_rebuild(VmMemory *memory)
{
  VmFlatView fresh[VM_N_FLAT], old[VM_N_FLAT];
  for (unsigned i = 0; i < VM_N_FLAT; i++)
    fresh[i] = build_view(memory, i);
  g_rw_lock_writer_lock(&memory->view_lock);
  memcpy(old, memory->views, sizeof(old));
  memcpy(memory->views, fresh, sizeof(fresh));
  atomic_fetch_add(&memory->generation, 1);
  g_rw_lock_writer_unlock(&memory->view_lock);
  for (unsigned i = 0; i < VM_N_FLAT; i++)
    g_free(old[i].entries);
  if (memory->listener.view_changed != NULL)
    memory->listener.view_changed(memory->listener.opaque);
}

void vm_memory_views_free(VmMemory *memory)
{
  for (unsigned i = 0; i < VM_N_FLAT; i++)
    g_clear_pointer(&memory->views[i].entries, g_free);
}

/* The index of the first entry that ends above `address`. */
static unsigned find_entry(const VmFlatView *view, uint64_t address)
{
  unsigned low = 0, high = view->n_entries;
  while (low < high) {
    unsigned middle = low + (high - low) / 2;
    if (address < view->entries[middle].end)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

const VmFlatEntry *vm_memory_peek_locked(const VmMemory *memory, unsigned flat, uint64_t address)
{
  const VmFlatView *view = &memory->views[flat];
  unsigned i = find_entry(view, address);
  return i < view->n_entries && address >= view->entries[i].start ? &view->entries[i] : NULL;
}

uint64_t vm_memory_lookup(VmMemory *memory, unsigned flat, uint64_t address, VmFlatEntry *out)
{
  g_rw_lock_reader_lock(&memory->view_lock);
  const VmFlatView *view = &memory->views[flat];
  unsigned i = find_entry(view, address);
  if (i < view->n_entries && address >= view->entries[i].start) {
    *out = view->entries[i];
  } else {
    *out = (VmFlatEntry){ .start = i > 0 ? view->entries[i - 1].end : 0,
                          .end = i < view->n_entries ? view->entries[i].start : UINT64_MAX };
  }
  uint64_t generation = atomic_load_explicit(&memory->generation, memory_order_relaxed);
  g_rw_lock_reader_unlock(&memory->view_lock);
  return generation;
}

void vm_memory_resolve(VmMemory *memory, VmView view, VmGpa gpa, VmResolved *out)
{
  VmFlatEntry entry;
  vm_memory_lookup(memory, view, gpa, &entry);
  *out = (VmResolved){ .start = entry.start, .end = entry.end };
  uint64_t delta = gpa - entry.start;
  if (entry.read.ram != NULL) {
    out->read_ram = entry.read.ram;
    out->read_offset = entry.read.offset + delta;
  } else {
    out->read_region = entry.read.region;
  }
  if (entry.write.ram == NULL) {
    out->write_region = entry.write.region;
  } else if (!entry.write.rom) {
    out->write_ram = entry.write.ram;
    out->write_offset = entry.write.offset + delta;
  }
}

void vm_memory_foreach_range(VmMemory *memory, VmView view, VmFlatRangeFunc func, void *opaque)
{
  /* A copy, so that `func` may look things up itself. */
  g_rw_lock_reader_lock(&memory->view_lock);
  unsigned n = memory->views[view].n_entries;
  g_autofree VmFlatEntry *entries = g_memdup2(memory->views[view].entries, n * sizeof(VmFlatEntry));
  g_rw_lock_reader_unlock(&memory->view_lock);
  for (unsigned i = 0; i < n; i++) {
    const VmFlatEntry *e = &entries[i];
    VmFlatRange range = { .start = e->start,
                          .end = e->end,
                          .read_ram = e->read.ram,
                          .read_offset = e->read.offset,
                          .read_region = e->read.region,
                          .write_region = e->write.region };
    if (e->write.ram != NULL && !e->write.rom) {
      range.write_ram = e->write.ram;
      range.write_offset = e->write.offset;
    }
    range.coalesced = e->write.region != NULL && e->write.region->coalesced;
    func(&range, opaque);
  }
}

static const char *target_name(const VmFlatTarget *target)
{
  return target->region != NULL ? target->region->name : "-";
}

char *vm_memory_dup_description(VmMemory *memory)
{
  static const char *const titles[VM_N_FLAT] = { "memory", "memory in system-management mode", "ports" };
  GString *text = g_string_new(NULL);
  g_rw_lock_reader_lock(&memory->view_lock);
  for (unsigned i = 0; i < VM_N_FLAT; i++) {
    g_string_append_printf(text, "%s:\n", titles[i]);
    for (unsigned j = 0; j < memory->views[i].n_entries; j++) {
      const VmFlatEntry *e = &memory->views[i].entries[j];
      int width = i == VM_FLAT_PORTS ? 4 : 16;
      g_string_append_printf(text, "  %0*" PRIx64 "-%0*" PRIx64, width, e->start, width, e->end - 1);
      if (e->read.region == e->write.region)
        g_string_append_printf(text, " %s%s\n", target_name(&e->read), e->read.rom ? " (rom)" : "");
      else
        g_string_append_printf(text, " read %s, write %s\n", target_name(&e->read), target_name(&e->write));
    }
  }
  g_rw_lock_reader_unlock(&memory->view_lock);
  return g_string_free(text, FALSE);
}
