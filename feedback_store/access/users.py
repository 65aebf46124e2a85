"""People who may sign in: a name, a role, a password's hash. Nobody is deleted: the log names them; they are disabled.

A new person is invited: an admin passes on a link that is good once, and the person chooses their password. The same
link resets a forgotten one. Every change counts up `revision`, so that two admins on one page cannot overwrite.
"""

import hashlib
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, delete, func, insert, select, update

from feedback_store.access.roles import ROLES, Role
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.schema import now, sessions, users

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{1,39}")
INVITATION_HOURS = 72


@dataclass(frozen=True, slots=True)
class User:
    """A person. `password_hash` None: they have not chosen one yet, or sign in elsewhere."""

    user_id: int
    name: str
    role: Role
    password_hash: str | None
    disabled: bool
    invitation_until: datetime | None
    revision: int
    created_at: datetime


def add_user(connection: Connection, name: str, role: Role, *, password_hash: str | None = None) -> User:
    """Add a person. Raises Refused for a bad name or role, Conflict for one that is taken."""
    check_name(name)
    _check_role(role)
    if by_name(connection, name) is not None:
        raise Conflict(f"the name {name!r} is taken; choose another one")
    values = {"name": name, "role": role, "password_hash": password_hash, "revision": 1, "created_at": now()}
    key = connection.execute(insert(users), values).inserted_primary_key
    return get_user(connection, int(key[0]) if key else 0)


def check_name(name: str) -> str:
    """Return `name` when it may be a person's. Raises Refused."""
    if not NAME.fullmatch(name):
        raise Refused(
            "name", "the name is not as wanted: 2 to 40 of a-z, 0-9, dot, - and _, beginning with one of a-z0-9"
        )
    return name


def get_user(connection: Connection, user_id: int) -> User:
    """Return a person. Raises NotFound."""
    row = connection.execute(select(users).where(users.c.user_id == user_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no user {user_id}")
    return _user(row)


def by_name(connection: Connection, name: str) -> User | None:
    """Return the person of that name."""
    row = connection.execute(select(users).where(users.c.name == name)).mappings().one_or_none()
    return None if row is None else _user(row)


def list_users(connection: Connection) -> list[User]:
    """Return everybody, by name."""
    return [_user(row) for row in connection.execute(select(users).order_by(users.c.name)).mappings()]


def is_set_up(connection: Connection) -> bool:
    """Say whether there is an admin who can sign in."""
    query = select(users.c.user_id).where(users.c.role == "admin", users.c.disabled.is_(False)).limit(1)
    return connection.execute(query).first() is not None


def set_up_admin(connection: Connection, name: str, password_hash: str) -> User:
    """Make an admin, or give an existing person that name, the password and the role: for who holds the admin token."""
    present = by_name(connection, name)
    if present is None:
        return add_user(connection, name, "admin", password_hash=password_hash)
    _change(connection, present, role="admin", disabled=False, password_hash=password_hash, invitation_sha256=None)
    end_sessions_of(connection, present.user_id)
    return get_user(connection, present.user_id)


def invite(connection: Connection, user_id: int, *, at: datetime | None = None) -> str:
    """Return a token with which this person may choose a password within INVITATION_HOURS; an older one ends."""
    present = get_user(connection, user_id)
    token = secrets.token_urlsafe(24)
    until = (at or now()) + timedelta(hours=INVITATION_HOURS)
    _change(connection, present, invitation_sha256=_digest(token), invitation_until=until)
    return token


def invited(connection: Connection, token: str, *, at: datetime | None = None) -> User:
    """Return whom an invitation is for. Raises NotFound when it is unknown, used or too old."""
    row = connection.execute(select(users).where(users.c.invitation_sha256 == _digest(token))).mappings().one_or_none()
    if row is None or row["disabled"] or row["invitation_until"] <= (at or now()):
        raise NotFound("this invitation is not valid (any more); ask an admin for a new one")
    return _user(row)


def accept_invitation(connection: Connection, token: str, password_hash: str | None) -> User:
    """Set the password of who holds the token, and end their sessions elsewhere; None: they sign in another way from
    now on, and a password that they had stays. Raises NotFound."""
    present = invited(connection, token)
    kept = present.password_hash if password_hash is None else password_hash
    _change(connection, present, password_hash=kept, invitation_sha256=None, invitation_until=None)
    end_sessions_of(connection, present.user_id)
    return get_user(connection, present.user_id)


def set_password(connection: Connection, user_id: int, password_hash: str) -> None:
    """Change a person's own password, and end their sessions."""
    _change(connection, get_user(connection, user_id), password_hash=password_hash)
    end_sessions_of(connection, user_id)


def change_user(connection: Connection, user_id: int, *, role: Role, disabled: bool, expected_revision: int) -> User:
    """Change what a person may do; it holds from their next request on.

    Raises Conflict when somebody else changed them meanwhile or when no admin would be left, Refused, NotFound.
    """
    _check_role(role)
    present = get_user(connection, user_id)
    if present.revision != expected_revision:
        raise Conflict(f"{present.name} was changed meanwhile (by another admin, or they signed up): look again")
    _change(connection, present, role=role, disabled=disabled)
    if not is_set_up(connection):
        raise Conflict("no admin would be left; make somebody else an admin first")
    if disabled:
        end_sessions_of(connection, user_id)
    return get_user(connection, user_id)


def count_users(connection: Connection) -> int:
    """Return how many people there are."""
    return connection.execute(select(func.count()).select_from(users)).scalar_one()


def _change(connection: Connection, present: User, **values: object) -> None:
    statement = update(users).where(users.c.user_id == present.user_id, users.c.revision == present.revision)
    if connection.execute(statement.values(revision=present.revision + 1, **values)).rowcount != 1:
        raise Conflict(f"{present.name} was changed at the same moment: look again")


def end_sessions_of(connection: Connection, user_id: int, *, but_of: str | None = None) -> None:
    """Sign a person out everywhere, but where the session's form token is `but_of`."""
    ended = delete(sessions).where(sessions.c.user_id == user_id)
    connection.execute(ended if but_of is None else ended.where(sessions.c.csrf_token != but_of))


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise Refused("role", f"role is {role[:40]!r}; wanted: {', '.join(ROLES)}")


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _user(row: RowMapping) -> User:
    values = dict(row)
    del values["invitation_sha256"]
    return User(**values)
