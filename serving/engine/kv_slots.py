"""The key-value cache of one generation as transformers sees it: a block of rows, one reply each.

A transformers model takes any object with `update` as its cache, so this one serves every architecture. New tokens
arrive left-padded, [rows, tokens]; each is written at its own position of its own row, and attention runs over the rows
in use up to the longest. A mask hides what lies beyond a token's position, so rows need not be equally long.
"""

import itertools
from collections.abc import Sequence

import torch

_GROWTH = 256


class KVSlots:
    """Keys and values of `rows` replies, as [rows, kv_heads, positions, head_dim] per layer.

    Storage is made at the first write (shapes come from the model itself) and grows by doubling up to `max_positions`.
    """

    def __init__(self, rows: int, max_positions: int, device: torch.device) -> None:
        self.rows, self.max_positions, self.device = rows, max_positions, device
        self.capacity = 0
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._row_index = torch.empty(0, dtype=torch.long)
        self._position_index = torch.empty(0, dtype=torch.long)
        self._valid = torch.empty(0, dtype=torch.bool)
        self._seen_rows: slice | torch.Tensor = slice(0, 0)
        self._span = 0

    def begin(self, rows: Sequence[int], positions_BT: torch.Tensor, span: int) -> None:
        """The next `update` of every layer brings tokens of `rows` at `positions_BT`, negative where padded; attention
        shall see the first `span` positions."""
        self._span = span
        self._reserve(span)
        index = torch.tensor(rows, device=self.device)
        self._valid = positions_BT >= 0
        self._row_index = index[:, None].expand_as(positions_BT)[self._valid]
        self._position_index = positions_BT[self._valid]
        # Rows side by side are seen through a view; only scattered ones are gathered.
        beside = all(later == row + 1 for row, later in itertools.pairwise(rows))
        self._seen_rows = slice(rows[0], rows[0] + len(rows)) if beside else index

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values [rows, kv_heads, tokens, head_dim]; return what attention shall see."""
        if layer == len(self._keys):
            shape = (self.rows, keys.shape[1], self.capacity, keys.shape[3])
            self._keys.append(keys.new_zeros(shape))
            self._values.append(values.new_zeros((*shape[:3], values.shape[3])))
        stored_keys, stored_values = self._keys[layer], self._values[layer]
        stored_keys[self._row_index, :, self._position_index] = keys.transpose(1, 2)[self._valid]
        stored_values[self._row_index, :, self._position_index] = values.transpose(1, 2)[self._valid]
        return stored_keys[self._seen_rows, :, : self._span], stored_values[self._seen_rows, :, : self._span]

    def get_seq_length(self, layer: int = 0) -> int:
        """Positions seen; transformers asks only when no position ids are given, which we always give."""
        return 0

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row over another's."""
        for stored in (*self._keys, *self._values):
            stored[target, :, :length] = stored[source, :, :length]

    def _reserve(self, positions: int) -> None:
        if positions <= self.capacity:
            return
        wanted = max(_GROWTH, self.capacity)
        while wanted < positions:
            wanted *= 2
        self.capacity = max(positions, min(wanted, self.max_positions))
        for stack in (self._keys, self._values):
            for layer, old in enumerate(stack):
                grown = old.new_zeros(old.shape[0], old.shape[1], self.capacity, old.shape[3])
                grown[:, :, : old.shape[2]] = old
                stack[layer] = grown
