"""What a person can do when a file of the repository stops every git command."""

import re

#: What git says, and the step that repairs it.
_STEPS = (
    (
        # Git quotes the path for a shell.
        r"(?s)dubious ownership in repository.*safe\.directory (?P<path>[^\n]+)",
        "chown the folder, or: git config --global --add safe.directory {path}",
    ),
    (
        r"(unexpected|unterminated) line in (?P<path>\S*packed-refs)",
        "keep a copy of {path}, then remove the line that git quotes (a sound line is a commit id, "
        "a space and the full name of a ref)",
    ),
    (
        r"multi-pack-index",
        "git can do without this file: git multi-pack-index write; or remove "
        ".git/objects/pack/multi-pack-index",
    ),
    (
        r"bad config line \d+ in file (?P<path>\S+)",
        "correct that line of {path}",
    ),
    (
        r"bad object|missing object|unable to read|missing blob|loose object \S+ .*corrupt",
        "an object is missing or damaged; to see what needs it: orchestrator doctor",
    ),
)


def hint(complaint: str) -> str | None:
    """Return the step that repairs what git complains of; None if that is no damage in a file."""
    for pattern, step in _STEPS:
        if found := re.search(pattern, complaint):
            return step.format(**found.groupdict())
    return None
