"""The commits of many ranges: one process of git per hundred ranges, and three if it fails."""

import heapq
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence

from orchestrator.git.call import ask, lines, run
from orchestrator.model.errors import GitError
from orchestrator.model.fields import NamedTuple

#: Ranges that are asked together. Those of one period are near each other, so that the walk from
#: their ends to what all of them have is short.
TOGETHER = 100
#: Commits of one delivery that are listed.
MOST_COMMITS = 20
_HEX = frozenset("0123456789abcdef")

#: A base and a head, as full commit ids.
Range = tuple[str, str]


class _Commit(NamedTuple):
    place: int
    parents: tuple[str, ...]
    subject: str


def subjects(root: str, ranges: Collection[Range], most: int) -> dict[Range, list[tuple[str, str]]]:
    """Return the commits of each range, `most` at most: those of the head that the base lacks.

    The newest are first, each with its subject. A range of which git does not have both commits is
    left out. Raises GitError.
    """
    found: dict[Range, list[tuple[str, str]]] = {}
    wanted = iter(dict.fromkeys(each for each in ranges if all(map(_is_id, each))))
    while some := list(itertools.islice(wanted, TOGETHER)):
        known, walked = some, _walk_from(root, some)
        if walked is None:
            there = _existing(root, some)
            known = [each for each in some if there.issuperset(each)]
            walked = _walk(root, known, _common(root, known)) if known else {}
        found |= {each: list(_between(walked, *each, most)) for each in known}
    return found


def _is_id(text: str) -> bool:
    return len(text) in (40, 64) and _HEX.issuperset(text)


def _existing(root: str, ranges: Sequence[Range]) -> set[str]:
    asked = "".join(f"{commit}^{{commit}}\n" for each in ranges for commit in each)
    found = lines(ask(root, "cat-file", "--batch-check=%(objectname)", stdin=asked))
    return set(filter(_is_id, found))


def _walk_from(root: str, ranges: Sequence[Range]) -> dict[str, _Commit] | None:
    """Walk to the base of the first range; None if another base lacks it, or git lacks a commit.

    The bases of a period are usually the commits that one branch had, the oldest first.
    """
    first = ranges[0][0]
    try:
        walked = _walk(root, ranges, [first])
    except GitError:
        return None
    above = {first}
    for commit, each in reversed(walked.items()):  # parents first
        if not above.isdisjoint(each.parents):
            above.add(commit)
    return walked if above.issuperset(base for base, _ in ranges) else None


def _common(root: str, ranges: Sequence[Range]) -> list[str]:
    """Return the commits that all bases have; [] for bases without a common commit."""
    bases = sorted({base for base, _ in ranges})
    return run(root, "merge-base", "--octopus", *bases).out.split() if bases[1:] else bases


def _walk(root: str, ranges: Sequence[Range], common: Sequence[str]) -> dict[str, _Commit]:
    """Return the commits from the ends of ranges to what all bases have, children first.

    Without a common commit, the walk is to the roots. Raises GitError if git lacks a commit.
    """
    asked = [*itertools.chain.from_iterable(ranges), *(f"^{commit}" for commit in common)]
    words = ("log", "--stdin", "--date-order", "--format=%H %P%x09%s")
    found = {}
    for place, line in enumerate(lines(ask(root, *words, stdin="".join(f"{x}\n" for x in asked)))):
        ids, _, subject = line.partition("\t")
        commit, *parents = ids.split()
        found[commit] = _Commit(place, tuple(parents), subject)
    return found


def _between(
    walked: Mapping[str, _Commit], base: str, head: str, most: int
) -> Iterator[tuple[str, str]]:
    """Yield the commits of a range. Every base has the commits that were not walked."""
    ahead = [(walked[commit].place, commit) for commit in {base, head} if commit in walked]
    heapq.heapify(ahead)
    met, of_base = {base, head}, {base}
    left = int(head in walked and head != base)
    while left and most:
        _, commit = heapq.heappop(ahead)
        is_new = commit not in of_base
        if is_new:
            yield commit, walked[commit].subject
            left, most = left - 1, most - 1
        for parent in filter(walked.__contains__, walked[commit].parents):
            if not is_new and parent not in of_base:
                of_base.add(parent)
                left -= parent in met
            if parent not in met:
                met.add(parent)
                heapq.heappush(ahead, (walked[parent].place, parent))
                left += is_new
