"""People look at a candidate: its replies beside the live version's, blind, and an operator's veto.

The pairs are the before and after of the gate's report: on prompts that the candidate never saw, and on a few that it
was trained on, which only show what it learnt: no vote on those counts for or against it. Which of the two stands on
the left is decided by a hash of version, example and viewer: two viewers see different sides, one viewer always the
same. A version that was vetoed, or that people clearly like less, is neither promoted nor made a canary, whatever its
gate said, unless forced.
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Select, delete, func, select, update

from feedback_store.checks import check_identifier, check_text
from feedback_store.errors import Conflict, NotFound, Refused
from feedback_store.inserts import insert_if_new
from feedback_store.schema import now, policy_versions, replies, rounds, side_by_side_votes, vetoes

Side = Literal["left", "right", "tie", "both_bad"]
CHOICES = ("after", "before", "tie", "both_bad")
FEWEST_VOTES = 20
"""Decided votes from which people's word can block a version by itself."""
MOST_REASON_CHARACTERS = 1_000


@dataclass(frozen=True, slots=True)
class SideBySide:
    """One pair as a viewer sees it. prompt: None where the user's text is not kept any more."""

    example: int
    prompt: str | None
    left: str
    right: str
    voted: Side | None
    trained_on: bool = False
    """The candidate learnt from feedback on this prompt."""


@dataclass(frozen=True, slots=True)
class SideBySideResult:
    """What people said so far of replies to prompts that the candidate was not trained on, and beside it of those that
    it was. `win_rate` is the candidate's among decided votes."""

    version: int
    after: int
    before: int
    ties: int
    both_bad: int
    win_rate: float | None
    interval: tuple[float, ...]
    viewers: int
    veto: str | None
    trained_on: dict[str, int]
    """Votes on prompts it was trained on: after, before, tie, both_bad."""

    @property
    def tie_count(self) -> int:
        """Votes that say neither is better."""
        return self.ties + self.both_bad


def side_by_sides(connection: Connection, version: int, viewer: str) -> list[SideBySide]:
    """Return the version's pairs as `viewer` sees them. Raises NotFound, Refused for a viewer that is no identifier."""
    check_identifier("viewer", viewer)
    examples = _examples(connection, version)
    query = select(side_by_side_votes.c.example, side_by_side_votes.c.choice).where(
        side_by_side_votes.c.version == version, side_by_side_votes.c.viewer == viewer
    )
    choices: dict[int, str] = {row.example: row.choice for row in connection.execute(query)}
    found = []
    for place, example in enumerate(examples.all):
        swapped = _after_is_left(version, place, viewer)
        sides = (example["after"], example["before"]) if swapped else (example["before"], example["after"])
        prompt = example.get("prompt") or _prompt(connection, example.get("prompt_reply_id"))
        voted = _as_side(choices.get(place), swapped)
        found.append(SideBySide(place, prompt, *sides, voted, place >= examples.unseen))
    return found


def vote(connection: Connection, version: int, example: int, viewer: str, side: Side) -> None:
    """Record which side a viewer likes better; again for another word. Raises NotFound, Refused."""
    check_identifier("viewer", viewer)
    if side not in ("left", "right", "tie", "both_bad"):
        raise Refused("choice", f"choice is {side!r}; wanted: left, right, tie or both_bad")
    if not 0 <= example < len(_examples(connection, version).all):
        raise NotFound(f"version {version} has no example {example}")
    after_left = _after_is_left(version, example, viewer)
    choice = {"left": "after" if after_left else "before", "right": "before" if after_left else "after"}.get(side, side)
    key = (
        (side_by_side_votes.c.version == version)
        & (side_by_side_votes.c.example == example)
        & (side_by_side_votes.c.viewer == viewer)
    )
    connection.execute(delete(side_by_side_votes).where(key))
    values = {"version": version, "example": example, "viewer": viewer, "choice": choice, "at": now()}
    insert_if_new(connection, side_by_side_votes, values)


def reveal(connection: Connection, version: int, viewer: str) -> dict[int, Side]:
    """Return on which side the candidate stood, for each pair on which this viewer has voted. Raises NotFound."""
    check_identifier("viewer", viewer)
    _check_version(connection, version)
    query = select(side_by_side_votes.c.example).where(
        side_by_side_votes.c.version == version, side_by_side_votes.c.viewer == viewer
    )
    return {
        example: "left" if _after_is_left(version, example, viewer) else "right"
        for example in connection.execute(query).scalars()
    }


def side_by_side_result(connection: Connection, version: int) -> SideBySideResult:
    """Count what people said. Raises NotFound for a version that is not there."""
    unseen, seen = _counts(connection, version)
    after, before = unseen["after"], unseen["before"]
    viewers = select(func.count(side_by_side_votes.c.viewer.distinct())).where(side_by_side_votes.c.version == version)
    from feedback_store.statistics import wilson  # numpy: not for every program that reads a version

    return SideBySideResult(
        version,
        after,
        before,
        unseen["tie"],
        unseen["both_bad"],
        after / (after + before) if after + before else None,
        wilson(after, after + before),
        connection.execute(viewers).scalar_one(),
        connection.execute(select(vetoes.c.reason).where(vetoes.c.version == version)).scalar(),
        seen,
    )


def veto(connection: Connection, version: int, *, actor: str, reason: str) -> None:
    """Forbid a version to serve. Raises NotFound, Refused without a reason, Conflict when it was vetoed already."""
    check_text("reason", reason, least=1, most=MOST_REASON_CHARACTERS)
    _check_version(connection, version)
    values = {"version": version, "actor": actor, "reason": reason, "at": now()}
    if not insert_if_new(connection, vetoes, values):
        raise Conflict(f"version {version} was vetoed already; lift that veto first")


def lift_veto(connection: Connection, version: int) -> None:
    """Take the veto back. Raises NotFound, Conflict when there is none."""
    _check_version(connection, version)
    if connection.execute(delete(vetoes).where(vetoes.c.version == version)).rowcount == 0:
        raise Conflict(f"version {version} was not vetoed; there is nothing to lift")


def is_vetoed(connection: Connection, version: int) -> bool:
    """Whether somebody has forbidden this version to serve."""
    return connection.execute(select(vetoes.c.version).where(vetoes.c.version == version)).scalar() is not None


def why_blocked(connection: Connection, version: int) -> str | None:
    """Say why people keep a version from serving; None when they do not."""
    row = connection.execute(select(vetoes).where(vetoes.c.version == version)).mappings().one_or_none()
    if row is not None:
        return f"version {version} was vetoed by {row['actor']}: {row['reason']}"
    unseen, _ = _counts(connection, version)
    after, before = unseen["after"], unseen["before"]
    if after + before < FEWEST_VOTES:
        return None
    from feedback_store.statistics import wilson

    if wilson(after, after + before)[1] < 0.5:
        return f"people who compared blindly liked version {version} better in {after} of {after + before} votes only"
    return None


def forget_examples(connection: Connection, reply_ids: Select[tuple[str]]) -> None:
    """Empty what candidate and live answered to the prompts of these replies, in every gate's report: it may repeat
    them. The emptied pairs keep their places, which votes name."""
    gone = set(connection.execute(reply_ids).scalars())
    for table, key in ((policy_versions, policy_versions.c.version), (rounds, rounds.c.round_id)):
        reports = connection.execute(select(key, table.c.gate_report).where(table.c.gate_report.is_not(None))).all()
        for number, report in reports:
            pairs = [one for name in ("examples", "seen_examples") for one in report.get(name, ())]
            said = [one for one in pairs if one.get("prompt_reply_id") in gone]
            for one in said:
                one |= {"prompt_reply_id": None, "prompt": None, "before": "", "after": ""}
            if said:
                connection.execute(update(table).where(key == number).values(gate_report=report))


def _counts(connection: Connection, version: int) -> tuple[dict[str, int], dict[str, int]]:
    """Votes by choice: on prompts it was not trained on, and on those it was."""
    first_seen = _examples(connection, version).unseen
    query = (
        select(side_by_side_votes.c.example, side_by_side_votes.c.choice, func.count().label("votes"))
        .where(side_by_side_votes.c.version == version)
        .group_by(side_by_side_votes.c.example, side_by_side_votes.c.choice)
    )
    unseen, seen = dict.fromkeys(CHOICES, 0), dict.fromkeys(CHOICES, 0)
    for example, choice, votes in connection.execute(query):
        (seen if example >= first_seen else unseen)[choice] += votes
    return unseen, seen


@dataclass(frozen=True, slots=True)
class _Examples:
    """A report's pairs: the first `unseen` of them on prompts that were not trained on."""

    all: list[dict[str, Any]]
    unseen: int


def _examples(connection: Connection, version: int) -> _Examples:
    _check_version(connection, version)
    query = select(policy_versions.c.gate_report).where(policy_versions.c.version == version)
    report: dict[str, Any] = connection.execute(query).scalar() or {}
    unseen, seen = (
        [one for one in report.get(name, ()) if "before" in one and "after" in one]
        for name in ("examples", "seen_examples")
    )
    return _Examples(unseen + seen, len(unseen))


def _check_version(connection: Connection, version: int) -> None:
    query = select(policy_versions.c.version).where(policy_versions.c.version == version)
    if connection.execute(query).scalar() is None:
        raise NotFound(f"no version {version}")


def _prompt(connection: Connection, reply_id: str | None) -> str | None:
    """The last message of a stored reply's prompt, while the store keeps it."""
    if reply_id is None:
        return None
    messages = connection.execute(select(replies.c.messages).where(replies.c.reply_id == reply_id)).scalar()
    return str(messages[-1]["content"]) if messages else None


def _after_is_left(version: int, example: int, viewer: str) -> bool:
    return hashlib.sha256(f"{version}\0{example}\0{viewer}".encode()).digest()[0] % 2 == 1


def _as_side(choice: str | None, after_is_left: bool) -> Side | None:
    if choice == "after":
        return "left" if after_is_left else "right"
    if choice == "before":
        return "right" if after_is_left else "left"
    return "tie" if choice == "tie" else "both_bad" if choice == "both_bad" else None
