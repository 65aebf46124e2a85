"""A ragged step as tensors, and the cache that it runs over."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch

from serving.engine.forward import Piece
from serving.engine.llama_shape import LlamaShape

_GROWTH = 256


@dataclass(frozen=True, slots=True)
class RaggedStep:
    """All tokens of a step in one line: single tokens first, then chunk after chunk. `token_ids`, `rows` and
    `positions` are [N], one entry a token."""

    singles: tuple[Piece, ...]
    chunks: tuple[Piece, ...]
    token_ids: torch.Tensor
    rows: torch.Tensor
    positions: torch.Tensor
    wanted: torch.Tensor
    """Indices into N of the tokens whose logits are wanted, in the order in which the pieces were given."""

    @property
    def span(self) -> int:
        """Positions that the longest row holds after this step."""
        return max(piece.end for piece in (*self.singles, *self.chunks))


def ragged_step(pieces: Sequence[Piece]) -> RaggedStep:
    """Line up `pieces`. Single tokens come in the order of their rows, so that rows side by side can be viewed."""
    singles = sorted((piece for piece in pieces if len(piece.token_ids) == 1), key=lambda piece: piece.row)
    chunks = [piece for piece in pieces if len(piece.token_ids) > 1]
    token_ids: list[int] = []
    rows: list[int] = []
    positions: list[int] = []
    last: dict[int, int] = {}
    for piece in (*singles, *chunks):
        token_ids += piece.token_ids
        rows += [piece.row] * len(piece.token_ids)
        positions += range(piece.start, piece.end)
        last[piece.row] = len(token_ids) - 1
    return RaggedStep(
        singles=tuple(singles),
        chunks=tuple(chunks),
        token_ids=torch.tensor(token_ids),
        rows=torch.tensor(rows),
        positions=torch.tensor(positions),
        wanted=torch.tensor(
            [
                last[piece.row] - back
                for piece in pieces
                if piece.wants_logits
                for back in range(piece.every - 1, -1, -1)
            ],
            dtype=torch.long,
        ),
    )


class RowCache:
    """Keys and values as one block [layers, 2, rows, kv_heads, positions, head_dim], 0 keys and 1 values.

    Positions of a head lie side by side: token-major was twice as slow at 16 rows. The block begins as zeros that the
    kernel has not yet backed with memory, so rows and positions that are never used cost none.
    """

    def __init__(self, shape: LlamaShape, rows: int, max_positions: int, dtype: torch.dtype) -> None:
        self.rows = rows
        self._shape, self._max_positions, self._dtype = shape, max_positions, dtype
        self.capacity = 0
        self._used = [0] * rows
        self.block = self._zeros(0)

    def reserve(self, pieces: Sequence[Piece]) -> None:
        """Make room for what `pieces` will write; the block doubles, up to the most that a row may hold."""
        span = max(piece.end for piece in pieces)
        if span > self.capacity:
            self._grow(span)
        for piece in pieces:
            self._used[piece.row] = max(self._used[piece.row], piece.end)

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of one row over another's."""
        self._used[target] = max(self._used[target], length)
        self.block[:, :, target, :, :length] = self.block[:, :, source, :, :length]

    def _grow(self, positions: int) -> None:
        wanted = max(_GROWTH, self.capacity)
        while wanted < positions:
            wanted *= 2
        grown = self._zeros(max(positions, min(wanted, self._max_positions)))
        for row, used in enumerate(self._used):  # copying the rest would back all of the block with memory
            grown[:, :, row, :, :used] = self.block[:, :, row, :, :used]
        self.block, self.capacity = grown, grown.shape[4]

    def _zeros(self, positions: int) -> torch.Tensor:
        shape = self._shape
        sizes = (shape.layers, 2, self.rows, shape.kv_heads, positions, shape.head_dim)
        count = 1
        for size in sizes:
            count *= size
        if count == 0:
            return torch.empty(sizes, dtype=self._dtype)
        # numpy asks for zeroed memory (calloc), torch writes the zeros.
        plain = numpy.zeros(count * self._dtype.itemsize, dtype=numpy.uint8)
        return torch.from_numpy(plain).view(self._dtype).view(sizes)
