"""The rows of one optimiser step in parts: a share for each process, and of a share a few rows at a time.

The loss of a batch is a weighed mean of its parts' losses, and so is its gradient: a part's loss, times the part's
weight over the batch's, is differentiated at once, and gradients add up over parts and processes. One batch of eight
equals two processes with two times two rows each, to rounding. What is held in memory is one part.

(A mean of means would do for parts of one size alone: the last batch of an epoch is smaller, SFT averages over tokens,
and KTO over liked and disliked replies with weights of their own.)
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from trainer import group
from trainer.job import CANCEL_FILE

T = TypeVar("T")
Shown = dict[str, float]


@dataclass(frozen=True, slots=True)
class AtOnce:
    """The most that a process computes at once: rows, and tokens of them. 0: no bound. A part has one row at least."""

    rows: int = 0
    tokens: int = 0


NO_BOUND = AtOnce()


def in_parts(
    rows: Sequence[T], at_once: AtOnce, tokens_of: Callable[[Sequence[T]], int] = lambda rows: 0
) -> list[list[T]]:
    """Return this process's share of a batch, in its order, cut into parts within `at_once`. `tokens_of`: how many
    tokens are computed for some rows together."""
    parts: list[list[T]] = []
    for row in group.own(rows):
        last = parts[-1] if parts else []
        full = 0 < at_once.rows <= len(last) or 0 < at_once.tokens < tokens_of([*last, row])
        if last and not full:
            last.append(row)
        else:
            parts.append([row])
    return parts


def weighed_mean(entries: Iterable[tuple[Shown, Shown]]) -> Shown:
    """Return the mean of each value by its weight, over (values, weights); a name that is missing somewhere is averaged
    over where it is."""
    sums: dict[str, tuple[float, float]] = {}
    for values, weights in entries:
        for name, value in values.items():
            total, weight = sums.get(name, (0.0, 0.0))
            sums[name] = (total + weights[name] * value, weight + weights[name])
    return {name: total / weight for name, (total, weight) in sums.items() if weight > 0}


def add_gradients(
    batch: Sequence[int],
    loss_of: Callable[[list[int]], tuple[torch.Tensor, Shown]],
    parameters: Iterable[torch.nn.Parameter],
    *,
    weight_of: Callable[[Sequence[int]], float] = len,
    at_once: AtOnce = NO_BOUND,
    tokens_of: Callable[[Sequence[int]], int] = lambda rows: 0,
    held: Callable[[], torch.Tensor] | None = None,
) -> tuple[float, Shown]:
    """Leave the gradient of a batch's loss in `parameters`; return that loss and what is shown of it.

    `weight_of`: what a part's loss is a mean over. `at_once`, `tokens_of`: see `in_parts`. `held`: a term that belongs
    to the step and not to its rows, computed by one process; before all others, since it switches adapters off and on.
    Raises PeerLost.
    """
    whole = weight_of(batch)
    total = 0.0
    shown: list[tuple[Shown, Shown]] = []
    if held is not None:
        term = held()
        term.backward()  # type: ignore[no-untyped-call]
        total += float(term.detach())
    for part in in_parts(batch, at_once, tokens_of):
        share = weight_of(part) / whole
        loss, values = loss_of(part)
        (loss * share).backward()  # type: ignore[no-untyped-call]
        total += share * float(loss.detach())
        shown.append((values, dict.fromkeys(values, share)))
    group.sum_gradients(parameters)
    everywhere = group.gathered((total, shown))
    return sum(one for one, _ in everywhere), weighed_mean(entry for _, entries in everywhere for entry in entries)


def told_to_stop(folder: Path) -> bool:
    """Whether the cancel file is there, in the lead's eyes: all processes stop at the same step."""
    return bool(group.lead_says((folder / CANCEL_FILE).exists()))


class PartsOf:
    """A trl data collator that yields {"parts": [...]}: this process's share of a batch, part by part, each with its
    `share` of the batch's rows and `token_share` of its chosen tokens."""

    def __init__(self, collate: Callable[[list[Any]], dict[str, Any]], at_once: AtOnce) -> None:
        self._collate, self._at_once = collate, at_once

    def __call__(self, rows: list[Any]) -> dict[str, Any]:
        """Collate the batch `rows`."""
        return {
            "parts": [
                self._collate(part)
                | {"share": len(part) / len(rows), "token_share": _chosen_tokens(part) / max(1, _chosen_tokens(rows))}
                for part in in_parts(rows, self._at_once, _tokens)
            ]
        }


def _tokens(rows: Sequence[Any]) -> int:
    """How many tokens the completions of these rows and their prompts have."""
    names = ("prompt_ids", "completion_ids", "chosen_ids", "rejected_ids")
    return sum(len(row.get(name, ())) for row in rows for name in names)


def _chosen_tokens(rows: Sequence[Any]) -> int:
    return sum(len(row.get("chosen_ids", ())) for row in rows)
