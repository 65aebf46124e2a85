"""The gate's checks as pure arithmetic: numbers and texts in, one `Check` out. No model, no store.

Three outcomes. A guard (drift must stay below a limit) passes when the value is within the limit on enough replies,
fails when its interval lies wholly beyond it, and is inconclusive in between or on too few replies. A claim (the
candidate is better) passes only when its interval lies wholly on the good side. Too little evidence is no pass.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from feedback_store.statistics import bootstrap_auc, bootstrap_mean, wilson
from trainer.settings import GateSettings

Outcome = Literal["pass", "fail", "inconclusive"]
Interval = tuple[float, float]
REWARD_ALONE = "reward_without_preference"
_SMALLEST = 1e-9
_LONG_SHARE = 4
"""Where only replies of six words or more are measured, a quarter of `min_replies` is enough: raters may like short."""


@dataclass(frozen=True, slots=True)
class Check:
    """One check. `hard`: it blocks promotion; a soft one that fails is a warning. Shares are fractions."""

    name: str
    value: float | None
    interval: Interval | None
    threshold: float | Interval
    hard: bool
    outcome: Outcome
    reason: str

    def as_dict(self) -> dict[str, Any]:
        """The check as JSON."""
        return asdict(self)


def overall(checks: Sequence[Check]) -> tuple[Outcome, str]:
    """Return the gate's outcome and why: fail on a hard failure, inconclusive on a hard one without enough evidence,
    else pass; soft failures are named as warnings."""
    failed = [check for check in checks if check.hard and check.outcome == "fail"]
    unclear = [check for check in checks if check.hard and check.outcome == "inconclusive"]
    warned = [check for check in checks if not check.hard and check.outcome == "fail"]
    if failed:
        return "fail", "; ".join(check.reason for check in failed)
    if unclear:
        return "inconclusive", "; ".join(check.reason for check in unclear)
    if warned:
        return "pass", "passed with warnings: " + "; ".join(check.reason for check in warned)
    return "pass", "every check passed"


def guard(
    name: str,
    what: str,
    value: float,
    interval: Interval,
    limit: float,
    *,
    hard: bool,
    n: int,
    enough: int,
    at_least: bool = False,
) -> Check:
    """Judge a value that must stay at most (or `at_least`) at `limit`, from `n` observations of which `enough` are
    asked. `what` names the value in words."""
    within = value >= limit if at_least else value <= limit
    beyond = interval[1] < limit if at_least else interval[0] > limit
    side = "at least" if at_least else "at most"
    said = f"{what} is {value:.3g} [{interval[0]:.3g}, {interval[1]:.3g}], wanted {side} {limit:.3g}"
    if beyond:
        return Check(name, value, interval, limit, hard, "fail", said)
    if n < enough:
        return Check(name, value, interval, limit, hard, "inconclusive", f"{said}; only {n} of {enough} observations")
    if within:
        return Check(name, value, interval, limit, hard, "pass", said)
    return Check(name, value, interval, limit, hard, "inconclusive", f"{said}; it may be chance on {n} observations")


def held_out_preference(
    margins: Sequence[float], ups: Sequence[bool], raters: Sequence[int], settings: GateSettings, seed: int
) -> Check:
    """Do held-out thumbs agree with what the candidate learnt? AUC of log π_candidate − log π_live, ups against downs:
    0.5 knows nothing. The interval resamples raters, whose votes are not independent of one another."""
    name, wanted = "held_out_preference", settings.held_out_auc
    few = min(sum(ups), len(ups) - sum(ups))
    if len(ups) < settings.min_held_out_votes or few == 0 or len(set(raters)) < 2:
        reason = (
            f"held-out preference needs {settings.min_held_out_votes} held-out votes of both kinds from two raters; "
            f"there are {sum(ups)} up and {len(ups) - sum(ups)} down from {len(set(raters))}"
        )
        return Check(name, None, None, wanted, True, "inconclusive", reason)
    # Only the lower bound decides, so it is a one-sided bound at the confidence asked for: the interval shown is
    # narrower (both its ends are such bounds).
    value, low, high = bootstrap_auc(margins, ups, 2 * settings.confidence - 1, seed, cluster=raters)
    said = f"held-out preference (AUC) is {value:.3f} [{low:.3f}, {high:.3f}] on {len(ups)} votes"
    return Check(name, value, (low, high), wanted, True, *_claim(said, (low, high), wanted))


def held_out_pairs(
    margins: Sequence[float], raters: Sequence[int], settings: GateSettings, seed: int, *, hard: bool = False
) -> Check | None:
    """Share of held-out pairs whose chosen reply gained more log-probability than the rejected one, ties counting half;
    None when there are too few to say anything. Hard where they are the only word of held-out people."""
    if len(margins) < settings.min_held_out_pairs:
        return None
    right = [1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in margins]
    value, low, high = bootstrap_mean(right, settings.confidence, seed, cluster=raters)
    said = f"accuracy on {len(margins)} held-out pairs is {value:.3f} [{low:.3f}, {high:.3f}]"
    return Check("held_out_pairs", value, (low, high), 0.5, hard, *_claim(said, (low, high), 0.5))


def _claim(said: str, interval: Interval, wanted: float) -> tuple[Outcome, str]:
    if interval[0] > wanted:
        return "pass", said
    if interval[1] < wanted:
        return "fail", f"{said}: the candidate prefers what held-out raters disliked (wanted above {wanted:g})"
    return "inconclusive", f"{said}: its interval holds {wanted:g}, more held-out feedback is needed"


def k3_nats(own: Sequence[float], other: Sequence[float]) -> float:
    """Return one reply's estimate of KL(own ‖ other), in nats, from its tokens' log-probs under both; never negative.

    k3 = Σ (ρ − 1 − ln ρ) with ρ = p_other / p_own (Schulman 2020, "Approximating KL divergence"): unbiased like the
    plain Σ −ln ρ, but the plain one came out negative as a mean of 16 replies here. Tokens must be drawn from `own`.
    """
    total = 0.0
    for own_logp, other_logp in zip(own, other, strict=True):
        difference = min(other_logp - own_logp, 50.0)  # exp(50) already says: no overlap at all
        total += math.expm1(difference) - difference
    return max(total, 0.0)


def kl(
    name: str,
    against: str,
    nats: Sequence[float],
    prompts: Sequence[int],
    limit: float,
    settings: GateSettings,
    seed: int,
    *,
    hard: bool = True,
) -> Check:
    """On-policy KL a reply, in nats: mean of `k3_nats` over the candidate's own replies."""
    value, low, high = bootstrap_mean(nats, settings.confidence, seed, cluster=prompts)
    what = f"KL against {against} in nats a reply"
    return guard(name, what, value, (low, high), limit, hard=hard, n=len(nats), enough=settings.min_replies)


def share_rise(
    name: str,
    what: str,
    candidate: Sequence[bool],
    live: Sequence[bool],
    limit: float,
    settings: GateSettings,
    *,
    hard: bool,
) -> Check:
    """A share must not rise by more than `limit` from live to candidate (Newcombe's interval of a difference)."""
    value, interval = difference(_share(candidate, settings.confidence), _share(live, settings.confidence))
    n = min(len(candidate), len(live))
    return guard(name, f"rise of {what}", value, interval, limit, hard=hard, n=n, enough=settings.min_replies)


def share_at_most(
    name: str, what: str, candidate: Sequence[bool], live: Sequence[bool], limit: float, settings: GateSettings
) -> Check:
    """A share must stay at `limit`, or at what the live version shows if that is higher already."""
    value, interval = _share(candidate, settings.confidence)
    limit = max(limit, sum(live) / max(len(live), 1))
    return guard(name, what, value, interval, limit, hard=True, n=len(candidate), enough=settings.min_replies)


def mean_rise(
    name: str,
    what: str,
    candidate: Sequence[float],
    live: Sequence[float],
    limit: float,
    settings: GateSettings,
    seed: int,
) -> Check:
    """A mean must not rise by more than `limit` from live to candidate."""
    if not candidate or not live:
        return Check(name, None, None, limit, True, "inconclusive", f"{what}: no reply is long enough to measure it")
    value, interval = difference(_mean(candidate, settings, seed), _mean(live, settings, seed + 1))
    n, enough = min(len(candidate), len(live)), settings.min_replies // _LONG_SHARE
    return guard(name, f"rise of {what}", value, interval, limit, hard=True, n=n, enough=enough)


def mean_ratio(
    name: str,
    what: str,
    candidate: Sequence[float],
    live: Sequence[float],
    limit: float,
    settings: GateSettings,
    seed: int,
) -> Check:
    """A positive mean must stay at least `limit` times live's (the difference of logarithms, as an interval)."""
    if not candidate or not live:
        return Check(name, None, None, limit, True, "inconclusive", f"{what}: no reply is long enough to measure it")
    logs = [
        (math.log(max(value, _SMALLEST)), (math.log(max(low, _SMALLEST)), math.log(max(high, _SMALLEST))))
        for value, (low, high) in (_mean(candidate, settings, seed), _mean(live, settings, seed + 1))
    ]
    value, (low, high) = difference(logs[0], logs[1])
    n, enough = min(len(candidate), len(live)), settings.min_replies // _LONG_SHARE
    return guard(
        name,
        f"{what} against live's",
        math.exp(value),
        (math.exp(low), math.exp(high)),
        limit,
        hard=True,
        n=n,
        enough=enough,
        at_least=True,
    )


def length(candidate: float, live: float, liked: float | None, settings: GateSettings) -> Check:
    """Median words must stay within what live shows and raters liked, widened by `max_length_change` on either side:
    moving toward the liked length is the point of a round, overshooting it is not. Soft."""
    marks = [live] if liked is None else [live, liked]
    low, high = min(marks) * (1 - settings.max_length_change), max(marks) * (1 + settings.max_length_change)
    said = f"median length is {candidate:g} words (live {live:g}"
    said += ")" if liked is None else f", up-voted {liked:g})"
    within = low <= candidate <= high
    outcome: Outcome = "pass" if within else "fail"
    return Check("length", candidate, None, (low, high), False, outcome, f"{said}, wanted {low:.1f} to {high:.1f}")


def length_far(candidate: float, live: float, liked: float | None, settings: GateSettings) -> Check:
    """Median words must not leave by `max_length_factor` what live shows and raters liked. Hard: whoever likes long
    replies shows it in what they up-vote, so a length beyond that is a hack of something else."""
    marks = [live] if liked is None else [live, liked]
    low, high = min(marks) / settings.max_length_factor, max(marks) * settings.max_length_factor
    outcome: Outcome = "pass" if low <= candidate <= high else "fail"
    said = f"median length is {candidate:g} words, wanted {low:.1f} to {high:.1f}"
    return Check("length_far", candidate, None, (low, high), True, outcome, said)


def reward_without_preference(found: Sequence[Check], margin: float | None, before: bool) -> list[Check]:
    """The reward rose while held-out people did not agree: a warning once, a failure two rounds running.

    found: the checks so far. margin: the training's last reward margin; None where a method has none.
    """
    preference = next((check for check in found if check.name in ("held_out_preference", "held_out_pairs")), None)
    if margin is None or preference is None:
        return []
    alone = margin > 0 and preference.outcome != "pass"
    outcome: Outcome = "fail" if alone else "pass"
    said = f"the reward margin is {margin:.3g} and held-out preference is {preference.outcome}"
    if alone and before:
        said += ", for the second round running"
    return [Check(REWARD_ALONE, margin, None, 0.0, alone and before, outcome, said)]


def perplexity(candidate: Sequence[float], base: Sequence[float], settings: GateSettings, seed: int) -> list[Check]:
    """Retention: how much worse the candidate reads plain English than the base does; a hard and a soft check.

    candidate, base: mean log-probability a token of each text. The rise is exp(mean difference) − 1 over texts, the
    same for both policies, so the value is judged as it is; the interval (over texts) is for reading.
    """
    differences = [base_logp - logp for logp, base_logp in zip(candidate, base, strict=True)]
    mean, low, high = bootstrap_mean(differences, settings.confidence, seed)
    value, interval = math.expm1(mean), (math.expm1(low), math.expm1(high))
    checks = []
    for name, limit, hard in (
        ("retention_perplexity", settings.max_perplexity_rise, True),
        ("retention_perplexity_warning", settings.warn_perplexity_rise, False),
    ):
        said = f"perplexity of plain English rose by {value:.1%}, wanted at most {limit:.1%}"
        outcome: Outcome = "pass" if value <= limit else "fail"
        checks.append(Check(name, value, interval, limit, hard, outcome, said))
    return checks


def difference(first: tuple[float, Interval], second: tuple[float, Interval]) -> tuple[float, Interval]:
    """Return first − second with an interval, from two values with theirs: square and add (Newcombe 1998, method 10;
    Zou and Donner 2008 for any two independent estimates)."""
    (a, (a_low, a_high)), (b, (b_low, b_high)) = first, second
    value = a - b
    return value, (value - math.hypot(a - a_low, b_high - b), value + math.hypot(a_high - a, b - b_low))


def _share(flags: Sequence[bool], confidence: float) -> tuple[float, Interval]:
    return sum(flags) / max(len(flags), 1), wilson(sum(flags), len(flags), confidence)


def _mean(values: Sequence[float], settings: GateSettings, seed: int) -> tuple[float, Interval]:
    value, low, high = bootstrap_mean(values, settings.confidence, seed)
    return value, (low, high)
