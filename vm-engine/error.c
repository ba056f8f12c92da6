/* The room's error domain. */
#include "vm-engine/vm.h"

G_DEFINE_QUARK(vm - error - quark, vm_error)
