"""Which of the hosts that share a queue begins a tick first, when a task waits. Pure.

Each host computes the same order from what the database knows of all hosts: those with an agent
that has no run come first, and of these, those with fewer runs. Hosts that are alike follow each
other in an order that depends on the task, so that different tasks go to different hosts. The first
host begins at once, the next one after `STEP`, unless the task was claimed meanwhile. A host that
is dead or paused therefore costs the time of one step.
"""

import zlib

from orchestrator.config.load import Settings
from orchestrator.model.snapshot import Snapshot
from orchestrator.tasks.sharing import Offer, Peer

#: Seconds from the start of one host's tick to that of the next: more than a tick takes to claim.
STEP = 0.25
#: Steps after which the remaining hosts follow, each `APART` seconds after the one before it.
STEPS = 4
APART = 0.02
#: Hosts that may ask the database for the offer at the same moment.
AT_ONCE = 64


def spread(hosts: int) -> float:
    """Return the seconds within which this many hosts should look at what waits."""
    return APART * max(0, hosts - AT_ONCE)


def wait(offer: Offer, me: str) -> float | None:
    """Return the seconds until this host begins a tick; None if no task is for this host."""
    hosts = [peer for peer in offer.hosts if peer.name == me or _takes(peer, offer)]
    own = next((peer for peer in hosts if peer.name == me), Peer(me, 0, None))
    if not _takes(own, offer):
        return None
    # As many hosts begin at once as there are tasks.
    place = sum(_key(peer, offer) < _key(own, offer) for peer in hosts)
    step, tasks = place // len(offer.tasks), len(offer.tasks)
    return STEP * min(step, STEPS) + APART * max(0, place - STEPS * tasks)


def _takes(peer: Peer, offer: Offer) -> bool:
    """Return whether a host may have an agent for a task that waits."""
    return any(peer.takes is None or role in peer.takes for _, role in offer.tasks)


def _key(peer: Peer, offer: Offer) -> tuple[bool, int, int, str]:
    is_full = peer.takes is not None and peer.runs >= len(peer.takes)
    turned = zlib.crc32(f"{offer.tasks[0][0]} {peer.name}".encode())
    return is_full, peer.runs, turned, peer.name


def takes(loaded: Settings, seen: Snapshot, host: str) -> list[str]:
    """Return which task `ROLE` each agent takes that may start on this host now."""
    if loaded.config.paused or not loaded.good or seen.hold is not None:
        return []
    may = [a for a in loaded.config.agents if not a.paused and a.host in (None, host)]
    suspended = {view.name for view in seen.agents.values() if view.suspended is not None}
    roles = (loaded.roles.get(agent.role) for agent in may if agent.name not in suspended)
    return [role.takes for role in roles if role is not None and role.takes]
