/*
 * Guest memory as accelerators see it: flat views, host pointers, page flags and change notices.
 * For vm-engine/accel only.
 */
#ifndef VM_MEMORY_IMPL_H
#define VM_MEMORY_IMPL_H

#include <stdatomic.h>

#include "vm-engine/memory.h"

/* Why a write to a page may not simply happen. A CPU's write path looks at the page's flags (once, when it caches the
 * page) and, if any is set, calls vm_ram_note_write() before or after each write. */
enum {
  VM_PAGE_CODE = 1 << 0,  /* the translator holds code from it: set by the translator, cleared by it */
  VM_PAGE_CLEAN = 1 << 1, /* dirty tracking is on and the page has not been written since it was collected */
};

struct VmRam {
  VmMemory *memory;
  char *name;
  uint8_t *hva;
  uint64_t size;     /* bytes, whole pages */
  uint64_t ram_addr; /* where it stands in the one dense space of all blocks, in bytes, page-aligned; from 0 up */
  int memfd;
  bool track_dirty;
  _Atomic uint8_t *page_flags; /* size / VM_PAGE_SIZE of them */
  unsigned index;              /* in vm_memory's list of blocks */
};

/* What one page of a view is made of. */
typedef struct VmResolved {
  VmRam *read_ram; /* NULL: registers or nothing */
  uint64_t read_offset;
  VmRegion *read_region;
  VmRam *write_ram; /* NULL: registers, nothing, or a ROM whose writes drop (then write_region is NULL too) */
  uint64_t write_offset;
  VmRegion *write_region;
  VmGpa start, end; /* the range [start, end) around the address that the answer holds for */
} VmResolved;

/* Who takes reads and writes at `gpa` in that view. Offsets are those of `gpa` itself in the block. Any thread. */
void vm_memory_resolve(VmMemory *memory, VmView view, VmGpa gpa, VmResolved *out);

/* A write to [offset, offset + size) of the block has happened or is about to: drops translated code there, marks the
 * pages dirty. Any thread; cheap where no flag is set. */
void vm_ram_note_write(VmRam *ram, uint64_t offset, uint64_t size);

/* Flat ranges in ascending order. `entry` is valid during the call only. */
typedef struct VmFlatRange {
  VmGpa start, end;
  VmRam *read_ram;
  uint64_t read_offset;
  VmRam *write_ram;
  uint64_t write_offset;
  VmRegion *read_region, *write_region; /* whichever claims; set for RAM too */
  bool coalesced;
} VmFlatRange;
typedef void (*VmFlatRangeFunc)(const VmFlatRange *entry, void *opaque);
void vm_memory_foreach_range(VmMemory *memory, VmView view, VmFlatRangeFunc func, void *opaque);

/* Sum of all blocks' sizes: ram_addr is below it. */
uint64_t vm_memory_get_ram_space(const VmMemory *memory);
/* The block that holds `ram_addr`, or NULL. */
VmRam *vm_memory_find_ram(VmMemory *memory, uint64_t ram_addr);

/* What the accelerator wants to hear. All may be NULL. view_changed: lock of the main context held, after a rebuild or
 * an A20 change. code_written: any thread, when a page with VM_PAGE_CODE is written. dirty_collecting: lock held,
 * before marks of `ram` are collected (KVM fetches its log here); pages_clean: after, pages of it are CLEAN again. */
typedef struct VmMemoryListener {
  void (*view_changed)(void *opaque);
  void (*code_written)(void *opaque, VmRam *ram, uint64_t offset, uint64_t size);
  void (*dirty_collecting)(void *opaque, VmRam *ram);
  void (*pages_clean)(void *opaque, VmRam *ram);
  void *opaque;
} VmMemoryListener;
void vm_memory_set_listener(VmMemory *memory, const VmMemoryListener *listener);

/* Which context's lock guards the map: device accesses then look it up under that lock, which they need anyway. */
void vm_memory_set_main_context(VmMemory *memory, VmIoContext *ctx);

#endif
