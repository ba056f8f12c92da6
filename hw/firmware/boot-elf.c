/*
 * ELF images, 32- and 64-bit x86, loaded by physical address; and the start of those with a PVH note.
 * Sources: System V ABI, "Object files"; Xen's public/arch-x86/hvm/start_info.h and the PVH boot ABI.
 *
 * Every offset and size of the file is judged against the file's own length before use.
 */
#include "hw/firmware/direct-boot-impl.h"

#include <elf.h>

#include "vm-engine/vm.h"

#define MAX_PROGRAM_HEADERS      64
#define XEN_ELFNOTE_PHYS32_ENTRY 18
#define PVH_MAGIC                0x336ec578u

typedef struct ElfImage {
  const uint8_t *bytes;
  uint64_t size;
  bool is_64;
  uint64_t entry;
  unsigned n_headers;
  uint64_t headers_offset;
  unsigned header_bytes;
} ElfImage;

typedef struct ElfSegment {
  uint32_t type;
  uint64_t offset, vaddr, paddr, file_bytes, memory_bytes;
} ElfSegment;

static bool inside(const ElfImage *elf, uint64_t offset, uint64_t size)
{
  return offset <= elf->size && size <= elf->size - offset;
}

static bool open_elf(GBytes *file, ElfImage *elf)
{
  gsize size;
  elf->bytes = g_bytes_get_data(file, &size);
  elf->size = size;
  if (size < sizeof(Elf64_Ehdr) || memcmp(elf->bytes, ELFMAG, SELFMAG) != 0 || elf->bytes[EI_DATA] != ELFDATA2LSB)
    return false;
  elf->is_64 = elf->bytes[EI_CLASS] == ELFCLASS64;
  if (elf->is_64) {
    Elf64_Ehdr h;
    memcpy(&h, elf->bytes, sizeof h);
    elf->entry = h.e_entry;
    elf->n_headers = h.e_phnum;
    elf->headers_offset = h.e_phoff;
    elf->header_bytes = sizeof(Elf64_Phdr);
    if (h.e_machine != EM_X86_64 || h.e_phentsize != sizeof(Elf64_Phdr))
      return false;
  } else {
    Elf32_Ehdr h;
    memcpy(&h, elf->bytes, sizeof h);
    elf->entry = h.e_entry;
    elf->n_headers = h.e_phnum;
    elf->headers_offset = h.e_phoff;
    elf->header_bytes = sizeof(Elf32_Phdr);
    if (h.e_machine != EM_386 || h.e_phentsize != sizeof(Elf32_Phdr))
      return false;
  }
  return elf->n_headers > 0 && elf->n_headers <= MAX_PROGRAM_HEADERS &&
         inside(elf, elf->headers_offset, (uint64_t)elf->n_headers * elf->header_bytes);
}

static ElfSegment get_segment(const ElfImage *elf, unsigned index)
{
  const uint8_t *at = elf->bytes + elf->headers_offset + (uint64_t)index * elf->header_bytes;
  if (elf->is_64) {
    Elf64_Phdr p;
    memcpy(&p, at, sizeof p);
    return (ElfSegment){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz };
  }
  Elf32_Phdr p;
  memcpy(&p, at, sizeof p);
  return (ElfSegment){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz };
}

static bool add_segment(BootLoader *loader, const ElfImage *elf, const ElfSegment *s, GError **error)
{
  if (!inside(elf, s->offset, s->file_bytes) || s->file_bytes > s->memory_bytes) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s is damaged: a segment reaches past the file's end",
                loader->kernel_path);
    return false;
  }
  g_autoptr(GBytes) bytes = g_bytes_new_from_bytes(loader->kernel, s->offset, s->file_bytes);
  return boot_loader_add(loader, bytes, s->paddr, s->memory_bytes, error);
}

bool boot_elf_add(BootLoader *loader, uint32_t *entry, uint64_t *end, GError **error)
{
  ElfImage elf;
  if (!open_elf(loader->kernel, &elf)) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s is not a loadable x86 ELF image", loader->kernel_path);
    return false;
  }
  uint64_t start_pc = elf.entry;
  *end = 0;
  for (unsigned i = 0; i < elf.n_headers; i++) {
    ElfSegment s = get_segment(&elf, i);
    if (s.type != PT_LOAD || s.memory_bytes == 0)
      continue;
    if (!add_segment(loader, &elf, &s, error))
      return false;
    *end = MAX(*end, s.paddr + s.memory_bytes);
    if (elf.entry >= s.vaddr && elf.entry - s.vaddr < s.memory_bytes)
      start_pc = elf.entry - s.vaddr + s.paddr;
  }
  if (*end == 0 || start_pc > UINT32_MAX) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "%s has nothing to load or starts above 4 GiB", loader->kernel_path);
    return false;
  }
  if (entry != NULL)
    *entry = (uint32_t)start_pc;
  return true;
}

/* The entry in a note segment: {name size, value size, type, "Xen", value}, each padded to 4 bytes. */
static bool find_note_entry(const ElfImage *elf, const ElfSegment *s, uint32_t *entry)
{
  uint64_t at = s->offset, end = s->offset + s->file_bytes;
  while (end - at >= 12) {
    uint32_t h[3];
    memcpy(h, elf->bytes + at, sizeof h);
    uint64_t name_bytes = ((uint64_t)h[0] + 3) & ~UINT64_C(3), value_bytes = ((uint64_t)h[1] + 3) & ~UINT64_C(3);
    if (name_bytes + value_bytes > end - at - 12)
      return false;
    const uint8_t *name = elf->bytes + at + 12;
    if (h[2] == XEN_ELFNOTE_PHYS32_ENTRY && h[0] == 4 && h[1] >= 4 && memcmp(name, "Xen", 4) == 0) {
      memcpy(entry, name + name_bytes, 4);
      return true;
    }
    at += 12 + name_bytes + value_bytes;
  }
  return false;
}

static bool find_pvh_entry(GBytes *kernel, uint32_t *entry)
{
  ElfImage elf;
  if (!open_elf(kernel, &elf))
    return false;
  for (unsigned i = 0; i < elf.n_headers; i++) {
    ElfSegment s = get_segment(&elf, i);
    if (s.type == PT_NOTE && inside(&elf, s.offset, s.file_bytes) && find_note_entry(&elf, &s, entry))
      return true;
  }
  return false;
}

bool boot_pvh_matches(GBytes *kernel)
{
  uint32_t entry;
  return find_pvh_entry(kernel, &entry);
}

/* The information block: hvm_start_info, one module, the memory map (filled by the ROM) and the command line. */
static bool add_start_info(BootLoader *loader, uint64_t module_gpa, uint64_t module_bytes, GError **error)
{
  struct {
    uint32_t magic, version, flags, n_modules;
    uint64_t modules_gpa, cmdline_gpa, rsdp_gpa, memmap_gpa;
    uint32_t memmap_entries, reserved;
  } info = { PVH_MAGIC,
             1,
             0,
             module_bytes ? 1 : 0,
             BOOT_INFO_GPA + BOOT_INFO_MODULES,
             BOOT_INFO_GPA + BOOT_INFO_STRINGS,
             0,
             BOOT_INFO_GPA + BOOT_INFO_E820,
             0,
             0 };
  struct {
    uint64_t gpa, size, cmdline_gpa, reserved;
  } module = { module_gpa, module_bytes, 0, 0 };
  size_t text_bytes = strlen(loader->append) + 1;
  if (text_bytes > BOOT_INFO_BYTES - BOOT_INFO_STRINGS) {
    g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the --append text is too long for %s", loader->kernel_path);
    return false;
  }
  uint8_t *block = g_malloc0(BOOT_INFO_STRINGS + text_bytes);
  memcpy(block, &info, sizeof info);
  memcpy(block + BOOT_INFO_MODULES, &module, sizeof module);
  memcpy(block + BOOT_INFO_STRINGS, loader->append, text_bytes);
  g_autoptr(GBytes) bytes = g_bytes_new_take(block, BOOT_INFO_STRINGS + text_bytes);

  BootPlan *plan = &loader->plan;
  plan->ebx = BOOT_INFO_GPA;
  plan->e820_gpa = BOOT_INFO_GPA + BOOT_INFO_E820;
  plan->e820_count_gpa = BOOT_INFO_GPA + 48;
  plan->e820_scale = 1;
  return boot_loader_add(loader, bytes, BOOT_INFO_GPA, g_bytes_get_size(bytes), error);
}

bool boot_pvh_plan(BootLoader *loader, GError **error)
{
  uint64_t end, module_bytes = 0;
  if (!boot_elf_add(loader, NULL, &end, error) || !find_pvh_entry(loader->kernel, &loader->plan.entry))
    return false;
  end = (end + 4095) & ~UINT64_C(4095);
  if (loader->initrd_path != NULL) {
    g_autoptr(GBytes) initrd = boot_loader_read_file(loader->initrd_path, error);
    if (initrd == NULL)
      return false;
    module_bytes = g_bytes_get_size(initrd);
    if (module_bytes && !boot_loader_add(loader, initrd, end, module_bytes, error))
      return false;
  }
  loader->plan.kind = BOOT_KIND_PROTECTED;
  return add_start_info(loader, end, module_bytes, error);
}
