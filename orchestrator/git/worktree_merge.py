"""A merge that is made in a worktree, for what `bare_merge` cannot merge without one."""

from orchestrator.git.call import ask, lines, reason, run
from orchestrator.git.worktree_commands import OUR_NAME, detach, quit_operations
from orchestrator.model.errors import GitError


def join(worktree: str, base: str, head: str, method: str, message: str) -> str | list[str]:
    """Bring `head` onto `base` in a detached worktree that is at `base`; return the new commit.

    `method` is merge (a merge commit), squash (one commit), rebase (a copy of each commit) or
    fast-forward (`head` itself, which contains the base). A squash or a rebase that changes no file
    is `base` itself: git makes no such commit.
    Returns the files in conflict instead; then everything is undone. Raises GitError.
    """
    if method == "fast-forward":
        return head
    if method == "rebase":
        detach(worktree, head)
        done = run(worktree, "rebase", "--quiet", base, extra=OUR_NAME)
    elif method == "squash":
        author = ask(worktree, "log", "-1", "--format=%an <%ae>", head)
        done = run(worktree, "merge", "--squash", "--quiet", head, extra=OUR_NAME)
        if done.code == 0 and run(worktree, "diff", "--cached", "--quiet").code == 0:
            return base
        if done.code == 0:
            named = ("--author", author, "-m", message)
            done = run(worktree, "commit", "--quiet", "--no-verify", *named, extra=OUR_NAME)
    else:
        words = ("--no-ff", "--quiet", "-m", message)
        done = run(worktree, "merge", *words, head, extra=OUR_NAME)
    if done.code == 0:
        return ask(worktree, "rev-parse", "HEAD")
    names = lines(ask(worktree, "diff", "--name-only", "--diff-filter=U"))
    quit_operations(worktree)
    detach(worktree, base)
    if not names:
        raise GitError(f"git {method} failed: {reason(done.err or done.out)}")
    return names
