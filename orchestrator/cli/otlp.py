"""Sends spans to a collector, by OTLP over HTTP, through OpenTelemetry's SDK.

Only `traces` imports it. The exporter is called directly: a processor of the SDK would keep the
process alive for seconds after a failure, and would not say that spans were lost.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import threading
from collections.abc import Iterator, Sequence

import requests
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from orchestrator import __version__
from orchestrator.account.spans import Span, number
from orchestrator.model.annotations import Any
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.system import waits
from orchestrator.text.words import count

#: Spans in one request.
BATCH = 500
HINT = (
    "is a collector listening? OTEL_EXPORTER_OTLP_ENDPOINT is its address "
    "(default: http://localhost:4318); the same spans are sent the next time"
)


#: Names of plug-ins that make the SDK's session; the answers in such a session are not looked at.
_PLUG_INS = (
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER",
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER",
)


class Sent(NamedTuple):
    """What became of spans that were sent."""

    #: How many of them the collector rejected. It would reject them again.
    rejected: int
    #: What the SDK and the collector said, for people.
    warnings: list[str]


class _Session(requests.Session):
    """Reads the answers of a collector, of which the exporter looks at the status only.

    The exporter follows no redirect and counts each status below 400 as success
    (findings/redirected-spans-count-as-sent.sh), and also that of a page for people to sign in.
    https://opentelemetry.io/docs/specs/otlp/#partial-success has what a collector may reject.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rejected = 0
        self.said: list[str] = []
        #: Why the last request had no answer; empty if it had one.
        self.why = ""

    def request(self, *words: Any, **options: Any) -> requests.Response:
        """Make a request. Raises InvalidURL if no collector answers."""
        try:
            answer = super().request(*words, **options)
        except requests.exceptions.RequestException as error:
            self.why = _why(error)
            raise
        self.why = ""
        kind = answer.headers.get("Content-Type", "")
        if 300 <= answer.status_code < 400:
            message = f"the address has moved to {answer.headers.get('Location', 'elsewhere')}"
            raise requests.exceptions.InvalidURL(f"{message} ({answer.status_code})")
        if answer.ok and kind.startswith("text/html"):
            raise requests.exceptions.InvalidURL("a web page answers, and not a collector")
        if answer.ok and kind.startswith("application/x-protobuf"):
            self._read(answer.content)
        return answer

    def _read(self, content: bytes) -> None:
        try:
            found = ExportTraceServiceResponse.FromString(content).partial_success
        except DecodeError:
            self.said.append("the answer of the collector cannot be read")
            return
        self.rejected += found.rejected_spans
        if found.rejected_spans or found.error_message:
            rejected = count(found.rejected_spans, "span")
            self.said.append(f"the collector rejected {rejected}: {found.error_message}")


def _why(error: BaseException) -> str:
    """Return why a request had no answer, as the system says it if it does."""
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error)


class _Heard(logging.Handler):
    """Keeps what the SDK says: about a failure, and about variables with wrong values."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


def send(spans: Sequence[Span], project: str, key: str) -> Sent:
    """Send spans; the variables `OTEL_...` say where to, and how long it may take.

    `project` is its name; `key` tells apart the projects that one collector hears of. Raises
    OrchestratorError if a request fails; those before it have arrived.
    """
    heard, logger = _Heard(), logging.getLogger("opentelemetry")
    logger.addHandler(heard)
    logger.propagate = False
    given = {"service.version": __version__, "orchestrator.project": project}
    resource = Resource.create(given)
    if str(resource.attributes.get("service.name")).startswith("unknown_service"):
        resource = resource.merge(Resource({"service.name": "orchestrator"}))
    session = _Session()
    exporter = OTLPSpanExporter(
        session=None if any(os.environ.get(name) for name in _PLUG_INS) else session
    )
    made = [_made(span, resource, key) for span in spans]
    try:
        for first in range(0, len(made), BATCH):
            with _telling():
                result = exporter.export(made[first : first + BATCH])
            if result is not SpanExportResult.SUCCESS:
                why = session.why or (heard.said[-1] if heard.said else "no reason given")
                message = f"the collector did not take the traces: {why}"
                raise OrchestratorError(message, HINT, code="not_sent")
    finally:
        exporter.shutdown()  # type: ignore[no-untyped-call]
        logger.removeHandler(heard)
    return Sent(session.rejected, heard.said + session.said)


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Tell a person of a request that takes long."""

    def tell() -> None:
        waits.tell("the collector of traces", _most() - waits.FIRST)

    timer = threading.Timer(waits.FIRST, contextvars.copy_context().run, (tell,))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _most() -> float:
    """Return the most seconds that one request takes, with the exporter's further attempts."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        with contextlib.suppress(KeyError, ValueError):
            return float(os.environ[name])
    return 10.0


def _made(span: Span, resource: Resource, key: str) -> ReadableSpan:
    return ReadableSpan(
        span.name,
        context=_context(span.trace, span.about, key),
        parent=_context(span.trace, span.parent, key) if span.parent else None,
        resource=resource,
        attributes=span.attributes,
        events=[Event(note.name, note.attributes, _nanoseconds(note.at)) for note in span.notes],
        kind=SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
        start_time=_nanoseconds(span.start),
        end_time=_nanoseconds(span.end),
        instrumentation_scope=InstrumentationScope("orchestrator", __version__),
    )


def _context(trace: str, about: str, key: str) -> SpanContext:
    return SpanContext(
        number(f"{key} {trace}", 128),
        number(f"{key} {about}", 64),
        is_remote=False,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1_000_000) * 1000
