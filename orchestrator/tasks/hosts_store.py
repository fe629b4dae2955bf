"""What the queue in PostgreSQL knows of the hosts that share it."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from orchestrator import __version__
from orchestrator.database import hosts, json_text, schema, shared_events, this_host
from orchestrator.database.engine import HEARTBEAT, Jobs
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

#: One statement: an idle host costs the database no more. The engine's own statement is the
#: heartbeat. A tick that found nothing to do is reported with the heartbeat that follows it.
_PULSE = f"""
WITH me AS (
    UPDATE orchestrator_hosts SET last_tick = greatest(last_tick, now() - %s * interval '1 s')
    WHERE name = %s AND clone = %s AND worker IS NOT NULL RETURNING worker),
known AS (
    SELECT count(*) AS hosts, count(*) FILTER (
        WHERE last_heartbeat < now() - %s * interval '1 s' AND id NOT IN (SELECT worker FROM me)
    ) AS silent FROM procrastinate_workers)
SELECT number::text, silent, hosts, ({HEARTBEAT.format("me.worker")})::text
FROM me, known, orchestrator_changes, orchestrator_schema
WHERE version = %s AND NOT copying AND moved_to IS NULL
"""
#: The first tasks that may be claimed now, and each host that is alive, with its runs.
_OFFER = """
SELECT (SELECT coalesce(jsonb_agg(jsonb_build_array(id, role)), '[]') FROM (
        SELECT known.id, role FROM orchestrator_tasks known JOIN procrastinate_jobs j ON j.id = job
        WHERE state = 'incoming' AND coalesce(scheduled_at <= now(), true)
        ORDER BY priority DESC, added, known.id LIMIT 20) AS first),
    (SELECT coalesce(jsonb_agg(jsonb_build_array(name, runs, facts->'takes')), '[]') FROM (
        SELECT name, facts, (
            SELECT count(*) FROM orchestrator_agents a WHERE a.worker = w.id) AS runs
        FROM orchestrator_hosts JOIN procrastinate_workers w ON w.id = worker
        WHERE last_heartbeat >= now() - %s * interval '1 s') AS alive)
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
        """Times are kept by the clock of the database, because those of the hosts may differ."""
        host, times = self.host, json.dumps(hosts.times(memory))
        with self._session.transaction():
            self._session.later(
                "DELETE FROM orchestrator_agents WHERE agent = %s AND host = %s AND run = %s",
                (agent, host, run),
            )
            self._session.later(
                "INSERT INTO orchestrator_memories (host, agent, memory)"
                " SELECT %s, %s, %s::jsonb || ("
                "SELECT coalesce(jsonb_object_agg(key, value::float8 + extract(epoch FROM"
                " clock_timestamp())::float8 - %s), '{}') FROM jsonb_each_text(%s::jsonb))"
                " ON CONFLICT (host, agent) DO UPDATE SET memory = excluded.memory",
                (host, agent, json_text.dumped(memory), time.time(), times),
            )

    def wake(self, agents: Iterable[str], host: str | None = None) -> Sequence[tuple[str, str]]:
        query = (
            "UPDATE orchestrator_memories SET memory = memory || %s::jsonb"
            " WHERE agent = ANY(%s) AND host <> %s AND host = coalesce(%s, host)"
            " AND coalesce(memory ->> 'suspended', memory ->> 'question') IS NOT NULL"
            " RETURNING agent, host"
        )
        awake = {"suspended": None, "question": None, "failures": 0}
        with self._session.transaction():
            return self._session.rows(query, json.dumps(awake), [*agents], self.host, host)

    def holds(self, task_id: str, run: str) -> bool:
        with self._session.transaction():
            # The heartbeat first: from now on, no other host may take the task for a while.
            self._worker()
            return super().holds(task_id, run)

    def attend(self, runs: Iterable[str]) -> None:
        """Remove the hosts that are dead, too."""
        with self._session.transaction():
            number = self._worker()
            self._session.later(
                "UPDATE orchestrator_hosts SET last_tick = now(), version = %s WHERE name = %s",
                (__version__, self.host),
            )
            self._session.later(
                "DELETE FROM orchestrator_agents WHERE worker = %s AND run <> ALL(%s)",
                (number, [*runs]),
            )
            self._jobs.prune(hosts.DEAD_AFTER)
            self._session.later(
                "DELETE FROM orchestrator_hosts WHERE worker IS NULL"
                " AND coalesce(last_tick, '-infinity') < now() - %s * interval '1 day'",
                (hosts.FORGOTTEN_DAYS,),
            )
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
        me = this_host.known(self._layout)
        values = (tick_age, me.name, me.clone, hosts.DEAD_AFTER, schema.VERSION)
        for number, silent, alive, _ in self._session.rows(_PULSE, *values):
            return Pulse("" if silent else number, alive - silent)
        # This host has no worker, or the queue is closed, or has another version.
        self._require_open()
        with self._session.transaction():
            self._worker()
        return None

    def listen(self) -> bool:
        return self._session.listen(f"{schema.CHANNEL}{self._session.schema}")

    def wait(self, seconds: float) -> bool | None:
        news = self._session.notices(seconds)
        return schema.TASK in news if news else None

    def offer(self) -> Offer:
        tasks, peers = next(iter(self._session.rows(_OFFER, hosts.DEAD_AFTER)), ((), ()))
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
