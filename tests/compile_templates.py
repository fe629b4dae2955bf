"""`make templates`: translate the shipped templates into Python.

Jinja2 makes functions of the templates, which run without it (`orchestrator/text/compiled.py`): its
import takes longer than a whole run. A test fails when the module is not what this program writes.
"""

from __future__ import annotations

import ast
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

from orchestrator.text.compiled import Context, attribute, item, join, loop_context, replace, text
from orchestrator.text.quoting import clipped, fenced, inline
'''
_TABLE = """

#: By the text of the template.
FUNCTIONS: dict[str, Callable[[Context], Iterator[str]]] = {
"""


class _Shorter(ast.NodeTransformer):
    """Makes of Jinja2's code what the names of `text/compiled.py` mean.

    A variable is an item of the context, which has an error for one that is missing: so nothing is
    looked up or checked beforehand. Texts that follow each other become one.
    """

    def __init__(self) -> None:
        #: What Jinja2 calls a filter or a variable of the template, and its name there.
        self.filters: dict[str, str] = {}
        self.variables: dict[str, str] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        for each in ast.walk(node):
            if isinstance(each, ast.Assign):
                self._know(ast.unparse(each))
        node.args.args, node.args.defaults = node.args.args[:1], []
        return self.generic_visit(node)

    def _know(self, said: str) -> None:
        if found := re.fullmatch(r"(t_\d+) = environment\.filters\['(\w+)'\]", said):
            self.filters[found[1]] = found[2]
        elif found := re.fullmatch(r"(l_\d+_\w+) = resolve\('(\w+)'\)", said):
            self.variables[found[1]] = found[2]
        elif found := re.fullmatch(r"context\.vars\['(\w+)'\] = (l_\d+_\w+)", said):
            self.variables[found[2]] = found[1]

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        said = ast.unparse(node)
        is_known = re.search(r"= (missing|resolve\(.*\)|environment\.filters\[.*\])$", said)
        is_of_jinja = re.match(r"(context\.vars\[|_loop_vars|resolve|undefined|concat|cond_)", said)
        return None if is_known or is_of_jinja else self.generic_visit(node)

    def visit_Pass(self, node: ast.Pass) -> None:
        return None

    def visit_Try(self, node: ast.Try) -> ast.AST | None:
        return self.visit(node.body[0])  # whether there is such a filter

    def visit_If(self, node: ast.If) -> ast.AST | None:
        return None if ast.unparse(node.test) == "0" else self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        is_of_jinja = ast.unparse(node).startswith("context.exported_vars.")
        return None if is_of_jinja else self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        is_check = ast.unparse(node.body).startswith("undefined(")
        return self.visit(node.orelse) if is_check else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        name = ast.unparse(node.func)
        match name:
            case "environment.call":
                node = ast.Call(node.args[1], node.args[2:], [])
            case "environment.getattr" | "environment.getitem":
                node.func = ast.Name({"getattr": "attribute"}.get(name[12:], "item"))
            case "LoopContext":
                node = ast.Call(ast.Name("loop_context"), node.args[:1], [])
            case "str_join":
                node = ast.Call(ast.Name("text"), node.args[0].elts, [])
            case "concat":
                node = ast.Call(ast.Name("text"), [ast.Starred(node.args[0])], [])
            case _ if name.startswith("Markup if "):
                return self.visit(node.args[0])
        node.args = [each for each in node.args if ast.unparse(each) != "context.eval_ctx"]
        return self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        if node.id in self.variables:
            key = ast.Constant(self.variables[node.id])
            return ast.Subscript(ast.Name("context"), key, ast.Load())
        return ast.Name(self.filters.get(node.id, re.sub(r"^l_\d+_", "", node.id)))

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for field in ("body", "orelse"):
            if isinstance(statements := getattr(node, field, None), list):
                setattr(node, field, _joined(statements))
        return node


def _joined(statements: list[ast.stmt]) -> list[ast.stmt]:
    """Return statements in which texts that follow each other are yielded as one."""
    found: list[ast.stmt] = []
    for each in statements:
        match each:
            case ast.Expr(ast.Yield(value)):
                # `text` makes strings of its arguments.
                is_str = isinstance(value, ast.Call) and ast.unparse(value.func) == "str"
                parts = value.args if is_str else [value]
                match found[-1:]:
                    case [ast.Expr(ast.Yield(ast.Call(ast.Name("text"), arguments)))]:
                        arguments += parts
                    case _:
                        call = ast.Call(ast.Name("text"), [*parts], [])
                        found.append(ast.Expr(ast.Yield(call)))
            case _:
                found.append(each)
    return found


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
        code = ast.parse(templates.environment().compile(source, raw=True))
        root = next(each for each in code.body if getattr(each, "name", "") == "root")
        made = _Shorter().visit(root)
        made.name = name
        texts.append(f"\n\n{ast.unparse(ast.fix_missing_locations(made))}\n")
    rows = "".join(f"    {source!r}: {name},\n" for name, source in sources().items())
    return "".join([*texts, f"{_TABLE}{rows}}}\n"])


if __name__ == "__main__":
    MODULE.write_text(module())
