"""DPO: learn from which of two replies to one prompt was liked better (Rafailov et al. 2023, arXiv:2305.18290).

With r(y) = log π(y|x) − log π_ref(y|x) summed over the completion's tokens, the loss of a pair is (equation 7)

    −log σ(β (r(chosen) − r(rejected)))

With `label_smoothing` ε > 0, for verdicts of which a share ε is taken to be wrong, it is the robust loss (Chowdhury et
al. 2024, arXiv:2403.00409): ((1 − ε) ℓ(βΔ) − ε ℓ(−βΔ)) / (1 − 2ε) with ℓ(x) = −log σ(x), whose mean over noisy verdicts
is the plain loss over right ones. `chosen_likelihood_weight` adds that multiple of the chosen replies' mean-token
negative log-likelihood (Pang et al. 2024, arXiv:2404.19733, equation 1): plain DPO here lowered the probability of both
replies and ended in very short ones (17 % under 3 words), the added term held it off (3 %).

The reference is what the candidate began as, mostly the live policy, whose log-probs were stored when it wrote the
replies (see reference.py).
An anchor to it is added to the loss (see PreparedRows in common.py).
"""

from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from trainer.events import Emit
from trainer.job import Job, PairRow
from trainer.methods.common import (
    PreparedRows,
    Resume,
    Watch,
    fitting,
    plain_rows,
    run,
    stratified_order,
    trainer_arguments,
)
from trainer.policies import Policies
from trainer.reference import reference_logprobs


class _Trainer(PreparedRows, DPOTrainer):
    likelihood_weight = 0.0

    def begin_part(self, part: dict[str, Any]) -> None:
        """The likelihood is a mean over tokens, the preference one over rows: a part weighs differently in the two."""
        if self.likelihood_weight:
            self.loss_weights = [1.0, self.likelihood_weight * part["token_share"] / part["share"]]


def train_dpo(policies: Policies, rows: list[PairRow], job: Job, folder: Path, emit: Emit) -> dict[str, float]:
    """Train the candidate's adapter on pairs; return counts and last metrics. Goes on from the checkpoints in `folder`.

    "auto" label smoothing is worked out when a round selects (see selection); what is still "auto" here is 0. Raises
    Cancelled, Diverged, NothingToTrainOn.
    """
    training = job.training
    both = [
        (policies.encoder.encode(row.messages, row.chosen), policies.encoder.encode(row.messages, row.rejected))
        for row in rows
    ]
    places = fitting(both, training.max_tokens)
    kept = [rows[place] for place in places]
    chosen, rejected = [both[place][0] for place in places], [both[place][1] for place in places]
    reference, stored = reference_logprobs(
        policies,
        chosen + rejected,
        [row.chosen for row in kept] + [row.rejected for row in kept],
        job.live_version,
        policies.reference,
    )
    order = stratified_order([True] * len(kept), training.epochs, job.seed)
    columns: dict[str, list[Any]] = {
        "prompt_ids": [list(chosen[place].prompt_ids) for place in order],
        "chosen_ids": [list(chosen[place].completion_ids) for place in order],
        "rejected_ids": [list(rejected[place].completion_ids) for place in order],
        "ref_chosen_logps": [reference[place] for place in order],
        "ref_rejected_logps": [reference[len(kept) + place] for place in order],
    }
    smoothing = float(training.label_smoothing) if training.label_smoothing != "auto" else 0.0
    preference = "robust" if smoothing > 0 else "sigmoid"
    held = training.chosen_likelihood_weight > 0
    resume = Resume(folder, job.training.checkpoint_every)
    watch = Watch(folder, emit, steps_done=resume.steps_done)
    plain = plain_rows([chosen[place] for place in order], policies.tokenizer)

    def make_trainer(dataset: Dataset) -> Any:
        trainer = _Trainer(
            model=policies.model,
            args=DPOConfig(
                loss_type=[preference, "sft"] if held else [preference],
                loss_weights=[1.0, training.chosen_likelihood_weight] if held else None,
                label_smoothing=smoothing,
                **trainer_arguments(job, folder, policies, len(order)),
            ),
            train_dataset=dataset,
            processing_class=policies.tokenizer,
            callbacks=[watch],
        )
        trainer.likelihood_weight = training.chosen_likelihood_weight
        return trainer

    steps = run(make_trainer, columns, plain, job, policies, resume, watch)
    return {
        "rows": len(kept),
        "rows_too_long": len(rows) - len(kept),
        "reference_logprobs_stored": stored,
        "steps": steps,
        **(watch.last_values or resume.last_values),
    }
