"""KVM as far as the host carries it, the automatic choice, and what is said where it does not serve."""
import os
import subprocess
import time

from harness import ORIEL, Machine, Skip, run


def need_kvm():
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise Skip("no /dev/kvm, or no right to it")


def test_seabios_under_kvm():
    need_kvm()
    with Machine(accel="kvm", memory="64M", serial=False) as m:
        assert m.command("query-kvm") == {"enabled": True, "present": True}
        text = m.wait_screen("SeaBIOS (version", seconds=240)
        assert "SeaBIOS (version" in text
        m.command("stop")
        m.wait_event("STOP")
        m.command("cont")
        m.wait_event("RESUME")
        m.picture("seabios-kvm")
        m.command("quit")
        assert m.wait_exit(10) == 0


def test_choice_takes_no_time_and_says_why():
    begin = time.monotonic()
    with Machine(accel="auto", memory="64M", serial=False) as m:
        enabled = m.command("query-kvm")["enabled"]
        assert time.monotonic() - begin < 5
        m.wait_screen("SeaBIOS (version", seconds=120)
        if not enabled:
            assert "running by translation: " in m.stderr() and len(m.stderr().splitlines()) == 1, m.stderr()
        m.command("quit")
        assert m.wait_exit(10) == 0


def as_nobody(*arguments, **more):
    if os.getuid() != 0:
        raise Skip("only root can take its own rights away")
    return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", ORIEL, *arguments], capture_output=True, text=True,
                          timeout=60, env={**os.environ, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}, **more)


def test_no_right_to_kvm():
    if os.path.exists("/dev/kvm") and os.stat("/dev/kvm").st_mode & 0o006:
        raise Skip("everybody may use /dev/kvm here")
    insists = as_nobody("run", "--headless", "--accel", "kvm", "--memory", "32M")
    assert insists.returncode == 1, insists
    assert "/dev/kvm" in insists.stderr and len(insists.stderr.strip().splitlines()) == 1, insists.stderr
    falls_back = as_nobody("run", "--headless", "--memory", "32M", "--serial", "stdio", input="\x01x")
    assert falls_back.returncode == 0 and "/dev/kvm" in falls_back.stderr, falls_back


if __name__ == "__main__":
    run(test_seabios_under_kvm, test_choice_takes_no_time_and_says_why, test_no_right_to_kvm)
