"""PyTorch's fused attention on the meta device: its shapes, and the tensors that it saves for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Fused(torch.autograd.Function):
    """Save the tensors of the fused kernel: inputs, output, and one log-sum-exp for each row."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, term_of_storage: dict[int, str]
    ) -> Tensor:
        out, sums = fused_output(q, v), q.new_empty(q.shape[:-1], dtype=torch.float32)
        term_of_storage[storage_id(out)], term_of_storage[storage_id(sums)] = "values", "scores"
        ctx.save_for_backward(q, k, v, out, sums, mask)
        return out


def fused_output(q: Tensor, v: Tensor) -> Tensor:
    """Return an empty `[b h n e]` in the memory layout of the fused kernels, so that joining heads makes no copy."""
    *b, h, n, _ = q.shape
    return q.new_empty(*b, n, h, v.shape[-1]).transpose(-3, -2)


def storage_id(tensor: Tensor) -> int:
    """Return an identifier of the storage of a tensor."""
    return tensor.untyped_storage()._cdata


class FusedAttention(TorchFunctionMode):
    """Give attention on the meta device the shapes and the memory of the fused kernel.

    PyTorch has no fused attention for the meta device and would make the `[b h n m]` scores there. PyTorch computes
    attention with a mask that needs a gradient, because no device has a fused kernel for it.

    Args:
        note: called with queries, keys and values before each attention.
    """

    def __init__(self, note: Callable[[Tensor, Tensor, Tensor], None] | None = None) -> None:
        super().__init__()
        self.note = note
        self.term_of_storage: dict[int, str] = {}
        """Cost term of each storage that the attention itself makes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask")
        q, k, v, mask = (args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names))
        if self.note is not None:
            self.note(q, k, v)
        if not torch.is_grad_enabled():
            return fused_output(q, v)
        if mask is None or not mask.requires_grad:
            return _Fused.apply(q, k, v, mask, self.term_of_storage)
        return func(*args, **kwargs)
