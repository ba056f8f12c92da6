/*
 * The AML writer. See aml.h.
 *
 * A package length counts its own bytes and grows from one to four of them; so an open term keeps only its start, and
 * the length is inserted when it is closed.
 */
#include "hw/firmware/aml.h"

#define MAX_DEPTH 16

struct Aml {
  GByteArray *out;
  guint starts[MAX_DEPTH]; /* where the length of each open term goes */
  unsigned depth;
};

Aml *aml_new(void)
{
  Aml *aml = g_new0(Aml, 1);
  aml->out = g_byte_array_new();
  return aml;
}

GByteArray *aml_finish(Aml *aml)
{
  g_assert(aml->depth == 0);
  GByteArray *out = aml->out;
  g_free(aml);
  return out;
}

static void put(Aml *aml, uint8_t byte)
{
  g_byte_array_append(aml->out, &byte, 1);
}

static void put_bytes(GByteArray *out, uint64_t value, unsigned n)
{
  for (unsigned i = 0; i < n; i++) {
    uint8_t byte = (uint8_t)(value >> (8 * i));
    g_byte_array_append(out, &byte, 1);
  }
}

static void open_term(Aml *aml)
{
  g_assert(aml->depth < MAX_DEPTH);
  aml->starts[aml->depth++] = aml->out->len;
}

/* PkgLength, 20.2.4: `content` bytes follow it. */
static unsigned encode_length(uint8_t encoded[4], guint content)
{
  if (content + 1 < 0x40) {
    encoded[0] = (uint8_t)(content + 1);
    return 1;
  }
  unsigned n = content + 2 < 0x1000 ? 2 : content + 3 < 0x100000 ? 3 : 4;
  guint total = content + n;
  encoded[0] = (uint8_t)((n - 1) << 6 | (total & 0xf));
  for (unsigned i = 1; i < n; i++)
    encoded[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
  return n;
}

void aml_end(Aml *aml)
{
  g_assert(aml->depth > 0);
  guint start = aml->starts[--aml->depth];
  uint8_t encoded[4];
  guint content = aml->out->len - start;
  unsigned n = encode_length(encoded, content);
  g_byte_array_set_size(aml->out, aml->out->len + n);
  memmove(aml->out->data + start + n, aml->out->data + start, content);
  memcpy(aml->out->data + start, encoded, n);
}

/* One name segment, padded with underscores. */
static void put_segment(Aml *aml, const char *text, size_t n)
{
  for (size_t i = 0; i < 4; i++)
    put(aml, i < n ? (uint8_t)text[i] : '_');
}

void aml_path(Aml *aml, const char *path)
{
  if (*path == '\\') {
    put(aml, '\\');
    path++;
  }
  g_auto(GStrv) segments = g_strsplit(path, ".", -1);
  guint n = g_strv_length(segments);
  if (n == 0 || *path == '\0') {
    put(aml, 0);
    return;
  }
  if (n == 2)
    put(aml, 0x2e);
  if (n > 2) {
    put(aml, 0x2f);
    put(aml, (uint8_t)n);
  }
  for (guint i = 0; i < n; i++)
    put_segment(aml, segments[i], strlen(segments[i]));
}

void aml_scope(Aml *aml, const char *path)
{
  put(aml, 0x10);
  open_term(aml);
  aml_path(aml, path);
}

void aml_device(Aml *aml, const char *name)
{
  put(aml, 0x5b);
  put(aml, 0x82);
  open_term(aml);
  aml_path(aml, name);
}

void aml_processor(Aml *aml, const char *name, uint8_t id)
{
  put(aml, 0x5b);
  put(aml, 0x83);
  open_term(aml);
  aml_path(aml, name);
  put(aml, id);
  put_bytes(aml->out, 0, 5); /* no P_BLK */
}

void aml_method(Aml *aml, const char *name, unsigned n_args, bool serialized)
{
  put(aml, 0x14);
  open_term(aml);
  aml_path(aml, name);
  put(aml, (uint8_t)(n_args | (serialized ? 8 : 0)));
}

void aml_package(Aml *aml, unsigned n_elements)
{
  g_assert(n_elements < 256);
  put(aml, 0x12);
  open_term(aml);
  put(aml, (uint8_t)n_elements);
}

void aml_if(Aml *aml)
{
  put(aml, 0xa0);
  open_term(aml);
}

void aml_else(Aml *aml)
{
  put(aml, 0xa1);
  open_term(aml);
}

void aml_name(Aml *aml, const char *name)
{
  put(aml, 0x08);
  aml_path(aml, name);
}

void aml_integer(Aml *aml, uint64_t value)
{
  if (value <= 1) {
    put(aml, (uint8_t)value);
    return;
  }
  unsigned n = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
  put(aml, n == 1 ? 0x0a : n == 2 ? 0x0b : n == 4 ? 0x0c : 0x0e);
  put_bytes(aml->out, value, n);
}

void aml_string(Aml *aml, const char *text)
{
  put(aml, 0x0d);
  g_byte_array_append(aml->out, (const guint8 *)text, (guint)strlen(text) + 1);
}

/* Three letters of five bits, four hexadecimal digits, big-endian (6.1.5). */
void aml_eisa_id(Aml *aml, const char *id)
{
  uint32_t value = (uint32_t)(id[0] - '@') << 26 | (uint32_t)(id[1] - '@') << 21 | (uint32_t)(id[2] - '@') << 16 |
                   (uint32_t)g_ascii_strtoull(id + 3, NULL, 16);
  put(aml, 0x0c);
  put_bytes(aml->out, GUINT32_SWAP_LE_BE(value), 4);
}

void aml_buffer(Aml *aml, const uint8_t *bytes, size_t size)
{
  put(aml, 0x11);
  open_term(aml);
  aml_integer(aml, size);
  g_byte_array_append(aml->out, bytes, (guint)size);
  aml_end(aml);
}

void aml_pci_config_bytes(Aml *aml, const char *region, uint8_t offset, const char *const *fields, unsigned n_fields)
{
  put(aml, 0x5b);
  put(aml, 0x80); /* OperationRegion(region, PCI_Config, offset, n) */
  aml_path(aml, region);
  put(aml, 0x02);
  aml_integer(aml, offset);
  aml_integer(aml, n_fields);
  put(aml, 0x5b);
  put(aml, 0x81); /* Field(region, ByteAcc, NoLock, Preserve) */
  open_term(aml);
  aml_path(aml, region);
  put(aml, 0x01);
  for (unsigned i = 0; i < n_fields; i++) {
    put_segment(aml, fields[i], strlen(fields[i]));
    put(aml, 8);
  }
  aml_end(aml);
}

void aml_op(Aml *aml, uint8_t opcode)
{
  put(aml, opcode);
}

/* ---- resources ------------------------------------------------------------------------------------------------------ */

void aml_res_io(GByteArray *res, uint16_t base, uint8_t length)
{
  put_bytes(res, 0x47, 1);
  put_bytes(res, 1, 1); /* 16-bit decode */
  put_bytes(res, base, 2);
  put_bytes(res, base, 2);
  put_bytes(res, 1, 1);
  put_bytes(res, length, 1);
}

void aml_res_irq(GByteArray *res, uint16_t mask)
{
  put_bytes(res, 0x22, 1);
  put_bytes(res, mask, 2);
}

void aml_res_dma(GByteArray *res, uint8_t mask)
{
  put_bytes(res, 0x2a, 1);
  put_bytes(res, mask, 1);
  put_bytes(res, 0, 1);
}

void aml_res_interrupts(GByteArray *res, bool shared_level, const uint32_t *lines, unsigned n_lines)
{
  put_bytes(res, 0x89, 1);
  put_bytes(res, 2 + 4 * n_lines, 2);
  put_bytes(res, shared_level ? 0x09 : 0x03, 1); /* consumer; level, active high, shared | edge */
  put_bytes(res, n_lines, 1);
  for (unsigned i = 0; i < n_lines; i++)
    put_bytes(res, lines[i], 4);
}

void aml_res_memory32(GByteArray *res, uint32_t base, uint32_t length, bool writable)
{
  put_bytes(res, 0x86, 1);
  put_bytes(res, 9, 2);
  put_bytes(res, writable, 1);
  put_bytes(res, base, 4);
  put_bytes(res, length, 4);
}

void aml_res_word_bus(GByteArray *res, uint16_t first, uint16_t last)
{
  put_bytes(res, 0x88, 1);
  put_bytes(res, 13, 2);
  put_bytes(res, 2, 1);    /* bus numbers */
  put_bytes(res, 0x0c, 1); /* producer, fixed ends */
  put_bytes(res, 0, 1);
  put_bytes(res, 0, 2);
  put_bytes(res, first, 2);
  put_bytes(res, last, 2);
  put_bytes(res, 0, 2);
  put_bytes(res, (uint32_t)last - first + 1, 2);
}

void aml_res_word_io(GByteArray *res, uint16_t first, uint16_t last)
{
  put_bytes(res, 0x88, 1);
  put_bytes(res, 13, 2);
  put_bytes(res, 1, 1); /* I/O */
  put_bytes(res, 0x0c, 1);
  put_bytes(res, 3, 1); /* entire range */
  put_bytes(res, 0, 2);
  put_bytes(res, first, 2);
  put_bytes(res, last, 2);
  put_bytes(res, 0, 2);
  put_bytes(res, (uint32_t)last - first + 1, 2);
}

void aml_res_dword_memory(GByteArray *res, uint32_t first, uint32_t last)
{
  put_bytes(res, 0x87, 1);
  put_bytes(res, 23, 2);
  put_bytes(res, 0, 1); /* memory */
  put_bytes(res, 0x0c, 1);
  put_bytes(res, 1, 1); /* writable, not cacheable */
  put_bytes(res, 0, 4);
  put_bytes(res, first, 4);
  put_bytes(res, last, 4);
  put_bytes(res, 0, 4);
  put_bytes(res, last - first + 1, 4);
}

void aml_res_end(GByteArray *res)
{
  put_bytes(res, 0x79, 1);
  put_bytes(res, 0, 1);
}
