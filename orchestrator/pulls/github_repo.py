"""Which repository on GitHub a remote's address means.

The host in an address may be an alias of the user's ssh configuration, and GitHub Enterprise may be
on any host. So ssh and gh are asked, and the answer is remembered for the next processes.
"""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import os
import re
import time

from orchestrator.git import remotes, settings
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.pulls.gh import GITHUB, Gh, Repository
from orchestrator.system import commands, files, records

#: GitHub's host for ssh through port 443.
_SSH_HOST = "ssh.github.com"
#: Seconds for a question to ssh or gh; seconds after which a host that gh does not know is asked
#: for again.
TIMEOUT = 10.0
ASK_AGAIN = 3600.0

_PATH = r"/*(?P<owner>[A-Za-z0-9._-]+)/(?P<name>[A-Za-z0-9._-]+?)(\.git)?/*"
_HOST = r"(?P<host>[A-Za-z0-9._-]+)"
_URL = rf"(?P<kind>https?|ssh|git)://([^/@]*@)?{_HOST}(:\d+)?{_PATH}"
#: `user@host:owner/repo`; some write the port of ssh.github.com before the path.
_SCP = rf"([^/@:]+@)?{_HOST}:(443/)?{_PATH}"


class Found(NamedTuple):
    """What was found out about a remote; `asked` is in epoch seconds."""

    #: The addresses that were asked about, and whether gh was installed.
    key: str
    asked: float = 0.0
    host: str = ""
    owner: str = ""
    name: str = ""
    #: Whether the host is GitHub's, or gh has a sign-in for it.
    known: bool = False


def find(layout: Layout, addresses: list[str], *, remember: bool = False) -> Found:
    """Return the repository of a remote with these addresses, and whether gh knows its host.

    A process that may write sets `remember`: then no later process has to ask ssh or gh.
    """
    import shutil

    installed = shutil.which("gh") is not None
    key, now = " ".join([*addresses, "gh" if installed else ""]), time.time()
    found = _remembered(layout)
    if found.key == key and (found.known or 0 <= now - found.asked < ASK_AGAIN):
        return found
    repository = _first(layout, addresses)
    if repository is None:
        return Found(key, now)
    found = Found(key, now, *repository, known=installed and _is_known(layout, repository))
    if remember:
        files.make_folder(layout.cache)
        files.write_json(_memory(layout), records.plain(found))
    return found


def of_remote(layout: Layout, remote: str, *, push: bool = False) -> Repository | None:
    """Return the repository of a remote; None if its address names no host. Does not ask gh."""
    addresses = remotes.addresses(layout.root, remote, push=push)
    found = _remembered(layout)
    if found.host and found.key == " ".join([*addresses, "gh"]):
        return Repository(found.host, found.owner, found.name)
    return _first(layout, addresses)


def _memory(layout: Layout) -> str:
    return os.path.join(layout.cache, "forge.json")


def _remembered(layout: Layout) -> Found:
    return records.build(Found, files.read_json(_memory(layout)) or {}) or Found("")


def _first(layout: Layout, addresses: list[str]) -> Repository | None:
    return next(filter(None, (_parsed(layout, each) for each in addresses)), None)


def _parsed(layout: Layout, address: str) -> Repository | None:
    """Read an address as git does; the host of ssh is looked up. None for a path on this disk."""
    match = re.fullmatch(_URL, address)
    over_ssh = match is None or match["kind"] == "ssh"
    match = match or (None if "://" in address else re.fullmatch(_SCP, address))
    if match is None:
        return None
    host = match["host"].lower()
    if over_ssh and host != GITHUB:
        host = _ssh_host(layout.root, match["host"]).lower()
    return Repository(GITHUB if host == _SSH_HOST else host, match["owner"], match["name"])


def _ssh_host(root: str, alias: str) -> str:
    """Return the host that the user's ssh configuration means by a name, without a connection."""
    import shlex

    try:
        own = settings.ssh_command(root) or "ssh"
        done = commands.run(
            (*shlex.split(own), "-G", "--", alias),
            cwd=root,
            environment=os.environ,
            timeout=TIMEOUT,
        )
    except (OSError, ValueError, OrchestratorError):
        return alias
    named = re.search(r"^hostname (\S+)$", done.out, re.MULTILINE) if done.code == 0 else None
    return named[1] if named else alias


def _is_known(layout: Layout, repository: Repository) -> bool:
    """Return whether the host is GitHub's, or gh has a sign-in for it, be it a broken one."""
    if repository.host == GITHUB:
        return True
    words = ("auth", "status", "--hostname", repository.host)
    try:
        done = Gh(layout, repository).call(words, os.environ, TIMEOUT)
    except OSError:
        return False
    if done.code in (0, None):
        return done.code == 0
    return re.search(r"Failed to log in|authentication failed", done.out + done.err) is not None
