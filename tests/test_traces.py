"""`traces`: recorded runs and ticks as spans, sent to a collector that the test plays."""

from __future__ import annotations

import errno
import gzip
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from conftest import Done
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from test_history import HOUR, NOON, ended, told

from orchestrator import idle
from orchestrator.account import ledger, spans
from orchestrator.cli import context, output
from orchestrator.layout import Layout
from orchestrator.model.config import Agent
from orchestrator.model.errors import OrchestratorError
from orchestrator.project.run_record import ClientProcess, Ended, RunRecord
from orchestrator.system import extras, files, waits

Cli = Callable[..., Done]


class Collector:
    """A collector on loopback; it keeps the spans that it gets."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []
        self.status = 200
        #: The rest of the answer.
        self.headers: dict[str, str] = {}
        self.answer = b""
        #: Cleared, no request is answered until it is set.
        self.gate = threading.Event()
        self.gate.set()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                outer.gate.wait(30)
                outer.take(body)
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.answer)

            def log_message(self, *words: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def take(self, body: bytes) -> None:
        if self.status == 200:
            request = ExportTraceServiceRequest.FromString(body)
            for each in request.resource_spans:
                facts = {a.key: a.value.string_value for a in each.resource.attributes}
                self.resources.append(facts)
                for scope in each.scope_spans:
                    self.spans += scope.spans

    def end(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    made.end()


def write(layout: Layout, *events: dict[str, object]) -> None:
    with open(layout.events, "a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr(context, "now", lambda: now)


# --- what a span says ----------------------------------------------------------------------------


def record(**fields: Any) -> RunRecord:
    agent = Agent("impl-1", "implementer", position=0)
    return RunRecord(
        "R1", "impl-1", "implementer", "T-1", NOON, "finished", "/p", agent, 1, **fields
    )


def test_the_runs_of_a_task_and_its_reviews_are_one_trace() -> None:
    events = spans.Told(0.0)
    runs = ledger.collect(
        events.watched([
            told(NOON, "review_wanted", task="T-1", review="REVIEW-1"),
            ended(NOON, "R1"),
            ended(NOON, "R2", "approved", task="REVIEW-1"),
            ended(NOON, "R3", task="T-2"),
            ended(NOON, "R4", task=None),
        ]),
        0.0,
    )  # fmt: skip
    found = [spans.of_run(run, events.reviewed, None)[0] for run in runs]
    assert [span.trace for span in found] == ["task T-1", "task T-1", "task T-2", "run R4"]
    assert len({spans.number(span.about, 64) for span in found}) == 4
    assert 0 < spans.number("a", 128) < 2**128
    assert spans.number("a", 64) == spans.number("a", 64) < 2**64


@pytest.mark.parametrize(
    ("fields", "parts"),
    [
        ({}, []),
        ({"client": ClientProcess(1, None, NOON + 5)}, [("prepare", 5)]),
        (
            {
                "client": ClientProcess(1, None, NOON + 5),
                "ended": Ended(0, at=NOON + 65),
                "finished": NOON + 70,
            },
            [("prepare", 5), ("client", 60), ("conclude", 5)],
        ),
        # The clock was moved back during the run.
        ({"client": ClientProcess(1, None, NOON - 5), "ended": Ended(0, at=NOON)}, [("client", 5)]),
    ],
)  # fmt: skip
def test_a_run_has_the_parts_whose_times_are_known(
    fields: dict[str, Any], parts: list[tuple[str, int]]
) -> None:
    [run] = ledger.collect([ended(NOON + 600, "R1")], 0.0)
    whole, *found = spans.of_run(run, {}, record(**fields))
    assert [(span.name, span.end - span.start) for span in found] == parts
    assert all(span.parent == whole.about and span.trace == whole.trace for span in found)


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        *((verdict, None) for verdict in ("done", "needs_human", "stopped", "usage_limit")),
        *((verdict, "checks_failed: no") for verdict in ("failed", "system_fault", "interrupted")),
    ],
)
def test_a_run_that_failed_is_an_error_with_its_reason(verdict: str, error: str | None) -> None:
    event = ended(NOON, "R1", verdict, reason="checks_failed: no", model="big", input_tokens=7)
    [run] = ledger.collect([event], 0.0)
    [span] = spans.of_run(run, {}, None)
    assert span.error == error
    assert span.attributes["orchestrator.verdict"] == verdict
    assert span.attributes["gen_ai.request.model"] == "big"
    assert span.attributes["gen_ai.usage.input_tokens"] == 7
    assert "orchestrator.pr" not in span.attributes  # not known


def test_a_complete_tick_has_what_it_did_and_other_ticks_are_no_spans() -> None:
    minute = int(NOON) // 60 * 60
    events = spans.Told(NOON)
    list(events.watched([
        told(NOON - 60, "start", run="old"),
        told(NOON + 1, "start", agent="a", run="R1", checks=["x"]),
        told(NOON + 2, "added", by="human", task="T"),
        told(NOON + 3, "landing", reason="merged 1"),
    ]))  # fmt: skip
    noted = {minute: idle.WHOLE, minute + 60: idle.IDLE, minute + 120: idle.HELD}
    [span] = spans.of_ticks(noted, events.notes)
    assert (span.name, span.start, span.end) == ("tick", minute, NOON + 3)
    assert [note.name for note in span.notes] == ["start", "landing"]
    assert span.notes[0].attributes == {
        "orchestrator.agent": "a", "orchestrator.run": "R1",
    }  # fmt: skip


# --- what is sent --------------------------------------------------------------------------------


def test_each_span_is_sent_once_and_a_late_event_is_not_missed(
    cli: Cli, project: Layout, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, ended(NOON - 60, "R1", role="tester"), ended(NOON - 3 * 24 * HOUR, "R0"))
    at(monkeypatch, NOON)
    assert json.loads(cli("traces", "--dry-run", "--json").out) == {"spans": 1, "sent": 0}
    assert collector.spans == []
    assert json.loads(cli("traces", "--json").out) == {"spans": 1, "sent": 1}
    [span] = collector.spans
    assert span.name == "run tester"
    assert span.start_time_unix_nano == int(NOON - 660) * 10**9
    assert span.end_time_unix_nano == int(NOON - 60) * 10**9
    assert collector.resources[0]["orchestrator.project"] == os.path.basename(project.root)
    assert collector.resources[0]["service.name"] == "orchestrator"
    assert json.loads(cli("traces", "--json").out)["sent"] == 0
    # A tick that took long writes an older time; and the file is rotated meanwhile.
    os.rename(project.events, project.events_before)
    write(project, ended(NOON - 120, "R2"), ended(NOON + 60, "R3"))
    at(monkeypatch, NOON + 120)
    assert json.loads(cli("traces", "--json").out)["sent"] == 2
    assert json.loads(cli("traces", "--json").out)["sent"] == 0
    # Asked for, they are sent again as the same spans.
    assert json.loads(cli("traces", "--json", "--since", "1d").out)["sent"] == 3
    ids = [(span.trace_id, span.span_id) for span in collector.spans]
    assert len(ids) == 6
    assert len(set(ids)) == 3


def test_ticks_are_sent_by_whole_minutes(
    cli: Cli, project: Layout, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    minute = int(NOON) // 60 * 60
    os.makedirs(project.ticks, exist_ok=True)
    for place in range(4):
        idle.note_tick(project.ticks, minute - 60 * place, idle.WHOLE)
    at(monkeypatch, minute + 30)  # this minute's tick may not be complete
    assert json.loads(cli("traces", "--json").out)["sent"] == 3
    at(monkeypatch, minute + 60)
    assert json.loads(cli("traces", "--json").out)["sent"] == 1
    starts = [span.start_time_unix_nano // 10**9 for span in collector.spans]
    assert starts == [minute - 180, minute - 120, minute - 60, minute]


def test_what_a_collector_does_not_take_is_sent_the_next_time(
    cli: Cli, project: Layout, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, ended(NOON - 60, "R1"))
    at(monkeypatch, NOON)
    collector.status = 400  # not one of those after which the exporter tries again
    done = cli("traces", "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["code"] == "not_sent"
    collector.status = 200
    assert json.loads(cli("traces", "--json").out)["sent"] == 1
    # A damaged mark sends a day again instead of failing.
    files.write_atomic(os.path.join(project.cache, "traces.json"), b'{"runs": 3}')
    assert json.loads(cli("traces", "--json").out)["sent"] == 1


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (307, {"Location": "https://collector.example/v1/traces"}, "https://collector.example/v1"),
        (301, {}, "has moved to elsewhere (301)"),
        (304, {}, "(304)"),
        (200, {"Content-Type": "text/html; charset=utf-8"}, "a web page answers"),
    ],
)
def test_spans_that_no_collector_took_are_not_called_sent(
    cli: Cli,
    project: Layout,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    headers: dict[str, str],
    said: str,
) -> None:
    write(project, ended(NOON - 60, "R1"))
    at(monkeypatch, NOON)
    collector.status, collector.headers = status, headers
    done = cli("traces")
    assert done.code == 1
    assert said in done.err
    collector.status, collector.headers = 200, {}
    assert json.loads(cli("traces", "--json").out)["sent"] == 1


def test_a_person_is_told_what_takes_long_and_why_nothing_was_sent(
    cli: Cli, project: Layout, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, ended(NOON - 60, "R1"))
    at(monkeypatch, NOON)
    told: list[tuple[str, float]] = []

    def tell(what: str, left: float) -> None:
        told.append((what, left))
        collector.gate.set()

    collector.gate.clear()  # the collector answers when the person is told
    monkeypatch.setattr(waits, "FIRST", 0.01)
    monkeypatch.setattr(output, "waiting", tell)
    assert json.loads(cli("traces", "--json").out)["sent"] == 1
    assert told == [("the collector of traces", 9.99)]
    write(project, ended(NOON - 50, "R2"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and it does not listen
        url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        done = cli("traces")
    assert done.code == 1
    assert f"did not take the traces: {os.strerror(errno.ECONNREFUSED)}\n" in done.err


def test_what_the_collector_rejects_is_told_and_not_sent_again(
    cli: Cli, project: Layout, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, ended(NOON - 60, "R1"), ended(NOON - 50, "R2"), ended(NOON - 40, "R3"))
    at(monkeypatch, NOON)
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 2
    answer.partial_success.error_message = "too old"
    collector.headers = {"Content-Type": "application/x-protobuf"}
    collector.answer = answer.SerializeToString()
    done = cli("traces", "--json")
    assert json.loads(done.out) == {"spans": 3, "sent": 1}
    assert done.err == "warning: the collector rejected 2 spans: too old\n"
    assert json.loads(cli("traces", "--json").out) == {"spans": 0, "sent": 0}
    collector.answer = b"\xff no message"
    write(project, ended(NOON - 30, "R4"))
    done = cli("traces", "--json")
    assert json.loads(done.out)["sent"] == 1
    assert "cannot be read" in done.err


def test_a_clock_that_was_ahead_hides_no_later_run(
    cli: Cli, project: Layout, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(project, ended(NOON + 1000 * 24 * HOUR, "R1"))
    at(monkeypatch, NOON)
    assert json.loads(cli("traces", "--json").out)["sent"] == 1
    write(project, ended(NOON + 60, "R2"))
    at(monkeypatch, NOON + 120)
    assert json.loads(cli("traces", "--json").out)["sent"] == 1
    assert json.loads(cli("traces", "--json").out)["sent"] == 0


@pytest.mark.parametrize(
    ("variable", "code"), [("OTEL_EXPORTER_OTLP_ENDPOINT", 1), ("OTEL_EXPORTER_OTLP_TIMEOUT", 0)]
)
def test_a_wrong_variable_is_told(
    cli: Cli,
    project: Layout,
    collector: Collector,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    code: int,
) -> None:
    write(project, ended(NOON - 60, "R1"))
    at(monkeypatch, NOON)
    monkeypatch.setenv(variable, "nonsense")
    done = cli("traces")
    assert done.code == code
    assert "nonsense" in done.err


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/bin/python")  # no environment of the launcher
    with pytest.raises(OrchestratorError) as caught:
        extras.install("otel", ["no_such_library.sdk"], "traces")
    assert "orchestrator-agents[otel]" in (caught.value.hint or "")


def test_a_second_sender_waits_for_its_turn(
    cli: Cli, project: Layout, collector: Collector
) -> None:
    from orchestrator.system import locks

    with locks.Lock(os.path.join(project.cache, "traces.lock")):
        done = cli("traces", "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["code"] == "lock_held"
