"""`demo`: the whole system at work on a throw-away project, without an account or a network."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import tempfile

from orchestrator.cli import context, output
from orchestrator.cli.parser import argument, command
from orchestrator.client import registry
from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.errors import OrchestratorError

if TYPE_CHECKING:
    from orchestrator.demo.play import Play
    from orchestrator.demo.project import Project

_LOOK = """
Look around:  cd {root}
  what was merged         git log --graph --oneline origin/main
  a page in the browser   {program} dashboard --open
  the status, live        {program} watch
  a report                {program} report
  a task and its history  {program} task show SHOP-1
  what an agent did       {program} logs impl-agent-1
  agents, checks, limits  less .orchestrator/agents.yaml
  remove the demo         rm -rf {folder}"""
_NEXT = """
In a project of your own, with {client} signed in:
  {program} init
  {program} agent resume --all
  {program} task add 'Fix the login form'
  {program} tick --wait"""


@command(
    "demo",
    argument("--dir", metavar="DIR", help="a new or empty folder (default: a temporary folder)"),
    argument(
        "--keep",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep the folder after the demo (default: keep)",
    ),
)
def demo(arguments: argparse.Namespace) -> int:
    """Run the whole system on a throw-away project: no account, no network, under a minute.

    examples:
      orchestrator demo
      orchestrator demo --dir /tmp/look --no-keep
    """
    context.refuse_in_run("no agents are started")
    folder = _folder(arguments.dir)
    for number in (signal.SIGTERM, signal.SIGHUP):  # they too stop every run
        signal.signal(number, signal.default_int_handler)
    try:
        return _demonstrate(folder, as_json=arguments.json, kept=arguments.keep)
    except KeyboardInterrupt:
        left = f" The folder remains: {folder}" if arguments.keep else ""
        output.err(f"\ninterrupted; every run was stopped.{left}")
        raise
    finally:
        if not arguments.keep:
            shutil.rmtree(folder, ignore_errors=True)


def _folder(wish: str | None) -> str:
    """Return the real path of an empty folder. Raises OrchestratorError when it is not empty."""
    folder = wish or tempfile.mkdtemp(prefix="orchestrator-demo-")
    wrong = "a folder" if os.path.lexists(folder) and not os.path.isdir(folder) else ""
    if not wrong:
        os.makedirs(folder, exist_ok=True)
    if wrong or os.listdir(folder):
        hint = "name a new folder: orchestrator demo --dir DIR"
        raise OrchestratorError(f"{folder} is not {wrong or 'empty'}", hint, code="not_empty")
    return os.path.realpath(folder)


def _demonstrate(folder: str, *, as_json: bool, kept: bool) -> int:
    """Make the project, play, and show what became of each task; return the exit code."""
    from orchestrator.demo import play, project

    place = project.at(folder, os.environ)
    say = (lambda _: None) if as_json else output.out
    say(f"Making a project, its remote and four agents in {folder}")
    try:
        project.create(place)
    except OrchestratorError:
        shutil.rmtree(folder, ignore_errors=True)  # there is nothing to look at
        raise
    before = place.checkout()
    for row in play.rows([]):
        say(f"you add {row['id']}: {row['title']}")
    with contextlib.closing(play.Play(place)) as playing:
        for sentence in playing.sentences():
            say(sentence)
        seconds, rows = round(playing.seconds, 1), play.rows(playing.events)
        status = place.orchestrator(*(["--json"] if as_json else []), "status")
        if not as_json:
            _show(place, playing, rows, status)
    untouched = place.checkout() == before
    ok = playing.settled and untouched
    if as_json:
        found = {"ok": ok, "seconds": seconds, "checkout_untouched": untouched, "tasks": rows}
        places = {"folder": folder, "project": place.root, "remote": place.remote}
        output.show_json({**found, **places, "status": json.loads(status)})
    else:
        same = "did not change" if untouched else "CHANGED, which is a bug"
        say(f"Your checkout, which has unfinished work in it, {same}.")
        if kept:
            places = {"root": shlex.quote(place.root), "folder": shlex.quote(folder)}
            say(_LOOK.format(**places, program=context.program()))
        say(_NEXT.format(program=context.program(), client=registry.named(None).title))
    return 0 if ok else 1


def _show(place: Project, playing: Play, rows: list[dict[str, Any]], status: str) -> None:
    """Show the tasks and `status`; for a task that is not merged, also what `explain` says."""
    left = [row["id"] for row in rows if row["outcome"] != "merged"]
    done = len(rows) - len(left)
    output.out(f"\n{done} of {len(rows)} tasks merged in {playing.seconds:.1f} s\n")
    keys = ("id", "outcome", "runs", "reviews", "pr", "commit", "title")
    output.table(("task", *keys[1:]), [[row[key] for key in keys] for row in rows])
    output.out(f"\n$ orchestrator status\n{status.rstrip()}\n")
    for name in left:
        output.out(f"$ orchestrator explain {name}\n{place.orchestrator('explain', name)}")
    if playing.complaint:
        output.err(playing.complaint)
