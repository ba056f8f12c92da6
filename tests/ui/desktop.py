"""A person at a desktop, for tests: starts the real program on the X server of this session, finds what is in its windows by
the accessibility tree, presses it, types, moves the pointer and looks at the screen.

Run under `xvfb-run -a dbus-run-session`. Each Desktop has its own folders, so nothing of the user's is touched.
"""
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "guests"))
import harness  # noqa: E402
from harness import ORIEL, ROOT, SHOTS, read_ppm  # noqa: E402

os.environ.setdefault("NO_AT_BRIDGE", "0")
import gi  # noqa: E402

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402

HERE = Path(__file__).resolve().parent
WAIT = 20


def wait_for(what, condition, seconds=WAIT):
    """Waits until condition() gives something true; that."""
    end = time.monotonic() + seconds
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.05)


def boot_sector(source):
    """A floppy image that starts with this assembled boot sector."""
    out = Path(tempfile.mkdtemp(prefix="oriel-boot-")) / "floppy.img"
    subprocess.run(["nasm", "-f", "bin", "-o", out, source], check=True)
    with open(out, "r+b") as file:
        file.truncate(1440 << 10)
    return out


class Node:
    """A thing in a window."""

    def __init__(self, accessible):
        self.a = accessible

    @property
    def name(self):
        return self.a.get_name() or ""

    @property
    def role(self):
        return self.a.get_role_name()

    def has(self, state):
        return self.a.get_state_set().contains(getattr(Atspi.StateType, state))

    @property
    def showing(self):
        return self.has("SHOWING")

    def children(self):
        for i in range(self.a.get_child_count()):
            child = self.a.get_child_at_index(i)
            if child is not None:
                yield Node(child)

    def walk(self):
        yield self
        for child in self.children():
            yield from child.walk()

    def press(self):
        assert self.has("SENSITIVE"), f"{self.name} is not sensitive"
        action = self.a.get_action_iface()
        assert action is not None and action.do_action(0), f"{self.name} cannot be pressed"

    def set_text(self, text):
        assert self.a.get_editable_text_iface().set_text_contents(text), f"{self.name} takes no text"

    def text(self):
        iface = self.a.get_text_iface()
        return Atspi.Text.get_text(iface, 0, -1)

    def set_value(self, value):
        self.a.get_value_iface().set_current_value(value)

    def value(self):
        return self.a.get_value_iface().get_current_value()

    def focus(self):
        assert Atspi.Component.grab_focus(self.a), f"{self.name} takes no focus"

    def place(self):
        e = Atspi.Component.get_extents(self.a, Atspi.CoordType.SCREEN)
        return e.x, e.y, e.width, e.height


class App:
    """A running process with windows."""

    def __init__(self, desktop, pid):
        self.desktop = desktop
        self.pid = pid

    def root(self):
        while GLib.MainContext.default().iteration(False):
            pass  # what has changed since the last look
        top = Atspi.get_desktop(0)
        for i in range(top.get_child_count()):
            app = top.get_child_at_index(i)
            try:
                if app is not None and app.get_process_id() == self.pid:
                    app.clear_cache()
                    return Node(app)
            except GLib.Error:
                continue
        return None

    def find_all(self, name=None, role=None, showing=True):
        root = self.root()
        found = []
        try:
            for node in root.walk() if root else ():
                if ((name is None or node.name == name or (callable(name) and name(node.name))) and
                        (role is None or node.role == role) and (not showing or node.showing)):
                    found.append(node)
        except GLib.Error:
            return []  # something went away while we looked
        return found

    def has(self, name=None, role=None):
        return bool(self.find_all(name, role))

    def find(self, name=None, role=None, seconds=WAIT):
        return wait_for(f"{role or 'a thing'} named {name}", lambda: self.find_all(name, role), seconds)[0]

    def gone(self, name=None, role=None, seconds=WAIT):
        wait_for(f"{role or 'a thing'} named {name} is gone", lambda: not self.find_all(name, role), seconds)

    def press(self, name, role=None):
        self.find(name, role).press()

    def tree(self):
        root = self.root()
        return "\n".join(f"{n.role}: {n.name!r}" for n in root.walk() if n.showing) if root else "(none)"


class Desktop:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="oriel-ui-"))
        self.machines = self.folder / "machines"
        self.runtime = self.folder / "run"
        self.home = self.folder / "home"
        for folder in (self.runtime, self.home):
            folder.mkdir(mode=0o700)
        self.env = {**os.environ, "ORIEL_MACHINES": str(self.machines), "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.runtime),
                    "XDG_CONFIG_HOME": str(self.folder / "config"), "XDG_DATA_HOME": str(self.folder / "data"),
                    "XDG_STATE_HOME": str(self.folder / "state"), "XDG_CACHE_HOME": str(self.folder / "cache"),
                    "LC_ALL": "C.UTF-8", "GSETTINGS_BACKEND": "memory", "GTK_THEME": "Adwaita", "GDK_BACKEND": "x11"}
        self.env.pop("WAYLAND_DISPLAY", None)
        self.processes = []
        self.log = open(self.folder / "log", "w+")

    def __enter__(self):
        return self

    def __exit__(self, kind, *unused):
        if kind is not None:
            SHOTS.mkdir(parents=True, exist_ok=True)
            subprocess.run(["import", "-window", "root", str(SHOTS / "ui-failure.png")], check=False)
            sys.stderr.write((self.folder / "log").read_text(errors="replace")[-3000:])
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        for pid in self.machine_pids():
            os.kill(pid, 9)
        self.log.close()
        subprocess.run(["rm", "-rf", str(self.folder)], check=False)

    def machine_pids(self):
        """Processes `oriel run` of this desktop: those with its folder in their environment."""
        mark = f"ORIEL_MACHINES={self.machines}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0") and \
                        (entry / "cmdline").read_bytes().split(b"\0")[1:2] == [b"run"]:
                    found.append(int(entry.name))
            except OSError:
                continue
        return found

    def start(self, *arguments):
        process = subprocess.Popen([str(ORIEL), *map(str, arguments)], env=self.env, stdin=subprocess.DEVNULL, stdout=self.log,
                                   stderr=self.log)
        self.processes.append(process)
        return process

    def library(self):
        process = self.start()
        app = App(self, process.pid)
        app.process = process
        app.find("Oriel", "frame")
        return app

    def oriel(self, *arguments):
        return subprocess.run([str(ORIEL), *map(str, arguments)], env=self.env, check=True, stdout=subprocess.PIPE, text=True).stdout

    def control_path(self, name):
        digest = hashlib.sha256(str(self.machines / name).encode()).hexdigest()[:16]
        return self.runtime / "oriel" / f"{digest}.sock"


class Window(harness.Machine):
    """A machine in a window, with its control socket; `app` is what its window shows."""

    def __init__(self, desktop, *options, title="Oriel", **more):
        super().__init__("--firmware", "bios", *options, arguments=(), env=desktop.env, **more)
        self.desktop = desktop
        self.title = title
        self.app = App(desktop, self.process.pid)
        self.app.find(title, "frame")

    def focus(self):
        """What a window manager does; the window's id."""
        out = subprocess.run(["xdotool", "search", "--onlyvisible", "--pid", str(self.process.pid), "--name", f"^{self.title}$"], check=True,
                             stdout=subprocess.PIPE, text=True).stdout.split()
        subprocess.run(["xdotool", "windowfocus", "--sync", out[-1]], check=True)
        return out[-1]

    def screen_node(self):
        return self.app.find("Guest's screen")


def xdotool(*arguments):
    subprocess.run(["xdotool", *map(str, arguments)], check=True)


def photograph(name):
    """The X screen as (width, height, RGB), kept among the logs."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = SHOTS / f"{name}.png"
    subprocess.run(["import", "-window", "root", str(path)], check=True)
    with tempfile.NamedTemporaryFile(suffix=".ppm") as ppm:
        subprocess.run(["convert", str(path), "-depth", "8", f"ppm:{ppm.name}"], check=True)
        return read_ppm(ppm.name)


def crop(picture, x, y, width, height):
    whole, _, data = picture
    return width, height, b"".join(data[((y + row) * whole + x) * 3:((y + row) * whole + x + width) * 3] for row in range(height))
