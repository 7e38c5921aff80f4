"""All operators called alike, so that tests run over them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from fewpairs.ops import (
    global_key_attention,
    key_only_attention,
    knn_attention,
    kv_attention,
    softmax_attention,
)

B, H, N, D = 2, 4, 6, 8
Call = Callable[..., Tensor]


def softmax(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return softmax_attention(q, k, v, **options)


def knn(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    """All keys, so that it is softmax attention."""
    return knn_attention(q, k, v, topk=1.0, **options)


def kv(_q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return kv_attention(k, v, **options)


def key_only(_q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return key_only_attention(k, v, torch.linspace(-1, 1, k.shape[1] * D, device=k.device).reshape(-1, D), **options)


def global_key(_q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    return global_key_attention(k, v, torch.linspace(-1, 1, k.shape[1] * D, device=k.device).reshape(-1, D), **options)


PAIRS: tuple[Call, ...] = (softmax, knn, kv)
ALL: tuple[Call, ...] = (*PAIRS, key_only, global_key)
each = partial(pytest.mark.parametrize, ids=lambda value: getattr(value, "__name__", None))


def heads(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [torch.randn(B, H, N, D, dtype=dtype, requires_grad=True) for _ in range(3)]
