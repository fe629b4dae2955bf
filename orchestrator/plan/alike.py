"""Many waiting tasks that are judged as one task, as long as no rule can tell them apart.

Nothing says in advance what rules look at. A rule judges a stand-in, which has only what the tasks
share. If the rule looks at anything else, the stand-in raises `Differ`, and these tasks are judged
one by one. So a new rule needs no entry here, and it cannot be wrong in silence.

A task's id is in what rules say, and they look for it in the snapshot. The stand-in's id is a mark
that is in no snapshot: tasks that a snapshot names are judged one by one from the beginning. The
mark is replaced by the id of the task whose verdicts are shown.
"""

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.model.annotations import Any
from orchestrator.model.snapshot import Snapshot
from orchestrator.model.waiting import COMMON, Kin
from orchestrator.model.work import Task

#: Stands for the id. Texts for people have no control characters.
MARK = "\0task\0"
_OWN = {*Task._fields[: Task._fields.index("created_by") + 1], "header"} - {*COMMON}


class Differ(Exception):
    """A rule has looked at something in which tasks differ that were judged as one."""

    def __init__(self, kin: Kin) -> None:
        super().__init__("tasks that were judged as one differ")
        self.kin = kin


class Alike:
    """Stands for the tasks of one kin: has what they share, and raises Differ for all else."""

    def __init__(self, kin: Kin) -> None:
        self.header = _Header(kin)
        self.id = _Id(kin)
        self._kin = kin

    def __getattr__(self, name: str) -> Any:
        if name in _OWN:
            raise Differ(self._kin)
        return getattr(self._kin.one, name)


class _Header(Mapping[str, str]):
    """A header of which only the keys are known."""

    def __init__(self, kin: Kin) -> None:
        self._kin = kin

    def __getitem__(self, key: str) -> str:
        if key in self._kin.one.header:
            raise Differ(self._kin)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise Differ(self._kin)

    def __len__(self) -> int:
        raise Differ(self._kin)


class _Id(str):
    """The mark: it can be looked for and be a part of a text; all else about it differs."""

    __slots__ = ("_kin",)

    def __new__(cls, kin: Kin) -> "_Id":
        made = super().__new__(cls, MARK)
        str.__setattr__(made, "_kin", kin)
        return made

    def _differ(self, *_: object) -> Any:
        raise Differ(str.__getattribute__(self, "_kin"))

    __getattribute__ = _differ
    __add__ = __contains__ = __getitem__ = __iter__ = __len__ = __mod__ = __mul__ = _differ
    __ge__ = __gt__ = __le__ = __lt__ = __radd__ = _differ


def named(snapshot: Snapshot) -> set[str]:
    """Return every word of a snapshot beside the waiting tasks: ids of tasks are among them."""
    rest = zip(Snapshot._fields, snapshot, strict=True)
    return {*_words(value for name, value in rest if name not in ("waiting", "roles"))}


def _words(values: Iterable[object]) -> Iterator[str]:
    for value in values:
        if isinstance(value, str):
            yield value
        elif isinstance(value, Mapping):
            yield from _words((*value, *value.values()))
        elif isinstance(value, Iterable):
            yield from _words(value)
