"""What our own training loops share: an optimiser that can be stopped and gone on with, and rows in batches.

AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), a linear warm-up, a linear decay where there is an end to decay to,
gradients clipped to a norm. The whole state (moments, counts) goes into a checkpoint, so that a resumed training takes
the very steps of an uninterrupted one.
"""

import math
import random
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from trainer import checkpoints, group
from trainer.events import Emit
from trainer.methods.common import Cancelled, Diverged
from trainer.methods.parts import NO_BOUND, AtOnce, add_gradients, told_to_stop

Loss = Callable[[list[int]], tuple[torch.Tensor, dict[str, float]]]
"""Rows' places → the loss of that batch and what else is shown of it."""


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """Return the parameters that a gradient would change, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


class Optimiser:
    """AdamW over named parameters. `step` after each backward pass.

    `total_steps` None keeps the rate after the warm-up; else it falls linearly to 0 at that step.
    """

    def __init__(
        self,
        groups: Sequence[tuple[float, Mapping[str, torch.nn.Parameter]]],
        *,
        warmup_steps: int,
        total_steps: int | None,
        max_norm: float,
        weight_decay: float = 0.0,
    ) -> None:
        """`groups`: peak learning rates, each with its parameters by name."""
        self.parameters = {name: parameter for _, own in groups for name, parameter in own.items()}
        group.begin_alike(self.parameters.values())
        self._adamw = torch.optim.AdamW(
            [{"params": list(own.values()), "lr": rate} for rate, own in groups],
            weight_decay=weight_decay,
            fused=True,  # one pass over all matrices: an adapter has a hundred small ones
        )
        self._peaks = [rate for rate, _ in groups]
        self._warmup, self._total, self._max_norm = warmup_steps, total_steps, max_norm
        self.steps = 0

    @property
    def learning_rate(self) -> float:
        """Of the next step, of the first group."""
        return self._peaks[0] * self._share()

    def step(self) -> float:
        """Clip, step, forget the gradients; return the gradient's norm. Raises Diverged."""
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters.values(), self._max_norm))
        if not math.isfinite(norm):
            raise Diverged(self.steps + 1, "grad_norm")
        for own, peak in zip(self._adamw.param_groups, self._peaks, strict=True):
            own["lr"] = peak * self._share()
        self._adamw.step()
        self.forget()
        self.steps += 1
        return norm

    def forget(self) -> None:
        """Forget the gradients."""
        self._adamw.zero_grad()

    def state(self) -> checkpoints.State:
        """Weights, moments and count, for a checkpoint."""
        moments = [self._adamw.state.get(parameter, {}) for parameter in self.parameters.values()]
        return {
            "steps": self.steps,
            "weights": dict(self.parameters),
            "moments": dict(zip(self.parameters, ({**found} for found in moments), strict=True)),
        }

    def load(self, state: checkpoints.State) -> None:
        """Take up a state of the same parameters. Raises ValueError for another's."""
        load_weights(self.parameters, state["weights"])
        self.steps = int(state["steps"])
        for name, parameter in self.parameters.items():
            if state["moments"][name]:
                self._adamw.state[parameter] = {
                    key: value.to(parameter.device) for key, value in state["moments"][name].items()
                }

    def _share(self) -> float:
        rise = min(1.0, (self.steps + 1) / self._warmup) if self._warmup else 1.0
        if self._total is None:
            return rise
        return min(rise, max(0.0, (self._total - self.steps) / max(1, self._total - self._warmup)))


def load_weights(parameters: Mapping[str, torch.nn.Parameter], weights: Mapping[str, torch.Tensor]) -> None:
    """Copy `weights` into parameters of the same names. Raises ValueError for other names."""
    if set(parameters) != set(weights):
        odd = sorted(set(parameters) ^ set(weights))[0]
        raise ValueError(f"the checkpoint is of another training: {odd!r} is in one of them alone; remove it and begin")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])


def bucketed_batches(
    lengths: Sequence[int], together: Sequence[Hashable], epochs: float, batch_size: int, seed: int, window: int = 8
) -> list[list[int]]:
    """Return batches of places, epoch after epoch: shuffled, then sorted by length within windows of about `window`
    batches, so that a batch holds rows of about one length and little padding; a window's batches come in random order.

    Rows of the same `together` stay in one batch, which may grow beyond `batch_size` by them.
    """
    generator = random.Random(seed)
    units: dict[Hashable, list[int]] = {}
    for place, name in enumerate(together):
        units.setdefault(name, []).append(place)
    total = round(len(lengths) * epochs)
    found: list[list[int]] = []
    taken = 0
    while taken < total:
        order = list(units.values())
        generator.shuffle(order)
        part: list[list[int]] = []
        for unit in order:
            part.append(unit)
            taken += len(unit)
            if sum(map(len, part)) >= window * batch_size:
                found += _batches(part, lengths, batch_size, generator)
                part = []
            if taken >= total:
                break
        found += _batches(part, lengths, batch_size, generator)
    return found


def _batches(
    units: Sequence[list[int]], lengths: Sequence[int], size: int, generator: random.Random
) -> list[list[int]]:
    found: list[list[int]] = [[]]
    for unit in sorted(units, key=lambda unit: max(lengths[place] for place in unit)):
        if len(found[-1]) >= size:
            found.append([])
        found[-1] += unit
    found = [batch for batch in found if batch]
    generator.shuffle(found)
    return found


def stop_when_cancelled(folder: Path) -> None:
    """Raise Cancelled when whoever watches made the cancel file."""
    if told_to_stop(folder):
        raise Cancelled


def require_finite(loss: float, step: int) -> None:
    """Raise Diverged when the loss of a step is no number."""
    if not math.isfinite(loss):
        raise Diverged(step, "loss")


def train_batches(
    batches: Sequence[list[int]],
    loss_of: Loss,
    optimiser: Optimiser,
    *,
    folder: Path,
    kept_in: Path,
    every: int,
    emit: Emit,
    prefix: str = "",
    weight_of: Callable[[Sequence[int]], float] = len,
    at_once: AtOnce = NO_BOUND,
    tokens_of: Callable[[Sequence[int]], int] = lambda rows: 0,
    held: Callable[[int], torch.Tensor] | None = None,
) -> dict[str, float]:
    """Take one step a batch, from the last checkpoint in `kept_in` on; return the last metrics, `prefix` before their
    names. A checkpoint is written each `every` steps and at the end. `weight_of`, `at_once`, `tokens_of`: see parts.py;
    `held`: a term of each step, by the step's number. Raises Cancelled, Diverged, PeerLost."""
    state = checkpoints.latest(kept_in)
    values: dict[str, float] = {}
    if state is not None:
        optimiser.load(state["optimiser"])
        values = state["values"]
    last = time.monotonic()
    for batch in batches[optimiser.steps :]:
        stop_when_cancelled(folder)
        rate = optimiser.learning_rate
        step = optimiser.steps
        loss, shown = add_gradients(
            batch,
            loss_of,
            optimiser.parameters.values(),
            weight_of=weight_of,
            at_once=at_once,
            tokens_of=tokens_of,
            held=partial(held, step) if held and step % group.count() == group.rank() else None,
        )
        require_finite(loss, step + 1)
        norm = optimiser.step()
        now = time.monotonic()
        values = {
            "loss": loss,
            "grad_norm": norm,
            "learning_rate": rate,
            **shown,
            "progress": optimiser.steps / len(batches),
        }
        values = {prefix + name: value for name, value in values.items()}
        emit("metric", step=optimiser.steps, values=values | {prefix + "step_s": now - last})
        last = now
        if group.is_lead() and (optimiser.steps % every == 0 or optimiser.steps == len(batches)):
            checkpoints.save(kept_in, optimiser.steps, {"optimiser": optimiser.state(), "values": values})
    return values
