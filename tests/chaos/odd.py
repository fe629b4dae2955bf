"""What agents leave in their worktrees that git, or a later task, could stumble over.

Each way is a shell script, and ends the agent's work: the agent's own git may not work after it.
`left FILE` prints the name of a blob that nobody may lose; the checker reads it from the ledger.
"""

from __future__ import annotations

from typing import NamedTuple


class Way(NamedTuple):
    """A way to leave a worktree."""

    name: str
    script: str
    #: Whether git cannot keep all of it, so that the product sets the worktree aside.
    set_aside: bool = False


#: Says which content is left: the name of its blob after the word `left`. Needs no repository.
_LEFT = 'left() { echo "left $(git hash-object --no-filters "$1")"; }'
_COMMIT = 'git commit -q --allow-empty -m "left by $ORCHESTRATOR_RUN_ID"'

WAYS = (
    Way(
        "pipes and sockets",
        "mkdir -p odd && write odd/kept.txt && mkfifo odd/pipe odd/.gitignore .gitattributes && "
        "cd odd && python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"socket\")'",
    ),
    Way(
        "links",
        "write linked.txt && ln -s /etc/hostname out && ln -s ../../../.. up && ln -s . loop && "
        "ln -s nowhere dangling && ln -sf /etc/hostname README.md",
    ),
    Way("a closed folder", "mkdir -p shut/in && write shut/in/kept.txt && chmod 0 shut/in shut"),
    Way("files that nobody may write", "write fixed.txt && chmod 0400 fixed.txt app.py"),
    Way(
        "a repository inside",
        f"git init -q inside && write inside/kept.txt && cd inside && git add -A && {_COMMIT}",
        set_aside=True,
    ),
    Way("a repository inside without a commit", "git init -q bare && write bare/kept.txt", True),
    # Git reads a smaller file by mmap(2), which fills the holes of a file on tmpfs. On a busy
    # machine, git works on this file longer than it may.
    Way("a huge sparse file", "write beside.txt && truncate -s 520M huge.bin", set_aside=True),
    Way(
        "an encoding that the text does not have",
        "write encoded.txt && echo '*.txt working-tree-encoding=UTF-16' > .gitattributes",
        set_aside=True,
    ),
    Way(
        "filters that nobody has",
        "write filtered.txt && echo '* text=auto filter=odd merge=odd eol=crlf' > .gitattributes",
    ),
    Way(
        "locks of git",
        "write locked.txt && for each in index HEAD config.worktree; do "
        'touch "$(git rev-parse --git-path $each).lock"; done',
    ),
    Way(
        "locks that all worktrees share",
        'write locked.txt && cd "$(git rev-parse --git-common-dir)" && touch packed-refs.lock',
    ),
    Way(
        "changes that a flag hides",
        "write app.py && git update-index --assume-unchanged app.py && "
        "write README.md && git update-index --skip-worktree README.md",
    ),
    Way(
        "a branch of another name",
        'git checkout -q -b "other-$ORCHESTRATOR_RUN_ID" && write "$ORCHESTRATOR_RUN_ID.txt" && '
        f"git add -A && {_COMMIT}",
    ),
    Way("a renamed branch", 'write renamed.txt; git branch -m "renamed-$ORCHESTRATOR_RUN_ID"'),
    Way(
        "a branch without a commit",
        'write orphan.txt && git checkout -q --orphan "new-$ORCHESTRATOR_RUN_ID"',
        set_aside=True,
    ),
    Way(
        "a rebase in the middle",
        f"{_COMMIT} && git rebase -q -x false HEAD~1; write rebased.txt",
    ),
    Way(
        "a merge with a conflict",
        'here="$ORCHESTRATOR_RUN_ID.txt"; write "$here" && git add -A && '
        f'{_COMMIT} && first=$(git rev-parse HEAD) && git checkout -q --detach "$first~1" && '
        f'echo "other $here" > "$here" && left "$here" && git add -A && {_COMMIT} && '
        'git merge -q "$first" || true',
    ),
    Way("a stash", "write stashed.txt && git add stashed.txt && git stash -q"),
    Way(
        "odd names",
        "write \"$(printf 'two\\nlines')\" && write ./-rf && write \"$(printf 'byte-\\377')\" && "
        "write \"$(printf 'n%.0s' $(seq 250))\" && write ' '",
    ),
    Way(
        "a damaged index", 'write damaged.txt && echo x > "$(git rev-parse --git-path index)"', True
    ),
    Way("no link to the repository", "write unlinked.txt && rm -f .git", True),
    Way("another repository in its place", "write replaced.txt && rm -f .git && git init -q", True),
    Way("nothing at all", 'find "$PWD" -mindepth 1 -delete', True),
    Way("no folder at all", 'rm -rf "$PWD"'),
    Way("a shallow fetch", "write kept.txt && git fetch -q --depth=1 origin main"),
    Way(
        "a replaced commit",
        f'write kept.txt && {_COMMIT} && git replace HEAD "$(git commit-tree HEAD^{{tree}} -m x)"',
    ),
    Way(
        "a worktree inside",
        "write kept.txt && git worktree add -q -b inner-$ORCHESTRATOR_RUN_ID inner && cd inner && "
        f"write inner.txt && git add -A && {_COMMIT} && write more.txt",
        set_aside=True,
    ),
    Way(
        "grafts",
        'write kept.txt; git rev-parse HEAD > "$(git rev-parse --git-common-dir)/info/grafts"',
    ),
    Way(
        "the branch of another task",
        "write kept.txt; other=$(git for-each-ref --format='%(refname:short)' refs/heads/agent/ | "
        'grep -v "$ORCHESTRATOR_TASK_ID" | head -1); git add -A; git stash -q; '
        f'git checkout -q --ignore-other-worktrees "$other" && {_COMMIT}',
    ),
    Way(
        "no remote branches",
        "write kept.txt; git for-each-ref --format='delete %(refname)' refs/remotes/ | "
        "git update-ref --stdin",
    ),
    Way("a garbage collection", "write kept.txt && git gc -q; git worktree prune"),
)
_BY_NAME = {way.name: way for way in WAYS}


def argv(way: Way) -> list[str]:
    """Return the command that leaves a worktree in this way; its last word is the way's name."""
    write = 'write() { echo "$ORCHESTRATOR_RUN_ID $1" > "$1" && left "$1"; }'
    return ["sh", "-c", f"{_LEFT}; {write}; {way.script}", way.name]


def may_set_aside(command: list[str]) -> bool:
    """Return whether a command of the ledger leaves what only a worktree set aside can keep."""
    way = _BY_NAME.get(command[-1])
    return way is not None and way.set_aside
