"""The regions of the page: what each reads through commands, and the template that shows it.

`html` renders a region the same for the server and for `--export`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from jinja2 import Environment

from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple
from orchestrator.page import history, work
from orchestrator.page.commands import Reads

Row = dict[str, Any]
#: What the address of a region asks for, as in `?state=done&q=login`.
Query = Mapping[str, str]


class Region(NamedTuple):
    """One of the page's landmarks."""

    #: The name in addresses; its template is `region_<name>.html`.
    name: str
    #: What the landmark is called.
    title: str
    #: Returns what its template shows.
    load: Callable[[Reads, Query], Row]
    #: The parts of the project (`changes.marks`) after whose change it is loaded again.
    shows: tuple[str, ...]
    #: Seconds between two loads that changes cause: a region that reads the whole history rests.
    rest: int = 0


#: In the order of the page: what needs a person first.
REGIONS = (
    Region("problems", "Problems", work.problems, ("tick", "config", "queue", "agents", "prs")),
    Region("inbox", "Inbox", work.inbox, ("queue", "agents", "prs", "events")),
    Region("board", "Board", work.board, ("queue", "agents", "config", "events")),
    Region("agents", "Agents", work.agents, ("agents", "queue", "config", "tick")),
    Region("pull-requests", "Pull requests", work.pull_requests, ("prs", "events")),
    Region("history", "History", history.history, ("events",), 5),
    Region("costs", "Costs", history.costs, ("events", "config", "queue"), 5),
)
BY_NAME = {region.name: region for region in REGIONS}


def html(
    templates: Environment, commands: Reads, region: Region, query: Query, **shared: object
) -> str:
    """Return one region as HTML, the contents of its landmark. Raises OrchestratorError."""
    found = {**shared, **region.load(commands, query), "region": region, "query": query}
    return templates.get_template(f"region_{region.name}.html").render(found)
