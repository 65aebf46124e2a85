"""How far people agree: Krippendorff's α with a bootstrap interval.

    α = 1 − D_o / D_e        D_o: mean difference within units, D_e: mean difference if values met by chance

1 is perfect agreement, 0 what chance gives, below 0 is worse than chance. Any number of people a unit, and missing
values, are allowed; a unit with one value says nothing. (K. Krippendorff, Computing Krippendorff's Alpha-Reliability,
2011, by coincidences.) The interval resamples whole clusters (the pairs of one task stand or fall together), as in
`statistics.py`, and computes α anew for each.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
Metric = Literal["nominal", "interval"]
"""nominal: values are alike or not. interval: they differ by the square of their distance."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """α and its interval; `units` are those with two values or more. None where α is not defined: too few units, or
    everybody always said the same, which tells nothing about whether they can tell things apart."""

    alpha: float | None
    low: float | None
    high: float | None
    units: int


def krippendorff_alpha(units: Sequence[Sequence[float]], metric: Metric = "nominal") -> float | None:
    """Return α over units, each the values that people gave it; None where it is not defined."""
    values, coincidences_UVV = _coincidences(units)
    return _alpha(coincidences_UVV.sum(axis=0), _differences(values, metric))


def agreement(
    units: Sequence[Sequence[float]],
    *,
    cluster: Sequence[Hashable] | None = None,
    metric: Metric = "nominal",
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Return α with a percentile bootstrap over clusters. cluster: a group id for each unit; None: each on its own.

    Raises ValueError when `cluster` has another length.
    """
    if cluster is not None and len(cluster) != len(units):
        raise ValueError(f"cluster has {len(cluster)} ids; wanted: one for each of the {len(units)} units")
    values, coincidences_UVV = _coincidences(units)
    differences_VV = _differences(values, metric)
    alpha = _alpha(coincidences_UVV.sum(axis=0), differences_VV)
    paired = sum(len(unit) > 1 for unit in units)
    groups = _groups(coincidences_UVV, range(len(units)) if cluster is None else cluster)
    if alpha is None or len(groups) < 2:
        return Agreement(alpha, None, None, paired)
    random = np.random.default_rng(seed)
    drawn = [
        _alpha(groups[random.integers(0, len(groups), len(groups))].sum(axis=0), differences_VV)
        for _ in range(RESAMPLES)
    ]
    known = [value for value in drawn if value is not None]
    if not known:
        return Agreement(alpha, None, None, paired)
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.array(known), [tail, 1 - tail])
    return Agreement(alpha, float(low), float(high), paired)


def _coincidences(units: Sequence[Sequence[float]]) -> tuple[list[float], NDArray[np.float64]]:
    """The values that occur, and of each unit how often two of them stand together, each pair weighing 1 / (m − 1)."""
    values = sorted({value for unit in units for value in unit})
    place = {value: number for number, value in enumerate(values)}
    coincidences_UVV = np.zeros((len(units), len(values), len(values)))
    for number, unit in enumerate(units):
        counts = Counter(unit)
        if len(unit) < 2:
            continue
        for first, times in counts.items():
            for second, others in counts.items():
                pairs = times * (others - (first == second))
                coincidences_UVV[number, place[first], place[second]] = pairs / (len(unit) - 1)
    return values, coincidences_UVV


def _differences(values: Sequence[float], metric: Metric) -> NDArray[np.float64]:
    value_V = np.array(values, dtype=float)
    distance_VV = value_V[:, None] - value_V[None, :]
    by_metric: dict[Metric, Callable[[], NDArray[np.float64]]] = {
        "nominal": lambda: (distance_VV != 0).astype(float),
        "interval": lambda: distance_VV**2,
    }
    return by_metric[metric]()


def _alpha(coincidence_VV: NDArray[np.float64], difference_VV: NDArray[np.float64]) -> float | None:
    total_V = coincidence_VV.sum(axis=1)
    n = float(total_V.sum())
    if n < 2:
        return None
    observed = float((coincidence_VV * difference_VV).sum()) / n
    expected = float((np.outer(total_V, total_V) * difference_VV).sum()) / (n * (n - 1))
    return None if expected == 0 else 1 - observed / expected


def _groups(coincidences_UVV: NDArray[np.float64], cluster: Sequence[Hashable]) -> NDArray[np.float64]:
    """The coincidences of each cluster that has any."""
    members: dict[Hashable, list[int]] = defaultdict(list)
    for number, name in enumerate(cluster):
        members[name].append(number)
    summed_GVV = np.array([coincidences_UVV[numbers].sum(axis=0) for numbers in members.values()])
    return summed_GVV[summed_GVV.sum(axis=(1, 2)) > 0] if len(summed_GVV) else summed_GVV
