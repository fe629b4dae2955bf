"""The shipped templates, translated into functions, say what Jinja2 makes of them."""

from __future__ import annotations

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import compile_templates
import pytest
from conftest import CHECKOUT
from hypothesis import given
from hypothesis import strategies as st
from test_roles import BASE_COMMIT, HEAD_COMMIT, HISTORY, REVIEW, ROUND, a_task, variables

from orchestrator.config import roles
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError
from orchestrator.run import prompts
from orchestrator.text import shipped_templates, templates

SHIPPED, _ = roles.load("/nowhere")
REF = "refs/orchestrator/rescue/x"
#: Values of the facts that the templates look at.
FACTS: dict[str, tuple[Any, ...]] = {
    "task": (None, a_task()),
    "body": ("", "Text with ``` and\n````\n", "\u202e\x1b[31m" + "x" * 90_000),
    "history": ([], HISTORY, HISTORY * 20, [{**HISTORY[0], "kind": "unknown", "text": ""}]),
    "config": (Config(), Config(checks=("a",), check_timeout_seconds=1.5)),
    "base_commit": (None, BASE_COMMIT),
    "branch": (None, "agent/x"),
    "attempt": (1, 3),
    "rescue": (None, REF),
    "review": (
        None,
        REVIEW,
        REVIEW._replace(rounds=[ROUND], since=HEAD_COMMIT, notes=("one", "two")),
        REVIEW._replace(rounds=[{**ROUND, "by": "", "commit": ""}] * 60, since_is_below=True),
    ),
    "global_instructions": ("", " \n", "Use words.\n", "y" * 50_000),
    "checks": ((), ("make lint", "make test")),
    "resumed": (False, True),
    "confined": (False, True),
    "writes": (False, True),
    "cut": (None, HEAD_COMMIT),
    "replaced": (None, REF),
    "pushed": (None, HEAD_COMMIT),
    "not_set_up": (None, "npm ci: failed"),
    "parts": ((), (a_task(), a_task(title="{{ project }}"))),
    "may_add": (0, 3),
    "submodules": (False, True),
    "ports": ({}, {"A": 1}, {"A": 1, "B": 2}),
}


@functools.cache
def _template(text: str) -> Any:
    return templates.environment().from_string(text)


def by_jinja2(text: str, values: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[str]:
    chunks: Iterator[str] = _template(text).generate({**names, **values})
    return chunks


def test_the_module_is_what_jinja2_makes_of_the_templates() -> None:
    said = "a template has changed, or Jinja2: make templates"
    # Versions of Python may write the same code in other words.
    here, made = compile_templates.MODULE.read_text(), compile_templates.module()
    assert ast.dump(ast.parse(here)) == ast.dump(ast.parse(made)), said


def test_every_shipped_text_has_its_function() -> None:
    assert set(compile_templates.sources().values()) == set(shipped_templates.FUNCTIONS)


@given(st.sampled_from([*SHIPPED]), st.fixed_dictionaries({k: st.sampled_from(v) for k, v in FACTS.items()}))  # fmt: skip  # noqa: E501
def test_the_functions_say_what_jinja2_says(role: str, facts: dict[str, Any]) -> None:
    chosen = variables(SHIPPED[role], **facts)
    texts = prompts.instructions(chosen), prompts.prompt(chosen)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(templates, "_chunks", by_jinja2)
        assert (prompts.instructions(chosen), prompts.prompt(chosen)) == texts


def test_the_shipped_prompts_need_no_jinja2() -> None:
    code = (
        "import sys; sys.path[:0] = sys.argv[1:]; import test_compiled_templates as here; "
        "sys.modules['jinja2'] = None; "
        "[here.prompts.instructions(here.variables(role)) for role in here.SHIPPED.values()]"
    )
    words = (sys.executable, "-c", code, str(CHECKOUT), str(CHECKOUT / "tests"))
    subprocess.run(words, timeout=60, check=True)


@pytest.mark.parametrize("text", compile_templates.sources().values())
def test_a_missing_variable_is_an_error_in_both(text: str) -> None:
    for chunks in (templates._chunks, by_jinja2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(templates, "_chunks", chunks)
            with pytest.raises(OrchestratorError, match=r"/x/t\.md:\d+: '\w+' is undefined"):
                templates.render(text, {}, {}, "/x/t.md", 1)
