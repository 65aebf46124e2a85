"""From a version to the feedback that trained it and back, and which versions learnt from what should not have been.

A version's own feedback is the training half of its round's frozen selection; what its parents learnt from is in it
too, since a round continues from the live version. No claim of unlearning is made: a version that learnt from feedback
that was erased or put in quarantine since is flagged, and an admin decides.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select

from feedback_store.quarantines import quarantined_acts
from feedback_store.records import PolicyVersion
from feedback_store.schema import erased_selections, now, round_selection
from feedback_store.versions import get_version, list_versions


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One version on the way from the base model to a version, and the ids of what its round trained on."""

    version: int
    round_id: int | None
    feedback_ids: tuple[int, ...]
    erased: int
    """Acts that its round trained on and that were erased since."""


@dataclass(frozen=True, slots=True)
class Lineage:
    """A version's line, the newest first, and what is wrong with it."""

    version: int
    line: tuple[Ancestor, ...]
    quarantined: tuple[int, ...]
    """Feedback ids in the line that are in quarantine now."""

    @property
    def erased(self) -> int:
        """Acts in the line that were erased since."""
        return sum(one.erased for one in self.line)

    @property
    def flags(self) -> tuple[str, ...]:
        """What an admin should know, in words; empty when nothing is wrong."""
        found = []
        if self.erased:
            found.append(f"trained on {self.erased} acts that were erased since")
        if self.quarantined:
            found.append(f"trained on {len(self.quarantined)} acts that are in quarantine now")
        return tuple(found)


def lineage(connection: Connection, version: int) -> Lineage:
    """Return a version's line. Raises NotFound."""
    present: PolicyVersion | None = get_version(connection, version)
    line = []
    while present is not None:
        line.append(_ancestor(connection, present))
        present = get_version(connection, present.parent) if present.parent is not None else None
    ids = [feedback_id for one in line for feedback_id in one.feedback_ids]
    return Lineage(version, tuple(line), tuple(sorted(quarantined_acts(connection, ids))))


def versions_of_feedback(connection: Connection, feedback_ids: Sequence[int]) -> list[int]:
    """Return every version that learnt from one of these acts, itself or through a parent, ascending."""
    rounds: set[int] = set()
    ids = sorted(feedback_ids)
    for start in range(0, len(ids), 500):
        query = select(round_selection.c.round_id).where(
            round_selection.c.feedback_id.in_(ids[start : start + 500]), round_selection.c.split == "train"
        )
        rounds.update(connection.execute(query).scalars())
    return _with_children(list_versions(connection), rounds)


def flagged_versions(connection: Connection) -> dict[int, tuple[str, ...]]:
    """Return the versions that learnt from erased or quarantined feedback, each with what is wrong."""
    found = {one.version: lineage(connection, one.version).flags for one in list_versions(connection)}
    return {version: flags for version, flags in found.items() if flags}


def forget_feedback(connection: Connection, feedback_ids: Iterable[int]) -> list[int]:
    """Take acts out of every frozen selection, so that they can be deleted; return the versions that learnt from them.

    From how many a round had trained stays written down, without saying which: that is what flags a version.
    """
    ids = sorted(set(feedback_ids))
    affected = versions_of_feedback(connection, ids)
    counts: dict[int, int] = {}
    for start in range(0, len(ids), 500):
        part = round_selection.c.feedback_id.in_(ids[start : start + 500])
        trained = select(round_selection.c.round_id, func.count()).where(part, round_selection.c.split == "train")
        for round_id, acts in connection.execute(trained.group_by(round_selection.c.round_id)):
            counts[round_id] = counts.get(round_id, 0) + acts
        connection.execute(delete(round_selection).where(part))
    at = now()
    if counts:
        rows = [{"round_id": round_id, "acts": acts, "at": at} for round_id, acts in sorted(counts.items())]
        connection.execute(insert(erased_selections), rows)
    return affected


def unselect(connection: Connection, round_id: int, feedback_ids: Sequence[int]) -> None:
    """Take acts out of the selection of a round that trains anew without them, and with them every mark of erased ones:
    what it makes has learnt from none."""
    ids = sorted(feedback_ids)
    for start in range(0, len(ids), 500):
        chosen = round_selection.c.feedback_id.in_(ids[start : start + 500])
        connection.execute(delete(round_selection).where(round_selection.c.round_id == round_id, chosen))
    connection.execute(delete(erased_selections).where(erased_selections.c.round_id == round_id))


def _ancestor(connection: Connection, version: PolicyVersion) -> Ancestor:
    if version.round_id is None:
        return Ancestor(version.version, None, (), 0)
    trained = select(round_selection.c.feedback_id).where(
        round_selection.c.round_id == version.round_id, round_selection.c.split == "train"
    )
    ids = connection.execute(trained.order_by(round_selection.c.feedback_id)).scalars().all()
    gone = select(func.coalesce(func.sum(erased_selections.c.acts), 0)).where(
        erased_selections.c.round_id == version.round_id
    )
    return Ancestor(version.version, version.round_id, tuple(ids), int(connection.execute(gone).scalar_one()))


def _with_children(versions: Sequence[PolicyVersion], rounds: set[int]) -> list[int]:
    """The versions of these rounds and all that descend from them. A parent's number is below its child's."""
    found: set[int] = set()
    for one in sorted(versions, key=lambda version: version.version):
        if one.round_id in rounds or one.parent in found:
            found.add(one.version)
    return sorted(found)
