#!/usr/bin/env bash
# Versions: @anthropic-ai/claude-code 2.1.257 and 2.1.332 (npm).
# What one would guess: `total_cost_usd` and `modelUsage` in the result line of `claude -p --resume`
# mean the same in both versions, since field names and documentation did not change.
# What happens: 2.1.257 reports the resumed run alone. 2.1.332 reports the whole conversation, with
# the earlier runs; only `usage` and `model_usage_since_last_result` are of the run.
# So a program that adds up the result lines of resumed runs counts twice with the newer client, and
# one that takes the difference from the line before gets a run for nothing with the older client.
#
# Seen on 2026-11-29, input and output tokens in `modelUsage`, cost as a multiple of the first run:
#   2.1.257 first: 100 10 x1.0  resumed: 100 10 x1.0
#   2.1.332 first: 100 10 x1.0  resumed: 200 20 x2.0
# Exit code 1 if a version behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to
# a stand-in of the Messages API on loopback, which gives each request the same answer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 2.1.257 2.1.332; do
    npm install --silent --no-audit --no-fund --prefix "$folder/$version" \
        "@anthropic-ai/claude-code@$version"
done
python3 - "$folder" <<'PYTHON'
import http.server, json, os, subprocess, sys, threading

FOLDER = sys.argv[1]
USAGE = {"input_tokens": 100, "output_tokens": 10}
EVENTS = (
    {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [], "stop_reason": None, "stop_sequence": None, "usage": USAGE}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Yes."}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
     "usage": USAGE},
    {"type": "message_stop"},
)


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b"{}"
        kind = "application/json"
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


def run(version, *words):
    """Run the client once; return its result line."""
    home = os.path.join(FOLDER, version, "home")
    os.makedirs(home, exist_ok=True)
    program = os.path.join(FOLDER, version, "node_modules", ".bin", "claude")
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    command = (program, "-p", "--output-format", "json", "--model", "claude-sonnet-4-5", *words)
    done = subprocess.run(command, cwd=home, env=environment, input="Are you there?", text=True,
                          capture_output=True, timeout=120)
    if done.returncode:
        sys.exit(f"{version} failed: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def tokens(result):
    counts = result["modelUsage"].values()
    return sum(c["inputTokens"] for c in counts), sum(c["outputTokens"] for c in counts)


expected = {"2.1.257": ((100, 10), (100, 10), 1.0), "2.1.332": ((100, 10), (200, 20), 2.0)}
changed = False
for version, wanted in expected.items():
    first = run(version)
    second = run(version, "--resume", first["session_id"])
    times = round(second["total_cost_usd"] / first["total_cost_usd"], 2)
    seen = tokens(first), tokens(second), times
    print(version, "first: %d %d x1.0 " % seen[0], "resumed: %d %d" % seen[1], f"x{times}")
    changed = changed or seen != wanted
sys.exit("This is not what was seen before." if changed else 0)
PYTHON
