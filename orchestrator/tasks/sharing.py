"""What several hosts tell each other through a queue that they share.

`Sharing` is a part of the protocol `tasks.store.Store`. Its answers here are those of a queue that
one machine has alone; `tasks.hosts_store` has those of the queue in PostgreSQL.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

from orchestrator.model.annotations import Protocol
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import RunView


class Elsewhere(NamedTuple):
    """What a store knows of the other hosts that share it."""

    #: The runs at work there; nobody here may settle them.
    runs: tuple[RunView, ...] = ()
    #: Host, agent, and the agent's memory there (`project.agent_memory`), as JSON values.
    memories: tuple[tuple[str, str, Mapping[str, object]], ...] = ()
    #: What is known there of this host's agents: the memory of each, as JSON values.
    own: Mapping[str, Mapping[str, object]] = {}


class Pulse(NamedTuple):
    """What a shared queue answers to a host's heartbeat."""

    #: `Store.number`; empty if a host is silent for so long that a tick has to return its tasks.
    number: str
    #: How many hosts are alive.
    hosts: int


#: The word for `Store.elsewhere` in `Store.ahead`.
ELSEWHERE = "elsewhere"


class Peer(NamedTuple):
    """A host that is alive, as the others that share the queue know it."""

    name: str
    #: How many runs it has.
    runs: int
    #: Which task `ROLE` each of its agents takes (`Store.tell`); None if it has not told that.
    takes: tuple[str, ...] | None


class Offer(NamedTuple):
    """The first tasks of a shared queue that may be claimed now, and the hosts that are alive."""

    #: The id and `ROLE` of each.
    tasks: tuple[tuple[str, str], ...] = ()
    hosts: tuple[Peer, ...] = ()


class Sharing(Protocol):
    """The calls of a queue that concern several hosts. Each may raise OSError."""

    @property
    def host(self) -> str | None:
        """The name of this machine among those that share the queue; None if it has it alone."""
        return None

    def alone(self, what: str, wait: float) -> AbstractContextManager[object]:
        """Return a lock among the hosts, for work of which one at a time may be done.

        `wait` is in seconds. Raises LockHeld. One machine has its locks in files.
        """
        return nullcontext()

    def begin(self, agent: str, run: str) -> bool:
        """Begin a run without a task; return False if another host has a run of the agent."""
        return True

    def end(self, agent: str, run: str, memory: Mapping[str, object]) -> None:
        """Tell the other hosts that a run ended, and what its agent remembers now (JSON values)."""
        return None

    def wake(self, agents: Iterable[str], host: str | None = None) -> Sequence[tuple[str, str]]:
        """End what these agents ask, or why they are paused, on another host, or on all others.

        The next tick there follows. Returns each agent for which this was so, with its host.
        """
        return ()

    def attend(self, runs: Iterable[str]) -> None:
        """Tell the other hosts that this host is alive, and has these runs. A tick calls it."""
        return None

    def tell(
        self,
        problems: Iterable[str],
        settings: Mapping[str, str],
        takes: Iterable[str],
        *,
        scheduled: bool | None = None,
    ) -> None:
        """Show the other hosts the codes of this host's problems, and digests of its settings.

        `takes` is which task `ROLE` each agent takes that may start here; `scheduled` is whether a
        schedule starts ticks here. A tick calls it at its end.
        """
        return None

    def take(self, words: Sequence[str]) -> Sequence[str]:
        """Return those of the words that no other host took: this host has them from now on."""
        return words

    def give_back(self, words: Sequence[str]) -> None:
        """Let any host take these words again."""
        return None

    def publish(self) -> None:
        """Let the other hosts read this host's new events. A tick calls it at its end."""
        return None

    def events(self, most: int) -> Iterable[bytes]:
        """Return the lines of the other hosts' events, oldest first: the newest `most` bytes."""
        return ()

    def number(self) -> str:
        """Return what changes with everything of a shared queue that a tick reads.

        Empty if the queue is not shared; then the times of `watched` show the changes.
        """
        return ""

    def news(self) -> str:
        """Return what changes with everything of a shared queue that a person sees, events too."""
        return self.number()

    def pulse(self, tick_age: float) -> Pulse | None:
        """Tell the other hosts that this host is alive, with its last tick `tick_age` seconds ago.

        Returns None if the queue is not shared, and if the others had forgotten this host.
        """
        return None

    def listen(self) -> bool:
        """Have changes from now on told to `wait`; return False if they are told already."""
        return False

    def wait(self, seconds: float) -> bool | None:
        """Wait for a change by any host; return whether it may be work, None after `seconds`."""
        return None

    def offer(self) -> Offer:
        """Return the tasks of a shared queue that may be claimed now, and who may claim them."""
        return Offer()

    def elsewhere(self) -> Elsewhere:
        """Return what is known of the other hosts."""
        return Elsewhere()
