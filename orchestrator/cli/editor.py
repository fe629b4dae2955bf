"""A person's editor: opens a text, and keeps what the person wrote if it is refused."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator

from orchestrator.cli import body_text, output
from orchestrator.model.errors import OrchestratorError


@contextlib.contextmanager
def edited(text: str, name: str, again: str) -> Iterator[str]:
    """Open `text` in the editor, in a file `NAME.md`; yield the text that the person saved.

    If the body of the `with` statement refuses the text, the file stays, and the error's hint names
    it; `again` is the next step, with a place for its `path`. Raises OrchestratorError.
    """
    command, path = _command(), kept(text, name)
    try:
        # As git does: the variable may contain options, and quotes.
        done = subprocess.run(("/bin/sh", "-c", f'{command} "$@"', command, path), check=False)
        if done.returncode != 0:
            message = f"nothing was changed: the editor `{command}` exited {done.returncode}"
            raise OrchestratorError(message, code="editor_failed")
        if not os.path.exists(path):
            message = f"nothing was changed: the editor `{command}` removed the file"
            raise OrchestratorError(message, code="editor_failed")
        yield body_text.read(path)
    except (OrchestratorError, OSError) as error:
        if _is_unchanged(path, text) or not os.path.exists(path):
            shutil.rmtree(os.path.dirname(path), ignore_errors=True)
            raise
        where = f"your text is kept in {path}; {again.format(path=shlex.quote(path))}"
        if isinstance(error, OSError):  # a full disk, for example: it has no hint yet
            output.err(where)
        else:
            error.hint = f"{error.hint}; {where}" if error.hint else where
        raise
    shutil.rmtree(os.path.dirname(path), ignore_errors=True)


def _is_unchanged(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read() == text
    except (OSError, UnicodeDecodeError):
        return False


def kept(text: str, name: str) -> str:
    """Write a text into a file `NAME.md` in a new folder that only this user can enter."""
    path = os.path.join(tempfile.mkdtemp(prefix="orchestrator-"), f"{name}.md")
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(text)
    return path


def _command() -> str:
    """Return the editor's command, as a shell reads it."""
    for name in ("VISUAL", "EDITOR"):
        if os.environ.get(name, "").strip():
            return os.environ[name]
    if not sys.stdin.isatty():
        hint = "set EDITOR to the command of your editor"
        raise OrchestratorError("there is no terminal to open an editor on", hint)
    return "vi"
