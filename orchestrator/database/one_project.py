"""Whose queue a schema holds: the project's, by the first commits of its history.

Each whole clone of a repository has these commits, whatever the address of its remote is. A shallow
clone begins with others: it asks its remote for those of the queue. A shallow clone whose remote
gives no answer, and a repository without commits, are not compared.
"""

from collections.abc import Sequence

from orchestrator.database.session import Session
from orchestrator.model.errors import StoreFault


class OtherProject(StoreFault):
    """The queue is that of another repository: its tasks mean nothing here."""

    code = "other_project"

    def __init__(self, shown: str, theirs: str, own: str) -> None:
        message = (
            f"the queue in {shown} belongs to another project: its history begins with "
            f"{theirs[:12]}, that of this repository with {own[:12]}"
        )
        hint = (
            "name another schema in `store`: ?options=-csearch_path%3DNAME; or, if this is the "
            "same project, with a rewritten history: orchestrator hosts adopt"
        )
        super().__init__(message, hint)


def require(session: Session, theirs: Sequence[str], project: Sequence[str]) -> None:
    """Raise OtherProject if a queue is not the project's.

    `theirs` are the first commits that the queue has; `project` are those of this repository. They
    must have one in common, unless one of the two is not known.
    """
    if theirs and project and set(theirs).isdisjoint(project):
        raise OtherProject(session.shown, theirs[0], project[0])


def note(session: Session, project: Sequence[str]) -> None:
    """Note whose queue it is, unless a host has told that before. Raises OtherProject.

    To be called in a transaction.
    """
    theirs = known(session)
    require(session, theirs, project)
    if project and not theirs:
        session.rows("UPDATE orchestrator_schema SET project = %s", " ".join(project))


def adopt(session: Session, project: Sequence[str]) -> None:
    """Let hosts whose history begins with these commits work with the queue, too."""
    with session.transaction():
        both = dict.fromkeys((*project, *known(session)))
        session.rows("UPDATE orchestrator_schema SET project = %s", " ".join(both) or None)


def known(session: Session) -> list[str]:
    """Return the first commits that the queue has; [] if no host has told them."""
    # Tables of an earlier version have no such column.
    query = "SELECT to_jsonb(known) ->> 'project' FROM orchestrator_schema AS known"
    return next((row[0] or "" for row in session.rows(query)), "").split()
