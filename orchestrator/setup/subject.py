"""The input of the checks of `doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from orchestrator.config.load import Settings
from orchestrator.layout import Layout


class Subject(NamedTuple):
    """A project, its configuration, the environment, and the time (epoch seconds)."""

    layout: Layout
    loaded: Settings
    variables: Mapping[str, str]
    now: float
