"""Accounts elsewhere (GitHub, Discord) that open somebody's place here: a provider's name and the account's number.

Numbers, not names: a name can be given up and taken by somebody else. Deny by default: an account that nobody linked
opens nothing. It is linked by its owner who is signed in or holds an invitation, or by an admin who knows the number.
"""

import re
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from feedback_store.access.users import User, accept_invitation, end_sessions_of, get_user
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.schema import identities, now

NUMBER = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Account:
    """An account that signs in as somebody."""

    provider: str
    subject: str
    """Its number there."""
    user_id: int
    created_at: datetime


def user_of(connection: Connection, provider: str, subject: str) -> User | None:
    """Return who signs in as `subject` at `provider`; nobody, if that person is shut out."""
    query = select(identities.c.user_id).where(identities.c.provider == provider, identities.c.subject == subject)
    user_id = connection.execute(query).scalar_one_or_none()
    if user_id is None:
        return None
    found = get_user(connection, user_id)
    return None if found.disabled else found


def accounts_of(connection: Connection, user_id: int | None = None) -> list[Account]:
    """Return a person's accounts, or everybody's, the oldest first."""
    query = select(identities).order_by(identities.c.created_at, identities.c.provider, identities.c.subject)
    if user_id is not None:
        query = query.where(identities.c.user_id == user_id)
    return [Account(**row) for row in connection.execute(query).mappings()]


def link_account(connection: Connection, user_id: int, provider: str, subject: str) -> None:
    """Let `subject` of `provider` sign in as this person.

    Raises Refused for what is no account's number, Conflict when it opens another person's place, NotFound.
    """
    person = get_user(connection, user_id)
    if not NUMBER.fullmatch(subject):
        raise Refused("account", f"the account is {subject[:40]!r}; wanted: its number, which has digits alone")
    query = select(identities.c.user_id).where(identities.c.provider == provider, identities.c.subject == subject)
    present = connection.execute(query).scalar_one_or_none()
    if present is not None and present != user_id:
        raise Conflict(f"this account is linked to {get_user(connection, present).name} already")
    if present is None:
        values = {"provider": provider, "subject": subject, "user_id": person.user_id, "created_at": now()}
        connection.execute(insert(identities), values)


def join_with(connection: Connection, invitation: str, provider: str, subject: str) -> User:
    """Take an invitation up with an account in place of a password. Raises NotFound, Conflict, Refused."""
    person = accept_invitation(connection, invitation, None)
    link_account(connection, person.user_id, provider, subject)
    return person


def unlink_account(
    connection: Connection, user_id: int, provider: str, subject: str, *, by_owner: str | None = None
) -> None:
    """Let an account open nothing any more, and sign its person out everywhere.

    `by_owner`: the form token of the owner's own session, which stays; the owner cannot take away their last way in.
    Raises NotFound for an account that is not linked to this person, Conflict for a last way in.
    """
    one = (identities.c.provider == provider) & (identities.c.subject == subject) & (identities.c.user_id == user_id)
    if connection.execute(delete(identities).where(one)).rowcount != 1:
        raise NotFound("this account is not linked (any more)")
    left = connection.execute(select(func.count()).where(identities.c.user_id == user_id)).scalar_one()
    if by_owner is not None and left == 0 and get_user(connection, user_id).password_hash is None:
        raise Conflict("this account is your only way in; ask an admin for a link to choose a password first")
    end_sessions_of(connection, user_id, but_of=by_owner)
