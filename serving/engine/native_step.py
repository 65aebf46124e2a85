"""Calling the C++ step: structs that mirror `native/llama_step.cpp`, and the tensors that they point into."""

import ctypes
from typing import Any

import torch

from serving.engine.llama_shape import LlamaShape
from serving.engine.ragged import RaggedStep, RowCache

_LAYER_WEIGHTS = (
    *(
        "input_layernorm.weight",
        "post_attention_layernorm.weight",
        "self_attn.q_norm.weight",
        "self_attn.k_norm.weight",
    ),
    *("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight", "self_attn.o_proj.weight"),
    *("mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"),
    *("self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias", "self_attn.o_proj.bias"),
    *("mlp.gate_proj.bias", "mlp.up_proj.bias", "mlp.down_proj.bias"),
)
"""In the order of `struct Layer`; a null pointer stands for what a model lacks."""
_SIZES = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocabulary")
_FUNCTIONS = {torch.float32: "thumbwise_step_float32", torch.bfloat16: "thumbwise_step_bfloat16"}


class _Layer(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_void_p) for name in _LAYER_WEIGHTS)


class _Model(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in _SIZES),
        ("scale", ctypes.c_float),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("embedding", "norm", "head", "head_bias")),
        ("layer", ctypes.POINTER(_Layer)),
    )


class _Cache(ctypes.Structure):
    _fields_ = (
        ("block", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("positions", ctypes.c_int64),
        ("cosines", ctypes.c_void_p),
        ("sines", ctypes.c_void_p),
    )


class _Step(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_int64) for name in ("tokens", "wanted_count", "longest", "threads")),
        *((name, ctypes.c_void_p) for name in ("ids", "rows", "positions", "wanted", "logits", "scratch")),
    )


class NativeStep:
    """The C++ step of one generation over one cache. Not thread-safe: it owns its scratch memory."""

    def __init__(
        self, kernels: ctypes.CDLL, module: Any, shape: LlamaShape, tables: tuple[torch.Tensor, torch.Tensor]
    ) -> None:
        parameters = {name: parameter.detach() for name, parameter in module.named_parameters(remove_duplicate=False)}
        dtype = parameters["lm_head.weight"].dtype
        uneven = [name for name, weight in parameters.items() if not weight.is_contiguous() or weight.dtype != dtype]
        if uneven or dtype not in _FUNCTIONS:
            raise ValueError(f"the C++ step takes contiguous float32 or bfloat16 weights, not {dtype} {uneven[:3]}")
        self._run = getattr(kernels, _FUNCTIONS[dtype])
        self._scratch_bytes = kernels.thumbwise_scratch_bytes
        self._cosines, self._sines = (table.float().contiguous() for table in tables)
        self._kept = parameters  # the pointers below point into these
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._vocabulary = shape.vocabulary

        def place(name: str) -> int | None:
            return parameters[name].data_ptr() if name in parameters else None

        self._layers = (_Layer * shape.layers)(
            *(
                _Layer(*(place(f"model.layers.{layer}.{name}") for name in _LAYER_WEIGHTS))
                for layer in range(shape.layers)
            )
        )
        self._model = _Model(
            *(getattr(shape, name) for name in _SIZES),
            shape.scale,
            shape.epsilon,
            *(place(name) for name in ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")),
            place("lm_head.bias"),
            self._layers,
        )

    def run(self, step: RaggedStep, cache: RowCache) -> torch.Tensor:
        """Store the step's keys and values in `cache`; return float32 logits [wanted, vocabulary]."""
        tokens, longest, threads = len(step.token_ids), step.span, torch.get_num_threads()
        needed = self._scratch_bytes(
            ctypes.byref(self._model), ctypes.c_int64(tokens), ctypes.c_int64(longest), ctypes.c_int64(threads)
        )
        if needed + 64 > len(self._scratch):
            self._scratch = torch.empty(2 * needed + 64, dtype=torch.uint8)
        logits = torch.empty(len(step.wanted), self._vocabulary)
        start = self._scratch.data_ptr()
        call = _Step(
            tokens,
            len(step.wanted),
            longest,
            threads,
            *(tensor.data_ptr() for tensor in (step.token_ids, step.rows, step.positions, step.wanted, logits)),
            start + -start % 64,
        )
        where = _Cache(
            cache.block.data_ptr(), cache.rows, cache.capacity, self._cosines.data_ptr(), self._sines.data_ptr()
        )
        self._run(ctypes.byref(self._model), ctypes.byref(where), ctypes.byref(call))
        return logits
