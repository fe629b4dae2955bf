"""`make templates`: translate the shipped templates into Python.

Jinja2 makes functions of the templates, which run without it (`orchestrator/text/compiled.py`): its
import takes longer than a whole run. A test fails when the module is not what this program writes.
"""

from __future__ import annotations

import re

from conftest import CHECKOUT

from orchestrator.config import roles
from orchestrator.text import templates

MODULE = CHECKOUT / "orchestrator" / "text" / "shipped_templates.py"
_HEAD = '''"""The shipped templates as functions, by their text.

Written by `make templates`: do not edit.
"""

# mypy: ignore-errors

from collections.abc import Callable, Iterator

from orchestrator.text.compiled import Context, environment, missing, str_join
from orchestrator.text.compiled import loop_context as LoopContext

Undefined = None
'''
_TABLE = """

#: By the text of the template.
FUNCTIONS: dict[str, Callable[[Context], Iterator[str]]] = {
"""
#: How Jinja2 takes a filter, with what happens if there is no such filter.
_FILTER = r"\n    try:\n        (t_\d+ = .+)\n    except KeyError:(?:\n        .*)+"


def sources() -> dict[str, str]:
    """Return the text of each shipped template and of each shipped role's brief, by its name."""
    folder = CHECKOUT / "plugin" / "templates"
    found = {path.name.partition(".")[0]: path.read_text() for path in folder.glob("*.j2")}
    known, _ = roles.load("")
    return dict(sorted({**found, **{name: role.brief for name, role in known.items()}}.items()))


def module() -> str:
    """Return the text of the module."""
    texts = [_HEAD]
    for name, source in sources().items():
        code = templates.environment().compile(source, raw=True)
        body = code[code.index("def root(") : code.index("\nblocks = {}")]
        body = re.sub(r"\(Markup if context\.eval_ctx\.autoescape else identity\)", "", body)
        body = re.sub(_FILTER, r"\n    \1", body)
        texts.append(f"\n\n{body.rstrip()}\n\n\n{name} = root\n")
    rows = "".join(f"    {source!r}: {name},\n" for name, source in sources().items())
    return "".join([*texts, f"{_TABLE}{rows}}}\n"])


if __name__ == "__main__":
    MODULE.write_text(module())
