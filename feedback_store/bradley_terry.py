"""Strengths of several versions from comparisons of two at a time (Bradley and Terry 1952). Pure numpy.

Version i is preferred over j with probability p_i / (p_i + p_j) = σ(θ_i − θ_j). With w_ij wins of i over j, a tie half
a win of either, the likelihood's maximum is found by Hunter's MM steps (2004):

    p_i ← Σ_j w_ij / Σ_j (n_ij / (p_i + p_j)),    n_ij = w_ij + w_ji

which raise the likelihood at every step and never overshoot. A version that won or lost everything would run off to
infinity: either side of every pair that was compared at all is given `prior` wins (0.5, as Jeffreys' prior of a share
has). Intervals are percentile bootstraps over raters, whose votes are not independent of one another.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 400
STEPS = 2_000
ENOUGH = 1e-7
PRIOR = 0.5


@dataclass(frozen=True, slots=True)
class Duel:
    """`count` votes of one rater for `winner` against `loser`, by version; tied: they could not tell."""

    rater_id: str
    winner: int
    loser: int
    count: float = 1.0
    tied: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How one version stands. win_rate: how often it would be preferred over the reference version, None where no chain
    of comparisons leads from one to the other; wins, ties, losses: its own comparisons."""

    version: int
    win_rate: float | None
    interval: tuple[float, float] | None
    wins: float
    ties: float
    losses: float

    @property
    def compared(self) -> float:
        """Comparisons that it stood in."""
        return self.wins + self.ties + self.losses


def standings(duels: Sequence[Duel], reference: int, *, confidence: float = 0.95, seed: int = 0) -> list[Standing]:
    """Return every version that was compared, the strongest first, those that cannot be placed last.

    reference: the version against which win rates are told; it need not be among the compared ones.
    """
    names = sorted({version for duel in duels for version in (duel.winner, duel.loser)})
    place = {version: index for index, version in enumerate(names)}
    raters = {rater: index for index, rater in enumerate(dict.fromkeys(duel.rater_id for duel in duels))}
    wins_RVV = np.zeros((len(raters), len(names), len(names)))
    ties_V, wins_V, losses_V = np.zeros(len(names)), np.zeros(len(names)), np.zeros(len(names))
    for duel in duels:
        one, other, rater = place[duel.winner], place[duel.loser], raters[duel.rater_id]
        share = duel.count / 2 if duel.tied else duel.count
        wins_RVV[rater, one, other] += share
        if duel.tied:
            wins_RVV[rater, other, one] += share
            ties_V[[one, other]] += duel.count
        else:
            wins_V[one] += duel.count
            losses_V[other] += duel.count
    rates_V, low_V, high_V = _against(wins_RVV, place.get(reference), confidence, seed)
    found = [
        Standing(
            version,
            None if np.isnan(rates_V[index]) else float(rates_V[index]),
            None if np.isnan(rates_V[index]) or version == reference else (float(low_V[index]), float(high_V[index])),
            float(wins_V[index]),
            float(ties_V[index]),
            float(losses_V[index]),
        )
        for index, version in enumerate(names)
    ]
    return sorted(found, key=lambda one: (one.win_rate is None, -(one.win_rate or 0.0), -one.version))


def strengths(wins_BVV: NDArray[np.float64], prior: float = PRIOR) -> NDArray[np.float64]:
    """Return θ of each version for each of B tables of wins, each table's mean 0. Versions that no chain of comparisons
    joins cannot be told apart: their difference means nothing."""
    compared_BVV = (wins_BVV + wins_BVV.swapaxes(1, 2)) > 0
    won_BVV = wins_BVV + prior * compared_BVV
    games_BVV = won_BVV + won_BVV.swapaxes(1, 2)
    won_BV = won_BVV.sum(axis=2)
    p_BV = np.ones(won_BV.shape)
    for _ in range(STEPS):
        expected_BV = (games_BVV / (p_BV[:, :, None] + p_BV[:, None, :])).sum(axis=2)
        # A version without a comparison in a resample stays where it is.
        fresh_BV = np.divide(won_BV, expected_BV, out=p_BV.copy(), where=(expected_BV > 0) & (won_BV > 0))
        fresh_BV /= np.exp(np.log(fresh_BV).mean(axis=1, keepdims=True))
        moved = float(np.abs(np.log(fresh_BV) - np.log(p_BV)).max(initial=0.0))
        p_BV = fresh_BV
        if moved < ENOUGH:
            break
    theta_BV: NDArray[np.float64] = np.log(p_BV)
    return theta_BV


def reached(wins_VV: NDArray[np.float64], start: int) -> NDArray[np.bool_]:
    """Return which versions a chain of comparisons joins with `start`."""
    joined_VV = (wins_VV + wins_VV.T) > 0
    found_V = np.zeros(len(wins_VV), dtype=bool)
    found_V[start] = True
    for _ in range(len(wins_VV)):
        found_V |= joined_VV[found_V].any(axis=0)
    return found_V


def _against(
    wins_RVV: NDArray[np.float64], reference: int | None, confidence: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Win rate against the reference with its interval; NaN where there is none."""
    raters, versions, _ = wins_RVV.shape
    nothing_V = np.full(versions, np.nan)
    if reference is None:
        return nothing_V, nothing_V, nothing_V
    all_VV = wins_RVV.sum(axis=0)
    joined_V = reached(all_VV, reference)
    rates_V = _rates(strengths(all_VV[None]), reference)[0]
    drawn_BR = np.random.default_rng(seed).multinomial(raters, np.full(raters, 1 / raters), size=RESAMPLES)
    resampled_BVV = np.tensordot(drawn_BR.astype(float), wins_RVV, axes=1)
    tail = (1 - confidence) / 2
    low_V, high_V = np.quantile(_rates(strengths(resampled_BVV), reference), [tail, 1 - tail], axis=0)
    return np.where(joined_V, rates_V, np.nan), low_V, high_V


def _rates(theta_BV: NDArray[np.float64], reference: int) -> NDArray[np.float64]:
    rates_BV: NDArray[np.float64] = 1 / (1 + np.exp(theta_BV[:, [reference]] - theta_BV))
    return rates_BV
