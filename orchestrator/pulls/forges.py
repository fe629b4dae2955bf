"""Which forge a project uses, and what concerns all forges."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import PullRequest, Task
from orchestrator.pulls.forge import FORGES, PROGRAMS, Forge
from orchestrator.system.later import Later
from orchestrator.tasks import store, stores

if TYPE_CHECKING:
    from orchestrator.git import remotes
    from orchestrator.pulls import github_repo
else:
    remotes = Later("git.remotes")
    github_repo = Later("pulls.github_repo")

#: Records of merged pull requests that are put away while a lock is held: tenths of a second.
AT_ONCE = 2_000


def denied(rules: Iterable[str]) -> tuple[str, ...]:
    """Return a role's `deny` rules, with `{forge}` replaced by the program of each forge."""
    texts = [[r.replace("{forge}", p) for p in PROGRAMS] if "{forge}" in r else [r] for r in rules]
    return tuple(text for several in texts for text in several)


def of_project(layout: Layout, config: Config, *, remember: bool = False) -> Forge:
    """Return the forge that the configuration asks for; `auto` looks at the remote and for `gh`.

    `auto` keeps the forge that has unfinished pull requests until they are finished: on another
    forge nobody would review or land them. A process that may write to the disk sets `remember`:
    later ones need not ask gh or ssh.
    """
    name = config.forge
    if name == "auto":
        name = _fitting(layout, config, remember)
        books = {n: kind(layout, config).book for n, kind in FORGES.items()}
        others = [n for n in books if n != name and books[n].unfinished()]
        name = others[0] if others and not books[name].unfinished() else name
    return FORGES[name](layout, config)


def _fitting(layout: Layout, config: Config, remember: bool) -> str:
    addresses = remotes.addresses(layout.root, config.remote)
    return next(n for n, kind in FORGES.items() if kind.takes(layout, addresses, remember))


def kept(layout: Layout, config: Config) -> str | None:
    """Return why `forge: auto` does not mean the forge that fits the remote now, in one sentence.

    None if it does, or if agents.yaml names a forge.
    """
    if config.forge != "auto":
        return None
    now, fitting = of_project(layout, config), _fitting(layout, config, False)
    if now.name == fitting:
        return None
    ids = ", ".join(pr.id for pr in now.book.unfinished())
    done = f"merged or closed; then it is {fitting}"
    return f"`forge: auto` stays {now.name} until the pull requests there are {done} ({ids})"


def left(layout: Layout, config: Config) -> list[tuple[str, PullRequest]]:
    """Return the open pull requests of other forges than the project's, each with its forge.

    Nobody reviews or lands them. A person names such a pull request `FORGE:ID` (`named`).
    """
    own = of_project(layout, config).name
    others = [(name, kind(layout, config).book) for name, kind in FORGES.items() if name != own]
    return [(name, pr) for name, book in others for pr in book.list() if pr.state == "open"]


def with_merged(
    layout: Layout, config: Config, prs: list[PullRequest] | None, tasks: Iterable[Task | None]
) -> list[PullRequest] | None:
    """Return the pull requests, with those of the tasks that were merged long since.

    The records of old merged pull requests are put away (`book.put_away`).
    """
    known = {pr.id for pr in prs or ()}
    missing = {task.pr for task in tasks if task and task.pr and task.pr not in known}
    if prs is None or not missing:
        return prs
    book = of_project(layout, config).book
    return [*prs, *(pr for number in sorted(missing) if (pr := book.get(number)))]


def of_branch(layout: Layout, config: Config, branch: str) -> PullRequest | None:
    """Return the pull request of a task's branch, also if its record was put away; else None."""
    task = store.of_branch(stores.of_project(layout), branch)
    if task is None or task.pr is None:
        return None
    pr = of_project(layout, config).book.get(task.pr)
    return pr if pr and pr.branch == branch else None


def put_away(layout: Layout, config: Config, most: int) -> None:
    """Put records of old merged pull requests away, `most` per hold of a forge's lock."""
    for kind in FORGES.values():
        kind(layout, config).book.put_away(most)


def of_task(layout: Layout, config: Config, task: Task) -> tuple[str, PullRequest | None]:
    """Return a task's pull request as a person names it (`named`), and its record, if there is one.

    A task keeps the number only. After a change of `forge`, the project's forge may have the pull
    request of another task under that number; the task's own one is then `FORGE:ID`.
    """
    number, own = task.pr or "", of_project(layout, config).name
    for name in sorted(FORGES, key=lambda each: each != own):
        pr = FORGES[name](layout, config).book.get(number)
        if pr is not None and pr.task in (None, task.id, task.reviews):
            return number if name == own else f"{name}:{number}", pr
    return number, None


def unrecorded(task: Task) -> OrchestratorError:
    """Return the error of a task whose pull request has no record (any more).

    Its number may be that of another task's pull request by now, so nobody may use the number.
    """
    return OrchestratorError(
        f"there is no record of pull request {task.pr} of {task.id}",
        f"to have its work delivered again: orchestrator task move {task.id} incoming",
        code="not_found",
    )


def named(config: Config, name: str) -> tuple[Config, str]:
    """Return the configuration and the number for a pull request as a person names it.

    `3`, `#3` and `pr:3` are of the project's forge; `local:3` and `github:3` of that forge.
    """
    forge, _, number = name.partition(":")
    if forge in FORGES:
        return config._replace(forge=forge), number
    return config, name.removeprefix("pr:").removeprefix("#")


def github_host(layout: Layout, config: Config) -> str | None:
    """Return the host of the configured remote if it is, or seems to be, one of GitHub."""
    found = github_repo.find(layout, remotes.addresses(layout.root, config.remote))
    return found.host if found.known or "github" in found.host else None
