"""The clone that a command is called in: which it is, and whether a person set us up in it.

The mark that a person ran `init` lies in the repository's git folder, which no clone and no commit
can carry (failures 21).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import STATES
from orchestrator.system import files

if TYPE_CHECKING:
    from orchestrator.schedule.entry import Entry

MARK = "orchestrator.json"


def find(start: str, environment: dict[str, str]) -> Layout:
    """Return the layout of the project that a command called in `start` means.

    Inside a run it is the run's project, whatever the worktree holds. Raises OrchestratorError.
    """
    inside = environment.get("ORCHESTRATOR_PROJECT")
    if inside:
        return Layout(inside)
    root = _plain_root(os.path.abspath(start))
    if root is None:
        from orchestrator.git import repository

        root = repository.project_root(start)
    return Layout(root)


def _plain_root(folder: str) -> str | None:
    """Return the main worktree above a folder where no git is needed to see it."""
    if any(name in os.environ for name in ("GIT_DIR", "GIT_WORK_TREE")):
        return None
    while not os.path.lexists(os.path.join(folder, ".git")):
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
    inside = os.path.join(folder, ".git")
    return os.path.realpath(folder) if os.path.isfile(os.path.join(inside, "HEAD")) else None


def mark_path(layout: Layout) -> str:
    folder = os.path.join(layout.root, ".git")
    if not os.path.isdir(folder):
        from orchestrator.git import repository

        folder = repository.git_folder(layout.root)
    return os.path.join(folder, MARK)


def read(layout: Layout) -> dict[str, Any]:
    """Return what `init` recorded in this clone; nothing where no person ran it."""
    return files.read_json(mark_path(layout)) or {}


def is_initialised(layout: Layout) -> bool:
    """Return whether a person ran `init` in this very clone."""
    return files.read_json(mark_path(layout)) is not None


def key(layout: Layout) -> str:
    """Return a word that only this clone knows; '' where no person ran `init`.

    What bears it was written here: it did not come with a commit.
    """
    found = read(layout).get("key")
    return found if isinstance(found, str) else ""


def set_up(layout: Layout) -> float | None:
    """Return when a person last set this clone up, or changed its set-up; None when nobody did."""
    try:
        return os.stat(mark_path(layout)).st_mtime
    except OSError:
        return None


def way_in(layout: Layout) -> str:
    """Return the step that sets this clone up: `init` refuses a repository without a commit."""
    from orchestrator.git import repository

    try:
        unborn = repository.resolve(layout.root, "HEAD") is None
    except OrchestratorError:
        unborn = False
    return "make a first commit, then: orchestrator init" if unborn else "run: orchestrator init"


def first_branch(layout: Layout) -> str | None:
    """Return the branch that was checked out at the first `init` here; None when not known."""
    found = read(layout).get("branch")
    return found if isinstance(found, str) and found else None


def schedule(layout: Layout) -> Entry | None:
    """Return the entry of the schedule that `init` installed for this clone, as it was put."""
    from orchestrator.schedule.entry import Entry
    from orchestrator.schedule.schedule import KINDS

    match read(layout).get("schedule"):
        case {"kind": str() as kind, "path": str() as path, "launcher": str() as launcher}:
            return Entry(kind, layout.root, path, launcher) if kind in KINDS else None
    return None


def record_schedule(layout: Layout, entry: Entry | None) -> None:
    """Remember which schedule was installed, or that there is none any more."""
    known = read(layout)
    mark = {name: value for name, value in known.items() if name != "schedule"}
    if entry:
        mark["schedule"] = {"kind": entry.kind, "path": entry.path, "launcher": entry.launcher}
    if mark != known:
        files.write_json(mark_path(layout), mark)


def first_tick(layout: Layout) -> str:
    """Say what makes the first tick of a project that has had none."""
    entry = schedule(layout)
    if entry is None:
        return "no tick yet; run: orchestrator tick"
    return f"no tick yet; {entry.kind} starts one within a minute"


def links(layout: Layout) -> list[str]:
    """Return what of our folders and appended files is a symbolic link, so leads elsewhere.

    Git carries symbolic links: one that came with a commit would have us write anywhere.
    """
    fixed = (
        layout.home, layout.agents, layout.shared, layout.queue, layout.prs, layout.cache,
        layout.events, layout.scheduler_lock, *map(layout.state, STATES),
        os.path.join(layout.queue, ".lock"), os.path.join(layout.prs, ".lock"),
    )  # fmt: skip
    found = [path for path in fixed if os.path.islink(path)]
    if layout.home in found or layout.agents in found:
        return found
    try:
        with os.scandir(layout.agents) as entries:
            agents = sorted(entry.name for entry in entries)
    except OSError:
        return found
    for name in agents:
        inside = (layout.agent(name), layout.runs(name), layout.worktree(name))
        found += [path for path in (*inside, layout.agent_lock(name)) if os.path.islink(path)]
    return found


def require_no_links(layout: Layout) -> None:
    """Raise OrchestratorError if what we write would land elsewhere."""
    found = links(layout)
    if found:
        import shlex

        raise OrchestratorError(
            f"{found[0]} is a symbolic link: what is written there would land elsewhere",
            f"see where it leads, then remove it: rm {shlex.quote(found[0])}",
            code="permissions",
        )


def require_initialised(layout: Layout) -> None:
    """Raise OrchestratorError unless a person ran `init` in this clone."""
    if is_initialised(layout):
        require_no_links(layout)
        return
    if os.path.isfile(layout.config):
        raise OrchestratorError(
            f"nobody has set orchestrator up in this clone of {os.path.basename(layout.root)}",
            "read .orchestrator/agents.yaml (it names programs that will run), then: "
            "orchestrator init",
            code="not_initialised",
        )
    raise OrchestratorError(
        f"{layout.root} is not set up for orchestrator",
        way_in(layout),
        code="not_initialised",
    )
