"""PyTorch's fused attention on the meta device: its shapes, and what it keeps for the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class _Fused(torch.autograd.Function):
    """What the fused kernel keeps: its inputs, its output and one logarithm of a sum for each row."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, term_of_storage: dict[int, str]
    ) -> Tensor:
        out, sums = fused_output(q, v), q.new_empty(q.shape[:-1], dtype=torch.float32)
        term_of_storage[storage(out)], term_of_storage[storage(sums)] = "values", "scores"
        ctx.save_for_backward(q, k, v, out, sums, mask)
        return out


def fused_output(q: Tensor, v: Tensor) -> Tensor:
    """`[b h n e]`, laid out as the fused kernels do, so that joining the heads copies nothing."""
    *b, h, n, _ = q.shape
    return q.new_empty(*b, n, h, v.shape[-1]).transpose(-3, -2)


def storage(tensor: Tensor) -> int:
    """What tells the piece of memory that a tensor lies in from others."""
    return tensor.untyped_storage()._cdata


class FusedAttention(TorchFunctionMode):
    """Within it, attention on the meta device has the shapes and the memory of the fused kernel.

    PyTorch has no fused attention for the meta device and would hold the `[b h n m]` scores there. A mask that needs a
    gradient is left to PyTorch, which has no fused kernel for it on other devices either.

    Args:
        note: called with queries, keys and values before each.
    """

    def __init__(self, note: Callable[[Tensor, Tensor, Tensor], None] | None = None) -> None:
        super().__init__()
        self.note = note
        self.term_of_storage: dict[int, str] = {}
        """The term of each piece of memory that the attention itself makes."""

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
