"""A PostgreSQL server for tests: a cluster of the test's own, or that of ORCHESTRATOR_TEST_DSN."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import re
import secrets
import shutil
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import copies
import needs
import psutil
import psycopg
import pytest
import warm
from psycopg import sql

#: Given a name, returns the address of a schema that only this test uses.
Address = Callable[[str], str]
#: What a cluster for tests can do without.
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    # With "off", a stop loses what was committed in the last tenths of a second.
    "synchronous_commit": "on",
    # It would look at the tables of each database once per minute.
    "autovacuum": "off",
    # Each process of the server inherits the language of its triggers, and maps less memory.
    "shared_preload_libraries": "plpgsql",
    "shared_buffers": "16MB",
    "listen_addresses": "",
    "max_connections": "200",
}

#: How the names of this process's schemas begin.
_WORD = f"t_{secrets.token_hex(3)}_"
#: Settings of a cluster that counts statements (`Cluster.statements`).
COUNTED = {"log_statement": "all", "log_line_prefix": "%a|"}


def programs() -> str:
    """Return the folder of the server's programs, or end the test."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda p: int(p.split("/")[4]))
    if found and os.path.exists(f"{found[-1]}/initdb"):
        return found[-1]
    if shutil.which("initdb"):
        return os.path.dirname(str(shutil.which("initdb")))
    needs.missing("PostgreSQL is not installed (Debian: apt install postgresql)")


def _user() -> str | None:
    """Return the user that the server runs as; None for this one. It refuses to run as root."""
    return "nobody" if os.geteuid() == 0 else None


def _give(folder: str) -> None:
    """Make the server's user the owner of a folder."""
    if user := _user():
        os.chown(folder, pwd.getpwnam(user).pw_uid, -1)


def _prepare(folder: Path) -> None:
    """Make the data of a new cluster, for all tests; a copy takes a fifth of the CPU time."""
    folder.mkdir()
    _give(str(folder))
    words = ("initdb", "-D", f"{folder}/data", "-A", "trust", "-E", "UTF8", "--locale=C", "-N")
    done = subprocess.run(
        (f"{programs()}/{words[0]}", *words[1:]),
        user=_user(),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


class Cluster:
    """A server with its data in a temporary folder, reachable by a socket in it."""

    def __init__(
        self, folder: str, settings: dict[str, str], inside: Sequence[str] = (), net: str = ""
    ) -> None:
        """`inside` runs a program in another network, in which the clients of `net` are trusted."""
        self.folder, self._programs, self._inside = folder, programs(), inside
        self._settings, self._user = _SETTINGS | settings, _user()
        self.role = self._user or pwd.getpwuid(os.geteuid()).pw_name
        _give(folder)
        # Owned by the server's user, as the original is.
        prepared = copies.once("cluster", _prepare)
        subprocess.run(["cp", "-a", f"{prepared}/data", folder], check=True)
        if net:
            with open(f"{self.folder}/data/pg_hba.conf", "a", encoding="utf-8") as known:
                known.write(f"host all all {net} trust\n")
        self.start()

    def words(self, program: str, *arguments: str) -> list[str]:
        """Return the words of a program of the server that works with its data."""
        return [f"{self._programs}/{program}", "-D", f"{self.folder}/data", *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        words = self.words(program, *arguments)
        user = self._user
        if self._inside:
            number = str(pwd.getpwnam(self.role).pw_uid)
            words, user = [*self._inside, "--setuid", number, "--", *words], None
        # pg_ctl hands its output to the server, so a pipe would stay open as long as the server.
        with open(f"{self.folder}/log", "ab") as log:
            done = subprocess.run(
                words, user=user, cwd=self.folder, stdout=log, stderr=log, check=False
            )
        if done.returncode:
            with open(f"{self.folder}/log", encoding="utf-8") as text:
                pytest.fail(f"{words}: {text.read()[-2000:]}")

    def start(self) -> None:
        options = " ".join(f"-c {name}='{value}'" for name, value in self._settings.items())
        options += f" -k {self.folder}"
        self._run("pg_ctl", "start", "-w", "-l", f"{self.folder}/server.log", "-o", options)

    def stop(self) -> None:
        if self.is_up:
            self._run("pg_ctl", "stop", "-m", "immediate")

    @property
    def is_up(self) -> bool:
        """Whether the server's first process is there."""
        try:
            with open(f"{self.folder}/data/postmaster.pid", encoding="ascii") as file:
                return psutil.pid_exists(int(file.readline()))
        except (FileNotFoundError, ValueError):
            return False

    def kill(self) -> None:
        """Kill every process of the server at once, as a machine that loses its power."""
        with open(f"{self.folder}/data/postmaster.pid", encoding="ascii") as file:
            main = psutil.Process(int(file.readline()))
        found = [main, *main.children(recursive=True)]
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(found, timeout=30)

    def secure(self, certificate: str, key: str) -> None:
        """Start again with TLS, with the certificate of the server and its key."""
        self.stop()
        for path, name in ((certificate, "server.crt"), (key, "server.key")):
            copy = shutil.copyfile(path, f"{self.folder}/data/{name}")
            os.chmod(copy, 0o600)
            if self._user:
                os.chown(copy, pwd.getpwnam(self._user).pw_uid, -1)
        self._settings["ssl"] = "on"
        self.start()

    @property
    def port(self) -> str:
        return self._settings.get("port", "5432")

    @property
    def base(self) -> str:
        port = f"&port={self.port}" if "port" in self._settings else ""
        return f"postgresql://{self.role}@/postgres?host={quote(self.folder, safe='')}{port}"

    def statements(self, host: str) -> list[str]:
        """Return what a host sent so far, without what opens a connection; see `COUNTED`."""
        pattern = rf"^orchestrator {host}[|]LOG:  (?:statement|execute [^:]*): (.*(?:\n\t.*)*)"
        with open(f"{self.folder}/server.log", encoding="utf-8") as log:
            found = re.findall(pattern, log.read(), re.M)
        return [text for text in found if "set_config('statement_timeout'" not in text]

    @contextmanager
    def standby(self) -> Iterator[Cluster]:
        """Yield a server that follows this one by streaming replication, until `promote`."""
        folder = tempfile.mkdtemp(prefix="orch-pg-")
        _give(folder)
        found = Cluster.__new__(Cluster)
        found.folder, found.role, found._user = folder, self.role, self._user
        found._programs, found._inside = self._programs, self._inside
        found._settings = self._settings
        try:
            found._run("pg_basebackup", "-h", self.folder, "-U", self.role, "-R", "-c", "fast")
            found.start()
            yield found
            found.stop()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def promote(self) -> None:
        self._run("pg_ctl", "promote", "-w")


@contextmanager
def cluster(*, inside: Sequence[str] = (), net: str = "", **settings: str) -> Iterator[Cluster]:
    folder = tempfile.mkdtemp(prefix="orch-pg-")
    try:
        found = Cluster(folder, settings, inside, net)
        try:
            yield found
        finally:
            found.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def some_server() -> Iterator[str]:
    """Yield the address of a database in which tests may create schemas: the fixture `server`."""
    if given := os.environ.get("ORCHESTRATOR_TEST_DSN"):
        yield given
        with psycopg.connect(given, autocommit=True) as connection:
            query = "SELECT nspname FROM pg_namespace WHERE starts_with(nspname, %s)"
            for (name,) in connection.execute(query, [_WORD]).fetchall():
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        return
    if sys.platform == "linux":
        yield copies.once("database", _shared).read_text(encoding="utf-8")
        return
    with cluster() as found:
        yield found.base


def _shared(path: Path) -> None:
    """Start a cluster for all processes that share, and write its address; it ends with them."""
    found = Cluster(tempfile.mkdtemp(prefix="orch-pg-"), {})
    end = found.words("pg_ctl", "stop", "-m", "immediate")
    with open(os.devnull, "rb") as nothing:
        warm.spawn(nothing, "database_end.py", found.folder, _user() or "", *end)
    path.write_text(found.base, encoding="utf-8")


def in_schema(base: str, name: str) -> str:
    """Return the address of a schema of a database: for each name another one."""
    end = re.sub(r"[^a-z0-9]+", "_", name.lower())[-20:].strip("_")
    word = f"{_WORD}{end}_{zlib.crc32(name.encode()):08x}"
    return f"{base}{'&' if '?' in base else '?'}options={quote(f'-csearch_path={word}')}"
