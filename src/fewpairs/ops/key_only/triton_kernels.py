"""Triton kernels of key-only attention. Forward: `pool` reduces a share of the positions of a head to a maximum, a sum
and a weighted sum of the values; `combine` joins the shares; `apply_gate` multiplies by the gate. Backward:
`pooled_gradient` sums the gradient of the pooled value over a share; `spread_gradients` computes all other gradients.

Saliency has three forms, `FORM`: 0 a vector per head `[h d]`, 1 logits `[b h n]`, 2 logits of each channel `[b h n d]`.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from fewpairs.ops.triton.tiles import head_base, put, tile


@triton.jit
@no_type_check
def _logits(keys, saliency, mask, rows, line, n, width, s_head, s_row, m_row,
            FORM: tl.constexpr, MASK: tl.constexpr):  # fmt: skip
    """`[ROWS D]`, or `[ROWS 1]` where all channels share one; -inf beyond the last position and where masked."""
    if FORM == 0:
        vector = tl.load(saliency + line, mask=line < width, other=0.0).to(tl.float32)
        scores = tl.sum(keys.to(tl.float32) * vector[None, :], 1)[:, None]
    elif FORM == 1:
        scores = tl.load(saliency + rows.to(tl.int64) * s_row, mask=rows < n, other=0.0).to(tl.float32)[:, None]
    else:
        scores = tile(saliency, rows, line, s_row, n, width).to(tl.float32)
    there = rows < n
    if MASK:
        there = there & (tl.load(mask + rows.to(tl.int64) * m_row, mask=rows < n, other=0) != 0)
    return tl.where(there[:, None], scores, -float("inf"))


@triton.jit
@no_type_check
def pool(
    k, v, saliency, mask, peaks, totals, sums, heads, n, share, shares,
    k_image, k_head, k_row, v_image, v_head, v_row, s_image, s_head, s_row, m_image, m_head, m_row, width,
    D: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr, FORM: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """Reduce `share` positions to maximum and sum of the weights `[.. WIDE]` and weighted sum of values `[.. D]`."""
    unit, part = tl.program_id(0) // shares, tl.program_id(0) % shares
    image, head = unit // heads, unit % heads
    k, v = head_base(k, image, head, k_image, k_head), head_base(v, image, head, v_image, v_head)
    saliency = head_base(saliency, image, head, s_image, s_head)
    mask = head_base(mask, image, head, m_image, m_head)
    line, wide = tl.arange(0, D), tl.arange(0, WIDE)
    peak, total = tl.full([WIDE], -float("inf"), tl.float32), tl.zeros([WIDE], tl.float32)
    mean = tl.zeros([D], tl.float32)
    end = tl.minimum(n, (part + 1) * share)
    for first in range(part * share, end, ROWS):
        rows = first + tl.arange(0, ROWS)
        values = tile(v, rows, line, v_row, end, width).to(tl.float32)
        keys = values
        if FORM == 0:
            keys = tile(k, rows, line, k_row, end, width)
        scores = _logits(keys, saliency, mask, rows, line, end, width, s_head, s_row, m_row, FORM, MASK)
        higher = tl.maximum(peak, tl.max(scores, 0))
        shift = tl.where(higher == -float("inf"), 0.0, higher)
        shrink, weights = tl.exp(peak - shift), tl.exp(scores - shift[None, :])
        total = total * shrink + tl.sum(weights, 0)
        mean = mean * shrink + tl.sum(weights * values, 0)
        peak = higher
    place = tl.program_id(0).to(tl.int64)
    tl.store(peaks + place * WIDE + wide, peak)
    tl.store(totals + place * WIDE + wide, total)
    tl.store(sums + place * D + line, mean)


@triton.jit
@no_type_check
def combine(
    peaks, totals, sums, pooled, log_sum, shares, width, kept,
    D: tl.constexpr, WIDE: tl.constexpr, SHARES: tl.constexpr,
):  # fmt: skip
    """Compute the pooled value of one head (zero if no position counts) and the log-sum-exp of its logits."""
    unit = tl.program_id(0).to(tl.int64)
    part, line, wide = tl.arange(0, SHARES), tl.arange(0, D), tl.arange(0, WIDE)
    there = (part < shares)[:, None]
    place = unit * shares + part
    peak = tl.load(peaks + place[:, None] * WIDE + wide[None, :], mask=there, other=-float("inf"))
    total = tl.load(totals + place[:, None] * WIDE + wide[None, :], mask=there, other=0.0)
    value = tl.load(sums + place[:, None] * D + line[None, :], mask=there, other=0.0)
    highest = tl.max(peak, 0)
    shift = tl.where(highest == -float("inf"), 0.0, highest)
    shrink = tl.exp(peak - shift[None, :])
    total = tl.sum(total * shrink, 0)
    mean = tl.sum(value * shrink, 0) / tl.where(total == 0.0, 1.0, total)
    tl.store(pooled + unit * width + line, mean, mask=line < width)
    logarithm = tl.where(total == 0.0, -float("inf"), tl.log(tl.where(total == 0.0, 1.0, total)))
    tl.store(log_sum + unit * kept + wide, shift.to(tl.float64) + logarithm.to(tl.float64), mask=wide < kept)


@triton.jit
@no_type_check
def apply_gate(gate, pooled, out, heads, n, g_image, g_head, g_row, width, D: tl.constexpr, ROWS: tl.constexpr):
    """Compute `sigmoid(gate) * pooled` for `ROWS` positions of the contiguous output."""
    blocks = tl.cdiv(n, ROWS)
    unit, block = tl.program_id(0) // blocks, tl.program_id(0) % blocks
    rows, line = block * ROWS + tl.arange(0, ROWS), tl.arange(0, D)
    gates = tile(head_base(gate, unit // heads, unit % heads, g_image, g_head), rows, line, g_row, n, width)
    value = tl.load(pooled + unit.to(tl.int64) * width + line, mask=line < width, other=0.0)
    put(out + unit.to(tl.int64) * n * width, tl.sigmoid(gates.to(tl.float32)) * value[None, :], rows, line, width, n,
        width)  # fmt: skip


@triton.jit
@no_type_check
def pooled_gradient(
    grad, gate, sums, heads, n, share, shares, y_image, y_head, y_row, g_image, g_head, g_row, width,
    D: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Compute `sum_n sigmoid(gate_n) dY_n` over one share of the positions."""
    unit, part = tl.program_id(0) // shares, tl.program_id(0) % shares
    image, head = unit // heads, unit % heads
    grad, gate = head_base(grad, image, head, y_image, y_head), head_base(gate, image, head, g_image, g_head)
    line = tl.arange(0, D)
    total = tl.zeros([D], tl.float32)
    end = tl.minimum(n, (part + 1) * share)
    for first in range(part * share, end, ROWS):
        rows = first + tl.arange(0, ROWS)
        gates = tile(gate, rows, line, g_row, end, width).to(tl.float32)
        total += tl.sum(tl.sigmoid(gates) * tile(grad, rows, line, y_row, end, width).to(tl.float32), 0)
    tl.store(sums + tl.program_id(0).to(tl.int64) * D + line, total)


@triton.jit
@no_type_check
def spread_gradients(
    grad, k, v, saliency, mask, gate, pooled, log_sum, returned, dk, dv, d_saliency, d_gate, heads, n, share, shares,
    y_image, y_head, y_row, k_image, k_head, k_row, v_image, v_head, v_row, s_image, s_head, s_row,
    m_image, m_head, m_row, g_image, g_head, g_row, width, kept,
    D: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr, FORM: tl.constexpr, MASK: tl.constexpr,
    GATE: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of one share of the positions, and its part `[.. D]` for a vector saliency."""
    unit, part = tl.program_id(0) // shares, tl.program_id(0) % shares
    image, head = unit // heads, unit % heads
    grad, gate = head_base(grad, image, head, y_image, y_head), head_base(gate, image, head, g_image, g_head)
    k, v = head_base(k, image, head, k_image, k_head), head_base(v, image, head, v_image, v_head)
    own = head_base(saliency, image, head, s_image, s_head)
    mask = head_base(mask, image, head, m_image, m_head)
    line, wide = tl.arange(0, D), tl.arange(0, WIDE)
    unit = unit.to(tl.int64)
    value = tl.load(pooled + unit * width + line, mask=line < width, other=0.0)
    back = tl.load(returned + unit * D + line)
    exact = tl.load(log_sum + unit * kept + wide, mask=wide < kept, other=0.0)
    exact = tl.where(exact == -float("inf"), 0.0, exact)
    shift = exact.to(tl.float32)
    back *= tl.exp((shift.to(tl.float64) - exact).to(tl.float32))  # what large logits lose in float32
    vector, learned = tl.zeros([D], tl.float32), tl.zeros([D], tl.float32)
    if FORM == 0:
        vector = tl.load(own + line, mask=line < width, other=0.0).to(tl.float32)
    first_number = unit * n * width
    end = tl.minimum(n, (part + 1) * share)
    for first in range(part * share, end, ROWS):
        rows = first + tl.arange(0, ROWS)
        keys = tile(k, rows, line, k_row, end, width).to(tl.float32)
        scores = _logits(keys, own, mask, rows, line, end, width, s_head, s_row, m_row, FORM, MASK)
        weights = tl.exp(scores - shift[None, :])
        put(dv + first_number, weights * back[None, :], rows, line, width, end, width)
        values = tile(v, rows, line, v_row, end, width).to(tl.float32)
        beyond = (values - value[None, :]) * back[None, :]
        opened = keys
        if GATE:
            opened = tile(gate, rows, line, g_row, end, width).to(tl.float32)
        opened = tl.sigmoid(opened)
        arriving = tile(grad, rows, line, y_row, end, width).to(tl.float32)
        from_gate = arriving * value[None, :] * opened * (1.0 - opened)
        from_logits = tl.zeros_like(keys)
        if FORM == 2:
            put(d_saliency + first_number, weights * beyond, rows, line, width, end, width)
        else:
            slope = tl.sum(weights * beyond, 1)
            if FORM == 1:
                tl.store(d_saliency + unit * n + rows, slope.to(d_saliency.dtype.element_ty), mask=rows < end)
            else:
                from_logits = slope[:, None] * vector[None, :]
                learned += tl.sum(slope[:, None] * keys, 0)
        if GATE:
            put(d_gate + first_number, from_gate, rows, line, width, end, width)
            put(dk + first_number, from_logits, rows, line, width, end, width)
        else:
            put(dk + first_number, from_logits + from_gate, rows, line, width, end, width)
    if FORM == 0:
        tl.store(d_saliency + tl.program_id(0).to(tl.int64) * D + line, learned)
