"""The command line: the library, bad input of every kind, exit statuses, control socket basics."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness import ORIEL, Machine, run


def oriel(*arguments, library=None, **more):
    env = {**os.environ, "LC_ALL": "C.UTF-8", **({"ORIEL_MACHINES": str(library)} if library else {})}
    return subprocess.run([ORIEL, *map(str, arguments)], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60, **more)


def expect_error(status, *words, arguments, library=None):
    result = oriel(*arguments, library=library)
    text = result.stderr.strip()
    assert result.returncode == status, (arguments, result.returncode, text)
    assert len(text.splitlines()) == 1 and text.startswith("oriel: "), (arguments, text)
    for word in words:
        assert str(word) in text, (arguments, word, text)
    return text


def test_library_life():
    with tempfile.TemporaryDirectory() as library:
        assert oriel("create", "one", "--memory", "512M", "--cpus", "2", "--disk-size", "64M", library=library).returncode == 0
        assert oriel("list", library=library).stdout.split() == ["one"]
        machines = json.loads(oriel("list", "--json", library=library).stdout)
        assert [m["name"] for m in machines] == ["one"] and machines[0]["running"] is False
        settings = json.loads(oriel("show", "one", "--json", library=library).stdout)["settings"]
        assert settings["memory"] == "512M" and settings["cpus"] == "2" and settings["disk"] == ["disk.img"]
        assert os.stat(f"{library}/one/disk.img").st_size == 64 << 20
        assert oriel("set", "one", "memory=1.5GiB", "title=First", library=library).returncode == 0
        assert "memory=1.5GiB" in oriel("show", "one", library=library).stdout
        expect_error(1, "one", arguments=["create", "one"], library=library)
        expect_error(2, "memory", "lots", arguments=["set", "one", "memory=lots"], library=library)
        expect_error(2, "colour", arguments=["set", "one", "colour=red"], library=library)
        expect_error(2, "cpus", "999", arguments=["set", "one", "cpus=999"], library=library)
        assert "memory=1.5GiB" in oriel("show", "one", library=library).stdout
        assert oriel("remove", "one", "--keep-disks", library=library).returncode == 0
        assert oriel("list", library=library).stdout == "" and (Path(library) / "one-disk.img").exists()
        expect_error(1, "one", arguments=["remove", "one"], library=library)


def test_unknown_keys_survive():
    with tempfile.TemporaryDirectory() as library:
        oriel("create", "one", library=library)
        path = Path(library) / "one/machine.conf"
        path.write_text(path.read_text() + "\n# a note\n[future]\nspeed=warp\n")
        assert oriel("set", "one", "memory=64M", library=library).returncode == 0
        assert "speed=warp" in path.read_text() and "# a note" in path.read_text()
        path.write_text("[machine]\nmemory=lots\n")
        expect_error(2, "memory", arguments=["show", "one"], library=library)


def test_bad_creations_leave_nothing():
    with tempfile.TemporaryDirectory() as library:
        for arguments in (["create", "a/b"], ["create", ""], ["create", ".hidden"], ["create", "x", "--memory", "1K"],
                          ["create", "x", "--disk-size", "many"], ["create", "x", "--disk", ""], ["create"],
                          ["create", "x", "--cpus", "0"], ["create", "x", "--accel", "magic"]):
            expect_error(2, arguments=arguments, library=library)
        assert [p for p in os.listdir(library)] == []


def test_bad_files():
    with tempfile.TemporaryDirectory() as folder:
        f = Path(folder)
        (f / "text").write_text("this is no kernel\n" * 100)
        (f / "odd").write_bytes(b"x" * 1000)
        (f / "empty").write_bytes(b"")
        (f / "qcow").write_bytes(b"QFI\xfb" + bytes(1020))
        head = ["run", "--headless", "--accel", "tcg"]
        for option in ("--kernel", "--disk", "--cdrom", "--floppy", "--firmware"):
            expect_error(1, f / "missing", arguments=[*head, option, f / "missing"])
            expect_error(1, folder, arguments=[*head, option, folder])
        expect_error(1, f / "text", arguments=[*head, "--kernel", f / "text"])
        expect_error(1, f / "odd", arguments=[*head, "--firmware", f / "odd"])
        expect_error(1, f / "empty", arguments=[*head, "--disk", f / "empty"])
        expect_error(1, "missing", arguments=["run", "--headless", f / "missing"])
        expect_error(1, "qcow2", arguments=["run", "--headless", f / "qcow"])
        expect_error(2, "--initrd", arguments=[*head, "--initrd", f / "text"])


def test_bad_options():
    for arguments, word in ((["run", "--headless", "--frobnicate"], "--frobnicate"), (["run", "--headless", "--memory", "12Q"], "12Q"),
                            (["run", "--headless", "--memory"], "--memory"), (["run", "--headless", "--memory", "1T"], "memory"),
                            (["run", "--headless", "--cpus", "1000"], "cpus"), (["run", "--headless", "--boot", "moon"], "boot"),
                            (["run", "--headless", "--serial", "smoke:signals"], "serial"), (["run", "a", "b"], "run"),
                            (["run", "--headless", "--debug-exit", "99999"], "debug-exit"), (["run", "--headless", "--usb", "1:2"], "usb"),
                            (["run", "--headless", "--disk", "x,bus=scsi"], "scsi"), (["run", "--headless", "--display", "x"], "display"),
                            (["frobnicate"], "frobnicate")):
        expect_error(2, word, arguments=arguments)


def test_no_display():
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    for arguments in ([], ["run", "--kernel", "/dev/null"]):
        result = subprocess.run([ORIEL, *arguments], env={**env, "LC_ALL": "C.UTF-8"}, capture_output=True, text=True, timeout=30)
        assert result.returncode == 1 and "--headless" in result.stderr and len(result.stderr.strip().splitlines()) == 1, result


def test_help_everywhere():
    text = oriel("--help").stdout
    for command in ("run", "create", "list", "show", "set", "remove", "start", "stop", "pause", "resume", "reset", "status"):
        assert f"  {command} " in text
        assert "Options:" in oriel(command, "--help").stdout
    for option in ("--accel", "--memory", "--kernel", "--control", "--no-reboot", "--debug-exit"):
        assert option in oriel("run", "--help").stdout
    assert oriel("--version").stdout.startswith("oriel ")
    assert ".TH ORIEL" in oriel("man").stdout


def test_control_socket():
    with Machine(serial=False) as m:
        assert m.command("query-status") == {"running": True, "singlestep": False, "status": "running"}
        names = {c["name"] for c in m.command("query-commands")}
        for name in ("qmp_capabilities query-commands query-version query-status stop cont system_reset system_powerdown quit send-key "
                     "input-send-event screendump query-cpus-fast query-block blockdev-change-medium eject device_add device_del "
                     "human-monitor-command").split():
            assert name in names, name
        m.command("stop")
        m.wait_event("STOP")
        assert m.command("query-status")["status"] == "paused"
        m.command("cont")
        m.wait_event("RESUME")
        m.command("system_reset")
        m.wait_event("RESET")
        assert len(m.command("query-cpus-fast")) == 1
        assert {d["device"] for d in m.command("query-block")} >= {"ide1-cd0", "floppy0"}
        for bad, arguments in (("frob", {}), ("eject", {"device": "nothing"}), ("screendump", {}), ("send-key", {"keys": [{"type": "qcode", "data": "nokey"}]}),
                               ("send-key", {"keys": "a"}), ("device_add", {"driver": "x"}), ("blockdev-change-medium", {"device": "ide1-cd0", "filename": "/nowhere"})):
            try:
                m.command(bad, **arguments)
                raise AssertionError(f"{bad} was accepted")
            except RuntimeError:
                pass
        assert "RIP=" in m.command("human-monitor-command", **{"command-line": "info registers"})
        m.command("quit")
        assert m.wait_exit(10) == 0
        assert not m.control.exists()


def test_control_socket_garbage():
    with Machine(serial=False) as m:
        m.command("query-status")
        s = socket.socket(socket.AF_UNIX)
        s.connect(str(m.control))
        s.settimeout(10)
        lines = s.makefile("r", errors="replace")
        assert "QMP" in json.loads(lines.readline())
        s.sendall(b'{"execute": "stop"}\n')
        assert json.loads(lines.readline())["error"]["class"] == "CommandNotFound"
        for bad in (b"hello", b"[1,2", b"{}", b'{"execute": 5}', b'{"execute": "qmp_capabilities", "arguments": []}', b"\xff\xfe", b'"x"', b"null"):
            s.sendall(bad + b"\n")
            assert json.loads(lines.readline())["error"]["class"] == "GenericError", bad
        s.sendall(b'{"execute": "qmp_capabilities", "id": {"a": [1]}}\n')
        assert json.loads(lines.readline()) == {"return": {}, "id": {"a": [1]}}
        s.close()
        assert m.command("query-status")["running"] is True


def test_running_machine_by_name():
    with tempfile.TemporaryDirectory() as library:
        env = {"ORIEL_MACHINES": library}
        oriel("create", "one", "--memory", "64M", "--accel", "tcg", library=library)
        process = subprocess.Popen([ORIEL, "run", "one", "--headless"], env={**os.environ, **env}, stdin=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 10
            while oriel("status", "one", library=library).stdout.strip() != "running" and time.monotonic() < end:
                time.sleep(0.1)
            assert oriel("status", "one", library=library).stdout.strip() == "running"
            expect_error(1, "one", "running", arguments=["run", "one", "--headless"], library=library)
            expect_error(1, "one", "running", arguments=["remove", "one"], library=library)
            assert oriel("pause", "one", library=library).returncode == 0
            time.sleep(0.3)
            assert oriel("status", "one", library=library).stdout.strip() == "paused"
            assert oriel("resume", "one", library=library).returncode == 0
            assert oriel("reset", "one", library=library).returncode == 0
            assert oriel("stop", "one", "--force", library=library).returncode == 0
            assert process.wait(10) == 0
            assert oriel("status", "one", library=library).stdout.strip() == "stopped"
            expect_error(1, "one", "not running", arguments=["pause", "one"], library=library)
        finally:
            process.kill()
            process.wait()


def test_terminal_escape():
    process = subprocess.Popen([ORIEL, "run", "--headless", "--accel", "tcg", "--memory", "64M", "--serial", "stdio"],
                               stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        time.sleep(0.5)
        process.stdin.write(b"a\x01\x01b\x01x")
        process.stdin.flush()
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


def test_two_machines_and_a_kill():
    with tempfile.TemporaryDirectory() as library:
        for name in ("one", "two"):
            oriel("create", name, "--memory", "64M", "--accel", "tcg", "--disk-size", "8M", library=library)
        before = (Path(library) / "one/machine.conf").read_bytes()
        env = {**os.environ, "ORIEL_MACHINES": library}
        processes = [subprocess.Popen([ORIEL, "run", n, "--headless"], env=env, stdin=subprocess.DEVNULL) for n in ("one", "two")]
        try:
            for name in ("one", "two"):
                end = time.monotonic() + 10
                while oriel("status", name, library=library).stdout.strip() != "running":
                    assert time.monotonic() < end
                    time.sleep(0.1)
            processes[0].send_signal(signal.SIGKILL)
            processes[0].wait()
            assert oriel("status", "one", library=library).stdout.strip() == "stopped"
            assert oriel("status", "two", library=library).stdout.strip() == "running"
            assert oriel("list", library=library).stdout.split()[0] == "one"
            assert (Path(library) / "one/machine.conf").read_bytes() == before
            processes[0] = subprocess.Popen([ORIEL, "run", "one", "--headless"], env=env, stdin=subprocess.DEVNULL)
            end = time.monotonic() + 10
            while oriel("status", "one", library=library).stdout.strip() != "running":
                assert time.monotonic() < end and processes[0].poll() is None
                time.sleep(0.1)
            for name in ("one", "two"):
                assert oriel("stop", name, "--force", library=library).returncode == 0
            assert [p.wait(10) for p in processes] == [0, 0]
        finally:
            for p in processes:
                p.kill()
                p.wait()


run(test_library_life, test_unknown_keys_survive, test_bad_creations_leave_nothing, test_bad_files, test_bad_options, test_no_display,
    test_help_everywhere, test_control_socket, test_control_socket_garbage, test_running_machine_by_name, test_terminal_escape, test_two_machines_and_a_kill)
