"""A whole Debian with Xorg, twm and xterm, from an IDE disk to its desktop: the mouse opens a menu, typing reaches the terminal."""
import subprocess
import time
from pathlib import Path

from harness import CACHE, Machine, Skip, run

HERE = Path(__file__).resolve().parent

# What tests/guests/desktop/ says: the colours of twm's title bar, of xterm, and of the menu's title and entries.
TITLE, TERMINAL, TERMINAL_TEXT = (0xA0, 0x30, 0x60), (0x20, 0x30, 0x40), (0xE0, 0xF0, 0xE0)
MENU_TITLE, MENU = (0xC0, 0x80, 0x00), (0x30, 0x60, 0xA0)
TERMINAL_AT = (40, 40)  # its frame's corner
TERMINAL_CELLS = (80 * 6, 24 * 13)


def image():
    made = subprocess.run([HERE / "desktop-image", CACHE], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if made.returncode == 75:
        raise Skip(made.stderr.strip().splitlines()[-1])
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


def area(picture, colour):
    """How many pixels have this colour, and the box around them (left, top, right, bottom)."""
    width, _, data = picture
    wanted, count, left, top, right, bottom = bytes(colour), 0, width, None, 0, 0
    at = data.find(wanted)
    while at >= 0:
        if at % 3 == 0:
            y, x = divmod(at // 3, width)
            count, left, right, bottom = count + 1, min(left, x), max(right, x), y
            top = y if top is None else top
        at = data.find(wanted, at + (3 if at % 3 == 0 else 1))
    return count, (left, top, right, bottom)


def wait_picture(machine, name, accept, seconds):
    """Waits until `accept` says that the picture is the one awaited; the picture."""
    end = time.monotonic() + seconds
    while True:
        picture = machine.picture(name)
        if accept(picture):
            return picture
        if machine.process.poll() is not None or time.monotonic() > end:
            raise AssertionError(f"the picture {name}.png is not what was awaited for {seconds} s; serial output: {machine.read()[-2000:]}")
        time.sleep(0.5)


def shows_desktop(picture):
    """xterm's ground in its size, with text on it, under twm's title bar."""
    if picture[:2] != (800, 600):
        return False
    ground, (left, top, right, bottom) = area(picture, TERMINAL)
    title, (title_left, title_top, _, _) = area(picture, TITLE)
    return (ground > 0.9 * TERMINAL_CELLS[0] * TERMINAL_CELLS[1] and title > 4000 and area(picture, TERMINAL_TEXT)[0] > 50
            and TERMINAL_CELLS[0] <= right - left < TERMINAL_CELLS[0] + 20 and TERMINAL_CELLS[1] <= bottom - top + 8
            and abs(title_left - TERMINAL_AT[0]) < 5 and abs(title_top - TERMINAL_AT[1]) < 5 and title_top < top)


def shows_menu(picture):
    return area(picture, MENU)[0] > 2000 and area(picture, MENU_TITLE)[0] > 500


class Mouse:
    """A PS/2 mouse moved in small steps, as a hand does; it starts from the screen's corner, so that its place is known."""

    def __init__(self, machine):
        self.machine, self.x, self.y = machine, 0, 0
        for _ in range(12):
            self.step(-100, -100)

    def step(self, dx, dy):
        self.machine.command("input-send-event", events=[{"type": "rel", "data": {"axis": "x", "value": dx}},
                                                         {"type": "rel", "data": {"axis": "y", "value": dy}}])
        time.sleep(0.03)

    def move(self, x, y):
        while (self.x, self.y) != (x, y):
            dx, dy = (max(-20, min(20, to - at)) for to, at in ((x, self.x), (y, self.y)))
            self.step(dx, dy)
            self.x, self.y = self.x + dx, self.y + dy

    def button(self, down, name="left"):
        self.machine.command("input-send-event", events=[{"type": "btn", "data": {"button": name, "down": down}}])
        time.sleep(0.1)


def check_menu(machine):
    """The left button on the root opens twm's menu at the pointer; an entry that the button is let go over is carried out."""
    mouse = Mouse(machine)
    mouse.move(620, 440)
    mouse.button(True)
    picture = wait_picture(machine, "desktop-menu", shows_menu, 30)
    left, top, right, bottom = area(picture, MENU)[1]
    title_left, title_top, title_right, _ = area(picture, MENU_TITLE)[1]
    assert title_left <= 620 <= title_right and title_top <= 440 <= bottom and left <= 620 <= right, (left, top, right, bottom)
    start = len(machine.read())
    mouse.move(left + 12, top + 6)
    mouse.move(left + 14, top + 10)
    machine.picture("desktop-menu-entry")
    mouse.button(False)
    machine.wait_serial("menu-chose-42", seconds=30, start=start)
    wait_picture(machine, "desktop-menu-gone", lambda picture: not shows_menu(picture), 30)
    return mouse


def check_typing(machine, mouse):
    """twm gives the keyboard to the window under the pointer."""
    mouse.move(300, 300)
    before = area(machine.picture("desktop-before-typing"), TERMINAL_TEXT)[0]
    start = len(machine.read())
    machine.type_text("echo typed-$((6*7)) >/dev/ttyS0\n")
    machine.wait_serial("typed-42", seconds=60, start=start)
    wait_picture(machine, "desktop-typed", lambda picture: area(picture, TERMINAL_TEXT)[0] > before + 100, 30)


def test_desktop():
    with Machine("--disk", f"{image()},discard-changes", memory="512M") as m:
        m.wait_serial("SYSLINUX", seconds=60)
        out = m.wait_serial("root@desktop", "(initramfs)", "Kernel panic", seconds=300)
        assert "root@desktop" in out, out[-3000:]
        wait_picture(m, "desktop", shows_desktop, 240)
        check_typing(m, check_menu(m))
        m.command("system_powerdown")
        assert m.wait_exit(120) == 0, m.stderr()


if __name__ == "__main__":
    run(test_desktop)
