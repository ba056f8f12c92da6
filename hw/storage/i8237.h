/*
 * The PC's two 8237A DMA controllers with their page registers: channels 0–3 move bytes, 5–7 move words, 4 cascades.
 *
 * A device on a channel raises its request line and then moves as much as the channel gives; the guest's programming
 * (address, count, mode, mask) decides where to and how much. All calls with the main I/O context's lock held.
 */
#ifndef HW_STORAGE_I8237_H
#define HW_STORAGE_I8237_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Vm Vm;
typedef struct I8237 I8237;

#define I8237_N_CHANNELS 8

/* Device id "dma"; ports 00–0F, 81–8F (pages; port 80 is left to whoever wants the POST code) and C0–DF. The machine
 * owns it. */
I8237 *i8237_new(Vm *vm);

/* Called when the guest has made a requesting channel able to move data (unmasked it, enabled its controller).
 * It may come from within a port write, so it must only schedule work. */
typedef void (*I8237ReadyFunc)(void *opaque);
/* Puts a device on `channel` (0–3, 5–7). At set-up. */
void i8237_connect(I8237 *dma, unsigned channel, I8237ReadyFunc ready, void *opaque);

/* The request line DREQ; shows in the status register. */
void i8237_set_request(I8237 *dma, unsigned channel, bool level);

typedef enum I8237Kind {
  I8237_NONE,      /* masked, disabled or cascade: nothing can be moved now */
  I8237_TO_MEMORY, /* the guest expects the device to give data */
  I8237_FROM_MEMORY,
  I8237_VERIFY /* moves no data, but counts */
} I8237Kind;
I8237Kind i8237_get_kind(const I8237 *dma, unsigned channel);

/* Moves up to `size` bytes (of a word channel: whole words) between the device and guest memory as the channel's mode
 * says: TO_MEMORY takes them from `from_device`, FROM_MEMORY fills `to_device`, and where the buffer of that direction is
 * NULL nothing moves. Returns the bytes moved, 0 where the channel cannot move now. `terminal_count` tells that the count
 * ran out within this call. Addresses that are no RAM read as ones and swallow writes, as an ISA bus does. */
size_t i8237_transfer(I8237 *dma, unsigned channel, const uint8_t *from_device, uint8_t *to_device, size_t size,
                      bool *terminal_count);

#endif
