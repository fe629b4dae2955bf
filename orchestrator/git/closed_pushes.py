"""An agent's git pushes nowhere: not to the project's remotes, and not over the network.

Agents commit, and the scheduler pushes. This stops mistakes and the simplest injections: a command
can unset the variables, and only the sandbox stops such a command (SECURITY.md). Pushes between
other repositories on this disk go on: tests of a project push to repositories that they make.

There are two means. Settings lead a push to an address on another machine to a place that does not
exist. A remote on this disk can be named in endless ways, so there the git that receives the push
refuses it: it does not get the settings of the git that pushes, but it reads the file that
GIT_CONFIG_SYSTEM names (git 2.32 or newer).
"""

import os
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.git import place, settings

#: What git is told instead of an address: it is also the error that the agent reads.
NOWHERE = "the-scheduler-pushes-when-the-run-is-done"
#: The ways in which git reaches another machine (gitremote-helpers(7), git-push(1), "GIT URLS").
_NETWORK = (
    "https://", "http://", "ssh://", "git+ssh://", "ssh+git://", "git://", "ftp://", "ftps://",
)  # fmt: skip
_ASKED = r"remote\..*\.(url|pushurl)|url\..*\.(insteadof|pushinsteadof)"
#: The names of the files in an agent's folder: the system configuration of its git, and what git
#: reads in addition in a remote on this disk.
SYSTEM = "git-system"
CLOSED = "git-closed"
#: Hides all refs from pushes. The value that is not a number ends `git receive-pack` before that,
#: with a message that tells the agent why; no other git command reads it.
_REFUSAL = f"[receive]\n\thideRefs = refs/\n\tunpackLimit = {NOWHERE}\n"

#: Pairs of a name in the middle of a setting (`origin` of `remote.origin.url`) and a value, by the
#: last part of the setting's name.
_Values = Mapping[str, list[tuple[str, str]]]


def for_agent(root: str) -> dict[str, str]:
    """Return the settings for the git of an agent: no push to another machine."""
    return closed(settings.matching(root, _ASKED))


def closed(found: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the same; `found` are the settings of remotes and of rewritten addresses."""
    values = _by_kind(found)
    rewritten = [*values.get("insteadof", ()), *values.get("pushinsteadof", ())]
    # What a person's setting rewrites keeps its own spelling until git has chosen the rule.
    prefixes = [prefix for base, prefix in rewritten if _path(base) is None]
    away = [(name, address) for name, address in _addresses(values) if _path(address) is None]
    # Of two rules of the same length git takes the first, which is the person's.
    made = {f"remote.{name}.pushurl": NOWHERE for name, address in away if address in prefixes}
    # Git also uses a remote's own push addresses: these must lead nowhere, too.
    own = dict.fromkeys(x for _, x in values.get("pushurl", ()) if _path(x) is None)
    made |= {f"url.{NOWHERE}/{n}.insteadOf": value for n, value in enumerate(own)}
    spellings = [*_NETWORK, "git@", *prefixes]
    for _, address in away:
        spellings += _spellings(address)
    closing = enumerate(word for word in dict.fromkeys(spellings) if word and word not in own)
    return made | {f"url.{NOWHERE}/by-address/{n}.pushInsteadOf": word for n, word in closing}


def _by_kind(found: Iterable[tuple[str, str]]) -> _Values:
    values: dict[str, list[tuple[str, str]]] = {}
    for key, value in found:
        name, _, kind = key.partition(".")[2].rpartition(".")
        values.setdefault(kind, []).append((name, value))
    return values


def _addresses(values: _Values) -> list[tuple[str, str]]:
    """Return the remotes' names, each with an address of its fetches or its pushes."""
    return [*values.get("url", ()), *values.get("pushurl", ())]


def _spellings(address: str) -> Iterator[str]:
    """Yield an address on another machine, and how an agent may begin `user@host:path`."""
    yield address
    first = address.partition("/")[0]
    if ":" in first and "://" not in address and "::" not in address:
        user, _, host = first.partition(":")[0].rpartition("@")
        yield from (f"{host}:", f"{user}@{host}:")


# --- remotes on this disk ---


def texts(root: str, folder: str) -> dict[str, bytes]:
    """Return files for a folder, which close the project's remotes on this disk to pushes.

    The agent's git reads them with `variables`. Raises as `settings.seen`.
    """
    closing = folders(settings.matching(root, _ASKED), root)
    if not closing:
        return {}
    text = system_text(settings.system_file(root), closing, os.path.join(folder, CLOSED))
    return {SYSTEM: text.encode("utf-8", "surrogateescape"), CLOSED: _REFUSAL.encode()}


def variables(folder: str) -> dict[str, str]:
    """Return the variables with which git reads the files of `texts` in `folder`."""
    # Set to 1, the second variable would keep git from reading the file.
    return {"GIT_CONFIG_SYSTEM": os.path.join(folder, SYSTEM), "GIT_CONFIG_NOSYSTEM": "0"}


def folders(found: Iterable[tuple[str, str]], root: str) -> list[str]:
    """Return the git folders of the remotes on this disk; `found` as in `closed`.

    A relative address counts from the person's checkout, `root`.
    """
    values = _by_kind(found)
    written = [address for _, address in _addresses(values)]
    rules = (values.get("insteadof", ()), values.get("pushinsteadof", ()))
    used = [*written, *(_rewritten(address, rule) for rule in rules for address in written)]
    paths = filter(None, map(_path, dict.fromkeys(used)))
    return list(dict.fromkeys(_git_folder(os.path.join(root, path)) for path in paths))


def system_text(system: str | None, closing: Iterable[str], closed_file: str) -> str:
    """Return a system configuration that includes `system`, and closes the folders `closing`.

    `closed_file` is what git reads in addition in such a folder, and in the git folders of its
    worktrees, which lie below it. Letters may differ in case, as on the disks of macOS.
    """
    parts = [f"[include]\n\tpath = {_quoted(system)}\n"] if system else []
    for folder in closing:
        condition = _quoted(f"gitdir/i:{_literally(folder)}/")
        parts.append(f"[includeIf {condition}]\n\tpath = {_quoted(closed_file)}\n")
    return "".join(parts)


def _rewritten(address: str, rules: Iterable[tuple[str, str]]) -> str:
    """Return an address as git uses it: the longest beginning wins (git-config(1), `insteadOf`)."""
    fitting = [(prefix, base) for base, prefix in rules if address.startswith(prefix)]
    prefix, base = max(fitting, key=lambda rule: len(rule[0]), default=("", ""))
    return base + address.removeprefix(prefix)


def _path(address: str) -> str | None:
    """Return the path that an address names on this disk; None for any other address."""
    if address.startswith("file://"):
        from urllib.parse import unquote  # no other address needs it

        return "/" + unquote(address[7:], errors="surrogateescape").lstrip("/")
    before, colon, _ = address.partition(":")
    return os.path.expanduser(address) if address and (not colon or "/" in before) else None


def _git_folder(path: str) -> str:
    """Return the common git folder of a remote, found as git finds it, without links.

    If no repository is there, it is the path itself, where a repository may be made later.
    """
    for end in ("/.git", "", ".git/.git", ".git"):
        folder = path + end
        if os.path.isfile(folder):  # of a linked worktree, or of a submodule
            word, _, named = place.words(folder).partition(": ")
            folder = os.path.join(os.path.dirname(folder), named) if word == "gitdir" else ""
        if os.path.isfile(os.path.join(folder, "HEAD")):
            return os.path.realpath(place.shared(folder))
    return os.path.realpath(path)


def _literally(path: str) -> str:
    """Return a pattern of git that matches the path. A setting's name can hold no line feed."""
    escaped = "".join(f"\\{sign}" if sign in "\\*?[" else sign for sign in path)
    return escaped.replace("\n", "?")


def _quoted(text: str) -> str:
    """Return a text in quotes, as git's configuration writes a name or a value."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
