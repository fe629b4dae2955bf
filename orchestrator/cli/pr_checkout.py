"""A pull request in a person's checkout: `pr checkout`."""

from __future__ import annotations

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, command
from orchestrator.cli.pr import ID, find
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.work import PullRequest
from orchestrator.pulls import forges
from orchestrator.system.later import Later
from orchestrator.text.words import some

if TYPE_CHECKING:
    from orchestrator.git import abandoned_locks, base_branch, call, repository, worktree_commands
else:
    abandoned_locks, base_branch = Later("git.abandoned_locks"), Later("git.base_branch")
    call, repository = Later("git.call"), Later("git.repository")
    worktree_commands = Later("git.worktree_commands")

#: Maximum files in the way of a checkout that are named.
MOST_NAMED = 10


@command("pr checkout", ID)
def checkout(arguments: Namespace) -> None:
    """Check out the head of a pull request in your checkout, detached; no branch moves.
    Uncommitted changes of other files stay as they are.
    """
    layout = context.changing(arguments)
    config, number = forges.named(context.good_settings(layout).config, arguments.pr)
    pr, root = find(layout, config, number), layout.root
    remote = base_branch.remote_of(layout, config)
    if remote and repository.resolve(root, pr.head) is None:
        base_branch.fetch(layout, remote, [pr.branch])
    before = worktree_commands.state(root)
    # git refuses to overwrite a file that has changes or that it does not track, and to leave an
    # unfinished merge, rebase or bisect. Without the option it would overwrite ignored files.
    done = call.run(root, "switch", "--quiet", "--no-overwrite-ignore", "--detach", pr.head)
    if done.code:
        raise _not_switched(root, pr, done.err)
    back = before.branch or f"--detach {before.head}"
    said = f"{root} is at {pr.head[:12]}, the head of {pr.id}; back: git switch {back}"
    output.answer(arguments, {"id": pr.id, "commit": pr.head, "path": root}, said)


def _not_switched(root: str, pr: PullRequest, said: str) -> OrchestratorError:
    """Return why git did not check out a pull request, with the files that are in the way."""
    names = [line.strip() for line in call.lines(said) if line.startswith("\t")]
    why, first = call.reason(said), abandoned_locks.step(said) or "finish or abort that first"
    if names:
        why = f"your own contents of these files would be lost: {some(names, MOST_NAMED)}"
        first = "commit, stash or move these files"
    hint = f"{first}; or see the changes without a checkout: orchestrator pr diff {pr.id}"
    return OrchestratorError(f"git cannot switch {root}: {why}", hint, code="checkout_not_clean")
