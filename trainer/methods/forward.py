"""One forward pass for all of our own losses: sequences in, log-probabilities and hidden states of their tokens out.

Rows are padded on the right, so that positions need no care, and every figure of a row is its own: one batch of eight
equals eight of one. Column t of each result belongs to token t + 1, which it predicts: hidden states are those before
the token was chosen, the state from which a value is read.

Models are in evaluation mode throughout. An adapter without dropout loses nothing by it, and the ratio of PPO's first
minibatch is 1 and not nearly 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from trainer import head
from trainer.encoding import Encoded


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded sequences, each [rows, tokens]: ids, `mask` (1 where there is a token), `scored` (true at completions)."""

    ids: torch.Tensor
    mask: torch.Tensor
    scored: torch.Tensor

    @property
    def inputs(self) -> dict[str, Any]:
        """What a model is called with."""
        return {"input_ids": self.ids, "attention_mask": self.mask, "use_cache": False}

    @property
    def last(self) -> torch.Tensor:
        """The place of each row's last token."""
        return self.mask.sum(-1) - 1


def batch_of(sequences: Sequence[Encoded], device: Any = "cpu") -> Batch:
    """Pad `sequences` on the right."""
    width = max(row.tokens for row in sequences)
    ids_BT = torch.zeros(len(sequences), width, dtype=torch.long)
    mask_BT, scored_BT = torch.zeros_like(ids_BT), torch.zeros_like(ids_BT, dtype=torch.bool)
    for place, row in enumerate(sequences):
        ids_BT[place, : row.tokens] = torch.tensor(row.prompt_ids + row.completion_ids)
        mask_BT[place, : row.tokens] = 1
        scored_BT[place, len(row.prompt_ids) : row.tokens] = True
    return Batch(ids_BT.to(device), mask_BT.to(device), scored_BT.to(device))


def logprobs(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p of the completions' tokens and the entropy there (no gradient), each [rows, tokens − 1], float32,
    nats, zero elsewhere."""
    if head.fits(model):
        found = head.scores(model, labels=batch.ids.masked_fill(~batch.scored, -100), **batch.inputs)
        return found.log_probs, found.entropy
    logits = model(**batch.inputs).logits[:, :-1].float()
    scored = batch.scored[:, 1:]
    all_logprobs = logits.log_softmax(-1)
    own = all_logprobs.gather(-1, batch.ids[:, 1:, None]).squeeze(-1)
    with torch.no_grad():
        entropy = -(all_logprobs.exp() * all_logprobs).sum(-1)
    return own.masked_fill(~scored, 0.0), entropy.masked_fill(~scored, 0.0)


def last_states(model: Any, batch: Batch) -> torch.Tensor:
    """Return the last layer's normalised hidden state at each row's last token [rows, width]."""
    chosen = torch.zeros_like(batch.scored).scatter(1, batch.last[:, None], True)
    return head.states_at(model, chosen, **batch.inputs)


@torch.no_grad()
def logprobs_and_states(model: Any, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Return log p [rows, tokens − 1] and the hidden states before each token [rows, tokens − 1, width] of one pass,
    zero where nothing is scored."""
    states_TH = head.states_before(model, batch.scored, **batch.inputs)
    scored = batch.scored[:, 1:]
    states = torch.zeros(*scored.shape, states_TH.shape[-1], device=states_TH.device)
    states[scored] = states_TH.float()
    if not head.fits(model):
        return logprobs(model, batch)[0], states
    found = torch.zeros(scored.shape)
    return found.masked_scatter(
        scored, head.of_states(states_TH, head.weight_of(model), batch.ids[:, 1:][scored])
    ), states


def shortest_first(sequences: Sequence[Encoded], most: int) -> list[list[int]]:
    """Return places in batches of at most `most` sequences of about equal length."""
    order = sorted(range(len(sequences)), key=lambda place: sequences[place].tokens)
    return [order[start : start + most] for start in range(0, len(order), most)]
