"""Templates to HTML. Every text is escaped, and what it hides is shown (`quoting.visible`)."""

from __future__ import annotations

import os
import time

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from orchestrator import __version__
from orchestrator.model.annotations import Any
from orchestrator.model.times import parse_time
from orchestrator.page.work import click, pieces
from orchestrator.text.quoting import visible
from orchestrator.text.words import count, span

FOLDER = os.path.dirname(os.path.abspath(__file__))
STATIC = os.path.join(FOLDER, "static")


def isolated(text: object) -> Markup:
    """Return a text as HTML that reads in its own direction, whatever letters are around it."""
    return Markup("<bdi>{}</bdi>").format(visible("" if text is None else str(text)))


def moment(at: str | None) -> Markup:
    """Return a time as HTML: UTC in the text, which the page's script turns to the user's zone."""
    seconds = parse_time(at) if at else None
    if seconds is None:
        return Markup('<span class="unknown">?</span>')
    shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
    return Markup('<time datetime="{}">{} UTC</time>').format(at, shown)


def ago(at: str | None, now: float | None = None) -> str:
    """Return how long ago a time was, in words; `?` if it is not known."""
    seconds = parse_time(at) if at else None
    return span(None if seconds is None else max((now or time.time()) - seconds, 0))


def clock(at: str | None) -> str:
    """Return the time of day of a line (UTC); nothing if it has no time."""
    return at[11:19] if at and len(at) >= 19 else ""


def dollars(amount: float | None) -> str:
    """Return US dollars; `?` for an amount that is not known."""
    return "?" if amount is None else f"${amount:,.2f}"


def _shown(value: Any) -> Any:
    """Return what `{{ value }}` shows: nothing for None, a text with its hidden characters seen."""
    if isinstance(value, Markup):
        return value
    return "" if value is None else visible(value) if isinstance(value, str) else value


def environment() -> Environment:
    """Return the templates of the page."""
    found = Environment(
        loader=FileSystemLoader(os.path.join(FOLDER, "templates")),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(
        bdi=isolated, moment=moment, ago=ago, span=span, usd=dollars, visible=visible, clock=clock
    )
    found.globals.update(count=count, version=__version__, escape=escape)
    found.globals.update(click=click, pieces=pieces)
    return found
