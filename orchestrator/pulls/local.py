"""The local forge: pull requests as records on this disk, beside real branches.

It looks for a pull request of the same head before it opens one, so that a step repeated after a
crash opens no second one (failures 2).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping

from orchestrator.errors import NotFound
from orchestrator.layout import Layout
from orchestrator.model import Config, Problem, PullRequest
from orchestrator.pulls.forge import from_record
from orchestrator.system import files, locks


class Local:
    """Pull requests as JSON records in `.orchestrator/shared/prs/`, beside real branches."""

    name = "local"
    is_elsewhere = False

    def __init__(self, layout: Layout, config: Config) -> None:
        self._layout = layout

    @staticmethod
    def takes(url: str) -> bool:
        return True

    def list(self) -> list[PullRequest]:
        found = (self._read(str(number)) for number in sorted(self._numbers()))
        return [pr for pr in found if pr is not None]

    def _numbers(self) -> Iterator[int]:
        try:
            names = os.listdir(self._layout.prs)
        except FileNotFoundError:
            return
        yield from (int(n[:-5]) for n in names if re.fullmatch(r"[0-9]{1,9}\.json", n))

    def show(self, pr_id: str) -> PullRequest:
        pr = self._read(pr_id) if re.fullmatch(r"[0-9]{1,9}", pr_id) else None
        if pr is None:
            raise NotFound("pull request", pr_id, [pr.id for pr in self.list()])
        return pr

    def open(self, wanted: PullRequest, body: str) -> PullRequest:
        with self._locked():
            known = self.list()
            for pr in known:
                if pr.branch == wanted.branch and pr.state == "open":
                    # A verdict is valid only for the commit that it was given on.
                    verdict = pr.verdict if pr.head == wanted.head else None
                    self._write(pr._replace(head=wanted.head, verdict=verdict))
                    return self.show(pr.id)
            number = max(self._numbers(), default=0) + 1
            pr = wanted._replace(id=str(number), state="open", url=self._path(str(number)))
            self._write(pr, body)
            return pr

    def give_verdict(self, pr_id: str, verdict: str, commit: str, text: str) -> None:
        with self._locked():
            self._write(self.show(pr_id)._replace(verdict=verdict, reviewed=commit))

    def merge(self, pr: PullRequest, commit: str | None, land: Callable[[], str]) -> str:
        merged = land()
        self.record(pr.id, "merged")
        return merged

    def close(self, pr_id: str) -> None:
        self.record(pr_id, "closed")

    def probe(self, variables: Mapping[str, str], timeout: float) -> Problem | None:
        return None

    def record(self, pr_id: str, state: str) -> None:
        with self._locked():
            self._write(self.show(pr_id)._replace(state=state))

    def _locked(self) -> locks.Lock:
        files.make_folder(self._layout.prs)
        return locks.Lock(os.path.join(self._layout.prs, ".lock"), wait=30)

    def _path(self, pr_id: str) -> str:
        return os.path.join(self._layout.prs, f"{pr_id}.json")

    def _read(self, pr_id: str) -> PullRequest | None:
        record = files.read_json(self._path(pr_id))
        if record is None or record.get("id") != pr_id:
            return None
        return from_record(record)

    def _write(self, pr: PullRequest, body: str | None = None) -> None:
        if body is None:
            body = (files.read_json(self._path(pr.id)) or {}).get("body", "")
        files.write_json(self._path(pr.id), {**pr._asdict(), "body": body})
