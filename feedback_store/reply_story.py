"""Everything about one reply: its conversation, who said what of it, what was learnt from that, what operators did."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from feedback_store.errors import NotFound
from feedback_store.feedback import history
from feedback_store.inbox import Said, said_of
from feedback_store.records import Comparison, Feedback, Reply, Split
from feedback_store.replies import conversation_replies, get_comparison, get_reply, replies_by_id
from feedback_store.review import Approval, ReviewAct, acts_on
from feedback_store.review_schema import feedback_reviews, reply_reviews
from feedback_store.schema import raters, round_selection

MOST_TURNS = 200
"""Replies of one conversation that are read."""


@dataclass(frozen=True, slots=True)
class JudgedFeedback:
    """An act of feedback with what holds of it."""

    entry: Feedback
    said: Said | None
    """What it says of this reply."""
    holds: bool
    """False: the same rater said something else later."""
    quarantined: bool
    excluded: bool
    approval: Approval | None
    revision: int
    """The last review act on it, 0 before any."""
    learnt_in: tuple[tuple[int, Split], ...]
    """The rounds that had it in their selection, and on which side."""


@dataclass(frozen=True, slots=True)
class ReplyStory:
    """A reply, and around it."""

    reply: Reply
    flagged: bool
    excluded: bool
    revision: int
    siblings: tuple[Reply, ...]
    """The other replies of its comparison, in the order in which they were shown."""
    comparison: Comparison | None
    conversation: tuple[Reply, ...]
    """The replies of its conversation, oldest first, itself included."""
    feedback: tuple[JudgedFeedback, ...]
    """Newest first."""
    acts: tuple[ReviewAct, ...]
    """What operators did, newest first."""


def reply_story(connection: Connection, reply_id: str) -> ReplyStory:
    """Read all of it. Raises NotFound."""
    reply = get_reply(connection, reply_id)
    query = select(reply_reviews).where(reply_reviews.c.reply_id == reply_id)
    review = connection.execute(query).one_or_none()
    entries = history(connection, reply_id=reply_id)
    comparison = None
    siblings: list[Reply] = []
    if reply.comparison_id is not None:
        entries += history(connection, comparison_id=reply.comparison_id)
        siblings, comparison = _siblings(connection, reply)
    turns = [] if reply.conversation_id is None else conversation_replies(connection, reply.conversation_id)
    return ReplyStory(
        reply=reply,
        flagged=review is not None and review.flagged,
        excluded=review is not None and review.excluded,
        revision=0 if review is None else review.revision,
        siblings=tuple(siblings),
        comparison=comparison,
        conversation=tuple(turns[-MOST_TURNS:]),
        feedback=_judged(connection, reply_id, entries),
        acts=tuple(reversed(acts_on(connection, reply_id))),
    )


def _siblings(connection: Connection, reply: Reply) -> tuple[list[Reply], Comparison | None]:
    try:
        comparison = get_comparison(connection, str(reply.comparison_id))
    except NotFound:  # replies are stored before their comparison
        return [], None
    found = replies_by_id(connection, comparison.reply_ids)
    return [found[name] for name in comparison.reply_ids if name in found and name != reply.reply_id], comparison


def _judged(connection: Connection, reply_id: str, entries: Sequence[Feedback]) -> tuple[JudgedFeedback, ...]:
    ids = [entry.feedback_id for entry in entries]
    names = sorted({entry.act.rater_id for entry in entries})
    reviews = {
        row.feedback_id: row
        for row in connection.execute(select(feedback_reviews).where(feedback_reviews.c.feedback_id.in_(ids)))
    }
    in_quarantine = select(raters.c.rater_id).where(raters.c.rater_id.in_(names), raters.c.quarantined.is_(True))
    quarantined = set(connection.execute(in_quarantine).scalars())
    learnt: dict[int, list[tuple[int, Split]]] = {}
    chosen = select(round_selection).where(round_selection.c.feedback_id.in_(ids))
    for row in connection.execute(chosen.order_by(round_selection.c.round_id)):
        learnt.setdefault(row.feedback_id, []).append((row.round_id, row.split))
    latest = {
        (entry.act.rater_id, entry.act.kind): entry.feedback_id
        for entry in sorted(entries, key=lambda entry: entry.feedback_id)
    }
    judged = []
    for entry in sorted(entries, key=lambda entry: -entry.feedback_id):
        review = reviews.get(entry.feedback_id)
        judged.append(
            JudgedFeedback(
                entry=entry,
                said=said_of(entry, reply_id),
                holds=latest[entry.act.rater_id, entry.act.kind] == entry.feedback_id,
                quarantined=entry.act.rater_id in quarantined,
                excluded=review is not None and review.excluded,
                approval=None if review is None else review.approval,
                revision=0 if review is None else review.revision,
                learnt_in=tuple(learnt.get(entry.feedback_id, ())),
            )
        )
    return tuple(judged)
