"""The product's own records of the pull requests that it opened: one JSON file per pull request.

Only a pull request with a record is one of the product's, on either forge (reference 9.2). The
local forge has nothing else; the records of a forge elsewhere hold what it last answered, and the
commands that only read show them.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, OrchestratorError
from orchestrator.model.work import PullRequest
from orchestrator.system import files, locks, records
from orchestrator.system.remembered import Remembered
from orchestrator.text.alphabets import DIGITS, consists_of

STATES = ("open", "merged", "closed")
#: What git accepts in no branch.
_NOT_IN_BRANCH = frozenset(map(chr, range(0x21))) | {*"\x7f~^:?*[\\"}
#: What is added to the name of a damaged record when its pull request is recorded again.
ASIDE = ".damaged-"
#: Merged pull requests whose records stay beside those of the unfinished ones, and how many more
#: there may be before records are put away: not one at each merge.
KEPT = 50
SLACK = 10
#: The key of a record that says that a person called the pull request merged.
_SAID = "said_merged"


def from_record(record: Mapping[str, object]) -> PullRequest | None:
    """Return the pull request of a record with the fields of `PullRequest`; None for others."""
    pr = records.build(PullRequest, record)
    if pr is None:
        return None
    branches = all(map(_may_be_branch, (pr.branch, pr.base)))
    is_commit = len(pr.head) <= 64 and pr.head.isascii() and pr.head.isalnum()
    return pr if branches and is_commit and pr.state in STATES else None


def _may_be_branch(name: str) -> bool:
    """Return whether git may accept a name as a branch, and never takes it for an option."""
    return name[:1] not in "-/." and len(name) <= 300 and _NOT_IN_BRANCH.isdisjoint(name)


def _is_number(text: str) -> bool:
    return len(text) <= 9 and consists_of(text, DIGITS)


def _is_record(name: str) -> bool:
    return name.endswith(".json") and _is_number(name[:-5])


def damaged(folder: str) -> list[tuple[str, str]]:
    """Return the path of each record in a folder that cannot be used, with the reason."""
    found = []
    for name in sorted(_listed(folder)):
        path = os.path.join(folder, name)
        if ASIDE in name:
            found.append((path, "it could not be read when its pull request was recorded again"))
        elif _is_record(name) and (why := _damage(path, name[:-5])):
            found.append((path, why))
    return found


def _damage(path: str, pr_id: str) -> str | None:
    try:
        seen = _look(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    if seen is None:
        return "it is not a JSON object"
    record, pr = seen
    if record.get("id") != pr_id:
        return f'its "id" is not "{pr_id}"'
    return None if pr else "a field is missing or has a wrong value"


#: A record, which nobody may change, and the pull request that it describes, if it is sound.
Seen = tuple[Mapping[str, object], PullRequest | None]
_NOTHING: Seen = ({}, None)


def _read(path: str) -> Seen | None:
    """Return what a file says; None if it is not a JSON object. Raises OSError, ValueError."""
    record = files.json_object(files.read_regular(path))
    return None if record is None else (record, from_record(record))


_look = Remembered(_read)


def _seen_or_none(path: str) -> Seen | None:
    try:
        return _look(path)
    except (OSError, ValueError):  # ValueError: a path with a null character
        return None


def _listed(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_over(pr: PullRequest | None) -> bool:
    """Return whether a pull request is merged, and its task knows it."""
    return pr is not None and pr.state == "merged" and (pr.followed or not pr.task)


class Book:
    """The records in one folder. A damaged record hides no other, and is never overwritten.

    Of the merged pull requests whose tasks know it, all but the newest are in a folder inside it,
    `merged/`: a tick reads the records of the others only, however many were merged.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._merged = os.path.join(folder, "merged")

    def is_new(self) -> bool:
        """Return whether no record was ever written."""
        return not os.path.isdir(self.folder)

    def begin(self) -> None:
        """Make the place of the records, so that the book is not new any more."""
        files.make_folder(self.folder)

    def _numbers(self, *, away: bool = False) -> set[int]:
        names = _listed(self._merged if away else self.folder)
        return {int(name[:-5]) for name in names if _is_record(name)}

    def free_number(self) -> int:
        """Return a number above those of all records."""
        number = max(self._numbers(), default=0) + 1
        # The newest records are not put away, unless a person deleted those that were left.
        if number == 1 or self.raw(str(number)):
            number = max((*self._numbers(), *self._numbers(away=True)), default=0) + 1
        return number

    def list(self) -> list[PullRequest]:
        """Return the pull requests that are not put away, oldest first."""
        return [*self._all(sorted(self._numbers()))]

    def open_on(self, branch: str) -> PullRequest | None:
        """Return the open pull request of a branch; None without one."""
        found = self._maybe_on(branch)
        return next((pr for pr in found if (pr.branch, pr.state) == (branch, "open")), None)

    def _maybe_on(self, branch: str) -> Sequence[PullRequest]:
        """Return, of those that are not put away, all of this branch, and maybe others."""

        def is_of_another(number: int) -> bool:
            # The branch of a record never changes: what was read once needs no look at the file.
            _, pr = _look.before(self.path(str(number))) or _NOTHING
            return pr is not None and pr.branch != branch

        return self._all(n for n in sorted(self._numbers()) if not is_of_another(n))

    def every(self) -> Sequence[PullRequest]:
        """Return every pull request, oldest first."""
        return self._all(sorted({*self._numbers(), *self._numbers(away=True)}))

    def _all(self, numbers: Iterable[int]) -> Sequence[PullRequest]:
        found = (self._shown(pr_id, *self._seen(pr_id)) for pr_id in map(str, numbers))
        return [pr for pr in found if pr is not None]

    def put_away(self, most: int) -> None:
        """Put the records of the older merged pull requests away, `most` per hold of the lock.

        Each is one rename: a kill at any instant leaves each record in one place.
        """
        numbers = sorted(self._numbers(), reverse=True)
        if len(numbers) <= KEPT + SLACK:
            return
        merged = (int(pr.id) for pr in reversed(self._all(numbers[::-1])) if _is_over(pr))
        oldest_kept = next(itertools.islice(merged, KEPT - 1, None), 0)
        older = [number for number in reversed(numbers) if number < oldest_kept]
        for first in range(0, len(older), most):
            with self.locked():
                for pr in filter(_is_over, self._all(older[first : first + most])):
                    self._put_away(pr.id)

    def _put_away(self, pr_id: str) -> None:
        files.make_folder(self._merged)
        os.replace(self.path(pr_id), self._away(pr_id))

    def unfinished(self) -> Sequence[PullRequest]:
        """Return those that are open, or whose task was not told yet how they ended."""
        return [pr for pr in self.list() if pr.state == "open" or (pr.task and not pr.followed)]

    def get(self, pr_id: str) -> PullRequest | None:
        seen = self._seen(pr_id) if _is_number(pr_id) else _NOTHING
        return self._shown(pr_id, *seen)

    def _shown(
        self, pr_id: str, record: Mapping[str, object], pr: PullRequest | None
    ) -> PullRequest | None:
        if record.get("id") != pr_id:
            return None
        if pr and pr.state == "merged" and pr.url == self.path(pr_id):
            pr = pr._replace(url=self._where(pr_id))
        # The word of a person outranks the state that a forge shows (reference 9.3).
        return pr._replace(state="merged", said=True) if pr and record.get(_SAID) is True else pr

    def find(self, pr_id: str) -> PullRequest:
        """Return one pull request. Raises NotFound, and OrchestratorError for a damaged record."""
        pr = self.get(pr_id)
        if pr is None and _is_number(pr_id) and (why := self._damage(pr_id)):
            message = f"the record of pull request {pr_id} is damaged: {self.path(pr_id)}: {why}"
            raise OrchestratorError(message, "correct that file", code="record_damaged")
        if pr is None:
            raise NotFound("pull request", pr_id, [each.id for each in self.list()])
        return pr

    def body(self, pr_id: str) -> str:
        return str(self.raw(pr_id).get("body") or "")

    def write(self, pr: PullRequest, body: str | None = None) -> None:
        """Write a record; its text stays unless `body` is given."""
        if self._damage(pr.id):
            self._put_aside(pr.id)
        before = self.raw(pr.id)
        row = records.plain(pr)
        assert isinstance(row, dict)
        kept = {"body": before.get("body") or "" if body is None else body}
        said = {_SAID: True} if before.get(_SAID) is True else {}
        self.put(pr.id, {**row, **kept, **said})

    def raw(self, pr_id: str) -> Mapping[str, object]:
        """Return a record with all its keys."""
        return self._seen(pr_id)[0]

    def put(self, pr_id: str, record: Mapping[str, object]) -> None:
        """Write a record with all its keys, as `raw` returned it."""
        files.make_folder(self.folder)
        files.write_json(self.path(pr_id), record)
        files.remove(self._away(pr_id))

    def record(self, pr_id: str, **changes: Any) -> None:
        """Change fields of a record. Raises as `find` does."""
        with self.locked():
            self.write(self.find(pr_id)._replace(**changes))

    def say_merged(self, pr_id: str) -> None:
        """Record that a person says that a pull request is merged, whatever the forge shows."""
        with self.locked():
            record = self.raw(self.find(pr_id).id)
            self.put(pr_id, {**record, "state": "merged", _SAID: True})

    def take_back(self, pr_id: str) -> None:
        """Undo `say_merged`: the pull request is what the forge and git show again."""
        with self.locked():
            record = self.raw(self.find(pr_id).id)
            changed = {"state": "open", _SAID: False, "said": False, "followed": False}
            self.put(pr_id, {**record, **changed})

    def forget(self, pr_id: str) -> None:
        """Remove a record: its number is now that of another pull request."""
        with self.locked():
            files.remove(self.path(pr_id))
            files.remove(self._away(pr_id))

    def locked(self) -> AbstractContextManager[object]:
        """Return the lock under which records change. Raises LockHeld."""
        files.make_folder(self.folder)
        return locks.Lock(os.path.join(self.folder, ".lock"), wait=30)

    def path(self, pr_id: str) -> str:
        """Return the path of a record that is not put away."""
        return f"{self.folder}/{pr_id}.json"

    def _where(self, pr_id: str) -> str:
        away = self._away(pr_id)
        return away if os.path.exists(away) else self.path(pr_id)

    def _damage(self, pr_id: str) -> str | None:
        return _damage(self.path(pr_id), pr_id)

    def _put_aside(self, pr_id: str) -> None:
        path = self.path(pr_id)
        os.rename(path, f"{path}{ASIDE}{os.urandom(4).hex()}")

    def _away(self, pr_id: str) -> str:
        return os.path.join(self._merged, f"{pr_id}.json")

    def _seen(self, pr_id: str) -> Seen:
        # The last: it was put away, and brought back, between the two looks before.
        for place in (self.path, self._away, self.path):
            if (seen := _seen_or_none(place(pr_id))) and seen[0]:
                return seen
        return _NOTHING
