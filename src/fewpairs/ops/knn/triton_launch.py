"""Launches the Triton kernels of k-NN attention; `fewpairs.ops.knn.triton` registers these functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.ops.knn.triton_backward import of_bias, of_keys, of_queries
from fewpairs.ops.knn.triton_mix import mix
from fewpairs.ops.knn.triton_select import select_on_chip, select_streaming
from fewpairs.ops.knn.triton_shapes import empty_gradients, empty_results
from fewpairs.ops.triton.launch import blocks, launch, padded, pairs, rows

ON_CHIP = 2048
"""The maximum number of keys for which whole score rows are held in registers."""
ROWS = 32
"""The query rows of a block. From 64 rows on, another instruction multiplies, with possibly other rounding."""
SHARED = 160 * 2**10
"""The shared memory in bytes for rows of `ON_CHIP` float32 keys; with less, rows hold half as many."""


def on_chip(m: int, size: int) -> dict[str, int]:
    """Return blocks (except the width), warps and stages of `select_on_chip` for `m` keys of `size` bytes a number."""
    columns = padded(m)
    high = ROWS if columns * ROWS * size <= 2**16 else 16
    return {
        "ROWS": high,
        "COLS": columns,
        "BITS": columns.bit_length(),
        "STEP": 16 if size == 4 else max(16, min(64, 2**16 // (columns * size))),
        "num_warps": 4 if columns * high <= 2**12 * (3 - size // 2) else 8,
        "num_stages": 1,
    }


def tiles(size: int, *, by_keys: bool = False) -> dict[str, int]:
    """Return blocks, warps and stages of the other kernels, for numbers of `size` bytes.

    In float32 the operands of a product are in registers, so that larger blocks would spill.
    """
    if size == 4:
        return {"ROWS": 16 if by_keys else ROWS, "KEYS": 32, "num_warps": 4, "num_stages": 1 if by_keys else 2}
    return {"ROWS": ROWS, "KEYS": 64, "num_warps": 4, "num_stages": 2}


def _fits(q: Tensor, m: int) -> bool:
    """Whether rows of `m` scores fit on chip."""
    if not q.is_cuda or m <= ON_CHIP // 2:
        return m <= ON_CHIP
    return m <= ON_CHIP and torch.cuda.get_device_properties(q.device).shared_memory_per_block_optin >= SHARED


def forward(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, topk: int, scale: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the results of `fewpairs.ops.knn.triton_shapes.empty_results`."""
    (b, h, n, d), m, e = q.shape, k.shape[2], v.shape[3]
    out, threshold, last, log_sum = empty_results(q, k, v)
    highest = torch.empty_like(threshold)
    q, k, v = rows(q), rows(k), rows(v)
    data, bias_strides, kind = pairs(bias, (b, h, n, m), q)
    strides = (*q.stride()[:3], *k.stride()[:3])
    width = padded(d)
    if _fits(q, m):
        plan: dict[str, Any] = on_chip(m, q.element_size())
        plan["STEP"] = min(plan["STEP"], width)
        select = select_on_chip
    else:
        plan = tiles(q.element_size())
        select = select_streaming
    launch(
        select, b * h * blocks(n, plan["ROWS"]), q, q, k, data, threshold, last, highest, topk, scale, h, n, m,
        *strides, *bias_strides, d, D=width, BIAS=kind, **plan,
    )  # fmt: skip
    launch(
        mix, b * h * blocks(n, ROWS), q, q, k, v, data, out, threshold, last, highest, log_sum, scale, h, n, m,
        *strides, *v.stride()[:3], *bias_strides, d, e, D=width, E=padded(e), BIAS=kind,
        **tiles(q.element_size()),
    )  # fmt: skip
    return out, threshold, last, log_sum


def backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor | None,
    out: Tensor,
    threshold: Tensor,
    last: Tensor,
    log_sum: Tensor,
    scale: float,
    bias_learns: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the results of `fewpairs.ops.knn.triton_shapes.empty_gradients`."""
    (b, h, n, d), m, e = q.shape, k.shape[2], v.shape[3]
    dq, dk, dv, dbias = empty_gradients(grad, q, k, v, bias, bias_learns)
    means = torch.empty_like(threshold)
    grad, q, k, v = rows(grad), rows(q), rows(k), rows(v)
    data, bias_strides, kind = pairs(bias, (b, h, n, m), q)
    strides = [*q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *grad.stride()[:3], *bias_strides, d, e]
    widths = {"D": padded(d), "E": padded(e), "BIAS": kind}
    plan, key_plan = widths | tiles(q.element_size()), widths | tiles(q.element_size(), by_keys=True)
    saved = (threshold, last, log_sum, means)
    launch(
        of_queries, b * h * blocks(n, plan["ROWS"]), q, q, k, v, data, grad, out.contiguous(), *saved, dq, scale,
        h, n, m, *strides, **plan,
    )  # fmt: skip
    launch(
        of_keys, b * h * blocks(m, key_plan["KEYS"]), q, q, k, v, data, grad, *saved, dk, dv, scale, h, n, m,
        *strides, **key_plan,
    )  # fmt: skip
    if bias is not None and bias_learns:
        images, heads = bias.shape[:2]
        tasks = images * heads * blocks(n, key_plan["ROWS"]) * blocks(m, key_plan["KEYS"])
        launch(
            of_bias, tasks, q, q, k, v, data, grad, *saved, dbias, scale, b, h, n, m, *strides, heads,
            b // max(1, images), h // max(1, heads), **key_plan,
        )  # fmt: skip
    return dq, dk, dv, dbias
