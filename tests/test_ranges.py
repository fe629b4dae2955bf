"""The commits of many ranges are those that git shows for each range alone."""

from __future__ import annotations

import itertools
import random
import subprocess
from pathlib import Path

import pytest

from orchestrator.git import call, ranges

COUNT = 24


def branched(root: Path, seed: int) -> tuple[list[str], list[set[int]]]:
    """Make commits with merges and several roots; return ids, and what each can reach."""
    chance = random.Random(seed)
    script, reach = "", []
    for number in range(COUNT):
        parents = chance.sample(range(max(number - 6, 0), number), min(number, chance.randrange(4)))
        reach.append({number}.union(*(reach[parent] for parent in parents)))
        script += f"commit refs/heads/b{number}\nmark :{number + 1}\n"
        script += f"committer a <a@localhost> {1_700_000_000 + number} +0000\n"
        script += f"data {len(f'c{number}')}\nc{number}\n"
        for word, parent in zip(("from", "merge", "merge"), parents, strict=False):
            script += f"{word} :{parent + 1}\n"
        script += "\n"
    words = ["git", "-C", str(root), "fast-import", "--quiet"]
    subprocess.run(words, input=script, text=True, check=True)
    listed = subprocess.check_output(
        ["git", "-C", str(root), "rev-parse", *(f"b{number}" for number in range(COUNT))], text=True
    )
    return listed.split(), reach


@pytest.mark.parametrize("seed", range(3))
def test_each_range_has_the_commits_that_its_base_lacks(
    repo: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids, reach = branched(repo, seed)
    monkeypatch.setattr(ranges, "TOGETHER", COUNT * 8)
    pairs = list(itertools.product(range(COUNT), repeat=2))
    found = ranges.subjects(str(repo), [(ids[base], ids[head]) for base, head in pairs], 6)
    for base, head in pairs:
        wanted = sorted(reach[head] - reach[base], reverse=True)[:6]
        assert found[ids[base], ids[head]] == [(ids[each], f"c{each}") for each in wanted]
    base, head = COUNT // 2, COUNT - 1
    words = ("log", "--max-count=6", "--format=%H %s", ids[head], "--not", ids[base])
    shown = subprocess.check_output(["git", "-C", str(repo), *words], text=True)
    assert [" ".join(each) for each in found[ids[base], ids[head]]] == shown.splitlines()


def test_a_range_with_a_commit_that_git_lacks_is_left_out(repo: Path) -> None:
    ids, _ = branched(repo, 0)
    there, gone = (ids[0], ids[1]), "0" * 39 + "1"
    asked = [there, (gone, ids[1]), (ids[0], gone), ("", ids[1]), ("--all", ids[1]), ("b0", "b1")]
    assert list(ranges.subjects(str(repo), asked, 9)) == [there]
    assert ranges.subjects(str(repo), [], 9) == {}


def test_the_usual_period_takes_one_process_of_git(
    repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each delivery starts from what the base branch had then, and the base branch moves on."""
    ids, reach = branched(repo, 1)
    starts = [n for n in range(COUNT) if COUNT // 3 in reach[n]]
    pairs = [(base, head) for base in starts for head in starts if base in reach[head]]
    assert len(pairs) > COUNT // 3
    asked: list[tuple[str, ...]] = []

    def ask(*words: str, **more: str) -> str:
        asked.append(words)
        return call.ask(*words, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(ranges, "ask", ask)
    monkeypatch.setattr(ranges, "TOGETHER", len(pairs))
    found = ranges.subjects(str(repo), [(ids[base], ids[head]) for base, head in pairs], COUNT)
    assert [words[1] for words in asked] == ["log"]
    for base, head in pairs:
        told = [int(subject[1:]) for _, subject in found[ids[base], ids[head]]]
        assert told == sorted(reach[head] - reach[base], reverse=True)
