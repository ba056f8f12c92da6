/*
 * The firmware configuration device.
 *
 * Source: QEMU's published specification of the interface ("fw_cfg", docs/specs). A 16-bit selector picks an item; bytes
 * then come one by one from the data port, or in bulk by DMA: the guest writes the big-endian address of a descriptor
 * {control, length, address} whose result bits the device writes back. Items are read-only here; a write is an error
 * that the guest sees in its descriptor.
 *
 * Why items are GBytes: a kernel and an initrd are mapped files of many megabytes, which the guest copies once.
 */
#include "hw/firmware/fw-cfg.h"

#include "vm-engine/device.h"
#include "vm-engine/memory.h"
#include "vm-engine/vm.h"

#define FW_CFG_PORT       0x510
#define FW_CFG_DMA_PORT   0x514
#define FW_CFG_FILE_SLOTS 0x40
#define FW_CFG_NAME_BYTES 56
#define FW_CFG_ARCH_SLOTS 0x20
#define FW_CFG_N_ITEMS    (FW_CFG_FILE_FIRST + FW_CFG_FILE_SLOTS)

enum { FW_CFG_DMA_ERROR = 1, FW_CFG_DMA_READ = 2, FW_CFG_DMA_SKIP = 4, FW_CFG_DMA_SELECT = 8, FW_CFG_DMA_WRITE = 16 };

struct FwCfg {
  VmDevice dev;
  uint16_t selected;
  uint64_t position;
  uint64_t dma_address;
  GBytes *items[FW_CFG_N_ITEMS];
  GBytes *arch_items[FW_CFG_ARCH_SLOTS];
  GTree *files; /* name → GBytes, sorted */
  VmRegion *ports, *dma_ports;
};

static const VmField fw_cfg_fields[] = {
  VM_UINT(FwCfg, selected),
  VM_UINT(FwCfg, position),
  VM_UINT(FwCfg, dma_address),
  VM_TRANSIENT(FwCfg, items, "made by the board"),
  VM_TRANSIENT(FwCfg, arch_items, "made by the board"),
  VM_TRANSIENT(FwCfg, files, "made by the board"),
  VM_TRANSIENT(FwCfg, ports, "wiring"),
  VM_TRANSIENT(FwCfg, dma_ports, "wiring"),
  VM_FIELDS_END,
};

/* Where the item for `key` is kept, or NULL for a key that cannot exist. Bit 14 asks for writing and is ignored. */
static GBytes **find_item(FwCfg *cfg, uint16_t key)
{
  uint16_t index = key & 0x3fff;
  if (key & FW_CFG_ARCH_LOCAL)
    return index < FW_CFG_ARCH_SLOTS ? &cfg->arch_items[index] : NULL;
  return index < FW_CFG_N_ITEMS ? &cfg->items[index] : NULL;
}

/* The bytes of the selected item from the current position on; NULL and 0 past its end. */
static const uint8_t *remaining(FwCfg *cfg, uint64_t *n_bytes)
{
  GBytes **item = find_item(cfg, cfg->selected);
  size_t size = 0;
  const uint8_t *bytes = item && *item ? g_bytes_get_data(*item, &size) : NULL;
  if (cfg->position >= size) {
    *n_bytes = 0;
    return NULL;
  }
  *n_bytes = size - cfg->position;
  return bytes + cfg->position;
}

static void select_item(FwCfg *cfg, uint16_t key)
{
  cfg->selected = key;
  cfg->position = 0;
}

/* Copies `length` bytes of the item to guest memory; past the item's end come zeroes. */
static bool dma_read(FwCfg *cfg, VmGpa address, uint32_t length)
{
  VmMemory *memory = vm_get_memory(cfg->dev.vm);
  uint64_t available;
  const uint8_t *bytes = remaining(cfg, &available);
  uint64_t n = MIN(available, length);
  if (n > 0 && !vm_memory_write(memory, address, bytes, n))
    return false;
  cfg->position += n;
  return n == length || vm_memory_fill(memory, address + n, 0, length - n);
}

static void skip(FwCfg *cfg, uint32_t length)
{
  uint64_t available;
  remaining(cfg, &available);
  cfg->position += MIN(available, length);
}

/* One descriptor: copied once, carried out, its control word written back as the result. */
static void run_dma(FwCfg *cfg, VmGpa descriptor)
{
  VmMemory *memory = vm_get_memory(cfg->dev.vm);
  struct {
    uint32_t control, length;
    uint64_t address;
  } d;
  if (!vm_memory_read(memory, descriptor, &d, sizeof d)) {
    vm_device_log(&cfg->dev, "DMA descriptor at 0x%" G_GINT64_MODIFIER "x is not in RAM", descriptor);
    return;
  }
  uint32_t control = GUINT32_FROM_BE(d.control);
  bool ok = true;
  if (control & FW_CFG_DMA_SELECT)
    select_item(cfg, (uint16_t)(control >> 16));
  if (control & FW_CFG_DMA_READ)
    ok = dma_read(cfg, GUINT64_FROM_BE(d.address), GUINT32_FROM_BE(d.length));
  else if (control & FW_CFG_DMA_WRITE)
    ok = false;
  else if (control & FW_CFG_DMA_SKIP)
    skip(cfg, GUINT32_FROM_BE(d.length));
  uint32_t result = GUINT32_TO_BE(ok ? 0 : FW_CFG_DMA_ERROR);
  if (!vm_memory_write(memory, descriptor, &result, sizeof result))
    vm_device_log(&cfg->dev, "DMA descriptor cannot be written");
}

static uint64_t fw_cfg_read(void *opaque, uint64_t offset, unsigned size)
{
  FwCfg *cfg = opaque;
  uint64_t available;
  if (offset == 0)
    return 0;
  const uint8_t *bytes = remaining(cfg, &available);
  if (available == 0)
    return 0;
  cfg->position++;
  return bytes[0];
}

static void fw_cfg_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  if (offset == 0 && size == 2)
    select_item(opaque, (uint16_t)value);
}

/* The address register is big-endian and reads as "QEMU CFG". */
static uint64_t dma_port_read(void *opaque, uint64_t offset, unsigned size)
{
  static const uint8_t signature[8] = "QEMU CFG";
  uint64_t value = 0;
  for (unsigned i = 0; i < size && offset + i < sizeof signature; i++)
    value |= (uint64_t)signature[offset + i] << (8 * i);
  return value;
}

static void dma_port_write(void *opaque, uint64_t offset, uint64_t value, unsigned size)
{
  FwCfg *cfg = opaque;
  if (size != 4)
    return;
  uint32_t half = GUINT32_SWAP_LE_BE((uint32_t)value);
  if (offset == 0) {
    cfg->dma_address = (uint64_t)half << 32;
  } else if (offset == 4) {
    VmGpa descriptor = cfg->dma_address | half;
    cfg->dma_address = 0;
    run_dma(cfg, descriptor);
  }
}

static const VmMmioOps fw_cfg_ops = { fw_cfg_read, fw_cfg_write, 1, 2, false };
static const VmMmioOps fw_cfg_dma_ops = { dma_port_read, dma_port_write, 1, 4, false };

static void fw_cfg_reset(VmDevice *dev)
{
  FwCfg *cfg = (FwCfg *)dev;
  select_item(cfg, 0);
  cfg->dma_address = 0;
}

static void fw_cfg_finish(VmDevice *dev)
{
  FwCfg *cfg = (FwCfg *)dev;
  for (unsigned i = 0; i < G_N_ELEMENTS(cfg->items); i++)
    g_clear_pointer(&cfg->items[i], g_bytes_unref);
  for (unsigned i = 0; i < G_N_ELEMENTS(cfg->arch_items); i++)
    g_clear_pointer(&cfg->arch_items[i], g_bytes_unref);
  g_clear_pointer(&cfg->files, g_tree_destroy);
}

static const VmDeviceType fw_cfg_type = {
  .name = "fw-cfg",
  .version = 1,
  .size = sizeof(FwCfg),
  .fields = fw_cfg_fields,
  .reset = fw_cfg_reset,
  .finish = fw_cfg_finish,
};

const VmDeviceType *fw_cfg_get_type(void)
{
  return &fw_cfg_type;
}

void fw_cfg_add(FwCfg *cfg, uint16_t key, GBytes *bytes)
{
  GBytes **item = find_item(cfg, key);
  g_assert(item != NULL);
  g_bytes_ref(bytes);
  g_clear_pointer(item, g_bytes_unref);
  *item = bytes;
}

static void add_copy(FwCfg *cfg, uint16_t key, const void *data, size_t size)
{
  g_autoptr(GBytes) bytes = g_bytes_new(data, size);
  fw_cfg_add(cfg, key, bytes);
}

void fw_cfg_add_u16(FwCfg *cfg, uint16_t key, uint16_t value)
{
  uint16_t le = GUINT16_TO_LE(value);
  add_copy(cfg, key, &le, sizeof le);
}

void fw_cfg_add_u32(FwCfg *cfg, uint16_t key, uint32_t value)
{
  uint32_t le = GUINT32_TO_LE(value);
  add_copy(cfg, key, &le, sizeof le);
}

void fw_cfg_add_u64(FwCfg *cfg, uint16_t key, uint64_t value)
{
  uint64_t le = GUINT64_TO_LE(value);
  add_copy(cfg, key, &le, sizeof le);
}

/* The directory: a big-endian count, then {size, key, reserved, name[56]} for each file. */
typedef struct Directory {
  GByteArray *bytes;
  FwCfg *cfg;
  uint16_t next_key;
} Directory;

static gboolean add_directory_entry(gpointer name, gpointer item, gpointer data)
{
  Directory *directory = data;
  struct {
    uint32_t size;
    uint16_t key, reserved;
    char name[FW_CFG_NAME_BYTES];
  } entry = { 0 };
  entry.size = GUINT32_TO_BE((uint32_t)g_bytes_get_size(item));
  entry.key = GUINT16_TO_BE(directory->next_key);
  g_strlcpy(entry.name, name, sizeof entry.name);
  g_byte_array_append(directory->bytes, (const guint8 *)&entry, sizeof entry);
  fw_cfg_add(directory->cfg, directory->next_key++, item);
  return FALSE;
}

void fw_cfg_add_file(FwCfg *cfg, const char *name, GBytes *bytes)
{
  g_assert(strlen(name) < FW_CFG_NAME_BYTES);
  g_tree_replace(cfg->files, g_strdup(name), g_bytes_ref(bytes));
  g_assert(g_tree_nnodes(cfg->files) <= FW_CFG_FILE_SLOTS);

  Directory directory = { g_byte_array_new(), cfg, FW_CFG_FILE_FIRST };
  uint32_t count = GUINT32_TO_BE((uint32_t)g_tree_nnodes(cfg->files));
  g_byte_array_append(directory.bytes, (const guint8 *)&count, sizeof count);
  g_tree_foreach(cfg->files, add_directory_entry, &directory);
  g_autoptr(GBytes) listing = g_byte_array_free_to_bytes(directory.bytes);
  fw_cfg_add(cfg, FW_CFG_FILE_DIR, listing);
}

static int compare_names(gconstpointer a, gconstpointer b, gpointer unused)
{
  return strcmp(a, b);
}

FwCfg *fw_cfg_new(Vm *vm)
{
  FwCfg *cfg = vm_device_new(vm, &fw_cfg_type, "fw-cfg");
  cfg->files = g_tree_new_full(compare_names, NULL, g_free, (GDestroyNotify)g_bytes_unref);
  cfg->ports =
      vm_region_new_io(vm_get_memory(vm), "fw-cfg", VM_SPACE_PORTS, FW_CFG_PORT, 2, 0, &fw_cfg_ops, cfg, cfg->dev.ctx);
  cfg->dma_ports = vm_region_new_io(vm_get_memory(vm), "fw-cfg-dma", VM_SPACE_PORTS, FW_CFG_DMA_PORT, 8, 0,
                                    &fw_cfg_dma_ops, cfg, cfg->dev.ctx);
  add_copy(cfg, FW_CFG_SIGNATURE, "QEMU", 4);
  fw_cfg_add_u32(cfg, FW_CFG_ID, 1 | 2); /* the traditional interface and DMA */
  return cfg;
}
