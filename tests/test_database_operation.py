"""What the operations page says of the database, tried: TLS, a pool, backup, the compose file."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote, urlsplit

import needs
import psycopg
import pytest
import yaml
from conftest import CHECKOUT
from harness import wait_until
from postgresql import Cluster, cluster, in_schema, programs
from psycopg.conninfo import conninfo_to_dict
from store_contract import claim, entry, new_task
from test_postgresql_store import sql_of

from orchestrator.database import address as addresses
from orchestrator.database import session, this_host
from orchestrator.layout import Layout
from orchestrator.model.errors import NotFound, StoreFault
from orchestrator.system.locks import LockHeld
from orchestrator.tasks import postgresql_store
from orchestrator.tasks.postgresql_store import PostgresqlStore

PAGE = (CHECKOUT / "docs" / "several-machines.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two authorities, `team` and `foreign`, and a server's certificate of `team`."""
    folder = tmp_path_factory.mktemp("tls")
    authority = _authority(folder, "team")
    _authority(folder, "foreign")
    _certificate(folder, authority, "localhost")
    return folder


@pytest.fixture(scope="module")
def own(port: int, certificates: Path) -> Iterator[Cluster]:
    with cluster(listen_addresses="127.0.0.1", port=str(port)) as found:
        found.secure(str(certificates / "server.pem"), str(certificates / "server.key"))
        yield found


def store_at(folder: Path, address: str, name: str = "one") -> PostgresqlStore:
    layout = Layout(str(folder / name))
    os.makedirs(layout.cache, exist_ok=True)
    this_host.write(layout, name)
    return PostgresqlStore(layout, session.of(address))


# --- TLS -----------------------------------------------------------------------------------------


def _authority(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate authority; return its certificate and its key."""
    openssl = needs.program("openssl", "openssl")
    key, certificate = folder / f"{name}.key", folder / f"{name}.pem"
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    where = ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([openssl, *made, *where], check=True, capture_output=True)
    return certificate, key


def _certificate(folder: Path, authority: tuple[Path, Path], host: str) -> tuple[Path, Path]:
    """Make the certificate of a server of this name, signed by an authority; and its key."""
    certificate, key, asked = folder / "server.pem", folder / "server.key", folder / "asked"
    extra = folder / "extra"
    extra.write_text(f"subjectAltName=DNS:{host}\n")
    made = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    where = ["-keyout", str(key), "-out", str(asked), "-subj", f"/CN={host}"]
    subprocess.run(["openssl", *made, *where], check=True, capture_output=True)
    signed = ["x509", "-req", "-in", str(asked), "-out", str(certificate), "-days", "2"]
    by = ["-CA", str(authority[0]), "-CAkey", str(authority[1]), "-CAcreateserial"]
    words = ["openssl", *signed, *by, "-extfile", str(extra)]
    subprocess.run(words, check=True, capture_output=True)
    return certificate, key


def test_tls_is_verified_against_the_authority_and_the_name_of_the_server(
    own: Cluster, port: int, certificates: Path, tmp_path: Path
) -> None:
    documented = re.search(r"\*\*TLS\.\*\* `postgresql://[^?]+\?([^`]+)`", PAGE)
    assert documented

    def at(host: str, authority: str) -> str:
        root = quote(str(certificates / f"{authority}.pem"))
        options = documented[1].replace("/etc/ssl/team.pem", root)
        return f"postgresql://{own.role}@{host}:{port}/postgres?{options}"

    store = store_at(tmp_path, at("localhost", "team") + f"&options={quote('-csearch_path=tls')}")
    store.prepare()
    store.add(new_task())
    query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    assert store._session.rows(query) == [(True,)]
    store._session.close()
    for host, authority in (("localhost", "foreign"), ("127.0.0.1", "team")):
        with pytest.raises(StoreFault, match="certificate") as refused:
            store_at(tmp_path, at(host, authority)).find("T1")
        assert refused.value.code == "store_unreachable"


# --- a pool of connections -----------------------------------------------------------------------


@contextmanager
def pgbouncer(own: Cluster, mode: str) -> Iterator[str]:
    """Yield the address of a PgBouncer before a cluster."""
    program = needs.program("pgbouncer", "pgbouncer")
    place = Path(tempfile.mkdtemp(dir=own.folder))
    place.chmod(0o777)
    settings = place / "settings.ini"
    settings.write_text(
        f"[databases]\npostgres = host={own.folder} port={own.port} user={own.role}\n[pgbouncer]\n"
        f"listen_addr =\nunix_socket_dir = {place}\nlisten_port = 6432\nauth_type = any\n"
        f"pool_mode = {mode}\nlogfile = {place}/log\n"
    )
    user = ["-u", own.role] if os.geteuid() == 0 else []
    process = subprocess.Popen([program, *user, str(settings)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: (place / ".s.PGSQL.6432").exists(), "PgBouncer listens")
        yield f"postgresql://{own.role}@/postgres?host={quote(str(place), safe='')}&port=6432"
    finally:
        process.terminate()
        process.wait()


def test_behind_a_pool_of_sessions_the_lock_and_the_notifications_work(
    own: Cluster, tmp_path: Path
) -> None:
    with pgbouncer(own, "session") as address:
        one, two = (store_at(tmp_path, f"{address}&application_name={name}", name) for name in "ab")
        one.prepare()
        one.attend(())
        two.attend(())
        two.listen()
        one.add(new_task())
        assert two.wait(20) is True
        assert claim(two, two.find("T1")) is not None
        with one.alone("landing", 0.0), pytest.raises(LockHeld), two.alone("landing", 0.0):
            pass
        for store in (one, two):
            store._session.close()


@pytest.mark.parametrize("mode", ["transaction", "statement"])
def test_a_pool_that_lends_connections_is_refused_before_anything_is_written(
    own: Cluster, tmp_path: Path, mode: str
) -> None:
    with pgbouncer(own, mode) as address:
        named = f"{address}&options={quote('-csearch_path=pooled')}"
        store = store_at(tmp_path, named)
        with pytest.raises(StoreFault) as refused:
            store.prepare()
        assert refused.value.code == "store_pooled"
        assert "pool_mode = session" in (refused.value.hint or "")
        with psycopg.connect(own.base) as admin:
            found = admin.execute("SELECT to_regnamespace('pooled') IS NULL").fetchone()
        assert found == (True,)


@pytest.mark.parametrize(
    ("mode", "code"), [("transaction", "store_pooled"), ("statement", "store_unreachable")]
)
def test_a_pool_that_begins_to_lend_connections_stops_a_tick_and_doctor_names_it(
    own: Cluster, tmp_path: Path, mode: str, code: str
) -> None:
    options = f"options={quote(f'-csearch_path=later_{mode}')}"
    store = store_at(tmp_path, f"{own.base}&{options}")
    store.prepare()
    store.attend(())
    store._session.close()
    with pgbouncer(own, mode) as address:
        late = store_at(tmp_path, f"{address}&{options}")
        assert late.number()  # the pool lends it a connection for the first time
        with contextlib.ExitStack() as stack:
            other = stack.enter_context(psycopg.connect(address, autocommit=True))
            if mode == "transaction":
                stack.enter_context(other.transaction())
            other.execute("SELECT 1")  # in a transaction, it keeps the connection that `late` had
            with pytest.raises(StoreFault) as met:
                late.attend(())
        assert met.value.code == code
        with pytest.raises(StoreFault) as named:
            late._session.require_unshared()  # as `doctor` does
        assert named.value.code == "store_pooled"
        late._session.close()


# --- backup and restore --------------------------------------------------------------------------


def test_a_dump_that_is_restored_has_every_task_and_gives_claimed_tasks_back(
    own: Cluster, tmp_path: Path
) -> None:
    with psycopg.connect(own.base, autocommit=True) as admin:
        admin.execute("CREATE DATABASE team")
        admin.execute("CREATE DATABASE restored")
    team, restored = (own.base.replace("/postgres?", f"/{n}?") for n in ("team", "restored"))
    store = store_at(tmp_path, team)
    store.prepare()
    store.attend(())
    for name in ("T1", "T2", "T3"):
        store.add(new_task(name))
    assert claim(store, store.find("T1")) is not None
    store.move(store.find("T2"), "failed", entry("failed"))
    with psycopg.connect(team, autocommit=True) as admin:
        digest = sql_of("Backup and restore").encode()
        before = admin.execute(digest).fetchone()
        assert before
        assert before[0] == 3
        dump, command = tmp_path / "dump", re.search(r"`(pg_dump [^`]*)`", PAGE)
        assert command
        words = [f"{programs()}/{command[1].split()[0]}", *command[1].split()[1:]]
        with dump.open("wb") as file:
            subprocess.run([*words, team], stdout=file, check=True)
        with dump.open("rb") as file:
            subprocess.run(
                [f"{programs()}/psql", "-q", "-v", "ON_ERROR_STOP=1", restored],
                stdin=file,
                check=True,
                stdout=subprocess.DEVNULL,
            )
    with psycopg.connect(restored, autocommit=True) as admin:
        assert admin.execute(digest).fetchone() == before
        # Some time later:
        admin.execute(
            "UPDATE orchestrator.procrastinate_workers SET last_heartbeat = now() - interval '1 h'"
        )
    two = store_at(tmp_path, restored, "two")
    two.prepare()
    two.attend(())
    assert [task.claim_at for task in two.list("claimed").tasks] == ["gone"]
    two.move(two.find("T1"), "incoming", entry("requeued"))
    assert claim(two, two.find("T1"), "R2") is not None
    assert two.find("T2").state == "failed"
    before_number = two.number()
    two.add(new_task("T4"))
    assert int(two.number()) > int(before_number)
    for each in (store, two):
        each._session.close()


# --- the engine's own tools -----------------------------------------------------------------------


@pytest.mark.slow
def test_the_shell_of_the_engine_shows_the_jobs(server: str, tmp_path: Path) -> None:
    address = in_schema(server, str(tmp_path))
    store = store_at(tmp_path / "one", address)
    store.prepare()
    store.add(new_task("T1"))
    program = re.search(r"`jobs.py`:\n\n```python\n(.*?)```", PAGE, re.S)
    command = re.search(r"PGOPTIONS=\S+ python (.*?) +# then: (.*)", PAGE)
    assert program
    assert command
    (tmp_path / "jobs.py").write_text(program[1])
    known = conninfo_to_dict(address)
    options = {"PGHOST": known["host"], "PGUSER": known.get("user"), "PGDATABASE": known["dbname"]}
    options |= {"PGOPTIONS": known["options"], "PGPORT": known.get("port", "5432")}
    done = subprocess.run(
        [sys.executable, *command[1].split()],
        cwd=tmp_path,
        env={**os.environ, **{name: str(value) for name, value in options.items() if value}},
        input=f"{command[2]}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert "implement on T1" in done.stdout, done
    store._session.close()


# --- many finished tasks -------------------------------------------------------------------------


def test_finished_tasks_are_read_in_pages_and_their_ids_are_suggested(
    own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql_store, "_PAGE", 2)
    store = store_at(tmp_path, f"{own.base}&options={quote('-csearch_path=pages')}")
    store.prepare()
    for number in range(7):
        store.add(new_task(f"T{number}", f"{'Odd' if number % 2 else 'Even'} {number}"))
        store.move(store.find(f"T{number}"), "done", entry("done"))
    newest = [f"T{number}" for number in reversed(range(7))]
    assert [task.id for task in store.browse("done")] == newest
    assert [task.id for task in store.browse("done", "oDD")] == ["T5", "T3", "T1"]
    assert [task.id for task in store.browse("done", after=store.find("T4"))] == newest[3:]
    found = store.newest(3)
    assert sorted(task.id for task in found["done"].tasks) == ["T4", "T5", "T6"]
    with pytest.raises(NotFound, match="T1") as missing:
        store.find("T11")
    assert "T1" in (missing.value.hint or "") + missing.value.message
    # The index gives the newest: nothing sorts a million tasks for them.
    with store._session.transaction():
        for way in ("seqscan", "bitmapscan", "sort"):  # in a small table, these are as good
            store._session.rows(f"SET LOCAL enable_{way} = off")
        plan = str(store._session.rows(f"EXPLAIN {postgresql_store._NEWEST} LIMIT 3", "done"))
    assert "orchestrator_tasks_state" in plan
    assert "Sort" not in plan
    store._session.close()


# --- the compose file ----------------------------------------------------------------------------


def test_the_compose_file_and_what_is_written_about_it_agree() -> None:
    text = (CHECKOUT / "docs" / "compose.yaml").read_text(encoding="utf-8")
    [(name, service)] = yaml.safe_load(text)["services"].items()
    image, _, version = service["image"].partition(":")
    oldest = re.search(r"PostgreSQL (\d+) or newer", PAGE)
    assert oldest
    assert (name, image) == ("database", "postgres")
    assert int(oldest[1]) <= int(version) <= 17
    asked = re.search(r"--to (postgresql://\S+)", text)
    assert asked
    address = urlsplit(asked[1])
    assert addresses.wrong(asked[1]) is None
    environment = service["environment"]
    assert (address.username, address.path) == (
        environment["POSTGRES_USER"],
        f"/{environment['POSTGRES_DB']}",
    )
    # It trusts everybody, so it listens on this machine only.
    assert environment["POSTGRES_HOST_AUTH_METHOD"] == "trust"
    [port] = service["ports"]
    assert port == f"127.0.0.1:{address.port}:5432"
    [volume] = service["volumes"]
    assert volume == "queue:/var/lib/postgresql/data"  # the image's PGDATA up to version 17
    assert "queue" in yaml.safe_load(text)["volumes"]
    check = service["healthcheck"]["test"]
    assert check[:2] == ["CMD", "pg_isready"]
    assert check[check.index("--username") + 1] == address.username
    assert check[check.index("--dbname") + 1] == environment["POSTGRES_DB"]
    assert "docker compose -f docs/compose.yaml up" in text
