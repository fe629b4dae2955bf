"""`metrics`: the project in Prometheus' text format.

https://prometheus.io/docs/instrumenting/exposition_formats/ (version 0.0.4). It needs one rule of
escaping, so no library is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.cli import context, json_rows, output, overview
from orchestrator.cli.parser import Namespace, command
from orchestrator.layout import Layout
from orchestrator.model.fields import NamedTuple
from orchestrator.project import memories
from orchestrator.pulls import states
from orchestrator.tick import problems

#: Labels and a value.
Sample = tuple[Mapping[str, str], float]


class Family(NamedTuple):
    """One metric with its samples."""

    name: str
    kind: str
    text: str
    samples: list[Sample]


@command("metrics")
def metrics(arguments: Namespace) -> None:
    """Print the project's figures as Prometheus text.

    examples:
      orchestrator metrics
      orchestrator metrics > /var/lib/node_exporter/orchestrator.prom
    """
    layout = context.reading(arguments)
    loaded, now = context.settings(layout), context.now()
    prs = states.counted(layout, loaded.config)
    found = overview.overview(layout, loaded, now, prs).status
    families = (*_state(found, problems.last_tick(layout)), *_history(layout))
    if arguments.json:
        rows = [
            {"name": f"orchestrator_{each.name}", "labels": dict(labels), "value": value}
            for each in families
            for labels, value in each.samples
        ]
        output.show_json(rows)
    else:
        output.out("\n".join(exposition(families)))


def _state(found: json_rows.Row, ticked: float | None) -> Iterator[Family]:
    """Yield what `status` knows; `ticked` is the time of the last tick in epoch seconds."""
    agents = Counter(row["state"] for row in found["agents"])
    errors = Counter(problem["code"] for problem in found["problems"])
    open_prs, waiting = found["open_prs"], found["waiting_for_you"]
    yield Family("tasks", "gauge", "Tasks by state.", _by("state", found["queue"]))
    yield Family("agents", "gauge", "Agents by state.", _by("state", agents))
    yield Family("open_pull_requests", "gauge", "Open pull requests of tasks.", _one(open_prs))
    yield Family("waiting_for_you", "gauge", "Items that wait for a person.", _one(waiting))
    yield Family("problems", "gauge", "Problems by code.", _by("code", errors))
    yield Family("last_tick_timestamp_seconds", "gauge", "Time of the last tick.", _one(ticked))


def _history(layout: Layout) -> Iterator[Family]:
    """Yield what agents' runs came to since ever. The same on each host that shares the queue.

    The agents' memories have these numbers: events are rotated, and a counter does not fall.
    """
    known = list(memories.everywhere(layout))
    totals, runs = memories.totals(known), Counter[tuple[str, str]]()
    for name, state in known:
        runs.update({(name, outcome): number for outcome, number in state.outcomes.items()})
    ended: list[Sample] = [
        ({"agent": agent, "outcome": outcome}, number)
        for (agent, outcome), number in sorted(runs.items())
    ]
    tokens: list[Sample] = [
        ({"agent": name, "direction": way}, number)
        for name, total in totals.items()
        for way, number in (("input", total.input_tokens), ("output", total.output_tokens))
        if number
    ]
    costs = _by("agent", {name: total.cost_usd for name, total in totals.items()})
    yield Family("runs_total", "counter", "Ended runs, by agent and outcome.", ended)
    yield Family("cost_usd_total", "counter", "US dollars that an agent's runs cost.", costs)
    yield Family("tokens_total", "counter", "Tokens that an agent's runs used.", tokens)


def _by(label: str, values: Mapping[str, float]) -> list[Sample]:
    return [({label: key}, value) for key, value in sorted(values.items())]


def _one(value: float | None) -> list[Sample]:
    return [] if value is None else [({}, value)]


def exposition(families: Iterable[Family]) -> Iterator[str]:
    """Yield the lines of the text format; a metric without samples is left out. Pure."""
    for each in families:
        if not each.samples:
            continue
        name = f"orchestrator_{each.name}"
        yield f"# HELP {name} {each.text}"
        yield f"# TYPE {name} {each.kind}"
        for labels, value in each.samples:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            yield f"{name}{{{shown}}} {value!r}" if shown else f"{name} {value!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
