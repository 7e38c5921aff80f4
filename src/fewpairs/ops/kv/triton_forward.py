"""The forward pass of key-value attention: a Triton kernel with a running maximum and keys as queries."""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from fewpairs.ops.triton.tiles import head_base, logits, product, put, tile


@triton.jit
@no_type_check
def biased(products, factor, row, bias, rows, columns, n, b_row, b_column, ROW: tl.constexpr, BIAS: tl.constexpr):
    """Compute the logits of a tile: `factor * products` plus the key bias plus the bias of pairs."""
    scores = logits(products, factor, bias, rows, columns, n, n, b_row, b_column, BIAS)
    if ROW:
        scores += tl.load(row + columns, mask=columns < n, other=0.0).to(tl.float32)[None, :]
    return scores


@triton.jit
@no_type_check
def factor_of(scale, gain, head, GAIN: tl.constexpr):
    """Return the factor of the products of this head."""
    factor = scale
    if GAIN:
        factor = scale * tl.load(gain + head).to(tl.float32)
    return factor


@triton.jit
@no_type_check
def attend(
    k, v, gain, row, bias, out, log_sum, rest, scale, heads, n, k_image, k_head, k_row, v_image, v_head, v_row, r_head,
    b_image, b_head, b_row, b_column, width, v_width,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
    GAIN: tl.constexpr, ROW: tl.constexpr, BIAS: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Compute `ROWS` rows of the contiguous output `[b h n e]`, their log-sum-exp, and the rounding error."""
    blocks = tl.cdiv(n, ROWS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = unit // heads, unit % heads
    rows, line, v_line = block * ROWS + tl.arange(0, ROWS), tl.arange(0, D), tl.arange(0, E)
    k = head_base(k, image, head, k_image, k_head)
    v = head_base(v, image, head, v_image, v_head)
    bias = head_base(bias, image, head, b_image, b_head)
    row += head * r_head
    factor = factor_of(scale, gain, head, GAIN)
    queries = tile(k, rows, line, k_row, n, width)
    peak = tl.full([ROWS], -float("inf"), tl.float32)
    total, mixed = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, E], tl.float32)
    for first in range(0, n, KEYS):
        columns = first + tl.arange(0, KEYS)
        keys = tile(k, columns, line, k_row, n, width)
        products = product(queries, tl.trans(keys), tl.zeros([ROWS, KEYS], tl.float32))
        scores = biased(products, factor, row, bias, rows, columns, n, b_row, b_column, ROW, BIAS)
        higher = tl.maximum(peak, tl.max(scores, 1))
        shift = tl.where(higher == -float("inf"), 0.0, higher)
        weights = tl.exp(scores - shift[:, None])
        shrink = tl.exp(peak - shift)
        total = total * shrink + tl.sum(weights, 1)
        mixed = mixed * shrink[:, None]
        mixed = product(weights.to(v.dtype.element_ty), tile(v, columns, v_line, v_row, n, v_width), mixed)
        peak = higher
    total = tl.where(total == 0.0, 1.0, total)
    shift = tl.where(peak == -float("inf"), 0.0, peak)
    first_row = unit.to(tl.int64) * n
    mixed = mixed / total[:, None]
    put(out + first_row * v_width, mixed, rows, v_line, v_width, n, v_width)
    if REST:
        lost = mixed - mixed.to(v.dtype.element_ty).to(tl.float32)
        put(rest + first_row * v_width, lost, rows, v_line, v_width, n, v_width)
    tl.store(log_sum + first_row + rows, shift.to(tl.float64) + tl.log(total).to(tl.float64), mask=rows < n)
