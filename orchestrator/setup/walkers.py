"""Tools of the user that walk into the agents' worktrees below `.orchestrator/`.

A worktree is a second copy of the project in the checkout, ignored by git. Most tools pass over
folders that git ignores or whose names begin with a dot. These do not (tried with jest 29.7 and
30.5, vitest 3.2 and 4.1, ESLint 9.39, Biome 2.6, deno 2.9, markdownlint-cli2 0.22, flake8 7.5,
isort 9.0): they run each test several times, or report findings of copies. Prettier 3.9 passes over
the copies, but `--check` fails at the files that `init` adds to the project, and with it the checks
of every agent. See the table in section 2 of `docs/reference.md`.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping

from orchestrator.model.fields import NamedTuple
from orchestrator.model.finding import Finding, ok, warn
from orchestrator.setup import skills
from orchestrator.system import files

CODE = "worktrees_walked"
#: Bytes of a configuration file that are read.
MOST_READ = 1 << 20
PACKAGE = "package.json"


class Tool(NamedTuple):
    """A tool that the product's files disturb unless its configuration says otherwise."""

    name: str
    #: Patterns of the names of its configuration files, in the project's top folder.
    configs: tuple[str, ...]
    #: What to add to its configuration.
    line: str
    #: What a configuration file must match to be of this tool; "" takes any file of the name.
    section: str = ""
    #: Whether a dependency of this name in package.json shows that the tool is used.
    is_package: bool = False
    #: A key of package.json that holds the tool's configuration.
    key: str = ""
    #: Other words in the configuration that keep the tool out, or limit where it looks.
    also: str = r"(?!)"
    #: How the configuration names the folder.
    folder: str = r"\.orchestrator\b"
    does: str = "walks into the agents' worktrees below .orchestrator/"


TOOLS = (
    Tool(
        "jest",
        ("jest.config.*",),
        "modulePathIgnorePatterns: ['<rootDir>/.orchestrator/']",
        is_package=True,
        key="jest",
        also=r"\broots\b",
        # Without the anchor, it would hide the agents' tests from the agents.
        folder=r"<rootDir>/\\*\.orchestrator\b",
    ),
    Tool(
        "vitest",
        ("vitest.config.*", "vite.config.*", "vitest.workspace.*"),
        "test.exclude: [...configDefaults.exclude, '.orchestrator/**']",
        section=r"vitest|\b(test|exclude)\s*[:.]",
        is_package=True,
        also=r"\b(dir|projects)\s*:|\binclude\s*:\s*\[\s*['\"](?!\*\*)",
    ),
    # ESLint without such a file has the old configuration, which passes over names with a dot.
    Tool(
        "ESLint",
        ("eslint.config.*",),
        "an element { ignores: ['.orchestrator/'] }",
        also=r"includeIgnoreFile|gitignore",
    ),
    Tool(
        "Biome",
        ("biome.json", "biome.jsonc"),
        '"vcs": {"enabled": true, "clientKind": "git", "useIgnoreFile": true}',
        also=r'"useIgnoreFile"\s*:\s*true',
    ),
    # By default pytest passes over names with a dot; a value of its own replaces that.
    Tool(
        "pytest",
        ("pytest.ini", ".pytest.ini", "pyproject.toml", "setup.cfg", "tox.ini"),
        "norecursedirs with '.*' in the list",
        section=r"(?m)^\s*norecursedirs\s*=",
        also=r"norecursedirs\s*=[\s\S]{0,400}?\.\*",
    ),
    Tool("deno", ("deno.json", "deno.jsonc"), '"exclude": [".orchestrator/"]'),
    Tool(
        "markdownlint-cli2",
        (".markdownlint-cli2.*",),
        '"gitignore": true',
        is_package=True,
        also=r"gitignore['\"]?\s*:\s*[^\sf]",
    ),
    Tool(
        "flake8",
        (".flake8", "setup.cfg", "tox.ini"),
        "extend-exclude = .orchestrator",
        section=r"(?m)^\[flake8\]",
    ),
    Tool(
        "isort",
        (".isort.cfg", "pyproject.toml", "setup.cfg", "tox.ini"),
        "skip_gitignore = true",
        section=r"(?m)^\[(tool\.)?(isort|settings)\]",
        also=r"skip_gitignore",
    ),
    Tool(
        "prettier",
        (".prettierrc*", "prettier.config.*", ".prettierignore"),
        f"{skills.FOLDER}/ and .orchestrator/, as two lines of .prettierignore",
        is_package=True,
        key="prettier",
        folder=rf"(?m)^(\*\*)?/?{re.escape(skills.FOLDER.partition('/')[0])}\b",
        does=f"checks the format of files that init adds, such as {skills.FOLDER}/",
    ),
)


def look(root: str) -> list[Finding]:
    """Return one warning per tool that the product's files disturb, or a finding without a tool."""
    modules = os.path.join(root, "node_modules")
    installed = {t.name for t in TOOLS if os.path.isdir(os.path.join(modules, t.name))}
    found = list(walking(_texts(root), installed))
    return found or [ok(CODE, "no known tool walks into the agents' worktrees")]


def walking(texts: Mapping[str, str], installed: Collection[str] = ()) -> Iterator[Finding]:
    """Yield a warning per tool; `texts` are the configuration files of the project by name.

    `installed` are packages in `node_modules`. In a monorepo they may be used in its parts only.
    """
    package = files.json_object(texts.get(PACKAGE, "")) or {}
    dependencies = set() if "workspaces" in package else set(installed)
    for key in ("dependencies", "devDependencies"):
        dependencies |= set(package[key]) if isinstance(package.get(key), dict) else set()
    for tool in TOOLS:
        own = [text for name, text in texts.items() if _is_of(tool, name, text)]
        if tool.key in package:
            own.append(json.dumps(package[tool.key]))
        is_used = bool(own) or (tool.is_package and tool.name in dependencies)
        if is_used and not any(re.search(f"{tool.folder}|{tool.also}", text) for text in own):
            yield warn(
                CODE,
                f"{tool.name} {tool.does}",
                f"add to the configuration of {tool.name}: {tool.line}",
            )


def _is_of(tool: Tool, name: str, text: str) -> bool:
    by_name = any(fnmatch.fnmatchcase(name, pattern) for pattern in tool.configs)
    return by_name and re.search(tool.section, text) is not None


def _texts(root: str) -> dict[str, str]:
    """Return the texts of the configuration files in the top folder of a project."""
    wanted = {PACKAGE, *(pattern for tool in TOOLS for pattern in tool.configs)}
    texts = {}
    for name in os.listdir(root):
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wanted):
            try:
                data = files.read_regular(os.path.join(root, name), MOST_READ)
            except OSError:
                continue  # a link or a folder is not a configuration that can be judged
            texts[name] = data.decode(errors="replace")
    return texts
