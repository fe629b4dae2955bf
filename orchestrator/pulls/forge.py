"""The protocol of a forge, where pull requests live, and the table of the forges.

To add a forge, see "Add a forge" in CONTRIBUTING.md. `tests/forge_contract.py` is the suite that
every forge passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from orchestrator.layout import Layout
from orchestrator.model.annotations import ClassVar, Protocol
from orchestrator.model.config import Config
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import Feedback, Given, PullRequest
from orchestrator.pulls.book import Book
from orchestrator.pulls.github import GitHub
from orchestrator.pulls.local import Local


class Forge(Protocol):
    """What the scheduler needs of a forge. Each call may raise SystemFault."""

    name: str
    #: The program that it runs (a run's agent must not run it), if it runs one.
    program: ClassVar[str | None]
    #: What a person does about a fault, by the code of the SystemFault. A forge elsewhere needs
    #: `forge_failed`.
    hints: ClassVar[Mapping[str, str]]
    #: The forge itself decides the states of its pull requests, and answers over a network.
    #: Otherwise git decides the states.
    is_elsewhere: bool
    #: The records of the pull requests that the product opened there.
    book: Book

    def __init__(self, layout: Layout, config: Config) -> None: ...

    @staticmethod
    def takes(layout: Layout, addresses: list[str], remember: bool) -> bool:
        """Whether `forge: auto` means this forge for a remote with these addresses.

        The first is the address that git uses, another is as the configuration has it; there are
        none without a remote. With `remember`, what was found out may be kept on the disk.
        """

    def refresh(self) -> list[PullRequest]:
        """Bring the records up to date; return the pull requests in every state, oldest first.

        When nothing changed, a forge elsewhere is asked once (reference 9.9).
        """

    def show(self, pr_id: str) -> PullRequest:
        """Return one pull request as it is now. Raises NotFound."""

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        """Open a pull request, or return the open one of the same branch, brought up to date.

        Raises Rejected if the forge refuses this pull request, and not every one.
        """

    def post(self, pr: PullRequest, review: Given) -> str | None:
        """Show a review of this product at the pull request, once. It decides nothing there.

        Returns why the forge refuses to show it; None if it does. The review counts all the same.
        """

    def feedback(self, pr: PullRequest) -> list[Feedback]:
        """Return what people's comments and failing required checks ask for on the head."""

    def methods(self) -> tuple[str, ...]:
        """Return the ways to merge that the repository allows, of merge, squash and rebase."""

    def merge(
        self, pr: PullRequest, commit: str, method: str, land: Callable[[], str]
    ) -> str | None:
        """Merge the commit of a pull request; return the base's new commit.

        `land` makes the merge by git, moves the base and returns its commit; a forge that merges by
        itself does not call it. Returns None if the forge merges it later, by itself. Raises
        OrchestratorError when the forge refuses.
        """

    def retarget(self, pr: PullRequest, base: str) -> None:
        """Let an open pull request merge into another branch; repeating it changes nothing."""

    def close(self, pr_id: str) -> None:
        """Close a pull request without merging it; closing it again changes nothing."""

    def probe(self, variables: Mapping[str, str], timeout: float) -> Problem | None:
        """Return why the forge cannot be used with these environment variables, or None."""


#: By the value of `forge` in agents.yaml. `auto` is the first that takes the remote's address.
FORGES: dict[str, type[Forge]] = {"github": GitHub, "local": Local}

#: The programs of all forges.
PROGRAMS = tuple(kind.program for kind in FORGES.values() if kind.program)
