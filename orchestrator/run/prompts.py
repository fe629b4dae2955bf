"""What an agent is told: instructions and prompt, rendered from templates, briefs and skills.

The two templates are in `plugin/templates/`. Task titles, bodies and reports are values there,
never template text, and stand in fences that they cannot close.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from orchestrator.config import role_file
from orchestrator.errors import OrchestratorError
from orchestrator.layout import resources
from orchestrator.model import OUTCOMES, Role
from orchestrator.system import files
from orchestrator.text import quoting, templates

#: Characters of quoted text that reach an agent. All of them together, in UTF-8's longest form,
#: stay below sandbox.MAX_OUTPUT: no task is too long to be given out.
LIMITS = {"body": 80_000, "reviewed": 30_000, "history": 60_000, "global": 40_000, "latest": 8_000}
#: Entries of a task's history that are told; the ones before are counted.
MAX_ENTRIES = 50
_INSTRUCTIONS, _PROMPT = "agent_instructions.md.j2", "prompt.md.j2"


def make_ready() -> None:
    """Do the work on instructions and prompts for which neither role nor task is needed."""
    own = __spec__.cached  # where Python keeps this module's code
    kept = f"{own.removesuffix('.pyc')}.templates" if own else None
    templates.make_ready([_template(name)[1] for name in (_INSTRUCTIONS, _PROMPT)], kept)


def instructions(variables: Mapping[str, Any]) -> str:
    """Return the text of a run's `.agent-instructions.md`.

    `variables` are those of `briefing`: agent, role, task, body, history, config, base,
    base_commit, branch, ports, worktree, project, run_id, attempt, rescue, review,
    global_instructions, checks, resumed and writes; the role's brief sees the same. Raises
    OrchestratorError when a template fails.
    """
    role: Role = variables["role"]
    where = role.path or f"role {role.name}"
    brief = _render(role.brief, variables, path=where, first_line=role.line)
    history = variables["history"]
    told = history[-MAX_ENTRIES:]
    return _shipped(
        _INSTRUCTIONS,
        {
            **variables,
            "brief": brief.strip(),
            "told": told,
            "untold": len(history) - len(told),
            "entry_limit": min(quoting.LIMIT, LIMITS["history"] // max(len(told), 1)),
            "outcomes": OUTCOMES[role.delivers],
        },
    )


def prompt(variables: Mapping[str, Any]) -> str:
    """Return what a run gets on standard input: who it is, and the newest word on its task again.

    A resumed conversation has seen the rest. Takes and raises the same as `instructions`.
    """
    history = variables["history"]
    newest = {entry["kind"]: place for place, entry in enumerate(history)}
    if "answer" not in newest:
        newest.pop("question", None)
    latest = [history[place] for place in sorted(newest.values())]
    return _shipped(_PROMPT, {**variables, "latest": latest})


def _shipped(name: str, variables: Mapping[str, Any]) -> str:
    """Render one of the two templates that are shipped."""
    path, template = _template(name)
    return _render(template, variables, path=path, first_line=1)


def _template(name: str) -> tuple[str, str]:
    """Return the path and the text of a shipped template."""
    path = os.path.join(resources(), "plugin", "templates", name)
    try:
        with open(path, encoding="utf-8") as file:
            return path, file.read()
    except OSError as error:
        message = f"a shipped template cannot be read: {path}: {error.strerror}"
        raise OrchestratorError(message, "install orchestrator again") from None


def _render(template: str, variables: Mapping[str, Any], *, path: str, first_line: int) -> str:
    own_skills = os.path.join(str(variables.get("project", "")), ".orchestrator", "commands")
    names = {"limits": LIMITS, "skill": partial(skill, own_skills)}
    return templates.render(template, variables, names, path=path, first_line=first_line)


def skill(own_folder: str, name: str, *arguments: object) -> str:
    """Return the text of a skill, below its front matter: the one place where a craft is written.

    `NAME.md` in `own_folder` (`.orchestrator/commands/`) goes before the shipped one. It is text,
    never a template; `$0`, `$1`, ... become the arguments, as the client does it. Raises
    OrchestratorError.
    """
    own = os.path.join(own_folder, f"{name}.md")
    shipped = os.path.join(resources(), "skills", name, "SKILL.md")
    path = own if os.path.lexists(own) else shipped
    try:
        if not re.fullmatch(role_file.NAME, name):
            raise ValueError("no skill has such a name")
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
