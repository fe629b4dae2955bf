"""Which files show that something about an open pull request changed."""

from collections.abc import Iterable

from orchestrator.git import place, ref_files, remote_pair, settings
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import PullRequest
from orchestrator.pulls import forges
from orchestrator.tasks import stores


class Watch(NamedTuple):
    """Paths whose times change when a tick could see another state of a pull request."""

    paths: tuple[str, ...]
    #: Whether the forge or a remote elsewhere must be asked, too: these files show what it said.
    asks: bool


def of(layout: Layout, config: Config, prs: Iterable[PullRequest]) -> Watch | None:
    """Return what shows another state of a pull request; `prs` are the open ones.

    None while an approved one is to be merged automatically, and where a ref is symbolic. Raises
    OrchestratorError and OSError.
    """
    prs = list(prs)
    forge = forges.of_project(layout, config)
    lands = config.review.auto_merge and any(pr.verdict == "approved" for pr in prs)
    if lands:
        return None
    store = stores.of_project(layout)
    tasks = (store.get(pr.task) for pr in prs if pr.task)
    own = [forge.book.path(pr.id) for pr in prs] + [task.where for task in tasks if task]
    pair = remote_pair.find(layout.root, config)
    bases, branches = [pr.base for pr in prs], [pr.branch for pr in prs]
    names = [f"refs/heads/{name}" for name in (*bases, *branches)]
    names += pair.tracking_refs([*bases, *branches])
    here = place.common_folder(layout.root)
    repositories: list[tuple[str | None, list[str]]] = [(here, names)]
    if pair.base:
        wanted = [*bases, *branches] if pair.is_one else bases
        repositories.append((ref_files.remote_folder(layout.root, pair.base), wanted))
    if pair.push and not pair.is_one:
        there = ref_files.remote_folder(layout.root, pair.push, pair.address)
        repositories.append((there, branches))
    asks = forge.is_elsewhere
    for folder, refs in repositories:
        if folder is None:
            asks = True
            continue
        full = [ref if ref.startswith("refs/") else f"refs/heads/{ref}" for ref in refs]
        found = ref_files.paths(folder, full)
        if found is None:
            return None
        own += found
    return Watch((*own, *settings.read_files(here, here)), asks)
