"""After a run: is every acknowledged vote in the database, exactly once, under the number that its receipt named?"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks._vote_client import Acknowledged

QUERY = "SELECT idempotency_key, feedback_id FROM feedback"


@dataclass(frozen=True, slots=True)
class VoteCheck:
    """Counts. `lost`: acknowledged and not stored (or under another number); `doubled`: stored more than once;
    `unasked`: stored though nobody was told so."""

    acknowledged: int
    stored: int
    lost: int
    doubled: int
    unasked: int

    @property
    def clean(self) -> bool:
        """Nothing lost, nothing doubled."""
        return self.lost == 0 and self.doubled == 0


def check_votes(data: Path, acknowledged: Iterable[Acknowledged], url: str = "") -> VoteCheck:
    """Compare receipts with rows, reading the database as any program could, without the store's own code.

    `url` names a PostgreSQL; without it the store is the SQLite file in `data`.
    """
    return compare({receipt.vote.key: receipt.feedback_id for receipt in acknowledged}, stored_votes(data, url))


def stored_votes(data: Path, url: str = "") -> Iterator[tuple[str, int]]:
    """Yield key and number of every vote in the database."""
    if url:
        import psycopg

        with psycopg.connect(url) as postgres, postgres.cursor("votes") as cursor:
            yield from cursor.execute(QUERY)
        return
    with closing(sqlite3.connect(data / "thumbwise.db")) as database:
        yield from database.execute(QUERY)


def compare(receipts: Mapping[str, int], stored: Iterable[tuple[str, int]]) -> VoteCheck:
    """Hold receipts (key to number) against what is stored."""
    rows: dict[str, list[int]] = {}
    for key, feedback_id in stored:
        rows.setdefault(key, []).append(feedback_id)
    return VoteCheck(
        acknowledged=len(receipts),
        stored=sum(len(found) for found in rows.values()),
        lost=sum(feedback_id not in rows.get(key, ()) for key, feedback_id in receipts.items()),
        doubled=sum(len(found) > 1 for found in rows.values()),
        unasked=len(rows.keys() - receipts.keys()),
    )
