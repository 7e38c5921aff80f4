"""Launches the Triton kernels of key-only attention; `fewpairs.ops.key_only.triton` registers these functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.ops.key_only.triton_kernels import apply_gate, combine, pool, pooled_gradient, spread_gradients
from fewpairs.ops.key_only.triton_shapes import empty_gradients, empty_results
from fewpairs.ops.triton.launch import blocks, launch, padded, rows

ROWS = 64
PROGRAMS = 1024
"""The approximate number of programs that fill a GPU, and of shares into which all positions are divided."""
SHARES = 64


def shares(units: int, n: int) -> tuple[int, int]:
    """Return the positions per program, a multiple of `ROWS`, and the programs per head."""
    wanted = max(1, min(SHARES, blocks(PROGRAMS, max(1, units)), blocks(n, 4 * ROWS)))
    share = blocks(blocks(n, wanted), ROWS) * ROWS
    return share, blocks(n, share)


def _saliency(saliency: Tensor) -> tuple[Tensor, list[int], int]:
    """Return saliency as kernel arguments: data, strides of image, head and position, form."""
    if saliency.ndim == 2:
        saliency = rows(saliency)
        return saliency, [0, saliency.stride(0), 0], 0
    if saliency.ndim == 3:
        return saliency, list(saliency.stride()), 1
    saliency = rows(saliency)
    return saliency, list(saliency.stride()[:3]), 2


def _mask(mask: Tensor | None, stand_in: Tensor) -> tuple[Tensor, list[int], bool]:
    return (stand_in, [0, 0, 0], False) if mask is None else (mask.view(torch.uint8), list(mask.stride()), True)


def forward(
    k: Tensor, v: Tensor, saliency: Tensor, mask: Tensor | None, gate: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the results of `fewpairs.ops.key_only.triton_shapes.empty_results`."""
    b, h, n, d = k.shape
    out, pooled, log_sum = empty_results(k, v, saliency)
    k, v = rows(k), rows(v)
    gates = k if gate is None else rows(gate)
    data, s_strides, form = _saliency(saliency)
    allowed, m_strides, masked = _mask(mask, k)
    share, count = shares(b * h, n)
    width = padded(d)
    wide = width if form == 2 else 1
    peaks, totals = pooled.new_empty((b, h, count, wide)), pooled.new_empty((b, h, count, wide))
    sums = pooled.new_empty((b, h, count, width))
    launch(
        pool, b * h * count, k, k, v, data, allowed, peaks, totals, sums, h, n, share, count, *k.stride()[:3],
        *v.stride()[:3], *s_strides, *m_strides, d, D=width, ROWS=ROWS, WIDE=wide, FORM=form, MASK=masked, num_warps=4,
    )  # fmt: skip
    launch(
        combine, b * h, k, peaks, totals, sums, pooled, log_sum, count, d, log_sum.shape[2], D=width, WIDE=wide,
        SHARES=padded(count), num_warps=4,
    )  # fmt: skip
    launch(
        apply_gate, b * h * blocks(n, ROWS), k, gates, pooled, out, h, n, *gates.stride()[:3], d, D=width, ROWS=ROWS,
        num_warps=4,
    )  # fmt: skip
    return out, pooled, log_sum


def backward(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    saliency: Tensor,
    mask: Tensor | None,
    gate: Tensor | None,
    pooled: Tensor,
    log_sum: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the results of `fewpairs.ops.key_only.triton_shapes.empty_gradients`."""
    b, h, n, d = k.shape
    dk, dv, d_saliency, d_gate = empty_gradients(grad, k, v, saliency, mask, gate, pooled, log_sum)
    grad, k, v = rows(grad), rows(k), rows(v)
    gates = k if gate is None else rows(gate)
    data, s_strides, form = _saliency(saliency)
    allowed, m_strides, masked = _mask(mask, k)
    share, count = shares(b * h, n)
    width = padded(d)
    sums = pooled.new_empty((b, h, count, width))
    sent: dict[str, Any] = {"D": width, "ROWS": ROWS, "num_warps": 4}
    y_strides, g_strides = grad.stride()[:3], gates.stride()[:3]
    launch(
        pooled_gradient, b * h * count, k, grad, gates, sums, h, n, share, count, *y_strides, *g_strides, d, **sent
    )  # fmt: skip
    returned = sums.sum(2)
    learned = sums if form == 0 else d_saliency
    launch(
        spread_gradients, b * h * count, k, grad, k, v, data, allowed, gates, pooled, log_sum, returned, dk, dv,
        learned, d_gate, h, n, share, count, *y_strides, *k.stride()[:3], *v.stride()[:3], *s_strides, *m_strides,
        *g_strides, d, log_sum.shape[2], WIDE=width if form == 2 else 1, FORM=form, MASK=masked, GATE=gate is not None,
        **sent,
    )  # fmt: skip
    if form == 0:
        d_saliency.copy_(sums.sum((0, 2))[:, :d])
    return dk, dv, d_saliency, d_gate
