"""Pull requests in a benchmark's project, as runs leave them: a task, a record, a pushed branch."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from benchmarks.report import Broken
from benchmarks.scratch import Project, git
from orchestrator.model.work import PullRequest
from orchestrator.system import files, records

_TASK = """# [{task}] Finished task

ROLE: implement
CREATED: 2026-01-01T00:00:00Z

<!-- orchestrator:history -->
## History
- 2026-01-01T00:01:00Z claimed {{"agent": "impl-1", "run": "{run}", "branch": "{branch}"}}
- 2026-01-01T00:02:00Z done {{"run": "{run}", "summary": "measured", "pr": "{number}"}}
"""
#: A commit with one more file, for `git fast-import`.
_WORK = """commit refs/heads/{branch}
committer bench <bench@localhost> 1767225600 +0000
data 4
work
from {cut}
M 100644 inline part0/added{number}.txt
data 5
work

"""


class Delivered:
    """The pull requests of one project. Each adds a file of its own to the first commit."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self.cut = git(project.root, "rev-parse", "HEAD")
        #: The number of the newest branch, and of its pull request.
        self.number = 0

    def push(self) -> tuple[str, str]:
        """Push one more branch; return its name and its commit."""
        self.number += 1
        root, branch = self._project.root, f"agent/TASK-{self.number:08x}-measured"
        stream = _WORK.format(branch=branch, cut=self.cut, number=self.number)
        words = ("git", "fast-import", "--quiet")
        if subprocess.run(words, cwd=root, input=stream.encode()).returncode:
            raise Broken("the commit of a pull request could not be made")
        git(root, "push", "--quiet", "origin", branch)
        return branch, git(root, "rev-parse", branch)

    def open(self) -> str:
        """Have one more open pull request; return its head."""
        branch, head = self.push()
        number, layout = self.number, self._project.layout
        task, run = f"TASK-{number:08x}", f"20260101T{number:06}Z-{number:06x}"
        text = _TASK.format(task=task, run=run, branch=branch, number=number)
        Path(layout.state("done"), f"{task}.md").write_text(text)
        pr = PullRequest(str(number), task, branch, "main", head, "Measured", "open")
        row = records.plain(pr)
        assert isinstance(row, dict)
        files.make_folder(layout.prs)
        Path(layout.prs, f"{number}.json").write_text(json.dumps({**row, "body": "measured"}))
        return head
