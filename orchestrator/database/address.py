"""Where the queue is: the value of `store`, as agents.yaml and the environment give it."""

import os
from collections.abc import Mapping

from orchestrator.layout import Layout
from orchestrator.system import files
from orchestrator.system.remembered import Remembered

#: The value of `store` for a queue in the project's files.
FILES = "files"
#: How an address begins.
SCHEMES = ("postgresql://", "postgres://")
#: The schema of a queue, unless the address names another one.
SCHEMA = "orchestrator"
#: The variable with the whole address, for an address with a password.
VARIABLE = "ORCHESTRATOR_STORE"
#: The answer of `wrong` to an address with a password.
HAS_PASSWORD = "it has a password"
#: Where a password may be.
PASSWORD_HINT = (
    "agents.yaml is committed: put the password into PGPASSWORD, a password file (~/.pgpass), "
    "a service file, or the whole address into ORCHESTRATOR_STORE"
)
_SECRET = ("password", "sslpassword")
_SCHEMA = r"[a-z_][a-z0-9_]{0,40}"
#: `store` at the top level, as a line of YAML, or as a key of JSON. An address may name several
#: servers, with commas between them.
_STORE = (
    rb"""^(?:store|[{,\s]*"store")[ \t]*:[ \t]*["']?"""
    rb"""(postgres(?:ql)?://[^\s"'}#]*[^\s"',}#]|[a-z]+)"""
)


def wrong(text: str) -> str | None:
    """Return why a text cannot be the address of a queue; None if it can. Asks no server."""
    if not is_address(text):
        return "it does not begin with postgresql://"
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text)
        has_password = parts.password is not None or _is_secret(parts.query)
        for server in parts.netloc.rpartition("@")[2].split(","):
            _ = urlsplit(f"//{server}").port
    except ValueError as error:
        return str(error)
    if has_password:
        return HAS_PASSWORD
    if "search_path" in text and _named_schema(text) is None:
        return "its search_path is not one name of a-z, 0-9 and _"
    return None


def _named_schema(address: str) -> str | None:
    import re
    from urllib.parse import parse_qsl, unquote, urlsplit

    options = dict(parse_qsl(urlsplit(address).query)).get("options", "")
    found = re.search(rf"search_path\s*=\s*({_SCHEMA})(?![^\s])", unquote(options))
    return found[1] if found else None


def _is_secret(query: str) -> bool:
    """Return whether a part of an address's query is a password, or has one."""
    from urllib.parse import parse_qsl

    return any(key.lower() in _SECRET for key, _ in parse_qsl(query, keep_blank_values=True))


def schema(address: str) -> str:
    """Return the name of the schema that holds the queue."""
    return _named_schema(address) or SCHEMA


def shown(address: str) -> str:
    """Return an address for people: without a password."""
    from urllib.parse import urlsplit

    parts = urlsplit(address)
    user, at, place = parts.netloc.rpartition("@")
    query = "&".join(pair for pair in parts.query.split("&") if pair and not _is_secret(pair))
    netloc = f"{user.partition(':')[0]}{at}{place}"
    return f"postgresql://{netloc}{parts.path}{'?' if query else ''}{query}"


def differ(one: str, other: str) -> bool:
    """Return whether two addresses, or words, name different databases or schemas, as far as seen.

    Servers have several names, and a service file may name the database.
    """
    from urllib.parse import urlsplit

    if not (is_address(one) and is_address(other)):
        return one != other
    names = {urlsplit(each).path for each in (one, other)} - {"", "/"}
    return len(names) > 1 or schema(one) != schema(other)


def in_text(source: bytes) -> str:
    """Return the value that the text of agents.yaml gives to `store`: an address, or a word.

    It needs no YAML reader, and a broken file does not hide the queue. `config.keys` refuses a
    value that this function does not see.
    """
    if b"store" not in source:
        return FILES
    import re

    found = re.search(_STORE, source, re.M)
    return found[1].decode(errors="replace") if found else FILES


def is_address(value: str) -> bool:
    return value.startswith(SCHEMES)


def of_project(layout: Layout, variables: Mapping[str, str]) -> str:
    """Return the value of `store` that counts: the address of a database, or a word.

    Without agents.yaml, the address that a tick used last counts: a file that is gone for a moment
    must not turn claimed tasks into tasks that nobody has.
    """
    try:
        in_file = _in_file(layout.config)
    except OSError:
        found = (files.read_json(layout.host) or {}).get("store")
        in_file = found if isinstance(found, str) and wrong(found) is None else FILES
    return chosen(in_file, variables)


#: The value of `store` in an agents.yaml: a command asks for its queue again and again.
_in_file = Remembered(
    lambda path: in_text(files.read_inside(path, os.path.dirname(os.path.dirname(path))))
)


def chosen(in_file: str, variables: Mapping[str, str]) -> str:
    """Return the value to use: that of the environment counts only if the file names a database.

    Otherwise a shell with the variable and a schedule without it would work on two queues.
    """
    given = variables.get(VARIABLE, "")
    return given if is_address(in_file) and is_address(given) else in_file
