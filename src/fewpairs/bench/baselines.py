"""The baselines that kernels are compared with; they use only PyTorch's operators."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewpairs.ops.key_only import reference


def keys_as_queries(run: Callable[..., Tensor], k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Compute KV attention with a function of queries, keys and values."""
    return run(k, k, v, scale=scale)


def sdpa(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Compute PyTorch's fused attention over all keys, with the backend that PyTorch selects."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


def flash(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Compute attention with PyTorch's flash backend only."""
    with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
        return F.scaled_dot_product_attention(q, k, v, scale=scale)


def plain(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Compute softmax attention as models write it: all scores, softmax, product."""
    return ((q * scale) @ k.mT).softmax(dim=-1) @ v


def published(q: Tensor, k: Tensor, v: Tensor, topk: int, *, scale: float) -> Tensor:
    """Compute k-NN attention as the released KVT code does: int64 indices, a float mask, a tensor of -inf."""
    scores = (q @ k.transpose(-2, -1)) * scale
    mask = published_choice(scores, topk)
    scores = torch.where(mask > 0, scores, torch.full_like(scores, -math.inf))
    return torch.softmax(scores, dim=-1) @ v


def published_choice(scores: Tensor, topk: int) -> Tensor:
    """Return 1 for each kept key, else 0, `[b h n m]`, in the scores' dtype; `torch.topk` decides ties."""
    mask = torch.zeros_like(scores)
    return mask.scatter_(-1, torch.topk(scores, topk, dim=-1, largest=True).indices, 1.0)


def key_only_plain(k: Tensor, v: Tensor, saliency: Tensor, *, scale: float) -> Tensor:
    """Compute key-only attention with single PyTorch operators; `scale` has no effect."""
    return reference.key_only_attention(k, v, saliency)


def read_and_write(k: Tensor, v: Tensor, saliency: Tensor, *, scale: float, kept: bool) -> Tensor:
    """Read the inputs of key-only attention and write an output of its size once, into kept or new memory."""
    return torch.add(k, v, out=_scratch(k, 0) if kept else None)


_KEPT: dict[tuple[Any, ...], Tensor] = {}


def _scratch(like: Tensor, number: int) -> Tensor:
    """Return memory that is reused between runs with the same shape."""
    key = (number, like.shape, like.dtype, like.device)
    if key not in _KEPT:
        for other in [each for each in _KEPT if each[0] == number]:
            del _KEPT[other]
        _KEPT[key] = torch.empty_like(like, requires_grad=False)
    return _KEPT[key]


def flex(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """Compute attention with FlexAttention, compiled as PyTorch recommends."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _compiled_flex()(q, k, v, scale=scale)


@cache
def _compiled_flex() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)


def copy_gradients(run: Callable[[], Tensor], tensors: list[Tensor], upstream: Tensor, *, kept: bool) -> None:
    """Copy as attention reads and writes: forward k, v to one tensor; backward k, v, upstream to two tensors."""
    k, v, _ = tensors
    with torch.no_grad():
        run()
        torch.add(k, upstream, out=_scratch(k, 1) if kept else None)
        (_scratch(v, 2) if kept else torch.empty_like(v)).copy_(v)
