"""The versions of the client: which are tested, and how the newest is compared with them."""

from __future__ import annotations

import re

import pytest
from client_differences import differences, startup_reasons
from conftest import CHECKOUT
from real_client import require_client

from orchestrator.client.claude import probe, startup

MAKEFILE = (CHECKOUT / "Makefile").read_text()


def version(name: str) -> tuple[int, ...]:
    found = re.search(rf"^{name} := ([\d.]+)$", MAKEFILE, re.MULTILINE)
    assert found, name
    return tuple(map(int, found[1].split(".")))


def test_the_oldest_client_that_is_tested_is_the_oldest_that_doctor_accepts() -> None:
    assert version("CLIENT_OLDEST") == probe.OLDEST < version("CLIENT_VERSION")


def test_ci_tests_both_versions() -> None:
    calls = re.findall(
        r"make --no-print-directory (.+?)(?: PYTHON.*)?$",
        (CHECKOUT / ".ci/run").read_text(),
        re.MULTILINE,
    )
    assert sorted(calls) == ["client-oldest", "test", "test client-oldest"]


def test_a_difference_names_the_side_that_has_it() -> None:
    old = {"version": {"2.1.1"}, "option": {"--old", "--both"}}
    new = {"version": {"2.1.1"}, "option": {"--new", "--both"}}
    assert differences(old, new) == ["- option --old", "+ option --new"]
    assert differences(old, old) == []


@pytest.mark.client
def test_each_reason_for_not_starting_has_its_hint() -> None:
    assert startup_reasons(require_client()) == startup.REFUSALS.keys()
