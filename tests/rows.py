"""All rows of a table in one test.

Each item of pytest takes some milliseconds in the processes that collect, run and report it: more
than a call of a pure function. A test that needs a fixture for each row, or a mark for some rows,
stays with `pytest.mark.parametrize`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest


def each_row(
    names: str | Sequence[str],
    rows: Iterable[Any],
    *,
    ids: Callable[[Any], object] | Sequence[str] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator: the test is called with each row, as by `pytest.mark.parametrize`.

    All rows are tried, up to a row that `pytest.fail` ends, as a time limit does. The test fails
    with a group of what was wrong, each with a note that names its row.
    """
    words = [*map(str.strip, names.split(","))] if isinstance(names, str) else [*names]
    table = [*rows]
    assert table, "no row would test nothing"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def all_rows(*others: Any, **fixtures: Any) -> None:
            wrong: list[BaseException] = []
            for number, row in enumerate(table):
                values = row if len(words) > 1 else (row,)
                try:
                    test(*others, **fixtures, **dict(zip(words, values, strict=True)))
                except (Exception, BaseExceptionGroup, pytest.fail.Exception) as error:
                    name = ids(row) if callable(ids) else ids[number] if ids else row
                    error.add_note(f"row {number}: {name!r:.500}")
                    wrong.append(error)
                    if not isinstance(error, Exception):
                        break
            if wrong:
                raise BaseExceptionGroup(f"{len(wrong)} of {len(table)} rows", wrong)

        signature = inspect.signature(test)
        left = [each for each in signature.parameters.values() if each.name not in words]
        assert len(left) + len(words) == len(signature.parameters), f"the test takes {words}"
        all_rows.__signature__ = signature.replace(parameters=left)  # type: ignore[attr-defined]
        return all_rows

    return decorate
