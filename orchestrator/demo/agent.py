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
import sys
from typing import NoReturn

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from orchestrator.demo.conversation import CannotWork, Conversation, Report
from orchestrator.demo.script import ANSWERS, Edit

# --- listening: the instructions -----------------------------------------------------------------


def fenced_after(text: str, heading: str) -> list[str]:
    """Return what is quoted in the first fence after each line that matches `heading`."""
    between = r"(?:(?!```|#)[^\n]*\n)*"
    fence = r"(`{3,})text\n(.*?)\n\1$"
    pattern = rf"^#+ (?:[0-9]+\. )?{heading}[^\n]*\n{between}{fence}"
    return [quoted for _, quoted in re.findall(pattern, text, re.MULTILINE | re.DOTALL)]


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
    modules = answer.tests
    for cue, (message, edits) in answer.told.items():
        if cue in told:
            talk.say(f"I was told of {cue}: that is mine to mend, and now I run all tests.")
            done = commit(talk, message, edits) or done
            modules = ()
    talk.run(sys.executable, "-E", "-m", "unittest", "-q", *modules)
    tests = f"{', '.join(modules) or 'all'} pass"
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
    """Make a change, unless an earlier attempt made it. Raises CannotWork when it does not fit."""
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


# --- reviewer ------------------------------------------------------------------------------------


def review(talk: Conversation, instructions: str, _prompt: str) -> Report:
    """Read the change itself, and ask of each criterion which test of it shows it."""
    title, body = title_and_body(fenced_after(instructions, "What you review"))
    head = one(r"^- Its branch: .* head `([0-9a-f]+)`", instructions, "which commit to review")
    base = one(r"^- Its base: .* now at `([0-9a-f]+)`", instructions, "where it is to go")
    if talk.run("git", "rev-parse", "HEAD").strip() != head:
        raise CannotWork(f"{head} is not checked out here")
    files = talk.run("git", "diff", "--name-only", f"{base}...HEAD").split()
    diff = talk.run("git", "diff", f"{base}...HEAD")
    strangers = [path for path in files if not path.startswith(("shop/", "tests/"))]
    findings = [f"`{path}:1`; this task is not about this file" for path in strangers]
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
    summary = "\n".join(added) or "All that the README promises is there and tested, or on its way."
    return {"outcome": "done" if added else "no_change", "summary": summary}


def add_task(talk: Conversation, title: str, role: str, promise: str, path: str) -> str:
    lack = f"{path} has no such function" if role == "implement" else f"no test calls it ({path})"
    body = (
        f"## Context\nThe README promises it; {lack}.\n\n## Acceptance Criteria\n- [ ] {promise}\n"
    )
    words = ("--title", title, "--role", role, "--body-file", "-")
    return f"{talk.run('orchestrator', 'task', 'add', *words, stdin=body).strip()}: {title}"


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
