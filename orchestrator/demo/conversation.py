"""How a client speaks: JSON lines on standard output, one for everything that it does.

Each tool is really used, then told of: an `assistant` line with what is asked of it, a `user` line
with what came of it. The last line is the `result`, and it alone says how the run ended.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
import uuid
from typing import Any, NoReturn

#: Seconds for one command.
TIMEOUT = 60
#: No model was asked.
_USAGE = {"input_tokens": 0, "output_tokens": 0}
#: What a run reports at its end: `outcome`, `summary`, and `feedback` or `question`.
Report = dict[str, str]


class CannotWork(Exception):
    """Something that the run needs is not there; the report says what."""


class Conversation:
    """Tells what is done, as it is done, in the client's words."""

    def __init__(self, words: list[str]) -> None:
        self.session = _option(words, "--session-id") or _option(words, "--resume") or "none"
        self._began = time.monotonic()
        self._turns = 0
        tools = (_option(words, "--tools") or "").split(",")
        mode = _option(words, "--permission-mode")
        self._line("system", subtype="init", cwd=os.getcwd(), tools=tools, permissionMode=mode)

    def _line(self, kind: str, **fields: Any) -> None:
        line = {"type": kind, **fields, "session_id": self.session, "uuid": str(uuid.uuid4())}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

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


def _option(words: list[str], name: str) -> str | None:
    return words[words.index(name) + 1] if name in words[:-1] else None
