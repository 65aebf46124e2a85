"""Linear layers laid out for the C++ kernels: blocks of sixteen outputs that are read straight through."""

import ctypes
from collections.abc import Sequence

import torch
from torch.nn import functional

BLOCK = 16
_PRODUCTS = {torch.float32: "thumbwise_product_float32", torch.bfloat16: "thumbwise_product_bfloat16"}


class _Product(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weight", "bias", "x", "residual", "y")),
        *((name, ctypes.c_int64) for name in ("tokens", "inputs", "outputs", "threads")),
    )


class BlockedLinear:
    """y = x Wᵀ + b, with W as blocks of float32 [inputs, 16] or bfloat16 [inputs / 2, 16, 2] and b in float32, both
    padded with zeros to whole blocks. Inference only; the C++ step reads the same memory.

    `weights` and `biases` are fused; in turns: a block of the first, one of the second, and so on.
    """

    def __init__(
        self,
        kernels: ctypes.CDLL,
        weights: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor] | None,
        *,
        in_turns: bool = False,
    ) -> None:
        def fuse(parts: Sequence[torch.Tensor]) -> torch.Tensor:
            if in_turns:
                return torch.stack([part.reshape(-1, BLOCK, *part.shape[1:]) for part in parts], dim=1).flatten(0, 2)
            return torch.cat(list(parts))

        weight = fuse(weights)
        self.out_features, self.in_features = weight.shape
        missing = -self.out_features % BLOCK
        weight = functional.pad(weight, (0, 0, 0, missing))
        pair = 2 if weight.dtype == torch.bfloat16 else 1
        self.weight = weight.view(-1, BLOCK, self.in_features // pair, pair).transpose(1, 2).contiguous()
        self.bias = None if biases is None else functional.pad(fuse(biases).float(), (0, missing)).contiguous()
        self._product = getattr(kernels, _PRODUCTS[weight.dtype])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """x [tokens, in_features] → [tokens, out_features]."""
        return self._multiply(x, None)

    def plus(self, x: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """self(x) + residual, added before the product is rounded."""
        return self._multiply(x, residual.contiguous())

    def _multiply(self, x: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        x = x.contiguous()
        y = x.new_empty(len(x), self.out_features)
        product = _Product(
            self.weight.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            x.data_ptr(),
            None if residual is None else residual.data_ptr(),
            y.data_ptr(),
            len(x),
            self.in_features,
            self.out_features,
            torch.get_num_threads(),
        )
        self._product(ctypes.byref(product))
        return y
