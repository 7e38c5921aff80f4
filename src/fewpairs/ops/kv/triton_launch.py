"""Launches the Triton kernels of key-value attention; `fewpairs.ops.kv.triton` registers these functions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from fewpairs.ops.kv.triton_backward import of_bias, of_keys, row_means
from fewpairs.ops.kv.triton_forward import attend
from fewpairs.ops.kv.triton_shapes import empty_gradients, empty_results
from fewpairs.ops.triton.launch import blocks, launch, padded, pairs, rows


def plan(width: int, size: int, *, backward: bool) -> dict[str, int]:
    """Return blocks, warps and stages for heads padded to `width`, of `size` bytes a number."""
    if size == 4:
        return {"ROWS": 16 if backward else 32, "KEYS": 32, "num_warps": 4, "num_stages": 1 if backward else 2}
    if backward:
        wide = width > 64
        return {"ROWS": 32 if wide else 64, "KEYS": 64, "num_warps": 8 if wide else 4, "num_stages": 2}
    return {"ROWS": 64, "KEYS": 64, "num_warps": 4, "num_stages": 2}


def _terms(
    k: Tensor, gain: Tensor | None, key_bias: Tensor | None, bias: Tensor | None
) -> tuple[tuple[Tensor, Tensor, Tensor], list[int], dict[str, Any]]:
    """Return gain `[h]`, key bias and bias as kernel arguments, with strides and flags of presence."""
    b, h, n, _ = k.shape
    gains = k if gain is None else gain.expand(h).contiguous() if gain.ndim else gain.reshape(1).expand(h).contiguous()
    line = k if key_bias is None else key_bias.contiguous()
    data, strides, kind = pairs(bias, (b, h, n, n), k)
    by_head = n if key_bias is not None and key_bias.ndim == 2 else 0
    return (
        (gains, line, data),
        [by_head, *strides],
        {"GAIN": gain is not None, "ROW": key_bias is not None, "BIAS": kind},
    )


def forward(
    k: Tensor, v: Tensor, gain: Tensor | None, key_bias: Tensor | None, bias: Tensor | None, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the results of `fewpairs.ops.kv.triton_shapes.empty_results`."""
    (b, h, n, d), e = k.shape, v.shape[3]
    out, log_sum, rest = empty_results(k, v)
    k, v = rows(k), rows(v)
    terms, strides, there = _terms(k, gain, key_bias, bias)
    width, v_width = padded(d), padded(e)
    shape = plan(max(width, v_width), k.element_size(), backward=False)
    launch(
        attend, b * h * blocks(n, shape["ROWS"]), k, k, v, *terms, out, log_sum, rest, scale, h, n, *k.stride()[:3],
        *v.stride()[:3], *strides, d, e, D=width, E=v_width, REST=rest.numel() > 0, **there,
        **shape,
    )  # fmt: skip
    return out, log_sum, rest


def backward(
    grad: Tensor,
    k: Tensor,
    v: Tensor,
    gain: Tensor | None,
    key_bias: Tensor | None,
    bias: Tensor | None,
    out: Tensor,
    log_sum: Tensor,
    rest: Tensor,
    scale: float,
    bias_learns: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the results of `fewpairs.ops.kv.triton_shapes.empty_gradients`."""
    (b, h, n, d), e = k.shape, v.shape[3]
    dk, dv, d_gain, d_key_bias, dbias = empty_gradients(grad, k, v, gain, key_bias, bias, bias_learns)
    grad, k, v = rows(grad), rows(k), rows(v)
    terms, term_strides, there = _terms(k, gain, key_bias, bias)
    means = torch.empty_like(log_sum, dtype=torch.float32)
    by_gain = torch.empty_like(means) if gain is not None else means
    by_row = torch.empty_like(means) if key_bias is not None else means
    width, v_width = padded(d), padded(e)
    shape = {"D": width, "E": v_width, **there, **plan(max(width, v_width), k.element_size(), backward=True)}
    sent = grad.stride()[:3]
    launch(
        row_means, b * h * blocks(n, 64), k, grad, out.contiguous(), rest.contiguous(), means, h, n, *sent, e,
        E=v_width, ROWS=64, REST=rest.numel() > 0,
    )  # fmt: skip
    strides = [*k.stride()[:3], *v.stride()[:3], *sent, *term_strides, d, e]
    launch(
        of_keys, b * h * blocks(n, shape["KEYS"]), k, k, v, *terms, grad, log_sum, means, dk, dv, by_gain, by_row,
        scale, h, n, *strides, **shape,
    )  # fmt: skip
    if gain is not None:
        d_gain.copy_(by_gain.sum((0, 2)) if gain.ndim and gain.numel() == h else by_gain.sum().reshape(gain.shape))
    if key_bias is not None:
        d_key_bias.copy_(by_row.sum(0) if key_bias.ndim == 2 else by_row.sum((0, 1)))
    if bias is not None and bias_learns:
        images, heads = bias.shape[:2]
        tasks = images * heads * blocks(n, shape["ROWS"]) * blocks(n, shape["KEYS"])
        launch(
            of_bias, tasks, k, k, v, *terms, grad, log_sum, means, dbias, scale, h, n, *strides, heads,
            b // max(1, images), h // max(1, heads), **shape,
        )  # fmt: skip
    return dk, dv, d_gain, d_key_bias, dbias
