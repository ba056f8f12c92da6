/*
 * Guest-physical memory and I/O ports: what stands where, and the bounded ways to reach it.
 *
 * RAM, ROM and video memory are VmRam blocks: memfds mapped shared with guard pages at both ends. A VmRegion maps a
 * block, or a device's registers, at a guest-physical address (or port). Regions may overlap: at each address the one
 * with the highest priority that is enabled and claims that kind of access (read, write) takes it, so a PAM segment
 * that reads ROM and writes RAM is two claims on one address, and a lower region shows through where a higher one
 * claims nothing. Equal priorities: the later mapped wins. The result is kept as a flat, sorted view, rebuilt on change.
 *
 * There are two views: what a CPU sees normally, and what it sees in system-management mode (regions marked `smm_only`
 * are in the second alone).
 *
 * Threads: mapping changes are made with the main I/O context's lock held. Look-ups and accesses from any thread. An
 * access to a device takes its I/O context's lock, unless the caller says that it holds it already.
 *
 * Addresses that nothing claims read as all ones; writes to them are dropped.
 */
#ifndef VM_MEMORY_H
#define VM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef uint64_t VmGpa; /* guest-physical address */

typedef struct VmMemory VmMemory;
typedef struct VmRam VmRam;
typedef struct VmRegion VmRegion;
typedef struct VmIoContext VmIoContext;

#define VM_PAGE_SIZE 4096u
#define VM_PAGE_SHIFT 12

typedef enum VmSpace { VM_SPACE_MEMORY, VM_SPACE_PORTS } VmSpace;
typedef enum VmView { VM_VIEW_NORMAL, VM_VIEW_SMM, VM_N_VIEWS } VmView;
typedef enum VmAccess { VM_ACCESS_NONE = 0, VM_ACCESS_READ = 1, VM_ACCESS_WRITE = 2, VM_ACCESS_RW = 3 } VmAccess;

/* A device's registers. `offset` counts from the region's start and is below its size; `size` is 1, 2, 4 or 8. Accesses
 * narrower than impl_min are widened (a write becomes read-modify-write only if `widen_writes`, else it is passed on
 * zero-extended), wider than impl_max are split, in ascending order. Zero means 1 and 4. Called with the lock held. */
typedef struct VmMmioOps {
  uint64_t (*read)(void *opaque, uint64_t offset, unsigned size);
  void (*write)(void *opaque, uint64_t offset, uint64_t value, unsigned size);
  uint8_t impl_min;
  uint8_t impl_max;
  bool widen_writes;
} VmMmioOps;

/* `error` where the host's address space is short. */
VmMemory *vm_memory_new(GError **error);
/* All blocks and regions go with it. */
void vm_memory_free(VmMemory *memory);

/* ---- blocks ------------------------------------------------------------------------------------------------- */

/* A zeroed block of `size` bytes (rounded up to pages). Its failure names the size asked for. Owned by `memory`. */
VmRam *vm_ram_new(VmMemory *memory, const char *name, uint64_t size, GError **error);
const char *vm_ram_get_name(const VmRam *ram);
uint64_t vm_ram_get_size(const VmRam *ram);
/* The host's mapping, `size` bytes, page-aligned; for renderers of video memory and for loading firmware at set-up.
 * Devices use vm_memory_read()/vm_memory_write() instead, which also tell the accelerator of writes. */
uint8_t *vm_ram_get_hva(VmRam *ram);

/* Dirty tracking, for video memory: after vm_ram_track_dirty(ram, true) each page written by the guest is remembered.
 * vm_ram_collect_dirty() moves the marks of pages [first, first + n) into `bitmap` (bit i = page first + i; bits are
 * or-ed in) and clears them; returns whether any was set. With the main context's lock held. */
void vm_ram_track_dirty(VmRam *ram, bool on);
bool vm_ram_collect_dirty(VmRam *ram, uint64_t first_page, uint64_t n_pages, unsigned long *bitmap);

/* ---- regions: set-up and change, lock held -------------------------------------------------------------------- */

/* Maps `size` bytes of `ram` from `ram_offset` at `gpa`; all three are multiples of the page size, except for blocks of
 * odd size at the end. Enabled, claiming `access`. Owned by `memory`. */
VmRegion *vm_region_new_ram(VmMemory *memory, const char *name, VmGpa gpa, uint64_t size, int priority, VmRam *ram,
                            uint64_t ram_offset, VmAccess access);
/* As above, a ROM: claims both, but writes are dropped. */
VmRegion *vm_region_new_rom(VmMemory *memory, const char *name, VmGpa gpa, uint64_t size, int priority, VmRam *ram,
                            uint64_t ram_offset);
/* Registers at a memory address or at I/O ports (`base + size` at most 65536 there). `ops` is static; `opaque` lives
 * until the region is freed. `ctx` is the context whose lock an access takes. Claims both kinds of access. */
VmRegion *vm_region_new_io(VmMemory *memory, const char *name, VmSpace space, uint64_t base, uint64_t size, int priority,
                           const VmMmioOps *ops, void *opaque, VmIoContext *ctx);
void vm_region_free(VmRegion *region);

void vm_region_set_enabled(VmRegion *region, bool enabled);
void vm_region_set_base(VmRegion *region, uint64_t base);
void vm_region_set_access(VmRegion *region, VmAccess access);
/* Visible in VM_VIEW_SMM only. */
void vm_region_set_smm_only(VmRegion *region, bool smm_only);
/* Host writes to it need not leave the guest at once (KVM's coalesced MMIO): no read side effect depends on them. */
void vm_region_set_coalesced(VmRegion *region, bool on);
uint64_t vm_region_get_base(const VmRegion *region);
bool vm_region_is_enabled(const VmRegion *region);

/* Several changes, one rebuild of the views. Nests. */
void vm_memory_begin(VmMemory *memory);
void vm_memory_commit(VmMemory *memory);

/* ---- accesses by devices (DMA): RAM and ROM only, never registers --------------------------------------------- */

/* False, and nothing moved, unless the whole range is RAM (for writes: writable RAM). Addresses may not wrap. Any
 * thread, lock held or not. Marks dirty pages and drops translated code. */
bool vm_memory_read(VmMemory *memory, VmGpa gpa, void *buffer, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;
bool vm_memory_write(VmMemory *memory, VmGpa gpa, const void *buffer, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;
bool vm_memory_fill(VmMemory *memory, VmGpa gpa, uint8_t value, uint64_t size) G_GNUC_WARN_UNUSED_RESULT;

/* ---- accesses by CPUs, loaders and debuggers: anything ---------------------------------------------------------- */

/* One access of 1, 2, 4 or 8 bytes, to RAM or registers; may cross regions (then split into bytes). The lock of the
 * device's context is taken, so the caller must hold none. */
uint64_t vm_memory_load(VmMemory *memory, VmView view, VmGpa gpa, unsigned size);
void vm_memory_store(VmMemory *memory, VmView view, VmGpa gpa, uint64_t value, unsigned size);

/* Port I/O of 1, 2 or 4 bytes. The caller holds no lock. */
uint32_t vm_port_read(VmMemory *memory, uint16_t port, unsigned size);
void vm_port_write(VmMemory *memory, uint16_t port, uint32_t value, unsigned size);

/* The A20 gate: while off, bit 20 of every CPU's physical address reads as 0 (DMA is not touched). Lock held. */
void vm_memory_set_a20(VmMemory *memory, bool on);
bool vm_memory_get_a20(const VmMemory *memory);

/* One line a flat range, for `human-monitor-command info mtree` and tests. Owned text. */
char *vm_memory_dup_description(VmMemory *memory);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VmMemory, vm_memory_free)

#endif
