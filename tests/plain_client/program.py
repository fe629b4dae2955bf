"""A program that works as an agent and speaks plain text; it does what $PLAIN_SCRIPT says.

It writes one line per thing that it does. The line that ends its work is `= OUTCOME SUMMARY`, or
`=` alone without a report. The script is a JSON list of steps: ["say", TEXT], ["commit"],
["report", OUTCOME, TEXT], ["end"], ["signed_out"], ["hang"]. Standard library only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    if sys.argv[1:] == ["--version"]:
        say("plain 1.0")
        return
    with open(sys.argv[sys.argv.index("--read") + 1], encoding="utf-8") as file:
        told = file.read() + sys.stdin.read()
    again = "--continue" in sys.argv
    say(f"# conversation {sys.argv[sys.argv.index('--continue') + 1] if again else os.getpid()}")
    say(f"I was told {len(re.findall(r'[^ ]+', told))} words.")
    for word, *rest in json.loads(os.environ.get("PLAIN_SCRIPT", '[["commit"], ["end"]]')):
        if word == "say":
            say(f" {rest[0]}")
        elif word == "commit":
            commit = ("git", "commit", "--quiet", "--allow-empty", "-m", "work")
            subprocess.run(commit, check=True)
        elif word == "report":
            say(f"= {rest[0]} {rest[1]}")
        elif word == "end":
            say("=")
        elif word == "signed_out":
            say("! signed out")
            raise SystemExit(1)
        elif word == "hang":
            time.sleep(100)


if __name__ == "__main__":
    main()
