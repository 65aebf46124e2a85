"""One training by stock trl, in a process of its own: `python -m benchmarks._training_trl METHOD FOLDER [tuned]`.

METHOD: kto, kto-apo, dpo, reward. Its trainers are called as its documentation does: a model's folder, a dataset of
texts, a LoRA configuration. Given by us are only those settings that must be the same for both (learning rate, β,
batch, order of the rows, the adapter's first weights); all others are trl's defaults, so bfloat16 autocast and gradient
checkpointing are on. `tuned` is what someone who reads all of its documentation would find: no checkpointing, no
autocast over weights that are bfloat16 already, the reference's log-probabilities computed once before the training.
"""

import math
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import AutoConfig, TrainerCallback
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer, RewardConfig, RewardTrainer

from benchmarks._training_work import (
    PAIRS_FILE,
    POLICY_INIT,
    REWARD_INIT,
    VOTES_FILE,
    Clock,
    Work,
    in_order,
    read_lines,
    read_work,
    say,
)


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Tells the clock each step and its loss."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """After every step (logging_steps is 1)."""
        if logs and "loss" in logs:
            self._clock.step(float(logs["loss"]))


def main() -> None:
    method, folder, tuned = sys.argv[1], Path(sys.argv[2]), "tuned" in sys.argv[3:]
    work = read_work(folder)
    torch.set_num_threads(work.threads)
    clock = Clock()  # stock trl loads the model itself: the seconds before the first step are more by about two
    with tempfile.TemporaryDirectory(prefix="bench-training-") as scratch:
        trainer = make_trainer(method, folder, work, Path(scratch), Stopwatch(clock), tuned)
        begin_alike(trainer.model, folder / (REWARD_INIT if method == "reward" else POLICY_INIT))
        trainer.train()
    say(clock.result())


def make_trainer(method: str, folder: Path, work: Work, scratch: Path, watch: Stopwatch, tuned: bool) -> Any:
    """trl's trainer of a method."""
    arguments: dict[str, Any] = {
        "output_dir": str(scratch),
        "per_device_train_batch_size": work.batch_size,
        "num_train_epochs": 1,  # the rows hold every pass
        "train_sampling_strategy": "sequential",
        "learning_rate": work.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": math.ceil(work.steps * work.warmup_share),
        "max_grad_norm": work.max_gradient_norm,
        "model_init_kwargs": {"dtype": work.dtype},
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": work.seed,
    }
    if work.dtype == "float32" or tuned:
        arguments["bf16"] = False
    if tuned:
        arguments["gradient_checkpointing"] = False
    layers = work.layers(AutoConfig.from_pretrained(work.model_dir).num_hidden_layers)
    lora = LoraConfig(
        task_type="SEQ_CLS" if method == "reward" else "CAUSAL_LM",
        r=work.rank,
        lora_alpha=work.alpha,
        lora_dropout=0.0,
        target_modules=list(work.target_modules),
        layers_to_transform=layers,
    )
    common: dict[str, Any] = {"model": work.model_dir, "peft_config": lora, "callbacks": [watch]}
    if method == "reward":
        # Padding and end are one token here; with it trl would read the score before the end token, not at it.
        arguments["pad_token"] = "<|endoftext|>"
        return RewardTrainer(args=RewardConfig(**arguments), train_dataset=pairs(folder, method), **common)
    arguments |= {"beta": work.beta, "precompute_ref_log_probs": tuned}
    if method == "dpo":
        return DPOTrainer(args=DPOConfig(**arguments), train_dataset=pairs(folder, method), **common)
    arguments["loss_type"] = "kto" if method == "kto" else "apo_zero_unpaired"
    votes = [
        {"prompt": line["prompt"], "completion": line["reply"]["text"], "label": line["up"]}
        for line in in_order(folder, "kto", read_lines(folder / VOTES_FILE))
    ]
    return KTOTrainer(args=KTOConfig(**arguments), train_dataset=Dataset.from_list(votes), **common)


def pairs(folder: Path, method: str) -> Dataset:
    """The pairs as trl's documentation has them."""
    return Dataset.from_list(
        [
            {"prompt": line["prompt"], "chosen": line["chosen"]["text"], "rejected": line["rejected"]["text"]}
            for line in in_order(folder, method, read_lines(folder / PAIRS_FILE))
        ]
    )


def begin_alike(model: Any, first: Path) -> None:
    """Give the adapter the first weights that ours has; a reward head begins at zero, as ours does."""
    weights = load_file(first)
    own = {name: parameter for name, parameter in model.named_parameters() if ".lora_" in name}
    if set(own) != set(weights):
        raise SystemExit(f"trl's adapter has other matrices: {sorted(set(own) ^ set(weights))[:2]}")
    with torch.no_grad():
        for name, parameter in own.items():
            parameter.copy_(weights[name])
        for name, parameter in model.named_parameters():
            if ".score." in name and parameter.requires_grad:
                parameter.zero_()


if __name__ == "__main__":
    main()
