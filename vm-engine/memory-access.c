/*
 * Accesses to guest memory and ports: DMA by devices, loads and stores by CPUs, and the one place where a device's
 * registers are called.
 *
 * The race with a change of the map: an access looks the entry up without the device's lock, then takes that lock.
 * In between the guest may have moved or unplugged the device on another vCPU. Changes are made under the main
 * context's lock, so after taking the lock the views' generation tells whether the answer still holds; if not, the
 * access looks again.
 *
 * Nearly all devices live in the main context, though. So an access first takes that context's lock, under which the
 * views stand still and need no lock of their own; what turns out to be RAM, or another context's, goes the long way.
 */
#include "vm-engine/iocontext.h"
#include "vm-engine/memory-private.h"

static uint64_t size_mask(unsigned size)
{
  return size >= 8 ? UINT64_MAX : (UINT64_C(1) << (size * 8)) - 1;
}

/* ---- registers: the choke point ------------------------------------------------------------------------------------ */

static unsigned impl_min(const VmMmioOps *ops)
{
  return ops->impl_min != 0 ? ops->impl_min : 1;
}
static unsigned impl_max(const VmMmioOps *ops)
{
  return ops->impl_max != 0 ? ops->impl_max : 4;
}

/* The largest naturally aligned piece that can be passed on at `offset`. */
static unsigned piece_size(uint64_t offset, unsigned left, unsigned max)
{
  unsigned piece = 1;
  while (piece * 2 <= left && piece * 2 <= max && offset % (piece * 2) == 0)
    piece *= 2;
  return piece;
}

static uint64_t read_piece(const VmFlatTarget *t, uint64_t offset, unsigned size)
{
  unsigned min = impl_min(t->ops);
  if (size >= min)
    return t->ops->read(t->opaque, offset, size) & size_mask(size);
  uint64_t aligned = offset & ~(uint64_t)(min - 1);
  return t->ops->read(t->opaque, aligned, min) >> ((offset - aligned) * 8) & size_mask(size);
}

static void write_piece(const VmFlatTarget *t, uint64_t offset, uint64_t value, unsigned size)
{
  unsigned min = impl_min(t->ops);
  value &= size_mask(size);
  if (size >= min || !t->ops->widen_writes) {
    t->ops->write(t->opaque, offset, value, MAX(size, min));
    return;
  }
  uint64_t aligned = offset & ~(uint64_t)(min - 1);
  unsigned shift = (unsigned)(offset - aligned) * 8;
  uint64_t old = t->ops->read != NULL ? t->ops->read(t->opaque, aligned, min) : 0;
  t->ops->write(t->opaque, aligned, (old & ~(size_mask(size) << shift)) | value << shift, min);
}

static uint64_t io_read_locked(const VmFlatTarget *t, uint64_t offset, unsigned size)
{
  if (t->ops->read == NULL)
    return size_mask(size);
  uint64_t value = 0;
  for (unsigned done = 0; done < size;) {
    unsigned piece = piece_size(offset + done, size - done, impl_max(t->ops));
    value |= read_piece(t, offset + done, piece) << (done * 8);
    done += piece;
  }
  return value;
}

static void io_write_locked(const VmFlatTarget *t, uint64_t offset, uint64_t value, unsigned size)
{
  if (t->ops->write == NULL)
    return;
  for (unsigned done = 0; done < size;) {
    unsigned piece = piece_size(offset + done, size - done, impl_max(t->ops));
    write_piece(t, offset + done, value >> (done * 8), piece);
    done += piece;
  }
}

/* ---- one access, anywhere ------------------------------------------------------------------------------------------- */

typedef volatile uint16_t __attribute__((aligned(1))) Unaligned16;
typedef volatile uint32_t __attribute__((aligned(1))) Unaligned32;
typedef volatile uint64_t __attribute__((aligned(1))) Unaligned64;

static uint64_t ram_load(const VmRam *ram, uint64_t offset, unsigned size)
{
  const uint8_t *p = ram->hva + offset;
  switch (size) { /* one host access each, so that another CPU's aligned store is seen whole */
  case 1:
    return *(const volatile uint8_t *)p;
  case 2:
    return *(const Unaligned16 *)(const void *)p;
  case 4:
    return *(const Unaligned32 *)(const void *)p;
  default:
    return *(const Unaligned64 *)(const void *)p;
  }
}

static void ram_store(VmRam *ram, uint64_t offset, uint64_t value, unsigned size)
{
  uint8_t *p = ram->hva + offset;
  switch (size) {
  case 1:
    *(volatile uint8_t *)p = (uint8_t)value;
    break;
  case 2:
    *(Unaligned16 *)(void *)p = (uint16_t)value;
    break;
  case 4:
    *(Unaligned32 *)(void *)p = (uint32_t)value;
    break;
  default:
    *(Unaligned64 *)(void *)p = value;
    break;
  }
  vm_ram_note_write(ram, offset, size);
}

static bool still_current(const VmMemory *memory, uint64_t generation)
{
  return atomic_load_explicit(&memory->generation, memory_order_acquire) == generation;
}

/* Does [address, address + size) lie in the entry? A byte always does; the last address has no end to tell it by. */
static bool fits(const VmFlatEntry *entry, uint64_t address, unsigned size)
{
  return size == 1 || entry->end - address >= size;
}

/* Is the whole access one to registers of a device in the main context? Its lock is held. */
static bool find_main_device(const VmMemory *memory, unsigned flat, uint64_t address, unsigned size, bool write,
                             VmFlatTarget *target, uint64_t *offset)
{
  const VmFlatEntry *entry = vm_memory_peek_locked(memory, flat, address);
  if (entry == NULL || !fits(entry, address, size))
    return false;
  *target = write ? entry->write : entry->read; /* a copy: the device may change the map */
  *offset = target->offset + (address - entry->start);
  return target->ops != NULL && target->ctx == memory->main_ctx;
}

static bool main_device_load(VmMemory *memory, unsigned flat, uint64_t address, unsigned size, uint64_t *value)
{
  VmFlatTarget target;
  uint64_t offset;
  if (memory->main_ctx == NULL)
    return false;
  vm_io_context_lock(memory->main_ctx);
  bool found = find_main_device(memory, flat, address, size, false, &target, &offset);
  if (found)
    *value = io_read_locked(&target, offset, size);
  vm_io_context_unlock(memory->main_ctx);
  return found;
}

static bool main_device_store(VmMemory *memory, unsigned flat, uint64_t address, uint64_t value, unsigned size)
{
  VmFlatTarget target;
  uint64_t offset;
  if (memory->main_ctx == NULL)
    return false;
  vm_io_context_lock(memory->main_ctx);
  bool found = find_main_device(memory, flat, address, size, true, &target, &offset);
  if (found)
    io_write_locked(&target, offset, value, size);
  vm_io_context_unlock(memory->main_ctx);
  return found;
}

static uint64_t space_load(VmMemory *memory, unsigned flat, uint64_t address, unsigned size)
{
  uint64_t quick;
  if (main_device_load(memory, flat, address, size, &quick))
    return quick;
  for (;;) {
    VmFlatEntry entry;
    uint64_t generation = vm_memory_lookup(memory, flat, address, &entry);
    if (!fits(&entry, address, size)) {
      uint64_t value = 0;
      for (unsigned i = 0; i < size; i++)
        value |= space_load(memory, flat, address + i, 1) << (i * 8);
      return value;
    }
    const VmFlatTarget *t = &entry.read;
    uint64_t offset = t->offset + (address - entry.start);
    if (t->region == NULL)
      return size_mask(size);
    if (t->ram != NULL)
      return ram_load(t->ram, offset, size);
    vm_io_context_lock(t->ctx);
    bool current = still_current(memory, generation);
    uint64_t value = current ? io_read_locked(t, offset, size) : 0;
    vm_io_context_unlock(t->ctx);
    if (current)
      return value;
  }
}

static void space_store(VmMemory *memory, unsigned flat, uint64_t address, uint64_t value, unsigned size)
{
  bool done = main_device_store(memory, flat, address, value, size);
  while (!done) {
    VmFlatEntry entry;
    uint64_t generation = vm_memory_lookup(memory, flat, address, &entry);
    if (!fits(&entry, address, size)) {
      for (unsigned i = 0; i < size; i++)
        space_store(memory, flat, address + i, value >> (i * 8) & 0xff, 1);
      return;
    }
    const VmFlatTarget *t = &entry.write;
    uint64_t offset = t->offset + (address - entry.start);
    if (t->region == NULL || t->rom)
      return;
    if (t->ram != NULL) {
      ram_store(t->ram, offset, value, size);
      return;
    }
    vm_io_context_lock(t->ctx);
    done = still_current(memory, generation);
    if (done)
      io_write_locked(t, offset, value, size);
    vm_io_context_unlock(t->ctx);
  }
}

static VmGpa apply_a20(const VmMemory *memory, VmGpa gpa)
{
  return vm_memory_get_a20(memory) ? gpa : gpa & ~(UINT64_C(1) << 20);
}

uint64_t vm_memory_load(VmMemory *memory, VmView view, VmGpa gpa, unsigned size)
{
  g_assert(size == 1 || size == 2 || size == 4 || size == 8);
  return space_load(memory, view, apply_a20(memory, gpa), size);
}

void vm_memory_store(VmMemory *memory, VmView view, VmGpa gpa, uint64_t value, unsigned size)
{
  g_assert(size == 1 || size == 2 || size == 4 || size == 8);
  space_store(memory, view, apply_a20(memory, gpa), value, size);
}

/* An access that starts at the last ports may reach beyond the space; bytes there belong to nobody. */
uint32_t vm_port_read(VmMemory *memory, uint16_t port, unsigned size)
{
  g_assert(size == 1 || size == 2 || size == 4);
  return (uint32_t)space_load(memory, VM_FLAT_PORTS, port, size);
}

void vm_port_write(VmMemory *memory, uint16_t port, uint32_t value, unsigned size)
{
  g_assert(size == 1 || size == 2 || size == 4);
  space_store(memory, VM_FLAT_PORTS, port, value, size);
}

/* ---- DMA ---------------------------------------------------------------------------------------------------------------- */

typedef struct DmaPiece {
  VmRam *ram;
  uint64_t offset, size;
} DmaPiece;

/* Splits [gpa, gpa + size) into stretches of RAM, before anything is moved. False: part of it is not RAM. */
static bool dma_split(VmMemory *memory, VmGpa gpa, uint64_t size, bool write, GArray *pieces)
{
  if (size > UINT64_MAX - gpa)
    return false;
  while (size > 0) {
    VmFlatEntry entry;
    vm_memory_lookup(memory, VM_FLAT_NORMAL, gpa, &entry);
    const VmFlatTarget *t = write ? &entry.write : &entry.read;
    if (t->ram == NULL || (write && t->rom))
      return false;
    DmaPiece piece = { t->ram, t->offset + (gpa - entry.start), MIN(size, entry.end - gpa) };
    g_array_append_val(pieces, piece);
    gpa += piece.size;
    size -= piece.size;
  }
  return true;
}

typedef enum DmaKind { DMA_READ, DMA_WRITE, DMA_FILL } DmaKind;

static void dma_move(const DmaPiece *piece, DmaKind kind, uint8_t *bytes, uint8_t fill)
{
  uint8_t *hva = piece->ram->hva + piece->offset;
  if (kind == DMA_READ) {
    memcpy(bytes, hva, piece->size);
    return;
  }
  if (kind == DMA_WRITE)
    memcpy(hva, bytes, piece->size);
  else
    memset(hva, fill, piece->size);
  vm_ram_note_write(piece->ram, piece->offset, piece->size);
}

static bool dma(VmMemory *memory, VmGpa gpa, DmaKind kind, uint8_t *bytes, uint8_t fill, uint64_t size)
{
  /* Nearly always one stretch of RAM: no list for that. */
  VmFlatEntry entry;
  vm_memory_lookup(memory, VM_FLAT_NORMAL, gpa, &entry);
  const VmFlatTarget *t = kind == DMA_READ ? &entry.read : &entry.write;
  if (t->ram != NULL && size <= entry.end - gpa) {
    if (kind != DMA_READ && t->rom)
      return false;
    DmaPiece piece = { t->ram, t->offset + (gpa - entry.start), size };
    dma_move(&piece, kind, bytes, fill);
    return true;
  }
  g_autoptr(GArray) pieces = g_array_new(FALSE, FALSE, sizeof(DmaPiece));
  if (!dma_split(memory, gpa, size, kind != DMA_READ, pieces))
    return false;
  for (unsigned i = 0; i < pieces->len; i++) {
    const DmaPiece *piece = &g_array_index(pieces, DmaPiece, i);
    dma_move(piece, kind, bytes, fill);
    if (kind != DMA_FILL)
      bytes += piece->size;
  }
  return true;
}

bool vm_memory_read(VmMemory *memory, VmGpa gpa, void *buffer, uint64_t size)
{
  return dma(memory, gpa, DMA_READ, buffer, 0, size);
}

bool vm_memory_write(VmMemory *memory, VmGpa gpa, const void *buffer, uint64_t size)
{
  return dma(memory, gpa, DMA_WRITE, (uint8_t *)(uintptr_t)buffer, 0, size);
}

bool vm_memory_fill(VmMemory *memory, VmGpa gpa, uint8_t value, uint64_t size)
{
  return dma(memory, gpa, DMA_FILL, NULL, value, size);
}
