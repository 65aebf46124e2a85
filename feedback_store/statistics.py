"""Intervals for small samples. Pure numpy; every random draw has a seed.

Percentile bootstraps resample whole clusters where a group id is given: replies to one prompt, or votes of one rater,
are not independent, and resampling them one by one makes an interval too narrow.
"""

from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 2_000


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's score interval for a share (Wilson 1927): (low, high) in [0, 1].

    successes: 0 … n; half successes (ties) are allowed. n = 0 knows nothing: (0, 1). Raises ValueError.
    """
    _check_confidence(confidence)
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"successes is {successes} of n {n}; wanted: 0 to n")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * ((share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5)
    # At the ends the formula is exact but its rounding is not.
    low = 0.0 if successes == 0 else max(0.0, middle - half)
    high = 1.0 if successes == n else min(1.0, middle + half)
    return low, high


def bootstrap_mean(
    values: ArrayLike, confidence: float = 0.95, seed: int = 0, *, cluster: Sequence[object] | None = None
) -> tuple[float, float, float]:
    """Return (mean, low, high) of `values` by a percentile bootstrap. cluster: a group id for each value.

    Raises ValueError without values.
    """
    values_N = np.asarray(values, dtype=float)
    if values_N.ndim != 1 or values_N.size == 0:
        raise ValueError(f"values has shape {values_N.shape}; wanted: at least one number in one dimension")
    low, high = _bootstrap(lambda index_N: float(values_N[index_N].mean()), values_N.size, confidence, seed, cluster)
    return float(values_N.mean()), low, high


def auc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Return the chance that a random positive scores above a random negative, ties counting half: in [0, 1], 0.5 is
    knowing nothing. Raises ValueError without one of either."""
    scores_N, labels_N = _scores_and_labels(scores, labels)
    positives = int(labels_N.sum())
    negatives = labels_N.size - positives
    if positives == 0 or negatives == 0:
        raise ValueError(
            f"labels holds {positives} positives and {negatives} negatives; wanted: at least one of either"
        )
    # Mann and Whitney's U from average ranks.
    _, inverse_N, count_G = np.unique(scores_N, return_inverse=True, return_counts=True)
    rank_G = np.cumsum(count_G) - (count_G - 1) / 2
    u = rank_G[inverse_N][labels_N].sum() - positives * (positives + 1) / 2
    return float(u / (positives * negatives))


def bootstrap_auc(
    scores: ArrayLike,
    labels: ArrayLike,
    confidence: float = 0.95,
    seed: int = 0,
    *,
    cluster: Sequence[object] | None = None,
) -> tuple[float, float, float]:
    """Return (auc, low, high) by a percentile bootstrap; a resample without one of either label is left out.

    cluster: a group id for each score. Raises ValueError without one of either label.
    """
    scores_N, labels_N = _scores_and_labels(scores, labels)
    value = auc(scores_N, labels_N)

    def of_resample(index_N: NDArray[np.intp]) -> float:
        chosen_N = labels_N[index_N]
        if chosen_N.all() or not chosen_N.any():
            return float("nan")
        return auc(scores_N[index_N], chosen_N)

    low, high = _bootstrap(of_resample, scores_N.size, confidence, seed, cluster)
    return value, low, high


def _bootstrap(
    statistic: Callable[[NDArray[np.intp]], float],
    n: int,
    confidence: float,
    seed: int,
    cluster: Sequence[object] | None,
) -> tuple[float, float]:
    _check_confidence(confidence)
    if cluster is None:
        groups = [np.array([index]) for index in range(n)]
    else:
        if len(cluster) != n:
            raise ValueError(f"cluster has {len(cluster)} ids; wanted: one for each of the {n} values")
        members: dict[object, list[int]] = {}
        for index, group in enumerate(cluster):
            members.setdefault(group, []).append(index)
        groups = [np.array(indices) for indices in members.values()]
    random = np.random.default_rng(seed)
    drawn: list[float] = []
    for _ in range(RESAMPLES):
        picked = random.integers(0, len(groups), len(groups))
        index_N = picked if cluster is None else np.concatenate([groups[group] for group in picked])
        drawn.append(statistic(index_N))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(np.array(drawn), [tail, 1 - tail])
    return float(low), float(high)


def _scores_and_labels(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    scores_N = np.asarray(scores, dtype=float)
    labels_N = np.asarray(labels).astype(bool)
    if scores_N.ndim != 1 or scores_N.shape != labels_N.shape:
        raise ValueError(f"scores has shape {scores_N.shape}, labels {labels_N.shape}; wanted: the same, one dimension")
    if not np.isfinite(scores_N).all():
        raise ValueError("scores holds a value that is not finite; wanted: finite numbers")
    return scores_N, labels_N


def _check_confidence(confidence: float) -> None:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; wanted: between 0 and 1, for example 0.95")
