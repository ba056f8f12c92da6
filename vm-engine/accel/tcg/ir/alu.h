/*
 * What each computing op means, on values: used by the interpreter, by the optimiser's folding, and by host code for
 * instructions that the host lacks. Private to the translator.
 */
#ifndef TCG_IR_ALU_H
#define TCG_IR_ALU_H

#include "vm-engine/accel/tcg/ir/ir.h"

/* The result of a flagless computing op (props IR_FOLD, and CRC32, PEXT, PDEP). `aux`, `imm`: of LEA. Results of 8 and
 * 16 bits have their upper bits clear here. */
uint64_t ir_alu(IrOpcode op, IrWidth w, uint64_t a, uint64_t b, unsigned aux, int64_t imm);
/* The same for ops that define flags: `flags` is packed as in TcgCpu.flags, read and written. `c`: the third operand.
 * `*second` gets the high half of a wide product. */
uint64_t ir_alu_flags(IrOpcode op, IrWidth w, uint64_t a, uint64_t b, uint64_t c, uint16_t *flags, uint64_t *second);
/* Does the x86 condition `cc` (0–15) hold in packed flags? */
bool ir_condition(unsigned cc, uint16_t flags);

#endif
