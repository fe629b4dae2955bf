"""An agent's instructions and prompt, rendered from templates, briefs and skills.

The two templates are in `plugin/templates/`. Task titles, bodies and reports are values there,
never template text, and stand in fences that they cannot close.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import os
import re
from collections.abc import Mapping, Sequence
from functools import partial

from orchestrator.config import role_file
from orchestrator.layout import resources
from orchestrator.model.config import OUTCOMES, Agent, Config, Role
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Task
from orchestrator.system import files
from orchestrator.text import quoting, templates

#: The most characters per kind of quoted text. Their sum, with four bytes per character, stays
#: below templates.MAX_OUTPUT, so no task is too long for a prompt.
LIMITS = {"body": 80_000, "reviewed": 30_000, "history": 60_000, "global": 40_000, "latest": 8_000}
#: Entries of a task's history in the instructions; earlier entries are only counted.
MAX_ENTRIES = 50
_INSTRUCTIONS, _PROMPT = "agent_instructions.md.j2", "prompt.md.j2"


class UnderReview(NamedTuple):
    """The pull request under review, and the task that it came from."""

    pr: str
    branch: str
    #: The commit to review.
    head: str | None
    base: str
    base_commit: str | None
    task_title: str
    task_body: str
    #: The earlier rounds of the task under review, as `rounds.told` returns them.
    rounds: Sequence[Mapping[str, str]] = ()
    #: The commit of the last review, and whether the head contains it.
    since: str | None = None
    since_is_below: bool = False
    #: What else a reviewer should know: other work on the same lines, and what this is built on.
    notes: tuple[str, ...] = ()


class Facts(NamedTuple):
    """The variables of the two templates and of a role's brief."""

    agent: Agent
    role: Role
    task: Task | None
    #: The task's text below its header.
    body: str
    #: As `history.attempts` returns it.
    history: Sequence[Mapping[str, str]]
    config: Config
    base: str | None
    base_commit: str | None
    branch: str | None
    ports: Mapping[str, int]
    worktree: str
    project: str
    run_id: str
    attempt: int
    #: The ref with the uncommitted changes of an earlier attempt.
    rescue: str | None
    review: UnderReview | None
    global_instructions: str
    checks: tuple[str, ...]
    #: Whether the client continues an earlier conversation.
    resumed: bool
    #: Whether the agent's commands run in a sandbox, and whether the agent may change files.
    confined: bool
    writes: bool
    #: How the agent reports: "End with ...".
    report: str
    #: The commit of delivered work, not merged yet, that the branch was cut from.
    cut: str | None = None
    #: The ref of commits that are not on the branch any more, because others pushed to it.
    replaced: str | None = None
    #: The newest commit of the branch that is pushed already.
    pushed: str | None = None
    #: Why the worktree is not set up, if the branch is the reason.
    not_set_up: str | None = None
    #: The parts that the task has already, and how many the agent may add.
    parts: Sequence[Task] = ()
    may_add: int = 0
    #: Whether the worktree has submodules.
    submodules: bool = False


def instructions(facts: Facts) -> str:
    """Return the text of a run's `.agent-instructions.md`.

    Raises OrchestratorError if a template or the role's brief fails.
    """
    role, variables = facts.role, facts._asdict()
    where = role.path or f"role {role.name}"
    brief = _render(role.brief, facts.project, variables, where, role.line)
    whole = [*(facts.review.rounds if facts.review else ()), *facts.history]
    whole = [{"by": "", "commit": "", "decided": "", **entry} for entry in whole]
    told = whole[-MAX_ENTRIES:]
    variables |= {
        "brief": brief.strip(),
        "told": told,
        "untold": len(whole) - len(told),
        "entry_limit": min(quoting.LIMIT, LIMITS["history"] // max(len(told), 1)),
        "outcomes": [
            word
            for word in OUTCOMES[role.delivers]
            if word != "split" or facts.may_add or facts.parts
        ],
    }
    return _shipped(_INSTRUCTIONS, facts.project, variables)


def prompt(facts: Facts) -> str:
    """Return the client's standard input: who the agent is, and the latest feedback on its task.

    Raises OrchestratorError if the template fails.
    """
    history = facts.history
    newest = {entry["kind"]: place for place, entry in enumerate(history)}
    if "answer" not in newest:
        newest.pop("question", None)
    latest = [history[place] for place in sorted(newest.values())]
    return _shipped(_PROMPT, facts.project, {**facts._asdict(), "latest": latest})


def _shipped(name: str, project: str, variables: Mapping[str, object]) -> str:
    """Render one of the two shipped templates."""
    path = os.path.join(resources(), "plugin", "templates", name)
    with open(path, encoding="utf-8") as file:
        return _render(file.read(), project, variables, path, 1)


def _render(
    template: str, project: str, variables: Mapping[str, object], path: str, line: int
) -> str:
    own_skills = os.path.join(project, ".orchestrator", "commands")
    names = {"limits": LIMITS, "skill": partial(skill, own_skills)}
    return templates.render(template, variables, names, path, line)


def skill(own_folder: str, name: str, *arguments: object) -> str:
    """Return the text of a skill, below its front matter.

    `NAME.md` in `own_folder` (`.orchestrator/commands/`) replaces the shipped skill. It is text,
    never a template; `$0`, `$1`, ... become the arguments, as in the client. Raises
    OrchestratorError.
    """
    own = os.path.join(own_folder, f"{name}.md")
    shipped = os.path.join(resources(), "skills", name, "SKILL.md")
    path = own if os.path.lexists(own) else shipped
    project = os.path.dirname(os.path.dirname(own_folder))
    try:
        if not re.fullmatch(role_file.NAME, name):
            raise ValueError("no skill has such a name")
        if path == own:
            data = files.read_inside(path, project, role_file.MAX_BYTES + 1)
        else:
            data = files.read_regular(path, role_file.MAX_BYTES + 1)
        if len(data) > role_file.MAX_BYTES:
            raise ValueError(f"larger than {role_file.MAX_BYTES >> 10} KiB")
        text = data.decode().removeprefix("\ufeff")
    except (OSError, ValueError) as error:
        message = f"the skill {name!r} cannot be read: {path}: {error}"
        raise OrchestratorError(message, f"correct {path}", code="role_broken") from None
    text = text.replace("\r\n", "\n")
    if text.startswith("---\n"):
        _, end, below = text.partition("\n---\n")
        text = below if end else text
    for place, argument in enumerate(arguments):
        text = text.replace(f"${place}", str(argument))
    return text.strip()
