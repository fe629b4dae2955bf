"""The house stands as it was drawn: who may import whom, who prints, and what a start costs."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import CHECKOUT

from orchestrator import idle

PACKAGE = CHECKOUT / "orchestrator"

#: From top to bottom; a module imports only from rows below its own. `name.*` is a whole package,
#: whose modules may import each other. STYLE.md's rows are the comments on the right.
ROWS = (
    ("bootstrap", "init"),  # ways in
    ("__main__",),
    ("cli.*",),  # cli
    ("demo.*", "scheduler", "setup.*"),  # scheduler
    ("retention",),
    ("tidy",),
    ("landing", "settle", "starting", "tick.*"),
    ("pullrequests", "supervisor"),
    ("runner",),  # runner
    ("briefing",),
    ("delivery", "headstart", "job", "observe", "review"),
    ("forge", "schedule.*", "settings", "upstream", "worktree"),  # store, git, forge, client
    ("clone", "gitremote", "gitworktree"),
    (
        "agentstate",
        "checks",
        "client",
        "environment",
        "events",
        "fault",
        "git",
        "locks",
        "runrecord",
        "store",
    ),
    ("aside", "summaries"),
    ("disk", "files", "idle", "layout", "process"),
    ("plan.*", "transcript"),  # planner, taskfile, roles, config
    ("config", "lastgood", "prompts", "taskfile", "yamledit"),
    ("header", "history", "roles", "yamlvalues"),
    ("rolefile", "yamlread"),
    ("sandbox",),
    ("confinement", "quoting", "withheld"),
    ("errors", "model"),  # model, errors
)
#: Imports that go up, each with the reason why.
EXCEPTIONS = {
    ("scheduler", "__main__"): "the seed's entry point, when its file is run by path",
}
#: What decides and what it is made of: everything these know, they are given.
DECIDING = (
    "plan.draft",
    "plan.due",
    "plan.planner",
    "plan.rules",
    "plan.settlements",
    "taskfile",
    "header",
    "history",
    "config",
    "yamlread",
    "yamlvalues",
    "lastgood",
    "model",
    "errors",
)
WORLDLY = {
    "fcntl",
    "io",
    "locale",
    "os",
    "pathlib",
    "random",
    "secrets",
    "shutil",
    "signal",
    "socket",
    "subprocess",
    "sys",
    "tempfile",
    "threading",
    "time",
    "uuid",
}
HEAVY = ("yaml", "jinja2", "rich", "ruamel", "frontmatter", "psutil", "cronsim")


def modules() -> dict[str, Path]:
    """Every module by its name below `orchestrator`; a package goes by its own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if "_resources" not in parts:
            found[".".join(parts).removesuffix(".__init__")] = path
    del found["__init__"]
    return found


MODULES = modules()


@functools.cache
def parsed(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


def imports(name: str) -> dict[str, int]:
    """What a module imports anywhere in it, by full name, with the line."""
    found: dict[str, int] = {}
    for node in ast.walk(parsed(name)):
        if isinstance(node, ast.Import):
            found.update((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            for alias in node.names:
                found[f"{node.module}.{alias.name}"] = node.lineno
    return found


def ours(name: str) -> dict[str, int]:
    """Which of our modules a module imports."""
    found = {}
    for full, line in imports(name).items():
        words = full.split(".")
        if words[0] == "orchestrator":
            inner = ".".join(words[1:])
            while inner and inner not in MODULES:
                inner = inner.rpartition(".")[0]
            if inner:
                found[inner] = line
    return found


def row_of(name: str) -> int | None:
    package = f"{name.partition('.')[0]}.*"
    return next((n for n, row in enumerate(ROWS) if name in row or package in row), None)


# --- who imports whom --------------------------------------------------------------------------


def test_every_module_has_its_row() -> None:
    homeless = [name for name in MODULES if row_of(name) is None]
    assert not homeless, f"put {homeless} into ROWS, as low as their imports allow"
    written = {name for row in ROWS for name in row if not name.endswith(".*")}
    assert written <= MODULES.keys()


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_the_rows_below_its_own(name: str) -> None:
    own = row_of(name)
    assert own is not None
    upward = []
    for other, line in ours(name).items():
        package = name.partition(".")[0]
        if (other.partition(".")[0] == package and f"{package}.*" in ROWS[own]) or (
            (name, other) in EXCEPTIONS
        ):
            continue
        row = row_of(other)
        if row is None or row <= own:
            upward.append(f"{name}:{line} imports {other}")
    assert not upward


def test_no_exception_outlives_its_reason() -> None:
    assert [pair for pair in EXCEPTIONS if pair[1] not in ours(pair[0])] == []


def test_a_scheduler_run_by_path_is_all_that_its_exception_allows() -> None:
    tree = parsed("scheduler")
    guarded = [node for node in tree.body if isinstance(node, ast.If)]
    inside = {id(n) for guard in guarded for n in ast.walk(guard)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "orchestrator.__main__":
            assert id(node) in inside
    assert [ast.unparse(guard.test) for guard in guarded] == ["__name__ == '__main__'"]


def test_modules_of_one_row_could_be_read_in_any_order() -> None:
    """Nothing imports in a circle while it is being loaded, the command line's modules included."""
    graph = {name: set() for name in MODULES}
    for name in MODULES:
        for node in parsed(name).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("orchestrator"):
                base = (node.module or "").partition(".")[2]
                for alias in node.names:
                    inner = f"{base}.{alias.name}".lstrip(".")
                    graph[name].add(inner if inner in MODULES else base)
    # A package's own name stands for its `__init__`, which its modules load first anyway.
    left = {n: {o for o in others if o in graph and "." in o} for n, others in graph.items()}
    while free := [name for name, others in left.items() if not others & left.keys()]:
        for name in free:
            del left[name]
    assert not left


# --- what modules are called, say and know -----------------------------------------------------


def test_no_module_bears_a_name_of_the_standard_library() -> None:
    last_words = {name.rpartition(".")[2] for name in MODULES} - {"__main__"}
    assert not last_words & sys.stdlib_module_names


def test_only_the_command_line_prints() -> None:
    found = []
    for name in MODULES:
        if name.partition(".")[0] in ("cli", "bootstrap"):  # the latter runs before there is one
            continue
        for node in ast.walk(parsed(name)):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in ("print", "input"):
                found.append(f"{name}:{called.lineno}")
        found += [f"{name} imports {full}" for full in imports(name) if full.startswith("rich")]
    assert not found


@pytest.mark.parametrize("name", DECIDING)
def test_what_decides_sees_no_clock_no_file_and_no_process(name: str) -> None:
    worldly = {full.split(".")[0] for full in imports(name)} & WORLDLY
    assert not worldly
    for node in ast.walk(parsed(name)):
        assert not isinstance(node, ast.Global), f"{name}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("now", "utcnow", "today", "getenv"), f"{name}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "exec", "eval", "__import__"), name


def test_a_plan_knows_nothing_but_the_nouns() -> None:
    rooms = {
        other.partition(".")[0]
        for name in MODULES
        if name.startswith("plan.")
        for other in ours(name)
    }
    assert rooms == {"model", "plan"}


def test_nothing_catches_everything_and_goes_on_as_if_nothing_had_been() -> None:
    found = []
    for name in MODULES:
        for node in ast.walk(parsed(name)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "everything"
            quiet = all(isinstance(each, ast.Pass | ast.Continue) for each in node.body)
            if quiet and caught in ("everything", "Exception", "BaseException"):
                found.append(f"{name}:{node.lineno}")
    assert not found  # FAILURES 9


# --- what a start costs ------------------------------------------------------------------------


def imported(*words: str, cwd: Path | None = None) -> set[str]:
    """Run the bare interpreter and return what it imported."""
    done = subprocess.run(
        (sys.executable, "-I", "-S", "-X", "importtime", *words),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return set(re.findall(r"^import time:[ |0-9]*\| +(\S+)$", done.stderr, re.MULTILINE))


@pytest.fixture
def idle_project(tmp_path: Path) -> Path:
    """A project in which the last tick found that there is nothing to do."""
    home = tmp_path / ".orchestrator"
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "orchestrator.json").write_text("{}")
    (home / "cache").mkdir(parents=True)
    (home / "scheduler.lock").touch()
    os.utime(home / "scheduler.lock", (1, 1))
    now = time.time()
    assert idle.write_stamp(str(home / "cache" / "idle"), now, now + 600, [])
    return tmp_path


def test_a_tick_with_nothing_to_do_imports_a_handful_of_built_in_modules(
    idle_project: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("import os\n")
    bare = imported(str(empty))
    extra = imported(str(PACKAGE / "__main__.py"), "tick", cwd=idle_project) - bare
    assert extra == {"orchestrator", "orchestrator.idle", "fcntl"} | ({"time"} - bare)
    assert (idle_project / ".orchestrator" / "scheduler.lock").stat().st_mtime > 1e9


def test_what_is_imported_before_it_is_known_whether_there_is_work_is_next_to_nothing() -> None:
    top = {
        alias.name
        for node in parsed("__main__").body
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert top == {"os", "sys"}
    assert set(imports("idle")) == {"fcntl", "os", "time"}


def test_a_head_start_begins_before_anything_is_loaded() -> None:
    begin = f"import os, sys; sys.path.insert(0, {str(CHECKOUT)!r})"
    extra = imported("-c", f"{begin}; from orchestrator import headstart") - imported("-c", begin)
    assert extra == {"orchestrator", "orchestrator.headstart", "orchestrator.aside"} | (
        extra & {"__future__", "gc"}
    )


def test_what_writes_instructions_aside_loads_nothing_that_reads_the_project() -> None:
    assert set(ours("headstart")) == {"aside", "errors", "prompts", "runrecord"}


def loaded_by(name: str) -> set[str]:
    """What is in `sys.modules` once a module is imported in a fresh process."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; import importlib; "
        "importlib.import_module(sys.argv[2]); print(*sys.modules)"
    )
    words = (sys.executable, "-c", code, str(CHECKOUT), f"orchestrator.{name}")
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


def test_a_whole_tick_loads_none_of_the_heavy_libraries_until_it_needs_one() -> None:
    loaded = loaded_by("cli.ticking")
    assert {name.split(".")[0] for name in loaded}.isdisjoint(HEAVY)
    of_ours = {name.partition(".")[2] for name in loaded if name.startswith("orchestrator.")}
    # What only a run, or a merge, needs.
    assert of_ours.isdisjoint({"runner", "worktree", "delivery", "checks", "withheld", "landing"})
    assert loaded.isdisjoint({"subprocess", "shlex"})


def test_no_noun_has_annotations_that_are_text_to_be_compiled_while_a_tick_loads() -> None:
    """NamedTuple compiles each, and the first alone takes a millisecond: see `model`."""
    code = """
import sys
sys.path[:0] = sys.argv[1:]
found = set()
def heard(event, arguments):
    # Not of a file; and each NamedTuple evaluates one function anyway.
    if event == "compile" and arguments[1] == "<string>" and "lambda _cls" not in str(arguments[0]):
        frame = sys._getframe(1)
        while not frame.f_globals["__name__"].startswith("orchestrator."):
            frame = frame.f_back
        found.add(frame.f_globals["__name__"].partition(".")[2])
sys.addaudithook(heard)
from orchestrator import briefing, cli, runner
from orchestrator.cli import ticking
print(*found)
"""
    words = (sys.executable, "-I", "-S", "-c", code, str(CHECKOUT))
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == []


def test_a_waiting_supervisor_holds_no_more_than_it_needs() -> None:
    loaded = loaded_by("supervisor")
    of_ours = {name.partition(".")[2] for name in loaded if name.startswith("orchestrator.")}
    assert of_ours == {"disk", "environment", "files", "process", "runrecord", "supervisor"}
    assert loaded.isdisjoint({"dataclasses", "subprocess", "inspect", "asyncio", *HEAVY})
