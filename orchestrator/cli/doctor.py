"""`doctor`: the checks of the set-up."""

from __future__ import annotations

import os

from orchestrator.cli import context, output
from orchestrator.cli.parser import Namespace, command, flag
from orchestrator.model.errors import OrchestratorError
from orchestrator.text.words import count

#: The column at which the text of a finding begins.
_TEXT = 24
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
    root = os.getcwd()
    try:
        layout = context.layout(arguments)
        root = layout.root
    except OrchestratorError as error:
        findings = doctor.without_project(error, root)
    else:
        if arguments.checks:
            output.progress("running `setup` and `checks` on the base branch ...")
        findings = doctor.examine(
            layout, dict(os.environ), context.now(), try_checks=arguments.checks
        )
    wrong = [finding for finding in findings if finding.level != "ok"]
    failed = sum(finding.level == "fail" for finding in wrong)
    counts = f"{count(failed, 'error')}, {count(len(wrong) - failed, 'warning')}"
    lines = [counts if wrong else "Everything is fine."]
    for finding in sorted(findings, key=lambda finding: finding.level == "ok"):
        said = finding.message.replace(f"{root}/", "")
        lines.append(f"{_MARKS[finding.level]}  {finding.code:16}  {said}")
        if finding.level != "ok" and finding.hint:
            lines.append(f"{'':{_TEXT}}{finding.hint}")
    if arguments.json:
        output.show_json({"findings": [each._asdict() for each in findings]})
    for line in () if arguments.json else lines:
        output.prose(line, _TEXT)
