"""Prompts of real conversations to which further replies may be drawn, for people to rank.

Only what people let us keep: the reply's text is kept, its rater has not taken consent back and is not in quarantine,
no operator excluded it. Candidates drawn for it belong to that same person: they leave with them. Nor of channels that
are held back (no round may learn from what people write there): a candidate's prompt would be their words again.
"""

import json
from collections.abc import Container

from sqlalchemy import Connection, select

from feedback_store.annotation_queues import CANDIDATES_CHANNEL
from feedback_store.errors import NotFound
from feedback_store.records import Reply
from feedback_store.replies import recent_replies, trainable_replies
from feedback_store.review_schema import reply_reviews
from feedback_store.schema import raters

_LOOKED_THROUGH = 5_000
"""The newest replies that are looked through."""


def candidate_prompts(connection: Connection, limit: int, held_back: Container[str] = ()) -> list[Reply]:
    """Return replies whose prompts may be used, the newest first, each prompt once."""
    recent = [reply.reply_id for reply in recent_replies(connection, _LOOKED_THROUGH)]
    usable = _usable(connection, recent)
    found: dict[str, Reply] = {}
    for name in recent:
        reply = usable.get(name)
        if reply is not None and not reply.channel.startswith(CANDIDATES_CHANNEL) and reply.channel not in held_back:
            found.setdefault(json.dumps(reply.messages), reply)
        if len(found) == limit:
            break
    return list(found.values())


def prompt_of_reply(connection: Connection, reply_id: str, held_back: Container[str] = ()) -> Reply:
    """Return a reply whose prompt may be used. Raises NotFound."""
    found = _usable(connection, [reply_id])
    if reply_id not in found or found[reply_id].channel in held_back:
        raise NotFound(
            f"no reply {reply_id!r} whose prompt may be used: its text is not kept, was withdrawn, or is held back"
        )
    return found[reply_id]


def _usable(connection: Connection, reply_ids: list[str]) -> dict[str, Reply]:
    kept = trainable_replies(connection, reply_ids)
    excluded = select(reply_reviews.c.reply_id).where(reply_reviews.c.excluded.is_(True))
    left_out = set(connection.execute(excluded).scalars())
    suspected = select(raters.c.rater_id).where(raters.c.quarantined.is_(True))
    quarantined = set(connection.execute(suspected).scalars())
    return {name: reply for name, reply in kept.items() if name not in left_out and reply.rater_id not in quarantined}
