"""Words that a host takes, so that no other host does the same: who tells a person what."""

from collections.abc import Sequence

from orchestrator.database.session import Session

#: Days for which it is known who told a person what.
TAKEN_DAYS = 62


def take(session: Session, host: str, words: Sequence[str]) -> Sequence[str]:
    """Return those of the words that no other host has, and give them to this one."""
    with session.transaction():
        session.rows(
            "DELETE FROM orchestrator_taken WHERE at < now() - %s * interval '1 day'", TAKEN_DAYS
        )
        found = session.rows(
            "INSERT INTO orchestrator_taken AS known (word, host)"
            " SELECT DISTINCT unnest(%s::text[]), %s ON CONFLICT (word) DO UPDATE SET at = now()"
            " WHERE known.host = excluded.host RETURNING word",
            *([*words], host),
        )
    return [word for (word,) in found]


def give_back(session: Session, words: Sequence[str]) -> None:
    with session.transaction():
        session.rows("DELETE FROM orchestrator_taken WHERE word = ANY(%s)", [*words])
