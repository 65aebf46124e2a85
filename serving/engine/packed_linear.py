"""Linear layers with their weight laid out once for the CPU's matrix kernels.

Decoding reads every weight for a handful of rows, and torch's own linear repacks or strides through it at each call. A
weight packed once per generation through oneDNN runs the same products in about two thirds of the time. The operators
are private to torch, so they are probed: where they are missing or wrong the ordinary layer stays.
"""

from typing import Any

import torch

_ROWS_HINT = 16


class PackedLinear(torch.nn.Module):
    """y = x Wᵀ + b with W packed for oneDNN. Inference only."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach().contiguous(), _ROWS_HINT)
        self.bias = None if bias is None else bias.detach()
        self.out_features, self.in_features = weight.shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x [..., in_features] → [..., out_features]."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return y

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """forward(x) + residual, added before the product is rounded."""
        y: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, residual, self.packed, self.bias, "add")
        return y


def packing_works(dtype: torch.dtype) -> bool:
    """Pack one small layer and hold it against torch's own."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(48, 64, generator=generator).to(dtype)
    x = torch.randn(3, 64, generator=generator).to(dtype)
    try:
        with torch.inference_mode():
            packed = PackedLinear(weight, None)
            residual = torch.ones(3, 48).to(dtype)
            found = torch.stack((packed(x), packed.plus(x, residual)))
            plain = torch.nn.functional.linear(x, weight)
            wanted = torch.stack((plain, plain + residual))
    except (RuntimeError, AttributeError, NotImplementedError):
        return False
    return bool(torch.allclose(found.float(), wanted.float(), rtol=0.05, atol=0.05))


def pack_linears(model: Any, shared: dict[str, PackedLinear], own: frozenset[str]) -> None:
    """Replace the linear layers of `model` in place. Layers not named in `own` are taken from `shared`, or put there:
    generations differ only in the layers their adapters touch, and share all others."""
    for name, module in list(model.named_modules()):
        for child_name, child in list(module.named_children()):
            if type(child) is not torch.nn.Linear:
                continue
            path = f"{name}.{child_name}" if name else child_name
            if path in own:
                packed = PackedLinear(child.weight, child.bias)
            elif path in shared:
                packed = shared[path]
            else:
                packed = shared[path] = PackedLinear(child.weight, child.bias)
            setattr(module, child_name, packed)
