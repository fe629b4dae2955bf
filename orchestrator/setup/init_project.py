"""A user's project: what setting it up puts there.

`init` is idempotent and never overwrites what a person edited.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil

from orchestrator.config import edit
from orchestrator.errors import OrchestratorError
from orchestrator.git import remotes, repository
from orchestrator.layout import Layout, resources
from orchestrator.model import STATES, iso
from orchestrator.project.mark import MARK, is_initialised, mark_path, require_no_links
from orchestrator.schedule.entry import KINDS, Entry, usable_path
from orchestrator.system import files

BEGIN, END = "# >>> orchestrator >>>", "# <<< orchestrator <<<"
IGNORED = (
    "/.orchestrator/*",
    "!/.orchestrator/agents.yaml",
    "!/.orchestrator/global-instructions.md",
    "!/.orchestrator/commands/",
    "!/.orchestrator/roles/",
    "/.agent-instructions.md",
)
#: What `init` writes into CLAUDE.md (reference 2).
CLAUDE_LINE = (
    "If .agent-instructions.md exists in this directory, read and follow those instructions."
)


#: What lets others into a folder.
OTHERS = 0o077


def own_folders(layout: Layout) -> tuple[str, ...]:
    """Return the folders that hold all of this machine's own state: prompts, logs, the queue."""
    return (layout.agents, layout.shared, layout.cache)


class Change:
    """What `init` or its undoing did: each thing written, and warnings."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.warnings: list[str] = []


def init(
    layout: Layout,
    now: float,
    environment: dict[str, str],
    *,
    start: bool,
    commands: bool | None,
) -> Change:
    """Set a project up; return what was written. Raises OrchestratorError and OSError.

    `commands` says whether to copy skills to `.claude/commands/`; None is what was said before.
    """
    root = layout.root
    if repository.resolve(root, "HEAD") is None:
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
    for folder in own_folders(layout):
        if os.stat(folder).st_mode & OTHERS:
            os.chmod(folder, 0o700)
            change.written.append(f"{os.path.relpath(folder, root)}/ (for nobody but you)")
    if not os.path.lexists(layout.config):
        files.write_atomic(layout.config, first_config(root, start=start), 0o644)
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
    if commands is None:
        commands = (files.read_json(mark_path(layout)) or {}).get("commands") is not False
    if commands:
        change.written += _put_commands(root)
    if not is_initialised(layout):
        change.written.append(f".git/{MARK} (the mark that you set this clone up)")
    _write_mark(layout, now, environment, commands)
    _warn(layout, change)
    return change


def _write_mark(layout: Layout, now: float, environment: dict[str, str], commands: bool) -> None:
    """Record what a person said, and what the schedule will need: where this shell has programs."""
    known = files.read_json(mark_path(layout)) or {}
    programs = {name: shutil.which(name) for name in ("git", "claude", "gh")}
    key = known.get("key")
    mark = {
        "initialised": known.get("initialised") or iso(now),
        #: What is believed and run from `.orchestrator/` bears it: see `clone.key`.
        "key": key if isinstance(key, str) and key else os.urandom(16).hex(),
        "path": usable_path(environment),
        "programs": programs,
        "commands": commands,
        #: The base branch, where neither the configuration nor the remote names one.
        "branch": known.get("branch") or repository.current_branch(layout.root),
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


def first_tick(layout: Layout) -> str:
    """Say what makes the first tick of a project that has had none."""
    entry = schedule(layout)
    if entry is None:
        return "no tick yet; run: orchestrator tick"
    return f"no tick yet; {entry.kind} starts one within a minute"


def record_schedule(layout: Layout, entry: Entry | None) -> None:
    """Remember which schedule was installed, or that there is none any more."""
    mark = files.read_json(mark_path(layout)) or {}
    record = entry and {"kind": entry.kind, "path": entry.path, "launcher": entry.launcher}
    if mark and mark.get("schedule") != record:
        mark.pop("schedule", None)
        files.write_json(mark_path(layout), {**mark, "schedule": record} if record else mark)


def first_config(root: str, *, start: bool) -> bytes:
    """Return the `agents.yaml` of a project that has none."""
    branch = remotes.head(root, "origin") or repository.current_branch(root) or "main"
    template = os.path.join(resources(), "plugin", "templates", "agents.yaml")
    with open(template, encoding="utf-8") as file:
        text = file.read()
    text = edit.set_values(text, (), {"base_branch": branch})
    return edit.set_paused(text, not start).encode()


def _unpause(layout: Layout, change: Change) -> None:
    with open(layout.config, encoding="utf-8") as file:
        text = file.read()
    started = edit.set_paused(text, False)
    if started != text:
        files.write_atomic(layout.config, started.encode(), 0o644)
        change.written.append(".orchestrator/agents.yaml (paused: false)")


def _warn(layout: Layout, change: Change) -> None:
    if shutil.which("claude") is None:
        change.warnings.append(
            "the client `claude` is not on your PATH: install Claude Code, or set claude.command "
            "in .orchestrator/agents.yaml"
        )
    url = remotes.url(layout.root, "origin")
    if url is None:
        change.warnings.append("there is no remote `origin`: branches stay in this repository")
    elif "github.com" in url and shutil.which("gh") is None:
        change.warnings.append(
            "the remote is on GitHub but `gh` is not installed: pull requests are kept as local "
            "records (forge: local) until it is"
        )


# --- things outside .orchestrator --------------------------------------------------------------


def read_text(path: str) -> str:
    """Return a file's text, whatever its bytes; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError):
        return ""


def write_text(path: str, text: str) -> None:
    """Write what `read_text` returned, changed or not; mode and links stay as they are.

    CLAUDE.md is often a link to AGENTS.md.

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
    return "\n".join((BEGIN, *IGNORED, END)) + "\n"


def without_block(text: str) -> str:
    """Return an ignore file's text without our block."""
    pattern = rf"\n?{re.escape(BEGIN)}\n.*?{re.escape(END)}\n"
    return re.sub(pattern, "", text, flags=re.DOTALL)


def _put_block(path: str) -> bool:
    """Put our marked block into an ignore file; return whether anything changed."""
    text = read_text(path)
    if _block() in text:
        return False
    rest = without_block(text)
    gap = "" if not rest else ("\n" if rest.endswith("\n") else "\n\n")
    write_text(path, rest + gap + _block())
    return True


def _put_line(path: str) -> bool:
    text = read_text(path)
    if CLAUDE_LINE in text:
        return False
    gap = "" if not text else ("\n" if text.endswith("\n") else "\n\n")
    write_text(path, f"{text}{gap}{CLAUDE_LINE}\n")
    return True


#: A comment in a copied skill's front matter, with the digest of the file without this line: a copy
#: that nobody edited is brought up to date and taken out again, any other is its editor's.
_SEAL = "# Put here by orchestrator init; yours once you edit it: "
#: The command in a skill's text, its `!` lines and its permissions, followed by a word of its own.
_COMMAND = re.compile(r"(?<![\w./:-])orchestrator(?= [a-z_])")


def _shipped_skills() -> dict[str, str]:
    """Return the text of each skill that is meant for people, by name."""
    folder = os.path.join(resources(), "skills")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    texts = {name: read_text(os.path.join(folder, name, "SKILL.md")) for name in names}
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
        own = read_text(os.path.join(root, ".orchestrator", "commands", f"{name}.md"))
        text = _sealed(own if own.startswith("---\n") else text)
        target = os.path.join(root, ".claude", "commands", f"{name}.md")
        known = read_text(target)
        if known == text or (os.path.lexists(target) and not _is_unedited(known)):
            continue
        if not os.path.realpath(target).startswith(os.path.realpath(root) + os.sep):
            raise OrchestratorError(
                f"{os.path.dirname(target)} leads out of the project: nothing is written there",
                "put a folder in its place, or: orchestrator init --no-commands",
                code="permissions",
            )
        os.makedirs(os.path.dirname(target), exist_ok=True)
        write_text(target, text)
        written.append(f".claude/commands/{name}.md")
    return written


def take_commands(root: str) -> list[str]:
    """Remove the copies that nobody edited, and the folders that held nothing else."""
    folder = os.path.join(root, ".claude", "commands")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    removed = [n for n in names if _is_unedited(read_text(os.path.join(folder, n)))]
    for name in removed:
        files.remove(os.path.join(folder, name))
    if removed:
        with contextlib.suppress(OSError):
            os.rmdir(folder)
            os.rmdir(os.path.dirname(folder))
    return [f".claude/commands/{name}" for name in removed]
