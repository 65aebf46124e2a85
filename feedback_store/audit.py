"""The log of acts: who did what to what, when and why. Written in the act's own transaction, and changed by nothing but
the erasure of a rater whom it names.

Actors are `user:NAME`, `key:ID` (an API key) and `token` (the admin token). Texts of raters never go in here.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, insert, select, update

from feedback_store.checks import check_text
from feedback_store.errors import NotFound
from feedback_store.schema import audit, now

MOST_REASON_CHARACTERS = 1000
ERASED_RATER = "rater (erased)"
"""The target of acts on a rater who is not known any more."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Act:
    """What is about to be done. `action` is a verb of ours such as `version.promote`; `target` such as `version 7`."""

    actor: str
    action: str
    target: str = ""
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A line of the log."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    target: str
    reason: str
    details: dict[str, Any]


def record(connection: Connection, act: Act) -> int:
    """Add a line and return its number. Raises Refused for a reason that is too long or cannot be stored."""
    check_text("reason", act.reason, most=MOST_REASON_CHARACTERS)
    key = connection.execute(
        insert(audit),
        {
            "at": now(),
            "actor": act.actor,
            "action": act.action,
            "target": act.target,
            "reason": act.reason,
            "details": act.details,
        },
    ).inserted_primary_key
    return int(key[0]) if key else 0


def audited(
    connection: Connection, act: Act, fn: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Do `fn(connection, …)` and log it: both in one transaction, or neither."""
    record(connection, act)
    return fn(connection, *args, **kwargs)


def forget_rater(connection: Connection, rater_id: str) -> None:
    """Take an erased rater out of the log: their id, and why it was done. Who did what and when stays."""
    about = audit.c.target == f"rater {rater_id}"
    connection.execute(update(audit).where(about).values(target=ERASED_RATER, reason="", details={}))


def entries(
    connection: Connection,
    *,
    limit: int = 100,
    before: int | None = None,
    actor: str | None = None,
    action: str | None = None,
) -> list[AuditEntry]:
    """Return the newest lines, newest first; those before an id for a next page. `action` may end with a dot: a family
    such as `user.`."""
    query = select(audit).order_by(audit.c.audit_id.desc()).limit(limit)
    if before is not None:
        query = query.where(audit.c.audit_id < before)
    if actor:
        query = query.where(audit.c.actor == actor)
    if action:
        matches = (
            audit.c.action.startswith(action, autoescape=True) if action.endswith(".") else audit.c.action == action
        )
        query = query.where(matches)
    return [AuditEntry(**row) for row in connection.execute(query).mappings()]


def get_entry(connection: Connection, audit_id: int, action: str) -> AuditEntry:
    """Return a line that tells of an `action`. Raises NotFound."""
    wanted = (audit.c.audit_id == audit_id) & (audit.c.action == action)
    row = connection.execute(select(audit).where(wanted)).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no line {audit_id} about {action}")
    return AuditEntry(**row)
