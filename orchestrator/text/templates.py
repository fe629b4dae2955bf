"""Templates run in a sandbox: Jinja2 without Python's insides, with bounds on steps and output.

A role's brief is the user's own text. What a template can reach are
values that it is given, and the quoting of `quoting`. Jinja2 is imported when it is used.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import CodeType
from typing import TYPE_CHECKING, Any

from orchestrator.errors import OrchestratorError
from orchestrator.text.quoting import clipped, fenced, inline

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Bytes that a rendered text may have.
MAX_OUTPUT = 1 << 20
#: Loop steps and calls that one template may take.
MAX_STEPS = 100_000


def render(
    template: str,
    variables: Mapping[str, Any],
    names: Mapping[str, Any],
    *,
    path: str = "",
    first_line: int = 1,
) -> str:
    """Return the text of `template` with `variables` filled in.

    `names` are functions and limits that every template may use. `path` and `first_line` say in
    errors where the text comes from. The template can neither reach Python's insides nor write
    more than MAX_OUTPUT bytes nor take more than MAX_STEPS steps. Raises OrchestratorError, with
    file and line, whatever goes wrong in it.
    """
    environment = _environment()
    environment.globals.update(names)
    chunks: list[str] = []
    size = 0
    try:
        kind, names_known = environment.template_class, environment.make_globals(None)
        compiled = kind.from_code(environment, _compiled(template), names_known)
        for chunk in compiled.generate(variables):
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


def syntax_error(template: str) -> tuple[int, str] | None:
    """Return the line of `template`, from 1, that is no template, and why; None when all is."""
    from jinja2 import TemplateSyntaxError

    try:
        _environment().parse(template)
    except TemplateSyntaxError as error:
        return error.lineno, str(error.message)
    except RecursionError:
        return 1, "nested too deeply"
    return None


def _line_of(error: Exception) -> int:
    """Return the line of the template, from 1, that an error came from."""
    line = getattr(error, "lineno", None) or 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return int(line)


@functools.lru_cache(maxsize=8)
def _compiled(template: str) -> CodeType:
    """Return a template as code; which sandbox it then runs in makes no difference to it."""
    return _ready.get(template) or _environment().compile(template)


# --- templates that every run is made with ------------------------------------------------------

#: Their code, by their text.
_ready: dict[str, CodeType] = {}


def make_ready(templates: Sequence[str], path: str | None = None) -> None:
    """Load what rendering these templates takes, and their code: that is most of the work.

    Compiling takes half as long as loading Jinja2, so the code is kept in the file at `path`, if
    there may be one. Like Python's own, beside which it belongs, it is believed as long as what it
    was made from and by is the same: whoever can write there can change the program as well.
    """
    made_by = _made_by()
    kept = _read(path, made_by, templates) if path else None
    if kept is not None:
        _ready.update(kept)
        return
    from jinja2 import TemplateError

    try:
        _ready.update((template, _environment().compile(template)) for template in templates)
    except (TemplateError, RecursionError):
        return  # what is wrong is said when it is rendered
    if path and not sys.dont_write_bytecode:
        _keep(path, made_by, _ready)


def _made_by() -> str:
    """Return a text that changes with Python, Jinja2 and this module."""
    from jinja2 import compiler

    found = map(os.stat, (__file__, compiler.__file__))
    stamps = ((each.st_mtime_ns, each.st_ctime_ns, each.st_size, each.st_ino) for each in found)
    return repr((sys.version, *stamps))


def _read(path: str, made_by: str, templates: Sequence[str]) -> dict[str, CodeType] | None:
    """Return the code kept at `path`; None when it is damaged, or not these templates'."""
    import marshal
    from hashlib import sha256

    try:
        with open(path, "rb") as file:
            digest, data = file.read(sha256().digest_size), file.read()
    except OSError:
        return None
    if digest != sha256(data).digest():
        return None
    maker, codes = marshal.loads(data)
    return codes if maker == made_by and set(codes) == set(templates) else None


def _keep(path: str, made_by: str, codes: Mapping[str, CodeType]) -> None:
    """Keep code at `path`, atomically; where that cannot be, nothing is lost but time."""
    import marshal
    from hashlib import sha256

    data = marshal.dumps((made_by, dict(codes)))
    beside = f"{path}.{os.getpid()}"
    try:
        with open(beside, "xb") as file:
            file.write(sha256(data).digest() + data)
        os.replace(beside, path)
    except OSError:
        return


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
