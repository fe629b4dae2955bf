#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: SIGINT is the gentle way to end a headless run, so a conversation that is
# resumed after it knows best what happened; after SIGKILL it knows least.
# What happens: it is the other way round. A command of the Bash tool is at work and has changed a
# file when the client gets a signal. The resumed conversation tells the model, as the command's
# result: after SIGINT, that the person rejected the command, which then has not run, and that the
# model must stop and wait; after SIGKILL, that its outcome is unknown and must be checked before it
# is run again. Only the second is true.
# So a program that stops runs by SIGINT and resumes them misleads the model about its own work.
#
# Seen on 2026-11-30 (signal, whether the command had changed its file, what the model is told):
#   SIGINT  changed: rejected
#   SIGKILL changed: outcome unknown
# Exit code 1 if it behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, which calls for one command and then says goodbye.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
npm install --silent --no-audit --no-fund --prefix "$folder" "@anthropic-ai/claude-code@2.1.332"
python3 - "$folder" <<'PYTHON'
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid

FOLDER = sys.argv[1]
PROGRAM = os.path.join(FOLDER, "node_modules", ".bin", "claude")
USAGE = {"input_tokens": 100, "output_tokens": 10}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
           "content": [], "stop_reason": None, "stop_sequence": None, "usage": USAGE}
COMMAND = {"command": "echo begun > file; sleep 20"}
TOLD = {
    "The tool use was rejected": "rejected",
    "its outcome is unknown": "outcome unknown",
}
asked = []  # the messages of each request


def answer(begins):
    """Return the events of one answer: the command if the conversation begins, else a word."""
    block, part = {"type": "text", "text": ""}, {"type": "text_delta", "text": "Goodbye."}
    if begins:
        block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": "Bash", "input": {}}
        part = {"type": "input_json_delta", "partial_json": json.dumps(COMMAND)}
    return (
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": part},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use" if begins else "end_turn"},
         "usage": USAGE},
        {"type": "message_stop"},
    )


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        body, kind = b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            asked.append(json.loads(given)["messages"])
            begins = not any(message["role"] == "assistant" for message in asked[-1])
            lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in answer(begins))
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


def start(home, *words):
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    command = [PROGRAM, "-p", "--model", "claude-sonnet-4-5", "--allowedTools", "Bash", *words]
    client = subprocess.Popen(command, cwd=home, env=environment, stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True)
    client.stdin.write("Do the work.")
    client.stdin.close()
    return client


def results(messages):
    """Return the texts of the tool results in the messages of a request."""
    blocks = [b for m in messages if isinstance(m["content"], list) for b in m["content"]]
    return [str(b["content"]) for b in blocks if b["type"] == "tool_result"]


def told(number):
    """End a client by a signal in the middle of its command; return what the next one is told."""
    home = os.path.join(FOLDER, f"home-{number}")
    os.makedirs(home)
    changed = os.path.join(home, "file")
    conversation = str(uuid.uuid4())
    client = start(home, "--session-id", conversation)
    end = time.monotonic() + 60
    while not os.path.exists(changed) and time.monotonic() < end:
        time.sleep(0.05)
    client.send_signal(number)
    client.wait(60)
    start(home, "--resume", conversation).wait(60)
    said = next((word for text in results(asked[-1]) for part, word in TOLD.items()
                 if part in text), "something else")
    return f"{'changed' if os.path.exists(changed) else 'not changed'}: {said}"


EXPECTED = {
    signal.SIGINT: "changed: rejected",
    signal.SIGKILL: "changed: outcome unknown",
}
seen = {number: told(number) for number in EXPECTED}
for number, words in seen.items():
    print(f"{number.name:7} {words}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
