"""Feedback: an append-only sequence of acts. What a rater thinks now is the latest act, found when it is read."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, Row, RowMapping, Select, and_, case, exists, func, or_, select

from feedback_store.checks import check_channel, check_text
from feedback_store.errors import NotFound, Refused
from feedback_store.inserts import insert_feedback
from feedback_store.records import BOTH_BAD, TIE, Feedback, FeedbackAck, NewFeedback
from feedback_store.review_schema import feedback_reviews, reply_reviews
from feedback_store.rows import IN_PARTS
from feedback_store.schema import comparisons, feedback, now, quarantines, raters, replies
from feedback_store.writer import remembered

MOST_REASON_CHARACTERS = 4_000
MOST_CORRECTION_CHARACTERS = 100_000
MOST_KEY_CHARACTERS = 255

Target = Literal["replies", "comparisons"]

# The field that says what the act is, of each kind.
_VALUE_OF = {"thumb": "thumb", "verdict": "verdict", "ranking": "ranking", "correction": "correction"}


def add_feedback(connection: Connection, act: NewFeedback) -> FeedbackAck:
    """Append an act. One with an idempotency key that this rater used before adds nothing and gets the first one's
    receipt.

    Raises NotFound for an unknown reply, comparison or rater; Refused, naming the field, for one that breaks a rule.
    """
    _check_shape(act)
    _check_rater(connection, act.rater_id)
    if act.reply_id is not None:
        _check_reply(connection, act.reply_id)
    elif act.comparison_id is not None:
        _check_choice(act, _reply_ids(connection, act.comparison_id))
    feedback_id = insert_feedback(connection, feedback, feedback_values(act, now()))
    if feedback_id is not None:
        return FeedbackAck(feedback_id, duplicate=False)
    query = select(feedback.c.feedback_id).where(
        feedback.c.rater_id == act.rater_id, feedback.c.idempotency_key == act.idempotency_key
    )
    return FeedbackAck(connection.execute(query).scalar_one(), duplicate=True)


def history(connection: Connection, *, reply_id: str | None = None, comparison_id: str | None = None) -> list[Feedback]:
    """Return every act on a reply or a comparison, oldest first, superseded ones included."""
    if (reply_id is None) == (comparison_id is None):
        raise Refused("reply_id", "history was asked of both targets or none; wanted: reply_id or comparison_id")
    query = select(feedback).order_by(feedback.c.feedback_id)
    if reply_id is not None:
        query = query.where(feedback.c.reply_id == reply_id)
    else:
        query = query.where(feedback.c.comparison_id == comparison_id)
    return [feedback_of_row(row) for row in connection.execute(query).mappings()]


def recent_feedback(connection: Connection, limit: int, before: int | None = None) -> list[Feedback]:
    """Return the newest acts, newest first; those before an id for a next page."""
    query = select(feedback).order_by(feedback.c.feedback_id.desc()).limit(limit)
    if before is not None:
        query = query.where(feedback.c.feedback_id < before)
    return [feedback_of_row(row) for row in connection.execute(query).mappings()]


def get_feedback(connection: Connection, feedback_ids: Sequence[int]) -> list[Feedback]:
    """Return the acts of these ids, by id; unknown ids are left out."""
    found: list[Feedback] = []
    ids = sorted(feedback_ids)
    for start in range(0, len(ids), 500):
        query = select(feedback).where(feedback.c.feedback_id.in_(ids[start : start + 500]))
        rows = connection.execute(query.order_by(feedback.c.feedback_id)).mappings()
        found.extend(feedback_of_row(row) for row in rows)
    return found


def effective_feedback(
    connection: Connection,
    *,
    since_feedback_id: int = 0,
    policy_version: int | None = None,
    since: datetime | None = None,
    include_quarantined: bool = False,
    include_excluded: bool = False,
    include_unapproved: bool = False,
) -> list[Feedback]:
    """Return what raters think now, by id: of each rater, target and kind the latest act, and none that is retracted.

    since_feedback_id: only acts after that one. since: of what holds now, only what was given at that time or later.
    policy_version: only on replies of that version, and on comparisons all of whose replies are of it. Left out unless
    asked for, so that whatever learns from feedback need not remember it: quarantined raters and acts quarantined on
    their own, what an operator excluded (the act, its reply, or any reply of its comparison), and corrections that
    nobody has approved.
    """
    query = effective_query(
        since_feedback_id=since_feedback_id,
        include_quarantined=include_quarantined,
        include_excluded=include_excluded,
        include_unapproved=include_unapproved,
    )
    return list(_each(connection, _narrowed(query, policy_version, since)))


def each_effective(
    connection: Connection, on: Target, *, policy_version: int | None = None, since: datetime | None = None
) -> Iterator[Feedback]:
    """Yield the acts of `effective_feedback` on replies, or those on comparisons, by id: one at a time, for stores that
    hold millions."""
    return _each(connection, _narrowed(effective_query(on=on), policy_version, since))


def _each(connection: Connection, query: Select[Any]) -> Iterator[Feedback]:
    for row in connection.execute(query.order_by(feedback.c.feedback_id), execution_options=IN_PARTS):
        yield feedback_of(row)


def effective_count(connection: Connection, *, policy_version: int | None = None, since: datetime | None = None) -> int:
    """Return how many acts `effective_feedback` would give with those in quarantine among them."""
    query = _narrowed(effective_query(include_quarantined=True), policy_version, since)
    return int(connection.execute(select(func.count()).select_from(query.subquery("held"))).scalar_one())


def _narrowed(query: Select[Any], policy_version: int | None, since: datetime | None) -> Select[Any]:
    if policy_version is not None:
        query = query.where(of_version(policy_version))
    return query if since is None else query.where(feedback.c.created_at >= since)


def effective_query(
    *,
    since_feedback_id: int = 0,
    include_quarantined: bool = False,
    include_excluded: bool = False,
    include_unapproved: bool = False,
    on: Target | None = None,
) -> Select[Any]:
    """The statement behind `effective_feedback`, unordered, to be narrowed further.

    on: only acts on replies, or on comparisons. Narrowed afterwards, the newest act of every rater would be looked for
    among all acts first.
    """
    looked_at = [feedback.c.feedback_id > since_feedback_id]
    if on is not None:
        target = feedback.c.reply_id if on == "replies" else feedback.c.comparison_id
        looked_at.append(target.is_not(None))
    latest = (
        select(func.max(feedback.c.feedback_id).label("feedback_id"))
        .where(*looked_at)
        .group_by(feedback.c.rater_id, feedback.c.kind, feedback.c.reply_id, feedback.c.comparison_id)
        .subquery("latest")
    )
    query = (
        select(feedback)
        .join(latest, latest.c.feedback_id == feedback.c.feedback_id)
        .where(
            case(
                (feedback.c.kind == "thumb", feedback.c.thumb.is_not(None)),
                (feedback.c.kind == "verdict", feedback.c.verdict.is_not(None)),
                else_=True,
            )
        )
    )
    if not include_quarantined:
        held = select(quarantines.c.feedback_id).where(
            quarantines.c.feedback_id.is_not(None), func.coalesce(quarantines.c.decision, "") != "released"
        )
        query = query.join(raters, raters.c.rater_id == feedback.c.rater_id).where(
            raters.c.quarantined.is_(False), feedback.c.feedback_id.not_in(held)
        )
    if not include_excluded:
        query = query.where(*_not_excluded())
    if not include_unapproved:
        approved = select(feedback_reviews.c.feedback_id).where(feedback_reviews.c.approval == "approved")
        query = query.where(or_(feedback.c.kind != "correction", feedback.c.feedback_id.in_(approved)))
    return query


def _not_excluded() -> list[ColumnElement[bool]]:
    """Applied to the latest acts alone: one that is excluded does not bring the one before it back."""
    excluded_acts = select(feedback_reviews.c.feedback_id).where(feedback_reviews.c.excluded.is_(True))
    excluded_replies = select(reply_reviews.c.reply_id).where(reply_reviews.c.excluded.is_(True))
    excluded_comparisons = select(replies.c.comparison_id).where(
        replies.c.reply_id.in_(excluded_replies), replies.c.comparison_id.is_not(None)
    )
    return [
        feedback.c.feedback_id.not_in(excluded_acts),
        or_(feedback.c.reply_id.is_(None), feedback.c.reply_id.not_in(excluded_replies)),
        or_(feedback.c.comparison_id.is_(None), feedback.c.comparison_id.not_in(excluded_comparisons)),
    ]


def of_version(policy_version: int) -> Any:
    """The condition that an act's target was written by this version."""
    own = exists().where(replies.c.reply_id == feedback.c.reply_id, replies.c.policy_version == policy_version)
    compared = replies.alias("compared")
    any_reply = exists().where(compared.c.comparison_id == feedback.c.comparison_id)
    foreign = exists().where(
        compared.c.comparison_id == feedback.c.comparison_id, compared.c.policy_version != policy_version
    )
    return case((feedback.c.reply_id.is_not(None), own), else_=and_(any_reply, ~foreign))


def counts(connection: Connection) -> dict[str, int]:
    """Return how many there are: `replies`, `comparisons`, `raters`, `events` (acts, superseded ones included), and of
    what holds now `up`, `down`, `verdicts` (decided, ties and both-bad together), `ties`, `both_bad`, `rankings`,
    `corrections`."""
    found = {"up": 0, "down": 0, "verdicts": 0, "ties": 0, "both_bad": 0, "rankings": 0, "corrections": 0}
    everything = effective_query(include_quarantined=True, include_excluded=True, include_unapproved=True)
    now_held = everything.subquery("now_held")
    word = case(
        (now_held.c.kind == "thumb", now_held.c.thumb),
        (now_held.c.verdict.in_((TIE, BOTH_BAD)), now_held.c.verdict),
        else_=now_held.c.kind,
    )
    names = {"ranking": "rankings", "correction": "corrections", TIE: "ties", "verdict": "verdicts"}
    for name, number in connection.execute(select(word, func.count()).group_by(word)):
        found[names.get(name, name)] = number
    found["verdicts"] += found["ties"] + found["both_bad"]
    tables = {"replies": replies, "comparisons": comparisons, "raters": raters, "events": feedback}
    for name, table in tables.items():
        found[name] = connection.execute(select(func.count()).select_from(table)).scalar_one()
    return found


def feedback_values(act: NewFeedback, at: datetime) -> dict[str, Any]:
    """The row of an act that was checked; given at `at` unless it says when itself."""
    return {
        "kind": act.kind,
        "rater_id": act.rater_id,
        "channel": act.channel,
        "reply_id": act.reply_id,
        "comparison_id": act.comparison_id,
        "thumb": act.thumb,
        "verdict": act.verdict,
        "ranking": None if act.ranking is None else list(act.ranking),
        "correction": act.correction,
        "reason": act.reason,
        "idempotency_key": act.idempotency_key,
        "created_at": act.created_at or at,
    }


def feedback_of(row: Row[Any]) -> Feedback:
    """The record of a row whose columns are those of the table in their order: at a million rows names cost seconds."""
    feedback_id, kind, rater_id, channel, reply_id, comparison_id, thumb, verdict, ranking, *rest = tuple(row)
    order = None if ranking is None else tuple(ranking)
    return Feedback(
        feedback_id,
        NewFeedback(kind, rater_id, channel, reply_id, comparison_id, thumb, verdict, order, *rest),
    )


def feedback_of_row(row: RowMapping) -> Feedback:
    """The record of a stored row."""
    values: dict[str, Any] = dict(row)
    feedback_id = values.pop("feedback_id")
    ranking = values.pop("ranking")
    return Feedback(feedback_id, NewFeedback(**values, ranking=None if ranking is None else tuple(ranking)))


def _check_shape(act: NewFeedback) -> None:
    """Exactly the fields of the kind, each of its own form. Cheap first: this runs for every click."""
    if act.kind not in _VALUE_OF:
        raise Refused("kind", f"kind is {act.kind!r}; wanted: thumb, verdict, ranking or correction")
    on_reply = act.kind in ("thumb", "correction")
    wanted, other = ("reply_id", "comparison_id") if on_reply else ("comparison_id", "reply_id")
    if getattr(act, wanted) is None:
        raise Refused(wanted, f"{wanted} is missing; wanted: the target of a {act.kind}")
    if getattr(act, other) is not None:
        raise Refused(other, f"{other} is given; wanted: only {wanted} with a {act.kind}")
    for name in _VALUE_OF.values():
        if name != act.kind and getattr(act, name) is not None:
            raise Refused(name, f"{name} is given; wanted: only {act.kind} in an act of that kind")
    if act.kind == "thumb":
        if act.thumb not in ("up", "down", None):
            raise Refused("thumb", f"thumb is {act.thumb!r}; wanted: up, down or null")
    elif act.kind == "correction":
        check_text("correction", act.correction, least=1, most=MOST_CORRECTION_CHARACTERS)
    elif act.kind == "ranking" and act.ranking is None:
        raise Refused("ranking", "ranking is missing; wanted: all reply ids of the comparison, best first")
    check_channel(act.channel)
    if act.reason is not None:
        check_text("reason", act.reason, most=MOST_REASON_CHARACTERS)
    if act.idempotency_key is not None:
        check_text("idempotency_key", act.idempotency_key, least=1, most=MOST_KEY_CHARACTERS)


def _check_rater(connection: Connection, rater_id: str) -> None:
    known = remembered(connection, "raters")
    if rater_id in known:
        return
    if connection.execute(select(raters.c.rater_id).where(raters.c.rater_id == rater_id)).scalar() is None:
        raise NotFound(f"no rater {rater_id!r}")
    known[rater_id] = True


def _check_reply(connection: Connection, reply_id: str) -> None:
    known = remembered(connection, "replies")
    if reply_id in known:
        return
    if connection.execute(select(replies.c.reply_id).where(replies.c.reply_id == reply_id)).scalar() is None:
        raise NotFound(f"no reply {reply_id!r}")
    known[reply_id] = True


def _reply_ids(connection: Connection, comparison_id: str) -> list[str]:
    known = remembered(connection, "comparisons")
    if comparison_id not in known:
        query = select(comparisons.c.reply_ids).where(comparisons.c.comparison_id == comparison_id)
        found = connection.execute(query).scalar()
        if found is None:
            raise NotFound(f"no comparison {comparison_id!r}")
        known[comparison_id] = found
    reply_ids: list[str] = known[comparison_id]
    return reply_ids


def _check_choice(act: NewFeedback, reply_ids: list[str]) -> None:
    if act.kind == "verdict" and act.verdict not in (None, TIE, BOTH_BAD, *reply_ids):
        raise Refused(
            "verdict", f"verdict is {act.verdict!r}; wanted: {', '.join(reply_ids)}, {TIE}, {BOTH_BAD} or null"
        )
    if act.kind == "ranking" and act.ranking is not None and sorted(act.ranking) != sorted(reply_ids):
        raise Refused(
            "ranking", f"ranking holds {len(act.ranking)} ids; wanted: each of {', '.join(reply_ids)} once, best first"
        )
