"""`doctor`: the checks of the set-up."""

from __future__ import annotations

import os

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, command, flag
from orchestrator.errors import OrchestratorError
from orchestrator.text.words import count

_MARKS = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@command(
    "doctor",
    flag("--checks", "also run `setup` and `checks` on the base branch, in the landing worktree"),
)
def examine(arguments: Namespace) -> None:
    """Check the set-up in the environment of the schedule; each finding says what to do.

    examples:
      orchestrator doctor
      orchestrator doctor --checks
    """
    from orchestrator.setup import doctor

    if arguments.checks:
        context.refuse_in_run("no check is run")
    try:
        layout = context.layout(arguments)
    except OrchestratorError as error:
        findings = doctor.without_project(error, os.getcwd())
    else:
        findings = doctor.examine(
            layout, dict(os.environ), context.now(), try_checks=arguments.checks
        )
    wrong = [finding for finding in findings if finding.level != "ok"]
    failed = sum(finding.level == "fail" for finding in wrong)
    counts = f"{count(failed, 'error')}, {count(len(wrong) - failed, 'warning')}"
    lines = [counts if wrong else "Everything is fine."]
    for finding in sorted(findings, key=lambda finding: finding.level == "ok"):
        lines.append(f"{_MARKS[finding.level]}  {finding.code:16} {finding.message}")
        if finding.level != "ok" and finding.hint:
            lines.append(f"{'':24}{finding.hint}")
    output.answer(arguments, {"findings": [each._asdict() for each in findings]}, *lines)
