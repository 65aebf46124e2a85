"""Running tokens of many replies through a model at once: the seam between scheduling and arithmetic.

A step is a ragged list of pieces. A reply under way brings its newest token; a prompt being read brings its next chunk.
So a long prompt never holds up the streams beside it, and reading a prompt costs one pass over the weights for all.

Two implementations: `packed_forward` for Llama-shaped models on a processor, `module_forward` for everything else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens to run next in one row of the cache, from position `start` on; all before it is stored already."""

    row: int
    start: int
    token_ids: Sequence[int]
    wants_logits: bool = True
    every: int = 1
    """After how many of its last tokens, where it wants logits."""

    @property
    def end(self) -> int:
        """First position after the piece."""
        return self.start + len(self.token_ids)


class RowForward(Protocol):
    """A model and the key-value cache of its rows. Single-threaded; every row's positions are written in order."""

    def run(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """Store the keys and values of every piece; return float32 logits [wanted, vocabulary] after the last token (or
        the last `every`) of each piece that wants them, in the order given. At most one piece a row; at least one
        piece."""
        ...

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another's."""
        ...


def open_rows(model: Any, rows: int, max_positions: int, device: torch.device) -> RowForward:
    """An empty cache of `rows` rows for what `BaseWeights.build` returned."""
    from serving.engine.module_forward import ModuleForward
    from serving.engine.packed_forward import PackedForward
    from serving.engine.packed_model import PackedModel

    if isinstance(model, PackedModel):
        return PackedForward(model, rows, max_positions)
    return ModuleForward(model, rows, max_positions, device)


@torch.inference_mode()
def agree(first: Any, second: Any, prompt_ids: Sequence[int], dtype: torch.dtype) -> bool:
    """Whether two forms of one model (see `open_rows`) give the same logits after `prompt_ids`, up to rounding.

    Rounding moves logits by some hundredths of their spread (bfloat16, ordinary text), a wrong product by about all of
    it. Give ordinary text: after control tokens out of place bfloat16 alone reaches a fifth.
    """
    found = []
    for model in (first, second):
        forward = open_rows(model, 2, len(prompt_ids), torch.device("cpu"))
        forward.run([Piece(1, 0, prompt_ids[:-1], wants_logits=False)])
        found.append(forward.run([Piece(1, len(prompt_ids) - 1, prompt_ids[-1:]), Piece(0, 0, prompt_ids[:-1])]))
    difference = (found[0] - found[1]).abs().mean() / found[1].std()
    return bool(difference <= (1e-3 if dtype == torch.float32 else 0.3))  # NaN is not below either
