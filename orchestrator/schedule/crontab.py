"""The user's crontab: one marked block a project; every other byte is somebody else's.

`crontab` is asked and told through its own program, in bytes, so that what we do not know of goes
back as it came.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from orchestrator.errors import OrchestratorError

#: Seconds for one call of `crontab`.
_TIMEOUT = 20.0
_MARK = "orchestrator"
#: Debian's cron refuses a command of 1,000 bytes and more (its MAX_COMMAND).
LONGEST_COMMAND = 960
#: What an empty crontab is called: by vixie cron, cronie, macOS and busybox.
_NONE_YET = (rb"no crontab for", rb"can't open '[^']*': No such file")

#: Within single quotes for sh: what these must become so that cron lets them through. Unescaped, a
#: `%` ends the command; vixie's cron takes the backslash away, busybox's leaves it to the shell,
#: and either is right outside the quotes. A backslash is kept off whatever follows it, because
#: vixie's makes one of two (crontab(5); do_command.c).
_QUOTED = {"'": "'\"'\"'", "%": "'\\%'", "\\": "\\''"}


def quote(text: str) -> str:
    """Return a word for sh that also passes through a crontab unharmed."""
    return "'" + "".join(_QUOTED.get(c, c) for c in text) + "'"


def program() -> str:
    """Return the crontab program. Raises OrchestratorError."""
    found = shutil.which("crontab")
    if found is None:
        raise OrchestratorError(
            "this machine has no crontab program",
            "install it (Debian and Ubuntu: apt install cron), or take --schedule systemd or "
            "launchd",
            code="schedule_unavailable",
        )
    return found


def _call(*arguments: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(
            (program(), *arguments),
            input=b"" if stdin is None else stdin,
            capture_output=True,
            timeout=_TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        raise OrchestratorError(
            f"crontab did not end within {_TIMEOUT:.0f} s", "try: crontab -l", code="crontab_failed"
        ) from None


def _failed(done: subprocess.CompletedProcess[bytes], doing: str) -> OrchestratorError:
    said = b"; ".join(done.stderr.strip().splitlines()).decode(errors="replace")
    return OrchestratorError(
        f"the crontab cannot be {doing}: {said or f'crontab exited {done.returncode}'}",
        "nothing was changed; try by hand: crontab -l",
        code="crontab_failed",
    )


def read() -> bytes:
    """Return the user's crontab, empty where there is none. Raises OrchestratorError."""
    done = _call("-l")
    if done.returncode == 0:
        return done.stdout
    if any(re.search(pattern, done.stderr, re.IGNORECASE) for pattern in _NONE_YET):
        return b""
    raise _failed(done, "read")


def _write(text: bytes) -> None:
    done = _call("-", stdin=text) if text else _call("-r")
    if done.returncode != 0:
        raise _failed(done, "written")
    if read() != text:
        raise OrchestratorError(
            "the crontab does not hold what was just written",
            "look at it: crontab -l",
            code="crontab_failed",
        )


# --- the block of a project --------------------------------------------------------------------


def block(name: str, title: str, command: str) -> bytes:
    """Return a project's block. `name` is its stable name, `title` is for the reader."""
    lines = (
        f"# >>> {_MARK} {name} >>> {title}",
        f"* * * * * {command}",
        f"# <<< {_MARK} {name} <<<",
    )
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def without(text: bytes, name: str) -> bytes:
    """Return a crontab without a project's block, the rest byte for byte as it was."""
    own = f"{_MARK} {name}".encode()
    # One whose end is gone, by somebody's editor, takes only what is surely ours with it.
    whole = rb"^# >>> %b >>>[^\n]*\n(?:(?!# [<>]{3} )[^\n]*\n)*?# <<< %b <<<[^\n]*\n?" % (own, own)
    torn = rb"^# >>> %b >>>[^\n]*\n?(?:\* \* \* \* \* cd [^\n]* tick >/dev/null [^\n]*\n?)?" % own
    end = rb"^# <<< %b <<<[^\n]*\n?" % own
    for pattern in (whole, torn, end):
        text = re.sub(pattern, b"", text, flags=re.MULTILINE)
    return text


def put(name: str, wanted: bytes) -> bool:
    """Let the crontab hold exactly this one block of a project; return whether it changed."""
    text = read()
    if text.count(wanted) == 1 and without(text, name) == text.replace(wanted, b""):
        return False
    rest = without(text, name)
    gap = b"" if not rest or rest.endswith(b"\n") else b"\n"
    _write(rest + gap + wanted)
    return True


def take(name: str) -> bool:
    """Take a project's block out; return whether there was one."""
    text = read()
    rest = without(text, name)
    if rest == text:
        return False
    _write(rest)
    return True


def has_any() -> bool:
    """Return whether any project has a block."""
    return f"# >>> {_MARK} ".encode() in read()


def settings(name: str) -> dict[str, str]:
    """Return the variables that the crontab sets for a project's line (crontab(5))."""
    before = read().partition(f"# >>> {_MARK} {name} >>>".encode())[0].decode(errors="replace")
    found = re.findall(r"^[ \t]*([A-Za-z_]\w*)[ \t]*=[ \t]*(.*?)[ \t]*$", before, re.MULTILINE)
    return {key: re.sub(r"^(['\"])(.*)\1$", r"\2", value) for key, value in found}
