"""The user's own text files that `init` adds to: ignore files and CLAUDE.md.

What is added can be taken out again, and every other byte stays as it was.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.project.mark import mark_path
from orchestrator.system import files


class _Addition(NamedTuple):
    """A text that `init` adds to a file."""

    #: What it is called in messages.
    name: str
    text: str
    #: What is taken out again: the text, or what an earlier version or an editor made of it.
    pattern: str


_BEGIN, _END = "# >>> orchestrator >>>", "# <<< orchestrator <<<"
_IGNORED = """\
/.orchestrator/*
!/.orchestrator/agents.yaml
!/.orchestrator/global-instructions.md
!/.orchestrator/commands/
!/.orchestrator/roles/
/.agent-instructions.md
"""
_LINE = "If .agent-instructions.md exists in this directory, read and follow those instructions."
_IGNORE = _Addition(
    "the marked block",
    f"{_BEGIN}\n{_IGNORED}{_END}\n",
    rf"\n?{re.escape(_BEGIN)}\n.*?{re.escape(_END)}\n",
)
_FOLLOW = _Addition("the line for the agents", f"{_LINE}\n", rf"\n?{re.escape(_LINE)}\n?")


def _places(layout: Layout) -> list[tuple[str, str, _Addition]]:
    """Return path, name and addition of each file; git's own file works in every worktree."""
    exclude = os.path.join(os.path.dirname(mark_path(layout)), "info", "exclude")
    return [
        (exclude, ".git/info/exclude", _IGNORE),
        (os.path.join(layout.root, ".gitignore"), ".gitignore", _IGNORE),
        (os.path.join(layout.root, "CLAUDE.md"), "CLAUDE.md", _FOLLOW),
    ]


def put(layout: Layout) -> list[str]:
    """Add what is missing; return what was added. Raises OrchestratorError and OSError."""
    written = []
    for path, name, addition in _places(layout):
        text = read_text(path)
        if addition.text.rstrip("\n") not in text:
            rest = re.sub(addition.pattern, "", text, flags=re.DOTALL)
            gap = "" if not rest else "\n" if rest.endswith("\n") else "\n\n"
            os.makedirs(os.path.dirname(path), exist_ok=True)
            write_text(path, rest + gap + addition.text)
            written.append(f"{name} ({addition.name})")
    return written


def take(layout: Layout) -> list[str]:
    """Take the additions out; a file that held nothing else goes. Return what was taken out."""
    taken = []
    for path, name, addition in _places(layout):
        text = read_text(path)
        rest = re.sub(addition.pattern, "", text, flags=re.DOTALL)
        if rest == text:
            continue
        if rest.strip():
            write_text(path, rest)
        else:
            files.remove(path)
        taken.append(f"{name}: {addition.name}")
    return taken


def read_text(path: str) -> str:
    """Return a file's text, whatever its bytes and line ends; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError):
        return ""


def write_text(path: str, text: str) -> None:
    """Write what `read_text` returned, changed or not; mode and links stay as they are.

    CLAUDE.md is often a link to AGENTS.md. Raises OrchestratorError for a link that leads out of
    the folder: it may have come with a commit, and point at the user's own files.
    """
    top = os.path.realpath(os.path.dirname(path))
    if os.path.islink(path) and not os.path.realpath(path).startswith(top + os.sep):
        raise OrchestratorError(
            f"{path} is a symbolic link that leads out of its folder: it is not written through",
            "look at it; put a file in its place",
            code="permissions",
        )
    data = text.encode(errors="surrogateescape")
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    files.write_atomic(os.path.realpath(path), data, mode)
