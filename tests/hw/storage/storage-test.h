/* A manual machine with 1 MiB of RAM, the PIIX3's IDE function and images in memory: what the IDE tests share. */
#ifndef TESTS_HW_STORAGE_STORAGE_TEST_H
#define TESTS_HW_STORAGE_STORAGE_TEST_H

#include "hw/pci/pci.h"
#include "hw/storage/piix3-ide.h"
#include "tests/block/memory-image.h"
#include "tests/hw/device-test.h"

#define RAM_BYTES 0x100000u
#define BM_BASE   0xC000
#define PRD_GPA   0x1000u

/* Registers of the primary channel. */
enum {
  DATA = 0x1F0,
  ERROR = 0x1F1,
  FEATURE = 0x1F1,
  COUNT = 0x1F2,
  LBA_LOW = 0x1F3,
  LBA_MID = 0x1F4,
  LBA_HIGH = 0x1F5
};
enum { DEVICE = 0x1F6, STATUS = 0x1F7, COMMAND = 0x1F7, CONTROL = 0x3F6 };
enum { ST_ERR = 0x01, ST_DRQ = 0x08, ST_DF = 0x20, ST_DRDY = 0x40, ST_BSY = 0x80 };
enum { BM_ACTIVE = 1, BM_ERROR = 2, BM_INTERRUPT = 4, BM_START = 1, BM_TO_MEMORY = 8 };

typedef struct Machine {
  Vm *vm;
  PciBus *bus;
  Piix3Ide *ide;
  uint8_t devfn;
  TestLine irq14, irq15;
} Machine;

void machine_init(Machine *m);
void machine_clear(Machine *m);
/* Attaches `memory` to the primary channel's `unit`; the image is full of storage_pattern(). */
void machine_add_disk(Machine *m, unsigned unit, MemoryImage *memory, bool read_only);
IdeDrive *machine_add_cdrom(Machine *m, unsigned unit, MemoryImage *memory);
BlkImage *machine_open(Machine *m, MemoryImage *memory, const char *name, bool read_only);

uint8_t storage_pattern(uint64_t at);
void storage_fill(MemoryImage *memory);

static inline uint8_t in8(Machine *m, uint16_t port)
{
  return test_in8(m->vm, port);
}
static inline void out8(Machine *m, uint16_t port, uint8_t value)
{
  test_out8(m->vm, port, value);
}

/* Steps until BSY is down; the status, read at the alternate register. */
uint8_t wait_not_busy(Machine *m);
void select_lba(Machine *m, unsigned unit, uint32_t lba, uint8_t count);
void read_data(Machine *m, uint8_t *buffer, unsigned size);
void write_data(Machine *m, const uint8_t *buffer, unsigned size);
/* A table of one descriptor for each {address, size} pair; starts the bus master. */
void start_bus_master(Machine *m, const uint32_t *pairs, unsigned n, bool to_memory);

#endif
