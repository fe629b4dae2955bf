"""Which tools of the user walk into agents' worktrees. What each tool does was tried with it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from rows import each_row

from orchestrator.setup import walkers


def package(**keys: Any) -> dict[str, str]:
    return {"package.json": json.dumps(keys)}


def named(texts: dict[str, str]) -> list[str]:
    return [finding.message.partition(" ")[0] for finding in walkers.walking(texts)]


@each_row(
    ("texts", "tools"),
    [
        ({}, []),
        (package(name="x"), []),
        (package(devDependencies={"jest": "^29", "vitest": "^3"}), ["jest", "vitest"]),
        (package(jest={}), ["jest"]),
        (package(jest={"testPathIgnorePatterns": ["/\\.orchestrator/"]}), ["jest"]),
        ({"jest.config.ts": "export default {}"}, ["jest"]),
        ({"vite.config.ts": "defineConfig({})", **package(dependencies={"vite": "7"})}, []),
        ({"vite.config.ts": "defineConfig({test: {globals: true}})"}, ["vitest"]),
        ({"eslint.config.mjs": "export default [{}]"}, ["ESLint"]),
        ({".eslintrc.json": "{}", **package(devDependencies={"eslint": "8"})}, []),
        ({"biome.jsonc": "{}"}, ["Biome"]),
        ({"deno.jsonc": "{}"}, ["deno"]),
        ({"deno.json": '{"exclude": [".orchestrator/"]}'}, []),
        (package(devDependencies={"markdownlint-cli2": "1"}), ["markdownlint-cli2"]),
        ({".markdownlint-cli2.yaml": "gitignore: true\n"}, []),
        ({".markdownlint-cli2.jsonc": '{"gitignore": false}'}, ["markdownlint-cli2"]),
        ({"setup.cfg": "[metadata]\nname = x\n"}, []),
        ({"setup.cfg": "[metadata]\n[flake8]\nmax-line-length = 99\n"}, ["flake8"]),
        ({"pyproject.toml": '[tool.isort]\nprofile = "black"\n'}, ["isort"]),
        ({"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-q'\n"}, []),
        ({"pytest.ini": "[pytest]\nnorecursedirs = build dist\n"}, ["pytest"]),
        (package(devDependencies={"prettier": "^3"}), ["prettier"]),
        (package(prettier={"semi": False}), ["prettier"]),
        ({".prettierrc": "semi: false\n"}, ["prettier"]),
        ({".prettierrc": "", ".prettierignore": "dist\nsrc/.claude.ts\n"}, ["prettier"]),
        ({"package.json": "{broken"}, []),
        ({"package.json": '{"devDependencies": ["jest"]}'}, []),
    ],
)
def test_a_tool_that_is_used_without_an_ignore_line_is_named(
    texts: dict[str, str], tools: list[str]
) -> None:
    assert named(texts) == tools


@each_row(
    "texts",
    [
        package(jest={"modulePathIgnorePatterns": ["<rootDir>/.orchestrator/"]}),
        package(jest={"modulePathIgnorePatterns": ["<rootDir>/\\.orchestrator/"]}),
        package(jest={"roots": ["<rootDir>/src"]}),
        {
            **package(devDependencies={"vitest": "3"}),
            "vitest.config.ts": "exclude: [...configDefaults.exclude, '.orchestrator/**']",
        },
        {"vite.config.ts": "test: { include: ['src/**/*.test.ts'] }"},
        {"eslint.config.js": "[globalIgnores(['.orchestrator/'])]"},
        {"eslint.config.js": "[includeIgnoreFile(path)]"},
        {"biome.json": '{"vcs": {"useIgnoreFile": true}}'},
        {"biome.json": '{"files": {"includes": ["**", "!.orchestrator"]}}'},
        {".flake8": "[flake8]\nextend-exclude = .orchestrator\n"},
        {"pyproject.toml": "[tool.isort]\nskip_gitignore = true\n"},
        {"tox.ini": "[pytest]\nnorecursedirs =\n  build\n  .*\n"},
        {".prettierrc.json": "{}", ".prettierignore": "dist\n.claude/\n.orchestrator\n"},
    ],
)
def test_a_configuration_that_keeps_the_tool_out_is_accepted(texts: dict[str, str]) -> None:
    assert named(texts) == []


@each_row("tool", walkers.TOOLS, ids=lambda tool: tool.name)
def test_the_line_that_a_finding_proposes_settles_it(tool: walkers.Tool) -> None:
    section = {
        "vitest": "vitest\n",
        "flake8": "[flake8]\n",
        "isort": "[isort]\n",
        "pytest": "norecursedirs =\n",
    }
    name = tool.configs[0].replace("*", "js")
    text = section.get(tool.name, "")
    assert named({name: text}) == [tool.name]
    line = "norecursedirs = .*\n" if tool.name == "pytest" else tool.line
    assert named({name: text + line}) == []


def test_init_and_doctor_read_only_regular_files_of_the_top_folder(tmp_path: Path) -> None:
    (tmp_path / "node_modules" / "vitest").mkdir(parents=True)
    (tmp_path / "package.json").write_text('{"name": "x"}')
    [finding] = walkers.look(str(tmp_path))
    assert finding.message.startswith("vitest")
    (tmp_path / "package.json").write_text('{"workspaces": ["packages/*"]}')
    os.mkfifo(tmp_path / ".flake8")
    (tmp_path / "biome.json").mkdir()
    (tmp_path / "jest.config.js").symlink_to("/etc/passwd")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "jest.config.js").write_text("module.exports = {}")
    [finding] = walkers.look(str(tmp_path))
    assert finding.level == "ok"
    (tmp_path / "eslint.config.js").write_bytes(b"export default [] // \xff\n")
    [finding] = walkers.look(str(tmp_path))
    assert (finding.level, finding.code) == ("warn", walkers.CODE)
    assert "ignores: ['.orchestrator/']" in str(finding.hint)
