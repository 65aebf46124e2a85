"""A flood: one rater who gives far more than anybody who reads. However much it is, it weighs a hundredth at most.

The cap per rater comes first (selection.py) and counts rows before anybody is held out. What a flood then weighs in the
training depends on more: the others lose the rows of their held-out raters and prompts, and KTO weighs the rarer kind
of thumb up to five times, so that a flood of nothing but down-votes in a crowd of up-votes could hold 5 / (5 + 99) of
the loss, near 5 %, with 1 % of the rows. So the rows of each split are weighed once more as the method will weigh them.
"""

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TypeVar

from trainer.feedback_rows import text_hash
from trainer.job import ExampleRow, PairRow, VoteRow

FLOOD_SHARE = 0.01
"""Most of the weight that a flood may hold."""
_FLOOD_TIMES = 10

AnyRow = TypeVar("AnyRow", bound=VoteRow | PairRow | ExampleRow)


def floods_of(rows_by_rater: Mapping[str, int], at_least: int) -> frozenset[str]:
    """The raters who brought over ten times what the median rater did, and over ten times `at_least`: nobody who reads
    does."""
    if not rows_by_rater:
        return frozenset()
    usual = max(statistics.median(rows_by_rater.values()), at_least)
    return frozenset(rater for rater, rows in rows_by_rater.items() if rows > _FLOOD_TIMES * usual)


def class_weights(ups: int, downs: int, cap: float) -> tuple[float, float]:
    """Return (λ_D, λ_U) with λ_D · ups = λ_U · downs (KTO paper, equation 8): the rarer kind's weight rises from 1, at
    most to `cap`; the other stays 1. One kind alone keeps its weight of 1."""
    if ups == 0 or downs == 0:
        return 1.0, 1.0
    return (min(downs / ups, cap), 1.0) if ups < downs else (1.0, min(ups / downs, cap))


def weights_of(rows: Sequence[VoteRow | PairRow | ExampleRow], cap: float) -> list[float]:
    """What each row weighs in the loss: KTO's balance of ups and downs for votes, 1 for anything else."""
    ups = sum(row.up for row in rows if isinstance(row, VoteRow))
    downs = sum(not row.up for row in rows if isinstance(row, VoteRow))
    desirable, undesirable = class_weights(ups, downs, cap)
    return [(desirable if row.up else undesirable) if isinstance(row, VoteRow) else 1.0 for row in rows]


def share_of(rater: int, rows: Sequence[VoteRow | PairRow | ExampleRow], cap: float) -> float:
    """Which part of the rows' weight is this rater's."""
    weights = weights_of(rows, cap)
    total = math.fsum(weights)
    return math.fsum(weight for row, weight in zip(rows, weights, strict=True) if row.rater == rater) / (total or 1.0)


def within_share(rows: Sequence[AnyRow], floods: Sequence[int], cap: float, seed: int) -> list[AnyRow]:
    """Leave out acts of each flood, whole ones, chosen by a seeded hash, until it holds at most `FLOOD_SHARE`.

    `floods` are the raters' numbers in this round, `cap` is KTO's greatest class weight. One row less changes the
    weights of all, so each is weighed anew; there are at most a few dozen to take out, since the cap came before.
    """
    left = list(rows)
    while over := [rater for rater in floods if share_of(rater, left, cap) > FLOOD_SHARE]:
        acts: dict[int, list[int]] = defaultdict(list)
        for rater, number in {(row.rater, row.feedback_id) for row in left if row.rater in over}:
            acts[rater].append(number)
        out = {(rater, min(of, key=lambda number: text_hash(f"{seed}:flood:{number}"))) for rater, of in acts.items()}
        left = [row for row in left if (row.rater, row.feedback_id) not in out]
    return left
