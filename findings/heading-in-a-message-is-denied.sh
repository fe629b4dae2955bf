#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: in `claude -p --permission-mode dontAsk`, the rule `Bash(git commit *)` allows
# each `git commit` that is one plain command, whatever its quoted message says.
# What happens: if a line of a message in quotes begins with `#`, the command is refused, with single
# quotes too: the heading "## Why" of Markdown, or an issue's number that a line break brought to the
# front ("#12 is fixed"). The same words within a line are allowed. The model is told that it lacks
# the permission, and neither it nor `permission_denied` in the stream is told that the `#` matters.
# With the rule `Bash`, all of these commands run.
# So agents with narrow rules cannot commit, or open a pull request, with some texts; whether a run
# works depends on how the model wraps its lines, and it spends turns on guesses.
#
# Seen on 2026-12-01 (message; what became of it with the rules `Bash(git commit *)` and `Bash`):
#   one line:              committed  committed
#   three lines:           committed  committed
#   a line with #12:       committed  committed
#   a line begins with #:  denied     committed
#   a heading:             denied     committed
#   in single quotes:      denied     committed
# Exit code 1 if it behaves otherwise. Needs git, npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, which calls for all commands at once.
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
USAGE = {"input_tokens": 100, "output_tokens": 10}
MESSAGES = {
    "one line": '"Sort the names"',
    "three lines": '"Sort the names\n\nThe list is long."',
    "a line with #12": '"Sort the names\n\nThis is for #12."',
    "a line begins with #": '"Sort the names\n\n#12 is fixed."',
    "a heading": '"Sort the names\n\n## Why\nThe list is long."',
    "in single quotes": "'Sort the names\n\n## Why\nThe list is long.'",
}
EXPECTED = {
    "one line": ("committed", "committed"),
    "three lines": ("committed", "committed"),
    "a line with #12": ("committed", "committed"),
    "a line begins with #": ("denied", "committed"),
    "a heading": ("denied", "committed"),
    "in single quotes": ("denied", "committed"),
}
told = []  # the tool results in the last request


def events(messages):
    """Return the events of an answer: all commands at once, and then a text."""
    told[:] = [block for message in messages if isinstance(message["content"], list)
               for block in message["content"] if block["type"] == "tool_result"]
    yield {"type": "message_start", "message": {
        "id": f"msg_{len(told)}", "type": "message", "role": "assistant",
        "model": "claude-sonnet-4-5", "content": [], "stop_reason": None, "stop_sequence": None,
        "usage": USAGE}}
    blocks = [({"type": "text", "text": ""}, {"type": "text_delta", "text": "Done."})]
    if not told:
        commands = (f"git commit --allow-empty -m {message}" for message in MESSAGES.values())
        blocks = [({"type": "tool_use", "id": f"toolu_{n}", "name": "Bash", "input": {}},
                   {"type": "input_json_delta", "partial_json": json.dumps({"command": command})})
                  for n, command in enumerate(commands)]
    for index, (block, part) in enumerate(blocks):
        yield {"type": "content_block_start", "index": index, "content_block": block}
        yield {"type": "content_block_delta", "index": index, "delta": part}
        yield {"type": "content_block_stop", "index": index}
    reason = "end_turn" if told else "tool_use"
    yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": USAGE}
    yield {"type": "message_stop"}


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        body, kind = b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            said = events(json.loads(given)["messages"])
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


def run(rule):
    """Run the client once in a new repository; return what became of each command."""
    home = os.path.join(FOLDER, rule)
    os.makedirs(home)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    for words in (("init", "-q"), ("config", "user.name", "me"),
                  ("config", "user.email", "me@example.org")):
        subprocess.run(("git", *words), cwd=home, env=environment, check=True)
    command = (os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p", "--model",
               "claude-sonnet-4-5", "--permission-mode", "dontAsk", "--allowedTools", rule)
    subprocess.run(command, cwd=home, env=environment, input="Do the work.", text=True,
                   capture_output=True, timeout=120, check=True)
    said = [str(block["content"]) for block in told]
    return ["committed" if "] Sort the names" in text else
            "denied" if text.startswith("Permission to use Bash has been denied") else text
            for text in said]


seen = dict(zip(MESSAGES, zip(run("Bash(git commit *)"), run("Bash"))))
for name, words in seen.items():
    print(f"{name + ':':22} {words[0]:10} {words[1]}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
