#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: a run that `--max-budget-usd` stops in the middle of its work says so in its
# result line, whoever did the work: `error_max_budget_usd`, exit code 1.
# What happens: that is so only if the model asks for its sub-agent with `run_in_background: false`.
# By default the Agent tool of 2.1.332 starts it in the background, also in `claude -p`; the client
# waits for it, kills it at the cap, and then prints `success`, `completed`, exit code 0, with the
# model's "I have started a sub-agent" as the result. Signs are a sentence on standard error and
# `killed.system` in `subagent_stats`; the cost is above the cap in both cases.
# So a program that reads the result line takes half-done work for finished work, once for each
# budget that is used up.
#
# Seen on 2026-12-01 (parameter: exit code, subtype, terminal reason, sub-agents completed and
# killed by the client, whether the sub-agent's last step was done, whether the cost is above the
# cap):
#   run_in_background false: 1 error_max_budget_usd budget_exhausted 0 0 unfinished above
#   not given:               0 success completed 0 1 unfinished above
#   not given, a high cap:   0 success completed 1 0 finished below
# Exit code 1 if it behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, whose sub-agent gives four answers of 0.63 USD each.
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
TASK = "You are the sub-agent."
STEPS = ("echo 1", "echo 2", "touch finished")
LOW, HIGH = "1", "9"  # USD
parent_is_done = threading.Event()  # the sub-agent works only after it, if it is in the background
parameter = {}


def answer(messages):
    """Return the next tool call or text of whoever asks, and the answer's usage."""
    results = sum(block["type"] == "tool_result" for message in messages
                  if isinstance(message["content"], list) for block in message["content"])
    if TASK in json.dumps(messages[0]):
        parent_is_done.wait(60)
        usage = {"input_tokens": 200_000, "output_tokens": 2_000}
        if results < len(STEPS):
            return ("Bash", {"command": f"sleep 1; {STEPS[results]}"}), usage
        return "The work is done.", usage
    usage = {"input_tokens": 100, "output_tokens": 10}
    if results:
        parent_is_done.set()
        return "I have started a sub-agent.", usage
    return ("Agent", {"description": "work", "prompt": TASK, "subagent_type": "general-purpose",
                      **parameter}), usage


def events(said, usage):
    block, part = {"type": "text", "text": ""}, {"type": "text_delta", "text": said}
    if not isinstance(said, str):
        block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": said[0],
                 "input": {}}
        part = {"type": "input_json_delta", "partial_json": json.dumps(said[1])}
    return (
        {"type": "message_start", "message": {
            "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant",
            "model": "claude-sonnet-4-5", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": usage}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": part},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "usage": usage,
         "delta": {"stop_reason": "end_turn" if isinstance(said, str) else "tool_use"}},
        {"type": "message_stop"},
    )


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        body, kind = b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            said = events(*answer(json.loads(given)["messages"]))
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


def run(name, given, cap):
    """Run the client once; return what its last result line says, and what was done."""
    parameter.clear()
    parameter.update(given)
    parent_is_done.clear()
    if given:  # in the foreground, the parent waits for the sub-agent
        parent_is_done.set()
    home = os.path.join(FOLDER, name)
    os.makedirs(home)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    command = (
        os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p", "--verbose",
        "--output-format", "stream-json", "--model", "claude-sonnet-4-5",
        "--allowedTools", "Agent,Bash", "--max-budget-usd", cap,
    )
    done = subprocess.run(command, cwd=home, env=environment, input="Do the work.", text=True,
                          capture_output=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    results = [line for line in lines if line["type"] == "result"]
    if not results:
        sys.exit(f"no result line: {done.stdout}{done.stderr}")
    last, agents = results[-1], results[-1]["subagent_stats"]
    finished = os.path.exists(os.path.join(home, "finished"))
    return " ".join((
        str(done.returncode), last["subtype"], last["terminal_reason"], str(agents["completed"]),
        str(agents["killed"]["system"]), "finished" if finished else "unfinished",
        "above" if last["total_cost_usd"] > float(cap) else "below",
    ))


RUNS = {
    "run_in_background false": ({"run_in_background": False}, LOW),
    "not given": ({}, LOW),
    "not given, a high cap": ({}, HIGH),
}
EXPECTED = {
    "run_in_background false": "1 error_max_budget_usd budget_exhausted 0 0 unfinished above",
    "not given": "0 success completed 0 1 unfinished above",
    "not given, a high cap": "0 success completed 1 0 finished below",
}
seen = {name: run(name, *given) for name, given in RUNS.items()}
for name, words in seen.items():
    print(f"{name + ':':24} {words}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
