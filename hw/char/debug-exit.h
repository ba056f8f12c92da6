/* A port by which a test program in the guest ends the run with a status of its own. */
#ifndef HW_CHAR_DEBUG_EXIT_H
#define HW_CHAR_DEBUG_EXIT_H

#include <stdint.h>

typedef struct Vm Vm;
typedef struct VmDevice VmDevice;
typedef struct VmDeviceType VmDeviceType;

/* A write of V to `port` (any width) ends the machine with exit status (V << 1) | 1, of which the low eight bits reach
 * a shell. At set-up; the machine owns the device. */
VmDevice *debug_exit_new(Vm *vm, uint16_t port);
const VmDeviceType *debug_exit_get_type(void);

#endif
