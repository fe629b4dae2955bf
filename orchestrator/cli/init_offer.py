"""What `init` proposes for `checks` and `setup`: shown, and written after a person's yes."""

from __future__ import annotations

import json
import sys
from typing import Any

from orchestrator.cli import context, output
from orchestrator.layout import Layout
from orchestrator.setup import proposal
from orchestrator.setup.proposal import Place, Proposal


def find(layout: Layout) -> Proposal:
    """Return what can be proposed; empty if agents.yaml is broken or has both keys."""
    loaded = context.settings(layout)
    if not loaded.good or (loaded.config.checks and loaded.config.setup.command):
        return Proposal()
    return proposal.of_project(layout, loaded.config)


def row(layout: Layout, found: Proposal) -> dict[str, Any] | None:
    """Return the proposal as JSON; None if there is none."""
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


def offer(layout: Layout, found: Proposal) -> None:
    """Show a proposal; on a terminal ask, and write it after a yes."""
    if not proposal.values(found):
        return
    output.out(f"\nFound: {', '.join(map(_place, found.places))}")
    output.out("Proposed for .orchestrator/agents.yaml (init runs none of these commands):")
    for line in _lines(found):
        output.out(f"  {line}")
    for folder in proposal.not_ignored(layout, found):
        output.out(f"  (git does not ignore {folder}: add it to .gitignore, and commit .gitignore)")
    for program in proposal.not_on_path(found):
        output.out(f"  ({program} is not on your PATH: install it, or change these lines)")
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
