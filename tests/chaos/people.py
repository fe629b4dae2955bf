"""What people do in a storm: at the queue, the configuration, pull requests, branches, their files.

Each function is named after its deed, does it, and returns what was done. A command may be refused;
it may not meet a bug.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import harness
from harness import append

from chaos.deeds import Deed
from chaos.faults import Faults
from chaos.project import MOST_CLAIMED, Project

#: What a person writes into agents.yaml by mistake.
MISTAKES = ("agents: [\n", "pausd: true\n", "", "agents: 7\n", "\0")
READING = (
    ("status",),
    ("doctor",),
    ("agent", "list"),
    ("pr", "list"),
    ("task", "list"),
    ("clean", "--dry-run"),
    ("tick", "--dry-run"),
)


class People:
    """A person at the project, and a colleague at the remote."""

    def __init__(self, project: Project, faults: Faults) -> None:
        self.project, self.world, self.faults = project, project.world, faults
        self.number = 0

    def play(self, deed: Deed) -> str:
        """Do a deed; return what was done."""
        self.number = deed.number
        return str(getattr(self, deed.kind)(deed))

    # --- the queue ---

    def task_of(self, deed: Deed, *states: str) -> str:
        places = self.project.moment().places
        found = sorted(task for state in states for task in places[state])
        return deed.of(found) if found else "TASK-00000001"

    def add_task(self, deed: Deed) -> str:
        known = sorted(self.project.known)
        depends_on = deed.way(known) if known and deed.how < 0.25 else ""
        task = self.project.add_task(deed.pick, depends_on)
        return f"task {task}" + (f" after {depends_on}" if depends_on else "")

    def edit_task(self, deed: Deed) -> str:
        task = self.task_of(deed, "incoming", "claimed", "blocked")
        title = f"title=Edited by deed {deed.number}"
        words = deed.way(
            (*(f"priority=P{n}" for n in range(4)), title, "role=test", "role=implement")
        )
        return self.project.command("task", "set", task, words)

    def retry_task(self, deed: Deed) -> str:
        return self.project.command("task", "retry", self.task_of(deed, "failed", "blocked"))

    def cancel_task(self, deed: Deed) -> str:
        states = ("claimed", "blocked") if deed.how < 0.7 else ("incoming", "done")
        return self.project.command("task", "cancel", self.task_of(deed, *states))

    def move_task(self, deed: Deed) -> str:
        task = self.task_of(deed, "claimed", "failed")
        return self.project.command("task", "move", task, "incoming", "--force")

    # --- agents and configuration ---

    def agents(self) -> list[str]:
        return [str(agent["name"]) for agent in self.project.configuration()["agents"]]

    def agent_of(self, deed: Deed) -> str:
        return deed.of(self.agents())

    def pause_agent(self, deed: Deed) -> str:
        return self.project.command("agent", "pause", self.agent_of(deed))

    def resume_agents(self, _deed: Deed) -> str:
        return self.project.command("agent", "resume", *self.agents())

    def pause_all(self, _deed: Deed) -> str:
        return self.project.command("agent", "pause", "--all")

    def resume_all(self, _deed: Deed) -> str:
        return self.project.command("agent", "resume", "--all")

    def stop_agent(self, deed: Deed) -> str:
        return self.project.command("stop", self.agent_of(deed))

    def run_agent(self, deed: Deed) -> str:
        more = ("--fresh",) if deed.how < 0.3 else ()
        return self.project.command("run", self.agent_of(deed), *more)

    def set_limits(self, deed: Deed) -> str:
        most = 2 + int(deed.pick * (MOST_CLAIMED - 1))
        return self.project.command("limits", "set", f"max_claimed={most}")

    def break_configuration(self, deed: Deed) -> str:
        mistake = deed.of(MISTAKES)
        with contextlib.suppress(OSError):
            self.world.write_config(mistake)
        self.faults.lasts(deed, self.write_configuration)
        return f"agents.yaml is {mistake!r}"

    def write_configuration(self, *, adds: bool = True) -> None:
        """Write a good agents.yaml; on a full or read-only disk, a later call does it."""
        with contextlib.suppress(OSError):
            self.world.configure(**self.project.configuration(adds=adds))

    # --- what waits for a person ---

    def rows(self, *words: str) -> list[dict[str, Any]]:
        """Return the rows of a listing; none while it is refused."""
        found = self.project.ask(*words)
        return found if isinstance(found, list) else []

    def answer(self, deed: Deed) -> str:
        asked = [row["id"] for row in self.rows("inbox") if row["kind"] == "question"]
        if not asked:
            return "nobody asks"
        return self.project.command("inbox", "answer", deed.of(asked), "The first.")

    def pull_request(self, deed: Deed) -> str:
        found = [pr["id"] for pr in self.rows("pr", "list") if pr["state"] == "open"]
        return deed.of(found) if found else ""

    def _at_a_pull_request(self, deed: Deed, verb: str, *more: str) -> str:
        pr = self.pull_request(deed)
        return self.project.command("pr", verb, pr, *more) if pr else "no pull request is open"

    def approve(self, deed: Deed) -> str:
        if deed.how < 0.5:
            return self._at_a_pull_request(deed, "approve")
        pr = self.pull_request(deed)
        return self.project.command("inbox", "approve", f"pr:{pr}") if pr else "none is open"

    def request_changes(self, deed: Deed) -> str:
        return self._at_a_pull_request(deed, "request-changes", "Shorter, please.")

    def merge(self, deed: Deed) -> str:
        return self._at_a_pull_request(deed, "merge")

    def close(self, deed: Deed) -> str:
        return self._at_a_pull_request(deed, "close")

    # --- a colleague at the remote ---

    def _colleague(self, *words: str) -> str:
        return self.world.git(*words, cwd=self.project.colleague, good=False)

    def _branch(self, deed: Deed) -> str:
        """Return a branch of an agent at the remote, fetched now; "" if there is none."""
        self._colleague("fetch", "-q", "--prune", "origin")
        listed = self._colleague(
            "for-each-ref", "--format=%(refname:lstrip=3)", "refs/remotes/origin/agent/"
        )
        return deed.of(sorted(listed.split())) if listed else ""

    def _change(self, name: str, text: str) -> None:
        append(self.project.colleague / name, text)
        self._colleague("add", "-A")
        self._colleague("commit", "-q", "-m", f"a colleague's, deed {self.number}")

    def _push(self, branch: str, *words: str) -> str:
        """Push the colleague's HEAD; a commit that arrives is one that nobody may lose."""
        if branch == "main" and "rename_base" in self.faults.active:
            return "the base has another name"
        head = self.world.sha("HEAD", cwd=self.project.colleague)
        where = f"HEAD:refs/heads/{branch}"
        self._colleague("push", "-q", *words, "origin", where)
        if not head or self._there(branch) != head:
            return f"the push to {branch} was refused"
        self.project.note_commit(head, f"a colleague on {branch}", self.project.colleague)
        self._github_notices()
        return f"{branch} is at {head[:10]}"

    def _there(self, branch: str) -> str:
        """Return the commit of a branch at the remote, also while that is out of reach; "": none"""
        return self.world.sha(f"refs/heads/{branch}", cwd=self.project.hub)

    def _github_notices(self) -> None:
        """Let the stand-in do what GitHub does after a push: close what has no branch any more, and
        call merged what the base reaches."""
        if not self.project.setting.github:
            return
        with self.project.github() as state:
            for pr in state["prs"]:
                tip = self._there(pr["headRefName"])
                in_base = ("rev-list", "--max-count=1", tip, "--not", "main")
                if pr["state"] == "OPEN" and not tip:
                    pr["state"] = "CLOSED"
                elif pr["state"] == "OPEN" and not self.world.git(*in_base, cwd=self.project.hub):
                    pr["state"] = "MERGED"

    def _forget(self, branch: str) -> None:
        """Give up the colleague's own commits on a branch that the colleague replaces."""
        by = f"a colleague on {branch}"
        kept = {sha: each for sha, each in self.project.commits.items() if each.by != by}
        self.project.commits = kept

    def push_fix_up(self, deed: Deed) -> str:
        branch = self._branch(deed)
        if not branch:
            return "no branch is there"
        self._colleague("checkout", "-q", "--detach", f"origin/{branch}")
        self._change("fix-up.txt", f"{deed.number}\n")
        return self._push(branch)

    def rebase_branch(self, deed: Deed) -> str:
        branch = self._branch(deed)
        if not branch:
            return "no branch is there"
        self._colleague("checkout", "-q", "--detach", f"origin/{branch}")
        self._colleague("rebase", "-q", "-X", "theirs", "origin/main")
        self._colleague("rebase", "--abort")
        self._colleague("commit", "-q", "--amend", "-m", f"reworded, deed {deed.number}")
        self._forget(branch)
        return self._push(branch, "--force")

    def merge_by_hand(self, deed: Deed) -> str:
        branch = self._branch(deed)
        if not branch:
            return "no branch is there"
        self._colleague("checkout", "-q", "--detach", "origin/main")
        way = deed.way(("--no-ff", "--squash", "--no-ff"))
        self._colleague(
            "merge", "-q", way, "-m", f"by hand, deed {deed.number}", f"origin/{branch}"
        )
        if way == "--squash":
            self._colleague("commit", "-q", "-m", f"by hand, deed {deed.number}")
        self._colleague("reset", "-q", "--hard")
        return f"{branch} by hand ({way}): {self._push('main')}"

    def delete_branch(self, deed: Deed) -> str:
        branch = self._branch(deed)
        if not branch:
            return "no branch is there"
        self._forget(branch)
        self._colleague("push", "-q", "origin", f":refs/heads/{branch}")
        self._github_notices()
        return f"{branch} is deleted at the remote"

    def push_to_base(self, deed: Deed) -> str:
        self._colleague("fetch", "-q", "origin")
        self._colleague("checkout", "-q", "--detach", "origin/main")
        self._change("app.py" if deed.how < 0.4 else "base.txt", f"# {deed.number}\n")
        return self._push("main")

    # --- the person's own checkout and repository ---

    def _own(self, act: Callable[[], object]) -> None:
        """Let the person change something of their own, and look before whether all is theirs."""
        if {"fill_disk", "disk_read_only"} & self.faults.active.keys():
            return
        self.project.assert_checkout_is_untouched()
        act()
        self.project.human = self.project.of_the_human()

    def edit_checkout(self, deed: Deed) -> str:
        root, git = self.world.root, self.world.git
        text = f"{deed.number}\n"
        deeds = {
            "an edit": lambda: append(root / "README.md", text),
            "a new file": lambda: (root / f"new-{deed.number}.txt").write_text(text),
            "something staged": lambda: (
                append(root / "staged.txt", text),
                git("add", "staged.txt", good=False),
            ),
            "a commit": lambda: (
                append(root / "own.txt", text),
                git("add", "own.txt", good=False),
                git("commit", "-q", "-m", "own", "--", "own.txt", good=False),
            ),
            "a stash": lambda: (
                append(root / "README.md", text),
                git("stash", "push", "-q", "README.md", good=False),
            ),
        }
        name = deed.of(sorted(deeds))
        self._own(deeds[name])
        return name

    def git_gc(self, _deed: Deed) -> str:
        self._own(lambda: self.world.git("gc", "-q", good=False))
        return "git gc"

    def git_prune(self, _deed: Deed) -> str:
        self._own(lambda: self.world.git("prune", "--expire=30.seconds.ago", good=False))
        return "git prune"

    def git_repack(self, deed: Deed) -> str:
        words = deed.way((("repack", "-Adq"), ("pack-refs", "--all"), ("repack", "-q")))
        self._own(lambda: self.world.git(*words, good=False))
        return f"git {words[0]}"

    def git_tidy(self, deed: Deed) -> str:
        words = (
            *(("worktree", "prune"), ("reflog", "expire", "--expire=now", "--all")),
            *(("fetch", "-q", "--all", "--prune"), ("remote", "prune", "origin")),
        )
        self._own(lambda: self.world.git(*deed.way(words), good=False))
        return f"git {' '.join(deed.way(words))}"

    def own_branch(self, deed: Deed) -> str:
        """Let the person work on a branch, reword a commit, rebase, or go back to main."""
        words = (
            *(("checkout", "-q", "-b", f"own-{deed.number}"), ("checkout", "-q", "main")),
            *(("commit", "-q", "--amend", "-m", f"reworded {deed.number}"),),
            *(("rebase", "-q", "--autostash", "-X", "theirs", "origin/main"),),
            *(("checkout", "-q", "--detach"), ("branch", "-m", "main", f"main-{deed.number}")),
        )
        chosen = deed.way(words)
        self._own(lambda: self.world.git(*chosen, good=False))
        return f"git {' '.join(chosen)}"

    def look(self, deed: Deed) -> str:
        task = self.task_of(deed, *harness.STATES)
        words = deed.way((*READING, ("explain", task), ("task", "show", task), ("inbox",)))
        return self.project.command(*words)

    def clean(self, _deed: Deed) -> str:
        return self.project.command("clean")
