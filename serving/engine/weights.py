"""From a base model and a sealed adapter to the merged weights that one generation serves.

Unmerged LoRA costs 28-44 % of the decoding speed, so every generation is merged: W' = W + (α / r) B A, computed in
float32 from the checkpoint's own weights (never by un-merging a former generation, which drifts) and rounded once to
the serving dtype. Whatever the adapter does not touch is shared between generations.

rsLoRA scales by α / √r. DoRA (Liu et al. 2024, arXiv:2402.09353, equation 5) gives each row of V = W + (α / r) B A a
length m of its own: W' = m V / ‖V‖, row by row.
"""

import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from serving.adapters import check_adapter, read_adapter_config
from serving.engine import PolicyRef
from serving.engine.admission import Magnitudes, Pairs, require_fit
from serving.engine.allocator import keep_freed_memory
from serving.engine.base_model import (
    choose_device,
    choose_dtype,
    end_token_ids,
    fingerprint,
    load_model,
    load_tokenizer,
)
from serving.engine.forward import agree
from serving.engine.llama_shape import LlamaShape, llama_shape
from serving.engine.native_build import load_kernels
from serving.engine.packed_linear import PackedLinear, pack_linears, packing_works
from serving.engine.packed_model import PackedModel, Projection, pack_model
from serving.engine.pristine import PristineWeights
from serving.engine.prompts import PromptRenderer
from serving.prompt_fingerprint import prompt_fingerprint
from serving.settings import PolicySettings

logger = logging.getLogger(__name__)

_PREFIX = "base_model.model."


class BaseWeights:
    """A base model opened for serving: tokenizer, prompt renderer, end tokens, and the shared weights."""

    def __init__(self, directory: Path, settings: PolicySettings) -> None:
        self.directory = directory
        self.device = choose_device(settings)
        self.dtype = choose_dtype(settings, self.device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.fingerprint = fingerprint(directory)
        self.prompts = prompt_fingerprint(directory)
        self.tokenizer = load_tokenizer(directory)
        self.renderer = PromptRenderer(self.tokenizer, settings.system_prompt)
        self._model = load_model(directory, self.dtype).to(self.device)
        self._model.requires_grad_(False)
        self._pristine = PristineWeights(directory)
        self.end_ids = end_token_ids(self._model, self.tokenizer)
        self._packs = self.device.type == "cpu" and packing_works(self.dtype)
        self._kernels = load_kernels() if self._packs and settings.kernels == "auto" else None
        self._kernels_proven = False
        self._shape = llama_shape(self._model) if self._packs else None
        self._shared: dict[str, PackedLinear] = {}
        self._shared_projections: dict[str, Projection] = {}

    @property
    def max_positions(self) -> int:
        """Longest sequence the model takes; no longer than its attention window, so that one mask serves all layers."""
        config = self._model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        positions = int(getattr(config, "max_position_embeddings", 2048))
        return min(positions, int(window)) if window else positions

    def build(self, policy: PolicyRef) -> Any:
        """Return what `open_rows` runs as `policy`, read-only, in the serving dtype: a PackedModel where the processor
        and the shape allow, else a module of transformers. Raises AdapterRefused."""
        merged = self._merge(policy)
        if self._shape is not None:
            return self._packed(self._shape, merged)
        model = self._module(merged)
        if self._packs:
            pack_linears(model, self._shared, frozenset(merged))
        return model

    def _packed(self, shape: LlamaShape, merged: Mapping[str, torch.Tensor]) -> PackedModel:
        """The first generation holds the C++ kernels to transformers, on its own weights; a compiler or a processor may
        be at fault, and kernels that are wrong are never used."""
        packed = pack_model(self._model, shape, self._shared_projections, merged, self._kernels)
        if packed.kernels is None or self._kernels_proven:
            return packed
        _, prompt_ids = self.renderer.render(({"role": "user", "content": "What is the best way to learn a song?"},))
        if agree(packed, self._module(merged), prompt_ids, self.dtype):
            self._kernels_proven = True
            return packed
        logger.warning("the C++ kernels disagree with transformers on this machine: decoding goes on without them")
        self._kernels = None
        self._shared_projections.clear()
        return pack_model(self._model, shape, self._shared_projections, merged)

    def _module(self, merged: Mapping[str, torch.Tensor]) -> Any:
        """The model with some of its weights replaced, sharing all others."""
        parameters = {id(tensor): tensor for tensor in (*self._model.parameters(), *self._model.buffers())}
        model = copy.deepcopy(self._model, parameters)  # new modules around the same tensors
        for path, weight in merged.items():
            model.get_submodule(path).weight = torch.nn.Parameter(weight, requires_grad=False)
        return model

    def _merge(self, policy: PolicyRef) -> dict[str, torch.Tensor]:
        """Path → merged weight, for each layer that the policy's adapter changes."""
        if policy.adapter_dir is None:
            return {}
        check_adapter(policy.adapter_dir, policy.adapter_sha256, self.fingerprint, prompts=self.prompts)
        config = read_adapter_config(policy.adapter_dir)
        tensors = load_file(policy.adapter_dir / "adapter_model.safetensors")
        pairs, magnitudes = lora_pairs(tensors), dora_magnitudes(tensors)
        require_fit(self._model, pairs, config, magnitudes)
        merged = {}
        for path, weight in self._pristine.read(list(pairs)).items():
            down_RI, up_OR = pairs[path]
            weight = weight + config.scaling * (up_OR.float() @ down_RI.float())
            if path in magnitudes:
                weight = with_row_lengths(weight, magnitudes[path].float())
            merged[path] = weight.to(self.dtype).to(self.device)
        return merged


def lora_pairs(tensors: dict[str, torch.Tensor]) -> Pairs:
    """Group an adapter's tensors by the layer they adapt: path → (A [rank, in], B [out, rank])."""
    pairs: Pairs = {}
    for name, tensor in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        stem = name.removesuffix(".lora_A.weight")
        path = stem.removeprefix(_PREFIX)
        pairs[path] = (tensor, tensors[f"{stem}.lora_B.weight"])
    return pairs


def dora_magnitudes(tensors: dict[str, torch.Tensor]) -> Magnitudes:
    """Return DoRA's magnitudes by the layer's path; none for the other kinds."""
    end = ".lora_magnitude_vector"
    return {
        name.removesuffix(end).removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.endswith(end)
    }


def with_row_lengths(weight_OI: torch.Tensor, lengths_O: torch.Tensor) -> torch.Tensor:
    """Return the weight with each row stretched to its length; a row of zeros stays one."""
    norms_O: torch.Tensor = torch.linalg.norm(weight_OI, dim=1)
    return weight_OI * (lengths_O / norms_O.clamp(min=torch.finfo(norms_O.dtype).tiny))[:, None]
