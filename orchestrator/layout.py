"""All paths: in a user's project, and of the files that the product ships. Paths only."""

from __future__ import annotations

import os
from os.path import join

#: Where ticks that a schedule starts write their errors, below the project. Not in `cache/`: with
#: that folder gone the shell could not open the log, and no tick would start any more.
SCHEDULE_LOG = join(".orchestrator", "schedule.log")


class Layout:
    """The paths below one project's `.orchestrator/`, as plain strings."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.home = join(root, ".orchestrator")
        self.config = join(self.home, "agents.yaml")
        self.global_instructions = join(self.home, "global-instructions.md")
        self.commands = join(self.home, "commands")
        self.roles = join(self.home, "roles")
        self.agents = join(self.home, "agents")
        self.shared = join(self.home, "shared")
        self.queue = join(self.shared, "queue")
        self.prs = join(self.shared, "prs")
        #: There while `queue migrate` fills the queue of files, which is not whole until then.
        self.moving_here = join(self.shared, "moving-here")
        #: The name of this host among those that share the queue, and which clone has it.
        self.host = join(self.home, "host.json")
        self.events = join(self.home, "events.jsonl")
        self.events_before = join(self.home, "events.1.jsonl")
        #: The diary of ticks, a file per UTC day (`idle`).
        self.ticks = join(self.home, "ticks")
        self.scheduler_lock = join(self.home, "scheduler.lock")
        self.schedule_log = join(root, SCHEDULE_LOG)
        #: Everything below can be deleted between two ticks without loss.
        self.cache = join(self.home, "cache")
        #: Held by the process that asks the forge and the remotes.
        self.look_lock = join(self.cache, "look.lock")
        self.idle_stamp = join(self.cache, "idle")
        #: The number of a shared queue, for which this host's attendant vouches (`idle`).
        self.pulse = join(self.cache, "pulse")
        #: How the paths begin of what the names of finished tasks' files say (`tasks.names`).
        self.queue_names = join(self.cache, "queue-names")
        #: What is kept of many waiting tasks (`tasks.waiting_index`).
        self.waiting_index = join(self.cache, "queue-waiting")
        #: What the events came to, up to a place (`project.event_fold`).
        self.events_fold = join(self.cache, "events-fold")
        self.last_good_config = join(self.cache, "config")
        #: Why the forge did not answer the last tick; missing if it answered.
        self.forge_fault = join(self.cache, "forge-fault.json")
        #: Why an approved pull request could not be merged; missing if all were merged.
        self.landing_fault = join(self.cache, "not-landed.json")
        #: Why the remote with the branches of open pull requests did not answer the last look;
        #: missing if it answered.
        self.remote_fault = join(self.cache, "remote-fault.json")
        #: The agents' folders in which a tick saw that no memory is lost (`project.agent_memory`).
        self.agents_seen = join(self.cache, "agents-seen")
        #: Where the branches of open pull requests were at the last look, as git has its address.
        self.remote_place = join(self.cache, "remote-place")
        #: Which branches the remote lacks since its address was changed; missing if it has them.
        self.remote_moved = join(self.cache, "remote-moved.json")
        #: Why `notify.command` failed; missing if it worked the last time.
        self.notify_fault = join(self.cache, "notify-failed.json")
        #: How a run changed the person's checkout; missing if no run did.
        self.checkout_changed = join(self.shared, "checkout-changed.json")
        #: The current hold: why no agent may claim.
        self.hold = join(self.shared, "hold.json")
        #: There since all records of what runs cost were found deleted (`account.spending`).
        self.costs_lost = join(self.home, "costs-lost")
        #: The shares of the account's usage windows that are used.
        self.usage = join(self.shared, "usage.json")

    def state(self, state: str) -> str:
        """Return the folder of a task state."""
        return join(self.queue, state)

    def records(self, forge: str) -> str:
        """Return the folder with the records of a forge's pull requests."""
        return self.prs if forge == "local" else join(self.prs, forge)

    def agent(self, name: str) -> str:
        return join(self.agents, name)

    def agent_state(self, name: str) -> str:
        return join(self.agents, name, "state.json")

    def agent_lock(self, name: str) -> str:
        return join(self.agents, name, "lock")

    def worktree(self, name: str) -> str:
        return join(self.agents, name, "worktree")

    def runs(self, name: str) -> str:
        return join(self.agents, name, "runs")

    def run(self, name: str, run_id: str) -> str:
        return join(self.agents, name, "runs", run_id)


def worktree_around(path: str) -> tuple[str, str] | None:
    """Return the project and the top of the product's worktree that a path is in; else None.

    Agents' worktrees are below `agents/`, temporary ones below `cache/`. Decided by names alone:
    nothing that lies in the worktree is believed.
    """
    names = os.path.abspath(path).split("/")
    for place in range(len(names) - 1, 1, -1):
        match names[place : place + 4]:
            case [".orchestrator", "agents", _, "worktree"]:
                return "/".join(names[:place]), "/".join(names[: place + 4])
            case [".orchestrator", "cache", _, *_]:
                return "/".join(names[:place]), "/".join(names[: place + 3])
    return None


def resources() -> str:
    """Return the folder that holds `plugin/` and `skills/`: a checkout's root or the wheel's."""
    package = os.path.dirname(os.path.abspath(__file__))
    checkout = os.path.dirname(package)
    if os.path.isfile(os.path.join(checkout, "plugin", "roles", "implementer.md")):
        return checkout
    return os.path.join(package, "_resources")
