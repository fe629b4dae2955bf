"""Another client, whose program (`program.py`) speaks plain text.

It shows what another client takes: this class, and one entry in `registry.CLIENTS`. A waiting
supervisor loads this module, so the methods import what they need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from orchestrator.client.protocol import Assignment, Ended, Launch, Line
    from orchestrator.model.config import Config, Role
    from orchestrator.model.finding import Finding
    from orchestrator.model.snapshot import Outcome


class Plain:
    name: ClassVar[str] = "plain"
    title: ClassVar[str] = "Plain Text"
    program: ClassVar[str] = "plain"
    tools: ClassVar[tuple[str, ...]] = ("shell",)
    writing_tools: ClassVar[tuple[str, ...]] = ("shell",)
    efforts: ClassVar[tuple[str, ...]] = ()
    report: ClassVar[str] = "one line `= OUTCOME SUMMARY`"
    hints: ClassVar[Mapping[str, str]] = {
        "client_missing": "install it, or correct plain.command in agents.yaml",
        "authentication_failed": "plain login",
    }
    session_names: ClassVar[tuple[str, ...]] = ("PLAIN_SESSION",)
    session_marks: ClassVar[tuple[str, ...]] = session_names
    token: ClassVar[tuple[str, str]] = ("plain token", "PLAIN_TOKEN")

    def sign_in_names(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        return ("PLAIN_",)

    def settings_variables(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        return {}

    def passing_folders(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        return ()

    def load(self) -> None:
        from orchestrator.client import outcomes, protocol  # noqa: F401

    def launch(self, assignment: Assignment) -> Launch:
        from orchestrator.client.protocol import Launch
        from orchestrator.model.errors import OrchestratorError

        if assignment.confinement:
            raise OrchestratorError("this client has no sandbox", code="sandbox_unavailable")
        argv = [*assignment.command, "--read", assignment.instructions]
        argv += ["--continue", assignment.resume] if assignment.resume else []
        return Launch(argv, assignment.prompt, {"PLAIN_HIDDEN": ",".join(assignment.hidden)})

    def is_last_line(self, line: bytes) -> bool:
        return line.startswith(b"=") and line.endswith(b"\n")

    def outcome(
        self, lines: Iterable[str], ended: Ended, role: Role | None, commits: int
    ) -> Outcome:
        from orchestrator.client import outcomes
        from orchestrator.model.snapshot import Outcome

        found, session = outcomes.without_result(ended), None
        for line in lines:
            if line.startswith("# conversation ") and line.endswith("\n"):
                session = line.split()[2]
            if line.startswith("! signed out"):
                found = Outcome("system_fault", "authentication_failed: it is not signed in")
            if self.is_last_line(line.encode()):
                verdict, _, summary = line[1:].strip().partition(" ")
                report = {"outcome": verdict, "summary": summary}
                found = outcomes.reported(report, role)
                if not verdict:
                    found = outcomes.unreported(None, role, commits)
        return found._replace(session=session)

    def translate(self, line: str) -> list[Line]:
        from orchestrator.client.protocol import Line

        text = line.strip()
        kind = {"#": "start", "=": "end", "!": "error"}.get(text[:1], "says")
        return [Line(kind, text)] if text else []

    def probe(self, config: Config, root: str, variables: Mapping[str, str]) -> Iterator[Finding]:
        from orchestrator.client import program

        yield program.try_it(self, config, root, variables, {})[0]
