"""Which forges there are, and which one a project uses."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.git import remotes
from orchestrator.layout import Layout
from orchestrator.model import Config
from orchestrator.pulls.forge import Forge
from orchestrator.pulls.github import GitHub
from orchestrator.pulls.local import Local

#: By the value of `forge` in agents.yaml. `auto` is the first that takes the remote's address.
FORGES: dict[str, type[Forge]] = {"github": GitHub, "local": Local}

#: The programs of all forges.
PROGRAMS = tuple(kind.program for kind in FORGES.values() if kind.program)


def denied(rules: Iterable[str]) -> tuple[str, ...]:
    """Return a role's `deny` rules, with `{forge}` replaced by the program of each forge."""
    texts = [[r.replace("{forge}", p) for p in PROGRAMS] if "{forge}" in r else [r] for r in rules]
    return tuple(text for several in texts for text in several)


def of_project(layout: Layout, config: Config) -> Forge:
    """Return the forge that the configuration asks for; `auto` looks at the remote and for `gh`."""
    name = config.forge
    if name == "auto":
        url = remotes.url(layout.root, config.remote) or ""
        name = next(name for name, kind in FORGES.items() if kind.takes(layout, url))
    return FORGES[name](layout, config)
