"""A head start for a run: what writes its instructions is loaded while the tick itself still loads.

Jinja2 takes longer to load than a tick takes to plan. So a tick that finds something waiting
begins with a process aside, and the first supervisor that it starts gets it. The process is told
all that it is to write about, and so loads nothing that reads the project.
"""

from __future__ import annotations

from orchestrator.system.aside import Aside

_begun: list[Aside] = []


def begin() -> None:
    """Start to load what it takes to write a run's instructions, in a process of its own."""
    _begun.append(fresh())


def fresh() -> Aside:
    """Return a process that makes ready to write one run's instructions."""
    return Aside(_make_ready, write)


def take() -> Aside | None:
    """Return what was begun, to one caller only; None when there is nothing, or no more."""
    return _begun.pop() if _begun else None


def _make_ready() -> None:
    from orchestrator.run import prompts

    prompts.make_ready()


def write(message: bytes) -> bytes:
    """Write instructions and prompt as `briefing.begin` asks; return what is wrong, if anything.

    Message and answer are pickled: a run's folder with the templates' variables; None, or the
    fields of an OrchestratorError. Raises OSError.
    """
    import os
    import pickle

    from orchestrator.errors import OrchestratorError
    from orchestrator.project import run_record
    from orchestrator.run import prompts

    folder, variables = pickle.loads(message)
    try:
        texts = {
            run_record.INSTRUCTIONS: prompts.instructions(variables),
            run_record.PROMPT: prompts.prompt(variables),
        }
    except OrchestratorError as error:
        return pickle.dumps({"message": error.message, "hint": error.hint, "code": error.code})
    for name, text in texts.items():
        run_record.put(os.path.join(folder, name), text.encode())
    return pickle.dumps(None)
