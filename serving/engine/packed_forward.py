"""The forward of a Llama-shaped model over a ragged step: one C++ call where that pays, else torch operators.

Against transformers' modules it saves the second half of a step: projections are fused and packed, the residual is
added inside the product, keys are written once and seen through views, and the head runs for the tokens that are drawn
from. In float32 it gives the same tokens; in bfloat16 its log-probabilities stay within transformers' own rounding.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional

from serving.engine.blocked_linear import BLOCK
from serving.engine.forward import Piece
from serving.engine.native_step import NativeStep
from serving.engine.packed_model import PackedLayer, PackedModel, has_amx
from serving.engine.ragged import RaggedStep, RowCache, ragged_step

_NATIVE_TOKENS = 512
_NATIVE_TOKENS_BESIDE_AMX = 32
_NATIVE_CHUNK_PAIRS = 65_536
"""A step is one call of the C++ kernels up to so many tokens, and so many pairs of a prompt's new token and a position
of its row. Beyond, torch is ahead: its attention takes many queries of a head at once."""


class PackedForward:
    """See `serving.engine.forward.RowForward`."""

    def __init__(self, model: PackedModel, rows: int, max_positions: int) -> None:
        self._model, self._shape = model, model.shape
        self._cache = RowCache(model.shape, rows, max_positions, model.dtype)
        cosines, sines = model.rope_tables(max_positions)
        half = model.shape.head_dim // 2  # the second half repeats the first
        self._cosines, self._sines = cosines[:, :half].contiguous(), sines[:, :half].contiguous()
        self._native: NativeStep | None = None
        if model.kernels is not None:
            self._native = NativeStep(model.kernels, model, (self._cosines, self._sines))

    def run(self, pieces: Sequence[Piece]) -> torch.Tensor:
        """See RowForward."""
        step = ragged_step(pieces)
        self._cache.reserve(pieces)
        if self._native is not None and _is_small(step):
            return self._native.run(step, self._cache)
        return self._torch_step(step)

    def copy_row(self, source: int, target: int, length: int) -> None:
        """See RowForward."""
        self._cache.copy_row(source, target, length)

    def _torch_step(self, step: RaggedStep) -> torch.Tensor:
        model, shape = self._model, self._shape
        tokens = step.token_ids
        hidden_NH = functional.embedding(tokens, model.embedding)
        rope = (self._cosines[step.positions, None], self._sines[step.positions, None])
        masks = self._masks(step)
        for place, layer in enumerate(model.layers):
            heads_NAD = layer.qkv.many(self._norm(hidden_NH, layer.input_norm)).view(len(tokens), -1, shape.head_dim)
            self._rotate(layer, heads_NAD, rope)
            keys_values = heads_NAD[:, shape.heads :].view(len(tokens), 2, shape.kv_heads, shape.head_dim)
            stored = self._cache.block[place]
            stored[:, step.rows, :, step.positions] = keys_values
            seen_NQ = self._attend(step, masks, heads_NAD[:, : shape.heads], stored)
            hidden_NH = layer.output.many.plus(seen_NQ, hidden_NH)
            gate, up = self._gate_up(layer, self._norm(hidden_NH, layer.attention_norm))
            hidden_NH = layer.down.many.plus(functional.silu(gate).mul_(up).reshape(len(tokens), -1), hidden_NH)
        if len(step.wanted) == 0:
            return torch.empty(0, shape.vocabulary)
        return model.head.many(self._norm(hidden_NH[step.wanted], model.norm)).float()

    def _gate_up(self, layer: PackedLayer, normed_NH: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate_up = layer.gate_up.many(normed_NH)
        if layer.gate_up.packed is not None:
            gate, up = gate_up.split(self._shape.intermediate, dim=-1)
            return gate, up
        gate, up = gate_up.view(len(gate_up), -1, 2, BLOCK).unbind(2)  # blocks in turns
        return gate, up

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return functional.rms_norm(hidden, weight.shape, weight, self._shape.epsilon)

    def _rotate(self, layer: PackedLayer, heads_NAD: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor]) -> None:
        """Norm single heads where the model does, and turn queries and keys to their positions, in place."""
        shape = self._shape
        if layer.query_norm is not None and layer.key_norm is not None:
            keys = slice(shape.heads, shape.heads + shape.kv_heads)
            heads_NAD[:, : shape.heads] = self._norm(heads_NAD[:, : shape.heads], layer.query_norm)
            heads_NAD[:, keys] = self._norm(heads_NAD[:, keys], layer.key_norm)
        turned = heads_NAD[:, : shape.heads + shape.kv_heads]
        first, second = turned.chunk(2, dim=-1)
        cosines, sines = rope
        turned.copy_(torch.cat((first * cosines - second * sines, second * cosines + first * sines), dim=-1))

    def _masks(self, step: RaggedStep) -> list[torch.Tensor]:
        """Which positions are seen: for all single tokens together [rows, 1, 1, span], then for every chunk
        [1, 1, group · tokens, positions]: the query heads that share keys lie in one line."""
        masks = []
        if step.singles:
            positions = step.positions[: len(step.singles)]
            span = max(piece.end for piece in step.singles)
            masks.append((torch.arange(span)[None, :] <= positions[:, None])[:, None, None, :])
        group = self._shape.heads // self._shape.kv_heads
        for piece in step.chunks:
            seen = torch.arange(piece.end)[None, :] <= torch.arange(piece.start, piece.end)[:, None]
            masks.append(seen.repeat(group, 1)[None, None])
        return masks

    def _attend(
        self, step: RaggedStep, masks: list[torch.Tensor], queries_NAD: torch.Tensor, stored: torch.Tensor
    ) -> torch.Tensor:
        """Attention of every token over its own row, [N, heads · head_dim], in `stored` [2, rows, kv_heads, T, D]."""
        shape = self._shape
        group = shape.heads // shape.kv_heads
        parts = []
        begin = len(step.singles)
        if step.singles:
            rows = step.rows[:begin]
            first, last = step.singles[0].row, step.singles[-1].row
            beside = last - first + 1 == begin
            held = stored[:, first : last + 1] if beside else stored[:, rows, :, : masks[0].shape[-1]]
            keys, values = held[:, :, :, : masks[0].shape[-1]]
            queries = queries_NAD[:begin].reshape(begin, shape.kv_heads, group, shape.head_dim)
            seen = functional.scaled_dot_product_attention(queries, keys, values, masks[0], scale=shape.scale)
            parts.append(seen.reshape(begin, -1))
        for piece, mask in zip(step.chunks, masks[1 if step.singles else 0 :], strict=True):
            tokens = len(piece.token_ids)
            queries = queries_NAD[begin : begin + tokens].view(tokens, shape.kv_heads, group, shape.head_dim)
            queries = queries.permute(1, 2, 0, 3).reshape(1, shape.kv_heads, group * tokens, shape.head_dim)
            keys, values = stored[:, piece.row : piece.row + 1, :, : piece.end]
            seen = functional.scaled_dot_product_attention(queries, keys, values, mask, scale=shape.scale)
            seen = seen.view(shape.kv_heads, group, tokens, shape.head_dim).permute(2, 0, 1, 3)
            parts.append(seen.reshape(tokens, -1))
            begin += tokens
        return torch.cat(parts) if len(parts) > 1 else parts[0]


def _is_small(step: RaggedStep) -> bool:
    pairs = sum(len(piece.token_ids) * piece.end for piece in step.chunks)
    tokens = _NATIVE_TOKENS_BESIDE_AMX if has_amx() else _NATIVE_TOKENS
    return len(step.token_ids) <= tokens and pairs <= _NATIVE_CHUNK_PAIRS
