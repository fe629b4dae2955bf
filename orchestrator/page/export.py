"""The page as one static file: the same regions, without scripts, forms, requests or links to here.

A file that somebody gets must work without this machine, and do nothing on the reader's.
"""

from __future__ import annotations

import os
import stat
import time
from html import escape
from html.parser import HTMLParser

from markupsafe import Markup

from orchestrator.model.errors import OrchestratorError
from orchestrator.page import regions, render
from orchestrator.page.commands import Reads
from orchestrator.system import files

#: Says in the file that it is an export, so that the next export may replace it.
MARK = '<meta name="generator" content="orchestrator: exported dashboard">'
#: Characters in which the mark is looked for.
HEAD = 1000
STYLES = ("page.css", "plots.css")
#: Elements that are left out with everything in them; the void ones have no end tag.
_OUT = frozenset(
    ("base", "button", "datalist", "embed", "form", "iframe", "img", "input", "label", "link",
     "meta", "object", "script", "select", "style", "textarea", "video", "audio")
)  # fmt: skip
_VOID = frozenset(("base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "wbr"))
#: Attributes that are kept, beside `aria-...`; in SVG they are written as here.
_KEPT = {
    name.lower(): name
    for name in (
        *("class", "id", "title", "role", "scope", "colspan", "rowspan", "datetime", "open", "dir"),
        *("tabindex", "min", "max", "low", "high", "value", "viewBox", "d", "x", "y", "width"),
        *("height", "transform", "text-anchor", "preserveAspectRatio"),
    )
}


class _Static(HTMLParser):
    """Copies HTML without what works only on the page."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        #: The elements that are open and left out with their contents.
        self._left: list[str] = []
        #: For each open link: whether it is kept.
        self._links: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _OUT or self._left:
            self._left += [] if tag in _VOID else [tag]
            return
        kept = [
            f' {_KEPT.get(name, name)}="{escape(value or "")}"'
            for name, value in attrs
            if name in _KEPT or name.startswith("aria-")
        ]
        if tag == "a":
            address = dict(attrs).get("href") or ""
            self._links.append(address.startswith(("https://", "#")))
            if not self._links[-1]:
                return
            kept.append(f' href="{escape(address)}" rel="noreferrer noopener"')
        self.parts.append(f"<{tag}{''.join(kept)}>")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._left:
            if tag in self._left:  # elements in it may have no end tag
                del self._left[len(self._left) - 1 - self._left[::-1].index(tag) :]
        elif tag not in _VOID | _OUT and (tag != "a" or (self._links and self._links.pop())):
            self.parts.append(f"</{tag}>")

    def handle_data(self, data: str) -> None:
        self.parts += [] if self._left else [escape(data, quote=False)]


def static(html: str) -> Markup:
    """Return HTML of a region without scripts, forms, and links that lead to this machine. Pure."""
    parser = _Static()
    parser.feed(html)
    parser.close()
    return Markup("".join(parser.parts))


def document(commands: Reads, root: str, now: float) -> str:
    """Return the page of a project as one HTML document; `now` is epoch seconds.

    A region that a command refuses to show says why.
    """
    templates = render.environment()
    named = {"project": os.path.basename(root), "root": root}
    shared = {**named, "read_only": True, "all_regions": regions.REGIONS}
    shown = []
    for region in regions.REGIONS:
        try:
            html = regions.html(templates, commands, region, {}, **shared)
        except OrchestratorError as error:
            html = templates.get_template("error.html").render(shared, error=error)
        shown.append((region, static(html)))
    styles = Markup("\n").join(
        Markup(files.read_regular(os.path.join(render.STATIC, name)).decode()) for name in STYLES
    )
    made = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(now))
    found = {**shared, "shown": shown, "styles": styles, "mark": Markup(MARK), "made": made}
    return templates.get_template("export.html").render(found)


def check(path: str, *, force: bool) -> str:
    """Return the real path of the file to write.

    Raises OrchestratorError if it is not a regular file, or is no export and not
    `force`.
    """
    found = os.path.realpath(path)
    try:
        mode = os.stat(found).st_mode
    except FileNotFoundError:
        folder = os.path.dirname(found)
        if not os.path.isdir(folder):
            raise OrchestratorError(f"there is no folder {folder}", f"mkdir -p {folder}") from None
        return found
    if not stat.S_ISREG(mode):
        raise OrchestratorError(f"{path} is not a file", "name a file, such as project.html")
    if not force:
        with open(found, "rb") as file:
            if MARK.encode() not in file.read(HEAD):
                hint = "name another file, or add --force to replace it"
                message = f"{path} exists and is not an earlier export"
                raise OrchestratorError(message, hint, code="exists")
    return found


def encoded(html: str) -> bytes:
    """Return the document in UTF-8, which its head names."""
    return html.encode("utf-8", "replace")


def write(path: str, html: str) -> int:
    """Write the document; readers see the old file or the new one. Return its bytes.

    Raises OSError.
    """
    data = encoded(html)
    files.write_atomic(path, data, 0o666)
    return len(data)
