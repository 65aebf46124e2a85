"""What a dashboard without an inbox of its own would ask of the database: lists and counts over replies and acts."""

import statistics
import time
from collections.abc import Mapping
from datetime import timedelta

from sqlalchemy import func, select, text

from feedback_store.connection import Connection
from feedback_store.review_schema import inbox, inbox_raters
from feedback_store.store import Store

_HOLDS = (
    "EXISTS (SELECT 1 FROM feedback f WHERE f.reply_id = r.reply_id AND f.kind = 'thumb' AND f.thumb = '{0}'"
    " AND NOT EXISTS (SELECT 1 FROM feedback g WHERE g.reply_id = f.reply_id AND g.rater_id = f.rater_id"
    " AND g.kind = 'thumb' AND g.feedback_id > f.feedback_id))"
)
_DOWN, _UP = _HOLDS.format("down"), _HOLDS.format("up")
_RATED = (
    "(EXISTS (SELECT 1 FROM feedback f WHERE f.reply_id = r.reply_id)"
    " OR EXISTS (SELECT 1 FROM feedback f WHERE f.comparison_id = r.comparison_id))"
)
CONDITIONS: Mapping[str, str] = {
    "inbox": "1 = 1",
    "thumbs down": _DOWN,
    "thumbs down of version 4 about a word": f"{_DOWN} AND r.policy_version = 4 AND r.text LIKE '%tax%'",
    "a word": "r.text LIKE '%warranty%'",
    "a common word": "r.text LIKE '%never%'",
    "disputed": f"{_DOWN} AND {_UP}",
    "corrections to decide": (
        "EXISTS (SELECT 1 FROM feedback f WHERE f.reply_id = r.reply_id AND f.kind = 'correction')"
    ),
}
"""Case → condition on a reply `r`."""


def facts(connection: Connection) -> dict[str, str]:
    """What the addresses name: a reply in the middle, the days around it, somebody who rated, and who did most."""
    count = connection.execute(select(func.count()).select_from(inbox)).scalar_one()
    middle = connection.execute(select(inbox).order_by(inbox.c.created_at).offset(count // 2).limit(1)).mappings().one()
    rated = select(inbox_raters.c.rater_id).group_by(inbox_raters.c.rater_id)
    raters = connection.execute(rated.order_by(func.count().desc())).scalars().all()
    at = middle["created_at"]
    return {
        "middle": middle["reply_id"], "rater": raters[len(raters) // 2], "busiest": raters[0],
        "since": (at - timedelta(days=5)).date().isoformat(), "until": (at + timedelta(days=5)).date().isoformat(),
    }  # fmt: skip


def peer_times(store: Store, repeats: int) -> dict[str, tuple[float, float]]:
    """Milliseconds of each condition's list and count: half within, 95 % within."""
    found = {}
    for case, condition in CONDITIONS.items():
        store.read(_ask, condition)
        taken = []
        for _ in range(repeats):
            begun = time.perf_counter()
            store.read(_ask, condition)
            taken.append(1000 * (time.perf_counter() - begun))
        taken.sort()
        found[case] = (round(statistics.median(taken), 1), round(taken[int(len(taken) * 0.95)], 1))
    return found


def _ask(connection: Connection, condition: str) -> None:
    where = f"{_RATED} AND {condition}"
    newest = f"SELECT r.* FROM replies r WHERE {where} ORDER BY r.created_at DESC, r.reply_id DESC LIMIT 51"
    connection.execute(text(newest)).all()
    connection.execute(text(f"SELECT count(*) FROM replies r WHERE {where}")).all()
