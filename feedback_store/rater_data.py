"""What is kept of one person: all of it to hand out, or to erase.

Erasing deletes the rater, their acts and the choice of those acts for rounds, and empties their replies of words and of
whose they were. The emptied rows stay, because they say which version was served how often, and other people's votes
hang on them. What a version learnt is not unlearnt: the versions that were trained on this person are named.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, or_, select, union, update

from feedback_store.feedback import feedback_of_row
from feedback_store.lineage import forget_feedback
from feedback_store.raters import get_rater
from feedback_store.records import Feedback, Rater, Reply
from feedback_store.replies import reply_of_row
from feedback_store.schema import (
    comparisons,
    conversations,
    feedback,
    policy_versions,
    quarantines,
    raters,
    replies,
    round_selection,
)
from feedback_store.writer import forget


@dataclass(frozen=True, slots=True)
class RaterData:
    """Everything that bears a rater's id."""

    rater: Rater | None
    """None: nothing is known of this rater."""
    replies: list[Reply]
    feedback: list[Feedback]


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure took away."""

    replies: int
    """Replies emptied of words and of whose they were."""
    feedback: int
    """Acts deleted."""
    affected_versions: list[int]
    """Versions trained on something of this rater: they keep what they learnt."""


def rater_data(connection: Connection, rater_id: str) -> RaterData:
    """Return everything that is kept of a rater, oldest first."""
    of_replies = select(replies).where(replies.c.rater_id == rater_id).order_by(replies.c.created_at)
    of_feedback = select(feedback).where(feedback.c.rater_id == rater_id).order_by(feedback.c.feedback_id)
    return RaterData(
        get_rater(connection, rater_id),
        [reply_of_row(row) for row in connection.execute(of_replies).mappings()],
        [feedback_of_row(row) for row in connection.execute(of_feedback).mappings()],
    )


def erase_rater(connection: Connection, rater_id: str) -> Erasure:
    """Erase a rater; see the module's docstring. One who is not known leaves zeros."""
    affected = _versions_trained_on(connection, rater_id)
    own_acts = select(feedback.c.feedback_id).where(feedback.c.rater_id == rater_id)
    forget_feedback(connection, connection.execute(own_acts).scalars().all())
    connection.execute(delete(quarantines).where(quarantines.c.rater_id == rater_id))
    acts = connection.execute(delete(feedback).where(feedback.c.rater_id == rater_id)).rowcount
    conversation_ids = _conversations_of(connection, rater_id)
    connection.execute(
        update(comparisons).where(comparisons.c.rater_id == rater_id).values(rater_id=None, conversation_id=None)
    )
    emptied: dict[str, Any] = {
        "rater_id": None, "conversation_id": None, "messages": None, "rendered_prompt": None, "text": None,
        "metadata": {},
    }  # fmt: skip
    drawn = connection.execute(update(replies).where(replies.c.rater_id == rater_id).values(**emptied)).rowcount
    for conversation_id in conversation_ids:
        _delete_if_empty(connection, conversation_id)
    connection.execute(delete(raters).where(raters.c.rater_id == rater_id))
    forget(connection)  # what this connection remembers of the rater and the conversations is gone
    return Erasure(drawn, acts, affected)


def _versions_trained_on(connection: Connection, rater_id: str) -> list[int]:
    """A version is affected by this rater's acts, and by anybody's on what was said to this rater."""
    said = union(
        select(replies.c.reply_id).where(replies.c.rater_id == rater_id),
        select(comparisons.c.comparison_id).where(comparisons.c.rater_id == rater_id),
    ).subquery()
    targets = select(said.c.reply_id)
    query = (
        select(policy_versions.c.version)
        .join(round_selection, round_selection.c.round_id == policy_versions.c.round_id)
        .join(feedback, feedback.c.feedback_id == round_selection.c.feedback_id)
        .where(
            round_selection.c.split == "train",
            or_(
                feedback.c.rater_id == rater_id,
                feedback.c.reply_id.in_(targets),
                feedback.c.comparison_id.in_(targets),
            ),
        )
        .distinct()
        .order_by(policy_versions.c.version)
    )
    return [int(version) for version in connection.execute(query).scalars()]


def _conversations_of(connection: Connection, rater_id: str) -> list[str]:
    query = select(replies.c.conversation_id).where(replies.c.rater_id == rater_id).distinct()
    return [found for found in connection.execute(query).scalars() if found is not None]


def _delete_if_empty(connection: Connection, conversation_id: str) -> None:
    for table in (replies, comparisons):
        query = select(table.c.conversation_id).where(table.c.conversation_id == conversation_id).limit(1)
        if connection.execute(query).scalar() is not None:
            return
    connection.execute(delete(conversations).where(conversations.c.conversation_id == conversation_id))
