"""`dashboard --export`: one static file, for somebody else's machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import Done
from rows import each_row
from test_cli_tasks import add
from test_history import filled
from test_page import HOSTILE

from orchestrator.layout import Layout
from orchestrator.page import export, regions

Cli = Callable[..., Done]


class Seen(HTMLParser):
    """What a document is made of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "action")]
        self.ids += [value or "" for name, value in attrs if name == "id"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_file_has_every_region_and_needs_nothing(
    cli: Cli, project: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(cli, title=re.sub("[^ -~]", "", HOSTILE))
    now = time.time()
    filled(project, now)
    # On a busy machine minutes lie between the two files: their pictures would differ.
    monkeypatch.setattr(time, "time", lambda: now)
    path = tmp_path / "project.html"
    answer = json.loads(cli("dashboard", "--export", str(path), "--json").out)
    html = path.read_text()
    times = re.compile("[0-9]+ s|[0-9:]{5}")
    assert times.sub("", cli("dashboard", "--export", "-").out) == times.sub("", html)
    assert cli("dashboard", "--export", "-", "--open").code == 2
    assert answer == {"file": str(path), "bytes": path.stat().st_size}
    seen = Seen(html)
    for region in regions.REGIONS:
        assert f'aria-labelledby="{region.name}-title"' in html
        assert f'<h2 id="{region.name}-title">{region.title}</h2>' in html
    assert not seen.tags & {"script", "form", "button", "input", "img", "link", "iframe"}
    assert not {name for name in seen.attributes if name.startswith(("on", "hx-", "data-"))}
    assert "style" not in seen.attributes
    assert all(link.startswith(("#", "https://")) for link in seen.links)
    anchors = {link[1:] for link in seen.links if link.startswith("#")}
    assert anchors <= set(seen.ids)
    assert len(seen.ids) == len(set(seen.ids))
    assert "<img src=x onerror=alert(1)>" in "".join(seen.texts)  # as text
    # The pictures are there, with the names that SVG gives its attributes.
    assert html.count('viewBox="') > 5
    assert not re.search(r"url\(|@import|http://(?!www\.w3\.org)", html)
    assert "?token=" not in html
    assert re.search(r"as of \d{4}-\d\d-\d\d \d\d:\d\d", html)


@each_row(
    ("html", "left"),
    [
        ("<p>a<script>b</script>c</p>", "<p>ac</p>"),
        ("<form><p>a<input><select><option>x</select></form>b", "b"),
        ('<a href="/runs/R1">R1</a> <a href="https://h/1">1</a>',
         'R1 <a href="https://h/1" rel="noreferrer noopener">1</a>'),
        ('<a href="javascript:x()">a</a><a href="//h/">b</a><a>c</a>', "abc"),
        ('<p onclick="x" data-a="b" hx-get="/x" class="k" aria-label="&lt;">t</p>',
         '<p class="k" aria-label="&lt;">t</p>'),
        ("&lt;b&gt; &#34;", '&lt;b&gt; "'),
        ('<svg viewBox="0 0 1 1"><path d="M0 0"/></svg>',
         '<svg viewBox="0 0 1 1"><path d="M0 0"></path></svg>'),
        ("</form></p></a>x<br>", "</p>x<br>"),
    ],
)  # fmt: skip
def test_what_works_only_on_the_page_is_left_out(html: str, left: str) -> None:
    assert export.static(html) == left


def test_an_earlier_export_is_replaced_and_another_file_is_kept(
    cli: Cli, project: Layout, tmp_path: Path
) -> None:
    folder = tmp_path / "sent"
    folder.mkdir()
    path = folder / "mine.html"
    path.write_text("my own page")
    done = cli("dashboard", "--export", str(path), "--json")
    assert done.code == 1
    assert json.loads(done.out)["error"]["code"] == "exists"
    assert path.read_text() == "my own page"
    assert cli("dashboard", "--export", str(path), "--force").code == 0
    first = path.read_text()
    add(cli, title="Added since")
    assert cli("dashboard", "--export", str(path)).code == 0
    assert "Added since" not in first
    assert "Added since" in path.read_text()
    assert os.listdir(folder) == ["mine.html"]
    for place in (folder, folder / "no" / "such.html", Path(os.devnull)):
        assert cli("dashboard", "--export", str(place), "--force").code == 1
    link = folder / "link.html"
    link.symlink_to(path)
    assert cli("dashboard", "--export", str(link)).code == 0
    assert link.is_symlink()


@pytest.mark.parametrize("words", [("--export", "x.html", "--port", "1"), ("--force",)])
def test_options_that_say_nothing_are_refused(
    cli: Cli, project: Layout, words: tuple[str, ...]
) -> None:
    assert cli("dashboard", *words).code == 2


def test_an_export_needs_no_library_of_the_server() -> None:
    code = (
        "import sys\n"
        "for name in ('starlette', 'uvicorn', 'pygments'): sys.modules[name] = None\n"
        "import orchestrator.page.export, orchestrator.cli.served\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
