"""PPO on a learned reward (Schulman et al. 2017, arXiv:1707.06347; as used by Ziegler et al. 2019, arXiv:1909.08593,
and Ouyang et al. 2022, arXiv:2203.02155).

A reply y₁…y_T to a prompt is an episode; s_t is the prompt with y_<t. With R the reply's reward (in log-odds of a
rater's preference, around the first iteration's mean, less a penalty when it did not end), each token is rewarded by

    r_t = −β (log π_old(y_t|s_t) − log π_ref(y_t|s_t)) + [t = T] R

Advantages are GAE(λ) with γ = 1 (Schulman et al. 2016, arXiv:1506.02438, equation 16):

    δ_t = r_t + V(s_{t+1}) − V(s_t), V(s_{T+1}) = 0        A_t = Σ_{l≥0} λ^l δ_{t+l}        target_t = A_t + V(s_t)

whitened over the iteration's tokens. With ρ_t = π(y_t|s_t) / π_old(y_t|s_t), a minibatch's loss is the mean over tokens
of (equation 7)

    −min(ρ_t A_t, clip(ρ_t, 1 − ε, 1 + ε) A_t)

and the value model's, clipped likewise around what it said when the reply was drawn,

    ½ max((V − target)², (clip(V, V_old ± ε_V) − target)²)

β follows a target divergence (Ziegler et al. 2019, section 2.2): β ← β (1 + K · clip(KL / target − 1, ±1)).

Where we depart. β never falls below its first value: a reward that says little should not buy the whole budget. One
base model carries the policy's and the reward's adapters; the reference is the base or the live adapter on it: no
second copy of anything. The value model is two small layers over the reference's last hidden states, which the
reference's pass has anyway: it costs nothing, shares no weight with the policy and cannot pull at it. It also reads how
far a reply has come, which hidden states say poorly. The brakes stand in online.py.
"""

from collections.abc import Sequence
from typing import Any

import torch

from trainer import checkpoints
from trainer.job import Job
from trainer.methods.rollouts import Rollout
from trainer.methods.steps import Optimiser
from trainer.policies import Policies

_VALUE_STEPS = 20
"""Steps of the value model on all of an iteration's tokens at once: together cheaper than one of the policy's."""


class ValueModel(torch.nn.Module):
    """V(s): LayerNorm, tanh layer, one number. The last layer begins at zero: the first values are 0."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.first = torch.nn.Linear(width + 1, hidden)
        self.last = torch.nn.Linear(hidden, 1)
        torch.nn.init.zeros_(self.last.weight)
        torch.nn.init.zeros_(self.last.bias)
        self._width = width

    def forward(self, states_TH: torch.Tensor, place_T: torch.Tensor) -> torch.Tensor:
        """states_TH: hidden states before each token. place_T: the token's number in its reply, from 0."""
        normal = torch.nn.functional.layer_norm(states_TH, (self._width,))
        inputs = torch.cat([normal, torch.log1p(place_T)[:, None] / 5], dim=-1)
        values: torch.Tensor = self.last(torch.tanh(self.first(inputs))).squeeze(-1)
        return values


class Ppo:
    """PPO's part of an online training (see `online.Objective`)."""

    needs_states = True

    def __init__(self, policies: Policies, job: Job) -> None:
        self._settings = job.online
        width = int(policies.model.get_base_model().config.get_text_config().hidden_size)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed + 2)
            self.value = ValueModel(width, job.online.value_width)
        self._optimiser = Optimiser(
            [(job.online.value_learning_rate, dict(self.value.named_parameters()))],
            warmup_steps=1,
            total_steps=None,
            max_norm=1.0,
        )
        self._old: list[torch.Tensor] = []
        self._advantages: list[torch.Tensor] = []

    def prepare(self, rollout: Rollout, rewards_N: torch.Tensor, kl_weight: float) -> dict[str, float]:
        """Work out advantages, then train the value model on their targets."""
        lengths = [len(old) for old in rollout.old]
        states = torch.cat(rollout.states)
        place = torch.cat([torch.arange(length, dtype=torch.float32) for length in lengths])
        with torch.no_grad():
            values = torch.split(self.value(states, place), lengths)
        advantages, targets = [], []
        for number, own in enumerate(values):
            rewards_T = token_rewards(rollout.old[number], rollout.reference[number], rewards_N[number], kl_weight)
            advantage_T = gae(rewards_T, own, self._settings.gae_lambda)
            advantages.append(advantage_T)
            targets.append(advantage_T + own)
        self._old = rollout.old
        self._advantages = list(torch.split(whiten(torch.cat(advantages)), lengths))
        target, before = torch.cat(targets), torch.cat(values)
        explained = 1 - float((target - before).var() / target.var().clamp(min=1e-8))
        for _ in range(_VALUE_STEPS):
            loss = clipped_value_loss(self.value(states, place), before, target, self._settings.value_clip)
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimiser.step()
        return {
            "value_loss": float(loss.detach()),
            "value_explained": explained,
            "normal_reward": float(rewards_N.mean()),
        }

    def loss(self, new_T: torch.Tensor, places: Sequence[int], clip: float) -> tuple[torch.Tensor, dict[str, float]]:
        """The clipped objective over the tokens of a minibatch."""
        old_T = torch.cat([self._old[place] for place in places]).to(new_T.device)
        advantages_T = torch.cat([self._advantages[place] for place in places]).to(new_T.device)
        ratio_T = (new_T - old_T).exp()
        shown = {
            "ratio": float(ratio_T.detach().mean()),
            "clipped": float(((ratio_T.detach() - 1).abs() > clip).float().mean()),
        }
        return clipped_policy_loss(ratio_T, advantages_T, clip), shown

    def weight(self, places: Sequence[int]) -> float:
        """The loss is a mean over tokens."""
        return sum(len(self._old[place]) for place in places)

    def state(self) -> checkpoints.State:
        """The value model and its optimiser."""
        return {"value": self._optimiser.state()}

    def load(self, state: dict[str, Any]) -> None:
        """Take up a former state."""
        self._optimiser.load(state["value"])


def token_rewards(
    old_T: torch.Tensor, reference_T: torch.Tensor, reward: torch.Tensor | float, kl_weight: float
) -> torch.Tensor:
    """Return r_t: the KL penalty at each token, and the reply's reward at its last."""
    rewards_T = -kl_weight * (old_T - reference_T)
    rewards_T[-1] += reward
    return rewards_T


def gae(rewards_T: torch.Tensor, values_T: torch.Tensor, lam: float) -> torch.Tensor:
    """Return A_t of one episode that ends after its last token (γ = 1, λ = `lam`)."""
    advantages_T = torch.empty_like(rewards_T)
    following, next_value = torch.zeros(()), torch.zeros(())
    for place in range(len(rewards_T) - 1, -1, -1):
        following = rewards_T[place] + next_value - values_T[place] + lam * following
        advantages_T[place], next_value = following, values_T[place]
    return advantages_T


def whiten(values_T: torch.Tensor) -> torch.Tensor:
    """Return values with mean 0 and deviation 1; a single one, or equal ones, become 0."""
    centred = values_T - values_T.mean()
    return centred / (centred.pow(2).mean().sqrt() + 1e-8)


def clipped_policy_loss(ratio_T: torch.Tensor, advantages_T: torch.Tensor, clip: float) -> torch.Tensor:
    """Return −mean min(ρ A, clip(ρ, 1 ± ε) A)."""
    return -torch.minimum(ratio_T * advantages_T, ratio_T.clamp(1 - clip, 1 + clip) * advantages_T).mean()


def clipped_value_loss(
    values_T: torch.Tensor, old_T: torch.Tensor, target_T: torch.Tensor, clip: float
) -> torch.Tensor:
    """Return ½ mean max((V − target)², (clip(V, V_old ± ε) − target)²)."""
    near_T = old_T + (values_T - old_T).clamp(-clip, clip)
    return 0.5 * torch.maximum((values_T - target_T) ** 2, (near_T - target_T) ** 2).mean()
