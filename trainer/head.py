"""Log-probabilities of completions through a frozen output head, for training and scoring on a CPU.

transformers' own head works on whole rows, padding included, and copies its weight once for each row when only the last
positions are asked for. trl's fused head scores every position on a CPU, prompts and padding too, and computes the
gradient of the head's weight although an adapter leaves it frozen. On a vocabulary of 49,152 that was half of a
training step. Here only completion tokens are scored, and the one gradient is the hidden states'.
"""

from dataclasses import dataclass
from typing import Any

import torch

from trainer import trunk

_CHUNK = 128
"""Tokens scored at a time: their logits (25 MB at 49,152 words in float32) stay near the processor's cache."""
_SCALED = ("final_logit_softcapping", "logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")
"""Settings of models whose logits are more than one matrix product; they keep trl's head, which knows them."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What trl's trainers read of a forward pass; each of shape [rows, tokens − 1], zero where nothing is scored."""

    log_probs: torch.Tensor
    entropy: torch.Tensor
    mean_logits: torch.Tensor
    is_top1: torch.Tensor


def fits(model: Any) -> bool:
    """Whether the model's head is a frozen plain matrix on a CPU."""
    causal = model.get_base_model()
    head: Any = causal.get_output_embeddings()
    config = causal.config.get_text_config()
    return (
        type(head) is torch.nn.Linear
        and getattr(head, "bias", None) is None
        and head.weight.device.type == "cpu"
        and not head.weight.requires_grad
        and all(getattr(config, name, None) in (None, 1, 1.0) for name in _SCALED)
    )


def scores(model: Any, *, labels: torch.Tensor, **inputs: Any) -> Scores:
    """Score the tokens of `labels` [rows, tokens] that are not −100, each given those before it."""
    targets = labels[:, 1:]
    scored = targets != -100
    log_probs, entropy, mean_logits, is_top1 = _FrozenHead.apply(  # type: ignore[no-untyped-call]
        states_before(model, labels != -100, **inputs), weight_of(model), targets[scored]
    )

    def placed(values: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(scored.shape, dtype=values.dtype)
        return whole.masked_scatter(scored, values)

    return Scores(placed(log_probs), placed(entropy), placed(mean_logits), placed(is_top1))


def weight_of(model: Any) -> torch.Tensor:
    """The head's matrix [words, width]."""
    weight: torch.Tensor = model.get_base_model().get_output_embeddings().weight
    return weight


def states_before(model: Any, scored: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Return the hidden states from which the tokens where `scored` [rows, tokens] is true are predicted, as
    `states_at` does. Never a row's first token."""
    return states_at(model, torch.nn.functional.pad(scored[:, 1:], (0, 1)), **inputs)


def states_at(model: Any, chosen: torch.Tensor, **inputs: Any) -> torch.Tensor:
    """Return the last layer's normalised hidden states where `chosen` [rows, tokens] is true [tokens, width], in row
    order. `inputs`: what the model is called with."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
    if trunk.fits(model, ids.shape[1]):
        rows = [tuple(row[own].tolist()) for row, own in zip(ids, mask, strict=True)]
        wanted = [torch.nonzero(row[own])[:, 0] for row, own in zip(chosen, mask, strict=True)]
        return trunk.trunk_of(model).states(rows, wanted)
    hidden: torch.Tensor = model.get_base_model().base_model(**inputs).last_hidden_state
    return hidden[chosen]


@torch.no_grad()
def of_states(hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return log p of `targets` [T], each given its hidden state [T, width], without a gradient: float32."""
    found = torch.empty(len(targets))
    for start in range(0, len(targets), _CHUNK):
        part = slice(start, start + _CHUNK)
        logits = (hidden[part].to(weight.dtype) @ weight.T).float()
        found[part] = logits.gather(-1, targets[part, None]).squeeze(-1) - logits.logsumexp(-1)
    return found


@torch.no_grad()
def of_several(hidden: torch.Tensor, weight: torch.Tensor, places: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """As `of_states`, of any number of targets to each hidden state: the state of target number i is `places[i]`."""
    found = torch.empty(len(targets))
    for start in range(0, len(hidden), _CHUNK):
        here = torch.nonzero((places >= start) & (places < start + _CHUNK))[:, 0]
        logits = (hidden[start : start + _CHUNK].to(weight.dtype) @ weight.T).float()
        totals = logits.logsumexp(-1)
        own = places[here] - start
        found[here] = logits[own, targets[here]] - totals[own]
    return found


def divergence(policy: torch.Tensor, base: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return Σ_t KL(p_base ‖ p_policy) in nats over hidden states [T, width] of both; the gradient is the policy's."""
    found: torch.Tensor = _Divergence.apply(policy, base, weight)  # type: ignore[no-untyped-call]
    return found


class _Divergence(torch.autograd.Function):
    """∂/∂h of Σ_v p_base (log p_base − log p), p = softmax(W h), is (p − p_base)ᵀ W."""

    @staticmethod
    def forward(ctx: Any, policy: torch.Tensor, base: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(())
        differences = torch.empty(len(policy), weight.shape[0], dtype=weight.dtype)
        for start in range(0, len(policy), _CHUNK):
            part = slice(start, start + _CHUNK)
            own = (policy[part].to(weight.dtype) @ weight.T).float().log_softmax(-1)
            other = (base[part].to(weight.dtype) @ weight.T).float().log_softmax(-1)
            share = other.exp()
            total += torch.linalg.vecdot(share, other.sub_(own)).sum()
            differences[part] = own.exp_().sub_(share)
        ctx.save_for_backward(weight, differences)
        ctx.dtype = policy.dtype
        return total

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        weight, differences = ctx.saved_tensors
        return (gradient * (differences @ weight).float()).to(ctx.dtype), None, None


class _FrozenHead(torch.autograd.Function):
    """hidden [T, D], weight [V, D], targets [T] → log p(target), entropy, mean logit, whether the target is likeliest.

    With p = softmax(W h), ∂ log p_y / ∂h = W_y − pᵀW. The probabilities are kept in the weight's type for it.
    """

    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        tokens = hidden.shape[0]
        learns = ctx.needs_input_grad[0]
        probabilities = torch.empty(tokens if learns else 0, weight.shape[0], dtype=weight.dtype)
        found, is_top1 = torch.empty(3, tokens), torch.empty(tokens, dtype=torch.bool)
        for start in range(0, tokens, _CHUNK):
            part = slice(start, start + _CHUNK)
            logits = (hidden[part].to(weight.dtype) @ weight.T).float()
            at_target = logits.gather(-1, targets[part, None]).squeeze(-1)
            most = logits.amax(-1)
            is_top1[part] = at_target >= most
            found[2, part] = logits.mean(-1)
            at_target -= most
            share = logits.sub_(most[:, None]).exp()
            total = share.sum(-1)
            log_sum = total.log()
            found[0, part] = at_target - log_sum
            found[1, part] = log_sum - torch.linalg.vecdot(share, logits).div_(total)
            if learns:
                torch.div(share, total[:, None], out=probabilities[part])
        ctx.save_for_backward(weight, targets, probabilities)
        ctx.dtype = hidden.dtype
        log_probs, entropy, mean_logits = found.unbind()
        ctx.mark_non_differentiable(entropy, mean_logits, is_top1)
        return log_probs, entropy, mean_logits, is_top1

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor, *_: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        weight, targets, probabilities = ctx.saved_tensors
        expected = probabilities @ weight  # [T, D]
        return (gradient[:, None] * (weight[targets].float() - expected.float())).to(ctx.dtype), None, None
