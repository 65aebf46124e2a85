"""What is deleted after a time because nobody needs it any more: texts first of all.

Rows stay, emptied, as after an erasure: they say which version was served how often. Never touched: votes and verdicts
(they are numbers and ids), consent, what a version in service learnt from (unless `keep_trained` is off, and then the
versions are named), and what waits for an annotator.

A reply counts as rated when anybody gave feedback on it or on its comparison, or an operator looked at it. Each batch
looks again at what it empties, in its own transaction: a vote that came meanwhile keeps its reply.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, exists, func, or_, select, update

from feedback_store import versions
from feedback_store.audit import Act, record
from feedback_store.erasures import note_erasure
from feedback_store.inbox import lock_inbox, put
from feedback_store.lineage import versions_of_feedback
from feedback_store.rater_data import delete_if_empty, forget_what_staff_wrote
from feedback_store.review_schema import annotation_labels, annotation_tasks, reply_reviews
from feedback_store.schema import (
    api_keys,
    audit,
    comparisons,
    feedback,
    policy_versions,
    replies,
    round_selection,
    sessions,
)
from feedback_store.settings import RetentionSettings
from feedback_store.side_by_sides import forget_examples
from feedback_store.store import Store

ACTION = "retention.run"
BATCH = 200
"""Replies that one transaction empties: a vote waits behind it."""
ECHOES_AT_ONCE = 5_000
"""Replies whose echoes in gates' reports are looked for in one pass over the reports."""


@dataclass(slots=True)
class RetentionReport:
    """What was deleted, or would be."""

    unrated_texts: int = 0
    """Replies emptied of words and of whose they were."""
    rated_texts: int = 0
    """Replies emptied of words, with the corrections and reasons on them."""
    kept_trained: int = 0
    """Replies old enough whose texts stay, because a version in service learnt from them."""
    trained_versions: tuple[int, ...] = ()
    """Versions that learnt from texts that were deleted: they keep what they learnt."""
    sign_ins: int = 0
    api_keys: int = 0
    audit_lines: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing was to delete."""
        return not any((self.unrated_texts, self.rated_texts, self.sign_ins, self.api_keys, self.audit_lines))

    def as_dict(self) -> dict[str, Any]:
        """For JSON and for the log of acts: counts and versions, nothing of anybody."""
        return asdict(self)


def plan_retention(connection: Connection, settings: RetentionSettings, at: datetime) -> RetentionReport:
    """Return what `run_retention` would delete at this time, and delete nothing."""
    report = RetentionReport()
    if settings.unrated_text_days is not None:
        report.unrated_texts = _count(connection, _unrated(at - timedelta(days=settings.unrated_text_days)))
    if settings.rated_text_days is not None:
        before = at - timedelta(days=settings.rated_text_days)
        every, trained = _rated(before), _rated(before).where(_trained_in_service(connection))
        if settings.keep_trained:
            report.kept_trained = _count(connection, trained)
            every = every.where(~_trained_in_service(connection))
        report.rated_texts = _count(connection, every)
        report.trained_versions = tuple(_versions_taught(connection, _names(connection, every)))
    for name, doomed in _old_rows(settings, at).items():
        setattr(report, name, _count(connection, select(doomed.table.c[0]).where(doomed.which)))
    return report


def run_retention(store: Store, settings: RetentionSettings, at: datetime, actor: str) -> RetentionReport:
    """Delete what is too old at this time, in small transactions, and return what was done.

    Where anything was, the log of acts says so. Two at once, or a second one, do nothing more.
    """
    report = store.read(plan_retention, settings, at)
    report.unrated_texts = report.rated_texts = 0
    emptied: list[str] = []
    if settings.unrated_text_days is not None:
        query = _unrated(at - timedelta(days=settings.unrated_text_days))
        emptied = _in_batches(store, _empty_unrated, query)
        report.unrated_texts = len(emptied)
    if settings.rated_text_days is not None:
        query = _rated(at - timedelta(days=settings.rated_text_days))
        if settings.keep_trained:
            query = query.where(~store.read(_trained_in_service))
        rated = _in_batches(store, _empty_rated, query)
        report.rated_texts = len(rated)
        emptied += rated
    for start in range(0, len(emptied), ECHOES_AT_ONCE):
        gone = replies.c.reply_id.in_(emptied[start : start + ECHOES_AT_ONCE])
        store.write(forget_examples, select(replies.c.reply_id).where(gone))
    store.write(_end, settings, at, report, actor)
    return report


@dataclass(frozen=True, slots=True)
class _Doomed:
    table: Any
    which: ColumnElement[bool]


def _old_rows(settings: RetentionSettings, at: datetime) -> dict[str, _Doomed]:
    """Whole rows that go, by their name in the report."""
    found = {"sign_ins": _Doomed(sessions, sessions.c.expires_at <= at)}
    if settings.ended_key_days is not None:
        ended = func.coalesce(api_keys.c.revoked_at, api_keys.c.expires_at)
        found["api_keys"] = _Doomed(api_keys, ended < at - timedelta(days=settings.ended_key_days))
    if settings.audit_days is not None:
        found["audit_lines"] = _Doomed(audit, audit.c.at < at - timedelta(days=settings.audit_days))
    return found


def _has_words() -> ColumnElement[bool]:
    return or_(replies.c.text.is_not(None), replies.c.messages.is_not(None), replies.c.rendered_prompt.is_not(None))


def _judged() -> ColumnElement[bool]:
    """Somebody gave feedback on the reply or on its comparison, or looked at it as an operator."""
    return or_(
        exists().where(feedback.c.reply_id == replies.c.reply_id),
        exists().where(feedback.c.comparison_id == replies.c.comparison_id),
        exists().where(reply_reviews.c.reply_id == replies.c.reply_id),
    )


def _waits_for_an_annotator(before: datetime) -> ColumnElement[bool]:
    """A task that is young, or that has a label which was begun and not ended."""
    under_way = exists().where(
        annotation_labels.c.task_id == annotation_tasks.c.task_id, annotation_labels.c.state == "open"
    )
    return exists().where(
        annotation_tasks.c.comparison_id == replies.c.comparison_id,
        or_(annotation_tasks.c.created_at >= before, under_way),
    )


def _unrated(before: datetime) -> Select[str]:
    old = replies.c.created_at < before
    return select(replies.c.reply_id).where(old, _has_words(), ~_judged(), ~_waits_for_an_annotator(before))


def _rated(before: datetime) -> Select[str]:
    """Rated ones on which nothing was said since."""
    lately = or_(
        exists().where(feedback.c.reply_id == replies.c.reply_id, feedback.c.created_at >= before),
        exists().where(feedback.c.comparison_id == replies.c.comparison_id, feedback.c.created_at >= before),
    )
    old = replies.c.created_at < before
    return select(replies.c.reply_id).where(old, _has_words(), _judged(), ~lately, ~_waits_for_an_annotator(before))


def _trained_in_service(connection: Connection) -> ColumnElement[bool]:
    """A version in service, or one it descends from, trained on an act on this reply or its comparison."""
    learnt = select(round_selection.c.feedback_id).where(
        round_selection.c.round_id.in_(_rounds_in_service(connection)), round_selection.c.split == "train"
    )
    taught = feedback.c.feedback_id.in_(learnt)
    return or_(
        exists().where(feedback.c.reply_id == replies.c.reply_id, taught),
        exists().where(feedback.c.comparison_id == replies.c.comparison_id, taught),
    )


def _rounds_in_service(connection: Connection) -> list[int]:
    """The rounds of what serves, of what a rollback would bring back, and of all that these descend from."""
    wanted = {one.version for one in versions.list_versions(connection) if one.state in ("live", "canary")}
    if (before := versions.version_before_live(connection)) is not None:
        wanted.add(before)
    parents = {
        row.version: (row.parent, row.round_id)
        for row in connection.execute(
            select(policy_versions.c.version, policy_versions.c.parent, policy_versions.c.round_id)
        )
    }
    found: set[int] = set()
    while wanted:
        parent, round_id = parents[wanted.pop()]
        if parent is not None:
            wanted.add(parent)
        if round_id is not None:
            found.add(round_id)
    return sorted(found)


def _in_batches(store: Store, empty: Any, query: Select[str]) -> list[str]:
    """Empty what the query finds; return which replies those were."""
    names = store.read(_names, query)
    done: list[str] = []
    for start in range(0, len(names), BATCH):
        done += store.write(empty, query, names[start : start + BATCH])
    return done


def _names(connection: Connection, query: Select[str]) -> list[str]:
    return [str(name) for name in connection.execute(query).scalars()]


def _still(connection: Connection, query: Select[str], names: Sequence[str]) -> list[str]:
    return _names(connection, query.where(replies.c.reply_id.in_(names)))


def _empty_unrated(connection: Connection, query: Select[str], names: Sequence[str]) -> list[str]:
    names = _still(connection, query, names)
    mine = replies.c.reply_id.in_(names)
    of = select(replies.c.conversation_id, replies.c.comparison_id).where(mine)
    found = connection.execute(of).all()
    _empty(connection, names, rater_id=None, conversation_id=None)
    compared = sorted({row.comparison_id for row in found if row.comparison_id is not None})
    nobodys = {"rater_id": None, "conversation_id": None}
    connection.execute(update(comparisons).where(comparisons.c.comparison_id.in_(compared)).values(**nobodys))
    for conversation_id in sorted({row.conversation_id for row in found if row.conversation_id is not None}):
        delete_if_empty(connection, conversation_id)
    return names


def _empty_rated(connection: Connection, query: Select[str], names: Sequence[str]) -> list[str]:
    lock_inbox(connection)
    names = _still(connection, query, names)
    _empty(connection, names)
    mine = replies.c.reply_id.in_(names)
    compared = select(replies.c.comparison_id).where(mine, replies.c.comparison_id.is_not(None))
    about = or_(feedback.c.reply_id.in_(names), feedback.c.comparison_id.in_(compared))
    connection.execute(update(feedback).where(about).values(reason=None))
    # A correction without its words says nothing; the choice of it for a round, and what came of it, stay.
    connection.execute(update(feedback).where(about, feedback.c.kind == "correction").values(correction=None))
    said = select(replies.c.reply_id).where(mine).union(compared).subquery()
    forget_what_staff_wrote(connection, select(said.c.reply_id))
    put(connection, names)
    return names


def _empty(connection: Connection, names: Sequence[str], **more: Any) -> None:
    emptied: dict[str, Any] = {"messages": None, "rendered_prompt": None, "text": None, "metadata": {}, **more}
    connection.execute(update(replies).where(replies.c.reply_id.in_(names)).values(**emptied))


def _versions_taught(connection: Connection, names: Sequence[str]) -> list[int]:
    acts: set[int] = set()
    for start in range(0, len(names), BATCH):
        part = names[start : start + BATCH]
        compared = select(replies.c.comparison_id).where(replies.c.reply_id.in_(part))
        about = or_(feedback.c.reply_id.in_(part), feedback.c.comparison_id.in_(compared))
        acts.update(connection.execute(select(feedback.c.feedback_id).where(about)).scalars())
    return versions_of_feedback(connection, sorted(acts))


def _end(
    connection: Connection, settings: RetentionSettings, at: datetime, report: RetentionReport, actor: str
) -> None:
    for name, doomed in _old_rows(settings, at).items():
        setattr(report, name, connection.execute(delete(doomed.table).where(doomed.which)).rowcount)
    if report.unrated_texts or report.rated_texts:
        # So that the database's files are overwritten, and whoever keeps copies of texts looks again.
        note_erasure(connection, list(report.trained_versions))
    if not report.is_empty:
        details = report.as_dict() | {"settings": settings.model_dump()}
        record(connection, Act(actor, ACTION, "what is too old", details=details))


def _count(connection: Connection, query: Select[Any]) -> int:
    found: int = connection.execute(select(func.count()).select_from(query.subquery())).scalar_one()
    return found
