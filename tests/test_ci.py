"""`.ci/run` has each program that a test needs."""

from __future__ import annotations

import re

from conftest import CHECKOUT


def test_each_package_that_a_test_needs_is_installed_by_ci() -> None:
    tests = "".join(path.read_text() for path in (CHECKOUT / "tests").glob("*.py"))
    needed = re.findall(r'needs\.program\("([^"]+)", "([^"]+)"\)', tests)
    assert len(needed) >= 6
    assert {":".join(pair) for pair in needed} <= set((CHECKOUT / ".ci/run").read_text().split())
