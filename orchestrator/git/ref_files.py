"""The files in which git keeps refs: what they say, and their times, without a process of git.

Git creates a lock file beside a ref before it changes the ref, so the time of the folder changes
too (git's `refs/files-backend.c`). All packed refs are in one file; a repository with a reftable
(gitformat-reftable(5)) names its tables in one file.
"""

import os
import re
from collections.abc import Iterable

from orchestrator.git import place
from orchestrator.system import files

#: In the order in which git looks for the repository at a path (git's `enter_repo`).
_SUFFIXES = ("/.git", "", ".git/.git", ".git")
#: What the full names of refs begin with that keep rescued work.
RESCUE = "refs/orchestrator/rescue/"
_COMMIT = "[0-9a-f]{40}|[0-9a-f]{64}"
#: Settings of a remote by which git asks another program than its own, or another place.
_ELSEWHERE = ("uploadpack", "vcs")


def paths(folder: str, refs: Iterable[str]) -> list[str] | None:
    """Return the files and folders whose times change when one of some full ref names moves.

    `folder` is the repository's git folder. None if a ref is symbolic: the change of its target
    does not show there. Raises OSError when a file cannot be read.
    """
    found = {f"{folder}/{name}": None for name in ("config", "packed-refs", "reftable/tables.list")}
    for ref in refs:
        path = f"{folder}/{ref}"
        found |= {path: None, os.path.dirname(path): None}
        if os.path.isfile(path) and files.read_regular(path, 1024).startswith(b"ref:"):
            return None
    return list(found)


def may_have(root: str, below: str) -> bool:
    """Return whether there can be a ref below a full name such as `refs/heads/`.

    The refs' own files are looked at first: git writes the packed refs before it removes them.
    """
    folder = own_folder(root)
    if os.path.lexists(f"{folder}/reftable"):
        return True
    if any(found for _, _, found in os.walk(f"{folder}/{below}")):
        return True
    try:
        return f" {below}".encode() in files.read_regular(f"{folder}/packed-refs")
    except FileNotFoundError:
        return False
    except OSError:
        return True


def remote_commit(root: str, remote: str, branch: str) -> str | None:
    """Return the commit of a remote's branch as last fetched, if git's files say it plainly.

    None where git must be asked: the branch or the remote is not there, or is named elsewhere than
    in the repository's own files.
    """
    folder, ref = own_folder(root), f"refs/remotes/{remote}/{branch}"
    try:
        has_remote = _gives_address(f"{folder}/config", remote)
        return _commit(folder, ref) if has_remote else None
    except OSError:
        return None


def _gives_address(config: str, remote: str) -> bool:
    text = files.read_regular(config).decode(errors="replace")
    section = re.search(rf'^\[remote "{re.escape(remote)}"\]\n((?:[ \t].*\n)*)', text, re.MULTILINE)
    return section is not None and re.search(r"(?m)^\s*url\s*=\s*\S", section[1]) is not None


def _commit(folder: str, ref: str) -> str | None:
    """Return the commit of a full ref name. Git looks at the ref's own file first, too."""
    if os.path.lexists(f"{folder}/reftable"):
        return None
    try:
        found = files.read_regular(f"{folder}/{ref}", 1024)
    except FileNotFoundError:
        packed = files.read_regular(f"{folder}/packed-refs")
        before, is_there, _ = packed.partition(f" {ref}\n".encode())
        found = before.rpartition(b"\n")[2] if is_there else b""
    text = found.decode(errors="replace").strip()
    return text if re.fullmatch(_COMMIT, text) else None


def own_folder(root: str) -> str:
    """Return the git folder of a person's checkout, in which the repository's refs are."""
    return place.common_folder(root)


def remote_folder(root: str, remote: str, address: str | None = None) -> str | None:
    """Return the git folder of a remote that is a repository on this machine; None for others.

    `address` replaces the remote's URL. None also where git's configuration leads to another
    place, or through another program. Raises what `settings.seen` raises.
    """
    from orchestrator.git import settings

    known = settings.seen(root)
    urls = (address,) if address else known.get(f"remote.{remote}.url", ())
    odd = any(f"remote.{remote}.{name}" in known for name in _ELSEWHERE)
    if len(urls) != 1 or odd or any(name.startswith("url.") for name in known):
        return None
    path = urls[0].removeprefix("file://")
    # `host:path` is a place for ssh; `%` and `~` stand for other characters.
    if ":" in path.partition("/")[0] or "://" in path or path.startswith("~") or "%" in path:
        return None
    path = os.path.join(root, path)
    there = next((each for s in _SUFFIXES if os.path.lexists(each := path + s)), None)
    is_folder = there is not None and os.path.isfile(f"{there}/HEAD")
    return there if is_folder and os.path.isdir(f"{there}/refs") else None
