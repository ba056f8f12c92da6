/*
 * An accelerator that runs one-byte "instructions", for tests of the machine around it: vCPU threads, pausing, resets,
 * saving.
 */
#ifndef TEST_FAKE_ACCEL_H
#define TEST_FAKE_ACCEL_H

#include "vm-engine/vcpu.h"
#include "vm-engine/vm.h"

enum {
  FAKE_WAIT,  /* here for ever */
  FAKE_COUNT, /* counts in RAX for ever */
  FAKE_OUT,   /* AL to FAKE_PORT */
  FAKE_HALT,
  FAKE_TRIPLE_FAULT,
  FAKE_ERROR,
};
#define FAKE_PORT 0x99

extern const VmAccelOps fake_accel;

#endif
