"""Policy versions, the one pointer that says which is live and which is the canary, and the log of who moved it.

Every move is one transaction: the versions' states, the pointer and the log change together or not at all. The
pointer's `revision` rises with every move, so that a server sees a move even when the version number comes back.

A canary begins with `start_canary` and ends with `stop_canary`, or with the next `promote` or `rollback`: what it was
measured against is gone then. Whoever decides about it, by hand or by a test over the replies' versions, calls these
three; nothing here looks at feedback.
"""

import math
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select, update

from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.inserts import insert_if_new
from feedback_store.records import Canary, Deployment, Method, PolicyVersion, VersionState
from feedback_store.schema import deployments as deployments_table
from feedback_store.schema import live_pointer, now, policy_versions
from feedback_store.side_by_sides import why_blocked


def bootstrap(connection: Connection, base_model: str) -> PolicyVersion:
    """Make version 1, the base model itself, and make it live; when it is there already, return it.

    Raises Conflict for another base model than version 1's: its adapters would not fit.
    """
    added = insert_if_new(
        connection,
        policy_versions,
        {"version": 1, "state": "live", "base_model": base_model, "metrics": {}, "created_at": now()},
    )
    if added:
        connection.execute(insert(live_pointer), {"pointer_id": 1, "version": 1, "revision": 1})
        _log(connection, "bootstrap", 1, None, actor="thumbwise", reason="the base model", forced=False)
    first = get_version(connection, 1)
    if first.base_model != base_model:
        raise Conflict(
            f"this store learns over the base model {first.base_model}, the server brings {base_model}; wanted: the "
            "same. Set policy.base_model back, or begin with a new store"
        )
    return first


def add_candidate(
    connection: Connection,
    *,
    base_model: str,
    adapter_sha256: str,
    parent: int | None,
    method: Method | None,
    round_id: int | None,
    gate_report: dict[str, Any] | None,
    metrics: dict[str, Any],
    state: VersionState = "candidate",
) -> PolicyVersion:
    """Add a version; its adapter must be sealed already. Numbers follow one another without a gap.

    A round has one version: the same adapter again returns it (a resumed round), another one is a Conflict.
    Raises Refused for a state other than candidate and rejected, or for another base model than version 1's.
    """
    if state not in ("candidate", "rejected"):
        raise Refused("state", f"state is {state!r}; wanted: candidate or rejected (promote makes it live)")
    _live(connection)  # its lock keeps two programs from taking the same number
    first = get_version(connection, 1)
    if base_model != first.base_model:
        raise Refused("base_model", f"base_model is {base_model!r}; wanted: version 1's, {first.base_model!r}")
    if round_id is not None:
        query = select(policy_versions).where(policy_versions.c.round_id == round_id)
        row = connection.execute(query).mappings().one_or_none()
        if row is not None and row["adapter_sha256"] == adapter_sha256:
            return _version(row)
        if row is not None:
            raise Conflict(f"round {round_id} has made version {row['version']} already; wanted: one version a round")
    if parent is not None:
        get_version(connection, parent)
    number = connection.execute(select(func.max(policy_versions.c.version))).scalar_one() + 1
    connection.execute(
        insert(policy_versions),
        {
            "version": number,
            "state": state,
            "base_model": base_model,
            "adapter_sha256": adapter_sha256,
            "parent": parent,
            "method": method,
            "round_id": round_id,
            "gate_report": gate_report,
            "metrics": metrics,
            "created_at": now(),
        },
    )
    return get_version(connection, number)


def promote(
    connection: Connection,
    version: int,
    *,
    actor: str,
    reason: str,
    forced: bool = False,
    expected_live: int | None = None,
    evidence: dict[str, Any] | None = None,
) -> Deployment:
    """Make a version live, retire the one before it and end the canary, whichever it was.

    expected_live: what the caller saw as live when deciding; another one is a Conflict (stale page, double click).
    evidence: the figures behind the move, for the log.
    forced: also a version that its gate rejected or people vetoed; the log then says so. Such a version needs it again
    every time.
    Raises Conflict, NotFound.
    """
    live = _live(connection)
    _expect(live, expected_live)
    target = get_version(connection, version)
    if version == live:
        raise Conflict(f"version {version} is live already")
    rejected, blocked = _is_rejected(connection, target), why_blocked(connection, version)
    if rejected and not forced:
        raise Conflict(f"version {version} was rejected by its gate; wanted: one that passed, or forced")
    if blocked and not forced:
        raise Conflict(f"{blocked}; wanted: one that people do not object to, or forced")
    past_gate = rejected or blocked is not None
    return _move(connection, "promote", live, version, actor=actor, reason=reason, forced=past_gate, evidence=evidence)


def rollback(connection: Connection, *, actor: str, reason: str, expected_live: int | None = None) -> Deployment:
    """Make the version live again that was live before the present one, and end the canary. Rolling back twice goes
    back two steps, and never forward to what was just left.

    Raises Conflict when there is none, or on a stale expected_live.
    """
    live = _live(connection)
    _expect(live, expected_live)
    before = rollback_target(connection)
    return _move(connection, "rollback", live, before, actor=actor, reason=reason, forced=False)


def rollback_target(connection: Connection) -> int:
    """Return the version that a rollback would bring back. Raises Conflict when there is none."""
    before = version_before_live(connection)
    if before is None:
        # Read without the pointer's lock: pages ask too, and PostgreSQL takes none for a reader.
        first = live_version(connection).version
        raise Conflict(f"version {first} is the first; there is nothing to roll back to")
    return before


def start_canary(
    connection: Connection, version: int, share: float, *, actor: str, reason: str, expected_live: int | None = None
) -> Deployment:
    """Let a version answer `share` of the conversations, in [0, 1), beside the live one; again for another share.

    With 0 it is seen in comparisons alone. One canary at a time. A version that its gate rejected cannot be one, not
    even by force: it would answer people who were not asked. Raises Conflict, NotFound, Refused.
    """
    if not (math.isfinite(share) and 0 <= share < 1):
        raise Refused("share", f"share is {share!r}; wanted: 0 or more and less than 1 (for all, promote the version)")
    live = _live(connection)
    _expect(live, expected_live)
    target = get_version(connection, version)
    if version == live:
        raise Conflict(f"version {version} is live; wanted: another one to hold against it")
    present = canary(connection)
    if present is not None and present.version.version != version:
        raise Conflict(f"version {present.version.version} is the canary; wanted: stop it first, one at a time")
    if _is_rejected(connection, target):
        raise Conflict(f"version {version} was rejected by its gate; wanted: one that passed")
    if blocked := why_blocked(connection, version):
        raise Conflict(f"{blocked}; wanted: one that people do not object to")
    _set_state(connection, version, "canary")
    connection.execute(
        update(live_pointer).values(canary_version=version, canary_share=share, revision=live_pointer.c.revision + 1)
    )
    return _log(connection, "canary", version, live, actor=actor, reason=reason, forced=False, share=share)


def stop_canary(
    connection: Connection,
    *,
    actor: str,
    reason: str,
    expected_canary: int | None = None,
    evidence: dict[str, Any] | None = None,
) -> Deployment:
    """Let the live version answer everybody again and retire the canary. It may be promoted, or tried again, later.

    expected_canary: what the caller saw as the canary; another one is a Conflict. evidence: as for `promote`.
    Raises Conflict when there is none.
    """
    live = _live(connection)
    present = canary(connection)
    if present is None:
        raise Conflict("no version is a canary; there is nothing to stop")
    version = present.version.version
    if expected_canary is not None and expected_canary != version:
        raise Conflict(
            f"version {version} is the canary, the caller expected {expected_canary}: look again, then decide"
        )
    _end_canary(connection)
    return _log(connection, "canary_stop", version, live, actor=actor, reason=reason, forced=False, evidence=evidence)


def canary(connection: Connection) -> Canary | None:
    """Return the canary beside the live version, or None."""
    query = select(policy_versions, live_pointer.c.canary_share).join(
        live_pointer, live_pointer.c.canary_version == policy_versions.c.version
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        return None
    values = dict(row)
    share = values.pop("canary_share")
    return Canary(PolicyVersion(**values), share)


def live_or_none(connection: Connection) -> PolicyVersion | None:
    """Return the version that the pointer names; None before `bootstrap`."""
    try:
        return live_version(connection)
    except NotFound:
        return None


def live_version(connection: Connection) -> PolicyVersion:
    """Return the version that the pointer names. Raises NotFound before `bootstrap`."""
    query = select(policy_versions).join(live_pointer, live_pointer.c.version == policy_versions.c.version)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound("no version is live; wanted: bootstrap first")
    return _version(row)


def pointer_revision(connection: Connection) -> int:
    """Return a number that rises with every move of the pointer and of the canary; 0 before `bootstrap`."""
    return connection.execute(select(live_pointer.c.revision)).scalar() or 0


def get_version(connection: Connection, version: int) -> PolicyVersion:
    """Return the version. Raises NotFound."""
    query = select(policy_versions).where(policy_versions.c.version == version)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"no version {version}")
    return _version(row)


def list_versions(connection: Connection) -> list[PolicyVersion]:
    """Return every version, newest first."""
    query = select(policy_versions).order_by(policy_versions.c.version.desc())
    return [_version(row) for row in connection.execute(query).mappings()]


def deployments(connection: Connection, limit: int = 100) -> list[Deployment]:
    """Return the newest moves of the pointer and of the canary, newest first."""
    query = select(deployments_table).order_by(deployments_table.c.deployment_id.desc()).limit(limit)
    return [Deployment(**row) for row in connection.execute(query).mappings()]


def _live(connection: Connection) -> int:
    """The live version's number; no other program can move the pointer before this transaction ends."""
    version: int | None = connection.execute(select(live_pointer.c.version).with_for_update()).scalar()
    if version is None:
        raise NotFound("no version is live; wanted: bootstrap first")
    return version


def _expect(live: int, expected_live: int | None) -> None:
    if expected_live is not None and expected_live != live:
        raise Conflict(f"version {live} is live, the caller expected {expected_live}: look again, then decide")


def _is_rejected(connection: Connection, target: PolicyVersion) -> bool:
    """Whether its gate rejected it: its state moves on when it is forced live, the gate's word does not."""
    forced = select(func.count()).where(
        deployments_table.c.version == target.version, deployments_table.c.forced.is_(True)
    )
    return target.state == "rejected" or connection.execute(forced).scalar_one() > 0


def version_before_live(connection: Connection) -> int | None:
    """Return the version that a rollback would bring back; None when there is none.

    Replays the log: a promotion goes on top of a stack, a rollback takes it off; what lies under the top is next.
    """
    stack: list[int] = []
    query = select(deployments_table.c.action, deployments_table.c.version).where(
        deployments_table.c.action.in_(("bootstrap", "promote", "rollback"))
    )
    for action, version in connection.execute(query.order_by(deployments_table.c.deployment_id)):
        if action == "rollback":
            stack.pop()
        else:
            stack.append(version)
    return stack[-2] if len(stack) > 1 else None


def _move(
    connection: Connection,
    action: str,
    live: int,
    version: int,
    *,
    actor: str,
    reason: str,
    forced: bool,
    evidence: dict[str, Any] | None = None,
) -> Deployment:
    _end_canary(connection)  # first: a canary that is promoted is live afterwards, not retired
    _set_state(connection, live, "retired")
    _set_state(connection, version, "live")
    connection.execute(update(live_pointer).values(version=version, revision=live_pointer.c.revision + 1))
    return _log(connection, action, version, live, actor=actor, reason=reason, forced=forced, evidence=evidence)


def _end_canary(connection: Connection) -> None:
    present = canary(connection)
    if present is None:
        return
    _set_state(connection, present.version.version, "retired")
    connection.execute(
        update(live_pointer).values(canary_version=None, canary_share=None, revision=live_pointer.c.revision + 1)
    )


def _set_state(connection: Connection, version: int, state: VersionState) -> None:
    connection.execute(update(policy_versions).where(policy_versions.c.version == version).values(state=state))


def _log(
    connection: Connection,
    action: str,
    version: int,
    from_version: int | None,
    *,
    actor: str,
    reason: str,
    forced: bool,
    share: float | None = None,
    evidence: dict[str, Any] | None = None,
) -> Deployment:
    connection.execute(
        insert(deployments_table),
        {
            "action": action,
            "version": version,
            "from_version": from_version,
            "actor": actor,
            "reason": reason,
            "forced": forced,
            "share": share,
            "evidence": evidence,
            "at": now(),
        },
    )
    return deployments(connection, 1)[0]


def _version(row: RowMapping) -> PolicyVersion:
    return PolicyVersion(**row)
