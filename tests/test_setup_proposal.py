"""What `init` proposes for `checks` and `setup`, and that it writes nothing without a yes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import git as sh
from harness import PRODUCT, PYTHON, wait_until
from rows import each_row

from orchestrator.config import keys
from orchestrator.git import repository
from orchestrator.guard.user_commands import Failure
from orchestrator.layout import Layout
from orchestrator.setup import ecosystems, proposal
from orchestrator.setup.ecosystem_table import TABLE
from orchestrator.setup.proposal import Proposal

Cli = Callable[..., Any]
PROGRAM = "check_program_missing"


def package(test: str = "jest", **more: Any) -> str:
    return json.dumps({"scripts": {"test": test}, **more})


PROJECT = "[project]\nname = 'x'\n"
UNITTEST = "import unittest\n\nclass Case(unittest.TestCase):\n    def test_it(self): pass\n"
PYTEST = {"tests/test_a.py": ""}
VENV = "python3 -m venv .venv && .venv/bin/pip install "
#: The files, the checks, the command and the files whose change repeats it.
KINDS: dict[str, tuple[Mapping[str, str], list[str], str | None, list[str]]] = {
    "npm": (
        {"package.json": package(), "package-lock.json": "{}"},
        ["npm test"], "npm ci", ["package.json", "package-lock.json"],
    ),
    "npm without a lock file": (
        {"package.json": package()},
        ["npm test"], "npm install --no-package-lock", ["package.json"],
    ),
    "npm without tests": (
        {"package.json": package('echo "Error: no test specified" && exit 1')},
        [], "npm install --no-package-lock", ["package.json"],
    ),
    "npm with a test that waits for changes": (
        {"package.json": package("react-scripts test"), "package-lock.json": "{}"},
        ["CI=true npm test"], "npm ci", ["package.json", "package-lock.json"],
    ),
    "pnpm": (
        {"package.json": package(), "pnpm-lock.yaml": ""},
        ["pnpm test"], "pnpm install --frozen-lockfile", ["package.json", "pnpm-lock.yaml"],
    ),
    "pnpm by packageManager": (
        {"package.json": package(packageManager="pnpm@9.1.0")},
        ["pnpm test"], "pnpm install", ["package.json"],
    ),
    "yarn 1": (
        {"package.json": package(), "yarn.lock": ""},
        ["yarn test"], "yarn install --frozen-lockfile", ["package.json", "yarn.lock"],
    ),
    "yarn 4": (
        {"package.json": package(), "yarn.lock": "", ".yarnrc.yml": ""},
        ["yarn test"], "yarn install --immutable", ["package.json", "yarn.lock"],
    ),
    "bun": (
        {"package.json": package(), "bun.lock": ""},
        ["bun run test"], "bun install --frozen-lockfile", ["package.json", "bun.lock"],
    ),
    "uv": (
        {"pyproject.toml": PROJECT, "uv.lock": "", "tox.ini": "", **PYTEST},
        ["uv run pytest"], "uv sync --frozen", ["pyproject.toml", "uv.lock"],
    ),
    "poetry": (
        {"pyproject.toml": "[tool.poetry]\nname = 'x'\n", "poetry.lock": "", **PYTEST},
        ["poetry run pytest"], "poetry install", ["pyproject.toml", "poetry.lock"],
    ),
    "tox": ({"pyproject.toml": PROJECT, "tox.ini": "[tox]\n"}, ["tox -e py"], None, []),
    "pip with requirements": (
        {"requirements.txt": "flask\n", **PYTEST},
        [".venv/bin/python -m pytest"], f"{VENV}-r requirements.txt pytest", ["requirements.txt"],
    ),
    "pip with an extra": (
        {"pyproject.toml": f"{PROJECT}[project.optional-dependencies]\ntest = ['pytest']\n"},
        [".venv/bin/python -m pytest"], f"{VENV}-e '.[test]'", ["pyproject.toml"],
    ),
    "pip with setup.py": (
        {"setup.py": "", **PYTEST},
        [".venv/bin/python -m pytest"], f"{VENV}-e . pytest", ["setup.py"],
    ),
    "a pyproject.toml that only configures a linter": (
        {"pyproject.toml": "[tool.ruff]\nline-length = 100\n", "package.json": package()},
        ["npm test"], "npm install --no-package-lock", ["package.json"],
    ),
    "uv with the tests in the default group, as pluggy has it": (
        {
            "pyproject.toml": f"{PROJECT}[dependency-groups]\ndev = ['tox']\n"
            "testing = ['pytest>=8', 'coverage']\n[tool.uv]\ndefault-groups = ['dev', 'testing']\n",
            "uv.lock": "", "tox.ini": "[tox]\n[pytest]\n", "testing/test_a.py": "",
            ".pre-commit-config.yaml": "repos: []\n",
        },
        ["uv run pytest"], "uv sync --frozen", ["pyproject.toml", "uv.lock"],
    ),
    "uv with the tests in another group, by inclusion": (
        {
            "pyproject.toml": f"{PROJECT}[dependency-groups]\nt = ['pytest']\ntests = ["
            "{include-group = 't'}, 'pytest-cov']\ndev = ['ruff', 'pytest-ruff']\n",
            "uv.lock": "",
        },
        ["uv run --group tests pytest"], "uv sync --frozen --group tests",
        ["pyproject.toml", "uv.lock"],
    ),
    "uv with an extra": (
        {
            "pyproject.toml": f"{PROJECT}[project.optional-dependencies]\nqa = ['PyTest ~= 8']\n",
            "uv.lock": "", **PYTEST,
        },
        ["uv run --extra qa pytest"], "uv sync --frozen --extra qa", ["pyproject.toml", "uv.lock"],
    ),
    "a name that is no name of an extra": (
        {"pyproject.toml": f"{PROJECT}[project.optional-dependencies]\n'a; rm' = ['pytest']\n"},
        [".venv/bin/python -m pytest"], f"{VENV}-e . pytest", ["pyproject.toml"],
    ),
    "hatch with environments": (
        {"pyproject.toml": f"{PROJECT}[tool.hatch.envs.default]\n", **PYTEST},
        ["hatch test"], None, [],
    ),
    "hatchling that only builds": (
        {"pyproject.toml": f"{PROJECT}[tool.hatch.version]\npath = 'x.py'\n", **PYTEST},
        [".venv/bin/python -m pytest"], f"{VENV}-e . pytest", ["pyproject.toml"],
    ),
    "nox": (
        {
            "noxfile.py": "@nox.session\ndef lint(s):\n    pass\n\n@nox.session\n"
            "def tests(session):\n    pass\n",
            "pyproject.toml": PROJECT, **PYTEST,
        },
        ["nox --session tests"], None, [],
    ),
    "tox in setup.cfg": ({"setup.py": "", "setup.cfg": "[tox:tox]\n"}, ["tox -e py"], None, []),
    "a tox.ini that only configures other tools": (
        {"setup.py": "", "tox.ini": "[pytest]\ntestpaths = t\n[flake8]\n"},
        [".venv/bin/python -m pytest"], f"{VENV}-e . pytest", ["setup.py"],
    ),
    "pip with a dependency group": (
        {"pyproject.toml": f"{PROJECT}[dependency-groups]\ntest = ['pytest']\n"},
        [".venv/bin/python -m pytest"],
        f"{VENV}'pip>=25.1' && .venv/bin/pip install --group test -e .", ["pyproject.toml"],
    ),
    "pip with requirements of development and a package": (
        {"pyproject.toml": PROJECT, "requirements/dev.txt": "pytest\n", "setup.cfg": ""},
        [".venv/bin/python -m pytest"], f"{VENV}-r requirements/dev.txt -e .",
        ["requirements/dev.txt", "pyproject.toml", "setup.cfg"],
    ),
    "pip with an extra in setup.cfg": (
        {
            "setup.py": "",
            "setup.cfg": "[options.extras_require]\ntests =\n  pytest\n  mock; os_name=='nt'\n",
        },
        [".venv/bin/python -m pytest"], f"{VENV}-e '.[tests]'", ["setup.py", "setup.cfg"],
    ),
    "setup.cfg alone, which pip cannot install": (
        {"setup.cfg": "[metadata]\nname = x\n[tool:pytest]\n", **PYTEST},
        [".venv/bin/python -m pytest"], f"{VENV}pytest", ["setup.cfg"],
    ),
    "unittest alone": (
        {"app.py": "", "test_app.py": UNITTEST},
        ["python3 -m unittest"], None, [],
    ),
    "unittest in a folder": (
        {"app.py": "", "tests/test_app.py": UNITTEST, "tests/deep/test_other.py": "import pytest"},
        ["python3 -m unittest discover -s tests"], None, [],
    ),
    "unittest in packages": (
        {"a/__init__.py": "", "a/tests/__init__.py": "", "a/tests/test_a.py": UNITTEST},
        ["python3 -m unittest"], None, [],
    ),
    "unittest and a package": (
        {"pyproject.toml": PROJECT, "tests/__init__.py": "", "tests/test_app.py": UNITTEST},
        [".venv/bin/python -m unittest"], f"{VENV}-e .", ["pyproject.toml"],
    ),
    "unittest with uv": (
        {"pyproject.toml": PROJECT, "uv.lock": "", "tests/test_app.py": UNITTEST},
        ["uv run python -m unittest discover -s tests"], "uv sync --frozen",
        ["pyproject.toml", "uv.lock"],
    ),
    "unittest with poetry": (
        {"poetry.lock": "", "test_app.py": UNITTEST},
        ["poetry run python -m unittest"], "poetry install", ["poetry.lock"],
    ),
    "unittest with hatch": (
        {"pyproject.toml": f"{PROJECT}[tool.hatch.envs.default]\n", "test_app.py": UNITTEST},
        ["hatch run python -m unittest"], None, [],
    ),
    "unittest that pytest runs": (
        {"requirements-dev.txt": "pytest\n", "test_app.py": UNITTEST},
        [".venv/bin/python -m pytest"], f"{VENV}-r requirements-dev.txt", ["requirements-dev.txt"],
    ),
    "unittest beside a function that only pytest runs": (
        {"test_app.py": UNITTEST, "test_other.py": "def test_it():\n    assert 1\n"}, [], None, [],
    ),
    "unittest beside a file that imports pytest": (
        {"test_app.py": UNITTEST, "test_other.py": "import pytest\n"}, [], None, [],
    ),
    "unittest at two places": (
        {"test_app.py": UNITTEST, "tests/test_other.py": UNITTEST}, [], None, [],
    ),
    "unittest in a folder of a part": (
        {"part/app/test_app.py": UNITTEST, "test_data.py/x": ""}, [], None, [],
    ),
    "unittest beside a target of make": (
        {"test_app.py": UNITTEST, "Makefile": "test:\n\ttrue\n"}, ["make test"], None, [],
    ),
    "a script with a test beside another language": (
        {"go.mod": "", "scripts/test_a.py": ""}, ["go test ./..."], "go mod download", ["go.mod"],
    ),
    "deno": (
        {"deno.json": json.dumps({"tasks": {"test": "deno test -A"}}), "deno.lock": ""},
        ["deno task test"], None, [],
    ),
    "a deno.json beside package.json": (
        {"deno.json": "{}", "package.json": package(), "package-lock.json": "{}"},
        ["npm test"], "npm ci", ["package.json", "package-lock.json"],
    ),
    "packageManager against a lock file of another": (
        {"package.json": package(packageManager="npm@11.1.0"), "pnpm-lock.yaml": ""},
        ["npm test"], "npm install --no-package-lock", ["package.json"],
    ),
    "yarn 4 by packageManager": (
        {"package.json": package(packageManager="yarn@4.9.1+sha"), "yarn.lock": ""},
        ["yarn test"], "yarn install --immutable", ["package.json", "yarn.lock"],
    ),
    "workspaces whose parts have the tests": (
        {
            "package.json": json.dumps({"workspaces": ["packages/*"], "scripts": {"build": "tsc"}}),
            "package-lock.json": "{}", "packages/a/package.json": package(),
            "packages/a/src/a.test.ts": "",
        },
        ["npm test --workspaces --if-present"], "npm ci", ["package.json", "package-lock.json"],
    ),
    "workspaces of pnpm without tests": (
        {
            "package.json": json.dumps({"scripts": {"build": "tsc"}}), "pnpm-lock.yaml": "",
            "pnpm-workspace.yaml": "", "packages/a/package.json": "{}", "e2e/test/a.ts": "",
        },
        ["pnpm run build"], "pnpm install --frozen-lockfile", ["package.json", "pnpm-lock.yaml"],
    ),
    "a workspace of cargo": (
        {"Cargo.toml": "[workspace]\nmembers = ['a']\n", "a/Cargo.toml": ""},
        ["cargo test --workspace"], "cargo fetch", ["Cargo.toml"],
    ),
    "just": ({"justfile": "test *args: build\n  true\n"}, ["just test"], None, []),
    "cargo": (
        {"Cargo.toml": "", "Cargo.lock": ""},
        ["cargo test"], "cargo fetch", ["Cargo.toml", "Cargo.lock"],
    ),
    "go": (
        {"go.mod": "", "go.sum": ""},
        ["go test ./..."], "go mod download", ["go.mod", "go.sum"],
    ),
    "make": ({"Makefile": "all: test\n\ntest: all\n\ttrue\n"}, ["make test"], None, []),
    "make without such a target": ({"Makefile": "tests:\n\ttrue\ntest := x\n"}, [], None, []),
    "make beside go": (
        {"Makefile": "test:\n", "go.mod": ""}, ["go test ./..."], "go mod download", ["go.mod"],
    ),
    "gradle": ({"build.gradle.kts": "", "gradlew": ""}, ["./gradlew test"], None, []),
    "maven": ({"pom.xml": ""}, ["mvn --batch-mode test"], None, []),
    "bundler": (
        {"Gemfile": "", "Gemfile.lock": "", "spec/a_spec.rb": ""},
        ["bundle exec rspec"], "bundle install", ["Gemfile", "Gemfile.lock"],
    ),
    "composer": (
        {"composer.json": package("phpunit"), "composer.lock": ""},
        ["composer run-script test"], "composer install --no-interaction",
        ["composer.json", "composer.lock"],
    ),
    "mix": ({"mix.exs": "", "mix.lock": ""}, ["mix test"], "mix deps.get", ["mix.exs", "mix.lock"]),
    "two folders": (
        {
            "backend/pyproject.toml": PROJECT, "backend/uv.lock": "", "backend/tests/test_a.py": "",
            "front end/package.json": package(), "front end/yarn.lock": "",
            "docs/package.json": package(),
        },
        ["cd backend && uv run pytest", "cd 'front end' && yarn test"],
        "(cd backend && uv sync --frozen) && "
        "(cd 'front end' && yarn install --frozen-lockfile)",
        [
            *("backend/pyproject.toml", "backend/uv.lock"),
            *("front end/package.json", "front end/yarn.lock"),
        ],
    ),
    "a workspace": (
        {
            "package.json": package(), "package-lock.json": "{}",
            "packages/a/package.json": package(), "packages/b/package.json": package(),
        },
        ["npm test"], "npm ci", ["package.json", "package-lock.json"],
    ),
    "nothing that is known": ({"README.md": "", "main.c": ""}, [], None, []),
    "files that cannot be read": (
        {"package.json": "{", "pyproject.toml": "[", "composer.json": "[]"},
        [], None, [],
    ),
}  # fmt: skip


def of(files: Mapping[str, str]) -> Proposal:
    return proposal.propose(files, lambda path: files[path])


@each_row("kind", KINDS)
def test_commands_follow_from_the_files(kind: str) -> None:
    files, checks, command, changed = KINDS[kind]
    found = of(files)
    wanted = (checks, command, changed)
    assert (list(found.checks), found.command, list(found.when_changed)) == wanted
    # Whatever is proposed, the configuration accepts it.
    values = {"checks": checks, "setup": {"command": command, "when_changed": changed}}
    parsed = keys.parse(json.dumps({"agents": [], **values}))
    assert (parsed.checks, parsed.setup.command) == (tuple(checks), command)


@pytest.mark.parametrize("kind", ["unittest alone", "unittest in a folder", "unittest in packages"])
def test_the_proposed_command_for_unittest_finds_the_tests(tmp_path: Path, kind: str) -> None:
    files, [command], *_ = KINDS[kind]
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = subprocess.run(
        ("sh", "-c", command), cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "Ran 1 test " in done.stderr) == (0, True), done.stderr


def test_each_package_manager_of_the_table_is_found_by_a_case() -> None:
    found = {place.found.name for files, *_ in KINDS.values() for place in of(files).places}
    assert {each.name for each in TABLE} - found == {"pdm", "pipenv"}


def test_a_lock_file_of_another_package_manager_is_named() -> None:
    [place] = of(
        {"package.json": package(), "package-lock.json": "{}", "pnpm-lock.yaml": ""}
    ).places
    assert (place.found.name, place.found.instead_of) == ("pnpm", ("package-lock.json",))


@pytest.mark.parametrize(
    ("command", "programs"),
    [
        (
            "(cd backend && uv sync --frozen) && (cd 'front end' && CI=true yarn test)",
            ["uv", "yarn"],
        ),
        ("python3 -m venv .venv && .venv/bin/pip install tox", ["python3"]),
        ("./gradlew test; echo npm", []),
        ("make-a-mess && my-npm ci || npm ci", ["npm"]),
    ],
)
def test_the_programs_of_a_command_are_those_that_it_starts(
    command: str, programs: list[str]
) -> None:
    assert ecosystems.programs([command]) == programs


@each_row(
    ("name", "text"),
    [
        ("package.json", '{"scripts": {"test": '),
        ("package.json", "[1, 2]"),
        ("package.json", "\ufffd\x00"),
        ("package.json", ""),
        ("composer.json", "{"),
        ("pyproject.toml", "[project\nname="),
        ("Cargo.toml", "[package"),
        ("Makefile", None),
        ("requirements.txt", None),
    ],
)
def test_a_file_that_its_own_tools_cannot_read_is_named_and_gets_no_command(
    name: str, text: str | None
) -> None:
    def read(path: str) -> str:
        if path == "go.mod":
            return "module x\n"
        if text is None:
            raise OSError(1, "a symbolic link leads out of the project")
        return text

    found = proposal.propose([f"part/{name}", "go.mod"], read)
    assert [path for path, _ in found.unreadable] == [f"part/{name}"]
    alone = proposal.propose(["go.mod"], read)
    assert (found.command, found.checks) == (alone.command, alone.checks)


def test_a_file_that_is_not_in_the_checkout_or_begins_with_a_mark_is_not_broken() -> None:
    names = ("package.json", "package-lock.json")
    text = '\ufeff{"scripts": {"test": "jest"}}'
    found = proposal.propose(names, lambda path: text if path == "package.json" else "{}")
    assert (found.unreadable, found.checks) == ((), ("npm test",))
    absent = proposal.propose(names, lambda _: None)
    assert (absent.unreadable, absent.command) == ((), "npm ci")


def test_init_asks_git_once_which_of_its_files_are_not_committed(
    repo: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def asking(root: str, names: list[str]) -> list[str]:
        asked.append(names)
        return uncommitted(root, names)

    uncommitted = repository.uncommitted
    monkeypatch.setattr(repository, "uncommitted", asking)
    for words in (("init",), ("init", "--json")):
        assert ".orchestrator/agents.yaml" in cli(*words).out
        assert len(asked) == 1
        asked.clear()


def test_init_says_which_file_it_cannot_read(javascript: Path, cli: Cli) -> None:
    (javascript / "package.json").unlink()
    (javascript / "package.json").symlink_to("/etc/passwd")
    done = cli("init", "--yes")
    assert done.code == 0
    assert "package.json cannot be read" in done.err
    assert "npm" not in done.out
    assert written(javascript)["checks"] == []
    assert any("package.json" in text for text in cli("init", "--json").json["warnings"])


def test_a_repository_of_many_projects_is_named_whole_and_proposed_in_part() -> None:
    files = {f"services/s{number:02}/go.mod": "" for number in range(9)}
    found = of(files)
    assert len(found.places) == 9
    assert len(found.checks) == proposal.MOST
    assert [place.folder for place in found.places if place.used] == [
        f"services/s{number:02}" for number in range(proposal.MOST)
    ]


# --- init --------------------------------------------------------------------------------------


@pytest.fixture
def javascript(repo: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A repository with tests and a lock file, in which `init` has not run."""
    (repo / "package.json").write_text(package())
    (repo / "package-lock.json").write_text("{}")
    (tmp_path / "npm").write_text("#!/bin/sh\n")
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sh(repo, "add", "-A")
    sh(repo, "commit", "-qm", "javascript")
    monkeypatch.chdir(repo)
    return repo


def written(repo: Path) -> Any:
    return yaml.safe_load((repo / ".orchestrator" / "agents.yaml").read_text())


def test_without_a_terminal_the_lines_are_printed_and_not_written(
    javascript: Path, cli: Cli
) -> None:
    done = cli("init", "--no-commands")
    assert done.code == 0
    lines = [
        line.strip() for line in done.out.splitlines() if line.startswith(("  checks", "  setup"))
    ]
    printed = yaml.safe_load("\n".join(lines))
    assert printed == {
        "checks": ["npm test"],
        "setup": {"command": "npm ci", "when_changed": ["package.json", "package-lock.json"]},
    }
    assert "Found: npm (package-lock.json)" in done.out
    assert "git does not ignore node_modules/" in done.out
    assert "orchestrator init --yes" in done.out
    assert written(javascript)["checks"] == []
    shown = cli("init", "--json").json["proposal"]
    assert shown["checks"] == ["npm test"]
    assert shown["not_ignored"] == ["node_modules/"]
    assert shown["not_on_path"] == []
    assert shown["found"] == [
        {"folder": ".", "by": "package-lock.json", "name": "npm", "used": True}
    ]


def test_a_program_that_is_not_there_is_named_before_anything_runs(
    javascript: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "git").symlink_to(str(shutil.which("git")))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "npm is not on your PATH" in cli("init", "--no-commands").out
    cli("init", "--yes")
    found = [f for f in cli("doctor", "--json").json["findings"] if f["code"] == PROGRAM]
    assert [f["level"] for f in found] == ["warn"]
    assert "npm" in found[0]["message"]


def test_a_project_without_a_known_tool_is_told_to_name_its_test_command(
    repo: Path, cli: Cli
) -> None:
    assert "No command is proposed for `checks`" in cli("init", "--no-commands").out
    assert "No command is proposed for `checks`" in cli("init", "--yes").out
    config = repo / ".orchestrator" / "agents.yaml"
    config.write_text(config.read_text().replace("checks: []", "checks: [make test]"))
    assert "No command is proposed" not in cli("init").out


def test_with_yes_the_lines_are_written_once_and_comments_stay(javascript: Path, cli: Cli) -> None:
    before = cli("init", "--no-commands")
    assert before.code == 0
    done = cli("init", "--yes")
    assert ".orchestrator/agents.yaml (checks and setup)" in done.out
    assert '  checks: ["npm test"]' in done.out.splitlines(), "what is written is shown"
    text = (javascript / ".orchestrator" / "agents.yaml").read_text()
    assert "# Commands that must pass" in text
    assert written(javascript)["checks"] == ["npm test"]
    assert written(javascript)["setup"]["command"] == "npm ci"
    assert "nothing to change" in cli("init", "--yes").out


def test_what_a_person_wrote_is_kept_and_only_the_rest_is_proposed(
    javascript: Path, cli: Cli
) -> None:
    cli("init", "--no-commands")
    path = javascript / ".orchestrator" / "agents.yaml"
    path.write_text(path.read_text().replace("checks: []", "checks: [make mine]"))
    done = cli("init", "--yes")
    assert ".orchestrator/agents.yaml (setup)" in done.out
    assert written(javascript)["checks"] == ["make mine"]


@pytest.mark.parametrize(("answer", "accepted"), [("y\n", True), ("\n", True), ("n\n", False)])
def test_on_a_terminal_the_person_decides(javascript: Path, answer: str, accepted: bool) -> None:
    ours, theirs = pty.openpty()
    words = [*PYTHON, str(PRODUCT), "init", "--no-commands"]
    with subprocess.Popen(
        words, cwd=javascript, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as child:
        os.close(theirs)
        said = b""

        def asked() -> bool:
            nonlocal said
            said += os.read(ours, 4096)
            return b"[Y/n]" in said

        wait_until(asked, "the question")
        os.write(ours, answer.encode())
        with open(ours, "rb", buffering=0) as rest:
            try:
                while data := rest.read(4096):
                    said += data
            except OSError:  # Linux: the other end is closed
                pass
        assert child.wait() == 0
    assert (written(javascript)["checks"] == ["npm test"]) is accepted
    assert b"npm ci" in said


def test_doctor_warns_of_a_project_without_checks(project: Layout, cli: Cli) -> None:
    [found] = [f for f in cli("doctor", "--json").json["findings"] if f["code"] == "no_checks"]
    assert found["level"] == "warn"
    assert "orchestrator init" in found["hint"]
    path = Path(project.config)
    path.write_text("checks: ['true']\n" + path.read_text())
    [found] = [f for f in cli("doctor", "--json").json["findings"] if f["code"] == "no_checks"]
    assert found["level"] == "ok"


# --- a check without its dependencies ----------------------------------------------------------


@each_row(
    ("code", "output"),
    [
        (127, "/bin/sh: 1: jest: not found\n"),
        (1, "> x@1.0.0 test\n> jest\n\nsh: 1: jest: not found\n"),
        (1, "bash: line 1: vitest: command not found"),
        (1, "E   ModuleNotFoundError: No module named 'requests'"),
        (1, "/usr/bin/python3: No module named pytest"),
        (1, "Error: Cannot find module 'express'\nRequire stack:"),
        (1, "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'vite' imported from /x/a.mjs"),
        (1, "Could not find gem 'rspec' in locally installed gems. (Bundler::GemNotFound)"),
        (1, "a.go:3:8: no required module provides package github.com/x/y; to add it:"),
        (1, "Warning: require(vendor/autoload.php): Failed to open stream"),
        (
            1,
            "Unchecked dependencies for environment test:\n* jason",
        ),
        (126, "/bin/sh: 1: .venv/bin/python: No such file or directory"),
    ],
)
def test_a_check_that_lacks_a_dependency_names_the_setup_key(code: int, output: str) -> None:
    said = str(Failure("npm test", code, output))
    assert "`setup` in agents.yaml" in said
    assert said.startswith(f"'npm test' exited {code}\n{output.rstrip()}")


@pytest.mark.parametrize("output", ["1 failed, 3 passed", "assert 404 == 200: page not found here"])
def test_a_check_that_fails_by_itself_has_no_such_hint(output: str) -> None:
    assert "setup" not in str(Failure("npm test", 1, output))
