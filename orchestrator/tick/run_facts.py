"""What the end of a run leaves in its task's history and in the events. Pure functions."""

from collections.abc import Iterable

from orchestrator.model.snapshot import Outcome
from orchestrator.model.times import iso
from orchestrator.project.run_record import RunRecord
from orchestrator.system import records

#: Maximum characters of a reason or error in events and listings.
REASON_KEPT = 500


def short(text: str | None) -> str | None:
    """Return the beginning of a reason, for events and listings; None without a reason."""
    return text[:REASON_KEPT] if text else None


def conversation(outcome: Outcome, record: RunRecord | None) -> dict[str, object]:
    """Return the fields of the conversation that a task's next run can continue.

    They are its id, its cost in US dollars, and its input and output tokens, all of it. If the
    client never started, the conversation that this run was to continue is unchanged.
    """
    if record is None:
        return {}
    before = record.resume_tokens or (0, 0)
    told: tuple[str | None, float, list[int]]
    if record.client is None or record.client.start_error or not outcome.began:
        told = (record.resume, record.resume_cost_usd, list(before))
    else:
        own = (outcome.input_tokens or 0, outcome.output_tokens or 0)
        # A run that was killed does not say what it cost: the earlier runs' cost is still known.
        cost = record.resume_cost_usd if outcome.cost_usd is None else outcome.cost_usd
        told = (outcome.session, cost, list(map(sum, zip(before, own, strict=False))))
    names = ("session", "session_cost_usd", "session_tokens")
    return dict(zip(names, told, strict=True)) if told[0] else {}


def account(record: RunRecord | None, outcome: Outcome, checks: Iterable[str]) -> dict[str, object]:
    """Return the fields of a run's last event that reports add up (reference 6)."""
    models = {name: use._asdict() for name, use in outcome.models.items()}
    delivered = record if outcome.verdict == "done" and outcome.pr else None
    return {
        "role": record.role if record else None,
        "title": delivered.title if delivered else None,
        # Which commits were delivered, and the checks that passed on them.
        "base": record.base_commit if record and outcome.pr else None,
        "head": outcome.head if outcome.pr else None,
        "commits": records.plain(outcome.commits) if delivered else None,
        "checks": list(checks) if record and record.steps.checked else None,
        "model": outcome.model or (record.settings.model if record else None),
        "models": models if len(models) > 1 else None,
        "started": iso(record.created) if record else None,
        "seconds": record.seconds() if record else None,
        "cost_usd": record.cost() if record else None,
        "input_tokens": outcome.input_tokens,
        "output_tokens": outcome.output_tokens,
    }
