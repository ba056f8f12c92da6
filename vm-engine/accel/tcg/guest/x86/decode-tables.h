/* The decoder's tables as decode.c looks them up. */
#ifndef X86_DECODE_TABLES_H
#define X86_DECODE_TABLES_H

#include "vm-engine/accel/tcg/guest/x86/decode.h"

/* Never NULL; a row of INVALID where there is no such opcode. */
const X86Row *x86_table_row(X86Map map, uint8_t opcode, bool in_64bit_mode);
/* The row for that prefix byte (0, 66, F2, F3), or NULL. */
const X86Row *x86_table_prefixed(X86Map map, uint8_t opcode, uint8_t prefix, bool vex);
bool x86_insn_is_group(X86Insn insn);
/* Never NULL. */
const X86Row *x86_table_group(X86Insn group, uint8_t modrm);
bool x86_class_needs_modrm(X86OperandClass class);

#endif
