/* The probe: an answer within its time, a sentence where KVM does not serve, the same answer twice. */
#include <signal.h>
#include <unistd.h>

#include "vm-engine/accel/kvm/probe.h"
#include "vm-engine/accel/kvm/kvm-private.h"

static void test_probe(void)
{
  KvmProbeResult result;
  int64_t start = g_get_monotonic_time();
  g_autofree char *why = vm_kvm_probe(&result);
  int64_t took_us = g_get_monotonic_time() - start;
  g_test_message("%s, after %" G_GINT64_FORMAT " us", why != NULL ? why : "KVM serves", took_us);
  for (unsigned i = 1; i < PROBE_N_PHASES; i++)
    g_test_message("phase %u: %" G_GINT64_FORMAT " ns", i, result.phase_ns[i]);
  g_assert_cmpint(took_us, <, 2 * G_USEC_PER_SEC); /* 300 ms on a host that is not busy with other tests */
  if (why == NULL) {
    for (unsigned i = 1; i < PROBE_N_PHASES; i++)
      g_assert_cmpint(result.phase_ns[i], >, 0);
    return;
  }
  g_assert_cmpuint(strlen(why), >, 20);
  g_assert_null(strchr(why, '\n'));
  g_autofree char *again = vm_kvm_probe(NULL);
  g_assert_nonnull(again);
}

/* The signal that ends the probe is not left behind as deadly. */
static void test_signal(void)
{
  g_autofree char *why = vm_kvm_probe(NULL);
  if (why != NULL && access("/dev/kvm", R_OK | W_OK) != 0) {
    g_test_skip("no /dev/kvm that this user may use");
    return;
  }
  raise(kvm_kick_signal());
}

int main(int argc, char **argv)
{
  g_test_init(&argc, &argv, NULL);
  g_test_add_func("/kvm/probe", test_probe);
  g_test_add_func("/kvm/signal", test_signal);
  return g_test_run();
}
