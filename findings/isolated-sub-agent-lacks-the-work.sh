#!/usr/bin/env bash
# Version: @anthropic-ai/claude-code 2.1.332 (npm).
# What one would guess: a sub-agent with `isolation: "worktree"` (a parameter of the Agent tool) gets
# a copy of the state that its parent works on: a worktree, cut from the parent's HEAD, near the
# parent's own folder.
# What happens: if the repository has a remote, the copy is cut from the remote's default branch as
# it was fetched last. The commits that the parent has made and not merged are missing, in a linked
# worktree as in the main checkout, and the sub-agent is not told. Without a remote, or with the
# setting `worktree.baseRef: "head"`, it is cut from the parent's HEAD. In each case the copy lies in
# the main checkout, below `.claude/worktrees/`, even if the parent works in a linked worktree.
# So in a scheduler that gives each agent a worktree, a sub-agent that shall test or review the
# parent's commits looks at code without them, and whoever works in the main checkout finds untracked
# files in it.
#
# Seen on 2026-12-01 (where the parent works, whether there is a remote, setting: whether the copy has
# the parent's commit; the checkout that it lies in; git status of the main checkout then):
#   main checkout, no remote:                 yes, in main, ?? .claude/
#   main checkout, remote:                    no, in main, ?? .claude/
#   linked worktree, no remote:               yes, in main, ?? .claude/
#   linked worktree, remote:                  no, in main, ?? .claude/
#   linked worktree, remote, baseRef: "head": yes, in main, ?? .claude/
# Exit code 1 if it behaves otherwise. Needs git, npm and Python 3.9 or newer; talks to npm and to a
# stand-in of the Messages API on loopback, whose sub-agent says where it is and writes a file.
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

FOLDER = os.path.realpath(sys.argv[1])
USAGE = {"input_tokens": 100, "output_tokens": 10}
TASK = "You are the sub-agent."
DELEGATE = ("Agent", {"description": "look", "prompt": TASK, "subagent_type": "general-purpose",
                      "isolation": "worktree", "run_in_background": False})
LOOK = ("Bash", {"command": "echo kept > result; pwd > ~/place; ls > ~/files"})


def events(messages):
    """Return the events of an answer: each agent calls one tool, and then says a word."""
    done = any(message["role"] == "assistant" for message in messages)
    call = LOOK if TASK in json.dumps(messages[0]) else DELEGATE
    block, part = {"type": "text", "text": ""}, {"type": "text_delta", "text": "Done."}
    if not done:
        block = {"type": "tool_use", "id": f"toolu_{uuid.uuid4().hex}", "name": call[0], "input": {}}
        part = {"type": "input_json_delta", "partial_json": json.dumps(call[1])}
    return (
        {"type": "message_start", "message": {
            "id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant",
            "model": "claude-sonnet-4-5", "content": [], "stop_reason": None,
            "stop_sequence": None, "usage": USAGE}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_delta", "index": 0, "delta": part},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn" if done else "tool_use"},
         "usage": USAGE},
        {"type": "message_stop"},
    )


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


def run(number, place, remote, settings):
    """Let an agent commit and ask an isolated sub-agent to look; return what it found."""
    home = os.path.join(FOLDER, f"home-{number}")
    os.makedirs(home)
    main, here = os.path.join(home, "main"), os.path.join(home, place)
    environment = {
        "PATH": os.environ["PATH"], "HOME": home, "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{server.server_port}",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_AUTOUPDATER": "1",
        "GIT_CONFIG_NOSYSTEM": "1", "GIT_AUTHOR_NAME": "me", "GIT_AUTHOR_EMAIL": "me@example.org",
        "GIT_COMMITTER_NAME": "me", "GIT_COMMITTER_EMAIL": "me@example.org",
    }

    def git(*words, cwd=main):
        done = subprocess.run(("git", *words), cwd=cwd, env=environment, check=True, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        return done.stdout.strip()

    git("init", "-q", "-b", "main", main, cwd=home)
    git("commit", "-q", "--allow-empty", "-m", "base")
    if remote:
        git("init", "-q", "--bare", "-b", "main", "remote.git", cwd=home)
        git("remote", "add", "origin", os.path.join(home, "remote.git"))
        git("push", "-q", "origin", "main")
        git("remote", "set-head", "origin", "main")
    git("worktree", "add", "-q", "-b", "topic", os.path.join(home, "linked"))
    with open(os.path.join(here, "work"), "w") as file:
        file.write("done\n")
    git("add", "work", cwd=here)
    git("commit", "-q", "-m", "work", cwd=here)
    command = (os.path.join(FOLDER, "node_modules", ".bin", "claude"), "-p",
               "--model", "claude-sonnet-4-5", "--allowedTools", "Agent,Bash",
               "--settings", json.dumps(settings))
    subprocess.run(command, cwd=here, env=environment, input="Do the work.", text=True,
                   capture_output=True, timeout=120, check=True)
    with open(os.path.join(home, "files")) as file:
        has = "yes" if "work" in file.read().split() else "no"
    with open(os.path.join(home, "place")) as file:
        checkout = os.path.relpath(file.read().strip(), home).split(os.sep)[0]
    return f"{has}, in {checkout}, {git('status', '--short')}"


HEAD = {"worktree": {"baseRef": "head"}}
RUNS = {
    "main checkout, no remote": ("main", False, {}),
    "main checkout, remote": ("main", True, {}),
    "linked worktree, no remote": ("linked", False, {}),
    "linked worktree, remote": ("linked", True, {}),
    'linked worktree, remote, baseRef: "head"': ("linked", True, HEAD),
}
EXPECTED = {
    "main checkout, no remote": "yes, in main, ?? .claude/",
    "main checkout, remote": "no, in main, ?? .claude/",
    "linked worktree, no remote": "yes, in main, ?? .claude/",
    "linked worktree, remote": "no, in main, ?? .claude/",
    'linked worktree, remote, baseRef: "head"': "yes, in main, ?? .claude/",
}
seen = {name: run(number, *given) for number, (name, given) in enumerate(RUNS.items())}
for name, words in seen.items():
    print(f"{name + ':':41} {words}")
sys.exit("This is not what was seen before." if seen != EXPECTED else 0)
PYTHON
