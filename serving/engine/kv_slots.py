"""The key-value cache of one generation: a block of rows, one reply each, that join and leave between steps.

A transformers model takes any object with `update` as its cache, so this one serves every architecture. Two modes:

- prefill: prompts of several rows arrive left-padded together. Their keys are written to their rows, and attention
  runs over what just arrived (a prompt sees only itself).
- decode: one new token a row. It is written at the row's own position, and attention runs over views of the rows in
  use, so nothing is copied, gathered or padded; a mask hides what lies beyond a row's position.

Rows in use are always 0..n-1: a row that leaves is overwritten by the last one.
"""

import torch

_GROWTH = 256


class KVSlots:
    """Keys and values of `rows` replies in `layers` layers, as [rows, kv_heads, positions, head_dim] per layer.

    Storage is made at the first write (shapes come from the model itself) and grows by doubling up to `max_positions`.
    """

    def __init__(self, rows: int, max_positions: int, device: torch.device) -> None:
        self.rows, self.max_positions, self.device = rows, max_positions, device
        self.capacity = 0
        self._keys: list[torch.Tensor] = []
        self._values: list[torch.Tensor] = []
        self._row_index = torch.empty(0, dtype=torch.long)
        self._position_index = torch.empty(0, dtype=torch.long)
        self._span = 0
        self._valid: torch.Tensor | None = None

    def begin_prefill(self, first_row: int, lengths: list[int]) -> None:
        """The next `update` of every layer brings prompts of `lengths` tokens, left-padded, for rows first_row…"""
        longest = max(lengths)
        self._reserve(longest)
        padding = longest - torch.tensor(lengths, device=self.device)
        offsets = torch.arange(longest, device=self.device)[None, :] - padding[:, None]
        self._valid = offsets >= 0
        rows = torch.arange(first_row, first_row + len(lengths), device=self.device)[:, None].expand_as(offsets)
        self._row_index, self._position_index = rows[self._valid], offsets[self._valid]

    def begin_decode(self, positions: torch.Tensor) -> None:
        """The next `update` of every layer brings one token for each of rows 0..n-1, at `positions` [n]."""
        self._valid = None
        self._span = int(positions.max()) + 1
        self._reserve(self._span)
        self._row_index, self._position_index = torch.arange(len(positions), device=self.device), positions

    @property
    def span(self) -> int:
        """Positions that the present decode step looks at."""
        return self._span

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer: int, *_: object, **__: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store a layer's new keys and values [rows, kv_heads, tokens, head_dim]; return what attention shall see."""
        if layer == len(self._keys):
            shape = (self.rows, keys.shape[1], self.capacity, keys.shape[3])
            self._keys.append(keys.new_zeros(shape))
            self._values.append(values.new_zeros(shape))
        stored_keys, stored_values = self._keys[layer], self._values[layer]
        if self._valid is not None:
            stored_keys[self._row_index, :, self._position_index] = keys.transpose(1, 2)[self._valid]
            stored_values[self._row_index, :, self._position_index] = values.transpose(1, 2)[self._valid]
            return keys, values
        stored_keys[self._row_index, :, self._position_index] = keys[:, :, 0]
        stored_values[self._row_index, :, self._position_index] = values[:, :, 0]
        rows = len(self._row_index)
        return stored_keys[:rows, :, : self._span], stored_values[:rows, :, : self._span]

    def get_seq_length(self, layer: int = 0) -> int:
        """Positions seen; transformers asks only when no position ids are given, which we always give."""
        return 0

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row over another: for a shared prompt, or to fill a hole."""
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
