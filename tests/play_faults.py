"""Play each fault of `planted_faults.toml` in a copy of this checkout, and say which tests find it.

`make faults` runs this. It exits with 1 if a test does not find its fault.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import planted_faults
import quick_variants
from planted_faults import Fault

CHECKOUT = Path(__file__).resolve().parent.parent
#: Seconds after which a test that a fault made wait for ever counts as failed.
TIMEOUT = 120
#: How the variables of a run of the tests begin: each copy makes its own templates.
_OF_A_RUN = ("PYTEST_", "SHARED_BY_TESTS")


def main(words: list[str]) -> int:
    """Play the faults whose text or tests contain a word, or all; return the exit code."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("words", nargs="*", help="part of a file or of a test's name")
    options.add_argument("--jobs", type=int, default=2, help="faults at the same time")
    chosen = options.parse_args(words)
    faults = [
        fault
        for fault in planted_faults.FAULTS
        if not chosen.words
        or any(word in name for word in chosen.words for name in (fault.file, *fault.found_by))
    ]
    with scratch() as folder:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(chosen.jobs):
            copies.put(copy_checkout(folder / str(number)))

        def played(fault: Fault) -> list[str]:
            copy = copies.get()
            try:
                return play(fault, copy)
            finally:
                copies.put(copy)

        if faults and not passes_without(faults[0], copies):
            print(f"{', '.join(faults[0].found_by)}: fails without its fault, too")
            return 1
        missed = 0
        with ThreadPoolExecutor(chosen.jobs) as pool:
            for fault, complaints in zip(faults, pool.map(played, faults), strict=True):
                missed += bool(complaints)
                print("MISSED" if complaints else "found ", fault.file, *fault.found_by, flush=True)
                for complaint in complaints:
                    print(f"        {complaint}", flush=True)
    unproven = [] if chosen.words else planted_faults.unproven()
    for name in unproven:
        print(f"no fault shows that {quick_variants.HELD_BY[name]} holds what {name} tests")
    print(f"{len(faults) - missed} of {len(faults)} faults are found by each of their tests.")
    return 1 if missed or unproven else 0


@contextmanager
def scratch() -> Iterator[Path]:
    """Have a folder; at the end, a disk that a failed test left mounted in it goes with it."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as name:
        folder = Path(name).resolve()
        try:
            yield folder
        finally:
            mounts = Path("/proc/mounts")
            for line in mounts.read_text().splitlines() if mounts.exists() else ():
                if line.split()[1].startswith(f"{folder}/"):
                    subprocess.run(("umount", "--lazy", line.split()[1]), check=False)


def copy_checkout(copy: Path) -> Path:
    """Return a clone with the working tree's files, an environment that imports it, and the client.

    The environment's libraries are links to those of this checkout.
    """
    subprocess.run(
        ("git", "clone", "--quiet", "--shared", "--no-checkout", CHECKOUT, copy), check=True
    )
    listed = subprocess.run(
        ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, copy / name, follow_symlinks=False)
    # The product's own git commands ask for the index of its checkout.
    subprocess.run(("git", "reset", "--quiet"), cwd=copy, check=True)
    if (CHECKOUT / ".client").exists():
        (copy / ".client").symlink_to(CHECKOUT / ".client")
    real, ours = CHECKOUT / ".venv", copy / ".venv"
    shutil.copytree(real / "bin", ours / "bin", symlinks=True)
    shutil.copy(real / "pyvenv.cfg", ours)
    [libraries] = real.glob("lib/python*/site-packages")
    there = ours / libraries.relative_to(real)
    there.mkdir(parents=True)
    for entry in libraries.iterdir():
        if entry.suffix == ".pth":
            text = entry.read_text().replace(str(CHECKOUT), str(copy))
            (there / entry.name).write_text(text)
        else:
            (there / entry.name).symlink_to(entry)
    for script in (ours / "bin").iterdir():
        if script.is_file() and not script.is_symlink() and script.read_bytes()[:2] == b"#!":
            script.write_text(script.read_text().replace(str(real), str(ours)))
    return copy


def play(fault: Fault, copy: Path) -> list[str]:
    """Return what is wrong with this fault and its tests: no sentence if each test finds it."""
    complaint = planted_faults.not_in_place(fault, copy)
    if complaint:
        return [complaint]
    with planted(fault, copy):
        results = run(fault.found_by, copy)
    return [
        f"{name}: {', '.join(sorted(ended)) or 'was not run'}"
        for name in fault.found_by
        if "failed" not in (ended := outcomes(name, results))
    ]


def passes_without(fault: Fault, copies: SimpleQueue[Path]) -> bool:
    """Return whether the tests of a fault pass without it: the copies work as the checkout does."""
    copy = copies.get()
    results = run(fault.found_by, copy)
    copies.put(copy)
    return bool(results) and "failed" not in results.values()


@contextmanager
def planted(fault: Fault, copy: Path) -> Iterator[None]:
    """Have the fault in this copy."""
    path = copy / fault.file
    good = path.read_text()
    path.write_text(good.replace(fault.old, fault.new))
    try:
        yield
    finally:
        path.write_text(good)


def run(names: tuple[str, ...], copy: Path) -> dict[str, str]:
    """Run these tests in this copy; return the outcome of each variant by its name."""
    files = sorted({file for name in names for file in files_with(name, copy)})
    only_quick = (
        () if set(names) & set(quick_variants.HELD_BY) else ("-m", "not slow and not crash")
    )
    report = copy.with_suffix(".xml")
    report.unlink(missing_ok=True)
    done = subprocess.run(
        (
            *(copy / ".venv/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("--timeout", str(TIMEOUT), f"--junitxml={report}", *only_quick),
            *("-k", " or ".join(names)),
            *("--basetemp", copy.with_suffix(".tmp"), *files),
        ),
        cwd=copy,
        env={key: value for key, value in os.environ.items() if not key.startswith(_OF_A_RUN)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if not report.exists() or done.returncode not in (0, 1):
        # The fault stops pytest itself, as a missing import does: every test fails.
        print(done.stdout[-2000:], file=sys.stderr)
        return {}
    found: dict[str, str] = {}
    for case in ET.parse(report).iter("testcase"):
        name, ended = case.get("name", ""), outcome(case)
        # A contract's test runs once per implementation.
        found[name] = ended if found.get(name) != "failed" else "failed"
    return found


def files_with(name: str, copy: Path) -> list[str]:
    """Return the files with this test: the file that defines it, or those with its contract."""
    texts = {path: path.read_text() for path in (copy / "tests").glob("*.py")}
    own = [path for path, text in texts.items() if f"def {name}(" in text]
    shared = tuple(f"from {path.stem} import" for path in own if not path.name.startswith("test_"))
    found = [path for path in own if path.name.startswith("test_")]
    found += [
        path
        for path, text in texts.items()
        if path.name.startswith("test_") and any(words in text for words in shared)
    ]
    return [str(path.relative_to(copy)) for path in found]


def outcome(case: ET.Element) -> str:
    """Return how this test ended."""
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    return "skipped" if case.find("skipped") is not None else "passed"


def outcomes(name: str, ended: Mapping[str, str]) -> set[str]:
    """Return how a test ended: its variants in `make test`, if it has any there.

    If one of them fails, the test has found the fault.
    """
    found: dict[bool, set[str]] = {False: set(), True: set()}
    for variant, how in ended.items():
        if variant.partition("[")[0] == name:
            found[quick_variants.is_slow(f"::{variant}")].add(how)
    return found[name in quick_variants.HELD_BY]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
