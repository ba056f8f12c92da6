"""Runs guests on Oriel (and, to compare, on QEMU) and talks to them: serial line, keys, screen text, picture, QMP.

Tests are functions given to run(); each is reported as one line of TAP. A guest's machine is a context manager that
kills its process in the end, whatever happened.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SETUP = ROOT / "data/setup"
CACHE = Path(os.environ.get("ORIEL_GUEST_CACHE", ROOT / "build/guests"))
ORIEL = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 and Path(sys.argv[1]).exists() else ROOT / "build/test/app/oriel"
SHOTS = ROOT / "build/test-logs/pictures"


class Skip(Exception):
    """The test cannot run here, for the reason given."""


def package(name, arch="amd64"):
    """Unpacks a Debian package into the cache; its folder."""
    out = subprocess.run([SETUP / "fetch-guest", name, CACHE, arch], check=True, stdout=subprocess.PIPE, text=True)
    return Path(out.stdout.strip().splitlines()[-1])


def kernel(arch="amd64", name=None):
    folder = package(name or {"amd64": "linux-image-amd64", "i386": "linux-image-686"}[arch], arch)
    return sorted((folder / "boot").glob("vmlinuz-*"))[-1]


def initramfs(init_text, arch="amd64", extra=(), name=None):
    """A busybox initramfs with this init script; made anew each time (it is small)."""
    CACHE.mkdir(parents=True, exist_ok=True)
    busybox = package("busybox-static", arch) / "bin/busybox"
    handle, out = tempfile.mkstemp(prefix=f"initrd-{name or 'test'}-", suffix=".gz", dir=CACHE)
    os.close(handle)
    with tempfile.NamedTemporaryFile("w", suffix="-init") as init:
        init.write(init_text)
        init.flush()
        subprocess.run([SETUP / "make-initramfs", out, busybox, init.name, *extra], check=True)
    return Path(out)


INIT_HEAD = """#!/bin/sh
/bin/busybox mkdir -p /bin /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs devtmpfs /dev 2>/dev/null
"""


class Machine:
    """A headless Oriel with a control socket and COM1 in a file (or on a socket)."""

    def __init__(self, *options, accel="tcg", memory="256M", serial=True, env=None, program=None, arguments=("--headless",)):
        self.folder = Path(tempfile.mkdtemp(prefix="oriel-test-"))
        self.control = self.folder / "qmp"
        self.serial_path = self.folder / "com1"
        command = [str(program or ORIEL), "run", *arguments, "--accel", accel, "--memory", memory, "--control", str(self.control)]
        if serial:
            command += ["--serial", f"unix:{self.serial_path}"]
        command += [str(o) for o in options]
        self.errors = open(self.folder / "stderr", "w+")
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=self.errors, stderr=self.errors,
                                        env={**os.environ, **(env or {})})
        self.output = b""
        self.serial = None
        self.qmp = None
        self.events = []
        try:
            if serial:
                self.serial = self._connect(self.serial_path)
                self.serial.setblocking(False)
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        for s in (self.serial, self.qmp and self.qmp[0]):
            if s:
                s.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.errors.close()
        subprocess.run(["rm", "-rf", str(self.folder)], check=False)

    def stderr(self):
        return (self.folder / "stderr").read_text(errors="replace")

    def _connect(self, path, seconds=10):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the machine ended with status {self.process.returncode}: {self.stderr()}")
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(str(path))
                return s
            except OSError:
                s.close()
                time.sleep(0.01)
        raise AssertionError(f"nothing listens at {path}: {self.stderr()}")

    # ---- the serial line

    def read(self):
        try:
            while chunk := self.serial.recv(65536):
                self.output += chunk
        except BlockingIOError:
            pass
        except OSError:
            pass
        return self.output.decode(errors="replace")

    def wait_serial(self, *texts, seconds=120, start=0):
        """Waits until one of the texts stands in the serial output from `start` on; the whole output."""
        end = time.monotonic() + seconds
        while True:
            out = self.read()
            if any(t in out[start:] for t in texts):
                return out
            if self.process.poll() is not None:
                out = self.read()
                if any(t in out[start:] for t in texts):
                    return out
                raise AssertionError(f"the machine ended with status {self.process.returncode} before {texts}: {self.stderr()}\n{out[-3000:]}")
            if time.monotonic() > end:
                raise AssertionError(f"no {texts} in {seconds} s; serial output: {out[-3000:]}\nscreen: {self.try_screen()}")
            time.sleep(0.02)

    def type_serial(self, text):
        self.serial.setblocking(True)
        self.serial.sendall(text.encode())
        self.serial.setblocking(False)

    # ---- the control socket

    def command(self, name, **arguments):
        if self.qmp is None:
            s = self._connect(self.control)
            s.settimeout(30)
            self.qmp = (s, s.makefile("r"))
            json.loads(self.qmp[1].readline())
            self._call("qmp_capabilities", {})
        return self._call(name, arguments)

    def _call(self, name, arguments):
        s, lines = self.qmp
        s.sendall((json.dumps({"execute": name, "arguments": arguments}) + "\n").encode())
        while True:
            line = lines.readline()
            if not line:
                raise AssertionError(f"the control socket closed during {name}: {self.stderr()}")
            answer = json.loads(line)
            if "event" in answer:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(answer["error"]["desc"])
            else:
                return answer["return"]

    def wait_event(self, name, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for i, event in enumerate(self.events):
                if event["event"] == name:
                    return self.events.pop(i)
            self.command("query-status")
            time.sleep(0.05)
        raise AssertionError(f"no event {name} in {seconds} s")

    def keys(self, *names, hold=60):
        """Types each name (\"a\", \"ret\", \"ctrl-alt-delete\") after the other."""
        for name in names:
            self.command("send-key", keys=[{"type": "qcode", "data": k} for k in name.split("-")], **{"hold-time": hold})

    def type_text(self, text):
        """A US keyboard's keys for this text."""
        plain = {" ": "spc", "\n": "ret", "-": "minus", "=": "equal", ".": "dot", ",": "comma", "/": "slash", ";": "semicolon",
                 "'": "apostrophe", "\\": "backslash", "[": "bracket_left", "]": "bracket_right", "`": "grave_accent"}
        shifted = {"!": "1", "@": "2", "#": "3", "$": "4", "%": "5", "^": "6", "&": "7", "*": "8", "(": "9", ")": "0", "_": "minus",
                   "+": "equal", "|": "backslash", "{": "bracket_left", "}": "bracket_right", "~": "grave_accent", ":": "semicolon", '"': "apostrophe", "<": "comma", ">": "dot", "?": "slash"}
        for c in text:
            if c in plain:
                self.keys(plain[c])
            elif c in shifted:
                self.keys("shift-" + shifted[c])
            elif c.isupper():
                self.keys("shift-" + c.lower())
            else:
                self.keys(c)

    def screen(self):
        """The text on the screen, or None in a graphics mode."""
        return self.command("x-oriel-screen-text").get("text")

    def try_screen(self):
        try:
            return self.screen()
        except Exception as error:  # only for messages about another failure
            return f"({error})"

    def wait_screen(self, *texts, seconds=120):
        end = time.monotonic() + seconds
        while True:
            text = self.screen() or ""
            if any(t in text for t in texts):
                return text
            if time.monotonic() > end:
                raise AssertionError(f"no {texts} on the screen in {seconds} s; it shows: {text}")
            time.sleep(0.05)

    def wait_change(self, before, seconds=20):
        """Waits until the screen's text, or colours alone, differ from `before` (a text or a picture)."""
        end = time.monotonic() + seconds
        first = self.picture("change")
        while time.monotonic() < end:
            if self.screen() != before or self.picture("change") != first:
                return
            time.sleep(0.2)
        raise AssertionError(f"the screen does not change: {before}")

    def picture(self, name):
        """(width, height, bytes of RGB), also kept as a PNG among the logs."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        ppm = self.folder / "shot.ppm"
        self.command("screendump", filename=str(ppm))
        self.command("screendump", filename=str(SHOTS / f"{name}.png"), format="png")
        return read_ppm(ppm)

    def wait_exit(self, seconds=60):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds} s; screen: {self.try_screen()}\n{self.read()[-2000:] if self.serial else ''}") from None


def read_ppm(path):
    data = Path(path).read_bytes()
    magic, size, depth, pixels = data.split(b"\n", 3)
    width, height = map(int, size.split())
    assert magic == b"P6" and depth == b"255" and len(pixels) == width * height * 3
    return width, height, pixels


def pixel(picture, x, y):
    width, _, data = picture
    at = (y * width + x) * 3
    return tuple(data[at:at + 3])


def run(*tests):
    """Runs the tests, prints TAP; names on the command line after the program choose among them."""
    chosen = sys.argv[2:]
    tests = [t for t in tests if not chosen or t.__name__ in chosen]
    failed = 0
    for number, test in enumerate(tests, 1):
        begin = time.monotonic()
        try:
            test()
            print(f"ok {number} - {test.__name__} ({time.monotonic() - begin:.1f} s)", flush=True)
        except Skip as reason:
            print(f"ok {number} - {test.__name__} # SKIP {reason}", flush=True)
        except BaseException as error:
            failed += 1
            print(f"not ok {number} - {test.__name__}: {str(error).splitlines()[0] if str(error) else type(error).__name__}", flush=True)
            traceback.print_exc()
            if isinstance(error, KeyboardInterrupt):
                break
    print(f"1..{len(tests)}", flush=True)
    sys.exit(1 if failed else 0)
