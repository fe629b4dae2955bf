"""The schedule: entries that are only ours, a launcher that outlives checkouts, and real ticks."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as xml
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import needs
import pytest
from conftest import CHECKOUT, set_up_long_ago
from harness import FAKE_CLIENT, World, wait_until

from orchestrator import __version__
from orchestrator.client.claude.adapter import Claude
from orchestrator.schedule import cron, schedule
from orchestrator.schedule.entry import Entry, usable_path
from orchestrator.schedule.schedule import KINDS

world = harness.world
Cli = Callable[..., Any]
#: A name with everything that sh, cron and systemd treat in a way of their own.
NASTY = "a 50% 'p' \"q\" $HOME \\x \\\\y \\% `z` ü"
OTHERS = b'MAILTO=""\r\n# not ours \xff %\n*/5 * * * * echo 50\\% of it >/dev/null\n\n'

#: Keeps a file. In sh, because the product reads the crontab again and again.
FAKE_CRONTAB = """#!/bin/sh
case "$*" in
-l)
    [ -e {kept} ] || {{ echo 'no crontab for tester' >&2; exit 1; }}
    exec cat {kept};;
-r) exec rm {kept};;
-) exec {python} -IS {checks} {kept};;
esac
echo 'usage error' >&2
exit 1
"""
#: Refuses what Debian's crontab refuses.
CHECKS = """
import re, sys
text = sys.stdin.buffer.read()
if not text.endswith(b"\\n"):
    sys.exit("new crontab file is missing newline before EOF, can't install.")
for number, line in enumerate(text.splitlines()):
    when = rb"(?:@\\w+|(?:[\\d*/,-]+[ \\t]+){5})\\s*\\S"
    good = re.match(rb"\\s*(#.*)?$|\\s*\\w+\\s*=|" + when, line)
    if not good:
        sys.exit('"-":%d: bad minute\\nerrors in crontab file' % number)
    if len(line) - 10 >= 1000 and b"=" not in line.split()[0]:
        sys.exit('"-":%d: command too long\\nerrors in crontab file' % number)
open(sys.argv[1], "wb").write(text)
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def add_crontab(world: World) -> Path:
    """Give a world a crontab program; return the file that it keeps."""
    kept, checks = world.folder / "kept-crontab", world.folder / "crontab.py"
    checks.write_text(CHECKS)
    words = {"python": sys.executable, "kept": kept, "checks": checks}
    quoted = {name: shlex.quote(str(word)) for name, word in words.items()}
    program(world.bin / "crontab", FAKE_CRONTAB.format(**quoted))
    return kept


@pytest.fixture
def planned(world: World) -> World:
    """A project in a folder with a nasty name, and a crontab to put it in."""
    add_crontab(world)
    world.create()
    return move(world, world.folder / NASTY / "project")


def move(world: World, where: Path) -> World:
    where.parent.mkdir()
    world.root.rename(where)
    world.root = where
    world.home_folder = where / ".orchestrator"
    world.queue = world.home_folder / "shared" / "queue"
    return world


def kept(world: World) -> bytes:
    path = world.folder / "kept-crontab"
    return path.read_bytes() if path.exists() else b""


def commands(text: bytes) -> list[str]:
    """The commands in our blocks, as they stand there."""
    found = re.findall(rb"^# >>> orchestrator \w+ >>>.*\n\* \* \* \* \* (.*)\n# <<<", text, re.M)
    return [os.fsdecode(each) for each in found]


def after_cron(command: str) -> str:
    """What vixie's cron passes to the shell (do_command.c): `%` ends it, `\\%` does not."""
    said, escaped = "", False
    for char in command:
        if escaped:
            said = said[:-1] + char if char in "%\\" else said + char
            escaped = False
        elif char == "%":
            break
        else:
            said += char
            escaped = char == "\\"
    return said


def as_cron(world: World, command: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the environment that cron gives."""
    add_bytecode(world)
    home = f"HOME={world.home}"
    given = (home, "LOGNAME=tester", "SHELL=/bin/sh", "PATH=/usr/bin:/bin")
    fake = f"FAKE_CLIENT_HOME={world.fake}"
    words = ("env", "-i", *given, fake, *(f"{k}={v}" for k, v in more.items()))
    return subprocess.run(
        (*words, "/bin/sh", "-c", command), cwd="/", capture_output=True, text=True, timeout=60
    )


def launcher(world: World) -> Path:
    return world.home / ".local" / "share" / "orchestrator" / "bin" / "orchestrator"


def app(world: World) -> Path:
    """The copy of the program that the launcher starts."""
    words = shlex.split(launcher(world).read_text(), comments=True)
    return Path(words[words.index("$@") - 1]).parents[1]


def copies(world: World) -> set[Path]:
    return set(launcher(world).parents[1].glob("*/app*"))


def add_bytecode(world: World) -> None:
    """Give the copies the checkout's bytecode: to compile a copy takes half a second of CPU time.

    Python does not use it for a file with another time or size: it puts a file in the link's place.
    """
    for copy in copies(world):
        for where, _, names in os.walk(CHECKOUT / "orchestrator"):
            there = copy / Path(where).relative_to(CHECKOUT)
            if there.name == "__pycache__" and there.parent.is_dir():
                there.mkdir(exist_ok=True)
                for name in {*names} - {*os.listdir(there)}:
                    os.symlink(f"{where}/{name}", f"{there}/{name}")


def ticked(world: World) -> bool:
    lock = world.home_folder / "scheduler.lock"
    return lock.exists() and lock.stat().st_size > 0


# --- cron --------------------------------------------------------------------------------------


def test_one_block_a_project_and_every_other_byte_as_it_was(world: World, tmp_path: Path) -> None:
    file = add_crontab(world)
    file.write_bytes(OTHERS)
    world.create()
    other = world.folder / "other"
    shutil.copytree(world.root, other)
    world.ok("init", "--schedule", "cron")
    world.ok("init", "--schedule", "cron", cwd=other)
    both = file.read_bytes()
    assert both.startswith(OTHERS)
    assert len(commands(both)) == 2
    assert "nothing to change" in world.ok("init", "--schedule", "cron").out
    world.ok("init")
    assert file.read_bytes() == both
    # Somebody adds lines around ours, and we go.
    file.write_bytes(both + b"@daily true\n")
    assert "crontab" in world.ok("init", "--schedule", "none").out
    [left] = commands(file.read_bytes())
    assert f"cd {other} " in Path(*shlex.split(left)).read_text()
    assert file.read_bytes().endswith(b"@daily true\n")
    assert launcher(world).exists()
    world.ok("init", "--uninstall", cwd=other)
    assert file.read_bytes() == OTHERS + b"@daily true\n"


def test_a_crontab_that_was_not_there_is_not_there_again(world: World) -> None:
    file = add_crontab(world)
    world.create()
    done = world.ok("init", "--schedule", "cron")
    assert "undo: orchestrator init --schedule none" in done.out
    assert len(commands(file.read_bytes())) == 1
    world.ok("init", "--schedule", "none")
    assert not file.exists()
    assert not launcher(world).parents[1].exists()


def test_a_block_that_somebody_edited_becomes_ours_again(planned: World) -> None:
    planned.ok("init", "--schedule", "cron")
    whole = kept(planned)
    for damaged in (
        whole.replace(b"* * * * *", b"*/7 * * * *"),
        whole.replace(b"# <<<", b"# gone"),
        re.sub(rb"# <<<.*\n", b"", whole),
        re.sub(rb"# >>>.*\n\*.*\n", b"", whole),
        whole + whole,
    ):
        (planned.folder / "kept-crontab").write_bytes(OTHERS + damaged + b"0 1 * * * mine\n")
        planned.ok("init", "--schedule", "cron")
        assert kept(planned).count(whole) == 1
        assert len(commands(kept(planned))) == 1
        assert kept(planned).startswith(OTHERS)
        assert b"0 1 * * * mine\n" in kept(planned)


def test_failure_19_the_line_really_ticks_from_crons_environment_whatever_the_folder_is_called(
    planned: World,
) -> None:
    planned.ok("init", "--schedule", "cron")
    [command] = commands(kept(planned))
    task = planned.add("Work")
    # What vixie's cron makes of it, and what busybox's, which knows nothing of `%`.
    assert as_cron(planned, after_cron(command)).stderr == ""
    assert ticked(planned)

    def again() -> bool:
        done = as_cron(planned, command)
        assert (done.stdout, done.stderr) == ("", "")
        return planned.where(task) == ["done"]

    wait_until(again, "the task to be done by cron's line", every=0.3)
    assert (planned.home_folder / "schedule.log").read_text() == ""


def test_what_goes_wrong_is_in_the_log_and_a_deleted_project_is_silent(planned: World) -> None:
    planned.ok("init", "--schedule", "cron")
    [command] = commands(kept(planned))
    planned.write_config("agents: 7\n")
    done = as_cron(planned, after_cron(command))
    assert (done.stdout, done.stderr) == ("", "")
    log = planned.home_folder / "schedule.log"
    assert "agents" in log.read_text()
    log.write_text("x" * 99 + "\n" + ("y" * 99 + "\n") * 20_000)
    planned.ok("init", "--schedule", "cron")
    assert not log.exists()
    assert log.with_name("schedule.log.1").stat().st_size == 2_000_100
    shutil.rmtree(planned.root)
    done = as_cron(planned, after_cron(command))
    assert (done.stdout, done.stderr) == ("", "")


def test_a_clone_where_nobody_ran_init_is_not_ticked_by_a_line_that_meant_another(
    planned: World,
) -> None:
    planned.ok("init", "--schedule", "cron")
    (planned.root / ".git" / "orchestrator.json").unlink()
    as_cron(planned, after_cron(commands(kept(planned))[0]))
    assert not ticked(planned)


def test_a_path_of_any_length_reaches_the_ticks(planned: World) -> None:
    tools = planned.folder / "tools"
    program(tools / "said", "#!/bin/sh\necho found\n")
    long = ":".join(
        (planned.environment["PATH"], *(f"/none/{n:040}" for n in range(90)), str(tools))
    )
    planned.ok("init", "--schedule", "cron", PATH=long)
    [command] = commands(kept(planned))
    assert len(command) < 1000
    assert as_cron(planned, after_cron(command)).stderr == ""
    assert ticked(planned)
    launcher(planned).write_text("#!/bin/sh\nexec said\n")
    assert as_cron(planned, after_cron(f"{command} any")).stdout == "found\n"
    planned.ok("init", "--schedule", "none")
    assert not launcher(planned).parents[1].exists()


def test_a_script_that_is_gone_is_written_again_by_init(planned: World) -> None:
    planned.ok("init", "--schedule", "cron")
    [script] = launcher(planned).parent.glob("orchestrator-*")
    text = script.read_bytes()
    script.unlink()
    [found] = findings(planned, "schedule")
    assert (found["level"], found["hint"]) == ("warn", "to renew it: orchestrator init")
    assert str(script) in found["message"]
    planned.ok("init")
    assert script.read_bytes() == text
    assert findings(planned, "schedule") == []


def test_what_the_crontab_refuses_changes_nothing(world: World) -> None:
    file = add_crontab(world)
    file.write_bytes(OTHERS)
    world.create()
    program(world.bin / "crontab", "#!/bin/sh\necho 'You (tester) are not allowed' >&2; exit 1\n")
    done = world.refused("init", "--schedule", "cron", "--json")
    assert done.json["error"]["code"] == "crontab_failed"
    assert "not allowed" in done.err
    assert file.read_bytes() == OTHERS
    world.ok("init", "--schedule", "none")


def test_without_a_crontab_program_it_says_so_before_anything_is_written(world: World) -> None:
    world.create(init=False)
    for name in ("git", "sh"):
        found = shutil.which(name)
        assert found
        (world.bin / name).symlink_to(found)
    done = world.refused("init", "--schedule", "cron", PATH=str(world.bin))
    assert "no crontab program" in done.err
    assert "systemd" in done.err
    assert not world.home_folder.exists()
    assert list(world.home.iterdir()) == [world.home / ".gitconfig"]


def test_a_folder_whose_name_breaks_lines_is_refused(world: World) -> None:
    add_crontab(world)
    world.create()
    move(world, world.folder / "two\nlines" / "project")
    for kind in ("cron", "systemd"):
        done = world.refused("init", "--schedule", kind)
        assert "line break" in done.err
    assert kept(world) == b""


def test_the_json_says_which_schedule_there_is(world: World) -> None:
    add_crontab(world)
    world.create()
    assert world.json("init")["schedule"] is None
    found = world.json("init", "--schedule", "cron")
    assert found["schedule"] == {
        "kind": "cron",
        "launcher": str(launcher(world)),
        "undo": "orchestrator init --schedule none",
    }
    assert any("crontab" in line for line in found["written"])
    assert world.json("init")["schedule"] == found["schedule"]
    assert world.json("init", "--schedule", "none")["schedule"] is None


def test_uninstall_leaves_nothing_but_the_queue(planned: World) -> None:
    before = [path for path in planned.home.rglob("*") if path.is_file()]
    (planned.folder / "kept-crontab").write_bytes(OTHERS)
    planned.ok("init", "--schedule", "cron")
    as_cron(planned, after_cron(commands(kept(planned))[0]))
    done = planned.ok("init", "--uninstall")
    assert str(planned.home_folder) in done.out
    assert kept(planned) == OTHERS
    assert not (planned.home_folder / "schedule.log").exists()
    assert [path for path in planned.home.rglob("*") if path.is_file()] == before
    assert not launcher(planned).parents[1].exists()


def test_the_path_that_is_kept_holds_nothing_that_passes() -> None:
    path = "/a:/b::.:rel:/a:/home/me/.claude/plugins/cache/x/1.0/bin:/with\nbreak:/c d"
    passing = Claude().passing_folders({"HOME": "/home/me"})
    found = usable_path({"PATH": path}, passing)
    assert found == "/a:/b:/c d"
    assert usable_path({"PATH": "rel"}) == os.defpath


@pytest.mark.parametrize("text", ["plain", NASTY, "%", "\\", "\\\\%\\", "'%'\\'", "a\\%%b"])
def test_a_quoted_word_is_itself_again_after_cron_and_the_shell(text: str) -> None:
    quoted = cron.quote(text)
    assert shlex.split(after_cron(quoted)) == [text]
    assert shlex.split(quoted) == [text]


# --- the link on the PATH ----------------------------------------------------------------------


def test_a_link_puts_the_program_on_the_path_and_goes_on_request(world: World) -> None:
    world.create()
    link = world.home / ".local" / "bin" / "orchestrator"
    done = world.ok("init", "--link")
    assert f"{link} (a link; undo: orchestrator init --no-link)" in done.out
    assert "~/.local/bin is not on your PATH" in done.err
    assert "`init --link` puts it on your PATH" not in done.out, "the link is there already"
    assert os.readlink(link) == str(launcher(world))
    said = subprocess.run((link, "--version"), cwd="/", env={}, capture_output=True, text=True)
    assert said.stdout == f"orchestrator {__version__}\n"
    path = f"{link.parent}:{world.environment['PATH']}"
    again = world.ok("init", "--link", PATH=path)
    assert (again.err, "nothing to change" in again.out) == ("", True)
    world.ok("init", "--schedule", "none")
    assert launcher(world).exists()  # the link needs it
    world.ok("init", "--no-link")
    assert not os.path.lexists(link)
    assert not launcher(world).parents[1].exists()


def test_a_file_of_the_links_name_is_never_replaced(world: World) -> None:
    world.create()
    file = program(world.home / ".local" / "bin" / "orchestrator", "mine")
    done = world.refused("init", "--link")
    assert "is not orchestrator's" in done.err
    world.ok("init", "--no-link")
    assert file.read_text() == "mine"


def test_uninstall_removes_the_link_that_was_asked_for_in_the_same_project(world: World) -> None:
    world.create()
    other = world.folder / "other"
    shutil.copytree(world.root, other)
    world.ok("init", "--link")
    world.ok("init", "--uninstall", cwd=other)
    link = world.home / ".local" / "bin" / "orchestrator"
    assert link.exists()
    assert str(link) in world.ok("init", "--uninstall").out
    assert not os.path.lexists(link)
    assert not launcher(world).parents[1].exists()


def test_an_uninstall_that_is_started_through_the_link_removes_the_program(world: World) -> None:
    """The process loses the copy that it was started from, with all that it has not loaded yet."""
    world.create()
    world.ok("init", "--link")
    world.add("Stays")
    link = world.home / ".local" / "bin" / "orchestrator"
    done = subprocess.run(
        (link, "init", "--uninstall"),
        cwd=world.root,
        env=world.environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{launcher(world)}" in done.stdout
    assert not os.path.lexists(link)
    assert not launcher(world).parents[1].exists()
    assert (world.queue / "incoming").exists()
    assert not (world.root / ".git" / "orchestrator.json").exists()


# --- a real cron -------------------------------------------------------------------------------

#: In a mount namespace of its own: this machine's crontabs and daemon are out of reach.
REAL_CRON = """
set -e
mount -t tmpfs none /var/spool
mount -t tmpfs none /run
mkdir -p /var/spool/cron/crontabs
chmod 1730 /var/spool/cron/crontabs
printf 'HOME=%s\\nFAKE_CLIENT_HOME=%s\\n' "$HOME" "$FAKE_CLIENT_HOME" | crontab -
"$@" init --schedule cron >&2
{cron} -f &
while kill -0 $! && [ ! -e "$FAKE_CLIENT_HOME/enough" ]; do sleep 0.2; done
kill $!
"$@" init --uninstall >&2
crontab -l
"""


def may_unshare() -> bool:
    program = shutil.which("unshare")
    words = (program or "", "--mount", "mount", "-t", "tmpfs", "none", "/run")
    return bool(program) and subprocess.run(words, capture_output=True).returncode == 0


@pytest.mark.timeout(330)
@pytest.mark.root  # mounts a crontab folder of its own
def test_a_real_cron_daemon_gets_a_task_done(world: World) -> None:
    cron = needs.program("cron", "cron")
    if not may_unshare():
        pytest.skip("needs a mount namespace")
    move(world.create(), world.folder / NASTY / "project")
    task = world.add("Work")
    product = (sys.executable, "-I", "-S", str(CHECKOUT / "orchestrator" / "__main__.py"))
    script = REAL_CRON.format(cron=cron)
    words = ("unshare", "--mount", "sh", "-c", script, "sh", *product)
    with subprocess.Popen(
        words,
        cwd=world.root,
        env=world.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as daemon:
        try:
            wait_until(lambda: world.where(task) == ["done"], "the task to be done", 240, 0.5)
        finally:
            (world.fake / "enough").touch()
            out, err = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, err
    assert out == f"HOME={world.home}\nFAKE_CLIENT_HOME={world.fake}\n"
    # Cron's own ticks did it: nobody else ticked here.
    history = (world.home_folder / "events.jsonl").read_text()
    events = [json.loads(line) for line in history.splitlines()]
    assert {event["task"] for event in events if "task" in event} >= {task}


# --- the launcher ------------------------------------------------------------------------------


def copy_checkout(where: Path) -> Path:
    """A checkout of its own, that a test may change; return its `__main__.py`.

    Compiled modules are linked, so that not every test compiles them; `*.pyc.*` are unfinished.
    """

    def take(source: str, target: str) -> None:
        if source.endswith(".pyc"):
            os.symlink(source, target)  # Python replaces the link, and does not write to its file
        else:
            shutil.copy2(source, target)

    for name in (".claude-plugin", "bin", "hooks", "orchestrator", "plugin", "skills"):
        leave = shutil.ignore_patterns("*.pyc.*")
        shutil.copytree(CHECKOUT / name, where / name, ignore=leave, copy_function=take)
    shutil.copy2(CHECKOUT / "requirements.lock", where)
    return where / "orchestrator" / "__main__.py"


def init_by(world: World, main: Path, *words: str) -> str:
    done = subprocess.run(
        (sys.executable, "-I", "-S", str(main), "init", *words),
        cwd=world.root,
        env=world.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_launcher_is_two_lines_and_names_neither_checkout_nor_cache(planned: World) -> None:
    main = copy_checkout(planned.home / ".claude" / "plugins" / "cache" / "o" / "0.1.0")
    init_by(planned, main, "--schedule", "cron")
    lines = launcher(planned).read_text().splitlines()
    assert lines[0] == "#!/bin/sh"
    here = str(app(planned) / "orchestrator" / "__main__.py")
    wanted = ["exec", sys.executable, "-I", "-S", here, "$@"]
    assert shlex.split(lines[1]) == wanted
    assert len(lines) == 2
    assert app(planned).parent == launcher(planned).parents[1] / __version__
    for name in ("plugin/roles", "skills", "hooks", ".claude-plugin", "bin", "requirements.lock"):
        assert (app(planned) / name).exists()
    [command] = commands(kept(planned))
    assert "plugins/cache" not in command + Path(*shlex.split(after_cron(command))).read_text()


def test_what_pip_installed_is_copied_whole_as_well(planned: World) -> None:
    checkout, site = planned.folder / "checkout", planned.folder / "site"
    copy_checkout(checkout)
    shutil.copytree(checkout / "orchestrator", site / "orchestrator")
    (site / "orchestrator" / "_resources").mkdir()
    for name in (".claude-plugin", "hooks", "plugin", "skills"):
        (checkout / name).rename(site / "orchestrator" / "_resources" / name)
    (site / "another_package").mkdir()
    init_by(planned, site / "orchestrator" / "__main__.py", "--schedule", "cron")
    assert [path.name for path in app(planned).iterdir()] == ["orchestrator"]
    shutil.rmtree(site)
    task = planned.add("Work")
    command = after_cron(commands(kept(planned))[0])
    wait_until(
        lambda: as_cron(planned, command) and planned.where(task) == ["done"], "done", every=0.3
    )


def test_failure_20_a_broken_checkout_does_not_stop_the_ticks(planned: World) -> None:
    main = copy_checkout(planned.folder / "checkout")
    init_by(planned, main, "--schedule", "cron")
    for path in main.parent.rglob("*.py"):
        path.write_text("an agent is editing this\n")
    done = as_cron(planned, after_cron(commands(kept(planned))[0]))
    assert done.stderr == ""
    assert ticked(planned)
    assert (planned.home_folder / "schedule.log").read_text() == ""


def test_a_copy_is_replaced_only_when_it_differs_and_a_damaged_one_is_replaced(
    planned: World,
) -> None:
    main = copy_checkout(planned.folder / "checkout")
    assert "(the program that schedules start)" in init_by(planned, main, "--schedule", "cron")
    first = app(planned)
    (main.parent / "idle.py").touch()
    assert "nothing to change" in init_by(planned, main)
    (first / "orchestrator" / "idle.py").write_text("damaged\n")
    assert str(first.parent) in init_by(planned, main)
    second = app(planned)
    assert "damaged" not in (second / "orchestrator" / "idle.py").read_text()
    with (main.parent / "idle.py").open("a") as file:
        file.write("# one more line\n")
    init_by(planned, main)
    # The copy before stays for who was about to start it; the one before that goes.
    assert copies(planned) == {second, app(planned)}
    assert as_cron(planned, after_cron(commands(kept(planned))[0])).stderr == ""
    assert ticked(planned)


def test_a_run_at_work_keeps_the_copy_that_it_was_started_from(planned: World) -> None:
    main = copy_checkout(planned.folder / "checkout")
    init_by(planned, main, "--schedule", "cron")
    old = app(planned)
    command = after_cron(commands(kept(planned))[0])
    planned.script("default", {"steps": [["work_once"], ["wait", "go"]]})
    task = planned.add("Work")
    as_cron(planned, command)
    wait_until(lambda: planned.running(task), "the run")
    for number in range(2):
        with (main.parent / "idle.py").open("a") as file:
            file.write(f"# new code {number} of the same version\n")
        init_by(planned, main)
    assert old.exists()
    assert old != app(planned)
    planned.open("go")
    wait_until(
        lambda: as_cron(planned, command) and planned.where(task) == ["done"], "done", every=0.3
    )
    planned.quiet()
    (main.parent / "idle.py").write_text((CHECKOUT / "orchestrator" / "idle.py").read_text())
    init_by(planned, main)
    assert not old.exists()


def test_a_newer_version_moves_every_schedule_along_and_an_older_one_none(planned: World) -> None:
    planned.ok("init", "--schedule", "cron")
    old = app(planned)
    before = kept(planned)
    main = copy_checkout(planned.folder / "checkout")
    for name in ("__init__.py", "../bin/orchestrator"):
        path = main.parent / name
        path.write_text(path.read_text().replace(__version__, "99.0.1"))
    found = [f for f in planned.json("doctor")["findings"] if f["code"] == "schedule"]
    assert [f["level"] for f in found] == ["ok"]
    assert "99.0.1" in init_by(planned, main)
    assert "/99.0.1/app-" in launcher(planned).read_text()
    assert kept(planned) == before
    assert old.exists()
    again = planned.ok("init", "--schedule", "cron")
    assert "99.0.1" in again.err
    assert "/99.0.1/app-" in launcher(planned).read_text()
    assert as_cron(planned, after_cron(commands(before)[0])).stderr == ""
    assert ticked(planned)


def session_of(world: World, main: Path, version: str) -> None:
    """What the plugin's hook does as a session starts, by a checkout of this version."""
    environment = launcher(world).parents[1] / version / "venv"
    environment.mkdir(parents=True)
    for name in os.listdir(sys.prefix):
        (environment / name).symlink_to(Path(sys.prefix) / name)
    (environment / ".complete").touch()
    for name in ("__init__.py", "../bin/orchestrator"):
        path = main.parent / name
        path.write_text(path.read_text().replace(__version__, version))
    done = subprocess.run(
        ("/bin/sh", str(main.parent.parent / "hooks" / "session-start"), "tick"),
        env={**world.environment, "CLAUDE_PROJECT_DIR": str(world.root)},
        cwd=world.root,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("version", "damage", "moves"),
    [
        pytest.param("99.0.2", "", True, id="newer"),
        pytest.param("0.0.1", "", False, id="older", marks=pytest.mark.slow),
        pytest.param("99.0.2", "import nothing_like_it\n", False, id="broken"),
    ],
)
def test_after_an_update_of_the_plugin_the_next_session_moves_the_schedule_along(
    planned: World, version: str, damage: str, moves: bool
) -> None:
    planned.ok("init", "--schedule", "cron")
    [command] = commands(kept(planned))
    before = launcher(planned).read_text()
    main = copy_checkout(planned.folder / "plugin")
    main.write_text(damage + main.read_text())
    session_of(planned, main, version)
    assert (launcher(planned).read_text() != before) == moves
    assert (f"/{version}/app-" in launcher(planned).read_text()) == moves
    assert str(planned.folder / "plugin") not in launcher(planned).read_text()
    assert commands(kept(planned)) == [command]
    shutil.rmtree(planned.folder / "plugin")  # as the next update does
    assert as_cron(planned, after_cron(command)).stderr == ""
    assert ticked(planned)


def test_a_project_without_a_schedule_moves_nobody_elses(world: World) -> None:
    add_crontab(world)
    world.create()
    world.ok("init", "--schedule", "cron")
    before = launcher(world).read_text()
    other = world.folder / "other"
    world.git("clone", "-q", str(world.remote), str(other), cwd=world.folder)
    world.ok("init", cwd=other)
    main = copy_checkout(world.folder / "plugin")
    world.root = other
    session_of(world, main, "99.0.2")
    assert launcher(world).read_text() == before


def test_a_copy_that_does_not_start_leaves_the_one_before_at_work(planned: World) -> None:
    planned.ok("init", "--schedule", "cron")
    before = launcher(planned).read_text(), app(planned)
    main = copy_checkout(planned.folder / "checkout")
    code = "import os, sys\nif os.environ.get('HOME') == '/':\n    sys.exit('no libraries')\n"
    main.write_text(main.read_text().replace("import os\nimport sys\n", code))
    words = (sys.executable, "-I", "-S", str(main), "init", "--schedule", "cron")
    done = subprocess.run(
        words, cwd=planned.root, env=planned.environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "no libraries" in done.stderr
    assert (launcher(planned).read_text(), app(planned)) == before


# --- launchd -----------------------------------------------------------------------------------

FAKE_LAUNCHCTL = """#!/bin/sh
echo "$@" >>{log}
case $1 in
    print) [ -e {loaded} ] ;;
    bootout) [ -e {loaded} ] && rm {loaded} ;;
    bootstrap) [ ! -e {loaded} ] && [ -f "$3" ] && touch {loaded} ;;
    *) exit 1 ;;
esac
"""


@pytest.fixture
def mac(project: Any, own_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This project on something that takes itself for macOS; returns launchctl's log."""
    log = tmp_path / "launchctl.log"
    text = FAKE_LAUNCHCTL.format(log=log, loaded=tmp_path / "loaded")
    program(tmp_path / "tools" / "launchctl", text)
    program(tmp_path / "tools" / "crontab", "#!/bin/sh\necho no crontab for me >&2; exit 1\n")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}:{os.environ['PATH']}")
    home = tmp_path / "mac-home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return log


def test_launchd_gets_one_agent_by_its_own_rules(mac: Path, project: Any, cli: Cli) -> None:
    done = cli("init", "--schedule", "launchd")
    assert done.code == 0, done.err
    folder = Path(os.environ["HOME"]) / "Library" / "LaunchAgents"
    [plist] = folder.iterdir()
    assert str(plist) in done.out
    text = plist.read_bytes()
    keys = plistlib.loads(text)
    assert plist.name == f"{keys['Label']}.plist"
    assert re.fullmatch(r"com\.orchestrator\.[0-9a-f]{12}", keys["Label"])
    assert (keys["StartInterval"], keys["AbandonProcessGroup"]) == (60, True)
    lint(text)
    [script] = map(Path, keys["ProgramArguments"])
    assert script.parent == Path(os.environ["HOME"], ".local/share/orchestrator/bin")
    subprocess.run((script,), check=True, env={"HOME": os.environ["HOME"]}, timeout=60)
    assert Path(project.scheduler_lock).stat().st_size > 0
    assert "nothing to change" in cli("init", "--schedule", "launchd").out
    assert cli("init", "--schedule", "none").code == 0
    assert not list(folder.iterdir())
    words = [line.split()[0] for line in mac.read_text().splitlines()]
    assert (words[:2], words[-1]) == (["bootout", "bootstrap"], "bootout")
    assert words.count("bootstrap") == 1


def lint(text: bytes) -> None:
    """What plutil -lint looks at: the document type, and that keys and values alternate."""
    assert text.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE plist PUBLIC')
    root = xml.fromstring(text)
    assert (root.tag, root.attrib, len(root)) == ("plist", {"version": "1.0"}, 1)

    def check(node: xml.Element) -> None:
        assert node.tag in ("dict", "array", "string", "integer", "true", "false")
        children = list(node)
        if node.tag == "dict":
            assert len(children) % 2 == 0
            assert {key.tag for key in children[::2]} == {"key"}
            assert len({key.text for key in children[::2]}) == len(children) // 2
            children = children[1::2]
        elif node.tag != "array":
            assert not children
        for child in children:
            check(child)

    check(root[0])
    if shutil.which("plutil"):
        subprocess.run(("plutil", "-lint", "-"), input=text, check=True)


def test_an_agent_that_launchd_refuses_is_not_left_behind(
    mac: Path, project: Any, cli: Cli
) -> None:
    program(
        mac.parent / "tools" / "launchctl", "#!/bin/sh\necho 'Bootstrap failed: 5' >&2; exit 5\n"
    )
    done = cli("init", "--schedule", "launchd")
    assert done.code == 1
    assert "Bootstrap failed: 5" in done.err
    assert not list((Path(os.environ["HOME"]) / "Library" / "LaunchAgents").iterdir())


@pytest.mark.skipif(sys.platform == "darwin", reason="this is macOS")
def test_off_macos_launchd_is_refused_by_naming_what_to_take(world: World) -> None:
    world.create(init=False)
    done = world.refused("init", "--schedule", "launchd")
    assert "cron or systemd" in done.err
    assert not world.home_folder.exists()


# --- systemd -----------------------------------------------------------------------------------

FAKE_SYSTEMCTL = """#!/bin/sh
echo "$@" >>{folder}/systemctl.log
[ "$1" = --user ] || exit 1
case $2 in
    show-environment) echo HOME="$HOME" ;;
    is-active) [ -e {folder}/active ] ;;
    enable) touch {folder}/active ;;
    disable) rm -f {folder}/active ;;
esac
"""


def unit_files(world: World) -> list[Path]:
    folder = world.home / ".config" / "systemd" / "user"
    return sorted(path for path in folder.rglob("*") if path.is_file())


def exec_start(text: str) -> list[str]:
    """The words of ExecStart by systemd.syntax(7)."""
    [line] = re.findall(r"^ExecStart=(.*)$", text, re.M)
    found = re.fullmatch(r'(\S+) "((?:[^"\\]|\\.)*)"', line)
    assert found, line
    assert not re.search(r"(?<!%)%(?:%%)*(?!%)", found[2].replace("%%", ""))
    inner = re.sub(r"\\(.)", r"\1", found[2])
    return [found[1], inner.replace("%%", "%").replace("$$", "$")]


def test_systemd_gets_units_that_tick_and_let_runs_outlive_the_tick(planned: World) -> None:
    program(planned.bin / "systemctl", FAKE_SYSTEMCTL.format(folder=planned.folder))
    done = planned.ok("init", "--schedule", "systemd")
    service, timer = unit_files(planned)
    assert re.fullmatch(r"orchestrator-[0-9a-f]{12}\.service", service.name)
    assert timer.name == service.with_suffix(".timer").name
    assert str(service) in done.out
    lines = service.read_text().splitlines()
    assert {"Type=oneshot", "KillMode=process"} <= set(lines)
    assert {"OnCalendar=minutely UTC", "Persistent=false"} <= set(timer.read_text().splitlines())
    assert "nothing to change" in planned.ok("init", "--schedule", "systemd").out
    log = (planned.folder / "systemctl.log").read_text()
    assert log.count(f"--user enable --now {timer.name}") == 1
    command = shlex.join(exec_start(service.read_text()))
    assert as_cron(planned, command).stderr == ""
    assert ticked(planned)
    planned.ok("init", "--schedule", "none")
    assert unit_files(planned) == []
    assert f"--user disable --now {timer.name}" in (planned.folder / "systemctl.log").read_text()


def test_systemd_itself_finds_nothing_wrong_with_the_units(planned: World) -> None:
    analyze = needs.program("systemd-analyze", "systemd")
    program(planned.bin / "systemctl", FAKE_SYSTEMCTL.format(folder=planned.folder))
    planned.ok("init", "--schedule", "systemd")
    # Not below the test's own folder: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory() as runtime:
        done = subprocess.run(
            (analyze, "verify", "--user", "--man=no", *map(str, unit_files(planned))),
            env={**planned.environment, "XDG_RUNTIME_DIR": runtime},
            capture_output=True,
            text=True,
            timeout=60,
        )
    if "Failed to" in done.stderr and "manager" in done.stderr:
        pytest.skip(f"systemd-analyze cannot work here: {done.stderr.strip()}")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "night", ["2026-03-29 00:58:30", "2026-10-25 00:58:30", "2026-10-25 01:58:30"]
)
def test_no_text_of_a_schedule_leaves_out_a_minute_when_the_clocks_change(night: str) -> None:
    # In Berlin at 01:00 UTC of these days: in spring an hour is left out, in autumn it is repeated.
    entry = Entry("systemd", "/project", "/bin", "/launcher")
    [timer] = (t.decode() for path, t in KINDS["systemd"].texts(entry).items() if "timer" in path)
    [expression] = re.findall(r"^OnCalendar=(.*)$", timer, re.M)
    words = ("calendar", "--iterations=5", f"--base-time={night} UTC", expression)
    done = subprocess.run(
        (needs.program("systemd-analyze", "systemd"), *words),
        env={"TZ": "Europe/Berlin", "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=60,
    )
    hour, minute = int(night[11:13]), 59
    due = [f"{hour + m // 60:02}:{m % 60:02}:00" for m in range(minute, minute + 5)]
    assert re.findall(r"\(in UTC\): \S+ \S+ (\S+) UTC", done.stdout) == due, done.stdout
    # Of a sleep, systemd makes up for nothing; launchd counts seconds and cron starts every
    # minute, so neither the clock's hour nor the date is in their texts (launchd.plist(5),
    # crontab(5)).
    assert "Persistent=false" in timer
    [plist] = (plistlib.loads(text) for text in KINDS["launchd"].texts(entry).values())
    assert (plist["StartInterval"], "StartCalendarInterval" in plist) == (60, False)
    assert cron.block(entry).splitlines()[1].startswith(b"* * * * * ")


def test_a_timer_that_a_person_edited_is_kept(planned: World) -> None:
    program(planned.bin / "systemctl", FAKE_SYSTEMCTL.format(folder=planned.folder))
    planned.ok("init", "--schedule", "systemd")
    _, timer = unit_files(planned)
    edited = timer.read_text().replace("minutely UTC", "*:0/5 UTC")
    timer.write_text(edited)
    planned.ok("init")
    assert timer.read_text() == edited


def test_a_schedule_that_was_just_installed_again_is_not_called_dead(planned: World) -> None:
    planned.ok("init", "--schedule", "cron")
    planned.ok("tick")
    for path in (planned.home_folder / "scheduler.lock", planned.root / ".git/orchestrator.json"):
        os.utime(path, (time.time() - 90_000,) * 2)
    assert any(p["code"] == "tick_stale" for p in planned.status()["problems"])
    (planned.folder / "kept-crontab").unlink()
    planned.ok("init", "--schedule", "cron")
    assert not any(p["code"] == "tick_stale" for p in planned.status()["problems"])


def test_without_a_users_systemd_it_says_so_and_writes_nothing(world: World) -> None:
    world.create(init=False)
    text = "#!/bin/sh\necho 'Failed to connect to bus: No medium found' >&2; exit 1\n"
    program(world.bin / "systemctl", text)
    done = world.refused("init", "--schedule", "systemd")
    assert "No medium found" in done.err
    assert "--schedule cron" in done.err
    assert not world.home_folder.exists()


def test_another_kind_takes_the_place_of_the_first(world: World) -> None:
    add_crontab(world)
    world.create()
    program(world.bin / "systemctl", FAKE_SYSTEMCTL.format(folder=world.folder))
    world.ok("init", "--schedule", "cron")
    assert (
        "removed: the marked block in your crontab" in world.ok("init", "--schedule", "systemd").out
    )
    assert kept(world) == b""
    assert len(unit_files(world)) == 2
    world.ok("init", "--schedule", "cron")
    assert unit_files(world) == []
    assert len(commands(kept(world))) == 1


# --- doctor ------------------------------------------------------------------------------------


@pytest.fixture
def asked(world: World) -> World:
    """A project with a schedule, and a client that is signed in from this shell only."""
    add_crontab(world)
    client = f"{sys.executable} -I -S {FAKE_CLIENT}"
    version = '[ "$1" != --version ] || exec echo 2.1.328'
    program(world.bin / "claude", f'#!/bin/sh\n{version}\nexec {client} "$@"\n')
    world.create(claude={"command": ["claude"]})
    world.environment["ANTHROPIC_API_KEY"] = "x"
    world.ok("init", "--schedule", "cron")
    world.ok("tick")
    return world


def findings(world: World, *codes: str) -> list[dict[str, Any]]:
    add_bytecode(world)
    found = world.json("doctor")["findings"]
    return [f for f in found if f["level"] != "ok" and (not codes or f["code"] in codes)]


def test_doctor_says_what_the_schedule_lacks_that_this_shell_has(asked: World) -> None:
    [found] = findings(asked, "sign_in", "schedule", "client")
    assert found["code"] == "sign_in"
    assert found["message"].startswith("started by cron: ")
    assert "claude setup-token" in found["hint"]
    assert "CLAUDE_CODE_OAUTH_TOKEN" in found["hint"]
    # As the hint says: a line of the crontab, which is then seen.
    file = asked.folder / "kept-crontab"
    file.write_bytes(b'CLAUDE_CODE_OAUTH_TOKEN = "x"\n' + file.read_bytes())
    assert findings(asked, "sign_in", "schedule", "client") == []
    said = asked.ok("doctor").out
    assert f"cron starts {launcher(asked)}" in said


def test_doctor_asks_from_the_path_that_was_recorded(asked: World) -> None:
    (asked.folder / "elsewhere").mkdir()
    (asked.bin / "claude").rename(asked.folder / "elsewhere" / "claude")
    asked.environment["PATH"] = f"{asked.folder}/elsewhere:{asked.environment['PATH']}"
    messages = " ".join(f["message"] for f in findings(asked, "schedule", "client"))
    assert f"claude, which init found as {asked.bin}/claude" in messages
    assert "started by cron: the client 'claude' is not on the PATH" in messages
    asked.ok("init", "--schedule", "cron")
    assert findings(asked, "schedule", "client") == []


def test_doctor_finds_an_identity_that_only_this_shell_has(asked: World) -> None:
    (asked.home / ".gitconfig").rename(asked.folder / "config")
    asked.environment["GIT_CONFIG_GLOBAL"] = str(asked.folder / "config")
    [found] = findings(asked, "git_identity")
    assert found["message"].startswith("started by cron: ")


def test_doctor_finds_a_sign_in_of_gh_that_only_this_shell_has(asked: World) -> None:
    program(asked.bin / "gh", '#!/bin/sh\n[ "$1" = auth ] && [ -n "$GH_TOKEN" ]\n')
    asked.configure(claude={"command": ["claude"]}, forge="github")
    asked.git("remote", "set-url", "origin", "https://github.com/someone/shop.git")
    asked.environment["GH_TOKEN"] = "x"
    [found] = findings(asked, "forge")
    assert found["message"] == "started by cron: gh is not signed in to github.com"
    assert "gh auth login" in found["hint"]


def test_doctor_finds_a_folder_that_git_trusts_only_from_this_shell(asked: World) -> None:
    real = shutil.which("git")
    distrust = f"GIT_TEST_ASSUME_DIFFERENT_OWNER=1 exec {real}"
    program(asked.bin / "git", f'#!/bin/sh\n[ -n "$TRUST" ] && exec {real} "$@"\n{distrust} "$@"\n')
    asked.environment["TRUST"] = "1"
    [found] = findings(asked, "trust")
    assert found["message"].startswith("started by cron: git refuses to work in")
    assert "safe.directory" in found["hint"]


def test_doctor_finds_a_time_zone_that_only_this_shell_has(asked: World) -> None:
    asked.environment["TZ"] = "<+13>-13"  # nobody's machine is set to this
    [found] = findings(asked, "clock")
    assert (found["level"], "+1300 in this shell" in found["message"]) == ("warn", True)
    file = asked.folder / "kept-crontab"
    file.write_bytes(b"TZ=<+13>-13\n" + file.read_bytes())
    assert findings(asked, "clock") == []


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda w: (w.folder / "kept-crontab").unlink(), "gone"),
        (lambda w: launcher(w).unlink(), "does not start the program"),
        (lambda w: launcher(w).write_text("#!/bin/sh\necho broken >&2; exit 7\n"), "broken"),
        (lambda w: (w.bin / "crontab").write_text("#!/bin/sh\nexit 9\n"), "cannot be read"),
        (
            lambda w: (w.folder / "kept-crontab").write_bytes(kept(w).replace(b"* *", b"1 *", 1)),
            "differs from what init writes",
        ),
    ],
)
def test_doctor_notices_a_schedule_that_cannot_work(
    asked: World, damage: Callable[[World], Any], word: str
) -> None:
    damage(asked)
    found = findings(asked, "schedule")
    assert any(word in f["message"] for f in found), found
    assert all(f["hint"] for f in found)


def test_doctor_waits_only_so_long_for_the_launcher(
    asked: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    launcher(asked).write_text("#!/bin/sh\nsleep 60\n")
    monkeypatch.setattr(schedule, "PROBE_TIMEOUT", 0.5)
    entry = Entry("launchd", str(asked.root), os.defpath, str(launcher(asked)))
    began = time.monotonic()
    assert schedule.probe(entry, "_probe", asked.environment).code is None
    assert time.monotonic() - began < 20


def test_the_probe_asks_no_schedule_itself(asked: World) -> None:
    found = asked.json("_probe")["findings"]
    assert {"client", "sign_in", "git", "git_identity", "forge", "remote"} <= {
        finding["code"] for finding in found
    }
    assert "schedule" not in {finding["code"] for finding in found}


def test_where_no_schedule_is_installed_doctor_and_status_say_how_to(world: World) -> None:
    world.create()
    set_up_long_ago(world.root)
    [problem] = [p for p in world.status()["problems"] if p["code"] == "tick_stale"]
    assert "orchestrator init --schedule cron" in problem["hint"]
    [found] = findings(world, "tick_stale")
    assert "orchestrator init --schedule cron" in found["hint"]
    assert findings(world, "schedule") == []
