"""The package managers and build tools that are known, and their commands.

The commands are those that each tool's own documentation gives for a checkout whose lock file must
not change.
"""

from __future__ import annotations

from orchestrator.model.fields import NamedTuple
from orchestrator.setup.facts import DEVELOPMENT

#: The tests of a project that needs no package manager.
BARE = "unittest"
#: A choice: the facts that it needs, and the command, with the words of `Facts` in braces.
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
    #: The folders that set-up and checks create and do not hide from git themselves.
    creates: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


def _always(command: str) -> tuple[Choice, ...]:
    return (((), command),)


def _javascript(
    name: str, marks: tuple[str, ...], setup: tuple[Choice, ...], test: str, each: str = ""
) -> Ecosystem:
    """Return a package manager; `test` calls the script of that name, `each` that of each part."""
    needs = ("package.json",)
    changed = (*needs, *(mark for mark in marks if " " not in mark and mark not in needs))
    checks = (
        (("script test", "test watches"), f"CI=true {test}"),
        (("script test",), test),
        *(((("has workspaces",), each),) if each else ()),
        *(((f"script {script}",), f"{name} run {script}") for script in ("check", "build")),
    )
    return Ecosystem(name, "javascript", marks, setup, checks, changed, ("node_modules",), needs)


_VENV = "python3 -m venv .venv && .venv/bin/pip install "
#: `--group` needs pip 25.1, https://pip.pypa.io/en/stable/news/#v25-1: older Pythons bring less.
_GROUP = f"{_VENV}'pip>=25.1' && .venv/bin/pip install --group {{group}}"


def _python(
    name: str, marks: tuple[str, ...], setup: tuple[Choice, ...], run: str, *creates: str
) -> Ecosystem:
    changed = ("pyproject.toml", *(mark for mark in marks if " " not in mark))
    checks = (
        (("uses pytest",), f"{run}pytest"),
        (("uses unittest",), f"{run}python -m unittest{{discover}}"),
    )
    return Ecosystem(name, "python", marks, setup, checks, changed, creates)


#: In the order in which the ecosystems of a family are tried.
TABLE: tuple[Ecosystem, ...] = (
    _javascript(
        "pnpm",
        ("pnpm-lock.yaml", "packageManager pnpm"),
        ((("pnpm-lock.yaml",), "pnpm install --frozen-lockfile"), ((), "pnpm install")),
        "pnpm test",
        "pnpm --recursive --if-present test",
    ),
    _javascript(
        "yarn",
        ("yarn.lock", "packageManager yarn"),
        (
            (("yarn.lock", "yarn 2"), "yarn install --immutable"),
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
        ("package-lock.json", "npm-shrinkwrap.json", "packageManager npm", "package.json"),
        (
            (("package-lock.json",), "npm ci"),
            (("npm-shrinkwrap.json",), "npm ci"),
            # Without a lock file, one that npm writes would look like an agent's change.
            ((), "npm install --no-package-lock"),
        ),
        "npm test",
        "npm test --workspaces --if-present",
    ),
    # After the package managers: many packages have a deno.json only to be published.
    Ecosystem(
        "deno",
        "javascript",
        ("deno.json", "deno.jsonc"),
        (),
        ((("task test",), "deno task test"), ((), "deno test")),
    ),
    # uv, and tox below, write a .gitignore into the folder that they create.
    Ecosystem(
        "uv",
        "python",
        ("uv.lock",),
        (
            (("group tests", "group by default"), "uv sync --frozen"),
            (("group tests",), "uv sync --frozen --group {group}"),
            (("extra tests",), "uv sync --frozen --extra {extra}"),
            ((), "uv sync --frozen"),
        ),
        (
            (("uses pytest", "group tests", "group by default"), "uv run pytest"),
            (("uses pytest", "group tests"), "uv run --group {group} pytest"),
            (("uses pytest", "extra tests"), "uv run --extra {extra} pytest"),
            (("uses pytest",), "uv run pytest"),
            (("uses unittest",), "uv run python -m unittest{discover}"),
        ),
        ("pyproject.toml", "uv.lock"),
    ),
    _python(
        "poetry",
        ("poetry.lock", "tool poetry"),
        ((("extra tests",), "poetry install --extras {extra}"), ((), "poetry install")),
        "poetry run ",
    ),
    _python("pdm", ("pdm.lock",), _always("pdm sync"), "pdm run ", ".venv"),
    _python("pipenv", ("Pipfile.lock",), _always("pipenv sync --dev"), "pipenv run "),
    Ecosystem(
        "hatch",
        "python",
        ("hatch envs",),
        (),
        (
            (("uses pytest",), "hatch test"),
            (("uses unittest",), "hatch run python -m unittest{discover}"),
        ),
    ),
    Ecosystem("tox", "python", ("section tox", "tool tox"), (), _always("tox -e py")),
    Ecosystem(
        "nox",
        "python",
        ("noxfile.py",),
        (),
        (
            (("session tests",), "nox --session tests"),
            (("session test",), "nox --session test"),
            ((), "nox"),
        ),
        creates=(".nox",),
    ),
    Ecosystem(
        "pip",
        "python",
        (
            *("requirements.txt", "requirements dev", "package python", "setup.py"),
            "configures pytest",
        ),
        (
            (
                ("requirements.txt", "requirements dev"),
                f"{_VENV}-r requirements.txt -r {{requirements}}",
            ),
            (("requirements dev", "package python"), f"{_VENV}-r {{requirements}} -e ."),
            (("requirements dev", "setup.py"), f"{_VENV}-r {{requirements}} -e ."),
            (("requirements dev",), f"{_VENV}-r {{requirements}}"),
            (("group tests", "package python"), f"{_GROUP} -e ."),
            (("group tests",), _GROUP),
            (("extra tests",), f"{_VENV}-e '.[{{extra}}]'"),
            (("requirements.txt", "uses pytest"), f"{_VENV}-r requirements.txt pytest"),
            (("requirements.txt",), f"{_VENV}-r requirements.txt"),
            (("package python", "uses pytest"), f"{_VENV}-e . pytest"),
            (("setup.py", "uses pytest"), f"{_VENV}-e . pytest"),
            (("package python",), f"{_VENV}-e ."),
            (("setup.py",), f"{_VENV}-e ."),
            ((), f"{_VENV}pytest"),
        ),
        (
            (("uses pytest",), ".venv/bin/python -m pytest"),
            (("uses unittest",), ".venv/bin/python -m unittest{discover}"),
        ),
        ("requirements.txt", *DEVELOPMENT, "pyproject.toml", "setup.py", "setup.cfg"),
        (".venv",),
    ),
    Ecosystem(BARE, "python", ("uses unittest",), (), _always("python3 -m unittest{discover}")),
    Ecosystem(
        "cargo",
        "rust",
        ("Cargo.toml",),
        _always("cargo fetch"),
        ((("cargo workspace",), "cargo test --workspace"), ((), "cargo test")),
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
    # Last: their targets often call one of the tools above, without the set-up's environment.
    Ecosystem(
        "make",
        "make",
        ("target test", "target check"),
        (),
        ((("target test",), "make test"), ((), "make check")),
    ),
    Ecosystem(
        "just",
        "make",
        ("recipe test", "recipe check"),
        (),
        ((("recipe test",), "just test"), ((), "just check")),
    ),
)
