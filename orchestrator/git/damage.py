"""Damage in a repository: refs and objects that a bad disk, a power cut or a `git gc` destroyed.

One damaged branch stops only its own task: whoever meets an error of git asks here whether the
branch is at fault, before everybody is stopped. Nothing is removed except for copies of what the
remote has; each finding names what the ref held, and a command.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator

from orchestrator.git import place, repository, worktree_list
from orchestrator.git.call import ask, lines, reason, run
from orchestrator.model.errors import GitError
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

#: What git says when a ref or an object in this repository stops it, whatever it was asked.
SAID = (
    r"bad object|missing object|did not send all necessary|unable to read|missing blob|not a tree"
)
#: The code of a problem that a damaged ref is.
CODE = "ref_broken"
#: The refs that must name commits; a tag may name any object.
_OF_COMMITS = ("refs/heads/", "refs/remotes/", repository.RESCUE, "refs/orchestrator/")
#: Characters of a damaged file that a finding quotes.
QUOTED = 60
#: Listing what is damaged: git includes what it otherwise passes over (git(1), GIT_REF_PARANOIA).
_ALL = {"GIT_REF_PARANOIA": "1"}


class Damaged(NamedTuple):
    """A ref, or the HEAD of a worktree, that cannot be used."""

    #: A full ref name, or the path of a worktree.
    name: str
    why: str
    #: The command that removes it.
    step: str


def of_branch(root: str, branch: str, base: str | None) -> Damaged | None:
    """Return why the work on a branch cannot be used; None if the branch is not at fault.

    Looks at the ref first, then at each object that the branch has and `base`, a commit, has not.
    If objects of the base are missing too, no single branch is at fault.
    """
    ref = f"refs/heads/{branch}"
    for found in refs(root, ref):
        return found
    tip = repository.resolve(root, ref)
    if tip is None:
        return None
    lacking = _lacks(root, tip, *(["--not", base] if base else []))
    if lacking is None or (base and of_commit(root, base) is not None):
        return None
    why = f"it is at {tip}, and an object of this work is missing or damaged ({lacking})"
    return Damaged(ref, why, f"git update-ref -d {_quote(ref)} {tip}")


def of_commit(root: str, commit: str) -> str | None:
    """Return what git says of a missing object of one commit; None if all objects are there."""
    return _lacks(root, "--no-walk", commit)


def _lacks(root: str, *commits: str) -> str | None:
    """Return what git says of a missing object of commits; None if all objects are there."""
    done = run(root, "rev-list", "--objects", "--quiet", *commits)
    return None if done.code == 0 else reason(done.err)


def refs(root: str, *patterns: str) -> list[Damaged]:
    """Return the damaged refs with these full names, or below these names."""
    done = run(root, "for-each-ref", "--format=%(objectname) %(refname)", *patterns, extra=_ALL)
    named = [line.partition(" ")[::2] for line in lines(done.out)]
    kinds = _kinds(root, {commit for commit, _ in named})
    found = []
    for commit, ref in named:
        kind = kinds.get(commit)
        wanted = ref.startswith(_OF_COMMITS)
        if kind is None or (wanted and kind not in ("commit", "tag")):
            why = "its object is missing" if kind is None else f"that is a {kind}, not a commit"
            step = f"git update-ref -d {_quote(ref)} {commit}"
            found.append(Damaged(ref, f"it is at {commit}: {why}", step))
    for ref in re.findall(r"ignoring broken ref (\S+)", done.err):
        path = os.path.join(repository.git_folder(root), ref)
        why = f"its file holds {_quoted(path)}, which is not a commit id"
        found.append(Damaged(ref, why, f"rm {_quote(path)}"))
    return found


def heads(root: str) -> Iterator[Damaged]:
    """Yield the worktrees whose HEAD names a missing commit: they stop the person's `git fetch`."""
    at = worktree_list.heads(root)
    kinds = _kinds(root, set(at.values()))
    sound = repository.resolve(root, "HEAD")
    for path, commit in at.items():
        if sound and commit.strip("0") and commit not in kinds:
            # The index and the files stay as they are.
            step = f"git -C {_quote(path)} update-ref --no-deref HEAD {sound}"
            yield Damaged(path, f"its HEAD is at {commit}: that commit is missing", step)


def alternates(root: str) -> list[Damaged]:
    """Return the folders of objects that the repository borrows and that are missing.

    See gitrepository-layout(5), `objects/info/alternates`.
    """
    objects = os.path.join(repository.git_folder(root), "objects")
    path = os.path.join(objects, "info", "alternates")
    names = lines((files.content(path) or b"").decode(errors="replace"))
    named = [os.path.join(objects, name) for name in names if not name.startswith("#")]
    why = "objects are borrowed from this folder, and it is missing"
    step = f"edit {_quote(path)}, if no object in it is needed"
    return [Damaged(each, why, step) for each in named if not os.path.isdir(each)]


def of_branches(
    root: str, branches: Callable[[], Iterable[str]], base: str | None
) -> list[Damaged]:
    """Return the damage of those branches whose refs are sound, but not all of their objects.

    `branches` returns the branches; it is asked only if any branch is damaged.
    """
    # One git for all of them: there can be tens of thousands.
    if _lacks(root, "--branches", *(["--not", base] if base else [])) is None:
        return []
    return [found for each in branches() if (found := of_branch(root, each, base))]


def _kinds(root: str, objects: Iterable[str]) -> dict[str, str]:
    """Return the kinds of those objects that exist."""
    asked = "".join(f"{each}\n" for each in objects)
    said = ask(root, "cat-file", "--batch-check=%(objectname) %(objecttype)", stdin=asked)
    pairs = (line.partition(" ")[::2] for line in lines(said))
    return {name: kind for name, kind in pairs if kind != "missing"}


def _quoted(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return repr(file.read(QUOTED).decode(errors="replace"))
    except OSError as error:
        return f"something else ({error.strerror})"


def is_unborn(root: str) -> bool:
    """Return whether a repository has no commit yet at HEAD.

    Raises GitError if git refuses to read the repository, or the branch of HEAD is damaged: then
    "make a first commit" would be no advice.
    """
    if repository.resolve(root, "HEAD") is not None:
        return False
    ask(root, "rev-parse", "--git-dir")
    folder = repository.git_folder(root)
    # Read from the file: `git symbolic-ref` fails if the ref is damaged.
    word, _, ref = place.words(os.path.join(folder, "HEAD")).partition(": ")
    ref = ref.strip() if word == "ref" else ""
    for found in refs(root, ref) if ref else ():
        log = os.path.join(folder, "logs", ref)
        hint = f"find its last commit in {log}, then: {found.step}; git update-ref {_quote(ref)} ID"
        raise GitError(f"{ref} cannot be used: {found.why}", hint)
    if not ref:
        hint = "check out a branch: git branch --list; git checkout BRANCH"
        raise GitError("the commit that HEAD names is missing", hint)
    return True


def is_there(root: str, ref: str) -> bool:
    """Return whether a ref exists in any state: a damaged ref is not a deleted ref."""
    return bool(refs(root, ref)) or repository.resolve(root, ref) is not None


def drop_copies(root: str, names: Iterable[str]) -> None:
    """Remove what is in the place of refs that copy the remote's, so that they can be fetched.

    A ref below such a name is a copy of a branch that the remote cannot have any more.
    """
    common = repository.git_folder(root)
    for ref in names:
        path = os.path.join(common, ref)
        if os.path.isdir(path):
            for below, commit in repository.refs(root, f"{ref}/").items():
                repository.delete_ref(root, below, commit)
            files.remove_tree(path)
        elif os.path.isfile(path) and not re.match(r"[0-9a-f]{40}|ref: ", _text(path)):
            files.remove(path)


def _quote(text: str) -> str:
    from shlex import quote  # a tick loads this module, and seldom needs that

    return quote(text)


def _text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(QUOTED)


def fetch_around(root: str, folder: str, words: list[str], timeout: float) -> None:
    """Fetch as if what is damaged did not exist: git refuses to fetch past a worktree's bad HEAD.

    The fetch runs in a throw-away git folder with the repository's objects, settings and sound
    refs; then the fetched refs are set in the repository. `folder` is where that git folder is
    created; `words` are the options, the address and the refspecs of `git fetch`. Raises GitError.
    """
    common = repository.git_folder(root)
    known = repository.refs(root)
    files.remove_tree(folder)
    for name in ("refs", "objects"):
        files.make_folder(os.path.join(folder, name))
    rows = "".join(f"{commit} {ref}\n" for ref, commit in sorted(known.items()))
    files.write_atomic(os.path.join(folder, "packed-refs"), rows.encode())
    files.write_atomic(os.path.join(folder, "HEAD"), b"ref: refs/heads/unborn\n")
    for name in ("config", "shallow"):
        if os.path.isfile(path := os.path.join(common, name)):
            files.write_atomic(os.path.join(folder, name), files.read_regular(path))
    own = {"GIT_OBJECT_DIRECTORY": os.path.join(common, "objects")}
    there = ("--git-dir", folder, "-c", "core.bare=true")
    try:
        ask(root, *there, "fetch", *words, extra=own, timeout=timeout)
        for spec in (word for word in words if word.startswith("+refs/")):
            ref = spec.partition(":")[2]
            repository.update_ref(root, ref, ask(root, *there, "rev-parse", ref, extra=own))
    finally:
        files.remove_tree(folder)


def is_said(error: Exception) -> bool:
    """Return whether an error may come from damage in this repository."""
    return isinstance(error, GitError) or bool(re.search(SAID, str(error)))
