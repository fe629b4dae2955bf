#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: two runs cannot have one conversation at the same time: the client refuses
# the second `claude -p --resume ID`, as it refuses `--session-id ID` for a conversation that exists.
# Or, if it does not, the conversation has the words of both runs afterwards.
# What happens: both runs work and end with `success`, exit code 0, without a warning. Afterwards the
# conversation has only the answers of the run that ended last: the next run is told nothing of what
# the other one did, and the other run's cost is missing in `total_cost_usd`.
# So a scheduler that resumes a conversation while an earlier client is still alive (its supervisor
# was killed, or two machines share a home folder) loses what one of them learned, and what it cost.
#
# Seen on 2026-12-01 (how runs B and C shared the conversation that run A began: their exit codes and
# subtypes, the prompts and answers that run D was told of, the total cost after D by A's cost; A is
# the prompt of run A, a is the answer to it):
#   C after B:                  0 success, 0 success: A a B b C c D x4.0
#   C within B:                 0 success, 0 success: A a B b D x3.0
#   C begins in B, ends last:   0 success, 0 success: A a B C c D x3.0
#   --session-id of A:          exit code 1, already in use
# Exit code 1 if it behaves otherwise. Needs npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, which answers B and C when it is told to.
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
PROMPT, ANSWER = "This is the prompt of run ", "This is the answer to run "
came = {}  # for each run, whether its request has come
may_answer = {}  # for each run, whether its request may be answered
told = []  # what is in the last request: A is the prompt of run A, a is its answer


def words_in(request):
    """Return the prompts and answers in a request, in order."""
    texts = [block.get("text", "") for message in request["messages"]
             for block in ([{"text": message["content"]}] if isinstance(message["content"], str)
                           else message["content"])]
    return [text.split(PROMPT)[1][0] if PROMPT in text else text.split(ANSWER)[1][0].lower()
            for text in texts if PROMPT in text or ANSWER in text]


class Model(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        given = self.rfile.read(int(self.headers.get("content-length", 0)))
        body, kind = b"{}", "application/json"
        if self.path.split("?")[0].endswith("/v1/messages"):
            told[:] = words_in(json.loads(given))
            name = told[-1]
            came[name].set()
            may_answer[name].wait(60)
            events = (
                {"type": "message_start", "message": {
                    "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant",
                    "model": "claude-sonnet-4-5", "content": [], "stop_reason": None,
                    "stop_sequence": None, "usage": USAGE}},
                {"type": "content_block_start", "index": 0,
                 "content_block": {"type": "text", "text": ""}},
                {"type": "content_block_delta", "index": 0,
                 "delta": {"type": "text_delta", "text": f"{ANSWER}{name}."}},
                {"type": "content_block_stop", "index": 0},
                {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
                {"type": "message_stop"},
            )
            body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events).encode()
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


def start(home, name, *words):
    """Start a client with the prompt of a run."""
    came[name], may_answer[name] = threading.Event(), threading.Event()
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
    }
    command = (os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p",
               "--output-format", "json", "--model", "claude-sonnet-4-5", *words)
    client = subprocess.Popen(command, cwd=home, env=environment, stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    client.stdin.write(f"{PROMPT}{name}.")
    client.stdin.close()
    client.stdin = None
    return client


def end(client, name):
    """Let a run have its answer; return its result line."""
    may_answer[name].set()
    said, complaint = client.communicate(timeout=60)
    if not said:
        sys.exit(f"no result: {complaint}")
    return {**json.loads(said), "code": client.returncode}


def share(number, order):
    """Let B and C resume A's conversation; `order` has b, c for a start, B, C for an end."""
    home = os.path.join(FOLDER, f"home-{number}")
    os.makedirs(home)
    conversation = str(uuid.uuid4())
    first = end(start(home, "A", "--session-id", conversation), "A")
    clients, results = {}, {}
    for step in order:
        name = step.upper()
        if step == name:
            results[name] = end(clients[name], name)
        else:
            clients[name] = start(home, name, "--resume", conversation)
            came[name].wait(60)
    last = end(start(home, "D", "--resume", conversation), "D")
    times = last["total_cost_usd"] / first["total_cost_usd"]
    how = ", ".join(f"{results[name]['code']} {results[name]['subtype']}" for name in "BC")
    words = " ".join(told)
    again = start(home, "E", "--session-id", conversation)
    may_answer["E"].set()
    complaint = again.communicate(timeout=60)[1]
    refused = "already in use" if "already in use" in complaint else complaint
    return f"{how}: {words} x{times:.1f}", f"exit code {again.returncode}, {refused}"


EXPECTED = {
    "C after B": ("bBcC", "0 success, 0 success: A a B b C c D x4.0"),
    "C within B": ("bcCB", "0 success, 0 success: A a B b D x3.0"),
    "C begins in B, ends last": ("bcBC", "0 success, 0 success: A a B C c D x3.0"),
}
changed = False
for number, (name, (order, wanted)) in enumerate(EXPECTED.items()):
    seen, refused = share(number, order)
    print(f"{name + ':':27} {seen}")
    changed = changed or seen != wanted or refused != "exit code 1, already in use"
print(f"{'--session-id of A:':27} {refused}")
sys.exit("This is not what was seen before." if changed else 0)
PYTHON
