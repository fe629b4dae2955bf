"""A scripted agent that replaces the client.

`command` in the client's section of agents.yaml names this file, so a run's supervisor starts it as
it starts the client: the client's options follow, the prompt comes on standard input, the working
directory is the run's worktree, and standard output is one JSON line per message. The agent really
reads, edits, tests and commits. It knows only its instructions, its prompt and git; `shop.STEPS`
has its changes for each task, instead of a model.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import uuid

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from orchestrator.demo.shop import STEPS
from orchestrator.model.annotations import Any

#: Seconds for one command.
TIMEOUT = 60
#: What a run reports at its end: `outcome`, `summary`, and `feedback` or `question`.
Report = dict[str, str]


class CannotWork(Exception):
    """Something that the run needs is missing or fails; the report names it."""


class Conversation:
    """Uses tools, and reports each use in the client's JSON lines."""

    def __init__(self, options: list[str]) -> None:
        word = "--resume" if "--resume" in options else "--session-id"
        self._session = options[options.index(word) + 1]
        self._turns = 0
        self._line("system", subtype="init", cwd=os.getcwd(), model="scripted")

    def _line(self, kind: str, **fields: Any) -> None:
        line = {"type": kind, **fields, "session_id": self._session, "uuid": str(uuid.uuid4())}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    def _tool(self, name: str, arguments: dict[str, str], result: str) -> None:
        self._turns += 1
        use = f"toolu_{uuid.uuid4().hex[:24]}"
        call = {"type": "tool_use", "id": use, "name": name, "input": arguments}
        self._line("assistant", message={"role": "assistant", "content": [call]})
        answer = {"type": "tool_result", "tool_use_id": use, "content": result}
        self._line("user", message={"role": "user", "content": [answer]})

    def run(self, *argv: str, stdin: str = "") -> str:
        """Run a command and return its output. Raises CannotWork when the command fails."""
        pipe = subprocess.PIPE
        done = subprocess.run(
            argv, input=stdin, stdout=pipe, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT
        )
        self._tool("Bash", {"command": shlex.join(argv)}, done.stdout)
        if done.returncode:
            raise CannotWork(f"{shlex.join(argv)} exited {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    def read(self, path: str) -> str:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        self._tool("Read", {"file_path": os.path.abspath(path)}, text)
        return text

    def write(self, path: str, text: str) -> None:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self._tool("Write", {"file_path": os.path.abspath(path), "content": text}, "written")

    def end(self, report: Report) -> None:
        """Report: only this line decides the run's outcome. No model was used: 0 USD."""
        self._line(
            "result",
            subtype="success",
            is_error=False,
            result=report["summary"],
            structured_output=report,
            num_turns=self._turns,
            total_cost_usd=0.0,
        )


def work(talk: Conversation, instructions: str, prompt: str) -> Report:
    """Write what the task asks for, test it, commit it. For implementers and testers."""
    steps = [step for step in STEPS if f"\n# {step.title}\n" in instructions]
    if not steps:
        summary = "The demonstration's scripted agent has no answer to this task."
        return {"outcome": "needs_human", "summary": summary, "question": "Can a client do it?"}
    if f"`{talk.run('git', 'branch', '--show-current').strip()}`" not in instructions:
        raise CannotWork("the branch of the instructions is not checked out")
    made = talk.run("git", "log", "--format=%s").splitlines()
    tests: list[str] = []
    for step in steps:
        if step.message in made or step.cue not in instructions + prompt:
            continue
        for path, text in step.files.items():
            talk.write(path, text)
        talk.run("git", "add", "--all")
        talk.run("git", "commit", "--quiet", "-m", step.message)
        # At first it runs only its own tests; after a reported failure it runs all tests.
        tests = [] if step.cue else [path for path in step.files if path.startswith("test_")]
    talk.run(sys.executable, "-E", "-m", "unittest", "-q", *tests)
    return {"outcome": "done", "summary": f"Passed: {', '.join(tests) or 'all tests'}."}


def review(talk: Conversation, instructions: str, prompt: str) -> Report:
    """Read the change, and look in it for a test of each acceptance criterion."""
    if talk.run("git", "rev-parse", "HEAD").strip() not in instructions:
        raise CannotWork("the commit of the instructions is not checked out")
    base = re.search(r"^- Its base: .*`([0-9a-f]{40})`", instructions, re.MULTILINE)
    if base is None:
        raise CannotWork("the instructions name no base")
    change = talk.run("git", "diff", f"{base[1]}...HEAD")
    findings = []
    for call, name in re.findall(r"^- \[ \] .*?`((\w+)\([^`]+\))`", instructions, re.MULTILINE):
        if not re.search(rf"^\+.*{re.escape(call)}", change, re.MULTILINE):
            where = talk.run("git", "grep", "-n", f"def {name}(").split(":")
            findings.append(f"`{where[0]}:{where[1]}`: no test of this change calls `{call}`.")
    if findings:
        summary = f"Acceptance criteria without a test: {len(findings)}"
        feedback = "\n".join(findings)
        return {"outcome": "changes_requested", "summary": summary, "feedback": feedback}
    return {"outcome": "approved", "summary": "Every acceptance criterion has a test."}


def manage(talk: Conversation, instructions: str, prompt: str) -> Report:
    """Add a task for each function that the README promises and no test calls."""
    listed = talk.run("orchestrator", "task", "list", "--json")
    tests = talk.run("git", "grep", "-h", "", "--", "test_*")
    promises = re.findall(r"^\| (`(\w+)\(.*) \| (\S+) \|$", talk.read("README.md"), re.MULTILINE)
    added = []
    for promise, name, path in promises:
        title = f"Test {name}(), which the README promises"
        if f"{name}(" not in tests and title not in listed:
            words = ("--title", title, "--role", "test", "--body-file", "-")
            body = f"No test calls {name}() of {path}.\n\n- [ ] {promise}\n"
            added.append(talk.run("orchestrator", "task", "add", *words, stdin=body).strip())
    return {"outcome": "done" if added else "no_change", "summary": f"Added: {', '.join(added)}"}


ROLES = {"implementer": work, "tester": work, "reviewer": review, "product_manager": manage}


def main() -> None:
    if sys.argv[1:] == ["--version"]:  # `doctor` asks
        sys.stdout.write("scripted agent of the demonstration\n")
        return
    talk = Conversation(sys.argv[1:])
    try:
        role = ROLES[os.environ["ORCHESTRATOR_ROLE"]]
        report = role(talk, talk.read(".agent-instructions.md"), sys.stdin.read())
    except (CannotWork, OSError) as error:
        report = {"outcome": "failed", "summary": str(error)}
    talk.end(report)


if __name__ == "__main__":
    main()
