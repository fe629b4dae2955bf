"""A client: the program that works as an agent, and everything that the core asks about it.

To add a client, see CONTRIBUTING.md. `tests/client_contract.py` states what every client must do.
"""

# No `from __future__ import annotations`, for the reason that `model.config` gives.

from collections.abc import Iterable, Iterator, Mapping

from orchestrator.model.annotations import ClassVar, Protocol
from orchestrator.model.config import Agent, Config, Role
from orchestrator.model.fields import NamedTuple
from orchestrator.model.finding import Finding
from orchestrator.model.snapshot import Outcome


class Confinement(NamedTuple):
    """What the agent's commands may write beside the worktree. They have no network."""

    writable: tuple[str, ...]
    #: Paths below `writable` that they must not write.
    protected: tuple[str, ...]


class Assignment(NamedTuple):
    """What one run gives to its client. All paths are absolute."""

    #: The program and its first arguments.
    command: tuple[str, ...]
    agent: Agent
    role: Role
    #: The run's folder, and two files in it: the text for the system prompt, and the prompt.
    folder: str
    instructions: str
    prompt: str
    #: The id of the task; None is a run without one.
    task: str | None = None
    #: The client's own files that the role and the agent name, with the JSON in each.
    mcp_configs: tuple[tuple[str, Mapping[str, object]], ...] = ()
    settings: tuple[tuple[str, Mapping[str, object]], ...] = ()
    #: The id of the conversation to continue; None starts a new conversation.
    resume: str | None = None
    #: The folder whose `skills/` the agent may use.
    plugin: str | None = None
    #: US dollars that the run may cost, possibly 0 or less; None is no cap.
    budget_usd: float | None = None
    #: The environment of the supervisor, and the names of its variables that the client gets but
    #: the agent's commands must not see.
    variables: Mapping[str, str] = {}
    hidden: tuple[str, ...] = ()
    #: None does not confine the agent's commands.
    confinement: Confinement | None = None


class Launch(NamedTuple):
    """How the supervisor starts a client. It is written to disk, so it must not hold a secret."""

    argv: list[str]
    #: The path of the file that is the client's standard input.
    stdin: str
    #: Variables that are added to the run's own.
    environment: dict[str, str]
    #: The texts of files that the client reads, by their name in the run's folder.
    files: Mapping[str, str] = {}
    #: The id of the conversation, if it is known before the client prints it.
    session: str | None = None
    #: Paths in the worktree where the client puts files that git must not see.
    ignored: tuple[str, ...] = ()


class Ended(NamedTuple):
    """How the client's process ended. None in both codes: no supervisor saw its end."""

    exit_code: int | None = None
    signal: int | None = None
    #: Why the supervisor ended it: stopped, stalled, timed_out, lingered or too_much_output.
    stopped_for: str | None = None
    #: Why it could not be started.
    start_error: str | None = None
    stderr: str = ""
    #: Variables that `stderr` names and that the client did not get: they look like secrets.
    lacked: tuple[str, ...] = ()
    #: Whether the run was to continue a conversation.
    resumed: bool = False


class Line(NamedTuple):
    """One thing that happened in a run, for people."""

    #: start, says, thinks, tool, result, denied, retry, limit, error, user, end or noise.
    kind: str
    text: str
    #: The time as the client wrote it; None if it wrote no time.
    at: str | None = None


class Client(Protocol):
    """One client. Instances have no state, and no output of a client makes a method raise."""

    #: The name of its section in agents.yaml: a key of `registry.CLIENTS`.
    name: ClassVar[str]
    #: Its name for people, and the program that `command` is by default.
    title: ClassVar[str]
    program: ClassVar[str]
    #: Its tools, to find typing errors in role files; a newer version may have more.
    tools: ClassVar[tuple[str, ...]]
    #: Its tools that change files: the instructions of a role without these tools are shorter.
    writing_tools: ClassVar[tuple[str, ...]]
    #: The words that `effort` of an agent may have.
    efforts: ClassVar[tuple[str, ...]]
    #: How the agent reports, for its instructions: "End with ...".
    report: ClassVar[str]
    #: What a person does about a fault, by the first word of the outcome's reason.
    #: `client_missing` is required.
    hints: ClassVar[Mapping[str, str]]
    #: Beginnings of names of variables that a surrounding session of the client sets, or that
    #: change what a run does.
    session_names: ClassVar[tuple[str, ...]]
    #: Those that show that there is such a session.
    session_marks: ClassVar[tuple[str, ...]]
    #: The command that creates a long-lived token, and the variable that contains it.
    token: ClassVar[tuple[str, str]]

    def sign_in_names(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Return the beginnings of the names of variables that the client signs in with."""

    def settings_variables(self, variables: Mapping[str, str]) -> Mapping[str, str]:
        """Return the sign-in and network variables that a person's settings of the client set.

        A run gets them in its environment, because some roles ignore these settings. The values may
        be secrets: they must not be written anywhere.
        """

    def passing_folders(self, variables: Mapping[str, str]) -> tuple[str, ...]:
        """Return folders whose content an update of the client deletes: not for a stored PATH."""

    def load(self) -> None:
        """Import what each run needs of the client: once, before runs are forked."""

    def launch(self, assignment: Assignment) -> Launch:
        """Return how to start the client.

        Raises OrchestratorError if the assignment requires a confinement that it does not have.
        """

    def is_last_line(self, line: bytes) -> bool:
        """Return whether the work ends with this line of the stream.

        Waiting supervisors call it, so it must import next to nothing.
        """

    def outcome(
        self, lines: Iterable[str], ended: Ended, role: Role | None, commits: int
    ) -> Outcome:
        """Return how a run ended, from the lines of its stream (the last may be incomplete).

        `commits` is the number of commits on its branch since the branch was cut. `role` is None if
        the role no longer exists. The last line outranks everything that happened to the process.
        """

    def translate(self, line: str) -> list[Line]:
        """Return what one line of the stream says, in order; [] for a line without content."""

    def probe(self, config: Config, root: str, variables: Mapping[str, str]) -> Iterator[Finding]:
        """Try the client for `doctor`, with these variables: program, version, sign-in.

        `root` is the project's folder. Yields first a finding with the code `client`.
        """


def command(client: Client, config: Config) -> tuple[str, ...]:
    """Return the program that starts the client, and its first arguments."""
    return config.client_command or (client.program,)
