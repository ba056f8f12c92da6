/*
 * What memory.c (blocks and regions), memory-view.c (flat views) and memory-access.c (loads and stores) share.
 *
 * Locks: regions, begin/commit depth and the region list belong to the main I/O context's lock. `view_lock` guards the
 * flat views alone: a rebuild takes it for writing to swap the arrays in, a look-up takes it for reading and copies the
 * entry out. No device is ever called with it held, so it is always the innermost lock.
 */
#ifndef VM_MEMORY_PRIVATE_H
#define VM_MEMORY_PRIVATE_H

#include "vm-engine/memory-impl.h"

struct VmRegion {
  VmMemory *memory;
  char *name;
  VmSpace space;
  uint64_t base, size;
  int priority;
  uint64_t sequence; /* order of mapping: among equals the later wins */
  bool enabled, smm_only, coalesced, rom;
  VmAccess access;
  VmRam *ram; /* else ops */
  uint64_t ram_offset;
  const VmMmioOps *ops;
  void *opaque;
  VmIoContext *ctx;
};

/* Who takes one kind of access in a flat range: a copy of what the region said when the view was built, so that a
 * reader never looks at a region that is being changed. All NULL: nobody. */
typedef struct VmFlatTarget {
  VmRegion *region;
  VmRam *ram;
  uint64_t offset; /* in the block or the region, of the flat range's first byte */
  uint64_t size;   /* the region's */
  bool rom;
  const VmMmioOps *ops;
  void *opaque;
  VmIoContext *ctx;
} VmFlatTarget;

typedef struct VmFlatEntry {
  VmGpa start, end; /* [start, end) */
  VmFlatTarget read, write;
} VmFlatEntry;

/* Ascending, without overlaps; what no entry covers belongs to nobody. */
typedef struct VmFlatView {
  VmFlatEntry *entries;
  unsigned n_entries;
} VmFlatView;

enum { VM_FLAT_NORMAL = VM_VIEW_NORMAL, VM_FLAT_SMM = VM_VIEW_SMM, VM_FLAT_PORTS, VM_N_FLAT };

struct VmMemory {
  GPtrArray *rams;
  GPtrArray *regions; /* highest priority first, among equals the latest first */
  uint64_t next_sequence;
  uint64_t ram_space;
  unsigned change_depth;
  bool changed;
  VmMemoryListener listener;
  _Atomic bool a20_off;
  _Atomic uint64_t generation; /* of the views: counts rebuilds */
  VmIoContext *main_ctx; /* whose lock keeps the views as they are; NULL: not known (memory without a machine) */
  GRWLock view_lock;           /* guards `views` */
  VmFlatView views[VM_N_FLAT];
};

/* Rebuilds all views now and tells the listener. Main lock held. */
void vm_memory_rebuild(VmMemory *memory);
void vm_memory_views_free(VmMemory *memory);

/* Copies the entry that covers `address` into `out`; if none does, its targets are empty and its range is the hole.
 * Returns the views' generation, so that the caller can tell later whether the answer still holds. */
uint64_t vm_memory_lookup(VmMemory *memory, unsigned flat, uint64_t address, VmFlatEntry *out);

/* The entry that covers `address`, or NULL. With the main context's lock held, and until it is released or a device is
 * called. */
const VmFlatEntry *vm_memory_peek_locked(const VmMemory *memory, unsigned flat, uint64_t address);

#endif
