"""Guests that misbehave: the process neither crashes nor hangs, answers on its control socket, and says what happened."""
import subprocess
import time
from pathlib import Path

from harness import CACHE, Machine, run
from test_bios import boot_sector, debug_output, machine_with_debug

HERE = Path(__file__).resolve().parent


def firmware(name):
    """A 64 KB firmware image made of an assembled file."""
    CACHE.mkdir(parents=True, exist_ok=True)
    out = CACHE / f"{name}.rom"
    subprocess.run(["nasm", "-f", "bin", "-o", out, HERE / f"asm/{name}.asm"], check=True)
    assert out.stat().st_size == 64 << 10
    return out


def test_triple_fault_storm_pauses():
    """A machine that can do nothing but reset is stopped, told about, and may be started again."""
    with Machine("--firmware", firmware("storm"), serial=False) as m:
        end = time.monotonic() + 30  # it may be over before anybody can listen, hence the state and not the event
        while m.command("query-status")["status"] != "paused" and time.monotonic() < end:
            time.sleep(0.05)
        assert m.command("query-status")["status"] == "paused"
        while "restarts over and over" not in m.stderr() and time.monotonic() < end:  # told just after the state changed
            time.sleep(0.05)
        assert "restarts over and over" in m.stderr(), m.stderr()
        assert "RIP=" in m.command("human-monitor-command", **{"command-line": "info registers"})
        m.events.clear()
        m.command("cont")
        m.wait_event("GUEST_PANICKED", seconds=30)
        assert m.command("query-status")["status"] == "paused"
        m.command("quit")
        assert m.wait_exit(10) == 0


def test_triple_fault_loop_goes_on():
    """One that gets through its firmware between two faults is let be; the control socket answers all along."""
    with Machine("--floppy", boot_sector("triple"), "--boot", "floppy", serial=False) as m:
        for _ in range(5):
            m.wait_event("RESET", seconds=30)
        begin = time.monotonic()
        assert m.command("query-status")["status"] == "running"
        m.picture("triple")
        assert time.monotonic() - begin < 5
        m.command("quit")
        assert m.wait_exit(10) == 0


def test_triple_fault_under_no_reboot_is_status_3():
    with Machine("--floppy", boot_sector("triple"), "--boot", "floppy", "--no-reboot", serial=False) as m:
        assert m.wait_exit(60) == 3


def test_random_ports_and_video_registers():
    with machine_with_debug("--floppy", boot_sector("pokes"), "--boot", "floppy") as m:
        debug_output(m, b"..")
        end = time.monotonic() + 15
        shots = 0
        while time.monotonic() < end:
            begin = time.monotonic()
            m.command("query-status")
            assert time.monotonic() - begin < 1
            try:
                m.command("screendump", filename=str(m.folder / "shot.ppm"))
                shots += 1
            except RuntimeError:
                pass
            assert time.monotonic() - begin < 5
        assert m.process.poll() is None and shots > 3


def test_absurd_video_modes():
    """Through the control socket the window's path is used: each mode is drawn while the guest keeps changing it."""
    with machine_with_debug("--floppy", boot_sector("vbe"), "--boot", "floppy") as m:
        debug_output(m, b"!", seconds=120)
        m.command("query-status")
        assert m.process.poll() is None


if __name__ == "__main__":
    run(test_triple_fault_storm_pauses, test_triple_fault_loop_goes_on, test_triple_fault_under_no_reboot_is_status_3, test_random_ports_and_video_registers, test_absurd_video_modes)
