"""Debian's installer to its language menu: text mode with the keyboard, started directly and from a CD."""
import shutil
import subprocess
import tempfile
from pathlib import Path

from harness import CACHE, Machine, package, run


def installer(kind, *options, append, arch="amd64"):
    root = package(f"debian-installer-12-netboot-{arch}")
    folder = next(root.glob(f"usr/lib/debian-installer/images/12/{arch}/{kind}/debian-installer/{arch}"))
    return Machine("--kernel", folder / "linux", "--initrd", folder / "initrd.gz", "--append", append, *options, memory="1536M", serial=False)


def test_text_amd64():
    with installer("text", append="vga=normal nomodeset mitigations=off --- quiet") as m:
        text = m.wait_screen("Choose language", "Select a language", "Installer main menu", seconds=400)
        if "main menu" in text:
            m.keys("ret")
            m.wait_screen("Select a language", seconds=120)
        m.picture("installer-text")
        before = m.screen()
        m.keys("down")
        m.wait_change(before, seconds=20)


def installer_iso(arch="amd64"):
    """Debian's netboot package has no ISO: one of its kernel and initrd, started by GRUB from the CD."""
    folder = next(package(f"debian-installer-12-netboot-{arch}").glob(f"usr/lib/debian-installer/images/12/{arch}/text/debian-installer/{arch}"))
    out = CACHE / f"installer-{arch}.iso"
    with tempfile.TemporaryDirectory() as root:
        (Path(root) / "boot/grub").mkdir(parents=True)
        (Path(root) / "boot/grub/grub.cfg").write_text(
            'set timeout=-1\nmenuentry "Rescue" { echo }\n'
            'menuentry "Install" { linux /boot/linux vga=normal nomodeset mitigations=off --- quiet; initrd /boot/initrd.gz }\n')
        for name in ("linux", "initrd.gz"):
            shutil.copy(folder / name, Path(root) / "boot" / name)
        subprocess.run(["grub-mkrescue", "-o", out, root], check=True, capture_output=True)
    return out


def test_text_from_cd():
    with Machine("--cdrom", installer_iso(), "--boot", "cdrom", memory="1536M", serial=False) as m:
        m.wait_screen("Install", seconds=60)
        m.keys("down", "ret")
        m.wait_screen("Select a language", "Choose language", seconds=400)


if __name__ == "__main__":
    run(test_text_amd64, test_text_from_cd)
