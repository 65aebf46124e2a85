"""Whether an adapter's tensors fit the model they are for: all that its config promises, nothing else, sane values.

The last of the checks, after those of `serving.adapters`, which need no model. peft's own loader accepts NaN, missing
and extra tensors without a word.
"""

import math
from typing import Any

import torch

from serving.adapters import AdapterConfig
from serving.engine import AdapterRefused

Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]
"""Path of a layer → its A [rank, in] and B [out, rank]."""
Magnitudes = dict[str, torch.Tensor]
"""Path of a layer → DoRA's magnitude [out]: the length of each row of its merged weight."""
MAX_UPDATE_RATIO = 4.0
"""Bound on (α / r) · |B| · |A| over |W|, Frobenius norms; the left side bounds the norm of the update itself. And on
DoRA's |m| over |W|, which is the norm of the merged weight."""


def require_fit(model: Any, pairs: Pairs, config: AdapterConfig, magnitudes: Magnitudes | None = None) -> None:
    """Raise AdapterRefused unless `pairs` and `magnitudes` are exactly what `config` adapts of `model`, of its shapes,
    finite, and small beside the weights they change."""
    magnitudes = magnitudes or {}
    if odd := set(magnitudes) ^ (set(pairs) if config.use_dora else set()):
        raise AdapterRefused(f"{sorted(odd)[0]}: a magnitude and its two matrices come together, for DoRA alone")
    for path, pair in pairs.items():
        linear = _linear(model, path)
        if not config.adapts(path):
            raise AdapterRefused(f"the adapter adapts {path}, which its own config does not name")
        _require_shapes(path, linear, pair, config)
        _require_sane_values(path, linear, pair, config)
        if path in magnitudes:
            _require_sane_magnitude(path, linear, magnitudes[path])
    for path, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and config.adapts(path) and path not in pairs:
            raise AdapterRefused(f"the adapter lacks {path}, which its config adapts")


def _linear(model: Any, path: str) -> torch.nn.Linear:
    try:
        module = model.get_submodule(path)
    except AttributeError:
        raise AdapterRefused(f"the adapter adapts {path}, which the base model does not have") from None
    if not isinstance(module, torch.nn.Linear):
        raise AdapterRefused(f"the adapter adapts {path}, a {type(module).__name__}; only linear layers are merged")
    return module


def _require_shapes(
    path: str, linear: torch.nn.Linear, pair: tuple[torch.Tensor, torch.Tensor], config: AdapterConfig
) -> None:
    out_features, in_features = linear.weight.shape
    wanted = ((config.rank, in_features), (out_features, config.rank))
    found = (tuple(pair[0].shape), tuple(pair[1].shape))
    if found != wanted:
        raise AdapterRefused(f"{path}: LoRA shapes are {found}, wanted {wanted} for rank {config.rank}")


def _require_sane_values(
    path: str, linear: torch.nn.Linear, pair: tuple[torch.Tensor, torch.Tensor], config: AdapterConfig
) -> None:
    down_RI, up_OR = pair
    for tensor in pair:
        if not bool(torch.isfinite(tensor).all()):
            raise AdapterRefused(f"{path}: the adapter holds NaN or infinite values")
    norm = config.scaling * float(up_OR.float().norm()) * float(down_RI.float().norm())
    if not math.isfinite(norm) or norm > MAX_UPDATE_RATIO * float(linear.weight.detach().norm()):
        raise AdapterRefused(
            f"{path}: the update may be over {MAX_UPDATE_RATIO:g} times as large as the weight it changes ({norm:.3g})"
        )


def _require_sane_magnitude(path: str, linear: torch.nn.Linear, magnitude_O: torch.Tensor) -> None:
    if tuple(magnitude_O.shape) != (linear.weight.shape[0],):
        raise AdapterRefused(
            f"{path}: DoRA's magnitude is of shape {tuple(magnitude_O.shape)}, wanted ({linear.weight.shape[0]},)"
        )
    if not bool(torch.isfinite(magnitude_O).all()) or bool((magnitude_O < 0).any()):
        raise AdapterRefused(
            f"{path}: DoRA's magnitude holds NaN, infinite or negative values; lengths are none of these"
        )
    if float(magnitude_O.float().norm()) > MAX_UPDATE_RATIO * float(linear.weight.detach().norm()):
        raise AdapterRefused(
            f"{path}: DoRA's magnitude would make the weight over {MAX_UPDATE_RATIO:g} times as large as it is"
        )
