"""The firmware, boot sectors, GRUB and other things that live on BIOS calls: what is on the screen."""
import subprocess
import tempfile
import time
from pathlib import Path

from harness import CACHE, Machine, package, pixel, run

HERE = Path(__file__).resolve().parent


def boot_sector(name):
    """A 1.44 MB floppy image with the assembled boot sector."""
    CACHE.mkdir(parents=True, exist_ok=True)
    out = CACHE / f"{name}.img"
    subprocess.run(["nasm", "-f", "bin", "-o", out, HERE / f"asm/{name}.asm"], check=True)
    out.write_bytes(out.read_bytes().ljust(1440 << 10, b"\0"))
    return out


def debug_output(machine, wanted, seconds=60):
    """Waits for a text at the debug console, which the machine was given as a file."""
    path = machine.folder / "debug"
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        text = path.read_bytes() if path.exists() else b""
        if wanted in text:
            return text
        time.sleep(0.05)
    raise AssertionError(f"no {wanted} at the debug console; screen: {machine.try_screen()}")


def machine_with_debug(*options, **more):
    folder = tempfile.mkdtemp(prefix="oriel-debug-")
    m = Machine("--debugcon", f"file:{folder}/debug", *options, serial=False, **more)
    (m.folder / "debug").symlink_to(f"{folder}/debug")
    return m


def test_seabios_text():
    with Machine(serial=False) as m:
        text = m.wait_screen("No bootable device", seconds=60)
        assert "SeaBIOS (version" in text and "Booting from" in text, text
        width, height, data = m.picture("seabios")
        assert (width, height) in ((720, 400), (640, 400)), (width, height)
        lit = sum(1 for i in range(0, len(data), 3) if data[i] > 100)
        assert 1000 < lit < width * height // 4, lit


def test_mode_13h():
    with machine_with_debug("--floppy", boot_sector("mode13"), "--boot", "floppy") as m:
        debug_output(m, b"!")
        picture = m.picture("mode13")
        width, height, _ = picture
        assert width % 320 == 0 and height % 200 == 0, (width, height)
        sx, sy = width // 320, height // 200
        assert pixel(picture, 0, 0) == (0, 0, 0)
        assert pixel(picture, 1 * sx, 0) == (255, 130, 0), pixel(picture, sx, 0)
        assert pixel(picture, 0, 1 * sy) == (255, 130, 0)
        assert pixel(picture, 4 * sx, 0) == (170, 0, 0), pixel(picture, 4 * sx, 0)
        assert pixel(picture, 8 * sx, 7 * sy) == pixel(picture, 15 * sx, 0) == (255, 255, 255)


def test_planar_640x480():
    with machine_with_debug("--floppy", boot_sector("planar"), "--boot", "floppy") as m:
        debug_output(m, b"!")
        picture = m.picture("planar")
        assert picture[:2] == (640, 480), picture[:2]
        ega = [(r, g, b) for r, g, b in ((0, 0, 0), (0, 0, 170), (0, 170, 0), (0, 170, 170), (170, 0, 0), (170, 0, 170), (170, 85, 0), (170, 170, 170),
                                         (85, 85, 85), (85, 85, 255), (85, 255, 85), (85, 255, 255), (255, 85, 85), (255, 85, 255), (255, 255, 85), (255, 255, 255))]
        for bar, colour in enumerate(ega):
            for y in (0, 240, 479):
                assert pixel(picture, bar * 40, y) == pixel(picture, bar * 40 + 39, y) == colour, (bar, y, pixel(picture, bar * 40, y), colour)


def grub_iso():
    out = CACHE / "grub.iso"
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "boot/grub/grub.cfg"
        config.parent.mkdir(parents=True)
        config.write_text('serial --unit=0 --speed=115200\nterminal_input console serial\nterminal_output console serial\nset timeout=-1\n'
                          'menuentry "first entry" { echo FIRST CHOSEN; sleep 1000 }\n'
                          'menuentry "second entry" { echo SECOND CHOSEN; videoinfo; sleep 1000 }\n'
                          'menuentry "third entry" { halt }\n')
        subprocess.run(["grub-mkrescue", "-o", out, folder], check=True, capture_output=True)
    return out


def test_grub_menu_by_keys():
    with Machine(grub_iso()) as m:
        text = m.wait_screen("third entry", seconds=90)
        assert "GNU GRUB" in text and "*first entry" in text and " second entry" in text, text
        m.picture("grub")
        m.keys("down")
        m.wait_screen("*second entry", seconds=20)
        m.keys("down")
        m.wait_screen("*third entry", seconds=20)
        m.keys("up", "ret")
        m.wait_screen("SECOND CHOSEN", seconds=20)


def grub_rescue(option, name):
    """Debian's rescue medium: its menu, then `c` for the command line."""
    m = Machine(option, package("grub-rescue-pc") / f"usr/lib/grub-rescue/grub-rescue-{name}", "--boot", option[2:], serial=False)
    try:
        text = m.wait_screen("Change the colors", seconds=120)
        assert "GNU GRUB" in text and "*GNU/Linux" in text, text
        m.keys("c")
        m.wait_screen("grub>", seconds=30)
    except BaseException:
        m.close()
        raise
    return m


def test_grub_command_line():
    with grub_rescue("--cdrom", "cdrom.iso") as m:
        m.type_text("ls\n")
        m.wait_screen("(cd", seconds=30)
        m.type_text("clear\n")
        m.type_text("lspci\n")
        text = m.wait_screen("00:01.3", seconds=30)
        assert "8086:1237" in text and "8086:7010" in text and "8086:7113" in text, text
        m.type_text("clear\n")
        m.type_text("lsmmap\n")
        m.wait_screen("base_addr = 0x100000,", seconds=30)


def test_grub_from_floppy():
    with grub_rescue("--floppy", "floppy.img") as m:
        m.type_text("ls (fd0)/boot/grub\n")
        m.wait_screen("i386-pc/", seconds=60)


def test_ipxe_prompt():
    with Machine("--kernel", package("ipxe") / "usr/lib/ipxe/ipxe.lkrn", serial=False) as m:
        m.wait_screen("Press Ctrl-B", seconds=60)
        m.picture("ipxe")
        m.keys("ctrl-b")
        m.wait_screen("iPXE>", seconds=20)
        m.type_text("set number 5 && echo it is ${number}${number}5 && cpuid --ext 29 && echo long mode\n")
        m.wait_screen("it is 555", seconds=20)
        m.wait_screen("\nlong mode", seconds=20)


def test_ipxe_iso():
    with Machine("--cdrom", package("ipxe") / "usr/lib/ipxe/ipxe.iso", "--boot", "cdrom", serial=False) as m:
        m.wait_screen("iPXE 1", "iPXE --", "Open Source Network Boot Firmware", seconds=90)


def memtest(name):
    """A whole pass: memory this small makes it short. Its menus take the bit fade test (minutes of waiting) out."""
    with Machine("--kernel", package("memtest86+") / f"boot/memtest86+{name}.bin", memory="16M", serial=False) as m:
        m.wait_screen("to start testing", seconds=60)
        m.keys("f1")
        m.wait_screen("Test selection", seconds=10)
        m.keys("f1")
        m.wait_screen("Remove one test", seconds=10)
        m.keys("f2")
        m.wait_screen("Enter test", seconds=10)
        m.keys("1", "0", "ret")
        m.keys("f10", "f10", "ret", hold=300)
        text = m.wait_screen("Pass:  1", seconds=150)
        m.picture(f"memtest-{name}")
        assert "Memtest86+ v6" in text and "Errors: 0" in text, text


def test_memtest_x64():
    memtest("x64")


def test_memtest_ia32():
    memtest("ia32")


if __name__ == "__main__":
    run(test_seabios_text, test_mode_13h, test_planar_640x480, test_grub_menu_by_keys, test_grub_command_line, test_grub_from_floppy, test_ipxe_prompt,
        test_ipxe_iso, test_memtest_x64, test_memtest_ia32)
