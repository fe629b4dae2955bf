"""The table of planted faults fits the code and the tests; `make faults` plays it."""

from __future__ import annotations

import re

import planted_faults
import play_faults
import pytest
import quick_variants
from planted_faults import FAULTS, Fault
from play_faults import CHECKOUT


def test_each_fault_changes_a_text_that_is_in_its_file_once() -> None:
    complaints = (planted_faults.not_in_place(fault, CHECKOUT) for fault in FAULTS)
    assert [complaint for complaint in complaints if complaint] == []
    assert [fault for fault in FAULTS if fault.old == fault.new] == []


def test_each_fault_is_found_by_a_test_that_make_test_runs() -> None:
    names = {
        name
        for path in (CHECKOUT / "tests").glob("*.py")
        for name in re.findall(r"^ *def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }
    assert {name for fault in FAULTS for name in fault.found_by} - names == set()
    slow = set(quick_variants.HELD_BY)
    assert [fault for fault in FAULTS if set(fault.found_by) <= slow] == []


def test_the_long_tests_without_a_fault_are_long_tests() -> None:
    assert set(planted_faults.OF_THE_CLIENT) <= set(quick_variants.HELD_BY)


def test_a_long_test_is_proven_by_a_fault_that_its_holder_finds_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held_by = {"test_long": "test_a", "test_longer": "test_a", "test_longest": "test_b"}
    monkeypatch.setattr(quick_variants, "HELD_BY", held_by)
    faults = (
        Fault("f", "x", "y", ("test_long", "test_a")),
        Fault("f", "x", "y", ("test_longest",)),
    )
    monkeypatch.setattr(planted_faults, "FAULTS", faults)
    assert planted_faults.unproven() == ["test_longer", "test_longest"]


def test_a_fault_whose_text_is_gone_is_reported() -> None:
    fault = Fault("Makefile", "no such text", "", ("test_a",))
    assert planted_faults.not_in_place(fault, CHECKOUT) == (
        "Makefile contains 'no such text' 0 times"
    )
    gone = Fault("no/such/file", "", "", ("test_a",))
    assert planted_faults.not_in_place(gone, CHECKOUT) == "there is no file no/such/file"


def test_a_test_finds_a_fault_if_a_variant_in_make_test_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quick_variants, "QUICK", {"test_a": ("x",)})
    monkeypatch.setattr(quick_variants, "HELD_BY", {"test_long": "test_a"})
    ended = {"test_a[x1]": "passed", "test_a[x2]": "skipped", "test_a[y]": "failed"}
    assert play_faults.outcomes("test_a", ended) == {"passed", "skipped"}
    assert play_faults.outcomes("test_long", {"test_long[x]": "failed"}) == {"failed"}
    assert play_faults.outcomes("test_other", ended) == set()


def test_a_test_of_a_contract_is_found_where_the_contract_is_used() -> None:
    own = play_faults.files_with("test_a_fault_whose_text_is_gone_is_reported", CHECKOUT)
    assert own == ["tests/test_planted_faults.py"]
    found = play_faults.files_with("test_a_task_is_claimed_once", CHECKOUT)
    assert {"tests/test_store.py", "tests/test_postgresql_store.py"} <= set(found)
