"""A person's checkout: HEAD, index and configuration, as files of git say (no git process).

An agent works beside that checkout and shares its repository. `head`, `settings` and `keep_files`
record what the checkout is like before a run; `traced` and `in_checkout` read from git's own trace
which commands of an agent worked there.
"""

import os
import re
from collections.abc import Iterator

from orchestrator.git import call, place
from orchestrator.git.worktree_commands import git_folder
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files

#: Settings that decide where git works, what it runs, which other files it reads (git-config(1)).
_RUNNING = (
    r"core\.(bare|worktree|hookspath|fsmonitor|sshcommand|gitproxy|askpass|editor|pager"
    r"|alternaterefscommand|attributesfile)"
    r"|filter\..*\.(clean|smudge|process)|merge\..*\.driver|diff\.external"
    r"|diff\..*\.(command|textconv)|credential\.(.*\.)?helper|gpg\.(.*\.)?program"
    r"|include\.path|includeif\..*\.path|remote\..*\.(uploadpack|receivepack|vcs)"
    r"|protocol\.(.*\.)?allow|extensions\..*|core\.repositoryformatversion"
)
#: These, and the settings that decide where it sends.
_WATCHED = (
    rf"^({_RUNNING}|remote\..*\.(url|pushurl|fetch|push)|url\..*\.(insteadof|pushinsteadof))$"
)
#: Commands of git that change HEAD or the index of the checkout in which they work.
_CHANGING = (
    r"add|am|apply|bisect|checkout|cherry-pick|commit|merge|mv|pull|read-tree|rebase|reset|restore"
    r"|revert|rm|sparse-checkout|stash|switch|symbolic-ref|update-index|update-ref"
)
#: Options with which `git branch` changes a branch that exists.
_FORCED = frozenset(["-f", "--force", "-m", "-M", "--move", "-d", "-D", "--delete", "-C"])
#: What is in a git folder while an operation is unfinished (git's `wt_status_get_state`).
_AMID = (
    *("MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "BISECT_LOG"),
    *("sequencer", "rebase-merge", "rebase-apply"),
)
#: The checkout's own configuration, if `extensions.worktreeConfig` is set (git-worktree(1)).
OWN_CONFIG = "config.worktree"
#: The most bytes of a trace that are read.
MOST_READ = 256 << 20
#: The bytes at the end of the log of HEAD that are read; a line is far shorter.
LOG_READ = 64 << 10


class Head(NamedTuple):
    """What a checkout's HEAD is."""

    #: None: detached.
    branch: str | None
    #: None: no commit yet.
    commit: str | None


def head(root: str) -> Head:
    """Return the branch and the commit of a checkout; asks git only if its files do not say."""
    folder = git_folder(root)
    said = place.words(os.path.realpath(os.path.join(folder, "HEAD")))
    if not said.startswith("ref: "):
        return Head(None, said or None)
    ref = said.removeprefix("ref: ")
    commit = place.words(os.path.realpath(os.path.join(folder, ref)))
    if not commit:  # in a file with other refs
        found = call.run(folder, "rev-parse", "--verify", "--quiet", ref, extra=position(root))
        commit = found.out.strip()
    return Head(ref.removeprefix("refs/heads/"), commit or None)


def is_amid(root: str) -> bool:
    """Return whether a rebase, merge or other operation is unfinished in a checkout.

    If the branch moves meanwhile, git cannot abort the operation.
    """
    return any(os.path.lexists(os.path.join(git_folder(root), name)) for name in _AMID)


def moved_from_elsewhere(root: str, before: Head, now: Head) -> bool:
    """Return whether the branch of a checkout moved, but no git in the checkout moved it.

    A git that works in a checkout adds each move of its branch to the checkout's log of HEAD
    (git-reflog(1)); a git in another worktree, or a program that writes the ref's file, does not.
    """
    if now.commit is None or now.branch is None or before.branch != now.branch:
        return False
    if before.commit == now.commit or _last_logged(root) in (None, now.commit):
        return False
    asked = ("config", "--type=bool", "core.logAllRefUpdates")
    return call.run(root, *asked).out.strip() != "false"


def _last_logged(root: str) -> str | None:
    """Return the commit that the log of a checkout's HEAD ends with; None without a log."""
    try:
        with files.open_regular(os.path.join(git_folder(root), "logs", "HEAD")) as file:
            file.seek(max(os.fstat(file.fileno()).st_size - LOG_READ, 0))
            found = re.findall(rb"^\w+ (\w{40,64}) ", file.read(), re.MULTILINE)
    except OSError:
        return None
    return found[-1].decode() if found else None


def position(root: str) -> dict[str, str]:
    """Return variables with which git finds a checkout, whatever `core.worktree` says."""
    return {"GIT_DIR": git_folder(root), "GIT_WORK_TREE": root}


def keep_files(root: str, folder: str) -> None:
    """Keep the configuration, the index and the list of stashes of a checkout in a folder.

    Git replaces its index as a whole, so a hard link keeps the index as it is now.
    """
    files.make_folder(folder)
    of_git = git_folder(root)
    for name, take in (
        ("config", _copy),
        (OWN_CONFIG, _copy),
        ("index", os.link),
        ("logs/refs/stash", _copy),
    ):
        source = os.path.join(of_git, name)
        target = os.path.join(folder, os.path.basename(name))
        files.remove(target)
        try:
            take(source, target)
        except FileNotFoundError:
            continue  # an index without an entry has no file
        except OSError:
            _copy(source, target)


def _copy(source: str, target: str) -> None:
    files.write_atomic(target, _bytes(source), flush=False)


def is_same_file(one: str, other: str) -> bool:
    """Return whether two files have the same content; a missing file has no content."""
    return os.path.lexists(one) and files.holds(other, _bytes(one))


def _bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def settings(path: str) -> dict[str, tuple[str, ...]]:
    """Return the watched settings in a configuration file of git; a damaged file has no setting."""
    if not os.path.exists(path):
        return {}
    words = ("config", "--file", path, "--null", "--get-regexp", _WATCHED)
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, call.run(os.path.dirname(path), *words).out.split("\0")):
        name, _, value = entry.partition("\n")
        found[name] = (*found.get(name, ()), value)
    return found


def is_running(name: str) -> bool:
    """Return whether a watched setting decides where git works or what it runs."""
    # What `git lfs install` writes, people write at any time.
    return not name.startswith("filter.lfs.") and re.fullmatch(_RUNNING, name) is not None


def tree(root: str, index: str) -> str | None:
    """Return the tree of an index file of a checkout; None if it has conflicts or is missing."""
    if not os.path.exists(index):
        return None
    where = {"GIT_INDEX_FILE": index, **position(root)}
    done = call.run(root, "write-tree", extra=where)
    return done.out.strip() if done.code == 0 else None


class Traced(NamedTuple):
    """A command of git that an agent ran."""

    name: str
    words: tuple[str, ...]
    #: The top of the checkout in which it worked.
    worktree: str


def traced(path: str) -> list[Traced]:
    """Return the commands in a trace that git wrote (api-trace2, `GIT_TRACE2_EVENT`)."""
    found: dict[str, dict[str, object]] = {}
    for event in _events(path):
        known = found.setdefault(str(event.get("sid")), {})
        match event.get("event"):
            case "start":
                known["words"] = event.get("argv")
            case "def_repo":
                known.setdefault("worktree", event.get("worktree"))
            case "cmd_name":
                known["name"] = event.get("name")
    return [
        Traced(str(known["name"]), _words(known.get("words")), str(known.get("worktree") or ""))
        for known in found.values()
        if "name" in known and _is_path(str(known.get("worktree")))
    ]


def _is_path(text: str) -> bool:
    """Return whether a path can be this text: it has no NUL and no half of a surrogate pair."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _events(path: str) -> Iterator[dict[str, object]]:
    try:
        for line in files.read_regular(path, MOST_READ).splitlines():
            # An agent can write anything there, and a process that was killed half a line.
            event = files.json_object(line)
            if event is not None:
                yield event
    except OSError:
        return


def _words(argv: object) -> tuple[str, ...]:
    return tuple(map(str, argv)) if isinstance(argv, list) else ()


def in_checkout(commands: list[Traced], root: str) -> list[Traced]:
    """Return the commands that worked in a checkout."""
    here = os.path.realpath(root)
    return [each for each in commands if os.path.realpath(each.worktree) == here]


def worked_in(commands: list[Traced], root: str, branch: str | None) -> bool:
    """Return whether one of the commands may have changed the checkout's HEAD or index."""
    changing = (c for c in in_checkout(commands, root) if re.fullmatch(_CHANGING, c.name))
    if not all(map(reads, changing)):
        return True
    return branch is not None and any(_moves(each, branch) for each in commands)


def _plain(command: Traced) -> list[str]:
    """Return the words after the command's name that are not options."""
    words = command.words
    after = words[words.index(command.name) + 1 :] if command.name in words else words
    return [word for word in after if not word.startswith("-")]


def reads(command: Traced) -> bool:
    """Return whether a command with the name of one that changes something only looks."""
    plain = _plain(command)
    if command.name == "symbolic-ref":
        return len(plain) < 2 and not {"-d", "--delete"} & {*command.words}
    return command.name == "stash" and plain[:1] in (["list"], ["show"], ["create"])


def _moves(command: Traced, branch: str) -> bool:
    """Return whether a command, in any checkout, may have moved or renamed a branch."""
    names = (branch, f"refs/heads/{branch}")
    match command.name:
        case "fetch" | "push":
            return any(":" in word and word.rpartition(":")[2] in names for word in command.words)
        case "branch":
            how = {word for word in command.words if word in _FORCED}
            return bool(how) and branch in command.words
        case "update-ref":
            return "--stdin" in command.words or any(word in names for word in command.words)
    return False


def configured(commands: list[Traced]) -> bool:
    """Return whether one of the commands may have changed the repository's remotes."""
    return any(_sets(each) for each in commands)


def _sets(command: Traced) -> bool:
    """Return whether a command sets something; `git config NAME` and `git remote -v` only read."""
    if command.name not in ("config", "remote") or command.name not in command.words:
        return False
    words = command.words[command.words.index(command.name) + 1 :]
    plain = [word for word in words if not word.startswith("-")]
    if command.name == "remote":
        return bool(plain) and plain[0] not in ("get-url", "show", "update", "prune")
    reads = any(word.startswith(("--get", "--list", "-l")) for word in words)
    return not reads and (len(plain) > 1 or len(plain) < len(words))
