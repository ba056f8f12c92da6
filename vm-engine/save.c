/*
 * Saving a stopped machine, and loading it.
 *
 * The stream is a header and a sequence of chunks, each with a tag, a version, the length of what follows and, behind
 * it, a CRC-32C of all three and the payload, so that neither a cut nor a flipped bit goes unnoticed. In order: the
 * machine (its blocks of memory, CPUs and devices: what a load must match), each block's pages that are not zero, each
 * CPU, each device, the end.
 *
 * A load writes to guest memory as it reads, since that is too big to hold twice, but keeps CPUs and devices aside; all
 * are judged when the end has been reached, and only then changed.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include "vm-engine/iocontext.h"
#include "vm-engine/memory-private.h"
#include "vm-engine/state.h"
#include "vm-engine/vm-private.h"
#include "vm-engine/x86/cpu.h"

#define MAGIC                 "oriel machine\n\x1a\n"
#define MAGIC_BYTES           16
#define STREAM_VERSION        1u
#define CHUNK_HEADER_BYTES    16u
#define MAX_SMALL_CHUNK_BYTES (UINT64_C(256) << 20) /* the largest device, by far */
#define PAGES_A_CHUNK         256u

#define TAG(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)
enum {
  TAG_MACHINE = TAG('m', 'a', 'c', 'h'),
  TAG_PAGES = TAG('p', 'a', 'g', 'e'),
  TAG_CPU = TAG('c', 'p', 'u', ' '),
  TAG_DEVICE = TAG('d', 'e', 'v', ' '),
  TAG_END = TAG('e', 'n', 'd', ' '),
};

typedef struct Stream {
  int fd;
  uint32_t crc_table[8][256];
} Stream;

typedef struct Chunk {
  uint32_t tag, version;
  uint8_t *payload;
  size_t size;
} Chunk;

/* ---- checksum --------------------------------------------------------------------------------------------------------- */

#define CRC32C_POLYNOMIAL 0x82f63b78u /* Castagnoli, reflected */

static void stream_init(Stream *stream, int fd)
{
  stream->fd = fd;
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; bit++)
      crc = (crc >> 1) ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
    stream->crc_table[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; i++)
    for (int t = 1; t < 8; t++)
      stream->crc_table[t][i] =
          (stream->crc_table[t - 1][i] >> 8) ^ stream->crc_table[0][stream->crc_table[t - 1][i] & 0xff];
}

/* Eight bytes a step ("slicing by 8"): a gigabyte of guest memory goes through here. */
static uint32_t crc_update(const Stream *stream, uint32_t crc, const uint8_t *bytes, size_t size)
{
  const uint32_t(*t)[256] = stream->crc_table;
  for (; size >= 8; size -= 8, bytes += 8) {
    uint64_t word;
    memcpy(&word, bytes, 8);
    word ^= crc;
    crc = t[7][word & 0xff] ^ t[6][word >> 8 & 0xff] ^ t[5][word >> 16 & 0xff] ^ t[4][word >> 24 & 0xff] ^
          t[3][word >> 32 & 0xff] ^ t[2][word >> 40 & 0xff] ^ t[1][word >> 48 & 0xff] ^ t[0][word >> 56];
  }
  for (; size > 0; size--, bytes++)
    crc = (crc >> 8) ^ t[0][(crc ^ *bytes) & 0xff];
  return crc;
}

/* ---- the stream ----------------------------------------------------------------------------------------------------------- */

static bool write_all(const Stream *stream, const void *bytes, size_t size, GError **error)
{
  const uint8_t *at = bytes;
  while (size > 0) {
    ssize_t n = write(stream->fd, at, size);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0) {
      g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "cannot write the machine's saved state: %s", g_strerror(errno));
      return false;
    }
    at += n;
    size -= (size_t)n;
  }
  return true;
}

static bool damaged(GError **error, const char *what)
{
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the machine's saved state is damaged: %s", what);
  return false;
}

static bool read_all(const Stream *stream, void *bytes, size_t size, GError **error)
{
  uint8_t *at = bytes;
  while (size > 0) {
    ssize_t n = read(stream->fd, at, size);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0) {
      g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "cannot read the machine's saved state: %s", g_strerror(errno));
      return false;
    }
    if (n == 0)
      return damaged(error, "it ends too early");
    at += n;
    size -= (size_t)n;
  }
  return true;
}

static void encode_header(uint8_t *header, uint32_t tag, uint32_t version, uint64_t size)
{
  uint32_t words[2] = { GUINT32_TO_LE(tag), GUINT32_TO_LE(version) };
  uint64_t length = GUINT64_TO_LE(size);
  memcpy(header, words, 8);
  memcpy(header + 8, &length, 8);
}

static bool write_chunk(const Stream *stream, uint32_t tag, uint32_t version, const GByteArray *payload, GError **error)
{
  uint8_t header[CHUNK_HEADER_BYTES];
  encode_header(header, tag, version, payload->len);
  uint32_t crc = crc_update(stream, ~0u, header, sizeof(header));
  crc = GUINT32_TO_LE(~crc_update(stream, crc, payload->data, payload->len));
  return write_all(stream, header, sizeof(header), error) && write_all(stream, payload->data, payload->len, error) &&
         write_all(stream, &crc, sizeof(crc), error);
}

static bool read_chunk(const Stream *stream, Chunk *chunk, GError **error)
{
  uint8_t header[CHUNK_HEADER_BYTES];
  uint32_t stored;
  if (!read_all(stream, header, sizeof(header), error))
    return false;
  uint64_t size = vm_get_uint(header + 8, 8);
  if (size > MAX_SMALL_CHUNK_BYTES)
    return damaged(error, "a part of it is too long");
  *chunk = (Chunk){ (uint32_t)vm_get_uint(header, 4), (uint32_t)vm_get_uint(header + 4, 4), NULL, (size_t)size };
  chunk->payload = g_try_malloc(MAX(chunk->size, 1));
  if (chunk->payload == NULL)
    return damaged(error, "a part of it is too long");
  uint32_t crc = crc_update(stream, ~0u, header, sizeof(header));
  bool good = read_all(stream, chunk->payload, chunk->size, error) && read_all(stream, &stored, sizeof(stored), error);
  if (good && GUINT32_FROM_LE(stored) != ~crc_update(stream, crc, chunk->payload, chunk->size))
    good = damaged(error, "a checksum does not fit");
  if (!good)
    g_clear_pointer(&chunk->payload, g_free);
  return good;
}

static void append_text(GByteArray *out, const char *text)
{
  vm_append_uint(out, strlen(text), 2);
  g_byte_array_append(out, (const uint8_t *)text, (guint)strlen(text));
}

/* What both machines must have in common. */
static GByteArray *describe_machine(Vm *vm, int64_t clock_ns)
{
  GByteArray *out = g_byte_array_new();
  vm_append_uint(out, (uint64_t)clock_ns, 8);
  vm_append_uint(out, !vm_memory_get_a20(vm->memory), 1);
  vm_append_uint(out, vm->memory->rams->len, 4);
  for (unsigned i = 0; i < vm->memory->rams->len; i++) {
    const VmRam *ram = g_ptr_array_index(vm->memory->rams, i);
    append_text(out, ram->name);
    vm_append_uint(out, ram->size, 8);
  }
  vm_append_uint(out, vm->cpus->len, 4);
  vm_append_uint(out, vm->devices->len, 4);
  for (unsigned i = 0; i < vm->devices->len; i++) {
    const VmDevice *dev = g_ptr_array_index(vm->devices, i);
    append_text(out, dev->id);
    append_text(out, dev->type->name);
    vm_append_uint(out, dev->type->version, 4);
  }
  return out;
}
#define MACHINE_CLOCK_BYTES 9u /* clock and A20, before what must be the same */

/* ---- save --------------------------------------------------------------------------------------------------------------- */

static bool is_zero_page(const uint8_t *page)
{
  return page[0] == 0 && memcmp(page, page + 1, VM_PAGE_SIZE - 1) == 0;
}

/* The next page at or after `page` that the host has memory for: untouched ones would be allocated by looking. */
static uint64_t next_present_page(const VmRam *ram, uint64_t page)
{
  off_t at = lseek(ram->memfd, (off_t)(page << VM_PAGE_SHIFT), SEEK_DATA);
  if (at < 0)
    return errno == ENXIO ? ram->size >> VM_PAGE_SHIFT : page;
  return MAX(page, (uint64_t)at >> VM_PAGE_SHIFT);
}

/* A run of pages: block, first page, then the pages' bytes. Returns the page after it. */
static uint64_t collect_run(const VmRam *ram, uint64_t page, GByteArray *out)
{
  uint64_t n_pages = ram->size >> VM_PAGE_SHIFT, first = page;
  g_byte_array_set_size(out, 0);
  vm_append_uint(out, ram->index, 4);
  vm_append_uint(out, first, 8);
  while (page < n_pages && page - first < PAGES_A_CHUNK && !is_zero_page(ram->hva + (page << VM_PAGE_SHIFT))) {
    g_byte_array_append(out, ram->hva + (page << VM_PAGE_SHIFT), VM_PAGE_SIZE);
    page++;
  }
  return page;
}

static bool save_ram(const Stream *stream, const VmRam *ram, GError **error)
{
  g_autoptr(GByteArray) run = g_byte_array_new();
  uint64_t n_pages = ram->size >> VM_PAGE_SHIFT;
  for (uint64_t page = next_present_page(ram, 0); page < n_pages; page = next_present_page(ram, page)) {
    uint64_t after = collect_run(ram, page, run);
    if (after > page && !write_chunk(stream, TAG_PAGES, 1, run, error))
      return false;
    page = MAX(after, page + 1);
  }
  return true;
}

static bool save_cpus_and_devices(Vm *vm, const Stream *stream, GError **error)
{
  vm_cpus_store(vm);
  for (unsigned i = 0; i < vm->cpus->len; i++) {
    g_autoptr(GByteArray) payload = g_byte_array_new();
    const VmCpu *cpu = vm_get_cpu(vm, i);
    vm_append_uint(payload, i, 4);
    /* Interrupt lines follow from the devices' state; what is on its way to the CPU is the CPU's. */
    vm_append_uint(payload,
                   vm_cpu_requests(cpu) & (VM_CPU_REQ_NMI | VM_CPU_REQ_SMI | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI), 4);
    vm_append_uint(payload, cpu->sipi_vector, 1);
    vm_fields_save(x86_cpu_fields, cpu->x86, payload);
    if (!write_chunk(stream, TAG_CPU, 1, payload, error))
      return false;
  }
  for (unsigned i = 0; i < vm->devices->len; i++) {
    g_autoptr(GByteArray) payload = g_byte_array_new();
    VmDevice *dev = g_ptr_array_index(vm->devices, i);
    vm_append_uint(payload, i, 4);
    vm_device_save(dev, payload);
    if (!write_chunk(stream, TAG_DEVICE, dev->type->version, payload, error))
      return false;
  }
  return true;
}

static bool check_stopped(Vm *vm, GError **error)
{
  if (vm_get_state(vm) == VM_STATE_STOPPED && vm_cpus_are_parked(vm))
    return true;
  g_set_error(error, VM_ERROR, VM_ERROR_BAD_STATE, "the machine runs or has ended; pause it first");
  return false;
}

static bool save_locked(Vm *vm, int fd, GError **error)
{
  if (!check_stopped(vm, error))
    return false;
  g_autofree Stream *stream = g_new(Stream, 1);
  stream_init(stream, fd);
  uint8_t header[MAGIC_BYTES + 4] = MAGIC;
  header[MAGIC_BYTES] = STREAM_VERSION;
  g_autoptr(GByteArray) machine = describe_machine(vm, vm_clock_get_ns(vm->clock));
  if (!write_all(stream, header, sizeof(header), error) || !write_chunk(stream, TAG_MACHINE, 1, machine, error))
    return false;
  for (unsigned i = 0; i < vm->memory->rams->len; i++)
    if (!save_ram(stream, g_ptr_array_index(vm->memory->rams, i), error))
      return false;
  g_autoptr(GByteArray) nothing = g_byte_array_new();
  return save_cpus_and_devices(vm, stream, error) && write_chunk(stream, TAG_END, 1, nothing, error);
}

bool vm_save(Vm *vm, int fd, GError **error)
{
  vm_io_context_lock(vm->ctx);
  bool good = save_locked(vm, fd, error);
  vm_io_context_unlock(vm->ctx);
  return good;
}

/* ---- load --------------------------------------------------------------------------------------------------------------- */

/* What has been read and waits for the end of the stream. */
typedef struct Loaded {
  Vm *vm;
  int64_t clock_ns;
  bool a20_off;
  uint8_t **seen_pages; /* for each block, a bit a page: the rest is zero */
  GByteArray **cpus;    /* NULL until seen */
  GByteArray **devices;
  VmDeviceLoad **device_loads;
  X86Cpu **cpu_states;
  uint32_t *cpu_requests;
  uint8_t *sipi_vectors;
} Loaded;

static Loaded *loaded_new(Vm *vm)
{
  Loaded *l = g_new0(Loaded, 1);
  l->vm = vm;
  unsigned n_rams = vm->memory->rams->len, n_cpus = vm->cpus->len, n_devices = vm->devices->len;
  l->seen_pages = g_new0(uint8_t *, n_rams);
  for (unsigned i = 0; i < n_rams; i++) {
    const VmRam *ram = g_ptr_array_index(vm->memory->rams, i);
    l->seen_pages[i] = g_malloc0(((ram->size >> VM_PAGE_SHIFT) + 7) / 8);
  }
  l->cpus = g_new0(GByteArray *, n_cpus);
  l->cpu_states = g_new0(X86Cpu *, n_cpus);
  l->cpu_requests = g_new0(uint32_t, n_cpus);
  l->sipi_vectors = g_new0(uint8_t, n_cpus);
  l->devices = g_new0(GByteArray *, n_devices);
  l->device_loads = g_new0(VmDeviceLoad *, n_devices);
  return l;
}

static void loaded_free(Loaded *l)
{
  for (unsigned i = 0; i < l->vm->memory->rams->len; i++)
    g_free(l->seen_pages[i]);
  for (unsigned i = 0; i < l->vm->cpus->len; i++) {
    g_clear_pointer(&l->cpus[i], g_byte_array_unref);
    g_aligned_free(l->cpu_states[i]);
  }
  for (unsigned i = 0; i < l->vm->devices->len; i++) {
    g_clear_pointer(&l->devices[i], g_byte_array_unref);
    vm_device_load_finish(l->device_loads[i]);
  }
  g_free(l->seen_pages);
  g_free(l->cpus);
  g_free(l->cpu_states);
  g_free(l->cpu_requests);
  g_free(l->sipi_vectors);
  g_free(l->devices);
  g_free(l->device_loads);
  g_free(l);
}

static bool take_machine(Loaded *l, const Chunk *chunk, GError **error)
{
  g_autoptr(GByteArray) mine = describe_machine(l->vm, 0);
  if (chunk->tag != TAG_MACHINE || chunk->version != 1 || chunk->size < MACHINE_CLOCK_BYTES)
    return damaged(error, "it does not begin with the machine");
  if (chunk->size != mine->len || memcmp(chunk->payload + MACHINE_CLOCK_BYTES, mine->data + MACHINE_CLOCK_BYTES,
                                         mine->len - MACHINE_CLOCK_BYTES) != 0) {
    g_set_error(
        error, VM_ERROR, VM_ERROR_FAILED,
        "the saved state belongs to a machine with other hardware (memory, CPUs or devices differ), or was made "
        "by another version of Oriel");
    return false;
  }
  l->clock_ns = (int64_t)vm_get_uint(chunk->payload, 8);
  l->a20_off = chunk->payload[8] != 0;
  return l->clock_ns >= 0 || damaged(error, "its clock is out of range");
}

static bool take_pages(Loaded *l, const Chunk *chunk, GError **error)
{
  VmByteReader reader = { chunk->payload, chunk->size };
  const uint8_t *head = vm_byte_reader_take(&reader, 12);
  uint64_t index = head != NULL ? vm_get_uint(head, 4) : UINT64_MAX;
  if (chunk->version != 1 || index >= l->vm->memory->rams->len || reader.left % VM_PAGE_SIZE != 0)
    return damaged(error, "pages of no known memory");
  VmRam *ram = g_ptr_array_index(l->vm->memory->rams, (guint)index);
  uint64_t first = vm_get_uint(head + 4, 8), total = ram->size >> VM_PAGE_SHIFT, n = reader.left / VM_PAGE_SIZE;
  if (first > total || n > total - first)
    return damaged(error, "pages beyond the end of the memory");
  memcpy(ram->hva + (first << VM_PAGE_SHIFT), reader.bytes, reader.left);
  vm_ram_note_write(ram, first << VM_PAGE_SHIFT, reader.left);
  for (uint64_t page = first; page < first + n; page++)
    l->seen_pages[index][page / 8] |= (uint8_t)(1u << (page % 8));
  return true;
}

/* Keeps a numbered payload until the end. */
static bool keep(GByteArray **slots, unsigned n_slots, const Chunk *chunk, GError **error)
{
  VmByteReader reader = { chunk->payload, chunk->size };
  const uint8_t *head = vm_byte_reader_take(&reader, 4);
  uint64_t index = head != NULL ? vm_get_uint(head, 4) : UINT64_MAX;
  if (index >= n_slots || slots[index] != NULL)
    return damaged(error, "a part is numbered wrongly");
  slots[index] = g_byte_array_new();
  g_byte_array_append(slots[index], reader.bytes, (guint)reader.left);
  return true;
}

static bool take_chunk(Loaded *l, const Chunk *chunk, GError **error)
{
  switch (chunk->tag) {
  case TAG_PAGES:
    return take_pages(l, chunk, error);
  case TAG_CPU:
    return keep(l->cpus, l->vm->cpus->len, chunk, error);
  case TAG_DEVICE:
    return keep(l->devices, l->vm->devices->len, chunk, error);
  default:
    return damaged(error, "it has a part that this version does not know");
  }
}

static bool judge_cpu(Loaded *l, unsigned i, GError **error)
{
  if (l->cpus[i] == NULL)
    return damaged(error, "a CPU is missing");
  const X86Cpu *live = vm_get_cpu(l->vm, i)->x86;
  VmByteReader reader = { l->cpus[i]->data, l->cpus[i]->len };
  const uint8_t *head = vm_byte_reader_take(&reader, 5);
  if (head == NULL)
    return damaged(error, "a CPU is too short");
  l->cpu_requests[i] = (uint32_t)vm_get_uint(head, 4);
  l->sipi_vectors[i] = head[4];
  l->cpu_states[i] = g_aligned_alloc(1, sizeof(X86Cpu), _Alignof(X86Cpu));
  *l->cpu_states[i] = *live;
  g_autofree char *name = g_strdup_printf("CPU %u", i);
  if (!vm_fields_decode(x86_cpu_fields, live, l->cpu_states[i], &reader, name, error))
    return false;
  return reader.left == 0 || damaged(error, "a CPU is too long");
}

static bool judge_all(Loaded *l, GError **error)
{
  for (unsigned i = 0; i < l->vm->cpus->len; i++)
    if (!judge_cpu(l, i, error))
      return false;
  for (unsigned i = 0; i < l->vm->devices->len; i++) {
    VmDevice *dev = g_ptr_array_index(l->vm->devices, i);
    if (l->devices[i] == NULL)
      return damaged(error, "a device is missing");
    l->device_loads[i] = vm_device_load_prepare(dev, l->devices[i]->data, l->devices[i]->len, error);
    if (l->device_loads[i] == NULL)
      return false;
  }
  return true;
}

static void clear_unseen_pages(Loaded *l)
{
  for (unsigned i = 0; i < l->vm->memory->rams->len; i++) {
    VmRam *ram = g_ptr_array_index(l->vm->memory->rams, i);
    uint64_t n_pages = ram->size >> VM_PAGE_SHIFT;
    for (uint64_t page = next_present_page(ram, 0); page < n_pages; page = next_present_page(ram, page + 1)) {
      uint8_t *hva = ram->hva + (page << VM_PAGE_SHIFT);
      if ((l->seen_pages[i][page / 8] >> (page % 8) & 1) || is_zero_page(hva))
        continue;
      memset(hva, 0, VM_PAGE_SIZE);
      vm_ram_note_write(ram, page << VM_PAGE_SHIFT, VM_PAGE_SIZE);
    }
  }
}

/* Nothing can fail from here on. */
static void commit_all(Loaded *l)
{
  const uint32_t events = VM_CPU_REQ_NMI | VM_CPU_REQ_SMI | VM_CPU_REQ_INIT | VM_CPU_REQ_SIPI;
  Vm *vm = l->vm;
  clear_unseen_pages(l);
  vm_clock_set_ns(vm->clock, l->clock_ns);
  vm_memory_begin(vm->memory);
  vm_memory_set_a20(vm->memory, !l->a20_off);
  for (unsigned i = 0; i < vm->cpus->len; i++) {
    VmCpu *cpu = vm_get_cpu(vm, i);
    *cpu->x86 = *l->cpu_states[i];
    vm_cpu_clear_request(cpu, events);
    cpu->sipi_vector = l->sipi_vectors[i];
    vm_cpu_request(cpu, l->cpu_requests[i] & events);
  }
  for (unsigned i = 0; i < vm->devices->len; i++)
    vm_device_load_commit(l->device_loads[i]);
  for (unsigned i = 0; i < vm->devices->len; i++)
    vm_device_load_finish(g_steal_pointer(&l->device_loads[i]));
  vm_memory_commit(vm->memory);
  vm_cpus_load(vm);
  vm->was_reset = true;
}

static bool read_until_end(Loaded *l, const Stream *stream, GError **error)
{
  bool end = false;
  while (!end) {
    Chunk chunk;
    if (!read_chunk(stream, &chunk, error))
      return false;
    end = chunk.tag == TAG_END;
    bool good = end || take_chunk(l, &chunk, error);
    g_free(chunk.payload);
    if (!good)
      return false;
  }
  return true;
}

static bool load_locked(Vm *vm, int fd, GError **error)
{
  if (!check_stopped(vm, error))
    return false;
  g_autofree Stream *stream = g_new(Stream, 1);
  stream_init(stream, fd);
  uint8_t header[MAGIC_BYTES + 4];
  if (!read_all(stream, header, sizeof(header), error))
    return false;
  if (memcmp(header, MAGIC, MAGIC_BYTES) != 0 || vm_get_uint(header + MAGIC_BYTES, 4) != STREAM_VERSION) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED,
                "this is not a saved machine, or was made by another version of Oriel");
    return false;
  }
  Chunk first;
  if (!read_chunk(stream, &first, error))
    return false;
  Loaded *l = loaded_new(vm);
  bool good = take_machine(l, &first, error) && read_until_end(l, stream, error) && judge_all(l, error);
  if (good)
    commit_all(l);
  g_free(first.payload);
  loaded_free(l);
  return good;
}

bool vm_load(Vm *vm, int fd, GError **error)
{
  vm_io_context_lock(vm->ctx);
  bool good = load_locked(vm, fd, error);
  vm_io_context_unlock(vm->ctx);
  return good;
}
