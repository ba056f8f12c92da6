"""Debian's kernels, started directly with a busybox initramfs, to a shell that computes something and to power-off."""
from harness import INIT_HEAD, Machine, initramfs, kernel, run

INIT = INIT_HEAD + """
echo "INIT READY $(uname -m)"
exec setsid sh -c 'exec sh </dev/ttyS0 >/dev/ttyS0 2>&1'
"""


def boot_and_compute(arch, kernel_name=None, options=(), append="", accel="tcg", machine="x86_64"):
    initrd = initramfs(INIT, arch)
    with Machine("--kernel", kernel(arch, kernel_name), "--initrd", initrd, "--no-reboot",
                 "--append", f"console=ttyS0 panic=1 {append}", *options, accel=accel) as m:
        m.wait_serial(f"INIT READY {machine}", seconds=180)
        m.type_serial("echo sum $((123456789 * 987)) $(seq 1 1000 | awk '{s+=$1*$1} END {print s}')\n")
        m.wait_serial("sum 121851850743 333833500" if machine == "x86_64" else "333833500", seconds=60)
        m.type_serial("md5sum /bin/busybox | cut -c1-8; cat /proc/interrupts; poweroff -f\n")
        assert m.wait_exit(60) == 0
    initrd.unlink()
    return m


def test_amd64():
    boot_and_compute("amd64")


def test_amd64_without_the_io_apic():
    boot_and_compute("amd64", append="noapic")


def test_i686():
    boot_and_compute("i386", machine="i686")


def test_i686_pae():
    boot_and_compute("i386", "linux-image-686-pae", machine="i686")


def test_reset_ends_under_no_reboot():
    initrd = initramfs(INIT_HEAD + "echo REBOOTING; reboot -f\n")
    with Machine("--kernel", kernel(), "--initrd", initrd, "--append", "console=ttyS0", "--no-reboot") as m:
        m.wait_serial("REBOOTING", seconds=180)
        assert m.wait_exit(60) == 0
    initrd.unlink()


def test_power_button():
    initrd = initramfs(INIT)
    with Machine("--kernel", kernel(), "--initrd", initrd, "--append", "console=ttyS0") as m:
        m.wait_serial("INIT READY", seconds=180)
        m.type_serial("cat /proc/acpi/wakeup >/dev/null; (dd if=/dev/input/event0 of=/dev/null bs=24 count=1 2>/dev/null; echo PRESSED; poweroff -f) &\n")
        m.type_serial("sleep 1; echo ARM''ED\n")
        m.wait_serial("ARMED")
        m.command("system_powerdown")
        m.wait_serial("PRESSED", seconds=60)
        assert m.wait_exit(60) == 0
    initrd.unlink()


run(test_amd64, test_amd64_without_the_io_apic, test_i686, test_i686_pae, test_reset_ends_under_no_reboot, test_power_button)
