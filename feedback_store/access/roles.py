"""Roles of people and scopes of keys: two short lists, because a right that nobody can recite protects nothing."""

from typing import Literal, get_args

Role = Literal["user", "annotator", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)
"""Each may do what those before it may. user: chats and rates, sees no page of the dashboard."""

Scope = Literal["read", "rounds", "versions", "export", "import", "people"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
"""read: every GET route of the admin's but the export · rounds: start and cancel · versions: promote, roll back,
canary, votes on pairs, veto · export · import: feedback, and candidates to be ranked · people: histories, consent,
export and erasure of people by their name on a platform, and quarantine."""


def reaches(role: Role, wanted: Role) -> bool:
    """Say whether `role` includes what `wanted` may."""
    return ROLES.index(role) >= ROLES.index(wanted)
