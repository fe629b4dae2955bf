"""What some tests need of the machine.

Without it such a test is skipped by name; with CI=true it fails. A test that needs root has
`pytest.mark.root` instead: for other users it is skipped, and `.ci/run` runs it in a second pass.
"""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """End the test: skipped, or failed with CI=true. `reason` says how to get what is missing."""
    __tracebackhide__ = True  # pytest's summary names the test, not this file
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def program(name: str, package: str) -> str:
    """Return the path of a program, or end the test.

    `package` is Debian's package that has it; `.ci/run` installs those that tests name here.
    """
    __tracebackhide__ = True
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    return found or missing(f"{name} is not installed (Debian: apt install {package})")
