/*
 * Guest memory: blocks and regions. The flat views made of them are in memory-view.c, accesses in memory-access.c.
 *
 * A block is a memfd mapped shared, so that other processes (vhost-user, a saver's fork) can be given it, between two
 * guard pages, so that an index that runs off its end faults instead of reaching what is not the guest's.
 */
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm-engine/memory-private.h"
#include "vm-engine/vm.h"

#define HUGE_PAGE_BYTES (UINT64_C(2) << 20)
#define MAX_RAM_BYTES   (UINT64_C(1) << 46) /* half of what a host process can address */

VmMemory *vm_memory_new(GError **error)
{
  VmMemory *memory = g_try_new0(VmMemory, 1);
  if (memory == NULL) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "not enough memory on this computer to make a machine");
    return NULL;
  }
  memory->rams = g_ptr_array_new();
  memory->regions = g_ptr_array_new();
  g_rw_lock_init(&memory->view_lock);
  return memory;
}

static void ram_free(VmRam *ram)
{
  uint8_t *start = ram->hva - VM_PAGE_SIZE;
  munmap(start, ram->size + 2 * VM_PAGE_SIZE);
  close(ram->memfd);
  g_free((void *)ram->page_flags);
  g_free(ram->name);
  g_free(ram);
}

static void region_destroy(VmRegion *region)
{
  g_free(region->name);
  g_free(region);
}

void vm_memory_free(VmMemory *memory)
{
  if (memory == NULL)
    return;
  vm_memory_views_free(memory);
  g_ptr_array_foreach(memory->regions, (GFunc)(void (*)(void))region_destroy, NULL);
  g_ptr_array_free(memory->regions, TRUE);
  g_ptr_array_foreach(memory->rams, (GFunc)(void (*)(void))ram_free, NULL);
  g_ptr_array_free(memory->rams, TRUE);
  g_rw_lock_clear(&memory->view_lock);
  g_free(memory);
}

/* ---- blocks ------------------------------------------------------------------------------------------------- */

/* Maps `size` bytes of `fd` between two guard pages. Big blocks start on a huge page's boundary, where the host can
 * back them by huge pages; what the alignment leaves over is given back. */
static uint8_t *map_guarded(int fd, uint64_t size)
{
  uint64_t align = size >= HUGE_PAGE_BYTES ? HUGE_PAGE_BYTES : VM_PAGE_SIZE;
  uint64_t reserved = size + 2 * VM_PAGE_SIZE + align;
  uint8_t *area = mmap(NULL, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (area == MAP_FAILED)
    return NULL;
  uint8_t *hva = (uint8_t *)(((uintptr_t)area + VM_PAGE_SIZE + align - 1) & ~(uintptr_t)(align - 1));
  if (mmap(hva, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, fd, 0) == MAP_FAILED) {
    int saved = errno;
    munmap(area, reserved);
    errno = saved;
    return NULL;
  }
  uint8_t *low = hva - VM_PAGE_SIZE, *high = hva + size + VM_PAGE_SIZE;
  if (low > area)
    munmap(area, (size_t)(low - area));
  if (high < area + reserved)
    munmap(high, (size_t)(area + reserved - high));
  return hva;
}

VmRam *vm_ram_new(VmMemory *memory, const char *name, uint64_t size, GError **error)
{
  g_autofree char *size_text = g_format_size_full(size, G_FORMAT_SIZE_IEC_UNITS);
  if (size == 0 || size > MAX_RAM_BYTES) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "guest memory \"%s\" cannot be %s large", name, size_text);
    return NULL;
  }
  size = (size + VM_PAGE_SIZE - 1) & ~(uint64_t)(VM_PAGE_SIZE - 1);
  g_autofree char *fd_name = g_strdup_printf("oriel-%s", name);
  int fd = memfd_create(fd_name, MFD_CLOEXEC);
  uint8_t *hva = NULL;
  if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
    hva = map_guarded(fd, size);
  _Atomic uint8_t *flags = hva != NULL ? g_try_malloc0(size >> VM_PAGE_SHIFT) : NULL;
  if (flags == NULL) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
                "this computer cannot give the machine %s of memory for \"%s\": %s; give the machine less memory",
                size_text, name, g_strerror(errno));
    if (hva != NULL)
      munmap(hva - VM_PAGE_SIZE, size + 2 * VM_PAGE_SIZE);
    if (fd >= 0)
      close(fd);
    return NULL;
  }
  if (size >= HUGE_PAGE_BYTES)
    (void)madvise(hva, size, MADV_HUGEPAGE); /* a wish: hosts without huge pages refuse it */

  VmRam *ram = g_new0(VmRam, 1);
  *ram = (VmRam){ .memory = memory,
                  .name = g_strdup(name),
                  .hva = hva,
                  .size = size,
                  .ram_addr = memory->ram_space,
                  .memfd = fd,
                  .page_flags = flags,
                  .index = memory->rams->len };
  memory->ram_space += size;
  g_ptr_array_add(memory->rams, ram);
  return ram;
}

const char *vm_ram_get_name(const VmRam *ram)
{
  return ram->name;
}
uint64_t vm_ram_get_size(const VmRam *ram)
{
  return ram->size;
}
uint8_t *vm_ram_get_hva(VmRam *ram)
{
  return ram->hva;
}
uint64_t vm_memory_get_ram_space(const VmMemory *memory)
{
  return memory->ram_space;
}

VmRam *vm_memory_find_ram(VmMemory *memory, uint64_t ram_addr)
{
  unsigned low = 0, high = memory->rams->len;
  while (low < high) {
    unsigned middle = low + (high - low) / 2;
    VmRam *ram = g_ptr_array_index(memory->rams, middle);
    if (ram_addr < ram->ram_addr)
      high = middle;
    else if (ram_addr - ram->ram_addr >= ram->size)
      low = middle + 1;
    else
      return ram;
  }
  return NULL;
}

/* ---- page flags ------------------------------------------------------------------------------------------------ */

void vm_ram_note_write(VmRam *ram, uint64_t offset, uint64_t size)
{
  g_assert(offset <= ram->size && size <= ram->size - offset);
  const VmMemoryListener *listener = &ram->memory->listener;
  uint64_t end = offset + size;
  while (offset < end) {
    uint64_t page = offset >> VM_PAGE_SHIFT;
    uint64_t stop = MIN(end, (page + 1) << VM_PAGE_SHIFT);
    uint8_t flags = atomic_load_explicit(&ram->page_flags[page], memory_order_acquire);
    if ((flags & VM_PAGE_CODE) && listener->code_written != NULL)
      listener->code_written(listener->opaque, ram, offset, stop - offset);
    if (flags & VM_PAGE_CLEAN)
      atomic_fetch_and(&ram->page_flags[page], (uint8_t)~VM_PAGE_CLEAN);
    offset = stop;
  }
}

void vm_ram_track_dirty(VmRam *ram, bool on)
{
  if (ram->track_dirty == on)
    return;
  ram->track_dirty = on;
  for (uint64_t page = 0; page < ram->size >> VM_PAGE_SHIFT; page++)
    if (atomic_load_explicit(&ram->page_flags[page], memory_order_relaxed) & VM_PAGE_CLEAN)
      atomic_fetch_and(&ram->page_flags[page], (uint8_t)~VM_PAGE_CLEAN);
  if (ram->memory->listener.view_changed != NULL)
    ram->memory->listener.view_changed(ram->memory->listener.opaque); /* KVM turns its log on or off */
}

bool vm_ram_collect_dirty(VmRam *ram, uint64_t first_page, uint64_t n_pages, unsigned long *bitmap)
{
  const VmMemoryListener *listener = &ram->memory->listener;
  uint64_t total = ram->size >> VM_PAGE_SHIFT;
  g_return_val_if_fail(ram->track_dirty && first_page <= total && n_pages <= total - first_page, false);
  if (listener->dirty_collecting != NULL)
    listener->dirty_collecting(listener->opaque, ram);
  bool any = false;
  const unsigned bits = 8 * sizeof(unsigned long);
  for (uint64_t i = 0; i < n_pages; i++) {
    if (atomic_load_explicit(&ram->page_flags[first_page + i], memory_order_relaxed) & VM_PAGE_CLEAN)
      continue;
    atomic_fetch_or(&ram->page_flags[first_page + i], VM_PAGE_CLEAN);
    bitmap[i / bits] |= 1ul << (i % bits);
    any = true;
  }
  if (any && listener->pages_clean != NULL)
    listener->pages_clean(listener->opaque, ram);
  return any;
}

/* ---- regions ------------------------------------------------------------------------------------------------------ */

/* Keeps the list in the order in which claims are judged, then shows the new region. */
static VmRegion *region_add(VmMemory *memory, const VmRegion *values, const char *name)
{
  VmRegion *region = g_memdup2(values, sizeof(*values));
  region->memory = memory;
  region->name = g_strdup(name);
  region->enabled = true;
  region->sequence = memory->next_sequence++;
  unsigned at = 0;
  while (at < memory->regions->len && ((VmRegion *)g_ptr_array_index(memory->regions, at))->priority > region->priority)
    at++;
  vm_memory_begin(memory);
  g_ptr_array_insert(memory->regions, (int)at, region);
  memory->changed = true;
  vm_memory_commit(memory);
  return region;
}

VmRegion *vm_region_new_ram(VmMemory *memory, const char *name, VmGpa gpa, uint64_t size, int priority, VmRam *ram,
                            uint64_t ram_offset, VmAccess access)
{
  g_assert(ram_offset <= ram->size && size <= ram->size - ram_offset);
  g_assert(gpa % VM_PAGE_SIZE == 0 && ram_offset % VM_PAGE_SIZE == 0);
  VmRegion values = { .space = VM_SPACE_MEMORY,
                      .base = gpa,
                      .size = size,
                      .priority = priority,
                      .access = access,
                      .ram = ram,
                      .ram_offset = ram_offset };
  return region_add(memory, &values, name);
}

VmRegion *vm_region_new_rom(VmMemory *memory, const char *name, VmGpa gpa, uint64_t size, int priority, VmRam *ram,
                            uint64_t ram_offset)
{
  g_assert(ram_offset <= ram->size && size <= ram->size - ram_offset);
  g_assert(gpa % VM_PAGE_SIZE == 0 && ram_offset % VM_PAGE_SIZE == 0);
  VmRegion values = { .space = VM_SPACE_MEMORY,
                      .base = gpa,
                      .size = size,
                      .priority = priority,
                      .access = VM_ACCESS_RW,
                      .ram = ram,
                      .ram_offset = ram_offset,
                      .rom = true };
  return region_add(memory, &values, name);
}

VmRegion *vm_region_new_io(VmMemory *memory, const char *name, VmSpace space, uint64_t base, uint64_t size,
                           int priority, const VmMmioOps *ops, void *opaque, VmIoContext *ctx)
{
  g_assert(size > 0 && (space == VM_SPACE_MEMORY || (size <= 65536 && base <= 65536 - size)));
  VmRegion values = { .space = space,
                      .base = base,
                      .size = size,
                      .priority = priority,
                      .access = VM_ACCESS_RW,
                      .ops = ops,
                      .opaque = opaque,
                      .ctx = ctx };
  return region_add(memory, &values, name);
}

void vm_region_free(VmRegion *region)
{
  if (region == NULL)
    return;
  VmMemory *memory = region->memory;
  vm_memory_begin(memory);
  g_ptr_array_remove(memory->regions, region);
  memory->changed = memory->changed || region->enabled;
  vm_memory_commit(memory);
  region_destroy(region);
}

/* The views hold copies, so a region may change at any time; they follow at the outermost commit. */
static void region_changed(VmRegion *region, bool visible)
{
  if (!visible)
    return;
  vm_memory_begin(region->memory);
  region->memory->changed = true;
  vm_memory_commit(region->memory);
}

void vm_region_set_enabled(VmRegion *region, bool enabled)
{
  bool changed = region->enabled != enabled;
  region->enabled = enabled;
  region_changed(region, changed);
}

void vm_region_set_base(VmRegion *region, uint64_t base)
{
  g_assert(region->space == VM_SPACE_MEMORY || base <= 65536 - region->size);
  bool changed = region->base != base;
  region->base = base;
  region_changed(region, changed && region->enabled);
}

void vm_region_set_access(VmRegion *region, VmAccess access)
{
  bool changed = region->access != access;
  region->access = access;
  region_changed(region, changed && region->enabled);
}

void vm_region_set_smm_only(VmRegion *region, bool smm_only)
{
  bool changed = region->smm_only != smm_only;
  region->smm_only = smm_only;
  region_changed(region, changed && region->enabled);
}

void vm_region_set_coalesced(VmRegion *region, bool on)
{
  bool changed = region->coalesced != on;
  region->coalesced = on;
  region_changed(region, changed && region->enabled);
}

uint64_t vm_region_get_base(const VmRegion *region)
{
  return region->base;
}
bool vm_region_is_enabled(const VmRegion *region)
{
  return region->enabled;
}

void vm_memory_begin(VmMemory *memory)
{
  memory->change_depth++;
}

void vm_memory_commit(VmMemory *memory)
{
  g_assert(memory->change_depth > 0);
  if (--memory->change_depth > 0 || !memory->changed)
    return;
  memory->changed = false;
  vm_memory_rebuild(memory);
}

void vm_memory_set_a20(VmMemory *memory, bool on)
{
  if (vm_memory_get_a20(memory) == on)
    return;
  atomic_store(&memory->a20_off, !on);
  if (memory->listener.view_changed != NULL)
    memory->listener.view_changed(memory->listener.opaque);
}

bool vm_memory_get_a20(const VmMemory *memory)
{
  return !atomic_load_explicit(&memory->a20_off, memory_order_acquire);
}

void vm_memory_set_listener(VmMemory *memory, const VmMemoryListener *listener)
{
  memory->listener = listener != NULL ? *listener : (VmMemoryListener){ 0 };
}

void vm_memory_set_main_context(VmMemory *memory, VmIoContext *ctx)
{
  memory->main_ctx = ctx;
}
