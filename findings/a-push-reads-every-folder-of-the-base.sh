#!/usr/bin/env bash
# Version: git 2.39.5.
# What one would guess: to push a merge of two small changes takes as long in a repository of 50,000
# files as in one of 10,000: both sides know from the folders' ids that nothing else has changed.
# What happens: the receiving git asks `git rev-list --objects NEW --not --all` whether the new
# commits are whole, and that command first reads every folder of the commits that it has already
# (`mark_edges_uninteresting` in list-objects.c). No setting turns the question off, a commit-graph
# has no folders in it, and bitmaps are not used for it. Besides, the folder with a changed entry is
# read, packed and written as a whole: that grows with the entries of one folder, not with the files.
# So a landing takes more CPU time in a larger repository, with git alone as with the product, if its
# remote is a folder on this machine. A remote elsewhere does the first part there.
#
# Seen on 2026-11-30, CPU time in ms (median of 8) at 10,000 and at 50,000 files, by layout:
#                    merge-tree  pack-objects  unpack-objects  rev-list     whole landing
#   10 per folder     4   10       4   14          3    6        7   24        30    64
#   deep, 10 each     4    3       3    3          3    3        7   22        28    46
#   500 per folder    3    3       3    3          3    3        7   16        27    37
#   one folder       17   88      14   71          9   37        9   34        62   244
# Without deltas and compression (pack.window=0, pack.compression=0), pack-objects takes 12 instead
# of 15 ms in the first layout at 50,000 files, and sends 170 KB instead of 0.3.
# Exit code 1 if `rev-list` does not grow in a layout with few entries per folder. Needs Python 3.9.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_SYSTEM=/dev/null
export GIT_{AUTHOR,COMMITTER}_NAME=a GIT_{AUTHOR,COMMITTER}_EMAIL=a@localhost
python3 - "$folder" <<'PYTHON'
import os, resource, shutil, statistics, subprocess, sys

FOLDER, ROUNDS, SIZES = sys.argv[1], 8, (10_000, 50_000)
LAYOUTS = {
    "10 per folder": lambda n: f"part{n // 10}/{n}.py",
    "deep, 10 each": lambda n: f"a{n // 5000}/b{n // 500}/c{n // 50}/d{n // 10}/{n}.py",
    "500 per folder": lambda n: f"part{n // 500}/{n}.py",
    "one folder": lambda n: f"all/{n}.py",
}
STEPS = ("merge-tree", "pack-objects", "unpack-objects", "rev-list", "whole landing")


def git(where, *words, given="", **variables):
    """Return what git prints, and the milliseconds of CPU time that it took."""
    data = given if isinstance(given, bytes) else given.encode()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        ("git", *words), cwd=where, input=data, stdout=subprocess.PIPE, check=True,
        env={**os.environ, **variables},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return done.stdout, spent * 1e3


def said(*words, **options):
    return git(*words, **options)[0].decode().strip()


def commit(branch, start, files):
    head = f"commit refs/heads/{branch}\ncommitter a <a@localhost> 1767225600 +0000\ndata 1\nx\n"
    rows = "".join(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n" for name, text in files)
    return head + (f"from {start}\n" if start else "") + rows + "\n"


class Side:
    def __init__(self, number, layout, size):
        self.name, self.here = LAYOUTS[layout], os.path.join(FOLDER, str(number))
        self.remote = os.path.join(self.here, "remote.git")
        git(FOLDER, "init", "-q", "-b", "main", self.here)
        git(FOLDER, "init", "-q", "--bare", "-b", "main", self.remote)
        files = [(self.name(n), f"def f() -> int: return {n}") for n in range(size)]
        git(self.here, "fast-import", "--quiet", given=commit("main", "", files))
        git(self.here, "push", "-q", self.remote, "main")
        self.cut = self.base = said(self.here, "rev-parse", "main")
        self.spent = []

    def land(self, number):
        new = os.path.join(os.path.dirname(self.name(0)), f"new{number}")
        branch = commit(f"b{number}", self.cut, [(new, "new")])
        git(self.here, "fast-import", "--quiet", given=branch)
        git(self.here, "push", "-q", self.remote, f"b{number}")
        head = said(self.here, "rev-parse", f"b{number}")
        tree, merging = git(self.here, "merge-tree", "--write-tree", self.base, head)
        words = ("commit-tree", tree.decode().strip(), "-p", self.base, "-p", head, "-m", "Merge")
        made, committing = git(self.here, *words)
        made = made.decode().strip()
        words = ("pack-objects", "--revs", "--stdout", "--thin", "--delta-base-offset", "-q")
        pack, packing = git(self.here, *words, given=f"{made}\n^{self.base}\n^{head}\n")
        # As a receiving git does it: in a folder beside the objects that it has.
        objects = os.path.join(self.remote, "objects")
        beside = os.path.join(self.here, "beside")
        os.makedirs(os.path.join(beside, "pack"))
        there = {"GIT_OBJECT_DIRECTORY": beside, "GIT_ALTERNATE_OBJECT_DIRECTORIES": objects}
        _, unpacking = git(self.remote, "unpack-objects", "-q", given=pack, **there)
        words = ("rev-list", "--objects", "--stdin", "--not", "--all", "--quiet")
        _, listing = git(self.remote, *words, given=f"{made}\n", **there)
        shutil.rmtree(beside)
        _, pushing = git(self.here, "push", "-q", self.remote, f"{made}:refs/heads/main")
        self.base = made
        whole = merging + committing + pushing
        self.spent.append((merging, packing, unpacking, listing, whole))

    def median(self, step):
        return statistics.median(each[step] for each in self.spent[1:])


pairs = [(layout, size) for layout in LAYOUTS for size in SIZES]
sides = {pair: Side(number, *pair) for number, pair in enumerate(pairs)}
for number in range(ROUNDS + 1):
    for side in sides.values():
        side.land(number)
print(said(FOLDER, "--version"))
for layout in LAYOUTS:
    small, large = (sides[layout, size] for size in SIZES)
    figures = ((name, small.median(n), large.median(n)) for n, name in enumerate(STEPS))
    print(f"{layout}:", ", ".join(f"{name} {a:.0f} -> {b:.0f}" for name, a, b in figures))
listing = STEPS.index("rev-list")
small, large = (sides["500 per folder", size].median(listing) for size in SIZES)
sys.exit(large < 1.5 * small)
PYTHON
