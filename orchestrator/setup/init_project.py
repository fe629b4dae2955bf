"""`init`: the files that the set-up of a project creates, except the schedule.

`init` is idempotent and never overwrites what a person edited.
"""

from __future__ import annotations

import os
import shutil

from orchestrator.account import spending
from orchestrator.client import program, registry
from orchestrator.config import change as config_change
from orchestrator.config import edit, load
from orchestrator.database import this_host
from orchestrator.git import damage, remote_pair, remotes, repository
from orchestrator.layout import Layout, resources
from orchestrator.model.errors import OrchestratorError, SystemFault
from orchestrator.model.finding import Finding
from orchestrator.model.times import iso
from orchestrator.project import checkout_changed, mark, unsettled
from orchestrator.pulls import forge
from orchestrator.setup import hosts_probe, probes, skills, user_files, walkers
from orchestrator.system import files, left_files
from orchestrator.tasks import stores

#: Adds the folders of the files that `init` writes to a sparse checkout.
WIDER = "git sparse-checkout add .claude/commands .orchestrator"
#: The permission bits that let other users into a folder.
OTHERS = 0o077


def own_folders(layout: Layout) -> tuple[str, ...]:
    """Return the folders with this machine's state: prompts, logs, the queue."""
    return (layout.agents, layout.shared, layout.cache)


class Change:
    """The result of `init` or `init --uninstall`: the changes, and warnings."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.warnings: list[str] = []


def init(
    layout: Layout, now: float, *, start: bool, commands: bool | None, host: str | None = None
) -> Change:
    """Set a project up; return what was written. Raises OrchestratorError and OSError.

    `host` is the name of this clone among the machines with one queue; None changes no name.
    `now` is epoch seconds. `commands` says whether to copy skills to `.claude/commands/`; None
    repeats the choice of the last `init`. The default at the first `init` is yes.
    """
    root = layout.root
    if damage.is_unborn(root):
        raise OrchestratorError(
            "this repository has no commit yet: there is nothing to branch from",
            "make a first commit, then: orchestrator init",
            code="unborn_repository",
        )
    _require_usable_path(root)
    mark.require_no_links(layout)
    changed = None if os.path.lexists(layout.config) else checkout_changed.problem(layout)
    if changed is not None:
        # The configuration is on the person's branch: a new file would be in its way.
        raise OrchestratorError(changed.message, changed.hint, code=changed.code)
    _require_no_left_out(layout)
    if not mark.is_initialised(layout) and os.path.isdir(layout.cache):
        # This cache came with a commit or from another set-up, so it is not trusted.
        shutil.rmtree(layout.cache)
    if host is not None:
        _require_nameable(layout, host)
    spending.note_loss(layout)
    change = Change()
    made = files.make_folders((layout.shared, layout.prs, layout.agents, layout.cache))
    if host is not None:
        change.written += _named(layout, host)
    made += stores.of_project(layout).prepare()
    if mark.is_initialised(layout):
        tops = (each for each in made if not each.startswith(tuple(f"{x}/" for x in made)))
        change.written += [f"{os.path.relpath(path, root)}/ (it was missing)" for path in tops]
    change.written += take_left(layout)
    for folder in own_folders(layout):
        if os.stat(folder).st_mode & OTHERS:
            os.chmod(folder, 0o700)
            change.written.append(f"{os.path.relpath(folder, root)}/ (now only you can enter it)")
    if not os.path.lexists(layout.config):
        files.write_atomic(layout.config, first_config(root, start=start), 0o644)
        change.written.append(".orchestrator/agents.yaml (the agents and their limits)")
    elif (
        start
        and config_change.apply(
            layout, lambda text: edit.set_paused(text, False), even_if_broken=True
        ).written
    ):
        change.written.append(".orchestrator/agents.yaml (paused: false)")
    change.written += user_files.put(layout)
    if commands is None:
        commands = mark.read(layout).get("commands") is not False
    if commands:
        change.written += skills.put(root)
        for name in skills.hidden(root):
            change.warnings.append(
                f".claude/commands/{name}.md hides Claude Code's own /{name}; you edited the file, "
                f"so it stays: rename it to {skills.copy_name(name)}.md"
            )
    if not mark.is_initialised(layout):
        change.written.append(f".git/{mark.MARK} (records that you set this clone up)")
    _write_mark(layout, now, commands)
    change.warnings += _warnings(layout)
    return change


def take_left(layout: Layout) -> list[str]:
    """Remove temporary files beside those that `init` writes: an `init` that was killed left them.

    Returns their names.
    """
    places = (*user_files.places(layout), *skills.copies(layout.root), mark.mark_path(layout))
    found = [path for place in (*places, layout.config) for path in left_files.beside(place)]
    for path in found:
        files.remove(path)
    return [f"removed: {os.path.relpath(path, layout.root)} (of a killed init)" for path in found]


def _require_nameable(layout: Layout, host: str) -> None:
    """Raise OrchestratorError if this clone cannot get a name: not now, or not this one."""
    this_host.require_name(host)
    hosts_probe.require_free(layout, host)
    known = this_host.read(layout)
    busy = sorted(unsettled.runs(layout))
    if busy and known.clone and known.name != host:
        message = f"this clone cannot change its name {known.name!r} during a run of {busy[0]}"
        hint = f"first: orchestrator stop {' '.join(busy)}"
        raise OrchestratorError(message, hint, code="running")


def _named(layout: Layout, host: str) -> list[str]:
    """Give this clone a name; return what was written."""
    known = this_host.read(layout)
    if known.name == host and known.clone:
        return []
    this_host.write(layout, host)
    return [f".orchestrator/{os.path.basename(layout.host)} (the name of this host: {host})"]


def _require_usable_path(root: str) -> None:
    """Refuse a folder that texts cannot name: git's lists have a path per line, JSON is UTF-8."""
    try:
        root.encode()
    except UnicodeEncodeError:
        why = "is not UTF-8"
    else:
        if "\n" not in root:
            return
        why = "has a line break"
    message = f"the path of this folder {why}: {root}"
    raise OrchestratorError(
        message, "rename the folder, then: orchestrator init", code="no_project"
    )


def _require_no_left_out(layout: Layout) -> None:
    """Raise OrchestratorError if a sparse checkout leaves out the configuration of the commit."""
    if os.path.lexists(layout.config) or not repository.is_sparse(layout.root):
        return
    if repository.tracked(layout.root, layout.config):
        raise OrchestratorError(
            "the commit has .orchestrator/agents.yaml, but your sparse checkout leaves it out",
            f"{WIDER}; then: orchestrator init",
            code="config_error",
        )


def to_commit(layout: Layout) -> list[str]:
    """Return the files of the set-up that have uncommitted changes, relative to the project.

    A file that git ignores is not among them, nor is a file that somebody removed.
    """
    root = os.path.realpath(layout.root)
    shared = (layout.config, layout.global_instructions, layout.commands, layout.roles)
    paths = {*shared, *user_files.places(layout), *skills.copies(root)}
    # CLAUDE.md is often a link: then the file that it leads to has changed. Git names no file by a
    # path through a link.
    real = {os.path.join(os.path.realpath(os.path.dirname(p)), os.path.basename(p)) for p in paths}
    names = {os.path.relpath(path, root) for path in (*real, *map(os.path.realpath, real))}
    inside = sorted(name for name in names if not name.startswith((os.pardir, ".git" + os.sep)))
    changed = repository.uncommitted(layout.root, inside)
    return [name for name in changed if os.path.lexists(os.path.join(root, name))]


def _write_mark(layout: Layout, now: float, commands: bool) -> None:
    """Record the person's choices, and the paths in this shell of the programs that ticks need."""
    known = mark.read(layout)
    client = registry.of_config(load.settings(layout, write_cache=False).config)
    programs = ("git", client.program, *forge.PROGRAMS)
    record = {
        **known,
        "initialised": known.get("initialised") or iso(now),
        #: Files in `.orchestrator/` that are trusted or executed contain this key.
        "key": mark.key(layout) or os.urandom(16).hex(),
        "programs": {name: shutil.which(name) for name in programs},
        "commands": commands,
        #: The base branch, if neither the configuration nor the remote names a base branch.
        "branch": known.get("branch") or repository.current_branch(layout.root),
    }
    if record != known:
        files.write_json(mark.mark_path(layout), record)


def first_config(root: str, *, start: bool) -> bytes:
    """Return the first `agents.yaml` of a project."""
    branch = remotes.head(root, "origin") or repository.current_branch(root) or "main"
    template = os.path.join(resources(), "plugin", "templates", "agents.yaml")
    with open(template, encoding="utf-8") as file:
        text = file.read()
    text = edit.set_values(text, (), {"base_branch": branch})
    return edit.set_paused(text, not start).encode()


def _warnings(layout: Layout) -> list[str]:
    """Return the warnings about missing parts. Starts no program."""
    config = load.settings(layout, write_cache=False).config
    found_client = program.find(registry.of_config(config), config, layout.root, os.environ)
    looked = (found_client, probes.gh_absent(layout, config))
    found = [f"{e.message}; {e.hint}" for e in looked if isinstance(e, Finding)]
    if remotes.url(layout.root, config.remote) is None:
        finding = probes.remote(layout, config)
        found.append("; ".join(filter(None, (finding.message, finding.hint))))
    try:
        remote_pair.find(layout.root, config)
    except SystemFault as fault:
        found.append(f"{fault.code}: {fault.message}; {fault.hint}")
    for each in hosts_probe.look(layout, config):
        # The other hosts may join later.
        if each.code != "unknown_host" or "did you mean" in (each.hint or ""):
            found.append(f"{each.code}: {each.message}; {each.hint}")
    walked = walkers.look(layout.root)
    return found + [f"{e.message}; {e.hint}" for e in walked if e.level == "warn"]
