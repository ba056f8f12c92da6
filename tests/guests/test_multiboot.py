"""Multiboot 1 kernels and ELF kernels with a PVH entry, started directly."""
import gzip
import subprocess
import time
import time

from harness import CACHE, INIT_HEAD, Machine, initramfs, kernel, package, pixel, run


def xen():
    """The hypervisor's ELF file: Debian packs it with gzip."""
    packed = sorted((package("xen-hypervisor-4.17-amd64") / "boot").glob("xen-*.gz"))[-1]
    out = CACHE / "xen"
    out.write_bytes(gzip.decompress(packed.read_bytes()))
    return out


def vmlinux(image):
    """The ELF file within a bzImage, by the payload's place in its header; it has a PVH entry note."""
    data = image.read_bytes()
    setup_bytes = (data[0x1f1] + 1) * 512
    offset, length = (int.from_bytes(data[at:at + 4], "little") for at in (0x248, 0x24c))
    payload = data[setup_bytes + offset:setup_bytes + offset + length - 4]
    elf = subprocess.run(["xz", "-dc", "--single-stream"], input=payload, stdout=subprocess.PIPE, check=True).stdout
    assert elf.startswith(b"\x7fELF")
    out = CACHE / "vmlinux"
    out.write_bytes(elf)
    return out


def test_grub_invaders():
    """A game in text mode: its picture has the ship's colour, and the ship moves with the keys."""
    with Machine("--kernel", package("grub-invaders") / "boot/invaders.exec", serial=False) as m:
        text = m.wait_screen("-*-", seconds=60)
        m.wait_screen("/ \\", seconds=20)
        picture = m.picture("invaders")
        colours = {pixel(picture, x, y) for x in range(0, picture[0], 3) for y in range(picture[1])}
        assert (0, 170, 170) in colours and (170, 0, 170) in colours, colours
        assert text.count("-*-") > 10, text

        def ship():
            return max((line.find("/ \\") for line in (m.screen() or "").splitlines()), default=-1)
        time.sleep(1.5)  # the game empties the keyboard when it starts a round
        before = ship()
        m.keys("left", "left", hold=300)
        end = time.monotonic() + 20
        while not 0 <= ship() < before:
            assert time.monotonic() < end, f"the ship stays at {before}: {m.screen()}"
            time.sleep(0.1)


def test_xen_banner_and_missing_dom0():
    with Machine("--kernel", xen(), "--append", "console=com1 com1=115200 loglvl=all noreboot") as m:
        text = m.wait_serial("dom0 kernel not specified", seconds=60)
        assert "Xen version 4.17" in text and "Command line: console=com1 com1=115200" in text, text


def test_pvh_linux():
    initrd = initramfs(INIT_HEAD + 'echo "PVH INIT $(uname -m) $(cat /proc/cmdline)"; poweroff -f\n')
    with Machine("--kernel", vmlinux(kernel()), "--initrd", initrd, "--append", "console=ttyS0 panic=1 word=pvh", "--no-reboot") as m:
        m.wait_serial("PVH INIT x86_64 console=ttyS0 panic=1 word=pvh", seconds=180)
        assert m.wait_exit(60) == 0
    initrd.unlink()


if __name__ == "__main__":
    run(test_grub_invaders, test_xen_banner_and_missing_dom0, test_pvh_linux)
