"""Erasures as rows: nothing of whom, only that one happened, what had learnt from it, and whether the files are clean.

The number rises with each. Whoever keeps texts outside the database (a round's folder) remembers the newest number that
its copy knows of, and looks again when there is a newer one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, func, insert, select, update

from feedback_store.errors import NotFound
from feedback_store.schema import erasures, feedback, now, replies

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ErasureRow:
    """An erasure that was done."""

    erasure_id: int
    at: datetime
    versions: list[int]
    """Versions that had been trained on something of whoever was erased."""
    overwritten_at: datetime | None
    """When what was deleted had been overwritten in the database's files; None: not yet."""


def note_erasure(connection: Connection, versions: list[int]) -> int:
    """Write down that somebody was erased, in the erasure's own transaction, and return its number."""
    values = {"at": now(), "versions": versions}
    key = connection.execute(insert(erasures), values).inserted_primary_key
    return int(key[0]) if key else 0


def newest_erasure(connection: Connection) -> int:
    """Return the newest erasure's number; 0 when nobody was ever erased."""
    return connection.execute(select(func.max(erasures.c.erasure_id))).scalar() or 0


def not_overwritten(connection: Connection) -> list[int]:
    """Return the erasures whose texts may still stand in the database's files."""
    query = select(erasures.c.erasure_id).where(erasures.c.overwritten_at.is_(None))
    return list(connection.execute(query.order_by(erasures.c.erasure_id)).scalars())


def note_overwritten(connection: Connection, numbers: list[int]) -> None:
    """Write down that nothing of these erasures is left in the database's files."""
    done = erasures.c.erasure_id.in_(numbers) & erasures.c.overwritten_at.is_(None)
    connection.execute(update(erasures).where(done).values(overwritten_at=now()))


def get_erasure(connection: Connection, erasure_id: int) -> ErasureRow:
    """Return the erasure. Raises NotFound."""
    row = connection.execute(select(erasures).where(erasures.c.erasure_id == erasure_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no erasure {erasure_id}")
    return ErasureRow(**row)


def emptied_replies(connection: Connection, reply_ids: Sequence[str]) -> set[str]:
    """Return which of these replies have no text any more."""
    kept: set[str] = set()
    for part in _parts(reply_ids):
        query = select(replies.c.reply_id).where(replies.c.reply_id.in_(part), replies.c.text.is_not(None))
        kept.update(connection.execute(query).scalars())
    return set(reply_ids) - kept


def deleted_acts(connection: Connection, feedback_ids: Sequence[int]) -> set[int]:
    """Return which of these acts are not there any more."""
    kept: set[int] = set()
    for part in _parts(feedback_ids):
        kept.update(
            connection.execute(select(feedback.c.feedback_id).where(feedback.c.feedback_id.in_(part))).scalars()
        )
    return set(feedback_ids) - kept


def _parts(items: Sequence[T]) -> list[Sequence[T]]:
    return [items[start : start + 500] for start in range(0, len(items), 500)]
