"""The set-up of a worktree: the user's own commands, before anybody works or checks in it.

`hooks.after_create` runs in a new worktree; `setup.command` in a new worktree, and again when a
file changed that it depends on; `hooks.before_run` each time (reference 7). The record of what is
complete is in the worktree's own git folder, so it goes with the worktree, whoever removes it.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

import json
import os
import re
from collections.abc import Mapping

from orchestrator.git import repository, worktree, worktree_commands
from orchestrator.guard import secret_names, user_commands
from orchestrator.guard.user_commands import Checker, Failure
from orchestrator.model.config import Config
from orchestrator.model.errors import OrchestratorError, SystemFault
from orchestrator.model.fields import NamedTuple
from orchestrator.system import files, process, records

#: The record's name in the worktree's own git folder.
RECORD = "orchestrator-set-up.json"
#: Characters of a failed command's output in a problem.
OUTPUT_KEPT = 300


class Complete(NamedTuple):
    """What is complete in one worktree."""

    #: Where the worktree was then: what a set-up installs may contain the path.
    path: str = ""
    #: The commands that succeeded here; a command that was changed since is not complete.
    after_create: str | None = None
    setup: str | None = None
    #: The base commit when `after_create` ran.
    base: str | None = None
    #: By the names of `setup.when_changed`: the digest of the content that `setup` saw.
    seen: Mapping[str, str] = {}
    #: Whether a command was started whose end nobody has recorded.
    at_work: bool = False


class SetUpFailed(SystemFault):
    """A command of the set-up failed, took too long or was killed: no fault of an attempt."""

    def __init__(self, key: str, failure: Failure, log: str) -> None:
        self.key, self.failure = key, failure
        said = " ".join(failure.output.split())[-OUTPUT_KEPT:]
        why = f"{key} {failure.how}: {said} {secret_names.hint(failure.lacked)}".rstrip(" :")
        code = "setup_failed" if key.startswith("setup") else "hook_failed"
        install = "install the missing program, or " if failure.program_is_missing else ""
        hint = f"{install}fix `{key}` in agents.yaml; its output is in {log}"
        super().__init__(why, hint, code=code)


class Site(NamedTuple):
    """A worktree, and how its set-up runs. Use it only with the lock that guards the worktree."""

    root: str
    path: str
    config: Config
    #: Its `timeout` applies to `setup.command`; hooks have a time limit of their own.
    checker: Checker
    #: The commit of the base branch.
    base: str | None

    def provide(self, commit: str, rescue: str | None, *, fresh: bool = False) -> bool:
        """Have a worktree at the path; return whether it is new, at `commit`.

        A worktree in which `hooks.after_create` is not complete is created again, with `fresh` each
        worktree is, except for a worktree that a person locked. Its content is first kept under a
        ref of the name `rescue`; with None it is nobody's work. Raises GitError, and SystemFault if
        `hooks.before_remove` fails.
        """
        if worktree_commands.is_worktree(self.path):
            self._end_leftovers()
            is_locked = worktree_commands.persons_lock(self.path) is not None
            if (fresh or not self._is_created()) and not is_locked:
                take_down(self.root, self.path, self.config, self.checker.environment, rescue)
        return worktree.ensure(self.root, self.path, commit)

    def set_up(self, *, before_run: bool = True) -> None:
        """Run the commands that are due. Raises SetUpFailed, and Stopped."""
        hooks, setup = self.config.hooks, self.config.setup
        done = _read(self.path)
        if hooks.after_create and not self._is_created():
            done = done._replace(after_create=None, setup=None)
            self._run("hooks.after_create", hooks.after_create, hooks.timeout_seconds, done)
            done = self._note(done._replace(after_create=hooks.after_create, base=self.base))
        if setup.command:
            seen = {name: _digest(self.path, name) for name in setup.when_changed}
            if (done.setup, done.seen) != (setup.command, seen):
                done = done._replace(setup=None)
                self._run("setup.command", setup.command, self.checker.timeout, done)
                done = self._note(done._replace(setup=setup.command, seen=seen))
        if before_run and hooks.before_run:
            self._run("hooks.before_run", hooks.before_run, hooks.timeout_seconds, done)
            self._note(done)

    def may_be_outdated(self) -> bool:
        """Whether `hooks.after_create` ran on another base, and nothing repeats it."""
        is_all = bool(self.config.hooks.after_create) and not self.config.setup.command
        return is_all and _read(self.path).base != self.base

    def _is_created(self) -> bool:
        wanted = self.config.hooks.after_create
        return not wanted or _read(self.path).after_create == wanted

    def _run(self, key: str, command: str, timeout: float, done: Complete) -> None:
        """Run one command; until it has ended, the record says that it is at work."""
        self._note(done._replace(at_work=True))
        failure = self.checker._replace(timeout=timeout).run(command, self.path)
        if failure is not None:
            self._note(done)
            raise SetUpFailed(key, failure, self.checker.log)

    def _note(self, done: Complete) -> Complete:
        done = done._replace(path=os.path.realpath(self.path))
        if (path := _record_path(self.path)) is not None:
            # Not flushed: after a power cut the record must not be ahead of what was installed.
            files.write_atomic(path, json.dumps(records.plain(done)).encode(), flush=False)
        return done

    def _end_leftovers(self) -> None:
        """End the commands of a killed process: two of them must not work here at once."""
        if _read(self.path).at_work:
            process.end_run(None, None, self.checker.mark)


def take_down(
    root: str, path: str, config: Config, variables: Mapping[str, str], rescue: str | None
) -> worktree.Preserved:
    """Remove a worktree, with `hooks.before_remove` first; return what is kept of its content.

    The hook does not run where `hooks.after_create` never succeeded: there is nothing to undo.
    `rescue` is as in `Site.provide`. Raises OrchestratorError if a person locked the worktree, and
    SystemFault if the hook fails: then the worktree stays.
    """
    if (why := worktree_commands.persons_lock(path)) is not None:
        from shlex import quote

        raise OrchestratorError(f"{path} is locked: {why}", f"git worktree unlock {quote(path)}")
    if not config.hooks.after_create or _read(path).after_create:
        user_commands.before_remove(config, path, variables)
    kept = worktree.Preserved(None, False)
    if rescue is not None:
        kept = worktree.preserve(path, None, rescue)
    worktree.remove(root, path)
    return kept


def _record_path(path: str) -> str | None:
    folder = worktree_commands.own_folder(path)
    return folder and os.path.join(folder, RECORD)


def _read(path: str) -> Complete:
    """Return what is complete in the worktree at `path`, at this place."""
    record = _record_path(path)
    found = record and records.build(Complete, files.read_json(record))
    if not found:
        return Complete()
    is_here = found.path == os.path.realpath(path)
    return found if is_here else Complete(at_work=found.at_work)


def named_files(tree: str, name: str) -> list[str]:
    """Return the files in a checkout that an entry of `setup.when_changed` names.

    A folder stands for the files below it that are in the index. An entry with `*`, `?` or `[` that
    is neither is a pattern for the files in the index (gitglossary(7), pathspec, glob).
    """
    path = os.path.join(tree, name)
    if os.path.isfile(path):
        return [name]
    if os.path.isdir(path):
        return repository.tracked(tree, f":(literal){name}")
    return repository.tracked(tree, f":(glob){name}") if re.search(r"[*?[]", name) else []


def _digest(tree: str, name: str) -> str:
    """Return the digest of the content of the files that a name stands for; empty for no file."""
    import hashlib

    found = named_files(tree, name)
    contents = (files.content(os.path.join(tree, each)) for each in found)
    digests = [hashlib.sha256(each).hexdigest() for each in contents if each is not None]
    if found == [name]:
        return "".join(digests)
    return hashlib.sha256(json.dumps([found, digests]).encode()).hexdigest() if found else ""
