"""What `doctor` finds: each adapter tries its own program and answers with findings."""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from orchestrator.model.fields import NamedTuple


class Finding(NamedTuple):
    """One thing that was looked at. `code` is what could be wrong; `level` is ok, warn or fail."""

    code: str
    level: str
    message: str
    #: What to do; always there unless `level` is ok.
    hint: str | None = None


def ok(code: str, message: str) -> Finding:
    return Finding(code, "ok", message)


def warn(code: str, message: str, hint: str) -> Finding:
    return Finding(code, "warn", message, hint)


def fail(code: str, message: str, hint: str) -> Finding:
    return Finding(code, "fail", message, hint)
