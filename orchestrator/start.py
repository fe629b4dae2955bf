"""What the program does first, as cheaply as possible.

Cron starts it once per minute, mostly without work to do: the launcher starts the interpreter with
`-I -S` (no site packages), and the libraries' folder is added to the path only when there is work.
"""

import os
import sys

from orchestrator import idle

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from collections.abc import Callable

    from orchestrator.model.annotations import NoReturn
else:
    import _signal  # without the enumerations of `signal`, which take as long as an idle tick

#: Commands whose libraries have threads, or files to remove, at the interpreter's end.
_WITH_THREADS = {"dashboard", "demo", "traces", "watch"}


def main(arguments: "list[str] | None" = None) -> int:
    """Run one command; return its exit code. `arguments` are those after the program's name."""
    _settle_in()
    words = sys.argv[1:] if arguments is None else arguments
    if words == ["tick"]:
        # Taken away: the runs inherit this environment.
        by_schedule = os.environ.pop(idle.SCHEDULED, None) is not None
        if idle.nothing_to_do(by_schedule=by_schedule):
            return 0
        if (
            (asked := idle.to_be_asked())
            and _is_unchanged(*asked)
            and idle.nothing_to_do(asked[1], by_schedule=by_schedule)
        ):
            return 0
    if words == ["_ask"]:
        # The idle tick that started this process believed the stamp; this tick asks first.
        words = ["tick"]
    if words == ["_news"] and (said := idle.news()) is not None:
        if said:
            sys.stdout.write(said)
        return 0
    _add_libraries()
    import gc

    if words == ["tick"] or words[:1] in (["_run"], ["_after_run"]):
        gc.disable()  # such a process ends, or waits, before a collection pays off
    else:
        gc.set_threshold(100_000)  # most commands end before a collection pays off
    if words and words[0] == "_run":
        from orchestrator.run import supervisor

        supervisor.carry_on(words, lambda root: main(["_after_run", root]), small=True)
        return 0
    if words and words[0] in ("_after_run", "_land", "_notify"):
        from orchestrator.tick import own_process

        own_process.run(words[0], words[1])
        return 0
    if words and words[0] == "_attend":
        from orchestrator.tick import attendant

        attendant.attend(words[1], _tick_command)
        return 0
    if words and words[0] == "_soon":
        from orchestrator.tick import soon

        soon.tick(words[1])
        return 0
    from orchestrator.system import image

    image.load("main", "orchestrator.cli.main")
    from orchestrator.cli.main import main as run_command

    return run_command(words)


def _settle_in() -> None:
    """Repair what a careless starter passed on, and what each program takes for granted."""
    if _signal.getsignal(_signal.SIGCHLD) == _signal.SIG_IGN:
        # The kernel would keep no child's exit code, and Python takes that for success.
        _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    if sys.stdin is None or sys.stdout is None or sys.stderr is None:
        # The next files that are opened would get these numbers, and children would use them.
        while (free := os.open(os.devnull, os.O_RDWR)) <= 2:
            os.set_inheritable(free, True)
        os.close(free)
        sys.stdin = sys.stdin or os.fdopen(0)
        sys.stdout = sys.stdout or os.fdopen(1, "w")
        sys.stderr = sys.stderr or os.fdopen(2, "w")


def _tick_command() -> "Callable[[], object]":
    """Import what a tick and a run need; return the command `tick`, for forks of the attendant."""
    from orchestrator.cli import main as commands
    from orchestrator.run import supervisor

    commands.load(["tick"])
    supervisor.load()
    return lambda: commands.main(["tick"])


def _is_unchanged(root: str, number: str) -> bool:
    """Return whether the queue that the project in `root` shares has this number still."""
    _add_libraries()
    from orchestrator.tick import attendant

    return attendant.is_unchanged(root, number)


def _add_libraries() -> None:
    """Add the environment's site-packages to the path, if `-S` left it out."""
    if not sys.flags.no_site:
        return
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    home = os.path.dirname(os.path.dirname(os.path.abspath(sys.executable)))
    for lib in ("lib", "lib64"):
        folder = os.path.join(home, lib, version, "site-packages")
        if os.path.isdir(folder) and folder not in sys.path:
            sys.path.append(folder)


def _end(code: int) -> "NoReturn":
    """End this process without the interpreter's clean-up, which takes as long as a plan."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def run() -> "NoReturn":
    """Run the command of this process, and end the process."""
    code = main()
    if _WITH_THREADS.isdisjoint(sys.argv):
        _end(code)
    sys.exit(code)
