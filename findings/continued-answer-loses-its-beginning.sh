#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: if an answer ends at the limit of output tokens, or the connection is lost
# between two of its blocks, and the client has the model continue it, `result` of `claude -p` is
# the whole answer, or the run says that it is not.
# What happens: the client tells the model to go on exactly where the text stops, without a recap,
# and prints the second part alone: `success`, exit code 0, `stop_reason` end_turn. The first part
# is only in the conversation and in the lines of `stream-json`. (A connection that is lost in the
# middle of a block is another case: the client asks for the whole answer again.)
# So a long review, list or patch that a program takes from the result lacks its beginning, and no
# field says so; only `num_turns` is 2.
#
# Seen on 2026-12-01, for the answer "Bug 1. Bug 2." (how its first half ended, what the client
# asked for then, exit code, subtype, stop reason, result):
#   not cut:               nothing more, 0 success end_turn: Bug 1. Bug 2.
#   max_tokens:            the rest,     0 success end_turn: Bug 2.
#   lost between blocks:   the rest,     0 success end_turn: Bug 2.
#   lost in a block:       all again,    0 success end_turn: Bug 1. Bug 2.
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

FOLDER = sys.argv[1]
HALVES = ("Bug 1. ", "Bug 2.")
USAGE = {"input_tokens": 100, "output_tokens": 10}
ENDS = {  # the events after the first half; without more, the connection ends
    "max_tokens": [
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": USAGE},
        {"type": "message_stop"},
    ],
    "lost between blocks": [{"type": "content_block_stop", "index": 0}],
    "lost in a block": [],
}
WHOLE = [
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
    {"type": "message_stop"},
]
asked = []  # the requests of the present run
how = ""  # how the first half ends in it


def answer(messages):
    """Return the text of an answer and the events after it."""
    if is_continued(messages):
        return HALVES[1], WHOLE
    if len(asked) == 1 and how in ENDS:
        return HALVES[0], ENDS[how]
    return "".join(HALVES), WHOLE


def is_continued(messages):
    return any(message["role"] == "assistant" for message in messages)


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(200)
        if not self.path.split("?")[0].endswith("/v1/messages"):
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(b"{}")
            return
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        asked.append(json.loads(given))
        text, end = answer(asked[-1]["messages"])
        for event in (
            {"type": "message_start", "message": {
                "id": f"msg_{len(asked)}", "type": "message", "role": "assistant",
                "model": "claude-sonnet-4-5", "content": [], "stop_reason": None,
                "stop_sequence": None, "usage": USAGE}},
            {"type": "content_block_start", "index": 0,
             "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0,
             "delta": {"type": "text_delta", "text": text}},
            *end,
        ):
            line = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            self.wfile.write(line.encode())

    do_GET = do_POST

    def log_message(self, *words):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
threading.Thread(target=server.serve_forever, daemon=True).start()


def run(end):
    """Run the client once; `end` is how the first half of the answer ends."""
    global how
    how = end
    asked.clear()
    home = os.path.join(FOLDER, "home")
    os.makedirs(home, exist_ok=True)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    command = (os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p",
               "--output-format", "json", "--model", "claude-sonnet-4-5")
    done = subprocess.run(command, cwd=home, env=environment, input="Which bugs are there?",
                          text=True, capture_output=True, timeout=120)
    if not done.stdout:
        sys.exit(f"no result: {done.stderr}")
    result = json.loads(done.stdout)
    again = "the rest" if is_continued(asked[-1]["messages"]) else "all again"
    return (again if len(asked) > 1 else "nothing more", done.returncode, result["subtype"],
            result["stop_reason"], result.get("result"))


EXPECTED = {
    "not cut": ("nothing more", 0, "success", "end_turn", "Bug 1. Bug 2."),
    "max_tokens": ("the rest", 0, "success", "end_turn", "Bug 2."),
    "lost between blocks": ("the rest", 0, "success", "end_turn", "Bug 2."),
    "lost in a block": ("all again", 0, "success", "end_turn", "Bug 1. Bug 2."),
}
seen = {end: run(end) for end in EXPECTED}
for end, (again, code, subtype, reason, text) in seen.items():
    print(f"{end + ':':22} {again + ',':13} {code} {subtype} {reason}: {text}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
