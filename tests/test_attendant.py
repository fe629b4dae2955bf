"""Whether a host begins a tick for a task that another host added (`attendant`)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from postgresql import in_schema
from store_contract import claim, new_task

from orchestrator.database import session, this_host
from orchestrator.layout import Layout
from orchestrator.tasks.postgresql_store import PostgresqlStore
from orchestrator.tick import attendant, turn


def a_host(folder: Path, server: str, name: str) -> PostgresqlStore:
    """Return the store of a host that has an agent for the task."""
    layout = Layout(str(folder / name))
    os.makedirs(layout.cache)
    this_host.write(layout, name)
    store = PostgresqlStore(layout, session.of(in_schema(server, str(folder))))
    store.prepare()
    store.attend(())
    store.tell((), {}, ["implement"])
    return store


@pytest.mark.parametrize("first_claims", [True, False], ids=["is claimed", "still waits"])
def test_the_second_host_begins_a_tick_only_if_the_first_did_not_take_the_task(
    tmp_path: Path,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    first_claims: bool,
) -> None:
    """The first host is dead, or stopped, in one of the cases, and so costs one step."""
    hosts = {name: a_host(tmp_path, server, name) for name in ("one", "two")}
    hosts["one"].add(new_task())
    offer = hosts["one"].offer()
    first, second = sorted(hosts, key=lambda name: turn.wait(offer, name) or 0.0)
    waited: list[float] = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if first_claims:
            claim(hosts[first], hosts[first].find("T1"))

    monkeypatch.setattr(attendant.time, "sleep", sleep)
    assert attendant._is_for_this_host(hosts[first], 2)
    assert waited == []
    assert attendant._is_for_this_host(hosts[second], 2) is not first_claims
    assert waited == [turn.STEP]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS], ids=errno.errorcode.get)
def test_a_host_whose_disk_takes_nothing_keeps_its_heartbeat(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    store = a_host(tmp_path, server, "one")
    beats: list[float] = []

    def pulse(age: float) -> object:
        beats.append(age)
        return PostgresqlStore.pulse(store, age)

    def refuse(path: str, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), path)

    monkeypatch.setattr(attendant, "BEAT", 0.0)
    monkeypatch.setattr(store, "pulse", pulse)
    monkeypatch.setattr(attendant.stores, "of_project", lambda _: store)
    monkeypatch.setattr(attendant.files, "write_atomic", refuse)
    monkeypatch.setattr(attendant.files, "remove", refuse)
    layout = Layout(str(tmp_path / "one"))
    assert all(attendant._beat(layout, lambda: lambda: None) for _ in range(2))
    assert len(beats) == 2


def test_a_host_without_an_agent_for_the_task_begins_no_tick(
    tmp_path: Path,
    server: str,
) -> None:
    store = a_host(tmp_path, server, "one")
    store.add(new_task())
    store.tell((), {}, ["review"])
    assert not attendant._is_for_this_host(store, 1)
