"""Documents and comments cite only files and sections that are in the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT

REFERENCE = CHECKOUT / "docs" / "reference.md"
FAILURES = CHECKOUT / "docs" / "failures.md"


@pytest.mark.parametrize(
    "document",
    ["docs/how-a-task-travels.md", "SECURITY.md", "CONTRIBUTING.md", "benchmarks/README.md"],
)
def test_each_file_that_a_document_names_exists(document: str) -> None:
    """A path is below the repository's root, below `orchestrator/`, or below `tests/`."""
    pattern = r"`([\w./-]+\.py|(?:bin|hooks|plugin)/[\w./-]*)`"
    names = sorted(set(re.findall(pattern, (CHECKOUT / document).read_text())))
    assert len(names) > 10
    for name in names:
        places = (CHECKOUT / name, CHECKOUT / "orchestrator" / name, CHECKOUT / "tests" / name)
        assert any(place.exists() for place in places), name


@pytest.mark.parametrize(
    "document",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/*.md", "benchmarks/*.md"],
)
def test_each_link_of_a_document_leads_to_a_file_and_a_heading(document: str) -> None:
    for path in CHECKOUT.glob(document):
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            name, _, heading = target.partition("#")
            if name.startswith(("https:", "http:")):
                continue
            linked = (path.parent / name) if name else path
            assert linked.exists(), f"{path.name}: {target}"
            if not heading:  # also a picture
                continue
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert heading in anchors, f"{path.name}: {target}"


# --- citations in the code ---------------------------------------------------------------------


def code() -> Iterator[Path]:
    for folder in ("orchestrator", "tests", "benchmarks"):
        yield from (path for path in (CHECKOUT / folder).rglob("*.py") if path != Path(__file__))


def cited(word: str) -> Iterator[tuple[str, str]]:
    """Yield each number that follows `word` in a comment or docstring, with its file's name.

    Several are written as `reference 7 and 8.2` or `failures 1, 3`.
    """
    number = r"\d+(?:\.\d+)?"
    for path in code():
        text = path.read_text()
        for numbers in re.findall(rf"\b{word} ({number}(?:(?:, | and ){number})*)", text):
            yield from ((path.name, each) for each in re.findall(number, numbers))


def test_a_section_of_the_reference_that_the_code_cites_exists() -> None:
    text = REFERENCE.read_text()
    sections = dict(re.findall(r"^## (\d+)\. .*?\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    found = list(cited("reference"))
    assert len(found) > 20
    for name, number in found:
        section, _, item = number.partition(".")
        assert section in sections, f"{name}: reference {number}"
        assert not item or f"\n{item}. " in sections[section], f"{name}: reference {number}"


def test_a_row_of_the_failures_that_the_code_cites_exists() -> None:
    rows = re.findall(r"^\| (\d+) \|", FAILURES.read_text(), re.MULTILINE)
    found = list(cited("failures"))
    assert len(found) > 10
    for name, number in found:
        assert number in rows, f"{name}: failures {number}"


def test_the_code_cites_no_document_that_is_not_in_the_repository() -> None:
    """Those names were once used for documents that readers of the repository do not have."""
    absent = re.compile(
        r"\b(CONTRACT|FAILURES) \d|\bSEED, \"[A-Z]|\b(CONTRACT|SEED|STYLE|LAYOUT|WORDS)\.md"
    )
    found = [
        f"{path.relative_to(CHECKOUT)}:{number}"
        for path in code()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if absent.search(line)
    ]
    assert found == []
