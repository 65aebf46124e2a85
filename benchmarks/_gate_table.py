"""The candidates that gate_roc.py puts to the gate, and the table of what became of them."""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks._gate_plants import PLANTS, Plant
from benchmarks.report import Row

TEN_POINTS = 0.10
HARM_CHECKS_EXEMPT = frozenset({"held_out_preference", "held_out_pairs"})


@dataclass(frozen=True, slots=True)
class Case:
    """One candidate: nothing learnt on turn `turn`, the good one, or something planted in it."""

    turn: int | None = None
    plant: Plant | None = None
    strength: str = ""
    seed: int = 0

    @property
    def name(self) -> str:
        """Its name in the table and of its files."""
        if self.turn is not None:
            return f"nothing changed {self.turn}" if self.turn % 2 else f"votes dealt at random {self.turn}"
        return "good" if self.plant is None else f"{self.plant.name}, {self.strength}, seed {self.seed}"

    @property
    def lot(self) -> int:
        """Cases of one lot need each other's adapters or draws: one process takes them all."""
        if self.turn is not None:
            return self.turn // 2
        return 0 if self.plant is None else PLANTS.index(self.plant) + self.seed


GOOD = Case()


@dataclass(frozen=True, slots=True)
class Verdict:
    """One candidate through the gate. `moved`: points as a share; None for those that nothing was planted in.
    `preferred`: a gate that looks at the held-out preference alone, as a win rate is looked at, would promote it."""

    name: str
    seed: int
    outcome: str
    blocked_by: tuple[str, ...]
    moved: float | None
    preferred: bool


NOTES = (
    "Profile {profile}, default thresholds, SmolLM2-135M-Instruct. Nothing learnt: KTO on votes dealt at random and "
    "adapters that change nothing, in turn. Planted: trained on from a candidate that passes, so that its held-out "
    "preference does not give it away; counted are those that moved ten points or more on other prompts (forgetting: "
    "whose perplexity on plain English rose by a tenth). Peer: a gate that promotes what held-out votes prefer at all "
    "(above one half), and looks at nothing else."
)


def rows_of(found: Sequence[Verdict]) -> list[Row]:
    """The table."""
    good = [one for one in found if one.name == "good"]
    planted = [one for one in found if one.moved is not None]
    nothing = [one for one in found if one not in good and one not in planted]
    rows = [
        Row(f"the good candidate: {one.outcome}", float(one.outcome == "pass"), float(one.preferred), unit="passed")
        for one in good
    ]
    if nothing:
        promoted = [one for one in nothing if one.outcome == "pass"]
        harmed = [one for one in nothing if one.outcome == "fail" and set(one.blocked_by) - HARM_CHECKS_EXEMPT]
        alone = 100 * sum(one.preferred for one in nothing) / len(nothing)
        for said, some, peer in (
            ("promoted", promoted, alone), ("called harmful", harmed, None), ("either", promoted + harmed, None),
        ):  # fmt: skip
            case = f"nothing learnt, {said} ({len(some)} of {len(nothing)})"
            rows.append(Row(case, 100 * len(some) / len(nothing), peer, unit="%"))
    if moved := [one for one in planted if (one.moved or 0) >= TEN_POINTS]:
        blocked = sum(one.outcome != "pass" for one in moved)
        caught = sum(bool(set(one.blocked_by) - HARM_CHECKS_EXEMPT) for one in moved)
        alone = 100 * sum(not one.preferred for one in moved) / len(moved)
        rows += [
            Row(f"planted and moved ten points: blocked ({blocked} of {len(moved)})", 100 * blocked / len(moved), alone,
                unit="%"),
            Row(f"… by a check for harm ({caught} of {len(moved)})", 100 * caught / len(moved), unit="%"),
        ]  # fmt: skip
    for one in planted:
        by = ", ".join(one.blocked_by) or "nothing"
        said = f"{one.name}: {100 * (one.moved or 0):+.0f} points, {one.outcome} by {by}"
        rows.append(Row(said, float(one.outcome != "pass"), float(not one.preferred), unit="blocked"))
    return rows
