"""A proxy on loopback between the product and PostgreSQL: it counts, delays, swallows and cuts.

An exchange is what a process sends after the server's last words, whatever the statements in it.
The name of a connection is that which the product gives it: `orchestrator HOST`.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import quote

import psutil
from psycopg.conninfo import conninfo_to_dict

#: Bytes that are passed on at once.
_MOST = 1 << 16


class Link:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, near: socket.socket, far: socket.socket) -> None:
        self.proxy, self.near, self.far = proxy, near, far
        self.port: int = near.getpeername()[1]
        #: The name that the product gave the connection; "" until it has said it.
        self.name = ""
        #: Whether nothing of this connection is passed on any more.
        self.is_mute = False
        self._is_cut = False
        threading.Thread(target=self._pass, daemon=True).start()

    def _pass(self) -> None:
        spoke = True
        with self.near, self.far, contextlib.suppress(OSError, ValueError):
            while not self._is_cut:
                ready, _, _ = select.select([self.near, self.far], [], [], 0.1)
                if self.is_mute or self.proxy.mutes(self):
                    # The peer still acknowledges what is sent: only its answer is missing.
                    time.sleep(0.02)
                    continue
                if self.far in ready:
                    if not (data := self.far.recv(_MOST)):
                        break
                    self.near.sendall(data)
                    spoke = True
                if self.near in ready:
                    if not (data := self.near.recv(_MOST)):
                        break
                    self._learn(data)
                    if spoke:
                        self.proxy.exchange(self)
                    spoke = False
                    self.far.sendall(data)
        self.proxy.links.discard(self)

    def _learn(self, data: bytes) -> None:
        key = b"application_name\0"
        if not self.name and key in data:
            self.name = data.partition(key)[2].partition(b"\0")[0].decode()

    def close(self) -> None:
        """Cut the connection, as a firewall that answers with a reset."""
        self._is_cut = True
        for side in (self.near, self.far):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Stands in front of the server at an address."""

    def __init__(self, base: str) -> None:
        known = conninfo_to_dict(base)
        self._host, self._port = str(known.pop("host")), str(known.get("port", "5432"))
        self._listener = socket.create_server(("127.0.0.1", 0))
        user, database = known.get("user"), known.get("dbname", "postgres")
        port = self._listener.getsockname()[1]
        #: The address of the same database through the proxy.
        self.base = f"postgresql://{user}@127.0.0.1:{port}/{quote(str(database))}?sslmode=disable"
        self.links: set[Link] = set()
        self.exchanges = 0
        #: Seconds by which each exchange is delayed.
        self.delay = 0.0
        #: The names of connections of which nothing is passed on any more; "*" is all of them.
        self.mute: set[str] = set()
        #: Whether new connections are closed at once, as if no server listened.
        self.is_closed = False
        self._deed: tuple[int, Callable[[Link], None]] | None = None
        self._lock = threading.Lock()
        self._accepts = threading.Thread(target=self._accept, daemon=True)
        self._accepts.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = None if self.is_closed else self._reached()
                except OSError:
                    far = None
                if far is None:
                    near.close()
                    continue
                self.links.add(Link(self, near, far))

    def _reached(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, int(self._port)))
        far = socket.socket(socket.AF_UNIX)
        try:
            far.connect(f"{self._host}/.s.PGSQL.{self._port}")
        except OSError:
            far.close()
            raise
        return far

    def mutes(self, link: Link) -> bool:
        return "*" in self.mute or link.name in self.mute

    def silence(self) -> None:
        """Pass on nothing more of the connections that are there; others may be opened."""
        for link in [*self.links]:
            link.is_mute = True

    def exchange(self, link: Link) -> None:
        """Count an exchange, before it is passed on."""
        with self._lock:
            self.exchanges += 1
            deed = None
            if self._deed is not None and self.exchanges >= self._deed[0]:
                deed, self._deed = self._deed[1], None
        if deed is not None:
            deed(link)
        time.sleep(self.delay)

    def at(self, number: int, deed: Callable[[Link], None]) -> None:
        """Do something before the exchange that comes as the `number`th from now is passed on."""
        with self._lock:
            self._deed = (self.exchanges + number, deed)

    @property
    def is_armed(self) -> bool:
        """Whether the deed of `at` is still to come."""
        return self._deed is not None

    def cut(self, name: str = "") -> None:
        """Cut the connections of a name; without one, all."""
        for link in [*self.links]:
            if name in ("", link.name):
                link.close()

    def go_away(self) -> None:
        """Cut all connections, and accept no other, until `is_closed` is false again."""
        self.is_closed = True
        self.cut()

    def close(self) -> None:
        # A thread that waits in `accept` goes on with the number of the closed descriptor, which
        # may be that of the next proxy's listener by then: it would lead to the wrong server.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepts.join()
        self._listener.close()
        self.cut()


def kill_sender(link: Link) -> None:
    """Kill the process that a connection belongs to."""
    for each in psutil.net_connections("tcp4"):
        local = each.laddr
        if each.pid not in (None, os.getpid()) and local and local.port == link.port:
            psutil.Process(each.pid).kill()
            return
    raise AssertionError(f"no process has the connection {link.name!r}")


@contextmanager
def proxy(base: str) -> Iterator[Proxy]:
    """Yield a proxy in front of the server at an address."""
    found = Proxy(base)
    try:
        yield found
    finally:
        found.close()
