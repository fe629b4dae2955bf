#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: `num_turns` in the result line of `claude -p` counts what `--max-turns`
# limits, so a run below its cap reports a number below the cap, and the number tells how to set the
# cap. The answers that a sub-agent got from the model also count.
# What happens: `--max-turns` limits the answers of the model in the main conversation. `num_turns`
# of a run that succeeds is 1 plus the number of tool results: an answer that calls five tools at
# once counts as five. So a run with a cap of 4 can succeed and report 16 turns; a run that its cap
# ended reports the cap plus 1. The answers that a foreground sub-agent got are in neither number,
# however many they are: only `maxTurns` in its own definition limits it.
# So a cap that is chosen by `num_turns` of earlier runs is several times too high, and a program
# that compares the number with the cap takes a run within its cap for one beyond it.
#
# Seen on 2026-12-01 (run: exit code, subtype, num_turns, answers of the model):
#   3 answers with 1 tool call:            0 success 4 4
#   3 answers with 5 tool calls:           0 success 16 4
#   the same, --max-turns 4:               0 success 16 4
#   the same, --max-turns 3:               1 error_max_turns 4 3
#   sub-agent, 12 calls, --max-turns 3:    0 success 2 15
#   the same, maxTurns 4 of the sub-agent: 0 success 2 6
# Exit code 1 if it behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" "@anthropic-ai/claude-code@2.1.332"
python3 - "$folder" <<'PYTHON'
import http.server
import json
import os
import subprocess
import sys
import threading
import uuid

FOLDER = sys.argv[1]
USAGE = {"input_tokens": 100, "output_tokens": 10}
TASK = "You are the sub-agent."
LOOK = ("Bash", {"command": "echo looked"})
DELEGATE = ("Agent", {"description": "work", "prompt": TASK, "subagent_type": "worker",
                      "run_in_background": False})
answers = 0  # of the present run
plan = []  # the tool calls in each answer of the main conversation


def answer(messages):
    """Return the tool calls of the next answer; none of them: it is a text."""
    done = sum(message["role"] == "assistant" for message in messages)
    if TASK in json.dumps(messages[0]):
        return [LOOK] if done < 12 else []
    return plan[done] if done < len(plan) else []


def events(calls):
    message = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant",
               "model": "claude-sonnet-4-5", "content": [], "stop_reason": None,
               "stop_sequence": None, "usage": USAGE}
    yield {"type": "message_start", "message": message}
    for index, call in enumerate(calls or ["The work is done."]):
        block, part = {"type": "text", "text": ""}, {"type": "text_delta", "text": call}
        if calls:
            block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": call[0],
                     "input": {}}
            part = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_delta", "index": index, "delta": part}
        yield {"type": "content_block_stop", "index": index}
    reason = "tool_use" if calls else "end_turn"
    yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": USAGE}
    yield {"type": "message_stop"}


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        global answers
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        body, kind = b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            answers += 1
            said = events(answer(json.loads(given)["messages"]))
            body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in said).encode()
            kind = "text/event-stream"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *words):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()


def run(calls, cap, own_cap):
    """Run the client once; return what its result line says, and the number of answers."""
    global answers
    answers, plan[:] = 0, calls
    home = os.path.join(FOLDER, "home")
    os.makedirs(home, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    worker = {"description": "Works.", "prompt": "Work.", **({"maxTurns": own_cap} if own_cap else {})}
    command = (
        os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p", "--output-format", "json",
        "--model", "claude-sonnet-4-5", "--allowedTools", "Agent,Bash",
        "--agents", json.dumps({"worker": worker}), *(("--max-turns", str(cap)) if cap else ()),
    )
    done = subprocess.run(command, cwd=home, env=environment, input="Do the work.", text=True,
                          capture_output=True, timeout=120)
    if not done.stdout:
        sys.exit(f"no result: {done.stderr}")
    result = json.loads(done.stdout)
    return f"{done.returncode} {result['subtype']} {result['num_turns']} {answers}"


RUNS = {
    "3 answers with 1 tool call": ([[LOOK]] * 3, None, None),
    "3 answers with 5 tool calls": ([[LOOK] * 5] * 3, None, None),
    "the same, --max-turns 4": ([[LOOK] * 5] * 3, 4, None),
    "the same, --max-turns 3": ([[LOOK] * 5] * 3, 3, None),
    "sub-agent, 12 calls, --max-turns 3": ([[DELEGATE]], 3, None),
    "the same, maxTurns 4 of the sub-agent": ([[DELEGATE]], 3, 4),
}
EXPECTED = {
    "3 answers with 1 tool call": "0 success 4 4",
    "3 answers with 5 tool calls": "0 success 16 4",
    "the same, --max-turns 4": "0 success 16 4",
    "the same, --max-turns 3": "1 error_max_turns 4 3",
    "sub-agent, 12 calls, --max-turns 3": "0 success 2 15",
    "the same, maxTurns 4 of the sub-agent": "0 success 2 6",
}
seen = {name: run(*given) for name, given in RUNS.items()}
for name, words in seen.items():
    print(f"{name + ':':38} {words}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
