/*
 * Changing the medium of an ATAPI CD-ROM drive while the machine runs. The drive itself is made by its controller
 * (piix3_ide_attach_cdrom).
 *
 * All calls with the main I/O context's lock held, or at set-up.
 */
#ifndef HW_STORAGE_ATAPI_H
#define HW_STORAGE_ATAPI_H

#include <stdbool.h>
#include <glib.h>

#include "hw/storage/ide.h"

/* Puts `image` in (opened read-only with the main I/O context's GMainContext) and closes the tray; the guest sees a
 * changed medium. Takes the image over, unless it fails: while the guest has locked the tray with a medium inside
 * (`force` overrides), or where the image is smaller than a CD sector. A former medium is closed. */
bool atapi_insert(IdeDrive *drive, BlkImage *image, bool force, GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Opens the tray and closes the medium. Fails while the guest holds the tray locked, unless `force`; the guest is told
 * of the wish in either case. */
bool atapi_eject(IdeDrive *drive, bool force, GError **error) G_GNUC_WARN_UNUSED_RESULT;

bool atapi_is_locked(const IdeDrive *drive);
bool atapi_is_tray_open(const IdeDrive *drive);

#endif
