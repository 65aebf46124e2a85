"""The weights of a Llama-shaped generation, laid out for a processor: projections that read the same input are one
matrix, and what an adapter does not touch is shared with the other generations."""

import ctypes
from dataclasses import dataclass
from typing import Any

import torch

from serving.engine.llama_shape import LlamaShape
from serving.engine.packed_linear import PackedLinear

BLOCK = 16
_FUSED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True, slots=True)
class Blocked:
    """A matrix as the C++ step reads it: blocks of 16 outputs, float32 [inputs, 16] or bfloat16 [inputs / 2, 16, 2],
    outputs padded with zeros; the bias in float32, padded alike."""

    weight: torch.Tensor
    bias: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Projection:
    """One matrix in the layouts that are used: packed by oneDNN for many tokens, blocked for few where there are C++
    kernels. Costs the memory of both."""

    packed: PackedLinear
    blocked: Blocked | None


@dataclass(frozen=True, slots=True)
class PackedLayer:
    """One decoder layer. The head norms are None where the model has none."""

    input_norm: torch.Tensor
    attention_norm: torch.Tensor
    query_norm: torch.Tensor | None
    key_norm: torch.Tensor | None
    qkv: Projection
    output: Projection
    gate_up: Projection
    down: Projection


@dataclass(frozen=True, slots=True)
class PackedModel:
    """A generation's weights, read-only. `kernels` is None where decoding runs on torch operators alone."""

    shape: LlamaShape
    embedding: torch.Tensor
    layers: tuple[PackedLayer, ...]
    norm: torch.Tensor
    head: Projection
    rotary: Any
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


def fits_kernels(shape: LlamaShape, dtype: torch.dtype) -> bool:
    """Whether the C++ step takes a model of these sizes: whole blocks everywhere but in the vocabulary."""
    widths = (shape.hidden, shape.intermediate, (shape.heads + 2 * shape.kv_heads) * shape.head_dim)
    even = shape.heads * shape.head_dim % 2 == 0
    return dtype in {torch.float32, torch.bfloat16} and even and all(width % BLOCK == 0 for width in widths)


def pack_model(
    model: Any,
    shape: LlamaShape,
    shared: dict[str, Projection],
    touched: frozenset[str],
    kernels: ctypes.CDLL | None = None,
) -> PackedModel:
    """Pack a merged model of `shape`. Matrices of which no part is named in `touched` are taken from `shared`, or put
    there."""
    embedding = model.model.embed_tokens.weight.detach()
    if not fits_kernels(shape, embedding.dtype):
        kernels = None

    def project(key: str, paths: tuple[str, ...]) -> Projection:
        own = not touched.isdisjoint(paths)
        if not own and key in shared:
            return shared[key]
        weights, biases = _parts([model.get_submodule(path) for path in paths])
        bias = None if biases is None else torch.cat(biases)
        blocked = None if kernels is None else _blocked(weights, biases, in_turns=key.endswith("gate_up"))
        made = Projection(PackedLinear(torch.cat(weights), bias), blocked)
        if not own:
            shared[key] = made
        return made

    layers = []
    for place, layer in enumerate(model.model.layers):
        prefix = f"model.layers.{place}."
        fused = {
            name: project(f"{prefix}{name}", tuple(f"{prefix}{path}" for path in paths))
            for name, paths in _FUSED.items()
        }
        layers.append(
            PackedLayer(
                input_norm=layer.input_layernorm.weight.detach().contiguous(),
                attention_norm=layer.post_attention_layernorm.weight.detach().contiguous(),
                query_norm=layer.self_attn.q_norm.weight.detach().contiguous() if shape.head_norms else None,
                key_norm=layer.self_attn.k_norm.weight.detach().contiguous() if shape.head_norms else None,
                **fused,
            )
        )
    return PackedModel(
        shape=shape,
        embedding=embedding.contiguous(),
        layers=tuple(layers),
        norm=model.model.norm.weight.detach().contiguous(),
        head=project("lm_head", ("lm_head",)),
        rotary=model.model.rotary_emb,
        kernels=kernels,
    )


def _parts(linears: list[Any]) -> tuple[list[torch.Tensor], list[torch.Tensor] | None]:
    """Weights and biases to be fused; zeros stand for the bias that one lacks, None for all where none has any."""
    weights = [linear.weight.detach() for linear in linears]
    if all(linear.bias is None for linear in linears):
        return weights, None
    return weights, [
        weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        for linear, weight in zip(linears, weights, strict=True)
    ]


def _blocked(weights: list[torch.Tensor], biases: list[torch.Tensor] | None, *, in_turns: bool) -> Blocked:
    """Lay out fused weights for the C++ step. In turns: a block of the first, one of the second, and so on."""

    def fuse(parts: list[torch.Tensor]) -> torch.Tensor:
        if in_turns:
            return torch.stack([part.unflatten(0, (-1, BLOCK)) for part in parts], dim=1).flatten(0, 2)
        return torch.cat(parts)

    weight = fuse(weights)
    missing = -len(weight) % BLOCK
    weight = torch.nn.functional.pad(weight, (0, 0, 0, missing))
    pair = 2 if weight.dtype == torch.bfloat16 else 1
    blocks = weight.view(-1, BLOCK, weight.shape[1] // pair, pair).transpose(1, 2).contiguous()
    bias = None if biases is None else torch.nn.functional.pad(fuse(biases).float(), (0, missing)).contiguous()
    return Blocked(blocks, bias)
