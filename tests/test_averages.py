"""The averages are those of `statistics`."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.account import averages

VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=30)


@given(VALUES)
def test_mean_and_median_are_those_of_the_library(values: list[float]) -> None:
    assert averages.mean(values) == pytest.approx(statistics.mean(values))
    assert averages.median(values) == pytest.approx(statistics.median(values))


@given(VALUES)
def test_quartiles_are_those_of_the_library(values: list[float]) -> None:
    if len(values) == 1:
        assert averages.quartiles(values) == (values[0],) * 3
        return
    theirs = statistics.quantiles(values, n=4, method="inclusive")
    assert averages.quartiles(values) == pytest.approx(tuple(theirs))
