"""The pause of claiming after a system fault: a run's end begins it, continues it or ends it.

Called only under the scheduler's lock, and repeatable after a crash at any point.
"""

from orchestrator.client import registry
from orchestrator.layout import Layout
from orchestrator.model.config import Config
from orchestrator.model.snapshot import Action, Hold, Outcome
from orchestrator.project import faults, usage
from orchestrator.project.run_record import RunRecord
from orchestrator.pulls import forges
from orchestrator.system import files, memory
from orchestrator.text import words

#: How to fix a fault, by the first word of its reason. The client and the forge have the hints for
#: their own faults.
_HINTS = {
    "remote_failed": "check the remote's disk, memory and hooks; then work resumes automatically",
    "remote_unreachable": "try: git ls-remote; work resumes automatically when the remote answers",
    "check_program_missing": "install the program, or correct `checks` or `setup` in agents.yaml",
    "role_broken": "fix the role's file in .orchestrator/roles/",
    memory.WORD: memory.HINT,
    "disk_full": "free disk space (df, df -i, orchestrator clean); work then resumes automatically",
    "disk_read_only": "mount the disk writable, or fix its owner; work then resumes automatically",
    "git_missing": "install git, or fix the schedule's PATH: orchestrator doctor",
    "git_failed": "try: git status; check the owner and the permissions of .git and the disk (df), "
    "and look for lock files of a killed git",
    "git_hung": "try: git status; check the disk, and find out what git waits for",
    "system_fault": "check the file's owner, its permissions and the free space of its disk",
}
ANY_HINT = (
    "the failed run does not count as an attempt; each tick starts one run to test whether the "
    "fault is gone"
)


def settle(
    layout: Layout,
    config: Config,
    now: float,
    action: Action,
    outcome: Outcome,
    record: RunRecord | None,
    *,
    is_own: bool,
) -> None:
    """Pause claiming for all agents after a system fault; a good run ends the pause.

    A run that began before the fault occurred does not show that the fault is fixed. `is_own`: the
    fault turned out to be the task's own, and a person is asked. `now` is epoch seconds.
    """
    if outcome.verdict in ("interrupted", "stopped"):
        return
    known = faults.read_hold(layout)
    if is_own:
        if known is not None and known.code == "system_fault":
            files.remove(layout.hold)
        return
    if outcome.verdict not in ("usage_limit", "system_fault"):
        # A fault whose time is ahead of the clock ends with any run that ended well.
        began = record.created if record else now
        if known is not None and (began >= known.since or known.since > now):
            files.remove(layout.hold)
        return
    reason = outcome.reason or outcome.verdict
    code, _, message = reason.partition(": ")
    until = None if outcome.until is None else min(outcome.until, now + usage.LONGEST_LIMIT)
    again = f"; runs start again at {words.local(until)}" if until is not None else ""
    found = Hold(
        code=outcome.verdict,
        # The message is shown after the hold's code and must not repeat the code.
        message=f"{message if message and code == outcome.verdict else reason}{again}",
        hint=_hint(layout, config, code, outcome) or ANY_HINT,
        # A usage limit before the fault says nothing of how long the fault lasts.
        since=min(known.since, now) if known and known.code == outcome.verdict else now,
        until=until,
        agents=known.agents if known else (),
        tasks=known.tasks if known else (),
        paid=known.paid if known else 0,
    )
    if outcome.verdict == "system_fault":
        paid = bool(record and record.cost())
        found = found.met_by(action.agent or "", action.task, paid=paid)
    files.write_json(layout.hold, found._asdict())


def _hint(layout: Layout, config: Config, code: str, outcome: Outcome) -> str | None:
    """Return how to fix the fault that ended a run; `code` is the first word of its reason."""
    hints = {**registry.of_config(config).hints, **_HINTS}
    # A fault that names its own repair knows more than its code says.
    hint = outcome.hint or hints.get(code)
    if hint is None and code == "forge_failed":
        hint = forges.of_project(layout, config).hints.get(code)
    return hint
