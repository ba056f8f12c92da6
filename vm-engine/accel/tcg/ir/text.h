/*
 * What the IR's text writer and reader share. Private to ir/.
 */
#ifndef TCG_IR_TEXT_H
#define TCG_IR_TEXT_H

#include <inttypes.h>

#include "vm-engine/accel/tcg/ir/ir.h"

/* x86 condition codes 0–15. */
extern const char *const ir_cc_names[16];

#endif
