"""Images of modules: loaded like imports, made anew after a change, never needed."""

from __future__ import annotations

import json
import os
import py_compile
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import CHECKOUT

PACKAGE = CHECKOUT / "orchestrator"
#: Loads what a command needs; prints what each module of the program knows about itself, and
#: whether Python's usual import made it.
_LOAD = """
import json, sys
sys.path.insert(0, sys.argv[1])
exec(sys.argv[3])
from orchestrator import start
from orchestrator.system import image
image.load("main", "orchestrator.cli.main")
from orchestrator.cli import main
main.load(sys.argv[2].split())
names = [name for name in sys.modules if name.startswith("orchestrator")]
places = ("__file__", "__package__", "__path__", "__name__")
print(json.dumps({
    name: [*(getattr(sys.modules[name], place, None) for place in places),
           sys.modules[name].__spec__.name, type(sys.modules[name].__loader__).__name__,
           *sorted({x.__code__.co_filename for x in vars(sys.modules[name]).values()
             if getattr(x, "__module__", None) == name and hasattr(x, "__code__")}),
           sys.modules[name].__spec__.has_location]
    for name in names
}))
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The program, with bytecode of its own for some rooms."""
    made = tmp_path / "orchestrator"
    made.mkdir()
    for path in PACKAGE.iterdir():
        if path.is_file():
            shutil.copy2(path, made)
        elif path.name in ("system", "model"):
            shutil.copytree(path, made / path.name, ignore=shutil.ignore_patterns("*.pyc.*"))
        elif path.name != "__pycache__":
            (made / path.name).symlink_to(path)
    return made


def loaded(package: Path, command: str, first: str = "", *flags: str) -> dict[str, list[Any]]:
    words = (sys.executable, "-I", "-S", *flags, "-c", _LOAD, package.parent, command, first)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    found: dict[str, list[Any]] = json.loads(done.stdout)
    return found


def imported(found: dict[str, list[Any]]) -> set[str]:
    """Return the modules that were imported one by one."""
    return {name for name, (*_, is_usual) in found.items() if is_usual}


def images(package: Path) -> dict[str, bytes]:
    found = (package / "system" / "__pycache__").glob("image.*.pyc.*")
    return {path.name.rpartition(".")[2]: path.read_bytes() for path in found}


#: What a process has before it can load an image.
BEFORE = {
    *("orchestrator", "orchestrator.start", "orchestrator.idle"),
    *("orchestrator.system", "orchestrator.system.image"),
}


def test_modules_from_an_image_are_what_an_import_makes_of_them(package: Path) -> None:
    usual = loaded(package, "status", "", "-B")
    assert images(package) == {}
    assert imported(usual) == usual.keys()
    assert loaded(package, "status") == usual
    assert images(package).keys() == {"main", "status"}
    found = loaded(package, "status")
    assert imported(found) == BEFORE
    assert {name: each[:-1] for name, each in found.items()} == {
        name: each[:-1] for name, each in usual.items()
    }
    # Of another command only its own modules are new.
    assert "orchestrator.cli.main" not in imported(loaded(package, "runs"))
    assert imported(loaded(package, "runs")) == BEFORE


def test_a_changed_source_is_read_and_the_image_is_made_anew(package: Path) -> None:
    loaded(package, "status")
    before, source = images(package), package / "model" / "times.py"
    # Of the same size, as long as the time differs.
    text = source.read_text()
    source.write_text(text.replace("1", "2", 1))
    os.utime(source, (1_000_000_000, 1_000_000_000))
    assert source.stat().st_size == len(text.encode())
    assert "orchestrator.model.times" in imported(loaded(package, "status"))
    assert images(package)["status"] != before["status"]
    assert images(package)["main"] == before["main"]
    assert imported(loaded(package, "status")) == BEFORE


@pytest.mark.parametrize("damage", ["empty", "short", "other", "of another version"])
def test_a_damaged_image_is_replaced(package: Path, damage: str) -> None:
    usual = loaded(package, "runs")
    whole = images(package)["runs"]
    path = next((package / "system" / "__pycache__").glob("image.*.pyc.runs"))
    if damage == "of another version":
        version = sys.hexversion.to_bytes(4, "little")
        assert whole.count(version) == 1
        path.write_bytes(whole.replace(version, (sys.hexversion + 1).to_bytes(4, "little")))
    else:
        path.write_bytes({"empty": b"", "short": whole[:-9], "other": b"i\x01\x00\x00\x00"}[damage])
    assert loaded(package, "runs").keys() == usual.keys()
    assert images(package)["runs"] == whole
    assert imported(loaded(package, "runs")) == BEFORE


def test_no_image_is_made_that_would_not_hold_all_or_has_no_place(package: Path) -> None:
    loaded(package, "runs", "import orchestrator.text.words")
    assert images(package) == {}
    # Bytecode that does not depend on the time of the source.
    source = package / "model" / "errors.py"
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), invalidation_mode=unchecked)
    for _ in range(2):
        assert imported(loaded(package, "runs")) > BEFORE
        assert images(package).keys() == {"runs"}
    shutil.rmtree(package / "system" / "__pycache__")
    (package / "system" / "__pycache__").write_text("a file")
    assert loaded(package, "runs")


def test_an_image_that_another_process_made_is_used_by_one_that_has_more(package: Path) -> None:
    loaded(package, "runs")
    before = images(package)
    found = loaded(package, "runs", "import orchestrator.text.words")
    own = {"orchestrator.text", "orchestrator.text.words"}
    assert imported(found) == BEFORE | own
    assert images(package) == before
