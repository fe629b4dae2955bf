"""Commits and their ids without a checkout, by one process of git or by no process.

A commit in a checkout takes five processes of git: `worktree add`, `add`, `commit`, `rev-parse`,
`worktree remove`. A push to a repository on this disk takes as many.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

PERSON = "A Person <person@example.com>"
SOMEBODY_ELSE = "O <o@x>"
#: What keeps git in tests from processes and work that no test is about. A push would ask whether
#: there is something to pack, and an import would unpack its objects, each by another process.
GIT_CONFIG = """\
[gc]
	auto = 0
[maintenance]
	auto = false
[receive]
	autogc = false
[fastimport]
	unpackLimit = 1
[core]
	fsync = none
"""


def commit(
    repo: Path,
    ref: str,
    changes: Mapping[str, str | bytes | None],
    *,
    base: str,
    message: str,
    push: Path | None = None,
    author: str = PERSON,
) -> str:
    """Commit changes on top of `base`, a name or an id; set `ref` to the commit; return its id.

    `changes` has the content of each changed file, or None for a file that is deleted. The commit
    is also pushed to the bare repository `push`, which has `base`. No checkout changes.
    """
    parent = tip(repo, base)
    lines = [f"commit {ref}", "mark :1", f"committer {author} {time.time():.0f} +0000"]
    stream = "\n".join(lines).encode() + b"\n" + _data(message) + f"\nfrom {parent}\n".encode()
    for path, text in changes.items():
        if text is None:
            stream += b"D %s\n" % _quoted(path)
        else:
            stream += b"M 100644 inline %s\n%s\n" % (_quoted(path), _data(text))
    stream += b"\nget-mark :1\n"
    if not push:
        return _import(repo, stream)
    tracked = ref.replace("refs/heads/", "refs/remotes/origin/", 1)
    before = _packs(repo)
    made = _import(repo, stream + f"reset {tracked}\nfrom :1\n\n".encode())
    packs = [path for path in _packs(repo) if path not in before]
    if not packs:  # the same commit was made before, maybe without a push
        return _import(push, stream)
    for path in packs:
        shutil.copy(path, push / "objects" / "pack")
    (push / ref).parent.mkdir(parents=True, exist_ok=True)
    (push / ref).write_text(f"{made}\n")
    return made


def _packs(repo: Path) -> list[Path]:
    """Return the files with the objects of imports: git reads a pack when it sees its index."""
    return sorted((repo / ".git" / "objects" / "pack").glob("*"), reverse=True)


def _quoted(path: str) -> bytes:
    """Return a path as git-fast-import(1) reads it, "<path>"."""
    for char, written in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n")):
        path = path.replace(char, written)
    return b'"%s"' % os.fsencode(path)


def _data(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return b"data %d\n%s" % (len(data), data)


def _import(repo: Path, stream: bytes) -> str:
    words = ("git", "fast-import", "--quiet", "--force")
    done = subprocess.run(words, cwd=repo, input=stream, capture_output=True, check=False)
    assert done.returncode == 0, f"git fast-import: {done.stderr.decode()}"
    return done.stdout.decode().strip()


def readdress(repo: Path, remote: Path, url: str) -> None:
    """Give a remote on this disk an address elsewhere, at which git still finds it."""
    path = repo / ".git" / "config"
    settings = path.read_text().replace(f'"{remote}"', str(remote))
    assert f"url = {remote}\n" in settings
    settings = settings.replace(f"url = {remote}\n", f"url = {url}\n")
    path.write_text(f'{settings}[url "{remote}"]\n\tinsteadOf = {url}\n')


def tip(repo: Path, name: str = "HEAD") -> str:
    """Return the id of the commit that a name means."""
    if known := read(repo, name):
        return known
    words = ("git", "rev-parse", "--verify", f"{name}^{{commit}}")
    done = subprocess.run(words, cwd=repo, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{name} in {repo}: {done.stderr}"
    return done.stdout.strip()


def read(repo: Path, name: str) -> str | None:
    """Return the id that the file of HEAD or of a branch holds; None if only git can tell.

    `repo` is a bare repository or the top of a checkout.
    """
    if re.fullmatch("[0-9a-f]{40}", name):
        return name
    if name != "HEAD" and not re.fullmatch(r"(refs/heads/)?(main|agent/[\w-]+)", name):
        return None
    try:
        own = common = repo / ".git" if (repo / ".git").exists() else repo
        if own.is_file():
            own = repo / own.read_text().removeprefix("gitdir: ").rstrip("\n")
            common = own / (own / "commondir").read_text().strip()
        if name == "HEAD":
            text = (own / "HEAD").read_text().strip()
            ref = text.removeprefix("ref: ")
            text = (common / ref).read_text().strip() if ref != text else text
        else:
            text = (
                (common / "refs" / "heads" / name.removeprefix("refs/heads/")).read_text().strip()
            )
    except OSError:
        return None
    return text if re.fullmatch("[0-9a-f]{40}", text) else None
