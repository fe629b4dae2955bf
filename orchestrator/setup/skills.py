"""The skills for people, copied to the project's `.claude/commands/`.

A copy has a seal: a comment in its front matter with the digest of the text without the seal. An
unedited copy is updated and, at uninstall, removed. An edited copy is the user's file. A formatter
of the project (a git hook that runs prettier, for example) or git's conversion of line ends does
not edit a copy: the digest leaves out what these change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re

from orchestrator.layout import resources
from orchestrator.setup.user_files import read_text, write_text
from orchestrator.system import files

#: The folder of the copies.
FOLDER = ".claude/commands"
_SEAL = "# Put here by orchestrator init; yours once you edit it: "
#: The command in a skill's text, its `!` lines and its permissions, followed by a word of its own.
_COMMAND = re.compile(r"(?<![\w./:-])orchestrator(?= [a-z_])")
#: What formatters of Markdown and YAML change (tried with prettier 3.9 and its options `tabWidth`,
#: `useTabs` and `singleQuote`): spaces, line ends, quotes, and the lines of tables.
_FORMAT = re.compile(r"[\s'\"|-]+")
#: The call of a skill of the plugin.
_CALL = re.compile(r"/orchestrator:([a-z-]+)")
#: Skills with the name of a command of Claude Code itself (2.1.332), which a copy would hide. A
#: client test looks for new ones.
CLASHING = ("doctor",)


def put(root: str) -> list[str]:
    """Copy the skills to `.claude/commands/`; return what was written. Raises OrchestratorError.

    Edited files remain. A file of the same name in `.orchestrator/commands/` replaces the shipped
    text. A copy never hides a command of the client: such a name gets a prefix.
    """
    written = []
    command = _command(root)
    for name in hidden(root):
        path = os.path.join(root, FOLDER, f"{name}.md")
        if _is_unedited(read_text(path)):
            files.remove(path)
            written.append(f".claude/commands/{name}.md (removed: it hid the client's own /{name})")
    for name, shipped in _shipped().items():
        text = _CALL.sub(lambda call: f"/{copy_name(call[1])}", _COMMAND.sub(command, shipped))
        own = read_text(os.path.join(root, ".orchestrator", "commands", f"{name}.md"), root)
        own = own.replace("\r\n", "\n")
        text = _sealed(own if own.startswith("---\n") else text)
        copy = f"{copy_name(name)}.md"
        target = os.path.join(root, FOLDER, copy)
        known = read_text(target)
        is_edited = os.path.lexists(target) and not _is_unedited(known)
        if is_edited or _content(known) == _content(text):
            continue
        write_text(target, text, root)
        written.append(f".claude/commands/{copy}")
    return written


def copy_name(name: str) -> str:
    """Return the name of a skill's copy in `.claude/commands/`."""
    return f"orchestrator-{name}" if name in CLASHING else name


def hidden(root: str) -> list[str]:
    """Return the client's commands that a file of an earlier `init` hides, edited or not."""
    return [n for n in CLASHING if _SEAL in read_text(os.path.join(root, FOLDER, f"{n}.md"))]


def copies(root: str) -> list[str]:
    """Return the paths of the copies, as `put` writes them."""
    return [os.path.join(root, FOLDER, f"{copy_name(name)}.md") for name in _shipped()]


def take(root: str) -> list[str]:
    """Remove unedited copies, and then empty folders; return the names of the removed copies."""
    folder = os.path.join(root, FOLDER)
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
    return text.replace("---\n", f"---\n{_SEAL}{_digest(_content(text))}\n", 1)


def _is_unedited(text: str) -> bool:
    """Return whether a text is an unedited copy, written by any version of `put`."""
    seal = re.search(rf"^{_SEAL}(\w+)\r?\n", text, flags=re.MULTILINE)
    if seal is None:
        return False
    plain = text[: seal.start()] + text[seal.end() :]
    return seal[1] == _digest(_content(plain))


def _content(text: str) -> str:
    """Return a text without what a formatter may change."""
    return _FORMAT.sub("", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
