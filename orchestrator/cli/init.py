"""`init`: set a project up with its schedule, or remove the set-up."""

from __future__ import annotations

import argparse
import os
import shlex

from orchestrator import __version__
from orchestrator.cli import context, init_base, init_offer, output
from orchestrator.cli.parser import Namespace, argument, command, flag
from orchestrator.client import registry
from orchestrator.git import project_root, remotes, repository
from orchestrator.layout import Layout
from orchestrator.project import mark
from orchestrator.schedule import path_link, program_copy, schedule
from orchestrator.schedule.entry import Entry, usable_path
from orchestrator.schedule.schedule import KINDS
from orchestrator.setup import init_project, uninstall
from orchestrator.setup.init_project import Change

SCHEDULE = (
    "the service that runs a tick every minute; `none` removes the schedule (default: no change)"
)
COMMANDS = (
    "copy the skills to .claude/commands/ (default: yes at the first `init`; then your last choice)"
)
LINK = "put `orchestrator` on your PATH: a link in ~/.local/bin (default: no change)"
BASE = (
    "make this branch the base branch, after a rename at the remote: agents.yaml, unfinished tasks "
    "and open pull requests are updated"
)
HOST = (
    "the name of this clone among the machines with one queue (`store` in agents.yaml); default: "
    "the machine's name"
)
YES = "write the proposed `checks` and `setup` into agents.yaml without asking"


@command(
    "init",
    argument("--schedule", choices=(*KINDS, "none"), help=SCHEDULE),
    argument("--commands", action=argparse.BooleanOptionalAction, help=COMMANDS),
    argument("-y", "--yes", action="store_true", help=YES),
    flag("--start", "let agents start runs; without it, a new project is paused"),
    argument("--link", action=argparse.BooleanOptionalAction, help=LINK),
    argument("--base", metavar="BRANCH", help=BASE),
    argument("--host", metavar="NAME", help=HOST),
    flag("--dry-run", "with --base: print what would change, and change nothing"),
    flag("--uninstall", "remove all files that init and runs added; the queue is kept"),
)
def init(arguments: Namespace) -> None:
    """Set this project up, or complete its set-up; your edits are never overwritten.

    examples:
      orchestrator init
      orchestrator init --start --schedule cron
      orchestrator init --base trunk --dry-run     what changes after a rename of the base branch
    """
    context.refuse_in_run("nothing is set up")
    layout = context.layout(arguments)
    if arguments.base or arguments.dry_run:
        init_base.adopt(arguments, layout)
    elif arguments.uninstall:
        _uninstall(arguments, layout)
    else:
        _set_up(arguments, layout)


def _set_up(arguments: Namespace, layout: Layout) -> None:
    kind = arguments.schedule
    if kind in KINDS:
        schedule.require(kind, layout.root)
    change = init_project.init(
        layout,
        context.now(),
        start=arguments.start,
        commands=arguments.commands,
        host=arguments.host,
    )
    if inside := project_root.submodule_around(arguments.project or os.getcwd()):
        change.warnings.append(
            f"{inside} is a submodule: the project is the repository around it, {layout.root}; to "
            "have agents work in the submodule alone, clone it to another folder, and there: "
            "orchestrator init"
        )
    if kind in KINDS:
        _install(layout, kind, change)
    elif kind == "none":
        change.written += [f"removed: {name}" for name in _remove_entry(layout)]
    elif entry := mark.schedule(layout):
        change.written += schedule.update(entry)
    _link(layout, arguments.link, change)
    found = init_offer.find(layout)
    change.warnings += init_offer.warnings(found)
    accepted = init_offer.written(layout, found) if arguments.yes else []
    change.written += accepted
    if kind == "none" or arguments.link is False:
        gone, warnings = schedule.remove_program()
        change.written += [f"removed: {name}" for name in gone]
        change.warnings += warnings
    _report(arguments, layout, change, "Set up", proposal=init_offer.row(layout, found))
    if not arguments.json:
        if accepted:
            title = "Written into .orchestrator/agents.yaml (init runs none of these commands):"
            init_offer.show(layout, found, title)
        elif not arguments.yes or init_offer.row(layout, found) is None:
            init_offer.offer(layout, found)
        _next_step(layout, mark.schedule(layout))


def _uninstall(arguments: Namespace, layout: Layout) -> None:
    uninstall.require_rest(layout)
    links = path_link.take() if mark.read(layout).get("link") else []
    # The schedule first: nothing must start in a project that is half removed.
    entries = _remove_entry(layout)
    change = uninstall.carry_out(layout)
    program, warnings = schedule.remove_program()
    change.written[:0] = [*links, *entries, *program]
    change.warnings += warnings
    _report(arguments, layout, change, "Removed from")
    if not arguments.json:
        _what_stays(layout, program_copy.folder())


def _install(layout: Layout, kind: str, change: Change) -> None:
    client = registry.of_config(context.settings(layout).config)
    path = usable_path(os.environ, client.passing_folders(os.environ))
    entry = Entry(kind, layout.root, path, program_copy.launcher())
    changes = schedule.install(entry)
    change.written += changes
    mark.record_schedule(layout, entry, renewed=bool(changes))
    change.warnings += KINDS[kind].warnings()
    at_work = program_copy.version()
    if at_work and program_copy.is_newer(at_work, __version__):
        change.warnings.append(
            f"schedules start version {at_work}, which another project installed; this version "
            f"is {__version__}"
        )


def _link(layout: Layout, wanted: bool | None, change: Change) -> None:
    """Make or remove the link on the PATH; None changes nothing."""
    if wanted is None:
        return
    if wanted:
        written, warnings = path_link.put(os.environ)
        change.written += written
        change.warnings += warnings
    else:
        change.written += [f"removed: {path}" for path in path_link.take()]
    mark.record_link(layout, wanted)


def _remove_entry(layout: Layout) -> list[str]:
    known = mark.schedule(layout)
    gone = schedule.remove(layout.root, known.kind if known else None)
    mark.record_schedule(layout, None)
    return gone


@command("_follow")
def follow(arguments: Namespace) -> None:
    """Update the copy of the program that the project's schedule starts, if this one is newer.

    The hook of a session's start calls this after an update of the plugin. If this raises
    OrchestratorError, the schedule still starts the earlier version.
    """
    layout = context.changing(arguments)
    if entry := mark.schedule(layout):
        changes = schedule.update(entry)
    else:
        changes = path_link.put(os.environ)[0] if path_link.is_there() else []
    for name in changes:
        output.out(name)


@command("_probe")
def probe(arguments: Namespace) -> None:
    """Print as JSON what this environment can reach: `doctor` calls it as the schedule would."""
    from orchestrator.setup import doctor

    found = doctor.reachable(context.reading(arguments), dict(os.environ))
    output.show_json({"findings": [finding._asdict() for finding in found]})


def _report(
    arguments: Namespace, layout: Layout, change: Change, done: str, **more: object
) -> None:
    entry, undo = mark.schedule(layout), "orchestrator init --schedule none"
    # Without --json, `_next_step` asks, after the person has decided about the proposal.
    asks = arguments.json and done == "Set up"
    value = {
        "project": layout.root,
        "written": change.written,
        "warnings": change.warnings,
        "to_commit": init_project.to_commit(layout) if asks else [],
        "schedule": entry and {"kind": entry.kind, "launcher": entry.launcher, "undo": undo},
        **more,
    }
    written = change.written or ["nothing to change" if done == "Set up" else "nothing to remove"]
    output.answer(arguments, value, f"{done} {layout.root}", *(f"  {name}" for name in written))
    for warning in () if arguments.json else change.warnings:
        output.err(f"warning: {warning}")


def _what_stays(layout: Layout, data: str) -> None:
    if os.path.isdir(layout.home):
        output.out(f"The queue, its history and your configuration stay in {layout.home},")
        output.out(
            "  with the records of pull requests and today's costs of agents, if there are any"
        )
        output.out(f"  to remove these too: rm -r {shlex.quote(layout.home)}")
    branches, states, inside = uninstall.left_in_git(layout)
    if branches or states or inside:
        rescued = states + sum(inside.values())
        output.out(
            f"The work of agents stays in git (branches: {branches}, rescue refs: {rescued}); "
            "list it: git for-each-ref refs/heads/agent refs/orchestrator"
        )
    for path, count in inside.items():
        command = f"git -C {shlex.quote(path)} for-each-ref refs/orchestrator"
        output.out(f"  {count} of the rescue refs are in the submodule {path}: {command}")
    if os.path.isdir(data):
        output.out(f"The program's own Python environment stays in {data}")
        output.out(f"  if no project on this machine uses it: rm -r {shlex.quote(data)}")


def _short(layout: Layout, names: list[str]) -> list[str]:
    """Return the names, with the folder of the skills in place of all its files."""
    folder = os.path.join(".claude", "commands")
    inside = [name for name in names if os.path.dirname(name) == folder]
    there = os.path.join(layout.root, folder)
    if len(inside) < 2 or len(inside) != len(os.listdir(there)):
        return names
    return [folder, *(name for name in names if name not in inside)]


def _next_step(layout: Layout, entry: Entry | None) -> None:
    output.out("\nNext:")
    program = context.program()
    if program != "orchestrator":
        wanting = "your PATH lacks ~/.local/bin, which has a link to it"
        there = wanting if path_link.is_there() else "`init --link` puts it on your PATH"
        output.out(f"  (`orchestrator` is not on your PATH; its path is {program};")
        output.out(f"  {there})")
    config = context.settings(layout).config
    if config.checks or config.setup.command:
        output.out("  orchestrator doctor --checks  (runs `setup` and `checks` on the base branch)")
    if config.paused:
        output.out("  read .orchestrator/agents.yaml, then: orchestrator agent resume --all")
    if names := init_project.to_commit(layout):
        # After `resume`, which edits agents.yaml.
        output.out("  commit these files, so that every clone and every agent has them:")
        if not os.path.samefile(os.getcwd(), layout.root):
            output.out(f"    cd {shlex.quote(layout.root)}")
        if repository.is_sparse(layout.root):
            output.out(f"    {init_project.WIDER}")
        paths = shlex.join(_short(layout, names))
        output.out(f"    git add -- {paths}")
        # Only these files: the person may have staged other work.
        output.out(f"    git commit -m 'Set up orchestrator' -- {paths}")
        if remotes.url(layout.root, config.remote):
            output.out("    git push")
    output.out("  orchestrator task add 'Fix the login form'")
    command, why = "tick --wait", "or every minute: orchestrator init --schedule cron"
    if entry is not None:
        command, why = "doctor", f"checks that {entry.kind} can run it"
    output.out(f"  orchestrator {command:18} ({why})")
