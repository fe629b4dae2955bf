"""Whose fault it is that GitHub refuses to open a pull request (reference 9.8).

A refusal of this very pull request is the work's failure; every other one is a system fault.
The texts are those of GitHub's GraphQL interface, as `gh pr create` prints them.
"""

from __future__ import annotations

import os
import re

from orchestrator.model.errors import OrchestratorError, Rejected, SystemFault
from orchestrator.model.work import PullRequest
from orchestrator.pulls.gh import Gh, Refusal
from orchestrator.system import files

_BASE_GONE = re.compile(r"Base ref must be a branch", re.IGNORECASE)
#: GitHub does not see the branch that was pushed: not yet, or it was pushed elsewhere.
_NO_HEAD = re.compile(
    r"Head (sha can't be blank|ref must be a branch|repository can't be blank)", re.IGNORECASE
)
_NO_COMMITS = re.compile(r"No commits between", re.IGNORECASE)
#: Of the title and the text.
_OF_THE_TEXT = re.compile(r"\b(Title|Body) (is|can't|contains)", re.IGNORECASE)
#: Of the account, its token or the repository.
_OF_EVERYBODY = re.compile(
    r"not accessible by|correct permissions|must be a collaborator|not permitted to create"
    r"|archived|read-only|SAML|must have (push|admin|write)|blocked|suspended|disabled"
    r"|HTTP 40[34]|Could not resolve to a Repository",
    re.IGNORECASE,
)
#: What an account may be to a repository without the right to push there.
_READERS = ("READ", "TRIAGE", "NONE", "")


def judged(
    gh: Gh, memory: str, wanted: PullRequest, error: Refusal, *, may_only_read: bool
) -> OrchestratorError:
    """Return what the refusal of a pull request is: Rejected, or SystemFault for every task.

    A text that is not known is about this pull request if the account may write to the repository
    and no other task met the same text since the last pull request was opened. `may_only_read`:
    the branches are in a fork, so the account needs no right to push. `memory` is a file for that
    text. Raises SystemFault.
    """
    said, name = error.said, gh.repository.words
    if _BASE_GONE.search(said):
        hint = "orchestrator init --base BRANCH; or push that branch"
        message = f"GitHub has no branch {wanted.base} in {name}: {said}"
        return SystemFault(message, hint, code="base_gone")
    if _NO_HEAD.search(said):
        hint = f"it is tried again; is {name}, or a fork of it, where branches are pushed to?"
        message = f"GitHub does not see the branch {wanted.branch}: {said}"
        return SystemFault(message, hint, code="forge_failed")
    if _NO_COMMITS.search(said):
        message = f"{wanted.base} has everything that is on {wanted.branch}: {said}"
        return Rejected(message, code="no_commits")
    everybodys = _OF_EVERYBODY.search(said) is not None
    if not everybodys and not _OF_THE_TEXT.search(said):
        everybodys = not (_may_open(gh) or may_only_read) or _met(memory, wanted, said)
    if everybodys:
        hint = f"give the account of gh the right to open pull requests in {name}: gh auth status"
        if "archived" in said:
            hint = f"unarchive {name} on GitHub, or set `remote` to another repository"
        message = f"GitHub opens no pull request in {name}: {said}"
        return SystemFault(message, hint, code="remote_refuses")
    message = f"GitHub refuses the pull request of {wanted.branch}: {said}"
    return Rejected(message, code="pr_rejected")


def _may_open(gh: Gh) -> bool:
    row = gh.json("repo", "view", "--json", "isArchived,viewerPermission")
    row = row if isinstance(row, dict) else {}
    return row.get("isArchived") is not True and row.get("viewerPermission") not in _READERS


def _met(memory: str, wanted: PullRequest, said: str) -> bool:
    """Return whether another task met the same refusal; remember this one."""
    # Branches, titles and numbers differ between tasks.
    words = said.replace(wanted.branch, "BRANCH").replace(wanted.title, "TITLE")
    words = re.sub(r"[0-9]+", "N", words)
    before = files.read_json(memory) or {}
    if before.get("said") == words:
        return before.get("task") != wanted.task
    files.make_folder(os.path.dirname(memory))
    files.write_json(memory, {"said": words, "task": wanted.task})
    return False
