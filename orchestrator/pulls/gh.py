"""Calls of GitHub's own `gh` program, with the user's sign-in.

`gh` keeps answers of GitHub about its features for a day, also when such an answer was an error
(2.23 in the temporary folder, 2.103 in the cache folder). It therefore gets a folder of its own,
which is emptied after a failure.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping

from orchestrator.guard import client_environment
from orchestrator.layout import Layout
from orchestrator.model.annotations import Any
from orchestrator.model.errors import NotFound, SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.model.snapshot import Problem
from orchestrator.system import commands, files

GITHUB = "github.com"
#: Seconds for a call of `gh`, and for the call that a tick makes, for which others wait.
TIMEOUT = 60.0
TICK_TIMEOUT = 20.0
#: What `gh` says when it did not reach GitHub, or when GitHub failed or wants fewer requests. Go's
#: HTTP client begins each error with the method and the address, such as `Post "https://..."`.
_FEWER = r"HTTP 429|rate limit|submitted too quickly|abuse detection"
_BROKEN = (
    r"(?m:^(Get|Head|Post|Put|Patch|Delete) \"https?://)|HTTP 5\d\d|error connecting to|EOF$"
    r"|Something went wrong|unexpected end of JSON|Bad credentials|HTTP 401|to unmarshal|"
) + _FEWER


class Refusal(SystemFault):
    """GitHub answered, and refused what was asked. `said` has the words of `gh`."""

    code = "forge_failed"

    def __init__(self, message: str, hint: str, said: str) -> None:
        super().__init__(message, hint)
        self.said = said


class Repository(NamedTuple):
    """A repository on GitHub, or on a host with GitHub Enterprise."""

    host: str
    owner: str
    name: str

    @property
    def path(self) -> str:
        """The path of its REST interface."""
        return f"repos/{self.owner}/{self.name}"

    @property
    def words(self) -> str:
        """Return how `gh` is told the repository; its own default host is not named."""
        path = f"{self.owner}/{self.name}"
        return path if self.host == GITHUB else f"{self.host}/{path}"


class Gh:
    """The `gh` program, called in one project about one repository."""

    def __init__(self, layout: Layout, repository: Repository) -> None:
        self._root, self._folder = layout.root, os.path.join(layout.cache, "gh")
        self.repository, self._host = repository, repository.host

    def _named(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        """Return a call that names the repository, or the host of `gh api`, which knows no -R."""
        if arguments[0] == "api":
            host = () if self._host == GITHUB else ("--hostname", self._host)
            return ("api", *host, *arguments[1:])
        return (*arguments, *(() if arguments[0] == "repo" else ("-R",)), self.repository.words)

    def json(self, *arguments: str, timeout: float | None = None) -> Any:
        """Return the answer of a call. Raises as `run`, and SystemFault if it is not JSON."""
        text = self.run(*arguments, timeout=timeout)
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise SystemFault("the answer of gh is not JSON", code="forge_failed") from error

    def run(self, *arguments: str, stdin: str | None = None, timeout: float | None = None) -> str:
        """Return what a call printed.

        Raises Refusal, NotFound (a pull request or an issue) or SystemFault.
        """
        files.make_folder(self._folder)
        try:
            done = self.call(self._named(arguments), os.environ, timeout or TIMEOUT, stdin)
        except OSError as error:
            raise SystemFault(
                "the forge is github, but the gh program cannot be started",
                "install gh, or set `forge: local` in agents.yaml",
                code="forge_failed",
            ) from error
        if done.code == 0:
            return done.out
        unknown = re.search(r"Could not resolve to (a PullRequest|an [Ii]ssue)", done.err)
        if done.code is not None and unknown:
            kind = "issue" if "ssue" in unknown[1] else "pull request"
            raise NotFound(kind, arguments[2] if len(arguments) > 2 else "?")
        # A token may stand in the address of a failed request, or in a proxy's words.
        from orchestrator.guard import secret_shapes

        said = secret_shapes.withheld(done.err[-6000:]).strip()[-600:]
        said = said or f"it ended with {done.code} and wrote nothing"
        said = "no answer in time" if done.code is None else said
        message = f"gh {arguments[0]} {arguments[1]} failed: {said}"
        hint = f"try: gh auth status --hostname {self._host}"
        if re.search(_FEWER, done.err):
            see = f"gh api rate_limit --hostname {self._host}"
            hint = f"work resumes automatically when the limit resets; to see it: {see}"
        # Whatever failed, it may have been the question about features, whose answer gh keeps.
        # Another call of gh may be writing there.
        with contextlib.suppress(OSError):
            files.remove_tree(self._folder)
        # gh exits with 4 when it is not signed in.
        if done.code in (None, 4) or re.search(_BROKEN, done.err.strip()):
            raise SystemFault(message, hint, code="forge_failed")
        # GitHub answered: the sign-in works, as far as this call shows.
        allowed = f"check what this account may do there: gh auth status --hostname {self._host}"
        raise Refusal(message, f"GitHub answered, and refused this; {allowed}", said)

    def probe(self, variables: Mapping[str, str], timeout: float) -> Problem | None:
        """Return why gh cannot be used with these environment variables; None if it can."""
        named = f"gh auth login --hostname {self._host}"
        login = f"{named}; or set `forge: local` in .orchestrator/agents.yaml"
        try:
            done = self.call(("auth", "status", "--hostname", self._host), variables, timeout)
        except OSError:
            return Problem("forge_failed", "forge is github, but gh is not installed", login)
        if done.code is None:
            again = f"try: gh auth status --hostname {self._host}"
            return Problem("forge_failed", "gh did not answer in time", again)
        if done.code != 0 and not is_signed_in(done.out + done.err):
            return Problem("forge_failed", f"gh is not signed in to {self._host}", login)
        return None

    def call(
        self,
        arguments: tuple[str, ...],
        variables: Mapping[str, str],
        timeout: float,
        stdin: str | None = None,
    ) -> commands.Finished:
        """Run gh in the project. Raises OSError when it cannot be started."""
        own = {"XDG_CACHE_HOME": self._folder, "TMPDIR": self._folder}
        return commands.run(
            ("gh", *arguments),
            cwd=self._root,
            environment=client_environment.for_git(
                variables,
                GH_HOST=self._host,
                GH_NO_UPDATE_NOTIFIER="1",
                GH_PROMPT_DISABLED="1",
                GH_TELEMETRY="false",
                NO_COLOR="1",
                **(own if os.path.isdir(self._folder) else {}),
            ),
            timeout=timeout,
            stdin=stdin,
        )


def is_signed_in(said: str) -> bool:
    """Return whether the account in use is signed in, by what `gh auth status` said.

    It exits with 1 as soon as one of several accounts is signed out. gh 2.23 knows one account per
    host; later versions say which account is active.
    """
    accounts = re.split(
        r"(?=^\s*(?:✓|X|!|-)? ?(?:Logged in|Failed to log in) )", said, flags=re.MULTILINE
    )
    active = [each for each in accounts if re.search(r"Active account: true", each)]
    return any("Logged in to" in each for each in active or accounts)
