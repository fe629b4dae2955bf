"""The remotes of submodules: whether they have a commit, and where they are."""

import os
import re

from orchestrator.git import call, remotes, submodules
from orchestrator.model.errors import SystemFault
from orchestrator.system import files


def persons_url(main: str, path: str) -> str | None:
    """Return the URL of the submodule's remote in the person's checkout; None without it."""
    own = os.path.join(main, path)
    return remotes.url(own, "origin") if submodules.is_filled(own) else None


def answers(place: str, url: str) -> bool:
    """Return whether the remote at `url` can be reached."""
    return call.run(place, "ls-remote", "--quiet", "--", url, timeout=remotes.TIMEOUT).code == 0


def absolute(url: str, base: str) -> str:
    """Return a submodule's URL, which can be relative to `base` (gitmodules(5), url)."""
    if not url.startswith(("./", "../")):
        return url
    base = base.rstrip("/")
    while url.startswith(("./", "../")):
        if url.startswith("../"):
            base = re.sub(r"[/:][^/:]*$", "", base)
        url = url.partition("/")[2]
    return f"{base}/{url}"


def is_strange(url: str) -> bool:
    """Return whether git would take a URL for an option, or start a program of its name.

    `helper::address` starts a remote helper (gitremote-helpers(7)). An agent can write the URL.
    """
    return re.match(r"-|[\w.+-]+::", url) is not None


def is_a_persons(main: str, path: str, url: str) -> bool:
    """Return whether a person chose a URL, or it is on another machine.

    A push to a repository on this disk runs the programs that its configuration and its hooks name,
    and an agent can make such a repository.
    """
    if persons_url(main, path) == url:
        return True
    return not os.path.exists(os.path.join(main, url.removeprefix("file://")))


def has(place: str, url: str, commit: str, scratch: str) -> bool:
    """Return whether the remote at `url` has a commit of a submodule.

    `place` is a repository that may have the commit; `scratch` is a folder that is made and removed
    again. Raises SystemFault when the remote cannot be reached.
    """
    done = call.run(place, "ls-remote", "--quiet", "--", url, timeout=remotes.TIMEOUT)
    if done.code != 0:
        raise remotes.unreachable(url, done.err)
    tips = [line.split("\t", 1)[0] for line in call.lines(done.out)]
    if commit in tips:
        return True
    if submodules.has(place, commit):
        asked = "".join(f"^{tip}\n" for tip in tips) + f"{commit}\n"
        words = ("rev-list", "--max-count=1", "--ignore-missing", "--stdin")
        if not call.ask(place, *words, stdin=asked):
            return True
    return _hands_out(url, commit, scratch)


def _hands_out(url: str, commit: str, scratch: str) -> bool:
    """Return whether the remote hands out a commit that is on no branch of it that we know.

    Asked from an empty repository: where git has the commit already, it does not ask the remote.
    """
    files.remove_tree(scratch)
    files.make_folder(scratch)
    try:
        call.ask(scratch, "init", "--quiet", "--bare")
        words = (*submodules.MODERN, "fetch", *submodules.QUIET, "--depth=1", "--", url, commit)
        return call.run(scratch, *words, timeout=submodules.TIMEOUT).code == 0
    finally:
        files.remove_tree(scratch)


def push(place: str, url: str, commit: str, branch: str) -> str | None:
    """Push a commit of a submodule to a branch of its remote; return why it was refused, or None.

    Raises SystemFault when the remote cannot be reached or refuses the account.
    """
    try:
        return remotes.push(place, url, commit, branch)
    except SystemFault as fault:
        if fault.code == "remote_refuses":
            return fault.message
        raise
