"""The house stands as it was drawn: who may import whom, who prints, and what a start costs."""

from __future__ import annotations

import ast
import functools
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT
from rows import each_row

from orchestrator import idle
from orchestrator.client import registry

PACKAGE = CHECKOUT / "orchestrator"


def rooms() -> dict[str, set[str]]:
    """Read the table of CONTRIBUTING.md: the doors of each room, from top to bottom.

    Each room is a folder; "(entry points)" and "(vocabulary)" are modules at the root.
    """
    text = (CHECKOUT / "CONTRIBUTING.md").read_text()
    table = text.partition("### The rooms\n")[2].partition("\n\nWhere to find it")[0]
    rows = re.findall(r"^\| `?([a-z( )]+?)`? \| [^|]+ \| (`[^|]+`) \|$", table, re.MULTILINE)
    return {room: set(re.findall(r"`([^`]+)`", doors)) for room, doors in rows}


ROOMS = rooms()
#: What decides and what it is made of: everything these know, they are given.
DECIDING = (
    "plan",
    "tasks.task_file",
    "tasks.header",
    "tasks.history",
    "config.keys",
    "config.yaml_values",
    "config.last_good",
    "text.yaml_nodes",
    "model.config",
    "model.errors",
    "model.snapshot",
    "model.times",
    "model.work",
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
HEAVY = (
    *("yaml", "jinja2", "rich", "frontmatter", "psutil", "cronsim"),
    *("psycopg", "procrastinate"),
)


def modules() -> dict[str, Path]:
    """Every module by its name below `orchestrator`; a package goes by its own name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if "_resources" not in parts and path.stat().st_size:  # a room's `__init__` is empty
            found[".".join(parts).removesuffix(".__init__")] = path
    del found["__init__"]
    return found


MODULES = modules()


@functools.cache
def parsed(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text())


@functools.cache
def nodes(name: str) -> list[ast.AST]:
    """Return every node of a module's code."""
    return list(ast.walk(parsed(name)))


@functools.cache
def imports(name: str) -> dict[str, int]:
    """What a module imports anywhere in it, by full name, with the line."""
    found: dict[str, int] = {}
    for node in nodes(name):
        if isinstance(node, ast.Import):
            found.update((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno}: a relative import"
            for alias in node.names:
                found[f"{node.module}.{alias.name}"] = node.lineno
    return found


@functools.cache
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


def room_of(name: str) -> str | None:
    """Return the room of a module; a package's `__init__` goes by the package's name."""
    first = name.partition(".")[0]
    if first in ROOMS:
        return first
    return next((room for room in ("(entry points)", "(vocabulary)") if name in ROOMS[room]), None)


def is_door(name: str) -> bool:
    room = room_of(name)
    return room is not None and name.removeprefix(f"{room}.") in ROOMS[room]


# --- who imports whom --------------------------------------------------------------------------


def test_every_module_is_in_a_room_and_every_door_exists() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == {room for room in ROOMS if room.isalpha()}
    homeless = [name for name in MODULES if room_of(name) is None]
    assert not homeless, f"move {homeless} into a room: as low as their imports allow"
    doors = {
        door if room.startswith("(") else f"{room}.{door}"
        for room, doors in ROOMS.items()
        for door in doors
    }
    assert doors <= MODULES.keys()


def test_a_module_imports_only_downwards_and_only_through_doors() -> None:
    order = list(ROOMS)
    wrong = []
    for name in MODULES:
        own = room_of(name)
        assert own is not None, name
        for other, line in ours(name).items():
            room = room_of(other)
            if room == own:
                continue
            if room is None or order.index(room) < order.index(own):
                wrong.append(f"{name}:{line} imports {other}, which is in a room above")
            elif not is_door(other):
                wrong.append(f"{name}:{line} imports {other}, which is not a door of {room}")
    assert not wrong


def test_every_door_is_used_from_outside_its_room() -> None:
    used = {other for name in MODULES for other in ours(name) if room_of(other) != room_of(name)}
    unused = {n for n in MODULES if is_door(n) and n not in used} - ROOMS["(entry points)"]
    assert not unused, f"{unused} need not be doors"


def test_no_module_imports_in_a_circle_while_it_is_being_loaded() -> None:
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


def test_no_room_has_a_circle_even_of_imports_inside_functions() -> None:
    left = {n: {o for o in ours(n) if o != n and room_of(o) == room_of(n)} for n in MODULES}
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
        for node in nodes(name):
            called = node.func if isinstance(node, ast.Call) else None
            if isinstance(called, ast.Name) and called.id in ("print", "input"):
                found.append(f"{name}:{called.lineno}")
        found += [f"{name} imports {full}" for full in imports(name) if full.startswith("rich")]
    assert not found


def test_only_the_file_store_knows_the_folders_of_the_queue() -> None:
    found = []
    for name in MODULES.keys() - {"layout", "tasks.file_store"}:
        for node in nodes(name):
            if isinstance(node, ast.Attribute) and node.attr in ("queue", "state"):
                owner = ast.unparse(node.value)
                if owner.rpartition(".")[2].strip("_") in ("layout", "Layout"):
                    found.append(f"{name}:{node.lineno}")
    assert not found, "ask the store for it (tasks/store.py)"


@each_row("name", [n for n in MODULES if n in DECIDING or n.partition(".")[0] in DECIDING])
def test_what_decides_sees_no_clock_no_file_and_no_process(name: str) -> None:
    worldly = {full.split(".")[0] for full in imports(name)} & WORLDLY
    assert not worldly
    for node in nodes(name):
        assert not isinstance(node, ast.Global), f"{name}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("now", "utcnow", "today", "getenv"), f"{name}:{node.lineno}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("open", "exec", "eval", "__import__"), name


def test_what_plans_knows_nothing_but_the_nouns() -> None:
    inside = {name for name in MODULES if name.partition(".")[0] == "plan"}
    known = {other for name in inside for other in ours(name)} - inside
    assert {room_of(other) for other in known} == {"model"}


def test_nothing_catches_everything_and_goes_on_as_if_nothing_had_been() -> None:
    found = []
    for name in MODULES:
        for node in nodes(name):
            if not isinstance(node, ast.ExceptHandler):
                continue
            caught = ast.unparse(node.type) if node.type else "everything"
            quiet = all(isinstance(each, ast.Pass | ast.Continue) for each in node.body)
            if quiet and caught in ("everything", "Exception", "BaseException"):
                found.append(f"{name}:{node.lineno}")
    assert not found  # failures 9


#: Where a client's name stands for the program that has this one as its plugin (the files that
#: `init` writes for it), for its entry in the registry, for what the demonstration plays, in the
#: texts of the shipped roles, and among the sources of what secrets look like.
NAMES_OF_CLIENTS = {
    *("text.shipped_templates", "guard.known_shapes"),
    *("cli.init", "setup.init_project", "setup.skills", "setup.user_files"),
    *("client.registry", "demo.project", "schedule.program_copy"),
}


def test_only_an_adapter_knows_its_client() -> None:
    known = {
        name
        for name, path in MODULES.items()
        if re.search("claude|anthropic", path.read_text(), re.IGNORECASE)
    }
    assert {name for name in known if not name.startswith("client.claude.")} == NAMES_OF_CLIENTS


#: Rooms in which every record has a type. What a file or a program holds is `object` until it is
#: checked.
TYPED = ("tick", "run", "upkeep", "pulls", "project", "plan", "tasks", "git")


def annotations(name: str) -> Iterator[ast.expr]:
    """Yield the types of parameters and results, of classes' fields, and of the module's names."""
    tree = parsed(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
            yield from (each.annotation for each in arguments if each.annotation)
            if node.returns:
                yield node.returns
        elif isinstance(node, ast.ClassDef):
            yield from (each.annotation for each in node.body if isinstance(each, ast.AnnAssign))
    for each in tree.body:
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Subscript):
            yield each.value  # the name of a type


def test_no_signature_of_the_core_hides_what_is_in_a_dictionary() -> None:
    hiding = re.compile(r"\b(dict|Mapping|MutableMapping)\[[^]]*\bAny\b")
    core = [name for name in MODULES if name.partition(".")[0] in TYPED]
    assert len(core) > 100
    found = [
        f"{name}:{each.lineno}"
        for name in core
        for each in annotations(name)
        if hiding.search(ast.unparse(each))
    ]
    assert not found


# --- what a start costs ------------------------------------------------------------------------


def imported(*words: str, cwd: Path | None = None) -> set[str]:
    """Run the bare interpreter and return what it imported."""
    done = subprocess.run(
        (sys.executable, "-I", "-S", "-B", "-X", "importtime", *words),
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
    own = {"orchestrator", "orchestrator.start", "orchestrator.idle"}
    assert extra == own | {"fcntl"} | ({"time"} - bare)
    assert (idle_project / ".orchestrator" / "scheduler.lock").stat().st_mtime > 1e9


def test_what_is_imported_before_it_is_known_whether_there_is_work_is_next_to_nothing() -> None:
    for name in ("__main__", "start"):
        top = {
            alias.name
            for node in parsed(name).body
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert top == {"os", "sys"}
    assert set(imports("idle")) == {"fcntl", "os", "sys", "time"}


def test_what_python_compiles_at_each_start_is_short() -> None:
    assert len(list(ast.walk(parsed("__main__")))) < 120


def loaded_by(*names: str) -> set[str]:
    """What is in `sys.modules` once modules are imported in a fresh process."""
    code = (
        "import sys; sys.path[:0] = sys.argv[1:2]; import importlib; "
        "[importlib.import_module(f'orchestrator.{name}') for name in sys.argv[2:]]; "
        "print(*sys.modules)"
    )
    words = (sys.executable, "-c", code, str(CHECKOUT), *names)
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    return set(done.stdout.split())


def test_a_whole_tick_loads_none_of_the_heavy_libraries_until_it_needs_one() -> None:
    loaded = loaded_by("cli.tick")
    assert {name.split(".")[0] for name in loaded}.isdisjoint(HEAVY)
    of_ours = {name.partition(".")[2] for name in loaded if name.startswith("orchestrator.")}
    # What only a run, or a merge, needs.
    assert of_ours.isdisjoint({"run.prepare", "git.worktree", "run.delivery", "pulls.landing"})
    assert loaded.isdisjoint({"subprocess", "shlex"})


def test_read_commands_load_only_what_each_call_of_them_needs() -> None:
    reads = ("logs", "status", "inbox", "task", "task_add", "task_change", "task_edit", "session")
    loaded = loaded_by(*(f"cli.{name}" for name in ("main", *reads, "pr", "pr_review")))
    loaded -= loaded_by()  # what an interpreter with site packages loads itself
    assert {name.split(".")[0] for name in loaded}.isdisjoint(HEAVY)
    assert loaded.isdisjoint({"secrets", "socket", "urllib.parse", "subprocess", "tempfile"})
    assert loaded.isdisjoint({"shutil", "threading", "pathlib", "typing"})
    of_ours = {name.partition(".")[2] for name in loaded if name.startswith("orchestrator.")}
    assert of_ours.isdisjoint({"cli.editor", "cli.explain", "run.prompts", "schedule.schedule"})
    # Git is not asked while the stamp of the last tick holds, nor GitHub at any time.
    look = loaded_by("cli.status", "tick.observe", "tick.inbox", "tick.problems", "pulls.states")
    asks = ("git.call", "git.repository", "git.settings", "pulls.gh", "pulls.github_repo")
    assert look.isdisjoint({f"orchestrator.{name}" for name in asks})
    assert loaded_by("cli.costs", "cli.history", "cli.metrics").isdisjoint(
        {"statistics", "decimal"}
    )
    small = loaded_by("cli.main", "cli.logs", "cli.task", "cli.task_add", "cli.task_edit")
    assert small.isdisjoint({"orchestrator.tick.observe", "orchestrator.pulls.states"})
    program = str(PACKAGE / "__main__.py")
    # The list of imports leaves out what `import_module` loads, so what that loads counts.
    of_each = loaded_by("start", "cli.main")
    of_task = loaded_by("cli.main", "cli.task") - of_each - {"orchestrator.cli.task"}
    of_task = {name for name in of_task if name.startswith("orchestrator.")}
    assert of_task <= imported(program, "task", "--help")
    assert of_task.isdisjoint(imported(program, "--version"))
    # Agents call it often; its group's other modules load the plan.
    add = {name.removeprefix("orchestrator.") for name in imported(program, "task", "add", "-h")}
    assert "cli.task_values" in add
    assert add.isdisjoint({"cli.json_rows", "plan.planner", "git.call", "guard.known_shapes"})


def test_patterns_are_loaded_by_the_commands_that_need_one() -> None:
    """`re` and the patterns of `json` take as long as the plan; the usual text is read without."""
    usual = ("status", "inbox", "explain", "agent", "pr", "pr_review", "runs", "costs", "history")
    tasks = ("task", "task_add", "task_change", "task_edit")
    loaded = loaded_by(*(f"cli.{name}" for name in ("main", *usual, *tasks, "metrics", "report")))
    assert (loaded - loaded_by()).isdisjoint({"re", "enum", "json"})


def test_no_module_loads_typing_which_takes_as_long_as_a_fifth_of_a_start() -> None:
    here = {"model.annotations", "model.fields"}  # for type checkers only
    loading = {n for n in MODULES if any(each.startswith("typing") for each in imports(n))}
    assert loading - {"bootstrap"} == here


def test_a_waiting_supervisor_holds_no_more_than_it_needs() -> None:
    loaded = loaded_by("run.supervisor")
    of_ours = {name.partition(".")[2] for name in loaded if name.startswith("orchestrator.")}
    # For each client, the module with its class, and the packages in which the module is.
    modules = {type(client).__module__.partition(".")[2] for client in registry.CLIENTS.values()}
    packages = {".".join(m.split(".")[:n]) for m in modules for n in range(1, m.count(".") + 1)}
    assert of_ours == {
        *modules,
        *packages,
        "client.registry",
        "model",
        "model.annotations",
        "model.config",
        "model.errors",
        "model.fields",
        "model.snapshot",
        "model.work",
        "project",
        "project.run_record",
        "run",
        "run.journal",
        "run.supervisor",
        "run.watch",
        "system",
        "system.disk",
        "system.files",
        "system.json_codec",
        "system.locks",
        "system.memory",
        "system.process",
        "system.processes",
        "system.records",
        "system.waits",
    }
    assert loaded.isdisjoint({"dataclasses", "subprocess", "inspect", "asyncio", *HEAVY})
