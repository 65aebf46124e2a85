"""A veto with what follows from it: a vetoed canary ends in the same transaction."""

from sqlalchemy import Connection

from feedback_store import side_by_sides, versions


def veto_version(connection: Connection, version: int, *, actor: str, reason: str) -> None:
    """Forbid a version to go live or to be a canary. Raises what `side_by_sides.veto` raises."""
    side_by_sides.veto(connection, version, actor=actor, reason=reason)
    present = versions.canary(connection)
    if present is not None and present.version.version == version:
        versions.stop_canary(connection, actor=actor, reason=f"vetoed: {reason}")
