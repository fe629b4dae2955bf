"""The values of a task's header, as people and agents give them: read, or refused with a hint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from orchestrator.cli import context, output
from orchestrator.config import load
from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.config import Role
from orchestrator.model.errors import NotFound, OrchestratorError, did_you_mean
from orchestrator.model.times import A_TIME, parse_time
from orchestrator.model.work import STATES
from orchestrator.tasks import task_file
from orchestrator.tasks.store import Store

#: Unknown dependencies for which similar ids are named.
MOST_HINTS = 3


def settings(layout: Layout) -> Settings:
    """Return the settings. With a broken agents.yaml, the last valid limits apply."""
    loaded = context.settings(layout)
    if loaded.good:
        return loaded
    if load.last_good(layout) is None:
        return context.good_settings(layout)
    why = "agents.yaml is broken (see: orchestrator status); its last valid limits apply"
    output.err(f"warning: {why}")
    return loaded


def task_role(
    word: str,
    roles: Mapping[str, Role],
    *,
    force: bool,
    otherwise: str = " (--force adds it anyway)",
) -> str:
    """Return the task ROLE that a word means: itself, or what the agents' role of that name takes.

    Raises OrchestratorError for an unknown word, unless `force`; its hint ends with `otherwise`.
    """
    known = {role.takes for role in roles.values() if role.takes}
    if word in known:
        return word
    if word in roles and (takes := roles[word].takes):
        return takes
    if force:
        return word
    names = sorted(known)
    message, hint = f"agents with the role {word!r} take no tasks", did_you_mean(word, names)
    if word not in roles:
        message = f"no role takes tasks with ROLE {word!r}"
        hint = did_you_mean(word, [*names, *roles], f"known: {', '.join(names)}")
    raise OrchestratorError(message, f"{hint}{otherwise}", code="unknown_role")


def check_branch(layout: Layout, loaded: Settings, branch: str) -> None:
    """Refuse what is not a branch's name; warn of a branch that does not exist (yet)."""
    from orchestrator.git import base_branch, call

    root, remote = layout.root, loaded.config.remote
    is_name = call.run(root, "check-ref-format", f"refs/heads/{branch}").code == 0
    if branch == "HEAD" or not is_name:
        hint = "see: git help check-ref-format"
        raise OrchestratorError(f"{branch!r} cannot be the name of a branch", hint)
    if base_branch.branch_commit(root, remote, branch) is None:
        if (other := base_branch.meant(root, remote, branch)) is not None:
            raise OrchestratorError(f"there is no branch {branch!r}", f"did you mean {other!r}?")
        output.err(f"warning: there is no branch {branch!r} yet; without it the task will ask you")


def check_time(value: str | None) -> None:
    """Raise OrchestratorError for a NOT_BEFORE that is not a time; None and "" are no value."""
    if value and parse_time(value) is None:
        message = f"{value!r} is not a time for not_before"
        raise OrchestratorError(message, f"give a time like {A_TIME}")


def named_dependencies(
    store: Store, words: Iterable[str], *, force: bool
) -> tuple[list[str], list[str]]:
    """Return the ids that the words mean, and with `force` a warning for each id without a task.

    Raises NotFound for such an id without `force`.
    """
    given = list(dict.fromkeys(words))
    if len(given) > task_file.MAX_DEPENDENCIES:
        message = f"{len(given)} dependencies are more than {task_file.MAX_DEPENDENCIES}"
        raise OrchestratorError(message, "depend on a task that depends on some of them")
    ids: list[str] = []
    warnings: list[str] = []
    for word in given:
        try:
            # A look for similar ids takes long: a few of them are enough.
            task = store.get(word) if len(warnings) >= MOST_HINTS else store.find(word)
        except NotFound as error:
            if not force:
                raise
            task, hint = None, f" {error.hint}"
        else:
            hint = ""
        ids.append(task.id if task else word)
        if task is None:
            message = f"no task named {word!r}; the task waits until there is one."
            warnings.append(f"{message}{hint}")
    return list(dict.fromkeys(ids)), warnings


def circular(layout: Layout, loaded: Settings, store: Store, task_id: str) -> list[str]:
    """Return a warning if a new task depends on tasks that wait for each other in a circle."""
    from orchestrator.plan import dependencies
    from orchestrator.pulls import states

    prs = states.known(layout, loaded.config) or []
    find = store.get
    found = dependencies.closure([store.find(task_id)], find, prs)
    circle = sorted(dependencies.circular(found, {pr.id: pr for pr in prs}))
    if not circle:
        return []
    named = ", ".join(circle[:10])
    return [f"the task cannot start: these tasks depend on each other in a cycle: {named}"]


def refuse_duplicate(store: Store, title: str, role: str, agent: str | None) -> None:
    """People may repeat the title of an ended task; agents may repeat no title (reference 5)."""
    states = STATES if agent else ("incoming", "claimed")
    found = store.has_title(title, None if agent else role, states)
    if found is not None:
        hint = "do not add it in other words" if agent else "--force adds it anyway"
        message = f"task {found.id} has that title already, in {found.state}"
        raise OrchestratorError(message, hint, code="duplicate_task")
