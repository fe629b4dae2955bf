"""Git LFS: the objects of a branch are at the remote before the branch is.

Git stores the objects outside its own files, and git-lfs pushes them from a hook of git. The
product's git calls run no hooks, so this module calls git-lfs as that hook does
(git-lfs-pre-push(1)).
"""

import os
import re
from collections.abc import Mapping

from orchestrator.git import call, repository
from orchestrator.git.worktree_commands import git_folder
from orchestrator.model.errors import SystemFault
from orchestrator.system import files

#: Seconds for the objects of one branch.
TIMEOUT = 1800.0
_INSTALL = "install git-lfs (Debian and Ubuntu: apt install git-lfs), then: git lfs install"
#: The first bytes of a pointer: the text that git keeps in the place of a file
#: (https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md).
_POINTER = b"version https://git-lfs.github.com/spec/"
#: What git-lfs says of an object that is not in this repository.
_LOST = r"(?i)\(missing\)|missing or corrupt|unable to find source for object"


def is_used(root: str) -> bool:
    """Return whether a checkout has files in Git LFS, from the files of git alone.

    Nested `.gitattributes` count only after git-lfs was once at work here, and has its folder.
    """
    folder = git_folder(root)
    if os.path.isdir(os.path.join(folder, "lfs")):
        return True
    return _attributes_name_it(root)


def _attributes_name_it(root: str) -> bool:
    # Git follows no link here either.
    return b"filter=lfs" in (files.content(os.path.join(root, ".gitattributes")) or b"")


def _is_installed() -> bool:
    from shutil import which

    return which("git-lfs") is not None


def fault(root: str) -> SystemFault | None:
    """Return why files in Git LFS cannot be worked on in this repository; None if they can."""
    if not _attributes_name_it(root):
        return None
    if not _is_installed():
        message = "files of this repository are in Git LFS, and git-lfs is not installed"
        return SystemFault(message, _INSTALL, code="git_lfs_missing")
    if not call.run(root, "config", "--get-regexp", r"^filter\.lfs\.(process|clean)$").out.strip():
        message = "files of this repository are in Git LFS, and git-lfs is not set up for git"
        return SystemFault(message, "git lfs install", code="git_lfs_missing")
    return None


def require(root: str) -> None:
    """Raise SystemFault if an agent would see, and commit, something else than its files."""
    found = fault(root)
    if found is not None:
        raise found


def skips(root: str, variables: Mapping[str, str]) -> bool:
    """Return whether checkouts leave pointers in place of the files (git-lfs-install(1))."""
    words = ("config", "--get-regexp", r"^filter\.lfs\.(process|smudge)$")
    is_set = variables.get("GIT_LFS_SKIP_SMUDGE", "").lower() in ("1", "true", "yes", "on")
    return is_set or "--skip" in call.run(root, *words).out


def _is_pointer(objects: str, oid: str) -> bool:
    """Return whether an object's content is a pointer: somebody changed a file that was not there.

    With `git lfs install --skip-smudge`, for example, checkouts have pointers only.
    """
    path = os.path.join(objects, oid[:2], oid[2:4], oid)
    return files.content(path, len(_POINTER)) == _POINTER


def push(root: str, remote: str, commit: str, branch: str, replaces: str) -> str | None:
    """Push the objects of a commit; return why they are not there, or None.

    `replaces` is the branch's commit at the remote, "" without one. Raises SystemFault when git-lfs
    is missing, or cannot reach its server.
    """
    if not is_used(root):
        return None
    # Only git-lfs makes objects: its folder alone is of a time before.
    if not _is_installed() and not _attributes_name_it(root):
        return None
    ref, nothing = f"refs/heads/{branch}", "0" * len(commit)
    line = f"{ref} {commit} {ref} {replaces or nothing}\n"
    words = ("lfs", "pre-push", remote, remote)
    listed = call.run(root, *words, "--dry-run", stdin=line, timeout=TIMEOUT)
    objects = os.path.join(repository.git_folder(root), "lfs", "objects")
    for oid, path in re.findall(r"^push (\w{64}) => (.+)$", listed.out, re.MULTILINE):
        if _is_pointer(objects, oid) and oid in call.run(root, "show", f"{commit}:{path}").out:
            return (
                f"{path} is in Git LFS, and the commit has its pointer as the file: restore the "
                f"file with git lfs pull --include {path!r}, change the file, and commit it"
            )
    done = call.run(root, *words, stdin=line, timeout=TIMEOUT)
    if done.code == 0:
        return None
    if "is not a git command" in done.err:
        message = f"the objects of {branch} cannot be pushed: git-lfs is not installed"
        raise SystemFault(message, _INSTALL, code="git_lfs_missing")
    said = call.reason(done.err or done.out)
    if re.search(_LOST, done.err + done.out):
        return f"git-lfs lacks objects of the branch: {said}"
    raise SystemFault(
        f"git-lfs cannot push the objects of {branch} to {remote!r}: {said}",
        f"try: git lfs push {remote} {branch}",
        code="git_lfs_failed",
    )
