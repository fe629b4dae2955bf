"""Every client, by the name of its section in agents.yaml.

Waiting supervisors load this module, so adapters import next to nothing at the top.
"""

from __future__ import annotations

from collections.abc import Mapping

from orchestrator.client.claude.adapter import Claude
from orchestrator.model.annotations import TYPE_CHECKING

if TYPE_CHECKING:
    from orchestrator.client.protocol import Client
    from orchestrator.model.config import Config

#: The first client is the default.
CLIENTS: Mapping[str, Client] = {Claude.name: Claude()}


def named(name: object) -> Client:
    """Return the client of this name; the default client for None and unknown names."""
    default = next(iter(CLIENTS.values()))
    return CLIENTS.get(name, default) if isinstance(name, str) else default


def of_config(config: Config) -> Client:
    return named(config.client)
