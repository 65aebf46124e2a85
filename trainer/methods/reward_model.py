"""The reward model: a score for a reply, learnt from which replies people liked better.

An adapter of its own on the frozen base, and a linear head over the last token's hidden state: r(x, y) ∈ R^D, one
number for each dimension of `reward.dimensions`, such as helpful, harmless and concise. The reward is their sum,
weighed by the settings. A verdict teaches the mean of the dimensions that its reason speaks of (see reward_reasons).

A verdict between two replies is learnt by Bradley and Terry's model (Ouyang et al. 2022, arXiv:2203.02155, equation 1):

    −log σ(r(chosen) − r(rejected))

A ranking y₁ ≻ … ≻ y_K by Plackett and Luce's (Plackett 1975; Luce 1959), of which the above is the case K = 2:

    −1/(K−1) Σ_{k<K} [ r(y_k) − log Σ_{j≥k} exp r(y_j) ]

or, by setting, by the mean over all its pairs. Of a comparison in which one reply was chosen out of several, only the
first term holds. Each act weighs the same, however many replies it orders (we divide by the number of terms): a ranking
of four would weigh three times a verdict otherwise. `reward.centre` adds that multiple of the squared mean reward of a
comparison (Eisenstein et al. 2023, arXiv:2312.09244, section 3), since the losses fix differences alone.

All comparisons of a prompt are learnt in one step, and a reply that stands in several of them is computed once (Ouyang
et al., section 3.5: apart, each of its passes is an epoch of its own, and they overfit).

The head begins at zero: the first loss is log 2 exactly, and no reply is preferred for the head's chance values.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from feedback_store.records import Message
from trainer.encoding import Encoded
from trainer.events import Emit
from trainer.job import CHECKPOINTS_DIR, Job, PairRow, ReplyText
from trainer.methods.activations import at_once, distinct_tokens
from trainer.methods.common import fitting
from trainer.methods.forward import batch_of, last_states
from trainer.methods.steps import Optimiser, bucketed_batches, load_weights, train_batches
from trainer.policies import Policies, lora_config
from trainer.reward_reasons import dimensions_of
from trainer.scoring import scoring_batches
from trainer.sealed_reward import RewardRefused, read_reward, seal_reward

ADAPTER = "reward"
_SCORE_BATCH = 8


@dataclass(frozen=True, slots=True)
class Ranking:
    """One act: replies from best to worst, of which the first `decided` places are certain (all but the last of a
    ranking, one of a verdict among several), taught to the mean of some dimensions of the reward."""

    messages: tuple[Message, ...]
    replies: tuple[ReplyText, ...]
    decided: int
    dimensions: tuple[int, ...] = (0,)


class RewardModel:
    """The adapter "reward" and its head on a round's policies. One thread owns it, as it does the policies."""

    def __init__(self, policies: Policies, job: Job) -> None:
        """Begin with a fresh adapter and a head of zeros."""
        self._policies = policies
        self.temperature = 1.0
        """What rewards are divided by: as judged on held-out comparisons, they are honest log-odds of a preference."""
        self.weights, self.reasons = job.reward.weights, job.reward.reasons
        model = policies.model
        base = model.get_base_model()
        torch.manual_seed(job.seed + 1)  # the adapter's A matrices, others than the policy's
        model.add_adapter(ADAPTER, lora_config(base, job.lora))
        model.set_adapter("default")
        width = int(base.config.get_text_config().hidden_size)
        self.head = torch.nn.Linear(width, len(self.weights), device=model.device, dtype=torch.float32)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)
        model.eval()

    @property
    def parameters(self) -> dict[str, torch.nn.Parameter]:
        """The adapter's matrices, by their names in the model."""
        return {name: found for name, found in self._policies.model.named_parameters() if f".{ADAPTER}." in name}

    def seal(self, job: Job, report: dict[str, Any]) -> str:
        """Seal it beside the adapters; return its hash."""
        lora = {name: getattr(job.lora, name) for name in ("kind", "rank", "alpha", "upper_layers")}
        return seal_reward(
            rewards_dir(job),
            dict(self.parameters),
            self.head.state_dict(),
            {**lora, "dimensions": list(self.weights)},
            {"base_model": job.base_model, "round_id": job.round_id, "weights": self.weights, "report": report},
        )

    def load(self, job: Job, sha256: str) -> None:
        """Take up a sealed one of the same shape. Raises RewardRefused."""
        adapter, head, _ = read_reward(rewards_dir(job) / sha256, sha256, job.base_model)
        own = self.parameters
        odd = sorted(set(own) ^ set(adapter))
        odd = odd or [name for name, found in own.items() if found.shape != adapter[name].shape]
        odd = odd or ([] if self.head.weight.shape == head["weight"].shape else ["the head"])
        if odd:
            raise RewardRefused(
                f"reward model {sha256[:12]} has another shape at {odd[0]!r}: train one with these settings"
            )
        load_weights(own, adapter)
        self.head.load_state_dict(head)

    @contextmanager
    def active(self) -> Iterator[Any]:
        """Make its adapter the one that the yielded model computes with, and trains; afterwards the candidate's is
        back."""
        self._policies.model.set_adapter(ADAPTER)
        try:
            yield self._policies.model
        finally:
            self._policies.model.set_adapter("default")

    def dimensions(self, model: Any, sequences: Sequence[Encoded]) -> torch.Tensor:
        """Return r [rows, dimensions] of sequences, by one pass of the yielded model of `active`."""
        found: torch.Tensor = self.head(last_states(model, batch_of(sequences, model.device)).float())
        return found

    @torch.no_grad()
    def rewards(self, sequences: Sequence[Encoded]) -> torch.Tensor:
        """Return the weighed reward of each sequence over the temperature [rows], on the CPU."""
        return self.all_dimensions(sequences) @ torch.tensor(list(self.weights.values())) / self.temperature

    @torch.no_grad()
    def all_dimensions(self, sequences: Sequence[Encoded]) -> torch.Tensor:
        """Return r [rows, dimensions] of any number of sequences, on the CPU."""
        found = torch.zeros(len(sequences), len(self.weights))
        with self.active() as model:
            for places in scoring_batches(model, sequences, _SCORE_BATCH):
                found[places] = self.dimensions(model, [sequences[place] for place in places]).cpu()
        return found


def rewards_dir(job: Job) -> Path:
    """Where sealed reward models are: beside the sealed adapters."""
    return Path(job.adapters_dir).parent / "rewards"


def plackett_luce_loss(rewards_K: torch.Tensor, decided: int) -> torch.Tensor:
    """Return the mean over the first `decided` places of log Σ_{j≥k} exp r_j − r_k, ≥ 0. rewards_K: best first."""
    remaining_K = rewards_K.flip(0).logcumsumexp(0).flip(0)
    return (remaining_K - rewards_K)[:decided].mean()


def all_pairs_loss(rewards_K: torch.Tensor, decided: int) -> torch.Tensor:
    """Return the mean of −log σ(r_i − r_j) over the pairs i < j that the first `decided` places order."""
    count = len(rewards_K)
    better, worse = torch.triu_indices(count, count, 1)
    known = better < decided
    return -torch.nn.functional.logsigmoid(rewards_K[better[known]] - rewards_K[worse[known]]).mean()


def rankings_of(rows: Sequence[PairRow], dimensions: Sequence[str], reasons: Sequence[str] = ()) -> list[Ranking]:
    """Put the pairs of each act together again: in the order of how many of the others a reply was preferred to.
    reasons: what else speaks of a dimension (see trainer.reward_reasons)."""
    acts: dict[tuple[int, int], list[PairRow]] = defaultdict(list)
    for row in rows:
        acts[row.feedback_id, row.rater].append(row)
    found: list[Ranking] = []
    for pairs in acts.values():
        texts = {reply.reply_id: reply for row in pairs for reply in (row.chosen, row.rejected)}
        wins = {name: sum(row.chosen.reply_id == name for row in pairs) for name in texts}
        order = sorted(texts, key=lambda name: -wins[name])
        ranks = [wins[name] for name in order]
        decided = next((place for place in range(len(ranks) - 1) if ranks[place] == ranks[place + 1]), len(ranks) - 1)
        found.append(
            Ranking(
                pairs[0].messages,
                tuple(texts[name] for name in order),
                max(1, decided),
                dimensions_of(pairs[0].reason, dimensions, reasons),
            )
        )
    return found


def train_reward_model(
    policies: Policies, rows: Sequence[PairRow], job: Job, folder: Path, emit: Emit
) -> tuple[RewardModel, dict[str, float]]:
    """Train a reward model on comparisons; return it with counts and last metrics, named "reward/…". Goes on from the
    checkpoints in `folder`. Raises Cancelled, Diverged, NothingToTrainOn."""
    settings = job.reward
    model = RewardModel(policies, job)
    rankings = rankings_of(rows, list(settings.weights), settings.reasons)
    encoded = [[policies.encoder.encode(one.messages, reply) for reply in one.replies] for one in rankings]
    places = fitting(encoded, job.training.max_tokens)
    rankings, encoded = [rankings[place] for place in places], [encoded[place] for place in places]
    lengths = [max(sequence.tokens for sequence in row) for row in encoded]
    prompts = [row[0].prompt_ids for row in encoded]
    batches = bucketed_batches(lengths, prompts, settings.epochs, settings.batch_size, job.seed)
    loss_of_ranking = plackett_luce_loss if settings.rankings == "plackett_luce" else all_pairs_loss
    most = at_once(policies, job)
    with model.active() as active:
        head = {f"head.{name}": parameter for name, parameter in model.head.named_parameters()}
        optimiser = Optimiser(
            [(settings.learning_rate, model.parameters), (settings.head_learning_rate, head)],
            warmup_steps=math.ceil(len(batches) * job.training.warmup_share),
            total_steps=len(batches),
            max_norm=job.training.max_gradient_norm,
            weight_decay=settings.weight_decay,
        )

        def loss_of(batch: list[int]) -> tuple[torch.Tensor, dict[str, float]]:
            once = {sequence: None for place in batch for sequence in encoded[place]}
            number = {sequence: turn for turn, sequence in enumerate(once)}
            found = model.dimensions(active, list(once))
            scores = [
                found[[number[sequence] for sequence in encoded[place]]][:, rankings[place].dimensions].mean(-1)
                for place in batch
            ]
            losses = [loss_of_ranking(row, rankings[place].decided) for row, place in zip(scores, batch, strict=True)]
            centre = torch.stack([row.mean() ** 2 for row in scores]).mean()
            margins = torch.stack([row[0].detach() - row[1:].detach().mean() for row in scores])
            shown = {"margin": float(margins.mean()), "accuracy": float((margins > 0).float().mean())}
            return torch.stack(losses).mean() + settings.centre * centre, shown

        last = train_batches(
            batches,
            loss_of,
            optimiser,
            folder=folder,
            kept_in=folder / CHECKPOINTS_DIR / "reward",
            every=job.training.checkpoint_every,
            emit=emit,
            prefix="reward/",
            at_once=most,
            tokens_of=lambda batch: distinct_tokens(sequence for place in batch for sequence in encoded[place]),
        )
    return model, {"reward/rows": len(rankings), "reward/steps": len(batches), **last}


def held_out_margins(model: RewardModel, policies: Policies, rows: Sequence[PairRow]) -> list[float]:
    """Return reward(chosen) − reward(rejected) of comparisons, each in the dimensions that its reason speaks of."""
    encoded = [policies.encoder.encode(row.messages, row.chosen) for row in rows]
    encoded += [policies.encoder.encode(row.messages, row.rejected) for row in rows]
    scores = model.all_dimensions(encoded)
    names, reasons = list(model.weights), model.reasons
    own = [dimensions_of(row.reason, names, reasons) for row in rows]
    better, worse = scores[: len(rows)], scores[len(rows) :]
    return [float((better[place] - worse[place])[list(which)].mean()) for place, which in enumerate(own)]
