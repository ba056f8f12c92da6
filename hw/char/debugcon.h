/*
 * The firmware's debug console: one port; each byte written is a byte of text, and a read tells that it is there.
 */
#ifndef HW_CHAR_DEBUGCON_H
#define HW_CHAR_DEBUGCON_H

#include <stdint.h>

#include "vm-engine/device.h"

typedef struct VmChardev VmChardev;

extern const VmDeviceType debugcon_type; /* for the tests */

#define DEBUGCON_DEFAULT_PORT 0x402

/* Called for each byte, lock held. */
typedef void (*DebugconSink)(void *opaque, uint8_t byte);

/* `chardev` takes the bytes and is from then on owned by the device; NULL: none. At set-up; the machine owns the
 * device. */
VmDevice *debugcon_new(Vm *vm, const char *id, uint16_t port, VmChardev *chardev);
/* Hears the bytes as well (tests, start-up timing). NULL: nobody. */
void debugcon_set_sink(VmDevice *dev, DebugconSink sink, void *opaque);

#endif
