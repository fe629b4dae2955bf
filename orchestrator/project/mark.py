"""The project that a command is called in, and whether a person ran `init` in this clone.

`init` leaves its mark in the repository's git folder, which neither a clone nor a commit can carry
(failures 21).
"""

import os
import stat
from collections.abc import Mapping

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import FORGES
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import Problem
from orchestrator.system import disk, files
from orchestrator.tasks import stores

if TYPE_CHECKING:
    from orchestrator.schedule.entry import Entry

MARK = "orchestrator.json"


def find(start: str) -> Layout:
    """Return the layout of the project of a command that is called in the folder `start`.

    Inside a run it is the run's project, whatever the worktree contains. Raises OrchestratorError.
    """
    if inside := os.environ.get("ORCHESTRATOR_PROJECT"):
        if not os.path.isdir(inside):
            message = f"there is no folder {inside}, which ORCHESTRATOR_PROJECT names"
            hint = "outside a run: unset ORCHESTRATOR_PROJECT"
            raise OrchestratorError(message, hint, code="no_project")
        return Layout(inside)
    root = idle.main_worktree(os.path.abspath(start))
    asks_git = any(name in os.environ for name in ("GIT_DIR", "GIT_WORK_TREE"))
    if root and not asks_git and os.path.isfile(os.path.join(root, ".git", "HEAD")):
        return Layout(os.path.realpath(root))
    from orchestrator.git import project_root

    return Layout(project_root.find(start))


def mark_path(layout: Layout) -> str:
    folder = os.path.join(layout.root, ".git")
    if not os.path.isdir(folder):
        from orchestrator.git import repository

        folder = repository.git_folder(layout.root)
    return os.path.join(folder, MARK)


def read(layout: Layout) -> Mapping[str, object]:
    """Return what `init` recorded in this clone; empty if no person ran it."""
    return files.read_json(mark_path(layout)) or {}


def is_initialised(layout: Layout) -> bool:
    """Return whether a person ran `init` in this clone."""
    return files.read_json(mark_path(layout)) is not None


def key(layout: Layout) -> str:
    """Return a secret word of this clone; '' if no person ran `init`.

    A record that contains it was written in this clone: it did not come with a commit.
    """
    found = read(layout).get("key")
    return found if isinstance(found, str) else ""


def queue_missing(layout: Layout) -> Problem | None:
    """Return the problem that this clone is set up and its queue was deleted, all of it."""
    places = stores.of_project(layout).places()
    if not places or any(map(os.path.lexists, places)) or not is_initialised(layout):
        return None
    message = f"{places[0]} is missing: the queue was deleted (git clean -x deletes ignored files)"
    hint = "orchestrator init  (makes an empty queue; then put the tasks back, if you have a copy)"
    return Problem("queue_missing", message, hint)


def set_up(layout: Layout) -> float | None:
    """Return when a person last set up this clone or changed its set-up; None if nobody did."""
    found = idle.mark(mark_path(layout))
    return found[1] / 1e9 if found else None


def way_in(layout: Layout) -> str:
    """Return the next step if the configuration is missing.

    `init` refuses a repository without a commit, and a checkout that a run changed: the person's
    configuration is on another branch.
    """
    from orchestrator.git import damage
    from orchestrator.project import checkout_changed

    if checkout_changed.problem(layout) is not None:
        return "first undo the change of your checkout (checkout_changed): orchestrator status"
    try:
        unborn = damage.is_unborn(layout.root)
    except OrchestratorError:
        unborn = False  # `init` says what is wrong
    return "make a first commit, then: orchestrator init" if unborn else "run: orchestrator init"


def first_branch(layout: Layout) -> str | None:
    """Return the branch that was checked out at the first `init` here; None when not known."""
    found = read(layout).get("branch")
    return found if isinstance(found, str) and found else None


def schedule(layout: Layout) -> "Entry | None":
    """Return the schedule entry that `init` installed for this clone, as it was written."""
    match read(layout).get("schedule"):
        case {"kind": str() as kind, "path": str() as path, "launcher": str() as launcher}:
            from orchestrator.schedule.entry import Entry
            from orchestrator.schedule.schedule import KINDS

            return Entry(kind, layout.root, path, launcher) if kind in KINDS else None
    return None


def is_scheduled(layout: Layout) -> bool:
    """Whether `init` installed a schedule for this clone. Imports nothing, unlike `schedule`."""
    return isinstance(read(layout).get("schedule"), dict)


def record_schedule(layout: Layout, entry: "Entry | None", *, renewed: bool = False) -> None:
    """Record which schedule is installed; None for no schedule.

    `renewed`: it was installed just now, so its first tick is still to come (`set_up`).
    """
    value = entry and {"kind": entry.kind, "path": entry.path, "launcher": entry.launcher}
    if renewed or value != read(layout).get("schedule"):
        _record(layout, "schedule", value)


def record_link(layout: Layout, there: bool) -> None:
    """Record whether a person asked, in this clone, for the program on their PATH."""
    if is_initialised(layout) and there != bool(read(layout).get("link")):
        _record(layout, "link", there or None)


def _record(layout: Layout, name: str, value: object) -> None:
    """Write a value of the mark; None removes it."""
    mark = {**read(layout), name: value}
    kept = {key: each for key, each in mark.items() if key != name or each is not None}
    files.write_json(mark_path(layout), kept)


def first_tick(layout: Layout) -> str:
    """Return a sentence on what starts the first tick of a project."""
    entry = schedule(layout)
    start = f"{entry.kind} starts one within a minute" if entry else "run: orchestrator tick"
    return f"no tick yet; {start}"


def links(layout: Layout) -> list[str]:
    """Return which of the product's folders, locks and appended files cannot be used.

    Git transports symbolic links: a link in a commit could make the product write anywhere. A pipe
    or a folder in the place of a file fails each time that something is written.
    """
    found = links_above(layout)
    is_closed = layout.home in found or layout.agents in found
    return found if is_closed else [*found, *links_of_agents(layout)]


def links_above(layout: Layout) -> list[str]:
    """Return those of `links` that are of no single agent: their number is fixed."""
    records = [layout.records(forge) for forge in FORGES]
    fixed = (
        *(layout.home, layout.agents, layout.shared, layout.cache),
        *(layout.events, layout.ticks, layout.scheduler_lock),
        *records,
        *(os.path.join(folder, name) for folder in records for name in (".lock", "merged")),
        *stores.of_project(layout).places(),
    )
    return [path for path in fixed if _is_odd(path)]


def links_of_agents(layout: Layout) -> list[str]:
    """Return those of `links` that are an agent's. The folder of all agents is known to be none."""
    try:
        agents = sorted(os.listdir(layout.agents))
    except OSError:
        return []
    found = []
    for name in agents:
        inside = (layout.agent(name), layout.runs(name), layout.worktree(name))
        found += [path for path in (*inside, layout.agent_lock(name)) if _is_odd(path)]
    return found


def _is_odd(path: str) -> bool:
    """Return whether a link is there, or something else in the place of a file."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return False
    is_file = path.endswith((".lock", ".jsonl", f"{os.sep}lock"))
    return stat.S_ISLNK(mode) or (is_file and not stat.S_ISREG(mode))


def require_no_links(layout: Layout) -> None:
    """Raise OrchestratorError if a symbolic link would redirect what the product writes.

    Also for a pipe, a device or a folder in the place of a file.
    """
    found = links(layout)
    if found:
        if not os.path.islink(found[0]):
            message, hint = f"{found[0]} is not a regular file", disk.move_aside(found[0])
            raise OrchestratorError(message, hint, code="permissions")
        import shlex

        message = f"{found[0]} is a symbolic link: files that are written there would go elsewhere"
        hint = f"see where it leads, then remove it: rm {shlex.quote(found[0])}"
        raise OrchestratorError(message, hint, code="permissions")


def _require_own(path: str) -> None:
    """Raise OrchestratorError if the mark is there, and only another user may read it."""
    if not os.path.lexists(path) or os.access(path, os.R_OK):
        return
    import pwd

    number = os.lstat(path).st_uid
    try:
        owner = pwd.getpwuid(number).pw_name
    except KeyError:
        owner = f"the user {number}"
    message = f"{owner} set this project up, and only {owner} may use it here ({path})"
    hint = f"work as {owner}, or in a clone of your own: git clone ...; orchestrator init"
    raise OrchestratorError(message, hint, code="permissions")


def require_initialised(layout: Layout) -> None:
    """Raise OrchestratorError unless a person ran `init` in this clone."""
    if is_initialised(layout):
        require_no_links(layout)
        return
    _require_own(mark_path(layout))
    if os.path.isfile(layout.config):
        message = f"orchestrator is not set up in this clone of {os.path.basename(layout.root)}"
        hint = "read .orchestrator/agents.yaml (it names programs that will run), then: "
        raise OrchestratorError(message, f"{hint}orchestrator init", code="not_initialised")
    message = f"{layout.root} is not set up for orchestrator"
    raise OrchestratorError(message, way_in(layout), code="not_initialised")
