"""The machine window, driven as a person would."""
import os
import subprocess
import time
from pathlib import Path

from desktop import HERE, ROOT, Desktop, Window, boot_sector, crop, harness, photograph, wait_for, xdotool

NO_DEVICE = "No bootable device"
GRAB_HINT = "Press left Ctrl+Alt to release the pointer"


def scan_codes(text):
    return [int(word[1:], 16) for word in text.split() if word[0] == "k" and len(word) == 3]


def mouse_bytes(text):
    return [int(word[1:], 16) for word in text.split() if word[0] == "m" and len(word) == 3]


def wait_codes(window, start, codes):
    """Waits until the keyboard has said just this since `start`."""
    try:
        wait_for("scan codes", lambda: scan_codes(window.read()[start:]) == codes, 15)
    except AssertionError:
        raise AssertionError(f"not {codes} but {scan_codes(window.read()[start:])}") from None


def input_window(desktop):
    window = Window(desktop, "--floppy", boot_sector(HERE / "asm/input.asm"), "--boot", "floppy", title="Oriel")
    window.wait_serial("ready ")
    window.focus()
    return window


def put_same_picture(window, name):
    """The window shows the guest's picture pixel for pixel; waits for the window's turn to draw."""
    def same():
        picture = window.picture(f"{name}-guest")
        x, y, width, height = window.screen_node().place()
        if (width, height) != picture[:2]:
            return False
        return crop(photograph(f"{name}-window"), x, y, width, height) == picture
    wait_for("the window shows the guest's picture one to one", same, 20)


def picture_is_one_to_one():
    with Desktop() as desktop, Window(desktop, memory="128M") as window:
        window.wait_screen(NO_DEVICE)
        assert "SeaBIOS" in window.screen()
        put_same_picture(window, "ui-bios")


def status_line_names_the_accelerator():
    with Desktop() as desktop, Window(desktop, memory="128M") as window:
        window.app.find("translation", "label")
        window.app.find("running", "label")
        window.wait_screen(NO_DEVICE)
        window.app.find("720 × 400", "label")


def automatic_choice_is_told():
    with Desktop() as desktop, Window(desktop, memory="128M", accel="auto") as window:
        label = window.app.find(lambda name: name in ("KVM", "translation"), "label").name
        if label == "translation":
            window.app.find(lambda name: "KVM" in name or "kvm" in name, "label")


def pause_and_go_on():
    with Desktop() as desktop, Window(desktop, memory="128M") as window:
        window.app.press("Pause")
        window.app.find("paused", "label")
        assert window.command("query-status")["running"] is False
        window.app.press("Go on")
        window.app.find("running", "label")
        assert window.command("query-status")["running"] is True


def menu(window, *names):
    window.app.find(lambda name: name.startswith("Menu"), "toggle button").press()
    for name in names:
        window.app.find(name, seconds=10).press()


def reset_from_the_menu():
    with Desktop() as desktop, Window(desktop, memory="128M") as window:
        window.wait_screen(NO_DEVICE)
        menu(window, "Reset")
        window.wait_event("RESET")
        window.wait_screen(NO_DEVICE)


def keys_reach_the_guest():
    with Desktop() as desktop, input_window(desktop) as window:
        xdotool("key", "a")
        window.wait_serial("k1e k9e")
        # A place on the keyboard, whatever the host's layout calls it: z is where an American keyboard has y.
        start = len(window.read())
        subprocess.run(["setxkbmap", "de"], check=True)
        xdotool("key", "z")
        wait_codes(window, start, [0x15, 0x95])
        subprocess.run(["setxkbmap", "us"], check=True)
        # F10, Tab and Ctrl+Q are the guest's, and the window is still there.
        start = len(window.read())
        xdotool("key", "F10", "Tab", "ctrl+q")
        wait_codes(window, start, [0x44, 0xc4, 0x0f, 0x8f, 0x1d, 0x10, 0x9d, 0x90])
        assert window.process.poll() is None


def losing_the_focus_lets_keys_go():
    with Desktop() as desktop, input_window(desktop) as window:
        xdotool("keydown", "a")
        window.wait_serial("k1e")
        root_focus()
        window.wait_serial("k9e")
        xdotool("keyup", "a")


def root_focus():
    """The focus goes to nobody's window: the root."""
    root = subprocess.run(["xwininfo", "-root"], check=True, stdout=subprocess.PIPE, text=True).stdout
    xdotool("windowfocus", root.split("Window id: ")[1].split()[0])


def menu_sends_combinations():
    with Desktop() as desktop, input_window(desktop) as window:
        menu(window, "Send Keys", "Ctrl+Alt+Del")
        wait_codes(window, 0, [0x1d, 0x38, 0xe0, 0x53, 0xe0, 0xd3, 0xb8, 0x9d])


def pointer_is_grabbed_and_released():
    with Desktop() as desktop, input_window(desktop) as window:
        x, y, width, height = window.screen_node().place()
        xdotool("mousemove", x + width // 2, y + height // 2)
        time.sleep(0.3)
        assert mouse_bytes(window.read()) == [], "the guest's mouse moves without a grab"
        xdotool("click", 1)
        window.app.find(GRAB_HINT, "label")
        time.sleep(0.3)
        start = len(window.read())
        xdotool("mousemove_relative", 10, 5)
        # A packet of three: signs, 10 to the right, 5 down (up counts as positive).
        wait_for("the movement", lambda: mouse_bytes(window.read()[start:])[:3] == [0x28, 10, 0xfb])
        start = len(window.read())
        xdotool("click", 3)
        wait_for("the right button", lambda: mouse_bytes(window.read()[start:])[:6] == [0x0a, 0, 0, 0x08, 0, 0])
        # Movement is not bounded by the screen's edge.
        start = len(window.read())
        for _ in range(30):
            xdotool("mousemove_relative", 100, 0)
        wait_for("3000 to the right", lambda: sum(mouse_bytes(window.read()[start:])[1::3]) == 3000)
        # A combination with another key stays the guest's and keeps the grab.
        start = len(window.read())
        xdotool("key", "Control_L+Alt_L+Delete")
        wait_for("Ctrl+Alt+Del", lambda: len(scan_codes(window.read()[start:])) == 8)
        assert window.app.has(GRAB_HINT)
        xdotool("key", "Control_L+Alt_L")
        window.app.gone(GRAB_HINT)
        time.sleep(0.3)
        start = len(window.read())
        xdotool("mousemove_relative", "--", -20, 5)
        time.sleep(0.5)
        assert mouse_bytes(window.read()[start:]) == [], "the guest's mouse moves after the release"
        # And by the keyboard alone.
        xdotool("key", "Control_L+Alt_L+g")
        window.app.find(GRAB_HINT, "label")
        xdotool("key", "Control_L+Alt_L")
        window.app.gone(GRAB_HINT)


def screenshot_is_the_picture():
    with Desktop() as desktop, Window(desktop, memory="128M") as window:
        window.wait_screen(NO_DEVICE)
        menu(window, "Take a Screenshot")
        folder = desktop.home / "Screenshots"
        path = wait_for("a screenshot", lambda: list(folder.glob("*.png")))[0]
        window.app.find(f"Screenshot saved as {path}", "label")
        out = window.folder / "shot.ppm"
        subprocess.run(["convert", path, "-depth", "8", f"ppm:{out}"], check=True)
        shot = harness.read_ppm(out)
        assert shot[:2] == (720, 400)
        wait_for("the same picture by the control socket", lambda: window.picture("ui-screenshot") == shot)  # the cursor blinks


def serial_tab_is_a_terminal():
    with Desktop() as desktop, Window(desktop, "--floppy", boot_sector(HERE / "asm/terminal.asm"), "--boot", "floppy",
                                      serial=False) as window:
        window.app.press("Serial 1", "radio button")
        terminal = window.app.find("Serial 1", "terminal")
        wait_for("the guest's greeting", lambda: "Hello from COM1" in terminal.text())
        window.focus()
        xdotool("type", "abc")
        wait_for("the guest's echo", lambda: "ABC" in terminal.text())
        xdotool("key", "ctrl+alt+1")
        window.app.find("Guest's screen")


def closing_asks():
    with Desktop() as desktop, Window(desktop, memory="128M") as window:
        window.app.press("Close")
        window.app.find("“Oriel” is still running")
        window.app.press("Cancel")
        window.app.gone("“Oriel” is still running")
        assert window.process.poll() is None
        window.app.press("Close")
        window.app.press("Power Off", "push button")
        assert window.wait_exit(20) == 0


def closing_remembers():
    with Desktop() as desktop:
        with Window(desktop, memory="128M") as window:
            window.app.press("Close")
            window.app.press("Remember my choice for every machine", "check box")
            window.app.press("Power Off", "push button")
            assert window.wait_exit(20) == 0
        with Window(desktop, memory="128M") as window:
            window.app.press("Close")
            assert window.wait_exit(20) == 0


def full_screen_has_a_way_back():
    with Desktop() as desktop, Window(desktop, memory="128M") as window:
        window.wait_screen(NO_DEVICE)
        handle = window.focus()
        xdotool("key", "ctrl+alt+f")
        # There is no window manager on this screen: the test does what one would do when asked.
        play_window_manager(handle, "_NET_WM_STATE_FULLSCREEN", 1280, 1024)
        window.app.find("Leave full screen", "push button")
        window.app.gone("running", "label")
        window.app.gone("Leave full screen", "push button")
        xdotool("mousemove", 200, 300)
        xdotool("mousemove", 200, 0)
        window.app.find("Leave full screen", "push button")
        photograph("ui-fullscreen")
        play_window_manager(handle, "", 720, 480)
        window.app.gone("Leave full screen", "push button")
        window.app.find("running", "label")


def play_window_manager(handle, state, width, height):
    subprocess.run(["xprop", "-id", handle, "-f", "_NET_WM_STATE", "32a", "-set", "_NET_WM_STATE", state], check=True)
    xdotool("windowmove", handle, 0, 0, "windowsize", handle, width, height)


def triple_fault_firmware(folder):
    """A firmware that shuts the processor down with its first instructions, as fast as it can be reset."""
    source = folder / "rom.asm"
    source.write_text("""bits 16
times 0xfff0 db 0xf4
        lidt [cs:none]
        int3
none:   dw 0, 0, 0
times 0x10000 - ($ - $$) db 0
""")
    subprocess.run(["nasm", "-f", "bin", "-o", folder / "rom.bin", source], check=True)
    return folder / "rom.bin"


def triple_faults_show_a_banner():
    with Desktop() as desktop, Window(desktop, "--firmware", triple_fault_firmware(desktop.folder), memory="64M") as window:
        window.app.find(lambda name: "over and over" in name, "label")
        window.app.find("Reset", "push button")
        window.app.find("paused", "label")
        photograph("ui-banner")
        # Another try ends the same way.
        window.app.press("Reset", "push button")
        window.app.find("Power Off", "push button")
        window.app.find("paused", "label")
        window.app.press("Power Off", "push button")
        assert window.wait_exit(20) == 0


def hostile_guests_leave_the_window_alive():
    for source in ("triple", "pokes", "vbe"):
        floppy = boot_sector(ROOT / f"tests/guests/asm/{source}.asm")
        with Desktop() as desktop, Window(desktop, "--floppy", floppy, "--boot", "floppy", memory="64M") as window:
            end = time.monotonic() + 4
            while time.monotonic() < end:
                assert window.process.poll() is None, f"{source}: {window.stderr()}"
                window.app.find(lambda name: name in ("running", "paused"), "label", seconds=10)
                time.sleep(0.2)
            window.app.press("Close")
            window.app.press("Power Off", "push button")
            assert window.wait_exit(20) == 0


def small_at_the_bios():
    with Desktop() as desktop, Window(desktop, memory="128M", serial=False) as window:
        window.wait_screen(NO_DEVICE)
        time.sleep(1)
        rollup = (Path("/proc") / str(window.process.pid) / "smaps_rollup").read_text()
        resident = int(next(line for line in rollup.splitlines() if line.startswith("Rss:")).split()[1])
        print(f"# resident with the window at the BIOS: {resident / 1024:.1f} MB", flush=True)
        ticks = [sum(map(int, (Path("/proc") / str(window.process.pid) / "stat").read_text().rsplit(")")[1].split()[11:13]))
                 for _ in range(2) if not time.sleep(5 * _)]
        share = (ticks[1] - ticks[0]) / os.sysconf("SC_CLK_TCK") / 5
        print(f"# a processor's share while idle: {100 * share:.1f} %", flush=True)
        assert resident < 80 * 1024, f"{resident} KiB resident"
        assert share < 0.03, f"{100 * share:.1f} % of a processor while idle"


TESTS = (picture_is_one_to_one, status_line_names_the_accelerator, automatic_choice_is_told, pause_and_go_on, reset_from_the_menu,
         keys_reach_the_guest, losing_the_focus_lets_keys_go, menu_sends_combinations, pointer_is_grabbed_and_released,
         screenshot_is_the_picture, serial_tab_is_a_terminal, closing_asks, closing_remembers, full_screen_has_a_way_back,
         triple_faults_show_a_banner, hostile_guests_leave_the_window_alive, small_at_the_bios)

if __name__ == "__main__":
    harness.run(*TESTS)
