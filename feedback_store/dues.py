"""The due times of the schedule: each is settled once, whatever the number of schedulers, clock jumps or restarts.

The row's key is the time as the schedule names it (wall clock). Who settles a due time writes its row in the same
transaction as the round's, so that a kill between the two leaves neither, and a second scheduler, or the same one
after its clock was set back, finds the row and does nothing.
"""

from datetime import datetime

from sqlalchemy import Connection, select, update

from feedback_store import rounds
from feedback_store.errors import Conflict
from feedback_store.inserts import insert_if_new
from feedback_store.records import Method, RoundDue
from feedback_store.schema import live_pointer, now, round_dues


def get_due(connection: Connection, due: str) -> RoundDue | None:
    """Return what became of a due time; None when nobody has looked at it yet."""
    row = connection.execute(select(round_dues).where(round_dues.c.due == due)).mappings().one_or_none()
    return None if row is None else RoundDue(**row)


def list_dues(connection: Connection, limit: int = 100) -> list[RoundDue]:
    """Return the newest due times, newest first."""
    query = select(round_dues).order_by(round_dues.c.due.desc()).limit(limit)
    return [RoundDue(**row) for row in connection.execute(query).mappings()]


def ask_due(
    connection: Connection, due: str, *, method: Method | None, requested_by: str, at: datetime | None = None
) -> RoundDue:
    """Ask for the round of a due time, unless it is settled; while another round is open the due time waits."""
    present = _locked(connection, due)
    if present is not None and present.state != "waiting":
        return present
    try:
        with connection.begin_nested():  # on PostgreSQL a refused insert ends the transaction it stands in
            asked = rounds.request_round(connection, method=method, requested_by=requested_by, settings={}, at=at)
    except Conflict as conflict:
        return _write(connection, due, "waiting", None, str(conflict), at)
    return _write(connection, due, "asked", asked.round_id, f"round {asked.round_id} requested", at)


def skip_due(connection: Connection, due: str, reason: str, *, at: datetime | None = None) -> RoundDue:
    """Settle a due time without a round, unless it is settled."""
    present = _locked(connection, due)
    if present is not None and present.state != "waiting":
        return present
    return _write(connection, due, "skipped", None, reason, at)


def _locked(connection: Connection, due: str) -> RoundDue | None:
    """What is known of the due time; no other program can settle it before this transaction ends."""
    # The pointer's row is the one row that is always there: two programs cannot lock a due time that has none yet.
    connection.execute(select(live_pointer.c.version).with_for_update())
    return get_due(connection, due)


def _write(
    connection: Connection, due: str, state: str, round_id: int | None, reason: str, at: datetime | None
) -> RoundDue:
    values = {"state": state, "round_id": round_id, "reason": reason, "at": at or now()}
    if not insert_if_new(connection, round_dues, {"due": due, **values}):
        connection.execute(update(round_dues).where(round_dues.c.due == due).values(**values))
    found = get_due(connection, due)
    assert found is not None
    return found
