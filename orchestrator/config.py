"""`agents.yaml` read strictly (CONTRACT 4), its last good copy, and when an agent is due.

Everything wrong is found in one pass and said with its line, its key's path and the nearest right
word: a lenient reader once let a misspelt key empty the agent list (FAILURES 9).
"""

from __future__ import annotations

import json
import math
import re
import shlex
import zlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import astuple, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.errors import ConfigError, near_miss
from orchestrator.model import (
    PORT_STRIDE,
    Agent,
    Budgets,
    Config,
    Hooks,
    QueueLimits,
    Retry,
    Review,
    ports,
)

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

#: A node of PyYAML: `id` (scalar, sequence or mapping), `tag`, `value`, `start_mark`, `style`.
Node = Any

MAX_BYTES = 1 << 20
MAX_DEPTH = 30
#: Nodes looked at, aliases and merges counted each time they are used: a bomb ends here.
MAX_NODES = 50_000
MAX_PROBLEMS = 100
YEAR = 366 * 86_400
HIGHEST_PORT = 65_535

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {_TAG + word for word in ("null", "bool", "int", "float", "str")}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(0|[1-9][0-9_]*)?(\.[0-9_]*)?([eE][-+]?[0-9]+)?")
_UNPRINTABLE = re.compile("[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NAME = r"(?!.*\.\.)(?!.*\.lock\Z)[a-z0-9][a-z0-9._-]{0,63}(?<!\.)"
#: What `git check-ref-format --branch` takes, less what no one means.
_REF = (
    r"(?!HEAD\Z|@\Z|[-/.])(?!.*(\.\.|//|/\.|@\{|\.lock(/|\Z)))"
    r"[^\x00-\x20\x7f~^:?*\[\\]{1,200}(?<![./])"
)
#: Where a schedule is tried out: wall-clock time, so without a zone.
_ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001
#: Stands for a value that was blamed: no configuration with one in it is ever returned.
_BAD: Any = object()


class _Reading:
    """One reading of one file: its problems, the line of each key, and what it may still cost."""

    def __init__(self, path: str, roles: Collection[str] | None) -> None:
        self.path = path
        self.roles = roles
        self.problems: list[tuple[int, str]] = []
        self.lines: dict[str, int] = {}
        self.visited = 0

    def wrong(self, line: int, where: str, message: str) -> Any:
        text = f"{self.path}:{line}: {where + ': ' if where else ''}{message}"
        self.problems.append((line, text))
        if len(self.problems) >= MAX_PROBLEMS:
            self.problems.append(
                (line, f"{self.path}:{line}: there may be more; reading ended here")
            )
            raise self.error()
        return _BAD

    def expected(self, node: Node, where: str, what: str) -> Any:
        return self.wrong(_line(node), where, f"expected {what}, found {_shown(node)}")

    def error(self) -> ConfigError:
        found = [text for _, text in sorted(self.problems, key=lambda problem: problem[0])]
        return ConfigError(found, f"correct {self.path}; until then nothing new is started")

    def visit(self, node: Node, depth: int) -> None:
        self.visited += 1
        if self.visited > MAX_NODES or depth > MAX_DEPTH:
            self.wrong(_line(node), "", "too large once its aliases are followed")
            raise self.error()

    def pairs(self, node: Node, where: str, depth: int = 0) -> dict[str, tuple[Node, Node]]:
        """Return a mapping's keys with their key and value nodes, merge keys (`<<`) followed."""
        found: dict[str, tuple[Node, Node]] = {}
        merged: list[Node] = []
        for key, value in node.value:
            self.visit(key, depth)
            if key.tag == _TAG + "merge":
                merged += value.value if value.id == "sequence" else [value]
            elif key.id != "scalar":
                self.expected(key, where, "text as a key")
            elif key.value in found:
                first = _line(found[key.value][0])
                self.wrong(_line(key), _join(where, key.value), f"twice; first on line {first}")
            else:
                found[key.value] = (key, value)
        for source in merged:
            self.visit(source, depth)
            if source.id != "mapping":
                self.expected(source, _join(where, "<<"), "a mapping to merge")
                continue
            for name, pair in self.pairs(source, where, depth + 1).items():
                found.setdefault(name, pair)
        return found

    def section(self, node: Node, where: str, table: Mapping[str, _Check]) -> dict[str, Any]:
        """Return a mapping's checked values by key; keys beginning `x-` are the user's own."""
        if node.id != "mapping":
            self.expected(node, where, "a mapping of keys to values")
            return {}
        values = {}
        for key, (key_node, value) in self.pairs(node, where).items():
            spot = _join(where, key)
            self.lines[spot] = _line(key_node)
            if key in table:
                values[key] = table[key](self, value, spot)
            elif not key.startswith("x-"):
                near = near_miss(key[:80].lower(), table)
                hint = f"; did you mean {near!r}?" if near else f" (known: {', '.join(table)})"
                self.wrong(_line(key_node), spot, "unknown key" + hint)
        return values


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _join(where: str, key: str) -> str:
    word = key if re.fullmatch(r"[\w<.-]{1,80}", key) else repr(key[:80])
    return f"{where}.{word}" if where else word


def _shown(node: Node) -> str:
    if node.id != "scalar":
        return "a list" if node.id == "sequence" else "a mapping"
    if node.tag == _TAG + "null":
        return "null"
    text = node.value if len(node.value) <= 60 else node.value[:57] + "..."
    return repr(text) if node.tag == _TAG + "str" else str(text)


# --- one value: each takes the node and its path, and returns the value or blames it ------------

_Check = Callable[[_Reading, Node, str], Any]


def _number(
    low: float,
    high: float = math.inf,
    *,
    above: bool = False,
    whole: bool = False,
    null: bool = False,
) -> _Check:
    bounds = f"{'above' if above else 'of at least'} {low}"
    bounds += f" and at most {high}" if high < math.inf else ""
    what = f"a {'whole ' if whole else ''}number {bounds}{' or null' if null else ''}"

    def check(reading: _Reading, node: Node, where: str) -> Any:
        if null and _is_null(node):
            return None
        value = _numeric(node)
        fits = value is not None and (value > low if above else value >= low) and value <= high
        if not fits or (whole and not isinstance(value, int)):
            return reading.expected(node, where, what)
        return value

    return check


def _numeric(node: Node) -> float | None:
    """Return a decimal number, or None: `1e3` is one; `010`, `1:30` and `.inf` are not."""
    plain = node.id == "scalar" and (node.tag != _TAG + "str" or not node.style)
    if not plain or len(node.value) > 40:
        return None
    try:
        if _INT.fullmatch(node.value):
            return int(node.value)
        value = float(node.value) if _FLOAT.fullmatch(node.value) else math.inf
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _is_null(node: Node) -> bool:
    return bool(node.id == "scalar" and node.tag == _TAG + "null")


def _text(pattern: str = r"(?s)(?=.*\S).+", what: str = "text", *, null: bool = False) -> _Check:
    shape = re.compile(pattern)

    def check(reading: _Reading, node: Node, where: str) -> Any:
        if null and _is_null(node):
            return None
        if node.id == "scalar" and node.tag == _TAG + "str":
            if shape.fullmatch(node.value) and not _UNPRINTABLE.search(node.value):
                return node.value
        elif node.id == "scalar" and not _is_null(node):
            return reading.expected(node, where, f"{what} (in quotes)")
        return reading.expected(node, where, what)

    return check


def _boolean(reading: _Reading, node: Node, where: str) -> Any:
    words = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    if node.id == "scalar" and node.tag == _TAG + "bool" and node.value.lower() in words:
        return words[node.value.lower()]
    return reading.expected(node, where, "true or false")


def _texts(
    item: _Check, what: str, split: Callable[[str], list[str]] = lambda text: [text]
) -> _Check:
    def check(reading: _Reading, node: Node, where: str) -> Any:
        if node.id == "sequence":
            return tuple(
                _each(reading, node, where, lambda entry, spot, _: item(reading, entry, spot))
            )
        if node.id != "scalar" or node.tag != _TAG + "str":
            return reading.expected(node, where, what)
        value = item(reading, node, where)
        try:
            return value if value is _BAD else tuple(split(value))
        except ValueError as error:
            return reading.wrong(_line(node), where, f"{str(error).lower()}: {_shown(node)}")

    return check


def _each(
    reading: _Reading, node: Node, where: str, check: Callable[[Node, str, int], Any]
) -> Iterable[Any]:
    for index, entry in enumerate(node.value):
        reading.visit(entry, 0)
        yield check(entry, f"{where}[{index}]", index)


def _command(reading: _Reading, node: Node, where: str) -> Any:
    argument = _text(r"(?s).*")
    words = _texts(argument, "a list of words", shlex.split)(reading, node, where)
    if words == () or (words is not _BAD and words[0] is not _BAD and not words[0].strip()):
        return reading.wrong(_line(node), where, "expected a program and its arguments, found none")
    return words


def _schedule(reading: _Reading, node: Node, where: str) -> Any:
    from cronsim import CronSim, CronSimError

    value = _text(what="a cron expression like '0 3 * * *'", null=True)(reading, node, where)
    if value is None or value is _BAD:
        return value
    reason = "it has no day that exists"
    try:
        if len(value.split()) != 5 or len(value) > 200:
            reason = "it needs 5 fields: minute hour day-of-month month day-of-week"
        elif next(CronSim(value, _ANY_DAY), None) is not None:
            return value
    except CronSimError as error:
        reason = str(error)[:1].lower() + str(error)[1:]
    return reading.wrong(_line(node), where, f"{_shown(node)} is not a cron expression: {reason}")


def _role(reading: _Reading, node: Node, where: str) -> Any:
    value = _text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "the name of a role")(reading, node, where)
    if value is _BAD or reading.roles is None or value in reading.roles:
        return value
    near = near_miss(value, reading.roles)
    hint = f"did you mean {near!r}?" if near else f"known: {', '.join(sorted(reading.roles))}"
    return reading.wrong(_line(node), where, f"unknown role {value!r}; {hint}")


def _section(make: Callable[..., Any], table: Mapping[str, _Check]) -> _Check:
    return lambda reading, node, where: make(**reading.section(node, where, table))


# --- the tables: every key of CONTRACT 4 and what it takes --------------------------------------

_SECONDS = _number(0, YEAR)
_SOME_SECONDS = _number(0, YEAR, above=True)
_COUNT = _number(0, whole=True)
_POSITIVE = _number(1, whole=True)
_MONEY = _number(0, null=True)
#: The client refuses a cap of 0, and less than a cent does nothing.
_RUN_MONEY = _number(0.01, null=True)
_SHELL = _text(null=True)

_AGENT: dict[str, _Check] = {
    "name": _text(_NAME, "a name of a-z, 0-9, '.', '_' and '-', 64 characters at most"),
    "role": _role,
    "interval_seconds": _number(0, YEAR, above=True, null=True),
    "schedule": _schedule,
    "paused": _boolean,
    "model": _text(r"[^\s-]\S*", "the name of a model", null=True),
    "max_turns": _number(1, whole=True, null=True),
    "budget_usd": _RUN_MONEY,
    "max_runtime_seconds": _SOME_SECONDS,
    "stall_seconds": _SECONDS,
}


def _agents(reading: _Reading, node: Node, where: str) -> Any:
    if node.id != "sequence":
        return reading.expected(node, where, "a list of agents ('[]' for none)")
    agents = list(
        _each(reading, node, where, lambda entry, spot, i: _agent(reading, entry, spot, i))
    )
    first: dict[str, int] = {}
    for index, agent in enumerate(agents):
        name = agent.name.casefold() if isinstance(agent.name, str) else None
        if name is not None and first.setdefault(name, index) != index:
            spot = f"{where}[{index}].name"
            other = f"{where}[{first[name]}]"
            reading.wrong(reading.lines[spot], spot, f"{agent.name!r} is the name of {other} too")
    return tuple(agents)


def _agent(reading: _Reading, node: Node, where: str, index: int) -> Agent:
    values = reading.section(node, where, _AGENT)
    for key in ("name", "role"):
        if node.id == "mapping" and key not in values:
            reading.wrong(_line(node), f"{where}.{key}", "missing")
    interval, schedule = values.get("interval_seconds", _BAD), values.get("schedule")
    spot = f"{where}.interval_seconds"
    if schedule is not None and interval is _BAD:
        values["interval_seconds"] = None
    elif schedule is not None and interval is not None:
        reading.wrong(reading.lines[spot], spot, "there is a schedule too; set one of them to null")
    elif schedule is None and interval is None:
        reading.wrong(
            reading.lines[spot], spot, "expected a number of seconds, or a schedule beside it"
        )
    return Agent(**{"name": _BAD, "role": _BAD, **values, "index": index})


_LIMITS = {"max_incoming": _COUNT, "max_claimed": _COUNT, "max_open_prs": _COUNT}
_RETRY = {"max_attempts": _POSITIVE, "backoff_seconds": _SECONDS, "max_backoff_seconds": _SECONDS}
_REVIEW = {
    "after": _texts(_text(), "a list of task roles"),
    "max_rounds": _COUNT,
    "auto_merge": _boolean,
}
_HOOKS = {"after_create": _SHELL, "before_remove": _SHELL, "timeout_seconds": _SOME_SECONDS}

_TOP: dict[str, _Check] = {
    "paused": _boolean,
    "queue_limits": _section(QueueLimits, _LIMITS),
    "base_branch": _text(_REF, "the name of a branch", null=True),
    "base_port": _number(1024, HIGHEST_PORT, whole=True),
    "claude": _section(dict, {"command": _command}),
    "retry": _section(Retry, _RETRY),
    "budgets": _section(Budgets, {"run_usd": _RUN_MONEY, "daily_usd": _MONEY}),
    "review": _section(Review, _REVIEW),
    "checks": _texts(_text(), "a list of shell commands ('[]' for none)"),
    "check_timeout_seconds": _SOME_SECONDS,
    "forge": _text(r"auto|github|local", "auto, github or local"),
    "remote": _text(_REF, "the name of a git remote"),
    "hooks": _section(Hooks, _HOOKS),
    "agents": _agents,
}


def parse(
    text: bytes | str,
    path: str = ".orchestrator/agents.yaml",
    roles: Collection[str] | None = None,
) -> Config:
    """Read the text of `agents.yaml` strictly.

    `path` is how problems name the file. `roles` are the names an agent's role may have; None takes
    any. Raises `ConfigError` with every problem found, in the order of the lines, and nothing else.
    """
    reading = _Reading(path, roles)
    root = _compose(reading, text)
    values: dict[str, Any] = {}
    if root is not None and not _is_null(root):
        values = reading.section(root, "", _TOP)
    if "agents" not in values and (root is None or root.id != "sequence"):
        reading.wrong(1, "agents", "missing; write 'agents: []' for none")
    command = values.pop("claude", {}).get("command")
    if command is not None:
        values["claude_command"] = command
    config = Config(**values)
    if not reading.problems and config.agents:
        highest = max(ports(config, config.agents[-1]).values())
        if highest > HIGHEST_PORT:
            line = reading.lines.get("base_port", reading.lines["agents"])
            count = f"{len(config.agents)} agents, {PORT_STRIDE} ports apart"
            reading.wrong(
                line, "base_port", f"{count}, would end at {highest}, above {HIGHEST_PORT}"
            )
    if reading.problems:
        raise reading.error()
    return config


def _compose(reading: _Reading, text: bytes | str) -> Node | None:
    """Return the document's root node, or None for an empty one; raises `ConfigError`."""
    import yaml

    source = _decoded(reading, text)
    # The C parser is ten times faster, and not in every build of PyYAML.
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    root: Node | None = None
    try:
        _refuse(reading, yaml.parse(source, Loader=loader))
        if not reading.problems:
            root = yaml.compose(source, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        why = error.problem or error.context
        if error.context_mark and error.problem:
            why = f"{error.context} from line {error.context_mark.line + 1}, {why}"
        lines = source.splitlines()
        if line <= len(lines) and re.match(r" *\t", lines[line - 1]):
            why = "a tab cannot indent; use spaces"
        reading.wrong(line, "", f"not YAML: {why}")
    except (yaml.YAMLError, ValueError) as error:  # ValueError: chr() in the parser in Python
        reading.wrong(1, "", f"not YAML: {error}")
    if reading.problems:
        raise reading.error()
    return root


def _decoded(reading: _Reading, text: bytes | str) -> str:
    source = text if isinstance(text, str) else ""
    if len(text) > MAX_BYTES:
        reading.wrong(1, "", f"larger than {MAX_BYTES} bytes")
    elif isinstance(text, bytes):
        try:
            source = text.decode()
        except UnicodeDecodeError as error:
            reading.wrong(text.count(b"\n", 0, error.start) + 1, "", "not UTF-8 text")
    odd = _UNPRINTABLE.search(source)
    if odd and not reading.problems:
        line = source.count("\n", 0, odd.start()) + 1
        reading.wrong(line, "", f"a control character, {odd[0]!r}")
    if reading.problems:
        raise reading.error()
    return source.removeprefix("\ufeff")


def _refuse(reading: _Reading, events: Iterable[Any]) -> None:
    """Blame what `yaml.compose` would take too long over, or must not take: depth, loops, tags."""
    import yaml

    anchors: list[str | None] = []
    for count, event in enumerate(events):
        line = event.start_mark.line + 1
        if isinstance(event, yaml.CollectionEndEvent):
            anchors.pop()
        elif isinstance(event, yaml.AliasEvent) and event.anchor in anchors:
            reading.wrong(line, "", f"*{event.anchor} stands inside its own anchor")
        elif isinstance(event, yaml.CollectionStartEvent):
            anchors.append(event.anchor)
        tag = getattr(event, "tag", None)
        if tag is not None and not (isinstance(event, yaml.ScalarEvent) and tag in _SCALAR_TAGS):
            reading.wrong(line, "", f"the tag {tag!r} is not allowed")
        if len(anchors) > MAX_DEPTH or count > MAX_NODES * 2:
            reading.wrong(
                line, "", "nested too deeply" if anchors[MAX_DEPTH:] else "too many values"
            )
            return


# --- the last good configuration ----------------------------------------------------------------

_CACHE_FORMAT = "orchestrator-config-1"


def dump_cache(config: Config) -> bytes:
    """Return the configuration as bytes for `load_cache`, small and quick to read."""
    body = json.dumps(astuple(config), separators=(",", ":")).encode()
    return f"{_cache_head()} {zlib.crc32(body)}\n".encode() + body


def load_cache(data: bytes) -> Config | None:
    """Return what `dump_cache` was given, or None: damaged, or of another version's shape."""
    head, _, body = data.partition(b"\n")
    if head != f"{_cache_head()} {zlib.crc32(body)}".encode():
        return None
    values = dict(zip((field.name for field in fields(Config)), json.loads(body), strict=True))
    for name, make in _NESTED.items():
        values[name] = make(*values[name])
    review = values["review"]
    values["review"] = Review(tuple(review.after), review.max_rounds, review.auto_merge)
    values["claude_command"] = tuple(values["claude_command"])
    values["checks"] = tuple(values["checks"])
    values["agents"] = tuple(Agent(*agent) for agent in values["agents"])
    return Config(**values)


_NESTED: dict[str, Callable[..., Any]] = {
    "queue_limits": QueueLimits,
    "retry": Retry,
    "budgets": Budgets,
    "review": Review,
    "hooks": Hooks,
}


def _cache_head() -> str:
    """Return a line that changes whenever a field is added, removed or moved."""
    classes = (Config, Agent, QueueLimits, Retry, Budgets, Review, Hooks)
    names = ",".join(field.name for each in classes for field in fields(each))
    return f"{_CACHE_FORMAT} {zlib.crc32(names.encode())}"


# --- when an agent is due -----------------------------------------------------------------------


def next_due(agent: Agent, last_started: float | None, now: float, tz: str | None) -> float:
    """Return when the agent is due, in seconds since the epoch; not after `now` means it is.

    An agent that never ran is due now; a start ahead of the clock counts as now (CONTRACT 8.7).
    A schedule is in the zone named `tz` (`Europe/Berlin`), None being the machine's own; the first
    match after the last start counts, so missed ones are caught up by one run. With hours named,
    each wall-clock time is met once: a time that the clocks skip is due when they have, one that
    they repeat only the first time. A schedule for all hours goes on through both. Infinity: never.
    Raises `zoneinfo.ZoneInfoNotFoundError` (a KeyError) for a zone that this machine has not.
    """
    if last_started is None:
        return now
    last = min(last_started, now)
    if agent.schedule is None:
        return last + (agent.interval_seconds or 0)
    zone = None
    if tz is not None:
        from zoneinfo import ZoneInfo

        zone = ZoneInfo(tz)
    return _next_match(agent.schedule, max(last, 0), zone)


def _next_match(expression: str, last: float, zone: ZoneInfo | None) -> float:
    from cronsim import CronSim

    wall = _wall(last, zone)
    matches = CronSim(expression, wall)
    if len(matches.hours) == 24:
        return _next_in_real_time(expression, last, zone)
    for moment in matches:
        due = moment
        # Wall-clock times that the clocks skip: the first one that exists stands for them.
        while _wall(due.replace(tzinfo=zone).timestamp(), zone) != due:
            due += timedelta(minutes=1)
        at = due.replace(tzinfo=zone).timestamp()
        if at > last:
            return at
    return math.inf


def _next_in_real_time(expression: str, last: float, zone: ZoneInfo | None) -> float:
    from cronsim import CronSim

    offset = _offset(last, zone)
    for change in range(2):
        for moment in CronSim(expression, _wall(last, UTC) + offset):
            at = (moment - offset).replace(tzinfo=UTC).timestamp()
            found = _offset(at, zone)
            if found == offset:
                return at
            if change == 0:
                # The clocks change before this match: look again by the new offset, which no
                # moment before the change has.
                offset = found
                break
    return math.inf


def _wall(at: float, zone: ZoneInfo | Any) -> datetime:
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None)


def _offset(at: float, zone: ZoneInfo | None) -> timedelta:
    return _wall(at, zone) - _wall(at, UTC)
