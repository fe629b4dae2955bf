"""The remotes of a project: the one that work starts from, and the one that branches are pushed to.

The two are the same remote unless `push_remote` is set; its `pushurl` may lead to another place.
"""

from collections.abc import Collection, Mapping
from functools import partial

from orchestrator.git import base_branch, call, remotes, settings
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.errors import SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.system import locks


class Pair(NamedTuple):
    """The remotes by name; None for a remote that the repository does not have."""

    base: str | None
    push: str | None
    #: The address of pushes, if that is not the URL of `push`.
    address: str | None
    #: Whether git knows the user's name: the same question to git finds it.
    identity: bool = False
    #: Where pushes go; "" without a remote.
    place: str = ""

    @property
    def is_one(self) -> bool:
        """Whether both are one place."""
        return self.base == self.push and self.address is None

    def work_ref(self, branch: str) -> str | None:
        """Return the ref to which a branch of tasks is fetched; None without a remote."""
        return f"refs/remotes/{self.push}/{branch}" if self.push else None

    def tracking_refs(self, branches: Collection[str]) -> list[str]:
        """Return the refs to which `fetch` fetches these branches from either remote."""
        names = dict.fromkeys(filter(None, (self.base, self.push)))
        return [f"refs/remotes/{remote}/{branch}" for remote in names for branch in branches]


def other_remotes(root: str, remote: str) -> tuple[str, str] | None:
    """Return what to tell of a repository that has other remotes, but not this one: message, hint.

    None for a repository that has this remote, or no remote.
    """
    urls = settings.matching(root, r"remote\..+\.url")
    names = sorted({key[len("remote.") : -len(".url")] for key, _ in urls})
    if not names or remote in names:
        return None
    listed = ", ".join(map(repr, names))
    message = f"there is no remote {remote!r}, but {listed}: branches stay in this repository"
    hint = f"to deliver work there: write `remote: {names[0]}` into .orchestrator/agents.yaml"
    return message, hint


def find(root: str, config: Config) -> Pair:
    """Return the remotes.

    Raises SystemFault if there is no remote `push_remote`, and if git pushes no single branch to
    the remote of pushes: before an agent is paid for work that nobody can deliver.
    """
    push = config.push_remote or config.remote
    base_url = f"remote.{config.remote}.url"
    url, pushurl, mirror = (f"remote.{push}.{key}" for key in ("url", "pushurl", "mirror"))
    known = settings.find(root, base_url, url, pushurl, mirror, "user.email")
    if config.push_remote and url not in known:
        said = f"push_remote is {push!r}, but this repository has no such remote"
        raise SystemFault(said, f"git remote add {push} URL", code="no_push_remote")
    if url in known and mirror in known:
        # Git has many words for true and false (git-config(1), "Values").
        said = call.run(root, "config", "--type=bool", "--get", mirror).out
        if said.strip() == "true":
            raise remotes.is_mirror(push)
    own = known.get(pushurl, ())
    return Pair(
        config.remote if base_url in known else None,
        push if url in known else None,
        own[0] if own else None,
        "user.email" in known,
        (own or known.get(url) or ("",))[0],
    )


def fetch(
    layout: Layout,
    pair: Pair,
    bases: Collection[str],
    branches: Collection[str],
    timeout: float = remotes.TIMEOUT,
    watched: Collection[str] = (),
    known: Mapping[str, str] | None = None,
    since: float | None = None,
    wait: float = locks.LONGEST_WAIT,
) -> dict[str, str]:
    """Fetch base branches and branches of tasks, each from its remote; return as `base_branch`.

    `watched` are branches of the remote of pushes; `known` are the `tracking_refs` of all these
    branches as just seen, each with its commit; `since` and `wait` are what they are for
    `base_branch.fetch`. Raises what that raises.
    """
    one = partial(base_branch.fetch, layout, timeout=timeout, known=known, since=since, wait=wait)
    if pair.is_one:
        return one(pair.base, [*bases, *branches], watched=[*watched]) if pair.base else {}
    there = one(pair.base, [*bases]) if pair.base else {}
    if pair.push and branches:
        others = one(pair.push, [*branches], address=pair.address, watched=[*watched])
        there = {**others, **there}
    return there
