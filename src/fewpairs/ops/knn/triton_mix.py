"""The second Triton kernel of k-NN attention: the weighted mean of the kept values of each row."""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from fewpairs.ops.triton.tiles import head_base, logits, product, put, tile


@triton.jit
@no_type_check
def stays(scores, columns, m, threshold, last):
    """Return which scores the cut keeps; a threshold of NaN keeps every key."""
    equal = (scores == threshold[:, None]) & (columns[None, :] > last[:, None])
    return (((scores < threshold[:, None]) | equal) == 0) & (columns < m)[None, :]


@triton.jit
@no_type_check
def mix(
    q, k, v, bias, out, threshold, last, highest, log_sum, scale, heads, n, m,
    q_image, q_head, q_row, k_image, k_head, k_row, v_image, v_head, v_row, b_image, b_head, b_row, b_column,
    width, v_width,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Compute `ROWS` rows of the contiguous output `[b h n e]`, and the log-sum-exp of each row."""
    blocks = tl.cdiv(n, ROWS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = unit // heads, unit % heads
    rows, line = block * ROWS + tl.arange(0, ROWS), tl.arange(0, E)
    k = head_base(k, image, head, k_image, k_head)
    v = head_base(v, image, head, v_image, v_head)
    bias = head_base(bias, image, head, b_image, b_head)
    queries = tile(head_base(q, image, head, q_image, q_head), rows, tl.arange(0, D), q_row, n, width)
    first_row = unit.to(tl.int64) * n
    cut = tl.load(threshold + first_row + rows, mask=rows < n, other=float("inf"))
    end = tl.load(last + first_row + rows, mask=rows < n, other=0)
    peak = tl.load(highest + first_row + rows, mask=rows < n, other=0.0)

    total, mixed = tl.zeros([ROWS], tl.float32), tl.zeros([ROWS, E], tl.float32)
    for first in range(0, m, KEYS):
        columns = first + tl.arange(0, KEYS)
        keys = tile(k, columns, tl.arange(0, D), k_row, m, width)
        scores = product(queries, tl.trans(keys), tl.zeros([ROWS, KEYS], tl.float32))
        scores = logits(scores, scale, bias, rows, columns, n, m, b_row, b_column, BIAS)
        weights = tl.where(stays(scores, columns, m, cut, end), tl.exp(scores - peak[:, None]), 0.0)
        total += tl.sum(weights, 1)
        mixed = product(weights.to(v.dtype.element_ty), tile(v, columns, line, v_row, m, v_width), mixed)
    total = tl.where(total == 0.0, 1.0, total)
    put(out + first_row * v_width, mixed / total[:, None], rows, line, v_width, n, v_width)
    tl.store(log_sum + first_row + rows, peak.to(tl.float64) + tl.log(total).to(tl.float64), mask=rows < n)
