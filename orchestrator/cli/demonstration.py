"""`demo`: the whole system at work on a throw-away project, without an account or a network."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import tempfile
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from orchestrator.cli import context, output
from orchestrator.cli.parser import command
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from orchestrator.demo.project import Place
    from orchestrator.demo.story import Scene

#: Sentences of news that a terminal shows below the tables.
NEWS_SHOWN = 8


def register(commands: Any) -> None:
    parser = command(
        commands,
        "demo",
        demo,
        "the whole system on a throw-away project: no account, no network, under a minute",
        "  orchestrator demo\n"
        "  orchestrator demo --dir /tmp/look     where to make it\n"
        "  orchestrator demo --no-keep           and leave nothing behind",
    )
    parser.add_argument("--dir", metavar="DIR", help="an empty or new folder (default: temporary)")
    parser.add_argument(
        "--keep",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave the folder, for you to look at (default: it stays)",
    )


def demo(arguments: argparse.Namespace) -> int:
    context.refuse_in_run("no agents are started")
    folder = _folder(arguments.dir)
    try:
        with _signals_as_interrupts():
            return _demonstrate(folder, arguments)
    except KeyboardInterrupt:
        left = f" What there is lies in {folder}" if arguments.keep else ""
        output.err(f"\ninterrupted; every run is ended.{left}")
        raise
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _demonstrate(folder: str, arguments: argparse.Namespace) -> int:
    from orchestrator.demo import project, summary
    from orchestrator.demo.play import Play

    place = project.at(folder, os.environ)
    if not arguments.json:
        output.out(f"Making a project, its remote and four agents in {folder}")
    project.create(place)
    before = project.checkout_print(place)
    scene = None
    with Play(place) as play, _view(arguments.json) as view:
        for scene in play.scenes():
            view.show(scene)
        assert scene is not None
        left = [] if scene.settled else summary.stuck(place, scene)
        if play.failed_ticks:
            left.insert(0, f"ticks fail: see {folder}/ticks.log")
    untouched = before == project.checkout_print(place)
    found = summary.summarise(place, scene, untouched, left)
    if arguments.json:
        output.show_json(found)
    else:
        _show(place, found, kept=arguments.keep)
    return 0 if found["ok"] else 1


def _folder(wish: str | None) -> str:
    """Return the real path of an empty folder. Raises OrchestratorError when it is not empty."""
    if wish is None:
        return os.path.realpath(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    is_folder = os.path.isdir(wish) or not os.path.lexists(wish)
    if is_folder:
        os.makedirs(wish, exist_ok=True)
    if not is_folder or os.listdir(wish):
        raise OrchestratorError(
            f"{wish} is not empty" if is_folder else f"{wish} is no folder",
            "name a new folder: orchestrator demo --dir DIR",
            code="not_empty",
        )
    return os.path.realpath(wish)


@contextmanager
def _signals_as_interrupts() -> Iterator[None]:
    """Let an end that is asked for by signal be as orderly as Ctrl-C."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {n: signal.signal(n, interrupt) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- progress ----------------------------------------------------------------------------------


class View(Protocol):
    """Shows a demonstration's progress."""

    def show(self, scene: Scene) -> None: ...


@contextmanager
def _view(as_json: bool) -> Iterator[View]:
    if as_json:
        yield Silence()
    elif output.on_terminal():
        from rich.console import Console
        from rich.live import Live

        console = Console(no_color=not output.colour(), highlight=False)
        with Live(console=console, refresh_per_second=8, transient=True) as live:
            yield Screen(live)
    else:
        yield Lines()


class Silence:
    """Nothing: scripts wait for the JSON."""

    def show(self, scene: Scene) -> None:
        pass


class Lines:
    """One line a piece of news, with the seconds since the start."""

    def show(self, scene: Scene) -> None:
        for sentence in scene.news:
            output.out(f"{scene.seconds:6.1f} s  {sentence}")


class Screen:
    """Tables of agents and tasks that are painted again and again, and the latest news."""

    def __init__(self, live: Any) -> None:
        self._live = live
        self._news: list[str] = []

    def show(self, scene: Scene) -> None:
        from rich.console import Group
        from rich.text import Text

        self._news += [f"{scene.seconds:6.1f} s  {sentence}" for sentence in scene.news]
        latest = [Text(output.harmless(x), overflow="ellipsis", no_wrap=True) for x in self._news]
        parts = [_agents_table(scene), _tasks_table(scene), *latest[-NEWS_SHOWN:]]
        self._live.update(Group(*parts))


def _agents_table(scene: Scene) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table("agent", "at work on", box=box.SIMPLE_HEAD)
    at = {task.run: task.id for task in scene.tasks if task.state == "claimed"}
    for agent, run in scene.agents.items():
        table.add_row(agent, at.get(run, "reading the project") if run else "-")
    return table


def _tasks_table(scene: Scene) -> RenderableType:
    from rich import box
    from rich.table import Table

    table = Table("task", "title", "state", "pull request", box=box.SIMPLE_HEAD)
    prs = {pr.id: pr for pr in scene.prs}
    for task in scene.tasks:
        if task.reviews is None:
            pr = prs.get(task.pr or "")
            verdict = f", {pr.verdict.replace('_', ' ')}" if pr and pr.verdict else ""
            shown = f"{pr.id}: {pr.state}{verdict}" if pr else "-"
            cells = (task.id, task.title, task.state, shown)
            table.add_row(
                *map(output.harmless, cells), style="green" if task.state == "done" else ""
            )
    return table


# --- what came of it ---------------------------------------------------------------------------


def _show(place: Place, found: dict[str, Any], *, kept: bool) -> None:
    totals = found["totals"]
    if found["ok"]:
        done = f"All settled after {found['seconds']} s"
    else:
        done = f"Not settled after {found['seconds']} s"
    output.out(
        f"\n{done}: {totals['tasks']} tasks, {totals['merged']} pull requests merged, "
        f"{totals['reviews']} reviews, {totals['runs']} runs, {totals['cost_usd']:.2f} USD\n"
    )
    keys = ("id", "role", "attempts", "review_rounds", "pr", "merged_commit", "title")
    rows = [[row[key] for key in keys] for row in found["tasks"]]
    for row in rows:
        row[5] = row[5][:10] if row[5] else None
    output.table(("task", "role", "attempts", "reviews", "pr", "merged as", "title"), rows)
    output.out()
    for row in found["tasks"]:
        for setback in row["setbacks"]:
            output.out(textwrap.shorten(f"{row['id']} was sent back: {setback}", 150))
    touched = "was not touched" if found["checkout_untouched"] else "HAS CHANGED: this is a bug"
    output.out(f"The person's checkout, with unfinished work in it, {touched}.")
    for sentence in found["stuck"]:
        output.err(f"stuck: {sentence}")
    if kept:
        _where_to_look(place, found)
    _what_next()


def _where_to_look(place: Place, found: dict[str, Any]) -> None:
    spots = {
        "what was merged": "git log --graph --oneline origin/main",
        "all that happened": "less .orchestrator/events.jsonl",
        "agents, checks, limits": "less .orchestrator/agents.yaml",
    }
    example = max(found["tasks"], key=lambda row: row["attempts"], default=None)
    if example and example["runs"]:
        spots["a task, its history"] = f"less {os.path.relpath(example['path'], place.root)}"
        spots["one run of it"] = f"ls .orchestrator/agents/{example['runs'][-1]}"
    output.out(f"\nLook around:  cd {shlex.quote(place.root)}")
    for what, how in spots.items():
        output.out(f"  {what:24}{how}")
    output.out(f"  {'remove all of it':24}rm -rf {shlex.quote(place.folder)}")


def _what_next() -> None:
    program = context.program()
    output.out("\nIn a project of your own, with Claude Code signed in:")
    for words in (
        "init",
        "agent resume --all",
        "task add --title '...' --role implement",
        "tick --wait",
    ):
        output.out(f"  {program} {words}")
