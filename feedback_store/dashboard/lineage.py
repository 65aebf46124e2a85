"""The family tree of versions as geometry: one column a version, its parent to its left, lines between them.

A child goes on in its parent's lane while that is free; what was tried beside it gets a lane of its own below.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from feedback_store.records import PolicyVersion

COLUMN, LANE = 92.0, 62.0
LEFT, TOP = 40.0, 34.0


@dataclass(frozen=True, slots=True)
class Node:
    """A version in the picture. `note` stands under its number."""

    version: int
    state: str
    x: float
    y: float
    note: str
    path: str
    """The line from its parent; empty for the first."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """The picture's nodes and size."""

    nodes: tuple[Node, ...]
    width: float
    height: float


def lineage(versions: Sequence[PolicyVersion], shares: Mapping[int, str], most: int = 40) -> Lineage:
    """Lay out the newest `most` versions. shares: version → where it serves now, in words."""
    shown = sorted(versions, key=lambda one: one.version)[-most:]
    places: dict[int, tuple[float, float]] = {}
    ends: dict[int, int] = {}  # lane → the version at its end
    lanes: dict[int, int] = {}
    states = {one.version: one.state for one in shown}
    nodes = []
    for column, one in enumerate(shown):
        parent = one.parent if one.parent in places else None
        lane = _lane(one, None if parent is None else lanes[parent], ends, states)
        lanes[one.version], ends[lane] = lane, one.version
        x, y = LEFT + column * COLUMN, TOP + lane * LANE
        path = ""
        if parent is not None:
            from_x, from_y = places[parent]
            path = f"M{from_x:.0f} {from_y:.0f}"
            if from_y == y:
                path += f"H{x:.0f}"
            else:
                path += f"C{from_x + COLUMN / 2:.0f} {from_y:.0f} {from_x + COLUMN / 4:.0f} {y:.0f} {x:.0f} {y:.0f}"
        places[one.version] = (x, y)
        nodes.append(Node(one.version, one.state, x, y, shares.get(one.version, ""), path))
    height = TOP + max(lanes.values(), default=0) * LANE + 44
    return Lineage(tuple(nodes), LEFT * 2 + max(0, len(shown) - 1) * COLUMN, height)


def _lane(one: PolicyVersion, of_parent: int | None, ends: Mapping[int, int], states: Mapping[int, str]) -> int:
    """What was rejected lies below its parent; all else goes on in the parent's lane while nothing else did."""
    if of_parent is None:
        return next(lane for lane in range(len(ends) + 1) if lane not in ends)
    if one.state != "rejected" and ends[of_parent] == one.parent:
        return of_parent
    below = of_parent + 1
    while below in ends and states[ends[below]] != "rejected":
        below += 1
    return below
