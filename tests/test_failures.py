"""`docs/failures.md`: each way in which such systems have failed has a test named after it."""

from __future__ import annotations

import functools
import re

from conftest import CHECKOUT

TABLE = CHECKOUT / "docs" / "failures.md"
ROWS = [*range(1, 23), 29, 32, *range(35, 42)]
_LINK = re.compile(r"\[`(test_\w+)`\]\(\.\./(tests/\w+\.py)\)")


def linked() -> dict[int, list[tuple[str, str]]]:
    """Return the tests that each row of the table links: name and file."""
    rows = re.findall(r"^\| (\d+) \|(.*)\|$", TABLE.read_text(), re.MULTILINE)
    return {int(number): _LINK.findall(row) for number, row in rows}


@functools.cache
def names_in(path: str) -> set[str]:
    return set(re.findall(r"^ *def (\w+)\(", (CHECKOUT / path).read_text(), re.MULTILINE))


def test_each_failure_has_a_test_named_after_it_and_only_tests_that_exist() -> None:
    found = linked()
    assert sorted(found) == ROWS
    for number, tests in found.items():
        assert any(name.startswith(f"test_failure_{number:02}_") for name, _ in tests), number
        assert [name for name, path in tests if name not in names_in(path)] == []


def test_every_test_named_after_a_failure_is_in_the_table() -> None:
    named = {
        name
        for path in (CHECKOUT / "tests").glob("test_*.py")
        for name in names_in(f"tests/{path.name}")
        if name.startswith("test_failure_")
    }
    assert named <= {name for tests in linked().values() for name, _ in tests}
