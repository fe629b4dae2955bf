"""Templates run in Jinja2's sandbox: without Python's internals, with a bound on their output.

A role's brief is the user's own text. A template can reach the values that it is given, and the
quoting of `quoting`. Jinja2 is imported when it is used: for a template that was not shipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.model.annotations import TYPE_CHECKING, Any
from orchestrator.model.errors import OrchestratorError
from orchestrator.text.quoting import clipped, fenced, inline

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

#: Bytes that a rendered text may have.
MAX_OUTPUT = 1 << 20


def render(
    template: str, variables: Mapping[str, Any], names: Mapping[str, Any], path: str, line: int
) -> str:
    """Return the text of `template` with `variables` filled in.

    `names` are functions and limits that every template may use. `path` and `line` say where the
    template begins. Raises OrchestratorError, with file and line, for every error in the template
    and for a text of more than MAX_OUTPUT bytes.
    """
    text = bytearray()
    try:
        for chunk in _chunks(template, variables, names):
            text += chunk.encode("utf-8", "replace")
            if len(text) > MAX_OUTPUT:
                raise OverflowError(f"it writes more than {MAX_OUTPUT >> 10} KiB")
    except OrchestratorError:
        raise
    except Exception as error:
        message = f"{path}:{_line_of(error) + line - 1}: {str(error) or type(error).__name__}"
        raise OrchestratorError(message, f"correct {path}", code="role_broken") from error
    return text.decode()


def _chunks(template: str, variables: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[str]:
    from orchestrator.text import compiled, shipped_templates

    function = shipped_templates.FUNCTIONS.get(template)
    if function is not None:
        return function(compiled.Context({**names, **variables}))
    return environment().from_string(template, globals={**names}).generate(variables)


def load() -> None:
    """Import the shipped templates: once, before runs are forked."""
    from orchestrator.text import compiled, shipped_templates  # noqa: F401


def syntax_error(template: str, path: str, line: int) -> str | None:
    """Return the problem of a template that begins at `path` and `line`; None if it is valid."""
    from jinja2 import TemplateSyntaxError

    try:
        environment().parse(template)
    except TemplateSyntaxError as error:
        return f"{path}:{error.lineno + line - 1}: not a Jinja2 template: {error.message}"
    except RecursionError:
        return f"{path}:{line}: not a Jinja2 template: nested too deeply"
    return None


def _line_of(error: Exception) -> int:
    """Return the line of the template (from 1) that caused an error."""
    import traceback  # loads the tokenizer

    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
    return (lines[-1] if lines else getattr(error, "lineno", None)) or 1


def environment() -> ImmutableSandboxedEnvironment:
    """Return a sandbox in which templates reach no attribute that begins with an underscore."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    environment.filters.update(fenced=fenced, inline=inline, clipped=clipped)
    return environment
