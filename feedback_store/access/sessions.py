"""Sessions: the cookie holds a random token, the database its hash, whose it is and until when.

Server-side, so that signing out, disabling somebody and changing a role hold at once, everywhere.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, insert, select

from feedback_store.access.users import User, get_user
from feedback_store.audit import Act, record
from feedback_store.schema import now, sessions


@dataclass(frozen=True, slots=True)
class Session:
    """Who asks. `csrf_token` stands in every form of theirs."""

    user: User
    csrf_token: str
    expires_at: datetime


def begin_session(connection: Connection, user_id: int, hours: float, *, at: datetime | None = None) -> str:
    """Return the token of a new session; sessions that have run out are removed on the way."""
    present = at or now()
    connection.execute(delete(sessions).where(sessions.c.expires_at <= present))
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(sessions),
        {
            "session_sha256": _digest(token),
            "user_id": user_id,
            "csrf_token": secrets.token_hex(24),
            "created_at": present,
            "expires_at": present + timedelta(hours=hours),
        },
    )
    return token


def find_session(connection: Connection, token: str, *, at: datetime | None = None) -> Session | None:
    """Return the session behind a token; None when it is unknown, has run out, or its person is disabled."""
    query = select(sessions).where(sessions.c.session_sha256 == _digest(token))
    row = connection.execute(query).mappings().one_or_none()
    if row is None or row["expires_at"] <= (at or now()):
        return None
    user = get_user(connection, row["user_id"])
    return None if user.disabled else Session(user, row["csrf_token"], row["expires_at"])


def end_session(connection: Connection, token: str) -> None:
    """Sign out."""
    connection.execute(delete(sessions).where(sessions.c.session_sha256 == _digest(token)))


def end_all_sessions(connection: Connection, actor: str) -> int:
    """Sign everybody out, note it in the log of acts, and return how many sign-ins that were."""
    ended = connection.execute(delete(sessions)).rowcount
    record(connection, Act(actor, "session.end_all", details={"sessions": ended}))
    return ended


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
