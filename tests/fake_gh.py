"""A stand-in for GitHub's `gh`: takes what the real one takes, refuses what the real one refuses.

Its state is the JSON file that FAKE_GH_STATE names: `{"remote": "/bare.git", "prs": [...], ...}`,
where `remote` is the bare repository that stands for GitHub's. Every call is noted under `calls`.
Sources: cli.github.com/manual (flags and JSON fields), the program's own messages.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

#: Options by command: the long name, its short one, and whether it takes a value.
OPTIONS: dict[str, dict[str, bool]] = {
    "auth status": {"--hostname -h": True, "--show-token -t": False, "--active -a": False},
    "pr create": {
        **dict.fromkeys(
            (
                "--assignee -a",
                "--base -B",
                "--body -b",
                "--body-file -F",
                "--head -H",
                "--label -l",
                "--milestone -m",
                "--project -p",
                "--recover",
                "--reviewer -r",
                "--template -T",
                "--title -t",
            ),
            True,
        ),
        **dict.fromkeys(
            (
                "--draft -d",
                "--dry-run",
                "--editor -e",
                "--fill -f",
                "--fill-first",
                "--fill-verbose",
                "--no-maintainer-edit",
                "--web -w",
            ),
            False,
        ),
    },
    "pr list": {
        **dict.fromkeys(
            (
                "--app",
                "--assignee -a",
                "--author -A",
                "--base -B",
                "--head -H",
                "--jq -q",
                "--json",
                "--label -l",
                "--limit -L",
                "--search -S",
                "--state -s",
                "--template -t",
            ),
            True,
        ),
        "--draft -d": False,
        "--web -w": False,
    },
    "pr view": {
        "--jq -q": True,
        "--json": True,
        "--template -t": True,
        "--comments -c": False,
        "--web -w": False,
    },
    "pr comment": {
        "--body -b": True,
        "--body-file -F": True,
        "--editor -e": False,
        "--edit-last": False,
        "--web -w": False,
    },
    "pr review": {
        "--body -b": True,
        "--body-file -F": True,
        "--approve -a": False,
        "--comment -c": False,
        "--request-changes -r": False,
    },
    "pr close": {"--comment -c": True, "--delete-branch -d": False},
    "pr merge": {
        **dict.fromkeys(
            (
                "--author-email -A",
                "--body -b",
                "--body-file -F",
                "--match-head-commit",
                "--subject -t",
            ),
            True,
        ),
        **dict.fromkeys(
            (
                "--admin",
                "--auto",
                "--delete-branch -d",
                "--disable-auto",
                "--merge -m",
                "--rebase -r",
                "--squash -s",
            ),
            False,
        ),
    },
}
FIELDS = {
    "additions",
    "assignees",
    "author",
    "autoMergeRequest",
    "baseRefName",
    "body",
    "changedFiles",
    "closed",
    "closedAt",
    "comments",
    "commits",
    "createdAt",
    "deletions",
    "files",
    "headRefName",
    "headRefOid",
    "headRepository",
    "headRepositoryOwner",
    "id",
    "isCrossRepository",
    "isDraft",
    "labels",
    "latestReviews",
    "maintainerCanModify",
    "mergeCommit",
    "mergeStateStatus",
    "mergeable",
    "mergedAt",
    "mergedBy",
    "milestone",
    "number",
    "potentialMergeCommit",
    "projectCards",
    "projectItems",
    "reactionGroups",
    "reviewDecision",
    "reviewRequests",
    "reviews",
    "state",
    "statusCheckRollup",
    "title",
    "updatedAt",
    "url",
}
HOST = "https://github.com/owner/repo"


def die(message: str, code: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)


class Call:
    """One call's options and other words, checked as cobra checks them."""

    def __init__(self, command: str, words: list[str]) -> None:
        self.options: dict[str, str] = {}
        self.words: list[str] = []
        known = {
            name: (spec.split()[0], takes)
            for spec, takes in OPTIONS[command].items()
            for name in spec.split()
        }
        known |= {"--repo": ("--repo", True), "-R": ("--repo", True)}
        rest = iter(words)
        for word in rest:
            if word == "--":
                self.words += list(rest)
            elif not word.startswith("-") or word == "-":
                self.words.append(word)
            else:
                name, equals, value = word.partition("=")
                if name not in known:
                    kind = "flag" if word.startswith("--") else "shorthand flag"
                    die(f"unknown {kind}: {name}\n\nUsage:  gh {command} [flags]")
                long, takes = known[name]
                if takes and not equals:
                    try:
                        value = next(rest)
                    except StopIteration:
                        die(f"flag needs an argument: {name}")
                self.options[long] = value

    def body(self) -> str | None:
        if self.options.get("--body-file") == "-":
            return sys.stdin.read()
        if "--body-file" in self.options:
            return Path(self.options["--body-file"]).read_text()
        return self.options.get("--body")


class GitHub:
    """The other side: pull requests in the state file, branches in a bare repository."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.state: dict[str, Any] = json.loads(self.path.read_text())
        self.prs: list[dict[str, Any]] = self.state.setdefault("prs", [])

    def save(self) -> None:
        beside = self.path.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(self.state, indent=1))
        beside.replace(self.path)

    def git(self, *words: str) -> str | None:
        argv = ("git", "--git-dir", self.state["remote"], *words)
        done = subprocess.run(argv, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def commit(self, branch: str) -> str | None:
        return self.git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")

    def find(self, call: Call) -> dict[str, Any]:
        if len(call.words) != 1:
            die("accepts 1 arg(s), received " + str(len(call.words)))
        word = call.words[0].removeprefix(f"{HOST}/pull/").removeprefix("#")
        if not word.isdigit():
            found = [pr for pr in self.prs if pr["headRefName"] == word]
            if not found:
                die(f'no pull requests found for branch "{word}"')
            return found[-1]
        for pr in self.prs:
            if pr["number"] == int(word):
                return pr
        die(
            f"GraphQL: Could not resolve to a PullRequest with the number of {word}. "
            "(repository.pullRequest)"
        )

    def row(self, pr: dict[str, Any], fields: str) -> dict[str, Any]:
        wanted = fields.split(",")
        for name in wanted:
            if name not in FIELDS:
                die(f'Unknown JSON field: "{name}"\nAvailable fields:\n  ' + "\n  ".join(FIELDS))
        tip = self.commit(pr["headRefName"]) if pr["state"] == "OPEN" else None
        pr["headRefOid"] = tip or pr["headRefOid"]
        return {name: pr.get(name, "") for name in wanted}


def pr_list(hub: GitHub, call: Call) -> None:
    state = call.options.get("--state", "open")
    if state not in ("open", "closed", "merged", "all"):
        die(
            f'invalid argument "{state}" for "-s, --state" flag: valid values are {{open|closed|…}}'
        )
    limit = call.options.get("--limit", "30")
    if not limit.isdigit() or int(limit) < 1:
        die(f"invalid value for --limit: {limit}")
    if call.words:
        die(f'unknown argument "{call.words[0]}"; please quote all values that have spaces')
    states = {"open": ["OPEN"], "closed": ["CLOSED"], "merged": ["MERGED"]}.get(
        state, ["OPEN", "CLOSED", "MERGED"]
    )
    head = call.options.get("--head")
    found = [pr for pr in hub.prs if pr["state"] in states and head in (None, pr["headRefName"])]
    rows = [hub.row(pr, call.options["--json"]) for pr in found[::-1][: int(limit)]]
    print(json.dumps(rows))


def pr_view(hub: GitHub, call: Call) -> None:
    print(json.dumps(hub.row(hub.find(call), call.options["--json"])))


def pr_create(hub: GitHub, call: Call) -> None:
    title, body = call.options.get("--title"), call.body()
    if title is None or body is None:
        die(
            "must provide `--title` and `--body` (or `--fill` or `fill-first` or `--fillverbose`) "
            "when not running interactively"
        )
    head, base = call.options.get("--head"), call.options.get("--base", "main")
    if head is None:
        die("aborted: you must first push the current branch to a remote, or use the --head flag")
    failed = "pull request create failed: GraphQL: "
    for pr in hub.prs:
        if pr["headRefName"] == head and pr["baseRefName"] == base and pr["state"] == "OPEN":
            die(
                f'a pull request for branch "{head}" into branch "{base}" already exists:\n'
                f"{pr['url']}"
            )
    tip, onto = hub.commit(head), hub.commit(base)
    if tip is None:
        die(f"{failed}Head sha can't be blank, Head ref must be a branch (createPullRequest)")
    if onto is None:
        die(f"{failed}Base ref must be a branch (createPullRequest)")
    if hub.git("rev-list", "--count", f"{onto}..{tip}") == "0":
        die(f"{failed}No commits between {base} and {head} (createPullRequest)")
    if not title.strip():
        die(f"{failed}Title can't be blank (createPullRequest)")
    if len(title) > 256:
        die(f"{failed}Title is too long (maximum is 256 characters) (createPullRequest)")
    if len(body) > 65536:
        die(f"{failed}Body is too long (maximum is 65536 characters) (createPullRequest)")
    number = len(hub.prs) + 1
    hub.prs.append(
        {
            "number": number,
            "headRefName": head,
            "baseRefName": base,
            "headRefOid": tip,
            "title": title,
            "body": body,
            "state": "OPEN",
            "url": f"{HOST}/pull/{number}",
            "reviewDecision": "",
            "comments": [],
        }
    )
    hub.save()
    print(f"{HOST}/pull/{number}")
    if hub.state.get("die_after_create"):
        die("error connecting to api.github.com")


def pr_comment(hub: GitHub, call: Call) -> None:
    pr, body = hub.find(call), call.body()
    if body is None:
        die("flags required when not running interactively")
    if not body.strip():
        die("GraphQL: Body cannot be blank (addComment)")
    if len(body) > 65536:
        die("GraphQL: Body is too long (maximum is 65536 characters) (addComment)")
    pr["comments"].append(body)
    hub.save()
    print(f"{pr['url']}#issuecomment-1")


def pr_review(hub: GitHub, call: Call) -> None:
    hub.find(call)
    for option, word in (("--approve", "approve"), ("--request-changes", "request changes on")):
        if option in call.options:
            die(
                f"failed to create review: GraphQL: Can not {word} your own pull request "
                "(addPullRequestReview)"
            )


def pr_close(hub: GitHub, call: Call) -> None:
    pr = hub.find(call)
    name = f"Pull request owner/repo#{pr['number']} ({pr['title']})"
    if pr["state"] == "MERGED":
        die(f"X {name} can't be closed because it was already merged")
    if pr["state"] == "CLOSED":
        print(f"! {name} is already closed", file=sys.stderr)
        return
    pr["state"] = "CLOSED"
    hub.save()


def pr_merge(hub: GitHub, call: Call) -> None:
    pr = hub.find(call)
    methods = [name for name in ("--merge", "--rebase", "--squash") if name in call.options]
    if len(methods) > 1:
        die("only one of --merge, --rebase, or --squash can be enabled")
    if not methods:
        die("--merge, --rebase, or --squash required when not running interactively")
    name = f"Pull request owner/repo#{pr['number']}"
    if pr["state"] == "MERGED":
        print(f"! {name} was already merged", file=sys.stderr)
        return
    if pr["state"] == "CLOSED":
        die(f"X {name} is not mergeable: the pull request is closed")
    tip, onto = hub.commit(pr["headRefName"]), hub.commit(pr["baseRefName"])
    assert tip
    assert onto
    if call.options.get("--match-head-commit", tip) != tip:
        die("GraphQL: Head branch was modified. Review and try the merge again. (mergePullRequest)")
    tree = hub.git("merge-tree", "--write-tree", onto, tip)
    if tree is None:
        die(f"X {name} is not mergeable: the merge commit cannot be cleanly created.")
    who = ("-c", "user.name=GitHub", "-c", "user.email=noreply@github.com")
    parents = ("-p", onto, "-p", tip)
    made = hub.git(*who, "commit-tree", tree.split("\n")[0], *parents, "-m", f"Merge {name}")
    assert made
    hub.git("update-ref", f"refs/heads/{pr['baseRefName']}", made, onto)
    pr["state"], pr["headRefOid"] = "MERGED", tip
    hub.save()


def auth_status(hub: GitHub, call: Call) -> None:
    print("github.com\n  ✓ Logged in to github.com account person (keyring)")


COMMANDS = {
    "auth status": auth_status,
    "pr close": pr_close,
    "pr comment": pr_comment,
    "pr create": pr_create,
    "pr list": pr_list,
    "pr merge": pr_merge,
    "pr review": pr_review,
    "pr view": pr_view,
}


def main(words: list[str]) -> None:
    if words == ["--version"]:
        print("gh version 2.83.0 (2025-11-04)")
        return
    # Calls at the same time happen one after the other, as on the real one's servers.
    with open(os.environ["FAKE_GH_STATE"] + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer(words)


def answer(words: list[str]) -> None:
    hub = GitHub(os.environ["FAKE_GH_STATE"])
    hub.state.setdefault("calls", []).append(words)
    hub.save()
    if hub.state.get("signed_out"):
        die(
            "To get started with GitHub CLI, please run:  gh auth login\n"
            "Alternatively, populate the GH_TOKEN environment variable with a GitHub API "
            "authentication token.",
            4,
        )
    if hub.state.get("offline"):
        die(
            "error connecting to api.github.com\n"
            "check your internet connection or https://githubstatus.com"
        )
    if hub.state.get("says") is not None:
        print(hub.state["says"])
        return
    command = " ".join(words[:2])
    if command not in COMMANDS:
        die(f'unknown command "{command}" for "gh"')
    remotes = subprocess.run(
        ("git", "config", "--get-regexp", r"^remote\..*\.url$"), capture_output=True, text=True
    )
    if command.startswith("pr") and "github.com" not in remotes.stdout:
        die(
            "none of the git remotes configured for this repository point to a known GitHub host. "
            "To tell gh about a new GitHub host, please use `gh auth login`"
        )
    COMMANDS[command](hub, Call(command, words[2:]))


if __name__ == "__main__":
    main(sys.argv[1:])
