/* Which accelerator runs a machine. */
#include "vm-engine/accel.h"
#include "vm-engine/accel/kvm/probe.h"

const VmAccelOps *vm_accel_choose(VmAccelChoice choice, char **why, GError **error)
{
  if (why != NULL)
    *why = NULL;
  if (choice == VM_ACCEL_TCG)
    return &vm_accel_tcg;
  if (choice == VM_ACCEL_KVM)
    return vm_kvm_available(error) ? &vm_accel_kvm : NULL;
  char *reason = vm_kvm_probe(NULL);
  if (reason == NULL)
    return &vm_accel_kvm;
  if (why != NULL)
    *why = reason;
  else
    g_free(reason);
  return &vm_accel_tcg;
}
