"""Quarantine: feedback that trains nothing until an operator decides. Of a whole rater, or of single acts.

A quarantine begins by hand or by a signal (trust.py), and ends by an operator's word alone: `released` brings the
feedback back, `kept` leaves it out for good. What was released is not taken in again by the same signal.
"""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Connection, RowMapping, delete, insert, select, update

from feedback_store.errors import Conflict, NotFound
from feedback_store.records import Quarantine
from feedback_store.schema import feedback, live_pointer, now, quarantines, raters

Signal = Literal["flood", "ring", "phrase", "by_hand"]


def begin_quarantine(
    connection: Connection,
    rater_id: str,
    *,
    signal: Signal,
    reason: str,
    begun_by: str,
    feedback_id: int | None = None,
    figures: dict[str, Any] | None = None,
) -> Quarantine | None:
    """Take a rater, or one of their acts, in quarantine; None when they are in it for this signal already, or were
    released from it. By hand it may be done again. Raises NotFound for an unknown rater or act."""
    # The one row that is always there: two trainers that scan at once must not both begin.
    connection.execute(select(live_pointer.c.version).with_for_update())
    if connection.execute(select(raters.c.rater_id).where(raters.c.rater_id == rater_id)).scalar() is None:
        raise NotFound(f"no rater {rater_id!r}")
    if feedback_id is not None:
        query = select(feedback.c.feedback_id).where(
            feedback.c.feedback_id == feedback_id, feedback.c.rater_id == rater_id
        )
        if connection.execute(query).scalar() is None:
            raise NotFound(f"no feedback {feedback_id} of the rater {rater_id!r}")
    known = select(quarantines.c.decision).where(
        quarantines.c.rater_id == rater_id, quarantines.c.signal == signal, quarantines.c.feedback_id == feedback_id
    )
    decisions = connection.execute(known).scalars().all()
    if any(decision is None for decision in decisions) or (decisions and signal != "by_hand"):
        return None
    values = {
        "rater_id": rater_id,
        "feedback_id": feedback_id,
        "signal": signal,
        "reason": reason,
        "figures": figures or {},
        "begun_by": begun_by,
        "begun_at": now(),
    }
    key = connection.execute(insert(quarantines), values).inserted_primary_key
    if feedback_id is None:
        _set_flag(connection, rater_id, True)
    return get_quarantine(connection, int(key[0]) if key else 0)


def begin_by_hand(
    connection: Connection, rater_id: str, *, reason: str, begun_by: str, feedback_id: int | None = None
) -> Quarantine:
    """Take a rater, or one of their acts, in quarantine on somebody's word. Raises Conflict when somebody's word holds
    them in it already, NotFound."""
    begun = begin_quarantine(
        connection, rater_id, signal="by_hand", reason=reason, begun_by=begun_by, feedback_id=feedback_id
    )
    if begun is None:
        raise Conflict(f"the rater {rater_id!r} is in quarantine already; decide that one first")
    return begun


def release_rater(connection: Connection, rater_id: str, *, actor: str) -> None:
    """Release every quarantine of the whole rater that waits for a word; those of single acts stay.

    Raises Conflict when one was decided for good, NotFound.
    """
    connection.execute(select(live_pointer.c.version).with_for_update())
    if connection.execute(select(raters.c.rater_id).where(raters.c.rater_id == rater_id)).scalar() is None:
        raise NotFound(f"no rater {rater_id!r}")
    whole = [one for one in quarantines_of(connection, rater_id) if one.feedback_id is None]
    kept = next((one for one in whole if one.decision == "kept"), None)
    if kept is not None:
        raise Conflict(f"the rater {rater_id!r} was left out for good by {kept.decided_by}; that is not taken back")
    for one in whole:
        if one.decision is None:
            decide_quarantine(connection, one.quarantine_id, "released", actor=actor)
    _set_flag(connection, rater_id, False)  # also of a store in which the flag was all there was


def decide_quarantine(
    connection: Connection, quarantine_id: int, decision: Literal["released", "kept"], *, actor: str
) -> Quarantine:
    """End a quarantine by an operator's word. Raises Conflict when it was decided already, NotFound."""
    query = select(quarantines).where(quarantines.c.quarantine_id == quarantine_id).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no quarantine {quarantine_id}")
    if row["decision"] is not None:
        raise Conflict(f"quarantine {quarantine_id} was decided by {row['decided_by']}: {row['decision']}; look again")
    connection.execute(
        update(quarantines)
        .where(quarantines.c.quarantine_id == quarantine_id)
        .values(decision=decision, decided_by=actor, decided_at=now())
    )
    if row["feedback_id"] is None and decision == "released" and not _held_otherwise(connection, row["rater_id"]):
        _set_flag(connection, row["rater_id"], False)
    return get_quarantine(connection, quarantine_id)


def get_quarantine(connection: Connection, quarantine_id: int) -> Quarantine:
    """Return the quarantine. Raises NotFound."""
    query = select(quarantines).where(quarantines.c.quarantine_id == quarantine_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no quarantine {quarantine_id}")
    return _quarantine(row)


def list_quarantines(connection: Connection, *, open_only: bool = False, limit: int = 200) -> list[Quarantine]:
    """Return the newest quarantines, newest first; with `open_only` those that wait for a decision."""
    query = select(quarantines).order_by(quarantines.c.quarantine_id.desc()).limit(limit)
    if open_only:
        query = query.where(quarantines.c.decision.is_(None))
    return [_quarantine(row) for row in connection.execute(query).mappings()]


def quarantines_of(connection: Connection, rater_id: str) -> list[Quarantine]:
    """Return a rater's quarantines, newest first."""
    query = select(quarantines).where(quarantines.c.rater_id == rater_id).order_by(quarantines.c.quarantine_id.desc())
    return [_quarantine(row) for row in connection.execute(query).mappings()]


def forget_quarantines(connection: Connection, rater_id: str) -> None:
    """Delete the quarantines of a rater and of their acts: the rater is to be erased."""
    connection.execute(delete(quarantines).where(quarantines.c.rater_id == rater_id))


def quarantined_acts(connection: Connection, feedback_ids: Sequence[int]) -> set[int]:
    """Return which of these acts are in quarantine now, by themselves or with their rater."""
    found: set[int] = set()
    ids = sorted(feedback_ids)
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        held = select(quarantines.c.feedback_id).where(
            quarantines.c.feedback_id.in_(part),
            quarantines.c.decision.is_(None) | (quarantines.c.decision == "kept"),
        )
        with_rater = (
            select(feedback.c.feedback_id)
            .join(raters, raters.c.rater_id == feedback.c.rater_id)
            .where(feedback.c.feedback_id.in_(part), raters.c.quarantined.is_(True))
        )
        found.update(connection.execute(held).scalars())
        found.update(connection.execute(with_rater).scalars())
    return found


def _held_otherwise(connection: Connection, rater_id: str) -> bool:
    query = select(quarantines.c.quarantine_id).where(
        quarantines.c.rater_id == rater_id,
        quarantines.c.feedback_id.is_(None),
        quarantines.c.decision.is_(None) | (quarantines.c.decision == "kept"),
    )
    return connection.execute(query.limit(1)).scalar() is not None


def _set_flag(connection: Connection, rater_id: str, quarantined: bool) -> None:
    connection.execute(update(raters).where(raters.c.rater_id == rater_id).values(quarantined=quarantined))


def _quarantine(row: RowMapping) -> Quarantine:
    return Quarantine(**row)
