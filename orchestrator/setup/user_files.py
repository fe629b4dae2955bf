"""The user's own text files that `init` adds to: ignore files and CLAUDE.md.

Every addition can be removed again, and all other bytes are kept.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator

from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.finding import Finding, warn
from orchestrator.project.mark import mark_path
from orchestrator.system import files


class _Addition(NamedTuple):
    """A text that `init` adds to a file."""

    #: Its name in messages.
    name: str
    text: str
    #: The text to remove: `text`, also as written by an earlier version or changed by an editor.
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
    rf"(\r?\n)?{re.escape(_BEGIN)}\r?\n.*?{re.escape(_END)}\r?\n",
)
_FOLLOW = _Addition("the line for the agents", f"{_LINE}\n", rf"(\r?\n)?{re.escape(_LINE)}(\r?\n)?")
_CLAUDE, _AGENTS = "CLAUDE.md", "AGENTS.md"
#: A CLAUDE.md that only `init` wrote to. It imports AGENTS.md, which the client reads only where
#: there is no CLAUDE.md (seen with 2.1.332).
_NEW_CLAUDE = f"{_FOLLOW.text}@{_AGENTS}\n"


def _places(layout: Layout) -> list[tuple[str, str, _Addition]]:
    """Return path, name and addition of each file; git's own file works in every worktree."""
    exclude = os.path.join(os.path.dirname(mark_path(layout)), "info", "exclude")
    return [
        (exclude, ".git/info/exclude", _IGNORE),
        (os.path.join(layout.root, ".gitignore"), ".gitignore", _IGNORE),
        (os.path.join(layout.root, _CLAUDE), _CLAUDE, _FOLLOW),
    ]


def places(layout: Layout) -> list[str]:
    """Return the paths of the files that `put` adds to."""
    return [path for path, _, _ in _places(layout)]


def put(layout: Layout) -> list[str]:
    """Add missing text, with the file's line ends; return the additions.

    Raises OrchestratorError and OSError.
    """
    written = []
    has_agents = _has_agents(layout.root)
    for path, name, addition in _places(layout):
        text = read_text(path)
        if name == _CLAUDE and has_agents and text.strip() in ("", _LINE):
            write_text(path, _NEW_CLAUDE)
            written.append(f"{name} ({addition.name}, and the import of {_AGENTS})")
        elif addition.text.rstrip("\n") not in text.replace("\r\n", "\n"):
            rest = re.sub(addition.pattern, "", text, flags=re.DOTALL)
            gap = "" if not rest else "\n" if rest.endswith("\n") else "\n\n"
            added = gap + addition.text
            # Git writes every line so with `core.autocrlf` or the attribute `eol=crlf`.
            write_text(path, rest + (added.replace("\n", "\r\n") if "\r\n" in text else added))
            written.append(f"{name} ({addition.name})")
    return written


def look(root: str) -> Iterator[Finding]:
    """Warn of a CLAUDE.md that only an earlier `init` wrote to, and that hides an AGENTS.md."""
    if _has_agents(root) and read_text(os.path.join(root, _CLAUDE)).strip() == _LINE:
        message = "CLAUDE.md does not import AGENTS.md, so the client does not read AGENTS.md"
        yield warn("agents_md_hidden", message, "to add the import to CLAUDE.md: orchestrator init")


def _has_agents(root: str) -> bool:
    """Return whether there is an AGENTS.md that is not the same file as CLAUDE.md."""
    claude, agents = os.path.join(root, _CLAUDE), os.path.join(root, _AGENTS)
    return os.path.isfile(agents) and os.path.realpath(agents) != os.path.realpath(claude)


def take(layout: Layout) -> list[str]:
    """Remove the additions, and files that had nothing else. Return the removed additions."""
    taken = []
    for path, name, addition in _places(layout):
        text = read_text(path)
        rest = re.sub(addition.pattern, "", text, flags=re.DOTALL)
        if rest == text:
            continue
        if rest.strip() and text != _NEW_CLAUDE:
            write_text(path, rest)
        else:
            files.remove(path)
        taken.append(f"{name}: {addition.name}")
    return taken


def read_text(path: str, top: str | None = None) -> str:
    """Return a file's text with any bytes and line ends; empty if there is no file.

    With `top`, a link is followed only if it stays below this folder of the project. Raises OSError
    for a pipe, a device and a file that is too large.
    """
    try:
        if top is not None:
            data = files.read_inside(path, top, files.MOST_READ + 1)
        else:
            data = files.read_regular(os.path.realpath(path), files.MOST_READ + 1)
    except FileNotFoundError:
        return ""
    except OSError:
        if os.path.isdir(path):
            return ""
        raise
    if len(data) > files.MOST_READ:
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), path)
    return data.decode(errors="surrogateescape")


def write_text(path: str, text: str, top: str | None = None) -> None:
    """Write a text from `read_text`, changed or not; keep the file's mode and links.

    CLAUDE.md is often a link to AGENTS.md. Raises OrchestratorError for a link that leads out of
    the folder `top` (default: the file's folder): the link may have come with a commit, and may
    lead to other files of the user.
    """
    real = os.path.realpath(path)
    if not real.startswith(os.path.realpath(top or os.path.dirname(path)) + os.sep):
        raise OrchestratorError(
            f"{path} was not written: a symbolic link leads out of its folder",
            "replace the link; or, to skip the skills: orchestrator init --no-commands",
            code="permissions",
        )
    os.makedirs(os.path.dirname(real), exist_ok=True)
    mode = os.stat(real).st_mode & 0o777 if os.path.exists(real) else 0o644
    files.write_atomic(real, text.encode(errors="surrogateescape"), mode)
