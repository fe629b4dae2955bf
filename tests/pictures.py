"""`make pictures`: takes the pictures of the documents from a running demonstration.

The terminal's are SVG (from tmux, through rich), the page's are PNG (from chromium). Beside them,
`inputs.json` has a digest of what each shows; tests/test_pictures.py compares it with the code.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / "docs" / "pictures"
INPUTS = FOLDER / "inputs.json"
#: Columns and lines of the terminal; the window of the browser.
COLUMNS, LINES = 100, 24
WINDOW = {"width": 1200, "height": 860}
MOST_BYTES = 150_000
#: Cards of the board when the picture of the page is taken; at the end there are eleven.
HALF = 5


class Picture(NamedTuple):
    """A picture, and the files that decide what it shows, as patterns below `orchestrator/`."""

    name: str
    inputs: tuple[str, ...]


SHOWN = ("cli/summary.py", "cli/shown*.py", "cli/screen.py")
PICTURES = (
    Picture("status.svg", ("cli/status.py", *SHOWN)),
    Picture("watch.svg", (*SHOWN, "cli/board.py", "cli/live.py")),
    Picture(
        "dashboard.png",
        ("page/templates/layout.html", "page/templates/*_board.html", "page/static/page.css"),
    ),
)


def digest(picture: Picture) -> str:
    """Return a digest of a picture's inputs, without comments and the layout of Python code."""
    found = hashlib.sha256()
    for pattern in picture.inputs:
        paths = sorted((CHECKOUT / "orchestrator").glob(pattern))
        assert paths, f"{picture.name}: {pattern} matches no file"
        for path in paths:
            text = path.read_text()
            shown = ast.dump(ast.parse(text)) if path.suffix == ".py" else " ".join(text.split())
            found.update(f"{path.name}\0{shown}\0".encode())
    return found.hexdigest()


# --- the terminal ------------------------------------------------------------------------------


def terminal(
    words: list[str], folder: str, environment: dict[str, str], *, until: str, key: str = ""
) -> str:
    """Return what a command shows on a terminal, with its colours, once it shows `until`.

    With a key, what it shows after that key.
    """
    name = f"pictures-{os.getpid()}-{words[-1]}"
    tmux = ["tmux", "-L", name, "-f", "/dev/null"]
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    line = f"{shlex.join(words)}; exec sleep 60"
    clean = {k: v for k, v in environment.items() if k not in ("TMUX", "NO_COLOR")}
    subprocess.run([*tmux, "new-session", "-d", *size, line], cwd=folder, env=clean, check=True)
    try:
        for _ in range(100):
            time.sleep(0.1)
            done = subprocess.run(
                [*tmux, "capture-pane", "-e", "-p"], capture_output=True, text=True, check=True
            )
            if until in done.stdout and not key:
                return done.stdout
            if until in done.stdout:
                subprocess.run([*tmux, "send-keys", key], check=True)
                key = ""
                time.sleep(1)
        raise SystemExit(f"{shlex.join(words)} showed no {until!r}:\n{done.stdout}")
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)


def svg(shown: str, title: str) -> str:
    """Return what a terminal shows as SVG; it loads nothing, and has no path of this machine."""
    from rich.console import CONSOLE_SVG_FORMAT, Console
    from rich.text import Text

    shown = shown.replace(sys.executable, "python3")  # the checks of the demonstration
    if str(CHECKOUT.parent) in shown or tempfile.gettempdir() in shown:
        raise SystemExit(f"a path of this machine is in the picture {title!r}; take it again")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(shown.rstrip()))
    form = re.sub(r"@font-face \{\{.*?\}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    return console.export_svg(title=title, code_format=form, unique_id="terminal")


# --- the browser -------------------------------------------------------------------------------


def photograph(
    folder: str, environment: dict[str, str], program: list[str], opened: threading.Event
) -> bytes:
    """Return what a browser shows of the page once half of the demonstration's tasks exist.

    Sets `opened` when the browser shows the board, or when something fails.
    """
    from playwright.sync_api import sync_playwright

    words = [*program, "dashboard", "--json", "--port", "0"]
    server = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        printed = ""
        while not printed.endswith("}\n"):
            line = server.stdout.readline()
            assert line, "the dashboard ended"
            printed += line
        with sync_playwright() as playing:
            browser = playing.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = browser.new_page(viewport=WINDOW)
            page.goto(json.loads(printed)["url"])
            page.locator("#board .card").first.wait_for(timeout=60_000)
            opened.set()
            page.locator("#board .card").nth(HALF).wait_for(timeout=60_000)
            found = page.screenshot()
            browser.close()
        return found
    finally:
        opened.set()
        server.terminate()
        server.wait(30)


# --- the demonstration -------------------------------------------------------------------------


def take(folder: str) -> dict[str, bytes]:
    """Return all pictures of a demonstration in a folder, taken while its agents work."""
    from orchestrator.demo import play, project
    from orchestrator.system import process

    place = project.at(folder, os.environ)
    project.create(place)
    program = process.own_program()

    def look() -> dict[str, bytes]:
        found = {}
        for name, key in (("watch", "j"), ("status", "")):
            words = [*program, name]
            shown = terminal(words, place.root, place.environment, until="ticks", key=key)
            found[f"{name}.svg"] = svg(shown, f"orchestrator {name}").encode()
        return found

    looking: Future[dict[str, bytes]] | None = None
    with (
        ThreadPoolExecutor(2) as threads,
        contextlib.closing(play.Play(place)) as playing,
    ):
        opened = threading.Event()
        watching = threads.submit(photograph, place.root, place.environment, program, opened)
        opened.wait()
        for sentence in playing.sentences():
            print(sentence, flush=True)
            if "delivers" in sentence and looking is None:
                looking = threads.submit(look)
    if looking is None:
        raise SystemExit("the demonstration delivered nothing")
    return looking.result() | {"dashboard.png": watching.result()}


def main() -> None:
    """Take every picture, and note what they show."""
    for program in ("tmux", "chromium"):
        if shutil.which(program) is None:
            raise SystemExit(f"{program} is missing: apt-get install {program}")
    sys.path.insert(0, str(CHECKOUT))
    with tempfile.TemporaryDirectory(prefix="orchestrator-pictures-") as folder:
        found = take(os.path.realpath(folder))
    FOLDER.mkdir(exist_ok=True)
    for name, data in found.items():
        if len(data) > MOST_BYTES:
            raise SystemExit(f"{name} has {len(data)} bytes; at most {MOST_BYTES} are wanted")
        (FOLDER / name).write_bytes(data)
        print(f"{name}: {len(data) // 1024} KiB")
    made = {picture.name: digest(picture) for picture in PICTURES}
    INPUTS.write_text(json.dumps(made, indent=2) + "\n")


if __name__ == "__main__":
    main()
