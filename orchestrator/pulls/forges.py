"""Which forges there are, and which one a project uses."""

from __future__ import annotations

from collections.abc import Iterable

from orchestrator.git import remotes
from orchestrator.layout import Layout
from orchestrator.model import Config
from orchestrator.pulls import github_repo
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


def of_project(layout: Layout, config: Config, *, remember: bool = False) -> Forge:
    """Return the forge that the configuration asks for; `auto` looks at the remote and for `gh`.

    A process that may write to the disk sets `remember`: later ones need not ask gh or ssh.
    """
    name = config.forge
    if name == "auto":
        addresses = remotes.addresses(layout.root, config.remote)
        name = next(n for n, kind in FORGES.items() if kind.takes(layout, addresses, remember))
    return FORGES[name](layout, config)


def github_host(layout: Layout, config: Config) -> str | None:
    """Return the host of the configured remote if it is, or seems to be, one of GitHub."""
    found = github_repo.find(layout, remotes.addresses(layout.root, config.remote))
    return found.host if found.known or "github" in found.host else None
