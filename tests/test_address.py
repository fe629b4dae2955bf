"""The address of a shared queue: what agents.yaml may say, and what is shown of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import CHECKOUT, Done
from rows import each_row

from orchestrator.config import keys
from orchestrator.database import address, this_host
from orchestrator.layout import Layout
from orchestrator.model.errors import ConfigError, OrchestratorError
from orchestrator.system import files, remembered

URL = "postgresql://db.example/team?options=-csearch_path%3Dshop"
TWO = "postgresql://one:5432,two:5433/team?target_session_attrs=read-write"
AGENTS = "agents: []\n"


@each_row(
    ("text", "found"),
    [
        (f"store: {URL}\n", URL),
        (f'agents: []\nstore: "{URL}"  # shared\n', URL),
        (f"store: '{URL}'", URL),
        ("store:   postgres://db/x", "postgres://db/x"),
        (f"store: {TWO}\n", TWO),
        (json.dumps({"store": TWO, "agents": []}), TWO),
        (json.dumps({"store": URL, "agents": []}), URL),
        (json.dumps({"agents": [], "store": URL}, indent=2), URL),
        ("store: files\n", None),
        (f"# store: {URL}\n", None),
        (f"x-old:\n  store: {URL}\n", None),
        (f"restore: {URL}\n", None),
        ("", None),
    ],
)
def test_the_address_is_found_without_a_reader_of_yaml(text: str, found: str | None) -> None:
    assert address.in_text(text.encode()) == (found or "files")


@each_row(
    ("text", "refused"),
    [
        (f"store: {URL}\n", False),
        (f"store: '{URL}'\n", False),
        (f"store: {TWO}\n", False),
        (f"store: |-\n  {URL}\n", True),
        (f"store:\n  {URL}\n", True),
        (f"{{store: '{URL}', agents: []}}\n", True),
        (f"x-other: {{store: '{URL}'}}\n", False),
        (json.dumps({"x-other": {"store": URL}, "agents": []}, indent=2), True),
        ("store: files\n", False),
    ],
)
def test_the_reader_of_yaml_and_the_search_agree_or_the_file_is_refused(
    text: str, refused: bool
) -> None:
    whole = text if "agents" in text else text + AGENTS
    found = address.in_text(whole.encode())
    if refused:
        with pytest.raises(ConfigError, match="store: write it as a line of its own"):
            keys.parse(whole)
    else:
        assert keys.parse(whole).store == found


@each_row(
    ("text", "why"),
    [
        (URL, None),
        (TWO, None),
        ("postgresql:///team", None),
        ("postgresql://?service=team", None),
        ("postgresql://ada@[::1]:5432/team", None),
        ("mysql://db/x", "it does not begin with postgresql://"),
        ("postgresql://ada:secret@db/x", address.HAS_PASSWORD),
        ("postgresql://ada:@db/x", address.HAS_PASSWORD),
        ("postgresql://db/x?password=secret", address.HAS_PASSWORD),
        ("postgresql://db/x?pass%77ord=secret", address.HAS_PASSWORD),
        ("postgresql://db/x?sslpassword=secret", address.HAS_PASSWORD),
        ("postgresql://db/x?options=-csearch_path%3Da,b", "its search_path is not one name"),
        ("postgresql://db:port/x", "Port could not be cast"),
        ("postgresql://one:5432,two:port/x", "Port could not be cast"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(text: str, why: str | None) -> None:
    assert (address.wrong(text) or "None").startswith(str(why))
    if why is not None:
        with pytest.raises(ConfigError) as refused:
            keys.parse(f"store: {text}\n{AGENTS}")
        assert "secret" not in refused.value.message or "secret" not in text
    assert "secret" not in address.shown(text)


def test_the_schema_is_that_of_the_address() -> None:
    assert address.schema("postgresql://db/x") == "orchestrator"
    assert address.schema(URL) == "shop"


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("files", "files", False),
        ("postgresql://db/team", "postgresql://owner:secret@10.0.0.1:5432/team", False),
        ("postgresql://db/team", "postgresql://db/shop", True),
        ("postgresql://?service=team", "postgresql://db/team", False),
        ("postgresql://db/team", "postgresql://db/team?options=-csearch_path%3Dshop", True),
    ],
)
def test_which_addresses_name_different_queues(one: str, other: str, differ: bool) -> None:
    assert address.differ(one, other) is differ


def test_the_environment_counts_only_if_the_file_names_a_database(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    os.makedirs(layout.home)
    given = {"ORCHESTRATOR_STORE": "postgresql://ada:secret@db/x"}
    Path(layout.config).write_text(AGENTS)
    assert address.of_project(layout, given) == "files"
    Path(layout.config).write_text(f"store: {URL}\n{AGENTS}")
    assert address.of_project(layout, {}) == URL
    assert address.of_project(layout, given) == given["ORCHESTRATOR_STORE"]


def test_a_process_reads_an_unchanged_file_once_and_sees_each_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status` asked for its queue 14 times, and read agents.yaml each time."""
    monkeypatch.setattr(remembered, "CLEAR", -1.0)  # remember also what was written a moment ago
    layout, read = Layout(str(tmp_path)), []
    os.makedirs(layout.home)
    true = files.read_inside
    monkeypatch.setattr(files, "read_inside", lambda *words: read.append(words) or true(*words))
    for text, found in ((AGENTS, "files"), (f"store: {URL}\n{AGENTS}", URL), (AGENTS, "files")):
        files.write_atomic(layout.config, text.encode())
        assert {address.of_project(layout, {}) for _ in range(3)} == {found}
    assert len(read) == 3
    os.unlink(layout.config)
    this_host.write(layout, "one")
    this_host.remember(layout, URL)
    assert address.of_project(layout, {}) == URL


def test_without_the_file_the_address_in_use_counts_and_no_password_is_kept(tmp_path: Path) -> None:
    layout = Layout(str(tmp_path))
    assert address.of_project(layout, {}) == "files"
    this_host.write(layout, "one")
    this_host.remember(layout, "postgresql://ada:secret@db/x")
    assert address.of_project(layout, {}) == "files"
    this_host.remember(layout, URL)
    assert address.of_project(layout, {}) == URL
    assert this_host.write(layout, "two").clone == this_host.known(layout).clone
    assert address.of_project(layout, {}) == URL


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a/b", "a" * 64])
def test_a_name_that_no_host_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(OrchestratorError) as refused:
        this_host.write(Layout(str(tmp_path)), name)
    assert "use a-z" in (refused.value.hint or "")


def test_missing_libraries_are_installed_at_the_first_use(tmp_path: Path) -> None:
    code = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
sys.modules["psycopg"] = None
from orchestrator.database import access
from orchestrator.layout import Layout
from orchestrator.system import extras
def install(*words):
    print(*words)
    del sys.modules["psycopg"]
extras.install = install
print(access.at(Layout({str(tmp_path)!r}), {URL!r}).shown)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    asked, shown = done.stdout.splitlines()
    assert asked == "postgresql ('psycopg', 'procrastinate') store: postgresql://..."
    assert shown == URL


def test_without_the_libraries_the_refusal_has_the_command_that_installs_them() -> None:
    # This environment looks like the launcher's, in which the libraries would be installed.
    code = f"""
import sys
sys.path.insert(0, {str(CHECKOUT)!r})
sys.executable = "/elsewhere/bin/python"
sys.modules["psycopg"] = None
from orchestrator.database import access
from orchestrator.model.errors import StoreFault
from orchestrator.layout import Layout
try:
    access.at(Layout("."), {URL!r})
except StoreFault as error:
    print(error.code, error.hint, sep="\\n")
from orchestrator.upkeep import migrate  # which asks for an address first
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    word, hint = done.stdout.splitlines()
    assert word == "not_installed"
    assert "/elsewhere/bin/python -m pip install" in hint
    needed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    for each in needed["optional-dependencies"]["postgresql"]:
        assert f"'{each}'" in hint


@pytest.mark.parametrize(
    ("store", "hint"),
    [
        ("postgresql://ada:secret@127.0.0.1:1/x", "which is refused: it has a password"),
        ("postgresql://127.0.0.1:5x/x", "which is refused: Port could not be cast"),
        ("postgresql://ada@127.0.0.1:1/x", "psql postgresql://ada@127.0.0.1:1/x -c 'select 1'"),
    ],
)
def test_a_refused_address_is_not_called_an_unreachable_database_only(
    project: Layout, cli: Callable[..., Done], store: str, hint: str
) -> None:
    source = Path(project.config)
    source.write_text(f"{source.read_text()}store: {store}\n")
    done = cli("task", "list")
    assert done.code == 1
    assert hint in done.err
    assert ("work resumes automatically" in done.err) == ("refused" not in hint)
    assert "secret" not in done.err
