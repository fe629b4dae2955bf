"""A user's project: set up, and cleaned of us again.

`init` is idempotent and never overwrites what a person edited.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil

from orchestrator import files, git, gitremote, roles, yamledit
from orchestrator.clone import MARK, is_initialised, mark_path, require_no_links
from orchestrator.errors import OrchestratorError
from orchestrator.layout import Layout
from orchestrator.model import STATES, iso
from orchestrator.scheduleentry import KINDS, Entry, usable_path

_BEGIN, _END = "# >>> orchestrator >>>", "# <<< orchestrator <<<"
IGNORED = (
    "/.orchestrator/*",
    "!/.orchestrator/agents.yaml",
    "!/.orchestrator/global-instructions.md",
    "!/.orchestrator/commands/",
    "!/.orchestrator/roles/",
    "/.agent-instructions.md",
)
#: SEED, "Claude Instructions".
CLAUDE_LINE = (
    "If .agent-instructions.md exists in this directory, read and follow those instructions."
)


class Change:
    """What `init` or its undoing did: each thing written, and warnings."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.warnings: list[str] = []


def init(
    layout: Layout, now: float, environment: dict[str, str], *, start: bool, commands: bool
) -> Change:
    """Set a project up; return what was written. Raises OrchestratorError and OSError."""
    root = layout.root
    if git.resolve(root, "HEAD") is None:
        raise OrchestratorError(
            "this repository has no commit yet: there is nothing to branch from",
            "make a first commit, then: orchestrator init",
            code="unborn_repository",
        )
    require_no_links(layout)
    if not is_initialised(layout) and os.path.isdir(layout.cache):
        # Whoever made this clone did not make that: it came with a commit, or is of another set-up.
        shutil.rmtree(layout.cache)
    change = Change()
    for folder in (*map(layout.state, STATES), layout.prs, layout.agents, layout.cache):
        files.make_folder(folder)
    if not os.path.lexists(layout.config):
        _write_config(layout, start)
        change.written.append(".orchestrator/agents.yaml (the agents and their limits)")
    elif start:
        _unpause(layout, change)
    exclude = os.path.join(os.path.dirname(mark_path(layout)), "info", "exclude")
    os.makedirs(os.path.dirname(exclude), exist_ok=True)
    if _put_block(exclude):
        change.written.append(".git/info/exclude (a marked block)")
    if _put_block(os.path.join(root, ".gitignore")):
        change.written.append(".gitignore (a marked block)")
    if _put_line(os.path.join(root, "CLAUDE.md")):
        change.written.append("CLAUDE.md (one line, for the agents)")
    if commands:
        change.written += _put_commands(root)
    if not is_initialised(layout):
        change.written.append(f".git/{MARK} (the mark that you set this clone up)")
    _write_mark(layout, now, environment)
    _warn(layout, change)
    return change


def _write_mark(layout: Layout, now: float, environment: dict[str, str]) -> None:
    """Record what the schedule will need: where programs are, as this person's shell knows."""
    known = files.read_json(mark_path(layout)) or {}
    programs = {name: shutil.which(name) for name in ("git", "claude", "gh")}
    key = known.get("key")
    mark = {
        "initialised": known.get("initialised") or iso(now),
        #: What is believed and run from `.orchestrator/` bears it: see `clone.key`.
        "key": key if isinstance(key, str) and key else os.urandom(16).hex(),
        "path": usable_path(environment),
        "programs": programs,
    }
    if "schedule" in known:
        mark["schedule"] = known["schedule"]
    if mark != known:
        files.write_json(mark_path(layout), mark)


def schedule(layout: Layout) -> Entry | None:
    """Return the schedule that `init` installed for this clone, as it was installed."""
    record = (files.read_json(mark_path(layout)) or {}).get("schedule")
    if not isinstance(record, dict):
        return None
    kind, path, launcher = (record.get(name) for name in ("kind", "path", "launcher"))
    if kind in KINDS and isinstance(path, str) and isinstance(launcher, str):
        return Entry(kind, layout.root, path, launcher)
    return None


def record_schedule(layout: Layout, entry: Entry | None) -> None:
    """Remember which schedule was installed, or that there is none any more."""
    mark = files.read_json(mark_path(layout)) or {}
    record = entry and {"kind": entry.kind, "path": entry.path, "launcher": entry.launcher}
    if mark and mark.get("schedule") != record:
        mark.pop("schedule", None)
        files.write_json(mark_path(layout), {**mark, "schedule": record} if record else mark)


def _write_config(layout: Layout, start: bool) -> None:
    root = layout.root
    remote = "origin"
    branch = gitremote.head(root, remote) or git.current_branch(root) or "main"
    template = os.path.join(roles.resources(), "plugin", "templates", "agents.yaml")
    with open(template, encoding="utf-8") as file:
        text = file.read()
    text = yamledit.set_values(text, (), {"base_branch": branch})
    files.write_atomic(layout.config, yamledit.set_paused(text, not start).encode(), 0o644)


def _unpause(layout: Layout, change: Change) -> None:
    with open(layout.config, encoding="utf-8") as file:
        text = file.read()
    started = yamledit.set_paused(text, False)
    if started != text:
        files.write_atomic(layout.config, started.encode(), 0o644)
        change.written.append(".orchestrator/agents.yaml (paused: false)")


def _warn(layout: Layout, change: Change) -> None:
    if shutil.which("claude") is None:
        change.warnings.append(
            "the client `claude` is not on your PATH: install Claude Code, or set claude.command "
            "in .orchestrator/agents.yaml"
        )
    url = gitremote.url(layout.root, "origin")
    if url is None:
        change.warnings.append("there is no remote `origin`: branches stay in this repository")
    elif "github.com" in url and shutil.which("gh") is None:
        change.warnings.append(
            "the remote is on GitHub but `gh` is not installed: pull requests are kept as local "
            "records (forge: local) until it is"
        )


# --- things outside .orchestrator --------------------------------------------------------------


def _read_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError):
        return ""


def _write_text(path: str, text: str) -> None:
    """Write a file, through a link if it is one (CLAUDE.md is often a link to AGENTS.md).

    Raises OrchestratorError for a link that leads out of the folder: it may have come with a
    commit, and point at the user's own files.
    """
    top = os.path.realpath(os.path.dirname(path))
    if os.path.islink(path) and not os.path.realpath(path).startswith(top + os.sep):
        raise OrchestratorError(
            f"{path} is a symbolic link that leads out of its folder: it is not written through",
            "look at it; put a file in its place",
            code="permissions",
        )
    data = text.encode(errors="surrogateescape")
    mode = os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
    files.write_atomic(os.path.realpath(path), data, mode)


def _block() -> str:
    return "\n".join((_BEGIN, *IGNORED, _END)) + "\n"


def _without_block(text: str) -> str:
    pattern = rf"\n?{re.escape(_BEGIN)}\n.*?{re.escape(_END)}\n"
    return re.sub(pattern, "", text, flags=re.DOTALL)


def _put_block(path: str) -> bool:
    """Put our marked block into an ignore file; return whether anything changed."""
    text = _read_text(path)
    if _block() in text:
        return False
    rest = _without_block(text)
    gap = "" if not rest else ("\n" if rest.endswith("\n") else "\n\n")
    _write_text(path, rest + gap + _block())
    return True


def _put_line(path: str) -> bool:
    text = _read_text(path)
    if CLAUDE_LINE in text:
        return False
    gap = "" if not text else ("\n" if text.endswith("\n") else "\n\n")
    _write_text(path, f"{text}{gap}{CLAUDE_LINE}\n")
    return True


#: A comment in a copied skill's front matter, with the digest of the file without this line: a copy
#: that nobody edited is brought up to date and taken out again, any other is its editor's.
_SEAL = "# Put here by orchestrator init; yours once you edit it: "
#: The command in a skill's text, its `!` lines and its permissions, followed by a word of its own.
_COMMAND = re.compile(r"(?<![\w./:-])orchestrator(?= [a-z_])")


def _shipped_skills() -> dict[str, str]:
    """Return the text of each skill that is meant for people, by name."""
    folder = os.path.join(roles.resources(), "skills")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    texts = {name: _read_text(os.path.join(folder, name, "SKILL.md")) for name in names}
    return {n: t for n, t in texts.items() if t and "\nuser-invocable: false\n" not in t}


def _sealed(text: str) -> str:
    """Return a text that begins with front matter, with our seal in it."""
    digest = hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
    return text.replace("---\n", f"---\n{_SEAL}{digest}\n", 1)


def _is_unedited(text: str) -> bool:
    """Return whether a file is a copy of ours, of this version or an earlier one, as we left it."""
    plain = re.sub(rf"^{_SEAL}.*\n", "", text, count=1, flags=re.MULTILINE)
    return plain != text and _sealed(plain) == text


def _command(root: str) -> str:
    """Return how a session that runs at the top of the project can call us.

    A submodule is not on anybody's PATH, and its relative path is the same in every clone.
    """
    launcher = os.path.join("orchestrator", "bin", "orchestrator")
    return launcher if os.access(os.path.join(root, launcher), os.X_OK) else "orchestrator"


def _put_commands(root: str) -> list[str]:
    """Copy the management skills to `.claude/commands/`; files that somebody edited stay.

    What `.orchestrator/commands/` has under the same name goes before the shipped text.
    """
    written = []
    command = _command(root)
    for name, shipped in _shipped_skills().items():
        text = _COMMAND.sub(command, shipped).replace("/orchestrator:", "/")
        own = _read_text(os.path.join(root, ".orchestrator", "commands", f"{name}.md"))
        text = _sealed(own if own.startswith("---\n") else text)
        target = os.path.join(root, ".claude", "commands", f"{name}.md")
        known = _read_text(target)
        if known == text or (os.path.lexists(target) and not _is_unedited(known)):
            continue
        if not os.path.realpath(target).startswith(os.path.realpath(root) + os.sep):
            raise OrchestratorError(
                f"{os.path.dirname(target)} leads out of the project: nothing is written there",
                "put a folder in its place, or: orchestrator init --no-commands",
                code="permissions",
            )
        os.makedirs(os.path.dirname(target), exist_ok=True)
        _write_text(target, text)
        written.append(f".claude/commands/{name}.md")
    return written


def _take_commands(root: str) -> list[str]:
    """Remove the copies that nobody edited, and the folders that held nothing else."""
    folder = os.path.join(root, ".claude", "commands")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    removed = [n for n in names if _is_unedited(_read_text(os.path.join(folder, n)))]
    for name in removed:
        files.remove(os.path.join(folder, name))
    if removed:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
            os.rmdir(os.path.dirname(folder))
    return [f".claude/commands/{name}" for name in removed]


def uninstall(layout: Layout) -> Change:
    """Take out what `init` put in; the queue, the configuration and everything unsaved stay."""
    change = Change()
    root = layout.root
    exclude = os.path.join(os.path.dirname(mark_path(layout)), "info", "exclude")
    for path, name in (
        (exclude, ".git/info/exclude"),
        (os.path.join(root, ".gitignore"), ".gitignore"),
    ):
        text = _read_text(path)
        if _BEGIN in text:
            _replace_or_remove(path, _without_block(text))
            change.written.append(f"{name}: the marked block")
    claude = os.path.join(root, "CLAUDE.md")
    text = _read_text(claude)
    if CLAUDE_LINE in text:
        _replace_or_remove(claude, re.sub(rf"\n?{re.escape(CLAUDE_LINE)}\n?", "", text))
        change.written.append("CLAUDE.md: the line for the agents")
    change.written += _take_commands(root)
    files.remove(layout.idle_stamp)
    if is_initialised(layout):
        files.remove(mark_path(layout))
        change.written.append(f".git/{MARK}")
    return change


def _replace_or_remove(path: str, text: str) -> None:
    """Write what is left of a file; a file that held nothing but ours goes."""
    if text.strip():
        _write_text(path, text)
    else:
        files.remove(path)
