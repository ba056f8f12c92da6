"""Debian's kernels, started directly with a busybox initramfs, to a shell that computes something and to power-off."""
from pathlib import Path

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
    """The press goes the whole way: SCI, ACPI's button driver, the input layer, a program."""
    image = kernel()
    modules = image.parent.parent / "lib/modules" / image.name.removeprefix("vmlinuz-") / "kernel/drivers"
    extra = [f"{modules / name}:{Path(name).name}" for name in ("acpi/button.ko", "input/evdev.ko")]
    init = INIT_HEAD + """
insmod /evdev.ko; insmod /button.ko; sleep 1
event=$(sed -n '/Power Button/,/^$/s/.*\\(event[0-9]*\\).*/\\1/p' /proc/bus/input/devices | head -n 1)
echo "WAITING FOR $event"
set -- $(dd if=/dev/input/$event bs=24 count=1 2>/dev/null | od -An -tu2 -j16)
echo "PRESSED $1 $2 $3"
poweroff -f
"""
    initrd = initramfs(init, extra=extra)
    with Machine("--kernel", image, "--initrd", initrd, "--append", "console=ttyS0") as m:
        m.wait_serial("WAITING FOR event", seconds=180)
        for _ in range(12):  # the reader may not have opened the device yet: a person presses again
            m.command("system_powerdown")
            m.wait_event("POWERDOWN", seconds=10)
            try:
                m.wait_serial("PRESSED 1 116 1", seconds=5)  # EV_KEY, KEY_POWER, down
                break
            except AssertionError:
                continue
        m.wait_serial("PRESSED 1 116 1", seconds=5)
        assert m.wait_exit(60) == 0
    initrd.unlink()


if __name__ == "__main__":
    run(test_amd64, test_amd64_without_the_io_apic, test_i686, test_i686_pae, test_reset_ends_under_no_reboot, test_power_button)
