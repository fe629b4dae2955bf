#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: a cap stops a run that still has work to do; a run whose model has given its
# structured report (`--json-schema`) has ended, so both caps treat it alike and keep the report.
# What happens: with `--max-turns 1` the report in the first answer is kept (`success`, although the
# result line then counts two turns). With `--max-budget-usd` below the cost of that same answer the
# result line is an error without `structured_output` and `result`: the work was done, paid for and
# reported, and the report is only in the `assistant` line of the stream (`stream-json`).
# So a program that reads the result line alone takes finished work for failed work, and pays twice.
#
# Seen on 2026-11-30 (subtype, turns counted, report in the result line, report in the stream):
#   --max-budget-usd 5    success 2 True True
#   --max-turns 1         success 2 True True
#   --max-budget-usd 0.1  error_max_budget_usd 1 False True
# Exit code 1 if it behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, which answers each request with the same report.
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
USAGE = {"input_tokens": 100_000, "output_tokens": 1_000}  # 0.3 USD and more
REPORT = {"summary": "all tests pass"}
SCHEMA = {"type": "object", "properties": {"summary": {"type": "string"}}, "required": ["summary"]}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
           "content": [], "stop_reason": None, "stop_sequence": None, "usage": USAGE}
CALL = {"type": "tool_use", "id": "toolu_1", "name": "StructuredOutput", "input": {}}
PART = {"type": "input_json_delta", "partial_json": json.dumps(REPORT)}
EVENTS = (
    {"type": "message_start", "message": MESSAGE},
    {"type": "content_block_start", "index": 0, "content_block": CALL},
    {"type": "content_block_delta", "index": 0, "delta": PART},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": USAGE},
    {"type": "message_stop"},
)


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body, kind = b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in EVENTS)
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


def run(*cap):
    """Run the client once; return what its result line and its stream say."""
    home = os.path.join(FOLDER, "home")
    os.makedirs(home, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    command = (
        os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p", "--verbose",
        "--output-format", "stream-json", "--model", "claude-sonnet-4-5",
        "--json-schema", json.dumps(SCHEMA), *cap,
    )
    done = subprocess.run(command, cwd=home, env=environment, input="Do the work.", text=True,
                          capture_output=True, timeout=120)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    result = next((line for line in lines if line["type"] == "result"), None)
    if result is None:
        sys.exit(f"no result line: {done.stdout}{done.stderr}")
    answers = (line["message"]["content"] for line in lines if line["type"] == "assistant")
    said = any(block.get("input") == REPORT for blocks in answers for block in blocks)
    kept = result.get("structured_output") == REPORT
    return result["subtype"], result["num_turns"], kept, said


EXPECTED = {
    ("--max-budget-usd", "5"): ("success", 2, True, True),
    ("--max-turns", "1"): ("success", 2, True, True),
    ("--max-budget-usd", "0.1"): ("error_max_budget_usd", 1, False, True),
}
seen = {cap: run(*cap) for cap in EXPECTED}
for cap, (subtype, turns, kept, said) in seen.items():
    print(f"{' '.join(cap):21} {subtype} {turns} {kept} {said}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
