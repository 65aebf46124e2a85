"""After an erasure, if an operator wants it: no version that had learnt from whoever was erased answers anybody again.

What such a version learnt cannot be taken out of its weights. It can be kept from serving: each is vetoed, a canary
among them ends, and if the live one is among them the newest version that served before and learnt from nothing of
theirs comes back, in the end the base model. A round over all feedback that is left can be asked for in the same step.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from feedback_store import oversight, rounds, side_by_sides, versions
from feedback_store.erasures import get_erasure
from feedback_store.errors import Conflict

BASE_VERSION = 1
_MOST_MOVES = 10_000


@dataclass(frozen=True, slots=True)
class Retirement:
    """What became of the versions that had learnt from an erased person."""

    erasure_id: int
    retired: list[int]
    """Versions that do not serve any more, unless somebody lifts their veto."""
    live_version: int
    """What answers now."""
    round_id: int | None = None
    """The round that was asked for."""
    no_round: str | None = None
    """Why none was, where one was wanted."""


def live_without(connection: Connection, taught: Collection[int]) -> int:
    """Return the version that would be live if none of these may be. Raises NotFound before `bootstrap`."""
    live = versions.live_version(connection).version
    if live not in taught:
        return live
    for move in versions.deployments(connection, _MOST_MOVES):
        was_live = move.action in ("bootstrap", "promote", "rollback") and not move.forced
        if was_live and move.version not in taught and side_by_sides.why_blocked(connection, move.version) is None:
            return move.version
    return BASE_VERSION


def retire_learnt(connection: Connection, erasure_id: int, *, actor: str, retrain: bool = False) -> Retirement:
    """Keep what learnt from an erased person from serving, and ask for a round where that is wanted. Repeatable.

    Raises NotFound for an unknown erasure.
    """
    taught = get_erasure(connection, erasure_id).versions
    reason = f"it had learnt from somebody who was erased (erasure {erasure_id})"
    target = live_without(connection, taught)
    if target != versions.live_version(connection).version:
        because = f"the version before it had learnt from somebody who was erased (erasure {erasure_id})"
        versions.promote(connection, target, actor=actor, reason=because)
    for version in taught:
        if side_by_sides.is_vetoed(connection, version):
            continue
        oversight.veto_version(connection, version, actor=actor, reason=reason)
    round_id, no_round = _ask_anew(connection, actor) if retrain else (None, None)
    return Retirement(erasure_id, taught, target, round_id, no_round)


def _ask_anew(connection: Connection, actor: str) -> tuple[int | None, str | None]:
    """Ask for a round over everything that is left: what the retired versions had learnt is to be learnt again."""
    wish = {"data": {"fresh_only": False}}
    try:
        asked = rounds.request_round(connection, method=None, requested_by=actor, settings=wish)
    except Conflict as conflict:
        return None, str(conflict)
    return asked.round_id, None
