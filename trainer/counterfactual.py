"""What share of thumbs up would the candidate have got on the live version's own replies? An estimate, never a verdict.

Each held-out reply y that live wrote and a rater judged (1 up, 0 down) counts with the clipped importance weight
w = min(c, π_candidate(y|x) / π_live(y|x)); the estimate is Σ w·r / Σ w (self-normalised; clipping trades a little bias
for variance: Ionides 2008). Its effective sample size (Σ w)² / Σ w² says how many votes it really rests on: a candidate
that would say something else makes most weights vanish, and then the estimate is worth nothing however neat it looks.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

CLIP = 10.0
_RESAMPLES = 2_000
_FEW = 20.0


def effective_sample_size(weights: Sequence[float]) -> float:
    """Return (Σ w)² / Σ w²: between 1 and the number of weights; 0 without any."""
    total = sum(weights)
    return total * total / sum(weight * weight for weight in weights) if total > 0 else 0.0


def counterfactual(
    log_ratios: Sequence[float], ups: Sequence[bool], raters: Sequence[int], confidence: float, seed: int
) -> dict[str, Any] | None:
    """Estimate the candidate's share of thumbs up beside live's own; None without votes.

    log_ratios: log π_candidate − log π_live of each reply, in nats. The interval resamples raters.
    """
    if not ups:
        return None
    weights_N = np.exp(np.minimum(np.asarray(log_ratios, dtype=float), math.log(CLIP)))
    up_N = np.asarray(ups, dtype=float)
    value = float((weights_N * up_N).sum() / weights_N.sum())
    members: dict[int, list[int]] = {}
    for place, rater in enumerate(raters):
        members.setdefault(rater, []).append(place)
    groups = [np.array(places) for places in members.values()]
    sums_GC = np.array([[(weights_N[group] * up_N[group]).sum(), weights_N[group].sum()] for group in groups])
    picked_RG = np.random.default_rng(seed).integers(0, len(groups), (_RESAMPLES, len(groups)))
    drawn_RC = sums_GC[picked_RG].sum(1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn_RC[:, 0] / drawn_RC[:, 1], [tail, 1 - tail])
    size = effective_sample_size(weights_N.tolist())
    return {
        "up_share": value,
        "interval": [float(low), float(high)],
        "live_up_share": float(up_N.mean()),
        "votes": len(ups),
        "effective_votes": size,
        "clip": CLIP,
        "clipped": int((np.asarray(log_ratios) > math.log(CLIP)).sum()),
        "note": "rests on too few votes to say anything"
        if size < _FEW
        else "an estimate on the live version's replies",
    }
