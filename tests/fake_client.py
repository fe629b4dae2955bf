#!/usr/bin/env python3
"""A stand-in for the client, for `claude.command: [python, tests/fake_client.py]`.

It takes the real client's command line and refuses what that refuses, reads the prompt from
standard input, writes JSON lines, and does what a script file says instead of asking a model.

Everything lies in one folder: $FAKE_CLIENT_HOME, else `fake/` beside the project's folder.

    scripts/<name>.json   the first that exists of <task id>, `review-of-<task>`, <agent>, <role>,
                          `default`: one behaviour, or a list of them, one per execution (the last
                          one repeats); `{"whole": [...]}` counts those that came to their end
    ledger.jsonl          `start`, `rivals` (who else is alive) and `end` of each execution, and
                          what happened between
    gates/<name>          a file that a `wait` step waits for
    seen/<run>-<n>/       what execution n of a run was given: prompt, instructions, system prompt

A behaviour is `{"steps": [...], "report": {...}, "result": {...}, "exit": 0}`. `report` becomes
`structured_output` (null: leave it out), `result` is merged into the result line (null: no line).
A step is a list of a word and its arguments: see the functions below named `step_...`.

Standard library only, and it never imports the product: it is what a judge would bring along.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

FLAGS = {
    *("-p", "--print", "--verbose", "--strict-mcp-config", "--restricted", "--bare"),
    *("--no-session-persistence", "--disable-slash-commands", "--fork-session"),
    *("--include-partial-messages", "--include-hook-events", "--dangerously-skip-permissions"),
}
ONE_VALUE = {
    *("--output-format", "--input-format", "--session-id", "--resume", "-r", "--model"),
    *("--permission-mode", "--max-turns", "--max-budget-usd", "--json-schema", "--effort"),
    *("--append-system-prompt", "--append-system-prompt-file", "--system-prompt", "--agent"),
    *("--system-prompt-file", "--system-prompt-snapshot", "--plugin-dir", "--settings"),
    *("--setting-sources", "--fallback-model", "--permission-prompts", "--name", "--agents"),
}
MANY_VALUES = {
    *("--allowedTools", "--allowed-tools", "--disallowedTools", "--disallowed-tools"),
    *("--tools", "--add-dir", "--mcp-config", "--betas"),
}
ENVIRONMENT = ("ORCHESTRATOR_", "AGENT_", "CLAUDE", "DISABLE_", "GIT_")
#: Seconds after which a gate that nobody opens ends the execution, so that no test leaves one.
PATIENCE = 100


class Refused(Exception):
    """What the real client would answer with a line on standard error and exit code 1."""


def home() -> str:
    named = os.environ.get("FAKE_CLIENT_HOME")
    if named:
        return named
    project = os.environ.get("ORCHESTRATOR_PROJECT") or os.getcwd()
    return os.path.join(os.path.dirname(os.path.abspath(project)), "fake")


HOME = home()
WHO = {
    "run": os.environ.get("ORCHESTRATOR_RUN_ID"),
    "task": os.environ.get("ORCHESTRATOR_TASK_ID") or None,
    "agent": os.environ.get("ORCHESTRATOR_AGENT"),
    "role": os.environ.get("ORCHESTRATOR_ROLE"),
}


def reviewed() -> str | None:
    """Return the task whose pull request this execution reviews."""
    try:
        with open(".agent-instructions.md", encoding="utf-8") as file:
            found = re.search(r"Pull request \S+ of task ([\w-]+)\.", file.read())
    except FileNotFoundError:
        return None
    return found[1] if found else None


def note(event: str, **more: object) -> None:
    """Append one line to the ledger, in one write, so that lines of many processes never mix."""
    record = {"event": event, **WHO, "pid": os.getpid(), "at": time.monotonic(), **more}
    line = (json.dumps(record) + "\n").encode()
    descriptor = os.open(
        os.path.join(HOME, "ledger.jsonl"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644
    )
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def say(**event: object) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and arguments[0] == "fetch":
        # A fetch of the product at the same time has moved the ref: agents then fetch again.
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        note("git_failed", arguments=arguments, error=done.stderr)
        raise SystemExit(f"fake client: git {arguments}: {done.stderr}")
    return done.stdout.strip()


def checkout() -> dict[str, str]:
    """Return the commit, the branch ("" for a detached HEAD) and the changes."""
    lines = git("status", "--porcelain=v2", "--branch").splitlines()
    told = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    branch = told["branch.head"]
    return {
        "head": told["branch.oid"],
        "branch": "" if branch == "(detached)" else branch,
        "status": "\n".join(line for line in lines if not line.startswith("# ")),
    }


# --- the command line --------------------------------------------------------------------------


def parse(words: list[str]) -> dict[str, list[str]]:
    """Read the command line as the real client does. Raises Refused."""
    found: dict[str, list[str]] = {}
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, glued, value = word.partition("=")
        if name in FLAGS and not glued:
            found[name] = []
        elif name in ONE_VALUE:
            if not glued and not queue:
                raise Refused(f"error: option '{name}' argument missing")
            found.setdefault(name, []).append(value if glued else queue.pop(0))
        elif name in MANY_VALUES:
            values = [value] if glued else []
            while not glued and queue and not queue[0].startswith("-"):
                values.append(queue.pop(0))
            found.setdefault(name, []).extend(values)
        elif word.startswith("-"):
            raise Refused(f"error: unknown option '{name}'")
        else:
            raise Refused(f"fake client: the prompt belongs on standard input, not here: {word!r}")
    check(found)
    return found


def check(found: dict[str, list[str]]) -> None:
    if "-p" not in found and "--print" not in found:
        raise Refused("fake client: without -p this is the interactive client")
    if found.get("--output-format") != ["stream-json"]:
        raise Refused("fake client: --output-format stream-json is missing")
    if "--verbose" not in found:
        raise Refused("Error: When using --print, --output-format=stream-json requires --verbose")
    for name in ("--session-id", "--resume"):
        for value in found.get(name, []):
            if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value):
                raise Refused("Error: Invalid session ID. Must be a valid UUID.")
    for schema in found.get("--json-schema", []):
        try:
            json.loads(schema)
        except ValueError:
            raise Refused("Error: --json-schema is not valid JSON") from None
    for path in found.get("--append-system-prompt-file", []):
        if not os.path.isfile(path):
            raise Refused(f"Error: Append system prompt file not found: {path}")
    if "bypassPermissions" in found.get("--permission-mode", []) and os.geteuid() == 0:
        raise Refused("--dangerously-skip-permissions cannot be used with root privileges")


def new_id() -> str:
    import uuid  # seldom needed, and slow to load

    return str(uuid.uuid4())


def conversation(found: dict[str, list[str]]) -> str:
    """Return the session's id, new or resumed; the real client refuses an unknown one."""
    folder = os.path.join(HOME, "sessions")
    os.makedirs(folder, exist_ok=True)
    resumed = found.get("--resume", [None])[0]
    session = resumed or found.get("--session-id", [None])[0] or new_id()
    path = os.path.join(folder, str(session))
    if resumed and not os.path.exists(path):
        say(
            type="result",
            subtype="error_during_execution",
            is_error=True,
            session_id=resumed,
            errors=[f"No conversation found with session ID: {resumed}"],
        )
        raise Refused(f"No conversation found with session ID: {resumed}")
    if not resumed and os.path.exists(path):
        raise Refused(f"Error: Session ID {session} is already in use.")
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{WHO['run']}\n")
    return str(session)


# --- what a script can say ---------------------------------------------------------------------


def step_write(path: str, text: str = "text\n") -> None:
    """Write a file in the worktree."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


def step_append(path: str, text: str) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.write(text)


def step_commit(message: str = "work") -> None:
    """Commit everything in the worktree."""
    git("add", "-A")
    said = git("-c", "core.abbrev=40", "commit", "--allow-empty", "-m", message)
    found = re.search(r"^\[.* ([0-9a-f]{40})\] ", said, re.MULTILINE)
    assert found, said
    note("commit", sha=found[1], message=message)


def step_work() -> None:
    """What a good agent does: one file of the task's own, one commit."""
    name = WHO["task"] or WHO["agent"] or "work"
    step_append(f"{name}.txt", f"{WHO['run']}\n")
    step_commit(f"work on {name}")


def step_work_once() -> None:
    """The same for an agent that looks first whether an earlier attempt did it."""
    if git("ls-files", f"{WHO['task']}.txt"):
        note("found_done")
    else:
        step_work()


def step_git(*arguments: str) -> None:
    git(*arguments)


def step_sleep(seconds: float) -> None:
    time.sleep(seconds)


def step_wait(gate: str, patience: float = PATIENCE) -> None:
    """Wait until the test opens a gate, for at most `patience` seconds."""
    limit = time.monotonic() + patience
    path = os.path.join(HOME, "gates", gate)
    while not os.path.exists(path):
        if time.monotonic() > limit:
            note("gate_never_opened", gate=gate)
            raise SystemExit(9)
        time.sleep(0.02)


def step_chatter(seconds: float, every: float = 0.2) -> None:
    """Say something again and again: slow, but not silent."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        say(type="assistant", message={"content": [{"type": "text", "text": "Still at it."}]})
        time.sleep(every)


def step_hang() -> None:
    """Say nothing any more."""
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit:
        time.sleep(0.05)
    raise SystemExit(9)


def step_ignore_sigterm() -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def step_spawn(own_session: bool = False, deaf: bool = False, inherit: bool = False) -> None:
    """Start a grandchild that outlives us, in our process group or in a session of its own."""
    code = "import signal, sys, time\n"
    if deaf:
        code += "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    code += f"print('up', flush=True)\ntime.sleep({PATIENCE})\n"
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=None if inherit else subprocess.PIPE,
        stderr=None if inherit else subprocess.DEVNULL,
        start_new_session=own_session,
    )
    if child.stdout:
        child.stdout.readline()
    note("spawn", child=child.pid, own_session=own_session)
    # Not ours to wait for: that is the point.
    child.returncode = 0


def step_swarm(count: int) -> None:
    """Start many children at once: a third in our group, a third in sessions of their own, and a
    third with an empty environment besides. They ignore what we ignore.
    """
    pids = []
    for number in range(count):
        child = subprocess.Popen(
            ["/bin/sleep", str(PATIENCE)],
            env={} if number % 3 == 2 else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=number % 3 > 0,
        )
        pids.append(child.pid)
        # Not ours to wait for: that is the point.
        child.returncode = 0
    note("swarm", children=pids)


def step_flood(seconds: float) -> None:
    """Print some 400 kB a second."""
    limit = time.monotonic() + seconds
    text = "x" * 8000
    while time.monotonic() < limit:
        say(type="assistant", message={"content": [{"type": "text", "text": text}]})
        time.sleep(0.02)


def step_print(size: int) -> None:
    """Print a huge stream of valid lines."""
    text = "x" * 8000
    for _ in range(max(1, size // 8000)):
        say(type="assistant", message={"content": [{"type": "text", "text": text}]})


def step_say(event: dict[str, object]) -> None:
    """Print one line of the stream."""
    say(**event)


def step_raw(text: str) -> None:
    """Print anything at all."""
    sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
    sys.stdout.buffer.flush()


def step_stderr(text: str) -> None:
    sys.stderr.write(text + "\n")


def step_call(*argv: str) -> None:
    """Run a program in the worktree; note that, and what came of it."""
    note("calling", argv=argv)
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    note("call", argv=argv, code=done.returncode, out=done.stdout, err=done.stderr)


def step_kill(number: int) -> None:
    """End ourselves by a signal."""
    os.kill(os.getpid(), number)
    time.sleep(PATIENCE)


STEPS = {name[5:]: body for name, body in list(globals().items()) if name.startswith("step_")}
REPORTS = {
    "reviewer": {"outcome": "approved", "summary": "Looks right."},
    "product_manager": {"outcome": "done", "summary": "Nothing to add."},
}


# --- one execution -----------------------------------------------------------------------------


def behaviour(count: int) -> dict[str, object]:
    """Return what the script says for the `count`-th execution of this task, from 0."""
    review = f"review-of-{WHO['reviews']}" if WHO.get("reviews") else None
    for name in (WHO["task"], review, WHO["agent"], WHO["role"], "default"):
        path = os.path.join(HOME, "scripts", f"{name}.json")
        if name and os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                found = json.load(file)
            if isinstance(found, dict) and "whole" in found:
                found, count = found["whole"], executions("end")
            return found[min(count, len(found) - 1)] if isinstance(found, list) else found
    return {}


def ledger() -> list[dict[str, object]]:
    try:
        with open(os.path.join(HOME, "ledger.jsonl"), encoding="utf-8") as file:
            # Of a line that is being written, a reader may see a part.
            return [json.loads(line) for line in file if line.endswith("\n")]
    except FileNotFoundError:
        return []


def executions(event: str = "start") -> int:
    """How often this task (without one: this agent) was executed before."""
    by = "reviews" if WHO.get("reviews") else "task" if WHO["task"] else "agent"
    return sum(record["event"] == event and record.get(by) == WHO[by] for record in ledger())


def rivals() -> list[dict[str, object]]:
    """Return the executions that are alive at this instant beside our own.

    Called after our own `start` is written: of two that start at once, at least one sees the other.
    """
    records = ledger()
    ended = {record["pid"] for record in records if record["event"] == "end"}
    return [
        {"task": record["task"], "agent": record["agent"], "pid": record["pid"]}
        for record in records
        if record["event"] == "start"
        and record["pid"] not in (*ended, os.getpid())
        and is_alive(int(str(record["pid"])))
        and record["began"] == began(int(str(record["pid"])))
    ]


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        pass
    if sys.platform.startswith("linux"):
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def began(pid: int) -> str | None:
    """Return when a process began, so that a later process with its number is not taken for it.

    In the kernel's ticks since the start of the machine (proc(5), field 22); None where there is no
    /proc, and for a process that has ended.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return None


def keep_what_was_seen(count: int, prompt: str, found: dict[str, list[str]]) -> None:
    folder = os.path.join(HOME, "seen", f"{WHO['run']}-{count}")
    os.makedirs(folder, exist_ok=True)
    texts = {"prompt": prompt}
    paths = {"system": found.get("--append-system-prompt-file", [None])[0]}
    paths["instructions"] = ".agent-instructions.md"
    for name, path in paths.items():
        if path and os.path.isfile(path):
            with open(path, encoding="utf-8") as file:
                texts[name] = file.read()
    for name, text in texts.items():
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(text)


def main() -> int:
    if sys.argv[1:] == ["--version"]:
        print("2.1.332 (Claude Code)")
        return 0
    try:
        found = parse(sys.argv[1:])
        if sys.stdin.isatty():
            raise Refused("fake client: standard input is a terminal")
        prompt = sys.stdin.read()
        if not prompt.strip():
            raise Refused(
                "Error: Input must be provided either through stdin or as a prompt argument "
                "when using --print"
            )
        session = conversation(found)
    except Refused as refused:
        os.makedirs(HOME, exist_ok=True)
        note("refused", why=str(refused), argv=sys.argv[1:])
        print(refused, file=sys.stderr)
        return 1
    return execute(found, prompt, session)


def execute(found: dict[str, list[str]], prompt: str, session: str) -> int:
    if WHO["role"] == "reviewer" and (task := reviewed()):
        WHO["reviews"] = task
    count = executions()
    script = behaviour(count)
    keep_what_was_seen(count, prompt, found)
    note(
        "start",
        count=count,
        began=began(os.getpid()),
        argv=sys.argv[1:],
        cwd=os.getcwd(),
        parent=os.getppid(),
        group=os.getpgid(0),
        session=session,
        resumed="--resume" in found,
        **checkout(),
        environment={k: v for k, v in os.environ.items() if k.startswith(ENVIRONMENT)},
    )
    note("rivals", rivals=rivals())
    say(type="system", subtype="init", session_id=session, cwd=os.getcwd(), tools=[])
    role = str(WHO["role"])
    default_steps: list[list[object]] = [] if role in REPORTS else [["work"]]
    steps = script.get("steps", default_steps)
    assert isinstance(steps, list)
    for word, *arguments in steps:
        STEPS[word](*arguments)
    if "result" not in script or script["result"] is not None:
        report = script.get(
            "report", REPORTS.get(role, {"outcome": "done", "summary": "Did the work."})
        )
        more = script.get("result") or {}
        assert isinstance(more, dict)
        result = {
            "type": "result",
            "subtype": "success",
            "is_error": False,
            "result": "A last word.",
            "num_turns": 1,
            "total_cost_usd": 0.25,
            "usage": {"input_tokens": 100, "output_tokens": 10},
            "session_id": session,
            **({} if report is None else {"structured_output": report}),
            **more,
        }
        say(**result)
    note("end")
    after = script.get("after", [])
    assert isinstance(after, list)
    for word, *arguments in after:
        STEPS[word](*arguments)
    code = script.get("exit", 0)
    assert isinstance(code, int)
    return code


if __name__ == "__main__":
    sys.exit(main())
