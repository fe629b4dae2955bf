"""What the product made and may no longer need: one entry of the plan of `clean`."""

from orchestrator.model.fields import NamedTuple


class Item(NamedTuple):
    """One thing that the product made; `drop` says whether it is removed, `why` the reason."""

    #: worktree, set-aside, branch, rescue, damaged, leftover or lock.
    kind: str
    name: str
    drop: bool
    why: str
    #: The commit of a branch or a rescue ref when it was judged.
    commit: str = ""
