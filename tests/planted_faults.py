"""The table of planted faults, `planted_faults.toml`, and what can be wrong in it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

import quick_variants


@dataclass(frozen=True)
class Fault:
    """A small change of a file that breaks a promise."""

    #: The file, relative to the checkout.
    file: str
    #: A text that is in the file exactly once.
    old: str
    #: What replaces this text.
    new: str
    #: The names of the tests that find the fault.
    found_by: tuple[str, ...]


#: Long tests of the real client against the stand-in for its service. No code of the product takes
#: part, so no fault of the product makes them fail: they notice a client that behaves differently.
OF_THE_CLIENT = (
    "test_a_call_cut_off_by_sigkill_is_told_to_the_resumed_conversation",
    "test_a_client_that_is_not_signed_in_says_so_without_a_request",
    "test_a_tool_that_is_not_listed_is_denied_and_reported",
    "test_an_interrupted_conversation_resumes_in",
    "test_an_unknown_conversation_is_an_error_result",
    "test_sigterm_leaves_whole_lines_and_no_result",
    "test_without_a_call_of_structured_output_the_result_has_none",
)


def _read() -> tuple[Fault, ...]:
    """Return the table of `planted_faults.toml`."""
    found = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
    return tuple(Fault(**{**row, "found_by": tuple(row["found_by"])}) for row in found["fault"])


FAULTS = _read()


def not_in_place(fault: Fault, checkout: Path) -> str | None:
    """Return what is wrong if the text that the fault replaces is not in its file exactly once."""
    path = checkout / fault.file
    if not path.is_file():
        return f"there is no file {fault.file}"
    count = path.read_text().count(fault.old)
    return None if count == 1 else f"{fault.file} contains {fault.old!r} {count} times"


def unproven() -> list[str]:
    """Return the long tests of `HELD_BY` whose holder no fault has proven."""
    pairs = {(slow, holder) for f in FAULTS for slow in f.found_by for holder in f.found_by}
    return [
        slow
        for slow, holder in quick_variants.HELD_BY.items()
        if (slow, holder) not in pairs and slow not in OF_THE_CLIENT
    ]
