"""Calling the C++ step: structs that mirror `llama_step.cpp`, and the tensors that they point into."""

import ctypes

import torch

from serving.engine.packed_model import PackedLayer, PackedModel, Projection
from serving.engine.ragged import RaggedStep, RowCache

_SIZES = ("layers", "hidden", "intermediate", "heads", "kv_heads", "head_dim", "vocabulary")
_FUNCTIONS = {torch.float32: "thumbwise_step_float32", torch.bfloat16: "thumbwise_step_bfloat16"}
_ALIGNMENT_BYTES = 64


class _Layer(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_void_p)
        for name in (
            *("input_norm", "attention_norm", "query_norm", "key_norm"),
            *("qkv", "output", "gate_up", "down"),
            *("qkv_bias", "output_bias", "gate_up_bias", "down_bias"),
        )
    )


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
    """The C++ step of one generation over one cache. Not thread-safe: it owns its scratch memory.

    `tables` are cosines and sines [positions, head_dim / 2]. The model must have been packed with `kernels`.
    """

    def __init__(self, kernels: ctypes.CDLL, model: PackedModel, tables: tuple[torch.Tensor, torch.Tensor]) -> None:
        self._run = getattr(kernels, _FUNCTIONS[model.dtype])
        self._scratch_bytes = kernels.thumbwise_scratch_bytes
        self._weights = model  # the pointers below point into these
        self._cosines, self._sines = (table.float().contiguous() for table in tables)
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._layers = (_Layer * model.shape.layers)(*(_layer(layer) for layer in model.layers))
        self._model = _Model(
            *(getattr(model.shape, name) for name in _SIZES),
            model.shape.scale,
            model.shape.epsilon,
            model.embedding.data_ptr(),
            model.norm.data_ptr(),
            *_places(model.head),
            self._layers,
        )

    def run(self, step: RaggedStep, cache: RowCache) -> torch.Tensor:
        """Store the step's keys and values in `cache`; return float32 logits [wanted, vocabulary]."""
        tokens, longest, threads = len(step.token_ids), step.span, torch.get_num_threads()
        sizes = (ctypes.c_int64(size) for size in (tokens, longest, threads))
        needed = self._scratch_bytes(ctypes.byref(self._model), *sizes) + _ALIGNMENT_BYTES
        if needed > len(self._scratch):
            self._scratch = torch.empty(2 * needed, dtype=torch.uint8)
        logits = torch.empty(len(step.wanted), self._weights.shape.vocabulary)
        start = self._scratch.data_ptr()
        call = _Step(
            tokens,
            len(step.wanted),
            longest,
            threads,
            *(tensor.data_ptr() for tensor in (step.token_ids, step.rows, step.positions, step.wanted, logits)),
            start + -start % _ALIGNMENT_BYTES,
        )
        where = _Cache(
            cache.block.data_ptr(), cache.rows, cache.capacity, self._cosines.data_ptr(), self._sines.data_ptr()
        )
        self._run(ctypes.byref(self._model), ctypes.byref(where), ctypes.byref(call))
        return logits


def _layer(layer: PackedLayer) -> _Layer:
    norms = (layer.input_norm, layer.attention_norm, layer.query_norm, layer.key_norm)
    places = [_places(projection) for projection in (layer.qkv, layer.output, layer.gate_up, layer.down)]
    return _Layer(
        *(None if norm is None else norm.data_ptr() for norm in norms),
        *(weight for weight, _ in places),
        *(bias for _, bias in places),
    )


def _places(projection: Projection) -> tuple[int, int | None]:
    blocked = projection.blocked
    assert blocked is not None, "a model without blocked weights has no kernels"
    return blocked.weight.data_ptr(), None if blocked.bias is None else blocked.bias.data_ptr()
