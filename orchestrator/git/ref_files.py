"""The files in which git keeps refs: what they say, and their times, without a process of git.

Git creates a lock file beside a ref before it changes the ref, so the time of the folder changes
too (git's `refs/files-backend.c`). All packed refs are in one file; a repository with a reftable
(gitformat-reftable(5)) names its tables in one file.
"""

import itertools
import os
from collections.abc import Iterable

from orchestrator.git import place
from orchestrator.system import files
from orchestrator.text.alphabets import is_commit

#: In the order in which git looks for the repository at a path (git's `enter_repo`).
_SUFFIXES = ("/.git", "", ".git/.git", ".git")
#: What the full names of refs begin with that keep rescued work.
RESCUE = "refs/orchestrator/rescue/"
#: Bytes of packed refs up to which they are looked through: some thousand refs.
MOST_PACKED = 1 << 18
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
    folder = place.common_folder(root)
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
    folder, ref = place.common_folder(root), f"refs/remotes/{remote}/{branch}"
    try:
        has_remote = _gives_address(f"{folder}/config", remote)
        return _commit(folder, ref) if has_remote else None
    except OSError:
        return None


def _gives_address(config: str, remote: str) -> bool:
    text = files.read_regular(config).decode(errors="replace")
    section = f"\n{text}".partition(f'\n[remote "{remote}"]\n')[2]
    for line in itertools.takewhile(lambda line: line[:1] in (" ", "\t"), section.split("\n")):
        key, _, value = line.partition("=")
        if key.strip() == "url" and value.strip():
            return True
    return False


def _commit(folder: str, ref: str) -> str | None:
    """Return the commit of a full ref name. Git looks at the ref's own file first, too."""
    if os.path.lexists(f"{folder}/reftable"):
        return None
    try:
        found = files.read_regular(f"{folder}/{ref}", 1024)
    except FileNotFoundError:
        found = _in_packed(files.read_regular(f"{folder}/packed-refs"), ref) or b""
    text = found.decode(errors="replace").strip()
    return text if is_commit(text) else None


def commits(root: str, refs: Iterable[str]) -> dict[str, str] | None:
    """Return those of some full ref names that exist, each with its commit, as git's files say.

    None where git must be asked: a ref is not a plain one, its commit is not an object with a file
    of its own, that file is damaged, or so many refs are packed that git finds one faster.
    """
    folder = place.common_folder(root)
    if os.path.lexists(f"{folder}/reftable"):
        return None
    try:
        said = {ref: _own_file(f"{folder}/{ref}") for ref in refs}
        # After the look at their own files, which git removes when it has packed them.
        packed = _packed(folder) if None in said.values() else b""
    except OSError:
        return None
    if len(packed) > MOST_PACKED:
        return None
    found = {ref: _in_packed(packed, ref) if own is None else own for ref, own in said.items()}
    known = {ref: x.decode(errors="replace").strip() for ref, x in found.items() if x is not None}
    is_plain = all(map(is_commit, known.values()))
    return known if is_plain and all(_has_file(folder, x) for x in {*known.values()}) else None


def _own_file(path: str) -> bytes | None:
    """Return the file of a ref; None if it has none. Raises OSError."""
    try:
        return files.read_regular(path, 1024)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        if os.path.isdir(path):  # other refs are below that name
            return None
        raise


def _packed(folder: str) -> bytes:
    """Return the file of packed refs, of a larger one the beginning. Raises OSError."""
    try:
        return files.read_regular(f"{folder}/packed-refs", MOST_PACKED + 1)
    except FileNotFoundError:
        return b""


def _in_packed(packed: bytes, ref: str) -> bytes | None:
    """Return the commit of a ref in the file of packed refs; None if the ref is not there."""
    before, is_there, _ = packed.partition(f" {ref}\n".encode())
    return before.rpartition(b"\n")[2] if is_there else None


def _has_file(folder: str, commit: str) -> bool:
    """Whether an object has a file that begins as git's do: a power cut can leave zeros."""
    start = files.content(f"{folder}/objects/{commit[:2]}/{commit[2:]}", 2) or b""
    return len(start) == 2 and start[0] & 15 == 8 and int.from_bytes(start, "big") % 31 == 0


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
