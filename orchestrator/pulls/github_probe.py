"""Tries `gh` for `doctor`: whether it is installed, and signed in to the host of the repository."""

from __future__ import annotations

import re
from collections.abc import Mapping

from orchestrator.model.snapshot import Problem
from orchestrator.pulls.gh import Gh


def probe(gh: Gh, host: str, variables: Mapping[str, str], timeout: float) -> Problem | None:
    """Return why gh cannot be used with these environment variables; None if it can."""
    login = f"gh auth login --hostname {host}; or set `forge: local` in .orchestrator/agents.yaml"
    try:
        done = gh.call(("auth", "status", "--hostname", host), variables, timeout)
    except OSError:
        return Problem("forge_failed", "forge is github, but gh is not installed", login)
    if done.code is None:
        again = f"try: gh auth status --hostname {host}"
        return Problem("forge_failed", "gh did not answer in time", again)
    if done.code != 0 and not is_signed_in(done.out + done.err):
        return Problem("forge_failed", f"gh is not signed in to {host}", login)
    return None


def is_signed_in(said: str) -> bool:
    """Return whether the account in use is signed in, by what `gh auth status` said.

    It exits with 1 as soon as one of several accounts is signed out. gh 2.23 knows one account per
    host; later versions say which account is active.
    """
    accounts = re.split(
        r"(?=^\s*(?:✓|X|!|-)? ?(?:Logged in|Failed to log in) )", said, flags=re.MULTILINE
    )
    active = [each for each in accounts if re.search(r"Active account: true", each)]
    return any("Logged in to" in each for each in active or accounts)
