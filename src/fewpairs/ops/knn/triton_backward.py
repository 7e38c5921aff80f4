"""Gradients of k-NN attention: three Triton kernels, each of which recomputes the scores of its tiles.

    W_nm = exp(S_nm - log_sum_n) inside the cut     dS_nm = W_nm (dY_n . v_m - mean_n)     mean_n = dY_n . Y_n
    dq_n = scale sum_m dS_nm k_m    dk_m = scale sum_n dS_nm q_n    dv_m = sum_n W_nm dY_n    dbias_nm = dS_nm

The threshold of a row decides which keys it keeps, so the scores must equal those of the forward pass bit by bit. They
do: every kernel multiplies blocks of at most 32 query rows, in this order, by the same instruction (below 64 rows
that is `mma.sync`, which adds 16 or 8 products at a time to the sum so far, from the first to the last; float32 adds
one after another), and `logits` rounds in one way. No two programs add to one tensor, so results are reproducible.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from fewpairs.ops.knn.triton_mix import stays
from fewpairs.ops.triton.tiles import head_base, log_sums, logits, product, put, slopes_of, tile


@triton.jit
@no_type_check
def _dlogits(queries, keys, values, sent, bias, rows, columns, scale, n, m, b_row, b_column, cut, end, log_sum, lost,
            mean, ROWS: tl.constexpr, KEYS: tl.constexpr, BIAS: tl.constexpr):  # fmt: skip
    """Compute the weights of a tile and the gradients of its logits, `[ROWS KEYS]` each."""
    scores = product(queries, tl.trans(keys), tl.zeros([ROWS, KEYS], tl.float32))
    scores = logits(scores, scale, bias, rows, columns, n, m, b_row, b_column, BIAS)
    inside = stays(scores, columns, m, cut, end) & (rows < n)[:, None]
    weights = tl.where(inside, tl.exp(scores - log_sum[:, None]) * lost[:, None], 0.0)
    arriving = product(sent, tl.trans(values), tl.zeros([ROWS, KEYS], tl.float32))
    return weights, slopes_of(weights, arriving, mean[:, None])


@triton.jit
@no_type_check
def _kept(threshold, last, log_sum, first_row, rows, n):
    """Load the values that the forward pass kept for some rows."""
    cut = tl.load(threshold + first_row + rows, mask=rows < n, other=float("inf"))
    end = tl.load(last + first_row + rows, mask=rows < n, other=0)
    total, lost = log_sums(log_sum, first_row, rows, n)
    return cut, end, total, lost


@triton.jit
@no_type_check
def of_queries(
    q, k, v, bias, grad, out, threshold, last, log_sum, means, dq, scale, heads, n, m,
    q_image, q_head, q_row, k_image, k_head, k_row, v_image, v_head, v_row, g_image, g_head, g_row,
    b_image, b_head, b_row, b_column, width, v_width,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Compute `ROWS` rows of dq, and of `means` for the other kernels."""
    blocks = tl.cdiv(n, ROWS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = unit // heads, unit % heads
    rows, line, v_line = block * ROWS + tl.arange(0, ROWS), tl.arange(0, D), tl.arange(0, E)
    k = head_base(k, image, head, k_image, k_head)
    v = head_base(v, image, head, v_image, v_head)
    bias = head_base(bias, image, head, b_image, b_head)
    queries = tile(head_base(q, image, head, q_image, q_head), rows, line, q_row, n, width)
    sent = tile(head_base(grad, image, head, g_image, g_head), rows, v_line, g_row, n, v_width)
    first_row = unit.to(tl.int64) * n
    mine = tile(out + first_row * v_width, rows, v_line, v_width, n, v_width)
    mean = tl.sum(sent.to(tl.float32) * mine.to(tl.float32), 1)
    tl.store(means + first_row + rows, mean, mask=rows < n)
    cut, end, total, lost = _kept(threshold, last, log_sum, first_row, rows, n)
    changed = tl.zeros([ROWS, D], tl.float32)
    for first in range(0, m, KEYS):
        columns = first + tl.arange(0, KEYS)
        keys, values = tile(k, columns, line, k_row, m, width), tile(v, columns, v_line, v_row, m, v_width)
        _, slopes = _dlogits(queries, keys, values, sent, bias, rows, columns, scale, n, m, b_row, b_column,
                            cut, end, total, lost, mean, ROWS, KEYS, BIAS)  # fmt: skip
        changed = product(slopes.to(keys.dtype), keys, changed)
    put(dq + first_row * width, changed * scale, rows, line, width, n, width)


@triton.jit
@no_type_check
def of_keys(
    q, k, v, bias, grad, threshold, last, log_sum, means, dk, dv, scale, heads, n, m,
    q_image, q_head, q_row, k_image, k_head, k_row, v_image, v_head, v_row, g_image, g_head, g_row,
    b_image, b_head, b_row, b_column, width, v_width,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Compute `KEYS` rows of dk and dv."""
    blocks = tl.cdiv(m, KEYS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = unit // heads, unit % heads
    columns, line, v_line = block * KEYS + tl.arange(0, KEYS), tl.arange(0, D), tl.arange(0, E)
    keys = tile(head_base(k, image, head, k_image, k_head), columns, line, k_row, m, width)
    values = tile(head_base(v, image, head, v_image, v_head), columns, v_line, v_row, m, v_width)
    q = head_base(q, image, head, q_image, q_head)
    grad = head_base(grad, image, head, g_image, g_head)
    bias = head_base(bias, image, head, b_image, b_head)
    first_row = unit.to(tl.int64) * n
    d_keys, d_values = tl.zeros([KEYS, D], tl.float32), tl.zeros([KEYS, E], tl.float32)
    for first in range(0, n, ROWS):
        rows = first + tl.arange(0, ROWS)
        queries, sent = tile(q, rows, line, q_row, n, width), tile(grad, rows, v_line, g_row, n, v_width)
        mean = tl.load(means + first_row + rows, mask=rows < n, other=0.0)
        cut, end, total, lost = _kept(threshold, last, log_sum, first_row, rows, n)
        weights, slopes = _dlogits(queries, keys, values, sent, bias, rows, columns, scale, n, m, b_row, b_column,
                                  cut, end, total, lost, mean, ROWS, KEYS, BIAS)  # fmt: skip
        d_values = product(tl.trans(weights.to(sent.dtype)), sent, d_values)
        d_keys = product(tl.trans(slopes.to(queries.dtype)), queries, d_keys)
    first_key = unit.to(tl.int64) * m
    put(dk + first_key * width, d_keys * scale, columns, line, width, m, width)
    put(dv + first_key * v_width, d_values, columns, v_line, v_width, m, v_width)


@triton.jit
@no_type_check
def of_bias(
    q, k, v, bias, grad, threshold, last, log_sum, means, dbias, scale, images, heads, n, m,
    q_image, q_head, q_row, k_image, k_head, k_row, v_image, v_head, v_row, g_image, g_head, g_row,
    b_image, b_head, b_row, b_column, width, v_width, bias_heads, image_repeats, head_repeats,
    D: tl.constexpr, E: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of the gradient of the bias, summed over the images and heads that share it."""
    key_blocks, row_blocks = tl.cdiv(m, KEYS), tl.cdiv(n, ROWS)
    unit, place = tl.program_id(0) // (key_blocks * row_blocks), tl.program_id(0) % (key_blocks * row_blocks)
    rows = (place // key_blocks) * ROWS + tl.arange(0, ROWS)
    columns = (place % key_blocks) * KEYS + tl.arange(0, KEYS)
    line, v_line = tl.arange(0, D), tl.arange(0, E)
    changed = tl.zeros([ROWS, KEYS], tl.float32)
    for share in range(image_repeats * head_repeats):
        image, head = unit // bias_heads + share // head_repeats, unit % bias_heads + share % head_repeats
        keys = tile(head_base(k, image, head, k_image, k_head), columns, line, k_row, m, width)
        values = tile(head_base(v, image, head, v_image, v_head), columns, v_line, v_row, m, v_width)
        queries = tile(head_base(q, image, head, q_image, q_head), rows, line, q_row, n, width)
        sent = tile(head_base(grad, image, head, g_image, g_head), rows, v_line, g_row, n, v_width)
        first_row = (image.to(tl.int64) * heads + head) * n
        mean = tl.load(means + first_row + rows, mask=rows < n, other=0.0)
        cut, end, total, lost = _kept(threshold, last, log_sum, first_row, rows, n)
        _, slopes = _dlogits(queries, keys, values, sent, head_base(bias, image, head, b_image, b_head), rows, columns,
                            scale, n, m, b_row, b_column, cut, end, total, lost, mean, ROWS, KEYS, BIAS)  # fmt: skip
        changed += slopes
    put(dbias + unit.to(tl.int64) * n * m, changed, rows, columns, m, n, m)
