"""What every client must do, whatever its program and its stream.

A test module inherits `ClientContract` and gives it a `client` and an `actor`; nothing here knows
one client's options or lines. The programs really run, in a worktree, started as a supervisor does.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import pytest
from conftest import examples
from harness import wait_until
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.client import registry
from orchestrator.client.protocol import (
    Assignment,
    Client,
    Confinement,
    Ended,
    Launch,
    Line,
    command,
)
from orchestrator.config import roles
from orchestrator.guard import client_environment
from orchestrator.model.config import OUTCOMES, Agent, Config, Role
from orchestrator.model.errors import OrchestratorError
from orchestrator.model.snapshot import VERDICTS, Outcome

KINDS = {
    *("start", "says", "thinks", "tool", "result", "denied", "retry", "limit", "error", "user"),
    *("end", "noise"),
}
#: Seconds that one execution may take.
PATIENCE = 60
SECRET = "canary-value"
ROLES = roles.load("/nowhere")[0]
IMPLEMENTER, REVIEWER = ROLES["implementer"], ROLES["reviewer"]

#: What an agent is to do: `say TEXT`, `commit`, `report OUTCOME TEXT`, `end` (well, but without a
#: report), `signed_out` (the service refuses the sign-in), `hang`.
Step = tuple[str, ...]


class Actor(Protocol):
    """One client's program, and the way to let it do something."""

    #: `command` in agents.yaml.
    command: tuple[str, ...]
    #: The environment in which it finds what it needs, its sign-in included.
    environment: Mapping[str, str]
    #: Text that is not the last line when the agent only says it.
    imposter: str

    def teach(self, *steps: Step) -> None:
        """Say what the next execution does."""


class Played(NamedTuple):
    """One execution that has ended."""

    launch: Launch
    lines: list[bytes]
    ended: Ended
    commits: int

    def texts(self) -> list[str]:
        return [line.decode(errors="replace") for line in self.lines]


class Stage:
    """A run's folder and a worktree, in which an actor plays."""

    def __init__(self, client: Client, actor: Actor, folder: Path) -> None:
        self.client, self.actor = client, actor
        self.run, self.worktree = folder / "run", folder / "worktree"
        self.run.mkdir()
        (self.run / "instructions.md").write_text("You are ann, an implementer.\n")
        (self.run / "prompt.md").write_text("The prompt: do it.\n")
        self.git("init", "-q", "-b", "main", str(self.worktree), cwd=folder)
        self.git("commit", "-q", "--allow-empty", "-m", "first")
        (self.worktree / ".agent-instructions.md").write_text("You are ann.\n")
        (self.worktree / ".git" / "info" / "exclude").write_text(".agent-instructions.md\n")

    @property
    def variables(self) -> dict[str, str]:
        who = {f"GIT_{name}_NAME": "ann" for name in ("AUTHOR", "COMMITTER")}
        mail = {f"GIT_{name}_EMAIL": "ann@localhost" for name in ("AUTHOR", "COMMITTER")}
        more = {"GIT_CONFIG_GLOBAL": os.devnull, "ORCHESTRATOR_ROLE": "implementer"}
        return {**self.actor.environment, **who, **mail, **more}

    def git(self, *words: str, cwd: Path | None = None) -> str:
        where = cwd or self.worktree
        done = subprocess.run(
            ("git", *words), cwd=where, env=self.variables, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def assignment(self, **more: Any) -> Assignment:
        facts: dict[str, Any] = {
            "agent": Agent("ann", "implementer", 0),
            "role": IMPLEMENTER,
            "variables": self.variables,
            **more,
        }
        run = str(self.run)
        paths = (f"{run}/instructions.md", f"{run}/prompt.md")
        return Assignment(
            self.actor.command,
            folder=run,
            instructions=paths[0],
            prompt=paths[1],
            **facts,
        )

    def start(self, launch: Launch) -> subprocess.Popen[bytes]:
        """Start the client as a supervisor does."""
        for name, text in launch.files.items():
            (self.run / name).write_text(text)
        environment = client_environment.for_client(
            self.variables,
            launch.environment,
            kept=self.client.sign_in_names(self.variables),
            dropped=self.client.session_names,
        )
        with (
            open(launch.stdin, "rb") as given,
            (self.run / "stream").open("wb") as stream,
            (self.run / "stderr").open("wb") as errors,
        ):
            return subprocess.Popen(
                launch.argv,
                cwd=self.worktree,
                env=environment,
                stdin=given,
                stdout=stream,
                stderr=errors,
                start_new_session=True,
            )

    def play(self, *steps: Step, kill: bool = False, **more: Any) -> Played:
        """Let the actor take these steps; with `kill`, kill it once it has written something."""
        if steps:
            self.actor.teach(*steps)
        before = int(self.git("rev-list", "--count", "HEAD"))
        launch = self.client.launch(self.assignment(**more))
        child = self.start(launch)
        try:
            if kill:
                wait_until(lambda: (self.run / "stream").read_bytes().count(b"\n"), "a line")
                os.killpg(child.pid, signal.SIGKILL)
            code = child.wait(PATIENCE)
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        stderr = (self.run / "stderr").read_text(errors="replace")
        ended = Ended(code if code >= 0 else None, -code if code < 0 else None, stderr=stderr)
        lines = (self.run / "stream").read_bytes().splitlines(keepends=True)
        return Played(launch, lines, ended, int(self.git("rev-list", "--count", "HEAD")) - before)

    def outcome(self, played: Played, role: Role | None = IMPLEMENTER) -> Outcome:
        return self.client.outcome(played.texts(), played.ended, role, played.commits)


class ClientContract:
    """The seam's tests. `WORK` is a good run of the actor, and `VERDICT` what comes of it."""

    client: ClassVar[Client]
    WORK: ClassVar[tuple[Step, ...]] = (("commit",), ("report", "done", "It works now."))
    VERDICT: ClassVar[str] = "done"

    @pytest.fixture
    def actor(self, tmp_path: Path) -> Actor | Iterator[Actor]:
        raise NotImplementedError

    @pytest.fixture
    def stage(self, actor: Actor, tmp_path: Path) -> Stage:
        return Stage(self.client, actor, tmp_path)

    # --- how it is started ---------------------------------------------------------------------

    def test_it_is_started_by_its_command_and_reads_a_file(self, stage: Stage) -> None:
        launch = self.client.launch(stage.assignment())
        command = stage.actor.command
        assert tuple(launch.argv[: len(command)]) == command
        assert Path(launch.stdin).is_relative_to(stage.run)
        assert all("/" not in name for name in launch.files)

    def test_nothing_that_is_written_about_its_start_holds_its_sign_in(self, stage: Stage) -> None:
        names = self.client.sign_in_names({})
        assert names
        variables = {f"{names[0]}API_KEY": SECRET, **stage.variables}
        hidden = (f"{names[0]}API_KEY",)
        launch = self.client.launch(stage.assignment(variables=variables, hidden=hidden))
        assert SECRET not in json.dumps(launch)

    def test_a_conversation_is_continued_under_its_id(self, stage: Stage) -> None:
        session = "11111111-2222-4333-8444-555555555555"
        launch = self.client.launch(stage.assignment(resume=session))
        assert launch.session in (session, None)
        assert session in json.dumps(launch)
        assert session not in json.dumps(self.client.launch(stage.assignment()))

    def test_commands_are_confined_as_demanded_or_nothing_starts(self, stage: Stage) -> None:
        confinement = Confinement(("/project/.git",), ("/project/.git/hooks",))
        try:
            launch = self.client.launch(stage.assignment(confinement=confinement))
        except OrchestratorError as error:
            code = error.code
        else:
            told = json.dumps(launch).replace("\\", "")
            code = "confined" if "/project/.git/hooks" in told else "not confined"
        assert code in ("confined", "sandbox_unavailable")

    # --- what its lines mean -------------------------------------------------------------------

    def test_a_run_ends_with_its_last_line_and_reports_its_outcome(self, stage: Stage) -> None:
        # What an agent says is never its last line.
        imposter = ("say", stage.actor.imposter)
        played = stage.play(*((imposter, *self.WORK) if self.WORK else ()))
        last = [number for number, line in enumerate(played.lines) if self.is_last(line)]
        assert last == [len(played.lines) - 1], played
        outcome = stage.outcome(played)
        assert outcome.verdict == self.VERDICT, (outcome, played)
        assert outcome.summary
        assert outcome.session is not None
        assert played.launch.session in (outcome.session, None)
        # It is the line that decides, not what became of the process.
        for ended in (Ended(), Ended(1), Ended(signal=9), Ended(143, None, "lingered")):
            assert self.client.outcome(played.texts(), ended, IMPLEMENTER, 1) == outcome
        self.translated(played, outcome)
        self.torn(played)

    def is_last(self, line: bytes) -> bool:
        return self.client.is_last_line(line)

    def translated(self, played: Played, outcome: Outcome) -> None:
        shown = [line for text in played.texts() for line in self.client.translate(text)]
        assert {line.kind for line in shown} <= KINDS
        assert "noise" not in {line.kind for line in shown}
        ends = [line.text for line in shown if line.kind == "end"]
        assert any(outcome.summary and outcome.summary in text for text in ends)

    def torn(self, played: Played) -> None:
        """A stream that breaks off anywhere is no success."""
        texts = played.texts()
        *whole, last = texts
        streams = [texts[:count] for count in range(len(texts))]
        streams += [[*whole, last[: len(last) * part // 4]] for part in range(1, 4)]
        for lines in streams:
            assert not any(self.is_last(line.encode()) for line in lines)
            outcome = self.client.outcome(lines, Ended(signal=9), IMPLEMENTER, 1)
            assert outcome.verdict == "interrupted"

    @pytest.mark.parametrize(
        ("ended", "verdict", "reason"),
        [
            (Ended(127, start_error="no such file"), "system_fault", "client_missing"),
            (Ended(143, None, "stopped"), "stopped", "stopped"),
            (Ended(143, None, "stalled"), "failed", "stalled"),
            (Ended(None, 9, "timed_out"), "failed", "timed_out"),
            (Ended(143, None, "too_much_output"), "failed", "client_error"),
            (Ended(signal=9), "interrupted", "no_result"),
            (Ended(), "interrupted", "no_result"),
            (Ended(0), "failed", "no_result"),
            (Ended(1, stderr="It broke."), "failed", "no_result"),
        ],
    )
    def test_without_a_last_line_the_end_of_the_process_decides(
        self, ended: Ended, verdict: str, reason: str
    ) -> None:
        outcome = self.client.outcome((), ended, IMPLEMENTER, 1)
        assert outcome.verdict == verdict
        assert (outcome.reason or "").startswith(reason)
        assert outcome.session is None
        assert (outcome.cost_usd, outcome.input_tokens, outcome.output_tokens) == (None, None, None)

    @settings(max_examples=examples(0.4), suppress_health_check=[HealthCheck.differing_executors])
    @given(st.lists(st.binary(max_size=40), max_size=3))
    def test_no_line_of_any_shape_breaks_it(self, lines: list[bytes]) -> None:
        texts = [line.decode(errors="replace") for line in lines]
        for line, text in zip(lines, texts, strict=True):
            assert self.client.is_last_line(line) in (True, False)
            assert all(isinstance(each, Line) for each in self.client.translate(text))
        outcome = self.client.outcome(texts, Ended(0), REVIEWER, 0)
        assert outcome.verdict in VERDICTS
        json.dumps(outcome)

    # --- what is known of it -------------------------------------------------------------------

    def test_doctor_finds_it_or_says_what_to_do(self, stage: Stage) -> None:
        config = Config(client=self.client.name, client_command=stage.actor.command)
        first, *_ = self.client.probe(config, str(stage.worktree), stage.variables)
        assert first.code == "client"
        assert first.level != "fail", first
        config = Config(client=self.client.name, client_command=("no-such-program",))
        [missing] = self.client.probe(config, str(stage.worktree), stage.variables)
        assert (missing.code, missing.level) == ("client", "fail")
        assert missing.hint == self.client.hints["client_missing"]

    def test_it_is_registered_by_its_name(self) -> None:
        assert registry.named(self.client.name) is self.client
        assert registry.of_config(Config(client=self.client.name)) is self.client
        assert command(self.client, Config()) == (self.client.program,)
        assert {*self.client.writing_tools} <= {*self.client.tools}

    def test_it_gets_its_own_sign_in_and_no_surrounding_session(self) -> None:
        [own, *_], [session, *_] = self.client.sign_in_names({}), self.client.session_names
        base = {f"{own}API_KEY": "x", f"{session}": "x", "OTHER_API_KEY": "x"}
        base[self.client.token[1]] = "x"
        names = client_environment.for_client(
            base, {}, kept=self.client.sign_in_names(base), dropped=self.client.session_names
        ).keys()
        assert names & base.keys() == {f"{own}API_KEY", self.client.token[1]}


class ScriptedClientContract(ClientContract):
    """The tests for actors that do whatever they are taught."""

    @pytest.mark.parametrize("verdict", OUTCOMES["pull_request"])
    def test_each_outcome_can_be_reported(self, stage: Stage, verdict: str) -> None:
        outcome = stage.outcome(stage.play(("report", verdict, "What it found.")))
        assert (outcome.verdict, outcome.summary) == (verdict, "What it found.")
        assert (outcome.question == "What it found.") is (verdict == "needs_human")
        assert (outcome.reason is None) is (verdict != "failed")

    @pytest.mark.parametrize(
        ("steps", "verdict", "reason"),
        [((("commit",), ("end",)), "done", ""), ((("end",),), "failed", "no_commits")],
        ids=["with a commit", "without a commit"],
    )
    def test_without_a_report_the_commits_decide(
        self, stage: Stage, steps: tuple[Step, ...], verdict: str, reason: str
    ) -> None:
        outcome = stage.outcome(stage.play(*steps))
        assert outcome.verdict == verdict
        assert (outcome.reason or "").startswith(reason)

    def test_a_client_that_is_killed_at_work_has_no_outcome_but_a_conversation(
        self, stage: Stage
    ) -> None:
        played = stage.play(("say", "On it."), ("hang",), kill=True)
        outcome = stage.outcome(played)
        assert (outcome.verdict, (outcome.reason or "")[:9]) == ("interrupted", "no_result")
        assert outcome.session is not None

    def test_a_conversation_goes_on_and_a_role_reports_only_what_it_delivers(
        self, stage: Stage
    ) -> None:
        asked = stage.outcome(stage.play(("report", "needs_human", "Which of them?")))
        assert (asked.verdict, asked.reason) == ("needs_human", None)
        assert (asked.summary, asked.question) == ("Which of them?", "Which of them?")
        again = stage.play(("report", "done", "This one."), resume=asked.session)
        outcome = stage.outcome(again)
        assert (outcome.verdict, outcome.session) == ("done", asked.session), again
        refused = stage.outcome(again, REVIEWER)
        assert refused.verdict == "failed"
        assert (refused.reason or "").startswith("client_error: a reviewer cannot report")

    def test_a_refused_sign_in_is_a_fault_of_the_system_with_a_hint(self, stage: Stage) -> None:
        outcome = stage.outcome(stage.play(("signed_out",)))
        assert outcome.verdict == "system_fault", outcome
        assert (outcome.reason or "").partition(":")[0] in self.client.hints
