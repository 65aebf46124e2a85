"""What the methods share: row order, weights, trl's arguments, and the watch over a run."""

import math
import random
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import PrinterCallback, TrainerCallback

from trainer import checkpoints, group, head
from trainer.encoding import Encoded
from trainer.events import Emit
from trainer.job import CHECKPOINTS_DIR, Job
from trainer.methods.activations import at_once
from trainer.methods.parts import PartsOf, Shown, told_to_stop, weighed_mean
from trainer.methods.plain_text import plain_text_divergence
from trainer.policies import Policies

_METRIC_NAMES = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "rewards/margins": "reward_margin",
    "rewards/chosen": "reward_up",
    "rewards/rejected": "reward_down",
    "rewards/accuracies": "accuracy",
    "kl": "kl_nats",
    "entropy": "entropy_nats",
}
"""trl's names of what is shown, and ours."""


class Cancelled(Exception):
    """The run was told to stop."""


class Diverged(ArithmeticError):
    """The loss or its gradient is no longer a finite number; holds `step`."""

    def __init__(self, step: int, name: str) -> None:
        super().__init__(
            f"training diverged: {name} is not finite at step {step}; lower training.learning_rate and try again"
        )
        self.step = step


class NothingToTrainOn(ValueError):
    """No row is left after the long ones were dropped."""


class BelowBar(Exception):
    """A reward model is not good enough to train a policy with; holds its `report` (see trainer.reward_bar)."""

    def __init__(self, report: dict[str, Any]) -> None:
        asks = len(report["ask"])
        asked = (
            f"Ask people to judge the {asks} comparisons that it is least sure of (they wait on the Annotate page), or "
        )
        super().__init__(f"{report['summary']}. {asked if asks else ''}learn from the comparisons by DPO")
        self.report = report


class PreparedRows:
    """Mixed into a trl trainer: rows come tokenised, ordered and with reference log-probs, so that its own preparation
    (templating, tokenising, a pass of the reference model, cache files) is skipped.

    It also adds the anchor, α · mean(log π_ref(y|x) − log π(y|x)) over all rows of a batch, liked or not. Rows of an
    on-policy round are samples of the reference, so this estimates α · KL(π_ref ‖ π) without drawing anything. The
    losses alone do not hold a small adapter: they saturate, noise in the votes walks it away, and a policy trained on
    votes dealt at random ended 27 nats from the base with 68 % of the wins (docs/log.md). At r = 0 a vote pulls with
    β / 4.

    And it adds what keeps plain text plain (see plain_text.py).

    A batch comes in parts (see parts.py), each of which is differentiated by itself.
    """

    anchor: float = 0.0
    plain_weight: float = 0.0
    plain_rows: Sequence[list[int]] = ()
    """Token ids of plain texts, each with the token that begins a text."""
    _plain_turn = 0
    all_steps: int | None = None
    """Steps of the whole training, for the learning rate, where only the rest of it is done here."""

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """As transformers', over the parts of a batch and over the processes; the loss is the whole batch's."""
        model.train()
        total = self._hold_plain_text(model)
        parts = [self._prepare_inputs(part) for part in inputs["parts"]]  # type: ignore[attr-defined]
        self.begin_step(model, parts)
        seen: list[tuple[Shown, Shown]] = []
        metrics = self._metrics["train"]  # type: ignore[attr-defined]
        for part in parts:
            metrics.clear()
            self.begin_part(part)
            total += float(super().training_step(model, part))  # type: ignore[misc]
            seen.append(({name: values[-1] for name, values in metrics.items()}, _weights(metrics, part)))
        group.sum_gradients(parameter for parameter in model.parameters() if parameter.requires_grad)
        everywhere = group.gathered((total, seen, self._total_train_tokens))  # type: ignore[attr-defined]
        metrics.clear()
        shown = weighed_mean(entry for _, entries, _ in everywhere for entry in entries)
        if {"rewards/chosen", "rewards/rejected"} <= set(shown):
            shown["rewards/margins"] = shown["rewards/chosen"] - shown["rewards/rejected"]
        metrics.update({name: [value] for name, value in shown.items()})
        metrics["num_tokens"] = [sum(tokens for _, _, tokens in everywhere)]
        return torch.tensor(sum(loss for loss, _, _ in everywhere), device=model.device)

    def begin_step(self, model: Any, parts: Sequence[dict[str, Any]]) -> None:
        """Before the parts of a step: for what all of them need."""

    def begin_part(self, part: dict[str, Any]) -> None:
        """Before each part."""

    def _compute_loss(self, model: Any, inputs: Any, return_outputs: Any) -> Any:
        seen: list[torch.Tensor] = []

        def recorded(**arguments: Any) -> Any:
            outputs = scored(model, arguments)
            seen.append(outputs.log_probs)  # [rows, tokens − 1], zero outside the completions
            return outputs

        rows = {name: value for name, value in inputs.items() if name not in ("share", "token_share")}
        loss = super()._compute_loss(recorded, rows, return_outputs)  # type: ignore[misc]
        names = ("ref_logps", "ref_chosen_logps", "ref_rejected_logps")
        reference = torch.cat([inputs[name] for name in names if name in inputs])
        return inputs["share"] * (loss + self.anchor * (reference.mean() - seen[-1].sum(-1).mean()))

    def _hold_plain_text(self, model: Any) -> float:
        """Differentiate this step's term of plain text, before any other graph is built: it switches the adapter off
        and on. One process a step does it; return what it found."""
        turn = self._plain_turn
        self._plain_turn += 1
        if self.plain_weight == 0 or not self.plain_rows or turn % group.count() != group.rank():
            return 0.0
        term = self.plain_weight * plain_text_divergence(model, self.plain_rows, turn)
        term.backward()  # type: ignore[no-untyped-call]
        return float(term.detach())

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """As transformers', over the steps of the whole training."""
        return super().create_scheduler(self.all_steps or num_training_steps, optimizer)  # type: ignore[misc]

    def _prepare_dataset(self, dataset: Any, *_: object, **__: object) -> Any:
        return dataset

    def _precompute_ref_logps(self, dataset: Any, *_: object, **__: object) -> Any:
        return dataset


def scored(model: Any, arguments: dict[str, Any]) -> Any:
    """Call the model as trl does, with our own head where it fits."""
    if head.fits(model):
        return head.scores(model, **{name: value for name, value in arguments.items() if name != "fused_lm_head"})
    return model(**arguments)


def _weights(names: Sequence[str], part: dict[str, Any]) -> Shown:
    """What each of trl's metrics of a part is a mean over: liked replies, disliked ones, tokens, else rows."""
    rows = len(part["input_ids"]) / 2  # of pairs, both stand there
    ups = downs = rows
    if "label" in part:
        rows, ups = len(part["label"]), float(part["label"].sum())
        downs = rows - ups
    tokens = float(part["completion_mask"][:, 1:].sum())
    own = {"rewards/chosen": ups, "rewards/rejected": downs, "entropy": tokens}
    return {name: own.get(name, rows) for name in names}


class Resume(TrainerCallback):
    """Takes a trl training up where its last checkpoint left it, and writes the next ones.

    transformers' own checkpoints are pickles and hold what does not change. Here rows come in a fixed order, so that a
    training goes on with the rest of them once weights, moments and learning rate are those of the step.
    """

    def __init__(self, folder: Path, every: int) -> None:
        self._kept_in = folder / CHECKPOINTS_DIR / "policy"
        self._every = every
        self._state = checkpoints.latest(self._kept_in)
        self.steps_done = int(self._state["step"]) if self._state else 0
        self.last_values: dict[str, float] = self._state["values"] if self._state else {}
        self.watch: Watch | None = None

    def load_weights(self, model: Any) -> None:
        """Put the checkpoint's weights into the candidate's adapter."""
        if self._state is not None:
            own = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
            with torch.no_grad():
                for name, weights in self._state["weights"].items():
                    own[name].copy_(weights)

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """Before the first step: optimiser and learning rate."""
        if self._state is None:
            return
        optimiser, scheduler = parts["optimizer"], parts["lr_scheduler"]
        moments = {int(place): found for place, found in self._state["moments"].items()}
        optimiser.load_state_dict({"state": moments, "param_groups": optimiser.state_dict()["param_groups"]})
        scheduler = getattr(scheduler, "scheduler", scheduler)  # accelerate's wrapper
        scheduler.last_epoch = self.steps_done
        for parameters, peak, share in zip(
            scheduler.optimizer.param_groups, scheduler.base_lrs, scheduler.lr_lambdas, strict=True
        ):
            parameters["lr"] = peak * share(self.steps_done)

    def on_log(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        """After every step, when its metrics are known."""
        step = self.steps_done + state.global_step
        if "loss" not in (parts.get("logs") or {}) or (step % self._every and state.global_step != state.max_steps):
            return
        if not group.is_lead():
            return
        moments = {str(place): found for place, found in parts["optimizer"].state_dict()["state"].items()}
        own = {name: found for name, found in parts["model"].named_parameters() if found.requires_grad}
        values = self.watch.last_values if self.watch else {}
        checkpoints.save(self._kept_in, step, {"step": step, "weights": own, "moments": moments, "values": values})


class Watch(TrainerCallback):
    """Sends each step's metrics as an event, and stops the run on a cancel file or a number that is not finite."""

    def __init__(self, folder: Path, emit: Emit, *, estimates_kl: bool = False, steps_done: int = 0) -> None:
        """`steps_done`: steps of the same training that were taken before, and count."""
        self._steps_done = steps_done
        self._folder = folder
        self._emit = emit
        self._estimates_kl = estimates_kl
        """Only KTO's own loss estimates a KL; trl logs a constant 0 for the others, which would look like a finding."""
        self._last = (time.monotonic(), 0.0)
        self.last_values: dict[str, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """After every optimiser step."""
        if told_to_stop(self._folder):
            raise Cancelled

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        """After every step too (logging_steps is 1); the last call brings the run's summary and no loss."""
        if not logs or "loss" not in logs:
            return
        for name in ("loss", "grad_norm"):
            if name in logs and not math.isfinite(float(logs[name])):
                raise Diverged(self._steps_done + state.global_step, name)
        values = {ours: float(logs[name]) for name, ours in _METRIC_NAMES.items() if name in logs}
        if not self._estimates_kl:
            values.pop("kl_nats", None)
        now, tokens = time.monotonic(), float(logs.get("num_tokens", 0.0))
        if now > self._last[0]:
            values["tokens_per_s"] = (tokens - self._last[1]) / (now - self._last[0])
        done = self._steps_done
        values["progress"] = (done + state.global_step) / max(done + state.max_steps, 1)
        self._last = (now, tokens)
        self.last_values = values
        self._emit("metric", step=done + state.global_step, values=values)


def trainer_arguments(job: Job, folder: Path, policies: Policies, rows: int) -> dict[str, Any]:
    """Arguments that every method gives to trl: one pass over rows already ordered (the epochs are in the order),
    AdamW, warm-up and linear decay, clipping, float32 on a CPU, no reports, no checkpoints."""
    training = job.training
    device = policies.model.device
    steps = math.ceil(rows / training.batch_size)
    return {
        "output_dir": str(folder / "trl"),
        "per_device_train_batch_size": training.batch_size,
        "num_train_epochs": 1,
        "train_sampling_strategy": "sequential",
        "learning_rate": training.continued_learning_rate if policies.continues else training.learning_rate,
        "lr_scheduler_type": "linear",
        "warmup_steps": math.ceil(steps * training.warmup_share),
        "max_grad_norm": training.max_gradient_norm,
        "beta": training.beta,
        "max_length": None,  # rows that are too long are dropped beforehand, counted and reported
        "precompute_ref_log_probs": True,
        "use_cpu": device.type == "cpu",
        "bf16": policies.model.dtype == torch.bfloat16 and device.type == "cuda",  # no casts on a CPU: weights are bf16
        "gradient_checkpointing": False,
        "dataloader_pin_memory": device.type == "cuda",
        "seed": job.seed,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def run(
    make_trainer: Callable[[Dataset], Any],
    columns: dict[str, list[Any]],
    plain: Sequence[list[int]],
    job: Job,
    policies: Policies,
    resume: Resume,
    watch: Watch,
) -> int:
    """Train on the rows that `resume` leaves, in their order, without transformers' own prints, and leave nothing of
    trl's in the round's folder; return the steps of the whole training. `make_trainer` gets the rows."""
    training = job.training
    rows = len(next(iter(columns.values())))
    steps, done = math.ceil(rows / training.batch_size), resume.steps_done
    group.begin_alike(found for found in policies.model.parameters() if found.requires_grad)
    resume.load_weights(policies.model)
    if done >= steps:
        return steps
    rest = {name: values[done * training.batch_size :] for name, values in columns.items()}
    trainer = make_trainer(Dataset.from_dict(rest))
    trainer.anchor, trainer.plain_weight, trainer.plain_rows = training.anchor, training.plain_text_weight, plain
    trainer.all_steps, trainer._plain_turn = steps, done
    trainer.data_collator = PartsOf(trainer.data_collator, at_once(policies, job))
    trainer.args._n_gpu = min(1, trainer.args.n_gpu)  # transformers would split a step's rows over all GPUs of a host
    trainer.remove_callback(PrinterCallback)
    resume.watch = watch
    trainer.add_callback(resume)  # after the watch, whose values of a step it keeps
    if "ref" in trainer.model.peft_config:  # trl's frozen copy: its log-probs are in the rows already
        trainer.model.delete_adapter("ref")
    try:
        trainer.train()
    finally:
        shutil.rmtree(trainer.args.output_dir, ignore_errors=True)
    return steps


def plain_rows(encoded: Sequence[Encoded], tokenizer: Any, most: int = 64) -> list[list[int]]:
    """Return the replies' words outside their chats: the token that begins a text, then at most `most` tokens."""
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    special = set(tokenizer.all_special_ids)
    rows = [[token for token in row.completion_ids if token not in special][:most] for row in encoded]
    return [[int(begin), *row] for row in rows if row]


def fitting(encoded: Sequence[Sequence[Encoded]], max_tokens: int) -> list[int]:
    """Return the places of rows all of whose sequences fit. Raises NothingToTrainOn when none does."""
    places = [
        place
        for place, row in enumerate(encoded)
        if all(sequence.completion_ids and sequence.tokens <= max_tokens for sequence in row)
    ]
    if not places:
        raise NothingToTrainOn(
            f"none of {len(encoded)} rows has at most training.max_tokens = {max_tokens} tokens; raise it, or select "
            "other feedback"
        )
    return places


def stratified_order(labels: Sequence[bool], epochs: float, seed: int) -> list[int]:
    """Return the order in which rows are trained on, epoch after epoch: within each, both kinds are shuffled and spread
    evenly, so that every batch mixes them in about the proportion of the whole. A last epoch may be a part."""
    total = round(len(labels) * epochs)
    generator = random.Random(seed)
    order: list[int] = []
    while len(order) < total:
        spread: list[tuple[float, int]] = []
        for kind in (True, False):
            places = [place for place, label in enumerate(labels) if label is kind]
            generator.shuffle(places)
            spread += [((rank + generator.random()) / len(places), place) for rank, place in enumerate(places)]
        order += [place for _, place in sorted(spread)]
    return order[:total]
