/*
 * What drives say of themselves: IDENTIFY DEVICE, IDENTIFY PACKET DEVICE (ATA/ATAPI-6, 8.15 and 8.16) and the SMART
 * pages.
 */
#include <string.h>

#include "hw/storage/ide-impl.h"

#define SMART_DATA 0xD0
#define MAX_LBA28  ((UINT64_C(1) << 28) - 1)

static void put_word(uint8_t *page, unsigned word, uint32_t value)
{
  page[word * 2] = (uint8_t)value;
  page[word * 2 + 1] = (uint8_t)(value >> 8);
}

static void put_long(uint8_t *page, unsigned word, uint32_t value)
{
  put_word(page, word, value & 0xFFFF);
  put_word(page, word + 1, value >> 16);
}

/* ATA strings are padded with blanks, and swapped within words. */
static void put_string(uint8_t *page, unsigned word, unsigned n_words, const char *text)
{
  size_t length = strlen(text);
  for (unsigned i = 0; i < n_words * 2; i++)
    page[word * 2 + (i ^ 1)] = i < length ? (uint8_t)text[i] : ' ';
}

static void put_names(const IdeDrive *drive, uint8_t *page, const char *model)
{
  char serial[21];
  g_snprintf(serial, sizeof(serial), "OR%05u", drive->number + 1);
  put_string(page, 10, 10, serial);
  put_string(page, 23, 4, "1.0");
  put_string(page, 27, 20, model);
}

/* Multiword DMA 0–2 and Ultra DMA 0–5 with the chosen one marked; PIO timings of mode 4. */
static void put_modes(const IdeDrive *drive, uint8_t *page)
{
  uint8_t mode = drive->transfer_mode;
  put_word(page, 53, 0x0007); /* words 54–58, 64–70, 88 are valid */
  put_word(page, 63, 0x0007u | ((mode & 0xF8) == 0x20 ? 0x0100u << (mode & 7) : 0));
  put_word(page, 64, 0x0003); /* PIO 3 and 4 */
  put_word(page, 65, 120);    /* ns */
  put_word(page, 66, 120);
  put_word(page, 67, 120);
  put_word(page, 68, 120);
  put_word(page, 88, 0x003Fu | ((mode & 0xF8) == 0x40 ? 0x0100u << (mode & 7) : 0));
  put_word(page, 93, 0x6000u | (drive->number & 1 ? 0x0B00u : 0x000Bu)); /* 80-wire cable, diagnostics passed */
}

/* The integrity word: a signature, and a sum that makes all bytes add up to 0. */
static void put_checksum(uint8_t *page)
{
  uint8_t sum = 0;
  page[510] = 0xA5;
  for (unsigned i = 0; i < 511; i++)
    sum = (uint8_t)(sum + page[i]);
  page[511] = (uint8_t)-sum;
}

static void put_geometry(const IdeDrive *drive, uint8_t *page)
{
  uint64_t chs = (uint64_t)drive->current_cylinders * drive->current_heads * drive->current_sectors;
  put_word(page, 1, drive->cylinders);
  put_word(page, 3, drive->heads);
  put_word(page, 6, drive->sectors);
  put_word(page, 54, drive->current_cylinders);
  put_word(page, 55, drive->current_heads);
  put_word(page, 56, drive->current_sectors);
  put_long(page, 57, (uint32_t)MIN(chs, UINT32_MAX));
  put_long(page, 60, (uint32_t)MIN(drive->n_sectors, MAX_LBA28));
  put_long(page, 100, (uint32_t)drive->n_sectors);
  put_long(page, 102, (uint32_t)(drive->n_sectors >> 32));
}

void ide_disk_identify(const IdeDrive *drive, uint8_t *page)
{
  memset(page, 0, IDE_SECTOR_BYTES);
  put_word(page, 0, 0x0040); /* fixed disk */
  put_names(drive, page, "ORIEL HARDDISK");
  put_geometry(drive, page);
  put_word(page, 47, 0x8000u | IDE_MAX_MULTIPLE);
  put_word(page, 48, 1);      /* 32-bit data port; reserved later */
  put_word(page, 49, 0x0F00); /* LBA, DMA, IORDY */
  put_word(page, 50, 0x4000);
  put_word(page, 51, 0x0200);
  put_word(page, 59, drive->multiple != 0 ? 0x0100u | drive->multiple : 0);
  put_modes(drive, page);
  put_word(page, 80, 0x007E); /* ATA-1 to ATA-6 */
  put_word(page, 82, 0x0069); /* SMART, power management, write cache, look-ahead */
  put_word(page, 83, 0x7400); /* FLUSH CACHE and its EXT, 48-bit addresses */
  put_word(page, 84, 0x4000);
  put_word(page, 85,
           0x0008u | (drive->smart ? 1u : 0) | (drive->write_cache ? 0x20u : 0) | (drive->look_ahead ? 0x40u : 0));
  put_word(page, 86, 0x3400);
  put_word(page, 87, 0x4000);
  put_checksum(page);
}

void ide_cd_identify(const IdeDrive *drive, uint8_t *page)
{
  memset(page, 0, IDE_SECTOR_BYTES);
  put_word(page, 0, 0x85C0); /* packet device, CD-ROM, removable, DRQ within 50 us, 12-byte packets */
  put_names(drive, page, "ORIEL DVD-ROM");
  put_word(page, 48, 1);
  put_word(page, 49, 0x0F00);
  put_word(page, 51, 0x0200);
  put_modes(drive, page);
  put_word(page, 71, 30); /* ns from PACKET to bus release: never released */
  put_word(page, 72, 30);
  put_word(page, 80, 0x007E);
  put_word(page, 81, 0x0019); /* ATA/ATAPI-6 T13 1410D revision 3a */
  put_word(page, 82, 0x0214); /* PACKET, DEVICE RESET, removable */
  put_word(page, 83, 0x4000);
  put_word(page, 84, 0x4000);
  put_word(page, 85, 0x0214);
  put_word(page, 87, 0x4000);
  put_checksum(page);
}

/* One attribute of a healthy disk; its threshold comes from the same row. */
typedef struct SmartRow {
  uint8_t id, flags, value, threshold;
} SmartRow;

static const SmartRow smart_rows[] = {
  { 1, 0x03, 100, 6 },   /* raw read error rate */
  { 3, 0x03, 100, 0 },   /* spin-up time */
  { 5, 0x03, 100, 36 },  /* reallocated sectors */
  { 9, 0x02, 100, 0 },   /* hours powered on */
  { 194, 0x02, 100, 0 }, /* temperature */
};

void ide_disk_smart_page(uint8_t feature, uint8_t *page)
{
  uint8_t sum = 0;
  memset(page, 0, IDE_SECTOR_BYTES);
  page[0] = 1; /* revision */
  for (unsigned i = 0; i < G_N_ELEMENTS(smart_rows); i++) {
    const SmartRow *row = &smart_rows[i];
    uint8_t *at = page + 2 + 12 * i;
    at[0] = row->id;
    at[1] = feature == SMART_DATA ? row->flags : row->threshold;
    if (feature == SMART_DATA)
      at[3] = at[4] = row->value;
  }
  if (feature == SMART_DATA) {
    page[362] = 0;    /* no offline collection has run */
    page[368] = 0x03; /* saves attributes by itself and before power saving */
    page[370] = 0;
  }
  for (unsigned i = 0; i < 511; i++)
    sum = (uint8_t)(sum + page[i]);
  page[511] = (uint8_t)-sum;
}
