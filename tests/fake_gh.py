"""A stand-in for GitHub's `gh`: takes what the real one takes, refuses what the real one refuses.

Its state is the JSON file that FAKE_GH_STATE names: `{"remote": "/bare.git", "prs": [...], ...}`,
where `remote` is the bare repository that stands for GitHub's. Every call is noted under `calls`.
Other keys: `host`, `repo`, `viewer`, `accounts` (login, host, active, ok), `version`, `methods`
(that the repository allows), `required` (checks), `auto_merge`, `queue`, `delete_branch_on_merge`,
`forks` (bare repositories by owner), `permission` (of the viewer), `archived`, `refuses` (words by
the branch of a new pull request, or `*`), `fails` (the words with which every call fails),
`comments_fail` (those of each new comment on a pull request), `logs` (by run), `job_logs` (by job);
`threads` of a pull request, and whether it is `locked` for the viewer.
Sources: cli.github.com/manual (flags and JSON fields), the program's own messages.
"""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import subprocess
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # a test calls this program often, and these take half of its start
    from typing import Any, NoReturn

#: Options by command: the long name, its short one, `=` if it takes a value, and the version since
#: which gh has it, if that is after 2.23.
_OPTIONS = {
    "api": """--cache= --field=-F --header=-H --hostname= --include-i --input= --jq=-q
        --method=-X --paginate --preview=-p --raw-field=-f --silent --template=-t --slurp@2.48
        --verbose@2.50""",
    "auth status": "--hostname=-h --show-token-t --active-a@2.61 --json=@2.81",
    "auth token": "--hostname=-h --user=-u@2.40",
    "issue comment": "--body=-b --body-file=-F --editor-e --web-w --edit-last@2.30",
    "issue list": """--app= --assignee=-a --author=-A --jq=-q --json= --label=-l --limit=-L
        --mention= --milestone=-m --search=-S --state=-s --template=-t --web-w""",
    "issue view": "--comments-c --jq=-q --json= --template=-t --web-w",
    "pr checks": "--required --watch --web-w --interval=-i --json=@2.50 --fail-fast@2.26",
    "pr close": "--comment=-c --delete-branch-d",
    "pr comment": "--body=-b --body-file=-F --editor-e --edit-last --web-w",
    "pr create": """--assignee=-a --base=-B --body=-b --body-file=-F --draft-d --fill-f --head=-H
        --label=-l --milestone=-m --no-maintainer-edit --project=-p --recover= --reviewer=-r
        --title=-t --web-w --dry-run@2.49 --editor-e@2.49 --fill-first@2.33 --fill-verbose@2.40
        --template=-T@2.30""",
    "pr list": """--app= --assignee=-a --author=-A --base=-B --draft-d --head=-H --jq=-q --json=
        --label=-l --limit=-L --search=-S --state=-s --template=-t --web-w""",
    "pr merge": """--admin --author-email=-A --auto --body=-b --body-file=-F --delete-branch-d
        --disable-auto --match-head-commit= --merge-m --rebase-r --squash-s --subject=-t""",
    "pr review": "--approve-a --body=-b --body-file=-F --comment-c --request-changes-r",
    "pr view": "--comments-c --jq=-q --json= --template=-t --web-w",
    "repo view": "--branch=-b --jq=-q --json= --template=-t --web-w",
    "run view": """--exit-status --job=-j --jq=-q --json= --log --log-failed --template=-t
        --verbose-v --web-w --attempt=-a@2.24""",
}
FIELDS = """
    additions assignees author autoMergeRequest@2.29 baseRefName baseRefOid@2.61 body
    changedFiles closed closedAt closingIssuesReferences@2.61 comments commits createdAt deletions
    files fullDatabaseId@2.54 headRefName headRefOid headRepository headRepositoryOwner id
    isCrossRepository isDraft labels latestReviews maintainerCanModify mergeCommit mergeStateStatus
    mergeable mergedAt mergedBy milestone number potentialMergeCommit projectCards
    projectItems@2.25 reactionGroups reviewDecision reviewRequests reviews state statusCheckRollup
    title updatedAt url
"""
REPO_FIELDS = """
    defaultBranchRef deleteBranchOnMerge id isArchived isFork isPrivate mergeCommitAllowed name
    nameWithOwner owner parent rebaseMergeAllowed squashMergeAllowed sshUrl url viewerPermission
"""
ISSUE_FIELDS = """
    assignees author body closed closedAt comments createdAt id labels milestone number
    projectCards reactionGroups state title updatedAt url blockedBy@2.92 blocking@2.92 isPinned@2.70
    parent@2.92 stateReason@2.60 subIssues@2.92
"""
METHODS = {"merge": "mergeCommit", "squash": "squashMerge", "rebase": "rebaseMerge"}


def number(version: str) -> tuple[int, ...]:
    return tuple(int(each) for each in version.split(".")[:2])


def options(command: str, version: str) -> dict[str, tuple[str, bool]]:
    """Return a command's options by every name: the long name, and whether it takes a value."""
    found = {}
    for spec in _OPTIONS[command].split():
        named, _, since = spec.partition("@")
        parts = re.fullmatch(r"(--[a-z-]+?)(=?)(-[A-Za-z])?", named)
        assert parts, spec
        if number(since or "2.0") <= number(version):
            for name in filter(None, (parts[1], parts[3])):
                found[name] = (parts[1], bool(parts[2]))
    if command not in ("api", "auth status", "auth token", "repo view"):
        found |= {"--repo": ("--repo", True), "-R": ("--repo", True)}
    return found


def die(message: str, code: int = 1) -> NoReturn:
    print(message, file=sys.stderr)
    sys.exit(code)


def refuse(hub: GitHub, message: str, field: str, before: str = "") -> NoReturn:
    """End as gh does when GitHub refuses a mutation: each version prints it in its own way."""
    old = number(hub.version) < (2, 24)
    die(before + (f"Message: {message}, Locations: []" if old else f"GraphQL: {message} ({field})"))


class Call:
    """One call's options and other words, checked as cobra checks them."""

    def __init__(self, command: str, words: list[str], version: str) -> None:
        self.options: dict[str, str] = {}
        self.fields: dict[str, str] = {}
        self.words: list[str] = []
        known = options(command, version)
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
                if long in ("--field", "--raw-field"):
                    key, _, text = value.partition("=")
                    self.fields[key] = text
                self.options[long] = value

    def body(self) -> str | None:
        if self.options.get("--body-file") == "-":
            return sys.stdin.read()
        if "--body-file" in self.options:
            with open(self.options["--body-file"], encoding="utf-8") as file:
                return file.read()
        return self.options.get("--body")


class GitHub:
    """The other side: pull requests in the state file, branches in bare repositories."""

    def __init__(self, path: str) -> None:
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.state: dict[str, Any] = json.load(file)
        self.prs: list[dict[str, Any]] = self.state.setdefault("prs", [])
        self.host = self.state.get("host", "github.com")
        self.repo = self.state.get("repo", "owner/repo")
        self.owner = self.repo.split("/")[0]
        self.viewer = self.state.get("viewer", "person")
        self.version = self.state.get("version", "2.83.0")
        self.url = f"https://{self.host}/{self.repo}"

    def save(self) -> None:
        beside = f"{self.path}.{os.getpid()}"
        with open(beside, "w", encoding="utf-8") as file:
            file.write(json.dumps(self.state, indent=1))
        os.replace(beside, self.path)

    def touch(self, pr: dict[str, Any]) -> None:
        """Note a change of a pull request, as GitHub does with the time."""
        count = self.state["changes"] = self.state.get("changes", 0) + 1
        pr["updatedAt"] = f"2026-01-01T{count // 3600:02}:{count // 60 % 60:02}:{count % 60:02}Z"
        self.save()

    def git(self, *words: str, remote: str | None = None) -> str | None:
        argv = ("git", "--git-dir", remote or self.state["remote"], *words)
        done = subprocess.run(argv, capture_output=True, text=True)
        return done.stdout.strip() if done.returncode == 0 else None

    def commit(self, branch: str, remote: str | None = None) -> str | None:
        """Return the commit of a branch; git is asked only if the branch has no file of its own."""
        try:
            with open(f"{remote or self.state['remote']}/refs/heads/{branch}") as file:
                found = file.read().strip()
        except OSError:
            found = ""
        if re.fullmatch("[0-9a-f]{40}", found):
            return found
        return self.git("rev-parse", "--verify", "--quiet", f"refs/heads/{branch}", remote=remote)

    def tip(self, pr: dict[str, Any]) -> str | None:
        """Return the commit of a pull request's branch, be it in a fork."""
        if not pr.get("isCrossRepository"):
            return self.commit(pr["headRefName"])
        fork = self.state.get("forks", {}).get(pr["headRepositoryOwner"]["login"])
        tip = self.commit(pr["headRefName"], fork) if fork else None
        if tip and tip != pr["headRefOid"]:
            self.git("fetch", fork, tip)
        return tip or pr["headRefOid"]

    def find(self, call: Call) -> dict[str, Any]:
        if len(call.words) != 1:
            die("accepts 1 arg(s), received " + str(len(call.words)))
        word = call.words[0].removeprefix(f"{self.url}/pull/").removeprefix("#")
        if not word.isdigit():
            found = [
                pr
                for pr in self.prs
                if pr["headRefName"] == word and not pr.get("isCrossRepository")
            ]
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

    def merge_tree(self, onto: str, tip: str) -> str | None:
        tree = self.git("merge-tree", "--write-tree", onto, tip)
        return tree.split("\n")[0] if tree else None

    def can_merge(self, onto: str, tip: str) -> bool:
        """Whether two commits merge without a conflict. Each pair is tried once."""
        path, pair = f"{self.path}.merges", f"{onto} {tip} "
        try:
            with open(path) as file:
                known = [line for line in file if line.startswith(pair)]
        except OSError:
            known = []
        if known:
            return known[0] == f"{pair}yes\n"
        git = ("git", "--git-dir", self.state["remote"])
        done = subprocess.run((*git, "merge-tree", "--write-tree", onto, tip), capture_output=True)
        if done.returncode in (0, 1):  # not after a failure of git
            with open(path, "a") as file:
                file.write(f"{pair}{'no' if done.returncode else 'yes'}\n")
        return done.returncode == 0

    def waits_for(self, pr: dict[str, Any]) -> list[str]:
        """Return the required checks that have not passed."""
        passed = {
            row.get("name", row.get("context"))
            for row in pr.get("statusCheckRollup", [])
            if "SUCCESS" in (row.get("conclusion"), row.get("state"))
        }
        return [name for name in self.state.get("required", []) if name not in passed]

    def merge_state(self, pr: dict[str, Any], mergeable: str) -> str:
        if pr.get("isDraft"):
            return "DRAFT"
        if mergeable != "MERGEABLE":
            return {"CONFLICTING": "DIRTY"}.get(mergeable, "UNKNOWN")
        if self.waits_for(pr):
            return "BLOCKED"
        rows = pr.get("statusCheckRollup", [])
        passed = all("SUCCESS" in (row.get("conclusion"), row.get("state")) for row in rows)
        return "CLEAN" if passed else "UNSTABLE"

    def row(self, pr: dict[str, Any], fields: str) -> dict[str, Any]:
        wanted = known(fields, FIELDS, self.version)
        tip = self.tip(pr) if pr["state"] == "OPEN" else None
        if tip and tip != pr["headRefOid"]:
            pr["headRefOid"] = tip
            self.touch(pr)
        merges = "UNKNOWN"
        if pr["state"] == "OPEN" and not {"mergeable", "mergeStateStatus"}.isdisjoint(wanted):
            onto = self.commit(pr["baseRefName"])
            clean = onto is not None and self.can_merge(onto, pr["headRefOid"])
            merges = "MERGEABLE" if clean else "CONFLICTING"
        full = {
            "author": {"login": self.viewer},
            "comments": [],
            "headRepositoryOwner": {"login": self.owner},
            "isCrossRepository": False,
            "isDraft": False,
            "mergeCommit": None,
            "mergeable": merges,
            "mergeStateStatus": self.merge_state(pr, pr.get("mergeable", merges)),
            "reviewDecision": "",
            "reviews": [],
            "statusCheckRollup": [],
            "updatedAt": "2026-01-01T00:00:00Z",
            **pr,
        }
        return {name: full.get(name, "") for name in wanted}


def known(fields: str, every: str, version: str) -> list[str]:
    """Return the named fields of `--json`. Ends the process at one that this version lacks."""
    split = (each.partition("@") for each in every.split())
    names = {name for name, _, since in split if number(since or "2.0") <= number(version)}
    wanted = fields.split(",")
    for name in wanted:
        if name not in names:
            listed = "\n  ".join(sorted(names))
            die(f'Unknown JSON field: "{name}"\nAvailable fields:\n  {listed}')
    return wanted


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
    head, base = call.options.get("--head"), call.options.get("--base")
    # As on the real one, pull requests from forks are among those of a branch.
    found = [
        pr
        for pr in hub.prs
        if pr["state"] in states
        and head in (None, pr["headRefName"])
        and base in (None, pr["baseRefName"])
    ]
    rows = [hub.row(pr, call.options["--json"]) for pr in found[::-1][: int(limit)]]
    # In a list, gh asks for the first 100 of each; `pr view` asks for all pages.
    cut = ("reviews", "comments", "statusCheckRollup")
    print(json.dumps([{k: v[:100] if k in cut else v for k, v in row.items()} for row in rows]))


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
    owner, _, branch = head.rpartition(":")
    fork = owner.lower() not in ("", hub.owner.lower())
    bare = hub.state.get("forks", {}).get(owner) if fork else None
    for pr in hub.prs:
        from_fork = pr["headRepositoryOwner"]["login"] if pr.get("isCrossRepository") else ""
        same = pr["headRefName"] == branch and from_fork == (owner if fork else "")
        if same and pr["baseRefName"] == base and pr["state"] == "OPEN":
            die(
                f'a pull request for branch "{head}" into branch "{base}" already exists:\n'
                f"{pr['url']}"
            )
    if said := hub.state.get("refuses", {}).get(branch) or hub.state.get("refuses", {}).get("*"):
        die(f"{failed}{said} (createPullRequest)")
    tip = hub.commit(branch, bare) if bare or not fork else None
    onto = hub.commit(base)
    if tip is None:
        die(f"{failed}Head sha can't be blank, Head ref must be a branch (createPullRequest)")
    if onto is None:
        die(f"{failed}Base ref must be a branch (createPullRequest)")
    if hub.git("rev-list", "--count", tip, f"^{onto}", remote=bare) == "0":
        die(f"{failed}No commits between {base} and {head} (createPullRequest)")
    if not title.strip():
        die(f"{failed}Title can't be blank (createPullRequest)")
    if len(title) > 256:
        die(f"{failed}Title is too long (maximum is 256 characters) (createPullRequest)")
    if len(body) > 65536:
        die(f"{failed}Body is too long (maximum is 65536 characters) (createPullRequest)")
    count = len(hub.prs) + 1
    pr = {
        "number": count,
        "headRefName": branch,
        "baseRefName": base,
        "headRefOid": tip,
        "title": title,
        "body": body,
        "state": "OPEN",
        "url": f"{hub.url}/pull/{count}",
        "author": {"login": hub.viewer},
        "reviewDecision": "",
        "reviews": [],
        "comments": [],
        "statusCheckRollup": [],
    }
    if fork:
        pr |= {"isCrossRepository": True, "headRepositoryOwner": {"login": owner}}
        hub.git("fetch", str(bare), tip)
    hub.prs.append(pr)
    hub.touch(pr)
    if hub.state.get("die_after_create"):
        die("error connecting to api.github.com")
    print(pr["url"])


def pr_comment(hub: GitHub, call: Call) -> None:
    pr, body = hub.find(call), call.body()
    if body is None:
        die("flags required when not running interactively")
    if not body.strip():
        die("GraphQL: Body cannot be blank (addComment)")
    if len(body) > 65536:
        die("GraphQL: Body is too long (maximum is 65536 characters) (addComment)")
    if said := hub.state.get("comments_fail"):
        die(f"GraphQL: {said} (addComment)")
    if pr.get("locked"):
        die("GraphQL: Unable to create comment because issue is locked. (addComment)")
    pr.setdefault("comments", []).append({"author": {"login": hub.viewer}, "body": body})
    hub.touch(pr)
    print(f"{pr['url']}#issuecomment-1")


def pr_review(hub: GitHub, call: Call) -> None:
    kinds = {"--approve": "APPROVED", "--request-changes": "CHANGES_REQUESTED"}
    pr, given = hub.find(call), [name for name in (*kinds, "--comment") if name in call.options]
    if len(given) != 1:
        die("need exactly one of --approve, --request-changes, or --comment")
    body = call.body() or ""
    if given[0] != "--approve" and not body.strip():
        die(f"body cannot be blank for {given[0][2:]} review")
    own = pr.get("author", {"login": hub.viewer})["login"] == hub.viewer
    word = {"--approve": "approve", "--request-changes": "request changes on"}.get(given[0])
    if own and word:
        said = f"Can not {word} your own pull request"
        refuse(hub, said, "addPullRequestReview", "failed to create review: ")
    if pr.get("locked"):
        said = "lock prevents review"
        refuse(hub, said, "addPullRequestReview", "failed to create review: ")
    hub.row(pr, "number")
    review = {
        "author": {"login": hub.viewer},
        "authorAssociation": "MEMBER",
        "body": body,
        "state": kinds.get(given[0], "COMMENTED"),
        "commit": {"oid": pr["headRefOid"]},
    }
    pr.setdefault("reviews", []).append(review)
    hub.touch(pr)
    review["submittedAt"] = pr["updatedAt"]
    hub.save()


def pr_close(hub: GitHub, call: Call) -> None:
    pr = hub.find(call)
    name = f"Pull request {hub.repo}#{pr['number']} ({pr['title']})"
    if pr["state"] == "MERGED":
        die(f"X {name} can't be closed because it was already merged")
    if pr["state"] == "CLOSED":
        print(f"! {name} is already closed", file=sys.stderr)
        return
    pr["state"] = "CLOSED"
    hub.touch(pr)


def pr_merge(hub: GitHub, call: Call) -> None:
    pr = hub.find(call)
    methods = [name for name in METHODS if f"--{name}" in call.options]
    if len(methods) > 1:
        die("only one of --merge, --rebase, or --squash can be enabled")
    if not methods and not hub.state.get("queue"):
        die("--merge, --rebase, or --squash required when not running interactively")
    name = f"Pull request {hub.repo}#{pr['number']}"
    if pr["state"] == "MERGED":
        print(f"! {name} was already merged", file=sys.stderr)
        return
    if pr["state"] == "CLOSED":
        die(f"X {name} is not mergeable: the pull request is closed")
    row = hub.row(pr, "mergeStateStatus")
    if row["mergeStateStatus"] == "DIRTY":
        die(f"X {name} is not mergeable: the merge commit cannot be cleanly created.")
    if pr.get("isDraft"):
        refuse(hub, "Pull Request is still a draft", "mergePullRequest")
    if call.options.get("--match-head-commit", pr["headRefOid"]) != pr["headRefOid"]:
        said = "Head branch was modified. Review and try the merge again."
        refuse(hub, said, "mergePullRequest")
    if hub.state.get("queue"):
        pr["autoMergeRequest"] = {"mergeMethod": "MERGE"}
        hub.touch(pr)
        said = "will be added to the merge queue for main when ready"
        print(f"! The merge strategy for main is set by the merge queue\n{name} {said}")
        return
    method = methods[0]
    allowed = hub.state.get("methods", list(METHODS))
    if row["mergeStateStatus"] == "BLOCKED" and "--admin" not in call.options:
        wait_for_checks(hub, call, pr, name, method)
        return
    if method not in allowed:
        kind = {"merge": "Merge commits", "squash": "Squash merges", "rebase": "Rebase merges"}
        refuse(hub, f"{kind[method]} are not allowed on this repository.", "mergePullRequest")
    land(hub, pr, method)
    if hub.state.get("die_after_merge"):
        die("error connecting to api.github.com")


def wait_for_checks(hub: GitHub, call: Call, pr: dict[str, Any], name: str, method: str) -> None:
    if "--auto" not in call.options:
        die(
            f"X {name} is not mergeable: the base branch policy prohibits the merge.\n"
            "To have the pull request merged after all the requirements have been met, add the "
            "`--auto` flag.\nTo use administrator privileges to immediately merge the pull "
            "request, add the `--admin` flag."
        )
    if not hub.state.get("auto_merge"):
        said = "Pull request Auto merge is not allowed for this repository"
        refuse(hub, said, "enablePullRequestAutoMerge")
    pr["autoMergeRequest"] = {"mergeMethod": method.upper()}
    hub.touch(pr)
    print(f"{name} will be automatically merged via {method} when all requirements are met")


def land(hub: GitHub, pr: dict[str, Any], method: str) -> None:
    """Merge a pull request as GitHub does: with its own committer, and by one of its methods."""
    tip, onto = hub.tip(pr), hub.commit(pr["baseRefName"])
    assert tip
    assert onto
    who = ("-c", "user.name=GitHub", "-c", "user.email=noreply@github.com")
    title = f"{pr['title']} (#{pr['number']})"
    made: str | None = onto
    steps = [tip]
    if method == "rebase":
        steps = (hub.git("rev-list", "--reverse", "--no-merges", tip, f"^{onto}") or "").split()
    for commit in steps:
        tree = hub.merge_tree(onto, commit)
        assert tree
        assert made
        parents = ("-p", made, "-p", tip) if method == "merge" else ("-p", made)
        text = hub.git("log", "-1", "--format=%B", commit) if method == "rebase" else title
        made = hub.git(*who, "commit-tree", tree, *parents, "-m", text or title)
    assert made
    hub.git("update-ref", f"refs/heads/{pr['baseRefName']}", made, onto)
    pr |= {"state": "MERGED", "headRefOid": tip, "mergeCommit": {"oid": made}}
    if hub.state.get("delete_branch_on_merge"):
        hub.git("update-ref", "-d", f"refs/heads/{pr['headRefName']}")
    hub.touch(pr)


def accounts(hub: GitHub) -> list[dict[str, Any]]:
    """Return the accounts that are signed in, or were; by default one on the repository's host."""
    return list(hub.state.get("accounts", [{"login": hub.viewer, "host": hub.host}]))


def auth_status(hub: GitHub, call: Call) -> None:
    host = call.options.get("--hostname")
    found = [each for each in accounts(hub) if host in (None, each["host"])]
    old = number(hub.version) < (2, 40)
    if not found:
        said = f'Hostname "{host}" not found among authenticated GitHub hosts'
        die(said if old else f"You are not logged into any accounts on {host}")
    lines = []
    for name in dict.fromkeys(each["host"] for each in found):
        lines.append(name)
        for each in found:
            if each["host"] == name:
                lines += account(each, old)
    print("\n".join(lines), file=sys.stderr if old else sys.stdout)
    sys.exit(0 if all(each.get("ok", True) for each in found) else 1)


def account(each: dict[str, Any], old: bool) -> list[str]:
    host, login, good = each["host"], each["login"], each.get("ok", True)
    if old:
        word = f"✓ Logged in to {host} as {login} (/home/hosts.yml)"
        return [f"  {word}" if good else f"  X {host}: authentication failed"]
    word = f"✓ Logged in to {host} account" if good else f"X Failed to log in to {host} account"
    active = str(each.get("active", True)).lower()
    return [f"  {word} {login} (keyring)", f"  - Active account: {active}"]


def auth_token(hub: GitHub, call: Call) -> None:
    host = call.options.get("--hostname", "github.com")
    if not any(each["host"] == host for each in accounts(hub)):
        die(f"no oauth token found for {host}")
    print("gho_token")


def repo_view(hub: GitHub, call: Call) -> None:
    named(hub, call.words[0])
    allowed = hub.state.get("methods", list(METHODS))
    row = {f"{field}Allowed": method in allowed for method, field in METHODS.items()}
    row |= {"nameWithOwner": hub.repo, "viewerPermission": hub.state.get("permission", "WRITE")}
    row |= {"isArchived": hub.state.get("archived", False)}
    print(json.dumps({n: row.get(n) for n in known(call.options["--json"], REPO_FIELDS, "9.0")}))


def run_view(hub: GitHub, call: Call) -> None:
    logs = hub.state.get("logs", {})
    if "--log-failed" not in call.options or call.words[0] not in logs:
        die(f"failed to get run: HTTP 404: Not Found (https://api.{hub.host}/{call.words[0]})")
    sys.stdout.write(logs[call.words[0]])


def api(hub: GitHub, call: Call) -> None:
    if call.options.get("--hostname", "github.com") != hub.host:
        die("gh: Bad credentials (HTTP 401)")
    who = re.fullmatch(rf"repos/{hub.repo}/collaborators/([\w-]+)/permission", call.words[0])
    if who:
        permission(hub, who[1])
        return
    job = re.fullmatch(rf"repos/{hub.repo}/actions/jobs/(\d+)/logs", call.words[0])
    if job and job[1] in hub.state.get("job_logs", {}):
        sys.stdout.write(hub.state["job_logs"][job[1]])
        return
    pull = re.fullmatch(rf"repos/{hub.repo}/pulls/(\d+)", call.words[0])
    if pull and call.options.get("--method") == "PATCH":
        retarget(hub, int(pull[1]), call.fields["base"])
        return
    if call.words != ["graphql"]:
        die("gh: Not Found (HTTP 404)")
    named(hub, f"{hub.host}/{call.fields['owner']}/{call.fields['repo']}")
    assert "reviewThreads" in call.fields["query"]
    if hub.state.get("old_server") and "isRequired" in call.fields["query"]:
        die("gh: Field 'isRequired' doesn't exist on type 'CheckRun'")
    pr = next(pr for pr in hub.prs if pr["number"] == int(call.fields["n"]))
    checks = [
        {**{k: row[k] for k in ("name", "context") if k in row}, "isRequired": is_required}
        for row in pr.get("statusCheckRollup", [])
        for is_required in [row.get("name", row.get("context")) in hub.state.get("required", [])]
    ]
    contexts = page(checks, call, "checks")
    rollup = {"contexts": contexts} if checks and "required" in hub.state else None
    found = {
        "headRefOid": pr["headRefOid"],
        "reviewThreads": page(pr.get("threads", []), call, "threads"),
        "commits": {"nodes": [{"commit": {"statusCheckRollup": rollup}}]},
    }
    print(json.dumps({"data": {"repository": {"pullRequest": found}}}))


def retarget(hub: GitHub, wanted: int, base: str) -> None:
    """Change the base of a pull request (docs.github.com/rest/pulls/pulls, "Update")."""
    pr = next((pr for pr in hub.prs if pr["number"] == wanted), None)
    if pr is None:
        die("gh: Not Found (HTTP 404)")
    if pr["state"] != "OPEN" or not hub.commit(base):
        die("gh: Validation Failed (HTTP 422)")
    pr["baseRefName"] = base
    hub.touch(pr)
    print(json.dumps({"number": wanted, "base": {"ref": base}}))


def page(rows: list[Any], call: Call, name: str) -> dict[str, Any]:
    """Return the 100 rows of a GraphQL connection after the cursor that the call names."""
    assert call.fields["query"].count(f"(first:100,after:${name})") <= 1
    first = int(call.fields.get(name, "0"))
    nodes = rows[first : first + 100]
    more = first + 100 < len(rows)
    end = str(first + len(nodes)) if nodes else None
    return {"nodes": nodes, "pageInfo": {"hasNextPage": more, "endCursor": end}}


def issue_row(issue: dict[str, Any], hub: GitHub, fields: str) -> dict[str, Any]:
    """Return an issue of the state file (`issues`, with `labels` as words) as gh prints it."""
    login = issue.get("author", hub.viewer)
    known_author = number(hub.version) >= (2, 30)
    comments = [
        {**each, "viewerDidAuthor": each["author"]["login"] == hub.viewer} if known_author else each
        for each in issue.get("comments", [])
    ]
    row = {
        "state": "OPEN",
        "body": "",
        "url": f"{hub.url}/issues/{issue['number']}",
        **issue,
        "comments": comments,
        "author": {"id": "U_1", "is_bot": False, "login": login, "name": ""},
        "labels": [{"id": "L", "name": name, "color": "0"} for name in issue.get("labels", [])],
    }
    return {name: row.get(name, "") for name in known(fields, ISSUE_FIELDS, hub.version)}


def issue_list(hub: GitHub, call: Call) -> None:
    label = call.options.get("--label")
    if label is not None:
        if '"' in label and not label.startswith('"'):
            die(f'invalid argument "{label}" for "-l, --label" flag: bare \\" in non-quoted-field')
        (label,) = next(csv.reader([label], strict=True))
    found = [
        issue
        for issue in hub.state.get("issues", [])
        if issue.get("state", "OPEN").lower() == call.options.get("--state", "open")
        and (label is None or label.lower() in map(str.lower, issue.get("labels", [])))
    ]
    limit = int(call.options.get("--limit", "30"))
    rows = [issue_row(issue, hub, call.options["--json"]) for issue in found[::-1][:limit]]
    print(json.dumps(rows))


def find_issue(hub: GitHub, call: Call) -> dict[str, Any]:
    if len(call.words) != 1:
        die(f"accepts 1 arg(s), received {len(call.words)}")
    for issue in hub.state.get("issues", []):
        if str(issue["number"]) == call.words[0]:
            found: dict[str, Any] = issue
            return found
    die(
        "GraphQL: Could not resolve to an issue or pull request with the number of "
        f"{call.words[0]}. (repository.issue)"
    )


def issue_view(hub: GitHub, call: Call) -> None:
    if "--json" not in call.options and number(hub.version) < (2, 60):
        die("GraphQL: Projects (classic) is being deprecated (repository.issue.projectCards)")
    print(json.dumps(issue_row(find_issue(hub, call), hub, call.options["--json"])))


def issue_comment(hub: GitHub, call: Call) -> None:
    issue, body = find_issue(hub, call), call.body()
    if body is None:
        die("flags required when not running interactively")
    if not body.strip():
        die("GraphQL: Body cannot be blank (addComment)")
    if issue.get("locked"):
        die("GraphQL: Unable to create comment because issue is locked. (addComment)")
    issue.setdefault("comments", []).append({"author": {"login": hub.viewer}, "body": body})
    hub.save()
    if hub.state.get("die_after_comment"):
        die("error connecting to api.github.com")
    print(f"{hub.url}/issues/{issue['number']}#issuecomment-1")


def permission(hub: GitHub, login: str) -> None:
    """Answer what the REST interface says of an account (`permissions` by login; else read)."""
    if not hub.state.get("may_push", True):
        die("gh: Must have push access to view collaborator permission. (HTTP 403)")
    found = hub.state.get("permissions", {}).get(login, "read")
    if found == "unknown":
        die(f"gh: {login} is not a user (HTTP 404)")
    # `permission` has the base role; `old_permissions`: as servers that name the role itself.
    roles = {} if hub.state.get("old_permissions") else {"maintain": "write", "triage": "read"}
    base = roles.get(found, found)
    print(json.dumps({"permission": base, "role_name": found, "user": {"login": login}}))


def named(hub: GitHub, word: str) -> None:
    """Check the `[HOST/]OWNER/REPO` of a call, as gh and GitHub do."""
    parts = word.split("/")
    if len(parts) not in (2, 3) or not all(parts):
        die(f'expected the "[HOST/]OWNER/REPO" format, got "{word}"')
    host = parts[0] if len(parts) == 3 else os.environ.get("GH_HOST", "github.com")
    if host != hub.host:
        die(f"error connecting to {host}\ncheck your internet connection")
    if "/".join(parts[-2:]).lower() != hub.repo.lower():
        missing = "/".join(parts[-2:])
        die(f"GraphQL: Could not resolve to a Repository with the name '{missing}'. (repository)")


COMMANDS = {
    "api": api,
    "auth status": auth_status,
    "auth token": auth_token,
    "issue comment": issue_comment,
    "issue list": issue_list,
    "issue view": issue_view,
    "pr close": pr_close,
    "pr comment": pr_comment,
    "pr create": pr_create,
    "pr list": pr_list,
    "pr merge": pr_merge,
    "pr review": pr_review,
    "pr view": pr_view,
    "repo view": repo_view,
    "run view": run_view,
}


def main(words: list[str]) -> None:
    while GitHub(os.environ["FAKE_GH_STATE"]).state.get("hangs"):
        time.sleep(0.1)
    # Calls at the same time happen one after the other, as on the real one's servers.
    with open(os.environ["FAKE_GH_STATE"] + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        answer(words)


def answer(words: list[str]) -> None:
    hub = GitHub(os.environ["FAKE_GH_STATE"])
    if words == ["--version"]:
        print(f"gh version {hub.version} (2025-11-04)")
        return
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
    if hub.state.get("fails"):
        die(hub.state["fails"])
    if hub.state.get("says") is not None:
        print(hub.state["says"])
        return
    command = " ".join(words[:1] if words[0] == "api" else words[:2])
    if command not in COMMANDS:
        die(f'unknown command "{command}" for "gh"')
    call = Call(command, words[len(command.split()) :], hub.version)
    if "--repo" in call.options:
        named(hub, call.options["--repo"])
    elif command.startswith(("issue", "pr", "run")):
        remotes = subprocess.run(
            ("git", "config", "--get-regexp", r"^remote\..*\.url$"), capture_output=True, text=True
        )
        if hub.host not in remotes.stdout:
            die(
                "none of the git remotes configured for this repository point to a known GitHub "
                "host. To tell gh about a new GitHub host, please use `gh auth login`"
            )
    COMMANDS[command](hub, call)


if __name__ == "__main__":
    main(sys.argv[1:])
