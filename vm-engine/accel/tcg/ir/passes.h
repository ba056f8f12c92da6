/*
 * The optimiser's passes, for its list and for their tests.
 */
#ifndef TCG_IR_PASSES_H
#define TCG_IR_PASSES_H

#include "vm-engine/accel/tcg/ir/ir.h"

void ir_pass_forward(IrBlock *block); /* opt-forward.c */
void ir_pass_live(IrBlock *block);    /* opt-live.c */

/* Removes the ops whose opcode a pass has set to IR_N_OPS. */
void ir_compact(IrBlock *block);

#endif
