"""The skills for people, copied to the project's `.claude/commands/`.

A copy has a seal: a comment in its front matter with the digest of the text without the seal. An
unedited copy is updated and, at uninstall, removed. An edited copy is the user's file.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re

from orchestrator.layout import resources
from orchestrator.setup.user_files import read_text, write_text
from orchestrator.system import files

_SEAL = "# Put here by orchestrator init; yours once you edit it: "
#: The command in a skill's text, its `!` lines and its permissions, followed by a word of its own.
_COMMAND = re.compile(r"(?<![\w./:-])orchestrator(?= [a-z_])")


def put(root: str) -> list[str]:
    """Copy the skills to `.claude/commands/`; return what was written. Raises OrchestratorError.

    Edited files remain. A file of the same name in `.orchestrator/commands/` replaces the shipped
    text.
    """
    written = []
    command = _command(root)
    for name, shipped in _shipped().items():
        text = _COMMAND.sub(command, shipped).replace("/orchestrator:", "/")
        own = read_text(os.path.join(root, ".orchestrator", "commands", f"{name}.md"))
        own = own.replace("\r\n", "\n")
        text = _sealed(own if own.startswith("---\n") else text)
        target = os.path.join(root, ".claude", "commands", f"{name}.md")
        known = read_text(target)
        if known == text or (os.path.lexists(target) and not _is_unedited(known)):
            continue
        write_text(target, text, root)
        written.append(f".claude/commands/{name}.md")
    return written


def copies(root: str) -> list[str]:
    """Return the paths of the copies, as `put` writes them."""
    return [os.path.join(root, ".claude", "commands", f"{name}.md") for name in _shipped()]


def take(root: str) -> list[str]:
    """Remove unedited copies, and then empty folders; return the names of the removed copies."""
    folder = os.path.join(root, ".claude", "commands")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    removed = [n for n in names if _is_unedited(read_text(os.path.join(folder, n)))]
    for name in removed:
        files.remove(os.path.join(folder, name))
    if removed:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
            os.rmdir(os.path.dirname(folder))
    return [f".claude/commands/{name}" for name in removed]


def _shipped() -> dict[str, str]:
    """Return the text of each skill for people, by name."""
    folder = os.path.join(resources(), "skills")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    texts = {name: read_text(os.path.join(folder, name, "SKILL.md")) for name in names}
    return {n: t for n, t in texts.items() if t and "\nuser-invocable: false\n" not in t}


def _command(root: str) -> str:
    """Return the command with which a session at the top of the project can call the product.

    A submodule is not on the PATH, but its relative path is the same in every clone.
    """
    launcher = os.path.join("orchestrator", "bin", "orchestrator")
    return launcher if os.access(os.path.join(root, launcher), os.X_OK) else "orchestrator"


def _sealed(text: str) -> str:
    """Return a text that begins with front matter, with the seal added."""
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return text.replace("---\n", f"---\n{_SEAL}{digest}\n", 1)


def _is_unedited(text: str) -> bool:
    """Return whether a text is an unedited copy, written by any version of `put`."""
    plain = re.sub(rf"^{_SEAL}.*\n", "", text, count=1, flags=re.MULTILINE)
    return plain != text and _sealed(plain) == text
