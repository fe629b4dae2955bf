"""The session with a project's database, if it has one. The libraries are loaded only then."""

from __future__ import annotations

import os
import sys

from orchestrator.database import address
from orchestrator.layout import Layout
from orchestrator.model.annotations import TYPE_CHECKING
from orchestrator.model.errors import OrchestratorError, StoreFault

if TYPE_CHECKING:
    from orchestrator.database.session import Session

#: What a database needs (pyproject.toml, `postgresql`), and the modules in it that are imported.
NEEDS = "'procrastinate>=3.10,<4' 'psycopg[binary]>=3.2.10,<4'"
LIBRARIES = ("psycopg", "procrastinate")
SETTING = "store: postgresql://..."


def of_project(layout: Layout) -> Session | None:
    """Return the session with the database of a project's queue; None for a queue of files.

    Raises StoreFault if the libraries are missing.
    """
    found = address.of_project(layout, os.environ)
    return at(layout, found) if address.is_address(found) else None


def at(layout: Layout, found: str) -> Session:
    """Return the session with the database at an address. Raises StoreFault.

    In the launcher's environment, missing libraries are installed first.
    """
    try:
        from orchestrator.database import engine, session  # noqa: F401  (libraries)
    except ModuleNotFoundError as error:
        _install(error.name)
    from orchestrator.database import session, this_host

    return session.of(found, f"orchestrator {this_host.read(layout).name}")


def _install(missing: str | None) -> None:
    from orchestrator.system import extras

    try:
        extras.install("postgresql", LIBRARIES, SETTING)
    except OrchestratorError:
        message = f"`{SETTING}` needs the library {missing!r}"
        hint = f"install it: {sys.executable} -m pip install {NEEDS}"
        raise StoreFault(message, hint, code="not_installed") from None
