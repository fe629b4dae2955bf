"""The user's crontab: one marked block per project. All other bytes belong to the user.

The crontab is read and written through the program `crontab`, in bytes, so that all other text is
written back unchanged.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from orchestrator.model.errors import OrchestratorError
from orchestrator.schedule.entry import Entry
from orchestrator.schedule.kind import Kind, State

#: Seconds for one call of `crontab`.
_TIMEOUT = 20.0
_MARK = "orchestrator"
#: The messages for an empty crontab of vixie cron, cronie, macOS and busybox.
_NONE_YET = (rb"no crontab for", rb"can't open '[^']*': No such file")

#: How to write these characters within single quotes for sh, so that cron passes them on. An
#: unescaped `%` ends the command; vixie's cron removes the backslash, busybox's leaves it to the
#: shell, and both are correct outside the quotes. A backslash is separated from the next character,
#: because vixie's cron turns two backslashes into one (crontab(5); do_command.c).
_QUOTED = {"'": "'\"'\"'", "%": "'\\%'", "\\": "\\''"}


class Cron(Kind):
    program = "crontab"
    instead = (
        "install it (Debian and Ubuntu: apt install cron), or use --schedule systemd or launchd"
    )
    token_place = "add the line {name}=<the token> at the top of your crontab (crontab -e)"

    def put(self, entry: Entry) -> list[str]:
        text, wanted = self._read(), block(entry)
        rest = without(text, entry.name)
        if text.count(wanted) == 1 and rest == text.replace(wanted, b""):
            return []
        gap = b"" if not rest or rest.endswith(b"\n") else b"\n"
        self._write(rest + gap + wanted)
        return ["your crontab: a marked block"]

    def take(self, name: str) -> list[str]:
        text = self._read_if_any()
        rest = without(text, name)
        if rest == text:
            return []
        self._write(rest)
        return ["the marked block in your crontab"]

    def has_any(self) -> bool:
        return f"# >>> {_MARK} ".encode() in self._read_if_any()

    def state(self, entry: Entry) -> State:
        text = self._read()
        if block(entry) in text:
            return "there"
        return "gone" if without(text, entry.name) == text else "changed"

    def environment(self, name: str, token: str) -> dict[str, str]:
        """Return the variables that the crontab sets before the entry's block (crontab(5))."""
        mark = f"# >>> {_MARK} {name} >>>".encode()
        before = self._read().partition(mark)[0].decode(errors="replace")
        found = re.findall(r"^[ \t]*([A-Za-z_]\w*)[ \t]*=[ \t]*(.*?)[ \t]*$", before, re.MULTILINE)
        return {key: re.sub(r"^(['\"])(.*)\1$", r"\2", value) for key, value in found}

    # --- the program ---------------------------------------------------------------------------

    def _read(self) -> bytes:
        """Return the user's crontab; empty if the user has no crontab."""
        return self._call("read", "-l")

    def _read_if_any(self) -> bytes:
        """Return the user's crontab; empty if the machine has no crontab program."""
        return self._read() if shutil.which(self.program) else b""

    def _write(self, text: bytes) -> None:
        self._call("written", "-" if text else "-r", stdin=text)
        if self._read() != text:
            message = "the crontab does not contain the entry that was just written"
            raise OrchestratorError(message, "see: crontab -l", code="crontab_failed")

    def _call(self, verb: str, argument: str, stdin: bytes = b"") -> bytes:
        environment = {**os.environ, "LC_ALL": "C"}
        self.require()
        try:
            done = subprocess.run(
                (self.program, argument),
                input=stdin,
                capture_output=True,
                timeout=_TIMEOUT,
                env=environment,
            )
            code, out, said = done.returncode, done.stdout, done.stderr
        except subprocess.TimeoutExpired:
            code, out, said = -1, b"", f"it did not end within {_TIMEOUT:.0f} s".encode()
        if code == 0:
            return out
        if verb == "read" and any(re.search(pattern, said, re.IGNORECASE) for pattern in _NONE_YET):
            return b""
        reason = b"; ".join(said.strip().splitlines()).decode(errors="replace")
        raise OrchestratorError(
            f"the crontab cannot be {verb}: {reason or f'crontab exited {code}'}",
            "nothing was changed; try: crontab -l",
            code="crontab_failed",
        )


# --- the block of a project --------------------------------------------------------------------


def quote(text: str) -> str:
    """Return a quoted word for sh that is also safe in a crontab."""
    return "'" + "".join(_QUOTED.get(c, c) for c in text) + "'"


def block(entry: Entry) -> bytes:
    """Return a project's block. Its marks have the entry's name, and the folder for the reader."""
    lines = (
        f"# >>> {_MARK} {entry.name} >>> {entry.root}",
        f"* * * * * {quote(entry.script_path)}",
        f"# <<< {_MARK} {entry.name} <<<",
    )
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def without(text: bytes, name: str) -> bytes:
    """Return a crontab without a project's block; all other bytes are unchanged."""
    own = f"{_MARK} {name}".encode()
    # If an edit removed a block's end mark, only the product's own lines are removed.
    whole = rb"^# >>> %b >>>[^\n]*\n(?:(?!# [<>]{3} )[^\n]*\n)*?# <<< %b <<<[^\n]*\n?" % (own, own)
    command = rb"\* \* \* \* \* '[^\n]*/orchestrator-%b'\n?"
    torn = rb"^# >>> %b >>>[^\n]*\n?(?:%b)?" % (own, command % name.encode())
    end = rb"^# <<< %b <<<[^\n]*\n?" % own
    for pattern in (whole, torn, end):
        text = re.sub(pattern, b"", text, flags=re.MULTILINE)
    return text
