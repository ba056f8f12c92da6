/*
 * The state tables' readers: save, load, describe, and the check that no field escapes a table.
 */
#include <inttypes.h>

#include "vm-engine/state.h"
#include "vm-engine/vm.h"

#define MAX_STRUCT_ALIGN 64

const uint8_t *vm_byte_reader_take(VmByteReader *reader, size_t size)
{
  if (size > reader->left)
    return NULL;
  const uint8_t *bytes = reader->bytes;
  reader->bytes += size;
  reader->left -= size;
  return bytes;
}

void vm_append_uint(GByteArray *out, uint64_t value, unsigned n_bytes)
{
  uint8_t bytes[8];
  for (unsigned i = 0; i < n_bytes; i++)
    bytes[i] = (uint8_t)(value >> (8 * i));
  g_byte_array_append(out, bytes, n_bytes);
}

uint64_t vm_get_uint(const uint8_t *bytes, unsigned n_bytes)
{
  uint64_t value = 0;
  for (unsigned i = 0; i < n_bytes; i++)
    value |= (uint64_t)bytes[i] << (8 * i);
  return value;
}

static uint64_t read_native(const void *at, size_t size)
{
  uint64_t value = 0;
  memcpy(&value, at, size); /* hosts are little-endian */
  return value;
}

static const void *element(const VmField *field, const void *base, size_t index)
{
  return (const uint8_t *)base + field->offset + index * field->size;
}

static void *element_mut(const VmField *field, void *base, size_t index)
{
  return (uint8_t *)base + field->offset + index * field->size;
}

static void *buffer_pointer(const VmField *field, const void *base)
{
  void *pointer;
  memcpy(&pointer, element(field, base, 0), sizeof(pointer));
  return pointer;
}

static size_t buffer_length(const VmField *field, const void *base)
{
  size_t length;
  memcpy(&length, (const uint8_t *)base + field->length_offset, sizeof(length));
  return buffer_pointer(field, base) != NULL ? length : 0;
}

/* ---- save ----------------------------------------------------------------------------------------------------------- */

static void save_payload(const VmField *field, const void *base, GByteArray *out)
{
  for (size_t i = 0; i < field->count; i++) {
    const void *at = element(field, base, i);
    switch (field->kind) {
    case VM_FIELD_UINT:
      vm_append_uint(out, read_native(at, field->size), (unsigned)field->size);
      break;
    case VM_FIELD_BYTES:
      g_byte_array_append(out, at, (guint)field->size);
      break;
    case VM_FIELD_TIMER:
      vm_append_uint(out, (uint64_t)vm_timer_get_deadline(at), 8);
      break;
    case VM_FIELD_STRUCT:
      vm_fields_save(field->sub, at, out);
      break;
    case VM_FIELD_BUFFER:
      if (buffer_length(field, base) > 0)
        g_byte_array_append(out, buffer_pointer(field, base), (guint)buffer_length(field, base));
      break;
    case VM_FIELD_TRANSIENT:
    case VM_FIELD_END:
      break;
    }
  }
}

void vm_fields_save(const VmField *fields, const void *base, GByteArray *out)
{
  for (const VmField *field = fields; field->kind != VM_FIELD_END; field++) {
    if (field->kind == VM_FIELD_TRANSIENT)
      continue;
    size_t name_length = strlen(field->name);
    g_assert(name_length < 256);
    vm_append_uint(out, name_length, 1);
    g_byte_array_append(out, (const uint8_t *)field->name, (guint)name_length);
    guint length_at = out->len;
    vm_append_uint(out, 0, 4);
    save_payload(field, base, out);
    uint32_t length = GUINT32_TO_LE(out->len - length_at - 4);
    memcpy(out->data + length_at, &length, 4);
  }
}

/* ---- load ----------------------------------------------------------------------------------------------------------- */

static bool refuse(GError **error, const char *owner, const char *name, const char *what)
{
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "the saved state of %s is damaged: %s in \"%s\"", owner, what, name);
  return false;
}

static bool decode_uint(const VmField *field, void *at, VmByteReader *payload, const char *owner, GError **error)
{
  const uint8_t *bytes = vm_byte_reader_take(payload, field->size);
  if (bytes == NULL)
    return refuse(error, owner, field->name, "too few bytes");
  uint64_t value = vm_get_uint(bytes, (unsigned)field->size);
  if (field->max != 0 && value > field->max)
    return refuse(error, owner, field->name, "a value out of range");
  memcpy(at, &value, field->size);
  return true;
}

static bool decode_timer(const VmField *field, VmTimer *timer, VmByteReader *payload, const char *owner, GError **error)
{
  const uint8_t *bytes = vm_byte_reader_take(payload, 8);
  if (bytes == NULL)
    return refuse(error, owner, field->name, "too few bytes");
  timer->deadline_ns = (int64_t)vm_get_uint(bytes, 8);
  return timer->deadline_ns >= -1 || refuse(error, owner, field->name, "a time out of range");
}

static bool decode_buffer(const VmField *field, const void *live, void *scratch, VmByteReader *payload,
                          const char *owner, GError **error)
{
  size_t length = buffer_length(field, live);
  if (payload->left != length)
    return refuse(error, owner, field->name, "a length that is not this machine's");
  const uint8_t *bytes = vm_byte_reader_take(payload, length);
  memcpy(element_mut(field, scratch, 0), &bytes, sizeof(bytes));
  return true;
}

static bool decode_element(const VmField *field, size_t index, const void *live, void *scratch, VmByteReader *payload,
                           const char *owner, GError **error)
{
  void *at = element_mut(field, scratch, index);
  const uint8_t *bytes;
  switch (field->kind) {
  case VM_FIELD_UINT:
    return decode_uint(field, at, payload, owner, error);
  case VM_FIELD_BYTES:
    bytes = vm_byte_reader_take(payload, field->size);
    if (bytes == NULL)
      return refuse(error, owner, field->name, "too few bytes");
    memcpy(at, bytes, field->size);
    return true;
  case VM_FIELD_TIMER:
    return decode_timer(field, at, payload, owner, error);
  case VM_FIELD_STRUCT:
    return vm_fields_decode(field->sub, element(field, live, index), at, payload, owner, error);
  case VM_FIELD_BUFFER:
    return decode_buffer(field, live, scratch, payload, owner, error);
  case VM_FIELD_TRANSIENT:
  case VM_FIELD_END:
    break;
  }
  return true;
}

/* The row's name and its payload's bounds. */
static bool open_row(const VmField *field, VmByteReader *reader, VmByteReader *payload, const char *owner,
                     GError **error)
{
  size_t name_length = strlen(field->name);
  const uint8_t *length = vm_byte_reader_take(reader, 1);
  const uint8_t *name = length != NULL ? vm_byte_reader_take(reader, *length) : NULL;
  const uint8_t *size = name != NULL ? vm_byte_reader_take(reader, 4) : NULL;
  if (size == NULL)
    return refuse(error, owner, field->name, "too few bytes");
  if (*length != name_length || memcmp(name, field->name, name_length) != 0)
    return refuse(error, owner, field->name, "another field stands");
  payload->left = (size_t)vm_get_uint(size, 4);
  payload->bytes = vm_byte_reader_take(reader, payload->left);
  return payload->bytes != NULL || refuse(error, owner, field->name, "too few bytes");
}

bool vm_fields_decode(const VmField *fields, const void *live, void *scratch, VmByteReader *reader, const char *owner,
                      GError **error)
{
  for (const VmField *field = fields; field->kind != VM_FIELD_END; field++) {
    if (field->kind == VM_FIELD_TRANSIENT)
      continue;
    VmByteReader payload;
    if (!open_row(field, reader, &payload, owner, error))
      return false;
    for (size_t i = 0; i < field->count; i++)
      if (!decode_element(field, i, live, scratch, &payload, owner, error))
        return false;
    if (payload.left != 0)
      return refuse(error, owner, field->name, "too many bytes");
  }
  /* The buffers were not made anew, so a saved length must not move away from them. */
  for (const VmField *field = fields; field->kind != VM_FIELD_END; field++)
    if (field->kind == VM_FIELD_BUFFER && buffer_pointer(field, live) != NULL &&
        memcmp((const uint8_t *)scratch + field->length_offset, (const uint8_t *)live + field->length_offset,
               sizeof(size_t)) != 0)
      return refuse(error, owner, field->name, "a length that is not this machine's");
  return true;
}

static void commit_timer(const VmTimer *scratch, VmTimer *live)
{
  if (live->ctx == NULL)
    live->deadline_ns = -1; /* never initialised: the device does not use it in this configuration */
  else if (scratch->deadline_ns < 0)
    vm_timer_cancel(live);
  else
    vm_timer_set(live, scratch->deadline_ns);
}

void vm_fields_commit(const VmField *fields, const void *scratch, void *live)
{
  for (const VmField *field = fields; field->kind != VM_FIELD_END; field++) {
    for (size_t i = 0; i < field->count; i++) {
      const void *from = element(field, scratch, i);
      void *to = element_mut(field, live, i);
      if (field->kind == VM_FIELD_UINT || field->kind == VM_FIELD_BYTES)
        memcpy(to, from, field->size);
      else if (field->kind == VM_FIELD_TIMER)
        commit_timer(from, to);
      else if (field->kind == VM_FIELD_STRUCT)
        vm_fields_commit(field->sub, from, to);
      else if (field->kind == VM_FIELD_BUFFER && buffer_length(field, live) > 0)
        memcpy(buffer_pointer(field, live), buffer_pointer(field, scratch), buffer_length(field, live));
    }
  }
}

/* ---- describe -------------------------------------------------------------------------------------------------------- */

static void describe_bytes(const uint8_t *bytes, size_t size, GString *text)
{
  const size_t shown = 64;
  for (size_t i = 0; i < MIN(size, shown); i++)
    g_string_append_printf(text, "%s%02x", i > 0 ? " " : "", bytes[i]);
  if (size > shown)
    g_string_append_printf(text, " … (%zu bytes)", size);
}

static void describe_element(const VmField *field, const void *base, size_t index, const char *name, GString *text)
{
  const void *at = element(field, base, index);
  if (field->kind == VM_FIELD_STRUCT) {
    vm_fields_describe(field->sub, at, name, text);
    return;
  }
  g_string_append_printf(text, "%s = ", name);
  if (field->kind == VM_FIELD_UINT)
    g_string_append_printf(text, "0x%" PRIx64, read_native(at, field->size));
  else if (field->kind == VM_FIELD_TIMER)
    g_string_append_printf(text, "%" PRId64 " ns", vm_timer_get_deadline(at));
  else if (field->kind == VM_FIELD_BUFFER)
    describe_bytes(buffer_pointer(field, base), buffer_length(field, base), text);
  else
    describe_bytes(at, field->size, text);
  g_string_append_c(text, '\n');
}

void vm_fields_describe(const VmField *fields, const void *base, const char *prefix, GString *text)
{
  for (const VmField *field = fields; field->kind != VM_FIELD_END; field++) {
    if (field->kind == VM_FIELD_TRANSIENT)
      continue;
    for (size_t i = 0; i < field->count; i++) {
      g_autofree char *indexed = field->count > 1 ? g_strdup_printf("%s[%zu]", field->name, i) : g_strdup(field->name);
      g_autofree char *name = prefix[0] != '\0' ? g_strconcat(prefix, ".", indexed, NULL) : g_strdup(indexed);
      describe_element(field, base, i, name, text);
    }
  }
}

/* ---- the completeness check ----------------------------------------------------------------------------------------- */

static bool bad_table(GError **error, const char *owner, const char *format, ...) G_GNUC_PRINTF(3, 4);
static bool bad_table(GError **error, const char *owner, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  g_autofree char *text = g_strdup_vprintf(format, args);
  va_end(args);
  g_set_error(error, VM_ERROR, VM_ERROR_FAILED, "state table of %s: %s", owner, text);
  return false;
}

/* Rows written without the macros do not know their alignment: take what a scalar of that size has. */
static size_t field_align(const VmField *field)
{
  if (field->align != 0)
    return field->align;
  return MIN(field->size & -field->size, 8);
}

static bool check_row(const VmField *field, const char *owner, GError **error)
{
  if (field->name == NULL || field->size == 0 || field->count == 0)
    return bad_table(error, owner, "a row without name, size or count");
  if (field->kind == VM_FIELD_UINT && field->size != 1 && field->size != 2 && field->size != 4 && field->size != 8)
    return bad_table(error, owner, "\"%s\" is no integer: it has %zu bytes", field->name, field->size);
  if (field->kind == VM_FIELD_TIMER && field->size != sizeof(VmTimer))
    return bad_table(error, owner, "\"%s\" is no timer", field->name);
  if (field->kind == VM_FIELD_TRANSIENT && (field->reason == NULL || field->reason[0] == '\0'))
    return bad_table(error, owner, "\"%s\" is not saved and no reason is given", field->name);
  if (field->kind != VM_FIELD_STRUCT)
    return true;
  if (field->sub == NULL)
    return bad_table(error, owner, "\"%s\" has no table of its own", field->name);
  g_autofree char *inner = g_strconcat(owner, ".", field->name, NULL);
  return vm_fields_check(field->sub, inner, 0, field->size, error);
}

bool vm_fields_check(const VmField *fields, const char *owner, size_t start, size_t size, GError **error)
{
  size_t at = start, widest = 1;
  const char *last = "the base";
  for (const VmField *field = fields; field->kind != VM_FIELD_END; field++) {
    if (!check_row(field, owner, error))
      return false;
    if (field->offset < at)
      return bad_table(error, owner, "\"%s\" overlaps \"%s\" or is out of order", field->name, last);
    size_t align = field_align(field);
    if (((at + align - 1) & ~(align - 1)) != field->offset)
      return bad_table(error, owner, "bytes %zu to %zu, after \"%s\", stand in no row", at, field->offset - 1, last);
    at = field->offset + field->size * field->count;
    widest = MAX(widest, align);
    last = field->name;
  }
  size_t align = MIN(widest, MAX_STRUCT_ALIGN);
  align = start > 0 ? MAX(align, _Alignof(VmDevice)) : align;
  if (at > size || ((at + align - 1) & ~(align - 1)) < size)
    return bad_table(error, owner, "the rows end at byte %zu after \"%s\", the struct at %zu", at, last, size);
  return true;
}
