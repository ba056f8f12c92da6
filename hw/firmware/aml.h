/*
 * A small writer of ACPI Machine Language (ACPI specification 6.4, chapter 20). Each function appends to a byte array;
 * what encloses others is opened and closed, and its length is put in at the close.
 */
#ifndef HW_FIRMWARE_AML_H
#define HW_FIRMWARE_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <glib.h>

typedef struct Aml Aml;

Aml *aml_new(void);
/* The bytes; frees the writer. Everything opened must be closed. */
GByteArray *aml_finish(Aml *aml);

/* ---- what encloses: close with aml_end(), innermost first ---------------------------------------------------------- */
void aml_scope(Aml *aml, const char *path);
void aml_device(Aml *aml, const char *name);
void aml_processor(Aml *aml, const char *name, uint8_t id);
void aml_method(Aml *aml, const char *name, unsigned n_args, bool serialized);
void aml_package(Aml *aml, unsigned n_elements);
void aml_if(Aml *aml);   /* the predicate is appended next */
void aml_else(Aml *aml);
void aml_end(Aml *aml);

/* ---- terms ------------------------------------------------------------------------------------------------------------ */
/* A path such as "\\_SB_.PCI0"; each segment is padded to four characters. */
void aml_path(Aml *aml, const char *path);
void aml_name(Aml *aml, const char *name); /* Name(name, <what comes next>) */
void aml_integer(Aml *aml, uint64_t value);
void aml_string(Aml *aml, const char *text);
void aml_eisa_id(Aml *aml, const char *id); /* "PNP0A03" */
void aml_buffer(Aml *aml, const uint8_t *bytes, size_t size);
/* Fields of one byte each in the PCI configuration space of the enclosing device. */
void aml_pci_config_bytes(Aml *aml, const char *region, uint8_t offset, const char *const *fields, unsigned n_fields);
/* Op(a, b, target): operands and target are appended by the caller in order. */
void aml_op(Aml *aml, uint8_t opcode);
enum { AML_STORE = 0x70, AML_AND = 0x7b, AML_OR = 0x7d, AML_LEQUAL = 0x93, AML_LNOT = 0x92, AML_RETURN = 0xa4,
       AML_CREATE_DWORD_FIELD = 0x8a, AML_ARG0 = 0x68, AML_LOCAL0 = 0x60, AML_NULL_TARGET = 0x00 };

/* ---- resource templates (chapter 6.4): appended to a byte array, ended, then put in by aml_buffer() -------------------- */
void aml_res_io(GByteArray *res, uint16_t base, uint8_t length);
void aml_res_irq(GByteArray *res, uint16_t mask);
void aml_res_dma(GByteArray *res, uint8_t mask);
void aml_res_interrupts(GByteArray *res, bool shared_level, const uint32_t *lines, unsigned n_lines);
void aml_res_memory32(GByteArray *res, uint32_t base, uint32_t length, bool writable);
void aml_res_word_bus(GByteArray *res, uint16_t first, uint16_t last);
void aml_res_word_io(GByteArray *res, uint16_t first, uint16_t last);
void aml_res_dword_memory(GByteArray *res, uint32_t first, uint32_t last);
void aml_res_end(GByteArray *res);

#endif
