"""Texts with several continuations each as one row of tokens in which no token stands twice.

What all texts begin with alike (the template's system turn) stands once, then each text's own tokens and behind them
its continuations as a tree: "I'm sorry" and "I'm unable" share "I'm". A last token is only predicted, so it does not
stand there at all. A text and its tree are one segment of attention (see packing.py), however many branches there are.

    text a b, branches x y and x z and w        row  a b x        predicted  from b: x, w    from x: y, z
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from trainer.packing import Ids, Packed, Segment

_LEAST_SHARED = 4


@dataclass(frozen=True, slots=True)
class Branches:
    """A packed row, and for each branch of each text the place from which every one of its tokens is predicted."""

    packed: Packed
    places: tuple[tuple[Ids, ...], ...]


def shared_beginning(texts: Sequence[Ids]) -> int:
    """How many tokens all texts begin with and none ends with; 0 for too few to be worth a segment."""
    first, last = min(texts), max(texts)
    most = min(len(text) for text in texts) - 1
    shared = 0
    while shared < most and first[shared] == last[shared]:
        shared += 1
    return shared if shared >= _LEAST_SHARED else 0


def pack_branches(texts: Sequence[Ids], branches: Sequence[Sequence[Ids]], shared: int) -> Branches:
    """Lay out texts, which begin with the same `shared` tokens, and their branches. All have at least one token."""
    ids: list[int] = list(texts[0][:shared])
    positions = list(range(shared))
    segments = [_segment([], [[*range(place + 1)] for place in range(shared)])] if shared else []
    places: list[tuple[Ids, ...]] = []
    paths: list[torch.Tensor] = []
    for text, own in zip(texts, branches, strict=True):
        start = len(ids)
        ids += text[shared:]
        positions += range(shared, len(text))
        line = [*range(shared), *range(start, len(ids))]
        seen = [line[: place + 1] for place in range(shared, len(line))]
        nodes: dict[Ids, list[int]] = {(): line}
        found = []
        for branch in own:
            for depth in range(1, len(branch)):
                if branch[:depth] not in nodes:
                    nodes[branch[:depth]] = [*nodes[branch[: depth - 1]], len(ids)]
                    seen.append(nodes[branch[:depth]])
                    ids.append(branch[depth - 1])
                    positions.append(len(text) + depth - 1)
            found.append(tuple(nodes[branch[:depth]][-1] for depth in range(len(branch))))
        places.append(tuple(found))
        paths.append(torch.tensor(line))
        segments.append(_segment(list(range(shared)), seen))
    return Branches(
        Packed(torch.tensor([ids]), torch.tensor([positions]), tuple(segments), tuple(paths)), tuple(places)
    )


def _segment(before: list[int], seen: list[list[int]]) -> Segment:
    """A segment of tokens in a line, each of which attends to the places that `seen` holds of it, its own the last."""
    start = seen[0][-1]
    path = [*before, *range(start, start + len(seen))]
    column = {place: number for number, place in enumerate(path)}
    hidden = torch.ones(len(seen), len(path), dtype=torch.bool)
    for row, own in enumerate(seen):
        hidden[row, [column[place] for place in own]] = False
    return Segment(start, start + len(seen), torch.tensor(path), hidden)
