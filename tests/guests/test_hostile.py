"""Guests that misbehave: the process neither crashes nor hangs, answers on its control socket, and says what happened."""
import time

from harness import Machine, run
from test_bios import boot_sector, debug_output, machine_with_debug


def test_triple_fault_storm_pauses():
    with Machine("--floppy", boot_sector("triple"), "--boot", "floppy", serial=False) as m:
        m.wait_event("GUEST_PANICKED", seconds=120)
        assert m.command("query-status")["status"] == "paused"
        assert "RIP=" in m.command("human-monitor-command", **{"command-line": "info registers"})
        m.command("system_reset")
        m.command("quit")
        assert m.wait_exit(10) == 0


def test_triple_fault_under_no_reboot_is_status_3():
    with Machine("--floppy", boot_sector("triple"), "--boot", "floppy", "--no-reboot", serial=False) as m:
        assert m.wait_exit(60) == 3


def test_random_ports_and_video_registers():
    with machine_with_debug("--floppy", boot_sector("pokes"), "--boot", "floppy") as m:
        debug_output(m, b"..")
        end = time.monotonic() + 20
        shots = 0
        while time.monotonic() < end:
            begin = time.monotonic()
            m.command("query-status")
            try:
                m.picture("pokes")
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
    run(test_triple_fault_storm_pauses, test_triple_fault_under_no_reboot_is_status_3, test_random_ports_and_video_registers, test_absurd_video_modes)
