"""`doctor`: every check of the set-up, each with a verdict and a hint.

The checks change nothing; with `try_checks`, the landing worktree is made. A finding's `code` is
the word that `status` uses for the same problem, also if the check finds no problem.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

from orchestrator.account import spending
from orchestrator.client import registry
from orchestrator.config import load
from orchestrator.layout import Layout
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.finding import Finding, fail, ok, warn
from orchestrator.project import faults, mark
from orchestrator.setup import (
    hosts_probe,
    named_probe,
    probes,
    repository_probe,
    schedule_probe,
    state_probe,
    user_files,
    walkers,
)
from orchestrator.setup.probes import Subject
from orchestrator.system import disk
from orchestrator.tasks import stores
from orchestrator.text.words import span
from orchestrator.tick import lock, notify, problems


def examine(
    layout: Layout, variables: Mapping[str, str], now: float, *, try_checks: bool = False
) -> list[Finding]:
    """Return all findings. `variables` is the environment, `now` is in epoch seconds.

    `try_checks` also runs the project's `setup` and `checks` on the base branch.
    """
    queue = functools.cache(lambda: tuple(stores.of_project(layout).findings(now)))
    subject = Subject(layout, load.settings(layout, write_cache=False), variables, now, queue)
    findings: list[Finding] = []
    checks: list[Callable[[Subject], Iterator[Finding]]] = [
        _programs,
        _set_up,
        _configuration,
        state_probe.shared_queue,
        lambda subject: hosts_probe.look(subject.layout, subject.loaded.config),
        state_probe.permissions,
        state_probe.free_space,
        state_probe.tracked,
        _ticks,
        state_probe.locks_held,
        state_probe.lost_runs,
        state_probe.tasks,
        state_probe.pull_requests,
        _hold,
        _notify,
        state_probe.clock,
        state_probe.leftovers,
        named_probe.look,
        lambda subject: user_files.look(subject.layout.root),
        lambda subject: iter(walkers.look(subject.layout.root)),
        repository_probe.look,
        lambda subject: schedule_probe.look(subject, list(findings)),
    ]
    if try_checks:
        checks.append(named_probe.try_checks)
    for check in checks:
        try:
            findings += check(subject)
        except OrchestratorError as error:
            findings.append(fail(error.code, error.message, error.hint or "fix that first"))
        except OSError as error:
            findings.append(fail("permissions", *disk.explained(error)))
    # A hold and a probe may find the same.
    return list(dict.fromkeys(findings))


def reachable(layout: Layout, variables: Mapping[str, str]) -> list[Finding]:
    """Return the findings about programs and services in this environment, without a schedule."""
    loaded = load.settings(layout, write_cache=False)
    return list(_programs(Subject(layout, loaded, variables, 0.0)))


def without_project(error: OrchestratorError, cwd: str) -> list[Finding]:
    """Return the findings that are possible without a project."""
    hint = error.hint or "change to your project's folder, or name it with --project"
    return [probes.python(), probes.git_program(cwd), fail("project", error.message, hint)]


def _programs(subject: Subject) -> Iterator[Finding]:
    layout, config = subject.layout, subject.loaded.config
    yield probes.python()
    git_found = probes.git_program(layout.root)
    yield git_found
    yield from registry.of_config(config).probe(config, layout.root, subject.variables)
    if git_found.level == "fail":
        return
    trust = probes.trust(layout.root)
    yield trust
    if trust.level != "fail":
        yield probes.git_identity(layout.root)
        yield probes.forge_program(layout, config, subject.variables)
        yield probes.remote(layout, config)
    yield from probes.programs(config, subject.variables)


def _set_up(subject: Subject) -> Iterator[Finding]:
    try:
        mark.require_initialised(subject.layout)
    except OrchestratorError as error:
        yield fail(error.code, error.message, error.hint or mark.way_in(subject.layout))
    else:
        yield ok("not_initialised", f"set up: {subject.layout.root}")


def _configuration(subject: Subject) -> Iterator[Finding]:
    loaded = subject.loaded
    for problem in loaded.problems:
        yield fail(problem.code, problem.message, problem.hint or "correct that in the file")
    if not loaded.problems:
        yield ok("config_error", f"agents.yaml has no error; agents: {len(loaded.config.agents)}")
    if not loaded.good:
        return
    if loaded.config.paused:
        resume = "to start it: orchestrator agent resume --all"
        yield warn("system_paused", "all agents are paused", resume)
    elif loaded.config.agents and all(agent.paused for agent in loaded.config.agents):
        names = " ".join(agent.name for agent in loaded.config.agents)
        resume = f"to resume them: orchestrator agent resume {names}"
        yield warn("paused", "every agent is paused by its own setting", resume)
    yield from _budget(subject)
    setup = loaded.config.setup
    if setup.when_changed and not setup.command:
        yield warn("setup_missing", "setup.when_changed has no effect", "set setup.command")
    if loaded.config.checks:
        yield ok("no_checks", f"checks before each delivery: {len(loaded.config.checks)}")
    else:
        propose = "write your test command into `checks`; for a proposal: orchestrator init"
        yield warn("no_checks", "`checks` is empty: work is delivered without a test", propose)
    if not loaded.config.agents:
        add = "orchestrator agent add impl-agent-1 --role implementer"
        yield warn("no_agents", "no agent is configured, so no agent runs", add)


def _budget(subject: Subject) -> Iterator[Finding]:
    """Yield a warning if today's runs have used up the day's budget."""
    config = subject.loaded.config
    for lost in spending.loss(subject.layout, config, subject.now):
        yield warn(lost.code, lost.message, lost.hint or "see: orchestrator status")
    cap = config.budgets.daily_usd
    if cap is None:
        return
    spent = spending.today(subject.layout, config, subject.now)
    if spent >= cap:
        said = f"{spent:.2f} of {cap:g} USD spent today, so no run starts before midnight"
        yield warn("budget_exhausted", said, "wait, or raise budgets.daily_usd in agents.yaml")


def _ticks(subject: Subject) -> Iterator[Finding]:
    layout, now = subject.layout, subject.now
    ticked = problems.last_tick(layout)
    is_ready = mark.is_initialised(layout)
    hint = problems.schedule_hint(layout) if is_ready else mark.way_in(layout)
    if problems.is_overdue(layout, now):
        last = f"the last tick was {span(now - ticked)} ago" if ticked else "no tick has run yet"
        yield fail("tick_stale", last, hint)
    elif ticked is None:
        yield ok("tick_stale", mark.first_tick(layout))
    else:
        soon = "" if now - ticked <= problems.STALE_AFTER else "; the set-up was renewed since then"
        yield ok("tick_stale", f"the last tick was {span(max(now - ticked, 0))} ago{soon}")
    if blocked := lock.trouble(layout, now):
        yield Finding(blocked.code, "fail", blocked.message, blocked.hint)


def _hold(subject: Subject) -> Iterator[Finding]:
    """Yield a failure if a hold stops all agents."""
    hold = faults.read_hold(subject.layout)
    if hold is not None and (hold.until is None or subject.now < hold.until):
        found = faults.hold_problem(hold)
        hint = found.hint or "no action needed: claiming resumes automatically"
        yield fail(found.code, found.message, hint)


def _notify(subject: Subject) -> Iterator[Finding]:
    """Run the user's program for notifications with a test item; in a new clone it is not run."""
    wanted = subject.loaded.config.notify
    if wanted.report and not wanted.command:
        hint = "name a program, or remove notify.report"
        yield warn(notify.FAILED, "notify.report is set, but notify.command is not", hint)
    if wanted.command and mark.is_initialised(subject.layout):
        test = notify.News("test", "test", None, None, "A test of notify.command by doctor", None)
        failure = notify.run(subject.layout, wanted, test)
        if failure is None:
            yield ok(notify.FAILED, f"notify.command works: {wanted.command[0]}")
        else:
            hint = "correct notify.command in .orchestrator/agents.yaml"
            yield fail(notify.FAILED, failure.why, hint)
