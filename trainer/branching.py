"""Log-probabilities of several short continuations of one text each, with the text read once.

For probes: how likely is a refusal against an answer, the right option against the wrong ones. The two policies get
the very same texts, so that their difference has no sampling noise at all: two equal policies differ by exactly 0, and
forty prompts tell a few points apart where drawn replies would need hundreds.

On a processor the texts and the trees of their branches are rows without padding (see branch_packing.py), over lower
layers that are computed once for both policies; elsewhere they are padded batches over a cache of the texts.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch

from trainer import head, trunk
from trainer.branch_packing import pack_branches, shared_beginning
from trainer.packing import Ids

_ROW_BATCH = 8
_ROW_TOKENS = 512
"""Of a packed row: more gains nothing, and its hidden states stay small."""


@torch.no_grad()
def branch_logprobs(
    model: Any,
    texts: Sequence[Ids],
    branches: Sequence[Sequence[Ids]],
    batch: int = _ROW_BATCH,
    *,
    least: float = 0.0,
) -> list[list[float]]:
    """Return for every text the log p(branch | text), in nats, of each of its branches.

    Every text has as many branches as the first. A branch whose first token is less likely than `least` is not read
    on: it counts with that token's probability, which is too high by less than `least`, for every policy alike.
    Raises ValueError for an empty branch or text.
    """
    if any(not text for text in texts) or any(not branch for row in branches for branch in row):
        raise ValueError("a text or a branch has no tokens; wanted: at least one each")
    model.eval()
    if not texts:
        return []
    longest = max(len(text) + max(map(len, row)) for text, row in zip(texts, branches, strict=True))
    if trunk.fits(model, longest) and head.fits(model):
        return _packed(model, texts, branches, least)
    found: list[list[float]] = [[]] * len(texts)
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), batch):
        places = order[start : start + batch]
        scored = _score(model, [texts[place] for place in places], [branches[place] for place in places], least)
        for place, values in zip(places, scored, strict=True):
            found[place] = values
    return found


def _packed(model: Any, texts: Sequence[Ids], branches: Sequence[Sequence[Ids]], least: float) -> list[list[float]]:
    """As `branch_logprobs`, over packed rows. Every branch is read on, and what is too unlikely is left out again: its
    tokens are few, and a second pass over the texts would cost more."""
    shared = shared_beginning(texts)
    weight = head.weight_of(model)
    found: list[list[float]] = []
    for start, end in _rows_of(
        [len(text) - shared + sum(map(len, own)) for text, own in zip(texts, branches, strict=True)]
    ):
        row = pack_branches(texts[start:end], branches[start:end], shared)
        places = [place for text in row.places for branch in text for place in branch]
        targets = [token for text in branches[start:end] for branch in text for token in branch]
        once, which = torch.tensor(places).unique(return_inverse=True)  # type: ignore[no-untyped-call]
        states = trunk.trunk_of(model).row_states(row.packed, once)
        values = iter(head.of_several(states, weight, which, torch.tensor(targets)).tolist())
        for text in branches[start:end]:
            read = [[next(values) for _ in branch] for branch in text]
            found.append([sum(own) if math.exp(min(own[0], 0.0)) >= least else own[0] for own in read])
    return found


def _rows_of(tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Cut texts of so many tokens each into runs of about as many as a row shall have."""
    cuts, filled = [0], 0
    for place, own in enumerate(tokens):
        if place > cuts[-1] and filled + own > _ROW_TOKENS:
            cuts.append(place)
            filled = 0
        filled += own
    return list(itertools.pairwise([*cuts, len(tokens)]))


def _score(model: Any, texts: list[Ids], branches: list[Sequence[Ids]], least: float) -> list[list[float]]:
    device = next(model.parameters()).device
    many, width = len(branches[0]), max(len(text) for text in texts)
    ids_BT = torch.zeros(len(texts), width, dtype=torch.long)
    mask_BT = torch.zeros(len(texts), width, dtype=torch.long)
    for place, text in enumerate(texts):  # padded on the left: all end at the same place
        ids_BT[place, width - len(text) :] = torch.tensor(text)
        mask_BT[place, width - len(text) :] = 1
    read = model(
        input_ids=ids_BT.to(device),
        attention_mask=mask_BT.to(device),
        position_ids=(mask_BT.cumsum(-1) - 1).clamp(min=0).to(device),
        use_cache=True,
        logits_to_keep=1,
    )
    first_BV = read.logits[:, -1].float().log_softmax(-1).cpu()
    flat = [branch for row in branches for branch in row]
    totals = [float(first_BV[place // many, branch[0]]) for place, branch in enumerate(flat)]
    going_on = [
        place for place, branch in enumerate(flat) if len(branch) > 1 and math.exp(min(totals[place], 0.0)) >= least
    ]
    if going_on:
        rest = _score_rest(model, read.past_key_values, mask_BT, [flat[place] for place in going_on], going_on, many)
        for place, more in zip(going_on, rest, strict=True):
            totals[place] += more
    return [totals[place * many : (place + 1) * many] for place in range(len(texts))]


def _score_rest(
    model: Any, cache: Any, mask_BT: torch.Tensor, flat: list[Ids], places: list[int], many: int
) -> list[float]:
    """The log-probabilities of these branches' tokens after their first. places: of each among all, `many` a text."""
    device = next(model.parameters()).device
    longest = max(len(branch) for branch in flat)
    texts_N = torch.tensor([place // many for place in places])
    cache.batch_select_indices(texts_N.to(device))
    before_NT = mask_BT[texts_N]
    ids_NL = torch.zeros(len(flat), longest - 1, dtype=torch.long)
    mask_NL = torch.zeros(len(flat), longest - 1, dtype=torch.long)
    for place, branch in enumerate(flat):
        if len(branch) > 1:
            ids_NL[place, : len(branch) - 1] = torch.tensor(branch[:-1])
            mask_NL[place, : len(branch) - 1] = 1
    positions_NL = before_NT.sum(-1, keepdim=True) + torch.arange(longest - 1)
    logits_NLV = model(
        input_ids=ids_NL.to(device),
        attention_mask=torch.cat([before_NT, mask_NL], -1).to(device),
        position_ids=positions_NL.to(device),
        past_key_values=cache,
        use_cache=True,
    ).logits
    logprobs_NLV = logits_NLV.float().log_softmax(-1).cpu()
    return [
        sum(float(logprobs_NLV[place, at, token]) for at, token in enumerate(branch[1:]))
        for place, branch in enumerate(flat)
    ]


def share_of_first(logprobs: Sequence[float], first: int) -> float:
    """Return the probability that one of the first `first` branches comes, given that one of all does."""
    most = max(logprobs)
    weights = [math.exp(value - most) for value in logprobs]
    return sum(weights[:first]) / sum(weights)
