"""The branches of tasks: what the product remembers of them in refs of its own, and their names.

Only with this memory can a commit that the product pushed itself be told from one that others
pushed: only the former may be replaced (reference 9.6).
"""

from collections.abc import Collection

from orchestrator.git import repository
from orchestrator.model.errors import SystemFault
from orchestrator.model.fields import NamedTuple

#: Below these names, by branch: the last commit that the product pushed and that no delivery in the
#: task's history names, and the last commit at the remote that others pushed and that an attempt
#: started from.
OWN = "refs/orchestrator/pushed/"
OTHERS = "refs/orchestrator/others/"


class Known(NamedTuple):
    """The memory of one branch."""

    #: The last commits that the product pushed.
    own: frozenset[str] = frozenset()
    others: str | None = None

    def may_replace(self, root: str, there: str, head: str) -> bool:
        """Return whether `head` may replace the remote's commit: it drops no commit of others."""
        mine = there in self.own
        return mine and (not self.others or repository.is_ancestor(root, self.others, head))


def known(root: str, branch: str, delivered: str | None = None) -> Known:
    """Return the memory of a branch.

    `delivered` is the commit that the task's history names: whichever clone has pushed it.
    """
    seen = repository.refs(root, OWN + branch, OTHERS + branch)
    own = {seen.get(OWN + branch), delivered}
    return Known(frozenset(commit for commit in own if commit), seen.get(OTHERS + branch))


def remember(root: str, branch: str, commit: str) -> None:
    """Remember a commit that the product has pushed, if the task's history will not name it."""
    repository.update_ref(root, OWN + branch, commit)


def remember_others(root: str, branch: str, commit: str) -> None:
    """Remember a commit that others have pushed, and that the next attempt builds on."""
    repository.update_ref(root, OTHERS + branch, commit)


def forget(root: str, branches: Collection[str] | None = None) -> None:
    """Forget branches that are removed; by default all of them."""
    found = repository.refs(root, OWN, OTHERS)
    names = {place + branch for branch in branches or () for place in (OWN, OTHERS)}
    doomed = {ref: commit for ref, commit in found.items() if branches is None or ref in names}
    if doomed:
        repository.delete_refs(root, doomed)


def parents_of(branch: str) -> list[str]:
    """Return the branches that make `branch` impossible: `a` and `a/b` for `a/b/c`."""
    parts = branch.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def in_the_way(prefix: str, branch: str, parent: str, remote: str | None = None) -> SystemFault:
    """Return the fault that a branch with the name of a folder of branches exists.

    `remote`: the remote that has it; None: this repository has it.
    """
    import shlex

    old, new = shlex.quote(parent), shlex.quote(f"{parent}-old")
    where, rename = "this repository", f"git branch -m {old} {new}"
    if remote is not None:
        # A remote has no rename. The local branch, if there is one, stays.
        where, name = f"the remote {remote!r}", shlex.quote(remote)
        refs = f"FETCH_HEAD:refs/heads/{new} :refs/heads/{old}"
        rename = f"git fetch {name} refs/heads/{old} && git push {name} {refs}"
    return SystemFault(
        f"a branch {parent!r} exists in {where}, so git cannot have the branch {branch!r}",
        f"set branch_prefix in .orchestrator/agents.yaml (now {prefix!r}) to another prefix, or "
        f"rename the branch: {rename}",
        code="branch_in_the_way",
    )
