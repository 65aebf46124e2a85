"""SFT: learn approved corrections by heart, among well-rated replies of the policy's own.

A rater rewrote a reply as they would have liked it, and an admin approved it. The loss of a batch is the mean negative
log-likelihood of its completions' tokens,

    −Σ_i Σ_t log π(y_i,t | x_i, y_i,<t) / Σ_i |y_i|

Corrections are other people's words: learnt alone they pull the policy off its own distribution, which is where a model
forgets (Shenfeld et al. 2025, arXiv:2509.04259, find that forgetting follows the divergence from where it began). So at
least half of the examples are replies that the policy itself wrote and people liked (`training.replay_share`; the
selection chooses them), spread evenly, and plain text is held to the base as in the other methods.
"""

import math
from pathlib import Path

import torch

from trainer.encoding import Encoded
from trainer.events import Emit
from trainer.job import CHECKPOINTS_DIR, ExampleRow, Job
from trainer.methods.activations import at_once, distinct_tokens
from trainer.methods.common import fitting, plain_rows, stratified_order
from trainer.methods.forward import batch_of, logprobs
from trainer.methods.plain_text import plain_text_divergence
from trainer.methods.steps import Optimiser, train_batches, trainable
from trainer.policies import Policies


def train_sft(policies: Policies, rows: list[ExampleRow], job: Job, folder: Path, emit: Emit) -> dict[str, float]:
    """Train the candidate's adapter on examples; return counts and last metrics. Goes on from the checkpoints in
    `folder`. Raises Cancelled, Diverged, NothingToTrainOn."""
    training, model = job.training, policies.model
    sequences = [policies.encoder.encode(row.messages, row.reply) for row in rows]
    places = fitting([[sequence] for sequence in sequences], training.max_tokens)
    kept, encoded = [rows[place] for place in places], [sequences[place] for place in places]
    order = stratified_order([row.source == "correction" for row in kept], training.passes("sft"), job.seed)
    size = training.batch_size
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    plain = plain_rows([encoded[place] for place in order], policies.tokenizer)
    optimiser = Optimiser(
        [(training.continued_learning_rate if policies.continues else training.learning_rate, trainable(model))],
        warmup_steps=math.ceil(len(batches) * training.warmup_share),
        total_steps=len(batches),
        max_norm=training.max_gradient_norm,
    )
    model.eval()

    def loss_of(batch: list[int]) -> tuple[torch.Tensor, dict[str, float]]:
        loss = likelihood_loss(policies, [encoded[place] for place in batch])
        return loss, {"nll": float(loss.detach())}

    def held(step: int) -> torch.Tensor:
        return training.plain_text_weight * plain_text_divergence(model, plain, step)

    last = train_batches(
        batches,
        loss_of,
        optimiser,
        folder=folder,
        kept_in=folder / CHECKPOINTS_DIR / "policy",
        every=training.checkpoint_every,
        emit=emit,
        weight_of=lambda batch: sum(len(encoded[place].completion_ids) for place in batch),
        at_once=at_once(policies, job),
        tokens_of=lambda batch: distinct_tokens(encoded[place] for place in batch),
        held=held if training.plain_text_weight and plain else None,
    )
    return {
        "rows": len(kept),
        "rows_corrections": sum(row.source == "correction" for row in kept),
        "rows_too_long": len(rows) - len(kept),
        "steps": len(batches),
        **last,
    }


def likelihood_loss(policies: Policies, sequences: list[Encoded]) -> torch.Tensor:
    """Return the mean negative log-likelihood of the completions' tokens."""
    batch = batch_of(sequences, policies.model.device)
    found_BT, _ = logprobs(policies.model, batch)
    return -found_BT.sum() / batch.scored.sum()
