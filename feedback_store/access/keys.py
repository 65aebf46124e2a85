"""API keys for programs: `tw-<id>_<secret>`, shown once, kept as SHA-256 (the secret is random: no slow hash is due).

The id is found in the database, the secret compared in constant time. A key has scopes (roles.py) and may end.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, RowMapping, insert, select, update

from feedback_store.access.roles import SCOPES, Scope
from feedback_store.checks import check_text
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.schema import api_keys, now

FORM = re.compile(r"tw-([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
NOTE_USE_EVERY = timedelta(minutes=5)
"""`last_used_at` is for people: it is not worth a write for every request."""


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret."""

    key_id: str
    name: str
    scopes: tuple[Scope, ...]
    created_by: str
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def is_valid(self, at: datetime) -> bool:
        """Say whether it opens anything at this time."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def add_key(
    connection: Connection, name: str, scopes: tuple[str, ...], created_by: str, *, days: int | None = None
) -> tuple[ApiKey, str]:
    """Make a key; return it and the text that is shown once. Raises Refused for no name, no scope or an unknown one."""
    check_text("name", name.strip(), least=1, most=64)
    if not scopes or not set(scopes) <= set(SCOPES):
        raise Refused("scopes", f"scopes are {', '.join(sorted(scopes))[:80]!r}; wanted: some of {', '.join(SCOPES)}")
    if days is not None and not 1 <= days <= 3650:
        raise Refused("days", f"days is {days}; wanted: 1 to 3650, or nothing for a key that does not end")
    key_id, secret, present = secrets.token_hex(6), secrets.token_urlsafe(32), now()
    connection.execute(
        insert(api_keys),
        {
            "key_id": key_id,
            "secret_sha256": _digest(secret),
            "name": name.strip(),
            "scopes": [scope for scope in SCOPES if scope in scopes],
            "created_by": created_by,
            "created_at": present,
            "expires_at": None if days is None else present + timedelta(days=days),
        },
    )
    return get_key(connection, key_id), f"tw-{key_id}_{secret}"


def get_key(connection: Connection, key_id: str) -> ApiKey:
    """Return a key. Raises NotFound."""
    row = connection.execute(select(api_keys).where(api_keys.c.key_id == key_id)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no key {key_id[:20]!r}")
    return _key(row)


def list_keys(connection: Connection) -> list[ApiKey]:
    """Return all keys, the newest first."""
    query = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.key_id)
    return [_key(row) for row in connection.execute(query).mappings()]


def find_key(connection: Connection, text: str, *, at: datetime | None = None) -> ApiKey | None:
    """Return the key that `text` is, if it is one that still opens something."""
    match = FORM.fullmatch(text)
    if match is None:
        return None
    row = connection.execute(select(api_keys).where(api_keys.c.key_id == match[1])).mappings().one_or_none()
    if row is None or not hmac.compare_digest(row["secret_sha256"], _digest(match[2])):
        return None
    found = _key(row)
    return found if found.is_valid(at or now()) else None


def wants_noting(key: ApiKey, at: datetime) -> bool:
    """Say whether its use is worth a write."""
    return key.last_used_at is None or at - key.last_used_at > NOTE_USE_EVERY


def note_use(connection: Connection, key_id: str) -> None:
    """Remember that the key was used now."""
    connection.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(last_used_at=now()))


def revoke_key(connection: Connection, key_id: str) -> ApiKey:
    """End a key for good. Raises NotFound, Conflict when it has ended."""
    if get_key(connection, key_id).revoked_at is not None:
        raise Conflict(f"key {key_id} is revoked already")
    connection.execute(update(api_keys).where(api_keys.c.key_id == key_id).values(revoked_at=now()))
    return get_key(connection, key_id)


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: RowMapping) -> ApiKey:
    values = dict(row)
    del values["secret_sha256"]
    return ApiKey(**{**values, "scopes": tuple(values["scopes"])})
