"""Files of a repository that git runs or believes in each worktree: hooks and attributes.

An agent's set-up can install a hook, and an agent can write one: it then runs in each worktree, and
in the person's checkout.
"""

import os
import shlex
from collections.abc import Iterator, Mapping

from orchestrator.git import call, checkout, whole_state, worktree_commands
from orchestrator.system import files

_HOOKS = "hooks"
_ATTRIBUTES = "info/attributes"
#: How the state of a symbolic link begins; that of a file is the name of its blob.
_LINK = "-> "
#: What `git lfs install` writes, people and other commands of Git LFS write at any time.
_OF_LFS = b"git lfs "


def keep(folder: str, copy: str) -> None:
    """Copy the files of a git folder that it shares, so that `changed` finds them there."""
    for name in _names(folder):
        from shutil import copy as copied  # few repositories have such a file

        target = os.path.join(copy, name)
        files.make_folder(os.path.dirname(target))
        files.remove(target)
        copied(os.path.join(folder, name), target, follow_symlinks=False)


def changed(folder: str, copy: str) -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield the name of each file that differs from its copy, with its state before and now.

    A missing file has the state (). The contents before are added to the repository; `as_commit`
    makes what keeps them there.
    """
    for name in sorted({*_names(copy), *_names(folder)}):
        before, now = (_content(os.path.join(each, name)) for each in (copy, folder))
        if before != now and not (now and _OF_LFS in now):
            yield name, state(copy, name, folder), state(folder, name)


def state(folder: str, name: str, repository: str = "") -> tuple[str, ...]:
    """Return what a shared file is; its content is added to `repository`, a git folder."""
    path = os.path.join(folder, name)
    if os.path.islink(path):
        return (f"{_LINK}{os.readlink(path)}",)
    if not os.path.isfile(path):
        return ()
    words = ("-w",) if repository else ()
    return (call.ask(repository or folder, "hash-object", "--no-filters", *words, "--", path),)


def is_shared_file(name: str) -> bool:
    """Return whether this is the name of a shared file, not of a setting: that has a dot first."""
    return name.startswith(f"{_HOOKS}/") or name == _ATTRIBUTES


def as_commit(
    root: str, states: Mapping[str, tuple[str, ...]], text: str, index: str
) -> str | None:
    """Return a commit with the contents that `undo` needs for these states; None without such.

    A ref to it keeps them: `git gc` removes a content that no ref leads to. `index`: the path of a
    throw-away index.
    """
    found = {n: s[0] for n, s in states.items() if is_shared_file(n) and s}
    lines = "".join(
        f"{'100644' if name == _ATTRIBUTES else '100755'} {blob}\t{name}\0"
        for name, blob in found.items()
        if not blob.startswith(_LINK)
    )
    if not lines:
        return None
    here = checkout.position(root)
    with whole_state.throw_away_index(index) as where:
        extra = {**where, **here}
        call.ask(root, "update-index", "-z", "--index-info", stdin=lines, extra=extra)
        tree = call.ask(root, "write-tree", extra=extra)
    return worktree_commands.commit_tree(root, tree, (), text, **here)


def undo(folder: str, name: str, before: tuple[str, ...]) -> str:
    """Return the command that gives a shared file the state that it had before."""
    path = shlex.quote(os.path.join(folder, name))
    if not before:
        return f"rm -f {path}"
    if before[0].startswith(_LINK):
        return f"ln -sfn {shlex.quote(before[0].removeprefix(_LINK))} {path}"
    content = f"git --git-dir {shlex.quote(folder)} cat-file blob {before[0]}"
    mode = f" && chmod +x {path}" if name != _ATTRIBUTES else ""
    return f"rm -f {path} && {content} > {path}{mode}"


def _names(folder: str) -> Iterator[str]:
    hooks = os.path.join(folder, _HOOKS)
    for name in os.listdir(hooks) if os.path.isdir(hooks) else ():
        if not name.endswith(".sample") and _is_simple(os.path.join(hooks, name)):
            yield f"{_HOOKS}/{name}"
    if _is_simple(os.path.join(folder, _ATTRIBUTES)):
        yield _ATTRIBUTES


def _is_simple(path: str) -> bool:
    return os.path.islink(path) or os.path.isfile(path)


def _content(path: str) -> bytes | None:
    if os.path.islink(path):
        return os.fsencode(f"{_LINK}{os.readlink(path)}")
    return files.content(path)
