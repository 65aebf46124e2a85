"""Learning from the policy's own replies: the loop that PPO and GRPO share, and its brakes.

An iteration: draw replies to real prompts, score them with the reward model, look at them, learn from them. Nothing is
learnt from replies that another policy than the present one wrote.

A learned reward is right only near what people judged. Pushed further it is hacked: here, an unstopped run raised its
reward from −1.4 to +1.6 while people's preference fell to 37 % and half of the replies had under three words
(docs/log.md). So the loop looks at every iteration's replies before it learns from them, and when it stops it goes back
to the last weights whose replies were looked at and found good:

- **budget**: the replies diverge from the reference by more than `online.max_kl_nats`.
- **emptiness, repetition, length**: their shares left the first iteration's by more than the settings allow.
- **preference**: the reward rose, and on comparisons that neither the reward model nor the policy learnt from the
  policy's own preference (log π − log π_ref of chosen against rejected) fell from its best by two standard errors.
  Then the reward model no longer speaks for the raters, and fresh labels are asked for.

`stopped_by` names the brake in the round's metrics; "iterations" is a run that came to its end.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from trainer import checkpoints, group
from trainer.drawing import Draw
from trainer.encoding import Encoded
from trainer.events import Emit
from trainer.job import CHECKPOINTS_DIR, Job, PairRow, PromptRow
from trainer.method_settings import OnlineSettings
from trainer.methods.activations import at_once
from trainer.methods.common import NothingToTrainOn, plain_rows
from trainer.methods.forward import batch_of, logprobs
from trainer.methods.parts import Shown, add_gradients
from trainer.methods.plain_text import plain_text_divergence
from trainer.methods.reward_model import RewardModel
from trainer.methods.rollouts import Rollout, draw_rollout, k3
from trainer.methods.steps import (
    Optimiser,
    load_weights,
    require_finite,
    stop_when_cancelled,
    trainable,
)
from trainer.policies import Policies
from trainer.scoring import summed_logprobs
from trainer.trunk import trunk_of

_SWING = 0.25
_FEWEST_WATCHED = 20


class Objective(Protocol):
    """What PPO and GRPO differ in."""

    needs_states: bool
    """Whether rollouts bring hidden states of the reference."""

    def prepare(self, rollout: Rollout, rewards_N: torch.Tensor, kl_weight: float) -> dict[str, float]:
        """Work out the advantages of an iteration's replies, whose rewards are given; return what is shown of them."""
        ...

    def loss(self, new_T: torch.Tensor, places: Sequence[int], clip: float) -> tuple[torch.Tensor, dict[str, float]]:
        """Return the loss of a minibatch; new_T are the log-probabilities of its replies' tokens, reply after reply."""
        ...

    def weight(self, places: Sequence[int]) -> float:
        """Return what the loss of these replies is a mean over: how many tokens, or replies."""
        ...

    def state(self) -> checkpoints.State: ...
    def load(self, state: checkpoints.State) -> None: ...


@dataclass(slots=True)
class Watched:
    """Comparisons that nobody learns from: the sequences, chosen first and rejected after, and their reference."""

    sequences: list[Encoded]
    reference: list[float]

    @property
    def pairs(self) -> int:
        """How many."""
        return len(self.sequences) // 2

    def preference(self, policies: Policies) -> float | None:
        """Return on which share of them the policy has moved towards the chosen reply, ties counting half; None when
        there are too few to tell."""
        if self.pairs < _FEWEST_WATCHED:
            return None
        now = summed_logprobs(policies.model, self.sequences)
        moved = [mine - before for mine, before in zip(now, self.reference, strict=True)]
        gains = [good - bad for good, bad in zip(moved[: self.pairs], moved[self.pairs :], strict=True)]
        return sum(1.0 if gain > 0 else 0.5 if gain == 0 else 0.0 for gain in gains) / self.pairs


def watched(policies: Policies, rows: Sequence[PairRow], most: int) -> Watched:
    """Prepare at most `most` comparisons for the watch."""
    kept = rows[:most]
    sequences = [policies.encoder.encode(row.messages, row.chosen) for row in kept]
    sequences += [policies.encoder.encode(row.messages, row.rejected) for row in kept]
    with policies.use(policies.reference) as model:
        return Watched(sequences, summed_logprobs(model, sequences))


def train_online(
    policies: Policies,
    reward: RewardModel,
    objective: Objective,
    prompts: Sequence[PromptRow],
    watch_rows: Sequence[PairRow],
    job: Job,
    folder: Path,
    emit: Emit,
    draw: Draw,
) -> dict[str, Any]:
    """Train the candidate by `objective`; return counts, last metrics and `stopped_by`. Goes on from the checkpoints in
    `folder`. Raises Cancelled, Diverged, NothingToTrainOn."""
    longest = job.training.max_tokens - job.online.reply_tokens
    ids = [found for row in prompts if len(found := policies.encoder.prompt_ids(row.messages)) <= longest]
    if not ids:
        raise NothingToTrainOn(
            f"none of {len(prompts)} prompts leaves room for online.reply_tokens = {job.online.reply_tokens} within "
            f"training.max_tokens = {job.training.max_tokens}; raise the latter"
        )
    loop = _Loop(policies, objective, watched(policies, watch_rows, job.online.watch_pairs), job, folder)
    while loop.iteration < job.online.iterations and not loop.stopped_by:
        stop_when_cancelled(folder)
        rollout = draw_rollout(
            policies,
            reward,
            ids,
            job,
            folder,
            draw,
            loop.iteration,
            bound=loop.at_once,
            with_states=objective.needs_states,
        )
        values = loop.look(rollout)
        if not loop.stopped_by:
            values |= loop.learn(rollout)
        trunk_of(policies.model).forget(row.prompt_ids + row.completion_ids for row in rollout.sequences)
        emit("metric", step=loop.iteration, values=values)
        loop.save()
    return {
        "prompts": len(ids),
        "iterations": loop.iteration,
        "steps": loop.optimiser.steps,
        "stopped_by": loop.stopped_by or "iterations",
        **loop.values,
        "reward_margin": loop.reward_rise,
    }


class _Loop:
    """The state of an online training; everything in it that changes goes into its checkpoints."""

    def __init__(self, policies: Policies, objective: Objective, watch: Watched, job: Job, folder: Path) -> None:
        self._policies, self._objective, self._watch, self._job, self._folder = policies, objective, watch, job, folder
        settings = job.online
        per_iteration = settings.passes * math.ceil(settings.prompts * settings.replies / settings.minibatch)
        self._parameters = trainable(policies.model)
        self.optimiser = Optimiser(
            [(settings.learning_rate, self._parameters)],
            warmup_steps=per_iteration,
            total_steps=None,
            max_norm=job.training.max_gradient_norm,
        )
        self.at_once = at_once(policies, job)
        self.iteration = 0
        self.kl_weight = settings.kl_weight
        self.stopped_by = ""
        self.values: dict[str, float] = {}
        self._first: dict[str, float] = {}
        """What the first iteration's replies looked like, and their mean reward."""
        self._history: list[dict[str, float]] = []
        self._good = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        """The last weights whose replies were looked at and found good."""
        self._clip = settings.clip
        if (state := checkpoints.latest(self._kept_in)) is not None:
            self._load(state)

    @property
    def _kept_in(self) -> Path:
        return self._folder / CHECKPOINTS_DIR / "policy"

    @property
    def reward_rise(self) -> float:
        """By how much the reward of the replies that were kept exceeds the first iteration's; the gate holds it against
        what held-out people prefer."""
        kept = self._history[:-1] if self.stopped_by else self._history
        return kept[-1]["reward"] - self._first["reward"] if kept else 0.0

    def look(self, rollout: Rollout) -> dict[str, float]:
        """Look at an iteration's replies, adapt the weight of the KL, and stop, going back, where a brake says so."""
        settings = self._job.online
        looks = rollout.looks()
        score, kl = float(rollout.scores.mean()), rollout.kl_nats
        found = looks | {"reward": score, "kl_nats": kl, "sampler_gap_nats": rollout.sampler_gap_nats}
        spread = float(rollout.scores.std()) if len(rollout.scores) > 1 else 0.0
        found["reward_error"] = spread / math.sqrt(len(rollout.scores))
        if (preference := self._watch.preference(self._policies)) is not None:
            found["held_out_preference"] = preference
        if not self._first:
            self._first = found
        self.stopped_by = group.lead_says(self._brake(found))
        if self.stopped_by:
            load_weights(self._parameters, self._good)
        else:
            self._good = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        if self._history:
            before = max(self._history[-1]["words"], 1.0)
            self._clip = settings.swinging_clip if abs(looks["words"] / before - 1) > _SWING else settings.clip
        self._history.append(found)
        error = max(-1.0, min(1.0, kl / settings.kl_target_nats - 1))
        found["kl_weight"] = self.kl_weight
        if self.iteration:  # the first iteration's divergence is 0 by itself
            self.kl_weight = max(settings.kl_weight, self.kl_weight * (1 + settings.kl_gain * error))
        self.values = found
        return found

    def learn(self, rollout: Rollout) -> dict[str, float]:
        """Learn from the replies: `passes` over them in minibatches, fewer when the policy has moved far enough."""
        settings = self._job.online
        rewards = final_rewards(rollout, self._first["reward"], settings)
        found = self._objective.prepare(rollout, rewards, self.kl_weight)
        plain = plain_rows(rollout.sequences, self._policies.tokenizer)
        sums: dict[str, float] = {}
        steps = 0
        for places in rollout.batches * settings.passes:
            stop_when_cancelled(self._folder)
            step = self.optimiser.steps
            loss, shown = add_gradients(
                places,
                partial(self._loss_of, rollout, places),
                self._parameters.values(),
                weight_of=self._objective.weight,
                at_once=self.at_once,
                tokens_of=rollout.tokens_of,
                held=partial(self._held, plain, step) if step % group.count() == group.rank() else None,
            )
            if shown["moved_nats"] > settings.max_step_kl_nats:
                self.optimiser.forget()
                found["stopped_early"] = 1.0
                break
            require_finite(loss, step + 1)
            shown["grad_norm"] = self.optimiser.step()
            for name, value in shown.items():
                sums[name] = sums.get(name, 0.0) + value
            steps += 1
        self.iteration += 1
        found |= {name: value / steps for name, value in sums.items()} | {"clip": self._clip}
        found["learning_rate"], found["progress"] = self.optimiser.learning_rate, self.iteration / settings.iterations
        self.values = self.values | found
        return found

    def _loss_of(self, rollout: Rollout, minibatch: Sequence[int], places: list[int]) -> tuple[torch.Tensor, Shown]:
        """The loss of a part of a minibatch, and what is shown of it."""
        new_T, entropy = completion_logprobs(self._policies.model, [rollout.sequences[place] for place in places])
        loss, shown = self._objective.loss(new_T, places, self._clip)
        moved = moved_nats(new_T.detach(), torch.cat([rollout.old[place] for place in places]), len(minibatch))
        # What is shown is weighed as the loss is; these two are means over tokens and over replies, whatever that is.
        share = self._objective.weight(places) / self._objective.weight(minibatch)
        entropy *= len(new_T) / sum(len(rollout.old[place]) for place in minibatch)
        shown |= {"loss": float(loss.detach()), "entropy_nats": entropy / share, "moved_nats": moved / share}
        return loss, shown

    def _held(self, plain: Sequence[list[int]], step: int) -> torch.Tensor:
        """The term that holds plain text to the base."""
        weight = self._job.training.plain_text_weight
        if not weight or not plain:
            return torch.zeros((), requires_grad=True)
        return weight * plain_text_divergence(self._policies.model, plain, step)

    def _brake(self, found: dict[str, float]) -> str:
        """Return which brake holds, or nothing."""
        settings, first = self._job.online, self._first
        if found["kl_nats"] > settings.max_kl_nats:
            return "budget"
        if not settings.stop_when_hacked or not self._history:
            return ""
        if found["short"] > first["short"] + settings.max_short_share:
            return "emptiness"
        if found["repeated"] > first["repeated"] + settings.max_repeat_share:
            return "repetition"
        left, usual = 1 - settings.max_length_fall, max(first["words"], 1.0)
        if not left <= found["words"] / usual <= 1 / max(left, 1e-9):
            return "length"
        if "held_out_preference" in found:
            rose = found["reward"] - first["reward"] > 2 * math.hypot(found["reward_error"], first["reward_error"])
            best = max(entry["held_out_preference"] for entry in self._history)
            if rose and best - found["held_out_preference"] > 2 * math.sqrt(0.25 / self._watch.pairs):
                return "preference"
        return ""

    def save(self) -> None:
        """Write a checkpoint: between iterations nothing else is needed to go on."""
        if not group.is_lead():
            return
        state = {
            "iteration": self.iteration,
            "kl_weight": self.kl_weight,
            "clip": self._clip,
            "stopped_by": self.stopped_by,
            "values": self.values,
            "first": self._first,
            "history": self._history,
            "good": self._good,
            "optimiser": self.optimiser.state(),
            "objective": self._objective.state(),
        }
        checkpoints.save(self._kept_in, len(self._history), state)

    def _load(self, state: checkpoints.State) -> None:
        self.iteration, self.kl_weight, self._clip = state["iteration"], state["kl_weight"], state["clip"]
        self.stopped_by, self.values, self._first = state["stopped_by"], state["values"], state["first"]
        self._history, self._good = state["history"], state["good"]
        self.optimiser.load(state["optimiser"])
        self._objective.load(state["objective"])


def final_rewards(rollout: Rollout, mean: float, settings: OnlineSettings) -> torch.Tensor:
    """Return what each reply is rewarded with [replies]: its score less the first iteration's `mean`, and less the
    penalty when it did not end; too short a reply gets the lowest of all.

    Scores stay in log-odds. Divided by their own deviation, those of a model that learnt nothing would weigh as much as
    those of one that knows (docs/log.md: shuffled labels won 80 %).
    """
    rewards = rollout.scores - mean
    rewards = rewards - settings.missing_end_penalty * torch.tensor([float(not done) for done in rollout.finished])
    short = torch.tensor([count < settings.min_words for count in rollout.words])
    return torch.where(short, rewards.min(), rewards)


def completion_logprobs(model: Any, sequences: Sequence[Encoded]) -> tuple[torch.Tensor, float]:
    """Return log π of the completions' tokens, reply after reply [tokens], and their mean entropy in nats."""
    model.eval()
    batch = batch_of(sequences, model.device)
    found_BT, entropy_BT = logprobs(model, batch)
    scored = batch.scored[:, 1:]
    return found_BT[scored], float(entropy_BT[scored].mean())


def moved_nats(new_T: torch.Tensor, old_T: torch.Tensor, replies: int) -> float:
    """Return how far a reply has moved from the policy that drew it: mean Σ_t k3(π_old ‖ π), ≥ 0."""
    return float(k3(old_T.to(new_T.device), new_T).sum()) / replies
