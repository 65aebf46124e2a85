"""GRPO, and its sequence-level form GSPO, on a learned reward.

GRPO (Shao et al. 2024, arXiv:2402.03300, equations 3 and 4) needs no value model: several replies to one prompt are
each other's baseline. With R_i the rewards of a group of G replies,

    A_i = R_i − mean R

With ρ_t = π(y_t|s_t) / π_old(y_t|s_t) and k3 the estimator of the divergence from the reference at a token, the loss is

    1/N Σ_i 1/|y_i| Σ_t [ −min(ρ_t A_i, clip(ρ_t, 1 − ε, 1 + ε) A_i) + β k3_t ]

GSPO (Zheng et al. 2025, arXiv:2507.18071, equations 5 and 7; `online.ratio = "sequence"`) clips the reply's ratio

    s_i = exp(1/|y_i| Σ_t log ρ_t)           1/N Σ_i [ −min(s_i A_i, clip(s_i, 1 − ε', 1 + ε') A_i) + β/|y_i| Σ_t k3_t ]

Where we depart: the papers divide A_i by std R, here a setting (Liu et al. 2025, arXiv:2503.20783, show that it
favours prompts on which replies hardly differ), and β follows a target divergence as in ppo.py. A group of equal
rewards teaches nothing. The brakes stand in online.py.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch

from trainer import checkpoints
from trainer.job import Job
from trainer.methods.rollouts import Rollout, k3

_SMALLEST_DEVIATION = 1e-4


class Grpo:
    """GRPO's part of an online training (see `online.Objective`)."""

    needs_states = False

    def __init__(self, job: Job) -> None:
        self._settings = job.online
        self._rollout: Rollout | None = None
        self._advantages = torch.zeros(0)
        self._kl_weight = 0.0

    def prepare(self, rollout: Rollout, rewards_N: torch.Tensor, kl_weight: float) -> dict[str, float]:
        """Work out the advantages within each prompt's replies."""
        self._rollout, self._kl_weight = rollout, kl_weight
        self._advantages = group_advantages(rewards_N, rollout.groups, self._settings.scale_by_group)
        return {
            "normal_reward": float(rewards_N.mean()),
            "equal_groups": float((self._advantages == 0).float().mean()),
        }

    def loss(self, new_T: torch.Tensor, places: Sequence[int], clip: float) -> tuple[torch.Tensor, dict[str, float]]:
        """The loss of a minibatch: a mean over replies of means over their tokens."""
        assert self._rollout is not None, "prepare comes before loss"
        lengths = [len(self._rollout.old[place]) for place in places]
        losses, ratios, clipped = [], [], []
        for place, new in zip(places, torch.split(new_T, lengths), strict=True):
            old = self._rollout.old[place].to(new.device)
            held = self._kl_weight * k3(new, self._rollout.reference[place].to(new.device)).mean()
            if self._settings.ratio == "sequence":
                ratio, limit = sequence_ratio(new, old), self._settings.sequence_clip
            else:
                ratio, limit = (new - old).exp(), clip
            advantage = self._advantages[place].to(new.device)
            gain = torch.minimum(ratio * advantage, ratio.clamp(1 - limit, 1 + limit) * advantage)
            losses.append(held - gain.mean())
            ratios.append(float(ratio.detach().mean()))
            clipped.append(float(((ratio.detach() - 1).abs() > limit).float().mean()))
        shown = {"ratio": sum(ratios) / len(ratios), "clipped": sum(clipped) / len(clipped)}
        return torch.stack(losses).mean(), shown

    def weight(self, places: Sequence[int]) -> float:
        """The loss is a mean over replies."""
        return len(places)

    def state(self) -> checkpoints.State:
        """Nothing lasts from one iteration to the next."""
        return {}

    def load(self, state: checkpoints.State) -> None:
        """Take up a former state."""


def group_advantages(rewards_N: torch.Tensor, groups: Sequence[int], scale: bool) -> torch.Tensor:
    """Return A_i: each reward less its group's mean, divided by the group's deviation where `scale` says so; 0 in a
    group of equal rewards, and for a reply without others."""
    members: dict[int, list[int]] = defaultdict(list)
    for place, group in enumerate(groups):
        members[group].append(place)
    advantages_N = torch.zeros_like(rewards_N)
    for places in members.values():
        own = rewards_N[places]
        deviation = own.std(correction=0)
        if float(deviation) > _SMALLEST_DEVIATION:
            advantages_N[places] = (own - own.mean()) / (deviation if scale else 1.0)
    return advantages_N


def sequence_ratio(new_T: torch.Tensor, old_T: torch.Tensor) -> torch.Tensor:
    """Return s, the geometric mean of the token ratios of one reply, as one number."""
    return (new_T - old_T).mean().exp()
