"""Raters: people known by a keyed hash alone, and whether their text may be kept."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from feedback_store.checks import check_channel, check_identifier
from feedback_store.key_ring import load_or_create_ring
from feedback_store.records import Rater
from feedback_store.schema import now, raters
from feedback_store.writer import remembered


def rater_id_of(key: bytes, channel: str, user: str) -> str:
    """Return the id of `user` on `channel`: the first 128 bits, in hex, of HMAC-SHA256(key, channel ‖ NUL ‖ user).

    Keyed, so that ids cannot be turned back by hashing all phone numbers; per channel, so that one person's accounts on
    two platforms are not linked.
    """
    message = channel.encode() + b"\x00" + user.encode("utf-8", "surrogatepass")
    return hmac.new(key, message, hashlib.sha256).hexdigest()[:32]


def key_mark(key: bytes) -> str:
    """Return what tells one key from another without being a way to it."""
    return hmac.new(key, b"thumbwise: which key is this?", hashlib.sha256).hexdigest()[:16]


STAFF = "staff-"
"""Begins the rater ids of operators and annotators. Nobody else's can: theirs are keyed hashes in hexadecimal."""


def is_staff(rater_id: str) -> bool:
    """Whether somebody rated as an operator or annotator of the dashboard."""
    return rater_id.startswith(STAFF)


def staff_rater_id(actor: str) -> str:
    """Return the id under which an operator or annotator rates: `staff-` and 96 bits of SHA-256 of their name here.

    Without the key: whoever works with the dashboard stands in it by name, and what they said must be told apart.
    """
    return f"{STAFF}{hashlib.sha256(actor.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}"


def load_or_create_key(path: Path) -> bytes:
    """Return the newest rater key in the file, made on first use with mode 0600. See key_ring.py."""
    return load_or_create_ring(path).newest


def ensure_rater(connection: Connection, rater_id: str, channel: str) -> None:
    """Make the rater's row when there is none."""
    known = remembered(connection, "raters")
    if rater_id in known:
        return
    check_identifier("rater_id", rater_id)
    check_channel(channel)
    make = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    connection.execute(
        make(raters).on_conflict_do_nothing(), {"rater_id": rater_id, "channel": channel, "created_at": now()}
    )
    known[rater_id] = True


def set_consent(connection: Connection, rater_id: str, channel: str, given: bool, version: int) -> None:
    """Record what the rater answered to version `version` of the consent text; the row is made when missing."""
    ensure_rater(connection, rater_id, channel)
    connection.execute(
        update(raters).where(raters.c.rater_id == rater_id).values(consent=given, consent_version=version)
    )


def get_rater(connection: Connection, rater_id: str) -> Rater | None:
    """Return the rater, or None for one never seen."""
    row = connection.execute(select(raters).where(raters.c.rater_id == rater_id)).one_or_none()
    return None if row is None else _rater(row)


def declined(connection: Connection, rater_ids: Sequence[str]) -> frozenset[str]:
    """Return those of the raters who said no, or took their yes back."""
    found: set[str] = set()
    for start in range(0, len(rater_ids), 500):
        query = select(raters.c.rater_id).where(raters.c.rater_id.in_(rater_ids[start : start + 500]))
        found.update(connection.execute(query.where(raters.c.consent.is_(False))).scalars())
    return frozenset(found)


def _rater(row: Row[tuple[object, ...]]) -> Rater:
    return Rater(**row._mapping)
