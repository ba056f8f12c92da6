/*
 * The helper table: what translated code may call, with its effects, in the order of helpers.def.
 */
#include "vm-engine/accel/tcg/ir/ir.h"

const TcgHelper tcg_helpers[HELPER_N] = {
#define HELPER(name, effects) { #name, helper_##name, effects },
#include "vm-engine/accel/tcg/guest/x86/helpers.def"
#undef HELPER
};
