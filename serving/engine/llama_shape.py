"""Recognising models of Llama's shape: Llama (SmolLM2 too), Mistral, Qwen2 and Qwen3.

Their decoder layers are the same but for biases on the projections and norms of single query and key heads. Recognition
is strict: known classes, known activation, static rope, and exactly the parameters that the forward of our own uses.
Whatever differs in any of them is run by transformers, slower and right.
"""

from dataclasses import dataclass
from typing import Any

import torch

_MODELS = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
_STATIC_ROPES = {"default", "linear", "llama3", "yarn"}
"""Kinds whose tables depend on the position alone. Others change with the length of the sequence."""
_PROJECTIONS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)
_NORMS = ("input_layernorm", "post_attention_layernorm")
_HEAD_NORMS = ("self_attn.q_norm", "self_attn.k_norm")


@dataclass(frozen=True, slots=True)
class LlamaShape:
    """The sizes of a Llama-shaped model; `scale` multiplies query·key, `epsilon` stands in every norm."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    scale: float
    epsilon: float
    head_norms: bool


def llama_shape(model: Any) -> LlamaShape | None:
    """Return the sizes of `model` when its computation is exactly Llama's, else None."""
    config = model.config
    if type(model).__name__ not in _MODELS or not type(model).__module__.startswith("transformers.models."):
        return None
    if config.hidden_act != "silu" or _rope_type(model) not in _STATIC_ROPES:
        return None
    layers = list(model.model.layers)
    head_norms = hasattr(layers[0].self_attn, "q_norm")
    if {name for name, _ in model.named_parameters(remove_duplicate=False)} != _expected(
        model, len(layers), head_norms
    ):
        return None
    linears = [layer.get_submodule(path) for layer in layers for path in _PROJECTIONS]
    if any(type(linear) is not torch.nn.Linear for linear in (*linears, model.lm_head)):
        return None
    norms = [layer.get_submodule(path) for layer in layers for path in (*_NORMS, *(_HEAD_NORMS if head_norms else ()))]
    epsilons = {float(norm.variance_epsilon) for norm in (*norms, model.model.norm)}
    scales = {float(layer.self_attn.scaling) for layer in layers}
    attention = layers[0].self_attn
    head_dim = int(attention.head_dim)
    if len(epsilons) != 1 or len(scales) != 1 or head_dim % 2 or layers[0].self_attn.q_proj.out_features % head_dim:
        return None
    return LlamaShape(
        layers=len(layers),
        hidden=int(config.hidden_size),
        intermediate=layers[0].mlp.gate_proj.out_features,
        heads=attention.q_proj.out_features // head_dim,
        kv_heads=attention.k_proj.out_features // head_dim,
        head_dim=head_dim,
        vocabulary=model.lm_head.out_features,
        scale=scales.pop(),
        epsilon=epsilons.pop(),
        head_norms=head_norms,
    )


def _rope_type(model: Any) -> str | None:
    rotary = getattr(getattr(model, "model", None), "rotary_emb", None)
    return getattr(rotary, "rope_type", None)


def _expected(model: Any, layers: int, head_norms: bool) -> set[str]:
    """The parameters that a model of this shape has. A bias is expected wherever a projection of layer 0 has one."""
    names = {"model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"}
    first = model.model.layers[0]
    inside = [f"{path}.weight" for path in (*_NORMS, *_PROJECTIONS, *(_HEAD_NORMS if head_norms else ()))]
    for path in _PROJECTIONS:
        module = first
        for part in path.split("."):
            module = getattr(module, part, None)
        if getattr(module, "bias", None) is not None:
            inside.append(f"{path}.bias")
    return names | {f"model.layers.{layer}.{name}" for layer in range(layers) for name in inside}
