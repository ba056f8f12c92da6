"""The library window, driven as a person would."""
import json
import os
import subprocess

from desktop import App, Desktop, boot_sector, harness, photograph, wait_for, xdotool, HERE


def machine(desktop, name, *options):
    desktop.oriel("create", name, "--memory", "64M", *options)


def choose(app, name, what):
    """From a row's menu."""
    app.find(f"More for {name}", "toggle button").press()
    app.find(what, "push button").press()


def rows(app):
    return [node.name for node in app.find_all(role="list item")]


def new_machine_by_the_dialog():
    with Desktop() as desktop:
        app = desktop.library()
        app.find("No machines yet", "label")
        app.press("New machine", "push button")
        app.find("Name", "text").set_text("Alpha")
        app.find("Memory (MiB)", "spin button").set_value(256)
        app.find("Disk (GiB)", "spin button").set_value(3)
        app.press("Create", "push button")
        app.find("Alpha", "list item")
        app.gone("No machines yet", "label")
        settings = json.loads(desktop.oriel("show", "Alpha", "--json"))
        assert "256" in json.dumps(settings), settings
        disk = desktop.machines / "Alpha/disk.img"
        assert disk.stat().st_size == 3 << 30 and disk.stat().st_blocks * 512 < 1 << 20
        photograph("ui-library")


def refused_name_stays_in_the_dialog():
    with Desktop() as desktop:
        app = desktop.library()
        app.press("New machine", "push button")
        app.find("Name", "text").set_text("a/b")
        app.press("Create", "push button")
        app.find(lambda name: "a/b" in name and "cannot be a machine's name" in name, "label")
        assert app.find("Name", "text").text() == "a/b"
        app.press("Cancel", "push button")
        app.gone("Create", "push button")
        assert [p for p in desktop.machines.iterdir() if not p.name.startswith(".")] == []


def machines_appear_by_themselves():
    with Desktop() as desktop:
        app = desktop.library()
        machine(desktop, "Elsewhere")
        app.find("Elsewhere", "list item")
        desktop.oriel("remove", "Elsewhere")
        app.gone("Elsewhere", "list item")


def rename():
    with Desktop() as desktop:
        for name in ("Old", "Taken"):
            machine(desktop, name)
        app = desktop.library()
        choose(app, "Old", "Rename…")
        app.find("New name", "text").set_text("Taken")
        app.press("Rename", "push button")
        app.find(lambda name: "already a machine \"Taken\"" in name, "label")
        app.find("New name", "text").set_text("Brand new")
        app.press("Rename", "push button")
        app.find("Brand new", "list item")
        assert sorted(rows(app)) == ["Brand new", "Taken"]
        assert (desktop.machines / "Brand new/machine.conf").exists() and not (desktop.machines / "Old").exists()


def remove_and_undo():
    with Desktop() as desktop:
        machine(desktop, "Precious", "--disk-size", "1M")
        disk = desktop.machines / "Precious/disk.img"
        disk.write_bytes(b"dear" * (1 << 18))
        app = desktop.library()
        choose(app, "Precious", "Remove")
        app.gone("Precious", "list item")
        assert not disk.exists()
        app.press("Undo", "push button")
        app.find("Precious", "list item")
        assert disk.read_bytes() == b"dear" * (1 << 18)
        # Not undone, it goes for good when the message does.
        choose(app, "Precious", "Remove")
        app.find("“Precious” was removed", "label")
        app.press("Dismiss", "push button")
        app.find("No machines yet", "label")
        wait_for("the trash is empty", lambda: not list((desktop.machines / ".trash").glob("*")))


def start_and_lose_a_machine():
    with Desktop() as desktop:
        for name in ("First", "Second"):
            machine(desktop, name, "--accel", "tcg")
        app = desktop.library()
        app.press("Start First", "push button")
        app.press("Start Second", "push button")
        pids = wait_for("two machines", lambda: len(desktop.machine_pids()) == 2 and desktop.machine_pids())
        windows = {name: wait_for(f"{name}'s window", lambda n=name: next((p for p in pids if App(desktop, p).has(n, "frame")), None))
                   for name in ("First", "Second")}
        wait_for("both are said to run", lambda: len(app.find_all("running", "label")) == 2)
        assert not app.find("Start First", "push button").has("SENSITIVE")
        # One engine is killed: the other and the library go on, and it is told.
        os.kill(windows["First"], 9)
        app.find(lambda name: "“First” was ended by signal 9" in name, "label")
        wait_for("one runs", lambda: len(app.find_all("running", "label")) == 1)
        assert app.find("Start First", "push button").has("SENSITIVE")
        assert App(desktop, windows["Second"]).has("Second", "frame") and app.process.poll() is None
        # And the other is switched off from here.
        choose(app, "Second", "Power Off")
        wait_for("none runs", lambda: not app.find_all("running", "label"))
        wait_for("its process has gone", lambda: not desktop.machine_pids())


def failure_to_start_is_told():
    with Desktop() as desktop:
        missing = desktop.folder / "gone.iso"
        missing.touch()
        machine(desktop, "Broken", "--cdrom", missing)
        missing.unlink()
        app = desktop.library()
        app.press("Start Broken", "push button")
        app.find(lambda name: str(missing) in name, "label")
        assert app.process.poll() is None


def search_narrows_the_list():
    with Desktop() as desktop:
        for name in ("Debian", "FreeDOS", "Plan 9"):
            machine(desktop, name)
        app = desktop.library()
        app.press("Search", "toggle button")
        app.find("Search", "text").set_text("dOs")
        wait_for("only FreeDOS", lambda: rows(app) == ["FreeDOS"])
        app.find("Search", "text").set_text("zzz")
        wait_for("none of them", lambda: rows(app) == [])
        app.find("Search", "text").set_text("")
        wait_for("all of them", lambda: len(rows(app)) == 3)


def second_start_shows_the_first_window():
    with Desktop() as desktop:
        app = desktop.library()
        assert desktop.start().wait(20) == 0
        assert len(app.find_all("Oriel", "frame")) == 1


def files_are_opened_over_the_bus():
    with Desktop() as desktop:
        desktop.library()
        floppy = boot_sector(HERE / "asm/terminal.asm")
        subprocess.run(["gdbus", "call", "--session", "--dest", "org.oriel.Oriel", "--object-path", "/org/oriel/Oriel", "--method",
                        "org.freedesktop.Application.Open", f"['file://{floppy}']", "{}"], env=desktop.env, check=True,
                       stdout=subprocess.DEVNULL)
        pids = wait_for("a machine", desktop.machine_pids)
        App(desktop, pids[0]).find("floppy.img", "frame")


def keyboard_alone_will_do():
    with Desktop() as desktop:
        machine(desktop, "Only")
        app = desktop.library()
        app.find("Only", "list item")
        window = subprocess.run(["xdotool", "search", "--onlyvisible", "--pid", str(app.pid), "--name", "^Oriel$"], check=True,
                                stdout=subprocess.PIPE, text=True).stdout.split()[-1]
        xdotool("windowfocus", "--sync", window)
        app.find("Only", "list item").focus()
        xdotool("key", "Delete")
        app.find("“Only” was removed", "label")
        xdotool("key", "ctrl+q")
        wait_for("the window has closed", lambda: app.process.poll() is not None)


TESTS = (new_machine_by_the_dialog, refused_name_stays_in_the_dialog, machines_appear_by_themselves, rename, remove_and_undo,
         start_and_lose_a_machine, failure_to_start_is_told, search_narrows_the_list, second_start_shows_the_first_window,
         files_are_opened_over_the_bus, keyboard_alone_will_do)

if __name__ == "__main__":
    harness.run(*TESTS)
