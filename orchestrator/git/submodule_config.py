"""The configuration of a submodule in an agent's worktree: reduced to what names things.

The agent can write that file, and git runs what it names: programs, filters, helpers of remotes,
included files. The product runs git in the submodule only after every other setting is removed.
"""

import os
import re

from orchestrator.git import call
from orchestrator.system import files

#: Settings that only describe the repository. Programs, includes and `protocol` are not among them.
_KEPT = re.compile(
    r"core\.(repositoryformatversion|filemode|bare|ignorecase|symlinks|precomposeunicode|worktree"
    r"|logallrefupdates|autocrlf|eol|longpaths)"
    r"|extensions\.(objectformat|partialclone|preciousobjects|noop)"
    r"|remote\..*\.(url|fetch|tagopt|promisor|partialclonefilter)"
    r"|branch\..*\.(remote|merge|rebase)|submodule\.(active|.*\.(url|active))"
    r"|user\.(name|email)|lfs\.repositoryformatversion",
    re.DOTALL,
)


def reduce(folder: str, tree: str) -> None:
    """Remove from a submodule's git folder every setting that git could run or follow.

    `tree` is the worktree that the submodule is in. A file that git cannot read becomes empty.
    """
    files.remove(os.path.join(folder, "config.worktree"))
    path = os.path.join(folder, "config")
    if os.path.islink(path):
        files.remove(path)
    words = ("config", "--file", path, "--no-includes", "--null", "--list")
    done = call.run(os.path.dirname(tree), *words)
    found = [entry.partition("\n")[::2] for entry in done.out.split("\0") if entry]
    kept = [(name, value) for name, value in found if _is_kept(name, value, folder, tree)]
    if done.code != 0 or kept != found:
        files.write_atomic(path, "".join(_entry(*each) for each in kept).encode(), 0o644)


def _is_kept(name: str, value: str, folder: str, tree: str) -> bool:
    if not _KEPT.fullmatch(name):
        return False
    if name == "core.worktree":
        place = os.path.realpath(os.path.join(folder, value))
        # Git does not start with a worktree that is gone; `submodules` enters the setting again.
        return place.startswith(os.path.realpath(tree) + os.sep) and os.path.isdir(place)
    # `helper::address` starts a program of that name (gitremote-helpers(7)).
    return not (name.endswith(".url") and "::" in value)


def _entry(name: str, value: str) -> str:
    """Return a setting in the syntax of git-config(1)."""
    section, _, rest = name.partition(".")
    middle, _, key = rest.rpartition(".")
    escaped = [x.replace("\\", "\\\\").replace('"', '\\"') for x in (middle, value)]
    head = f'[{section} "{escaped[0]}"]' if middle else f"[{section}]"
    return f'{head}\n\t{key} = "{escaped[1].replace(chr(10), chr(92) + "n")}"\n'
