"""An agent's git pushes nowhere: not to a remote by name, nor to the same place by its address.

Agents commit, and the scheduler pushes. This stops mistakes and the simplest injections: a command
can unset the variables, and only the sandbox stops such a command (SECURITY.md).
"""

import os
from collections.abc import Iterable, Iterator

from orchestrator.git import settings

#: What git is told instead of an address: it is also the error that the agent reads.
NOWHERE = "the-scheduler-pushes-when-the-run-is-done"
#: The ways in which git reaches another machine (gitremote-helpers(7), git-push(1), "GIT URLS").
_NETWORK = (
    "https://", "http://", "ssh://", "git+ssh://", "ssh+git://", "git://", "ftp://", "ftps://",
)  # fmt: skip
_ASKED = r"remote\..*\.(url|pushurl)|url\..*\.(insteadof|pushinsteadof)"


def for_agent(root: str, worktree: str) -> dict[str, str]:
    """Return the settings for the git of an agent in `worktree`, a worktree of the project."""
    return closed(settings.matching(root, _ASKED), root, worktree)


def closed(found: Iterable[tuple[str, str]], root: str, worktree: str) -> dict[str, str]:
    """Return the same; `found` are the settings of remotes and of rewritten addresses."""
    values: dict[str, list[tuple[str, str]]] = {}
    for key, value in found:
        name, _, kind = key.partition(".")[2].rpartition(".")
        values.setdefault(kind, []).append((name, value))
    remotes = [*values.get("url", ()), *values.get("pushurl", ())]
    rewritten = [*values.get("insteadof", ()), *values.get("pushinsteadof", ())]
    made = {f"remote.{name}.pushurl": NOWHERE for name, _ in remotes}
    # Git also uses a remote's own push addresses: these must lead nowhere, too.
    own = dict.fromkeys(value for _, value in values.get("pushurl", ()))
    made |= {f"url.{NOWHERE}/{n}.insteadOf": value for n, value in enumerate(own)}
    # What a person's setting rewrites keeps its own spelling until git has chosen the rule.
    spellings = [*_NETWORK, "git@", *(prefix for _, prefix in rewritten)]
    for _, address in remotes:
        spellings += _spellings(address, root, worktree)
        spellings += (
            prefix + address.removeprefix(base)
            for base, prefix in rewritten
            if address.startswith(base)
        )
    closing = enumerate(word for word in dict.fromkeys(spellings) if word and word not in own)
    return made | {f"url.{NOWHERE}/by-address/{n}.pushInsteadOf": word for n, word in closing}


def _spellings(address: str, root: str, worktree: str) -> Iterator[str]:
    """Yield beginnings of an address, as an agent may write it."""
    yield address
    first = address.partition("/")[0]
    if "://" not in address and "::" not in address and ":" in first:  # user@host:path
        user, _, host = first.partition(":")[0].rpartition("@")
        yield from (f"{host}:", f"{user}@{host}:")
        return
    path = address.removeprefix("file://")
    if "://" in path or "::" in path:
        return
    path = os.path.normpath(os.path.join(root, path))
    for place in dict.fromkeys((path, os.path.realpath(path))):
        relative = os.path.relpath(place, worktree)
        yield from (place, f"file://{place}", relative, os.path.join(os.curdir, relative))
