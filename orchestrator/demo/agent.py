"""A scripted agent in the place of Claude Code: what a run is given, and what it must give back.

It is started as the client is: `claude.command` in agents.yaml names it, the client's options
follow, the prompt comes on standard input, the working directory is the run's worktree, and what
it does is told line by line as JSON on standard output. Everything that it does is real: it reads
files, edits, runs tests, commits. What to change for a task it takes from `script.py`, where a
model would think. It knows nothing of earlier runs but what it is told and what lies in git.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import uuid
from typing import Any, NoReturn

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from orchestrator.demo.script import ANSWERS, Answer, Edit

#: Seconds for one command.
TIMEOUT = 60
Report = dict[str, str]


class CannotWork(Exception):
    """Something that the run needs is not there; the report says what."""


# --- speaking: the client's JSON lines -----------------------------------------------------------


class Conversation:
    """Tells what is done, as it is done, in the client's words."""

    def __init__(self, words: list[str]) -> None:
        """`words` are the client's options."""
        self.session = _option(words, "--session-id") or _option(words, "--resume") or "none"
        self._began = time.monotonic()
        self._turns = 0
        tools = (_option(words, "--tools") or "").split(",")
        mode = _option(words, "--permission-mode")
        self._line("system", subtype="init", cwd=os.getcwd(), tools=tools, permissionMode=mode)

    def _line(self, kind: str, **fields: Any) -> None:
        line = {"type": kind, **fields, "session_id": self.session, "uuid": str(uuid.uuid4())}
        print(json.dumps(line), flush=True)

    def _assistant(self, block: dict[str, Any]) -> None:
        self._turns += 1
        message = {"role": "assistant", "model": "scripted", "content": [block], "usage": _USAGE}
        self._line("assistant", message=message)

    def say(self, text: str) -> None:
        self._assistant({"type": "text", "text": text})

    def tool(self, name: str, arguments: dict[str, Any], result: str, failed: bool = False) -> None:
        """Tell of a tool that was used, and what came of it."""
        use = f"toolu_{uuid.uuid4().hex[:24]}"
        self._assistant({"type": "tool_use", "id": use, "name": name, "input": arguments})
        block = {"type": "tool_result", "tool_use_id": use, "content": result, "is_error": failed}
        self._line("user", message={"role": "user", "content": [block]})

    def run(self, *argv: str, stdin: str = "", may_fail: bool = False) -> str:
        """Run a command and return what it printed. Raises CannotWork when it fails."""
        done = subprocess.run(
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        command = shlex.join(argv) + (f" <<'EOF'\n{stdin}EOF" if stdin else "")
        self.tool("Bash", {"command": command}, done.stdout, done.returncode != 0)
        if done.returncode and not may_fail:
            raise CannotWork(f"{argv[0]} {argv[1]} exited {done.returncode}: {done.stdout[-2000:]}")
        return done.stdout

    def read(self, path: str) -> str:
        """Return a file's text. Raises CannotWork when there is none."""
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except FileNotFoundError:
            raise CannotWork(f"{path} is not here") from None
        self.tool("Read", {"file_path": os.path.abspath(path)}, text)
        return text

    def write(self, path: str, text: str, tool: str, arguments: dict[str, Any]) -> None:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        self.tool(tool, {"file_path": os.path.abspath(path), **arguments}, f"{path} is written")

    def end(self, report: Report) -> NoReturn:
        """Hand the report over: the one line that decides what becomes of the run."""
        self.tool("StructuredOutput", report, "Structured output provided successfully")
        self._line(
            "result",
            subtype="success",
            is_error=False,
            result=report["summary"],
            structured_output=report,
            num_turns=self._turns,
            duration_ms=round((time.monotonic() - self._began) * 1000),
            total_cost_usd=0.0,
            usage=_USAGE,
            permission_denials=[],
        )
        sys.exit(0)


#: No model was asked.
_USAGE = {"input_tokens": 0, "output_tokens": 0}


def _option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words[:-1] else None


# --- listening: the instructions -----------------------------------------------------------------


def fenced_after(text: str, heading: str) -> list[str]:
    """Return what is quoted in the first fence after each line that matches `heading`."""
    pattern = (
        rf"^#+ (?:[0-9]+\. )?{heading}[^\n]*\n(?:(?!`{{3}}|#)[^\n]*\n)*(`{{3,}})text\n(.*?)\n\1$"
    )
    return [found[-1] for found in re.findall(pattern, text, re.MULTILINE | re.DOTALL)]


def one(pattern: str, text: str, what: str) -> str:
    """Return what a pattern finds. Raises CannotWork when that is missing."""
    found = re.search(pattern, text, re.MULTILINE)
    if found is None:
        raise CannotWork(f"the instructions do not say {what}")
    return found[1]


def title_and_body(quoted: list[str]) -> tuple[str, str]:
    """Return a quoted task's title and the rest of it."""
    first, _, body = (quoted[0] if quoted else "").partition("\n")
    if not first.startswith("# "):
        raise CannotWork("the instructions quote no task")
    return first[2:], body


# --- implementer and tester ----------------------------------------------------------------------


def work(talk: Conversation, instructions: str, prompt: str) -> Report:
    """Change what the task asks for, test it, commit it."""
    title, _ = title_and_body(fenced_after(instructions, "Your task"))
    answer = ANSWERS.get(title)
    if answer is None:
        known = ", ".join(ANSWERS)
        summary = f"I am the demonstration's scripted agent, and have no answer to {title!r}."
        question = f"Shall a real client do this? I only know: {known}"
        return {"outcome": "needs_human", "summary": summary, "question": question}
    branch = one(r"^- Branch: `([^`]+)`, checked out", instructions, "on which branch to work")
    if talk.run("git", "branch", "--show-current").strip() != branch:
        raise CannotWork(f"{branch} is not checked out here")
    # The prompt leads with the newest word, the instructions have all of them.
    told = "\n".join(
        fenced_after(prompt, "How the last attempt ended")
        + fenced_after(instructions, "An attempt ended")
        + fenced_after(instructions, "A review")
    )
    done = commit(talk, answer.message, answer.first)
    for cue, (message, edits) in answer.told.items():
        if cue in told:
            talk.say(f"I was told of {cue}: that is mine to mend.")
            done = commit(talk, message, edits) or done
    tests = run_tests(talk, answer, told)
    summary = f"{done or 'Everything was committed already'}. Tests: {tests}"
    return {"outcome": "done", "summary": summary}


def commit(talk: Conversation, message: str, edits: tuple[Edit, ...]) -> str | None:
    """Make changes that are not made yet, and commit them; return the message if there were any."""
    for change in edits:
        edit(talk, change)
    if not talk.run("git", "status", "--porcelain").strip():
        return None
    talk.run("git", "add", "--all")
    talk.run("git", "commit", "--quiet", "-m", message)
    return message


def edit(talk: Conversation, change: Edit) -> None:
    """Make one change, unless an earlier attempt made it. Raises CannotWork when it does not fit."""
    if not change.old:
        if not os.path.exists(change.path):
            talk.write(change.path, change.new, "Write", {"content": change.new})
        return
    text = talk.read(change.path)
    if change.new in text:
        return
    if text.count(change.old) != 1:
        raise CannotWork(f"{change.path} is not as I expected it")
    arguments = {"old_string": change.old, "new_string": change.new}
    talk.write(change.path, text.replace(change.old, change.new), "Edit", arguments)


def run_tests(talk: Conversation, answer: Answer, told: str) -> str:
    """Run the tests beside the change; all of them once something came back."""
    modules = () if told else answer.tests
    talk.run(sys.executable, "-E", "-m", "unittest", "-q", *modules)
    return "all pass" if told else f"{', '.join(modules)} pass"


# --- reviewer ------------------------------------------------------------------------------------


def review(talk: Conversation, instructions: str, _prompt: str) -> Report:
    """Read the change itself, and ask of each criterion which test of it shows it."""
    title, body = title_and_body(fenced_after(instructions, "What you review"))
    head = one(r"^- Its branch: .* head `([0-9a-f]+)`", instructions, "which commit to review")
    base = one(
        r"^- Its base: .* now at `([0-9a-f]+)`", instructions, "what it is to be merged into"
    )
    if talk.run("git", "rev-parse", "HEAD").strip() != head:
        raise CannotWork(f"{head} is not checked out here")
    files = talk.run("git", "diff", "--name-only", f"{base}...HEAD").split()
    diff = talk.run("git", "diff", f"{base}...HEAD")
    findings = [f"`{path}:1`; not a file that this task is about" for path in strangers(files)]
    if not files:
        findings = ["`README.md:1`; the change is empty"]
    added = "\n".join(line for line in diff.splitlines() if line.startswith("+"))
    for criterion, call in re.findall(r"^- \[ \] (.*?`([^`]+\))`.*)$", body, re.MULTILINE):
        if call not in added:
            where = definition(talk, call)
            findings.append(
                f"`{where}`; no test of this change calls `{call}`, so nothing shows "
                f"that this holds: {criterion}. Make it hold, and add that test"
            )
    if findings:
        feedback = "\n".join(f"{n}. {text}." for n, text in enumerate(findings, 1))
        summary = f"{len(findings)} finding(s) in {title!r}"
        return {"outcome": "changes_requested", "summary": summary, "feedback": feedback}
    return {"outcome": "approved", "summary": f"Every criterion of {title!r} has a test."}


def strangers(files: list[str]) -> list[str]:
    return [path for path in files if not path.startswith(("shop/", "tests/"))]


def definition(talk: Conversation, call: str) -> str:
    """Return where the function of a call like "cart.add(...)" is defined, as path:line."""
    name = call.partition("(")[0].rpartition(".")[2]
    found = talk.run("git", "grep", "-n", "-F", f"def {name}(", "--", "shop", may_fail=True)
    return ":".join(found.split(":")[:2]) or "shop/__init__.py:1"


# --- product manager -----------------------------------------------------------------------------


def manage(talk: Conversation, _instructions: str, _prompt: str) -> Report:
    """Hold the README's promises against the code and its tests; add a task for each gap."""
    tasks = json.loads(talk.run("orchestrator", "task", "list", "--json"))
    known = {task["title"] for task in tasks}
    promises = re.findall(r"^\| (`[^|]*\(.*?) \| (\S+) \|$", talk.read("README.md"), re.MULTILINE)
    tests = talk.run("git", "grep", "-h", "-F", "-e", "(", "--", "tests")
    added = []
    for promise, path in promises:
        call = re.split("[`(]", promise)[1]
        name = call.rpartition(".")[2]
        if f"def {name}(" not in talk.read(path):
            verb, role = "Add", "implement"
        elif f"{name}(" not in tests:
            verb, role = "Test", "test"
        else:
            continue
        title = f"{verb} {name}(), which the README promises"
        if title not in known:
            added.append(add_task(talk, title, role, promise, path))
    summary = (
        "\n".join(added) or "The README promises nothing that is not there, tested or on its way."
    )
    return {"outcome": "done" if added else "no_change", "summary": summary}


def add_task(talk: Conversation, title: str, role: str, promise: str, path: str) -> str:
    lack = f"{path} has no such function" if role == "implement" else f"no test calls it ({path})"
    body = (
        f"## Context\nThe README promises it; {lack}.\n\n## Acceptance Criteria\n- [ ] {promise}\n"
    )
    command = ("orchestrator", "task", "add", "--title", title, "--role", role, "--body-file", "-")
    return f"{talk.run(*command, stdin=body).strip()}: {title}"


ROLES = {"implementer": work, "tester": work, "reviewer": review, "product_manager": manage}


def main() -> NoReturn:
    talk = Conversation(sys.argv[1:])
    try:
        prompt = sys.stdin.read()
        role = ROLES.get(os.environ.get("ORCHESTRATOR_ROLE", ""))
        if role is None or not prompt:
            raise CannotWork("I was started without a role or without a prompt")
        report = role(talk, talk.read(".agent-instructions.md"), prompt)
    except CannotWork as error:
        report = {"outcome": "failed", "summary": str(error)}
    talk.end(report)


if __name__ == "__main__":
    main()
