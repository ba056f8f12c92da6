"""Boot benchmarks against QEMU in the same run, medians of several runs in turn:

  init      Debian's amd64 kernel to its init, both under translation, the same kernel and initramfs
  bios      start of the process to SeaBIOS's first byte on port 0x402
  resident  memory at the BIOS with 128 MiB of guest RAM
  idle      CPU share of a guest idling at its shell

Prints a table, TAP lines against the bars, and with --save writes tests/bench/results/boot.json.

  python3 tests/bench/boot.py [--short] [--save] [--oriel PATH]
"""
import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
options = argparse.ArgumentParser()
options.add_argument("--short", action="store_true")
options.add_argument("--save", action="store_true")
options.add_argument("--oriel", default=str(ROOT / "build/release/app/oriel"))
options.add_argument("--only", action="append")
opts = options.parse_args()

sys.path.insert(0, str(ROOT / "tests/guests"))
sys.argv = [sys.argv[0], opts.oriel]
from harness import INIT_HEAD, ORIEL, initramfs, kernel  # noqa: E402

RUNS = 3 if opts.short else 5
QEMU = "qemu-system-x86_64"
COMMON_QEMU = [QEMU, "-nodefaults", "-display", "none", "-vga", "std", "-accel", "tcg", "-M", "pc"]
INIT = INIT_HEAD + 'echo "INIT READY"\nexec setsid sh -c "exec sh </dev/ttyS0 >/dev/ttyS0 2>&1"\n'


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid):
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no Rss")


def wait_for(pipe, text, seconds):
    """Reads until `text`; the seconds it took, from `pipe.begin`."""
    seen = b""
    os.set_blocking(pipe.fileno(), True)
    while text not in seen:
        chunk = os.read(pipe.fileno(), 4096)
        if not chunk:
            raise AssertionError(f"ended before {text}: {seen[-500:]}")
        seen = (seen + chunk)[-8192:]
        if time.monotonic() > seconds:
            raise AssertionError(f"no {text}: {seen[-500:]}")
    return time.monotonic()


class Guest:
    def __init__(self, command):
        self.begin = time.monotonic()
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.process.kill()
        self.process.wait()

    def until(self, text, seconds=300):
        return wait_for(self.process.stdout, text, self.begin + seconds) - self.begin


def oriel_boot(initrd):
    return [ORIEL, "run", "--headless", "--accel", "tcg", "--memory", "512M", "--kernel", kernel(), "--initrd", initrd,
            "--append", "console=ttyS0 quiet mitigations=off", "--serial", "stdio"]


def qemu_boot(initrd):
    return [*COMMON_QEMU, "-m", "512", "-kernel", kernel(), "-initrd", initrd, "-append", "console=ttyS0 quiet mitigations=off", "-serial", "stdio"]


def bench_init():
    initrd = initramfs(INIT, name="bench")
    times = {"oriel": [], "qemu": []}
    for _ in range(RUNS):
        for name, command in (("oriel", oriel_boot(initrd)), ("qemu", qemu_boot(initrd))):
            with Guest(command) as g:
                times[name].append(g.until(b"INIT READY"))
    initrd.unlink()
    return {n: statistics.median(t) for n, t in times.items()}


def bench_bios():
    times = {"oriel": [], "qemu": []}
    oriel = [ORIEL, "run", "--headless", "--accel", "tcg", "--memory", "128M", "--debugcon", "stdio"]
    qemu = [*COMMON_QEMU, "-m", "128", "-chardev", "stdio,id=d", "-device", "isa-debugcon,iobase=0x402,chardev=d"]
    for _ in range(2 * RUNS):
        for name, command in (("oriel", oriel), ("qemu", qemu)):
            with Guest(command) as g:
                times[name].append(g.until(b"S", 20) * 1000)
    return {n: statistics.median(t) for n, t in times.items()}


def bench_resident():
    out = {}
    oriel = [ORIEL, "run", "--headless", "--accel", "tcg", "--memory", "128M", "--debugcon", "stdio"]
    qemu = [*COMMON_QEMU, "-m", "128", "-chardev", "stdio,id=d", "-device", "isa-debugcon,iobase=0x402,chardev=d"]
    for name, command in (("oriel", oriel), ("qemu", qemu)):
        with Guest(command) as g:
            g.until(b"No bootable device", 60)
            time.sleep(0.5)
            out[name] = resident_mib(g.process.pid)
    return out


def bench_idle():
    initrd = initramfs(INIT, name="bench")
    out = {}
    for name, command in (("oriel", oriel_boot(initrd)), ("qemu", qemu_boot(initrd))):
        with Guest(command) as g:
            g.until(b"INIT READY")
            time.sleep(4)
            before = cpu_seconds(g.process.pid)
            time.sleep(10)
            out[name] = (cpu_seconds(g.process.pid) - before) * 10
    initrd.unlink()
    return out


BENCHES = {
    "init": (bench_init, "s", lambda r: r["oriel"] <= r["qemu"], "not slower than QEMU"),
    "bios": (bench_bios, "ms", lambda r: r["oriel"] <= r["qemu"], "not slower than QEMU"),
    "resident": (bench_resident, "MiB", lambda r: r["oriel"] < 30, "below 30 MiB"),
    "idle": (bench_idle, "% of a core", lambda r: r["oriel"] < 3, "below 3 %"),
}


def cpu_model():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    results, failed = {}, 0
    chosen = opts.only or list(BENCHES)
    version = subprocess.run([QEMU, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    print(f"# {cpu_model()}; {os.cpu_count()} CPUs; {version}; kernel {kernel().name}")
    print(f"# {'bench':10} {'Oriel':>9} {'QEMU':>9} {'QEMU/Oriel':>11}")
    for number, name in enumerate(chosen, 1):
        func, unit, judge, bar = BENCHES[name]
        try:
            r = func()
        except Exception as error:
            failed += 1
            print(f"not ok {number} - {name}: {error}", flush=True)
            continue
        results[name] = {"unit": unit, "oriel": round(r["oriel"], 2), "qemu": round(r["qemu"], 2), "bar": bar}
        print(f"# {name:10} {r['oriel']:9.2f} {r['qemu']:9.2f} {r['qemu'] / max(r['oriel'], 0.01):11.2f}  {unit}")
        ok = judge(r)
        failed += not ok
        print(f"{'ok' if ok else 'not ok'} {number} - {name} {bar}", flush=True)
    print(f"1..{len(chosen)}")
    if opts.save:
        out = ROOT / "tests/bench/results/boot.json"
        out.write_text(json.dumps({"command": "python3 tests/bench/boot.py --save", "machine": cpu_model(), "cpus": os.cpu_count(), "qemu": version,
                                   "kernel": kernel().name, "results": results}, indent=2) + "\n")
    sys.exit(1 if failed else 0)


main()
