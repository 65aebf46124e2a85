"""The weights of a Llama-shaped generation, laid out for a processor: projections that read the same input are one
matrix, and what an adapter does not touch is shared with the other generations."""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from serving.engine.blocked_linear import BLOCK, BlockedLinear
from serving.engine.llama_shape import LlamaShape
from serving.engine.packed_linear import PackedLinear

_FUSED = {
    "qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "output": ("self_attn.o_proj",),
    "gate_up": ("mlp.gate_proj", "mlp.up_proj"),
    "down": ("mlp.down_proj",),
}


@dataclass(frozen=True, slots=True)
class Projection:
    """One matrix, packed by oneDNN or blocked for the C++ kernels. Both only where oneDNN has instructions for large
    products that the kernels lack (AMX): it costs the memory twice."""

    packed: PackedLinear | None
    blocked: BlockedLinear | None

    @property
    def many(self) -> PackedLinear | BlockedLinear:
        """What multiplies many tokens."""
        chosen = self.packed or self.blocked
        assert chosen is not None
        return chosen


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


def has_amx() -> bool:
    """Whether the processor multiplies tiles of bfloat16 (AMX), which oneDNN uses and the C++ kernels do not."""
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(capabilities.get("amx_bf16"))


def fits_kernels(shape: LlamaShape, dtype: torch.dtype) -> bool:
    """Whether the C++ step takes a model of these sizes: whole blocks everywhere but in the vocabulary."""
    widths = (shape.hidden, shape.intermediate, (shape.heads + 2 * shape.kv_heads) * shape.head_dim)
    even = shape.heads * shape.head_dim % 2 == 0
    return dtype in {torch.float32, torch.bfloat16} and even and all(width % BLOCK == 0 for width in widths)


def pack_model(
    model: Any,
    shape: LlamaShape,
    shared: dict[str, Projection],
    merged: Mapping[str, torch.Tensor],
    kernels: ctypes.CDLL | None = None,
) -> PackedModel:
    """Pack a model of `shape` with the weights of some layers (path → weight) replaced. Matrices of which no part is
    replaced are taken from `shared`, or put there."""
    embedding = model.model.embed_tokens.weight.detach()
    if not fits_kernels(shape, embedding.dtype):
        kernels = None

    def project(key: str, paths: tuple[str, ...]) -> Projection:
        own = not merged.keys().isdisjoint(paths)
        if not own and key in shared:
            return shared[key]
        linears = [model.get_submodule(path) for path in paths]
        weights = [merged.get(path, linear.weight.detach()) for path, linear in zip(paths, linears, strict=True)]
        biases = _biases(linears, weights)
        packed = blocked = None
        if kernels is None or has_amx():
            packed = PackedLinear(torch.cat(weights), None if biases is None else torch.cat(biases))
        if kernels is not None:
            blocked = BlockedLinear(kernels, weights, biases, in_turns=key.endswith("gate_up"))
        made = Projection(packed, blocked)
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


def _biases(linears: list[Any], weights: list[torch.Tensor]) -> list[torch.Tensor] | None:
    """Biases to be fused; zeros stand for the bias that one lacks, None for all where none has any."""
    if all(linear.bias is None for linear in linears):
        return None
    return [
        weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()
        for linear, weight in zip(linears, weights, strict=True)
    ]
