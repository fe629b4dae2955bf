"""What is asked of a repository: one git function per question.

The human's checkout, branch and index are never touched: everything happens in worktrees of the
product's own, by commit ids and full ref names.
"""

import itertools
import os
import re
from collections.abc import Collection, Mapping

from orchestrator.git import place, ref_files
from orchestrator.git.call import ask, lines, run
from orchestrator.model.errors import GitError

RESCUE = ref_files.RESCUE
#: What no name of a ref contains (git-check-ref-format(1)).
_NOT_IN_NAMES = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|\.lock(/|$)")
#: Commits of one delivery that are listed.
MOST_COMMITS = 20
#: Names that are tried for one rescue.
MOST_NAMES = 100


def git_folder(root: str) -> str:
    """Return the project's common git folder."""
    return ask(root, "rev-parse", "--path-format=absolute", "--git-common-dir")


def resolve(cwd: str, name: str) -> str | None:
    """Return the commit that a name resolves to; None if it does not resolve."""
    done = run(cwd, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return done.out.strip() if done.code == 0 else None


def current_branch(cwd: str) -> str | None:
    """Return the branch that is checked out in `cwd`; None when HEAD is detached."""
    # `--short` would lengthen the name of a branch if a tag has it, too.
    done = run(cwd, "symbolic-ref", "--quiet", "HEAD")
    return done.out.strip().removeprefix("refs/heads/") if done.code == 0 else None


def is_sparse(root: str) -> bool:
    """Return whether a checkout leaves files of its commit out (git-sparse-checkout(1))."""
    return run(root, "config", "--type=bool", "core.sparseCheckout").out.strip() == "true"


def described(cwd: str, commit: str) -> str | None:
    """Return a commit's subject and its committer, as others wrote them; None if it is unknown."""
    done = run(cwd, "log", "-1", "--format=%s, by %cn", commit, "--")
    return done.out.strip() or None if done.code == 0 else None


def is_ancestor(cwd: str, commit: str, of: str) -> bool:
    """Return whether `commit` is reachable from `of` (False if either commit is unknown)."""
    return run(cwd, "merge-base", "--is-ancestor", commit, of).code == 0


#: What `merge_base` found in this process, by the folder and the two commits' ids.
_BASES: dict[tuple[str, str, str], str] = {}


def merge_base(cwd: str, one: str, other: str) -> str | None:
    """Return the newest common commit of two commits; None if they have no common commit."""
    key, are_ids = (cwd, one, other), all(len(x) >= 40 and x.isalnum() for x in (one, other))
    if key not in _BASES:
        done = run(cwd, "merge-base", one, other)
        if done.code != 0 or not are_ids:
            return done.out.strip() if done.code == 0 else None
        _BASES[key] = done.out.strip()
    return _BASES[key]


def are_unrelated(cwd: str, one: str, other: str) -> bool:
    """Return whether git knows both commits, and they have no commit in common."""
    return run(cwd, "merge-base", one, other).code == 1


def is_shallow(root: str) -> bool:
    """Return whether the history is cut off (`git fetch --depth`, `git clone --depth`)."""
    return os.path.exists(os.path.join(place.common_folder(root), "shallow"))


def tracked(root: str, folder: str) -> list[str]:
    """Return the paths of the files below a folder of the checkout that are in the index."""
    return [name for name in ask(root, "ls-files", "-z", "--", folder).split("\0") if name]


def empty_tree(cwd: str) -> str:
    """Return the id of the tree without entries."""
    return ask(cwd, "hash-object", "-t", "tree", os.devnull)


def uncommitted(root: str, paths: Collection[str]) -> list[str]:
    """Return the files among these paths, and below them, that differ from the last commit.

    A file that git ignores is not among them. Paths are relative to the top of the checkout.
    """
    words = ("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all")
    said = ask(root, "--literal-pathspecs", *words, "--", *paths)
    return sorted(entry[3:] for entry in said.split("\0") if entry)


def update_ref(cwd: str, ref: str, commit: str, old: str | None = None) -> None:
    """Point a full ref name at a commit; with `old`, only if it still points there.

    A symbolic ref of the product's or of a remote's is replaced: what it leads to stays. A branch
    can be a person's symbolic ref.
    """
    how = () if ref.startswith("refs/heads/") else ("--no-deref",)
    ask(cwd, "update-ref", *how, ref, commit, *([old] if old is not None else []))


def is_at(root: str, ref: str, commit: str) -> bool:
    """Return whether a full ref name that was just written is at a commit, without asking git.

    Such a ref is a file of its own; False for another ref, and in a repository with reftables.
    """
    return place.words(os.path.join(place.common_folder(root), ref)) == commit


def have_ref(root: str, ref: str, commit: str) -> None:
    """Point a full ref name at a commit, unless it was just written there."""
    if not is_at(root, ref, commit):
        update_ref(root, ref, commit)


def make_plain(root: str, ref: str, *, keep: bool) -> None:
    """Make a ref that is symbolic a plain ref; with `keep` at the same commit, else it is deleted.

    What git writes to a symbolic ref, it writes to the ref to which that leads: an agent can let
    the branch of a task lead to the branch that a person has checked out. Symbolic refs are always
    files of their own (git-symbolic-ref(1)), also links, so that a plain ref costs no git process.
    """
    path = os.path.join(place.common_folder(root), ref)
    is_link = os.path.islink(path)
    if not is_link and not place.words(path).startswith("ref:"):
        return
    commit = resolve(root, ref)
    if is_link:
        os.unlink(path)
    else:
        ask(root, "symbolic-ref", "--delete", ref)
    if keep and commit:
        update_ref(root, ref, commit)


def refs(root: str, *patterns: str) -> dict[str, str]:
    """Return the refs with these full names, or below these names, each with its commit."""
    text = ask(root, "for-each-ref", "--format=%(objectname) %(refname)", *patterns)
    return {name: commit for commit, _, name in (x.partition(" ") for x in lines(text))}


def exact_refs(root: str, *names: str) -> dict[str, str]:
    """Return those of these full names that are refs, each with its commit.

    Takes as long with 100,000 other refs: `refs` reads each ref below a name.
    """
    # Git would take `refs/heads/main:` for the files of that branch.
    possible = [name for name in names if not _NOT_IN_NAMES.search(name)]
    known = ref_files.commits(root, possible)
    if known is not None:
        return known
    asked = "".join(f"{name}\n" for name in possible)
    said = lines(ask(root, "cat-file", "--batch-check=%(objectname)", stdin=asked))
    found = zip(possible, said, strict=True)
    return {name: commit for name, commit in found if not commit.endswith(" missing")}


def refs_since(root: str, pattern: str, since: float) -> dict[str, str]:
    """Return the refs below a name whose commits were made since then (epoch seconds)."""
    text = ask(
        root, "for-each-ref", "--format=%(committerdate:unix) %(objectname) %(refname)", pattern
    )
    rows = (line.split(" ", 2) for line in lines(text))
    return {name: commit for at, commit, name in rows if at.isdigit() and int(at) >= since}


def merged_refs(root: str, commit: str, *patterns: str) -> set[str]:
    """Return the full names of those refs whose commits are reachable from `commit`."""
    text = ask(root, "for-each-ref", f"--merged={commit}", "--format=%(refname)", *patterns)
    return set(lines(text))


def outside(root: str, commits: Collection[str], of: Collection[str], *options: str) -> set[str]:
    """Return the commits of `commits` that no commit of `of` reaches; `options` of git rev-list."""
    asked = "".join(f"{commit}\n" for commit in commits) + "".join(f"^{each}\n" for each in of)
    return set(commits) & set(lines(ask(root, "rev-list", *options, "--stdin", stdin=asked)))


def outside_refs(root: str, commits: Collection[str]) -> set[str]:
    """Return the commits of `commits` that no ref reaches; those that are gone are left out."""
    return outside(root, commits, set(refs(root).values()), "--ignore-missing")


def changed_in(root: str, commit: str) -> list[str]:
    """Return the files that a commit changed, compared with its first parent."""
    words = ("log", "-1", "-z", "--name-only", "--format=", "--diff-merges=first-parent", commit)
    return [name for name in ask(root, *words, "--").split("\0") if name]


def subjects(root: str, base: str, head: str, most: int) -> list[tuple[str, str]] | None:
    """Return the commits of `head` that `base` lacks, the newest first, each with its subject.

    `most` at most. None if git does not have both commits, which are given as full ids.
    """
    if not all(len(each) in (40, 64) and each.isalnum() for each in (base, head)):
        return None
    words = ("log", "--date-order", f"--max-count={most}", "--format=%H%x09%s", f"{base}..{head}")
    done = run(root, *words)
    if done.code != 0:
        return None
    return [(commit, said) for commit, _, said in (x.partition("\t") for x in lines(done.out))]


def has_path(root: str, commit: str, path: str) -> bool:
    """Return whether a commit has a file or a folder of this path, from the top."""
    return bool(ask(root, "ls-tree", "--name-only", commit, "--", path))


def tips(root: str, commits: Collection[str]) -> list[str]:
    """Return the commits of `commits` that no other of them reaches."""
    if len(commits) < 2:
        return list(commits)
    return lines(ask(root, "merge-base", "--independent", *sorted(commits)))


def delete_ref(root: str, ref: str, commit: str) -> None:
    """Delete a ref, if it still points at `commit`."""
    ask(root, "update-ref", "--no-deref", "-d", ref, commit)


def delete_refs(root: str, refs: Mapping[str, str]) -> set[str]:
    """Delete refs that still point at these commits, by full name; return which ones are deleted.

    Two git processes for all of them: with packed refs, each deletion writes all refs again.
    """
    words = ("update-ref", "--no-deref", "--stdin")
    asked = "".join(f"delete {ref} {commit}\n" for ref, commit in refs.items())
    if run(root, *words, stdin=asked).code == 0:
        return {*refs}
    # Git deletes all or nothing: a ref that has moved is left out.
    now = exact_refs(root, *refs)
    still = {ref: commit for ref, commit in refs.items() if now.get(ref) == commit}
    ask(root, *words, stdin="".join(f"delete {ref} {commit}\n" for ref, commit in still.items()))
    return {*still}


def keep(root: str, ref: str, commit: str) -> str:
    """Point a rescue ref at a commit; if the name is taken, also by a damaged ref, add a number."""
    names = itertools.chain([ref], (f"{ref}-{number}" for number in range(2, MOST_NAMES)))
    for name in names:
        there = resolve(root, name)
        if there == commit:
            return name
        # The empty value: only if there is no such ref. A damaged ref does not resolve, but exists.
        if there is None and run(root, "update-ref", name, commit, "").code == 0:
            return name
    raise GitError(f"git cannot keep {commit} under {ref}")


def is_on_a_ref(cwd: str, commit: str) -> bool:
    """Return whether any ref contains a commit."""
    return bool(ask(cwd, "for-each-ref", "--count=1", "--format=x", "--contains", commit))
