"""Firmware other than SeaBIOS, from Debian's packages: another view of the chipset."""
from harness import Machine, package, run


def u_boot(machine):
    """To the prompt, where it expands a variable and lists the PCI bus."""
    rom = package("u-boot-qemu") / f"usr/lib/u-boot/{machine}/u-boot.rom"
    with Machine("--firmware", rom) as m:
        m.wait_serial("Hit any key", seconds=60)
        m.type_serial("\n")
        m.wait_serial("=> ", seconds=60)
        m.type_serial("setenv word five; echo four and ${word}; pci\n")
        text = m.wait_serial("four and five", seconds=30)
        assert "DRAM:  256 MiB" in text, text
        text = m.wait_serial("0x1111", seconds=30)
        assert "0x7113" in text and "0x1237" in text and "0x8086" in text, text


def test_u_boot_x86_64():
    u_boot("qemu-x86_64")


if __name__ == "__main__":
    run(test_u_boot_x86_64)
