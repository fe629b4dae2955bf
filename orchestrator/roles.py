"""Roles: files that say what an agent is for, and the texts that a run is given.

A role's file (`plugin/roles/`, and the user's own in `.orchestrator/roles/`) has its policy as YAML
front matter and its brief as a Jinja2 body. What an agent reads is rendered from the two templates
in `plugin/templates/`. Task titles, bodies and reports are values there, never template text, and
stand in fences that they cannot close.

Every tick needs the policies and most change nothing, so they are kept in a cache that is believed
only as long as every file's stamp is the same; YAML and Jinja2 are imported when they are used.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError, near_miss
from orchestrator.model import Problem, Role

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Bytes that a role's file, and that a rendered text, may have.
MAX_ROLE_BYTES = 64 << 10
MAX_OUTPUT = 1 << 20
#: Loop steps and calls that one template may take.
MAX_STEPS = 100_000
#: Characters of quoted text that reach an agent. All of them together, in UTF-8's longest form,
#: stay below MAX_OUTPUT: no task is too long to be given out.
LIMITS = {"body": 80_000, "reviewed": 30_000, "history": 60_000, "global": 40_000, "latest": 8_000}
#: The same for one entry of the history, and for the list of checks.
ENTRY_LIMIT = 20_000
#: Entries of a task's history that are told; the ones before are counted.
MAX_ENTRIES = 50
#: What a run may report, by what its role delivers. `client.REPORTS` is the same, held by a test.
OUTCOMES = {
    "pull_request": ("done", "no_change", "needs_human", "failed"),
    "verdict": ("approved", "changes_requested", "needs_human", "failed"),
    "nothing": ("done", "no_change", "needs_human", "failed"),
}

#: The client's tools (2.1.328), for near misses only: a later client may have others.
_TOOLS = (
    "Agent", "Bash", "CronCreate", "CronDelete", "CronList", "Edit", "EnterWorktree",
    "ExitWorktree", "Glob", "Grep", "ListAgents", "Monitor", "NotebookEdit", "Read",
    "ReportFindings", "ScheduleWakeup", "SendMessage", "Skill", "Task", "TaskStop", "ToolSearch",
    "WebFetch", "WebSearch", "Workflow", "Write",
)  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TOOL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
#: `Bash`, `Bash(git push *)`, `mcp__server__*`: the client splits lists at commas outside brackets.
_RULE = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}\*?(\([^()\x00-\x1f\x7f]{1,500}\))?")
_MAX_TURNS = 10_000
_MAX_LIST = 200
#: A cache written so soon (nanoseconds) after a file changed may have missed a change within the
#: same tick of the file system's clock, 10 ms at the most.
_SETTLED = 50_000_000


@dataclass(frozen=True, slots=True)
class RoleFile(Role):
    """A role with where it was read from."""

    #: One line for listings.
    description: str = ""
    path: str = ""
    #: The line of `path` that the brief begins on.
    line: int = 1


class _Wrong(Exception):
    """A role's file is wrong: every finding with its line, None where it has none."""

    def __init__(self, findings: list[tuple[int | None, str]]) -> None:
        super().__init__()
        self.findings = findings


# --- which roles there are ---------------------------------------------------------------------


def resources() -> str:
    """Return the folder that holds `plugin/` and `skills/`: a checkout's root or the wheel's."""
    package = os.path.dirname(os.path.abspath(__file__))
    checkout = os.path.dirname(package)
    if os.path.isfile(os.path.join(checkout, "plugin", "roles", "implementer.md")):
        return checkout
    return os.path.join(package, "_resources")


def load(
    custom_folder: str, cache_folder: str | None = None, *, write_cache: bool = False
) -> tuple[dict[str, Role], list[Problem]]:
    """Return the roles by name, shipped ones overridden or joined by the user's, and what is wrong.

    `custom_folder` may be missing. A file of the user's that is wrong takes its role away: an agent
    must not run with wider permissions than were meant. The cache in `cache_folder` is read, and
    with `write_cache` renewed; a missing, broken or stale one is nobody's problem. Raises
    OrchestratorError when the shipped roles are missing.
    """
    shipped = os.path.join(resources(), "plugin", "roles")
    try:
        stamps = _stamps(shipped)
        code = {__file__: _stamp(os.stat(__file__))}
    except OSError as error:
        message = f"the shipped roles cannot be read: {shipped}: {error.strerror}"
        raise OrchestratorError(message, "install orchestrator again") from None
    try:
        own = _stamps(custom_folder)
    except FileNotFoundError:
        own = {}
    except OSError as error:
        return {}, [_problem(custom_folder, None, str(error.strerror))]
    cache = os.path.join(cache_folder, "roles.json") if cache_folder else None
    everything = {**code, **stamps, **own}
    kept = _from_cache(cache, everything) if cache else None
    if kept is not None:
        return kept, []
    roles, problems = _read_all(stamps, own)
    if cache and write_cache and not problems:
        _write_cache(cache, everything, roles)
    return roles, problems


def _stamps(folder: str) -> dict[str, list[int]]:
    """Return the stamp of each role's file in `folder` by its path, in the order of names."""
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name.endswith(".md") and not e.name.startswith(".")]
        return {
            e.path: _stamp(e.stat(follow_symlinks=False))
            for e in sorted(found, key=lambda e: e.name)
            if e.name.lower() != "readme.md"
        }


def _stamp(found: os.stat_result) -> list[int]:
    return [found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino]


def _read_all(
    shipped_paths: Iterable[str], own_paths: Collection[str]
) -> tuple[dict[str, Role], list[Problem]]:
    roles: dict[str, Role] = {}
    problems: list[Problem] = []
    for path in (*shipped_paths, *own_paths):
        name = os.path.basename(path)[: -len(".md")]
        shipped = roles.pop(name, None)
        try:
            role = _parse(_read(path, MAX_ROLE_BYTES), path, name, shipped)
            if path in own_paths:
                _check_brief(role)
            roles[name] = role
        except _Wrong as error:
            problems += [_problem(path, line, text) for line, text in error.findings]
        except OSError as error:
            linked = os.path.islink(path)
            why = "it is a symbolic link; put the file itself here" if linked else error.strerror
            problems.append(_problem(path, None, str(why)))
    return roles, problems


def _read(path: str, limit: int) -> bytes:
    """Return a regular file's bytes. Raises OSError, and _Wrong when it has more than `limit`."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _Wrong([(None, "it is no regular file")])
        data = os.read(descriptor, limit + 1)
    finally:
        os.close(descriptor)
    if len(data) > limit:
        raise _Wrong([(None, f"it is over {limit >> 10} KiB")])
    return data


def _problem(path: str, line: int | None, text: str) -> Problem:
    where = path if line is None else f"{path}:{line}"
    hint = f"correct {path}; until then no agent has that role"
    return Problem("config_error", f"{where}: {text}", hint)


# --- the cache ---------------------------------------------------------------------------------


def _from_cache(path: str, stamps: dict[str, list[int]]) -> dict[str, Role] | None:
    """Return the roles kept at `path` if they are those of the files with these stamps."""
    try:
        written = os.lstat(path).st_mtime_ns
        if any(written - max(stamp[:2]) < _SETTLED for stamp in stamps.values()):
            return None
        kept = json.loads(_read(path, 64 * MAX_ROLE_BYTES))
        if list(kept["stamps"].items()) != list(stamps.items()):
            return None
        lists = ("tools", "allow", "deny")
        roles = [RoleFile(**{**r, **{key: tuple(r[key]) for key in lists}}) for r in kept["roles"]]
        return {role.name: role for role in roles}
    except (OSError, _Wrong, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _write_cache(path: str, stamps: dict[str, list[int]], roles: Mapping[str, Role]) -> None:
    """Keep the roles, atomically. Not flushed to disk: a torn cache is only read over."""
    data = json.dumps({"stamps": stamps, "roles": [asdict(role) for role in roles.values()]})
    beside = f"{path}.{os.getpid()}.tmp"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(beside, flags, 0o600), "wb") as file:
            file.write(data.encode("utf-8", "surrogatepass"))
        os.replace(beside, path)
    except (OSError, ValueError):
        try:
            os.unlink(beside)
        except OSError:
            return


# --- one file ----------------------------------------------------------------------------------


def _parse(data: bytes, path: str, name: str, shipped: Role | None) -> RoleFile:
    """Read a role's file; what it leaves out comes from the `shipped` role of its name.

    Raises _Wrong with every finding.
    """
    try:
        text = data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise _Wrong([(data.count(b"\n", 0, error.start) + 1, "it is not UTF-8 text")]) from None
    block, body, line = _split(text)
    values, findings = _policy(block, name)
    if not _NAME.fullmatch(name):
        findings.append((None, f"{name[:80]!r} cannot be the name of a role"))
    brief = body.strip("\n")
    line += len(body) - len(body.lstrip("\n"))
    inherited = asdict(shipped) if shipped is not None else {}
    if shipped is not None and not brief.strip():
        brief, line, path = inherited["brief"], inherited["line"], inherited["path"]
    values = {**inherited, **values, "name": name, "brief": brief, "line": line, "path": path}
    findings += _missing(values)
    if findings:
        raise _Wrong(findings)
    values.setdefault("delivers", "nothing" if values["takes"] is None else "pull_request")
    lists = {key: tuple(values.get(key, ())) for key in ("tools", "allow", "deny")}
    return RoleFile(**{**values, **lists})


def _missing(values: Mapping[str, Any]) -> Iterator[tuple[int | None, str]]:
    """Yield what a role lacks, and what in it does not go together."""
    for key, example in (("takes", "takes: implement"), ("tools", "tools: [Read, Glob, Grep]")):
        if key not in values:
            yield 1, f"{key} is missing; write for example '{example}'"
    if not values["brief"].strip():
        yield values["line"], "there is no brief below the front matter"
    if "takes" in values and "delivers" in values:
        taskless = values["takes"] is None
        if taskless and values["delivers"] not in (None, "nothing"):
            yield 1, f"delivers: without a task (takes: null) there is no {values['delivers']}"


def _split(text: str) -> tuple[str, str, int]:
    """Return the front matter ('' for none), the rest, and the line that the rest begins on."""
    if not text.startswith("---"):
        return "", text, 1
    from frontmatter.default_handlers import YAMLHandler

    try:
        handler = YAMLHandler()
        opening = handler.FM_BOUNDARY.match(text)
        block, body = handler.split(text)
    except ValueError:
        raise _Wrong([(1, "no second '---' ends the front matter")]) from None
    # The boundary takes blank lines in: give them back, so that lines count from the file's top.
    above = text.count("\n", 0, opening.end()) if opening else 0
    return "\n" * above + block, body, text.count("\n", 0, len(text) - len(body)) + 1


def _policy(block: str, name: str) -> tuple[dict[str, Any], list[tuple[int | None, str]]]:
    """Return the checked values of the front matter by key, and every finding in it."""
    values: dict[str, Any] = {}
    findings: list[tuple[int | None, str]] = []
    first: dict[str, int] = {}
    for key, value, line in _pairs(block):
        if first.setdefault(key, line) != line:
            findings.append((line, f"{key[:80]}: twice; first on line {first[key]}"))
        elif key == "name" and value != name:
            findings.append((line, f"name: the file is {name}.md: write {name!r} or leave it out"))
        elif key in _CHECKS:
            try:
                values[key] = _CHECKS[key](value)
            except ValueError as error:
                findings.append((line, f"{key}: {error}"))
        elif not key.startswith("x-"):
            near = near_miss(key[:80].lower(), _CHECKS)
            hint = f"did you mean {near!r}?" if near else f"known: {', '.join(_CHECKS)}"
            findings.append((line, f"unknown key {key[:80]!r}; {hint}"))
    return values, findings


def _pairs(block: str) -> Iterator[tuple[str, Any, int]]:
    """Yield key, value and line of each pair of the front matter, which begins on line 1."""
    if not block.strip():
        return
    import yaml

    try:
        for event in yaml.parse(block, Loader=yaml.SafeLoader):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                line = event.start_mark.line + 1 if event.start_mark else 1
                raise _Wrong([(line, "anchors, aliases and tags are not taken here")])
        loader: Any = yaml.SafeLoader(block)
        root = loader.get_single_node()
        if not isinstance(root, yaml.MappingNode):
            raise _Wrong([(2, "the front matter is not 'key: value' lines")])
        for key, value in root.value:
            line = key.start_mark.line + 1
            yield str(key.value), loader.construct_object(value, deep=True), line
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or str(error).split("\n")[0]
        raise _Wrong([(mark.line + 1 if mark else 1, f"not YAML: {why}")]) from None


# --- one value: each returns it checked, or raises ValueError with what was expected ------------


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _word(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError(
            f"expected a word of letters, digits, '.', '_', '-', found {_shown(value)}"
        )
    return value


def _delivers(value: object) -> str:
    if isinstance(value, str) and value in OUTCOMES:
        return value
    near = near_miss(value, OUTCOMES) if isinstance(value, str) else None
    hint = f"; did you mean {near!r}?" if near else ""
    raise ValueError(f"expected {', '.join(OUTCOMES)}, found {_shown(value)}{hint}")


def _texts(value: object, shape: re.Pattern[str], what: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > _MAX_LIST:
        raise ValueError(f"expected a list of {what}s, found {_shown(value)}")
    for item in value:
        if not isinstance(item, str) or not shape.fullmatch(item):
            raise ValueError(f"expected a {what}, found {_shown(item)}")
    return tuple(dict.fromkeys(value))


def _tools(value: object) -> tuple[str, ...]:
    """The client passes over a tool that it does not know without a word: find typing errors."""
    from difflib import get_close_matches

    tools = _texts(value, _TOOL, "tool")
    for tool in tools:
        wanted = {known.lower(): known for known in _TOOLS}
        near = wanted.get(tool.lower()) or next(iter(get_close_matches(tool, _TOOLS, 1, 0.8)), tool)
        if near != tool and tool not in _TOOLS:
            raise ValueError(f"unknown tool {tool!r}; did you mean {near!r}?")
    return tools


def _rules(value: object) -> tuple[str, ...]:
    return _texts(value, _RULE, "permission rule like 'Bash(git push *)'")


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, found {_shown(value)}")
    return value


def _turns(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MAX_TURNS:
        return value
    what = f"a whole number from 1 to {_MAX_TURNS} or null"
    raise ValueError(f"expected {what}, found {_shown(value)}")


def _description(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or len(value) > 200:
        raise ValueError(f"expected one line of at most 200 characters, found {_shown(value)}")
    return value


_CHECKS: dict[str, Callable[[object], Any]] = {
    "name": _word,
    "description": _description,
    "takes": lambda value: None if value is None else _word(value),
    "delivers": _delivers,
    "tools": _tools,
    "allow": _rules,
    "deny": _rules,
    "restricted": _flag,
    "max_turns": _turns,
}


# --- rendering ---------------------------------------------------------------------------------


def instructions(variables: Mapping[str, Any]) -> str:
    """Return the text of a run's `.agent-instructions.md`.

    `variables` are those of `runner`: agent, role, task, body, history, config, base, base_commit,
    branch, ports, worktree, project, run_id, attempt, rescue, review, global_instructions, checks
    and resumed; the role's brief sees the same. Raises OrchestratorError when a template fails.
    """
    role: Role = variables["role"]
    brief = render(
        role.brief,
        variables,
        path=getattr(role, "path", "") or f"role {role.name}",
        first_line=getattr(role, "line", 1),
    )
    history = variables["history"]
    told = history[-MAX_ENTRIES:]
    return render(
        "agent_instructions.md.j2",
        {
            **variables,
            "brief": brief.strip(),
            "told": told,
            "untold": len(history) - len(told),
            "entry_limit": min(ENTRY_LIMIT, LIMITS["history"] // max(len(told), 1)),
            "outcomes": OUTCOMES[role.delivers],
            "writes": bool({"Edit", "Write", "NotebookEdit"} & set(role.tools)),
        },
    )


def prompt(variables: Mapping[str, Any]) -> str:
    """Return what a run gets on standard input: who it is, and the newest word on its task again.

    A resumed conversation has seen the rest. Takes and raises the same as `instructions`.
    """
    history = variables["history"]
    newest = {entry["kind"]: place for place, entry in enumerate(history)}
    if "answer" not in newest:
        newest.pop("question", None)
    latest = [history[place] for place in sorted(newest.values())]
    return render("prompt.md.j2", {**variables, "latest": latest})


def render(
    template: str, variables: Mapping[str, Any], *, path: str = "", first_line: int = 1
) -> str:
    """Return `template` with `variables` filled in: a shipped template's name, or template text.

    `path` and `first_line` say in errors where the text comes from. The template can neither reach
    Python's insides nor write more than MAX_OUTPUT bytes nor take more than MAX_STEPS steps. Raises
    OrchestratorError, with file and line, whatever goes wrong in it.
    """
    if template.endswith(".j2") and "\n" not in template:
        path = os.path.join(resources(), "plugin", "templates", template)
        template = _shipped_template(path)
    environment = _environment()
    own_skills = os.path.join(str(variables.get("project", "")), ".orchestrator", "commands")
    environment.globals["skill"] = partial(skill, own_skills)
    chunks: list[str] = []
    size = 0
    try:
        for chunk in environment.from_string(template).generate(variables):
            chunks.append(chunk)
            size += len(chunk.encode("utf-8", "replace"))
            if size > MAX_OUTPUT:
                raise OverflowError(f"it writes more than {MAX_OUTPUT >> 10} KiB")
    except OrchestratorError:
        raise
    except Exception as error:
        where = f"{path or 'template'}:{_line_of(error) + first_line - 1}"
        why = str(error) or type(error).__name__
        hint = f"correct {path}" if path else None
        raise OrchestratorError(f"{where}: {why}", hint, code="role_broken") from error
    return "".join(chunks).encode("utf-8", "replace").decode()


def skill(own_folder: str, name: str, *arguments: object) -> str:
    """Return the text of a skill, below its front matter: the one place where a craft is written.

    `NAME.md` in `own_folder` (`.orchestrator/commands/`) goes before the shipped one. It is text,
    never a template; `$0`, `$1`, ... become the arguments, as the client does it. Raises
    OrchestratorError.
    """
    own = os.path.join(own_folder, f"{name}.md")
    shipped = os.path.join(resources(), "skills", name, "SKILL.md")
    path = own if os.path.lexists(own) else shipped
    try:
        if not _NAME.fullmatch(name):
            raise _Wrong([(None, "no skill has such a name")])
        text = _read(path, MAX_ROLE_BYTES).decode().removeprefix("\ufeff")
    except (OSError, UnicodeDecodeError, _Wrong) as error:
        why = error.findings[0][1] if isinstance(error, _Wrong) else error
        message = f"the skill {name!r} cannot be read: {path}: {why}"
        raise OrchestratorError(message, f"correct {path}", code="role_broken") from None
    text = text.replace("\r\n", "\n")
    if text.startswith("---\n"):
        _, end, below = text.partition("\n---\n")
        text = below if end else text
    for place, argument in enumerate(arguments):
        text = text.replace(f"${place}", str(argument))
    return text.strip()


def _shipped_template(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        message = f"a shipped template cannot be read: {path}: {error.strerror}"
        raise OrchestratorError(message, "install orchestrator again") from None


def _check_brief(role: RoleFile) -> None:
    """Raise _Wrong when the brief is not a template at all."""
    from jinja2 import TemplateSyntaxError

    try:
        _environment().parse(role.brief)
    except TemplateSyntaxError as error:
        raise _Wrong([(error.lineno + role.line - 1, f"not Jinja2: {error.message}")]) from None
    except RecursionError:
        raise _Wrong([(role.line, "not Jinja2: nested too deeply")]) from None


def _line_of(error: Exception) -> int:
    """Return the line of the template, from 1, that an error came from."""
    line = getattr(error, "lineno", None) or 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return int(line)


def warm_up() -> None:
    """Load what rendering needs, while somebody else waits for git."""
    import_module("jinja2.sandbox")


def _environment() -> ImmutableSandboxedEnvironment:
    """Return one rendering's sandbox: it counts steps and refuses what makes much of little."""
    from jinja2 import StrictUndefined, exceptions, nodes
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    steps = iter(range(MAX_STEPS))

    def step() -> None:
        if next(steps, None) is None:
            raise exceptions.SecurityError(f"it takes more than {MAX_STEPS} steps")

    def counted(items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            step()
            yield item

    class Bounded(ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset(("*", "**", "%"))

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            if refused := _too_much(operator, left, right):
                raise exceptions.SecurityError(refused)
            return super().call_binop(context, operator, left, right)

        def call(self, *args: Any, **kwargs: Any) -> Any:
            step()
            return super().call(*args, **kwargs)

        def _generate(self, source: nodes.Template, *args: Any, **kwargs: Any) -> str:
            for loop in source.find_all(nodes.For):
                loop.iter = nodes.Filter(loop.iter, "counted", [], [], None, None)
            return super()._generate(source, *args, **kwargs)

    environment = Bounded(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.globals["limits"] = LIMITS
    environment.filters.update(counted=counted, fenced=fenced, inline=inline, clipped=clipped)
    return environment


def _too_much(operator: str, left: object, right: object) -> str | None:
    """Say why a template may not have this result: it could be boundless."""
    if operator == "**" or (operator == "%" and isinstance(left, str)):
        return f"the operator {operator!r} is not taken here"
    if operator == "*" and _amount(left) * _amount(right) > MAX_OUTPUT:
        return "a product is too large"
    return None


def _amount(value: object) -> float:
    if isinstance(value, (int, float)):
        return abs(value)
    return len(value) if isinstance(value, (str, list, tuple)) else 0


# --- other people's words ----------------------------------------------------------------------

#: Terminal sequences; and characters that are not seen, or change what is seen of their
#: neighbours: controls, direction marks, Unicode tags, lone surrogates.
_TERMINAL = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[@-_]?"
)
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ufeff"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_LONGEST_FENCE = 100
_LONG_RUN = re.compile(f"`{{{_LONGEST_FENCE},}}")


def clipped(text: str, limit: int) -> str:
    """Return `text` with its middle left out, and said so, if it has over `limit` characters."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def fenced(text: str, limit: int = ENTRY_LIMIT) -> str:
    """Return `text` as a fenced block that no line of it can close, without unseen characters.

    Runs of over 99 backticks are cut to 99: nobody writes them, and the fence must be longer.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = clipped(_UNSEEN.sub("", _TERMINAL.sub("", text)).strip("\n"), limit)
    text = _LONG_RUN.sub("`" * (_LONGEST_FENCE - 1), text)
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text or '(nothing)'}\n{fence}"


def inline(text: object, limit: int = 300) -> str:
    """Return `text` as inline code on one line, which it cannot end."""
    line = " ".join(_UNSEEN.sub("", _TERMINAL.sub("", str(text))).split()) or "(nothing)"
    return "`" + clipped(line.replace("`", "'"), limit).replace("\n", " ") + "`"
