"""Checks of the arguments of `knn_attention`, with one sentence for each error."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fewpairs.errors import InputError

METRICS = ("dot", "euclidean")


def check_topk(topk: object) -> int | float:
    """Return `topk` if it is a number of keys or a fraction of them.

    Raises:
        InputError: `topk` is neither an int of 1 or more nor a float in (0, 1].
    """
    if type(topk) is int:
        if topk >= 1:
            return topk
    elif type(topk) is float:
        if 0 < topk <= 1:
            return topk
    else:
        raise InputError(
            f"topk={topk!r} is of type {type(topk).__name__}; allowed: an int of 1 or more (a number of keys) or a "
            "float in (0, 1] (a fraction of the keys)"
        )
    raise InputError(
        f"topk={topk!r} is out of range; allowed: an int of 1 or more (a number of keys) or a float in "
        "(0, 1] (a fraction of the keys)"
    )


def effective_topk(topk: int | float, m: int) -> int:
    """Return how many of `m` keys a query keeps: an int is clamped to m, a fraction is rounded (at least 1).

    Raises:
        InputError: see `check_topk`.
    """
    topk = check_topk(topk)
    return min(topk, m) if isinstance(topk, int) else max(1, int(topk * m + 0.5))


def check_metric(metric: str) -> None:
    """Raise InputError unless `metric` is "dot" or "euclidean"."""
    if metric not in METRICS:
        raise InputError(f"metric={metric!r} is not known; allowed: 'dot', 'euclidean'")


def check_heads(q: Tensor, k: Tensor, v: Tensor) -> None:
    """Check that q `[b h n d]`, k `[b h m d]`, v `[b h m e]` agree in shape, dtype and device.

    Raises:
        InputError: they do not agree; the message names the dimensions.
    """
    for name, letters, tensor in (("q", "[b h n d]", q), ("k", "[b h m d]", k), ("v", "[b h m e]", v)):
        if not isinstance(tensor, Tensor):
            raise InputError(f"{name} must be a tensor {letters}, not {type(tensor).__name__}")
        if tensor.ndim != 4:
            raise InputError(f"{name} must have the four dimensions {letters}; its shape is {list(tensor.shape)}")
    if not q.is_floating_point():
        raise InputError(f"q, k and v must hold floating-point numbers, not {q.dtype}")
    if not (q.dtype == k.dtype == v.dtype):
        raise InputError(f"q, k and v must share one dtype, not {q.dtype}, {k.dtype} and {v.dtype}; convert them first")
    if not (q.device == k.device == v.device):
        raise InputError(f"q, k and v must lie on one device, not {q.device}, {k.device} and {v.device}")
    if q.shape[:2] != k.shape[:2] or q.shape[3] != k.shape[3]:
        raise InputError(
            f"q [b h n d] and k [b h m d] must agree in b, h and d; their shapes are {list(q.shape)} and "
            f"{list(k.shape)}"
        )
    if k.shape[:3] != v.shape[:3]:
        raise InputError(
            f"k [b h m d] and v [b h m e] must agree in b, h and m; their shapes are {list(k.shape)} and "
            f"{list(v.shape)}"
        )
    if k.shape[2] == 0:
        raise InputError("k and v have no keys (m = 0), so there is nothing to attend to")


def check_bias(bias: Tensor, q: Tensor, k: Tensor) -> None:
    """Check that `bias` is `[#b #h n m]`, floating-point or boolean, and fits q and k.

    Raises:
        InputError: it does not fit; the message names the dimensions.
    """
    if not isinstance(bias, Tensor):
        raise InputError(f"bias must be a tensor [b h n m], not {type(bias).__name__}")
    (b, h, n, _), m = q.shape, k.shape[2]
    fits = bias.ndim == 4 and bias.shape[0] in (1, b) and bias.shape[1] in (1, h) and tuple(bias.shape[2:]) == (n, m)
    if not fits:
        raise InputError(
            f"bias must be [b h n m] = [{b} {h} {n} {m}], with 1 for b or h where it is shared; its shape is "
            f"{list(bias.shape)}"
        )
    if not (bias.is_floating_point() or bias.dtype == torch.bool):
        raise InputError(
            f"bias must be floating-point (added to the scores) or boolean (True keeps the pair), not {bias.dtype}"
        )
    if bias.device != q.device:
        raise InputError(f"bias must lie on the device of q, {q.device}, not on {bias.device}")


def check_scale(scale: float) -> None:
    """Raise InputError unless `scale` is a finite number."""
    if not -math.inf < scale < math.inf:
        raise InputError(f"scale={scale!r} must be a finite number; None takes d ** -0.5")
