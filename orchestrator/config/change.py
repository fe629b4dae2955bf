"""Changing `agents.yaml` from a command: under a lock, checked before the write, atomically.

`edit` edits the text; this module reads, checks and writes the file. The emergency brake
(`pause --all`) must work even if the file is broken, so it has its own functions here.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping

from orchestrator.config import edit, keys, load, roles
from orchestrator.layout import Layout
from orchestrator.model.config import Config, Role
from orchestrator.model.errors import ConfigError, OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files, locks
from orchestrator.text.yaml_nodes import MAX_BYTES

#: Seconds to wait for another command that edits the file.
LOCK_WAIT = 10.0
#: The top level's `paused`, with its comment if it has one.
_PAUSED = re.compile(
    rb"(?m)^((?:\xef\xbb\xbf)?paused[ \t]*:)[^#\r\n]*?([ \t]+#[^\r\n]*|[ \t]*)(?=\r?$)"
)


class Edit(NamedTuple):
    """The configuration before and after an edit; None where the file is broken."""

    before: Config | None
    after: Config | None
    #: Whether the file was written.
    written: bool


def apply(
    layout: Layout,
    change: Callable[[str], str],
    *,
    even_if_broken: bool = False,
    brake: bool = False,
) -> Edit:
    """Apply `change` to the text of `agents.yaml`, and write the result if it is valid.

    With `even_if_broken`, a file that was broken before may stay broken. A symbolic link is never
    written through; with `brake`, the file takes the place of the link. If this raises
    OrchestratorError, nothing was written.
    """
    with _locked(layout, brake=even_if_broken):
        data = load.source(layout, MAX_BYTES + 1)
        known, _ = roles.load(layout.roles)
        before, broken = None, None
        try:
            before = keys.parse(data, roles=known)
        except ConfigError as error:
            broken = error
        try:
            text = data.decode()
        except UnicodeDecodeError:
            raise ConfigError([f"{keys.FILE} is not UTF-8 text"], "save it as UTF-8") from None
        changed = change(text)
        after = None
        try:
            after = keys.parse(changed, roles=known)
        except ConfigError as error:
            if broken is None or not even_if_broken:
                raise _refusal(error, broken) from None
        if changed != text:
            if not brake:
                refuse_link(layout)
            _write(layout, changed.encode())
        return Edit(before, after, changed != text)


def refuse_link(layout: Layout) -> None:
    """Raise OrchestratorError if `agents.yaml` is a link, which no command writes through."""
    if os.path.islink(layout.config):
        real, link = (shlex.quote(p) for p in (os.path.realpath(layout.config), layout.config))
        raise OrchestratorError(
            f"{layout.config} is a symbolic link, which no command writes through; nothing changed",
            f"edit {real}; or put the file in the place of the link: cp --remove-destination "
            f"{real} {link}",
            code="edit_refused",
        )


def _refusal(error: ConfigError, broken: ConfigError | None) -> ConfigError:
    if broken is not None:
        hint = "it was broken before this command: correct it first"
        return ConfigError(broken.problems, hint)
    # The line numbers are those of a text that is discarded.
    prefix = re.compile(rf"^{re.escape(keys.FILE)}:\d+: ")
    problems = [prefix.sub("", problem) for problem in error.problems]
    return ConfigError(problems, f"nothing was changed in {keys.FILE}")


# --- the brake ---------------------------------------------------------------------------------


def pause(layout: Layout, agent: str | None) -> bool:
    """Pause the whole system (agent None) or one agent; return whether it is paused now.

    Does not raise if the file is broken: no run starts then anyway. False means that the file could
    not be changed, or has no such agent.
    """

    def change(text: str) -> str:
        if agent is None:
            return edit.set_paused(text, True)
        return edit.set_agent(text, agent, {"paused": True})

    try:
        apply(layout, change, even_if_broken=True, brake=agent is None)
    except locks.LockHeld:
        raise
    except OrchestratorError:
        return agent is None and _brake(layout)
    return True


def _brake(layout: Layout) -> bool:
    """Pause all agents in a broken file; return whether that was possible."""
    with _locked(layout, brake=True):
        try:
            data = load.source(layout, MAX_BYTES + 1)
        except ConfigError:
            return False
        is_broken = _parsed(data, roles.load(layout.roles)[0]) is None
        if is_broken:
            _write(layout, braked(data))
        return is_broken


def braked(data: bytes) -> bytes:
    """Return the bytes of a broken configuration with `paused: true` at the top level."""
    found = _PAUSED.search(data)
    if found:
        return data[: found.start()] + found[1] + b" true" + found[2] + data[found.end() :]
    newline = b"\r\n" if b"\r\n" in data else b"\n"
    # Only comments, directives and a byte order mark may precede `---`.
    head = re.match(
        rb"(?:\xef\xbb\xbf)?(?:(?:[%#][^\n]*|[ \t\r]*)\n)*---[ \t\r]*\n|\xef\xbb\xbf", data
    )
    at = head.end() if head else 0
    return data[:at] + b"paused: true" + newline + data[at:]


# --- the file ----------------------------------------------------------------------------------


@contextlib.contextmanager
def _locked(layout: Layout, *, brake: bool = False) -> Iterator[None]:
    """Hold the lock from read to write, so that two commands keep each other's changes.

    The brake then goes on without the lock: its holder hangs, and at worst an edit that the holder
    had begun is undone. Raises LockHeld.
    """
    files.make_folder(layout.cache)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locks.Lock(os.path.join(layout.cache, "config.lock"), LOCK_WAIT))
        except locks.LockHeld:
            if not brake:
                raise
        yield


def _parsed(data: bytes, known: Mapping[str, Role]) -> Config | None:
    try:
        return keys.parse(data, roles=known)
    except ConfigError:
        return None


def _write(layout: Layout, data: bytes) -> None:
    """Replace the file, or the link in its place; keep the mode."""
    path = layout.config
    mode = stat.S_IMODE(os.stat(path).st_mode)
    files.write_atomic(path, data, mode)
    os.chmod(path, mode)  # restore the bits that the umask removed
    files.flush(os.path.dirname(path))  # a pause must survive a power cut
