"""Rounds: a state machine in a row, with a lease, a heartbeat and a fencing number.

    requested ─► selecting ─► training ─► gating ─► published | rejected
        └────────────┴───────────┴──────────┴─────► failed | cancelled        (selecting may also end rejected)

An admin's wish is a row; a trainer claims it. A trainer that dies lets its lease run out, and the next one claims the
round where it stood. Every claim and every cancel raises the fence, and a write that carries an older fence is refused:
a trainer that was only asleep finds out before it can do harm. At most one round is open.

Times come from the caller's `at` where a test or a clock brings one, else from the database's machine: of several
trainers over one PostgreSQL no two need agree about the time.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, RowMapping, exc, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.records import ROUND_ENDED, Method, Round, RoundMetric, RoundState, Split
from feedback_store.schema import feedback, now, round_metrics, round_selection, rounds

NEXT_STATES: dict[RoundState, frozenset[RoundState]] = {
    "requested": frozenset({"requested", "selecting", "failed", "cancelled"}),
    "selecting": frozenset({"selecting", "training", "rejected", "failed", "cancelled"}),
    "training": frozenset({"training", "gating", "failed", "cancelled"}),
    "gating": frozenset({"gating", "published", "rejected", "failed", "cancelled"}),
    "published": frozenset(),
    "rejected": frozenset(),
    "failed": frozenset(),
    "cancelled": frozenset(),
}
"""Where a round may go. To the same open state: a trainer that resumed it, or that adds a field."""
ADVANCE_FIELDS = frozenset(
    {"method", "reference_version", "candidate_version", "settings", "selection", "gate_report", "reason"}
)


_IMPLAUSIBLE_LEASES = 10
"""A lease that ends this many leases ahead was taken before the clock was set back; nobody may hold it."""


def request_round(
    connection: Connection,
    *,
    method: Method | None,
    requested_by: str,
    settings: dict[str, Any],
    at: datetime | None = None,
) -> Round:
    """Ask for a round. Raises Conflict when one is open."""
    open_round = connection.execute(select(rounds).where(rounds.c.open_slot == 1)).mappings().one_or_none()
    if open_round is not None:
        raise _is_open(open_round["round_id"], open_round["state"])
    values = {
        "state": "requested",
        "open_slot": 1,
        "method": method,
        "requested_by": requested_by,
        "requested_at": _time(connection, at),
        "settings": settings,
        "selection": {},
    }
    try:
        key = connection.execute(insert(rounds), values).inserted_primary_key
    except exc.IntegrityError as error:  # two programs asked PostgreSQL at the same moment
        raise Conflict("a round was asked for at the same moment; wanted: one open round at a time") from error
    return get_round(connection, int(key[0]) if key else 0)


def claim_round(connection: Connection, owner: str, lease_s: float, *, at: datetime | None = None) -> Round | None:
    """Take the oldest open round that nobody holds, new or with a lease that ran out; None when there is none.

    The round comes back in the state it was left in, with a higher fence; its holder passes that fence to every write.
    """
    present = _time(connection, at)
    farthest = present + timedelta(seconds=max(lease_s, 1.0) * _IMPLAUSIBLE_LEASES)
    free = or_(rounds.c.lease_until.is_(None), rounds.c.lease_until < present, rounds.c.lease_until > farthest)
    query = (
        select(rounds.c.round_id)
        .where(rounds.c.open_slot == 1, free)
        .order_by(rounds.c.round_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    round_id = connection.execute(query).scalar()
    if round_id is None:
        return None
    found = get_round(connection, round_id)
    connection.execute(
        update(rounds)
        .where(rounds.c.round_id == round_id)
        .values(
            lease_owner=owner,
            lease_until=present + timedelta(seconds=lease_s),
            fence=found.fence + 1,
            attempts=found.attempts + 1,
            started_at=found.started_at or present,
        )
    )
    return get_round(connection, round_id)


def heartbeat(
    connection: Connection,
    round_id: int,
    fence: int,
    lease_s: float,
    *,
    progressed: bool = False,
    at: datetime | None = None,
) -> None:
    """Hold the lease for `lease_s` seconds from now. progressed: it got further, so its attempts are counted anew.

    Raises Conflict when the round is no longer the caller's.
    """
    present = _held(connection, round_id, fence)
    connection.execute(
        update(rounds)
        .where(rounds.c.round_id == round_id)
        .values(
            lease_until=_time(connection, at) + timedelta(seconds=lease_s),
            attempts=0 if progressed else present.attempts,
        )
    )


def release_round(connection: Connection, round_id: int, fence: int) -> None:
    """Give an open round's lease up, so that another trainer may take it at once; this claim does not count as an
    attempt (a trainer that is stopped is not one that died). Raises Conflict when it is no longer the caller's."""
    present = _held(connection, round_id, fence)
    connection.execute(
        update(rounds)
        .where(rounds.c.round_id == round_id)
        .values(lease_owner=None, lease_until=None, attempts=max(present.attempts - 1, 0))
    )


def advance(
    connection: Connection,
    /,
    round_id: int,
    fence: int,
    state: RoundState,
    *,
    at: datetime | None = None,
    **fields: Any,
) -> Round:
    """Move a round to `state` and set `fields` (of ADVANCE_FIELDS); an ended round gives its lease up.

    Raises Conflict on a stale fence or an illegal transition, Refused for an unknown field, NotFound.
    """
    unknown = set(fields) - ADVANCE_FIELDS
    if unknown:
        name = min(unknown)
        raise Refused(name, f"{name} is no field that a round may set; wanted: {', '.join(sorted(ADVANCE_FIELDS))}")
    present = _held(connection, round_id, fence)
    if state not in NEXT_STATES[present.state]:
        raise Conflict(
            f"round {round_id} is {present.state} and cannot become {state}; "
            f"wanted: {', '.join(sorted(NEXT_STATES[present.state]))}"
        )
    if state != present.state:
        fields["attempts"] = 0
    return _set_state(connection, round_id, state, fields, _time(connection, at))


def cancel_round(connection: Connection, round_id: int, actor: str, *, at: datetime | None = None) -> Round:
    """End an open round at once. Its trainer learns of it by its next write, which is refused.

    Raises Conflict when the round has ended, NotFound.
    """
    present = _locked(connection, round_id)
    if present.state in ROUND_ENDED:
        raise Conflict(f"round {round_id} has ended ({present.state}); wanted: an open one")
    fields = {"reason": f"cancelled by {actor}", "fence": present.fence + 1}
    return _set_state(connection, round_id, "cancelled", fields, _time(connection, at))


def get_round(connection: Connection, round_id: int) -> Round:
    """Return the round. Raises NotFound."""
    row = connection.execute(select(rounds).where(rounds.c.round_id == round_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no round {round_id}")
    return _round(row)


def list_rounds(connection: Connection, limit: int = 100) -> list[Round]:
    """Return the newest rounds, newest first."""
    query = select(rounds).order_by(rounds.c.round_id.desc()).limit(limit)
    return [_round(row) for row in connection.execute(query).mappings()]


def add_metrics(connection: Connection, points: Sequence[RoundMetric], *, fence: int | None = None) -> None:
    """Add points of live curves; a point that is there already takes the new value (a resumed round repeats steps).

    fence: of the claim that holds the points' rounds; a stale one is a Conflict. Without one nothing is checked.
    Raises Refused for a value that is not finite, NotFound for an unknown round.
    """
    if not points:
        return
    if fence is not None:
        for round_id in {point.round_id for point in points}:
            _held(connection, round_id, fence)
    for point in points:
        if not math.isfinite(point.value):
            raise Refused("value", f"{point.name} is {point.value} at step {point.step}; wanted: a finite number")
    for round_id in {point.round_id for point in points}:
        get_round(connection, round_id)
    make: Any = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    statement = make(round_metrics)
    statement = statement.on_conflict_do_update(
        index_elements=list(round_metrics.primary_key),
        set_={"value": statement.excluded.value, "at": statement.excluded.at},
    )
    present = now()
    connection.execute(
        statement,
        [
            {
                "round_id": point.round_id,
                "step": point.step,
                "name": point.name,
                "value": point.value,
                "at": point.at or present,
            }
            for point in points
        ],
    )


def metrics(connection: Connection, round_id: int, *, after_step: int | None = None) -> list[RoundMetric]:
    """Return the round's points by step and name; only those of later steps when `after_step` is given."""
    query = select(round_metrics).where(round_metrics.c.round_id == round_id)
    if after_step is not None:
        query = query.where(round_metrics.c.step > after_step)
    rows = connection.execute(query.order_by(round_metrics.c.step, round_metrics.c.name)).mappings()
    return [RoundMetric(**row) for row in rows]


def newest_metric(connection: Connection, round_id: int) -> str:
    """Return a short text that changes with every point of a round's curves; cheap, for those who wait for news."""
    query = select(func.count(), func.max(round_metrics.c.step), func.max(round_metrics.c.at))
    count, step, at = connection.execute(query.where(round_metrics.c.round_id == round_id)).one()
    return f"{count} {step} {at.isoformat() if at else ''}"


def freeze_selection(connection: Connection, round_id: int, fence: int, chosen: Iterable[tuple[int, Split]]) -> None:
    """Write down, once and for good, which acts a round learns from and which it holds out.

    The same selection again is welcome (a resumed round). Raises Conflict for another one or a stale fence, NotFound
    for an unknown feedback id.
    """
    _held(connection, round_id, fence)
    rows = dict(chosen)
    frozen = dict(selection(connection, round_id))
    if frozen and frozen != rows:
        raise Conflict(f"round {round_id} has frozen another selection; wanted: the same {len(frozen)} feedback ids")
    if frozen or not rows:
        return
    ids = sorted(rows)
    for start in range(0, len(ids), 500):
        part = ids[start : start + 500]
        query = select(feedback.c.feedback_id).where(feedback.c.feedback_id.in_(part))
        missing = set(part) - set(connection.execute(query).scalars())
        if missing:
            raise NotFound(f"no feedback {min(missing)}")
    connection.execute(
        insert(round_selection),
        [{"round_id": round_id, "feedback_id": feedback_id, "split": rows[feedback_id]} for feedback_id in ids],
    )


def selection(connection: Connection, round_id: int) -> list[tuple[int, Split]]:
    """Return the frozen selection: feedback id and split, by id. Empty before it is frozen."""
    query = (
        select(round_selection.c.feedback_id, round_selection.c.split)
        .where(round_selection.c.round_id == round_id)
        .order_by(round_selection.c.feedback_id)
    )
    return [(row.feedback_id, row.split) for row in connection.execute(query)]


def _held(connection: Connection, round_id: int, fence: int) -> Round:
    present = _locked(connection, round_id)
    if present.state in ROUND_ENDED:
        raise Conflict(f"round {round_id} has ended ({present.state}: {present.reason}); stop its work")
    if present.fence != fence:
        raise Conflict(
            f"round {round_id} has fence {present.fence}, this write carries {fence}: another trainer "
            f"({present.lease_owner}) took it over; stop its work here"
        )
    return present


def _locked(connection: Connection, round_id: int) -> Round:
    """The round, which no other program can change before this transaction ends."""
    query = select(rounds).where(rounds.c.round_id == round_id).with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no round {round_id}")
    return _round(row)


def _time(connection: Connection, at: datetime | None) -> datetime:
    if at is not None:
        return at
    if connection.dialect.name == "postgresql":
        found: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return found
    return now()


def _set_state(connection: Connection, round_id: int, state: RoundState, fields: dict[str, Any], at: datetime) -> Round:
    values: dict[str, Any] = {"state": state, **fields}
    if state in ROUND_ENDED:
        values |= {"ended_at": at, "open_slot": None, "lease_owner": None, "lease_until": None}
    connection.execute(update(rounds).where(rounds.c.round_id == round_id).values(**values))
    return get_round(connection, round_id)


def _is_open(round_id: int, state: str) -> Conflict:
    return Conflict(f"round {round_id} is open ({state}); wait for its end or cancel it, then ask again")


def _round(row: RowMapping) -> Round:
    values = dict(row)
    del values["open_slot"]
    return Round(**values)
