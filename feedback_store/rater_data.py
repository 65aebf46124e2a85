"""What is kept of one person: all of it to hand out, or to erase.

Erasing deletes the rater, their acts and the choice of those acts for rounds, and empties their replies of words and of
whose they were. The emptied rows stay, because they say which version was served how often, and other people's votes
hang on them. What a version learnt is not unlearnt: the versions that were trained on this person are named.

What a database deletes stays in its file's free pages and in its log until something is written over it. Each erasure
is a row (`erasures.py`), and until its `overwritten_at` is set somebody has yet to see to that (`overwriting.py`).

What operators and annotators wrote goes with it: notes, reasons and rewrites of these replies (they quote), what was
done to the rater's acts, quarantines, what candidates answered to these prompts in gates' reports (it echoes). The log
of acts keeps who did what and when, without whom it was about.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, or_, select, union, update

from feedback_store.annotation_labels import ANNOTATE_CHANNEL
from feedback_store.audit import forget_rater
from feedback_store.erasures import note_erasure
from feedback_store.feedback import feedback_of_row
from feedback_store.inbox import lock_inbox, put
from feedback_store.lineage import forget_feedback, versions_of_feedback
from feedback_store.quarantines import forget_quarantines, quarantines_of
from feedback_store.raters import get_rater
from feedback_store.records import Feedback, Rater, Reply
from feedback_store.replies import reply_of_row
from feedback_store.review import REVIEW_CHANNEL
from feedback_store.review_schema import annotation_labels, annotation_tasks, reply_reviews, review_acts
from feedback_store.schema import comparisons, conversations, feedback, quarantines, raters, replies
from feedback_store.side_by_sides import forget_examples
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
    erasure_id: int | None = None
    """Its number, which says no more whose it was; None where nobody was known."""


@dataclass(frozen=True, slots=True)
class ErasurePlan:
    """What an erasure would take away, and whose learning it would leave behind."""

    rater: Rater
    replies: int
    """Replies that would be emptied of words and of whose they were."""
    feedback: int
    """Acts that would be deleted."""
    rewrites: int
    """Operators' corrections of those replies, which go too: they are words for this person's question."""
    quarantines: int
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


def plan_erasure(connection: Connection, rater_id: str) -> ErasurePlan | None:
    """Return what `erase_rater` would do now, and do nothing; None for a rater who is not known."""
    rater = get_rater(connection, rater_id)
    if rater is None:
        return None

    def count(query: Select[Any]) -> int:
        found: int = connection.execute(query).scalar_one()
        return found

    is_on = _is_on(_said_to(rater_id))
    learnt_from = select(feedback.c.feedback_id).where(or_(is_on, feedback.c.rater_id == rater_id))
    number = func.count()
    return ErasurePlan(
        rater,
        count(select(number).select_from(replies).where(replies.c.rater_id == rater_id)),
        count(select(number).select_from(feedback).where(feedback.c.rater_id == rater_id)),
        count(select(number).select_from(feedback).where(_is_rewrite(), is_on)),
        len(quarantines_of(connection, rater_id)),
        versions_of_feedback(connection, connection.execute(learnt_from).scalars().all()),
    )


def erase_rater(connection: Connection, rater_id: str) -> Erasure:
    """Erase a rater; see the module's docstring. One who is not known leaves zeros."""
    lock_inbox(connection)
    touched = _replies_in_the_inbox(connection, rater_id)
    said = _said_to(rater_id)
    # Anybody's act on what was said to this rater taught a version this rater's words.
    on_their_words = select(feedback.c.feedback_id).where(_is_on(said))
    own_acts = select(feedback.c.feedback_id).where(feedback.c.rater_id == rater_id)
    taught = versions_of_feedback(connection, connection.execute(on_their_words).scalars().all())
    taught += forget_feedback(connection, connection.execute(own_acts).scalars())
    forget_what_staff_wrote(connection, said)
    forget_examples(connection, said)
    forget_quarantines(connection, rater_id)
    forget_rater(connection, rater_id)
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
        delete_if_empty(connection, conversation_id)
    known = connection.execute(delete(raters).where(raters.c.rater_id == rater_id)).rowcount
    put(connection, touched)  # now, not when the inbox is next looked at: it holds an index of the words
    forget(connection)  # what this connection remembers of the rater and the conversations is gone
    learnt = sorted(set(taught))
    return Erasure(drawn, acts, learnt, note_erasure(connection, learnt) if known else None)


def _said_to(rater_id: str) -> Select[tuple[str]]:
    """The ids of the replies and comparisons that this rater was shown in their own conversations."""
    said = union(
        select(replies.c.reply_id).where(replies.c.rater_id == rater_id),
        select(comparisons.c.comparison_id).where(comparisons.c.rater_id == rater_id),
    ).subquery()
    return select(said.c.reply_id)


def _is_on(said: Select[tuple[str]]) -> ColumnElement[bool]:
    return or_(feedback.c.reply_id.in_(said), feedback.c.comparison_id.in_(said))


def _is_rewrite() -> ColumnElement[bool]:
    return (feedback.c.channel == REVIEW_CHANNEL) & (feedback.c.kind == "correction")


def _replies_in_the_inbox(connection: Connection, rater_id: str) -> list[str]:
    """The replies whose row in the inbox has something of this rater: said to them, or judged by them."""
    own_acts = select(feedback.c.reply_id).where(feedback.c.rater_id == rater_id, feedback.c.reply_id.is_not(None))
    compared = select(feedback.c.comparison_id).where(feedback.c.rater_id == rater_id)
    query = union(
        select(replies.c.reply_id).where(replies.c.rater_id == rater_id),
        own_acts,
        select(replies.c.reply_id).where(replies.c.comparison_id.in_(compared)),
    )
    return sorted(connection.execute(query).scalars())


def forget_what_staff_wrote(connection: Connection, said: Select[tuple[str]]) -> None:
    """Operators' rewrites are words for this person's question; notes and reasons quote it. What staff judged stays."""
    is_on = _is_on(said)
    rewrites = _is_rewrite() & is_on
    forget_feedback(connection, connection.execute(select(feedback.c.feedback_id).where(rewrites)).scalars())
    connection.execute(delete(feedback).where(rewrites))  # and with it, by cascade, the acts of review on it
    by_staff = feedback.c.channel.in_((REVIEW_CHANNEL, ANNOTATE_CHANNEL))
    connection.execute(update(feedback).where(by_staff, is_on).values(reason=None))
    of_reply = review_acts.c.reply_id.in_(said)
    connection.execute(delete(review_acts).where(of_reply, review_acts.c.feedback_id.is_(None)))
    connection.execute(update(review_acts).where(of_reply).values(reason="", text=None))
    connection.execute(delete(reply_reviews).where(reply_reviews.c.reply_id.in_(said)))
    tasks = select(annotation_tasks.c.task_id).where(annotation_tasks.c.comparison_id.in_(said))
    connection.execute(update(annotation_labels).where(annotation_labels.c.task_id.in_(tasks)).values(note=""))
    # A quarantine of somebody else's act on these replies quotes the phrase that was found in them.
    others = quarantines.c.feedback_id.in_(select(feedback.c.feedback_id).where(is_on))
    connection.execute(update(quarantines).where(others).values(reason="", figures={}))


def _conversations_of(connection: Connection, rater_id: str) -> list[str]:
    query = select(replies.c.conversation_id).where(replies.c.rater_id == rater_id).distinct()
    return [found for found in connection.execute(query).scalars() if found is not None]


def delete_if_empty(connection: Connection, conversation_id: str) -> None:
    """Delete a conversation to which nothing belongs any more."""
    for table in (replies, comparisons):
        query = select(table.c.conversation_id).where(table.c.conversation_id == conversation_id).limit(1)
        if connection.execute(query).scalar() is not None:
            return
    connection.execute(delete(conversations).where(conversations.c.conversation_id == conversation_id))
