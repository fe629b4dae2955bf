"""The product's own records of the pull requests that it opened: one JSON file per pull request.

Only a pull request with a record is one of the product's, on either forge (reference 9.2). The
local forge has nothing else; the records of a forge elsewhere hold what it last answered, and the
commands that only read show them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence

from orchestrator.errors import NotFound
from orchestrator.model import PullRequest
from orchestrator.system import files, locks, records

STATES = ("open", "merged", "closed")
#: What git accepts as a branch, and never as an option; and the name of a commit.
_BRANCH = r"(?![-/.])[^\x00-\x20\x7f~^:?*\[\\]{1,300}"
_COMMIT = r"[0-9A-Za-z]{1,64}"
#: The key of a record that says that a person called the pull request merged.
_SAID = "said_merged"


def from_record(record: Mapping[str, object]) -> PullRequest | None:
    """Return the pull request of a record with the fields of `PullRequest`; None for others."""
    pr = records.build(PullRequest, record)
    if pr is None:
        return None
    branches = all(re.fullmatch(_BRANCH, name) for name in (pr.branch, pr.base))
    good = branches and re.fullmatch(_COMMIT, pr.head) and pr.state in STATES
    return pr if good else None


class Book:
    """The records in one folder. A damaged record hides no other."""

    def __init__(self, folder: str) -> None:
        self.folder = folder

    def numbers(self) -> Iterator[int]:
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return
        yield from (int(n[:-5]) for n in names if re.fullmatch(r"[0-9]{1,9}\.json", n))

    def list(self) -> list[PullRequest]:
        """Return every pull request, oldest first."""
        found = (self.get(str(number)) for number in sorted(self.numbers()))
        return [pr for pr in found if pr is not None]

    def unfinished(self) -> Sequence[PullRequest]:
        """Return those that are open, or whose task was not told yet how they ended."""
        return [pr for pr in self.list() if pr.state == "open" or (pr.task and not pr.followed)]

    def get(self, pr_id: str) -> PullRequest | None:
        record = files.read_json(self.path(pr_id)) if re.fullmatch(r"[0-9]{1,9}", pr_id) else None
        if record is None or record.get("id") != pr_id:
            return None
        pr = from_record(record)
        # The word of a person outranks the state that a forge shows (reference 9.3).
        return pr._replace(state="merged", said=True) if pr and record.get(_SAID) is True else pr

    def find(self, pr_id: str) -> PullRequest:
        """Return one pull request. Raises NotFound."""
        pr = self.get(pr_id)
        if pr is None:
            raise NotFound("pull request", pr_id, [each.id for each in self.list()])
        return pr

    def body(self, pr_id: str) -> str:
        return str((files.read_json(self.path(pr_id)) or {}).get("body") or "")

    def write(self, pr: PullRequest, body: str | None = None) -> None:
        """Write a record; its text stays unless `body` is given."""
        files.make_folder(self.folder)
        before = files.read_json(self.path(pr.id)) or {}
        row = records.plain(pr)
        assert isinstance(row, dict)
        kept = {"body": before.get("body") or "" if body is None else body}
        said = {_SAID: True} if before.get(_SAID) is True else {}
        files.write_json(self.path(pr.id), {**row, **kept, **said})

    def record(self, pr_id: str, state: str) -> None:
        with self.locked():
            self.write(self.find(pr_id)._replace(state=state))

    def say_merged(self, pr_id: str) -> None:
        """Record that a person says that a pull request is merged, whatever the forge shows."""
        with self.locked():
            record = files.read_json(self.path(self.find(pr_id).id)) or {}
            files.write_json(self.path(pr_id), {**record, "state": "merged", _SAID: True})

    def locked(self) -> locks.Lock:
        files.make_folder(self.folder)
        return locks.Lock(os.path.join(self.folder, ".lock"), wait=30)

    def path(self, pr_id: str) -> str:
        return os.path.join(self.folder, f"{pr_id}.json")
