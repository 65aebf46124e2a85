"""KTO: learn from single thumbs, each reply judged alone (Ethayarajh et al. 2024, arXiv:2402.01306).

With r = log π(y|x) − log π_ref(y|x) summed over the completion's tokens, β the strength of the pull to the reference
and z₀ an estimate of KL(π ‖ π_ref), the loss of a row is (equation 7)

    up    λ_D · (1 − σ(β (r − z₀)))          down    λ_U · (1 − σ(β (z₀ − r)))

We depart from it by default: `kto_loss = "apo_zero_unpaired"` sets z₀ = 0 (D'Oosterlinck et al. 2024, arXiv:2408.06266,
equation 7, unpaired). trl estimates z₀ from mismatched pairs of a batch and clamps it at 0; on adapters this small it
was 0 in nearly every batch, and it costs two more forward passes.

λ balance the two kinds (equation 8): λ_D·n_D : λ_U·n_U = 1 : 1, changing only the rarer kind's weight, up to a cap.
The reference is what the candidate began as, mostly the live policy, whose log-probs were stored when it wrote the
replies (see reference.py).
An anchor to it is added to the loss (see PreparedRows in common.py).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import KTOConfig, KTOTrainer

from trainer import group
from trainer.encoding import Encoded
from trainer.events import Emit
from trainer.floods import class_weights
from trainer.job import Job, VoteRow
from trainer.methods.common import (
    PreparedRows,
    Resume,
    Watch,
    fitting,
    plain_rows,
    run,
    scored,
    stratified_order,
    trainer_arguments,
)
from trainer.policies import Policies
from trainer.reference import reference_logprobs
from trainer.scoring import summed_logprobs


class _Trainer(PreparedRows, KTOTrainer):
    """z₀ is estimated on the whole batch, whatever the parts it is learnt in."""

    _kl_nats = 0.0

    def begin_step(self, model: Any, parts: Sequence[dict[str, Any]]) -> None:
        if not self.calculate_KL:
            return
        found: list[float] = []
        for part in parts:
            now = KTOTrainer._compute_kl_logps(self, lambda **arguments: scored(model, arguments), part)
            found += (now - part["ref_KL_logps"]).tolist()
        everywhere = [value for values in group.gathered(found) for value in values]
        self._kl_nats = sum(everywhere) / len(everywhere)

    def _compute_kl_logps(self, model: Any, batch: dict[str, Any]) -> torch.Tensor | None:
        return batch["ref_KL_logps"] + self._kl_nats if self.calculate_KL else None


def train_kto(policies: Policies, rows: list[VoteRow], job: Job, folder: Path, emit: Emit) -> dict[str, float]:
    """Train the candidate's adapter on votes; return counts and last metrics. Goes on from the checkpoints in `folder`.
    Raises Cancelled, Diverged, NothingToTrainOn."""
    sequences = [policies.encoder.encode(row.messages, row.reply) for row in rows]
    places = fitting([[sequence] for sequence in sequences], job.training.max_tokens)
    kept, encoded = [rows[place] for place in places], [sequences[place] for place in places]
    reference, stored = reference_logprobs(
        policies, encoded, [row.reply for row in kept], job.live_version, policies.reference
    )
    labels = [row.up for row in kept]
    desirable, undesirable = class_weights(sum(labels), len(labels) - sum(labels), job.training.max_class_weight)
    order = stratified_order(labels, job.training.epochs, job.seed)

    columns: dict[str, list[Any]] = {
        "prompt_ids": [list(encoded[place].prompt_ids) for place in order],
        "completion_ids": [list(encoded[place].completion_ids) for place in order],
        "label": [labels[place] for place in order],
        "ref_logps": [reference[place] for place in order],
    }
    if job.training.kto_loss == "kto":
        mismatched = _mismatched([encoded[place] for place in order], job.training.batch_size)
        columns["KL_completion_ids"] = [list(sequence.completion_ids) for sequence in mismatched]
        with policies.use(policies.reference) as model:
            columns["ref_KL_logps"] = group.gathered_rows(lambda rows: summed_logprobs(model, rows), mismatched)

    resume = Resume(folder, job.training.checkpoint_every)
    estimates = job.training.kto_loss == "kto"
    watch = Watch(folder, emit, estimates_kl=estimates, steps_done=resume.steps_done)
    plain = plain_rows([encoded[place] for place in order], policies.tokenizer)

    def make_trainer(dataset: Dataset) -> Any:
        return _Trainer(
            model=policies.model,
            args=KTOConfig(
                loss_type=job.training.kto_loss,
                desirable_weight=desirable,
                undesirable_weight=undesirable,
                **trainer_arguments(job, folder, policies, len(order)),
            ),
            train_dataset=dataset,
            processing_class=policies.tokenizer,
            callbacks=[watch],
        )

    steps = run(make_trainer, columns, plain, job, policies, resume, watch)
    return {
        "rows": len(kept),
        "rows_up": sum(labels),
        "rows_too_long": len(rows) - len(kept),
        "reference_logprobs_stored": stored,
        "desirable_weight": desirable,
        "undesirable_weight": undesirable,
        "steps": steps,
        **(watch.last_values or resume.last_values),
    }


def _mismatched(rows: list[Encoded], batch: int) -> list[Encoded]:
    """Give every prompt the completion before it in its batch (the first takes the last): trl's pairs for z₀."""
    found: list[Encoded] = []
    for start in range(0, len(rows), batch):
        group = rows[start : start + batch]
        found += [Encoded(row.prompt_ids, group[place - 1].completion_ids) for place, row in enumerate(group)]
    return found
