"""The checks of values that single keys of `agents.yaml` have; `config.keys` has the tables."""

from __future__ import annotations

import shlex
from datetime import datetime

from orchestrator.client import registry
from orchestrator.config.yaml_values import one_of, text, texts
from orchestrator.database import address
from orchestrator.model.annotations import Any
from orchestrator.model.errors import did_you_mean
from orchestrator.tasks import stores
from orchestrator.text.yaml_nodes import BAD, Node, Reading, is_null, shown

#: The time at which a schedule is tested: wall-clock time, so without a zone.
_ANY_DAY = datetime(2000, 1, 1)  # noqa: DTZ001


def command(reading: Reading, node: Node, where: str) -> Any:
    argument = text(r"(?s).*")
    words = texts(argument, "a list of words", shlex.split)(reading, node, where)
    if words == () or (words is not BAD and words[0] is not BAD and not words[0].strip()):
        return reading.wrong(node, where, "expected a program and its arguments, found none")
    return words


def optional_command(reading: Reading, node: Node, where: str) -> Any:
    return () if is_null(node) else command(reading, node, where)


def schedule(reading: Reading, node: Node, where: str) -> Any:
    from cronsim import CronSim, CronSimError

    value = text(what="a cron expression like '0 3 * * *'", null=True)(reading, node, where)
    if value is None or value is BAD:
        return value
    reason = "it matches no existing day"
    try:
        if len(value.split()) != 5 or len(value) > 200:
            reason = "it needs 5 fields: minute hour day-of-month month day-of-week"
        elif next(CronSim(value, _ANY_DAY), None) is not None:
            return value
    except CronSimError as error:
        reason = str(error)[:1].lower() + str(error)[1:]
    return reading.wrong(node, where, f"{shown(node)} is not a cron expression: {reason}")


def role(reading: Reading, node: Node, where: str) -> Any:
    value = text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "the name of a role")(reading, node, where)
    if value is BAD or reading.names is None or value in reading.names:
        return value
    hint = did_you_mean(value, sorted(reading.names))
    return reading.wrong(node, where, f"unknown role {value!r}; {hint}")


def effort(reading: Reading, node: Node, where: str) -> Any:
    words = [word for client in registry.CLIENTS.values() for word in client.efforts]
    return None if is_null(node) else one_of(words)(reading, node, where)


def store(reading: Reading, node: Node, where: str) -> Any:
    allowed = f"{', '.join(stores.KINDS)}, or postgresql://HOST/DATABASE"
    value = text(what=allowed)(reading, node, where)
    if value is BAD or value in stores.KINDS:
        return value
    if (why := address.wrong(value)) is not None:
        hint = f"use {allowed}"
        if why == address.HAS_PASSWORD:
            return reading.wrong(
                node, where, f"the address has a password; {address.PASSWORD_HINT}"
            )
        return reading.wrong(node, where, f"{shown(node)} cannot be used: {why}; {hint}")
    return value


def hours(reading: Reading, node: Node, where: str) -> Any:
    time = "([01][0-9]|2[0-3]):[0-5][0-9]"
    what = "local hours like '22:00-07:00'"
    value = text(f"{time}-({time}|24:00)", what, null=True)(reading, node, where)
    if value is None or value is BAD or value[:5] != value[6:].replace("24:00", "00:00"):
        return value
    return reading.wrong(node, where, f"{shown(node)} begins and ends at the same time")
