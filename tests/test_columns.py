"""Tables of the command line: they fit the terminal, and what a person copies stays whole."""

from __future__ import annotations

from rows import each_row

from orchestrator.cli import columns

RUN = "20260101T000000Z-0123456789a"
LONG = "a title that is much too long for one column of a small terminal, and says a lot"


def test_without_a_width_nothing_is_cut() -> None:
    found, heads = columns.lines(("id", "last outcome"), [("T-1", LONG), ("T-22", "-")])
    assert (found, heads) == (["ID    LAST OUTCOME", f"T-1   {LONG}", "T-22  -"], 1)


def test_a_narrow_table_cuts_titles_and_leaves_out_empty_columns() -> None:
    rows = [("T-1", "waiting", LONG, "-", "3"), ("T-22", "done", "short", "-", "14")]
    found, heads = columns.lines(("id", "state", "title", "reason", "failed runs"), rows, 60)
    assert heads == 2
    assert found[:2] == [
        "                                                      FAILED",
        "ID    STATE    TITLE                                  RUNS",
    ]
    assert [line.split()[0] for line in found[2:]] == ["T-1", "T-22"]
    assert found[2].rstrip().endswith("3")
    assert "…" in found[2]
    assert max(map(columns.cells, found)) <= 60


@each_row("width", [40, 60, 80])
@each_row("agent", ["impl-1", "an-agent-with-a-very-long-name-of-it", "日本語" * 9])
def test_an_id_is_never_cut(width: int, agent: str) -> None:
    when, task = "2026-01-01 00:00", "TASK-01234567"
    rows = [
        (RUN, when, agent, task, "changes_requested", "12 min", "0.5"),
        (RUN, when, "pm", "-", "done", "1 s", "0.5"),
    ]
    headings = ("run", "ended", "agent", "task", "outcome", "took", "usd")
    found, heads = columns.lines(headings, rows, width)
    assert found[heads] == RUN
    assert max(map(columns.cells, found)) <= width
    if width == 80:
        assert found[heads + 1].split()[:2] == when.split()
