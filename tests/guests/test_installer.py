"""Debian's installer to its language menu: text mode with the keyboard, and graphical on the VBE framebuffer."""
import time

from harness import Machine, package, run


def installer(kind, *options, append, arch="amd64"):
    root = package(f"debian-installer-12-netboot-{arch}")
    folder = next(root.glob(f"usr/lib/debian-installer/images/12/{arch}/{kind}/debian-installer/{arch}"))
    return Machine("--kernel", folder / "linux", "--initrd", folder / "initrd.gz", "--append", append, *options, memory="768M", serial=False)


def test_text_amd64():
    with installer("text", append="vga=normal nomodeset priority=low mitigations=off --- quiet") as m:
        text = m.wait_screen("Choose language", "Select a language", "Installer main menu", seconds=400)
        if "main menu" in text:
            m.keys("ret")
            m.wait_screen("Select a language", seconds=120)
        m.picture("installer-text")
        before = m.screen()
        m.keys("down")
        m.wait_change(before, seconds=20)


def test_iso_text():
    root = package("debian-installer-12-netboot-amd64")
    iso = next(root.glob("usr/lib/debian-installer/images/12/amd64/text/**/mini.iso"), None)
    if iso is None:
        iso = next(root.glob("**/mini.iso"))
    with Machine("--cdrom", iso, "--boot", "cdrom", memory="768M", serial=False) as m:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            width, height, data = m.picture("installer-iso")
            if (width, height) not in ((720, 400), (640, 400)) and len(set(data[i:i + 3] for i in range(0, len(data), 3001))) > 8:
                return
            text = m.try_screen() or ""
            if "boot:" in text or "Install" in text:
                return
            time.sleep(1)
        raise AssertionError(f"no isolinux menu; screen: {m.try_screen()}")


if __name__ == "__main__":
    run(test_text_amd64, test_iso_text)
