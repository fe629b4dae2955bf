"""`report`: the account of a night or a week, as Markdown."""

from __future__ import annotations

from orchestrator.cli import context, output, period
from orchestrator.cli.parser import Namespace, command, flag
from orchestrator.model.errors import OrchestratorError
from orchestrator.tick import daily

DEFAULT_PERIOD = "24h"
NOTIFY = "give the report to notify.command now, as `notify.report` does each day"


@command("report", period.since(DEFAULT_PERIOD), flag("--notify", NOTIFY))
def report(arguments: Namespace) -> None:
    """Describe a period as Markdown: what was delivered, merged or failed, the cost, what waits for
    you, what was rescued, and whether the scheduler ran.

    Deliveries are listed with their commits and checks. Each line comes from a record of the
    scheduler or from git; no model writes it.

    examples:
      orchestrator report
      orchestrator report --since 7d > week.md
      orchestrator report --notify
    """
    # Inside a run, no agent starts the person's program.
    layout = context.changing(arguments) if arguments.notify else context.reading(arguments)
    now = context.now()
    since = period.start(arguments.since, now)
    loaded, seen = context.look(layout)
    found = daily.account(layout, loaded, seen, since, now)
    if not arguments.notify:
        if arguments.json:
            output.show_json(found.value)
        else:
            output.prose(found.markdown.rstrip("\n"))
        return
    wanted = loaded.config.notify
    if not wanted.command:
        hint = "name one in agents.yaml, see docs/notifications.md in the program's folder"
        raise OrchestratorError("notify.command is not set", hint, code="notify_failed")
    failure = daily.send(layout, wanted, found.markdown, since, now)
    if failure is not None:
        hint = "correct notify.command in .orchestrator/agents.yaml; try: orchestrator doctor"
        raise OrchestratorError(failure.why, hint, code="notify_failed")
    output.answer(arguments, found.value, f"{wanted.command[0]} took the report")
