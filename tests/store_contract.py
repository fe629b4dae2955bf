"""What every store of tasks must do, wherever it keeps the tasks.

A test module inherits `StoreContract`, names the class in `kind` and implements `spoil`; no test
here knows files.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from orchestrator import idle
from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.work import STATES, Entry, Task
from orchestrator.tasks import rewrite, stores, task_file
from orchestrator.tasks.store import Store
from orchestrator.tasks.task_file import TaskFile

AT = "2026-11-22T09:00:00Z"
MakeStore = Callable[[], Store]


def new_task(task_id: str = "T1", title: str | None = None, **more: Any) -> TaskFile:
    facts = {
        "role": "implement",
        "priority": None,
        "branch": None,
        "created": AT,
        "created_by": "person",
        "depends_on": (),
        "body": "## Context\nWhy, and ünicode.\n",
        **more,
    }
    return task_file.new(task_id, title or f"Title of {task_id}", **facts)


def entry(event: str, run: str | None = None, **fields: object) -> Entry:
    return Entry(AT, event, {**({"run": run} if run else {}), **fields})


def claim(store: Store, task: Task, run: str = "R1", limit: int = 5) -> Task | None:
    return store.claim(task, entry("claimed", run, agent="impl", branch=f"agent/{task.id}"), limit)


class StoreContract:
    """The tests of the protocol. `make_store()` opens the queue of this test once more."""

    kind: Callable[[Layout], Store]

    @pytest.fixture
    def layout(self, tmp_path: Path) -> Layout:
        found = Layout(str(tmp_path))
        os.makedirs(found.cache)
        return found

    @pytest.fixture
    def make_store(self, layout: Layout) -> MakeStore:
        kind = type(self).kind
        kind(layout).prepare()
        return lambda: kind(layout)

    @pytest.fixture
    def store(self, make_store: MakeStore) -> Store:
        return make_store()

    @staticmethod
    def where(store: Store, task_id: str) -> list[str]:
        """Every state in whose listing the task stands."""
        return [state for state in STATES if task_id in [t.id for t in store.list(state).tasks]]

    def spoil(self, layout: Layout, task: Task) -> None:
        """Make a task of the queue unreadable, as a person or another program could do it."""
        raise NotImplementedError

    def test_an_unreadable_task_is_reported_and_hides_no_other_task(
        self, layout: Layout, store: Store
    ) -> None:
        for task_id in ("T1", "T2"):
            store.add(new_task(task_id))
        self.spoil(layout, store.find("T1"))
        listing = store.list("incoming")
        assert [task.id for task in listing.tasks] == ["T2"]
        [bad] = listing.malformed
        assert "T1" in bad.where
        assert bad.reason
        assert [problem.code for problem in store.findings(time.time())] == ["task_malformed"]
        with pytest.raises(OrchestratorError):
            store.find("T1")

    # --- adding and finding --------------------------------------------------------------------

    def test_a_fresh_queue_is_empty_in_every_state(self, store: Store) -> None:
        assert store.counts() == dict.fromkeys(STATES, 0)
        for state in STATES:
            assert store.list(state) == ((), ()) or not any(
                (store.list(state).tasks, store.list(state).malformed)
            )

    def test_an_added_task_waits_and_every_other_handle_sees_it(
        self, store: Store, make_store: MakeStore
    ) -> None:
        store.add(new_task(priority="P1", branch="develop", depends_on=("T0",)))
        found = make_store().find("T1")
        assert (found.state, found.title, found.role) == ("incoming", "Title of T1", "implement")
        assert (found.priority, found.branch, found.depends_on) == ("P1", "develop", ("T0",))
        assert (found.attempts, found.claimed_by, found.run, found.pr) == (0, None, None, None)
        assert make_store().list("incoming").tasks == (found,)
        assert store.counts() == {**dict.fromkeys(STATES, 0), "incoming": 1}

    def test_a_task_is_read_back_as_it_was_written(self, store: Store) -> None:
        written = new_task(extra=[("X-Estimate", "3 days"), ("PR", "7")])
        store.add(written)
        read = store.read(store.find("T1"))
        assert read.raw == written.raw
        assert read.get("x-estimate") == "3 days"

    @pytest.mark.parametrize("state", STATES)
    def test_an_id_that_a_task_in_any_state_has_is_refused(self, store: Store, state: str) -> None:
        store.add(new_task())
        if state != "incoming":
            store.move(store.find("T1"), state, entry("moved"))
        with pytest.raises(OrchestratorError) as refused:
            store.add(new_task(title="Another"))
        assert refused.value.code == "duplicate_task"
        assert store.find("T1").title == "Title of T1"

    def test_what_is_not_there_is_not_found_and_the_nearest_id_is_named(self, store: Store) -> None:
        store.add(new_task("TASK-0badf00d"))
        with pytest.raises(NotFound) as refused:
            store.find("TASK-0badfood")
        assert "TASK-0badf00d" in (refused.value.hint or "")

    def test_a_task_that_moves_before_it_is_read_is_read_where_it_is_then(
        self, store: Store, make_store: MakeStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for task_id in ("T1", "T2"):
            store.add(new_task(task_id))
        other, get = make_store(), store.get

        def moving(task_id: str) -> Task | None:
            task = get(task_id)
            if task is not None and task.state == "incoming":
                claim(other, task)
            elif task is not None and task.state == "claimed":
                other.move(task, "done", entry("done", "R1"))
            return task

        monkeypatch.setattr(store, "get", moving)
        task, file = stores.whole(store, "T1")
        found = stores.with_history(store, "T2")
        assert found is not None
        # A store that reads both at once sees the task before it moves.
        moves = {"incoming": [], "claimed": ["claimed"], "done": ["claimed", "done"]}
        for state, history in ((task.state, file.history), (found[0].state, found[1])):
            assert [each.event for each in history] == moves[state]

    @pytest.mark.parametrize("odd", ["", "..", "../T1", "T1/..", "T1.md", "t1", "-", "a" * 300])
    def test_no_odd_word_finds_a_task(self, store: Store, odd: str) -> None:
        store.add(new_task())
        with pytest.raises(NotFound):
            store.find(odd)

    def test_new_ids_are_ids_that_no_task_has_and_sort_as_they_were_made(
        self, store: Store
    ) -> None:
        made = []
        for _ in range(30):
            task_id = store.new_id()
            assert task_file.is_id(task_id)
            store.add(new_task(task_id))
            made.append(task_id)
        assert made == sorted(set(made))
        assert [task.id for task in store.list("incoming").tasks] == made

    # --- order ---------------------------------------------------------------------------------

    def test_tasks_are_listed_by_priority_then_creation_then_name(self, store: Store) -> None:
        early, late = "2026-01-01T00:00:00Z", "2026-01-01T01:00:00+00:00"
        expected = [
            new_task("Z1", priority="P0", created=late),
            new_task("B1", priority="P1", created=early),
            new_task("A1", priority="P1", created=late),
            new_task("A2", priority="P1", created=late),
            new_task("C1", created=early),  # P2 where none is said
            new_task("C2", priority="P2", created=late),
            new_task("A3", priority="P3", created=early),
        ]
        for file in sorted(expected, key=lambda file: file.id[::-1]):
            store.add(file)
        assert [task.id for task in store.list("incoming").tasks] == [file.id for file in expected]

    def test_times_that_cannot_be_read_sort_last_and_stop_no_other_task(self, store: Store) -> None:
        store.add(new_task("A1", created="yesterday"))
        store.add(new_task("A2", created="2026-01-01"))
        store.add(new_task("A3", created="9999-99-99T99:99:99Z"))
        assert [task.id for task in store.list("incoming").tasks] == ["A2", "A1", "A3"]

    # --- claiming ------------------------------------------------------------------------------

    def test_a_claimed_task_says_who_has_it(self, store: Store, make_store: MakeStore) -> None:
        store.add(new_task())
        task = claim(store, store.find("T1"))
        assert task is not None
        assert (task.state, task.claimed_by, task.run) == ("claimed", "impl", "R1")
        assert task.work_branch == "agent/T1"
        assert make_store().find("T1") == task
        assert self.where(store, "T1") == ["claimed"]

    def test_a_task_is_claimed_once(self, store: Store, make_store: MakeStore) -> None:
        store.add(new_task())
        seen_by_both = store.find("T1")
        assert claim(store, seen_by_both, "R1") is not None
        assert claim(make_store(), seen_by_both, "R2") is None
        assert store.find("T1").run == "R1"

    @pytest.mark.parametrize("limit", [0, 1, 3])
    def test_no_more_is_claimed_than_the_limit_and_a_refusal_changes_nothing(
        self, store: Store, limit: int
    ) -> None:
        for number in range(limit + 1):
            store.add(new_task(f"T{number}"))
        waiting = store.list("incoming").tasks
        for task in waiting[:limit]:
            assert claim(store, task, limit=limit) is not None
        assert claim(store, waiting[limit], limit=limit) is None
        assert store.find(waiting[limit].id) == waiting[limit]
        assert store.counts()["claimed"] == limit

    def test_a_claim_that_ended_makes_room_for_another(self, store: Store) -> None:
        store.add(new_task("T1"))
        store.add(new_task("T2"))
        first, second = store.list("incoming").tasks
        held = claim(store, first, limit=1)
        assert held is not None
        assert claim(store, second, limit=1) is None
        store.move(held, "done", entry("done", "R1"))
        assert claim(store, second, limit=1) is not None

    def test_many_claiming_at_once_get_each_task_once_within_the_limit(
        self, store: Store, make_store: MakeStore
    ) -> None:
        for number in range(12):
            store.add(new_task(f"T{number:02}"))
        got: list[str] = []

        def grab(name: str) -> None:
            mine = make_store()
            for task in mine.list("incoming").tasks:
                if claim(mine, task, f"R-{name}", limit=9) is not None:
                    got.append(task.id)

        threads = [threading.Thread(target=grab, args=(str(n),)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == sorted(set(got))
        assert sorted(got) == sorted(task.id for task in store.list("claimed").tasks)
        assert len(got) == 9

    # --- moving --------------------------------------------------------------------------------

    def test_a_task_is_in_exactly_one_state_wherever_it_goes(self, store: Store) -> None:
        store.add(new_task())
        task = store.find("T1")
        for origin in STATES:
            for state in STATES:
                task = store.move(task, origin, entry("moved", None, to=origin))
                task = store.move(task, state, entry("moved", None, to=state))
                assert task.state == state
                assert self.where(store, "T1") == [state]
                assert sum(store.counts().values()) == 1

    def test_a_move_from_where_the_task_no_longer_is_is_refused(
        self, store: Store, make_store: MakeStore
    ) -> None:
        store.add(new_task())
        stale = store.find("T1")
        claim(make_store(), stale)
        with pytest.raises(NotFound):
            store.move(stale, "done", entry("done", "R9"))
        with pytest.raises(NotFound):
            store.note(stale, entry("review", "R9"))
        with pytest.raises(NotFound):
            store.read(stale)
        assert self.where(store, "T1") == ["claimed"]
        assert [e.event for e in store.read(store.find("T1")).history] == ["claimed"]

    def test_history_grows_in_order_and_the_persons_part_stays_byte_for_byte(
        self, store: Store
    ) -> None:
        written = new_task(extra=[("x-unknown", "kept")], body="Text  \n\n- [ ] crit\n\n\n")
        store.add(written)
        task = claim(store, store.find("T1"))
        assert task is not None
        task = store.move(task, "incoming", entry("requeued", "R1", charged=True, reason="stalled"))
        task = claim(store, task, "R2")
        assert task is not None
        task = store.move(task, "done", entry("done", "R2", pr="3", note="naïve\n\u2028 ☃"))
        read = store.read(task)
        assert [e.event for e in read.history] == ["claimed", "requeued", "claimed", "done"]
        assert read.history[-1].fields["note"] == "naïve\n\u2028 ☃"
        assert read.raw.startswith(written.raw)
        assert (task.attempts, task.pr, task.claimed_by) == (1, "3", None)

    @pytest.mark.parametrize("state", STATES)
    def test_a_rewritten_task_keeps_its_state_and_its_history(
        self, store: Store, make_store: MakeStore, state: str
    ) -> None:
        store.add(new_task())
        task = store.move(store.find("T1"), state, entry("moved", "R1", why="ünicode"))
        before = store.read(task)
        text = rewrite.text_of(before).replace("Title of", "Other").replace("Why", "Because")
        found = make_store().rewrite(task, text)
        after = store.read(found)
        assert (found.state, found.title, found.role) == (state, "Other T1", "implement")
        assert after.history == before.history
        assert after.raw == text.encode() + before.raw[len(rewrite.text_of(before).encode()) :]
        assert self.where(store, "T1") == [state]
        assert store.rewrite(found, rewrite.text_of(before)).title == "Title of T1"
        assert store.read(store.find("T1")).raw == before.raw

    def test_a_text_that_is_no_task_or_another_task_is_refused(self, store: Store) -> None:
        store.add(new_task())
        task, raw = store.find("T1"), store.read(store.find("T1")).raw
        for text in ("", "no title", "# [T1] Title\n", "# [T2] Title\nROLE: implement\n"):
            with pytest.raises(OrchestratorError):
                store.rewrite(task, text)
        assert store.read(task).raw == raw
        store.move(task, "failed", entry("cancelled"))
        with pytest.raises(NotFound):
            store.rewrite(task, raw.decode())

    def test_a_note_is_remembered_and_moves_nothing(self, store: Store) -> None:
        store.add(new_task())
        noted = store.note(store.find("T1"), entry("delivered", "R1", pr="4"))
        assert (noted.state, noted.pr) == ("incoming", "4")
        assert self.where(store, "T1") == ["incoming"]

    @pytest.mark.parametrize("state", STATES)
    def test_a_step_that_is_repeated_after_a_crash_is_remembered_once(
        self, store: Store, make_store: MakeStore, state: str
    ) -> None:
        store.add(new_task())
        step = entry("requeued", "R1", charged=True)
        task = store.note(store.find("T1"), step)  # the crash came before the task moved
        task = make_store().move(task, state, step)
        task = make_store().move(task, state, step)  # and once more after it had
        assert task.attempts == 1
        assert [e.event for e in store.read(task).history] == ["requeued"]

    def test_the_same_event_of_another_run_is_another_event(self, store: Store) -> None:
        store.add(new_task())
        task = store.find("T1")
        for run in ("R1", "R2"):
            task = store.note(task, entry("requeued", run, charged=True))
        assert task.attempts == 2

    def test_what_a_person_does_twice_is_remembered_twice(self, store: Store) -> None:
        store.add(new_task())
        task = store.find("T1")
        for text in ("yes", "yes"):
            task = store.note(task, entry("answered", text=text))
        assert len(store.read(task).history) == 2

    def test_a_claim_that_a_crash_left_half_done_leaves_the_task_waiting(
        self, store: Store
    ) -> None:
        store.add(new_task())
        task = store.note(store.find("T1"), entry("claimed", "R1", agent="gone", branch="agent/x"))
        assert (task.state, task.claimed_by) == ("incoming", None)
        taken = claim(store, task, "R2")
        assert taken is not None
        assert (taken.claimed_by, taken.run, taken.work_branch) == ("impl", "R2", "agent/x")

    # --- titles --------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("title", "role", "states", "found"),
        [
            ("Add input validation", "implement", ("incoming",), True),
            ("  add   INPUT\tvalidation ", "implement", ("incoming",), True),
            ("Add input validation", None, ("incoming",), True),
            ("Add input validation", "test", ("incoming",), False),
            ("Add input validation", "implement", ("claimed", "done"), False),
            ("Add input", "implement", STATES, False),
            ("Fertig: GRÖSSE", "implement", STATES, True),
            ("Fertig: größe", "implement", STATES, True),
        ],
    )
    def test_titles_are_compared_without_case_and_runs_of_blanks(
        self, store: Store, title: str, role: str | None, states: tuple[str, ...], found: bool
    ) -> None:
        store.add(new_task("T1", "Add Input Validation"))
        store.add(new_task("T2", "Fertig: Grösse"))
        store.move(store.find("T2"), "failed", entry("failed", "R1"))
        if title == "Fertig: größe":
            store.add(new_task("T3", "fertig:  GRÖẞE"))
        assert (store.has_title(title, role, states) is not None) is found

    # --- the lock ------------------------------------------------------------------------------

    def test_changes_can_be_made_under_the_lock_that_they_themselves_take(
        self, store: Store
    ) -> None:
        with store.change():
            store.add(new_task())
            with store.change():
                assert claim(store, store.find("T1")) is not None
            store.move(store.find("T1"), "done", entry("done", "R1"))
        assert self.where(store, "T1") == ["done"]

    def test_what_is_decided_under_the_lock_holds_while_it_is_held(
        self, store: Store, make_store: MakeStore
    ) -> None:
        entered, done = threading.Event(), threading.Event()

        def rival() -> None:
            entered.set()
            make_store().add(new_task("T2"))
            done.set()

        with store.change():
            thread = threading.Thread(target=rival)
            thread.start()
            assert entered.wait(10)
            assert not done.wait(0.1)
            assert store.list("incoming").tasks == ()
        thread.join(10)
        assert done.is_set()

    # --- the place where the queue is ----------------------------------------------------------

    @staticmethod
    def changes(store: Store) -> Iterator[Callable[[], object]]:
        yield lambda: store.add(new_task())
        yield lambda: claim(store, store.find("T1"))
        yield lambda: store.move(store.find("T1"), "incoming", entry("requeued", "R1"))
        yield lambda: store.move(store.find("T1"), "done", entry("done"))
        yield lambda: store.note(store.find("T1"), entry("review"))

    @pytest.mark.parametrize("state", ["incoming", "done"])
    def test_pages_follow_each_other_without_a_gap_and_a_repetition(
        self, store: Store, state: str
    ) -> None:
        for number in range(7):
            store.add(new_task(f"T{number}", f"{'Odd' if number % 2 else 'Even'}  number {number}"))
            if state == "done":
                store.move(store.find(f"T{number}"), "done", entry("done"))
        seen: list[Task] = []
        while page := list(islice(store.browse(state, after=seen[-1] if seen else None), 3)):
            assert len(page) <= 3
            seen += page
        assert sorted(task.id for task in seen) == [f"T{number}" for number in range(7)]
        assert {task.state for task in seen} == {state}
        odd = [task.id for task in store.browse(state, "odd NUMBER")]
        assert sorted(odd) == ["T1", "T3", "T5"]
        assert [task.id for task in store.browse(state, " t4 ")] == ["T4"]
        rest = [task.id for task in store.browse(state, "odd", store.find(odd[0]))]
        assert rest == odd[1:]
        assert list(store.browse("failed")) == list(store.browse(state, "nothing")) == []

    def test_every_change_removes_the_idle_ticks_stamp(self, layout: Layout, store: Store) -> None:
        for change in self.changes(store):
            Path(layout.idle_stamp).write_text("stamp")
            change()
            assert not os.path.exists(layout.idle_stamp)

    def test_every_move_shows_in_the_times_of_the_watched_paths_or_in_the_number(
        self, store: Store
    ) -> None:
        for number, change in enumerate(self.changes(store)):
            watched = store.watched()
            if watched is None or number == 4:  # a note on a finished task concerns no tick
                break
            for path in filter(os.path.exists, watched.paths):
                os.utime(path, (number, number))
            before = [store.number(), *map(idle.mark, watched.paths)]
            change()
            assert [store.number(), *map(idle.mark, watched.paths)] != before

    def test_a_queue_that_is_in_order_has_no_findings_and_no_leftovers(self, store: Store) -> None:
        for change in self.changes(store):
            change()
            assert list(store.findings(time.time())) == []
            assert list(store.leftovers(time.time() + 1)) == []

    def test_a_queue_that_is_not_there_is_empty_and_doctor_is_told(self, tmp_path: Path) -> None:
        store = type(self).kind(Layout(str(tmp_path)))
        assert store.counts() == dict.fromkeys(STATES, 0)
        assert all(store.list(state).tasks == () for state in STATES)
        with pytest.raises(NotFound):
            store.find("T1")
        assert "permissions" in {problem.code for problem in store.findings(time.time())}

    def test_preparing_again_and_taking_away_keep_the_tasks(
        self, store: Store, make_store: MakeStore
    ) -> None:
        store.add(new_task())
        store.take_away()
        store.take_away()
        make_store().prepare()
        found = make_store().find("T1")
        assert claim(make_store(), found) is not None
