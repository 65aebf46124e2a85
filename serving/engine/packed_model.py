"""The weights of a Llama-shaped generation, laid out for a processor: projections that read the same input are one
packed matrix, and what an adapter does not touch is shared with the other generations."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch

from serving.engine.llama_shape import LlamaShape
from serving.engine.packed_linear import PackedLinear

_FUSED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """One decoder layer. The head norms are None where the model has none."""

    input_norm: torch.Tensor
    attention_norm: torch.Tensor
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    qkv: PackedLinear
    output: PackedLinear
    gate_up: PackedLinear
    down: PackedLinear


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A generation's weights, read-only. Where there are C++ kernels, `plain` is the transformers model that the
    weights were packed from: the kernels read it as it is. Elsewhere it is let go."""

    shape: LlamaShape
    embedding: torch.Tensor
    layers: tuple[PackedLayer, ...]
    norm: torch.Tensor
    head: PackedLinear
    rotary: Any
    plain: Any
    kernels: ctypes.CDLL | None

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of the activations that torch computes."""
        return self.embedding.dtype

    def rope_tables(self, positions: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines [positions, head_dim] in the model's dtype, as transformers computes them."""
        index = torch.arange(positions)[None]
        cosines, sines = self.rotary(self.embedding[:1], index)
        return cosines[0].contiguous(), sines[0].contiguous()


def pack_model(
    model: Any,
    shape: LlamaShape,
    shared: dict[str, PackedLinear],
    touched: frozenset[str],
    kernels: ctypes.CDLL | None = None,
) -> PackedModel:
    """Pack a merged model of `shape`. Matrices of which no part is named in `touched` are taken from `shared`, or put
    there."""

    def packed(key: str, paths: tuple[str, ...]) -> PackedLinear:
        own = not touched.isdisjoint(paths)
        if not own and key in shared:
            return shared[key]
        linears = [model.get_submodule(path) for path in paths]
        weight = torch.cat([linear.weight.detach() for linear in linears])
        biases = [linear.bias for linear in linears]
        bias = None
        if any(part is not None for part in biases):
            bias = torch.cat(
                [
                    linear.weight.new_zeros(linear.out_features) if part is None else part.detach()
                    for linear, part in zip(linears, biases, strict=True)
                ]
            )
        made = PackedLinear(weight, bias)
        if not own:
            shared[key] = made
        return made

    layers = []
    for place, layer in enumerate(model.model.layers):
        prefix = f"model.layers.{place}."
        fused = {
            name: packed(f"{prefix}{name}", tuple(f"{prefix}{path}" for path in paths))
            for name, paths in _FUSED.items()
        }
        layers.append(
            PackedLayer(
                input_norm=layer.input_layernorm.weight.detach(),
                attention_norm=layer.post_attention_layernorm.weight.detach(),
                query_norm=layer.self_attn.q_norm.weight.detach() if shape.head_norms else None,
                key_norm=layer.self_attn.k_norm.weight.detach() if shape.head_norms else None,
                **fused,
            )
        )
    return PackedModel(
        shape=shape,
        embedding=model.model.embed_tokens.weight.detach(),
        layers=tuple(layers),
        norm=model.model.norm.weight.detach(),
        head=packed("lm_head", ("lm_head",)),
        rotary=model.model.rotary_emb,
        plain=model if kernels is not None else None,
        kernels=kernels,
    )
