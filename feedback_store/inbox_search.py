"""Searching the inbox: filters, a page by keyset, and counts. Each is one pass over a narrow table (see `inbox.py`).

Order is that of the replies, which never changes: a page begun stays whole while votes come in, and the next one begins
after the last reply of this one, not at a number of rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Integer, and_, cast, func, select, text, tuple_

from feedback_store.checks import check_channel, check_identifier
from feedback_store.errors import NotFound, Refused
from feedback_store.inbox import Said
from feedback_store.records import FeedbackKind, Message
from feedback_store.review_schema import inbox, inbox_raters, reply_reviews
from feedback_store.schema import policy_versions, replies
from feedback_store.words import WordQuery, postgresql_match, sqlite_match, word_query

PAGE_SIZE = 50
MOST_PAGE_SIZE = 200
MOST_QUERY_CHARACTERS = 500
Order = Literal["newest", "oldest"]

_KINDS: dict[FeedbackKind, ColumnElement[bool]] = {
    "thumb": inbox.c.ups + inbox.c.downs > 0,
    "verdict": inbox.c.verdicts > 0,
    "ranking": inbox.c.rankings > 0,
    "correction": inbox.c.corrections > 0,
}
_VERDICTS: dict[Said, ColumnElement[bool]] = {
    "up": inbox.c.ups > 0,
    "down": inbox.c.downs > 0,
    "won": inbox.c.wins > 0,
    "lost": inbox.c.losses > 0,
    "tie": inbox.c.ties > 0,
    "both_bad": inbox.c.both_bad > 0,
}


@dataclass(frozen=True, slots=True)
class InboxFilter:
    """What a list of replies is narrowed to; None asks nothing. Raises Refused for a value that cannot be meant.

    version, channel: of the reply. kind, verdict: it has such feedback, from this `rater` when one is given. since,
    until: when the reply was given, until not included. words: see `words.word_query`. pending: has corrections that
    nobody has approved or rejected.
    """

    version: int | None = None
    channel: str | None = None
    kind: FeedbackKind | None = None
    verdict: Said | None = None
    rater: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    words: str = ""
    flagged: bool | None = None
    disputed: bool | None = None
    excluded: bool | None = None
    pending: bool | None = None

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in _KINDS:
            raise Refused("kind", f"kind is {self.kind!r}; wanted: {', '.join(_KINDS)}")
        if self.verdict is not None and self.verdict not in _VERDICTS:
            raise Refused("verdict", f"verdict is {self.verdict!r}; wanted: {', '.join(_VERDICTS)}")
        if self.version is not None and not 1 <= self.version < 2**31:
            raise Refused("version", f"version is {self.version}; wanted: the number of a version, from 1")
        if self.channel is not None:
            check_channel(self.channel)
        if self.rater is not None:
            check_identifier("rater", self.rater)
        if len(self.words) > MOST_QUERY_CHARACTERS:
            raise Refused("words", f"words has {len(self.words)} characters; wanted: at most {MOST_QUERY_CHARACTERS}")
        for name in ("since", "until"):
            at: datetime | None = getattr(self, name)
            if at is not None and at.tzinfo is None:
                raise Refused(name, f"{name} is {at}; wanted: a time with its zone")


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A reply as a line of the inbox. `question` and `text` are None where they are not kept."""

    reply_id: str
    policy_version: int
    channel: str
    created_at: datetime
    last_at: datetime
    """When the latest feedback came."""
    question: str | None
    text: str | None
    raters: int
    ups: int
    downs: int
    verdicts: int
    wins: int
    losses: int
    ties: int
    both_bad: int
    rankings: int
    corrections: int
    pending: int
    """Corrections that nobody has approved or rejected."""
    disputed: bool
    flagged: bool
    excluded: bool
    revision: int
    """The last review act on the reply, 0 before any: what the next act must say it has seen."""


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Some lines, and the reply after which the next page begins (None: this is the last)."""

    items: tuple[InboxItem, ...]
    next_after: str | None


@dataclass(frozen=True, slots=True)
class InboxCounts:
    """How many replies a filter finds, and how many of them have what."""

    total: int
    ups: int
    downs: int
    disputed: int
    flagged: int
    excluded: int
    pending: int


def search(
    connection: Connection,
    wanted: InboxFilter,
    *,
    after: str | None = None,
    limit: int = PAGE_SIZE,
    order: Order = "newest",
) -> InboxPage:
    """Return a page of the inbox. after: the id of the last reply of the page before. Raises NotFound for one that is
    not stored."""
    if not 1 <= limit <= MOST_PAGE_SIZE:
        raise Refused("limit", f"limit is {limit}; wanted: 1 to {MOST_PAGE_SIZE}")
    query = select(inbox).where(_condition(connection, wanted))
    key = tuple_(inbox.c.created_at, inbox.c.reply_id)
    newest_first = order == "newest"
    if after is not None:
        last = tuple_(_created_at(connection, after), after)
        query = query.where(key < last if newest_first else key > last)
    columns = (inbox.c.created_at, inbox.c.reply_id)
    query = query.order_by(*(column.desc() if newest_first else column for column in columns))
    rows = connection.execute(query.limit(limit + 1)).mappings().all()
    items = _items(connection, rows[:limit])
    return InboxPage(items, rows[limit - 1]["reply_id"] if len(rows) > limit else None)


def matching(connection: Connection, wanted: InboxFilter, limit: int) -> list[tuple[str, int]]:
    """Return all replies that a filter finds, newest first, at most `limit`, each with its revision: for an act on all
    of them."""
    query = select(inbox.c.reply_id, reply_reviews.c.revision).join(
        reply_reviews, reply_reviews.c.reply_id == inbox.c.reply_id, isouter=True
    )
    query = query.where(_condition(connection, wanted)).limit(limit)
    rows = connection.execute(query.order_by(inbox.c.created_at.desc(), inbox.c.reply_id.desc()))
    return [(row.reply_id, row.revision or 0) for row in rows]


def count(connection: Connection, wanted: InboxFilter) -> InboxCounts:
    """Count what a filter finds."""

    def having(condition: ColumnElement[bool]) -> ColumnElement[int]:
        return func.coalesce(func.sum(cast(condition, Integer)), 0)

    query = select(
        func.count(), having(inbox.c.ups > 0), having(inbox.c.downs > 0), having(inbox.c.disputed),
        having(inbox.c.flagged), having(inbox.c.excluded), having(inbox.c.pending > 0),
    ).where(_condition(connection, wanted))  # fmt: skip
    return InboxCounts(*(int(number) for number in connection.execute(query).one()))


def channels(connection: Connection) -> list[str]:
    """Return the channels that stand in the inbox."""
    return list(connection.execute(select(inbox.c.channel).distinct().order_by(inbox.c.channel)).scalars())


def versions_with_feedback(connection: Connection) -> list[int]:
    """Return the versions of which some reply stands in the inbox, the newest first."""
    has_some = select(inbox.c.item_id).where(inbox.c.policy_version == policy_versions.c.version).exists()
    query = select(policy_versions.c.version).where(has_some).order_by(policy_versions.c.version.desc())
    return list(connection.execute(query).scalars())


def question_of(messages: Sequence[Message] | None) -> str | None:
    """The last thing that the user said in a prompt."""
    asked = [message["content"] for message in messages or () if message["role"] == "user"]
    return asked[-1] if asked else None


def _condition(connection: Connection, wanted: InboxFilter) -> ColumnElement[bool]:
    parts: list[ColumnElement[bool]] = []
    if wanted.version is not None:
        parts.append(inbox.c.policy_version == wanted.version)
    if wanted.channel is not None:
        parts.append(inbox.c.channel == wanted.channel)
    if wanted.kind is not None:
        parts.append(_KINDS[wanted.kind])
    if wanted.verdict is not None:
        parts.append(_VERDICTS[wanted.verdict])
    if wanted.rater is not None:
        mine = select(inbox_raters.c.item_id).where(inbox_raters.c.rater_id == wanted.rater)
        if wanted.verdict is not None:
            mine = mine.where(inbox_raters.c.said == wanted.verdict)
        parts.append(inbox.c.item_id.in_(mine))
    if wanted.since is not None:
        parts.append(inbox.c.created_at >= wanted.since)
    if wanted.until is not None:
        parts.append(inbox.c.created_at < wanted.until)
    for name in ("flagged", "disputed", "excluded"):
        asked: bool | None = getattr(wanted, name)
        if asked is not None:
            parts.append(inbox.c[name].is_(asked))
    if wanted.pending is not None:
        parts.append(inbox.c.pending > 0 if wanted.pending else inbox.c.pending == 0)
    if query := word_query(wanted.words):
        parts.append(_has_words(connection, query))
    return and_(text("1=1"), *parts)


def _has_words(connection: Connection, query: WordQuery) -> ColumnElement[bool]:
    """The condition that the indexed words hold the wanted phrases and none of the unwanted."""
    on_postgresql = connection.dialect.name == "postgresql"
    column = "item_id" if on_postgresql else "rowid"
    match = "words @@ CAST(:{0} AS tsquery)" if on_postgresql else "inbox_words MATCH :{0}"
    parts: list[ColumnElement[bool]] = []
    if query.wanted:
        value = postgresql_match(query.wanted) if on_postgresql else sqlite_match(query.wanted)
        found = text(f"SELECT {column} FROM inbox_words WHERE {match.format('wanted')}").bindparams(wanted=value)
        parts.append(inbox.c.item_id.in_(found.columns(inbox.c.item_id)))
    if query.unwanted:
        value = postgresql_match(query.unwanted, "|") if on_postgresql else sqlite_match(query.unwanted, "OR")
        found = text(f"SELECT {column} FROM inbox_words WHERE {match.format('unwanted')}").bindparams(unwanted=value)
        parts.append(inbox.c.item_id.not_in(found.columns(inbox.c.item_id)))
    return and_(*parts)


def _created_at(connection: Connection, reply_id: str) -> datetime:
    at: datetime | None = connection.execute(
        select(replies.c.created_at).where(replies.c.reply_id == reply_id)
    ).scalar()
    if at is None:
        raise NotFound(f"no reply {reply_id!r}")
    return at


def _items(connection: Connection, rows: Sequence[Any]) -> tuple[InboxItem, ...]:
    ids = [row["reply_id"] for row in rows]
    query = (
        select(replies.c.reply_id, replies.c.text, replies.c.messages, reply_reviews.c.revision)
        .join(reply_reviews, reply_reviews.c.reply_id == replies.c.reply_id, isouter=True)
        .where(replies.c.reply_id.in_(ids))
    )
    texts = {found.reply_id: found for found in connection.execute(query)}
    items = []
    for row in rows:
        values = {name: row[name] for name in row if name not in ("item_id", "words_key")}
        found = texts.get(row["reply_id"])
        if found is None:  # taken out of the store, and the news of it is still to be read
            continue
        items.append(
            InboxItem(**values, question=question_of(found.messages), text=found.text, revision=found.revision or 0)
        )
    return tuple(items)
