"""Reads what a storm has left: histories, records, refs, processes, locks. Changes nothing."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import psutil
from harness import STATES, World

from chaos import invariants, scripts
from chaos.faults import FATAL
from chaos.project import LIMITS, Project

_EVENT = re.compile(r"- \S+ (\w+) (\{.*\})")


def end(project: Project) -> invariants.End:
    """Return everything that the checker asks of a project at rest."""
    world = project.world
    moment = project.moment()
    reachable, objects = _kept(project)
    return invariants.End(
        moment=moment,
        ledger=world.ledger(),
        histories=histories(world.queue),
        commits=list(project.commits.values()),
        reachable=reachable,
        objects=objects | _in_set_asides(world),
        status=project.ask("status"),
        inbox=project.ask("inbox"),
        prs=project.ask("pr", "list"),
        explained={task: _explained(project, task) for task in moment.places["incoming"]},
        depends_on=_dependencies(world.queue),
        most_open=LIMITS["max_open_prs"],
        fatal_kills=project.figures[FATAL],
        base_was_broken=_was_in_base(project, scripts.BROKEN),
        runs=runs(world.home_folder),
        leftovers=leftovers(world),
        set_aside=[str(path.relative_to(world.home_folder)) for path in _set_asides(world)],
        fsck=_fsck(world),
    )


def histories(queue: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the events of each task, as its file has them."""
    return {
        path.stem: [
            {**json.loads(found[2]), "event": found[1]}
            for found in map(_EVENT.fullmatch, path.read_text().splitlines())
            if found
        ]
        for state in STATES
        for path in (queue / state).glob("*.md")
    }


def _dependencies(queue: Path) -> dict[str, list[str]]:
    """Return the tasks that each task depends on."""
    found = {}
    for path in (path for state in STATES for path in (queue / state).glob("*.md")):
        named = re.search(r"(?m)^DEPENDS_ON: *(.+)", path.read_text())
        found[path.stem] = re.split(r"[,\s]+", named[1].strip()) if named else []
    return found


def _was_in_base(project: Project, path: str) -> bool:
    """Whether a commit that the base branch had as its tip contained a file."""
    words = ("log", "--first-parent", "--max-count=1", "--format=%H", "main", "--", path)
    return bool(project.world.git(*words, cwd=project.hub))


def runs(home: Path) -> list[dict[str, Any]]:
    """Return the records of all runs; one that is not written yet is left out."""
    found = []
    for path in home.glob("agents/*/runs/*/run.json"):
        try:
            found.append(json.loads(path.read_text()))
        except (OSError, ValueError):
            continue
    return found


def _explained(project: Project, task: str) -> list[str]:
    """Return the codes of the rules that keep a task waiting."""
    rules = project.ask("explain", task)["rules"]
    return [rule["code"] for rule in rules if not rule["ok"]]


def _kept(project: Project) -> tuple[frozenset[str], frozenset[str]]:
    """Return the commits that refs and worktrees reach, here and at the remote, and all objects."""
    world = project.world
    worktrees = world.git("worktree", "list", "--porcelain").splitlines()
    heads = [line.split()[1] for line in worktrees if line.startswith("HEAD ")]
    # A `git worktree add` that was cut leaves a HEAD of zeros, on which `--all` alone fails.
    heads = [head for head in heads if set(head) != {"0"}]
    places = [(world.root, heads), (project.hub, [])]
    if project.setting.library:
        places += [(world.root / scripts.LIBRARY, ["HEAD"]), (project.library_hub, [])]
    commits, objects = set(), set()
    for where, more in places:
        every = ("--no-replace-objects", "rev-list", "--single-worktree", "--all", *more)
        commits.update(world.git(*every, cwd=where).split())
        objects.update(world.git(*every, "--objects", "--no-object-names", cwd=where).split())
    return frozenset(commits), frozenset(objects)


def leftovers(world: World) -> list[str]:
    """Return what nobody needs any more: processes, git's locks, temporary files, worktrees."""
    found = [f"process {p.pid} {_words(p)}" for p in world.processes()]
    found += [str(path) for path in (world.root / ".git").rglob("*.lock")]
    home = world.home_folder
    for pattern in (".*.tmp", "rescue.index*"):
        found += [
            str(path)
            for path in home.rglob(pattern)
            if not re.search(r"/worktree/.", str(path.relative_to(home)))
        ]
    listed = world.git("worktree", "list", "--porcelain").splitlines()
    folders = {line.split(" ", 1)[1] for line in listed if line.startswith("worktree ")}
    own = {str(path / "worktree") for path in (home / "agents").iterdir()}
    known = {str(world.root), str(home / "cache" / "landing"), *own}
    inside = {path for path in folders if "/worktree.set-aside-" in path}  # of an agent's own
    return found + [f"worktree {path}" for path in sorted(folders - known - inside)]


def _set_asides(world: World) -> list[Path]:
    """Return the worktrees, and parts of worktrees, that the product has set aside."""
    return sorted(world.home_folder.glob("agents/*/*set-aside*"))


def _in_set_asides(world: World) -> frozenset[str]:
    """Return the blobs of the small files in what was set aside."""
    files = (path for top in _set_asides(world) for path in top.rglob("*"))
    small = (path for path in files if path.is_file() and path.stat().st_size < 1 << 20)
    return frozenset(invariants.blob(path.read_bytes()) for path in small)


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[-200:]
    except psutil.Error:
        return ""


def _fsck(world: World) -> list[str]:
    """Return what git finds damaged; it ends with an error then, and says it on both outputs."""
    found = []
    words = ("git", "fsck", "--no-dangling", "--no-progress")
    for path in (world.root, world.root / scripts.LIBRARY):
        if (path / ".git").exists():
            done = subprocess.run(
                words, cwd=path, env=world.environment, capture_output=True, text=True, check=False
            )
            said = done.stdout + (done.stderr if done.returncode else "")  # without hints
            found += said.splitlines()
            if done.returncode and not said:
                found.append(f"it ended with {done.returncode}")
    return found
