"""A step that went too far is offered to the gate again at half its length.

A candidate may be what held-out people prefer and be refused all the same, because a tail of its replies is odd: one
opening everywhere, a language flip, too far from live. The direction is right then and the way too long. So the
candidate is put halfway back to what it began as, θ(s) = θ₀ + s · (θ − θ₀) with s = 1/2 (weight-space ensembles,
Wortsman et al. 2022, arXiv:2109.01903, eq. 1), sealed anew, and judged anew by the whole gate, by the same limits.

Three kinds of refusal are final. Where held-out people do not prefer the candidate, a shorter way is no better: nothing
that learnt nothing is judged twice, so the gate's rate of errors on it stays. Where the votes themselves are suspect
(a planted phrase, flattery), half of it is bad as well, and somebody should look. And where there is too little to
judge by, there is no step to blame.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from feedback_store.records import Sampling
from serving.engine import PolicyRef
from trainer.drawing import Draw, Drawn
from trainer.job import Job
from trainer.policies import Policies

SHORTER = 0.5
TOO_FAR = frozenset({
    "kl_live", "kl_base", "length_far", "truncated_far", "short", "empty", "repeated", "distinct", "opening", "insults",
    "language_flip", "retention_perplexity", "choice", "over_refusal", "over_refusal_drawn",
})  # fmt: skip
"""Checks that a shorter step can mend."""


def went_too_far(report: Mapping[str, Any]) -> bool:
    """Say whether a gate's report refuses a candidate for nothing but the length of its step.

    The checks of what held-out people prefer block as well and are not among TOO_FAR: they have passed."""
    refused = [check for check in report["checks"] if check["hard"] and check["outcome"] != "pass"]
    known = all(check["name"] in TOO_FAR and check["value"] is not None for check in refused)
    return known and any(check["outcome"] == "fail" for check in refused)


def step_back(policies: Policies, share: float = SHORTER) -> bool:
    """Leave the candidate `share` (in (0, 1)) of its way from what it began as; False, and nothing done, where that
    cannot be told: the magnitudes that a fresh DoRA adapter began with are not kept.

    A fresh adapter began as no change, B · A = 0 with B = 0: its B is shortened, and with it all that it changes. One
    that began as live's goes back towards live's matrices, A and B alike."""
    weights = dict(policies.model.named_parameters())
    own = {name: weight for name, weight in weights.items() if ".default." in name}
    if not policies.continues and any("lora_magnitude_vector" in name for name in own):
        return False
    with torch.no_grad():
        for name, weight in own.items():
            if policies.continues:
                weight.lerp_(weights[name.replace(".default.", ".live.")].to(weight), 1 - share)
            elif ".lora_B." in name or ".lora_embedding_B." in name:
                weight.mul_(share)
    return True


def live_drawn_once(draw: Draw, job: Job) -> Draw:
    """Return `draw`, which remembers live's replies: it says the same to every candidate's gate of a round."""
    said: dict[tuple[Any, ...], list[Drawn]] = {}

    def draw_or_remember(
        policy: PolicyRef, prompts: Sequence[tuple[int, ...]], n: int, sampling: Sampling
    ) -> list[Drawn]:
        if policy.adapter_sha256 != job.live_adapter_sha256:
            return draw(policy, prompts, n, sampling)
        asked = (tuple(prompts), n, sampling)
        if asked not in said:
            said[asked] = draw(policy, prompts, n, sampling)
        return said[asked]

    return draw_or_remember


def judge_in_steps(
    judge: Callable[[str], dict[str, Any]],
    shorten: Callable[[], str | None],
    sha256: str,
    steps: list[dict[str, Any]],
    most: int,
) -> dict[str, Any]:
    """Judge a candidate, and shorter steps of it while they are refused for their length, `most` times at most.

    judge: by the hash of what is sealed. shorten: step back and seal what is left; None where that cannot be. steps:
    those refused before, to which each refusal is added before `shorten` is called. Returns the last report; its
    "steps" are those before it, its "step" is the share of the way that it judged."""
    while True:
        report = judge(sha256)
        share = SHORTER ** len(steps)
        if report["outcome"] != "pass" and len(steps) < most and went_too_far(report):
            refused = [check["name"] for check in report["checks"] if check["hard"] and check["outcome"] != "pass"]
            refusal = {"step": share, "adapter_sha256": sha256, "outcome": report["outcome"],
                       "summary": report["summary"], "refused_by": refused}  # fmt: skip
            steps.append(refusal)
            shorter = shorten()
            if shorter is not None:
                sha256 = shorter
                continue
            steps.pop()
        return report | {"step": share, "steps": steps}
