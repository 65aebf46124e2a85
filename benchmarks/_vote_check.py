"""After a run: is every acknowledged vote in the database, exactly once, under the number that its receipt named?"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks._vote_client import Acknowledged


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


def check_votes(data: Path, acknowledged: Iterable[Acknowledged]) -> VoteCheck:
    """Compare receipts with rows, reading the file as any program could, without the store's own code."""
    receipts = {receipt.vote.key: receipt.feedback_id for receipt in acknowledged}
    rows: dict[str, list[int]] = {}
    with closing(sqlite3.connect(data / "thumbwise.db")) as database:
        for key, feedback_id in database.execute("SELECT idempotency_key, feedback_id FROM feedback"):
            rows.setdefault(key, []).append(feedback_id)
    return VoteCheck(
        acknowledged=len(receipts),
        stored=sum(len(found) for found in rows.values()),
        lost=sum(feedback_id not in rows.get(key, ()) for key, feedback_id in receipts.items()),
        doubled=sum(len(found) > 1 for found in rows.values()),
        unasked=len(rows.keys() - receipts.keys()),
    )
