"""Which package managers a repository uses, and how its dependencies and tests are run with them.

Pure: `facts` says what a folder has, by the names of its files and the contents of a few; `TABLE`
says what follows. The commands are those that each tool's own documentation gives for a checkout
whose lock file must not change.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

#: Files that `facts` reads.
READ = (
    *("package.json", "composer.json", "pyproject.toml", "setup.cfg", "tox.ini"),
    *("Makefile", "makefile", "GNUmakefile"),
    *("requirements.txt", "requirements-dev.txt", "dev-requirements.txt"),
)
#: What `npm init` writes for a project without tests.
_NO_TESTS = "no test specified"
#: A choice: the facts that it needs, and the command.
Choice = tuple[tuple[str, ...], str]


class Ecosystem(NamedTuple):
    """One package manager or build tool."""

    name: str
    #: Of the ecosystems of a family, the first that fits counts.
    family: str
    #: It fits if the folder has one of these facts, and all of `needs`.
    marks: tuple[str, ...]
    #: The first choice counts whose facts the folder has.
    setup: tuple[Choice, ...]
    checks: tuple[Choice, ...]
    #: The files whose change makes the set-up necessary again.
    when_changed: tuple[str, ...] = ()
    #: The folders that set-up and checks create, which git must ignore.
    creates: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _always(command: str) -> tuple[Choice, ...]:
    return (((), command),)


def _scripts(test: str, run: str) -> tuple[Choice, ...]:
    """Return the script of package.json that tests: called with `test`, others with `run`."""
    return (
        (("script test", "watches"), f"CI=true {test}"),
        (("script test",), test),
        *(((f"script {name}",), f"{run} {name}") for name in ("check", "build")),
    )


def _javascript(
    name: str, marks: tuple[str, ...], setup: tuple[Choice, ...], test: str
) -> Ecosystem:
    needs = ("package.json",)
    changed = (*needs, *(mark for mark in marks if " " not in mark and mark not in needs))
    checks = _scripts(test, f"{name} run")
    return Ecosystem(name, "javascript", marks, setup, checks, changed, ("node_modules",), needs)


_VENV = "python3 -m venv .venv && .venv/bin/pip install "
_REQUIREMENTS = ("requirements.txt", "requirements-dev.txt", "dev-requirements.txt")


def _python(
    name: str, marks: tuple[str, ...], setup: tuple[Choice, ...], run: str, *creates: str
) -> Ecosystem:
    changed = ("pyproject.toml", *(mark for mark in marks if " " not in mark))
    return Ecosystem(
        name, "python", marks, setup, ((("pytest",), f"{run}pytest"),), changed, creates
    )


#: In the order in which the ecosystems of a family are tried.
TABLE: tuple[Ecosystem, ...] = (
    _javascript(
        "pnpm",
        ("pnpm-lock.yaml", "packageManager pnpm"),
        ((("pnpm-lock.yaml",), "pnpm install --frozen-lockfile"), ((), "pnpm install")),
        "pnpm test",
    ),
    _javascript(
        "yarn",
        ("yarn.lock", "packageManager yarn"),
        (
            (("yarn.lock", ".yarnrc.yml"), "yarn install --immutable"),
            (("yarn.lock",), "yarn install --frozen-lockfile"),
            ((), "yarn install"),
        ),
        "yarn test",
    ),
    _javascript(
        "bun",
        ("bun.lock", "bun.lockb", "packageManager bun"),
        (
            (("bun.lock",), "bun install --frozen-lockfile"),
            (("bun.lockb",), "bun install --frozen-lockfile"),
            ((), "bun install"),
        ),
        # `bun test` is bun's own runner of tests.
        "bun run test",
    ),
    _javascript(
        "npm",
        ("package-lock.json", "npm-shrinkwrap.json", "package.json"),
        (
            (("package-lock.json",), "npm ci"),
            (("npm-shrinkwrap.json",), "npm ci"),
            # Without a lock file, one that npm writes would look like an agent's change.
            ((), "npm install --no-package-lock"),
        ),
        "npm test",
    ),
    _python("uv", ("uv.lock",), _always("uv sync --frozen"), "uv run ", ".venv"),
    _python("poetry", ("poetry.lock", "tool poetry"), _always("poetry install"), "poetry run "),
    _python("pdm", ("pdm.lock",), _always("pdm sync"), "pdm run ", ".venv"),
    _python("pipenv", ("Pipfile.lock",), _always("pipenv sync --dev"), "pipenv run "),
    Ecosystem(
        "tox", "python", ("tox.ini", "tool tox"), (), _always("tox -e py"), creates=(".tox",)
    ),
    Ecosystem(
        "pip",
        "python",
        (*_REQUIREMENTS, "package python", "setup.py"),
        (
            (
                ("requirements.txt", "requirements-dev.txt"),
                f"{_VENV}-r requirements.txt -r requirements-dev.txt",
            ),
            (
                ("requirements.txt", "dev-requirements.txt"),
                f"{_VENV}-r requirements.txt -r dev-requirements.txt",
            ),
            (("requirements-dev.txt",), f"{_VENV}-r requirements-dev.txt"),
            (("dev-requirements.txt",), f"{_VENV}-r dev-requirements.txt"),
            (("extra dev",), f"{_VENV}-e '.[dev]'"),
            (("extra test",), f"{_VENV}-e '.[test]'"),
            (("extra tests",), f"{_VENV}-e '.[tests]'"),
            (("requirements.txt", "pytest"), f"{_VENV}-r requirements.txt pytest"),
            (("requirements.txt",), f"{_VENV}-r requirements.txt"),
            (("pytest",), f"{_VENV}-e . pytest"),
            ((), f"{_VENV}-e ."),
        ),
        ((("pytest",), ".venv/bin/python -m pytest"),),
        (*_REQUIREMENTS, "pyproject.toml", "setup.py", "setup.cfg"),
        (".venv",),
    ),
    Ecosystem(
        "cargo",
        "rust",
        ("Cargo.toml",),
        _always("cargo fetch"),
        _always("cargo test"),
        ("Cargo.toml", "Cargo.lock"),
        ("target",),
    ),
    Ecosystem(
        "go",
        "go",
        ("go.mod",),
        _always("go mod download"),
        _always("go test ./..."),
        ("go.mod", "go.sum"),
    ),
    Ecosystem(
        "gradle",
        "jvm",
        ("build.gradle", "build.gradle.kts", "settings.gradle", "settings.gradle.kts"),
        (),
        ((("gradlew",), "./gradlew test"), ((), "gradle test")),
        creates=(".gradle", "build"),
    ),
    Ecosystem(
        "maven",
        "jvm",
        ("pom.xml",),
        (),
        ((("mvnw",), "./mvnw --batch-mode test"), ((), "mvn --batch-mode test")),
        creates=("target",),
    ),
    Ecosystem(
        "bundler",
        "ruby",
        ("Gemfile",),
        _always("bundle install"),
        (
            (("spec/",), "bundle exec rspec"),
            (("bin/rails",), "bin/rails test"),
            (("Rakefile",), "bundle exec rake test"),
        ),
        ("Gemfile", "Gemfile.lock"),
    ),
    Ecosystem(
        "composer",
        "php",
        ("composer.json",),
        _always("composer install --no-interaction"),
        (
            (("composer test",), "composer run-script test"),
            (("phpunit.xml",), "vendor/bin/phpunit"),
            (("phpunit.xml.dist",), "vendor/bin/phpunit"),
        ),
        ("composer.json", "composer.lock"),
        ("vendor",),
    ),
    Ecosystem(
        "mix",
        "elixir",
        ("mix.exs",),
        _always("mix deps.get"),
        _always("mix test"),
        ("mix.exs", "mix.lock"),
        ("_build", "deps"),
    ),
    # Last: its target often calls one of the tools above, without the set-up's environment.
    Ecosystem(
        "make",
        "make",
        ("target test", "target check"),
        (),
        ((("target test",), "make test"), ((), "make check")),
    ),
)


class Found(NamedTuple):
    """An ecosystem in a folder, with its commands there."""

    name: str
    family: str
    #: The file by which it was recognised.
    by: str
    setup: str | None
    check: str | None
    when_changed: tuple[str, ...]
    creates: tuple[str, ...]


def detect(names: Iterable[str], texts: Mapping[str, str]) -> list[Found]:
    """Return the ecosystems of one folder, at most one per family, in the order of `TABLE`.

    `names` are the paths of the files below the folder; `texts` are the contents of the files in
    the folder that `READ` names, as far as they are known.
    """
    paths = set(names)
    known = facts(paths, texts)
    found: dict[str, Found] = {}
    for each in TABLE:
        mark = next((mark for mark in each.marks if mark in known), None)
        if mark is None or each.family in found or not known.issuperset(each.needs):
            continue
        changed = tuple(name for name in each.when_changed if name in paths)
        setup, check = _chosen(each.setup, known), _chosen(each.checks, known)
        by = _SOURCES.get(mark.partition(" ")[0], mark)
        creates = each.creates
        found[each.family] = Found(each.name, each.family, by, setup, check, changed, creates)
    if len(found) > 1 and any(each.check for each in found.values() if each.family != "make"):
        found.pop("make", None)
    return list(found.values())


def _chosen(choices: Iterable[Choice], known: Collection[str]) -> str | None:
    return next((command for needs, command in choices if set(needs) <= set(known)), None)


#: The file that a fact with a space was read from, by the fact's first word.
_SOURCES = {
    "packageManager": "package.json",
    "tool": "pyproject.toml",
    "package": "pyproject.toml",
    "target": "Makefile",
}


def facts(paths: set[str], texts: Mapping[str, str]) -> set[str]:
    """Return the names of a folder's files and folders, and facts of the form `kind name`."""
    known = {part for path in paths for part in _parts(path)}
    known |= set(_of_package(_json(texts.get("package.json", ""))))
    scripts = _json(texts.get("composer.json", "")).get("scripts")
    if isinstance(scripts, dict) and "test" in scripts:
        known.add("composer test")
    known |= set(_of_pyproject(texts.get("pyproject.toml", "")))
    for name in ("Makefile", "makefile", "GNUmakefile"):
        for target in re.findall(r"^(test|check)\s*:(?!=)", texts.get(name, ""), re.MULTILINE):
            known.add(f"target {target}")
    of_python = ("pyproject.toml", "setup.cfg", "tox.ini", *_REQUIREMENTS)
    is_named = any("pytest" in texts.get(name, "") for name in of_python)
    if is_named or known & {"pytest.ini", "conftest.py"} or any(map(_is_python_test, paths)):
        known.add("pytest")
    return known


def _parts(path: str) -> Iterable[str]:
    """Return a file's path, and its first folder with a slash."""
    first, slash, _ = path.partition("/")
    return (path, f"{first}/") if slash else (path,)


def _is_python_test(path: str) -> bool:
    return re.fullmatch(r"(.*/)?(test_[^/]*|[^/]*_test)\.py", path) is not None


def _json(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_package(package: Mapping[str, Any]) -> Iterable[str]:
    manager = package.get("packageManager")
    if isinstance(manager, str):
        yield f"packageManager {manager.partition('@')[0]}"
    scripts = package.get("scripts")
    for name, command in scripts.items() if isinstance(scripts, dict) else ():
        if isinstance(command, str) and _NO_TESTS not in command:
            yield f"script {name}"
            # Both wait for changes unless CI is set.
            if name == "test" and re.search(r"\breact-scripts test\b|--watch\b", command):
                yield "watches"


def _of_pyproject(text: str) -> Iterable[str]:
    try:
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    tools = found.get("tool")
    for name in tools if isinstance(tools, dict) else ():
        yield f"tool {name}"
    project = found.get("project")
    if isinstance(project, dict):
        yield "package python"
        extras = project.get("optional-dependencies")
        for name in extras if isinstance(extras, dict) else ():
            yield f"extra {name}"
    elif "build-system" in found:
        yield "package python"
