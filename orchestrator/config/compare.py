"""Which settings of two hosts differ: each host tells the others a digest per setting. Pure.

Digests, because a check or a hook may contain what only the readers of agents.yaml should see.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import hashlib
import json
from collections.abc import Iterator, Mapping

from orchestrator.config.load import Settings
from orchestrator.system import records

#: Where a role's file is on this host.
_OF_THIS_HOST = ("path", "line")


def digests(settings: Settings) -> dict[str, str]:
    """Return a digest of each setting and each role, by the key's name in agents.yaml."""
    return {name: _digest(value) for name, value in _flat(settings)}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(records.plain(value)).encode()).hexdigest()[:8]


def _flat(settings: Settings) -> Iterator[tuple[str, object]]:
    """Yield each setting with its value; a missing key has its default."""
    values = settings.config._asdict()
    sections = {"client": str(values.pop("client")), "environment": "environment"}
    for name, value in values.items():
        first, _, key = name.partition("_")
        if name == "agents":
            continue
        if first in sections:
            yield f"{sections[first]}.{key}", value
        elif hasattr(value, "_asdict"):
            yield from ((f"{name}.{key}", inner) for key, inner in value._asdict().items())
        else:
            yield name, value
    for agent in settings.config.agents:
        yield from ((f"agents.{agent.name}.{key}", v) for key, v in agent._asdict().items())
    for role in settings.roles.values():
        known = role._asdict()
        yield f"roles.{role.name}", {k: v for k, v in known.items() if k not in _OF_THIS_HOST}


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> list[str]:
    """Return the names of the settings that differ, sorted; an agent that one host lacks once."""
    found = (name for name in {*here, *there} if here.get(name) != there.get(name))
    agents = [{_agent(name) for name in each} for each in (here, there)]
    lacking = agents[0] ^ agents[1]
    return sorted({_agent(name) if _agent(name) in lacking else name for name in found})


def _agent(name: str) -> str:
    """Return `agents.NAME` for a setting of an agent; an agent's name may have dots."""
    return name.rpartition(".")[0] if name.startswith("agents.") else ""
