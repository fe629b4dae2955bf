"""What the queue in PostgreSQL knows of the hosts that share it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from orchestrator.database import hosts, json_text, schema, shared_events, this_host
from orchestrator.database.engine import Jobs
from orchestrator.database.session import Session
from orchestrator.layout import Layout
from orchestrator.model.snapshot import RunView
from orchestrator.system import files
from orchestrator.tasks.sharing import ELSEWHERE, Elsewhere, Offer, Peer, Pulse
from orchestrator.tasks.store import Store
from orchestrator.tasks.task_rows import TaskRows

#: Days for which it is known which host told a person what.
TAKEN_DAYS = 62
_FORGET_TAKEN = "DELETE FROM orchestrator_taken WHERE at < now() - %s * interval '1 day'"
#: Returns those of the words that no other host has, and gives them to this one.
_TAKE = """
INSERT INTO orchestrator_taken AS known (word, host) SELECT DISTINCT unnest(%s::text[]), %s
ON CONFLICT (word) DO UPDATE SET at = now() WHERE known.host = excluded.host RETURNING word
"""


class HostsStore(Store):
    """The part of the queue in PostgreSQL that concerns hosts, not single tasks."""

    def __init__(self, layout: Layout, session: Session, *, moves: bool = False) -> None:
        """`moves`: the queue is being moved, so it may be incomplete or closed."""
        self._layout, self._session, self._moves = layout, session, moves
        self._jobs = Jobs(session)
        self._rows = TaskRows(session, self._jobs, self._worker)

    @property
    def host(self) -> str:
        return this_host.read(self._layout).name

    def _require_open(self) -> None:
        if not self._moves:
            schema.require_open(self._session, self._project)

    def _project(self, theirs: Sequence[str]) -> Sequence[str]:
        return this_host.project(self._layout, theirs)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        files.remove(self._layout.idle_stamp)
        with self._session.change():
            self._require_open()
            yield

    def _worker(self) -> int:
        return hosts.worker(self._session, self._jobs, this_host.known(self._layout))

    def begin(self, agent: str, run: str) -> bool:
        with self._changing():
            query = "SELECT host FROM orchestrator_agents WHERE agent = %s"
            if any(host != self.host for (host,) in self._session.rows(query, agent)):
                return False
            lease = hosts.Lease(agent, self.host, run, None)
            self._session.later(hosts.LEASE, hosts.lease_values(self._worker(), lease))
            return True

    def end(self, agent: str, run: str, memory: Mapping[str, object]) -> None:
        with self._session.transaction():
            hosts.release(self._session, hosts.Lease(agent, self.host, run, None), memory)

    def wake(self, agents: Iterable[str], host: str | None = None) -> Sequence[tuple[str, str]]:
        return hosts.wake(self._session, agents, self.host, host)

    def holds(self, task_id: str, run: str) -> bool:
        with self._session.transaction():
            # The heartbeat first: from now on, no other host may take the task for a while.
            self._worker()
            return super().holds(task_id, run)

    def attend(self, runs: Iterable[str]) -> None:
        with self._session.transaction():
            hosts.attend(self._session, self._jobs, this_host.known(self._layout), runs)
        this_host.remember(self._layout, self._session.address)

    def tell(
        self,
        problems: Iterable[str],
        settings: Mapping[str, str],
        takes: Iterable[str],
        *,
        scheduled: bool | None = None,
    ) -> None:
        facts: dict[str, object] = {"problems": [*problems], "settings": settings}
        facts |= {"takes": [*takes], "scheduled": scheduled}
        text, me = json_text.dumped(facts), this_host.known(self._layout)
        query = (
            "UPDATE orchestrator_hosts SET facts = %s WHERE name = %s AND facts IS DISTINCT FROM %s"
        )
        with self._session.transaction():
            self._session.later(query, (text, me.name, text))

    def take(self, words: Sequence[str]) -> Sequence[str]:
        if not words:
            return ()
        with self._session.transaction():
            self._session.later(_FORGET_TAKEN, (TAKEN_DAYS,))
            found = self._session.rows(_TAKE, [*words], self.host)
        return [word for (word,) in found]

    def give_back(self, words: Sequence[str]) -> None:
        if words:
            with self._session.transaction():
                query = "DELETE FROM orchestrator_taken WHERE word = ANY(%s)"
                self._session.later(query, ([*words],))

    def publish(self) -> None:
        shared_events.publish(self._session, self._layout, self.host)

    def events(self, most: int) -> Iterable[bytes]:
        self._require_open()
        return shared_events.elsewhere(self._session, self.host, most)

    def number(self) -> str:
        rows = self._session.rows("SELECT number FROM orchestrator_changes")
        return next((str(row[0]) for row in rows), "")

    def news(self) -> str:
        events = "SELECT coalesce(max(id), 0) FROM orchestrator_events"
        rows = self._session.rows(f"SELECT number, ({events}) FROM orchestrator_changes")
        return next((f"{row[0]} {row[1]}" for row in rows), "")

    def pulse(self, tick_age: float) -> Pulse | None:
        found = hosts.pulse(self._session, this_host.known(self._layout), tick_age)
        if found is None:
            self._require_open()
            with self._session.transaction():
                self._worker()
        return None if found is None else Pulse(*found)

    def listen(self) -> bool:
        return self._session.listen(f"{schema.CHANNEL}{self._session.schema}")

    def wait(self, seconds: float) -> bool | None:
        news = self._session.notices(seconds)
        return schema.TASK in news if news else None

    def offer(self) -> Offer:
        tasks, peers = hosts.offer(self._session)
        known = ((name, runs, None if t is None else tuple(t)) for name, runs, t in peers)
        return Offer(tuple((i, role) for i, role in tasks), tuple(Peer(*each) for each in known))

    def elsewhere(self) -> Elsewhere:
        with self.ahead(ELSEWHERE):
            leases = hosts.leases(self._session)
            known = hosts.memories(self._session)
        runs = (
            RunView(each.run, each.agent, each.task, True, False, 0, host=each.host, age=each.age)
            for each in leases
            if each.host != self.host
        )
        memories = tuple(each for each in known if each[0] != self.host)
        own = {agent: memory for host, agent, memory in known if host == self.host}
        return Elsewhere(tuple(runs), memories, own)
