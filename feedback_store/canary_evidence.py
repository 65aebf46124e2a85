"""What people said and saw since a canary began: comparisons of both versions, thumbs on either, empty replies."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, case, func, select

from feedback_store import replies as replies_store
from feedback_store.feedback import effective_query, feedback_of_row
from feedback_store.records import Canary, NewFeedback, PolicyVersion
from feedback_store.schema import comparisons, deployments, feedback, replies
from feedback_store.versions import canary, live_version

_EMPTY_TOKENS = 1
"""A completion of its end token alone."""


@dataclass(frozen=True, slots=True)
class PairVote:
    """A rater's word on a comparison of both versions: True, the canary's reply is better; None, neither is."""

    rater_id: str
    canary_won: bool | None


@dataclass(frozen=True, slots=True)
class Look:
    """One unit of either version in the order in which it came: was it `good`?"""

    of_canary: bool
    good: bool


@dataclass(frozen=True, slots=True)
class CanaryEvidence:
    """Everything since `since`. Of thumbs the first of each rater on each version; of replies one `Look` for each
    conversation and version (good: none of its replies was empty). Quarantined raters are left out."""

    canary: Canary
    live: PolicyVersion
    since: datetime
    pairs: tuple[PairVote, ...]
    thumbs: tuple[Look, ...]
    conversations: tuple[Look, ...]


def canary_evidence(connection: Connection) -> CanaryEvidence | None:
    """Read the present canary's evidence; None when no version is a canary."""
    present = canary(connection)
    if present is None:
        return None
    live, since = live_version(connection), _began(connection, present.version.version)
    before = _acts_before(connection, since)
    return CanaryEvidence(
        present,
        live,
        since,
        _pairs(connection, live.version, present.version.version, since, before),
        _thumbs(connection, live.version, present.version.version, since, before),
        _conversations(connection, live.version, present.version.version, since),
    )


def _acts_before(connection: Connection, since: datetime) -> int:
    """The number below which no act is about anything that was shown since: what came before need not be looked at, and
    in a large store that is nearly everything."""
    on_reply = select(func.min(feedback.c.feedback_id)).join(replies, replies.c.reply_id == feedback.c.reply_id)
    on_pair = select(func.min(feedback.c.feedback_id)).join(
        comparisons, comparisons.c.comparison_id == feedback.c.comparison_id
    )
    first = [
        connection.execute(on_reply.where(replies.c.created_at >= since)).scalar(),
        connection.execute(on_pair.where(comparisons.c.created_at >= since)).scalar(),
    ]
    return min((number for number in first if number is not None), default=1) - 1


def _began(connection: Connection, version: int) -> datetime:
    """When the canary began: the first of the last moves in a row that are all its own (its share may change)."""
    query = select(deployments.c.action, deployments.c.version, deployments.c.at)
    began: datetime | None = None
    for action, moved, at in connection.execute(query.order_by(deployments.c.deployment_id.desc())):
        if action != "canary" or moved != version:
            break
        began = at
    assert began is not None
    return began


def _pairs(connection: Connection, live: int, version: int, since: datetime, before: int) -> tuple[PairVote, ...]:
    query = (
        effective_query(since_feedback_id=before, on="comparisons")
        .join(comparisons, comparisons.c.comparison_id == feedback.c.comparison_id)
        .where(comparisons.c.created_at >= since)
        .order_by(feedback.c.feedback_id)
    )
    acts = [feedback_of_row(row).act for row in connection.execute(query).mappings()]
    shown = replies_store.comparisons_by_id(connection, sorted({act.comparison_id or "" for act in acts}))
    names = [name for comparison in shown.values() for name in comparison.reply_ids]
    version_of = _versions_of(connection, names)
    found: dict[tuple[str, str], PairVote] = {}
    for act in acts:
        sides = [version_of.get(name) for name in shown[act.comparison_id or ""].reply_ids]
        # As many of either: only then is the canary's chance one half when it is no better and no worse.
        if set(sides) == {live, version} and sides.count(live) == sides.count(version):
            best = _best(act)
            won = None if best is None else version_of[best] == version
            found[act.rater_id, act.comparison_id or ""] = PairVote(act.rater_id, won)
    return tuple(found.values())


def _best(act: NewFeedback) -> str | None:
    """The reply that the rater liked best; None for a tie or for both bad."""
    if act.ranking is not None:
        return act.ranking[0]
    return None if act.verdict in (None, "tie", "both_bad") else act.verdict


def _versions_of(connection: Connection, reply_ids: list[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for start in range(0, len(reply_ids), replies_store.MOST_AT_ONCE):
        part = reply_ids[start : start + replies_store.MOST_AT_ONCE]
        query = select(replies.c.reply_id, replies.c.policy_version).where(replies.c.reply_id.in_(part))
        found.update((row.reply_id, row.policy_version) for row in connection.execute(query))
    return found


def _thumbs(connection: Connection, live: int, version: int, since: datetime, before: int) -> tuple[Look, ...]:
    acts = effective_query(since_feedback_id=before).where(feedback.c.kind == "thumb").subquery("acts")
    query = (
        select(acts.c.rater_id, acts.c.thumb, replies.c.policy_version)
        .join(replies, replies.c.reply_id == acts.c.reply_id)
        .where(
            replies.c.created_at >= since,
            replies.c.comparison_id.is_(None),
            replies.c.policy_version.in_((live, version)),
        )
        .order_by(acts.c.feedback_id)
    )
    first: dict[tuple[str, int], Look] = {}
    for row in connection.execute(query):
        look = Look(row.policy_version == version, row.thumb == "up")
        first.setdefault((row.rater_id, row.policy_version), look)
    return tuple(first.values())


def _conversations(connection: Connection, live: int, version: int, since: datetime) -> tuple[Look, ...]:
    empty = case((and_(replies.c.completion_tokens <= _EMPTY_TOKENS, replies.c.finish_reason == "stop"), 1), else_=0)
    query = (
        select(replies.c.policy_version, func.max(empty).label("empty"))
        .where(
            replies.c.created_at >= since,
            replies.c.comparison_id.is_(None),
            replies.c.conversation_id.is_not(None),
            replies.c.finish_reason != "cancelled",
            replies.c.policy_version.in_((live, version)),
        )
        .group_by(replies.c.conversation_id, replies.c.policy_version)
        .order_by(func.min(replies.c.created_at))
    )
    return tuple(Look(row.policy_version == version, row.empty == 0) for row in connection.execute(query))
