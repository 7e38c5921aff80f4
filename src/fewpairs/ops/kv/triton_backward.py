"""Gradients of key-value attention: Triton kernels that add the gradients of a key as query and as key.

With A = K K^T, f = gain * scale, W the weights, dS_nm = W_nm (dY_n . v_m - dY_n . Y_n):

    dk_i = f sum_j (dS_ij + dS_ji) k_j      dv_i = sum_j W_ji dY_j      dkey_bias_i = sum_j dS_ji
    dgain = scale sum_ij dS_ij A_ij         dbias_ij = dS_ij

A block of A = A^T is used for dS_ij and dS_ji, and their sum is multiplied by the keys once. No two programs write to
the same element, so results are reproducible.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from fewpairs.ops.kv.triton_forward import biased, factor_of
from fewpairs.ops.triton.tiles import head_base, log_sums, product, put, slopes_of, tile


@triton.jit
@no_type_check
def row_means(
    grad, out, rest, means, heads, n, g_image, g_head, g_row, v_width,
    E: tl.constexpr, ROWS: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    """Compute `dY_n . Y_n` of `ROWS` rows; the output is contiguous."""
    blocks = tl.cdiv(n, ROWS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    rows, line = block * ROWS + tl.arange(0, ROWS), tl.arange(0, E)
    first_row = unit.to(tl.int64) * n
    sent = tile(head_base(grad, unit // heads, unit % heads, g_image, g_head), rows, line, g_row, n, v_width)
    mine = tile(out + first_row * v_width, rows, line, v_width, n, v_width).to(tl.float32)
    if REST:
        mine += tile(rest + first_row * v_width, rows, line, v_width, n, v_width).to(tl.float32)
    tl.store(means + first_row + rows, tl.sum(sent.to(tl.float32) * mine, 1), mask=rows < n)


@triton.jit
@no_type_check
def _weights(scores, log_sum, lost, rows, n):
    """Compute the weights of a tile from the log-sums of its rows; they are 0 beyond the last row."""
    return tl.where((rows < n)[:, None], tl.exp(scores - log_sum[:, None]) * lost[:, None], 0.0)


@triton.jit
@no_type_check
def of_keys(
    k, v, gain, row, bias, grad, log_sum, means, dk, dv, d_gain, d_row, scale, heads, n,
    k_image, k_head, k_row, v_image, v_head, v_row, g_image, g_head, g_row, r_head,
    b_image, b_head, b_row, b_column, width, v_width,
    D: tl.constexpr, E: tl.constexpr, KEYS: tl.constexpr, ROWS: tl.constexpr,
    GAIN: tl.constexpr, ROW: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Compute `KEYS` rows of dk, dv, the unsummed gain gradient, and the key bias gradient of one image and head."""
    blocks = tl.cdiv(n, KEYS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    image, head = unit // heads, unit % heads
    mine, line, v_line = block * KEYS + tl.arange(0, KEYS), tl.arange(0, D), tl.arange(0, E)
    k = head_base(k, image, head, k_image, k_head)
    v = head_base(v, image, head, v_image, v_head)
    grad = head_base(grad, image, head, g_image, g_head)
    bias = head_base(bias, image, head, b_image, b_head)
    row += head * r_head
    factor = factor_of(scale, gain, head, GAIN)
    first_row = unit.to(tl.int64) * n
    keys, values = tile(k, mine, line, k_row, n, width), tile(v, mine, v_line, v_row, n, v_width)
    sent = tile(grad, mine, v_line, g_row, n, v_width)
    my_sum, my_lost = log_sums(log_sum, first_row, mine, n)
    my_mean = tl.load(means + first_row + mine, mask=mine < n, other=0.0)
    d_keys, d_values = tl.zeros([KEYS, D], tl.float32), tl.zeros([KEYS, E], tl.float32)
    by_gain, by_row = tl.zeros([KEYS], tl.float32), tl.zeros([KEYS], tl.float32)
    weighed, flown = tl.zeros([KEYS], tl.float32), tl.zeros([KEYS], tl.float32)
    for first in range(0, n, ROWS):
        other = first + tl.arange(0, ROWS)
        keys_too, values_too = tile(k, other, line, k_row, n, width), tile(v, other, v_line, v_row, n, v_width)
        sent_too = tile(grad, other, v_line, g_row, n, v_width)
        their_sum, their_lost = log_sums(log_sum, first_row, other, n)
        their_mean = tl.load(means + first_row + other, mask=other < n, other=0.0)
        products = product(keys, tl.trans(keys_too), tl.zeros([KEYS, ROWS], tl.float32))

        scores = biased(products, factor, row, bias, mine, other, n, b_row, b_column, ROW, BIAS)
        arriving = product(sent, tl.trans(values_too), tl.zeros([KEYS, ROWS], tl.float32))
        weights = _weights(scores, my_sum, my_lost, mine, n)
        slopes = slopes_of(weights, arriving, my_mean[:, None])
        if GAIN:  # what the slopes' sum is off 0, the row mean's rounding, would accumulate over rows
            by_gain += tl.sum(slopes * products, 1)
            weighed += tl.sum(weights * products, 1)
            flown += tl.sum(slopes, 1)

        # Use the same block transposed: rows and columns of the bias are exchanged.
        scores = biased(products, factor, row, bias, mine, other, n, b_column, b_row, False, BIAS)
        if ROW:
            scores += tl.load(row + mine, mask=mine < n, other=0.0).to(tl.float32)[:, None]
        weights = tl.exp(scores - their_sum[None, :]) * their_lost[None, :]
        weights = tl.where((mine < n)[:, None] & (other < n)[None, :], weights, 0.0)
        arriving = product(values, tl.trans(sent_too), tl.zeros([KEYS, ROWS], tl.float32))
        turned = slopes_of(weights, arriving, their_mean[None, :])
        by_row += tl.sum(turned, 1)
        d_values = product(weights.to(sent_too.dtype), sent_too, d_values)
        d_keys = product((slopes + turned).to(keys_too.dtype), keys_too, d_keys)
    put(dk + first_row * width, d_keys * factor, mine, line, width, n, width)
    put(dv + first_row * v_width, d_values, mine, v_line, v_width, n, v_width)
    if GAIN:
        tl.store(d_gain + first_row + mine, (by_gain - flown * weighed) * scale, mask=mine < n)
    if ROW:
        tl.store(d_row + first_row + mine, by_row, mask=mine < n)


@triton.jit
@no_type_check
def of_bias(
    k, v, gain, row, bias, grad, log_sum, means, dbias, scale, heads, n,
    k_image, k_head, k_row, v_image, v_head, v_row, g_image, g_head, g_row, r_head,
    b_image, b_head, b_row, b_column, width, v_width, bias_heads, image_repeats, head_repeats,
    D: tl.constexpr, E: tl.constexpr, KEYS: tl.constexpr, ROWS: tl.constexpr,
    GAIN: tl.constexpr, ROW: tl.constexpr, BIAS: tl.constexpr,
):  # fmt: skip
    """Compute a tile of the gradient of the bias, summed over the images and heads that share it."""
    key_blocks, row_blocks = tl.cdiv(n, KEYS), tl.cdiv(n, ROWS)
    unit, place = tl.program_id(0) // (key_blocks * row_blocks), tl.program_id(0) % (key_blocks * row_blocks)
    rows = (place // key_blocks) * ROWS + tl.arange(0, ROWS)
    columns = (place % key_blocks) * KEYS + tl.arange(0, KEYS)
    line, v_line = tl.arange(0, D), tl.arange(0, E)
    changed = tl.zeros([ROWS, KEYS], tl.float32)
    for share in range(image_repeats * head_repeats):
        image, head = unit // bias_heads + share // head_repeats, unit % bias_heads + share % head_repeats
        own_k, own_v = head_base(k, image, head, k_image, k_head), head_base(v, image, head, v_image, v_head)
        own_bias = head_base(bias, image, head, b_image, b_head)
        queries, keys = tile(own_k, rows, line, k_row, n, width), tile(own_k, columns, line, k_row, n, width)
        values = tile(own_v, columns, v_line, v_row, n, v_width)
        sent = tile(head_base(grad, image, head, g_image, g_head), rows, v_line, g_row, n, v_width)
        first_row = (image.to(tl.int64) * heads + head) * n
        mean = tl.load(means + first_row + rows, mask=rows < n, other=0.0)
        total, lost = log_sums(log_sum, first_row, rows, n)
        factor = factor_of(scale, gain, head, GAIN)
        products = product(queries, tl.trans(keys), tl.zeros([ROWS, KEYS], tl.float32))
        scores = biased(products, factor, row + head * r_head, own_bias, rows, columns, n, b_row, b_column, ROW, BIAS)
        arriving = product(sent, tl.trans(values), tl.zeros([ROWS, KEYS], tl.float32))
        changed += slopes_of(_weights(scores, total, lost, rows, n), arriving, mean[:, None])
    put(dbias + unit.to(tl.int64) * n * n, changed, rows, columns, n, n, n)
