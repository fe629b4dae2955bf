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


def test_a_fault_whose_text_is_gone_is_reported() -> None:
    fault = Fault("Makefile", "no such text", "", ("test_a",))
    assert planted_faults.not_in_place(fault, CHECKOUT) == (
        "Makefile contains 'no such text' 0 times"
    )
    gone = Fault("no/such/file", "", "", ("test_a",))
    assert planted_faults.not_in_place(gone, CHECKOUT) == "there is no file no/such/file"


def test_a_test_finds_a_fault_if_a_variant_of_each_kind_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quick_variants, "QUICK", {"test_a": ("x",)})
    monkeypatch.setattr(quick_variants, "HELD_BY", {"test_long": "test_a"})
    ended = {"test_a[x]": "passed", "test_a[y]": "failed", "test_long": "skipped"}
    assert dict(play_faults.kinds("test_a", ended)) == {
        "in make slow": {"failed"},
        "in make test": {"passed"},
    }
    assert dict(play_faults.kinds("test_long", ended)) == {"in make slow": {"skipped"}}
    assert dict(play_faults.kinds("test_other", ended)) == {"in make test": set()}
