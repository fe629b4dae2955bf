#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: `--fallback-model` is for an overloaded model ("overloaded" is status 529).
# It changes nothing for an error that a retry of the same model overcomes, and it works however few
# retries `CLAUDE_CODE_MAX_RETRIES` allows.
# What happens: one answer with 500, 502, 503 or 504 makes the client change to the other model at
# once, without a retry, and all later requests of the run go to that model. Without the option the
# client retries the same model and the run stays with it. An overloaded model is treated with more
# patience: only the third 529 in a row changes the model. So with `CLAUDE_CODE_MAX_RETRIES=1` (to
# see faults early) the run gives up after the second 529, and the other model is never asked.
# The result line is a `success` in either case; `system/model_fallback` in the stream, and the names
# in `modelUsage`, are the only signs.
# So a safeguard against overload lets one hiccup of the service hand the rest of a long run to the
# weaker model, and does nothing against overload where retries are limited.
#
# Seen on 2026-12-01 (fallback model, retries, what the second request was answered with: exit code,
# whether the run is an error, the model of each request: s = first model, h = fallback model):
#   none   3 500:             0 False ssssss
#   haiku  3 500:             0 False sshhhh
#   haiku  3 503:             0 False sshhhh
#   haiku  3 529:             0 False ssssss
#   haiku  3 529 529:         0 False sssssss
#   haiku  3 529 529 529:     0 False sssshhhh
#   haiku  1 529 529 529:     1 True sss
# Exit code 1 if it behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, whose model calls a command four times.
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
FIRST, OTHER = "claude-sonnet-4-5", "claude-haiku-4-5"
USAGE = {"input_tokens": 100, "output_tokens": 10}
ERROR = json.dumps({"type": "error", "error": {"type": "api_error", "message": "Try again."}})
asked = []  # a letter for the model of each request in the present run
faults = []  # the statuses that the second request, and its repetitions, still get


def events(model, messages):
    """Return the events of an answer: a command, four times, and then a text."""
    done = sum(message["role"] == "assistant" for message in messages)
    block, part = {"type": "text", "text": ""}, {"type": "text_delta", "text": "Done."}
    if done < 4:
        block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": "Bash", "input": {}}
        part = {"type": "input_json_delta", "partial_json": '{"command": "echo work"}'}
    return (
        {"type": "message_start", "message": {
            "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant",
            "model": model, "content": [], "stop_reason": None, "stop_sequence": None,
            "usage": USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": part},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use" if done < 4 else "end_turn"},
         "usage": USAGE},
        {"type": "message_stop"},
    )


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        status, body, kind = 200, b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            request = json.loads(given)
            asked.append("s" if request["model"] == FIRST else "h")
            if len(asked) > 1 and faults and request["model"] == FIRST:
                status, body = faults.pop(0), ERROR.encode()
            else:
                said = events(request["model"], request["messages"])
                lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in said)
                body, kind = "".join(lines).encode(), "text/event-stream"
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        if status != 200:
            self.send_header("retry-after", "0")
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *words):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()


def run(fallback, retries, *statuses):
    """Run the client once; return what became of it."""
    asked.clear()
    faults[:] = statuses
    home = os.path.join(FOLDER, "home")
    os.makedirs(home, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_MAX_RETRIES": str(retries),
    }
    command = (
        os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p", "--output-format", "json",
        "--model", FIRST, "--allowedTools", "Bash",
        *(("--fallback-model", OTHER) if fallback else ()),
    )
    done = subprocess.run(command, cwd=home, env=environment, input="Do the work.", text=True,
                          capture_output=True, timeout=120)
    if not done.stdout:
        sys.exit(f"no result: {done.stderr}")
    return f"{done.returncode} {json.loads(done.stdout)['is_error']} {''.join(asked)}"


EXPECTED = {
    (False, 3, 500): "0 False ssssss",
    (True, 3, 500): "0 False sshhhh",
    (True, 3, 503): "0 False sshhhh",
    (True, 3, 529): "0 False ssssss",
    (True, 3, 529, 529): "0 False sssssss",
    (True, 3, 529, 529, 529): "0 False sssshhhh",
    (True, 1, 529, 529, 529): "1 True sss",
}
seen = {given: run(*given) for given in EXPECTED}
for (fallback, retries, *statuses), words in seen.items():
    name = f"{'haiku' if fallback else 'none':6} {retries} {' '.join(map(str, statuses))}:"
    print(f"{name:24} {words}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
