"""What a rule is, and its verdict on an agent or a task. `plan.rules` has the rules."""

from collections.abc import Callable, Iterable, Iterator

from orchestrator.model.annotations import Any, Literal
from orchestrator.model.config import Agent
from orchestrator.model.fields import NamedTuple
from orchestrator.model.work import Task
from orchestrator.plan.draft import Draft

#: What the host of a queue in files is, in place of its name.
ONLY_HOST = "the only one"


class Judged(NamedTuple):
    """The finding of a judge."""

    ok: bool
    detail: str
    #: The first time (seconds since the epoch) at which `ok` may change; None means never.
    until: float | None = None
    #: The subject of the rule's hint, if it is not the judged agent or task.
    about: str | None = None


class Verdict(NamedTuple):
    """One rule's verdict on one agent or task."""

    code: str
    ok: bool
    detail: str
    #: As in `Judged`.
    until: float | None = None
    #: What a person can do; None if the verdict is ok.
    hint: str | None = None


#: Judges an agent or a task, by the kind of the rule. None: the rule does not concern the subject.
Judge = Callable[[Any, Draft], Judged | None]
#: `finish` moves the task to `done`, `fail` moves it to `failed`.
Ends = Literal["finish", "fail"]


class Rule(NamedTuple):
    """One rule. In the hint, `{about}` is the judged agent or task, or what `about` names."""

    code: str
    kind: str
    hint: str
    #: The action with which the plan ends a waiting task if this rule is the first that refuses the
    #: task. The judge's detail becomes the summary of a finished task, the error of a failed task.
    ends: Ends | None
    judge: Judge


def verdicts(subject: Agent | Task, draft: Draft, rules: Iterable[Rule]) -> Iterator[Verdict]:
    """Yield the verdicts of some rules on an agent or a task."""
    name = subject.name if isinstance(subject, Agent) else subject.id
    for code, _, hint, _, judge in rules:
        if (judged := judge(subject, draft)) is not None:
            ok, detail, until, about = judged
            step = None if ok else hint.format(about=about or name)
            yield Verdict(code, ok, detail, until, step)
