"""Shows the product's reviews at a pull request on GitHub: each once, as a review or a comment."""

from __future__ import annotations

from hashlib import sha256

from orchestrator.model.errors import NotFound
from orchestrator.model.work import Given, PullRequest
from orchestrator.pulls import github_rows
from orchestrator.pulls.gh import Gh, Refusal
from orchestrator.text import quoting

#: The most characters of a text on GitHub, less those of a mark.
LONGEST = 65_000


def post(gh: Gh, pr: PullRequest, review: Given) -> str | None:
    """Post a review, unless it was posted before a crash; return GitHub's refusal, if it refuses.

    A conversation can be locked for the account: the next try would be refused, too. Raises
    SystemFault.
    """
    try:
        _post(gh, pr, review)
    except (Refusal, NotFound) as error:
        return error.message
    return None


def _post(gh: Gh, pr: PullRequest, review: Given) -> None:
    fields = gh.json("pr", "view", pr.id, "--json", "headRefName,headRefOid,reviews,comments")
    if github_rows.at(fields, "headRefName") != pr.branch:
        raise NotFound("pull request", pr.id)  # another repository gave its number to this one
    mark, text = _marked(pr, review)
    names = ("reviews", "comments")
    posted = [each for name in names for each in github_rows.rows_of(fields, name)]
    if any(mark in str(each.get("body")) for each in posted):
        return
    if github_rows.at(fields, "headRefOid") == review.commit:
        verb = "--approve" if review.verdict == "approved" else "--request-changes"
        try:
            gh.run("pr", "review", pr.id, verb, "--body-file", "-", stdin=text)
            return
        except Refusal:
            # GitHub refuses a review of one's own pull request, and then takes a comment.
            pass
    gh.run("pr", "comment", pr.id, "--body-file", "-", stdin=text)


def _marked(pr: PullRequest, review: Given) -> tuple[str, str]:
    """Return the mark of a review, and its text on GitHub, which has the mark."""
    commit, word = review.commit or pr.head, review.verdict.replace("_", " ")
    facts = "\0".join((review.by, review.verdict, commit, review.text))
    mark = f"{github_rows.POSTED}{sha256(facts.encode(errors='replace')).hexdigest()[:16]} -->"
    said = f"Review of {commit[:12]} by {review.by}: **{word}**\n\n{review.text}"
    return mark, f"{quoting.clipped(said, LONGEST)}\n\n{mark}"
