"""A head start for a run: what writes its instructions is loaded while the tick itself still loads.

Jinja2 takes longer to load than a tick takes to plan. So a tick that finds something waiting
begins with a process aside, and the first supervisor that it starts gets it.
"""

from __future__ import annotations

from orchestrator.aside import Aside

_begun: list[Aside] = []


def begin() -> None:
    """Start to load what it takes to write a run's instructions, in a process of its own."""
    _begun.append(fresh())


def fresh() -> Aside:
    """Return a process that makes ready to write one run's instructions."""
    return Aside(_make_ready, _write)


def take() -> Aside | None:
    """Return what was begun, to one caller only; None when there is nothing, or no more."""
    return _begun.pop() if _begun else None


def _make_ready() -> None:
    from orchestrator import briefing

    briefing.make_ready()


def _write(message: bytes) -> bytes:
    from orchestrator import briefing

    return briefing.write_as_told(message)
