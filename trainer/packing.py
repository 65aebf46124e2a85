"""Several sequences as one row of tokens in which no token stands twice: what they begin with alike is computed once.

Two replies to one prompt share the prompt, and all prompts share the template's system turn. A token's hidden state
depends on the tokens before it alone, so the sequences are laid out as a tree: each adds only the tokens by which it
leaves those before it, and a token attends to its own path from the root. Nothing is padded.

    a b c d e      a b c d e x y          positions 0 1 2 3 4 3 4
    a b c x y                             path of the second: a b c x y

`tree_attention` computes this exactly, segment by segment, with the softmax in float32. Torch's own kernel for a
processor takes four times as long for the backward pass of sequences as short as a chat's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

Ids = tuple[int, ...]

_LEAST_SHARED = 4
"""A beginning of fewer tokens is computed again: looking it up would cost as much."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, end) of the row, the places of all tokens that any of them attends to, with themselves, and which
    of these places each does not: `hidden` [its tokens, places]."""

    start: int
    end: int
    path: torch.Tensor
    hidden: torch.Tensor


@dataclass(frozen=True, slots=True)
class Packed:
    """The row: ids and positions [1, tokens]; `paths` holds each sequence's tokens by their places in the row."""

    ids: torch.Tensor
    positions: torch.Tensor
    segments: tuple[Segment, ...]
    paths: tuple[torch.Tensor, ...]


def pack(sequences: Sequence[Ids]) -> Packed:
    """Lay sequences out as a tree. Raises ValueError for an empty one."""
    ids: list[int] = []
    positions: list[int] = []
    segments: list[Segment] = []
    paths: list[list[int]] = []
    for sequence in sequences:
        if not sequence:
            raise ValueError("a sequence has no tokens; wanted: at least one")
        shared, path = 0, list[int]()
        for other, places in zip(sequences, paths, strict=False):
            length = _shared(sequence, other, shared)
            if length > shared:
                shared, path = length, places[:length]
        if shared < _LEAST_SHARED:
            shared, path = 0, []
        start = len(ids)
        ids += sequence[shared:]
        positions += range(shared, len(sequence))
        path += range(start, len(ids))
        paths.append(path)
        if len(ids) > start:
            segments.append(Segment(start, len(ids), torch.tensor(path), later_places(len(ids) - start, len(path))))
    return Packed(
        torch.tensor([ids]), torch.tensor([positions]), tuple(segments), tuple(torch.tensor(path) for path in paths)
    )


def later_places(own: int, path: int) -> torch.Tensor:
    """Which of `path` places come after each of the last `own` of them."""
    return torch.ones(own, path, dtype=torch.bool).triu(path - own + 1)


def _shared(one: Ids, other: Ids, at_least: int) -> int:
    """How many tokens both begin with; 0 where it is not more than `at_least`."""
    if one[: at_least + 1] != other[: at_least + 1]:
        return 0
    limit = min(len(one), len(other))
    length = min(at_least + 1, limit)
    while length < limit and one[length] == other[length]:
        length += 1
    return length


def tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float,
    packed: Packed,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as transformers' modules call it: query [1, heads, tokens, d], key and value [1, key heads, tokens, d]
    → [1, tokens, heads, d]."""
    return _TreeAttention.apply(query, key, value, scaling, packed.segments), None  # type: ignore[no-untyped-call]


class _TreeAttention(torch.autograd.Function):
    """With S = scale · Q Kᵀ, P = softmax(S) over a token's path and O = P V:

    ∂V = Pᵀ ∂O    ∂S = P ∘ (∂O Vᵀ − rowsum(∂O ∘ O))    ∂Q = scale · ∂S K    ∂K = scale · ∂Sᵀ Q

    The query heads of one key head are rows of one product: nothing is repeated.
    """

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        scale: float,
        segments: tuple[Segment, ...],
    ) -> torch.Tensor:
        heads, tokens, width = query.shape[1:]
        key_heads = key.shape[1]
        query, key, value = query[0], key[0], value[0]
        exact = torch.promote_types(query.dtype, torch.float32)
        out = torch.empty(tokens, heads, width, dtype=query.dtype, device=query.device)
        shares = []
        for part in segments:
            own, before = part.end - part.start, len(part.path)
            rows = query[:, part.start : part.end].reshape(key_heads, -1, width)
            scores = (rows @ key[:, part.path].mT).to(exact).mul_(scale).view(heads, own, before)
            share = scores.masked_fill_(part.hidden, float("-inf")).softmax(-1).to(query.dtype)
            shares.append(share)
            found = share.view(key_heads, -1, before) @ value[:, part.path]
            out[part.start : part.end] = found.view(heads, own, width).transpose(0, 1)
        ctx.save_for_backward(query, key, value, out, *shares)
        ctx.scale, ctx.segments = scale, segments
        return out[None]

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, out, *shares = ctx.saved_tensors
        heads, _, width = query.shape
        key_heads = key.shape[0]
        gradient = gradients[0][0].transpose(0, 1)  # [heads, tokens, width]
        exact = torch.promote_types(query.dtype, torch.float32)
        along = (gradient.to(exact) * out.transpose(0, 1).to(exact)).sum(-1, keepdim=True)
        to_query = torch.empty_like(query)
        to_key, to_value = torch.zeros_like(key, dtype=exact), torch.zeros_like(value, dtype=exact)
        for part, share in zip(ctx.segments, shares, strict=True):
            before = len(part.path)
            rows = query[:, part.start : part.end].reshape(key_heads, -1, width)
            received = gradient[:, part.start : part.end].reshape(key_heads, -1, width)
            grouped = share.view(key_heads, -1, before)
            to_value.index_add_(1, part.path, (grouped.mT @ received).to(exact))
            to_share = (received @ value[:, part.path].mT).to(exact).view(share.shape)
            to_scores = (to_share - along[:, part.start : part.end]).mul_(share).mul_(ctx.scale).to(query.dtype)
            to_scores = to_scores.view(key_heads, -1, before)
            to_query[:, part.start : part.end] = (to_scores @ key[:, part.path]).view(heads, -1, width)
            to_key.index_add_(1, part.path, (to_scores.mT @ rows).to(exact))
        return to_query[None], to_key.to(key.dtype)[None], to_value.to(value.dtype)[None], None, None
