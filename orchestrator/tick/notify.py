"""Notifications: the user's own program is told once about each thing that waits for a person.

A tick decides what is new, writes down that it was told, and leaves it in a folder. Of several
hosts that share the queue, the first that sees a thing tells it. A process of its own takes each
piece of news from there and runs the program. A crash in between loses the news; it never tells
the news twice. News that no program could be started for goes back to the folder, and is told by a
later tick if its thing still waits then.
"""

# No `from __future__ import annotations`: `records.build` reads the types of the fields.

import json
import os
import re
from collections.abc import Collection, Iterable

from orchestrator.config.load import Settings
from orchestrator.layout import Layout
from orchestrator.model.config import Notify
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Problem
from orchestrator.model.work import PullRequest
from orchestrator.project import faults
from orchestrator.system import commands, files, process, records
from orchestrator.tasks import stores
from orchestrator.text.quoting import one_line
from orchestrator.tick import inbox
from orchestrator.tick.observe import Observation

#: Seconds that the program has for one piece of news.
TIMEOUT = 10.0
#: Characters of a text: the program may pass it on as one argument.
KEPT = 4000
#: Problems whose message names what they are about. A problem with another code is the same
#: problem, whatever its message says: the message may count seconds.
_NAMED = ("task_malformed", "config_error", "agent_suspended", "record_damaged", "role_broken")
#: A problem with the notifications themselves is not news.
FAILED = "notify_failed"


class News(NamedTuple):
    """What the program reads as one JSON object on standard input, beside the project's path."""

    kind: str
    id: str
    task: str | None
    code: str | None
    text: str
    hint: str | None


class Failure(NamedTuple):
    """Why the program did not tell a piece of news."""

    why: str
    #: Whether the program was started: then a person may have been told.
    started: bool


def news(
    layout: Layout,
    loaded: Settings,
    seen: Observation,
    prs: Iterable[PullRequest] | None,
    problems: Iterable[Problem],
) -> dict[str, News]:
    """Return by its key everything that waits for a person, and every problem."""
    items = inbox.survey(layout, loaded, seen, prs).items
    hints = [inbox.next_step(layout, item) for item in items]
    return of_items(items, hints) | of_problems(problems, {item.id for item in items})


def of_items(items: Iterable[inbox.Item], hints: Iterable[str]) -> dict[str, News]:
    """Return the news of the inbox, by keys that differ for another fact about the same thing.

    A new question of a task is another piece of news, and so is a new head of a pull request.
    """
    return {
        f"{item.kind} {item.shared_id} {item.fact or (item.since if item.task else '')}": News(
            item.kind, item.id, item.task, None, item.text[:KEPT], hint
        )
        for item, hint in zip(items, hints, strict=True)
    }


def of_problems(problems: Iterable[Problem], items: Collection[str]) -> dict[str, News]:
    """Return the news of the problems that are not in the inbox (`items`: the ids there)."""
    found: dict[str, News] = {}
    for code, message, hint in problems:
        fault = message.partition(":")[0] if code == "system_fault" else code
        in_inbox = code == "agent_suspended" and f"agent:{message.partition(':')[0]}" in items
        if code != FAILED and not in_inbox and f"fault:{fault}" not in items:
            # A run that met the fault, and the tick that meets it, have different codes for it.
            key = f"problem {fault} {message if code in _NAMED else fault}"
            found.setdefault(key, News("problem", code, None, code, message[:KEPT], hint))
    return found


def unsaid(
    found: dict[str, News], told: Collection[str], wanted: Collection[str]
) -> tuple[dict[str, News], list[str]]:
    """Return the news of the wanted kinds that nobody was told, and the keys to remember.

    A key is remembered while its thing waits: what comes back later is told again.
    """
    kept = {key: each for key, each in found.items() if each.kind in wanted}
    return {key: each for key, each in kept.items() if key not in told}, sorted(kept)


def note(layout: Layout, wanted: Notify, found: dict[str, News]) -> bool:
    """Leave what is new for `tell`; return whether something is left there. Raises OSError."""
    told = _told(layout)
    new, keys = unsaid(found, told or (), wanted.on)
    new = _taken(layout, new, set(told or ()) - set(keys))
    return _leave(layout, new, told, keys)


def note_outage(layout: Layout, wanted: Notify, problem: Problem) -> bool:
    """Leave the problem that the shared queue cannot be used for `tell`, as `note` does.

    Whether the other news still waits cannot be known: it stays told. The next tick that reaches
    the queue looks at everything, so that this problem can be told again. Raises OSError.
    """
    told = _told(layout)
    new, keys = unsaid(of_problems([problem], ()), told or (), wanted.on)
    files.remove(layout.idle_stamp)
    return _leave(layout, new, told, sorted({*(told or ()), *keys}))


def _memory(layout: Layout) -> str:
    return os.path.join(layout.cache, "told.json")


def _told(layout: Layout) -> list[str] | None:
    """Return the keys of the news that was told; None if nothing is known."""
    found = (files.read_json(_memory(layout)) or {}).get("keys")
    return found if isinstance(found, list) else None


def _leave(layout: Layout, new: dict[str, News], told: list[str] | None, keys: list[str]) -> bool:
    """Remember the keys instead of those that were told, and leave what is new for `tell`."""
    folder = _folder(layout)
    files.make_folder(folder)
    if keys != told:
        files.write_json(_memory(layout), {"keys": keys})
    for key, each in new.items():
        files.write_json(os.path.join(folder, _name(key)), each._asdict())
    for name in set(_left(folder)) - {_name(key) for key in keys}:
        files.remove(os.path.join(folder, name))
    return bool(_left(folder))


def start(layout: Layout) -> None:
    """Start the process that tells what was left (`tell`). Raises OSError."""
    log = os.path.join(layout.cache, "notify.out")
    process.spawn_detached([*process.own_program(), "_notify", layout.root], os.environ, log)


def _taken(layout: Layout, new: dict[str, News], over: Collection[str]) -> dict[str, News]:
    """Return the news that this host tells: what all hosts see, the first of them takes.

    A problem is told by the host that has it. `over` are the keys of news whose cause has ended: if
    the cause occurs again, it is told again. Raises StoreFault.
    """
    store = stores.of_project(layout)
    if store.host is None:
        return new
    store.give_back([_name(key) for key in over])
    names = {key: _name(key) for key, each in new.items() if each.kind != "problem"}
    mine = store.take([*names.values()])
    return {key: each for key, each in new.items() if names.get(key) in (None, *mine)}


def _name(key: str) -> str:
    import hashlib  # it loads a large library, which most commands do not need

    return f"{hashlib.sha256(key.encode(errors='replace')).hexdigest()[:20]}.json"


def _folder(layout: Layout) -> str:
    return os.path.join(layout.cache, "notify")


def _left(folder: str) -> list[str]:
    return sorted(n for n in os.listdir(folder) if re.fullmatch(r"[0-9a-f]{20}\.json", n))


def tell(layout: Layout, wanted: Notify) -> None:
    """Run the program for everything that `note` left. What another process takes is skipped."""
    folder = _folder(layout)
    for name in _left(folder):
        path = os.path.join(folder, name)
        found = records.build(News, files.read_json(path))
        try:
            os.unlink(path)  # before the program runs: at most once
        except FileNotFoundError:
            continue
        failure = run(layout, wanted, found) if found and wanted.command else None
        remember(layout, failure)
        if found and failure is not None and not failure.started:
            files.write_json(path, found._asdict())
            return  # the others would not be told either


def remember(layout: Layout, failure: Failure | None) -> None:
    """Keep how the program failed, for `status`; None ends the problem. Raises OSError."""
    if failure is None:
        files.remove(layout.notify_fault)
        return
    hint = "correct notify.command in .orchestrator/agents.yaml; try: orchestrator doctor"
    faults.keep(layout.notify_fault, OrchestratorError(failure.why, hint, code=FAILED))


def run(layout: Layout, wanted: Notify, each: News) -> Failure | None:
    """Run the program with one piece of news; return how it failed, or None."""
    host = stores.of_project(layout).host
    told = {**each._asdict(), "project": layout.root, **({"host": host} if host else {})}
    text = json.dumps(told)
    program = wanted.command[0]
    try:
        done = commands.run(
            wanted.command, cwd=layout.root, environment=os.environ, timeout=TIMEOUT, stdin=text
        )
    except OSError as error:
        return Failure(f"notify.command: {program} cannot be started: {error.strerror}", False)
    if done.code is None:
        return Failure(f"notify.command: {program} did not end within {TIMEOUT:.0f} s", True)
    if done.code != 0:
        said = one_line(done.err.strip() or done.out.strip())
        ended = f"notify.command: {program} exited {done.code}"
        return Failure(f"{ended}: {said}" if said else f"{ended} and wrote nothing", True)
    return None
