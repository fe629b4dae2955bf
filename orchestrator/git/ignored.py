"""Which untracked files git ignores (gitignore(5))."""

import os

from orchestrator.git.call import ask, run


def matching(root: str, patterns: str) -> list[str]:
    """Return the untracked files below `root` that match the patterns and that git ignores."""
    options = ("--others", "--ignored", f"--exclude-from={patterns}", "-z")
    names = [name for name in ask(root, "ls-files", *options).split("\0") if name]
    if not names:
        return []
    done = run(root, "check-ignore", "-z", "--stdin", stdin="\0".join(names))
    ignored = set(done.out.split("\0"))
    return [name for name in names if name in ignored and not name.startswith(".orchestrator/")]


def not_among(worktree: str, paths: list[str]) -> list[str]:
    """Return the paths in a worktree that git does not ignore; [] if git cannot tell."""
    names = {os.path.relpath(path, worktree): path for path in paths if _is_text(path)}
    if not names:
        return []
    done = run(worktree, "check-ignore", "-z", "--stdin", stdin="".join(f"{n}\0" for n in names))
    ignored = {*done.out.split("\0"), *(names if done.code not in (0, 1) else ())}
    return [path for name, path in names.items() if name not in ignored]


def _is_text(path: str) -> bool:
    """Return whether a path can be given to git as text: it is valid UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in path)
