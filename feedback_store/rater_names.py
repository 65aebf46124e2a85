"""One person under two keys: a rater who is seen again after the rater key was changed gets the new key's id.

Everything of theirs moves in one transaction, so that votes from before and after belong together and nothing in the
store is known by the old key any more. Who is never seen again keeps the old id; once the old key is dropped nobody can
find out who that was.
"""

from sqlalchemy import Connection, delete, insert, select, update

from feedback_store.inbox import lock_inbox
from feedback_store.raters import rater_id_of
from feedback_store.review_schema import inbox_raters
from feedback_store.schema import audit, comparisons, feedback, quarantines, raters, replies
from feedback_store.writer import forget


def former_rater_ids(former: tuple[bytes, ...], channel: str, user: str) -> tuple[str, ...]:
    """Return the ids that a person had under former keys, the newest first."""
    return tuple(rater_id_of(key, channel, user) for key in former)


def known_under(connection: Connection, rater_ids: tuple[str, ...]) -> list[str]:
    """Return which of these ids the store has a rater for."""
    return list(connection.execute(select(raters.c.rater_id).where(raters.c.rater_id.in_(rater_ids))).scalars())


def rename_rater(connection: Connection, former: str, rater_id: str) -> bool:
    """Give everything of the rater `former` the id `rater_id`; False where there is no such rater (any more).

    Where both are known (a server without the new key met them meanwhile) they become one: an answer about consent
    under the new id counts, a quarantine of either does.
    """
    query = select(raters).where(raters.c.rater_id == former).with_for_update()
    old = connection.execute(query).mappings().one_or_none()
    if old is None:
        return False
    lock_inbox(connection)
    present = connection.execute(select(raters).where(raters.c.rater_id == rater_id)).mappings().one_or_none()
    if present is None:
        connection.execute(insert(raters), dict(old) | {"rater_id": rater_id})
    else:
        answered = present if present["consent"] is not None else old
        merged = {
            "consent": answered["consent"],
            "consent_version": answered["consent_version"],
            "quarantined": old["quarantined"] or present["quarantined"],
            "created_at": min(old["created_at"], present["created_at"]),
        }
        connection.execute(update(raters).where(raters.c.rater_id == rater_id).values(**merged))
        _make_keys_unique(connection, former, rater_id)
    for table in (replies, comparisons, feedback, quarantines, inbox_raters):
        connection.execute(update(table).where(table.c.rater_id == former).values(rater_id=rater_id))
    about = audit.c.target == f"rater {former}"
    connection.execute(update(audit).where(about).values(target=f"rater {rater_id}"))
    connection.execute(delete(raters).where(raters.c.rater_id == former))
    forget(connection)  # what this connection remembers of the former id is gone
    return True


def _make_keys_unique(connection: Connection, former: str, rater_id: str) -> None:
    """A key of an act counts once a rater, and an item of the inbox has one line of each."""
    theirs = select(feedback.c.idempotency_key).where(
        feedback.c.rater_id == rater_id, feedback.c.idempotency_key.is_not(None)
    )
    twice = (feedback.c.rater_id == former) & feedback.c.idempotency_key.in_(theirs)
    connection.execute(update(feedback).where(twice).values(idempotency_key=None))
    items = select(inbox_raters.c.item_id).where(inbox_raters.c.rater_id == rater_id)
    both = (inbox_raters.c.rater_id == former) & inbox_raters.c.item_id.in_(items)
    connection.execute(delete(inbox_raters).where(both))
