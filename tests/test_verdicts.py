"""When a person's word outranks the review of an agent."""

from __future__ import annotations

from rows import each_row

from orchestrator.model.work import Given
from orchestrator.pulls import verdicts
from orchestrator.pulls.verdicts import APPROVED, CHANGES, SCHEDULER

#: An agent requests changes of commit A.
AGENTS = Given("rev-1", "agent", CHANGES, "A", "No.", "2026-01-01T00:00:03Z")


def person(
    by: str, verdict: str, second: int, commit: str = "A", *, settles: bool = False
) -> Given:
    return Given(by, "person", verdict, commit, "", f"2026-01-01T00:00:0{second}Z", settles)


@each_row(
    ("people", "expected"),
    [
        ([], False),
        ([person("ann", APPROVED, 1)], True),
        ([person("ann", APPROVED, 1, "B")], False),
        ([person("ann", CHANGES, 1)], False),
        ([person("ann", APPROVED, 1), person("bob", CHANGES, 2)], False),
        ([person("ann", APPROVED, 1, "B"), person("bob", APPROVED, 2)], True),
        ([person("ann", CHANGES, 1), person("ann", APPROVED, 2)], True),
        ([person("ann", APPROVED, 1), person("ann", CHANGES, 2)], False),
        ([person("bob", CHANGES, 1), person("ann", APPROVED, 2, settles=True)], True),
        ([person("ann", APPROVED, 1, settles=True), person("bob", CHANGES, 2)], False),
    ],
)
def test_an_agent_is_overruled_by_the_approval_of_its_commit_if_no_person_objects(
    people: list[Given], expected: bool
) -> None:
    assert verdicts.is_overruled(AGENTS, [*people, AGENTS]) is expected
    assert verdicts.is_overruled(AGENTS._replace(by=SCHEDULER), people) is False
    assert verdicts.is_overruled(person("eve", CHANGES, 3), people) is False
