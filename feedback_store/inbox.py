"""The inbox: for each reply with feedback one narrow row that says what people hold of it, kept up in small steps.

Filters and counts over 100,000 replies then read that table once, instead of finding the latest of 300,000 acts. A row
is always computed whole from the acts themselves, so it does not matter how often or in which order its news is read.
"""

import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, delete, exists, func, insert, select, text, update

from feedback_store.feedback import feedback_of_row
from feedback_store.records import BOTH_BAD, TIE, Feedback
from feedback_store.replies import MOST_AT_ONCE
from feedback_store.review_schema import feedback_reviews, inbox, inbox_news, inbox_raters, reply_reviews
from feedback_store.schema import comparisons, feedback, raters, replies
from feedback_store.words import postgresql_document, sqlite_document, words_of

NEWS_AT_ONCE = 2_000
"""Lines of news that one write takes up at most."""
_LOCK = 7_410_552
"""Any number: on PostgreSQL two programs must not compute one row at the same time."""

Said = Literal["up", "down", "won", "lost", "tie", "both_bad"]
POSITIVE: frozenset[Said] = frozenset({"up", "won"})
NEGATIVE: frozenset[Said] = frozenset({"down", "lost", "both_bad"})
# A thumb on the reply itself beats what a verdict implies about it, and that beats a ranking.
_DIRECTNESS = {"ranking": 1, "verdict": 2, "thumb": 3}


@dataclass(slots=True)
class _Held:
    """What one rater holds of a reply now."""

    said: Said | None = None
    directness: int = 0

    def hear(self, kind: str, said: Said | None) -> None:
        if said is not None and _DIRECTNESS[kind] > self.directness:
            self.said, self.directness = said, _DIRECTNESS[kind]


@dataclass(slots=True)
class _Item:
    """A row in the making. `held` has every rater, quarantined ones too: they may be let in again."""

    values: dict[str, Any]
    words: list[str]
    held: dict[str, _Held] = field(default_factory=lambda: defaultdict(_Held))


def catch_up(
    connection: Connection, most: int = NEWS_AT_ONCE, *, most_replies: int | None = None, wait: bool = True
) -> int:
    """Put up to `most` lines of news into the inbox, and return how many were taken: 0 is all.

    most_replies: stop before the line that names one reply or comparison more, so that many lines about few replies are
    one write's work and a line about many is too. wait: False takes nothing while another program changes the inbox.
    """
    if not lock_inbox(connection, wait=wait):
        return 0
    query = select(inbox_news).order_by(inbox_news.c.news_id).limit(most)
    news = connection.execute(query).all()
    if most_replies is not None:
        news = _about(news, most_replies)
    if not news:
        return 0
    reply_ids = {line.reply_id for line in news if line.reply_id is not None}
    compared = sorted({line.comparison_id for line in news if line.comparison_id is not None})
    for part in _parts(compared):
        listed = select(comparisons.c.reply_ids).where(comparisons.c.comparison_id.in_(part))
        reply_ids.update(name for names in connection.execute(listed).scalars() for name in names)
    put(connection, sorted(reply_ids))
    for part in _parts([line.news_id for line in news]):
        connection.execute(delete(inbox_news).where(inbox_news.c.news_id.in_(part)))
    return len(news)


def _about(news: Sequence[Any], most: int) -> Sequence[Any]:
    """The lines up to the one with which they would name more than `most` replies and comparisons."""
    named: set[tuple[str | None, str | None]] = set()
    for place, line in enumerate(news):
        named.add((line.reply_id, line.comparison_id))
        if len(named) > most:
            return news[:place]
    return news


def news_waits(connection: Connection, most: int | None = None) -> int:
    """Return how many lines of news the inbox has yet to take up, counted up to `most`."""
    waiting = select(inbox_news.c.news_id).limit(most).subquery()
    return connection.execute(select(func.count()).select_from(waiting)).scalar_one()


def has_news(connection: Connection) -> bool:
    """Say whether the inbox has anything to take up."""
    return connection.execute(select(inbox_news.c.news_id).limit(1)).first() is not None


def lock_inbox(connection: Connection, *, wait: bool = True) -> bool:
    """Let no other program change the inbox before this transaction ends (on SQLite none can). False when one does and
    this one would not wait."""
    if connection.dialect.name != "postgresql":
        return True
    if wait:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        return True
    return bool(connection.execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _LOCK}).scalar())


def put(connection: Connection, reply_ids: Sequence[str]) -> None:
    """Compute the rows of these replies anew; one that has neither feedback nor a review leaves the inbox.

    Call `lock_inbox` first.
    """
    for part in _parts(reply_ids):
        _put_part(connection, part)


def _put_part(connection: Connection, reply_ids: Sequence[str]) -> None:
    wanted = _items_of(connection, reply_ids)
    present = {
        row.reply_id: row
        for row in connection.execute(
            select(inbox.c.reply_id, inbox.c.item_id, inbox.c.words_key).where(inbox.c.reply_id.in_(reply_ids))
        )
    }
    new: list[_Item] = []
    for reply_id in reply_ids:
        item, row = wanted.get(reply_id), present.get(reply_id)
        if item is None and row is not None:
            _remove(connection, row.item_id)
        elif item is not None and row is None:
            new.append(item)
        elif item is not None and row is not None:
            _change(connection, item, row.item_id, row.words_key)
    if new:
        _add(connection, new)


def _items_of(connection: Connection, reply_ids: Sequence[str]) -> dict[str, _Item]:
    columns = replies.c
    query = select(
        columns.reply_id, columns.policy_version, columns.channel, columns.created_at, columns.comparison_id,
        columns.text, columns.messages,
    ).where(columns.reply_id.in_(reply_ids))  # fmt: skip
    rows = connection.execute(query).all()
    acts_of_reply, acts_of_comparison = _acts(
        connection, reply_ids, sorted({row.comparison_id for row in rows if row.comparison_id is not None})
    )
    quarantined = _quarantined(connection, [*acts_of_reply.values(), *acts_of_comparison.values()])
    reviewed = {
        row.reply_id: row
        for row in connection.execute(select(reply_reviews).where(reply_reviews.c.reply_id.in_(reply_ids)))
    }
    acts = {row.reply_id: acts_of_reply[row.reply_id] + acts_of_comparison[row.comparison_id] for row in rows}
    reviews = _feedback_reviews(connection, [act.feedback_id for some in acts.values() for act in some])
    found: dict[str, _Item] = {}
    for row in rows:
        review = reviewed.get(row.reply_id)
        if acts[row.reply_id] or review is not None:
            item = _item(row, acts[row.reply_id], quarantined, reviews)
            item.values["flagged"] = review is not None and review.flagged
            item.values["excluded"] = review is not None and review.excluded
            found[row.reply_id] = item
    return found


def _acts(
    connection: Connection, reply_ids: Sequence[str], comparison_ids: Sequence[str]
) -> tuple[dict[str | None, list[Feedback]], dict[str | None, list[Feedback]]]:
    """All acts on these replies, and on these comparisons, each in the order given."""
    of_reply: dict[str | None, list[Feedback]] = defaultdict(list)
    of_comparison: dict[str | None, list[Feedback]] = defaultdict(list)
    on_replies = select(feedback).where(feedback.c.reply_id.in_(reply_ids)).order_by(feedback.c.feedback_id)
    for row in connection.execute(on_replies).mappings():
        of_reply[row["reply_id"]].append(feedback_of_row(row))
    if comparison_ids:
        on_comparisons = select(feedback).where(feedback.c.comparison_id.in_(comparison_ids))
        for row in connection.execute(on_comparisons.order_by(feedback.c.feedback_id)).mappings():
            of_comparison[row["comparison_id"]].append(feedback_of_row(row))
    return of_reply, of_comparison


def _quarantined(connection: Connection, acts: Iterable[list[Feedback]]) -> frozenset[str]:
    names = sorted({act.act.rater_id for some in acts for act in some})
    found: set[str] = set()
    for part in _parts(names):
        query = select(raters.c.rater_id).where(raters.c.rater_id.in_(part), raters.c.quarantined.is_(True))
        found.update(connection.execute(query).scalars())
    return frozenset(found)


def _feedback_reviews(connection: Connection, feedback_ids: list[int]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for part in _parts(feedback_ids):
        query = select(feedback_reviews).where(feedback_reviews.c.feedback_id.in_(part))
        found.update((row.feedback_id, row) for row in connection.execute(query))
    return found


def _item(row: Any, acts: list[Feedback], quarantined: frozenset[str], reviews: Mapping[int, Any]) -> _Item:
    latest = {(act.act.rater_id, act.act.kind): act for act in acts}
    counted = dict.fromkeys(
        ("ups", "downs", "verdicts", "wins", "losses", "ties", "both_bad", "rankings", "corrections", "pending"), 0
    )
    said_by: dict[str, _Held] = defaultdict(_Held)
    for act in latest.values():
        rater_id, kind = act.act.rater_id, act.act.kind
        said_by.setdefault(rater_id, _Held())
        review = reviews.get(act.feedback_id)
        said = said_of(act, row.reply_id)
        if review is not None and review.excluded:
            continue
        if kind != "correction":
            said_by[rater_id].hear(kind, said)
        if rater_id in quarantined:
            continue
        if kind == "correction":
            counted["corrections"] += 1
            counted["pending"] += review is None or review.approval is None
            continue
        if kind == "ranking":
            counted["rankings"] += 1
        elif kind == "verdict" and act.act.verdict is not None:
            counted["verdicts"] += 1
        if said is not None:
            names = {"up": "ups", "down": "downs", "won": "wins", "lost": "losses", "tie": "ties"}
            counted[names.get(said, said)] += 1
    opinions = {held.said for name, held in said_by.items() if name not in quarantined}
    times: list[datetime] = [act.act.created_at for act in acts if act.act.created_at is not None]
    words = words_of(_searchable(row, acts))
    values: dict[str, Any] = counted | {
        "reply_id": row.reply_id,
        "policy_version": row.policy_version,
        "channel": row.channel,
        "created_at": row.created_at,
        "last_at": max(times, default=row.created_at),
        "raters": len(said_by.keys() - quarantined),
        "disputed": bool(opinions & POSITIVE) and bool(opinions & NEGATIVE),
        "words_key": zlib.crc32(" ".join(words).encode()),
    }
    return _Item(values, words, said_by)


def said_of(act: Feedback, reply_id: str) -> Said | None:
    """Return what an act says of one reply; None where it says nothing (a retraction, the middle of a ranking)."""
    said = act.act
    if said.kind == "thumb":
        return said.thumb
    if said.kind == "verdict":
        if said.verdict == TIE:
            return "tie"
        if said.verdict == BOTH_BAD:
            return "both_bad"
        return None if said.verdict is None else "won" if said.verdict == reply_id else "lost"
    if said.kind == "ranking" and said.ranking is not None:
        ends: dict[str, Said] = {said.ranking[0]: "won", said.ranking[-1]: "lost"}
        return ends.get(reply_id)
    return None


def _searchable(row: Any, acts: Iterable[Feedback]) -> str:
    """What a person searches by: the question, the reply, and what raters wrote about it."""
    questions = [message["content"] for message in row.messages or () if message["role"] == "user"]
    written = {words for act in acts for words in (act.act.reason, act.act.correction) if words}
    return "\n".join([row.text or "", *questions[-1:], *sorted(written)])


def _add(connection: Connection, items: Sequence[_Item]) -> None:
    """Insert rows, many at a time: a store that is opened for the first time since an upgrade has all of them new."""
    made = insert(inbox).returning(inbox.c.reply_id, inbox.c.item_id)
    numbers = {row.reply_id: row.item_id for row in connection.execute(made, [item.values for item in items])}
    numbered = [(numbers[item.values["reply_id"]], item) for item in items]
    _add_raters(connection, numbered)
    _index_words(connection, numbered)


def _change(connection: Connection, item: _Item, item_id: int, words_key: int) -> None:
    connection.execute(update(inbox).where(inbox.c.item_id == item_id).values(**item.values))
    connection.execute(delete(inbox_raters).where(inbox_raters.c.item_id == item_id))
    _add_raters(connection, [(item_id, item)])
    if words_key != item.values["words_key"]:
        _forget_words(connection, item_id)
        _index_words(connection, [(item_id, item)])


def _add_raters(connection: Connection, numbered: Sequence[tuple[int, _Item]]) -> None:
    rows = [
        {"rater_id": name, "item_id": item_id, "said": held.said}
        for item_id, item in numbered
        for name, held in item.held.items()
    ]
    if rows:
        connection.execute(insert(inbox_raters), rows)


def _index_words(connection: Connection, numbered: Sequence[tuple[int, _Item]]) -> None:
    if connection.dialect.name == "postgresql":
        statement = text(
            "INSERT INTO inbox_words (item_id, words) VALUES (:item_id, CAST(:words AS tsvector))"
            " ON CONFLICT (item_id) DO UPDATE SET words = excluded.words"
        )
        written = postgresql_document
    else:
        statement = text("INSERT OR REPLACE INTO inbox_words (rowid, words) VALUES (:item_id, :words)")
        written = sqlite_document
    connection.execute(statement, [{"item_id": item_id, "words": written(item.words)} for item_id, item in numbered])


def _forget_words(connection: Connection, item_id: int) -> None:
    name = "item_id" if connection.dialect.name == "postgresql" else "rowid"
    connection.execute(text(f"DELETE FROM inbox_words WHERE {name} = :item_id"), {"item_id": item_id})


def _remove(connection: Connection, item_id: int) -> None:
    connection.execute(delete(inbox_raters).where(inbox_raters.c.item_id == item_id))
    connection.execute(delete(inbox).where(inbox.c.item_id == item_id))
    _forget_words(connection, item_id)


def _parts(ids: Sequence[Any]) -> Iterable[Sequence[Any]]:
    for start in range(0, len(ids), MOST_AT_ONCE):
        yield ids[start : start + MOST_AT_ONCE]


def rebuild(connection: Connection) -> None:
    """Make news of every reply that has feedback or a review, so that the inbox is computed anew."""
    rated = select(replies.c.reply_id).where(
        exists().where(feedback.c.reply_id == replies.c.reply_id)
        | exists().where(feedback.c.comparison_id == replies.c.comparison_id)
        | exists().where(reply_reviews.c.reply_id == replies.c.reply_id)
    )
    connection.execute(insert(inbox_news).from_select(["reply_id"], rated))
