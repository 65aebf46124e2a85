"""What operators do to replies and feedback: flag, exclude, correct, approve, note. Every act is kept, and undoable.

    target     actions                                          what they change
    a reply    flag, unflag, exclude, restore, correct, note    flagged, excluded; a correction of the operator's own
    feedback   exclude, restore, approve, reject                excluded; approval (of a correction)

An act names the revision it has seen: the number of the last act on its target, 0 before any. If somebody was there in
between it is refused with who and what (ReviewConflict), and a bulk act is refused whole: nothing is overwritten
unseen. An act that would change nothing adds nothing. A note overwrites nothing and asks for no revision.

Undoing is an act too: it puts back what the undone act found, and may itself be undone. What a selection may learn from
is decided where it reads (`feedback.effective_query`), from the same tables.
"""

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, func, insert, select
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from feedback_store.checks import check_text
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.feedback import MOST_CORRECTION_CHARACTERS, add_feedback
from feedback_store.inbox import lock_inbox, put
from feedback_store.raters import ensure_rater, staff_rater_id
from feedback_store.records import NewFeedback
from feedback_store.replies import comparisons_by_id
from feedback_store.review_schema import feedback_reviews, reply_reviews, review_acts
from feedback_store.schema import feedback, now, replies

REVIEW_CHANNEL = "review"
"""Where an operator's own corrections come from."""
MOST_AT_ONCE = 500
"""Targets of one bulk act."""
MOST_REASON_CHARACTERS = 1_000
MOST_NOTE_CHARACTERS = 10_000

Action = Literal["flag", "unflag", "exclude", "restore", "correct", "approve", "reject", "note", "undo"]
Approval = Literal["approved", "rejected"]
_ON_REPLY: dict[str, dict[str, Any]] = {
    "flag": {"flagged": True},
    "unflag": {"flagged": False},
    "exclude": {"excluded": True},
    "restore": {"excluded": False},
}
_ON_FEEDBACK: dict[str, dict[str, Any]] = {
    "exclude": {"excluded": True},
    "restore": {"excluded": False},
    "approve": {"approval": "approved"},
    "reject": {"approval": "rejected"},
}


@dataclass(frozen=True, slots=True)
class Target:
    """What an act is about, as its author saw it. feedback_id: not the reply itself but this act of feedback on it."""

    reply_id: str
    revision: int
    feedback_id: int | None = None


@dataclass(frozen=True, slots=True)
class ReviewAct:
    """A stored act. `before` and `after` hold what it changed."""

    act_id: int
    batch_id: str
    """One press of a key may act on many targets; they are undone together."""
    action: Action
    reply_id: str
    feedback_id: int | None
    actor: str
    reason: str
    text: str | None
    """A note's."""
    before: dict[str, Any]
    after: dict[str, Any]
    undoes: int | None
    at: datetime
    undone: bool = False


class ReviewConflict(Conflict):
    """Somebody acted on a target since it was looked at. `acts` are theirs, the latest on each target."""

    def __init__(self, acts: Sequence[ReviewAct]) -> None:
        self.acts = tuple(acts)
        told = "; ".join(f"{act.actor}: {act.action} on {act.reply_id}" for act in self.acts[:3])
        more = f" and {len(self.acts) - 3} more" if len(self.acts) > 3 else ""
        super().__init__(f"somebody was first ({told}{more}): nothing was changed; look again, then repeat")


def act(
    connection: Connection,
    action: Action,
    targets: Sequence[Target],
    *,
    actor: str,
    reason: str = "",
    at: datetime | None = None,
) -> list[ReviewAct]:
    """Flag, unflag, exclude, restore, approve or reject; all targets or none. Returns the acts that changed something.

    Raises ReviewConflict, NotFound for an unknown target, Refused for what does not fit it.
    """
    if not 1 <= len(targets) <= MOST_AT_ONCE:
        raise Refused("targets", f"{len(targets)} targets; wanted: 1 to {MOST_AT_ONCE} at once")
    check_text("reason", reason, most=MOST_REASON_CHARACTERS)
    for target in targets:
        allowed = _ON_REPLY if target.feedback_id is None else _ON_FEEDBACK
        if action not in allowed:
            kind = "a reply" if target.feedback_id is None else "feedback"
            raise Refused("action", f"action is {action!r} on {kind}; wanted: {', '.join(allowed)}")
    lock_inbox(connection)
    _check_targets(connection, action, targets)
    _check_revisions(connection, targets)
    batch_id, present = new_batch_id(), at or now()
    stored = []
    for target in targets:
        change = (_ON_REPLY if target.feedback_id is None else _ON_FEEDBACK)[action]
        state = _state(connection, target.reply_id, target.feedback_id)
        before = {name: state[name] for name in change}
        if before != change:
            fields = {"reply_id": target.reply_id, "feedback_id": target.feedback_id, "before": before, "after": change}
            stored.append(_add(connection, batch_id, action, actor, reason, present, **fields))
    _put_all(connection, stored)
    return stored


def correct(
    connection: Connection,
    target: Target,
    correction: str,
    *,
    actor: str,
    reason: str = "",
    at: datetime | None = None,
) -> ReviewAct:
    """Write what the reply should have been: a correction as any rater's, approved at once. Undoing it rejects the
    correction. Raises as `act` does."""
    check_text("correction", correction, least=1, most=MOST_CORRECTION_CHARACTERS)
    check_text("reason", reason, most=MOST_REASON_CHARACTERS)
    if target.feedback_id is not None:
        raise Refused("feedback_id", f"feedback_id is {target.feedback_id}; wanted: none, a correction is of a reply")
    lock_inbox(connection)
    _check_targets(connection, "correct", [target])
    _check_revisions(connection, [target])
    rater_id = staff_rater_id(actor)
    ensure_rater(connection, rater_id, REVIEW_CHANNEL)
    said = NewFeedback("correction", rater_id, REVIEW_CHANNEL, reply_id=target.reply_id, correction=correction)
    feedback_id = add_feedback(connection, said).feedback_id
    change = {"before": {"approval": "rejected"}, "after": {"approval": "approved"}}
    fields = {"reply_id": target.reply_id, "feedback_id": feedback_id, **change}
    stored = _add(connection, new_batch_id(), "correct", actor, reason, at or now(), **fields)
    _set(connection, target.reply_id, None, stored.act_id, {})  # whoever saw the reply before it should look again
    _put_all(connection, [stored])
    return stored


def note(connection: Connection, reply_id: str, words: str, *, actor: str, at: datetime | None = None) -> ReviewAct:
    """Write a note on a reply, for other operators. Raises NotFound, Refused for an empty one."""
    check_text("note", words.strip(), least=1, most=MOST_NOTE_CHARACTERS)
    _check_targets(connection, "note", [Target(reply_id, 0)])
    fields: dict[str, Any] = {"reply_id": reply_id, "feedback_id": None, "before": {}, "after": {}}
    fields["text"] = words.strip()
    return _add(connection, new_batch_id(), "note", actor, "", at or now(), **fields)


def undo(
    connection: Connection, batch_id: str, *, actor: str, reason: str = "", at: datetime | None = None
) -> list[ReviewAct]:
    """Put back what the acts of a batch changed; all of them or none.

    Raises NotFound, Conflict when they are undone already, ReviewConflict when somebody acted on a target since.
    """
    check_text("reason", reason, most=MOST_REASON_CHARACTERS)
    lock_inbox(connection)
    acts = batch(connection, batch_id)
    if not acts:
        raise NotFound(f"no act {batch_id!r} to undo")
    if any(found.undone for found in acts):
        raise Conflict("this was undone already; wanted: an act that still holds")
    later = [found for one in acts if one.action != "note" and (found := _later(connection, one)) is not None]
    if later:
        raise ReviewConflict(later)
    new_id, present = new_batch_id(), at or now()
    stored = [
        _add(
            connection, new_id, "undo", actor, reason, present, reply_id=one.reply_id, feedback_id=one.feedback_id,
            before=one.after, after=one.before, undoes=one.act_id,
        )
        for one in reversed(acts)
    ]  # fmt: skip
    _put_all(connection, stored)
    return stored


def batch(connection: Connection, batch_id: str) -> list[ReviewAct]:
    """Return the acts of one press, in order."""
    return _read(connection, review_acts.c.batch_id == batch_id)


def acts_on(connection: Connection, reply_id: str) -> list[ReviewAct]:
    """Return every act on a reply and on feedback on it, oldest first."""
    return _read(connection, review_acts.c.reply_id == reply_id)


def recent_acts(connection: Connection, limit: int, before: int | None = None) -> list[ReviewAct]:
    """Return the newest acts of all, newest first: the audit of reviewing. before: for a next page, an act's number."""
    condition = review_acts.c.act_id < before if before is not None else review_acts.c.act_id > 0
    return _read(connection, condition, newest=limit)


def last_batch_of(connection: Connection, actor: str, since: datetime) -> list[ReviewAct]:
    """Return what this person did last, unless that was before `since` or is undone: what "undo" would undo."""
    newest = select(func.max(review_acts.c.act_id)).where(review_acts.c.actor == actor, review_acts.c.at >= since)
    number = connection.execute(newest).scalar()
    if number is None:
        return []
    name = connection.execute(select(review_acts.c.batch_id).where(review_acts.c.act_id == number)).scalar_one()
    acts = batch(connection, name)
    return [] if any(found.undone for found in acts) else acts


def new_batch_id() -> str:
    """Return a name for what one press does."""
    return secrets.token_hex(12)


def _check_targets(connection: Connection, action: Action, targets: Sequence[Target]) -> None:
    ids = sorted({target.reply_id for target in targets})
    known = set(connection.execute(select(replies.c.reply_id).where(replies.c.reply_id.in_(ids))).scalars())
    if missing := set(ids) - known:
        raise NotFound(f"no reply {min(missing)!r}")
    numbers = sorted({target.feedback_id for target in targets if target.feedback_id is not None})
    if not numbers:
        return
    query = select(feedback.c.feedback_id, feedback.c.kind).where(feedback.c.feedback_id.in_(numbers))
    kinds = {row.feedback_id: row.kind for row in connection.execute(query)}
    for number in numbers:
        if number not in kinds:
            raise NotFound(f"no feedback {number}")
        if action in ("approve", "reject") and kinds[number] != "correction":
            raise Refused("action", f"action is {action!r} on a {kinds[number]}; wanted: on a correction")


def _check_revisions(connection: Connection, targets: Iterable[Target]) -> None:
    """Raise ReviewConflict with the last act on every target that was not looked at since."""
    stale = [
        revision
        for target in targets
        if (revision := _state(connection, target.reply_id, target.feedback_id)["revision"]) != target.revision
    ]
    if stale:
        raise ReviewConflict(_read(connection, review_acts.c.act_id.in_(stale)))


def _later(connection: Connection, done: ReviewAct) -> ReviewAct | None:
    """The act that came after `done` on the same target, if any."""
    revision = _state(connection, done.reply_id, done.feedback_id)["revision"]
    return None if revision == done.act_id else _read(connection, review_acts.c.act_id == revision)[0]


def _state(connection: Connection, reply_id: str, feedback_id: int | None) -> dict[str, Any]:
    """What holds of a target now."""
    query = select(reply_reviews).where(reply_reviews.c.reply_id == reply_id)
    empty: dict[str, Any] = {"revision": 0, "flagged": False, "excluded": False}
    if feedback_id is not None:
        query = select(feedback_reviews).where(feedback_reviews.c.feedback_id == feedback_id)
        empty = {"revision": 0, "approval": None, "excluded": False}
    row = connection.execute(query).mappings().one_or_none()
    return empty if row is None else dict(row)


def _add(
    connection: Connection, batch_id: str, action: Action, actor: str, reason: str, at: datetime, **fields: Any
) -> ReviewAct:
    """Append an act and make what it changes hold."""
    values: dict[str, Any] = {"text": None, "undoes": None, "batch_id": batch_id, "action": action, "actor": actor}
    values |= {"reason": reason, "at": at} | fields
    key = connection.execute(insert(review_acts), values).inserted_primary_key
    stored = ReviewAct(act_id=int(key[0]) if key else 0, **values)
    if stored.after:
        _set(connection, stored.reply_id, stored.feedback_id, stored.act_id, stored.after)
    return stored


def _set(connection: Connection, reply_id: str, feedback_id: int | None, revision: int, change: dict[str, Any]) -> None:
    state = _state(connection, reply_id, feedback_id) | change | {"revision": revision}
    table = reply_reviews if feedback_id is None else feedback_reviews
    state |= {"reply_id": reply_id} if feedback_id is None else {"feedback_id": feedback_id}
    make: Any = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    statement = make(table).values(**state)
    connection.execute(statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=state))


def _put_all(connection: Connection, acts: Sequence[ReviewAct]) -> None:
    """Let the inbox say what holds now: of these replies, and of all in a comparison whose feedback was judged."""
    touched = {done.reply_id for done in acts}
    numbers = sorted({done.feedback_id for done in acts if done.feedback_id is not None})
    for start in range(0, len(numbers), MOST_AT_ONCE):
        query = select(feedback.c.comparison_id).where(
            feedback.c.feedback_id.in_(numbers[start : start + MOST_AT_ONCE]), feedback.c.comparison_id.is_not(None)
        )
        compared = comparisons_by_id(connection, sorted(set(connection.execute(query).scalars())))
        touched.update(name for comparison in compared.values() for name in comparison.reply_ids)
    put(connection, sorted(touched))


def _read(connection: Connection, condition: Any, newest: int | None = None) -> list[ReviewAct]:
    undoing = review_acts.alias("undoing")
    undone = select(undoing.c.act_id).where(undoing.c.undoes == review_acts.c.act_id).exists()
    query = select(review_acts, undone.label("undone")).where(condition)
    if newest is None:
        query = query.order_by(review_acts.c.act_id)
    else:
        query = query.order_by(review_acts.c.act_id.desc()).limit(newest)
    return [_act(row) for row in connection.execute(query)]


def _act(row: Row[Any]) -> ReviewAct:
    return ReviewAct(**(dict(row._mapping) | {"undone": bool(row.undone)}))
