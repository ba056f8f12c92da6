/* fw_cfg as a driver pokes it; the ACPI and SMBIOS tables' structure; the loaders of directly booted kernels. */
#include <elf.h>
#include <glib/gstdio.h>

#include "hw/firmware/acpi.h"
#include "hw/firmware/direct-boot.h"
#include "hw/firmware/fw-cfg.h"
#include "hw/firmware/smbios.h"
#include "vm-engine/device.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define RAM_BYTES  (16u << 20)
#define PLAN_KEY   0x8008
#define PLAN_WORDS (9 + 20 * 3)

typedef struct Fixture {
  Vm *vm;
  FwCfg *cfg;
  char *folder;
} Fixture;

static void set_up(Fixture *f, gconstpointer unused)
{
  f->vm = vm_new_manual();
  VmRam *ram = vm_ram_new(vm_get_memory(f->vm), "ram", RAM_BYTES, NULL);
  vm_region_new_ram(vm_get_memory(f->vm), "ram", 0, RAM_BYTES, 0, ram, 0, VM_ACCESS_RW);
  f->cfg = fw_cfg_new(f->vm);
  f->folder = g_dir_make_tmp("oriel-firmware-XXXXXX", NULL);
}

static void tear_down(Fixture *f, gconstpointer unused)
{
  g_autoptr(GDir) dir = g_dir_open(f->folder, 0, NULL);
  for (const char *name; (name = g_dir_read_name(dir)) != NULL;) {
    g_autofree char *path = g_build_filename(f->folder, name, NULL);
    g_remove(path);
  }
  g_rmdir(f->folder);
  g_free(f->folder);
  vm_free(f->vm);
}

/* ---- fw_cfg --------------------------------------------------------------------------------------------------------- */

static GByteArray *read_item(Fixture *f, uint16_t key, size_t n)
{
  GByteArray *out = g_byte_array_new();
  vm_port_write(vm_get_memory(f->vm), 0x510, key, 2);
  for (size_t i = 0; i < n; i++) {
    uint8_t byte = (uint8_t)vm_port_read(vm_get_memory(f->vm), 0x511, 1);
    g_byte_array_append(out, &byte, 1);
  }
  return out;
}

static uint32_t dma(Fixture *f, uint32_t control, uint64_t address, uint32_t length)
{
  struct {
    uint32_t control, length;
    uint64_t address;
  } d = { GUINT32_TO_BE(control), GUINT32_TO_BE(length), GUINT64_TO_BE(address) };
  uint32_t result;
  VmMemory *memory = vm_get_memory(f->vm);
  g_assert_true(vm_memory_write(memory, 0x1000, &d, sizeof d));
  vm_port_write(memory, 0x518, GUINT32_TO_BE(0x1000), 4);
  g_assert_true(vm_memory_read(memory, 0x1000, &result, 4));
  return GUINT32_FROM_BE(result);
}

static void test_ports(Fixture *f, gconstpointer unused)
{
  g_autoptr(GByteArray) signature = read_item(f, FW_CFG_SIGNATURE, 6);
  g_assert_cmpmem(signature->data, 6, "QEMU\0\0", 6);
  g_autoptr(GByteArray) nothing = read_item(f, 0x1234, 4);
  g_assert_cmpmem(nothing->data, 4, "\0\0\0\0", 4);
  g_assert_cmphex(vm_port_read(vm_get_memory(f->vm), 0x514, 4), ==, 0x554d4551);
}

static void test_directory(Fixture *f, gconstpointer unused)
{
  g_autoptr(GBytes) b = g_bytes_new("second", 6), a = g_bytes_new("first!!", 7);
  fw_cfg_add_file(f->cfg, "b/file", b);
  fw_cfg_add_file(f->cfg, "a/file", a);
  g_autoptr(GByteArray) d = read_item(f, FW_CFG_FILE_DIR, 4 + 2 * 64);
  g_assert_cmpmem(d->data, 4, "\0\0\0\2", 4);
  g_assert_cmpstr((char *)d->data + 12, ==, "a/file");
  g_assert_cmpstr((char *)d->data + 76, ==, "b/file");
  g_assert_cmpuint(d->data[7], ==, 7);
  g_autoptr(GByteArray) first = read_item(f, (uint16_t)(d->data[8] << 8 | d->data[9]), 7);
  g_assert_cmpmem(first->data, 7, "first!!", 7);
}

static void test_dma(Fixture *f, gconstpointer unused)
{
  char out[12];
  VmMemory *memory = vm_get_memory(f->vm);
  g_assert_true(vm_memory_fill(memory, 0x2000, 0xaa, sizeof out));
  g_assert_cmphex(dma(f, 0x0a, 0x2000, 8), ==, 0); /* select item 0, read */
  g_assert_true(vm_memory_read(memory, 0x2000, out, sizeof out));
  g_assert_cmpmem(out, 12, "QEMU\0\0\0\0\xaa\xaa\xaa\xaa", 12);
  g_assert_cmphex(dma(f, 0x0a, RAM_BYTES - 2, 8), ==, 1); /* past RAM */
  g_assert_cmphex(dma(f, 0x0a, UINT64_MAX - 2, 0xffffffff), ==, 1);
  g_assert_cmphex(dma(f, 0x10, 0x2000, 4), ==, 1); /* writing is refused */
  g_assert_cmphex(dma(f, 0x08 | 4, 0, 2), ==, 0);  /* select, skip two bytes */
  g_assert_cmphex(dma(f, 0x02, 0x2000, 2), ==, 0);
  g_assert_true(vm_memory_read(memory, 0x2000, out, 2));
  g_assert_cmpmem(out, 2, "MU", 2);
}

static void test_hostile(Fixture *f, gconstpointer unused)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(7);
  for (unsigned i = 0; i < 100000; i++) {
    uint16_t port = (uint16_t)(0x510 + g_rand_int_range(rand, 0, 12));
    unsigned size = 1u << g_rand_int_range(rand, 0, 3);
    if (g_rand_boolean(rand))
      vm_port_write(vm_get_memory(f->vm), port, g_rand_int(rand), size);
    else
      vm_port_read(vm_get_memory(f->vm), port, size);
  }
}

static void test_state(Fixture *f, gconstpointer unused)
{
  g_autoptr(GError) error = NULL;
  g_autoptr(GByteArray) saved = g_byte_array_new();
  VmDevice *dev = vm_find_device(f->vm, "fw-cfg");
  g_assert_true(vm_device_type_check(fw_cfg_get_type(), &error));
  g_assert_no_error(error);
  g_byte_array_unref(read_item(f, FW_CFG_SIGNATURE, 1));
  vm_device_save(dev, saved);
  g_byte_array_unref(read_item(f, FW_CFG_ID, 3));
  g_assert_true(vm_device_load(dev, saved->data, saved->len, &error));
  g_assert_cmphex(vm_port_read(vm_get_memory(f->vm), 0x511, 1), ==, 'E');
}

/* ---- tables ------------------------------------------------------------------------------------------------------------- */

static void test_dsdt(Fixture *f, gconstpointer unused)
{
  AcpiConfig config = { .n_cpus = 4,
                        .pci_hole_first = 0x80000000,
                        .pci_hole_last = 0xfebfffff,
                        .floppy = true,
                        .parallel = true,
                        .serial_mask = 3,
                        .vga = true };
  g_autoptr(GByteArray) dsdt = acpi_build_dsdt(&config);
  uint8_t sum = 0;
  for (guint i = 0; i < dsdt->len; i++)
    sum = (uint8_t)(sum + dsdt->data[i]);
  g_assert_cmpuint(sum, ==, 0);
  uint32_t length;
  memcpy(&length, dsdt->data + 4, 4);
  g_assert_cmpuint(GUINT32_FROM_LE(length), ==, dsdt->len);

  /* A second opinion on the byte code: ACPICA's disassembler must understand all of it. */
  g_autofree char *iasl = g_find_program_in_path("iasl");
  if (iasl == NULL) {
    g_test_skip("iasl (package acpica-tools) is not installed");
    return;
  }
  g_autofree char *aml = g_build_filename(f->folder, "dsdt.aml", NULL),
                  *dsl = g_build_filename(f->folder, "dsdt.dsl", NULL);
  g_assert_true(g_file_set_contents(aml, (char *)dsdt->data, (gssize)dsdt->len, NULL));
  const char *argv[] = { iasl, "-d", aml, NULL };
  g_autofree char *out = NULL, *err = NULL, *text = NULL;
  int status;
  g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &out, &err, &status, NULL));
  g_assert_cmpint(status, ==, 0);
  g_assert_true(g_file_get_contents(dsl, &text, NULL, NULL));
  g_assert_nonnull(strstr(text, "Device (PCI0)"));
  g_assert_nonnull(strstr(text, "Device (LNKD)"));
  g_assert_nonnull(strstr(text, "_S5"));
  g_assert_nonnull(strstr(text, "CP03"));
  g_assert_null(strstr(err, "Error"));
}

static void test_smbios(Fixture *f, gconstpointer unused)
{
  SmbiosConfig config = { 2, 3u << 30, UINT64_C(1) << 30, NULL };
  smbios_add_tables(f->cfg, &config);
  g_autoptr(GByteArray) d = read_item(f, FW_CFG_FILE_DIR, 4 + 2 * 64);
  g_assert_cmpstr((char *)d->data + 12, ==, "etc/smbios/smbios-anchor");
  uint16_t size = (uint16_t)(d->data[64 + 6] << 8 | d->data[64 + 7]);
  g_autoptr(GByteArray) t = read_item(f, (uint16_t)(d->data[64 + 8] << 8 | d->data[64 + 9]), size);
  unsigned n = 0;
  for (guint at = 0; at + 4 <= t->len;) { /* walk the structures as an operating system does */
    uint8_t type = t->data[at], length = t->data[at + 1];
    g_assert_cmpuint(length, >=, 4);
    guint end = at + length;
    while (t->data[end] != 0 || t->data[end + 1] != 0)
      g_assert_cmpuint(++end + 1, <, t->len);
    at = end + 2;
    n++;
    if (type == 127)
      g_assert_cmpuint(at, ==, t->len);
  }
  g_assert_cmpuint(n, >=, 9);
}

/* ---- kernels -------------------------------------------------------------------------------------------------------------- */

static char *write_file(Fixture *f, const char *name, const void *bytes, size_t size)
{
  char *path = g_build_filename(f->folder, name, NULL);
  g_assert_true(g_file_set_contents(path, bytes, (gssize)size, NULL));
  return path;
}

static void get_plan(Fixture *f, uint32_t plan[PLAN_WORDS])
{
  g_autoptr(GByteArray) bytes = read_item(f, PLAN_KEY, PLAN_WORDS * 4);
  memcpy(plan, bytes->data, PLAN_WORDS * 4);
}

static void expect_refused(Fixture *f, const char *path, const char *word)
{
  g_autoptr(GError) error = NULL;
  g_assert_false(direct_boot_add(f->cfg, RAM_BYTES, path, NULL, NULL, &error));
  g_assert_nonnull(error);
  g_assert_nonnull(strstr(error->message, path));
  g_assert_nonnull(strstr(error->message, word));
}

static void fill_linux_header(uint8_t *image)
{
  memset(image, 0, 4096);
  image[0x1f1] = 1; /* setup sectors */
  image[0x1fe] = 0x55;
  image[0x1ff] = 0xaa;
  memcpy(image + 0x202, "HdrS", 4);
  image[0x206] = 0x0c;
  image[0x207] = 2;
  image[0x211] = 1; /* loaded high */
  memcpy(image + 0x22c, "\xff\xff\xff\x7f", 4);
  memcpy(image + 0x238, "\xff\x07\0\0", 4);
}

static void test_linux(Fixture *f, gconstpointer unused)
{
  uint8_t image[4096];
  uint32_t plan[PLAN_WORDS];
  g_autoptr(GError) error = NULL;
  fill_linux_header(image);
  g_autofree char *kernel = write_file(f, "bzImage", image, sizeof image),
                  *initrd = write_file(f, "initrd", image, 1000);
  g_assert_true(direct_boot_add(f->cfg, RAM_BYTES, kernel, initrd, "vga=0x317 quiet", &error));
  g_assert_no_error(error);
  get_plan(f, plan);
  g_assert_cmpuint(plan[0], ==, 0); /* real mode */
  g_assert_cmphex(plan[1], ==, 0x10000);
  g_assert_cmpuint(plan[8], ==, 4); /* initrd, setup, command line, kernel */
  g_assert_cmphex(plan[9 + 1] % 4096, ==, 0);
  g_assert_cmphex(plan[9 + 9 + 1], ==, 0x100000);
  g_autoptr(GByteArray) setup = read_item(f, (uint16_t)plan[9 + 3], 1024);
  g_assert_cmphex(setup->data[0x1fa] | setup->data[0x1fb] << 8, ==, 0x317);
  g_assert_cmpmem(setup->data + 0x218, 4, &plan[9 + 1], 4);
}

static void test_linux_refused(Fixture *f, gconstpointer unused)
{
  uint8_t image[4096];
  g_autoptr(GError) error = NULL;
  fill_linux_header(image);
  image[0x1f1] = 60;
  g_autofree char *cut = write_file(f, "cut", image, sizeof image), *text = write_file(f, "text", "hello", 5),
                  *gzip = write_file(f, "gz", "\x1f\x8b\x08\0", 4);
  expect_refused(f, cut, "cut short");
  expect_refused(f, text, "not a kernel");
  expect_refused(f, gzip, "gunzip");
  expect_refused(f, "/nonexistent/kernel", "/nonexistent");
  fill_linux_header(image);
  g_autofree char *kernel = write_file(f, "bzImage", image, sizeof image);
  g_autofree char *large = g_malloc0(RAM_BYTES), *initrd = write_file(f, "large", large, RAM_BYTES);
  g_assert_false(direct_boot_add(f->cfg, RAM_BYTES, kernel, initrd, NULL, &error));
  g_assert_nonnull(strstr(error->message, "--memory"));
}

static void test_multiboot(Fixture *f, gconstpointer unused)
{
  uint32_t image[1024] = { 0 }, plan[PLAN_WORDS];
  g_autoptr(GError) error = NULL;
  image[4] = 0x1badb002;
  image[5] = 0x10003;
  image[6] = 0u - image[4] - image[5];
  image[7] = 0x100010; /* header, load, load end, bss end, entry */
  image[8] = 0x100000;
  image[10] = 0x102000;
  image[11] = 0x100020;
  g_autofree char *kernel = write_file(f, "mb", image, sizeof image);
  g_autofree char *modules = g_strdup_printf("%s one,%s two", kernel, kernel);
  g_assert_true(direct_boot_add(f->cfg, RAM_BYTES, kernel, modules, "arg", &error));
  g_assert_no_error(error);
  get_plan(f, plan);
  g_assert_cmpuint(plan[0], ==, 1);
  g_assert_cmphex(plan[1], ==, 0x100020);
  g_assert_cmphex(plan[2], ==, 0x2badb002);
  g_assert_cmpuint(plan[8], ==, 4);
  g_assert_cmphex(plan[9 + 2], ==, 0x2000); /* with its bss */
  image[8] = 0xfff00000;
  g_autofree char *bad = write_file(f, "bad", image, sizeof image);
  expect_refused(f, bad, "damaged");
}

static void test_random_files(Fixture *f, gconstpointer unused)
{
  g_autoptr(GRand) rand = g_rand_new_with_seed(3);
  for (unsigned i = 0; i < 300; i++) {
    uint32_t image[2048];
    for (size_t w = 0; w < G_N_ELEMENTS(image); w++)
      image[w] = g_rand_int(rand);
    if (i % 3 == 0)
      fill_linux_header((uint8_t *)image);
    if (i % 3 == 1) {
      image[8] = 0x1badb002;
      image[9] = 0x10000 | (image[9] & 7);
      image[10] = 0u - image[8] - image[9];
    }
    if (i % 3 == 2) {
      Elf32_Ehdr h = { .e_machine = EM_386, .e_phentsize = sizeof(Elf32_Phdr), .e_phnum = 8, .e_phoff = 64 };
      memcpy(h.e_ident, ELFMAG "\1\1\1", 7);
      memcpy(image, &h, sizeof h);
      for (unsigned p = 0; p < 8; p++)
        image[16 + p * 8] = p % 2 ? PT_NOTE : PT_LOAD;
    }
    ((uint8_t *)image)[0x1f1] = (uint8_t)g_rand_int(rand);
    g_autofree char *path = write_file(f, "random", image, sizeof image);
    g_autoptr(GError) error = NULL;
    if (!direct_boot_add(f->cfg, RAM_BYTES, path, path, "x", &error))
      g_assert_nonnull(error);
  }
}

int main(int argc, char **argv)
{
  static const struct {
    const char *name;
    void (*run)(Fixture *f, gconstpointer unused);
  } tests[] = {
    { "/fw-cfg/ports", test_ports },
    { "/fw-cfg/directory", test_directory },
    { "/fw-cfg/dma", test_dma },
    { "/fw-cfg/hostile", test_hostile },
    { "/fw-cfg/state", test_state },
    { "/acpi/dsdt", test_dsdt },
    { "/smbios/structures", test_smbios },
    { "/boot/linux", test_linux },
    { "/boot/linux-refused", test_linux_refused },
    { "/boot/multiboot", test_multiboot },
    { "/boot/random-files", test_random_files },
  };
  g_test_init(&argc, &argv, NULL);
  for (size_t i = 0; i < G_N_ELEMENTS(tests); i++)
    g_test_add(tests[i].name, Fixture, NULL, set_up, tests[i].run, tear_down);
  return g_test_run();
}
