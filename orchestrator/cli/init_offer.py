"""What `init` proposes for `checks` and `setup`: shown, and written after a person's yes."""

from __future__ import annotations

import json
import sys

from orchestrator.cli import context, output
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.setup import proposal
from orchestrator.setup.proposal import Place, Proposal
from orchestrator.text.quoting import cleaned, one_line


def find(layout: Layout) -> Proposal:
    """Return what can be proposed; empty if agents.yaml is broken or has both keys."""
    loaded = context.settings(layout)
    if not loaded.good or (loaded.config.checks and loaded.config.setup.command):
        return Proposal()
    return proposal.of_project(layout, loaded.config)


def row(layout: Layout, found: Proposal) -> dict[str, Any] | None:
    """Return the proposal as JSON; None if `init` proposes nothing."""
    if not proposal.values(found):
        return None
    return {
        "checks": list(found.checks),
        "setup": {"command": found.command, "when_changed": list(found.when_changed)},
        "found": [
            {"folder": p.folder or ".", "by": p.found.by, "name": p.found.name, "used": p.used}
            for p in found.places
        ],
        "not_ignored": proposal.not_ignored(layout, found),
        "not_on_path": proposal.not_on_path(found),
    }


def written(layout: Layout, found: Proposal) -> list[str]:
    """Write a proposal that the person accepted; return the changes."""
    if not proposal.values(found) or not proposal.accept(layout, found):
        return []
    keys = " and ".join(dict.fromkeys(key.partition(".")[0] for key in proposal.values(found)))
    return [f".orchestrator/agents.yaml ({keys})"]


def warnings(found: Proposal) -> list[str]:
    """Return a warning per file that nothing is proposed for, because it cannot be read."""
    return [
        f"{path} cannot be read ({one_line(cleaned(why))}): no command is proposed for it; correct "
        "it, then: orchestrator init"
        for path, why in found.unreadable
    ]


def show(layout: Layout, found: Proposal, title: str) -> None:
    """Print what was found, and the lines for agents.yaml."""
    output.out(f"\nFound: {', '.join(map(_place, found.places))}")
    output.out(title)
    for line in _lines(found):
        output.out(f"  {line}")
    for folder in proposal.not_ignored(layout, found):
        output.out(f"  (git does not ignore {folder}: add it to .gitignore and commit .gitignore,")
        output.out("  or agents commit it)")
    for program in proposal.not_on_path(found):
        output.out(f"  ({program} is not on your PATH: install it, or change these lines)")


def offer(layout: Layout, found: Proposal) -> None:
    """Show what is proposed, if anything; on a terminal ask, and write it after a yes."""
    if not proposal.values(found):
        loaded = context.settings(layout)
        if loaded.good and not loaded.config.checks:
            output.out("\nNo command is proposed for `checks`: write your test command into")
            output.out(".orchestrator/agents.yaml. Without it, work is delivered without a test")
        return
    title = "Proposed for .orchestrator/agents.yaml (init runs none of these commands):"
    show(layout, found, title)
    if not (sys.stdin.isatty() and output.on_terminal()):
        output.out("To write these lines: orchestrator init --yes; or copy them into the file")
        return
    if _agrees():
        for name in written(layout, found):
            output.out(f"  {name}")
    else:
        output.out("Not written. To write these lines later: orchestrator init --yes")


def _place(place: Place) -> str:
    where = f"{place.folder}/{place.found.by}" if place.folder else place.found.by
    others = "".join(f", not {name}" for name in place.found.instead_of)
    return f"{place.found.name} ({where}{others}{'' if place.used else ', not proposed'})"


def _lines(found: Proposal) -> list[str]:
    """Return the proposed lines: JSON values are YAML values."""
    lines = [f"checks: {json.dumps(found.checks)}"] if found.checks else []
    if found.command:
        changed = json.dumps(found.when_changed)
        lines.append(f"setup: {{command: {json.dumps(found.command)}, when_changed: {changed}}}")
    return lines


def _agrees() -> bool:
    try:
        return input("Write these lines? [Y/n] ").strip().lower() in ("", "y", "yes")
    except EOFError:
        return False
