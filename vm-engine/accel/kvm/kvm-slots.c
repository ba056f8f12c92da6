/*
 * KVM's memory slots, kept in step with the flat view.
 *
 * A stretch that reads and writes the same RAM is a slot; one that reads RAM and writes elsewhere (ROM, a PAM segment
 * half switched over) is a read-only slot, whose writes come out as MMIO; all else is a hole, whose accesses come out as
 * MMIO and are served by vm_memory_load() and _store(), which know every case.
 *
 * Slots can only be removed and added, not changed, so another CPU may meet a hole for a moment. A data access is then
 * served as MMIO with the same result; an instruction fetch fails as an "internal error", after which the CPU looks
 * whether `slot_generation` moved and tries again.
 *
 * A20 off: the second megabyte shows the first, which is what programs of the time look at.
 */
#include <errno.h>
#include <inttypes.h>
#include <sys/mman.h>

#include "vm-engine/accel/kvm/kvm-private.h"
#include "vm-engine/iocontext.h"
#include "vm-engine/vm.h"

#define MIB (UINT64_C(1) << 20)

/* ---- what slots there should be ---------------------------------------------------------------------------------------- */

typedef struct Wanted {
  VmAccel *accel;
  GArray *slots;     /* of KvmSlot */
  GArray *coalesced; /* of struct kvm_coalesced_mmio_zone */
  bool a20_off;
} Wanted;

static bool continues(const KvmSlot *a, const KvmSlot *b)
{
  return a->gpa + a->size == b->gpa && a->ram == b->ram && a->ram_offset + a->size == b->ram_offset &&
         a->flags == b->flags;
}

static void add_slot(Wanted *wanted, KvmSlot slot)
{
  KvmSlot *last = wanted->slots->len > 0 ? &g_array_index(wanted->slots, KvmSlot, wanted->slots->len - 1) : NULL;
  if (last != NULL && continues(last, &slot))
    last->size += slot.size;
  else
    g_array_append_val(wanted->slots, slot);
}

/* Cuts the slot's pages out of [start, end); what is not whole pages stays MMIO. */
static void add_pages(Wanted *wanted, const VmFlatRange *range, VmGpa start, VmGpa end, VmGpa shown_at)
{
  const uint64_t mask = VM_PAGE_SIZE - 1;
  VmGpa first = (start + mask) & ~mask, last = end & ~mask;
  if (first >= last || ((range->read_offset + (first - range->start)) & mask) != 0)
    return;
  bool writable = range->write_ram == range->read_ram && range->write_offset == range->read_offset;
  if (!writable && !wanted->accel->has_readonly)
    return;
  KvmSlot slot = { .gpa = shown_at + (first - start),
                   .size = last - first,
                   .ram = range->read_ram,
                   .ram_offset = range->read_offset + (first - range->start) };
  slot.flags = (writable ? 0 : KVM_MEM_READONLY) | (range->read_ram->track_dirty ? KVM_MEM_LOG_DIRTY_PAGES : 0);
  add_slot(wanted, slot);
}

static void collect_range(const VmFlatRange *range, void *opaque)
{
  Wanted *wanted = opaque;
  if (range->coalesced && range->write_ram == NULL) {
    struct kvm_coalesced_mmio_zone zone = { .addr = range->start,
                                            .size = (uint32_t)MIN(range->end - range->start, 1u << 30) };
    g_array_append_val(wanted->coalesced, zone);
  }
  if (range->read_ram == NULL)
    return;
  VmGpa start = range->start, end = range->end;
  if (!wanted->a20_off) {
    add_pages(wanted, range, start, end, start);
    return;
  }
  if (start < MIB) /* below the wrapped megabyte */
    add_pages(wanted, range, start, MIN(end, MIB), start);
  if (end > 2 * MIB)
    add_pages(wanted, range, MAX(start, 2 * MIB), end, MAX(start, 2 * MIB));
}

static void collect_wrapped(const VmFlatRange *range, void *opaque)
{
  if (range->read_ram != NULL && range->start < MIB)
    add_pages(opaque, range, range->start, MIN(range->end, MIB), range->start + MIB);
}

/* ---- making it so ----------------------------------------------------------------------------------------------------------- */

static bool set_region(VmAccel *accel, const KvmSlot *slot, uint64_t size)
{
  struct kvm_userspace_memory_region region = { .slot = slot->id,
                                                .flags = size > 0 ? slot->flags : 0,
                                                .guest_phys_addr = slot->gpa,
                                                .memory_size = size,
                                                .userspace_addr = (uintptr_t)(slot->ram->hva + slot->ram_offset) };
  return kvm_ioctl(accel->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) == 0;
}

static void remove_slot(VmAccel *accel, unsigned index)
{
  KvmSlot slot = g_array_index(accel->slots, KvmSlot, index);
  set_region(accel, &slot, 0);
  if (slot.flags & KVM_MEM_LOG_DIRTY_PAGES) /* its log went with it: take all for written */
    vm_ram_note_write(slot.ram, slot.ram_offset, slot.size);
  g_array_append_val(accel->free_slots, slot.id);
  g_array_remove_index(accel->slots, index);
}

static void create_slot(VmAccel *accel, KvmSlot slot)
{
  if (accel->free_slots->len > 0) {
    slot.id = g_array_index(accel->free_slots, uint32_t, accel->free_slots->len - 1);
    g_array_set_size(accel->free_slots, accel->free_slots->len - 1);
  } else {
    slot.id = accel->next_slot++;
  }
  if (set_region(accel, &slot, slot.size)) {
    g_array_append_val(accel->slots, slot);
    return;
  }
  g_autofree char *text = g_strdup_printf("KVM refuses guest memory at 0x%" PRIx64 " (KVM_SET_USER_MEMORY_REGION): %s",
                                          slot.gpa, g_strerror(errno));
  g_array_append_val(accel->free_slots, slot.id);
  vm_request_end(accel->vm, 3, text);
}

static bool same_place(const KvmSlot *a, const KvmSlot *b)
{
  return a->gpa == b->gpa && a->size == b->size && a->ram == b->ram && a->ram_offset == b->ram_offset;
}

/* Finds the slot in the list. Of the flags only the log can be changed in place; the caller sees to that. */
static int find_slot(const GArray *slots, const KvmSlot *wanted)
{
  for (unsigned i = 0; i < slots->len; i++) {
    const KvmSlot *slot = &g_array_index(slots, KvmSlot, i);
    if (same_place(slot, wanted) && ((slot->flags ^ wanted->flags) & KVM_MEM_READONLY) == 0)
      return (int)i;
  }
  return -1;
}

static void update_slots(VmAccel *accel, const GArray *wanted)
{
  for (unsigned i = accel->slots->len; i > 0; i--)
    if (find_slot(wanted, &g_array_index(accel->slots, KvmSlot, i - 1)) < 0) {
      atomic_fetch_add(&accel->slot_generation, 1);
      remove_slot(accel, i - 1);
    }
  for (unsigned i = 0; i < wanted->len; i++) {
    const KvmSlot *slot = &g_array_index(wanted, KvmSlot, i);
    int found = find_slot(accel->slots, slot);
    if (found < 0) {
      create_slot(accel, *slot);
      continue;
    }
    KvmSlot *existing = &g_array_index(accel->slots, KvmSlot, found);
    if (existing->flags == slot->flags)
      continue;
    existing->flags = slot->flags;
    set_region(accel, existing, existing->size);
  }
  atomic_fetch_add(&accel->slot_generation, 1);
}

static bool has_zone(const GArray *zones, const struct kvm_coalesced_mmio_zone *zone)
{
  for (unsigned i = 0; i < zones->len; i++) {
    const struct kvm_coalesced_mmio_zone *other = &g_array_index(zones, struct kvm_coalesced_mmio_zone, i);
    if (other->addr == zone->addr && other->size == zone->size)
      return true;
  }
  return false;
}

static void update_coalesced(VmAccel *accel, GArray *wanted)
{
  if (accel->coalesced_page == 0) {
    g_array_free(wanted, TRUE);
    return;
  }
  for (unsigned i = 0; i < accel->coalesced->len; i++) {
    struct kvm_coalesced_mmio_zone *zone = &g_array_index(accel->coalesced, struct kvm_coalesced_mmio_zone, i);
    if (!has_zone(wanted, zone))
      kvm_ioctl(accel->vm_fd, KVM_UNREGISTER_COALESCED_MMIO, zone);
  }
  for (unsigned i = 0; i < wanted->len; i++) {
    struct kvm_coalesced_mmio_zone *zone = &g_array_index(wanted, struct kvm_coalesced_mmio_zone, i);
    if (!has_zone(accel->coalesced, zone))
      kvm_ioctl(accel->vm_fd, KVM_REGISTER_COALESCED_MMIO, zone);
  }
  g_array_free(accel->coalesced, TRUE);
  accel->coalesced = wanted;
}

static void view_changed(void *opaque)
{
  VmAccel *accel = opaque;
  VmMemory *memory = vm_get_memory(accel->vm);
  Wanted wanted = { .accel = accel,
                    .slots = g_array_new(FALSE, FALSE, sizeof(KvmSlot)),
                    .coalesced = g_array_new(FALSE, FALSE, sizeof(struct kvm_coalesced_mmio_zone)),
                    .a20_off = !vm_memory_get_a20(memory) };
  vm_memory_foreach_range(memory, VM_VIEW_NORMAL, collect_range, &wanted);
  if (wanted.a20_off)
    vm_memory_foreach_range(memory, VM_VIEW_NORMAL, collect_wrapped, &wanted);
  update_slots(accel, wanted.slots);
  update_coalesced(accel, wanted.coalesced);
  g_array_free(wanted.slots, TRUE);
}

/* ---- the dirty log ------------------------------------------------------------------------------------------------------------ */

static void fetch_log(VmAccel *accel, const KvmSlot *slot)
{
  uint64_t n_pages = slot->size >> VM_PAGE_SHIFT;
  g_autofree uint64_t *bitmap = g_new0(uint64_t, (n_pages + 63) / 64);
  struct kvm_dirty_log log = { .slot = slot->id, .dirty_bitmap = bitmap };
  if (kvm_ioctl(accel->vm_fd, KVM_GET_DIRTY_LOG, &log) < 0) {
    vm_ram_note_write(slot->ram, slot->ram_offset, slot->size); /* not known: draw all */
    return;
  }
  for (uint64_t word = 0; word < (n_pages + 63) / 64; word++)
    for (uint64_t bits = bitmap[word]; bits != 0; bits &= bits - 1) {
      uint64_t page = word * 64 + (unsigned)__builtin_ctzll(bits);
      vm_ram_note_write(slot->ram, slot->ram_offset + (page << VM_PAGE_SHIFT), VM_PAGE_SIZE);
    }
}

static void dirty_collecting(void *opaque, VmRam *ram)
{
  VmAccel *accel = opaque;
  for (unsigned i = 0; i < accel->slots->len; i++) {
    const KvmSlot *slot = &g_array_index(accel->slots, KvmSlot, i);
    if (slot->ram == ram && (slot->flags & KVM_MEM_LOG_DIRTY_PAGES))
      fetch_log(accel, slot);
  }
}

/* ---- coalesced writes ----------------------------------------------------------------------------------------------------------- */

static bool ring_is_empty(const struct kvm_coalesced_mmio_ring *ring)
{
  return ring == NULL ||
         __atomic_load_n(&ring->first, __ATOMIC_ACQUIRE) == __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE);
}

void kvm_drain_coalesced(VmAccel *accel)
{
  struct kvm_coalesced_mmio_ring *ring = atomic_load_explicit(&accel->ring, memory_order_acquire);
  if (ring_is_empty(ring))
    return;
  const uint32_t n = (VM_PAGE_SIZE - sizeof(*ring)) / sizeof(ring->coalesced_mmio[0]);
  VmMemory *memory = vm_get_memory(accel->vm);
  g_mutex_lock(&accel->ring_mutex);
  while (ring->first % n != __atomic_load_n(&ring->last, __ATOMIC_ACQUIRE) % n) {
    struct kvm_coalesced_mmio write = ring->coalesced_mmio[ring->first % n];
    uint64_t value = 0;
    unsigned size = MIN(write.len, 8u);
    memcpy(&value, write.data, size);
    __atomic_store_n(&ring->first, (ring->first + 1) % n, __ATOMIC_RELEASE);
    if (size == 1 || size == 2 || size == 4 || size == 8)
      vm_memory_store(memory, VM_VIEW_NORMAL, write.phys_addr, value, size);
    else
      for (unsigned i = 0; i < size; i++)
        vm_memory_store(memory, VM_VIEW_NORMAL, write.phys_addr + i, write.data[i], 1);
  }
  g_mutex_unlock(&accel->ring_mutex);
}

typedef struct Flush {
  void (*done)(VmCpu *cpu, void *data);
  void *data;
} Flush;

/* On the vCPU's thread, where no lock is held. */
static void flush_on_cpu(VmCpu *cpu, void *data)
{
  Flush *flush = data;
  kvm_drain_coalesced(vm_get_accel(cpu->vm));
  flush->done(cpu, flush->data);
  g_free(flush);
}

bool kvm_flush_writes(VmAccel *accel, void (*done)(VmCpu *cpu, void *data), void *data)
{
  VmCpu *cpu = vm_get_cpu(accel->vm, 0);
  if (cpu == NULL || ring_is_empty(atomic_load_explicit(&accel->ring, memory_order_acquire)))
    return false;
  Flush *flush = g_new(Flush, 1);
  *flush = (Flush){ done, data };
  vm_cpu_run_on(cpu, flush_on_cpu, flush);
  return true;
}

/* ---- set-up ----------------------------------------------------------------------------------------------------------------------- */

void kvm_slots_init(VmAccel *accel)
{
  accel->slots = g_array_new(FALSE, FALSE, sizeof(KvmSlot));
  accel->free_slots = g_array_new(FALSE, FALSE, sizeof(uint32_t));
  accel->coalesced = g_array_new(FALSE, FALSE, sizeof(struct kvm_coalesced_mmio_zone));
  VmMemoryListener listener = { .view_changed = view_changed, .dirty_collecting = dirty_collecting, .opaque = accel };
  vm_memory_set_listener(vm_get_memory(accel->vm), &listener);
}

void kvm_slots_finish(VmAccel *accel)
{
  if (accel->slots == NULL)
    return;
  vm_memory_set_listener(vm_get_memory(accel->vm), NULL);
  g_array_free(accel->slots, TRUE);
  g_array_free(accel->free_slots, TRUE);
  g_array_free(accel->coalesced, TRUE);
}
