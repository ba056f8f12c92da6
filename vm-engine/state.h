/*
 * The state tables at work, for devices (device.c), CPUs (save.c) and whatever else is described by VmField rows.
 *
 * A saved struct is the sequence of its saved rows: one byte of name length, the name, four bytes of payload length,
 * the payload (little-endian). A load wants exactly the same rows in the same order; what may differ between versions
 * of a device is its type's version number.
 */
#ifndef VM_STATE_H
#define VM_STATE_H

#include "vm-engine/device.h"

typedef struct VmByteReader {
  const uint8_t *bytes;
  size_t left;
} VmByteReader;

/* The next `size` bytes, or NULL if fewer are left. */
const uint8_t *vm_byte_reader_take(VmByteReader *reader, size_t size);

void vm_append_uint(GByteArray *out, uint64_t value, unsigned n_bytes);
uint64_t vm_get_uint(const uint8_t *bytes, unsigned n_bytes);

/* Appends the saved rows of the struct at `base`. */
void vm_fields_save(const VmField *fields, const void *base, GByteArray *out);

/* Reads rows into `scratch`, a copy of the struct at `live`; `owner` names it in errors. A buffer's pointer in
 * `scratch` then points into the stream, a timer there holds its deadline and nothing else of worth. */
bool vm_fields_decode(const VmField *fields, const void *live, void *scratch, VmByteReader *reader, const char *owner,
                      GError **error) G_GNUC_WARN_UNUSED_RESULT;
/* Copies the saved rows from `scratch` to `live`. */
void vm_fields_commit(const VmField *fields, const void *scratch, void *live);

/* Appends "prefix.name = value" lines. */
void vm_fields_describe(const VmField *fields, const void *base, const char *prefix, GString *text);

/* Does every byte of [start, size) but padding stand in exactly one row? */
bool vm_fields_check(const VmField *fields, const char *owner, size_t start, size_t size,
                     GError **error) G_GNUC_WARN_UNUSED_RESULT;

#endif
