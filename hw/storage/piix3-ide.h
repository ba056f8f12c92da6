/*
 * The IDE function of the PIIX3 (8086:7010): two channels at their legacy ports, with bus-master DMA.
 */
#ifndef HW_STORAGE_PIIX3_IDE_H
#define HW_STORAGE_PIIX3_IDE_H

#include <glib.h>

#include "hw/pci/pci.h"
#include "hw/storage/ide.h"

typedef struct Piix3Ide Piix3Ide;

#define PIIX3_IDE_N_CHANNELS 2
#define PIIX3_IDE_N_UNITS    2

/* Device id "ide"; ports 1F0–1F7, 3F6 and 170–177, 376, bus-master registers in BAR 4. `devfn` is function 1 of the
 * PIIX3's slot. The wires are copied: IRQ 14 and IRQ 15. The machine owns it. */
Piix3Ide *piix3_ide_new(PciBus *bus, uint8_t devfn, const VmIrq *primary, const VmIrq *secondary);

/* Puts a disk, or a CD-ROM drive (`image` NULL: empty), at `channel` (0, 1) and `unit` (0 master, 1 slave), before the
 * machine first runs. The image was opened with the main I/O context's GMainContext; it is taken over, unless the call
 * fails: the place is taken, or the image is too small or too large. Returns a borrowed drive. */
IdeDrive *piix3_ide_attach_disk(Piix3Ide *ide, unsigned channel, unsigned unit, BlkImage *image, GError **error);
IdeDrive *piix3_ide_attach_cdrom(Piix3Ide *ide, unsigned channel, unsigned unit, BlkImage *image, GError **error);

/* NULL where nothing is attached. */
IdeDrive *piix3_ide_get_drive(Piix3Ide *ide, unsigned channel, unsigned unit);

#endif
