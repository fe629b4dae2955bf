"""What is known of a folder: the names of its files, and the contents of a few.

Pure. `ecosystems` says what follows from it.
"""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.fields import NamedTuple

#: Requirements of development, in the order of preference.
DEVELOPMENT = (
    *("requirements-dev.txt", "dev-requirements.txt", "requirements_dev.txt"),
    *("requirements-test.txt", "test-requirements.txt", "requirements-tests.txt"),
    *("requirements/dev.txt", "requirements/test.txt", "requirements/tests.txt"),
)
#: Files that `of` reads.
READ = (
    *("package.json", "composer.json", "deno.json", "Cargo.toml", "noxfile.py"),
    *("pyproject.toml", "setup.cfg", "tox.ini", "requirements.txt", *DEVELOPMENT),
    *("Makefile", "makefile", "GNUmakefile", "justfile"),
)
#: The lock files of the package managers that the key `packageManager` can name.
_LOCKS = {
    "npm": ("package-lock.json", "npm-shrinkwrap.json"),
    "pnpm": ("pnpm-lock.yaml",),
    "yarn": ("yarn.lock",),
    "bun": ("bun.lock", "bun.lockb"),
}
#: How many tests are read.
MOST_TESTS = 20
#: What `npm init` writes for a project without tests.
_NO_TESTS = "no test specified"
#: Extras and groups that usually hold what the tests need, in the order of preference.
_USUAL = ("dev", "test", "tests", "testing")
_JAVASCRIPT_TEST = re.compile(r"/(tests?|__tests__|spec)/|\.(test|spec)\.\w+$")
_PYTEST = re.compile(r"\s*pytest\b(?![-_.])", re.IGNORECASE)


class Facts(NamedTuple):
    """The facts of a folder."""

    #: Names of files, of folders with a slash, and facts of the form `kind name`: each with the
    #: file that says so.
    sources: Mapping[str, str]
    #: Words for the commands: `extra`, `group` and `requirements`.
    words: Mapping[str, str]


def of(paths: Iterable[str], texts: Mapping[str, str]) -> Facts:
    """Return the facts of a folder with these files.

    `texts` are the contents of those in READ, and of those that `unittests` names.
    """
    paths = set(paths)
    sources = {part: path for path in sorted(paths) for part in _parts(path)}
    words: dict[str, str] = {}

    def read(name: str) -> dict[str, Any]:
        return _parsed(name, texts.get(name, ""))[0]

    development = next((name for name in DEVELOPMENT if name in paths), None)
    if development:
        sources["requirements dev"] = words["requirements"] = development
    _of_package(read("package.json"), paths, sources)
    scripts = read("composer.json").get("scripts")
    if isinstance(scripts, dict) and "test" in scripts:
        sources["composer test"] = "composer.json"
    tasks = read("deno.json").get("tasks")
    if isinstance(tasks, dict) and "test" in tasks:
        sources["task test"] = "deno.json"
    if "workspace" in read("Cargo.toml"):
        sources["cargo workspace"] = "Cargo.toml"
    _of_pyproject(read("pyproject.toml"), sources, words)
    _of_sections(texts, sources, words)
    for name, pattern, kind in _LINES:
        for found in re.findall(pattern, texts.get(name, ""), re.MULTILINE):
            sources[f"{kind} {found}"] = name
    of_python = (n for n in READ if n.endswith((".cfg", ".ini", ".toml", ".txt")))
    named = next((name for name in of_python if "pytest" in texts.get(name, "")), None)
    test = next((path for path in sorted(paths) if _is_python_test(path)), None)
    configured = next((n for n in ("pytest.ini", "conftest.py") if n in paths), None)
    start, tests = unittests(paths)
    if tests and not (named or configured) and _are_unittests([texts.get(x) for x in tests]):
        sources["uses unittest"] = tests[0]
        words["discover"] = f" discover -s {start}" if start else ""
    elif by := named or configured or test:
        sources["uses pytest"] = by
    if configured:
        sources["configures pytest"] = configured
    return Facts(sources, words)


#: A file, a pattern, and the kind of the facts that the pattern finds.
_LINES = (
    *(
        (name, r"^(test|check)\s*:(?!=)", "target")
        for name in ("Makefile", "makefile", "GNUmakefile")
    ),
    ("justfile", r"^@?(test|check)\b[^:=\n]*:(?!=)", "recipe"),
    ("noxfile.py", r"^def (tests?)\(", "session"),
)


def _parts(path: str) -> Iterable[str]:
    """Return a file's path, and its first folder with a slash."""
    first, slash, _ = path.partition("/")
    return (path, f"{first}/") if slash else (path,)


def _is_python_test(path: str) -> bool:
    return re.fullmatch(r"(.*/)?(test_[^/]*|[^/]*_test)\.py", path) is not None


def unittests(paths: Iterable[str]) -> tuple[str, list[str]]:
    """Return the folder in which `python -m unittest` finds tests, and the first tests there.

    "" is the folder itself. Below it, unittest enters only packages (folders with `__init__.py`).
    Tests at both places would need two commands: then the list is empty.
    """
    known = set(paths)
    tests = [x for x in sorted(known) if re.fullmatch(r"(.*/)?test[^/]*\.py", x)]
    found = {s: [x for x in tests if _is_found(x, s, known)] for s in ("", "test", "tests")}
    places = [start for start, there in found.items() if there]
    if len(places) != 1:
        return "", []
    return places[0], found[places[0]][:MOST_TESTS]


def _is_found(path: str, start: str, known: set[str]) -> bool:
    """Return whether unittest finds a test that starts to look in the folder `start`."""
    prefix = f"{start}/" if start else ""
    folders = path.removeprefix(prefix).split("/")[:-1]
    inside = [prefix + "/".join(folders[:end]) for end in range(1, len(folders) + 1)]
    is_package = start != "" and f"{prefix}__init__.py" in known
    return (
        path.startswith(prefix)
        and not is_package
        and all(f"{folder}/__init__.py" in known for folder in inside)
    )


def _are_unittests(texts: Iterable[str | None]) -> bool:
    """Return whether unittest runs all tests in these files; None is a file that is not known."""
    found = [text or "def test_unknown" for text in texts]
    others = re.compile(r"^(async )?def test|^\s*(import|from) pytest\b", re.MULTILINE)
    of_unittest = re.compile(r"^\s*(import|from) unittest\b", re.MULTILINE)
    return any(map(of_unittest.search, found)) and not any(map(others.search, found))


#: Files whose tools fail on one that is not what its name says. Deno takes comments in JSON.
_STRICT = ("package.json", "composer.json", "Cargo.toml", "pyproject.toml")


def unreadable(texts: Mapping[str, str]) -> dict[str, str]:
    """Return the files that the tools of their ecosystem cannot read, and the reasons."""
    found = {name: _parsed(name, texts[name])[1] for name in _STRICT if name in texts}
    return {name: why for name, why in found.items() if why}


def _parsed(name: str, text: str) -> tuple[dict[str, Any], str]:
    """Return what a file of JSON or TOML holds, and why it cannot be read: "" if it can."""
    try:
        # npm and composer accept a byte order mark.
        is_json = name.endswith(".json")
        found = json.loads(text.removeprefix("\ufeff")) if is_json else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, str(error)
    return (found, "") if isinstance(found, dict) else ({}, "its content is not an object")


def _of_package(package: Mapping[str, Any], paths: set[str], sources: dict[str, str]) -> None:
    manager = package.get("packageManager")
    name, _, version = manager.partition("@") if isinstance(manager, str) else ("", "", "")
    if name in _LOCKS:
        # The key outranks a lock file that somebody made with another package manager.
        for other in (lock for key, locks in _LOCKS.items() if key != name for lock in locks):
            sources.pop(other, None)
        sources[f"packageManager {name}"] = "package.json"
    if ".yarnrc.yml" in paths or (name == "yarn" and re.match(r"[2-9]|\d\d", version)):
        sources["yarn 2"] = "package.json"
    if "workspaces" in package or "pnpm-workspace.yaml" in paths:
        parts = [p.rpartition("/")[0] for p in paths if p.endswith("/package.json")]
        inner = (path for path in paths if path.startswith(tuple(f"{part}/" for part in parts)))
        if any(map(_JAVASCRIPT_TEST.search, inner)):
            sources["has workspaces"] = "package.json"
    scripts = package.get("scripts")
    for name, command in scripts.items() if isinstance(scripts, dict) else ():
        if isinstance(command, str) and _NO_TESTS not in command:
            sources[f"script {name}"] = "package.json"
            # Both wait for changes unless CI is set.
            if name == "test" and re.search(r"\breact-scripts test\b|--watch\b", command):
                sources["test watches"] = "package.json"


def _of_pyproject(found: Mapping[str, Any], sources: dict[str, str], words: dict[str, str]) -> None:
    project, tools = _table(found, "project"), _table(found, "tool")
    for name in tools:
        sources[f"tool {name}"] = "pyproject.toml"
    if "envs" in _table(tools, "hatch"):
        sources["hatch envs"] = "pyproject.toml"
    if "project" in found or "build-system" in found:
        sources["package python"] = "pyproject.toml"
    if extra := _for_tests(_table(project, "optional-dependencies")):
        words["extra"], sources["extra tests"] = extra, "pyproject.toml"
    groups = _table(found, "dependency-groups")
    if group := _for_tests(groups):
        words["group"], sources["group tests"] = group, "pyproject.toml"
        # https://docs.astral.sh/uv/concepts/projects/dependencies/#default-groups
        default = _table(tools, "uv").get("default-groups", ["dev"])
        if default == "all" or (isinstance(default, list) and group in default):
            sources["group by default"] = "pyproject.toml"


def _of_sections(texts: Mapping[str, str], sources: dict[str, str], words: dict[str, str]) -> None:
    """Add what the sections of setup.cfg and tox.ini say."""
    for name in ("setup.cfg", "tox.ini"):
        parser = configparser.RawConfigParser(strict=False)
        try:
            parser.read_string(texts.get(name, ""))
        except configparser.Error:
            continue
        for section in parser.sections():
            if section in ("tox", "tox:tox") or section.startswith("testenv"):
                sources["section tox"] = name
            if section in ("pytest", "tool:pytest"):
                sources["configures pytest"] = name
        if parser.has_section("options.extras_require"):
            extras = dict(parser.items("options.extras_require"))
            if extra := _for_tests({key: text.split("\n") for key, text in extras.items()}):
                words["extra"], sources["extra tests"] = extra, name


def _table(found: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = found.get(key)
    return value if isinstance(value, dict) else {}


def _for_tests(lists: Mapping[str, Any]) -> str | None:
    """Return the extra or group that the tests need: one with pytest, else one of a usual name."""
    names = [name for name in (*_USUAL, *lists) if name in lists and _is_plain(name)]
    return next((n for n in names if _has_pytest(lists, n, set())), None) or next(
        (name for name in names if name in _USUAL), None
    )


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) is not None


def _has_pytest(lists: Mapping[str, Any], name: str, seen: set[str]) -> bool:
    """Whether a list of dependencies has pytest, also by `include-group`."""
    entries = lists.get(name)
    if name in seen or not isinstance(entries, list):
        return False
    included: Iterator[Any] = (e.get("include-group") for e in entries if isinstance(e, dict))
    return any(_PYTEST.match(entry) for entry in entries if isinstance(entry, str)) or any(
        isinstance(other, str) and _has_pytest(lists, other, {*seen, name}) for other in included
    )
