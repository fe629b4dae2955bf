"""Merges on GitHub: the ways that a repository allows, and what its rules refuse or postpone."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable

from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.config import MERGE_METHODS
from orchestrator.model.errors import NotFound, OrchestratorError, SystemFault
from orchestrator.pulls.gh import Gh, Refusal
from orchestrator.system import files

#: Seconds for which the merge methods of a repository are remembered, and the file in the cache.
METHODS_KEPT, MEMORY = 86_400.0, "github-methods.json"
#: What gh and GitHub say when a pull request may be merged later, by `--auto`.
_MUST_WAIT = re.compile(
    r"--auto|policy prohibits|is expected|status check|reviews? (is|are) required|approving review"
    r"|merge queue|required workflow|still pending",
    re.IGNORECASE,
)
_FIELDS = ("mergeCommitAllowed", "squashMergeAllowed", "rebaseMergeAllowed")


def methods(layout: Layout, gh: Gh) -> tuple[str, ...]:
    """Return what the repository allows, in the order of `MERGE_METHODS`. Raises SystemFault."""
    repository, memory = gh.repository.words, os.path.join(layout.cache, MEMORY)
    kept, now = files.read_json(memory) or {}, time.time()
    asked, allowed = kept.get("asked"), kept.get("methods")
    known = kept.get("repository") == repository and isinstance(allowed, list)
    if not known or not isinstance(asked, float) or not 0 <= now - asked < METHODS_KEPT:
        row = gh.json("repo", "view", "--json", ",".join(_FIELDS))
        answers = [row.get(field) if isinstance(row, dict) else None for field in _FIELDS]
        allowed = [m for m, answer in zip(MERGE_METHODS, answers, strict=True) if answer is True]
        files.make_folder(layout.cache)
        record = {"repository": repository, "asked": now, "methods": allowed}
        files.write_json(memory, record)
    found = tuple(m for m in MERGE_METHODS if m in (allowed or ()))
    if not found:
        raise SystemFault(f"{repository} allows no way to merge", code="merge_refused")
    return found


def merge(
    layout: Layout, gh: Gh, view: Callable[[str, str], Any], pr_id: str, commit: str, method: str
) -> Any:
    """Merge a pull request if its head is the commit, or let GitHub merge it later.

    Return its row afterwards, with `mergeCommit`: `gh` exits with 0 for both. `view` calls gh.
    Raises OrchestratorError when GitHub refuses.
    """
    words = ("pr", "merge", pr_id, f"--{method}", "--match-head-commit", commit)
    try:
        gh.run(*words)
    except SystemFault as error:
        # GitHub may have merged it all the same, or before.
        row = view(pr_id, "")
        if row is None or row.get("state") != "MERGED":
            if not isinstance(error, Refusal):
                raise
            _merge_later(layout, gh, words, error)
    row = view(pr_id, ",mergeCommit")
    if row is None:
        raise NotFound("pull request", pr_id)
    return row


def _merge_later(layout: Layout, gh: Gh, words: tuple[str, ...], error: Refusal) -> None:
    """Let GitHub merge it as soon as its rules allow. Raises OrchestratorError."""
    said = error.said
    if "Head branch was modified" in said:
        message = f"pull request {words[2]} has commits that were not reviewed"
        raise OrchestratorError(message, code="not_reviewed")
    if "Base branch was modified" in said:
        raise SystemFault("the base branch moved during the merge", code="base_moved")
    if _MUST_WAIT.search(said):
        try:
            gh.run(*words, "--auto")
            return
        except Refusal as second:
            said = f"{said}\nWith --auto: {second.said}"
    # The repository's settings may have changed.
    files.remove(os.path.join(layout.cache, MEMORY))
    raise OrchestratorError(
        f"GitHub refuses to merge pull request {words[2]}: {said}",
        "see the rules of the base branch on GitHub",
        code="merge_refused",
    )
