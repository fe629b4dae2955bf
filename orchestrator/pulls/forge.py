"""The protocol of a forge: where pull requests live. `pulls.forges` has the implementations.

To add a forge: write a module with a class of this protocol, and add it to `forges.FORGES` and its
name to `model.FORGES`. `tests/forge_contract.py` is the suite that every forge passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from orchestrator.layout import Layout
from orchestrator.model import Config, Problem, PullRequest
from orchestrator.system import records

#: Agents' branches; only their pull requests count against `max_open_prs`.
BRANCH_PREFIX = "agent/"


class Forge(Protocol):
    """What the scheduler needs of a forge. Each call may raise SystemFault."""

    name: str
    #: The forge itself decides the states of its pull requests, and answers over a network: what it
    #: said is remembered for commands that only read. Otherwise git decides the states.
    is_elsewhere: bool

    def __init__(self, layout: Layout, config: Config) -> None: ...

    @staticmethod
    def takes(url: str) -> bool:
        """Whether `forge: auto` means this forge for a remote with this address ("" without)."""

    def list(self) -> list[PullRequest]:
        """Return the agents' pull requests in every state, oldest first."""

    def show(self, pr_id: str) -> PullRequest:
        """Return one pull request. Raises NotFound."""

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        """Open a pull request, or return the open one of the same branch, brought up to date."""

    def give_verdict(self, pr_id: str, verdict: str, commit: str, text: str) -> None:
        """Record a review's verdict on a commit."""

    def merge(self, pr: PullRequest, commit: str | None, land: Callable[[], str]) -> str:
        """Merge a pull request, `commit` only unless it is None; return the base's new commit.

        `land` merges by git: it makes the merge, checks it, moves the base and returns its commit.
        A forge that merges by itself does not call it. Raises OrchestratorError when the forge
        refuses.
        """

    def close(self, pr_id: str) -> None:
        """Close a pull request without merging it; closing it again changes nothing."""

    def record(self, pr_id: str, state: str) -> None:
        """Record the state that git showed. A forge elsewhere knows its states itself."""

    def probe(self, variables: Mapping[str, str], timeout: float) -> Problem | None:
        """Return why the forge cannot be used with these environment variables, or None."""


_STATES = ("open", "merged", "closed")
#: What git accepts as a branch, and never as an option; and the name of a commit.
_BRANCH = r"(?![-/.])[^\x00-\x20\x7f~^:?*\[\\]{1,300}"
_COMMIT = r"[0-9A-Za-z]{1,64}"


def from_record(record: Mapping[str, object]) -> PullRequest | None:
    """Return the pull request of a record with the fields of `PullRequest`; None for others."""
    pr = records.build(PullRequest, record)
    if pr is None:
        return None
    branches = all(re.fullmatch(_BRANCH, name) for name in (pr.branch, pr.base))
    good = branches and re.fullmatch(_COMMIT, pr.head) and pr.state in _STATES
    return pr if good else None
