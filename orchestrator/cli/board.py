"""What `watch` shows and what its keys do, as a state that keys change. Pure.

A key that changes the project means a command of `orchestrator`; the caller runs it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from orchestrator.cli import screen
from orchestrator.cli.overview import Overview
from orchestrator.cli.screen import Line, Part
from orchestrator.model.fields import NamedTuple

About = tuple[str, str]
HELP = """\
↑ ↓ (or k j)    select: an item that waits for you, a problem, an agent,
                a pull request, a task
Enter           open what is selected, with all of its text
a               answer the selected question
y               approve the selected pull request, and merge it
n               request changes of the selected pull request
d               show the changes of the selected pull request
x               remove the selected item from the inbox
p               pause the selected agent, or resume it
P               pause all agents, or resume them
r               retry the selected task
l               open the transcript of the selected agent or task
f               follow it while the run works
e               explain why the agent or task does not start
i               open the inbox
t               open the list of tasks
?               this help
q               leave a text; leave `watch`
In a text: ↑ ↓, Page Up and Page Down (or b and space), g to its start,
G to its end, where it follows. What a key's command says is at the bottom."""
#: Entries of a transcript that are opened.
ENTRIES = 1000


class Act(NamedTuple):
    """A command that changes the project; its output is shown at the bottom."""

    words: tuple[str, ...]
    #: What it reads from standard input.
    text: str = ""


class Open(NamedTuple):
    """A command whose output is opened as a text."""

    words: tuple[str, ...]


class Show(NamedTuple):
    """A text to open."""

    title: str
    text: str


class Ask(NamedTuple):
    """A question at the bottom: the answer is the standard input of a command."""

    label: str
    words: tuple[str, ...]


class Confirm(NamedTuple):
    """A question that `y` answers with a command."""

    label: str
    words: tuple[str, ...]


class Quit(NamedTuple):
    """The end of `watch`."""


Effect = Act | Open | Show | Ask | Confirm | Quit | str | None


def things(parts: Sequence[Part]) -> list[About]:
    """Return what can be selected, in the order of the picture."""
    found = (entry.about for part in parts for entry in part.entries if entry.about)
    return list(dict.fromkeys(found))


def moved(parts: Sequence[Part], selected: About | None, step: int) -> About | None:
    """Return what is selected `step` things further; the first thing if nothing was selected."""
    found = things(parts)
    if not found:
        return None
    if selected not in found:
        return found[0]
    return found[min(max(found.index(selected) + step, 0), len(found) - 1)]


def effect(key: str, about: About | None, seen: Overview, parts: Sequence[Part]) -> Effect:
    """Return what a key does; a string says why it does nothing, and None is an unknown key."""
    match key:
        case "q" | "escape":
            return Quit() if key == "q" else None
        case "?" | "h":
            return Show("keys", HELP)
        case "P":
            codes = {row["reason"] for row in seen.status["agents"]}
            verb = "resume" if "system_paused" in codes else "pause"
            return Confirm(f"{verb} all agents?", ("agent", verb, "--all"))
        case "i":
            return Open(("inbox",))
        case "t":
            return Open(("task", "list"))
    if key not in ("enter", *"aynxdprlfe"):
        return None
    if about is None:
        return "select something first (↑ ↓)"
    kind, name = about
    found = {"item": _item, "agent": _agent, "pr": _pull_request, "task": _task}.get(kind)
    known = found(key, name, seen) if found else None
    if known is not None:
        return known
    if key == "enter":
        return Open(("task", "list")) if kind == "queue" else Show(name, _whole(about, seen, parts))
    return f"{key} does nothing here; what the keys do: ?"


#: What keys do with a thing, by its kind: makes the effect of the thing's name.
_Keys = dict[str, Callable[[str], Effect]]
_RUN: _Keys = {
    "l": lambda name: Open(("logs", name, "--lines", str(ENTRIES))),
    "f": lambda name: Open(("logs", name, "--lines", str(ENTRIES), "--follow")),
    "e": lambda name: Open(("explain", name)),
}
_TASK: _Keys = _RUN | {
    "r": lambda name: Act(("task", "retry", name)),
    "enter": lambda name: Open(("task", "show", name)),
}
_PULL_REQUEST: _Keys = {
    "y": lambda name: Confirm(f"approve pull request {name}, and merge it?", _approve(name)),
    "n": lambda name: Ask(f"changes of pull request {name}", ("pr", "request-changes", name, "-")),
    "d": lambda name: Open(("pr", "diff", name)),
    "enter": lambda name: Open(("pr", "show", name)),
}
_ITEM: _Keys = {
    "a": lambda name: Ask(f"answer {name}", ("inbox", "answer", name, "-")),
    "y": lambda name: Confirm(f"approve {name}, and merge it?", _approve(name)),
    "n": lambda name: Ask(f"changes of {name}", ("inbox", "reject", name, "-")),
    "x": lambda name: Confirm(f"remove {name} from the inbox?", ("inbox", "dismiss", name)),
}


def _approve(name: str) -> tuple[str, ...]:
    return ("inbox", "approve", name)


def _item(key: str, name: str, seen: Overview) -> Effect:
    item = next((item for item in seen.looked.waiting.items if item.id == name), None)
    if item is None:
        return f"{name} does not wait any more"
    if key in _ITEM:
        return _ITEM[key](name)
    if name.startswith("pr:") and key in ("d", "enter"):
        return _PULL_REQUEST[key](name.removeprefix("pr:"))
    if item.agent and key in "plfe":
        return _agent(key, item.agent, seen)
    return _TASK[key](item.task) if item.task and key in "rlfe" else None


def _pull_request(key: str, name: str, seen: Overview) -> Effect:
    task = next((pr.task for pr in seen.looked.seen.prs or () if pr.id == name), None)
    if key in _PULL_REQUEST:
        return _PULL_REQUEST[key](name)
    return _TASK[key](task) if task and key in "rlfe" else None


def _agent(key: str, name: str, seen: Overview) -> Effect:
    row = next((row for row in seen.status["agents"] if row["name"] == name), None)
    if key == "p":
        verb = "resume" if row and row["reason"] == "paused" else "pause"
        return Act(("agent", verb, name))
    if key == "enter":
        return Open(("agent", "show", name))
    return _RUN[key](name) if key in _RUN else None


def _task(key: str, name: str, seen: Overview) -> Effect:
    return _TASK[key](name) if key in _TASK else None


def _whole(about: About, seen: Overview, parts: Sequence[Part]) -> str:
    """Return the whole text of an entry, and what a person types about it."""
    texts = {item.id: item.text for item in seen.looked.waiting.items} if about[0] == "item" else {}
    entries = [entry for part in parts for entry in part.entries if entry.about == about]
    return "\n\n".join(f"{texts.get(about[1], e.text.strip())}\n\n{e.step}" for e in entries)


#: The keys that are named at the bottom, by what is selected.
_KEYS = {
    "question": "a answer  x remove  l transcript  e explain",
    "escalation": "r retry  x remove  l transcript  e explain",
    "agent": "p pause/resume  l transcript  f follow  e explain",
    "pr": "d changes  y approve  n request changes  l transcript",
    "task": "r retry  l transcript  f follow  e explain",
}


def keys_line(about: About | None, seen: Overview) -> str:
    """Return the line at the bottom with the most useful keys; the help has the others."""
    kind, name = about or ("", "")
    if kind == "item":
        kinds = {item.id: item.kind for item in seen.looked.waiting.items}
        kind = "pr" if name.startswith("pr:") else kinds.get(name, "")
    middle = _KEYS.get(kind, "")
    return "  ".join(filter(None, ("↑↓  Enter", middle, "? help  q quit")))


def drawn(
    parts: Sequence[Part], about: About | None, bottom: Sequence[Line], width: int, height: int
) -> list[Line]:
    """Return the whole screen: the picture, with a mark at what is selected, and the bottom."""
    room = max(height - len(bottom), 1)
    lines = screen.fit(parts, width, room, about)
    marked = [
        line._replace(text=f">{line.text[1:]}", mood="chosen")
        if about is not None and line.about == about
        else line
        for line in lines
    ]
    if len(marked) > room:
        marked = [*marked[: room - 1], Line("… enlarge the terminal to see the rest", "quiet")]
    return [*marked, *[Line("")] * (room - len(marked)), *bottom]
