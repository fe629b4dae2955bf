"""Why a pull request may not be merged now, found out before any merge is made."""

from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.work import PullRequest
from orchestrator.pulls import cuts, states, verdicts
from orchestrator.tasks import stores
from orchestrator.text.quoting import one_line


def find(layout: Layout, config: Config, pr: PullRequest) -> OrchestratorError | None:
    """Return why a person's merge of a pull request is refused before any merge is made."""
    return not_ready(pr) or _waits_for_dependency(layout, config, pr) or _is_objected_to(layout, pr)


def not_ready(pr: PullRequest) -> OrchestratorError | None:
    """A pull request that is not open, or a draft, does not land."""
    if pr.state != "open":
        hint = "see: orchestrator pr list"
        return OrchestratorError(f"pull request {pr.id} is {pr.state}", hint, code="not_open")
    if pr.draft:
        hint = f"mark it as ready for review, then merge it: {pr.url}"
        return OrchestratorError(f"pull request {pr.id} is a draft", hint, code="draft")
    return None


def _waits_for_dependency(
    layout: Layout, config: Config, pr: PullRequest
) -> OrchestratorError | None:
    store = stores.of_project(layout)
    try:
        task = store.find(pr.task or "")
    except NotFound:
        return None
    known = states.known(layout, config) if task.depends_on else None
    first = cuts.below(store, task, known or ())
    if first is None or first[1].state != "open":
        return None
    other, its = first
    return OrchestratorError(
        f"{task.id} depends on {other.id}, whose pull request {its.id} is open",
        f"merge that one first: orchestrator pr merge {its.id}",
        code="blocked_by_dependency",
    )


def _is_objected_to(layout: Layout, pr: PullRequest) -> OrchestratorError | None:
    """Requested changes of a person block a merge until they are resolved (reference 9.1)."""
    standing = verdicts.objections(states.reviews(layout, pr))
    if not standing:
        return None
    by = ", ".join(given.by for given in standing)
    return OrchestratorError(
        f"pull request {pr.id} has requested changes of {by}: {one_line(standing[-1].text)}",
        f"to overrule that: orchestrator pr approve {pr.id}; then merge it",
        code="changes_requested",
    )
