"""Which lines of which files some work changes, and whether others touch the same lines.

Lines are counted in the common ancestor: only there do the numbers of two branches agree.
"""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

from collections.abc import Mapping

from orchestrator.model.fields import NamedTuple

#: Above these, only the names of changed files count.
MAX_FILES = 500
MAX_BYTES = 1 << 20
#: Seconds for a diff.
TIMEOUT = 5.0
#: Changes with at most this many lines between them touch each other.
NEAR = 3
_HUNK = rb"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@"
_OPTIONS = (
    "--no-ext-diff",
    "--no-textconv",
    "--no-renames",
    "-O/dev/null",
    "--ignore-submodules=dirty",
)

#: How git writes bytes of a quoted name.
_ESCAPED = rb'\\([abtnvfr"\\]|[0-3][0-7]{2})'

Ranges = tuple[tuple[int, int], ...]


class Changes(NamedTuple):
    """What some work changes."""

    #: By file: the first and last changed line of each place; () is the whole file (it is new,
    #: deleted or binary, or its lines are not known).
    files: Mapping[str, Ranges] = {}
    #: Lines that are added or deleted.
    lines: int = 0
    #: False when the work is so large that only the names of its files are known.
    by_line: bool = True


def touched(one: Changes, other: Changes) -> list[str]:
    """Return the files in which both change the same lines, or lines close to each other."""
    return [
        name
        for name in sorted(one.files.keys() & other.files.keys())
        if _touch(one.files[name], other.files[name])
    ]


def _touch(one: Ranges, other: Ranges) -> bool:
    if not (one and other):
        return True
    return any(a <= d + NEAR and c <= b + NEAR for a, b in one for c, d in other)


def changes(cwd: str, since: str, until: str | None = None) -> Changes | None:
    """Return what changed between two commits; None if git cannot say it in time.

    Without `until`: what the worktree `cwd` has beyond `since`, new files included.
    """
    commits = (since, until) if until else (since,)
    words = ("diff", "-U0", "--inter-hunk-context=0", *_OPTIONS, *commits, "--")
    text = _head(cwd, *words)
    if text is None:
        return None
    found = parse(text)
    if len(text) == MAX_BYTES or len(found.files) > MAX_FILES:
        names = ("diff", "--name-only", "-z", *_OPTIONS, *commits, "--")
        found = Changes(dict.fromkeys(_names(cwd, *names), ()), found.lines, False)
    if until is None:
        others = ("ls-files", "--others", "--exclude-standard", "-z")
        added = dict.fromkeys(_names(cwd, *others), ())
        found = found._replace(files={**added, **found.files})
    return found


def _names(cwd: str, *words: str) -> list[str]:
    text = _head(cwd, *words) or b""
    # What follows the last separator was cut off.
    return [name.decode(errors="replace") for name in text.split(b"\0")[:-1]]


def _head(cwd: str, *words: str) -> bytes | None:
    """Return the beginning of what git prints; None if it fails or takes too long."""
    from orchestrator.git import call, contents  # not for what is remembered

    settings = (*contents.PATCH_SETTINGS, "-c", "diff.autoRefreshIndex=false")
    return call.head(cwd, *settings, *words, most=MAX_BYTES, timeout=TIMEOUT)


def parse(text: bytes) -> Changes:
    """Return the changes in the output of `git diff -U0` with the options above."""
    import re

    found: dict[str, Ranges] = {}
    name, whole, total = "", False, 0
    # The lines of a file's contents begin with + or -, so that they never look like a header.
    for line in text.split(b"\n"):
        if line.startswith(b"diff --git "):
            name, whole = _name(line[len(b"diff --git ") :]), False
            found[name] = ()
        elif line.startswith((b"new file mode ", b"deleted file mode ")):
            whole = True
        elif hunk := re.match(_HUNK, line):
            start, old, _, new = (int(group or b"1") for group in hunk.groups())
            if not whole:
                # Lines that are only added stand after line `start`.
                found[name] = (*found.get(name, ()), (start, start + max(old, 1) - 1))
            total += old + new
    return Changes(found, total)


def _name(words: bytes) -> str:
    """Return the file's name in `a/NAME b/NAME`, in which both names may be quoted."""
    half = words[: len(words) // 2]
    if half.startswith(b'"'):
        import re

        half = re.sub(_ESCAPED, lambda match: _unescaped(match[1]), half[1:-1])
    return half[2:].decode(errors="replace")


def _unescaped(word: bytes) -> bytes:
    if word.isdigit():
        return bytes([int(word, 8)])
    return word.translate(bytes.maketrans(b"abtnvfr", b"\a\b\t\n\v\f\r"))
