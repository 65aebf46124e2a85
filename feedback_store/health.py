"""How the loop is doing: replies and thumbs over time and by version, and what deserves a look.

Figures of a time span are read through indexes and by groups; percentiles come from the newest SAMPLE replies of the
span. A thumb counts as its rater holds it now, in the bucket in which it was given. Quarantined raters count too: this
is what users said, not what a round would learn from.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np
from sqlalchemy import Connection, String, and_, case, exists, func, select, type_coerce

from feedback_store.schema import feedback, live_pointer, replies, rounds
from feedback_store.statistics import wilson

SAMPLE = 10_000
Step = Literal["hour", "day"]


@dataclass(slots=True)
class Bucket:
    """An hour or a day. None: nothing to tell."""

    begins: datetime
    replies: int = 0
    up: int = 0
    down: int = 0
    mean_tokens: float | None = None
    finished: float | None = None
    """Share of the replies that ended by themselves, neither cut off nor stopped by the user."""
    latency_ms: list[float] = field(default_factory=list)

    @property
    def thumbs(self) -> int:
        """Up and down together."""
        return self.up + self.down

    @property
    def thumbs_rate(self) -> float | None:
        """Share of thumbs that are up."""
        return self.up / self.thumbs if self.thumbs else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of that share."""
        return wilson(self.up, self.thumbs) if self.thumbs else None

    def latency(self, quantile: float) -> float | None:
        """A quantile of the response time in ms, of the sample."""
        return float(np.quantile(self.latency_ms, quantile)) if self.latency_ms else None


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """What users said about one version."""

    version: int
    replies: int
    mean_tokens: float | None
    up: int
    down: int
    last_reply_at: datetime | None = None

    @property
    def rate(self) -> float | None:
        """Share of its thumbs that are up."""
        return self.up / (self.up + self.down) if self.up + self.down else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Wilson's 95 % interval of that share."""
        return wilson(self.up, self.up + self.down) if self.up + self.down else None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that deserves a look. `name` is one of ALERTS; `values` fill its sentence."""

    name: str
    values: dict[str, Any] = field(default_factory=dict)


def activity(connection: Connection, since: datetime, until: datetime, step: Step) -> list[Bucket]:
    """Return the buckets from `since` to `until`, oldest first, empty ones included."""
    found = {begins: Bucket(begins) for begins in beginnings(since, until, step)}
    at = bucket_of(connection, replies.c.created_at, step)
    span = (replies.c.created_at >= since, replies.c.created_at < until)
    query = select(
        at.label("at"),
        func.count(),
        func.avg(replies.c.completion_tokens),
        func.sum(case((replies.c.finish_reason == "stop", 1), else_=0)),
    ).where(*span)
    for text, count, tokens, finished in connection.execute(query.group_by(at)):
        bucket = found.get(read_beginning(text))
        if bucket is not None:
            bucket.replies, bucket.mean_tokens, bucket.finished = count, float(tokens), float(finished) / count
    newest = select(at, replies.c.latency_ms).where(*span).order_by(replies.c.created_at.desc()).limit(SAMPLE)
    for text, latency_ms in connection.execute(newest):
        if (bucket := found.get(read_beginning(text))) is not None:
            bucket.latency_ms.append(latency_ms)
    for text, thumb, count in connection.execute(_thumbs(connection, since, until, step)):
        if (bucket := found.get(read_beginning(text))) is not None:
            bucket.up += count if thumb == "up" else 0
            bucket.down += count if thumb == "down" else 0
    return list(found.values())


def by_version(connection: Connection) -> dict[int, VersionFigures]:
    """Return what users said about each version that replied."""
    held: dict[int, dict[str, int]] = {}
    query = (
        select(replies.c.policy_version, feedback.c.thumb, func.count())
        .join(replies, replies.c.reply_id == feedback.c.reply_id)
        .where(feedback.c.kind == "thumb", feedback.c.thumb.is_not(None), ~_superseded())
        .group_by(replies.c.policy_version, feedback.c.thumb)
    )
    for version, thumb, count in connection.execute(query):
        held.setdefault(version, {})[thumb] = count
    wrote = select(
        replies.c.policy_version,
        func.count(),
        func.avg(replies.c.completion_tokens),
        func.max(replies.c.created_at),
    ).group_by(replies.c.policy_version)
    return {
        version: VersionFigures(
            version,
            count,
            float(tokens),
            held.get(version, {}).get("up", 0),
            held.get(version, {}).get("down", 0),
            last_reply_at,
        )
        for version, count, tokens, last_reply_at in connection.execute(wrote)
    }


def alerts(connection: Connection, at: datetime, recent: Sequence[Bucket], before: Sequence[Bucket]) -> list[Alert]:
    """Return what deserves a look. recent: the last day; before: the days to hold it against."""
    found = [*_thumbs_fell(recent, before), *_slower(recent, before), *_length_moved(recent, before)]
    last = connection.execute(select(rounds).order_by(rounds.c.round_id.desc()).limit(1)).mappings().one_or_none()
    if last is not None and last["state"] == "failed":
        found.append(Alert("round_failed", {"round": last["round_id"]}))
    if last is not None and last["open_slot"] == 1:
        lease = last["lease_until"]
        waits = last["requested_at"] < at - timedelta(minutes=10)
        if (lease is None and waits) or (lease is not None and lease < at - timedelta(minutes=10)):
            found.append(Alert("round_waits", {"round": last["round_id"]}))
    return found


def state_pulse(connection: Connection) -> str:
    """A short text that changes with every reply, act, round and move of the pointer: some looks at an index."""
    newest_act = connection.execute(select(func.max(feedback.c.feedback_id))).scalar()
    newest_reply = connection.execute(select(func.max(replies.c.created_at))).scalar()
    revision = connection.execute(select(live_pointer.c.revision)).scalar()
    last = connection.execute(
        select(rounds.c.round_id, rounds.c.state).order_by(rounds.c.round_id.desc()).limit(1)
    ).first()
    return f"{newest_act} {newest_reply} {revision} {tuple(last) if last else ''}"


def _thumbs(connection: Connection, since: datetime, until: datetime, step: Step) -> Any:
    at = bucket_of(connection, feedback.c.created_at, step)
    return (
        select(at.label("at"), feedback.c.thumb, func.count())
        .where(
            feedback.c.feedback_id >= _first_id_since(connection, since),
            feedback.c.created_at >= since,
            feedback.c.created_at < until,
            feedback.c.kind == "thumb",
            feedback.c.thumb.is_not(None),
            ~_superseded(),
        )
        .group_by(at, feedback.c.thumb)
    )


def _superseded() -> Any:
    later = feedback.alias("later")
    return exists().where(
        and_(
            later.c.reply_id == feedback.c.reply_id,
            later.c.rater_id == feedback.c.rater_id,
            later.c.kind == "thumb",
            later.c.feedback_id > feedback.c.feedback_id,
        )
    )


def _first_id_since(connection: Connection, since: datetime) -> int:
    """The first act of a span, by halving: ids rise with time, and there is no index on an act's time (a vote would pay
    for it). An import's older acts have high ids; their own time leaves them out."""
    low = connection.execute(select(func.min(feedback.c.feedback_id))).scalar()
    high = connection.execute(select(func.max(feedback.c.feedback_id))).scalar()
    if low is None or high is None:
        return 0
    while low < high:
        middle = (low + high) // 2
        query = select(feedback.c.feedback_id, feedback.c.created_at).where(feedback.c.feedback_id >= middle)
        row = connection.execute(query.order_by(feedback.c.feedback_id).limit(1)).one()
        if row.created_at < since:
            low = row.feedback_id + 1
        else:
            high = middle
    return int(low)


def bucket_of(connection: Connection, column: Any, step: Step) -> Any:
    """The beginning of a time's bucket as text, `2026-11-21` or `2026-11-21 13`."""
    if connection.dialect.name == "postgresql":
        return func.to_char(column, "YYYY-MM-DD" if step == "day" else "YYYY-MM-DD HH24")
    return func.substr(type_coerce(column, String), 1, 10 if step == "day" else 13)


def read_beginning(text: str) -> datetime:
    """The time that `bucket_of` wrote."""
    return datetime.strptime(text, "%Y-%m-%d" if len(text) == 10 else "%Y-%m-%d %H").replace(tzinfo=UTC)


def beginnings(since: datetime, until: datetime, step: Step) -> Iterable[datetime]:
    """The buckets' beginnings from `since` to `until`."""
    length = timedelta(days=1) if step == "day" else timedelta(hours=1)
    begins = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    begins = begins.replace(hour=0) if step == "day" else begins
    while begins < until:
        yield begins
        begins += length


def _sum(buckets: Sequence[Bucket]) -> tuple[int, int]:
    return sum(bucket.up for bucket in buckets), sum(bucket.thumbs for bucket in buckets)


def _thumbs_fell(recent: Sequence[Bucket], before: Sequence[Bucket]) -> list[Alert]:
    """The last day's interval lies below that of the days before."""
    (up, thumbs), (up_before, thumbs_before) = _sum(recent), _sum(before)
    if thumbs < 20 or thumbs_before < 20 or wilson(up, thumbs)[1] >= wilson(up_before, thumbs_before)[0]:
        return []
    return [Alert("thumbs_fell", {"now": up / thumbs, "before": up_before / thumbs_before})]


def _slower(recent: Sequence[Bucket], before: Sequence[Bucket]) -> list[Alert]:
    """The slowest twentieth takes twice as long as before."""
    now_ms = [value for bucket in recent for value in bucket.latency_ms]
    before_ms = [value for bucket in before for value in bucket.latency_ms]
    if len(now_ms) < 50 or len(before_ms) < 50:
        return []
    present, former = float(np.quantile(now_ms, 0.95)), float(np.quantile(before_ms, 0.95))
    return [Alert("slower", {"now_ms": present, "before_ms": former})] if present > 2 * former else []


def _length_moved(recent: Sequence[Bucket], before: Sequence[Bucket]) -> list[Alert]:
    """Replies are a third longer or shorter than before."""

    def mean(buckets: Sequence[Bucket]) -> tuple[float, int]:
        known = [(bucket.mean_tokens, bucket.replies) for bucket in buckets if bucket.mean_tokens is not None]
        count = sum(number for _, number in known)
        return (sum(tokens * number for tokens, number in known) / count if count else 0.0), count

    (present, count), (former, count_before) = mean(recent), mean(before)
    if count < 50 or count_before < 50 or 0.67 * former <= present <= 1.5 * former:
        return []
    return [Alert("length_moved", {"now": present, "before": former})]
