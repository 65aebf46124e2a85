"""What keeps plain text plain: the exact divergence from the base model on one reply set down outside any chat.

Votes judge answers; without this an adapter also changes how the model reads and writes everything else, and its second
round was stopped by the gate's perplexity (docs/log.md). No text is needed but the round's own. At every step another
row t₁ … t_T adds ρ · Σ_t KL(π_base ‖ π), exact at each token over the whole vocabulary, so that one row is enough.
"""

from collections.abc import Sequence
from typing import Any

import torch

from trainer import head


def plain_text_divergence(model: Any, rows: Sequence[list[int]], turn: int) -> torch.Tensor:
    """Return Σ_t KL(π_base ‖ π) over the tokens of plain text number `turn`, for peft's `model`.

    To be called before a step builds any other graph: it switches the adapter off and on.
    """
    row = torch.tensor([rows[turn % len(rows)]], device=model.device)
    if head.fits(model):
        inputs = {"input_ids": row, "attention_mask": torch.ones_like(row), "use_cache": False}
        every = torch.ones_like(row, dtype=torch.bool)
        with torch.no_grad(), model.disable_adapter():
            base_states = head.states_at(model, every, **inputs)
        return head.divergence(head.states_at(model, every, **inputs), base_states, head.weight_of(model))
    with torch.no_grad(), model.disable_adapter():
        base = model(input_ids=row, use_cache=False).logits[0].float().log_softmax(-1)
    policy = model(input_ids=row, use_cache=False).logits[0].float().log_softmax(-1)
    return torch.nn.functional.kl_div(policy, base, log_target=True, reduction="sum")
