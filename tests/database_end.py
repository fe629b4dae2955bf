"""Stops the cluster that the tests of a run share, when the run has ended.

Run by path with `-I -S`. It waits for the process whose descriptor (pidfd_open(2)) is its standard
input. Its arguments are the cluster's folder, the user of the server ("" for this one), the words
of the command that stops it, and a word that makes room for other arguments.
"""

from __future__ import annotations

import select
import shutil
import subprocess
import sys

if __name__ == "__main__":
    folder, user, *words, _ = sys.argv[1:]
    select.select([0], [], [])
    subprocess.run(words, user=user or None, cwd="/", check=False)
    shutil.rmtree(folder, ignore_errors=True)
