"""Log-probabilities of given texts under a policy: for reference terms, held-out preference, KL and perplexity."""

from collections.abc import Sequence
from typing import Any

import torch

from trainer import head, trunk
from trainer.encoding import Encoded

_ROW_BATCH = 8
# Logits of 8 rows of 100 tokens over 49,152 words take 157 MB in float32; larger batches gain nothing on a CPU.


@torch.no_grad()
def token_logprobs(model: Any, sequences: Sequence[Encoded], batch: int = _ROW_BATCH) -> list[torch.Tensor]:
    """Return for every sequence log p(token | before) of its completion's tokens: float32, nats, on the CPU.

    Rows are padded on the left so that completions end together and the head is computed for them alone. Positions are
    given explicitly, so that padding changes nothing. Sorted inside, returned in the order given. One that comes again
    (a reply that several raters judged) is computed once.
    """
    model.eval()
    once = list(dict.fromkeys(sequences))
    found: dict[Encoded, torch.Tensor] = {}
    for places in scoring_batches(model, once, batch):
        rows = [once[place] for place in places]
        found |= zip(rows, _score(model, rows), strict=True)
    return [found[sequence] for sequence in sequences]


def scoring_batches(model: Any, sequences: Sequence[Encoded], most: int) -> list[list[int]]:
    """Return places in batches of at most `most` sequences: those that begin alike together where that is computed once
    (see trunk.py), else those of about equal length."""
    if sequences and trunk.fits(model, max(row.tokens for row in sequences)):
        order = sorted(range(len(sequences)), key=lambda place: sequences[place].prompt_ids)
    else:
        order = sorted(range(len(sequences)), key=lambda place: sequences[place].tokens)
    return [order[start : start + most] for start in range(0, len(order), most)]


def _score(model: Any, rows: list[Encoded]) -> list[torch.Tensor]:
    device = next(model.parameters()).device
    width = max(row.tokens for row in rows)
    kept = max(len(row.completion_ids) for row in rows)
    ids_BT = torch.zeros(len(rows), width, dtype=torch.long)
    mask_BT = torch.zeros(len(rows), width, dtype=torch.long)
    for place, row in enumerate(rows):
        ids_BT[place, width - row.tokens :] = torch.tensor(row.prompt_ids + row.completion_ids)
        mask_BT[place, width - row.tokens :] = 1
    positions_BT = (mask_BT.cumsum(-1) - 1).clamp(min=0)
    if head.fits(model):
        scored_BT = torch.zeros_like(mask_BT, dtype=torch.bool)
        for place, row in enumerate(rows):
            scored_BT[place, width - len(row.completion_ids) :] = True
        inputs = {"input_ids": ids_BT, "attention_mask": mask_BT, "position_ids": positions_BT, "use_cache": False}
        states = head.states_before(model, scored_BT, **inputs)
        found = head.of_states(states, head.weight_of(model), ids_BT[scored_BT])
        return list(torch.split(found, [len(row.completion_ids) for row in rows]))
    logits_BKV = (
        model(
            input_ids=ids_BT.to(device),
            attention_mask=mask_BT.to(device),
            position_ids=positions_BT.to(device),
            use_cache=False,
            logits_to_keep=kept + 1,
        )
        .logits[:, :-1]
        .float()
    )
    targets_BK = ids_BT[:, width - kept :].to(device)
    logprobs_BK = logits_BKV.gather(-1, targets_BK[..., None]).squeeze(-1) - logits_BKV.logsumexp(-1)
    return [logprobs_BK[place, kept - len(row.completion_ids) :].cpu() for place, row in enumerate(rows)]


def summed_logprobs(model: Any, sequences: Sequence[Encoded]) -> list[float]:
    """Return log p(completion | prompt) of every sequence, in nats."""
    return [float(logprobs.sum()) for logprobs in token_logprobs(model, sequences)]


def text_logprobs(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[torch.Tensor]:
    """Return the token log-probabilities of plain texts, each begun by the model's begin (or else end) token."""
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    encoded = [Encoded((int(begin),), tuple(tokenizer.encode(text, add_special_tokens=False))) for text in texts]
    return token_logprobs(model, encoded)
