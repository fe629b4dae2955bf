#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: a Stop hook that blocks ("run the tests first", exit code 2) keeps a run at
# work in each output mode of `claude -p`; its complaint goes to the model, which answers again.
# What happens: with `--json-schema`, once the model has given its report, the hook still runs, and
# its answer is dropped: no further request, nothing in the stream, subtype `success`, exit code 0,
# and the report that the hook refused is the result. A PreToolUse hook on the tool
# `StructuredOutput` does hold the report back. `"decision": "block"` is dropped like exit code 2.
# So a team's gate "do not stop before the tests pass" works while people try it, and is void in
# exactly the runs that nobody watches.
#
# Seen on 2026-12-01, for a hook that blocks the first time (event, mode: how often the hook ran,
# the answers that the model was asked for, the answer that became the result):
#   Stop       without a schema: ran 2, asked 2, success: answer 2
#   Stop       --json-schema:    ran 1, asked 1, success: answer 1
#   PreToolUse --json-schema:    ran 2, asked 2, success: answer 2
# Exit code 1 if it behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, which numbers its answers.
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

FOLDER = sys.argv[1]
SCHEMA = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}
HOOK = "echo ran >> ran; [ -e told ] || { touch told; echo 'Run the tests first.' >&2; exit 2; }"
USAGE = {"input_tokens": 100, "output_tokens": 10}
asked = []  # the requests of the present run


def answer(request):
    """Return the events of one answer: a report if there is a tool for it, else a text."""
    words = f"answer {len(asked)}"
    reports = any(tool["name"] == "StructuredOutput" for tool in request["tools"])
    block, part = {"type": "text", "text": ""}, {"type": "text_delta", "text": words}
    if reports:
        block = {"type": "tool_use", "id": f"toolu_{len(asked)}", "name": "StructuredOutput",
                 "input": {}}
        part = {"type": "input_json_delta", "partial_json": json.dumps({"summary": words})}
    return (
        {"type": "message_start", "message": {
            "id": f"msg_{len(asked)}", "type": "message", "role": "assistant",
            "model": "claude-sonnet-4-5", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": part},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use" if reports else "end_turn"},
         "usage": USAGE},
        {"type": "message_stop"},
    )


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        body, kind = b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            asked.append(json.loads(given))
            lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in answer(asked[-1]))
            body, kind = "".join(lines).encode(), "text/event-stream"
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


def run(event, *mode):
    """Run the client once, with the hook at an event; return what came of it."""
    asked.clear()
    home = os.path.join(FOLDER, f"home-{event}-{len(mode)}")
    os.makedirs(home)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    hooks = {event: [{"hooks": [{"type": "command", "command": HOOK}]}]}
    command = (
        os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p", "--output-format", "json",
        "--model", "claude-sonnet-4-5", "--settings", json.dumps({"hooks": hooks}), *mode,
    )
    done = subprocess.run(command, cwd=home, env=environment, input="Do the work.", text=True,
                          capture_output=True, timeout=120)
    if done.returncode:
        sys.exit(f"the client failed: {done.stdout}{done.stderr}")
    result = json.loads(done.stdout)
    with open(os.path.join(home, "ran")) as file:
        ran = len(file.readlines())
    report = result.get("structured_output")
    words = report["summary"] if report else result["result"]
    return f"ran {ran}, asked {len(asked)}, {result['subtype']}: {words}"


SCHEMA_MODE = ("--json-schema", json.dumps(SCHEMA))
EXPECTED = {
    ("Stop",): "ran 2, asked 2, success: answer 2",
    ("Stop", *SCHEMA_MODE): "ran 1, asked 1, success: answer 1",
    ("PreToolUse", *SCHEMA_MODE): "ran 2, asked 2, success: answer 2",
}
seen = {given: run(*given) for given in EXPECTED}
for (event, *mode), words in seen.items():
    print(f"{event:10} {mode[0] + ':   ' if mode else 'without a schema:'} {words}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
